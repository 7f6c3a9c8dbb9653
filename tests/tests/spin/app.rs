//! The app as people edit it: spin.toml, `tollgate spin add`, `remove` and `check`.

use std::fs;

use serde_json::Value;
use tollgate_tests::events::{redeemed, signer};
use tollgate_tests::json::says;
use tollgate_tests::spin::{OPERATOR_TOKEN, SpinSetup, SpinStage};
use tollgate_tests::stage::{Ran, tollgate};
use tollgate_tests::transcript::Transcript;
use tollgate_tests::{hostile_dir, plugins_dir, root};

/// Runs `tollgate spin …` on a stage's manifest, with its variables.
fn spin(stage: &SpinStage, arguments: &[&str]) -> Ran {
    let manifest = stage.path("spin.toml");
    run(
        arguments,
        manifest.to_str().expect("a path in UTF-8"),
        &stage.variables(),
    )
}

fn run(arguments: &[&str], manifest: &str, variables: &[(String, String)]) -> Ran {
    let mut command = std::process::Command::new(tollgate_tests::tollgate_bin());
    command
        .arg("spin")
        .args(arguments)
        .args(["--json", "--manifest", manifest]);
    for (name, value) in variables {
        command.env(format!("SPIN_VARIABLE_{}", name.to_uppercase()), value);
    }
    let output = command.output().expect("tollgate starts");
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn r2_a_plugin_is_added_checked_and_removed_and_comments_stay() {
    let mut stage = SpinSetup::acme("").set();
    let manifest = stage.path("spin.toml");
    let commented = fs::read_to_string(&manifest).unwrap().replace(
        "[component.ingest]\n",
        "# Ours; mind the step.\n[component.ingest] # here\n",
    );
    fs::write(&manifest, &commented).unwrap();
    let cashback = plugins_dir().join("cashback.wasm");
    let add = [
        "add",
        cashback.to_str().unwrap(),
        "--kit",
        "kit",
        "--route",
        "acme/cashback",
    ];

    let added = spin(&stage, &add).ok();
    assert_eq!(added.json()["changed"], true);
    let once = fs::read_to_string(&manifest).unwrap();
    says(&once, &["# Ours; mind the step.\n[component.ingest] # here\n"]);
    assert!(once.contains("\"http://plugin-cashback.spin.internal\""), "{once}");
    let tenant = fs::read_to_string(stage.path("tenants/acme.toml")).unwrap();
    assert!(tenant.contains("[routes.cashback]\n"), "{tenant}");

    let again = spin(&stage, &add);
    assert_eq!(again.json()["changed"], false, "{again:?}");
    assert_eq!(fs::read_to_string(&manifest).unwrap(), once);

    // What a route's plugin asks for is a person's to say: the file names it, and the check misses it at its line.
    says(&tenant, &["# config = { ", "rate_bps"]);
    let unsaid = spin(&stage, &["check"]);
    assert_eq!(unsaid.code, 1, "{unsaid:?}");
    let problem = unsaid.json()["problems"][0].as_str().unwrap().to_owned();
    says(
        &problem,
        &[
            "tenants/acme.toml:",
            "must have exactly one of `rate_bps` and `fixed_minor_units`",
        ],
    );
    let said = tenant.replace("grants = []\n", "grants = []\nconfig = { rate_bps = 500 }\n");
    fs::write(stage.path("tenants/acme.toml"), said).unwrap();
    assert_eq!(spin(&stage, &["tenants"]).code, 0);

    let checked = spin(&stage, &["check"]).ok();
    assert_eq!(checked.json()["plugins"][0]["component"], "plugin-cashback");
    assert_eq!(checked.json()["plugins"][0]["digest"], added.json()["digest"]);

    // What was written is an app that comes up.
    stage.start();
    assert_eq!(stage.ask("GET", "/v1/counts", OPERATOR_TOKEN, b"").status, 200);
    stage.kill();

    assert_eq!(spin(&stage, &["remove", "cashback"]).code, 0);
    assert_eq!(fs::read_to_string(&manifest).unwrap().trim_end(), commented.trim_end());
    assert!(!stage.path("plugins/cashback.wasm").exists());
    let orphaned = spin(&stage, &["check"]).json();
    assert!(
        orphaned["problems"][0]
            .as_str()
            .unwrap()
            .contains("the app has no plugin `cashback`"),
        "{orphaned:#}"
    );
    assert_eq!(spin(&stage, &["remove", "cashback"]).code, 1);
}

#[test]
fn r2_what_could_reach_outside_is_not_added() {
    let stage = SpinSetup::acme("").set();
    let before = fs::read_to_string(stage.path("spin.toml")).unwrap();
    let guest = hostile_dir().join("wasi_import.wasm");
    let refused = spin(&stage, &["add", guest.to_str().unwrap(), "--kit", "kit"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert_eq!(refused.json()["code"], "import-outside-world");
    assert_eq!(fs::read_to_string(stage.path("spin.toml")).unwrap(), before);
}

#[test]
fn r2_check_names_what_an_app_gives_away() {
    let stage = SpinSetup::acme("").plugin("cashback").set();
    let manifest = stage.path("spin.toml");
    let good = fs::read_to_string(&manifest).unwrap();
    assert_eq!(spin(&stage, &["check"]).code, 0);
    let granted = "[component.plugin-cashback]\n";
    for (from, to, expect) in [
        (
            granted,
            &*format!("{granted}allowed_outbound_hosts = [\"https://*:*\"]\n"),
            "`plugin-cashback` has `allowed_outbound_hosts`",
        ),
        (
            granted,
            &format!("{granted}dependencies_inherit_configuration = true\n"),
            "`dependencies_inherit_configuration`",
        ),
        (
            "route = { private = true }",
            "route = \"/cashback\"",
            "stands on the public route `/cashback`",
        ),
        (
            "plugins/cashback.wasm",
            "kit/tollgate_spin_runner.wasm",
            "it is not enclosed",
        ),
        ("sqlite_databases = [\"default\"]\n", "", "`ingest` has no database"),
        (
            "    \"http://worker.spin.internal\",\n",
            "",
            "`ingest` may not call http://worker.spin.internal",
        ),
        (
            "    \"http://worker.spin.internal\",\n",
            "    \"http://worker.spin.internal\",\n    \"http://example.com\",\n",
            "`ingest` may call `http://example.com`",
        ),
        (
            "sweep_token = { required = true, secret = true }",
            "sweep_token = { required = true }",
            "has no secret `sweep_token`",
        ),
        (
            "    \"http://plugin-cashback.spin.internal\",\n",
            "    \"http://*.spin.internal\",\n",
            "name each host",
        ),
        (
            "acme_shop_secret = \"{{ acme_shop_secret }}\"\n",
            "",
            "is not given `acme_shop_secret`",
        ),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        fs::write(&manifest, bad).unwrap();
        let checked = spin(&stage, &["check"]);
        assert_eq!(checked.code, 1, "{expect}");
        let problems = checked.json()["problems"].clone();
        let named = |problem: &Value| problem.as_str().is_some_and(|problem| problem.contains(expect));
        assert!(problems.as_array().unwrap().iter().any(named), "{expect}: {problems:#}");
    }
}

#[test]
fn r2_check_flags_an_empty_sweep_token() {
    let stage = SpinSetup::acme("").set();
    let path = stage.path("spin.toml");
    let good = fs::read_to_string(&path).unwrap();
    let without = good.replacen(
        "sweep_token = { required = true, secret = true }",
        "sweep_token = { default = \"\", secret = true }",
        1,
    );
    assert_ne!(without, good);
    let others: Vec<_> = stage
        .variables()
        .into_iter()
        .filter(|(name, _)| name != "sweep_token")
        .collect();
    let given = |token: &str| [others.clone(), vec![("sweep_token".to_owned(), token.to_owned())]].concat();
    for (manifest, variables, is_flagged) in [
        (&good, given("a-long-random-text"), false),
        // Required, and set where the app runs.
        (&good, others.clone(), false),
        (&good, given(""), true),
        (&good, given(" "), true),
        (&without, others.clone(), true),
        (&without, given("a-long-random-text"), false),
    ] {
        fs::write(&path, manifest).unwrap();
        let checked = run(&["check"], path.to_str().unwrap(), &variables);
        let is_named = checked.stdout.contains("`sweep_token` is empty");
        assert_eq!(
            (is_named, checked.code),
            (is_flagged, i32::from(is_flagged)),
            "{checked:?}"
        );
    }
}

/// What runs must be what was vetted, on a budget, between the host calls and the caller that were built here.
#[test]
fn w2_check_refuses_a_plugin_that_is_not_enclosed_as_it_must_be() {
    use tollgate_enclose::{Kit, enclose, meter};
    let stage = SpinSetup::acme("").plugin("cashback").set();
    let path = stage.path("plugins/cashback.wasm");
    let good = fs::read(&path).unwrap();
    let plugin = fs::read(plugins_dir().join("cashback.wasm")).unwrap();
    let [host_calls, caller] =
        ["host_calls", "caller"].map(|name| fs::read(stage.path(&format!("kit/tollgate_spin_{name}.wasm"))).unwrap());
    let check = |bytes: &[u8], expect: &str| {
        fs::write(&path, bytes).unwrap();
        let checked = spin(&stage, &["check"]);
        assert_eq!(
            (checked.code, checked.stdout.contains(expect)),
            (1, true),
            "{expect}: {checked:?}"
        );
    };
    assert_eq!(spin(&stage, &["check"]).code, 0);
    let place = |what: &[u8]| good.windows(what.len()).position(|window| window == what).unwrap();
    let mut older = good.clone();
    older[place(meter::SECTION.as_bytes()) + meter::SECTION.len()] = b'0';
    check(&older, "is not the author's plugin on a budget of this version");
    // The author's own code in the place of the metered one.
    let metered = place(&host_calls) + host_calls.len()..good.len();
    let mut unmetered = good.clone();
    unmetered[metered.start + 2000] ^= 1;
    check(&unmetered, "cashback.wasm: ");
    // No author's plugin travels along.
    check(&good[..good.len() - plugin.len()], "it is no enclosed plugin");
    // Other host calls: a component that is wired as the real one, and does not stand beside the runner.
    let section = b"\0\x05\x04mark".as_slice();
    let other = [host_calls.as_slice(), section].concat();
    let kit = Kit {
        host_calls: &other,
        caller: &caller,
    };
    check(&enclose(kit, &plugin).unwrap(), "other host calls or another caller");
    fs::write(&path, &good).unwrap();
    assert_eq!(spin(&stage, &["check"]).code, 0);
}

/// The manifest at the top level is the one that people start: it must be whole after `spin build`.
#[test]
fn r2_the_shipped_manifest_is_whole() {
    let manifest = root().join("spin.toml");
    let checked = run(
        &["check"],
        manifest.to_str().unwrap(),
        &[("acme_rewards_secret".to_owned(), "any-secret".to_owned())],
    )
    .ok();
    let components: Vec<_> = checked.json()["plugins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|plugin| plugin["component"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        components,
        [
            "plugin-cashback",
            "plugin-fraud",
            "plugin-gift-card",
            "plugin-inventory"
        ]
    );
}

#[test]
fn r2_i7_a_credential_is_asked_for_beside_the_signature() {
    let source = "[sources.shop]\nprovider = \"generic-hmac\"\nsecrets = [{ id = \"s\", value = { env = \"ACME_SHOP_SECRET\" } }]\n\
                  basic = [{ user = \"shop\", password = { env = \"ACME_SHOP_PASSWORD\" } }]\n";
    let stage = SpinSetup::of(source.to_owned())
        .variable("acme_shop_password", "open sesame")
        .start();
    let mut message = signer("shop").sign("", redeemed("evt_1", "red_1", "success"));
    let refused = stage.post("shop", &message);
    assert_eq!(refused.status, 401);
    let asked = refused.header("www-authenticate").unwrap_or_default();
    assert!(asked.starts_with("Basic "), "{asked}");
    // shop:open sesame
    let credential = "Basic c2hvcDpvcGVuIHNlc2FtZQ==".to_owned();
    message.headers.push(("authorization".to_owned(), credential));
    assert_eq!(stage.post("shop", &message).verdict(), (202, "accepted".to_owned()));
    assert_eq!(
        stage.post("shop", &message.tampered()).status,
        401,
        "and the signature still counts"
    );
    assert_eq!(stage.counts()["receipts"], 1);
}

/// What Spin cannot hold is said before the app is started, and not ignored by it.
#[test]
fn r2_what_spin_cannot_hold_is_refused() {
    let tenant = |shop: &str| {
        format!(
            "[sources.shop]\nprovider = \"generic-hmac\"\nsecrets = [{{ id = \"s\", value = {{ env = \"ACME_SHOP_SECRET\" }} }}]\n{shop}\
             [sources.bank]\nprovider = \"plaid\"\nparameters = {{ client_id = \"c\", secret = {{ env = \"ACME_SHOP_SECRET\" }} }}\n"
        )
    };
    let stage = SpinSetup::of(tenant("allow_networks = [\"10.0.0.0/8\"]\n"))
        .refused()
        .set();
    let built = spin(&stage, &["tenants"]);
    assert_eq!(built.code, 1, "{built:?}");
    let why = built.json()["message"].as_str().unwrap().to_owned();
    says(&why, &["acme.toml:4: `allow_networks` cannot be held on Spin"]);
    assert!(!stage.path("tenants/built").exists());
    let checked = spin(&stage, &["check"]);
    let problems = checked.json()["problems"].to_string();
    assert_eq!(checked.code, 1);
    says(&problems, &["acme.toml:4: `allow_networks` cannot be held on Spin"]);
    says(&problems, &["[sources.bank]: its provider's keys are fetched"]);
}

/// A tenant's file is read where the app is built: an edit has no effect before that, and the check says so.
#[test]
fn r2_an_edited_tenant_is_built_before_it_counts() {
    let stage = SpinSetup::acme("").set();
    assert_eq!(spin(&stage, &["check"]).code, 0);
    let tenant = stage.path("tenants/acme.toml");
    let text = fs::read_to_string(&tenant).unwrap();
    fs::write(&tenant, text.replace("[sources.shop]", "[sources.store]")).unwrap();
    let checked = spin(&stage, &["check"]);
    assert_eq!(checked.code, 1);
    assert!(
        checked.json()["problems"].to_string().contains("tollgate spin tenants"),
        "{checked:?}"
    );
    let built = spin(&stage, &["tenants"]);
    assert_eq!(
        (built.code, &built.json()["changed"]),
        (0, &Value::from(true)),
        "{built:?}"
    );
    assert_eq!(spin(&stage, &["tenants"]).json()["changed"], false);
    assert_eq!(spin(&stage, &["check"]).code, 0);
    assert!(stage.path("tenants/built/acme.store.source").exists());
    assert!(
        !stage.path("tenants/built/acme.shop.source").exists(),
        "what is gone goes"
    );
    for piece in fs::read_dir(stage.path("tenants/built")).unwrap() {
        let bytes = fs::read(piece.unwrap().path()).unwrap();
        for (name, secret) in stage.variables() {
            assert!(
                !bytes.windows(secret.len()).any(|window| window == secret.as_bytes()),
                "{name}"
            );
        }
    }
}

/// Issue 5 asks for less than a megabyte: it is what each request is given an instance of. Routes' filters took the last 46 KB: what is next must
/// make room, for example by giving the component filters that are read already.
#[test]
fn r2_the_ingest_component_is_small() {
    let path = tollgate_tests::spin_dir().join("tollgate_spin_ingest.wasm");
    let bytes = fs::metadata(&path).unwrap().len();
    println!("{bytes} bytes");
    assert!(bytes < 1 << 20, "{} has {bytes} bytes", path.display());
}

#[test]
fn r1_r2_what_is_read_of_a_spin_app() {
    let stage = SpinSetup::acme("").set();
    let manifest = stage.path("spin.toml").display().to_string();
    let plugins = ["cashback.wasm", "hostile/wasi_import.wasm"];
    let [cashback, forbidden] = plugins.map(|name| plugins_dir().join(name).display().to_string());
    let kit = stage.path("kit").display().to_string();
    let mut said = Transcript::default();
    let mut ask = |arguments: &[&str]| {
        let arguments = [&["spin"], arguments, &["--manifest", &manifest]].concat();
        let ran = tollgate(&arguments, b"");
        said.add(&arguments, &ran);
    };
    ask(&["check"]);
    ask(&["add", &forbidden, "--kit", &kit, "--route", "acme/cashback"]);
    ask(&["add", &cashback, "--kit", &kit, "--route", "acme/cashback"]);
    ask(&["add", &cashback, "--kit", &kit, "--route", "acme/cashback"]);
    ask(&["check"]);
    ask(&["remove", "cashback"]);
    ask(&["remove", "cashback"]);
    let tenant = stage.path("tenants/acme.toml");
    let right = fs::read_to_string(&tenant).expect("the tenant's file");
    for text in [right.clone(), right.replacen("provider = ", "providr = ", 1)] {
        fs::write(&tenant, text).expect("the tenant's file");
        ask(&["tenants"]);
        ask(&["check"]);
    }
    said.run(&["spin", "check", "--manifest", "/nowhere/spin.toml"]);
    said.hold("spin");
}
