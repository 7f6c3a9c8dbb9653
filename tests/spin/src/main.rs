//! A stand-in for `spin up`, for tests on machines without a Spin.
//!
//! It reads the manifest that Spin reads and runs the components that it names, unmodified: composes each with its
//! dependencies, gives it WASI, `wasi:http`, `spin:sqlite` and variables, routes requests to it, chains calls to
//! `<component>.spin.internal`, and holds each component to what the manifest grants. One instance per request, as Spin does.
//!
//! As Spin, it stops no guest and takes no thread from one, adds seven headers to each request, and serves in a process of its
//! own: `up` starts `trigger http`, and waits for it. It is no Spin: no TLS, no OpenTelemetry, and outgoing calls reach this
//! machine only.

mod app;
mod compose;
mod database;
mod guest;
mod manifest;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use app::App;
use manifest::Manifest;

/// `hold-lock DATABASE`: holds the database's write lock until standard input ends, as a writer of another process would.
fn hold_lock(path: &str) -> Result<()> {
    let connection = rusqlite::Connection::open(path)?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    println!("held");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// `up ARGUMENT…`: what serves is a child, which a kill of this process does not reach.
fn up(arguments: &[String]) -> Result<()> {
    let mut child = std::process::Command::new(std::env::current_exe()?)
        .args(["trigger", "http"])
        .args(arguments)
        .spawn()
        .context("cannot start what serves")?;
    let status = child.wait()?;
    if !status.success() {
        bail!("what served ended: {status}");
    }
    Ok(())
}

/// The arguments of `spin up` that the tests use.
struct Arguments {
    manifest: PathBuf,
    listen: SocketAddr,
    state: PathBuf,
    /// Bytes of linear memory that one instance may have.
    memory_bytes_max: Option<usize>,
}

fn arguments() -> Result<Arguments> {
    let mut given = std::env::args().skip(3);
    let (mut manifest, mut listen, mut state, mut memory_bytes_max) = (None, None, None, None);
    while let Some(name) = given.next() {
        let value = given.next().with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--from" => manifest = Some(PathBuf::from(value)),
            "--listen" => listen = Some(value.parse().context("--listen needs an address")?),
            "--state-dir" => state = Some(PathBuf::from(value)),
            "--max-instance-memory" => memory_bytes_max = Some(value.parse().context("bytes")?),
            other => bail!("there is no argument {other}"),
        }
    }
    Ok(Arguments {
        manifest: manifest.context("--from is missing")?,
        listen: listen.context("--listen is missing")?,
        state: state.context("--state-dir is missing")?,
        memory_bytes_max,
    })
}

fn main() -> Result<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    match given.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["hold-lock", path] => hold_lock(path),
        ["up", ..] => up(&given[1..]),
        ["trigger", "http", ..] => serve(arguments()?),
        _ => bail!("the first argument is `up`"),
    }
}

/// As many threads as the machine has processors, as Spin has.
#[tokio::main]
async fn serve(arguments: Arguments) -> Result<()> {
    std::fs::create_dir_all(&arguments.state)?;
    let manifest = Manifest::read(&arguments.manifest)?;
    let listener = TcpListener::bind(arguments.listen).await?;
    let app = Arc::new(App::load(manifest, &arguments.state, arguments.memory_bytes_max)?);
    println!("Serving http://{}", listener.local_addr()?);
    loop {
        let (peer, client) = listener.accept().await?;
        let app = Arc::clone(&app);
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let app = Arc::clone(&app);
                async move { Ok::<_, std::convert::Infallible>(app.serve(client, request).await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(peer), answer)
                .await;
            if let Err(error) = served {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}
