//! O12: notices of issues by e-mail, through a real mail server. Where Python's packages cannot be installed, that is said and the tests are
//! passed over.

use serde_json::{Value, json};
use tollgate_tests::destination::{Closed, Destination, Reply};
use tollgate_tests::json::{list, text};
use tollgate_tests::mail_server::{MailServer, Says};
use tollgate_tests::python::Server;
use tollgate_tests::stage::{CASHBACK_TO_BOOKS, Setup, Stage, books, wait_until};
use tollgate_tests::tls;

const ONCALL: &str = "\n[destinations.oncall]\nkind = \"email\"\nto = [\"oncall@acme.example\", \"lead@acme.example\"]\ntimeout_ms = 5000\n";

/// A stage whose deliveries to `books` are given up, and whose issues are told by e-mail; `email` are lines of `[notices.email]`.
fn stage(to_books: &Destination, email: &str) -> Setup {
    to_books.otherwise(Reply::Status(410));
    let tenant = format!("{CASHBACK_TO_BOOKS}{}{ONCALL}", books("books", to_books));
    let delivery = format!(
        "allow_http = true\nallow_networks = [\"127.0.0.0/8\"]\nextra_roots = \"secrets/roots.pem\"\n[delivery.retry]\nattempts_max = 100\n\
         base_ms = 50\ncap_ms = 200\n[notices.email]\nfrom = \"tollgate@mail.example\"\n{email}"
    );
    Setup::acme(&tenant)
        .plugin("cashback")
        .secret("roots.pem", &tls::FIRST.certificate_pem())
        .delivery(&delivery)
}

fn plainly(port: u16) -> String {
    format!("server = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n")
}

/// A head of an e-mail.
fn head<'m>(mail: &'m Value, name: &str) -> &'m str {
    let heads = text(mail, "data").split("\r\n\r\n").next().unwrap_or_default();
    let mut found = heads
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let one = found.next().unwrap_or_else(|| panic!("no {name}: {mail}"));
    assert_eq!(found.next(), None, "{name} twice: {mail}");
    one
}

/// The deliveries to `oncall` that a filter finds.
fn told(stage: &Stage, filter: &str) -> Vec<Value> {
    let found = stage.ask(&["deliveries", &format!("destination:oncall {filter}")]);
    list(&found.json()["items"])
}

/// The operation keys of all notices in the ledger.
fn recorded(stage: &Stage) -> Vec<String> {
    let found = list(&stage.ask(&["actions", "kind:notify"]).json()["items"]);
    let mut keys: Vec<_> = found
        .iter()
        .map(|action| text(action, "operation_key").to_owned())
        .collect();
    keys.sort();
    keys
}

#[test]
fn o12_each_change_is_told_by_email_until_the_mail_server_takes_it() {
    let Some(mut server) = Server::start("smtp.py", &json!({})) else {
        return;
    };
    let to_books = Destination::start();
    let stage = stage(&to_books, &plainly(server.port)).start();
    server.tell("451 4.3.0 the queue is full");
    assert_eq!(stage.redeem(1).status, 202);
    let mails = server.wait_for(2);
    assert_eq!(
        (text(&mails[0], "reply"), text(&mails[1], "reply")),
        ("451 4.3.0 the queue is full", "250 2.0.0 taken")
    );
    assert_eq!(
        mails[0]["data"], mails[1]["data"],
        "the same e-mail, Message-ID and date too"
    );
    assert_eq!(mails[1]["from"], "tollgate@mail.example");
    assert_eq!(mails[1]["to"], json!(["oncall@acme.example", "lead@acme.example"]));
    assert_eq!(mails[1]["hello"], "mail.example");
    assert_eq!(
        head(&mails[1], "Subject"),
        "[tollgate] acme: issue_1 opened, dead-delivery at books (410)"
    );
    assert_eq!(
        head(&mails[1], "From"),
        "\"Tollgate\" <tollgate@mail.example>".replace('"', "")
    );
    assert!(head(&mails[1], "Message-ID").ends_with("@mail.example>"));
    assert_eq!(head(&mails[1], "Auto-Submitted"), "auto-generated");
    let said = text(&mails[1], "data");
    for line in [
        "see whether the URL of the destination `books` is still right.",
        "tollgate deliveries 'tenant:acme status:dead destination:books code:410'",
    ] {
        assert!(said.lines().any(|found| found == line), "{line}: {said}");
    }
    stage.quiet();
    assert_eq!(told(&stage, "status:delivered code:451 attempts:2").len(), 1);

    // What the server refuses for good is a dead letter at once, and is sent again when somebody says so.
    server.tell("550 5.1.1 nobody of that name");
    stage
        .ask(&["issues", "acknowledge", "issue_1", "--why", "they were called"])
        .ok();
    wait_until("it is given up", || {
        (told(&stage, "status:dead code:550 attempts:1").len() == 1).then_some(())
    });
    let letters = stage.ask_for_people(&["dlq", "list"]).stdout;
    assert!(letters.contains("the mail server refused it: 550"), "{letters}");
    stage
        .ask(&[
            "bulk",
            "redeliver",
            "destination:oncall status:dead",
            "--yes",
            "--why",
            "they have a new name",
        ])
        .ok();
    let mails = server.wait_for(4);
    assert!(
        head(&mails[2], "Subject").contains("issue_1 acknowledged"),
        "{}",
        mails[2]
    );
    assert_eq!(head(&mails[3], "Message-ID"), head(&mails[2], "Message-ID"));
    assert_ne!(head(&mails[3], "Message-ID"), head(&mails[1], "Message-ID"));

    // That a notice was given up is an issue too, and told to nobody by the way that does not work.
    wait_until("it is an issue", || {
        let issues = list(&stage.ask(&["issues", "--all"]).json());
        let is_of_notice = |issue: &Value| issue["place"] == "oncall" && issue["code"] == "550";
        issues.iter().any(is_of_notice).then_some(())
    });
    stage.quiet();
    assert_eq!(server.said().len(), 4);
    assert_eq!(
        recorded(&stage),
        ["issue_1:1", "issue_1:2"],
        "each change is recorded once"
    );
    let settings = stage.ask(&["settings", "show", "--tenant", "acme"]).json();
    let shown = list(&settings["destinations"]);
    let oncall = shown
        .iter()
        .find(|part| part["name"] == "oncall")
        .expect("the destination");
    assert_eq!(text(oncall, "says"), "e-mail to oncall@acme.example, lead@acme.example");
    stage.assert_whole();
}

#[test]
fn o12_a_mail_server_that_is_away_and_a_host_that_is_killed_lose_no_notice_and_record_none_twice() {
    let to_books = Destination::start();
    // Nobody else takes its port while it is away.
    let away = Closed::reserve();
    let port = away.address.port();
    let mut stage = stage(&to_books, &plainly(port)).native().start();
    assert_eq!(stage.redeem(1).status, 202);
    wait_until("it was tried", || {
        (told(&stage, "status:waiting code:none").len() == 1).then_some(())
    });
    stage.kill();
    drop(away);
    let Some(mut server) = Server::start("smtp.py", &json!({ "port": port })) else {
        return;
    };
    stage.start();
    assert!(head(&server.wait_for(1)[0], "Subject").contains("issue_1 opened,"));

    // Killed while the server has the e-mail and has not answered: it comes again, as the same.
    server.tell("slowly 250 2.0.0 taken");
    stage.ask(&["issues", "acknowledge", "issue_1"]).ok();
    server.wait_for(2);
    stage.kill();
    stage.start();
    let mails = server.wait_for(3);
    assert_eq!(mails[2]["data"], mails[1]["data"]);
    stage.quiet();
    assert_eq!(server.said().len(), 3);
    assert_eq!(recorded(&stage), ["issue_1:1", "issue_1:2"]);
    assert_eq!(told(&stage, "status:delivered").len(), 2);
    stage.assert_whole();
}

#[test]
fn o12_what_is_said_to_the_mail_server_is_said_under_tls_and_the_password_is_shown_nowhere() {
    let (password, wrong) = ("correct-horse-battery", "wrong-horse-battery");
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, pem: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).expect("a file");
        path.display().to_string()
    };
    let (certificate, key) = (
        file("certificate.pem", &tls::FIRST.certificate_pem()),
        file("key.pem", &tls::FIRST.key_pem()),
    );
    let options = |tls: &str| json!({ "tls": tls, "certificate": certificate, "key": key, "user": "tollgate", "password": password });
    let Some(server) = Server::start("smtp.py", &options("starttls")) else {
        return;
    };
    let to_books = Destination::start();
    let login = "user = \"tollgate\"\npassword = { file = \"secrets/smtp\" }\n";
    let mut stage = stage(
        &to_books,
        &format!(
            "server = \"localhost\"\nport = {}\ntls = \"starttls\"\n{login}",
            server.port
        ),
    )
    .secret("smtp", wrong)
    .start();
    assert_eq!(stage.redeem(1).status, 202);
    // That the host's own password is wrong says nothing of the notice: it waits.
    let waiting = wait_until("it was tried", || told(&stage, "status:waiting code:535").pop());
    let shown = stage.operator_get(&format!("/v1/trace?id={}", text(&waiting, "receipt")));
    let shown = String::from_utf8_lossy(&shown.body).into_owned();
    assert!(shown.contains("535"), "{shown}");
    let log = stage.log().join("\n");
    assert!(log.contains("does not take the host's user and password"), "{log}");
    assert!(!shown.contains(wrong) && !log.contains(wrong));
    assert_eq!(server.said(), [Value::Null; 0]);
    stage.write("secrets/smtp", password);
    stage.reload();
    let mails = server.wait_for(1);
    assert_eq!(
        (&mails[0]["tls"], &mails[0]["user"]),
        (&json!(true), &json!("tollgate"))
    );
    stage.quiet();

    // TLS from the first byte, which is meant where nothing is said; and a server that has none is told nothing.
    for (mode, offers, arrives) in [
        ("tls", "tls", true),
        ("starttls", "none", false),
        ("tls", "starttls", false),
    ] {
        let Some(server) = Server::start("smtp.py", &options(offers)) else {
            return;
        };
        let before = told(&stage, "status:delivered").len();
        let said = match mode {
            "tls" => String::new(),
            mode => format!("tls = \"{mode}\"\n"),
        };
        let lines = format!("server = \"localhost\"\nport = {}\n{said}{login}", server.port);
        stage.delivery(&format!(
            "allow_http = true\nallow_networks = [\"127.0.0.0/8\"]\nextra_roots = \"secrets/roots.pem\"\n[notices.email]\n\
             from = \"tollgate@mail.example\"\n{lines}"
        ));
        stage.stop();
        stage.start();
        let act = if before % 2 == 1 { "acknowledge" } else { "reopen" };
        stage.ask(&["issues", act, "issue_1"]).ok();
        if arrives {
            assert_eq!(server.wait_for(1)[0]["tls"], true);
            wait_until("it is recorded", || {
                (told(&stage, "status:delivered").len() > before).then_some(())
            });
        } else {
            wait_until("it was tried", || {
                (!told(&stage, "status:waiting code:none").is_empty()).then_some(())
            });
            assert_eq!(
                server.said(),
                [Value::Null; 0],
                "{mode} at a server that offers {offers}"
            );
        }
    }
}

/// What is wrong is said where it stands, with how to mend it.
#[test]
fn o12_the_check_says_what_is_wrong_with_the_way_to_the_mail_server() {
    let to_books = Destination::start();
    let ok = "server = \"smtp.example.com\"\n";
    let stage_with = |email: &str| stage(&to_books, email).set();
    let said = |email: &str| {
        let mut stage = stage_with(email);
        // The stage writes the operator's file when a host starts; none needs to stay.
        let _ = stage.try_start();
        stage.kill();
        let ran = stage.ask_for_people(&["check"]);
        (ran.code, format!("{}{}", ran.stdout, ran.stderr))
    };
    let (code, shown) = said(ok);
    assert_eq!(code, 0, "{shown}");
    for (email, says) in [
        ("", "needs `server`"),
        (
            "server = \"smtp://smtp.example.com\"\n",
            "is no name or address of a server",
        ),
        (
            "server = \"smtp.example.com\"\ntls = \"none\"\n",
            "could be read on the way",
        ),
        (
            "server = \"smtp.example.com\"\ntls = \"ssl\"\n",
            "no way to keep a connection secret",
        ),
        (
            "server = \"smtp.example.com\"\nuser = \"a\"\n",
            "`user` has no password",
        ),
        (
            "server = \"smtp.example.com\"\npassword = \"hunter2\"\n",
            "the secret itself stands in `password`",
        ),
        (
            "server = \"smtp.example.com\"\ndomains = [\"other.example\"]\n",
            "the operator lets no e-mail go to `acme.example`",
        ),
        ("server = \"smtp.example.com\"\ncolour = 1\n", "unknown key `colour`"),
    ] {
        let (code, shown) = said(email);
        assert!(code != 0 && shown.contains(says), "{email}: {shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let (code, shown) = said("server = \"10.1.2.3\"\ntls = \"none\"\nclear_text = true\n");
    assert_eq!(code, 0, "{shown}");
    // Without the section a tenant is told that nobody sends e-mails.
    let mut stage = stage_with(ok);
    stage.delivery("allow_http = true\nallow_networks = [\"127.0.0.0/8\"]");
    let _ = stage.try_start();
    stage.kill();
    stage.ask_for_people(&["check"]).fails(1, "this host sends no e-mail");
}

/// What the server refuses before it knows for whom an e-mail is, it refuses of every one: the operator mends that, and no notice is lost.
#[test]
fn o12_what_the_mail_server_refuses_of_the_host_costs_no_notice() {
    let server = MailServer::start();
    server.script(&[("connect", "521 5.3.2 no mail here")]);
    let to_books = Destination::start();
    let login = "user = \"tollgate\"\npassword = { file = \"secrets/smtp\" }\n";
    let stage = stage(&to_books, &format!("{}{login}", plainly(server.port)))
        .secret("smtp", "correct-horse-battery")
        .start();
    assert_eq!(stage.redeem(1).status, 202);
    for (word, line) in [
        ("connect", "521 5.3.2 no mail here"),
        ("EHLO", "550 5.7.1 who are you"),
        ("AUTH", "504 5.5.4 no logins here"),
        ("MAIL", "553 5.1.8 no such sender"),
        // Postfix waits for a recipient before it refuses a host.
        ("RCPT", "554 5.7.1 Client host [192.0.2.1] blocked"),
    ] {
        server.script(&[(word, line)]);
        let filter = format!("status:waiting code:{}", &line[..3]);
        wait_until(&format!("it waits after {line}"), || {
            (told(&stage, &filter).len() == 1).then_some(())
        });
    }
    // The breaker hears of it, so that a server that refuses the host is not asked for each notice.
    let metric = "tollgate_breaker_open{tenant=\"acme\",destination=\"oncall\"}";
    wait_until("the breaker opens", || (stage.metric(metric) == 1).then_some(()));
    server.script(&[]);
    stage.quiet();
    assert_eq!(told(&stage, "status:delivered code:250").len(), 1);

    // Of a recipient it is believed.
    server.script(&[("RCPT", "550 5.1.1 nobody of that name")]);
    stage.ask(&["issues", "acknowledge", "issue_1"]).ok();
    wait_until("it is given up", || {
        (told(&stage, "status:dead code:550 attempts:1").len() == 1).then_some(())
    });
    assert_eq!(stage.metric(metric), 0);
}

#[test]
fn o12_an_address_that_is_nobodys_keeps_an_email_from_no_other() {
    let server = MailServer::start();
    server.script(&[("RCPT TO:<oncall@acme.example>", "550 5.1.1 nobody of that name")]);
    let to_books = Destination::start();
    let stage = stage(&to_books, &plainly(server.port)).start();
    assert_eq!(stage.redeem(1).status, 202);
    wait_until("it is delivered", || {
        (told(&stage, "status:delivered code:250 attempts:1").len() == 1).then_some(())
    });
    let delivered = told(&stage, "status:delivered");
    let trace = stage.ask(&["trace", text(&delivered[0], "entry")]).ok().stdout;
    assert!(trace.contains("not for oncall@acme.example: "), "{trace}");
    // Later is later for all of them, since nothing was said to anybody yet.
    server.script(&[("RCPT TO:<oncall@acme.example>", "450 4.2.0 greylisted")]);
    stage.ask(&["issues", "acknowledge", "issue_1"]).ok();
    wait_until("it waits", || {
        (told(&stage, "status:waiting code:450").len() == 1).then_some(())
    });
    // So it is where the server refuses the host, whomever of them it says so of.
    for (nobody, blocked) in [("oncall", "lead"), ("lead", "oncall")] {
        let line = |to: &str| format!("RCPT TO:<{to}@acme.example>");
        server.script(&[
            (&line(nobody), "550 5.1.1 nobody of that name"),
            (&line(blocked), "554 5.7.1 Client host [192.0.2.1] blocked"),
        ]);
        let heard = server.heard_times("RCPT");
        wait_until("it waits, tried more than once", || {
            let waits = server.heard_times("RCPT") > heard + 3 && told(&stage, "status:waiting code:554").len() == 1;
            waits.then_some(())
        });
        assert!(told(&stage, "status:dead").is_empty(), "{nobody}");
    }
    server.script(&[]);
    stage.quiet();
    assert_eq!(told(&stage, "status:delivered code:250").len(), 2);
    assert_eq!(server.heard_times("."), 2);
}

#[test]
fn o14_people_who_are_told_by_email_are_sent_one_test_of_which_nothing_is_kept() {
    let server = MailServer::start();
    let to_books = Destination::start();
    let stage = stage(&to_books, &plainly(server.port)).start();
    let test = |body: Value| {
        let path = "/v1/tenants/acme/destinations/oncall/test";
        stage.operator_post(path, &body.to_string())
    };
    let before = stage.counts();
    let looked = test(json!({ "dry_run": true })).json();
    assert_eq!(text(&looked, "url"), "mailto:oncall@acme.example,lead@acme.example");
    assert!(
        text(&looked, "body").starts_with("[tollgate] acme: a test of oncall\n\n"),
        "{looked}"
    );
    assert_eq!((server.heard_times("RCPT"), &looked["end"]), (0, &Value::Null));
    let sent = test(json!({})).json();
    assert_eq!(
        (&sent["delivered"], &sent["end"]["smtp_status"]),
        (&json!(true), &json!(250))
    );
    assert_eq!((server.heard_times("RCPT"), server.heard_times(".")), (2, 1));
    server.script(&[("DATA", "554 5.6.0 we take no tests")]);
    let refused = test(json!({})).json();
    assert_eq!(
        (&refused["delivered"], &refused["end"]["smtp_status"]),
        (&json!(false), &json!(554))
    );
    assert_eq!(
        (stage.counts(), told(&stage, "").len()),
        (before, 0),
        "nothing of it is kept"
    );
    // Each keeps its place for a second, whoever waits for it, and of places there are four.
    let statuses: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..6).map(|_| scope.spawn(|| test(json!({})).status)).collect();
        asked
            .into_iter()
            .map(|asked| asked.join().expect("an answer"))
            .collect()
    });
    assert!(statuses.contains(&503), "nobody's inbox is filled: {statuses:?}");
}

/// What the server said of the e-mail stands, whether or not it says goodbye.
#[test]
fn o12_what_the_mail_server_said_of_an_email_is_recorded_without_its_answer_to_quit() {
    let server = MailServer::start();
    server.script_as([("QUIT", Says::Nothing)]);
    let to_books = Destination::start();
    let stage = stage(&to_books, &plainly(server.port)).start();
    assert_eq!(stage.redeem(1).status, 202);
    wait_until("it is delivered", || {
        (told(&stage, "status:delivered code:250 attempts:1").len() == 1).then_some(())
    });
    server.script_as([
        (".", Says::At("554 5.6.0 no such form\r\n".to_owned())),
        ("QUIT", Says::Nothing),
    ]);
    stage.ask(&["issues", "acknowledge", "issue_1"]).ok();
    wait_until("it is given up", || {
        (told(&stage, "status:dead code:554 attempts:1").len() == 1).then_some(())
    });
    assert_eq!(server.heard_times("."), 2);
    wait_until("it is said goodbye to", || {
        (server.heard_times("QUIT") == 2).then_some(())
    });
}

/// Whatever it says, an e-mail that it did not take waits, and the host goes on.
#[test]
fn o12_a_mail_server_that_talks_nonsense_holds_nobody_up() {
    let server = MailServer::start();
    let never = |says| [("connect", says)];
    server.script_as(never(Says::At("x".repeat(1 << 20) + "\r\n")));
    let to_books = Destination::start();
    let stage = stage(&to_books, &plainly(server.port)).start();
    assert_eq!(stage.redeem(1).status, 202);
    for says in [
        Says::At("x".repeat(1 << 20) + "\r\n"),
        Says::At("999 \0\u{202e}\u{1b}[2J\r\n".to_owned()),
        Says::Dripping("220-".repeat(1 << 10)),
    ] {
        server.script_as(never(says));
        let tried = server.heard_times("connect");
        wait_until("it was tried", || (server.heard_times("connect") > tried).then_some(()));
        wait_until("it waits", || {
            (told(&stage, "status:waiting code:none").len() == 1).then_some(())
        });
    }
    server.script(&[]);
    stage.quiet();
    assert_eq!(told(&stage, "status:delivered code:250").len(), 1);
}

/// A server that shows what it was told shows the host's login, as it went over the wire; whoever owns the destination reads neither that nor where
/// the server is.
#[test]
fn o12_the_hosts_login_and_mail_server_are_shown_to_no_tenant() {
    let (user, password) = ("relay-of-this-host", "correct-horse-battery");
    let server = MailServer::start();
    let to_books = Destination::start();
    let login = format!("user = \"{user}\"\npassword = {{ file = \"secrets/smtp\" }}\n");
    let plainly_said = format!("535 5.7.8 not {{line}}, which is {user}\0{password}");
    let refused = [("AUTH", plainly_said.as_str())];
    server.script(&refused);
    let stage = stage(&to_books, &format!("{}{login}", plainly(server.port)))
        .secret("smtp", password)
        .start();
    assert_eq!(stage.redeem(1).status, 202);
    let by_login = [("EHLO", "250-here\r\n250 AUTH LOGIN"), ("AUTH", "334 VXNlcm5hbWU6")];
    let answered = |line| [&by_login[..], &[("answer", line)]].concat();
    for (script, code) in [
        (&refused[..], "535"),
        (&answered("534 5.7.8 not {line}"), "534"),
        (&[("AUTH", "rubbish {line}")], "none"),
    ] {
        server.script(script);
        let waiting = wait_until("it was tried", || {
            told(&stage, &format!("status:waiting code:{code}")).pop()
        });
        let shown = stage.operator_get(&format!("/v1/trace?id={}", text(&waiting, "receipt")));
        let shown = String::from_utf8_lossy(&shown.body).into_owned();
        let log = stage.log().join("\n");
        // In Base64 alone, and as PLAIN says both.
        let encoded = [
            "cmVsYXktb2YtdGhpcy1ob3N0",
            "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5",
            "AHJlbGF5LW9mLXRoaXMtaG9zdABjb3JyZWN0LWhvcnNlLWJhdHRlcnk",
        ];
        for secret in [user, password].iter().chain(&encoded) {
            assert!(
                !shown.contains(secret) && !log.contains(secret),
                "{secret}: {shown} {log}"
            );
        }
        assert!(
            !shown.contains("rubbish") && !shown.contains(&server.port.to_string()),
            "{shown}"
        );
    }
    // The operator sees what came, and from where.
    let log = stage.log().join("\n");
    assert!(
        log.contains("is no SMTP") && log.contains(&server.port.to_string()),
        "{log}"
    );
}

/// What whoever is on the way puts behind the answer to STARTTLS is no answer of the server.
#[test]
fn o12_what_comes_before_tls_does_not_count_as_said_under_it() {
    let server = MailServer::start_with(&tls::FIRST);
    let forged = "220 go on\r\n250 here\r\n250 taken\r\n250 taken\r\n250 taken\r\n354 go on\r\n250 2.0.0 forged";
    let offers = ("EHLO", "250-here\r\n250 STARTTLS");
    server.script(&[offers, ("STARTTLS", forged)]);
    let to_books = Destination::start();
    let to_server = format!("server = \"localhost\"\nport = {}\ntls = \"starttls\"\n", server.port);
    let stage = stage(&to_books, &to_server).start();
    assert_eq!(stage.redeem(1).status, 202);
    wait_until("it was tried twice", || {
        (server.heard_times("STARTTLS") >= 2).then_some(())
    });
    wait_until("it waits", || {
        (told(&stage, "status:waiting code:none").len() == 1).then_some(())
    });
    server.script(&[offers, ("STARTTLS", "220 go on")]);
    stage.quiet();
    assert_eq!(told(&stage, "status:delivered code:250").len(), 1);
    assert_eq!(server.heard_times("DATA"), 1);
}
