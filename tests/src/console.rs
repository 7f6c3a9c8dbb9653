//! The console of a host on which something of everything happened, somebody who uses it without a browser, and the browser.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::client::{Answer, Client, request};
use crate::destination::{Destination, Reply};
use crate::events::{plain, redeemed, redeemed_by, signer};
use crate::root;
use crate::stage::{CASHBACK, SOURCES, Setup, Stage, books, wait_until};

/// What a peer may send so that it stands in a page: a script, a mark of direction, and quotes.
pub const HOSTILE: &str = "<script>document.title='owned'</script>\u{202e}\"'>&amp;";

/// What acme set itself.
const OWN: &str = "# ours, <b>not</b> the operator's\n[sources.own]\nprovider = \"generic-hmac\"\nsecrets = [{ id = \"a\", value = { store = \"own\" } }]\n\
                   [sources.pay]\nprovider = \"stripe\"\nsecrets = [{ id = \"a\", value = { store = \"own\" } }]\n\
                   [destinations.box]\nkind = \"pull\"\n";

/// A host with two tenants. Of `acme` there is something of everything: delivered, tried again, given up, held, in conflict, in quarantine,
/// and one event of hostile text.
pub struct Lively {
    pub stage: Stage,
    /// Takes what acme's cashback records.
    pub books: Destination,
    /// Takes nothing any more, at first.
    pub crm: Destination,
}

/// # Panics
/// When the host does not take what it is sent.
pub fn lively() -> Lively {
    let (books_of_acme, crm) = (Destination::start(), Destination::start());
    let budget = "grants = [{ kind = \"credit\", amount_max = 5000, currencies = [\"INR\"], \
                  budgets = [{ window = \"month\", amount_max = 100000 }] }]";
    let acme = format!(
        "{SOURCES}[routes.cashback]\ntypes = [\"reward.redeemed\"]\nplugin = \"cashback\"\ndestinations = [\"books\", \"crm\"]\n{budget}\n\
         [routes.cashback.config]\nrate_bps = 1000\ncurrency = \"INR\"\n\
         [routes.limits]\ntypes = [\"limit.reached\"]\nplugin = \"hold\"\ngrants = [{{ kind = \"flag\" }}]\n\
         [routes.score]\ntypes = [\"order.scored\"]\nplugin = \"panic\"\ngrants = [{{ kind = \"flag\" }}]\n{}{}",
        books("books", &books_of_acme),
        books("crm", &crm),
    );
    let stage = Setup::default()
        .tenant("acme", &acme)
        .tenant("globex", &format!("{SOURCES}{CASHBACK}"))
        .plugin("cashback")
        .hostile("hold")
        .hostile("panic")
        .secret("seal", "a-seal-key-of-the-tests-that-is-long-enough")
        .tenancy("trust_files = true\nseal_keys = [{ file = \"secrets/seal\" }]")
        .worker("threads = 2\nquarantine_after = 3\n[worker.retry]\nattempts_max = 2\nbase_ms = 20\ncap_ms = 100")
        .start();
    let set = |path: &str, body: Value| {
        let path = format!("/v1/tenants/acme/{path}");
        let answer = stage.operator_send("PUT", &path, body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    set(
        "secrets/own",
        json!({ "value": "own-secret-of-acme-0815", "why": "ours" }),
    );
    set(
        "secrets/spare",
        json!({ "value": "spare-secret-of-acme-0815", "why": "for later" }),
    );
    set(
        "settings",
        json!({ "text": "# ours\n", "expects": 0, "why": "a beginning" }),
    );
    set(
        "settings",
        json!({ "text": OWN, "expects": 1, "why": HOSTILE.replace('\u{202e}', "") }),
    );
    let post = |tenant: &str, body: String| {
        let answer = stage.post_to(tenant, "shop", &signer("shop").sign("", body));
        assert_eq!(answer.status / 100, 2, "{answer:?}");
    };
    crm.script((0..5).map(|_| Reply::Status(410)));
    books_of_acme.script([Reply::Status(503), Reply::Status(200), Reply::Status(429)]);
    for number in 1..=9 {
        let customer = format!("user_{}", 600 + number % 7);
        post(
            "acme",
            redeemed_by(
                &format!("evt_{number:04}"),
                &format!("red_{number:04}"),
                "success",
                &customer,
            ),
        );
        // Of what is sent at once, anything may arrive first: what is scripted is for the first event.
        if number == 1 {
            stage.quiet();
        }
    }
    // The same again, other bytes under its name, a status that nobody knows, and one that only fails.
    post("acme", redeemed_by("evt_0003", "red_0003", "success", "user_603"));
    post("acme", redeemed_by("evt_0003", "red_0003", "success", "user_999"));
    post("acme", redeemed("evt_odd", "red_odd", "teleported"));
    post("acme", plain("limit.reached", "evt_limit"));
    for number in 1..=4 {
        post("acme", plain("order.scored", &format!("evt_score_{number}")));
    }
    post("acme", plain("note.added", "evt_note"));
    post("acme", plain(HOSTILE, "evt_hostile"));
    for number in 1..=3 {
        post(
            "globex",
            redeemed(
                &format!("evt_globex_{number}"),
                &format!("red_globex_{number}"),
                "success",
            ),
        );
    }
    stage.quiet();
    overseen(&stage);
    Lively {
        stage,
        books: books_of_acme,
        crm,
    }
}

/// Something of everything that is overseen: a pause, a bulk action, a token and a link that are over, and a link that is open.
fn overseen(stage: &Stage) {
    let post = |token: &str, path: &str, body: Value| {
        let answer = stage.ask_as(token, "POST", path, body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    };
    let admin = stage.token("tenant-admin", "acme");
    let why = HOSTILE.replace('\u{202e}', "");
    post(
        &admin,
        "/v1/tenants/acme/routes/limits/pause",
        json!({ "why": why, "actor": "" }),
    );
    let bulk = json!({ "action": "route", "filter": "event:evt_note", "actor": "", "why": why });
    post(&admin, "/v1/bulk", bulk);
    let token = json!({ "name": why, "role": "viewer", "tenant": "acme", "why": why });
    let token = post(&admin, "/v1/tokens", token)["id"].clone();
    let token = token.as_str().unwrap_or_default();
    post(&admin, &format!("/v1/tokens/{token}/revoke"), json!({ "why": why }));
    let link = json!({ "may": ["read", "replay"], "for": "1h", "why": why, "name": "berta <b>" });
    post(&admin, "/v1/tenants/acme/portal-links", link.clone());
    let over = post(&admin, "/v1/tenants/acme/portal-links", link)["id"].clone();
    let over = over.as_str().unwrap_or_default();
    post(
        &admin,
        &format!("/v1/portal-links/{over}/revoke"),
        json!({ "why": "a mistake" }),
    );
    wait_until("what was given up is grouped", || {
        let issues = stage.operator_get("/v1/issues").json();
        // What runs into the quarantine fails in a way of its own.
        issues.as_array().filter(|issues| issues.len() >= 2).map(|_| ())
    });
}

/// A host to which nothing came.
pub fn fresh() -> Stage {
    Setup::acme(CASHBACK).plugin("cashback").start()
}

/// Somebody with a cookie jar, and no browser around it.
pub struct Person<'s> {
    stage: &'s Stage,
    cookies: BTreeMap<String, String>,
}

impl<'s> Person<'s> {
    pub fn new(stage: &'s Stage) -> Self {
        Self {
            stage,
            cookies: BTreeMap::new(),
        }
    }

    /// Somebody who signed in with this token.
    ///
    /// # Panics
    /// When that is refused.
    #[track_caller]
    pub fn signed_in(stage: &'s Stage, token: &str) -> Self {
        let mut person = Self::new(stage);
        let answer = person.sign_in(token, &[]);
        assert_eq!(answer.status, 303, "{}", text(&answer));
        person
    }

    /// Fills the form in and sends it, with further fields.
    #[track_caller]
    pub fn sign_in(&mut self, token: &str, more: &[(&str, &str)]) -> Answer {
        let form = self.get("/console/sign-in");
        let key = hidden(&text(&form), "key");
        let fields = [&[("key", key.as_str()), ("token", token)], more].concat();
        self.send("/console/sign-in", &fields, &[])
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// Sends a form of this session.
    #[track_caller]
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let key = hidden(&text(&self.get("/console/plugins")), "form_key");
        let fields = [&[("form_key", key.as_str())], fields].concat();
        self.send(path, &fields, &[])
    }

    /// Sends a form as it is.
    #[track_caller]
    pub fn send(&mut self, path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let body: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", escaped(value)))
            .collect();
        self.ask("POST", path, headers, body.join("&").as_bytes())
    }

    #[track_caller]
    pub fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let cookies: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut all: Vec<(String, String)> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        if !cookies.is_empty() {
            all.push(("cookie".to_owned(), cookies.join("; ")));
        }
        let mut client = Client::connect(self.stage.operator).expect("the private listener takes connections");
        client.send(&request(method, path, &all, body)).expect("a request");
        let answer = client.answer().expect("an answer");
        for (_, cookie) in answer.headers.iter().filter(|(name, _)| name == "set-cookie") {
            let (pair, attributes) = cookie.split_once(';').unwrap_or((cookie, ""));
            let (name, value) = pair.split_once('=').expect("a cookie");
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies.get(name).map(String::as_str)
    }

    pub fn set_cookie(&mut self, name: &str, value: &str) {
        self.cookies.insert(name.to_owned(), value.to_owned());
    }
}

/// The body of an answer.
pub fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// The value of the first hidden field of this name.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn hidden(page: &str, name: &str) -> String {
    let mark = format!("name=\"{name}\" value=\"");
    let Some((_, rest)) = page.split_once(&mark) else {
        panic!("no hidden field `{name}` in {page}");
    };
    rest.split('"').next().unwrap_or_default().to_owned()
}

/// Where the form of a page that shows what would be done is sent to have it done; empty where it has none.
pub fn confirming(page: &str) -> String {
    let act = page.split("action=\"").find(|part| part.starts_with("/console/acts/"));
    act.and_then(|act| act.split('"').next()).unwrap_or_default().to_owned()
}

/// A text in a form.
pub fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Every page of the console with something of acme's on it.
pub fn pages(stage: &Stage) -> Vec<String> {
    let receipt = |event: &str| {
        stage.trace(event)["receipt"]["id"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let plugins = stage.operator_get("/v1/plugins").json();
    let plugin = plugins
        .as_array()
        .and_then(|all| all.iter().find(|version| version["name"] == "cashback").cloned())
        .unwrap_or_default();
    let digest = plugin["digest"].as_str().unwrap_or_default();
    let held = stage.operator_get("/v1/held?kind=held-job").json();
    let job = held[0]["id"].as_str().unwrap_or_default().to_owned();
    let mut pages: Vec<String> = [
        "",
        "/events",
        "/events?filter=status%3Adead",
        "/jobs",
        "/runs",
        "/actions",
        "/deliveries",
        "/refused",
        "/undelivered",
        "/held",
        "/held?kind=no-route",
        "/dead-letters",
        "/audit",
        "/audit?tenant=acme",
        "/plugins",
        "/budgets",
        "/find?id=user_601",
        "/act/lift?tenant=acme&route=score",
        "/act/replay?dead_letters=all",
        "/sources?tenant=acme",
        "/routes?tenant=acme",
        "/destinations?tenant=acme",
        "/secrets?tenant=acme",
        "/settings?tenant=acme",
        "/settings?tenant=acme&version=1",
        "/sources",
        "/set/source?tenant=acme",
        "/set/source?tenant=acme&provider=generic-hmac",
        "/set/route?tenant=acme",
        "/set/destination?tenant=acme",
        "/set/secret?tenant=acme",
        "/set/secret?tenant=acme&name=own",
        "/set/settings?tenant=acme",
        "/set/rollback?tenant=acme&to=1",
        "/set/remove?tenant=acme&kind=source&name=own",
        "/set/remove-secret?tenant=acme&name=spare",
        "/issues",
        "/issues?state=resolved",
        "/bulk",
        "/pauses?tenant=acme",
        "/hosts",
        "/tokens",
        "/tokens?all=true",
        "/make/token",
        "/make/link",
        "/make/bulk?of=jobs&filter=status%3Adead",
        "/act/pause?tenant=acme&route=cashback",
        "/act/drain?host=somebody",
        "/act/revoke?token=tok_1",
        "/plugins/upload",
        "/routes/acme/cashback",
        "/routes/acme/score",
        "/sources/acme/own",
        "/sources/acme/shop",
        "/set/route?tenant=acme&runs=plugin%3Acashback",
        "/set/route?tenant=acme&runs=body",
        "/set/destination?tenant=acme&kind=push",
        "/set/destination?tenant=acme&kind=pull",
        "/set/destination?tenant=acme&kind=email",
        "/set/source?tenant=acme&provider=stripe",
        "/set/change-source?tenant=acme&name=pay",
        "/set/destination?tenant=acme&name=box",
        "/set/rotate?tenant=acme&name=own",
        "/set/end-key?tenant=acme&name=own&key=a",
        "/set/test-source?tenant=acme&name=own",
        "/set/test-destination?tenant=acme&name=books",
        "/trial?tenant=acme&route=cashback",
        "/bring/roll-back?tenant=acme&route=cashback",
        "/bring/canary?tenant=acme&route=cashback",
    ]
    .map(|page| format!("/console{page}"))
    .to_vec();
    for event in ["evt_0001", "evt_0003", "evt_odd", "evt_hostile"] {
        pages.push(format!("/console/events/{}", receipt(event)));
    }
    let issues = stage.operator_get("/v1/issues").json();
    let bulks = stage.operator_get("/v1/bulk").json();
    for (page, id) in [("act/issue?issue=", &issues[0]["issue"]), ("bulk/", &bulks[0]["bulk"])] {
        pages.push(format!("/console/{page}{}", id.as_str().unwrap_or_default()));
    }
    pages.push(format!("/console/plugins/{digest}"));
    pages.push(format!("/console/bring/retire?plugin={digest}"));
    pages.push(format!("/console/act/review?id={}", receipt("evt_odd")));
    pages.push(format!("/console/act/review?id={job}"));
    pages
}

/// Chromium with the packages that drive it.
pub struct Browser {
    packages: PathBuf,
}

impl Browser {
    /// None where it is not on this machine, which is said.
    pub fn installed() -> Option<Self> {
        let packages =
            std::env::var_os("TOLLGATE_BROWSER").map_or_else(|| root().join("target/browser"), PathBuf::from);
        let works = |program: &str| {
            let mut asked = Command::new(program);
            asked.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            asked.status().is_ok_and(|status| status.success())
        };
        let has_packages = packages.join("node_modules/playwright-core").is_dir();
        if has_packages && works("node") && works("chromium") {
            return Some(Self { packages });
        }
        let skipped = "skipped: no Chromium with playwright-core is on this machine (`.ci/run` installs both)\n";
        let _ = std::io::stderr().write_all(skipped.as_bytes());
        None
    }

    /// Runs a script of tests/browser with what it is to do, and returns what it found.
    ///
    /// # Panics
    /// When the script fails.
    #[track_caller]
    pub fn run(&self, script: &str, task: &Value) -> Value {
        let mut node = Command::new("node")
            .arg(root().join("tests/browser").join(script))
            .env("TOLLGATE_BROWSER", &self.packages)
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("node starts");
        let mut stdin = node.stdin.take().expect("a pipe");
        stdin.write_all(task.to_string().as_bytes()).expect("the task is taken");
        drop(stdin);
        let output = node.wait_with_output().expect("the script ends");
        assert!(output.status.success(), "{script} ended with {}", output.status);
        serde_json::from_slice(&output.stdout).expect("the script says JSON")
    }
}

/// Pictures of what somebody sees who comes by a link.
fn doors(browser: &Browser, stage: &Stage, folder: &Path) {
    let link = json!({ "may": ["read", "replay", "redeliver", "issues"], "for": "8h", "why": "a picture", "name": "ana", "accent": "#0a7" });
    let made = stage.operator_post("/v1/tenants/acme/portal-links", &link.to_string());
    let url = made.json()["url"].as_str().unwrap_or_default().to_owned();
    let door = format!("/console{}", url.split_once("/console").unwrap_or_default().1);
    let mut shots = Vec::new();
    for page in [door.as_str(), "/console/portal", "/console", "/console/issues"] {
        for (width, theme) in [(1440, "light"), (1440, "dark"), (320, "light"), (320, "dark")] {
            let name = format!("link-{}-{width}-{theme}", shots.len() / 4);
            shots.push(json!({ "page": page, "name": name, "width": width, "theme": theme, "whole": true }));
        }
    }
    let task = json!({ "base": format!("http://{}", stage.operator), "token": door, "folder": folder, "shots": shots });
    browser.run("pictures.mjs", &task);
}

/// The pictures of docs/console.md: page, name, width, colours. `{event}` stands for an event of which there is much to see.
const PICTURES: [(&str, &str, u32, &str); 4] = [
    ("/console", "overview", 1280, "light"),
    ("/console/events/{event}", "event", 1280, "light"),
    ("/console/events/{event}", "event-dark", 1280, "dark"),
    ("/console/undelivered", "undelivered-narrow", 360, "light"),
];

/// Makes pictures in this folder: those of docs/console.md, or with `every` each page, whole, wide and narrow, light and dark, of a host
/// with much and of one with nothing.
///
/// # Panics
/// When a page cannot be made or shown.
pub fn pictures(folder: &Path, every: bool) {
    let browser = Browser::installed().expect("Chromium and playwright-core");
    let (lively, empty) = (lively(), every.then(fresh));
    let task = |stage: &Stage, shots: Vec<Value>| json!({ "base": format!("http://{}", stage.operator), "token": stage.operator_token(), "folder": folder, "shots": shots });
    let all = |stage: &Stage, pages: Vec<String>, what: &str| {
        let mut shots = Vec::new();
        for (number, page) in pages.iter().enumerate() {
            for (width, theme) in [(1440, "light"), (1440, "dark"), (320, "light"), (320, "dark")] {
                let name = format!("{what}-{number:02}-{width}-{theme}");
                shots.push(json!({ "page": page, "name": name, "width": width, "theme": theme, "whole": true }));
            }
        }
        browser.run("pictures.mjs", &task(stage, shots));
    };
    if let Some(empty) = &empty {
        doors(&browser, &lively.stage, folder);
        let mut of_all = pages(&lively.stage);
        of_all.push("/console/events?filter=source%3Ashop%20status%3Adeda".to_owned());
        of_all.push("/console/nothing".to_owned());
        all(&lively.stage, of_all, "full");
        let of_none = [
            "",
            "/events",
            "/undelivered",
            "/held",
            "/dead-letters",
            "/plugins",
            "/budgets",
            "/sources?tenant=acme",
            "/secrets?tenant=acme",
            "/settings?tenant=acme",
            "/find",
            "/issues",
            "/bulk",
            "/pauses",
            "/pauses?tenant=acme",
            "/hosts",
            "/audit",
            "/tokens",
            "/portal",
        ];
        all(empty, of_none.map(|page| format!("/console{page}")).to_vec(), "empty");
        return;
    }
    let event = lively.stage.trace("evt_0001")["receipt"]["id"].clone();
    let event = event.as_str().unwrap_or_default();
    let shots = PICTURES.map(|(page, name, width, theme)| {
        json!({ "page": page.replace("{event}", event), "name": name, "width": width, "theme": theme })
    });
    browser.run("pictures.mjs", &task(&lively.stage, shots.to_vec()));
}
