//! `tollgate demo`: a real host, two tenants, a real HTTP destination, the four shipped plugins, and real signed events; a crash
//! in the middle; and then, for each event, what became of it, held against what was promised.
//!
//! `scene` sets the stage, `destination` receives, `story` is what is sent and promised. Here they are played.

mod destination;
mod scene;
mod story;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tollgate_core::mask;
use tollgate_store::audit::AuditReport;
use tollgate_store::{Counts, Trace, TraceBy, TraceQuery, Views};

use super::show::{BAD, BOLD, DIM, GOOD};
use super::wire::Http;
use super::{Exit, print_json, show};
use scene::Scene;
use story::{Check, Sent, Step};
use tollgate_server::store::LocalStore;

/// How long the last action may take to be delivered.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// What a terminal has at the least.
const COLUMNS: usize = 80;

/// How often what is new is looked for while the host stays up.
const WATCH: Duration = Duration::from_millis(250);

#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 all of it came out as promised, 1 something did not, 3 the demo could not be played."
)]
pub(super) struct Args {
    /// Play the story and stop; exit status 0 only if all of it came out as promised
    #[arg(long)]
    once: bool,
    /// Print the story as JSON when it is over (implies --once)
    #[arg(long)]
    json: bool,
    /// Where other builds of cashback.wasm, inventory.wasm, fraud.wasm and gift-card.wasm are, instead of the program's own
    #[arg(long, value_name = "FOLDER")]
    plugins: Option<PathBuf>,
}

/// The story as data.
#[derive(Serialize)]
struct Report {
    ok: bool,
    steps: Vec<Sent>,
    restart_ms: u64,
    unfinished_at_crash: u64,
    counts: Counts,
    traces: Vec<Trace>,
    destination: Vec<destination::Effect>,
    checks: Vec<Check>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(play(args))
}

async fn play(args: &Args) -> anyhow::Result<Exit> {
    let loud = !args.json;
    let mut scene = Scene::set(args.plugins.as_deref()).await?;
    let took = scene.start_host().await?;
    if loud {
        anstream::println!(
            "{BOLD}Tollgate{BOLD:#} is up on {} after {took:.0?}: two tenants, four plugins\n",
            scene.edge
        );
    }

    let http = Http::new();
    let mut sent = Vec::new();
    let (before, after) = story::steps();
    for step in &before {
        sent.push(send(&scene, &http, step, loud).await?);
    }
    let unfinished_at_crash = scene.kill_host()?;
    let restart = scene.start_host().await?;
    if loud {
        anstream::println!(
            "\n   {BAD}✗ kill -9{BAD:#}  the host died with {unfinished_at_crash} jobs and deliveries unfinished\n   \
             {GOOD}✓ restart{GOOD:#}  the same store, taking events again after {restart:.0?}\n"
        );
    }
    for step in &after {
        sent.push(send(&scene, &http, step, loud).await?);
    }

    let store = LocalStore::open_read_only(scene.store())?;
    let settled = settle(&store).await?;
    let traces = store
        .trace(TraceQuery {
            by: TraceBy::Newest,
            tenant: None,
            after: None,
            receipts_max: 100,
        })
        .await?;
    let traces: Vec<Trace> = traces.into_iter().rev().collect();
    let audit = store.audited()?;
    let counts = store.counts().await?;
    let effects = scene.destination.effects();
    let checks = judge(&sent, &traces, &counts, &effects, &audit, settled, restart);
    let report = Report {
        ok: checks.iter().all(|check| check.ok),
        steps: sent,
        restart_ms: u64::try_from(restart.as_millis()).unwrap_or(u64::MAX),
        unfinished_at_crash,
        counts,
        traces,
        destination: effects,
        checks,
    };
    if args.json {
        print_json(&report)?;
    } else {
        tell(&report);
    }
    let exit = if report.ok { Exit::Yes } else { Exit::No };
    if !args.once && !args.json {
        linger(&scene, &store, &report).await?;
    }
    scene.stop_host().await?;
    Ok(exit)
}

/// Signs a step as its provider would, sends it, and holds the answer against what is expected.
async fn send(scene: &Scene, http: &Http, step: &Step, loud: bool) -> anyhow::Result<Sent> {
    let request = scene.sign(step)?;
    let (http_status, text) = http
        .post(&request.url, &request.headers, Bytes::from(request.body))
        .await?;
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let field = |name: &str| {
        answer
            .get(name)
            .and_then(|value| value.as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let sent = Sent {
        step: step.name,
        source: format!("{}/{}", step.tenant, step.source),
        what: step.what,
        http_status,
        status: field("status"),
        receipt: answer
            .get("receipt")
            .and_then(|receipt| receipt.as_str())
            .map(str::to_owned),
        expected: step.expect,
    };
    if loud {
        let style = if sent.as_expected() { GOOD } else { BAD };
        anstream::println!(
            "   {style}{http_status} {:11}{style:#} {DIM}{:14}{DIM:#} {}",
            sent.status,
            sent.source,
            sent.what
        );
    }
    Ok(sent)
}

/// Waits until nothing is left to do. False when that took too long.
async fn settle(store: &impl Views) -> anyhow::Result<bool> {
    let start = Instant::now();
    while start.elapsed() < SETTLE_MAX {
        let counts = store.counts().await?;
        if counts.jobs_waiting == 0 && counts.outbox_waiting == 0 {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(false)
}

fn judge(
    sent: &[Sent],
    traces: &[Trace],
    counts: &Counts,
    effects: &[destination::Effect],
    audit: &AuditReport,
    settled: bool,
    restart: Duration,
) -> Vec<Check> {
    let mut checks = story::judge(sent, traces, counts, effects);
    checks.push(Check::new(
        "after the crash and the restart every job and delivery was finished",
        settled,
        "",
    ));
    // Whoever reads sees how long it took. What is promised is what a busy machine and a debug build keep as well.
    checks.push(Check::new(
        "the host was back within ten seconds",
        restart < Duration::from_secs(10),
        &format!("{restart:.0?}"),
    ));
    let chain = format!("{} receipts{}", audit.whole.receipts, audit.in_words().join("; "));
    checks.push(Check::new(
        "the store is whole and its receipts' hash chain holds",
        audit.is_whole(),
        &chain,
    ));
    checks
}

fn tell(report: &Report) {
    anstream::println!("\n{BOLD}What became of each event{BOLD:#}\n");
    report.traces.iter().for_each(show::trace);
    anstream::println!("{BOLD}What arrived at the destination{BOLD:#}, each signature verified\n");
    anstream::println!(
        "  {DIM}{:16} {:14} {:7} operation key{DIM:#}",
        "kind",
        "answered",
        "applied"
    );
    report.destination.iter().for_each(arrived);
    anstream::println!("\n{BOLD}What was promised{BOLD:#}\n");
    for check in &report.checks {
        let (style, mark) = if check.ok { (GOOD, "✓") } else { (BAD, "✗") };
        let beside = check.promise.chars().count() + check.detail.chars().count() <= COLUMNS - 6;
        let detail = match check.detail.as_str() {
            "" => String::new(),
            detail if beside => format!("  {DIM}{detail}{DIM:#}"),
            detail => format!("\n    {DIM}{detail}{DIM:#}"),
        };
        anstream::println!("  {style}{mark}{style:#} {}{detail}", check.promise);
    }
    if report.ok {
        anstream::println!("\n{GOOD}All of it came out as promised.{GOOD:#}");
    } else {
        anstream::println!("\n{BAD}Not all of it came out as promised.{BAD:#}");
    }
}

/// One line of the destination's books.
fn arrived(effect: &destination::Effect) {
    let answers: Vec<_> = effect.answers.iter().map(u16::to_string).collect();
    let applied = if effect.applied == 1 { "once" } else { "never" };
    anstream::println!(
        "  {:16} {:14} {applied:7} {}",
        effect.kind,
        answers.join(", then "),
        effect.operation_key
    );
}

/// Stays up for the person to play with, and shows what comes in and what goes out.
async fn linger(scene: &Scene, store: &impl Views, report: &Report) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let program = program.display();
    let config = scene.config().display().to_string();
    let receipt = report
        .traces
        .first()
        .map(|trace| trace.receipt.id.to_string())
        .unwrap_or_default();
    anstream::println!(
        "\nThe host stays up until Ctrl-C. In another terminal:\n\n  \
         {DIM}# the newest receipts, and everything about one{DIM:#}\n  \
         {program} trace --config {config}\n  \
         {program} trace --config {config} {receipt}\n  \
         {DIM}# send an event of your own, twice: its credit arrives once{DIM:#}\n  \
         {program} send --url http://{}/in/acme/rewards --secret-file {} \\\n      --sample voucherify-rewarded --set /event/id=evt_mine \\\n      --set /data/redemption/id=r_mine --times 2\n  \
         {DIM}# run a receipt's plugins again: nothing happens twice{DIM:#}\n  \
         {program} replay --config {config} {receipt}\n  \
         {DIM}# what was given up (nothing, if all went well){DIM:#}\n  \
         {program} dlq list --config {config}\n",
        scene.edge,
        scene.secret_file("acme").display(),
    );
    let watch = async {
        let mut seen = Seen {
            newest: report.traces.iter().map(|trace| trace.receipt.seq).max().unwrap_or(0),
            effects: report.destination.clone(),
        };
        loop {
            tokio::time::sleep(WATCH).await;
            seen.tell_new(store, &scene.destination).await?;
        }
    };
    let mut terminated = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    tokio::select! {
        ended = tokio::signal::ctrl_c() => ended.context("cannot wait for Ctrl-C"),
        _ = terminated.recv() => Ok(()),
        failed = watch => failed,
    }
}

/// What the person was shown already.
struct Seen {
    /// The last receipt's place in the order of admission.
    newest: i64,
    effects: Vec<destination::Effect>,
}

impl Seen {
    async fn tell_new(&mut self, store: &impl Views, destination: &destination::Destination) -> anyhow::Result<()> {
        let query = TraceQuery {
            by: TraceBy::Newest,
            tenant: None,
            after: None,
            receipts_max: 100,
        };
        let traces = store.trace(query).await?;
        for trace in traces.iter().rev().filter(|trace| trace.receipt.seq > self.newest) {
            let receipt = &trace.receipt;
            anstream::println!(
                "  {GOOD}in {GOOD:#} {}  {DIM}{}/{}  {}{DIM:#}",
                mask::shown(&receipt.event_type),
                receipt.tenant,
                receipt.source,
                receipt.id
            );
        }
        self.newest = traces.iter().map(|trace| trace.receipt.seq).fold(self.newest, i64::max);
        let effects = destination.effects();
        for effect in effects.iter().filter(|effect| !self.effects.contains(effect)) {
            let last = effect.answers.last().copied().unwrap_or_default();
            anstream::println!(
                "  {GOOD}out{GOOD:#} {}  {DIM}answered {last}  {}{DIM:#}",
                effect.kind,
                mask::shown(&effect.operation_key)
            );
        }
        self.effects = effects;
        Ok(())
    }
}
