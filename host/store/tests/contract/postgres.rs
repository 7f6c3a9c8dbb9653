//! The store of many hosts, on a PostgreSQL of the test's own.

use tollgate_core::secret::Secret;
use tollgate_store::PostgresStore;

pub(crate) use crate::server::Postgres;
use crate::server::folder;
use crate::support::Backend;

pub(crate) fn secret(server: &Postgres) -> Secret {
    Secret::new(server.url().into_bytes())
}

/// Has a statement executed that is none of the store's.
pub(crate) async fn execute(server: &Postgres, sql: &str) {
    let (client, connection) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

impl Backend for Postgres {
    type Store = PostgresStore;

    fn open(&self) -> PostgresStore {
        PostgresStore::open(&secret(self)).unwrap()
    }

    fn problems(&self, store: &PostgresStore) -> Vec<String> {
        store.problems().unwrap()
    }
}

mod hosts {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};

    use tempfile::TempDir;

    use tollgate_core::action::Verdict;
    use tollgate_core::budget::Window;
    use tollgate_core::delivery::EntryEnd;
    use tollgate_store::{
        Admitted, Changes as _, Control as _, Intake as _, NewToken, Outbox as _, PostgresStore, ReceiptKey as _,
        Settled, Store as _, StoreError, Topic, Views as _, Work as _,
    };

    use super::*;
    use crate::support::{
        ACCEPTED, SOON, Sent, SettlementExt as _, T0, at, claim, claim_one, claim_outbox_one, dollars, eventually,
        settle, settlement, spent, trace_one,
    };

    /// A test on a server of its own, or none where there is no server.
    macro_rules! server {
        () => {
            match Postgres::if_there() {
                Some(server) => server,
                None => return,
            }
        };
    }

    async fn soon<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(SOON, what).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn any_host_takes_in_any_host_works() {
        let server = server!();
        let (one, other) = (server.open(), server.open());
        assert_eq!(one.receipt_key().expose(), other.receipt_key().expose());
        assert_eq!(Sent::new("e1").of("r_1").admit(&one).await, ACCEPTED);
        assert_eq!(
            Sent::new("e1").of("r_1").admit(&other).await,
            Admitted::Same { delivery: 2 }
        );
        soon(other.work_ready()).await;
        let taken = claim_one(&other, at(0)).await;
        assert!(claim(&one, at(1), 10).await.is_empty(), "one host at a time has a job");
        let Settled::Committed { verdicts, .. } = settle(&other, settlement(&taken).acts("op", 1).to("shop")).await
        else {
            panic!("not settled");
        };
        assert_eq!(verdicts, [Verdict::Recorded]);
        soon(one.outbox_ready()).await;
        let entry = claim_outbox_one(&one, at(10)).await;
        assert_eq!(entry.epoch.0, 1);
        // Both append to one chain.
        for number in 0..20 {
            let host = if number % 2 == 0 { &one } else { &other };
            assert_eq!(Sent::new(&format!("n{number}")).admit(host).await, ACCEPTED);
        }
        assert_eq!(one.counts().await.unwrap().receipts, 21);
        assert_eq!(server.problems(&one), [] as [String; 0]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_hosts_that_take_in_at_once_lose_and_double_nothing() {
        let server = server!();
        let hosts = [server.open(), server.open(), server.open()];
        let tasks: Vec<_> = (0..90)
            .map(|number: usize| {
                let host = hosts[number % 3].clone();
                // Each event comes to two hosts.
                tokio::spawn(async move { Sent::new(&format!("e{}", number / 2)).of("r").admit(&host).await })
            })
            .collect();
        let mut new = 0;
        for task in tasks {
            match task.await.unwrap() {
                Admitted::New(_) => new += 1,
                Admitted::Same { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(new, 45);
        assert_eq!(hosts[0].counts().await.unwrap().receipts, 45);
        assert_eq!(server.problems(&hosts[1]), [] as [String; 0]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_one_host_changes_the_others_hear_of() {
        let server = server!();
        let (one, other) = (server.open(), server.open());
        let mut heard = other.subscribe(Topic::Tokens);
        heard.mark_unchanged();
        let token = NewToken {
            digest: tollgate_core::ids::Digest([7; 32]),
            name: "ci".into(),
            role: tollgate_core::access::Role::Operator,
            tenant: None,
            created_by: "tester".into(),
            why: "a test".into(),
            now: T0,
            expires_at: None,
            look: tollgate_core::portal::Appearance::default(),
        };
        let id = one.issue_token(token).await.unwrap();
        // Within a second, on a machine that has nothing else to do.
        soon(heard.changed()).await.unwrap();
        assert_eq!(other.tokens().await.unwrap().first().unwrap().id, id);
        assert!(!other.subscribe(Topic::Registry).has_changed().unwrap());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_host_that_opens_beside_another_takes_no_lease_from_it() {
        let server = server!();
        let one = server.open();
        assert_eq!(Sent::new("e1").admit(&one).await, ACCEPTED);
        let held = claim_one(&one, at(0)).await;
        let other = server.open();
        assert!(claim(&other, at(1), 10).await.is_empty());
        assert!(matches!(
            settle(&one, settlement(&held)).await,
            Settled::Committed { .. }
        ));
        // A lease that is over is anybody's, and who had it settles no more.
        assert_eq!(Sent::new("e2").admit(&one).await, ACCEPTED);
        let held = claim_one(&one, at(0)).await;
        let taken = claim_one(&other, at(60_000)).await;
        assert_eq!((taken.job, taken.epoch.0), (held.job, 2));
        assert_eq!(settle(&one, settlement(&held)).await, Settled::LeaseLost);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn hosts_that_open_a_new_database_at_once_make_it_once() {
        let server = server!();
        let opening: Vec<_> = (0..4)
            .map(|_| {
                let url = secret(&server);
                std::thread::spawn(move || PostgresStore::open(&url).unwrap())
            })
            .collect();
        let hosts: Vec<_> = opening.into_iter().map(|opening| opening.join().unwrap()).collect();
        for host in &hosts {
            assert_eq!(host.receipt_key().expose(), hosts[0].receipt_key().expose());
        }
        let found = PostgresStore::find(&secret(&server)).unwrap();
        assert_eq!(found.schema, 12);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn w6_a_database_from_before_budgets_is_taken_over() {
        let server = server!();
        let store = server.open();
        assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
        store.close().await;
        drop(store);
        for statement in [
            "DROP TABLE tollgate.issues_grouped",
            "DROP TABLE tollgate.issues",
            "DROP FUNCTION tollgate.next_issues",
            "DROP TABLE tollgate.bulks",
            "DROP FUNCTION tollgate.next_bulks",
            "DROP TABLE tollgate.budget_counts",
            "DROP TABLE tollgate.pauses",
            "DROP TABLE tollgate.settings",
            "DROP TABLE tollgate.settings_secrets",
            "DROP TABLE tollgate.settings_changes",
            "DROP TABLE tollgate.heartbeats",
            "DROP TABLE tollgate.drains",
            "DROP TABLE tollgate.rates",
            "DROP INDEX tollgate.outbox_lane",
            "ALTER TABLE tollgate.outbox DROP COLUMN lane, DROP COLUMN pulled_at",
            "ALTER TABLE tollgate.tokens DROP COLUMN capabilities, DROP COLUMN accent, DROP COLUMN scheme",
            "ALTER TABLE tollgate.jobs DROP COLUMN beyond_budget",
            "DELETE FROM tollgate.schema_version WHERE version > 1",
            "ALTER TABLE tollgate.schema_version DROP COLUMN works_with",
        ] {
            execute(&server, statement).await;
        }
        let store = server.open();
        assert_eq!(PostgresStore::find(&secret(&server)).unwrap().schema, 12);
        let claim = claim_one(&store, at(0)).await;
        let a_day = dollars(Window::Day, 100);
        let settlement = settlement(&claim).within(&[a_day]).credits("k1", "ann", 60);
        assert!(matches!(settle(&store, settlement).await, Settled::Committed { .. }));
        assert_eq!(spent(&store, a_day, at(0)).await, [(String::new(), 60, 40)]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_older_binary_refuses_a_newer_schema() {
        let server = server!();
        server.open().close().await;
        execute(&server, "INSERT INTO tollgate.schema_version (version) VALUES (77)").await;
        let error = PostgresStore::open(&secret(&server)).unwrap_err();
        assert!(
            matches!(
                &error,
                StoreError::NewerSchema {
                    found: 77,
                    known: 12,
                    ..
                }
            ),
            "{error}"
        );
    }

    /// Hosts are brought up to date one by one. A table grows a column under a host that knows nothing of it, with its questions prepared.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn r3_a_host_works_on_in_a_newer_schema_that_says_so_and_refuses_one_that_does_not() {
        let server = server!();
        let older = server.open();
        assert_eq!(Sent::new("e1").admit(&older).await, ACCEPTED);
        let claim = claim_one(&older, at(0)).await;
        assert!(matches!(
            settle(&older, settlement(&claim)).await,
            Settled::Committed { .. }
        ));
        // On each of its connections.
        for _ in 0..8 {
            assert!(older.bindings(None).await.unwrap().is_empty());
        }
        for table in [
            "receipts",
            "jobs",
            "runs",
            "actions",
            "outbox",
            "plugin_versions",
            "plugin_bindings",
            "tokens",
        ] {
            execute(&server, &format!("ALTER TABLE tollgate.{table} ADD COLUMN newer TEXT")).await;
        }
        let newer = "INSERT INTO tollgate.schema_version (version, works_with) VALUES (13, NULL), (14, 12)";
        execute(&server, newer).await;
        // One that was there goes on, also over a new connection, and one that starts begins.
        works(&older, "e2").await;
        let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL";
        execute(&server, all).await;
        eventually("it comes back", async || {
            older.admit(vec![Sent::new("e1").admission(&older)]).await.ok()
        })
        .await;
        works(&older, "e3").await;
        let other = server.open();
        works(&other, "e4").await;
        let said = PostgresStore::find(&secret(&server)).unwrap();
        assert_eq!(said.schema, 14);
        assert!(
            said.dangers.join("\n").contains("its hosts work on"),
            "{:?}",
            said.dangers
        );

        execute(
            &server,
            "INSERT INTO tollgate.schema_version (version, works_with) VALUES (15, 15)",
        )
        .await;
        for refused in [
            PostgresStore::open(&secret(&server)).map(drop),
            PostgresStore::open_read_only(&secret(&server)).map(drop),
        ] {
            assert!(
                matches!(
                    refused,
                    Err(StoreError::NewerSchema {
                        found: 15,
                        known: 12,
                        ..
                    })
                ),
                "{refused:?}"
            );
        }
        let said = PostgresStore::find(&secret(&server)).unwrap().dangers.join("\n");
        assert!(said.contains("none of its hosts works any more"), "{said}");
        // One that runs commits nothing more from there on, and says why.
        let refused = eventually("it says why", async || {
            let refused = older.admit(vec![Sent::new("e5").admission(&older)]).await;
            let said = refused.expect_err("it does not work on").to_string();
            Some(said).filter(|said| said.contains("schema"))
        })
        .await;
        assert!(
            refused.contains("is 15 now") && refused.contains("knows 12"),
            "{refused}"
        );
    }

    /// An event from admission to a settled run, and the questions about it.
    async fn works(store: &PostgresStore, event: &str) {
        assert_eq!(Sent::new(event).admit(store).await, ACCEPTED);
        let claim = claim_one(store, at(0)).await;
        assert!(matches!(
            settle(store, settlement(&claim)).await,
            Settled::Committed { .. }
        ));
        assert_eq!(trace_one(store, &Sent::new(event)).await.jobs.len(), 1);
        for _ in 0..8 {
            assert!(store.bindings(None).await.unwrap().is_empty());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_of_a_server_is_dangerous_is_said() {
        let server = server!();
        let found = PostgresStore::find(&secret(&server)).unwrap();
        assert_eq!((found.schema, found.fsync.as_str()), (0, "off"));
        let said = found.dangers.join("\n");
        assert!(
            said.contains("`fsync` is off") && said.contains("`synchronous_standby_names` is empty"),
            "{said}"
        );
        assert!(!said.contains("synchronous_commit` is"), "{said}");
        execute(&server, "ALTER SYSTEM SET synchronous_commit = off").await;
        execute(&server, "SELECT pg_reload_conf()").await;
        // The server reads its settings again when it comes to that.
        eventually("the danger is said", async || {
            let said = PostgresStore::find(&secret(&server)).unwrap().dangers.join("\n");
            said.contains("`synchronous_commit` is off").then_some(())
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_holds_an_old_state_of_the_database_is_named_until_it_ends() {
        let server = server!();
        let store = server.open();
        let held = |longer_than| store.snapshot_held(longer_than).unwrap();
        let url = format!("{}?application_name=a%20report", server.url());
        let (report, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let pid = report.query_one("SELECT pg_backend_pid()", &[]).await.unwrap();
        let pid = i64::from(pid.get::<_, i32>(0));
        // It has a transaction and no snapshot yet.
        report
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            .await
            .unwrap();
        assert_ne!(held(Duration::ZERO).map(|held| held.pid), Some(pid));
        report
            .batch_execute("SELECT count(*) FROM tollgate.receipts")
            .await
            .unwrap();
        let found = eventually("it is found", async || {
            held(Duration::ZERO).filter(|held| held.pid == pid)
        })
        .await;
        assert_eq!(found.program, "a report");
        let said = found.to_string();
        assert!(
            said.contains(&format!("pg_terminate_backend({pid})")) && said.contains("a report"),
            "{said}"
        );
        assert_eq!(held(Duration::from_secs(3600)), None);
        report.batch_execute("ROLLBACK").await.unwrap();
        assert_ne!(held(Duration::ZERO).map(|held| held.pid), Some(pid));
        drop(report);
        connection.await.unwrap().unwrap();
    }

    /// Inserts are sent and not waited for: what one failed with is the answer all the same, and not that the transaction was over then.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_an_insert_failed_with_is_the_answer_and_nothing_of_it_is_kept() {
        let server = server!();
        let store = server.open();
        let full = "CREATE FUNCTION tollgate.full() RETURNS trigger LANGUAGE plpgsql AS \
                    $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END $$";
        execute(&server, full).await;
        let on_insert =
            "CREATE TRIGGER fill BEFORE INSERT ON tollgate.receipts FOR EACH ROW EXECUTE FUNCTION tollgate.full()";
        execute(&server, on_insert).await;
        let answer = store.admit(vec![Sent::new("e1").admission(&store)]).await;
        assert!(matches!(answer, Err(StoreError::NoSpace { .. })), "{answer:?}");
        execute(&server, "DROP TRIGGER fill ON tollgate.receipts").await;
        assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
        assert_eq!(store.counts().await.unwrap().receipts, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_is_away_is_said_at_once_and_is_used_again_when_it_is_back() {
        let mut server = server!();
        let store = server.open();
        assert_eq!(Sent::new("e1").admit(&store).await, ACCEPTED);
        server.kill();
        for number in 0..5 {
            let begun = Instant::now();
            let answer = store
                .admit(vec![Sent::new(&format!("lost{number}")).admission(&store)])
                .await;
            assert!(matches!(answer, Err(StoreError::Away { .. })), "{answer:?}");
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
            assert!(matches!(store.counts().await, Err(StoreError::Away { .. })));
        }
        server.start_again();
        let admitted = eventually("it comes back", async || {
            match store.admit(vec![Sent::new("e2").admission(&store)]).await {
                Ok(admitted) => Some(admitted),
                Err(StoreError::Away { .. }) => None,
                Err(other) => panic!("{other}"),
            }
        })
        .await;
        assert_eq!(admitted, [ACCEPTED]);
        assert_eq!(store.counts().await.unwrap().receipts, 2);
        assert_eq!(server.problems(&store), [] as [String; 0]);
    }

    /// What lies between a host and its server, and cuts their connection when it is told to.
    struct Wire {
        _folder: TempDir,
        url: Secret,
        /// Messages of the host's until the cut; below zero there is none to come.
        left: Arc<AtomicI64>,
        cut: Arc<Mutex<Cut>>,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Cut {
        /// The message does not reach the server.
        Before,
        /// The server does what the message says, and its answer does not reach the host.
        After,
    }

    impl Wire {
        fn to(server: &Postgres) -> Self {
            let folder = folder();
            let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
            let (left, cut) = (Arc::new(AtomicI64::new(-1)), Arc::new(Mutex::new(Cut::Before)));
            let behind = server.folder().join(".s.PGSQL.5432");
            let (counted, how) = (Arc::clone(&left), Arc::clone(&cut));
            std::thread::spawn(move || {
                for host in listener.incoming().flatten() {
                    let (behind, counted, how) = (behind.clone(), Arc::clone(&counted), Arc::clone(&how));
                    std::thread::spawn(move || carry(host, &behind, &counted, &how));
                }
            });
            let path = folder.path().display().to_string().replace('/', "%2F");
            Self {
                url: Secret::new(format!("postgres://tollgate@{path}/postgres").into_bytes()),
                _folder: folder,
                left,
                cut,
            }
        }

        fn cut_at(&self, message: i64, cut: Cut) {
            *self.cut.lock().unwrap() = cut;
            self.left.store(message, Ordering::SeqCst);
        }

        /// Whether the cut that was asked for was made.
        fn has_cut(&self) -> bool {
            self.left.swap(-1, Ordering::SeqCst) < 0
        }
    }

    fn carry(mut host: UnixStream, behind: &Path, left: &AtomicI64, cut: &Mutex<Cut>) {
        let Ok(mut server) = UnixStream::connect(behind) else {
            return;
        };
        let (mut back_from, mut back_to) = (server.try_clone().unwrap(), host.try_clone().unwrap());
        let silent = Arc::new(Mutex::new(false));
        let is_silent = Arc::clone(&silent);
        std::thread::spawn(move || {
            let mut bytes = [0; 65_536];
            while let Ok(count) = back_from.read(&mut bytes) {
                if count == 0 || *is_silent.lock().unwrap() || back_to.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            let _ = back_to.shutdown(std::net::Shutdown::Both);
        });
        let mut bytes = [0; 65_536];
        while let Ok(count) = host.read(&mut bytes) {
            if count == 0 {
                break;
            }
            if left.load(Ordering::SeqCst) >= 0 && left.fetch_sub(1, Ordering::SeqCst) == 0 {
                if *cut.lock().unwrap() == Cut::After {
                    *silent.lock().unwrap() = true;
                    let _ = server.write_all(&bytes[..count]);
                    // Until the server has answered, which nobody hears.
                    std::thread::sleep(Duration::from_millis(60));
                }
                break;
            }
            if server.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = host.shutdown(std::net::Shutdown::Both);
        let _ = server.shutdown(std::net::Shutdown::Both);
    }

    /// A connection is cut before and after each message that a host sends while it takes in, claims, settles and delivers: before, within and after
    /// each COMMIT. Each is answered as what it became, nothing is lost and nothing is done twice.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_connection_cut_at_every_message_loses_and_doubles_nothing() {
        let server = server!();
        let wire = Wire::to(&server);
        let store = PostgresStore::open(&wire.url).unwrap();
        // Statements are made ready once per connection; then a cut is in the work and not in that.
        let mut done = 0;
        for cut in [Cut::Before, Cut::After] {
            for message in 0.. {
                let id = format!("{cut:?}{message}");
                let sent = Sent::new(&id).of(&id);
                wire.cut_at(message, cut);
                assert_eq!(sent.admit(&store).await, ACCEPTED, "{id}");
                let claim = claim_one(&store, at(0)).await;
                let settled = settle(&store, settlement(&claim).acts(&id, 1).to("shop")).await;
                let Settled::Committed { verdicts, .. } = settled else {
                    panic!("{id}: {settled:?}")
                };
                assert_eq!(verdicts, [Verdict::Recorded], "{id}");
                let entry = claim_outbox_one(&store, at(10)).await;
                let attempt = crate::suite::attempt(&entry, 20, EntryEnd::Delivered);
                let _ = store.record_attempt(attempt).await.unwrap();
                done += 1;
                if !wire.has_cut() {
                    assert!(message > 20, "only {message} messages were cut at");
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let counts = store.counts().await.unwrap();
        assert_eq!(
            (
                counts.receipts,
                counts.redeliveries,
                counts.runs,
                counts.actions,
                counts.delivered
            ),
            (done, 0, done, done, done)
        );
        assert_eq!(trace_one(&store, &Sent::new("After3").of("After3")).await.jobs.len(), 1);
        assert_eq!(server.problems(&store), [] as [String; 0]);
    }
}
