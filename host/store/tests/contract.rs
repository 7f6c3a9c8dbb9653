//! The store's tests: one contract for every backend, properties, and what is SQLite's own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "contract/suite.rs"]
mod suite;
#[path = "contract/support.rs"]
mod support;

#[path = "contract/audit.rs"]
mod audit;
#[path = "contract/bulks.rs"]
mod bulks;
#[path = "../../../tests/src/certificates.rs"]
mod certificates;
#[path = "contract/compressed.rs"]
mod compressed;
#[path = "contract/copy.rs"]
mod copy;
#[path = "contract/differential.rs"]
mod differential;
#[path = "contract/formats.rs"]
mod formats;
#[path = "contract/issues.rs"]
mod issues;
#[path = "contract/lists.rs"]
mod lists;
#[path = "contract/log.rs"]
mod log;
#[path = "contract/model.rs"]
mod model;
#[path = "contract/order.rs"]
mod order;
#[path = "contract/postgres.rs"]
mod postgres;
#[path = "contract/postgres_hosts.rs"]
mod postgres_hosts;
#[path = "contract/postgres_tls.rs"]
mod postgres_tls;
#[path = "contract/pulls.rs"]
mod pulls;
#[path = "contract/registry.rs"]
mod registry;
#[path = "contract/rows.rs"]
mod rows;
#[path = "../../../tests/src/postgres.rs"]
mod server;
#[path = "contract/settings.rs"]
mod settings;
#[path = "contract/sqlite.rs"]
mod sqlite;

mod the_log_keeps_the_contract {
    crate::contract!(crate::sqlite::Sqlite::new());
}

mod a_log_without_memory_keeps_the_contract {
    crate::contract!(crate::sqlite::Sqlite::of_log_without_memory());
}

mod rows_keep_the_contract {
    crate::contract!(crate::sqlite::Sqlite::of_rows());
}

mod lists_keep_to_their_bounds {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn o10_in_the_log() {
        crate::lists::o10_a_page_looks_no_further_than_it_may(&crate::sqlite::Sqlite::new()).await;
        crate::lists::o10_a_page_reads_no_more_of_bodies_than_it_may(&crate::sqlite::Sqlite::new()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn o10_in_rows() {
        crate::lists::o10_a_page_looks_no_further_than_it_may(&crate::sqlite::Sqlite::of_rows()).await;
        crate::lists::o10_a_page_reads_no_more_of_bodies_than_it_may(&crate::sqlite::Sqlite::of_rows()).await;
    }
}

mod a_guests_rows_keep_the_contract {
    crate::contract!(crate::rows::Rows::new(), of rows);
}

mod postgres_keeps_the_contract {
    crate::contract!(match crate::postgres::Postgres::if_there() {
        Some(postgres) => postgres,
        None => return,
    });
}
