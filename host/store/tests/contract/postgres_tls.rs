//! TLS between a host and its PostgreSQL: a real server, with certificates of the test's own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;
use tollgate_core::secret::Secret;
use tollgate_store::postgres::ServerFound;
use tollgate_store::{PostgresStore, Store as _, StoreError, Views as _};

use crate::certificates::{Authority, Issued, Validity};
use crate::postgres::execute;
use crate::server::{Postgres, folder};
use crate::support::{ACCEPTED, Sent, eventually};

/// What a host knows of a server: an authority in a file.
struct Known {
    folder: TempDir,
}

impl Known {
    fn new(authority: &Authority) -> Self {
        let folder = folder();
        std::fs::write(folder.path().join("root.crt"), &authority.root).unwrap();
        Self { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root.crt")
    }

    /// The server under a name, wherever that name leads by itself.
    fn url(&self, server: &Postgres, host: &str, parameters: &str) -> Secret {
        let (port, root) = (server.port(), self.root().display().to_string());
        let url = format!(
            "postgres://tollgate@{host}:{port}/postgres?hostaddr=127.0.0.1&{}",
            parameters.replace("ROOT", &format!("sslrootcert={root}"))
        );
        Secret::new(url.into_bytes())
    }
}

fn found(url: &Secret) -> Result<ServerFound, String> {
    PostgresStore::find(url).map_err(|error| {
        assert!(matches!(error, StoreError::Away { .. }), "{error:?}");
        error.to_string()
    })
}

fn server(issued: &Issued) -> Option<Postgres> {
    Postgres::with_tls(&issued.certificate, &issued.key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_a_host_works_over_tls_with_the_server_that_the_url_names() {
    let authority = Authority::new("ours");
    let Some(server) = server(&authority.issue("db.example", Validity::Now)) else {
        return;
    };
    let known = Known::new(&authority);
    let url = known.url(&server, "db.example", "sslmode=verify-full&ROOT");
    let store = PostgresStore::open(&url).unwrap();
    assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
    assert_eq!(store.counts().await.unwrap().receipts, 1);
    // All of its connections, as the server sees them.
    let (client, connection) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    drop(tokio::spawn(connection));
    let seen = "SELECT count(*) FILTER (WHERE ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                WHERE application_name = 'tollgate'";
    let seen = client.query_one(seen, &[]).await.unwrap();
    let (over_tls, all): (i64, i64) = (seen.get(0), seen.get(1));
    assert!(over_tls >= 2 && over_tls == all, "{over_tls} of {all}");
    store.close().await;
    let found = found(&url).unwrap();
    assert_eq!(found.sslmode, "verify-full");
    assert!(
        !found.dangers.iter().any(|danger| danger.contains("sslmode")),
        "{found:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_a_server_that_is_not_the_one_is_told_nothing() {
    let (authority, other) = (Authority::new("ours"), Authority::new("another"));
    let Some(server) = server(&authority.issue("db.example", Validity::Now)) else {
        return;
    };
    let (known, known_otherwise) = (Known::new(&authority), Known::new(&other));
    let wrong = found(&known.url(&server, "other.example", "ROOT")).unwrap_err();
    assert!(wrong.contains("is not for `other.example`"), "{wrong}");
    for mode in ["verify-full", "verify-ca", "require"] {
        let wrong = found(&known_otherwise.url(&server, "db.example", &format!("sslmode={mode}&ROOT"))).unwrap_err();
        assert!(
            wrong.contains("no authority in ") && wrong.contains("root.crt"),
            "{mode}: {wrong}"
        );
    }
    // Without an authority of ours the public ones are asked, and not nobody.
    let wrong = found(&known.url(&server, "db.example", "")).unwrap_err();
    assert!(wrong.contains("no public authority"), "{wrong}");
    // Each mode asks what it says and no more.
    let found_by = |host: &str, parameters: &str| found(&known.url(&server, host, parameters)).unwrap();
    assert_eq!(
        found_by("other.example", "sslmode=verify-ca&ROOT").dangers.len(),
        2,
        "of the server alone"
    );
    let unasked = found_by("other.example", "sslmode=require");
    assert!(
        unasked.dangers[0].contains("does not ask who the server is"),
        "{unasked:?}"
    );
    let clear = found_by("other.example", "sslmode=disable");
    assert!(clear.dangers[0].contains("in clear text"), "{clear:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_a_certificate_that_is_over_is_refused_and_so_is_a_server_without_one() {
    let authority = Authority::new("ours");
    let known = Known::new(&authority);
    let Some(server_of_old) = server(&authority.issue("db.example", Validity::Over)) else {
        return;
    };
    for mode in ["verify-full", "verify-ca"] {
        let wrong = found(&known.url(&server_of_old, "db.example", &format!("sslmode={mode}&ROOT"))).unwrap_err();
        assert!(wrong.contains("has expired"), "{mode}: {wrong}");
    }
    // Its own root in place of a certificate.
    let itself = Issued {
        certificate: authority.root.clone(),
        key: authority.key(),
    };
    let of_authority = server(&itself).unwrap();
    let wrong = found(&known.url(&of_authority, "db.example", "ROOT")).unwrap_err();
    assert!(wrong.contains("CA:TRUE"), "{wrong}");
    let without = Postgres::without_tls().unwrap();
    for mode in ["verify-full", "verify-ca", "require"] {
        let parameters = format!("sslmode={mode}&ROOT");
        let wrong = found(&known.url(&without, "db.example", &parameters)).unwrap_err();
        assert!(
            wrong.contains("does not support TLS") && wrong.contains("`ssl = on`"),
            "{mode}: {wrong}"
        );
        // A host ends with the same, and does not go on in clear text.
        let opened = PostgresStore::open(&known.url(&without, "db.example", &parameters));
        assert!(matches!(opened, Err(StoreError::Away { .. })), "{opened:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_a_passwords_proof_is_bound_to_the_connection() {
    let authority = Authority::new("ours");
    let Some(server) = server(&authority.issue("db.example", Validity::Now)) else {
        return;
    };
    let known = Known::new(&authority);
    execute(&server, "CREATE ROLE ingest LOGIN SUPERUSER PASSWORD 'sesame'").await;
    server.ask_for_passwords();
    execute(&server, "SELECT pg_reload_conf()").await;
    let with = |password: &str, parameters: &str| {
        let url = known.url(&server, "db.example", parameters);
        let url = str::from_utf8(url.expose()).unwrap();
        let url = url.replace("tollgate@", &format!("ingest:{password}@"));
        PostgresStore::find(&Secret::new(url.into_bytes())).map_err(|error| error.to_string())
    };
    // The server reads the file again when it comes to that.
    let refused = eventually("a wrong password is refused", async || {
        with("open", "channel_binding=require&ROOT")
            .err()
            .filter(|said| said.contains("password authentication failed"))
    })
    .await;
    assert!(!refused.contains("open"), "{refused}");
    with("sesame", "channel_binding=require&ROOT").unwrap();
    // In clear text there is nothing to bind it to.
    let refused = with("sesame", "channel_binding=require&sslmode=disable").unwrap_err();
    assert!(!refused.contains("sesame"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_a_host_shows_its_own_certificate_where_the_server_asks_for_one() {
    let (authority, other) = (Authority::new("ours"), Authority::new("another"));
    let Some(server) = server(&authority.issue("db.example", Validity::Now)) else {
        return;
    };
    let known = Known::new(&authority);
    let with = |issued: &Issued, mode: u32| {
        let write = |name: &str, pem: &str, mode| {
            let path = known.folder.path().join(name);
            std::fs::write(&path, pem).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path.display().to_string()
        };
        let certificate = write("client.crt", &issued.certificate, 0o644);
        let key = write("client.key", &issued.key, mode);
        let parameters = format!("ROOT&sslcert={certificate}&sslkey={key}");
        PostgresStore::find(&known.url(&server, "db.example", &parameters)).map_err(|error| error.to_string())
    };
    let ours = authority.issue("tollgate", Validity::Now);
    // Who is not asked says nothing.
    with(&ours, 0o600).unwrap();
    server.ask_for_certificates(&authority.root);
    execute(&server, "SELECT pg_reload_conf()").await;
    let without = known.url(&server, "db.example", "ROOT");
    // The server reads the file again when it comes to that.
    let refused = eventually("a certificate is asked for", async || found(&without).err()).await;
    assert!(refused.contains("`sslcert` and `sslkey`"), "{refused}");
    let found = with(&ours, 0o600).unwrap();
    assert_eq!(found.sslmode, "verify-full");

    let of_another = other.issue("tollgate", Validity::Now);
    let refused = with(&of_another, 0o600).unwrap_err();
    assert!(
        refused.contains("does not take the certificate of `sslcert`"),
        "{refused}"
    );
    let of_somebody = authority.issue("somebody", Validity::Now);
    let refused = with(&of_somebody, 0o600).unwrap_err();
    assert!(refused.contains("certificate authentication failed"), "{refused}");
    // What is wrong with the files is said before anybody is asked.
    let refused = with(&ours, 0o644).unwrap_err();
    assert!(
        refused.contains("client.key") && refused.contains("`chmod 600`"),
        "{refused}"
    );
    let mixed = Issued {
        certificate: ours.certificate.clone(),
        key: of_another.key.clone(),
    };
    let refused = with(&mixed, 0o600).unwrap_err();
    assert!(refused.contains("does not go with `sslcert`"), "{refused}");
    let locked = Issued {
        certificate: ours.certificate.clone(),
        key: ours.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"),
    };
    let refused = with(&locked, 0o600).unwrap_err();
    assert!(refused.contains("without a password"), "{refused}");
}
