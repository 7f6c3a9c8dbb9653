//! What a run costs by itself: the sandbox alone, and with the store around it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tollgate_core::action::ActionKind;
use tollgate_core::admission::{Admission, Identity, JobSpec, OnHeld, OnReplay, lane, receipt_id};
use tollgate_core::commitment::body_commitment;
use tollgate_core::envelope;
use tollgate_core::grant::{Grant, judge};
use tollgate_core::ids::{Digest, EventId, KeyId, PluginName, RouteName, SourceName, TenantName};
use tollgate_core::lifecycle;
use tollgate_core::outcome::{JobEnd, Outcome};
use tollgate_core::profile::{Profile, shipped};
use tollgate_core::request::{Header, RawRequest};
use tollgate_core::secret::{Parameters, Secret, SourceSecret};
use tollgate_core::sign::{SignInput, sign};
use tollgate_core::state::StateValue;
use tollgate_core::time::UnixMillis;
use tollgate_core::verify::{Keyring, verify};
use tollgate_sandbox::{Plugin, RUNTIME, Run, RunInput, RunLimits, Sandbox, SandboxOptions, StateSource};
use tollgate_store::sqlite::{OpenOptions, SqliteStore};
use tollgate_store::{
    BlockingReads as _, ClaimRequest, Intake as _, JobClaim, ReceiptKey as _, RunRecord, Settled, Settlement,
    Store as _, Targets, Work as _,
};

use super::load::{SECRET, body};
use super::system::{empty_folder, stat};

/// Cashback on the points that a pending redemption spends.
pub(super) const CONFIG: &str = r#"{"currency":"USD","points":{"from":"/data/voucher/redemption/redeemed_points","value_minor_units":2},"rate_bps":10000,"statuses":["pending"]}"#;
/// Settlements that share a commit, as they do in a busy host.
const TOGETHER: usize = 32;

pub(super) struct Cost {
    pub(super) run_us: f64,
    pub(super) settled_us: f64,
}

/// Processor time of this whole process per run.
pub(super) fn measure(runs: u32) -> anyhow::Result<Cost> {
    let sandbox = Sandbox::new(SandboxOptions::default())?;
    let plugin = sandbox.load(&std::fs::read(tollgate_tests::plugins_dir().join("cashback.wasm"))?)?;
    Ok(Cost {
        run_us: alone(&plugin, runs)?,
        settled_us: settled(&plugin, runs)?,
    })
}

struct Empty;
impl StateSource for Empty {
    fn read(&self, _: &str) -> Result<StateValue, String> {
        Ok(StateValue {
            version: 0,
            value: None,
        })
    }
}

fn alone(plugin: &Plugin, runs: u32) -> anyhow::Result<f64> {
    let claim = admission(&Secret::new([0; 32]), 0)?;
    let start = cpu_time()?;
    for _ in 0..runs {
        let run = run(plugin, &claim.event, &Empty);
        anyhow::ensure!(matches!(run.outcome, Outcome::Completed { .. }), "{:?}", run.outcome);
    }
    Ok((cpu_time()? - start).as_secs_f64() * 1e6 / f64::from(runs))
}

fn run(plugin: &Plugin, event: &tollgate_core::event::Event, state: &dyn StateSource) -> Run {
    plugin.run(
        &RunInput {
            event,
            config_json: CONFIG,
        },
        state,
        &RunLimits::default(),
    )
}

/// Claims, runs, judges and settles against a real store; admissions are made beforehand and not counted.
fn settled(plugin: &Plugin, runs: u32) -> anyhow::Result<f64> {
    let folder = empty_folder()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = SqliteStore::open(folder.path().join("bench.db"), OpenOptions::default())?;
        for first in (0..runs).step_by(TOGETHER) {
            let mut together = tokio::task::JoinSet::new();
            for number in first..(first + TOGETHER as u32).min(runs) {
                let (store, admission) = (store.clone(), admission(store.receipt_key(), number)?);
                together.spawn(async move { store.admit(vec![admission]).await });
            }
            while let Some(admitted) = together.join_next().await {
                let _ = admitted??;
            }
        }
        let start = cpu_time()?;
        let mut done = 0;
        while done < runs {
            let request = ClaimRequest {
                worker: "bench".into(),
                now: UnixMillis(10),
                lease_ms: 60_000,
                rows_max: TOGETHER,
                passed_over: Vec::new(),
            };
            let claims = store.claim_jobs(request).await?;
            anyhow::ensure!(!claims.is_empty(), "{done} of {runs} runs settled, and no job is left");
            let mut together = tokio::task::JoinSet::new();
            for claim in claims {
                let (store, settlement) = (store.clone(), settlement(plugin, &claim, &store)?);
                together.spawn(async move { store.settle(settlement).await });
            }
            while let Some(settled) = together.join_next().await {
                anyhow::ensure!(
                    matches!(settled??, Settled::Committed { .. }),
                    "a settlement was not committed"
                );
                done += 1;
            }
        }
        let spent = cpu_time()? - start;
        store.close().await;
        Ok(spent.as_secs_f64() * 1e6 / f64::from(runs))
    })
}

struct StoreState<'a> {
    store: &'a SqliteStore,
    tenant: &'a TenantName,
    plugin: PluginName,
}
impl StateSource for StoreState<'_> {
    fn read(&self, key: &str) -> Result<StateValue, String> {
        self.store
            .blocking()
            .read_state(self.tenant, &self.plugin, key)
            .map_err(|error| error.to_string())
    }
}

fn settlement(plugin: &Plugin, claim: &JobClaim, store: &SqliteStore) -> anyhow::Result<Settlement> {
    let name = PluginName::new("cashback")?;
    let run = run(
        plugin,
        &claim.event,
        &StoreState {
            store,
            tenant: &claim.event.tenant,
            plugin: name.clone(),
        },
    );
    let Outcome::Completed { proposals } = run.outcome else {
        anyhow::bail!("{:?}", run.outcome)
    };
    let grant = Grant {
        amount_max: Some(100_000),
        currencies: tollgate_core::money::Currency::new("USD").into_iter().collect(),
        ..Grant::of(ActionKind::Credit)
    };
    Ok(Settlement {
        job: claim.job,
        epoch: claim.epoch,
        run: RunRecord {
            plugin: name,
            digest: plugin.digest(),
            config_digest: Digest::of(CONFIG.as_bytes()),
            config: CONFIG.to_owned(),
            runtime: RUNTIME.to_owned(),
            started_at: UnixMillis(10),
            duration_us: u64::try_from(run.duration.as_micros())?,
            fuel: run.fuel,
            outcome: "completed".to_owned(),
            message: String::new(),
            reads: run.reads,
            logs: run.logs,
        },
        end: JobEnd::Done,
        writes: run.writes,
        state_total_max: None,
        budgets: Vec::new(),
        actions: judge(proposals, &[grant])?,
        namespace: "cashback".parse().expect("a name"),
        targets: Targets::default(),
    })
}

/// A verified event with ids of its own, and a customer of its own, as the edge would admit it.
fn admission(key: &Secret, number: u32) -> anyhow::Result<Admission> {
    let (_, profile) = shipped()
        .iter()
        .find(|(name, _)| name.as_str() == "voucherify")
        .context("no voucherify profile")?;
    let profile: &Arc<Profile> = profile;
    let body = body(number.into())?;
    let secrets = [SourceSecret {
        id: KeyId::new("bench")?,
        text: Secret::new(SECRET),
        not_before: None,
        not_after: None,
    }];
    let input = SignInput {
        body: &body,
        id: "bench",
        at: UnixMillis(0),
        url: None,
    };
    let signed = sign(profile, &secrets, &Parameters::new(), &input)?;
    let headers: Vec<Header<'_>> = signed
        .headers
        .iter()
        .map(|(name, value)| Header {
            name,
            value: value.as_bytes(),
        })
        .collect();
    let request = RawRequest {
        method: "POST",
        path: None,
        query: None,
        headers: &headers,
        body: &body,
        url: None,
        received_at: UnixMillis(0),
    };
    let (tenant, source) = (TenantName::new("bench")?, SourceName::new("rewards")?);
    let verified = verify(profile, &Keyring::new(profile, &secrets)?, request)?;
    let mut events = envelope::read(profile, &verified, &tenant, &source)?;
    let event = events.pop().context("an event")?;
    let route = RouteName::new("cashback")?;
    let receipt = receipt_id(key, &tenant, &source, &EventId::new(event.id.as_str())?);
    Ok(Admission {
        filtered: Vec::new(),
        hold: None,
        receipt,
        identity: Identity::EventId,
        proof: verified.proof().clone(),
        body_commitment: body_commitment(key, &tenant, &event.payload),
        lifecycle: event
            .reading
            .family()
            .and_then(|family| lifecycle::shipped().get(family).cloned()),
        due_at: event.received_at,
        jobs: vec![JobSpec {
            lane: lane(&tenant, &route, Some(&event.source), event.subject.as_ref(), receipt),
            route,
            late: tollgate_core::route::Late::default(),
        }],
        on_held: OnHeld::Review,
        scope: tollgate_core::subject::Scope::default(),
        on_replay: OnReplay::Hold,
        event: event.into(),
    })
}

/// Processor time of all threads of this process.
fn cpu_time() -> anyhow::Result<Duration> {
    Ok(stat("self")?.own)
}
