//! What must hold for the repository as a whole: who may depend on whom, that the map tells of places that exist, and that the
//! tree is tidy.
//!
//! What is searched for is put together from pieces, so that this file does not find itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use serde_json::Value;
use tollgate_tests::root;

/// Which of our crates each of our crates may use. An edge that is not here is a decision for ARCHITECTURE.md, not for a
/// manifest.
const EDGES: [(&str, &[&str]); 14] = [
    ("tollgate-core", &[]),
    ("tollgate-api", &["tollgate-core"]),
    // It asks the calls, and has no store that it could ask instead.
    ("tollgate-console", &["tollgate-api", "tollgate-core"]),
    ("tollgate-store", &["tollgate-api", "tollgate-core"]),
    ("tollgate-enclose", &[]),
    // Its tests run what was enclosed beside what was not: it alone knows wasmtime.
    ("tollgate-sandbox", &["tollgate-core", "tollgate-enclose"]),
    ("tollgate-tenants", &["tollgate-core"]),
    (
        "tollgate-server",
        &[
            "tollgate-api",
            "tollgate-console",
            "tollgate-core",
            "tollgate-sandbox",
            "tollgate-store",
            "tollgate-tenants",
        ],
    ),
    (
        "tollgate",
        &[
            "tollgate-api",
            "tollgate-core",
            "tollgate-enclose",
            "tollgate-sandbox",
            "tollgate-server",
            "tollgate-store",
            "tollgate-tenants",
        ],
    ),
    // Tests may stand in for the server; benches alone depend on them.
    (
        "tollgate-tests",
        &[
            "tollgate-api",
            "tollgate-core",
            "tollgate-enclose",
            "tollgate-sandbox",
            "tollgate-store",
            "tollgate-tenants",
        ],
    ),
    (
        "tollgate-bench",
        &["tollgate-core", "tollgate-sandbox", "tollgate-store", "tollgate-tests"],
    ),
    ("tollgate-test-disk", &[]),
    (STAND_IN, &[]),
    ("xtask", &["tollgate-enclose"]),
];

/// The same for the crates of the Spin app: a thin shell over core and the store, which knows nothing of the native host.
const SPIN_EDGES: [(&str, &[&str]); 7] = [
    ("tollgate-spin-protocol", &[]),
    (
        "tollgate-spin-shell",
        &["tollgate-core", "tollgate-store", "tollgate-tenants"],
    ),
    (
        "tollgate-spin-ingest",
        &[
            "tollgate-core",
            "tollgate-spin-shell",
            "tollgate-store",
            "tollgate-tenants",
        ],
    ),
    (
        "tollgate-spin-worker",
        &[
            "tollgate-api",
            "tollgate-core",
            "tollgate-spin-protocol",
            "tollgate-spin-shell",
            "tollgate-store",
            "tollgate-tenants",
        ],
    ),
    ("tollgate-spin-runner", &["tollgate-spin-protocol"]),
    ("tollgate-spin-caller", &["tollgate-spin-protocol"]),
    ("tollgate-spin-host-calls", &["tollgate-core"]),
];

/// The stand-in for Spin. Nothing may depend on it.
const STAND_IN: &str = "spin-stand-in";

/// Vocabularies that one crate alone may speak.
const OWNED: [(&str, &str); 2] = [("rusqlite", "tollgate-store"), ("wasmtime", "tollgate-sandbox")];

/// What core must not depend on: I/O, clocks, randomness and async live in its callers.
const NOT_IN_CORE: [&str; 8] = [
    "chrono",
    "fastrand",
    "getrandom",
    "hyper",
    "mio",
    "rand",
    "time",
    "tokio",
];

/// Every dependency of every package of the workspace in `folder`, whatever its kind (normal, build, dev).
fn dependencies(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root().join(folder))
        .output()
        .expect("cargo starts");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let list = |value: &Value| value.as_array().expect("a list").clone();
    list(&metadata["packages"])
        .iter()
        .map(|package| (name(package), list(&package["dependencies"]).iter().map(name).collect()))
        .collect()
}

#[test]
fn crates_depend_only_where_the_map_says() {
    let packages = |edges: &[(&str, &[&str])]| -> BTreeSet<String> {
        edges.iter().map(|(package, _)| (*package).to_owned()).collect()
    };
    let mut dependencies = dependencies("");
    assert_eq!(
        dependencies.keys().cloned().collect::<BTreeSet<_>>(),
        packages(&EDGES),
        "the packages of the workspace"
    );
    let spin = self::dependencies("host/spin");
    assert_eq!(
        spin.keys().cloned().collect::<BTreeSet<_>>(),
        packages(&SPIN_EDGES),
        "the packages of the Spin app"
    );
    dependencies.extend(spin);
    let ours: BTreeSet<_> = packages(&EDGES).union(&packages(&SPIN_EDGES)).cloned().collect();
    for (package, allowed) in EDGES.iter().chain(&SPIN_EDGES) {
        for dependency in dependencies[*package].intersection(&ours) {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{package} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn one_crate_knows_sql_and_one_knows_wasmtime() {
    let dependencies = dependencies("");
    for (library, owner) in OWNED {
        let users: Vec<_> = dependencies
            .iter()
            .filter(|(_, uses)| uses.contains(library))
            // A host of its own, which stands in for Spin: it gives guests a database and runs them.
            .filter(|(package, _)| *package != STAND_IN)
            .map(|(package, _)| package.as_str())
            .collect();
        assert_eq!(users, [owner], "who depends on {library}");
    }
    for library in NOT_IN_CORE {
        assert!(
            !dependencies["tollgate-core"].contains(library),
            "core must not depend on {library}"
        );
    }
}

/// The files under version control whose text we answer for, with their text: no lock files, which are cargo's.
fn tracked_texts() -> Vec<(String, String)> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output()
        .expect("git starts");
    assert!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = String::from_utf8(output.stdout).expect("file names are UTF-8");
    let names = names.split_terminator('\0').filter(|name| !name.ends_with(".lock"));
    // A file may be deleted but not yet committed so; one that is no UTF-8 is no text.
    let texts: Vec<_> = names
        .filter_map(|name| {
            Some((
                name.to_owned(),
                String::from_utf8(fs::read(root().join(name)).ok()?).ok()?,
            ))
        })
        .collect();
    assert!(
        texts.len() > 20,
        "git lists only {} text files: is this a clone?",
        texts.len()
    );
    texts
}

/// Fails with every place where a file that `applies` picks holds one of `needles`.
#[track_caller]
fn assert_absent(needles: &[String], why: &str, applies: impl Fn(&str) -> bool) {
    let mut found = Vec::new();
    for (name, text) in tracked_texts().iter().filter(|(name, _)| applies(name)) {
        for (at, line) in text.lines().enumerate() {
            for needle in needles.iter().filter(|needle| line.contains(needle.as_str())) {
                found.push(format!("{name}:{}: `{needle}`", at + 1));
            }
        }
    }
    assert!(found.is_empty(), "{why}:\n{}", found.join("\n"));
}

/// Puts needles together: `["a|b"]` searches for `ab`.
fn needles(pieces: &[&str]) -> Vec<String> {
    pieces.iter().map(|piece| piece.replace('|', "")).collect()
}

#[test]
fn no_file_names_a_machine_or_a_registry() {
    let mut places = needles(&["/wo|rk/", "/ho|me/", "/ro|ot/", "/Us|ers/", "C:|\\Users"]);
    let checkout = root().canonicalize().expect("the checkout has a path");
    // The path of a checkout at the top of the file system is a word like any other.
    if checkout.components().count() > 2 {
        places.push(format!("{}/", checkout.display()));
    }
    assert_absent(&places, "paths of one machine help nobody on another", |_| true);
    let hosts = needles(&[
        "crates|.io",
        "static.crates|.io",
        "pypi|.org",
        "registry.npmjs|.org",
        "deb.debian|.org",
    ]);
    assert_absent(&hosts, "where packages come from is each machine's own setting", |_| {
        true
    });
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    let marks = needles(&["todo|!(", "unimplemented|!(", "FIX|ME", "// XX|X", "# XX|X"]);
    assert_absent(
        &marks,
        "finish it, or say what is missing in words that a reader can use",
        |_| true,
    );
}

#[test]
fn sql_is_spoken_only_in_the_store_and_wasmtime_only_in_the_sandbox() {
    // The stand-in for Spin is a host of its own: it gives guests a database and runs them. Whoever fails servers over, or changes one as a newer host would,
    // speaks to them; and so does who fills one for a measure.
    let others = [
        "tests/spin/",
        "tests/src/campaign/fleet/",
        "tests/src/postgres.rs",
        "bench/src/postgres/",
    ];
    let rust_outside = |folder: &'static str| {
        move |name: &str| {
            name.ends_with(".rs") && !name.starts_with(folder) && !others.iter().any(|other| name.starts_with(other))
        }
    };
    let sql = [
        "rusqlite|::",
        "\"SELECT| ",
        "\"INSERT| INTO",
        "\"UPDATE| ",
        "\"DELETE| FROM",
        "\"CREATE| TABLE",
        "\"PRAGMA| ",
    ];
    assert_absent(&needles(&sql), "only host/store knows SQL", rust_outside("host/store/"));
    assert_absent(
        &needles(&["wasmtime|::"]),
        "only host/sandbox knows wasmtime",
        rust_outside("host/sandbox/"),
    );
}

#[test]
fn the_host_names_its_store_in_one_place() {
    let host = |name: &str| {
        let of_host = name.starts_with("host/server/src/") || name.starts_with("host/cli/src/");
        of_host && name != "host/server/src/store.rs"
    };
    assert_absent(
        &needles(&["Sqlite|Store"]),
        "ask for the traits of tollgate_store, or take `LocalStore` from host/server/src/store.rs",
        host,
    );
}

#[test]
fn the_map_names_places_that_exist() {
    let Ok(map) = fs::read_to_string(root().join("ARCHITECTURE.md")) else {
        println!("skipped: there is no ARCHITECTURE.md yet");
        return;
    };
    let section = section(&map, "code map").expect("ARCHITECTURE.md has a heading `Code map`");
    let paths: Vec<_> = backticked(section).filter(|text| is_path(text)).collect();
    assert!(
        !paths.is_empty(),
        "the code map of ARCHITECTURE.md names no path in backticks"
    );
    let missing: Vec<_> = paths.into_iter().filter(|path| !root().join(path).exists()).collect();
    assert!(
        missing.is_empty(),
        "the code map of ARCHITECTURE.md names what does not exist (paths start at the root): {missing:?}"
    );
}

/// Files that whoever reads one event down from its socket to the ledger and out has to open.
const WALK_FILES_MAX: usize = 30;

#[test]
fn one_event_is_read_down_in_thirty_files() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let section = section(&map, "one event, from socket to ledger").expect("its walk");
    let files: Vec<_> = backticked(section).filter(|text| is_path(text)).collect();
    let missing: Vec<_> = files.iter().filter(|path| !root().join(path).is_file()).collect();
    assert!(missing.is_empty(), "the walk names what does not exist: {missing:?}");
    assert!((1..=WALK_FILES_MAX).contains(&files.len()), "{} files", files.len());
}

/// The promises that a test's name says it holds: `i4_p1_nothing_is_lost` holds i4 and p1.
fn promises_of(test: &str) -> impl Iterator<Item = &str> {
    test.split('_').take_while(|word| {
        let mut bytes = word.bytes();
        bytes.next().is_some_and(|first| b"itpwodr".contains(&first))
            && (2..=3).contains(&word.len())
            && bytes.all(|byte| byte.is_ascii_digit())
    })
}

#[test]
fn tests_hold_the_promises_that_are_written_down() {
    let written: BTreeSet<String> = fs::read_to_string(root().join("docs/promises.md"))
        .expect("docs/promises.md is there")
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .map(|(code, _)| code.to_lowercase())
        .filter(|code| promises_of(code).count() == 1)
        .collect();
    let texts = tracked_texts();
    let held: BTreeSet<String> = texts
        .iter()
        .filter(|(name, _)| name.ends_with(".rs"))
        .flat_map(|(_, text)| text.lines())
        .filter_map(|line| {
            let line = line.trim_start();
            let line = line.strip_prefix("async ").unwrap_or(line);
            line.strip_prefix("fn ")?.split_once('(')
        })
        .flat_map(|(name, _)| promises_of(name))
        .map(str::to_owned)
        .collect();
    let unknown: Vec<_> = held.difference(&written).collect();
    assert!(
        unknown.is_empty(),
        "tests name promises that docs/promises.md does not define: {unknown:?}"
    );
    let untested: Vec<_> = written.difference(&held).collect();
    assert!(
        untested.is_empty(),
        "docs/promises.md promises what no test holds by its name: {untested:?}"
    );
}

#[test]
fn decisions_are_dated_and_say_why() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let folder = root().join("docs/decisions");
    for page in fs::read_dir(&folder).expect("docs/decisions is there") {
        let page = page.expect("a page");
        let name = page.file_name().into_string().expect("a name");
        let text = fs::read_to_string(page.path()).expect("a page is text");
        let dated = text
            .lines()
            .any(|line| line.starts_with("Decided 20") && line.ends_with('.'));
        assert!(dated, "{name} has no line `Decided YYYY-MM-DD.`");
        for heading in ["## Why", "## What was decided"] {
            assert!(text.contains(heading), "{name} has no `{heading}`");
        }
        assert!(
            map.contains(&format!("docs/decisions/{name}")),
            "ARCHITECTURE.md does not list {name}"
        );
        let missing: Vec<_> = backticked(&text)
            .filter(|text| is_path(text) && text.starts_with("host/"))
            .filter(|path| !root().join(path).exists())
            .collect();
        assert!(missing.is_empty(), "{name} names what does not exist: {missing:?}");
    }
}

/// The program is another, so that it is there; what the unit asks of systemd is the same.
#[test]
fn the_unit_for_systemd_is_one_that_systemd_understands() {
    let unit = fs::read_to_string(root().join("ops/tollgate.service")).expect("the unit");
    let program = "/usr/local/bin/tollgate";
    assert!(unit.contains(&format!("ExecStart={program} serve ")));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tollgate.service");
    fs::write(&path, unit.replace(program, "/bin/true")).expect("a file");
    match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        Ok(said) => assert!(
            said.status.success() && said.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&said.stderr)
        ),
        Err(error) => eprintln!("SKIPPED: there is no systemd-analyze: {error}"),
    }
}

#[test]
fn o7_each_alert_says_what_to_do_first_and_has_its_section_in_the_page_for_the_night() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect(path);
    let (alerts, page) = (read("ops/alerts.yml"), read("docs/operate.md"));
    let mut named = BTreeSet::new();
    for rule in alerts.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap_or_default();
        for part in ["expr: ", "summary: \"", "first_action: \""] {
            assert!(rule.contains(&format!(" {part}")), "{name} has no `{part}`");
        }
        let severity = ["severity: page }", "severity: ticket }"];
        assert!(severity.iter().any(|one| rule.contains(one)), "{name}: {severity:?}");
        let link = format!(" page: docs/operate.md#{}\n", name.to_lowercase());
        assert!(rule.contains(&link), "{name} does not link to its section: `{link}`");
        assert!(
            page.contains(&format!("\n## {name}\n")),
            "docs/operate.md has no section {name}"
        );
        assert!(named.insert(name), "{name} is there twice");
    }
    assert!(named.len() >= 15, "{named:?}");
    let sections = page.lines().filter_map(|line| line.strip_prefix("## Tollgate"));
    let without: Vec<_> = sections
        .filter(|rest| !named.contains(format!("Tollgate{rest}").as_str()))
        .collect();
    assert!(
        without.is_empty(),
        "sections of docs/operate.md without an alert: {without:?}"
    );
}

/// Words that the host's names had for things that everybody calls otherwise, and the glossary's word for each.
const STRANGERS: [(&str, &str); 13] = [
    ("ward", "quarantines"),
    ("wards", "quarantines"),
    ("pace", "run class"),
    ("paces", "run class"),
    ("quick", "fast, or fast pool"),
    ("seat", "slot"),
    ("seats", "slots"),
    ("desk", "host calls"),
    ("courier", "reply batcher"),
    ("ticket", "permit"),
    ("precedence", "thread priority"),
    ("room", "quota or slot"),
    ("rooms", "quotas or slots"),
];

/// Words with one meaning each, and the only folders or files where names may use them.
const ONE_MEANING: [(&str, &[&str]); 2] = [
    (
        "lane",
        &["host/core/src/admission.rs", "host/core/src/outbox.rs", "host/store/"],
    ),
    ("share", &["host/core/src/registry.rs"]),
];

/// The names that a line declares for others: of an item that is not private to its module, or of a module.
fn declared(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let item = match line.strip_prefix("pub") {
        Some(rest) => rest.split_once(' ')?.1,
        None => line.strip_prefix("mod ").map(|_| line)?,
    };
    let mut words = item.split([' ', '<', '(', ':', ';', '=']).skip_while(|word| {
        [
            "async", "const", "unsafe", "extern", "enum", "fn", "mod", "static", "struct", "trait", "type",
        ]
        .contains(word)
    });
    words.next().filter(|name| !["use", "in"].contains(name))
}

/// `HostCalls`, `host_calls` and `HOST_CALLS` are each `host` and `calls`.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for letter in name.chars() {
        if letter == '_' || (letter.is_uppercase() && after_lower) {
            words.push(String::new());
        }
        if letter != '_' {
            words.last_mut().expect("there is one").extend(letter.to_lowercase());
        }
        after_lower = letter.is_lowercase();
    }
    words
}

#[test]
fn names_are_the_fields_own() {
    assert_eq!(
        declared("    pub(crate) async fn in_flight(&self) {"),
        Some("in_flight")
    );
    assert_eq!(declared("pub struct HostCalls<'a> {"), Some("HostCalls"));
    assert_eq!(declared("let mut quick = 1;"), None);
    assert_eq!(words_of("HostCalls"), ["host", "calls"]);
    assert_eq!(words_of("FAST_MS"), ["fast", "ms"]);
    let mut found = Vec::new();
    let is_ours = |name: &str| name.starts_with("host/") && name.ends_with(".rs") && !name.contains("/tests/");
    for (file, text) in tracked_texts().iter().filter(|(name, _)| is_ours(name)) {
        for (at, name) in text
            .lines()
            .enumerate()
            .filter_map(|(at, line)| Some((at, declared(line)?)))
        {
            let words = words_of(name);
            for (_, instead) in STRANGERS
                .iter()
                .filter(|(word, _)| words.iter().any(|known| known == word))
            {
                found.push(format!("{file}:{}: `{name}`: say {instead}", at + 1));
            }
            for (word, places) in ONE_MEANING {
                if words.iter().any(|known| known == word) && !places.iter().any(|place| file.starts_with(place)) {
                    found.push(format!("{file}:{}: `{name}`: a {word} is something else", at + 1));
                }
            }
        }
    }
    assert!(
        found.is_empty(),
        "docs/glossary.md has other words:\n{}",
        found.join("\n")
    );
}

/// The text under the first heading that contains `title`, up to the next heading that is not below it.
fn section<'a>(markdown: &'a str, title: &str) -> Option<&'a str> {
    let level = |line: &str| line.bytes().take_while(|byte| *byte == b'#').count();
    let mut headings = Vec::new();
    let mut at = 0;
    for line in markdown.split_inclusive('\n') {
        if level(line) > 0 {
            headings.push((at, level(line), line));
        }
        at += line.len();
    }
    let first = headings
        .iter()
        .position(|(_, _, line)| line.to_lowercase().contains(title))?;
    let (start, depth, _) = headings[first];
    let end = headings[first + 1..]
        .iter()
        .find(|(_, level, _)| *level <= depth)
        .map_or(markdown.len(), |(end, _, _)| *end);
    Some(&markdown[start..end])
}

fn backticked(markdown: &str) -> impl Iterator<Item = &str> {
    markdown.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Whether a code span is meant as a path of the tree: it has a slash, and nothing that commands, URLs, types or patterns have.
fn is_path(text: &str) -> bool {
    text.contains('/') && !text.starts_with('/') && !text.contains([' ', ':', '*', '<', '{', '(', '$'])
}

#[test]
fn the_map_is_read_as_it_is_written() {
    let map =
        "# A\n`x/y`\n## Code map\n`host/core` and `cargo run a/b`, `Arc<T>`\n### Deeper\n`wit/`\n## Next\n`no/such`\n";
    let paths: Vec<_> = backticked(section(map, "code map").unwrap())
        .filter(|text| is_path(text))
        .collect();
    assert_eq!(paths, ["host/core", "wit/"]);
}

#[test]
fn the_readme_shows_the_two_commands() {
    let Ok(readme) = fs::read_to_string(root().join("README.md")) else {
        println!("skipped: there is no README.md yet");
        return;
    };
    for command in ["cargo xtask demo", "cargo xtask test"] {
        assert!(readme.contains(command), "README.md does not show `{command}`");
    }
}

/// A status that nobody can look up is a status that somebody made up.
#[test]
fn every_lifecycle_and_every_map_of_statuses_says_its_source() {
    let folder = root().join("host/core");
    let files = |name: &str| {
        let listed = fs::read_dir(folder.join(name)).unwrap();
        let paths = listed.map(|entry| entry.unwrap().path());
        let files: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|kind| kind == "toml"))
            .map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap()))
            .collect();
        assert!(!files.is_empty(), "{name}");
        files
    };
    let says = |line: &str| line.starts_with('#') && (line.contains("https://") || line.contains("Source: "));
    for (path, text) in files("lifecycles") {
        assert!(text.lines().any(says), "{path} does not say whose way it is");
    }
    let mut maps = 0;
    for (path, text) in files("profiles") {
        let lines: Vec<_> = text.lines().collect();
        for (at, _) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.starts_with("[statuses."))
        {
            let above = lines[..at].iter().rev().take_while(|line| line.starts_with('#'));
            let below = lines[at + 1..].iter().take_while(|line| line.starts_with('#'));
            assert!(
                above.chain(below).any(|line| says(line)),
                "{path}: {} does not say where the labels are published",
                lines[at]
            );
            maps += 1;
        }
    }
    assert!(maps >= 15, "{maps}");
}

#[test]
fn the_purity_probe_reaches_every_public_function_of_core() {
    let probe = fs::read_to_string(root().join("tests/purity-probe/src/main.rs")).expect("the probe's source");
    let reached: Vec<_> = probe
        .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .collect();
    let source = root().join("host/core/src");
    let mut missing = Vec::new();
    let mut seen = 0;
    for (path, text) in tracked_texts() {
        let Ok(module) = root().join(&path).strip_prefix(&source).map(Path::to_owned) else {
            continue;
        };
        let Some(module) = module.to_str().and_then(|module| module.strip_suffix(".rs")) else {
            continue;
        };
        // The files in a module's folder are private to it, and what is public in them is reached through the module.
        let module = module.split('/').next().unwrap_or_default();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for function in text.lines().filter_map(public_function) {
            seen += 1;
            let (head, tail) = (format!("{module}::"), format!("::{function}"));
            if !reached
                .iter()
                .any(|path| path.starts_with(&head) && path.ends_with(&tail))
            {
                missing.push(format!("{module}::…::{function}"));
            }
        }
    }
    assert!(
        seen > 40,
        "only {seen} public functions found in core: the search is broken"
    );
    assert!(
        missing.is_empty(),
        "add these to tests/purity-probe/src/main.rs, so that their imports are seen: {missing:#?}"
    );
}

/// The name of the public function that a line begins to declare.
fn public_function(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub ")?;
    let rest = rest.strip_prefix("const ").unwrap_or(rest).strip_prefix("fn ")?;
    rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()
}

#[test]
fn what_is_shipped_carries_no_symbols() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let release = manifest.split("[profile.release]").nth(1).unwrap();
    let release = release.split("\n[").next().unwrap();
    assert!(release.contains("strip = true"), "{release}");
}

/// The files of a crate as paths of modules, with what each says outside of its tests and comments.
fn modules(texts: &[(String, String)], source: &str) -> BTreeMap<Vec<String>, String> {
    let module = |(name, text): &(String, String)| {
        let path = name.strip_prefix(source)?.strip_suffix(".rs")?;
        let path = path.split('/').filter(|part| !["lib", "main", "mod"].contains(part));
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let code: Vec<_> = code.lines().filter_map(|line| line.split("//").next()).collect();
        Some((path.map(str::to_owned).collect(), code.join("\n")))
    };
    texts.iter().filter_map(module).collect()
}

/// The paths that stand behind `crate::` and `super::`, of trees in braces each.
fn named_paths(code: &str) -> Vec<String> {
    fn take(tree: &str, before: &str, paths: &mut Vec<String>) -> usize {
        let end = tree.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        let end = end.unwrap_or(tree.len());
        let path = format!("{before}{}", &tree[..end]);
        if !path.ends_with("::") || !tree[end..].starts_with('{') {
            paths.push(path);
            return end;
        }
        let mut at = end + 1;
        while at < tree.len() && !tree[at..].starts_with('}') {
            let skipped = tree[at..].find(|c: char| c.is_alphanumeric() || c == '_' || c == '}');
            at += skipped.unwrap_or(tree.len() - at);
            if !tree[at..].starts_with('}') {
                at += take(&tree[at..], &path, paths).max(1);
            }
        }
        at + 1
    }
    let mut paths = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':')) {
                take(&code[at..], "", &mut paths);
            }
        }
    }
    paths
}

/// Two files of a crate that need each other cannot be read one after the other. A module and the files in its folder may: they are one thing.
#[test]
fn no_files_of_a_crate_need_each_other_in_a_circle() {
    let texts = tracked_texts();
    let mut circles = Vec::new();
    for source in [
        "host/api",
        "host/cli",
        "host/core",
        "host/enclose",
        "host/sandbox",
        "host/server",
        "host/store",
        "host/tenants",
        "bench",
        "xtask",
    ]
    .map(|name| format!("{name}/src/"))
    {
        let modules = modules(&texts, &source);
        let mut uses: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
        for (module, code) in &modules {
            for path in named_paths(code) {
                let parts: Vec<&str> = path.split("::").filter(|part| !part.is_empty()).collect();
                let up = parts.iter().take_while(|part| **part == "super").count();
                let base = if up == 0 { 0 } else { module.len().saturating_sub(up) };
                let named = parts[up.max(1)..].iter().map(|part| (*part).to_owned());
                let whole: Vec<String> = module[..base].iter().cloned().chain(named).collect();
                let Some((target, _)) = (0..=whole.len())
                    .rev()
                    .find_map(|to| modules.get_key_value(&whole[..to]))
                else {
                    continue;
                };
                if !target.starts_with(module) && !module.starts_with(target) {
                    uses.entry(module).or_default().insert(target);
                }
            }
        }
        for module in uses.keys() {
            let (mut seen, mut next) = (BTreeSet::new(), vec![*module]);
            while let Some(at) = next.pop() {
                let used = uses.get(at).into_iter().flatten();
                next.extend(used.filter(|target| seen.insert(**target)));
            }
            if seen.contains(module) {
                circles.push(format!("{source}{}", module.join("/")));
            }
        }
        assert!(
            uses.len() > 2 || modules.len() < 4,
            "{source}: nothing is found of what uses what"
        );
    }
    assert!(
        circles.is_empty(),
        "these stand in circles; put what they share into a file of its own: {circles:#?}"
    );
}
