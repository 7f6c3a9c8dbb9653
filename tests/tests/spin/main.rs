//! Tollgate on Spin (promise R2): the same promises as on the native host, through the built components. Each test says in its
//! output whether it ran on `spin` or on the stand-in of tests/spin; see `tollgate_tests::spin`.

mod app;
mod deliveries;
mod durable;
mod native;
mod operators;
mod plugins;
