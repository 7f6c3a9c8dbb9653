//! O14: what a tenant configures itself, by API and command line: checked whole, in effect at once on every host, with versions; and secrets
//! that go in and never come out.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tollgate_tests::client::Answer;
use tollgate_tests::console::{Person, text as shown};
use tollgate_tests::destination::{DESTINATION_SECRET, Destination};
use tollgate_tests::events::{Signer, redeemed, signer};
use tollgate_tests::json::{holds, list, says, text};
use tollgate_tests::postgres::Postgres;
use tollgate_tests::stage::{CASHBACK, Ran, SOURCES, Setup, Stage, tollgate_with, wait_until};

const SEAL_KEYS: &str = "seal_keys = [{ file = \"secrets/seal\" }]";
const SECRET: &str = "own-secret-4711-of-acme";
const OWN: &str =
    "[sources.own]\nprovider = \"generic-hmac\"\nsecrets = [{ id = \"a\", value = { store = \"own\" } }]\n";

fn setup() -> Setup {
    Setup::acme(CASHBACK)
        .plugin("cashback")
        .secret("seal", "a-seal-key-of-the-tests-that-is-long-enough")
        .tenancy(SEAL_KEYS)
}

fn forwards_to(destination: &Destination) -> String {
    format!(
        "{OWN}[routes.own]\nsources = [\"own\"]\nforward = \"body\"\ndestinations = [\"mine\"]\n\
         [destinations.mine]\nurl = \"{}\"\nsecrets = [{{ store = \"signing\" }}]\n",
        destination.url()
    )
}

/// The tenant's admin, with the token that the operator gave them.
struct Admin<'s> {
    stage: &'s Stage,
    token: String,
}

impl<'s> Admin<'s> {
    fn of(stage: &'s Stage, tenant: &str) -> Self {
        Self {
            stage,
            token: stage.token("tenant-admin", tenant),
        }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        let path = format!("/v1/tenants/acme/{path}");
        self.stage
            .ask_as(&self.token, method, &path, body.to_string().as_bytes())
    }

    #[track_caller]
    fn asked(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.ask(method, path, body);
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        answer.json()
    }

    #[track_caller]
    fn secret(&self, name: &str, value: &str) -> Value {
        let body = json!({ "value": value, "why": "a test" });
        self.asked("PUT", &format!("secrets/{name}"), &body)
    }

    #[track_caller]
    fn set(&self, text: &str, expects: u64) -> Value {
        let body = json!({ "text": text, "expects": expects, "why": "a test" });
        self.asked("PUT", "settings", &body)
    }

    #[track_caller]
    fn refused(&self, text: &str, expects: u64) -> Value {
        let body = json!({ "text": text, "expects": expects, "why": "a test" });
        let answer = self.ask("PUT", "settings", &body);
        assert!(matches!(answer.status, 400 | 409), "{answer:?}");
        answer.json()
    }

    fn show(&self) -> Value {
        self.asked("GET", "settings", &json!({}))
    }
}

fn post(stage: &Stage, source: &str, secret: &str, number: u32) -> u16 {
    let body = redeemed(
        &format!("evt_{source}_{number}"),
        &format!("red_{source}_{number}"),
        "success",
    );
    let message = Signer::new("generic-hmac", secret).sign("", body);
    stage.post(source, &message).status
}

#[test]
fn o14_what_a_tenant_sets_is_in_effect_before_the_next_request_and_goes_with_one_step() {
    let destination = Destination::start();
    let mut stage = setup()
        .tenant("globex", "")
        .tenancy(&format!("{SEAL_KEYS}\ntrust_files = true"))
        .start();
    assert_eq!(post(&stage, "own", SECRET, 1), 404);
    {
        let admin = Admin::of(&stage, "acme");
        holds(
            &admin.show(),
            &json!({ "version": 0, "text": "", "in_effect": true, "takes_secrets": true, "problems": [] }),
        );
        // What it needs is not there yet.
        let settings = forwards_to(&destination);
        let early = admin.refused(&settings, 0);
        holds(&early, &json!({ "code": "settings" }));
        assert_eq!(
            (
                &early["problems"][0]["line"],
                early["problems"].as_array().map(Vec::len)
            ),
            (&json!(3), Some(2))
        );
        says(
            text(&early, "error"),
            &["line 3: no secret `own` was set", "and 1 more"],
        );
        holds(
            &admin.secret("own", SECRET),
            &json!({ "name": "own", "was_there": false, "used_by": [] }),
        );
        admin.secret("signing", DESTINATION_SECRET);

        // Looked at first: nothing is changed.
        let dry = json!({ "text": settings, "why": "a look", "dry_run": true });
        let planned = admin.asked("PUT", "settings", &dry);
        holds(
            &planned,
            &json!({ "dry_run": true, "was": 0, "version": 1, "tried": { "receipts": 0 } }),
        );
        assert_eq!(planned["changes"].as_array().map(Vec::len), Some(3));
        says(text(&planned, "difference"), &["+[sources.own]"]);
        assert_eq!(admin.show()["version"], 0);

        let done = admin.set(&settings, 0);
        holds(
            &done,
            &json!({ "was": 0, "version": 1, "dry_run": false, "tried": null }),
        );
        assert_eq!(post(&stage, "own", SECRET, 1), 202, "at the next request");
        assert_eq!(post(&stage, "own", "another-secret", 2), 401);
        let arrivals = destination.wait_for(1);
        assert!(arrivals[0].is_authentic, "signed with the tenant's own secret");
        assert_eq!(stage.redeem(1).status, 202, "what the file says goes on");
        let shown = admin.show();
        let whose: Vec<_> = list(&shown["sources"])
            .iter()
            .map(|source| format!("{} {}", text(source, "name"), text(source, "whose")))
            .collect();
        assert!(
            whose.contains(&"own settings".to_owned()) && whose.contains(&"shop file".to_owned()),
            "{whose:?}"
        );
        holds(&shown, &json!({ "version": 1, "in_effect": true }));
        holds(
            &shown["destinations"][0],
            &json!({ "name": "mine", "whose": "settings" }),
        );

        // Somebody who read an older version is told, and nothing is changed.
        let late = admin.refused("", 0);
        holds(&late, &json!({ "code": "overtaken" }));
        says(
            text(&late, "error"),
            &["version 0 is not the newest any more", "the newest is 1", "a test"],
        );
        let forgot = admin.ask("PUT", "settings", &json!({ "text": "", "why": "x" }));
        assert_eq!(forgot.status, 400);
        says(text(&forgot.json(), "error"), &["expects: say which version"]);
        let silent = admin.ask("PUT", "settings", &json!({ "text": "", "expects": 1 }));
        says(text(&silent.json(), "error"), &["why: say why"]);

        // What goes is gone at the next request; the step back brings it again.
        let gone = admin.set("# nothing\n", 1);
        says(&gone["warnings"].to_string(), &["/in/acme/own", "formerly"]);
        assert_eq!(post(&stage, "own", SECRET, 3), 404);
        let dry = admin.asked(
            "POST",
            "settings/rollback",
            &json!({ "why": "a look", "dry_run": true }),
        );
        holds(
            &dry["tried"],
            &json!({ "receipts": 2, "routes": [
                { "route": "cashback", "before": 2, "after": 2 },
                { "route": "own", "before": 0, "after": 1 },
            ] }),
        );
        assert_eq!(list(&dry["tried"]["differing"]).len(), 1);
        let back = admin.asked("POST", "settings/rollback", &json!({ "why": "too early" }));
        holds(&back, &json!({ "was": 2, "version": 3 }));
        assert_eq!(post(&stage, "own", SECRET, 4), 202);
        let versions = admin.asked("GET", "settings/versions", &json!({}));
        let said: Vec<_> = list(&versions)
            .iter()
            .map(|line| (line["version"].clone(), line["text_of"].clone()))
            .collect();
        assert_eq!(
            said,
            [(json!(3), json!(1)), (json!(2), json!(null)), (json!(1), json!(null))]
        );
        let actors = text(&versions[0], "actor");
        assert!(actors.starts_with("a tenant-admin (tok_"), "{actors}");
        let second = admin.asked("GET", "settings/versions/2", &json!({}));
        holds(&second, &json!({ "text": "# nothing\n", "why": "a test" }));
        assert_eq!(admin.ask("GET", "settings/versions/9", &json!({})).status, 404);
        assert_eq!(admin.set(&settings, 3)["version"], 3, "the same text is no version");

        // Another tenant sees and changes nothing.
        let other = Admin::of(&stage, "globex");
        for (method, path) in [
            ("GET", "settings"),
            ("PUT", "settings"),
            ("GET", "settings/versions"),
            ("GET", "settings/versions/1"),
            ("POST", "settings/rollback"),
            ("GET", "secrets"),
            ("PUT", "secrets/own"),
            ("DELETE", "secrets/own"),
        ] {
            let answer = other.ask(
                method,
                path,
                &json!({ "value": "x", "why": "x", "text": "", "expects": 3 }),
            );
            assert_eq!(answer.status, 403, "{method} {path}");
        }
        let viewer = stage.token("viewer", "acme");
        let looked = stage.ask_as(&viewer, "GET", "/v1/tenants/acme/settings", b"");
        assert_eq!(looked.status, 403);
        // What was answered is kept through a kill.
        admin.set(&settings.replace("own]", "next]").replace("\"own\"]", "\"next\"]"), 3);
    }
    stage.kill();
    stage.start();
    assert_eq!(
        (post(&stage, "next", SECRET, 1), post(&stage, "own", SECRET, 5)),
        (202, 404)
    );
    destination.wait_for(3);
    stage.quiet();
}

#[test]
fn o14_settings_change_nothing_of_the_operators_and_say_so_at_the_line() {
    let stage = setup().start();
    let admin = Admin::of(&stage, "acme");
    admin.secret("own", SECRET);
    for (settings, line, says_so) in [
        (OWN.replace("own]", "shop]"), 1, "the source `shop` is the operator's"),
        (
            "[routes.cashback]\nforward = \"body\"\ndestinations = []\n".to_owned(),
            1,
            "the route `cashback` is the operator's",
        ),
        (
            "\n[promotion]\nrequire_signed = true\n".to_owned(),
            2,
            "`promotion` is said in the operator's file alone",
        ),
        (
            OWN.replace("store", "env"),
            3,
            "settings do not reach the host's environment",
        ),
        (
            OWN.replace("store = \"own\"", "file = \"../secrets/shop\""),
            3,
            "settings do not reach the host's files",
        ),
        (
            "[sources.own]\nprofile = { file = \"p.toml\" }\n".to_owned(),
            2,
            "settings do not reach the host's files",
        ),
        ("[edge]\nlisten = \"0.0.0.0:1\"\n".to_owned(), 1, "unknown key `edge`"),
        (
            "[destinations.d]\nurl = \"http://169.254.169.254/\"\nsecrets = [{ store = \"own\" }]\n".to_owned(),
            2,
            "169.254.169.254",
        ),
        (
            "[routes.r]\nplugin = \"nobodys\"\n".to_owned(),
            2,
            "offers no plugin `nobodys`",
        ),
    ] {
        let refused = admin.refused(&settings, 0);
        let problems = list(&refused["problems"]);
        let found = problems
            .iter()
            .find(|problem| text(problem, "message").contains(says_so));
        let found = found.unwrap_or_else(|| panic!("{settings}: {refused:#}"));
        assert_eq!(found["line"], line, "{settings}");
        assert!(!text(found, "help").is_empty());
    }
    assert_eq!(admin.show()["version"], 0);
    // As many bytes as may be, and one more.
    let long = |bytes: usize| format!("#{}", "x".repeat(bytes - 1));
    says(
        text(&admin.refused(&long(256 * 1024 + 1), 0), "error"),
        &["at most 262144"],
    );
    admin.set(&long(256 * 1024), 0);

    // A route of one's own runs the operator's plugin from the next event on; a misspelt key of its configuration is found before.
    let route = "[routes.mine]\ntypes = [\"reward.redeemed\"]\nplugin = \"cashback\"\n\
                 grants = [{ kind = \"credit\", amount_max = 9, currencies = [\"INR\"] }]\nconfig = { rate_bps = 1, currency = \"INR\" }\n";
    let misspelt = admin.refused(&route.replace("rate_bps", "rate_bsp"), 1);
    says(&misspelt["problems"].to_string(), &["rate_bsp"]);
    admin.set(route, 1);
    let body = redeemed("evt_r", "red_r", "success");
    let receipt = stage.post("shop", &signer("shop").sign("", body)).receipt();
    let trace = stage.finished(&receipt);
    let routes: Vec<_> = list(&trace["jobs"])
        .iter()
        .map(|job| text(job, "route").to_owned())
        .collect();
    assert_eq!(routes, ["cashback", "mine"]);
    for job in list(&trace["jobs"]) {
        assert_eq!(list(&job["runs"]).len(), 1, "it runs what the operator offers: {job:#}");
    }
    // A route that was set by itself may name what settings declare; it holds that against whoever removes it.
    stage.write("bonus.toml", "forward = \"body\"\ndestinations = [\"mine\"]\n");
    admin.secret("signing", DESTINATION_SECRET);
    let destination = "[destinations.mine]\nurl = \"https://mine.example/\"\nsecrets = [{ store = \"signing\" }]\n";
    admin.set(destination, 2);
    let file = stage.path("bonus.toml").display().to_string();
    stage
        .ask(&["route", "set", "acme", "bonus", "--file", &file, "--why", "a test"])
        .ok();
    let held = admin.refused("", 3);
    says(
        text(&held, "error"),
        &["the route `bonus`, which was set by API, would not fit"],
    );
}

#[test]
fn o14_a_secret_goes_in_and_never_comes_out() {
    let canary = "canary-5f0c-never-shown-anywhere";
    let stage = setup().native().start();
    let admin = Admin::of(&stage, "acme");
    let mut said: Vec<String> = Vec::new();
    let mut ask = |method: &str, path: &str, body: Value, expect: u16| {
        let answer = admin.ask(method, path, &body);
        let told = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, expect, "{method} {path}: {told}");
        said.push(told.clone());
        told
    };
    let why = "a test";
    ask(
        "PUT",
        "secrets/own",
        json!({ "value": format!("{canary}\n"), "why": why }),
        200,
    );
    ask("PUT", "settings", json!({ "text": OWN, "expects": 0, "why": why }), 200);
    assert_eq!(
        post(&stage, "own", canary, 1),
        202,
        "without the line break that came with it"
    );
    let listed = ask("GET", "secrets", json!({}), 200);
    holds(
        &serde_json::from_str::<Value>(&listed).expect("JSON")[0],
        &json!({ "name": "own", "opens": true, "used_by": ["sources.own"] }),
    );
    // Wrong ways to send it.
    ask("PUT", "secrets/own", json!({ "value": [canary], "why": why }), 400);
    ask(
        "PUT",
        "secrets/own",
        json!({ "value": { "text": canary }, "why": why }),
        400,
    );
    ask("PUT", "secrets/own", json!({ "value": 4711, "why": why }), 400);
    ask("PUT", "secrets/own", json!({ "value": "", "why": why }), 400);
    let with_nul = ask(
        "PUT",
        "secrets/own",
        json!({ "value": format!("{canary}\0"), "why": why }),
        400,
    );
    says(&with_nul, &["a NUL byte stands in it"]);
    ask("PUT", "secrets/own", json!({ "value": canary }), 400);
    // It stands in the text, or does not fit what uses it.
    let pasted = OWN.replace("{ store = \"own\" }", &format!("\"{canary}\""));
    ask(
        "PUT",
        "settings",
        json!({ "text": pasted, "expects": 1, "why": why }),
        400,
    );
    let unfit = OWN.replace("generic-hmac", "standard-webhooks");
    ask(
        "PUT",
        "settings",
        json!({ "text": unfit, "expects": 1, "why": why }),
        400,
    );
    let signing = format!("{OWN}[destinations.d]\nurl = \"https://d.example/\"\nsecrets = [{{ store = \"own\" }}]\n");
    ask(
        "PUT",
        "settings",
        json!({ "text": signing, "expects": 1, "why": why }),
        400,
    );
    ask(
        "PUT",
        "settings",
        json!({ "text": OWN, "expects": 1, "why": why, "dry_run": true }),
        200,
    );
    // A replacement that does not fit is refused before it is kept: the old one verifies.
    let signed =
        "[sources.own]\nprovider = \"standard-webhooks\"\nsecrets = [{ id = \"a\", value = { store = \"wh\" } }]\n";
    ask(
        "PUT",
        "secrets/wh",
        json!({ "value": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwk3q1hJmXc3Y=", "why": why }),
        200,
    );
    ask(
        "PUT",
        "settings",
        json!({ "text": format!("{OWN}{}", signed.replace("own]", "second]")), "expects": 1, "why": why }),
        200,
    );
    let refused = ask("PUT", "secrets/wh", json!({ "value": canary, "why": why }), 400);
    says(&refused, &["does not fit the provider"]);
    ask("DELETE", "secrets/own", json!({ "why": why }), 409);
    ask("DELETE", "secrets/nobodys", json!({ "why": why }), 404);
    for path in ["settings", "settings/versions", "settings/versions/1", "secrets"] {
        ask("GET", path, json!({}), 200);
    }

    // Rotation: two at once, then the new one alone.
    ask(
        "PUT",
        "secrets/own-2",
        json!({ "value": "the-second-secret-of-own", "why": why }),
        200,
    );
    let both = OWN.replace("}]", "}, { id = \"b\", value = { store = \"own-2\" } }]");
    ask(
        "PUT",
        "settings",
        json!({ "text": both, "expects": 2, "why": why }),
        200,
    );
    assert_eq!(
        (
            post(&stage, "own", canary, 2),
            post(&stage, "own", "the-second-secret-of-own", 3)
        ),
        (202, 202)
    );
    let new = OWN.replace("\"own\" }", "\"own-2\" }").replace("\"a\"", "\"b\"");
    ask("PUT", "settings", json!({ "text": new, "expects": 3, "why": why }), 200);
    assert_eq!(
        (
            post(&stage, "own", canary, 4),
            post(&stage, "own", "the-second-secret-of-own", 5)
        ),
        (401, 202)
    );
    ask("DELETE", "secrets/own", json!({ "why": why }), 200);
    // A value that is replaced is another at the next request.
    ask("PUT", "secrets/own-2", json!({ "value": canary, "why": why }), 200);
    assert_eq!(
        (
            post(&stage, "own", canary, 6),
            post(&stage, "own", "the-second-secret-of-own", 7)
        ),
        (202, 401)
    );

    for page in ["/v1/status", "/v1/tenants/acme/routes", "/metrics", "/openapi.json"] {
        said.push(String::from_utf8_lossy(&stage.operator_get(page).body).into_owned());
    }
    said.extend(stage.log());
    for command in [
        &["status"][..],
        &["check"],
        &["settings", "show", "--tenant", "acme"],
        &["settings", "secret", "list", "--tenant", "acme"],
    ] {
        let ran = stage.ask_for_people(command);
        said.push(format!("{}{}", ran.stdout, ran.stderr));
    }
    let seen = said
        .iter()
        .find(|text| text.contains(canary) || text.contains("the-second-secret"));
    assert_eq!(seen, None);
    // Nor does it lie anywhere in plain.
    let mut files = 0;
    let mut look = |path: &Path| {
        let bytes = fs::read(path).expect("a file");
        let found = bytes.windows(canary.len()).any(|part| part == canary.as_bytes());
        assert!(!found, "{}", path.display());
        files += 1;
    };
    each_file(&stage.path(""), &mut look);
    assert!(files > 5, "{files}");
}

fn each_file(folder: &Path, look: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        match entry.file_type().expect("a type") {
            kind if kind.is_dir() => each_file(&entry.path(), look),
            kind if kind.is_file() => look(&entry.path()),
            _ => {}
        }
    }
}

#[test]
fn o14_without_a_key_of_the_operators_no_secret_is_taken_and_the_way_out_is_said() {
    let mut stage = Setup::acme(CASHBACK)
        .plugin("cashback")
        .secret("seal", "a-seal-key-of-the-tests-that-is-long-enough")
        .start();
    {
        let admin = Admin::of(&stage, "acme");
        let refused = admin.ask("PUT", "secrets/own", &json!({ "value": SECRET, "why": "x" }));
        assert_eq!(refused.status, 409);
        holds(&refused.json(), &json!({ "code": "no-seal-key" }));
        says(
            text(&refused.json(), "error"),
            &["seal_keys = [{ env = ", "openssl rand -hex 32"],
        );
        assert_eq!(admin.show()["takes_secrets"], false);
    }
    // A key that could be guessed is none.
    stage.write("secrets/short", "too short");
    stage.tenancy("seal_keys = [{ file = \"secrets/short\" }]");
    let checked = stage.ask(&["check"]);
    assert_eq!(checked.code, 1);
    says(&checked.stdout, &["has 9 bytes"]);
    stage.tenancy(SEAL_KEYS);
    stage.reload();
    let admin = Admin::of(&stage, "acme");
    admin.secret("own", SECRET);
    admin.set(OWN, 0);
    assert_eq!(post(&stage, "own", SECRET, 1), 202);

    // A new key seals, the old one opens; without it nothing does, and that is said.
    stage.write("secrets/newer", "the-next-seal-key-of-the-tests-is-long-too");
    let sealed_with = |admin: &Admin| text(&admin.asked("GET", "secrets", &json!({}))[0], "sealed_with").to_owned();
    let old = sealed_with(&admin);
    let token = admin.token.clone();
    stage.tenancy("seal_keys = [{ file = \"secrets/newer\" }, { file = \"secrets/seal\" }]");
    stage.reload();
    assert_eq!(post(&stage, "own", SECRET, 2), 202);
    {
        let admin = Admin {
            stage: &stage,
            token: token.clone(),
        };
        let reseal =
            |more: &[&str]| stage.ask(&[&["settings", "secret", "reseal", "--why", "a new key"], more].concat());
        holds(
            &reseal(&["--dry-run"]).ok().json(),
            &json!({ "resealed": 1, "unchanged": 0, "unopened": [], "dry_run": true }),
        );
        assert_eq!(sealed_with(&admin), old, "nothing was changed");
        holds(
            &reseal(&[]).ok().json(),
            &json!({ "resealed": 1, "unchanged": 0, "overtaken": 0, "unopened": [] }),
        );
        assert_ne!(sealed_with(&admin), old);
        holds(&reseal(&[]).ok().json(), &json!({ "resealed": 0, "unchanged": 1 }));
        let secret = &admin.asked("GET", "secrets", &json!({}))[0];
        holds(secret, &json!({ "why": "a test", "opens": true }));
        assert_eq!(post(&stage, "own", SECRET, 21), 202, "it is the same secret");
        // It is of all tenants, and none of a tenant's business.
        let body = json!({ "why": "mine" }).to_string();
        assert_eq!(
            stage
                .ask_as(&admin.token, "POST", "/v1/secrets/reseal", body.as_bytes())
                .status,
            403
        );
    }
    stage.tenancy(SEAL_KEYS);
    stage.reload();
    assert_eq!(post(&stage, "own", SECRET, 3), 202, "it goes on as it runs");
    {
        let admin = Admin { stage: &stage, token };
        let shown = admin.show();
        holds(&shown, &json!({ "in_effect": false }));
        says(&shown["problems"].to_string(), &["which this host does not have"]);
    }
    stage.stop();
    stage.start();
    // Nothing good is known of both: the file alone runs, and what may be the tenant's is asked to come again.
    assert_eq!((post(&stage, "own", SECRET, 4), stage.redeem(1).status), (503, 202));
    assert!(!stage.log_with("runs its file alone").is_empty());
    stage.ask(&["check"]).fails(1, "");
}

#[test]
fn o14_settings_that_the_operators_file_leaves_behind_are_set_aside_and_the_tenant_goes_on() {
    let mut stage = setup().start();
    let token = {
        let admin = Admin::of(&stage, "acme");
        admin.secret("own", SECRET);
        admin.set(OWN, 0);
        admin.token
    };
    assert_eq!(post(&stage, "own", SECRET, 1), 202);
    // The operator takes the name for a source of the file.
    let shadowed = format!(
        "{SOURCES}{CASHBACK}[sources.own]\nprovider = \"generic-hmac\"\nsecrets = [{{ id = \"x\", value = {{ file = \"../secrets/shop\" }} }}]\n"
    );
    stage.write("tenants/acme.toml", &shadowed);
    stage.reload();
    let goes_on = |stage: &Stage, number: u32| {
        assert_eq!(post(stage, "own", SECRET, number), 202, "as it last was good");
        assert_eq!(stage.metric("tollgate_tenant_config_stale{tenant=\"acme\"}"), 1);
        let status = stage.ask(&["status"]).json();
        says(&status["attention"].to_string(), &["acme (its settings)"]);
        let checked = stage.ask(&["check"]);
        assert_eq!(checked.code, 1);
        says(
            &checked.stdout,
            &["settings of acme", "the source `own` is the operator's"],
        );
    };
    goes_on(&stage, 2);
    // Over a restart too: the file as it last was good is kept, and the settings are in the store.
    stage.kill();
    stage.start();
    goes_on(&stage, 3);
    let admin = Admin { stage: &stage, token };
    let shown = admin.show();
    holds(&shown, &json!({ "version": 1, "in_effect": false }));
    assert_eq!(shown["problems"][0]["line"], 1);
    // The tenant makes room, against what the file says now.
    admin.refused(&format!("# the same\n{OWN}"), 1);
    admin.set(&OWN.replace("own]", "mine]"), 1);
    assert_eq!(
        (post(&stage, "mine", SECRET, 1), post(&stage, "own", SECRET, 4)),
        (202, 401)
    );
    let shop = Signer::new("generic-hmac", "shop-secret-1f0c2d");
    let theirs = stage.post("own", &shop.sign("", redeemed("evt_theirs", "red_theirs", "success")));
    assert_eq!(theirs.status, 202, "the operator's is in effect");
    assert_eq!(stage.metric("tollgate_tenant_config_stale{tenant=\"acme\"}"), 0);
    stage.ask(&["check"]).ok();
    holds(
        &admin.show(),
        &json!({ "version": 2, "in_effect": true, "problems": [] }),
    );
}

#[test]
fn o14_a_second_host_of_the_store_knows_what_a_tenant_set_on_the_first() {
    let Some(server) = Postgres::if_there() else { return };
    let host = || {
        setup()
            .secret("store", &server.url())
            .store_lines("url = { file = \"secrets/store\" }")
    };
    let (one, mut other) = (host().start(), host().start());
    let admin = Admin::of(&one, "acme");
    admin.secret("own", SECRET);
    admin.set(OWN, 0);
    let knows = |stage: &Stage, source: &str, number: u32, status: u16| {
        wait_until("the other host hears of it", || {
            (post(stage, source, SECRET, number) == status).then_some(())
        });
    };
    knows(&other, "own", 1, 202);
    // The other way, at the version that it sees; and a secret that was set there a moment ago is found here.
    let there = Admin {
        stage: &other,
        token: admin.token.clone(),
    };
    for number in 1..=5 {
        let name = format!("second-{number}");
        there.secret(&name, SECRET);
        let second = OWN
            .replace("own]", "second]")
            .replace("\"own\"", &format!("\"{name}\""));
        assert_eq!(admin.set(&format!("{OWN}{second}"), number)["version"], number + 1);
        let late = there.refused("", number);
        holds(&late, &json!({ "code": "overtaken" }));
    }
    knows(&other, "second", 1, 202);
    there.set("", 6);
    knows(&one, "own", 2, 404);
    // One that starts later begins with it.
    admin.set(OWN, 7);
    other.kill();
    other.start();
    assert_eq!(post(&other, "own", SECRET, 3), 202);
}

#[test]
fn o14_the_command_line_does_all_of_it_with_the_tenants_token() {
    let stage = setup().start();
    let token = stage.token("tenant-admin", "acme");
    let url = format!("http://{}", stage.operator);
    let run = |arguments: &[&str], stdin: &str| -> Ran {
        let variables = [("TOLLGATE_TOKEN", token.as_str()), ("TOLLGATE_URL", url.as_str())];
        tollgate_with(&variables, arguments, stdin.as_bytes())
    };
    let settings = ["settings"];
    let command = |rest: &[&str], stdin: &str| run(&[&settings[..], rest].concat(), stdin);
    says(
        &command(&["show"], "").ok().stdout,
        &["acme  no settings yet", "shop", "the operator's"],
    );
    command(&["versions"], "").fails(1, "");
    command(&["secret", "list"], "").fails(1, "");
    command(&["check", "-"], OWN).fails(1, "no secret `own` was set");
    command(&["secret", "set", "own", "--why", "a test"], "").fails(1, "value: paste the secret");
    says(
        &command(&["secret", "set", "own", "--why", "a test"], SECRET)
            .ok()
            .stdout,
        &["set  own", "nothing uses it yet"],
    );
    let file = stage.path("own.toml").display().to_string();
    fs::write(&file, OWN).expect("a file");
    says(
        &command(&["check", &file], "").ok().stdout,
        &[
            "fits  it would be version 1",
            "added source own",
            "+[sources.own]",
            "tried on 0 receipts",
        ],
    );
    let set = ["set", &file, "--expects", "0", "--why", "our own shop"];
    says(&command(&set, "").ok().stdout, &["version 1 is in effect"]);
    command(&set, "").fails(1, "version 0 is not the newest any more");
    assert_eq!(post(&stage, "own", SECRET, 1), 202);
    let shown = command(&["show", "--json"], "").ok().json();
    holds(&shown, &json!({ "version": 1, "text": OWN }));
    assert_eq!(command(&["show", "--text"], "").ok().stdout, OWN);
    says(
        &command(&["show"], "").ok().stdout,
        &["version 1", "our own shop", "own", "{ store = \"own\" }"],
    );
    says(
        &command(&["secret", "list"], "").ok().stdout,
        &["own  used by sources.own"],
    );
    command(&["secret", "remove", "own", "--why", "x"], "").fails(1, "is used by sources.own");
    let wrong = command(
        &["set", "-", "--expects", "1", "--why", "x"],
        "[sources.shop]\nprovider = \"stripe\"\n",
    );
    wrong.fails(1, "line 1, sources.shop: the source `shop` is the operator's");
    says(
        &command(&["rollback", "--dry-run", "--why", "x"], "").ok().stdout,
        &["removed source own", "-[sources.own]"],
    );
    says(
        &command(&["rollback", "--why", "x"], "").ok().stdout,
        &["version 2 is in effect"],
    );
    says(
        &command(&["versions"], "").ok().stdout,
        &["version 2  as version 0 was", "version 1"],
    );
    says(
        &command(&["show", "--version", "1"], "").ok().stdout,
        &["version 1", "[sources.own]"],
    );
    command(&["rollback", "--to", "1", "--why", "x"], "").ok();
    let exported = run(&["config", "export"], "").ok();
    says(
        &exported.stdout,
        &["# Settings of acme, version 3", "value = { env = \"ACME_OWN\" }"],
    );
    says(&exported.stderr, &["set ACME_OWN where the host starts"]);
    let out = stage.path("exported.toml").display().to_string();
    run(&["config", "export", "--out", &out], "").ok();
    run(&["config", "export", "--out", &out], "").fails(3, "exists");
    assert_eq!(fs::read_to_string(&out).expect("a file"), exported.stdout);
    // The operator names the tenant.
    let operators = stage.ask(&["settings", "versions", "--tenant", "acme"]).ok().json();
    assert_eq!(list(&operators).len(), 3);
    stage
        .ask(&["settings", "versions"])
        .fails(2, "name the tenant with --tenant");
}

#[test]
fn o14_forms_of_the_console_do_what_the_calls_do_and_show_no_secret() {
    let stage = setup().start();
    let mut admin = Person::signed_in(&stage, &stage.token("tenant-admin", "acme"));
    let done = |admin: &mut Person, what: &str, fields: &[(&str, &str)]| -> String {
        let looked = admin.post(&format!("/console/set/{what}"), fields);
        let page = shown(&looked);
        assert_eq!(looked.status, 200, "{what}: {page}");
        assert!(page.contains("Nothing was done yet."), "{page}");
        let number = page
            .split("/console/acts/")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .expect("a form");
        let answer = admin.post(&format!("/console/acts/{number}"), &[("back", "/console/sources")]);
        assert_eq!(answer.status, 200, "{}", shown(&answer));
        format!("{page}{}", shown(&answer))
    };
    let canary = "a-secret-that-no-page-shows";
    let mut pages = vec![
        // A source before its secret: what is missing is said beside the form, which keeps what was written.
        shown(&admin.post(
            "/console/set/source",
            &[
                ("provider", "generic-hmac"),
                ("name", "own"),
                ("secret_id", "a"),
                ("why", "x"),
            ],
        )),
        shown(&admin.post(
            "/console/set/secret",
            &[("name", "no name"), ("value", canary), ("why", "x")],
        )),
        shown(&admin.post("/console/set/secret", &[("name", "own"), ("value", canary)])),
    ];
    says(&pages[0], &["paste the secret, or choose one", "value=\"own\""]);
    says(&pages[1], &["name: ", "role=\"alert\""]);
    says(&pages[2], &["why: say why"]);
    pages.push(done(
        &mut admin,
        "secret",
        &[("name", "own"), ("value", canary), ("why", "ours")],
    ));
    let source = [
        ("provider", "generic-hmac"),
        ("name", "own"),
        ("secret", "own"),
        ("secret_id", "2026-11"),
        ("why", "our shop"),
    ];
    let added = done(&mut admin, "source", &source);
    says(
        &added,
        &[
            "It fits, and would be version 1 of the settings.",
            "source own",
            "+[sources.own]",
            "Version 1 of the settings is in effect.",
        ],
    );
    pages.push(added);
    assert_eq!(post(&stage, "own", canary, 1), 202);
    // Twice is said, and changes nothing.
    says(
        &shown(&admin.post("/console/set/source", &source)),
        &["the settings have a source <code>own</code>"],
    );
    let route = [
        ("name", "archive"),
        ("runs", "body"),
        ("destinations", "nowhere"),
        ("why", "x"),
    ];
    let wrong = admin.post("/console/set/route", &route);
    assert_eq!(wrong.status, 400);
    says(
        &shown(&wrong),
        &["there is no destination <code>nowhere</code>", "value=\"archive\""],
    );
    // The text by hand, with lines as browsers send them.
    let text = "# by hand\r\n[sources.own]\r\nprovider = \"generic-hmac\"\r\nsecrets = [{ id = \"a\", value = { store = \"own\" } }]\r\n";
    pages.push(done(
        &mut admin,
        "settings",
        &[("text", text), ("expects", "1"), ("why", "by hand")],
    ));
    let stale = admin.post(
        "/console/set/settings",
        &[("text", "# late"), ("expects", "1"), ("why", "late")],
    );
    says(&shown(&stale), &["version 1 is not the newest any more", "# late"]);
    says(
        &shown(&admin.get("/console/settings")),
        &["# by hand", "Version 2", "our shop"],
    );
    assert!(
        !Admin::of(&stage, "acme").show()["text"].to_string().contains("\\r"),
        "lines end as they do in files"
    );
    pages.push(done(
        &mut admin,
        "remove",
        &[("kind", "source"), ("name", "own"), ("why", "gone")],
    ));
    assert_eq!(post(&stage, "own", canary, 2), 404);
    pages.push(done(&mut admin, "rollback", &[("to", "2"), ("why", "not yet")]));
    assert_eq!(post(&stage, "own", canary, 3), 202);
    // Somebody who looked, and confirms what meanwhile became another: told, and nothing is done.
    let looked = shown(&admin.post(
        "/console/set/remove",
        &[("kind", "source"), ("name", "own"), ("why", "x")],
    ));
    let number = looked
        .split("/console/acts/")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("a form");
    Admin::of(&stage, "acme").set("# others were faster\n", 4);
    let late = admin.post(&format!("/console/acts/{number}"), &[]);
    assert_eq!(late.status, 409);
    says(&shown(&late), &["is not the newest any more"]);
    for page in [
        "sources",
        "routes",
        "destinations",
        "secrets",
        "settings",
        "settings?version=2",
        "set/secret?name=own",
        "set/source?provider=generic-hmac",
    ] {
        let page = admin.get(&format!("/console/{page}"));
        assert_eq!(page.status, 200);
        pages.push(shown(&page));
    }
    pages.push(done(&mut admin, "remove-secret", &[("name", "own"), ("why", "gone")]));
    let seen = pages.iter().find(|page| page.contains("that-no-page-shows"));
    assert_eq!(seen, None);
    // Who may not is shown no page of it.
    let mut viewer = Person::signed_in(&stage, &stage.token("viewer", "acme"));
    for page in ["sources", "secrets", "settings", "set/secret"] {
        assert_eq!(viewer.get(&format!("/console/{page}")).status, 403, "{page}");
    }
    assert!(!shown(&viewer.get("/console")).contains("/console/settings"));
    let mut operator = Person::signed_in(&stage, stage.operator_token());
    // Of a host with one tenant, nobody is asked whose are meant.
    for page in ["sources", "sources?tenant=acme"] {
        let page = shown(&operator.get(&format!("/console/{page}")));
        says(&page, &["/in/acme/shop", "the operator"]);
    }
}
