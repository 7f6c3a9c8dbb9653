//! O8 in a real Chromium. Where it is not installed, that is said and the tests are passed over; `.ci/run` installs it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tollgate_core::access::Capability;
use tollgate_core::manifest::Manifest;
use tollgate_sandbox::with_manifest;
use tollgate_tests::console::{Browser, Lively, fresh, lively, pages};
use tollgate_tests::destination::Destination;
use tollgate_tests::stage::{CASHBACK, Setup, Stage, free_port};
use tollgate_tests::{hostile_dir, plugins_dir, root, tollgate_bin};

use tollgate_tests::certificates::{Authority, Validity};

fn base(stage: &Stage) -> String {
    format!("http://{}", stage.operator)
}

#[test]
fn o8_every_page_is_fit_for_everybody_wide_and_narrow_light_and_dark() {
    let Some(browser) = Browser::installed() else { return };
    let (Lively { stage, .. }, empty) = (&lively(), fresh());
    // The first page has charts by the time that all others were looked at.
    let mut all = pages(stage);
    let more = ["/events?filter=status%3Adeda", "/nothing", "/portal", "?charts"];
    all.extend(more.map(|page| format!("/console{page}")));
    // Of a host to which nothing came, what says what to do first.
    let none = [
        "",
        "/events",
        "/undelivered",
        "/held",
        "/dead-letters",
        "/budgets",
        "/issues",
        "/bulk",
        "/pauses",
        "/hosts",
        "/audit",
    ];
    let none = none.map(|page| format!("/console{page}")).to_vec();
    let of_acme = |role: &str| stage.token(role, "acme");
    let every = Capability::ALL.map(Capability::as_str);
    for (stage, pages, tokens) in [
        (
            stage,
            all,
            vec![
                ("operator", stage.operator_token().to_owned()),
                ("tenant-admin", of_acme("tenant-admin")),
                ("plugin-author", of_acme("plugin-author")),
                ("viewer", of_acme("viewer")),
                ("portal", door(stage, &every)),
            ],
        ),
        (&empty, none, vec![("viewer of all", stage_viewer(&empty))]),
    ] {
        let roles = || tokens.iter().map(|(role, _)| *role);
        let task = json!({
            "base": base(stage),
            "tokens": tokens.iter().cloned().collect::<BTreeMap<_, _>>(),
            "pages": roles().map(|role| (role, pages.clone())).collect::<BTreeMap<_, _>>(),
            "secrets": [stage.operator_token(), "whsec_", "tgt_", "tgl_", "secret-of-acme"],
        });
        let found = browser.run("pages.mjs", &task);
        let looks = tokens.len() * (pages.len() + 1);
        assert_eq!(found["looked"], json!(looks), "every page as each role");
        assert_eq!(found["wrong"], json!([]), "{:#}", found["wrong"]);
    }
}

/// A small component that says that it is this version of cashback, and refuses every event.
fn another_cashback(version: &str) -> Vec<u8> {
    let manifest = json!({
        "name": "cashback", "version": version, "publisher": "Acme", "events": ["reward.redeemed"], "actions": ["credit"], "state": true,
        "configuration": { "type": "object" },
    });
    let component = std::fs::read(hostile_dir().join("refuse.wasm")).expect("a component");
    let manifest = Manifest::from_json(manifest.to_string().as_bytes()).expect("a manifest");
    with_manifest(&component, &manifest).expect("a component with another manifest")
}

#[test]
fn o13_a_link_opens_in_a_frame_of_the_site_that_the_operator_lists_and_of_no_other() {
    let Some(browser) = Browser::installed() else { return };
    let stage = Setup::acme(CASHBACK)
        .plugin("cashback")
        .console("address = \"https://hooks.example\"\nembed = [\"https://shop.example\"]")
        .start();
    let issued = Authority::new("the authority of the tests").issue("hooks.example", Validity::Now);
    let task = json!({ "base": base(&stage), "door": door(&stage, &["read"]), "key": issued.key, "certificate": issued.certificate });
    let found = browser.run("embed.mjs", &task);
    assert_eq!(found["failed"], json!([]), "{:#}", found["failed"]);
}

/// The path of a new link to acme.
fn door(stage: &Stage, may: &[&str]) -> String {
    let body = json!({ "may": may, "for": "1h", "why": "a visit", "name": "ana", "accent": "#0a7" });
    let made = stage.operator_post("/v1/tenants/acme/portal-links", &body.to_string());
    let url = made.json()["url"].as_str().unwrap_or_default().to_owned();
    let (_, door) = url.split_once("/console").expect("an address of the console");
    format!("/console{door}")
}

fn stage_viewer(stage: &Stage) -> String {
    let made = stage.operator_post(
        "/v1/tokens",
        &json!({ "name": "a viewer", "role": "viewer" }).to_string(),
    );
    made.json()["token"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn o8_people_find_follow_and_decide_with_and_without_javascript() {
    let Some(browser) = Browser::installed() else { return };
    let Lively { stage, books, .. } = &lively();
    let components = ["2.0.0", "2.1.0", "2.2.0", "2.3.0"].map(|version| {
        let file = stage.path(&format!("cashback-{version}.wasm"));
        std::fs::write(&file, another_cashback(version)).expect("a component is written");
        file
    });
    let task = json!({
        "components": components, "destination": books.url(),
        "base": base(stage), "token": stage.operator_token(), "admin": stage.token("tenant-admin", "acme"), "edge": stage.edge.to_string(),
        "author": stage.token("plugin-author", "acme"), "viewer": stage.token("viewer", "acme"),
    });
    let found = browser.run("flows.mjs", &task);
    assert_eq!(found["failed"], json!([]), "{:#}", found["failed"]);
    assert_eq!(
        stage.trace("evt_odd")["review"]["became"],
        "dismissed",
        "decided without JavaScript"
    );
}

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What docs/first-hour.md says, done as it says it: with its file, an empty tenant, and a browser.
#[test]
fn o8_o14_a_persons_first_hour_leads_from_an_empty_folder_to_a_delivered_action_and_a_resolved_issue() {
    let Some(browser) = Browser::installed() else { return };
    let page = std::fs::read_to_string(root().join("docs/first-hour.md")).expect("the page");
    let (_, file) = page.split_once("```toml\n").expect("its file");
    let (file, _) = file.split_once("```").expect("its end");
    let (edge, operator, receiver) = (free_port(), free_port(), Destination::start());
    let file = file.replace("127.0.0.1:8080", &edge.to_string());
    let file = file.replace("127.0.0.1:9090", &operator.to_string());
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("tollgate.toml"), file).expect("the operator's file");
    std::fs::create_dir(folder.path().join("tenants")).expect("the tenants' folder");
    std::fs::write(folder.path().join("tenants/acme.toml"), "").expect("a tenant");
    let token = "a-token-of-the-first-hour";
    let host = Command::new(tollgate_bin())
        .arg("serve")
        .current_dir(folder.path())
        .env("TOLLGATE_OPERATOR_TOKEN", token)
        .env("TOLLGATE_SEAL_KEY", "a-seal-key-of-the-tests-that-is-long-enough")
        .stderr(Stdio::piped())
        .spawn();
    let mut host = Ends(host.expect("the host starts"));
    let mut log = BufReader::new(host.0.stderr.take().expect("a pipe")).lines();
    let up = log
        .by_ref()
        .map_while(Result::ok)
        .find(|line| line.contains("tollgate is up"));
    let up = up.expect("it comes up");
    assert!(
        up.contains(&format!("http://{operator}/console")),
        "it says where the console is: {up}"
    );
    // Who stops reading stops nothing; what is said is read all the same, so that the pipe is never full.
    std::thread::spawn(move || log.for_each(drop));
    let task = json!({
        "base": format!("http://{operator}"), "edge": format!("http://{edge}"), "token": token, "receiver": receiver.url(),
        "nobody": format!("http://{}/", free_port()), "component": plugins_dir().join("cashback.wasm"),
        "folder": std::env::var("TOLLGATE_SHOTS").ok(),
    });
    let found = browser.run("first-hour.mjs", &task);
    assert_eq!(found["failed"], "", "{found:#}");
    eprintln!(
        "the first hour took {} s in {} steps",
        found["seconds"],
        found["told"].as_array().map_or(0, Vec::len)
    );
}
