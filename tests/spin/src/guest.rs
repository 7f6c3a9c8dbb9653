//! What one instance sees, and no more than its component was granted.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime::{Engine, StoreLimits};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::app::App;
use crate::database;
use bindings::fermyon::spin::variables;
use bindings::spin::sqlite::sqlite;

pub mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "host",
        imports: { default: trappable },
        with: { "spin:sqlite/sqlite.connection": super::Handle },
    });
}

/// An open connection. SQLite's own is not shared between threads; a lock makes it so.
pub struct Handle(Mutex<rusqlite::Connection>);

pub struct Guest {
    pub table: ResourceTable,
    pub wasi: WasiCtx,
    pub http: WasiHttpCtx,
    pub hooks: Outgoing,
    pub limits: StoreLimits,
    pub variables: std::collections::BTreeMap<String, String>,
    /// The default database, if it was granted.
    pub database: Option<PathBuf>,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    bindings::Host_::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    Ok(linker)
}

/// Who an instance may call.
pub struct Outgoing {
    pub app: Arc<App>,
    pub allowed: Vec<String>,
}

type Sent = Result<
    (
        http::Response<WasiBody>,
        Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ),
    HttpError,
>;

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let granted = self.allowed.iter().any(|allowed| grants(allowed, request.uri()));
        let app = Arc::clone(&self.app);
        Box::new(async move {
            if !granted {
                return Err(HttpError::HttpRequestDenied);
            }
            let host = request.uri().host().unwrap_or_default().to_owned();
            if let Some(component) = host.strip_suffix(".spin.internal") {
                let response = app.chain(component, request).await;
                return Ok((response, nothing_more()));
            }
            // The tests' destinations stand on this machine; nothing else is called.
            if !matches!(host.as_str(), "127.0.0.1" | "localhost") {
                return Err(HttpError::DestinationIpProhibited);
            }
            call(request).await
        })
    }
}

/// One request over a connection of its own.
async fn call(mut request: http::Request<WasiBody>) -> Sent {
    let authority = request.uri().authority().ok_or(HttpError::HttpRequestUriInvalid)?;
    let address = (authority.host().to_owned(), authority.port_u16().unwrap_or(80));
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .map_err(HttpError::Connect)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(|_| HttpError::HttpRequestUriInvalid)?;
    // The connection is driven until the answer is read, whoever reads it.
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    Ok((
        response.map(|body| body.map_err(HttpError::from).boxed_unsync()),
        nothing_more(),
    ))
}

fn nothing_more() -> Box<dyn Future<Output = Result<(), HttpError>> + Send> {
    Box::new(std::future::ready(Ok(())))
}

/// Whether an entry of `allowed_outbound_hosts` lets a request through: scheme, host (or `*.` and its end) and port.
fn grants(allowed: &str, uri: &http::Uri) -> bool {
    let Some((scheme, rest)) = allowed.split_once("://") else {
        return false;
    };
    let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (rest, Some(default_port)),
    };
    let called = uri.host().unwrap_or_default();
    let host_fits = match host.strip_prefix("*.") {
        Some(end) => called.strip_suffix(end).is_some_and(|start| start.ends_with('.')),
        None => host == called,
    };
    uri.scheme_str() == Some(scheme) && host_fits && port == Some(uri.port_u16().unwrap_or(default_port))
}

impl variables::Host for Guest {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<String, variables::Error>> {
        Ok(self
            .variables
            .get(&name)
            .cloned()
            .ok_or(variables::Error::Undefined(name)))
    }
}

impl sqlite::Host for Guest {}

impl sqlite::HostConnection for Guest {
    fn open(&mut self, database: String) -> wasmtime::Result<Result<Resource<Handle>, sqlite::Error>> {
        if database != "default" {
            return Ok(Err(sqlite::Error::NoSuchDatabase));
        }
        let Some(path) = &self.database else {
            return Ok(Err(sqlite::Error::AccessDenied));
        };
        match database::open(path) {
            Ok(connection) => Ok(Ok(self.table.push(Handle(Mutex::new(connection)))?)),
            Err(error) => Ok(Err(error)),
        }
    }

    fn execute(
        &mut self,
        connection: Resource<Handle>,
        sql: String,
        parameters: Vec<sqlite::Value>,
    ) -> wasmtime::Result<Result<sqlite::QueryResult, sqlite::Error>> {
        let connection = self
            .table
            .get(&connection)?
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // SQLite blocks, on its lock and on its fsync; as Spin does, this lets the runtime know.
        Ok(tokio::task::block_in_place(|| {
            database::execute(&connection, &sql, parameters)
        }))
    }

    fn last_insert_rowid(&mut self, connection: Resource<Handle>) -> wasmtime::Result<i64> {
        let connection = self
            .table
            .get(&connection)?
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(connection.last_insert_rowid())
    }

    fn changes(&mut self, connection: Resource<Handle>) -> wasmtime::Result<u64> {
        let connection = self
            .table
            .get(&connection)?
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Ok(connection.changes())
    }

    fn drop(&mut self, connection: Resource<Handle>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}
