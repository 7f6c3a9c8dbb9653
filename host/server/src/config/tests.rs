use std::path::Path;

use tollgate_core::action::ForwardForm;
use tollgate_core::ids::Digest;

use super::*;

const WHSEC: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn env(name: &str) -> Option<String> {
    match name {
        "TOKEN" | "TOLLGATE_OPERATOR_TOKEN" => Some("t0ken-of-the-operator".to_owned()),
        "PROVIDER" | "ACME_VOUCHERIFY_SECRET" | "ACME_CLUB_SECRET" => {
            Some("0123456789abcdef0123456789abcdef".to_owned())
        }
        "ACME_STRIPE_SECRET" => Some("whsec_0123456789abcdef0123456789abcdef".to_owned()),
        "WHSEC" | "ACME_LEDGER_SECRET" | "ACME_WAREHOUSE_SECRET" => Some(WHSEC.to_owned()),
        "SHORT" => Some("whsec_c2hvcnQ=".to_owned()),
        "BARE" => Some("hunter2hunter2hunter2hunter2".to_owned()),
        "EMPTY" => Some("\n".to_owned()),
        _ => None,
    }
}

const OPERATOR: &str = "[plugins.cashback]\npath = \"cashback.wasm\"\n";

/// Everything that a tenant's file needs, without a problem.
const TENANT: &str = r#"
[sources.rewards]
provider = "voucherify"
secrets = [{ id = "a", value = { env = "PROVIDER" } }]
[routes.cashback]
sources = ["rewards"]
plugin = "cashback"
destinations = ["ledger"]
grants = [{ kind = "credit", amount_max = 5000, currencies = ["USD"] }]
[destinations.ledger]
url = "https://ledger.example/hooks"
secrets = [{ env = "WHSEC" }]
"#;

fn messages(operator: &str, tenant: &str) -> Vec<String> {
    match load_from_texts(operator, &[("acme", tenant)], &env) {
        Ok(_) => Vec::new(),
        Err(problems) => problems
            .as_data()
            .iter()
            .map(|problem| {
                let (line, column) = (problem.line.unwrap_or(0), problem.column.unwrap_or(0));
                format!(
                    "{}:{line}:{column}: {} ({})",
                    problem.file, problem.message, problem.help
                )
            })
            .collect(),
    }
}

#[test]
fn a_destinations_headers_and_timeout_are_checked_at_their_lines() {
    let with = |line: &str| format!("{TENANT}{line}\n");
    let config = load_from_texts(
        OPERATOR,
        &[(
            "acme",
            &with("headers = { X-Team = \"payments\", X-Api-Key = { env = \"PROVIDER\" } }\ntimeout_ms = 30000"),
        )],
        &env,
    )
    .unwrap();
    let ledger = &config.tenants["acme"].destinations["ledger"];
    let names: Vec<_> = ledger.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names, ledger.timeout_ms), (vec!["x-api-key", "x-team"], Some(30_000)));
    for [line, says] in refused().destination {
        is_refused(OPERATOR, &with(&line), &says);
    }
}

#[test]
fn a_route_that_forwards_has_a_form_and_destinations_and_nothing_of_a_plugin() {
    let with = |route: &str| format!("{TENANT}[routes.archive]\n{route}\n");
    for (form, expected) in [
        ("envelope", ForwardForm::Envelope),
        ("body", ForwardForm::Body),
        ("cloudevents", ForwardForm::CloudEvents),
    ] {
        let tenant = with(&format!("forward = \"{form}\"\ndestinations = [\"ledger\"]"));
        let config = load_from_texts(OPERATOR, &[("acme", &tenant)], &env).unwrap();
        let route = &config.tenants["acme"].routes[0];
        assert_eq!((route.name.as_str(), route.forward), ("archive", Some(expected)));
        assert_eq!(route.namespace.as_str(), "forward");
    }
    for [route, says] in refused().route {
        is_refused(OPERATOR, &with(&route), &says);
    }
    let operator = OPERATOR.replace("plugins.cashback", "plugins.forward");
    let tenant = TENANT.replace("plugin = \"cashback\"", "plugin = \"forward\"");
    is_refused(&operator, &tenant, "no plugin can be called `forward`");
}

#[test]
fn operations_are_the_plugins_unless_the_route_names_another_namespace() {
    let namespace = |tenant: &str| {
        let config = load_from_texts(OPERATOR, &[("acme", tenant)], &env).unwrap();
        config.tenants["acme"].routes[0].namespace.to_string()
    };
    assert_eq!(namespace(TENANT), "cashback");
    let named = TENANT.replace("plugin = ", "operations = \"loyalty\"\nplugin = ");
    assert_eq!(namespace(&named), "loyalty");
    is_refused(OPERATOR, &named.replace("loyalty", "a/b"), "namespace of operations");
}

#[test]
fn the_example_files_are_valid_and_say_what_they_show() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tollgate.toml");
    let config = load_with(&path, &env, PluginFiles::Unchecked).unwrap_or_else(|problems| panic!("{problems}"));
    let acme = &config.tenants["acme"];
    assert_eq!(acme.sources.len(), 3);
    assert_eq!(acme.sources["club"].profile.name.as_str(), "loyalty-club");
    assert_eq!(
        acme.routes.iter().map(|route| route.name.as_str()).collect::<Vec<_>>(),
        ["cashback", "risk", "stock", "welcome"]
    );
    assert_eq!(acme.routes[0].config_json, r#"{"rate_bps":500}"#);
    assert_eq!(acme.routes[0].config_digest, Digest::of(br#"{"rate_bps":500}"#));
    assert_eq!(acme.routes[1].config_json, "{}");
    assert_eq!(acme.destinations["warehouse"].in_flight_max, 4);
    assert_eq!(acme.destinations["ledger"].secrets[0].text.expose(), WHSEC.as_bytes());
    assert_eq!(
        config.store.path,
        path.with_file_name("tollgate.db"),
        "relative to the file"
    );
    assert_eq!(config.delivery.retry, RetryPolicy::DELIVERIES, "absent is the default");
}

#[test]
fn a_shared_store_is_named_by_a_reference_and_its_url_is_never_shown() {
    let env = |name: &str| (name == "STORE").then(|| "postgres://u:sesame@localhost/d".to_owned());
    let config = load_from_texts("[store]\nurl = { env = \"STORE\" }", &[], &env).unwrap();
    let url = config.store.url.as_ref().unwrap();
    assert_eq!(url.expose(), b"postgres://u:sesame@localhost/d");
    assert!(!format!("{config:?}").contains("sesame"));
    for (lines, why) in [
        (
            "url = \"postgres://u:sesame@localhost/d\"",
            "the secret itself stands in",
        ),
        ("url = { env = \"STORE\" }\nwal_bytes_max = 100000", "wal_bytes_max"),
        ("url = { env = \"ABSENT\" }", "ABSENT"),
        ("wal_bytes_max = 100000", "path"),
    ] {
        let problems = load_from_texts(&format!("[store]\n{lines}"), &[], &env)
            .unwrap_err()
            .to_string();
        assert!(
            problems.contains(why) && !problems.contains("sesame"),
            "{lines}: {problems}"
        );
    }
}

#[test]
fn commented_defaults_of_the_example_are_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tollgate.toml");
    let text = std::fs::read_to_string(path).unwrap();
    // Uncomment `# key = value` and `# [section]`; prose and what depends on the machine stay comments.
    let uncommented: String = text
        .lines()
        .map(|line| {
            let bare = line.strip_prefix("# ").unwrap_or(line);
            let is_config = bare.starts_with('[') || bare.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
            // What depends on the machine, or has no default to hold it against.
            let special = "threads lifecycles digest allow_networks trusted_proxies extra_roots certificate key [edge.tls] [edge.rate \
                           fetch_hosts env trust_files short_secrets short_token clear_text requests_per_s burst \
                           [notices.email] server from user password tls port domains public_url"
                .split(' ')
                .any(|key| bare.starts_with(key));
            if is_config && !special {
                format!("{bare}\n")
            } else {
                "\n".to_owned()
            }
        })
        .collect();
    assert!(uncommented.contains("\nattempts_max = 30\n"), "{uncommented}");
    let said = load_from_texts(&uncommented, &[], &env).unwrap_or_else(|problems| panic!("{problems}"));
    let absent = load_from_texts("", &[], &env).unwrap();
    let edge = |config: &Config| format!("{:?}", config.edge);
    let delivery = |config: &Config| format!("{:?}", config.delivery);
    assert_eq!(edge(&said), edge(&absent));
    assert_eq!(delivery(&said), delivery(&absent));
    assert_eq!(said.worker.limits, absent.worker.limits);
    assert_eq!(said.worker.retry, absent.worker.retry);
    assert_eq!(said.store.path, absent.store.path);
    assert_eq!(said.store.wal_bytes_max, absent.store.wal_bytes_max);
    assert_eq!(said.store.keys_in_memory_max, absent.store.keys_in_memory_max);
}

#[test]
fn a_problem_is_rendered_with_its_line_and_a_caret() {
    let check = |operator: &str, tenant: &str, expect: &str| {
        let problems = load_from_texts(operator, &[("acme", tenant)], &env).unwrap_err();
        assert_eq!(problems.to_string(), expect);
    };
    check(
        OPERATOR,
        &TENANT.replace("destinations = ", "destinaton = "),
        "\
error: unknown key `destinaton` in [routes.cashback]
 --> tenants/acme.toml:8:1
  |
8 | destinaton = [\"ledger\"]
  | ^^^^^^^^^^
  |
  = help: did you mean `destinations`?",
    );
    check(
        OPERATOR,
        &TENANT.replace("plugin = \"cashback\"", "plugin = \"cash-back\""),
        "\
error: the operator offers no plugin `cash-back`, and none of that name is published to this tenant
 --> tenants/acme.toml:7:10
  |
7 | plugin = \"cash-back\"
  |          ^^^^^^^^^^^
  |
  = help: did you mean `cashback`?",
    );
    check(
        "[operator]\nlisten = \"127.0.0.1:9090\"\n[plugins.cashback]\npath = \"c.wasm\"\n",
        TENANT,
        "\
error: the operator's listener has no token
 --> tollgate.toml:2:10
  |
2 | listen = \"127.0.0.1:9090\"
  |          ^^^^^^^^^^^^^^^^
  |
  = help: add token = { env = \"TOLLGATE_OPERATOR_TOKEN\" }, or remove `listen`",
    );
}

#[test]
fn an_inline_secret_is_refused_and_never_shown() {
    let tenant = TENANT.replace("{ env = \"PROVIDER\" }", "\"sk_live_hunter2\"");
    let problems = load_from_texts(OPERATOR, &[("acme", &tenant)], &env).unwrap_err();
    let text = problems.to_string();
    assert_eq!(
        text,
        "\
error: the secret itself stands in `value`
 --> tenants/acme.toml:4:32
  |
4 | secrets = [{ id = \"a\", value = ***************** }]
  |                                ^^^^^^^^^^^^^^^^^
  |
  = help: write { env = \"ACME_NAME\" } or { file = \"../secrets/acme/NAME\" }, and keep the secret there"
    );
    let also_elsewhere = [
        TENANT.replace("{ env = \"WHSEC\" }", "\"whsec_hunter2\""),
        TENANT.replace("value = { env = \"PROVIDER\" }", "value = \"hunter2\", oops = 1"),
        TENANT.replace(
            "secrets = [{ id = \"a\", value = { env = \"PROVIDER\" } }]",
            "secrets = [\"hunter2\"]",
        ),
        TENANT.replace("https://ledger", "https://user:hunter2@ledger"),
        TENANT.replace("{ env = \"PROVIDER\" }", "hunter2"),
        TENANT.replace("secrets = [{ env = \"WHSEC\" }]", "secrets = [whsec_hunter2]"),
        // What nobody asked for is shown as an unknown key, and its value is not.
        TENANT.replace(
            "plugin = \"cashback\"",
            "plugin = \"cashback\"\napi_token = \"hunter2\"",
        ),
        TENANT.replace(
            "plugin = \"cashback\"",
            "plugin = \"cashback\"\npasswords = [ \"hunter2\" ]",
        ),
        TENANT.replace("id = \"a\"", "idd = \"a\", secret = \"hunter2\""),
    ];
    for tenant in also_elsewhere {
        let problems = load_from_texts(OPERATOR, &[("acme", &tenant)], &env).unwrap_err();
        let shown = format!("{problems}\n{}", serde_json::to_string(problems.as_data()).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let resolved = load_from_texts(OPERATOR, &[("acme", TENANT)], &env).unwrap();
    let debug = format!("{resolved:?}");
    assert!(!debug.contains("0123456789"), "{debug}");
}

#[test]
fn every_problem_is_reported_at_once_in_the_order_of_the_files() {
    let operator = "[edge]\nlisten = \"here\"\nthread = 1\nbody_bytes_max = 7\n[plugins.cashback]\n";
    let tenant = "[sources.Rewards]\n[routes.a]\nplugin = 7\n[destinations.b]\nurl = \"http://b.example\"\n";
    assert_eq!(
        messages(operator, tenant),
        [
            "tollgate.toml:2:10: `here` is not an address to listen on (write an IP address and a port, for example \
             \"127.0.0.1:8080\" or \"[::]:8080\")",
            "tollgate.toml:3:1: unknown key `thread` in [edge] (did you mean `threads`?)",
            "tollgate.toml:4:18: `body_bytes_max` is out of bounds (write a number from 1024 to 16777216)",
            "tollgate.toml:5:10: [plugins.cashback] needs `path` (add path = \"plugins/NAME.wasm\")",
            "tenants/acme.toml:1:10: source name has the character 'R' at byte 0; allowed: a-z, 0-9, and - or _ after the \
             first character (rename it)",
            "tenants/acme.toml:3:10: `plugin` must be a text in quotes, but it is a whole number (write a text in quotes)",
            "tenants/acme.toml:4:15: [destinations.b] needs `secrets` (add secrets = [{ env = \"NAME\" }] with a whsec_… secret)",
            "tenants/acme.toml:5:7: the destination is not reached by https (use https; for a destination on your own network \
             the operator may set allow_http = true in [delivery])",
        ]
    );
}

/// Rows of `refused.toml`: what is written, and what is said of it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    tenant: Vec<[String; 3]>,
    source: Vec<[String; 2]>,
    destination: Vec<[String; 2]>,
    route: Vec<[String; 2]>,
    operator: Vec<[String; 2]>,
}

fn refused() -> Refused {
    toml::from_str(include_str!("refused.toml")).unwrap()
}

/// One problem, which says this and shows no secret.
#[track_caller]
fn is_refused(operator: &str, tenant: &str, says: &str) {
    let found = messages(operator, tenant);
    assert!(
        found.len() == 1 && found[0].contains(says),
        "{operator}{tenant}: {found:#?}"
    );
    let shown = load_from_texts(operator, &[("acme", tenant)], &env).unwrap_err();
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
}

#[test]
fn each_broken_tenant_file_says_how_to_mend_it() {
    assert_eq!(messages(OPERATOR, TENANT), Vec::<String>::new());
    for [from, to, says] in refused().tenant {
        assert!(TENANT.contains(&from), "{from}");
        is_refused(OPERATOR, &TENANT.replacen(&from, &to, 1), &says);
    }
    for [source, says] in refused().source {
        let said = messages(OPERATOR, &format!("[sources.other]\n{source}\n{TENANT}"));
        assert!(
            said.iter().any(|message| message.contains(&says)),
            "{source}: {said:#?}"
        );
    }
    let misspelled = TENANT.replace("{ env = \"PROVIDER\" }", "{ environ = \"PROVIDER\" }");
    let said = messages(OPERATOR, &misspelled);
    assert_eq!(
        said.len(),
        2,
        "what is missing, and what stands there instead: {said:#?}"
    );
    assert!(said[1].contains("unknown key `environ` in [sources.rewards.secrets.value] (did you mean `env`?)"));
}

#[test]
fn each_broken_operator_file_says_how_to_mend_it() {
    for [operator, says] in refused().operator {
        is_refused(&operator, "", &says);
    }
}

/// A tenant reads what is its own; `reach` has the whole table.
#[test]
fn a_tenants_reference_reaches_no_variable_of_the_operators_or_of_another_tenant() {
    let tenant = |variable: &str| TENANT.replace("env = \"PROVIDER\"", &format!("env = \"{variable}\""));
    let said = |operator: &str, others: &[(&str, &str)], variable: &str| {
        let tenant = tenant(variable);
        let all: Vec<_> = others.iter().copied().chain([("acme", tenant.as_str())]).collect();
        let any = |_: &str| Some(WHSEC.to_owned());
        load_from_texts(&format!("{OPERATOR}{operator}"), &all, &any)
            .err()
            .map(|problems| problems.to_string())
    };
    assert_eq!(said("", &[], "PROVIDER"), None);
    let refused = said("", &[], "GLOBEX_KEY").unwrap_or_default();
    assert!(
        refused.contains("the environment variable `GLOBEX_KEY` is not one of the tenant `acme`")
            && refused.contains("begins with `ACME_`")
            && refused.contains("env = { acme = [\"GLOBEX_KEY\"] }"),
        "{refused}"
    );
    // As that help has it.
    assert_eq!(
        said("[tenants]\nenv = { acme = [\"GLOBEX_KEY\"] }\n", &[], "GLOBEX_KEY"),
        None
    );
    assert_eq!(said("[tenants]\ntrust_files = true\n", &[], "GLOBEX_KEY"), None);
    let token = "[operator]\nlisten = \"127.0.0.1:9090\"\ntoken = { env = \"PROVIDER\" }\n";
    assert!(
        said(token, &[], "PROVIDER").is_some(),
        "what the operator uses is nobody else's"
    );
    assert!(
        said("", &[("globex", "")], "PROVIDER").is_some(),
        "with a second tenant, nothing is without an owner"
    );
    assert!(
        said("[tenants]\nenv = { globx = 7 }\n", &[], "PROVIDER").is_some_and(|text| text.contains("must be a list"))
    );
}

#[test]
fn what_could_be_guessed_or_overheard_needs_the_operators_word() {
    let with = |operator: &str, tenant: &str, secret: &str| {
        let env = |name: &str| match name {
            "SECRET" => Some(secret.to_owned()),
            other => env(other),
        };
        let tenant = [("acme", tenant)];
        let tenants = if tenant[0].1.is_empty() { &[][..] } else { &tenant };
        load_from_texts(operator, tenants, &env)
            .err()
            .map(|problems| problems.as_data()[0].message.clone())
            .unwrap_or_default()
    };
    let operator = |listen: &str, more: &str| {
        format!("[operator]\nlisten = \"{listen}:9090\"\ntoken = {{ env = \"SECRET\" }}\n{more}\n")
    };
    let (long, short) = ("0123456789abcdef", "0123456789abcde");
    let (guessed, reached) = (
        "the token that this refers to has",
        "the operator's listener would be reached",
    );
    for (listen, more, token, expect) in [
        ("127.0.0.1", "", long, ""),
        ("[::1]", "", long, ""),
        ("[::ffff:127.0.0.1]", "", long, ""),
        ("127.0.0.1", "", short, guessed),
        ("127.0.0.1", "", "x", guessed),
        ("127.0.0.1", "short_token = false", "x", guessed),
        ("127.0.0.1", "short_token = true", "x", ""),
        ("0.0.0.0", "", long, reached),
        ("[::]", "", long, reached),
        ("192.0.2.7", "", long, reached),
        ("192.0.2.7", "clear_text = true", long, ""),
    ] {
        let said = with(&operator(listen, more), "", token);
        let fits = if expect.is_empty() {
            said.is_empty()
        } else {
            said.starts_with(expect)
        };
        assert!(fits, "{listen} {more} {token}: {said}");
    }
    let shop =
        "[sources.shop]\nprovider = \"generic-hmac\"\nsecrets = [{ id = \"a\", value = { env = \"SECRET\" } }]\n";
    let bearer = shop.replace("SECRET\" } }]", "PROVIDER\" } }]\nbearer = [{ env = \"SECRET\" }]");
    for tenant in [shop, &bearer] {
        for (more, secret, refused) in [
            ("", "0123", false),
            ("", "012", true),
            ("", "0", true),
            ("[tenants]\nshort_secrets = true\n", "0", false),
        ] {
            let said = with(more, tenant, secret);
            assert_eq!(
                said.starts_with("the secret that this refers to has "),
                refused,
                "{secret}: {said}"
            );
            assert_eq!(said.is_empty(), !refused, "{secret}: {said}");
        }
    }
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let operator = "[tenants]\ntrust_files = true\n[plugins.cashback]\npath = \"c.wasm\"\n";
    let found = |tenants: &[(&str, &str)]| {
        let config = load_from_texts(operator, tenants, &env).unwrap_or_else(|problems| panic!("{problems}"));
        let asks = BTreeMap::from([(
            "cashback".parse().unwrap(),
            BTreeSet::from([tollgate_core::action::ActionKind::Credit]),
        )]);
        warnings(
            &config,
            &asks,
            UnixMillis::from_rfc3339("2026-06-01T00:00:00Z").unwrap(),
        )
        .into_iter()
        .map(|warning| format!("{}: {}", warning.field.unwrap_or_default(), warning.message))
        .collect::<Vec<_>>()
    };
    assert_eq!(
        found(&[]),
        [": there are no tenants: every request would be answered 404"]
    );
    assert_eq!(found(&[("acme", TENANT)]), Vec::<String>::new());
    let expired = TENANT.replace("id = \"a\"", "id = \"a\", not_after = 2026-06-01T00:00:00Z");
    assert_eq!(
        found(&[("acme", &expired)]),
        ["acme.sources.rewards: the secret `a` expired at 2026-06-01T00:00:00.000Z"]
    );
    let granted = TENANT.replace("grants = [", "grants = [{ kind = \"flag\" }, ");
    assert_eq!(
        found(&[("acme", &granted)]),
        ["acme.routes.cashback.grants: `flag` is granted, which the plugin `cashback` never asks for"]
    );
    let both = found(&[("acme", TENANT), ("globex", TENANT)]);
    assert!(
        both.contains(
            &"acme.sources.rewards: tenants share one secret: acme.sources.rewards, globex.sources.rewards".to_owned()
        ) && both.contains(
            &"acme.destinations.ledger: tenants share one secret: acme.destinations.ledger, globex.destinations.ledger"
                .to_owned()
        ),
        "{both:?}"
    );
}

#[test]
fn a_destination_takes_over_an_old_name_once() {
    let check = |more: &str, expect: &str| {
        let second = TENANT[TENANT.find("url =").unwrap()..].to_owned();
        let text = format!("{TENANT}{more}\n[destinations.books]\n{second}");
        let text = text.replace("SECOND", "");
        let said = messages(OPERATOR, &text).join("\n");
        let fits = if expect.is_empty() {
            said.is_empty()
        } else {
            said.contains(expect)
        };
        assert!(fits, "{more}: {said}");
    };
    check("", "");
    check("formerly = [\"old\"]", "");
    check("formerly = [\"books\"]", "there is a destination `books` in this file");
    check(
        "formerly = [\"old\"]\n[destinations.third]\nurl = \"https://t.example/\"\nsecrets = [{ env = \"WHSEC\" }]\nformerly = [\"old\"]",
        "two destinations were formerly `old`",
    );
}

/// One tenant's mistake is that tenant's: it goes on as it was, with today's secrets, and the others are not touched.
#[test]
fn a_tenant_whose_file_was_spoilt_is_taken_as_it_last_was_good() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    };
    let path = folder.path().join("tollgate.toml");
    write("tollgate.toml", &format!("{OPERATOR}[tenants]\ntrust_files = true\n"));
    write("tenants/acme.toml", TENANT);
    let own = include_str!("../../examples/tenants/profiles/loyalty-club.toml");
    write("tenants/profiles/club.toml", own);
    let club = TENANT
        .replace(
            "provider = \"voucherify\"",
            "profile = { file = \"profiles/club.toml\" }",
        )
        .replace("env = \"PROVIDER\"", "file = \"../secrets/club\"");
    write("tenants/globex.toml", &club);
    write("secrets/club", "0123456789abcdef0123456789abcdef");
    let last_good = LastGood::beside(&folder.path().join("tollgate.db"));
    let settle = || {
        let mut draft = Draft::read(&path, &env, PluginFiles::Unchecked);
        draft.accepted().unwrap();
        let kept = |tenant: &TenantName| last_good.read(tenant);
        let none = Published::nothing();
        draft.read_tenants(&env, &none, &kept).unwrap().settle()
    };
    let settled = settle();
    assert_eq!(
        (
            settled.config.tenants.len(),
            settled.config.broken.len(),
            settled.good.len()
        ),
        (2, 0, 2)
    );
    last_good.keep(&settled.good, &BTreeMap::new()).unwrap();
    let acme: TenantName = "acme".parse().unwrap();

    for (name, spoilt) in [
        (
            "tenants/globex.toml",
            club.replace("kind = \"credit\"", "kind = \"credits\""),
        ),
        ("tenants/globex.toml", "[[[".to_owned()),
        ("tenants/profiles/club.toml", own.replace("[event]", "[evnt]")),
    ] {
        write(name, &spoilt);
        let settled = settle();
        let globex = &settled.config.tenants["globex"];
        assert_eq!(
            globex.sources["rewards"].profile.name.as_str(),
            "loyalty-club",
            "{name}"
        );
        assert!(
            matches!(settled.config.broken["globex"].runs, Runs::LastGood { .. }),
            "{name}"
        );
        assert_eq!(settled.good.keys().collect::<Vec<_>>(), [&acme], "{name}");
        write("tenants/globex.toml", &club);
        write("tenants/profiles/club.toml", own);
    }
    assert!(settle().config.broken.is_empty());

    // What was good is no secret's hiding place: without the secret of today there is nothing good.
    let kept = std::fs::read_to_string(folder.path().join("last-good.tollgate.db/globex.json")).unwrap();
    assert!(
        kept.contains("../secrets/club") && !kept.contains("0123456789abcdef"),
        "{kept}"
    );
    std::fs::remove_file(folder.path().join("secrets/club")).unwrap();
    let settled = settle();
    assert_eq!(settled.config.broken["globex"].runs, Runs::Nothing);
    assert_eq!(settled.config.tenants.keys().collect::<Vec<_>>(), [&acme]);
}

#[test]
fn files_are_found_beside_the_operators_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    let path = write("tollgate.toml", OPERATOR);
    assert!(
        load_with(&path, &env, PluginFiles::Unchecked)
            .unwrap()
            .tenants
            .is_empty(),
        "no folder, no tenants"
    );

    write(
        "tenants/acme.toml",
        &TENANT.replace("{ env = \"PROVIDER\" }", "{ file = \"secrets/provider\" }"),
    );
    write("tenants/notes.txt", "not a tenant");
    let secret = write("tenants/secrets/provider", "0123456789abcdef0123456789abcdef\r\n");
    let config = load_with(&path, &env, PluginFiles::Unchecked).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(
        config.tenants.keys().map(|name| name.as_str()).collect::<Vec<_>>(),
        ["acme"]
    );
    assert_eq!(config.plugins["cashback"].path, folder.path().join("cashback.wasm"));

    let problems = |files| load_with(&path, &env, files).unwrap_err().to_string();
    assert!(
        problems(PluginFiles::MustExist).contains("error: there is no file "),
        "a plugin's file is asked for by check"
    );

    write("tenants/Globex.toml", "");
    let text = problems(PluginFiles::Unchecked);
    assert!(
        text.contains("error: tenant name has the character 'G' at byte 0"),
        "{text}"
    );
    assert!(text.contains("Globex.toml"), "{text}");
    std::fs::remove_file(folder.path().join("tenants/Globex.toml")).unwrap();

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o622)).unwrap();
        assert!(problems(PluginFiles::Unchecked).contains("provider: may be written by others"));
    }
    #[cfg(not(unix))]
    let _ = secret;

    let missing = load_with(&folder.path().join("none.toml"), &env, PluginFiles::Unchecked).unwrap_err();
    assert_eq!(missing.as_data()[0].line, None);
    assert!(
        missing.to_string().contains("cannot be read: No such file"),
        "{missing}"
    );
}

#[test]
fn a_routes_configuration_is_json_in_one_order() {
    let config = |text: &str| {
        let tenant = TENANT.replace("plugin =", &format!("config = {text}\nplugin ="));
        let config =
            load_from_texts(OPERATOR, &[("acme", &tenant)], &env).unwrap_or_else(|problems| panic!("{problems}"));
        config.tenants["acme"].routes[0].config_json.clone()
    };
    let json = config(r#"{ b = [1, 2.5, "x\"y"], a = { z = true, y = 0xff }, day = 2026-05-05 }"#);
    assert_eq!(
        json,
        r#"{"a":{"y":255,"z":true},"b":[1,2.5,"x\"y"],"day":"2026-05-05"}"#
    );
    assert_eq!(config("{ one = 1, two = 2 }"), config("{ two = 2, one = 1 }"));
}

#[test]
fn o1_where_providers_reach_the_host_is_a_url_and_nothing_else() {
    let read = |lines: &str| messages(&format!("[edge]\n{lines}\n{OPERATOR}"), TENANT);
    for fits in [
        "https://hooks.example",
        "https://hooks.example:8443/",
        "http://127.0.0.1:8080",
        "https://x.example/hooks/",
    ] {
        assert_eq!(read(&format!("public_url = \"{fits}\"")), [""; 0], "{fits}");
    }
    for wrong in [
        "hooks.example",
        "/hooks",
        "ftp://hooks.example",
        "https://",
        "https://hooks.example/?a=1",
        "https://hooks.example/#a",
        "https://a:b@hooks.example",
        "https://hooks.example/ a",
    ] {
        let found = read(&format!("public_url = \"{wrong}\""));
        assert!(
            matches!(found.as_slice(), [one] if one.contains("is not where a provider reaches a listener")),
            "{wrong}: {found:?}"
        );
    }
    let refused =
        read("require_https = true\ntrusted_proxies = [\"10.0.0.0/8\"]\npublic_url = \"http://hooks.example\"");
    assert!(
        matches!(refused.as_slice(), [one] if one.contains("providers that are given this URL would be refused")),
        "{refused:?}"
    );
    let config = load_from_texts(
        &format!("[edge]\npublic_url = \"https://x.example/hooks/\"\n{OPERATOR}"),
        &[("acme", TENANT)],
        &env,
    );
    assert_eq!(
        config.unwrap().edge.public_url.as_deref(),
        Some("https://x.example/hooks")
    );
}
