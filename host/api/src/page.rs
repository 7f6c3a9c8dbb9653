//! The page about every call, `docs/api.md`, made from the OpenAPI document.

use std::fmt::Write as _;

use serde_json::Value;
use tollgate_core::access::{Permission, Role};

use crate::calls::{ALL, Listed};
use crate::document::document;

const ABOUT: &str = "# The API\n\n\
    Made from the table of calls by `cargo run -p tollgate-api --features document --example api > docs/api.md`; change the calls, not this page. A \
    running host gives the same, with every type, as OpenAPI 3.1 at `/openapi.json` of its private listener.\n\n\
    Every call but `/healthz`, `/readyz` and `/openapi.json` needs `Authorization: Bearer TOKEN`. What a token may is its role's: each call names the \
    permission that it needs. A tenant's token sees and does what is that tenant's; what is another's does not exist for it. Bodies are JSON, and a field \
    that no call knows is refused. Times are RFC 3339 in UTC.\n\n\
    What is not answered 200 is answered `{\"error\": …}` in words, with a `code` where programs may tell cases apart, and `problems` with field and line \
    where several things are wrong: 400 mend the request, 401 the token proves nobody, 403 it does not allow this, 404 it does not exist for this token, 409 \
    it cannot be and nothing was written, 503 come again.\n\n\
    `\"dry_run\": true` has a call say what it would do, and do nothing.\n";

/// The whole page.
pub fn markdown() -> String {
    let document = document();
    let mut page = format!("{ABOUT}\n## Who may what\n\n| role | permissions |\n|---|---|\n");
    for role in Role::ALL {
        let may = Permission::ALL.into_iter();
        let may: Vec<_> = may
            .filter(|permission| role.may(*permission))
            .map(|one| one.as_str())
            .collect();
        let _ = writeln!(page, "| {} | {} |", role.as_str(), may.join(", "));
    }
    page.push_str("\nWhat is of the host, no tenant's token may, whatever its role. A portal link may what it lists ([portal.md](portal.md)).\n\n## Calls\n");
    for call in ALL {
        one(&mut page, call, &document);
    }
    page
}

fn one(page: &mut String, call: &Listed, document: &Value) {
    let described = &document["paths"][call.path][call.method.as_str().to_ascii_lowercase()];
    let _ = write!(
        page,
        "\n### {} {}\n\n{}. Needs `{}`; returns {}.\n",
        call.method.as_str(),
        call.path,
        one_line(call.says),
        call.permission.as_str(),
        one_line(call.returns)
    );
    let mut fields = Vec::new();
    for parameter in described["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] != "path" {
            let place = parameter["in"].as_str().unwrap_or_default();
            fields.push(row(
                &parameter["name"],
                place,
                parameter["required"] == true,
                &parameter["description"],
            ));
        }
    }
    let body = &described["requestBody"]["content"]["application/json"]["schema"];
    let body = match body["$ref"].as_str().and_then(|to| to.strip_prefix('#')) {
        Some(to) => document.pointer(to).unwrap_or(&Value::Null),
        None => body,
    };
    let required: Vec<_> = body["required"].as_array().into_iter().flatten().collect();
    for (name, field) in body["properties"].as_object().into_iter().flatten() {
        let name = Value::from(name.as_str());
        fields.push(row(&name, "body", required.contains(&&name), &field["description"]));
    }
    // In which order a map of JSON goes is for whoever builds it to say.
    fields.sort();
    if !fields.is_empty() {
        page.push_str("\n| field | in | |\n|---|---|---|\n");
        fields.iter().for_each(|row| page.push_str(row));
    }
}

fn row(name: &Value, place: &str, required: bool, says: &Value) -> String {
    let needed = if required { ", required" } else { "" };
    let says = one_line(says.as_str().unwrap_or_default()).replace('|', "\\|");
    format!(
        "| `{}` | {place}{needed} | {says} |\n",
        name.as_str().unwrap_or_default()
    )
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o2_the_page_about_calls_is_what_the_calls_are() {
        let page = include_str!("../../../docs/api.md");
        let is_current = page == markdown();
        assert!(
            is_current,
            "docs/api.md is old: cargo run -p tollgate-api --features document --example api > docs/api.md"
        );
        for call in ALL {
            assert!(
                page.contains(&format!("### {} {}\n", call.method.as_str(), call.path)),
                "{}",
                call.path
            );
        }
    }
}
