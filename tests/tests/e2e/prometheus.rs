//! O7: a real Prometheus asks a real host, and every query that we ship is answered. Where it is not installed, that is said and the tests
//! are passed over; `.ci/run` installs it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tollgate_tests::destination::Destination;
use tollgate_tests::json::list;
use tollgate_tests::root;
use tollgate_tests::stage::{Setup, Stage, free_port, wait_until};

/// A Prometheus that asks hosts once a second, with our rules.
pub(crate) struct Prometheus {
    process: Child,
    address: SocketAddr,
}

/// Whether its programs are there.
pub(crate) fn is_installed() -> bool {
    let is_there = |program: &str| {
        let mut asked = Command::new(program);
        asked.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        asked.status().is_ok_and(|status| status.success())
    };
    let all = ["prometheus", "promtool"].into_iter().all(is_there);
    if !all {
        let skipped = "skipped: Prometheus is not installed on this machine (package `prometheus`)\n";
        let _ = std::io::stderr().write_all(skipped.as_bytes());
    }
    all
}

impl Prometheus {
    fn start(stage: &Stage) -> Self {
        Self::of(&[stage], &root().join("ops/alerts.yml"))
    }

    /// Asks all of these hosts, and goes by these rules.
    pub(crate) fn of(stages: &[&Stage], rules: &Path) -> Self {
        let (address, stage) = (free_port(), stages[0]);
        let targets: Vec<_> = stages.iter().map(|stage| format!("'{}'", stage.operator)).collect();
        let configuration = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\nscrape_configs:\n  \
             - job_name: tollgate\n    authorization: {{ credentials_file: '{}' }}\n    static_configs: [{{ targets: [{}] }}]\n",
            rules.display(),
            stage.path("operator.token").display(),
            targets.join(", ")
        );
        stage.write("prometheus.yml", &configuration);
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", stage.path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", stage.path("prometheus").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus starts");
        Self { process, address }
    }

    /// What its API answers; none while it does not.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        // In HTTP/1.0 a long answer comes whole, and its end is the connection's.
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
            .ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
        serde_json::from_slice(&answer[head_end + 4..]).ok()
    }

    /// How many series a query finds.
    pub(crate) fn query(&self, query: &str) -> Result<usize, String> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self
            .get(&format!("/api/v1/query?query={encoded}"))
            .ok_or_else(|| "no answer".to_owned())?;
        match answer["status"].as_str() {
            Some("success") => Ok(list(&answer["data"]["result"]).len()),
            _ => Err(answer["error"].to_string()),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The queries of a Grafana dashboard, for all hosts and tenants.
fn queries_of(dashboard: &Path) -> Vec<String> {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(expr) = fields.get("expr").and_then(Value::as_str) {
                    found.push(expr.to_owned());
                }
                fields.values().for_each(|value| walk(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| walk(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let text = fs::read_to_string(dashboard).expect("the dashboard");
    let mut found = Vec::new();
    walk(&serde_json::from_str(&text).expect("the dashboard is JSON"), &mut found);
    let all = |query: String| {
        query
            .replace("$__rate_interval", "10s")
            .replace("\"$instance\"", "\".*\"")
            .replace("\"$tenant\"", "\".*\"")
    };
    found.into_iter().map(all).collect()
}

/// The query of each alert. One that goes over several lines stands deeper than its key.
fn queries_of_alerts(rules: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(rules).expect("the rules");
    let of_rule = |rule: &str| {
        let (name, rest) = rule.split_once('\n').expect("a name");
        let (_, query) = rest.split_once("expr: ").expect("a query");
        let query = match query.strip_prefix("|\n") {
            Some(lines) => lines
                .lines()
                .take_while(|line| line.starts_with(&" ".repeat(10)))
                .collect(),
            None => query.lines().next().unwrap_or_default().to_owned(),
        };
        (name.to_owned(), query)
    };
    text.split("- alert: ").skip(1).map(of_rule).collect()
}

#[test]
fn o7_alerts_fire_when_they_should_and_end() {
    if !is_installed() {
        return;
    }
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let ran = Command::new("promtool")
            .args(arguments)
            .current_dir(root().join("ops"))
            .output();
        let ran = ran.expect("promtool starts");
        let said = [ran.stdout, ran.stderr].concat();
        assert!(
            ran.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&said)
        );
    }
    let tested = fs::read_to_string(root().join("ops/alerts.test.yml")).expect("the tests of the rules");
    let alerts = fs::read_to_string(root().join("ops/alerts.yml")).expect("the rules");
    for name in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(
            tested.contains(&format!("alertname=\"{name}\"")),
            "{name} is never seen firing"
        );
    }
}

#[test]
fn o7_a_real_prometheus_answers_every_query_of_dashboard_and_alerts() {
    if !is_installed() {
        return;
    }
    let destination = Destination::start();
    let stage = Setup::to_books(&destination).start();
    let prometheus = Prometheus::start(&stage);
    wait_until("Prometheus has asked the host", || {
        (prometheus.query("up == 1") == Ok(1)).then_some(())
    });
    assert_eq!(stage.redeem(1).status, 202);
    stage.quiet();
    let queries = queries_of(&root().join("ops/dashboard.json"));
    assert!(queries.len() > 25, "{}", queries.len());
    wait_until("a rate over what happened is known", || {
        let rate = "sum(rate(tollgate_delivery_attempts_total{result=\"delivered\"}[10s])) > 0";
        (prometheus.query(rate) == Ok(1)).then_some(())
    });
    let unanswered: Vec<_> = queries
        .iter()
        .map(|query| (query, prometheus.query(query)))
        .filter(|(_, answer)| !answer.as_ref().is_ok_and(|series| *series > 0))
        .collect();
    assert!(unanswered.is_empty(), "{unanswered:#?}");
    // Of an alert no answer may well be the right one.
    let alerts = queries_of_alerts(&root().join("ops/alerts.yml"));
    assert!(alerts.len() > 15, "{alerts:?}");
    for (name, query) in alerts {
        assert!(
            prometheus.query(&query).is_ok(),
            "{name}: {query}: {:?}",
            prometheus.query(&query)
        );
    }
    // Nothing of a host that is well gets anybody up.
    for page in ["up == 0", "tollgate_ready == 0", "tollgate_store_up == 0"] {
        assert_eq!(prometheus.query(page), Ok(0), "{page}");
    }
}
