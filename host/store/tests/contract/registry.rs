//! The registry's contract: what every backend keeps of versions, bindings, routes and keys. Written against [`Store`] alone.

use std::sync::Arc;

use serde_json::json;
use tollgate_core::access::Role;
use tollgate_core::ids::{Digest, PluginDigest, RunId, TokenId};
use tollgate_core::registry::{
    Binding, Canary, Change, PromotionGate, Refused, ShadowTally, Share, Standing, Step, TrialResult, Unmet,
};
use tollgate_core::signature::PrivateKey;
use tollgate_store::registry::{
    Act, Answered, BindingChange, ChangeRequest, ConfiguredRoute, HistoryFilter, KeyRegistered, NewPublisherKey,
    NewVersion, PluginVersion, RevokePublisherKey, RouteNamespace, RunResult, SetRoute, ShadowFilter, ShadowRecord,
    StepRequest, TrialRecord, VersionFilter, VersionKey,
};
use tollgate_store::{
    Changes as _, Control as _, NewToken, Quarantine, Revocation, Store, StoreError, Topic, Views as _, Work as _,
};

use crate::sqlite::Sqlite;
use crate::support::{Backend, T0, name};

/// Makes the list of the suite's tests for a backend.
macro_rules! registry_contract {
    ($backend:expr) => {
        registry_contract!(
            $backend,
            a_version_is_taken_in_published_and_retired_once,
            a_name_and_version_mean_one_digest,
            a_dry_run_writes_nothing,
            an_owner_keeps_a_bounded_number_of_versions,
            a_binding_goes_forward_and_back_with_its_history,
            a_route_takes_only_published_versions_of_its_plugin_that_its_tenant_may_see,
            what_runs_is_not_retired_and_what_is_retired_does_not_come_back,
            a_route_follows_the_file_until_somebody_binds_it,
            a_route_is_set_and_removed_with_its_binding,
            a_route_that_moves_to_another_namespace_is_said_and_kept_in_the_history,
            only_a_registered_key_counts_and_not_once_it_is_revoked,
            a_gate_asks_for_trials_and_shadow_runs_against_the_active_version,
            many_who_promote_at_once_leave_one_whole_history,
            the_registry_survives_reopening,
            what_hosts_keep_in_memory_is_told_to_have_changed_before_the_change_is_answered,
        );
    };
    ($backend:expr, $($test:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                contract::$test(&$backend).await;
            }
        )*
    };
}

registry_contract!(Sqlite::new());

mod on_postgres {
    use super::contract;

    registry_contract!(match crate::postgres::Postgres::if_there() {
        Some(postgres) => postgres,
        None => return,
    });
}

fn act(why: &str) -> Act {
    Act {
        actor: "tester".into(),
        why: Some(why.into()),
        at: T0,
        dry_run: false,
    }
}

fn dry() -> Act {
    Act {
        dry_run: true,
        ..act("dry")
    }
}

fn digest(bytes: &str) -> PluginDigest {
    PluginDigest::of(bytes.as_bytes())
}

fn version(owner: &str, bytes: &str, label: &str) -> NewVersion {
    NewVersion {
        owner: (!owner.is_empty()).then(|| name(owner)),
        digest: digest(bytes),
        bytes: Arc::from(bytes.as_bytes()),
        name: name("cashback"),
        version: label.into(),
        publisher: "Acme".into(),
        manifest_json: r#"{"name":"cashback"}"#.into(),
        report_json: "{}".into(),
        signature: None,
        published: false,
    }
}

async fn add(store: &impl Store, version: NewVersion) -> PluginVersion {
    store.add_version(version, act("new")).await.unwrap().unwrap()
}

fn step_request(owner: &str, bytes: &str, step: Step) -> StepRequest {
    StepRequest {
        version: VersionKey {
            owner: (!owner.is_empty()).then(|| name(owner)),
            digest: digest(bytes),
        },
        step,
        act: act("because"),
    }
}

async fn step(store: &impl Store, owner: &str, bytes: &str, step: Step) -> Result<Standing, Refused> {
    let answer = store.step_version(step_request(owner, bytes, step)).await.unwrap();
    answer.map(|version| version.standing)
}

/// Takes in and publishes.
async fn publish(store: &impl Store, owner: &str, bytes: &str, label: &str) {
    add(store, version(owner, bytes, label)).await;
    step(store, owner, bytes, Step::Publish).await.unwrap();
}

fn change_request(tenant: &str, change: Change) -> ChangeRequest {
    ChangeRequest {
        tenant: name(tenant),
        route: name("main"),
        change,
        gate: PromotionGate::default(),
        act: act("because"),
    }
}

async fn change(store: &impl Store, change: Change) -> Answered<BindingChange> {
    store.change_binding(change_request("acme", change)).await
}

fn canary(bytes: &str, thousandths: u16) -> Change {
    Change::Canary(Canary {
        digest: digest(bytes),
        share: Share::per_mille(thousandths).unwrap(),
    })
}

fn configured(tenant: &str, bytes: &str) -> ConfiguredRoute {
    ConfiguredRoute {
        tenant: name(tenant),
        route: name("main"),
        plugin: name("cashback"),
        digest: digest(bytes),
    }
}

/// A store where the route `main` of `acme` runs `one`, which is the operator's, and where `two` is published.
async fn bound(backend: &impl Backend) -> impl Store {
    let store = backend.open();
    publish(&store, "", "one", "1.0.0").await;
    publish(&store, "", "two", "2.0.0").await;
    let left = store
        .follow_configuration(vec![configured("acme", "one")], act("start"))
        .await
        .unwrap();
    assert!(left.is_empty());
    store
}

/// Brings a row into every table that is about plugins and those who change them.
pub(crate) async fn fill(store: &impl Store) {
    publish(store, "", "one", "1.0.0").await;
    publish(store, "acme", "two", "2.0.0").await;
    let route = configured("acme", "one");
    let left = store.follow_configuration(vec![route], act("start")).await.unwrap();
    assert!(left.is_empty());
    let _ = change(store, canary("two", 7)).await.unwrap().unwrap();
    let set = SetRoute {
        tenant: name("acme"),
        route: name("side"),
        definition: json!({"plugin": "cashback"}),
        plugin: Some(name("cashback")),
        namespace: name("cashback"),
        digest: Some(digest("two")),
        gate: PromotionGate::default(),
        act: act("because"),
    };
    let _ = store.set_route(set).await.unwrap().unwrap();
    let named = RouteNamespace {
        tenant: name("acme"),
        route: name("main"),
        namespace: name("cashback"),
    };
    store.follow_namespaces(vec![named], act("start")).await.unwrap();
    let key = PrivateKey::from_seed(&[7; 32]);
    let registered = store.register_publisher_key(NewPublisherKey {
        tenant: name("acme"),
        publisher: name("globex-labs"),
        key_id: name("2026"),
        public_key: key.public(),
        act: act("ours"),
    });
    assert!(matches!(registered.await.unwrap(), KeyRegistered::New));
    let trial = TrialRecord {
        tenant: name("acme"),
        route: name("main"),
        active: digest("one"),
        candidate: digest("two"),
        result: TrialResult {
            runs: 10,
            differences: 3,
            unreadable: 0,
        },
        actor: "tester".into(),
        at: T0,
    };
    store.record_trial(trial).await.unwrap();
    let result = |outcome: &str| RunResult {
        outcome: outcome.into(),
        actions_json: "[]".into(),
        fuel: 1,
    };
    let shadow = ShadowRecord {
        run: RunId(1),
        tenant: name("acme"),
        route: name("main"),
        active: digest("one"),
        shadow: digest("two"),
        started_at: T0,
        duration_us: 5,
        message: "a text with a NUL: \0".into(),
        active_result: result("completed"),
        shadow_result: result("trap"),
        beyond_record: true,
    };
    store.record_shadow_run(shadow).await.unwrap();
    let token = NewToken {
        digest: Digest([1; 32]),
        name: "night".into(),
        role: Role::Viewer,
        tenant: Some(name("acme")),
        created_by: "me".into(),
        why: String::new(),
        now: T0,
        expires_at: None,
        look: tollgate_core::portal::Appearance::default(),
    };
    store.issue_token(token).await.unwrap();
    let quarantine = Quarantine {
        tenant: name("acme"),
        route: name("main"),
        plugin: name("cashback"),
        digest: digest("two"),
        at: T0,
        faults: 3,
        reason: "trap: it fell".into(),
    };
    store.quarantine(quarantine).await.unwrap();
}

async fn binding(store: &impl Store) -> Binding {
    let found = store.bindings(Some(name("acme"))).await.unwrap();
    found.into_iter().next().expect("a binding").binding
}

async fn history(store: &impl Store) -> Vec<String> {
    let lines = store
        .registry_history(HistoryFilter {
            rows_max: 100,
            ..HistoryFilter::default()
        })
        .await
        .unwrap();
    lines.into_iter().rev().map(|line| line.what).collect()
}

mod contract {
    use super::*;

    pub(super) async fn a_version_is_taken_in_published_and_retired_once(backend: &impl Backend) {
        let store = backend.open();
        let added = add(&store, version("acme", "one", "1.0.0")).await;
        assert_eq!((added.standing, added.component_bytes), (Standing::Vetted, 3));
        // The same again is the same, whoever sends it.
        add(&store, version("acme", "one", "1.0.0")).await;
        assert_eq!(store.component(digest("one")).await.unwrap(), b"one");
        assert!(matches!(
            store.component(digest("none")).await,
            Err(StoreError::NotFound { .. })
        ));
        assert_eq!(
            step(&store, "acme", "one", Step::Publish).await,
            Ok(Standing::Published)
        );
        assert_eq!(
            step(&store, "acme", "one", Step::Publish).await,
            Err(Refused::AlreadyPublished)
        );
        assert_eq!(step(&store, "acme", "one", Step::Retire).await, Ok(Standing::Retired));
        assert_eq!(
            step(&store, "acme", "one", Step::Retire).await,
            Err(Refused::AlreadyRetired)
        );
        assert_eq!(step(&store, "acme", "one", Step::Publish).await, Err(Refused::Retired));
        assert!(matches!(
            store.step_version(step_request("globex", "one", Step::Publish)).await,
            Err(StoreError::NotFound { .. })
        ));
        assert_eq!(history(&store).await, ["added", "published", "retired"]);
        // Others see the operator's versions and not this one.
        add(&store, version("", "shared", "1.0.0")).await;
        let seen = |tenant: &'static str| {
            let filter = VersionFilter {
                tenant: Some(name(tenant)),
                ..VersionFilter::default()
            };
            store.plugin_versions(filter)
        };
        assert_eq!(seen("acme").await.unwrap().len(), 2);
        assert_eq!(seen("globex").await.unwrap().len(), 1);
    }

    pub(super) async fn a_name_and_version_mean_one_digest(backend: &impl Backend) {
        let store = backend.open();
        publish(&store, "acme", "one", "1.0.0").await;
        add(&store, version("acme", "other", "1.0.0")).await;
        let taken = step(&store, "acme", "other", Step::Publish).await.unwrap_err();
        assert!(
            matches!(&taken, Refused::VersionTaken { digest: found, .. } if *found == digest("one")),
            "{taken}"
        );
        // Not even when the first is gone; but under another owner it is another name.
        step(&store, "acme", "one", Step::Retire).await.unwrap();
        assert!(step(&store, "acme", "other", Step::Publish).await.is_err());
        publish(&store, "globex", "other", "1.0.0").await;
    }

    pub(super) async fn a_dry_run_writes_nothing(backend: &impl Backend) {
        let store = bound(backend).await;
        add(&store, version("acme", "three", "3.0.0")).await;
        let (lines, before) = (history(&store).await, binding(&store).await);
        let dry_add = store
            .add_version(version("acme", "four", "4"), dry())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(dry_add.standing, Standing::Vetted);
        let dry_step = StepRequest {
            act: dry(),
            ..step_request("acme", "three", Step::Publish)
        };
        assert_eq!(
            store.step_version(dry_step).await.unwrap().unwrap().standing,
            Standing::Published
        );
        let dry_change = ChangeRequest {
            act: dry(),
            ..change_request("acme", Change::Promote(digest("two")))
        };
        let report = store.change_binding(dry_change).await.unwrap().unwrap();
        assert_eq!(report.after.unwrap().active, digest("two"));
        let dry_route = SetRoute {
            tenant: name("acme"),
            route: name("main"),
            definition: json!({"plugin": "cashback"}),
            plugin: Some(name("cashback")),
            namespace: name("cashback"),
            digest: None,
            gate: PromotionGate::default(),
            act: dry(),
        };
        let _ = store.set_route(dry_route).await.unwrap().unwrap();
        assert_eq!(store.api_routes().await.unwrap(), []);
        assert_eq!((history(&store).await, binding(&store).await), (lines, before));
        assert!(matches!(
            store.component(digest("four")).await,
            Err(StoreError::NotFound { .. })
        ));
    }

    pub(super) async fn an_owner_keeps_a_bounded_number_of_versions(backend: &impl Backend) {
        let store = backend.open();
        let most = tollgate_core::limits::PLUGIN_VERSIONS_VETTED_MAX;
        for number in 0..most {
            add(&store, version("acme", &number.to_string(), &number.to_string())).await;
        }
        let over = store
            .add_version(version("acme", "over", "over"), act("new"))
            .await
            .unwrap();
        assert_eq!(over.unwrap_err(), Refused::TooMany { count_max: most });
        // Another owner is not in the way, and publishing makes room.
        add(&store, version("globex", "over", "over")).await;
        step(&store, "acme", "0", Step::Publish).await.unwrap();
        add(&store, version("acme", "over", "over")).await;
    }

    pub(super) async fn a_binding_goes_forward_and_back_with_its_history(backend: &impl Backend) {
        let store = bound(backend).await;
        let _ = change(&store, Change::Shadow(digest("two"))).await.unwrap().unwrap();
        let _ = change(&store, canary("two", 50)).await.unwrap().unwrap();
        assert_eq!(binding(&store).await.canary.unwrap().share.as_per_mille(), 50);
        let done = change(&store, Change::Promote(digest("two"))).await.unwrap().unwrap();
        assert_eq!(done.before.unwrap().active, digest("one"));
        let now = binding(&store).await;
        assert_eq!(
            (now.active, now.canary, now.shadow, &now.previous[..], now.by_hand),
            (digest("two"), None, None, &[digest("one")][..], true)
        );
        let _ = change(&store, Change::Rollback).await.unwrap().unwrap();
        assert_eq!(binding(&store).await.active, digest("one"));
        assert_eq!(
            change(&store, Change::Rollback).await.unwrap().unwrap_err(),
            Refused::NothingBefore
        );
        let lines = store
            .registry_history(HistoryFilter {
                tenant: Some(name("acme")),
                route: Some(name("main")),
                rows_max: 100,
                ..HistoryFilter::default()
            })
            .await
            .unwrap();
        let whats: Vec<_> = lines.iter().rev().map(|line| line.what.as_str()).collect();
        assert_eq!(
            whats,
            ["follows the file", "shadow", "canary", "promoted", "rolled back"]
        );
        let promoted = &lines[1];
        assert_eq!(
            (promoted.actor.as_str(), promoted.why.as_deref()),
            ("tester", Some("because"))
        );
        assert_eq!(promoted.digest, Some(digest("two")));
        assert!(promoted.from.as_ref().unwrap().contains("canary"), "{promoted:?}");
        assert!(
            promoted.to.as_ref().unwrap().contains(&digest("two").to_string()),
            "{promoted:?}"
        );
        // Another tenant sees none of it.
        let others = HistoryFilter {
            tenant: Some(name("globex")),
            rows_max: 100,
            ..HistoryFilter::default()
        };
        let seen = store.registry_history(others).await.unwrap();
        assert!(
            seen.iter().all(|line| line.tenant.is_none() && line.route.is_none()),
            "{seen:?}"
        );
    }

    pub(super) async fn a_route_takes_only_published_versions_of_its_plugin_that_its_tenant_may_see(
        backend: &impl Backend,
    ) {
        let store = bound(backend).await;
        add(&store, version("acme", "vetted", "3")).await;
        publish(&store, "globex", "foreign", "4").await;
        let other = NewVersion {
            name: name("other"),
            published: true,
            ..version("", "other", "5")
        };
        add(&store, other).await;
        let before = binding(&store).await;
        let refused = async |bytes| {
            change(&store, Change::Promote(digest(bytes)))
                .await
                .unwrap()
                .unwrap_err()
        };
        assert_eq!(refused("vetted").await, Refused::NotPublished);
        assert!(matches!(refused("other").await, Refused::OtherPlugin { .. }));
        for unseen in ["foreign", "nowhere"] {
            let answer = change(&store, Change::Promote(digest(unseen))).await;
            assert!(matches!(answer, Err(StoreError::NotFound { .. })), "{unseen}");
        }
        let nowhere = ChangeRequest {
            route: name("nowhere"),
            ..change_request("acme", Change::Rollback)
        };
        assert!(matches!(
            store.change_binding(nowhere).await,
            Err(StoreError::NotFound { .. })
        ));
        assert_eq!(binding(&store).await, before);
    }

    pub(super) async fn what_runs_is_not_retired_and_what_is_retired_does_not_come_back(backend: &impl Backend) {
        let store = bound(backend).await;
        let in_use = |routes: &[&str]| Refused::InUse {
            routes: routes.iter().map(|&route| route.to_owned()).collect(),
        };
        assert_eq!(step(&store, "", "one", Step::Retire).await, Err(in_use(&["acme/main"])));
        let _ = change(&store, Change::Shadow(digest("two"))).await.unwrap().unwrap();
        assert_eq!(step(&store, "", "two", Step::Retire).await, Err(in_use(&["acme/main"])));
        let _ = change(&store, Change::Promote(digest("two"))).await.unwrap().unwrap();
        assert_eq!(step(&store, "", "one", Step::Retire).await, Ok(Standing::Retired));
        assert_eq!(
            change(&store, Change::Rollback).await.unwrap().unwrap_err(),
            Refused::Retired
        );
        assert_eq!(binding(&store).await.active, digest("two"));
        let left = store
            .follow_configuration(vec![configured("globex", "one")], act("start"))
            .await
            .unwrap();
        assert_eq!(left.len(), 1, "a retired version is not bound by the file either");
    }

    pub(super) async fn a_route_follows_the_file_until_somebody_binds_it(backend: &impl Backend) {
        let store = bound(backend).await;
        let follow = async |bytes| {
            let left = store
                .follow_configuration(vec![configured("acme", bytes)], act("reload"))
                .await;
            assert!(left.unwrap().is_empty());
            binding(&store).await.active
        };
        assert_eq!(follow("two").await, digest("two"));
        assert_eq!(follow("one").await, digest("one"));
        let _ = change(&store, Change::Promote(digest("two"))).await.unwrap().unwrap();
        assert_eq!(follow("one").await, digest("two"), "a hand wins over the file");
        let _ = change(&store, Change::FollowFile(digest("one")))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(binding(&store).await.active, digest("one"));
        assert_eq!(follow("two").await, digest("two"));
        // A route that names another plugin starts anew, whoever bound it before.
        let _ = change(&store, Change::Promote(digest("one"))).await.unwrap().unwrap();
        let other = NewVersion {
            name: name("other"),
            published: true,
            ..version("", "two", "5")
        };
        add(&store, other).await;
        let renamed = ConfiguredRoute {
            plugin: name("other"),
            ..configured("acme", "two")
        };
        assert!(
            store
                .follow_configuration(vec![renamed], act("reload"))
                .await
                .unwrap()
                .is_empty()
        );
        let now = binding(&store).await;
        assert_eq!(
            (now.plugin.as_str(), now.by_hand, now.previous.len()),
            ("other", false, 0)
        );
    }

    pub(super) async fn a_route_is_set_and_removed_with_its_binding(backend: &impl Backend) {
        let store = backend.open();
        publish(&store, "acme", "one", "1").await;
        publish(&store, "acme", "two", "2").await;
        let set = |digest: Option<PluginDigest>| SetRoute {
            tenant: name("acme"),
            route: name("main"),
            definition: json!({"plugin": "cashback"}),
            plugin: Some(name("cashback")),
            namespace: name("cashback"),
            digest,
            gate: PromotionGate::default(),
            act: act("because"),
        };
        let unseen = SetRoute {
            tenant: name("globex"),
            ..set(None)
        };
        assert!(matches!(
            store.set_route(unseen).await,
            Err(StoreError::NotFound { .. })
        ));
        let done = store.set_route(set(Some(digest("one")))).await.unwrap().unwrap();
        assert_eq!((done.before, done.after.unwrap().active), (None, digest("one")));
        // Setting it again leaves what it runs, unless a digest is named.
        let _ = store.set_route(set(None)).await.unwrap().unwrap();
        assert_eq!(binding(&store).await.active, digest("one"));
        let _ = store.set_route(set(Some(digest("two")))).await.unwrap().unwrap();
        assert_eq!(binding(&store).await.previous, [digest("one")]);
        assert_eq!(store.api_routes().await.unwrap().len(), 1);
        let remove = || store.remove_route(name("acme"), name("main"), None, act("gone"));
        let _ = remove().await.unwrap().unwrap();
        assert_eq!(store.api_routes().await.unwrap(), []);
        assert_eq!(store.bindings(None).await.unwrap(), []);
        assert!(matches!(remove().await, Err(StoreError::NotFound { .. })));
        assert_eq!(step(&store, "acme", "two", Step::Retire).await, Ok(Standing::Retired));
    }

    pub(super) async fn a_route_that_moves_to_another_namespace_is_said_and_kept_in_the_history(
        backend: &impl Backend,
    ) {
        let store = bound(backend).await;
        let follow = async |namespace: &str, act: Act| {
            let named = RouteNamespace {
                tenant: name("acme"),
                route: name("main"),
                namespace: name(namespace),
            };
            let moved = store.follow_namespaces(vec![named], act).await.unwrap();
            let pairs = moved
                .into_iter()
                .map(|change| format!("{} to {}", change.before, change.after));
            pairs.collect::<Vec<_>>()
        };
        let nothing: [String; 0] = [];
        assert_eq!(
            follow("cashback", act("begin")).await,
            nothing,
            "the first is no change"
        );
        assert_eq!(follow("cashback", act("reload")).await, nothing);
        let before = history(&store).await;
        assert_eq!(follow("loyalty", dry()).await, ["cashback to loyalty"]);
        assert_eq!(history(&store).await, before, "a dry run keeps nothing");
        assert_eq!(follow("loyalty", act("reload")).await, ["cashback to loyalty"]);
        assert_eq!(follow("loyalty", act("reload")).await, nothing);
        let lines = store
            .registry_history(HistoryFilter {
                route: Some(name("main")),
                rows_max: 1,
                ..HistoryFilter::default()
            })
            .await
            .unwrap();
        assert_eq!(
            (lines[0].what.as_str(), lines[0].from.as_deref(), lines[0].to.as_deref()),
            ("operations moved", Some("cashback"), Some("loyalty"))
        );
        // Setting the route says it as well, in the commit that sets it.
        let set = |act: Act| SetRoute {
            tenant: name("acme"),
            route: name("main"),
            definition: json!({"plugin": "cashback"}),
            plugin: Some(name("cashback")),
            namespace: name("cashback"),
            digest: None,
            gate: PromotionGate::default(),
            act,
        };
        for tried in [dry(), act("back again")] {
            let done = store.set_route(set(tried)).await.unwrap().unwrap();
            assert_eq!(done.warnings.len(), 1, "{:?}", done.warnings);
            assert!(
                done.warnings[0].contains("operations = \"loyalty\""),
                "{:?}",
                done.warnings
            );
        }
        let done = store.set_route(set(act("as it is"))).await.unwrap().unwrap();
        assert_eq!(done.warnings, nothing);
    }

    pub(super) async fn only_a_registered_key_counts_and_not_once_it_is_revoked(backend: &impl Backend) {
        let store = bound(backend).await;
        let key = PrivateKey::from_seed(&[7; 32]);
        let stranger = PrivateKey::from_seed(&[8; 32]);
        let signed = |bytes: &str, label: &str, key: &PrivateKey| NewVersion {
            signature: Some(key.sign(name("globex-labs"), name("2026"), digest(bytes))),
            published: true,
            ..version("", bytes, label)
        };
        add(&store, signed("signed", "3", &key)).await;
        add(&store, signed("forged", "4", &stranger)).await;
        let promote = async |bytes: &str| {
            let request = ChangeRequest {
                gate: PromotionGate {
                    require_signed: true,
                    ..PromotionGate::default()
                },
                ..change_request("acme", Change::Promote(digest(bytes)))
            };
            match store.change_binding(request).await.unwrap() {
                Ok(_) => "promoted".to_owned(),
                Err(Refused::Unmet { unmet }) => unmet[0].to_string(),
                Err(other) => other.to_string(),
            }
        };
        assert!(promote("two").await.contains("carries no signature"));
        assert!(promote("signed").await.contains("has not registered"));
        let register = |tenant: &str, key: &PrivateKey| {
            store.register_publisher_key(NewPublisherKey {
                tenant: name(tenant),
                publisher: name("globex-labs"),
                key_id: name("2026"),
                public_key: key.public(),
                act: act("a friend"),
            })
        };
        assert_eq!(register("globex", &key).await.unwrap(), KeyRegistered::New);
        assert!(
            promote("signed").await.contains("has not registered"),
            "another tenant's keys count nothing"
        );
        assert_eq!(register("acme", &key).await.unwrap(), KeyRegistered::New);
        assert_eq!(register("acme", &key).await.unwrap(), KeyRegistered::Known);
        assert_eq!(register("acme", &stranger).await.unwrap(), KeyRegistered::OtherKey);
        assert!(promote("forged").await.contains("does not fit"));
        assert_eq!(promote("signed").await, "promoted");
        let revoke = || {
            store.revoke_publisher_key(RevokePublisherKey {
                tenant: name("acme"),
                publisher: name("globex-labs"),
                key_id: name("2026"),
                act: act("stolen"),
            })
        };
        assert!(revoke().await.unwrap());
        assert!(!revoke().await.unwrap());
        assert_eq!(register("acme", &key).await.unwrap(), KeyRegistered::Revoked);
        add(&store, signed("signed later", "5", &key)).await;
        assert!(promote("signed later").await.contains("is revoked"));
        assert_eq!(store.publisher_keys(Some(name("acme"))).await.unwrap().len(), 1);
    }

    pub(super) async fn a_gate_asks_for_trials_and_shadow_runs_against_the_active_version(backend: &impl Backend) {
        let store = bound(backend).await;
        publish(&store, "", "three", "3").await;
        let promote = async |bytes: &str| {
            let request = ChangeRequest {
                gate: PromotionGate {
                    require_trial: true,
                    shadow_runs_min: 2,
                    shadow_differences_max: Some(0),
                    ..PromotionGate::default()
                },
                ..change_request("acme", Change::Promote(digest(bytes)))
            };
            match store.change_binding(request).await.unwrap() {
                Ok(_) => Vec::new(),
                Err(Refused::Unmet { unmet }) => unmet,
                Err(other) => panic!("{other}"),
            }
        };
        let trial = |active: &str, differences| TrialRecord {
            tenant: name("acme"),
            route: name("main"),
            active: digest(active),
            candidate: digest("two"),
            result: TrialResult {
                runs: 10,
                differences,
                unreadable: 0,
            },
            actor: "tester".into(),
            at: T0,
        };
        let result = |outcome: &str| RunResult {
            outcome: outcome.into(),
            actions_json: "[]".into(),
            fuel: 1,
        };
        let shadow = |run, outcome| ShadowRecord {
            run: RunId(run),
            tenant: name("acme"),
            route: name("main"),
            active: digest("one"),
            shadow: digest("two"),
            started_at: T0,
            duration_us: 5,
            message: String::new(),
            active_result: result("completed"),
            shadow_result: result(outcome),
            beyond_record: false,
        };
        assert_eq!(promote("two").await.len(), 2);
        store.record_trial(trial("one", 3)).await.unwrap();
        assert!(matches!(
            promote("two").await[0],
            Unmet::TrialDiffers { differences: 3, .. }
        ));
        // A narrower one takes nothing back.
        let mut narrow = trial("one", 0);
        narrow.result.runs = 1;
        store.record_trial(narrow).await.unwrap();
        assert!(matches!(promote("two").await[0], Unmet::TrialDiffers { .. }));
        store.record_trial(trial("one", 0)).await.unwrap();
        store.record_shadow_run(shadow(1, "completed")).await.unwrap();
        assert_eq!(promote("two").await, [Unmet::FewShadowRuns { runs: 1, runs_min: 2 }]);
        store.record_shadow_run(shadow(2, "completed")).await.unwrap();
        let _ = change(&store, Change::Shadow(digest("two"))).await.unwrap().unwrap();
        let report = |differing_only| {
            store.shadow_runs(ShadowFilter {
                tenant: name("acme"),
                route: name("main"),
                differing_only,
                rows_max: 10,
            })
        };
        assert_eq!(
            report(false).await.unwrap().tally,
            Some(ShadowTally {
                runs: 2,
                differences: 0
            })
        );
        // A version whose state the active one cannot read passes no gate that asks for trials, and is warned of by every other.
        let mut no_way_back = trial("one", 0);
        no_way_back.result.unreadable = 2;
        store.record_trial(no_way_back).await.unwrap();
        assert_eq!(
            promote("two").await,
            [Unmet::TrialUnreadable {
                runs: 10,
                unreadable: 2
            }]
        );
        let ungated = ChangeRequest {
            tenant: name("acme"),
            route: name("main"),
            change: Change::Promote(digest("two")),
            gate: PromotionGate::default(),
            act: dry(),
        };
        let warned = store.change_binding(ungated).await.unwrap().unwrap();
        assert!(
            matches!(&warned.warnings[..], [one] if one.contains("in 2 of 10 runs")),
            "{warned:?}"
        );
        store.record_trial(trial("one", 0)).await.unwrap();
        assert_eq!(promote("two").await, []);
        // What was found against `one` says nothing against `two`.
        assert_eq!(promote("three").await.len(), 2);
        store.record_shadow_run(shadow(3, "trap")).await.unwrap();
        assert_eq!(report(true).await.unwrap().runs.len(), 1);
        assert_eq!(report(false).await.unwrap().runs.len(), 3);
    }

    pub(super) async fn many_who_promote_at_once_leave_one_whole_history(backend: &impl Backend) {
        let store = bound(backend).await;
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..8 {
            for bytes in ["one", "two"] {
                let store = store.clone();
                all.spawn(async move { change(&store, Change::Promote(digest(bytes))).await.unwrap().is_ok() });
            }
        }
        let done = all.join_all().await.into_iter().filter(|done| *done).count();
        let lines = history(&store).await;
        assert_eq!(lines.iter().filter(|what| *what == "promoted").count(), done);
        // Each promotion left from what the one before had made.
        let now = binding(&store).await;
        let mut path = now.previous.clone();
        path.push(now.active);
        assert!(path.windows(2).all(|pair| pair[0] != pair[1]), "{path:?}");
    }

    pub(super) async fn what_hosts_keep_in_memory_is_told_to_have_changed_before_the_change_is_answered(
        backend: &impl Backend,
    ) {
        let store = bound(backend).await;
        let mut watched = [Topic::Tokens, Topic::Quarantines, Topic::Registry].map(|topic| store.subscribe(topic));
        // Asked of a clone: which topics have moved since it was asked last.
        let mut moved = move || {
            watched.each_mut().map(|numbers| {
                let moved = numbers.has_changed().unwrap();
                numbers.mark_unchanged();
                moved
            })
        };
        let (tokens, quarantines, registry) = ([true, false, false], [false, true, false], [false, false, true]);
        let nothing = [false; 3];
        assert_eq!(moved(), nothing, "what was there before is no change");
        let other = store.clone();

        let token = NewToken {
            digest: Digest([1; 32]),
            name: "night".into(),
            role: Role::Viewer,
            tenant: None,
            created_by: "me".into(),
            why: String::new(),
            now: T0,
            expires_at: None,
            look: tollgate_core::portal::Appearance::default(),
        };
        let id = other.issue_token(token).await.unwrap();
        assert_eq!(moved(), tokens);
        let end = Revocation {
            by: "me".into(),
            why: String::new(),
            at: T0,
        };
        assert!(other.revoke_token(id, end.clone()).await.unwrap());
        assert_eq!(moved(), tokens);
        assert!(other.revoke_token(TokenId(77), end).await.is_err());
        assert_eq!(moved(), nothing, "what failed has changed nothing");

        let quarantine = Quarantine {
            tenant: name("acme"),
            route: name("main"),
            plugin: name("cashback"),
            digest: digest("one"),
            at: T0,
            faults: 3,
            reason: "trap: it fell".into(),
        };
        other.quarantine(quarantine).await.unwrap();
        assert_eq!(moved(), quarantines);
        let lift = async |act: Act| {
            other
                .lift_quarantine(name("acme"), name("main"), act)
                .await
                .unwrap()
                .len()
        };
        assert_eq!((lift(dry()).await, moved()), (1, nothing));
        assert_eq!((lift(act("mended")).await, moved()), (1, quarantines));

        let _ = change(&other, canary("two", 7)).await.unwrap().unwrap();
        assert_eq!(moved(), registry);
        other
            .add_version(version("", "nine", "9"), dry())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(moved(), nothing, "a dry run changes nothing");
        add(&other, version("", "nine", "9")).await;
        assert_eq!(moved(), registry);
    }

    pub(super) async fn the_registry_survives_reopening(backend: &impl Backend) {
        let before = {
            let store = bound(backend).await;
            let _ = change(&store, canary("two", 7)).await.unwrap().unwrap();
            let before = binding(&store).await;
            store.close().await;
            before
        };
        let store = backend.open();
        assert_eq!(binding(&store).await, before);
        assert_eq!(store.component(digest("two")).await.unwrap(), b"two");
    }
}
