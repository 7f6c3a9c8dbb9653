//! Tenants' settings and secrets, on every backend that a native host has (promise O14).

use tollgate_core::ids::{SecretName, TenantName};
use tollgate_core::limits;
use tollgate_store::registry::{Act, HistoryFilter};
use tollgate_store::{
    Changes as _, Control as _, NewSettings, SealedSecret, SecretReseal, SecretView, SettingsPut, Store, Topic,
    Views as _,
};

use crate::support::{Backend, at, name};

/// Settings of acme that follow version `expects`.
pub(crate) fn new(text: &str, expects: u64) -> NewSettings {
    NewSettings {
        tenant: name("acme"),
        text: text.to_owned(),
        expects,
        text_of: None,
        secret: None,
        actor: "ann".to_owned(),
        why: format!("{text:?}"),
        now: at(expects as i64),
    }
}

pub(crate) fn secret(secret: &str, sealed: &[u8]) -> SealedSecret {
    SealedSecret {
        view: SecretView {
            name: name(secret),
            at: at(7),
            actor: "ann".to_owned(),
            why: "a new one".to_owned(),
            sealed_with: "key".to_owned(),
            opens: None,
            used_by: Vec::new(),
        },
        sealed: sealed.to_owned(),
    }
}

/// Settings and the secret that they bring are one change: both are kept, or neither is.
pub(crate) async fn o14_settings_and_the_secret_that_they_bring_are_one_change(backend: &impl Backend) {
    let store = backend.open();
    let with = |text: &str, expects: u64, name: &str| NewSettings {
        secret: Some(secret(name, b"\x00sealed")),
        ..new(text, expects)
    };
    let kept = async || {
        let secrets = store.sealed_secrets(name("acme")).await.unwrap();
        let newest = store.settings(name("acme"), None).await.unwrap();
        let names: Vec<_> = secrets.iter().map(|secret| secret.view.name.to_string()).collect();
        (names, newest.map(|found| found.text))
    };
    assert_eq!(put(&store, with("early", 3, "stripe")).await, Err(None));
    assert_eq!(kept().await, (Vec::new(), None));
    assert_eq!(put(&store, with("first", 0, "stripe")).await, Ok(1));
    let first = (vec!["stripe".to_owned()], Some("first".to_owned()));
    assert_eq!(kept().await, first);
    assert_eq!(put(&store, with("late", 0, "paypal")).await, Err(Some(1)));
    assert_eq!(kept().await, first);
    // Whoever set that name meanwhile may have meant it for something else.
    assert_eq!(put(&store, with("second", 1, "stripe")).await, Err(Some(1)));
    assert_eq!(kept().await, first);
    assert_eq!(store.settings_changes().await.unwrap()["acme"], 2);
}

async fn put(store: &impl Store, new: NewSettings) -> Result<u64, Option<u64>> {
    match store.put_settings(new).await.unwrap() {
        SettingsPut::Kept(line) => Ok(line.version),
        SettingsPut::Overtaken(newest) => Err(newest.map(|line| line.version)),
    }
}

fn acme() -> TenantName {
    name("acme")
}

pub(crate) async fn o14_settings_are_kept_whole_and_of_two_who_saw_the_same_version_one_is_told(
    backend: &impl Backend,
) {
    let store = backend.open();
    assert_eq!(store.settings(acme(), None).await.unwrap(), None);
    assert_eq!(put(&store, new("first", 1)).await, Err(None), "there is none yet");
    assert_eq!(put(&store, new("first", 0)).await, Ok(1));
    assert_eq!(put(&store, new("second", 0)).await, Err(Some(1)));
    let both = tokio::join!(put(&store, new("b", 1)), put(&store, new("c", 1)));
    let (kept, told) = match both {
        (Ok(2), Err(Some(2))) => ("b", "c"),
        (Err(Some(2)), Ok(2)) => ("c", "b"),
        other => panic!("{other:?}"),
    };
    let newest = store.settings(acme(), None).await.unwrap().unwrap();
    assert_eq!(
        (newest.line.version, newest.text.as_str()),
        (2, kept),
        "{told} changed nothing"
    );
    let back = NewSettings {
        text_of: Some(1),
        ..new("first", 2)
    };
    assert_eq!(put(&store, back).await, Ok(3));
    let other = NewSettings {
        tenant: name("globex"),
        ..new("theirs: é", 0)
    };
    assert_eq!(put(&store, other).await, Ok(1));
    store.close().await;

    let store = backend.open();
    let lines = store.settings_versions(acme(), 10).await.unwrap();
    let said: Vec<_> = lines
        .iter()
        .map(|line| (line.version, line.bytes, line.text_of))
        .collect();
    assert_eq!(said, [(3, 5, Some(1)), (2, 1, None), (1, 5, None)]);
    assert_eq!((lines[0].actor.as_str(), lines[0].at), ("ann", at(2)));
    assert_eq!(store.settings_versions(acme(), 1).await.unwrap(), lines[..1]);
    let text = async |version| {
        let found = store.settings(acme(), version).await.unwrap();
        found.map(|found| found.text)
    };
    assert_eq!(text(Some(2)).await.as_deref(), Some(kept));
    assert_eq!(text(Some(4)).await, None);
    assert_eq!(text(Some(u64::MAX)).await, None);
    let theirs = store.settings(name("globex"), None).await.unwrap().unwrap();
    assert_eq!(
        (theirs.text.as_str(), theirs.line.bytes),
        ("theirs: é", 10),
        "each has its own"
    );
    let of_acme = HistoryFilter {
        tenant: Some(acme()),
        ..history()
    };
    let lines = store.registry_history(of_acme).await.unwrap();
    let said: Vec<_> = lines.iter().map(|line| line.what.as_str()).collect();
    assert_eq!(said, ["settings-set"; 3]);
    let others = HistoryFilter {
        without_settings: true,
        ..history()
    };
    assert_eq!(store.registry_history(others).await.unwrap(), []);
    assert_eq!(store.chain().await.unwrap().receipts, 0);
}

fn history() -> HistoryFilter {
    HistoryFilter {
        rows_max: 20,
        ..HistoryFilter::default()
    }
}

pub(crate) async fn o14_the_newest_versions_are_kept(backend: &impl Backend) {
    let store = backend.open();
    let kept = limits::SETTINGS_VERSIONS_KEPT;
    for number in 0..kept + 3 {
        assert_eq!(put(&store, new("x", number)).await, Ok(number + 1));
    }
    let lines = store.settings_versions(acme(), usize::MAX >> 1).await.unwrap();
    assert_eq!(lines.len() as u64, kept);
    assert_eq!(lines.last().map(|line| line.version), Some(4), "the oldest go first");
    assert_eq!(store.settings(acme(), Some(3)).await.unwrap(), None);
}

pub(crate) async fn o14_secrets_are_kept_as_they_are_sealed_and_each_change_is_told(backend: &impl Backend) {
    let store = backend.open();
    let told = store.subscribe(Topic::Registry);
    let number = || *told.borrow();
    assert!(store.settings_changes().await.unwrap().is_empty());
    let mut before = number();
    let mut is_told = |what: &str| {
        assert!(number() > before, "{what}");
        before = number();
    };
    assert!(!store.put_secret(acme(), secret("stripe", b"\x00sealed")).await.unwrap());
    is_told("a secret is set");
    assert!(store.put_secret(acme(), secret("stripe", b"again")).await.unwrap());
    is_told("a secret is replaced");
    assert!(!store.put_secret(acme(), secret("paypal", b"other")).await.unwrap());
    is_told("another is set");
    assert_eq!(put(&store, new("text", 0)).await, Ok(1));
    is_told("settings are set");
    let names = async |tenant: &str| -> Vec<String> {
        let found = store.sealed_secrets(name(tenant)).await.unwrap();
        found
            .iter()
            .map(|secret| format!("{} {}", secret.view.name, String::from_utf8_lossy(&secret.sealed)))
            .collect()
    };
    assert_eq!(names("acme").await, ["paypal other", "stripe again"]);
    assert_eq!(names("globex").await, Vec::<String>::new());
    let changes = store.settings_changes().await.unwrap();
    assert_eq!(changes.iter().collect::<Vec<_>>(), [(&acme(), &4)]);

    let act = Act {
        actor: "ann".into(),
        why: Some("gone".into()),
        at: at(9),
        dry_run: false,
    };
    let stripe: SecretName = name("stripe");
    // The same secret under another key: only while nobody has set it since, and it is nobody's change of it.
    let reseal = async |was: &[u8]| {
        let reseal = SecretReseal {
            name: stripe.clone(),
            was: was.to_vec(),
            sealed: b"anew".to_vec(),
            sealed_with: "k2".to_owned(),
        };
        store.reseal_secret(acme(), reseal, act.clone()).await.unwrap()
    };
    assert!(!reseal(b"\x00sealed").await, "somebody set it since");
    assert!(reseal(b"again").await);
    is_told("a secret is sealed anew");
    assert!(!reseal(b"again").await);
    let found = store.sealed_secrets(acme()).await.unwrap();
    let found = found.iter().find(|secret| secret.view.name == stripe).unwrap();
    assert_eq!(
        (found.sealed.as_slice(), found.view.sealed_with.as_str()),
        (&b"anew"[..], "k2")
    );
    assert_eq!(found.view.actor, secret("stripe", b"").view.actor, "who set it stays");
    let remove = async |tenant: &str| {
        store
            .remove_secret(name(tenant), stripe.clone(), act.clone())
            .await
            .unwrap()
    };
    assert!(!remove("globex").await, "another tenant has none");
    assert!(remove("acme").await);
    is_told("a secret is removed");
    assert!(!remove("acme").await);
    assert_eq!(store.settings_changes().await.unwrap()["acme"], 6);
    // The same name again is another number: no host takes it for what it knew.
    assert!(!store.put_secret(acme(), secret("stripe", b"\x00sealed")).await.unwrap());
    assert_eq!(store.settings_changes().await.unwrap()["acme"], 7);
    assert_eq!(names("acme").await, ["paypal other", "stripe \0sealed"]);
    let lines = store.registry_history(history()).await.unwrap();
    let said: Vec<_> = lines.iter().map(|line| line.what.as_str()).collect();
    assert_eq!(
        said,
        [
            "secret-set",
            "secret-removed",
            "secret-resealed",
            "settings-set",
            "secret-set",
            "secret-set",
            "secret-set"
        ]
    );
    assert!(!format!("{lines:?}").contains("\\0sealed"), "{lines:?}");
}
