//! The app: its components compiled, its routes, and one instance per request.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash as _, Hasher as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Body;
use wasmtime::component::Component as Compiled;
use wasmtime::{Config, Engine, Store, StoreLimitsBuilder};
use wasmtime_wasi::{FsPerms, ResourceTable, WasiCtx};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{Error as HttpError, WasiBody, WasiHttpCtx};

use crate::compose::compose;
use crate::guest::{Guest, Outgoing, linker};
use crate::manifest::{Component, Manifest, Route};

/// How long compiled code is kept after its last use.
const CACHED_FOR: Duration = Duration::from_secs(60 * 60);

pub struct App {
    routes: Vec<Route>,
    components: BTreeMap<String, Loaded>,
    engine: Engine,
    database: PathBuf,
    memory_bytes_max: Option<usize>,
}

struct Loaded {
    grants: Component,
    pre: ProxyPre<Guest>,
}

impl App {
    pub fn load(manifest: Manifest, state: &Path, memory_bytes_max: Option<usize>) -> Result<Self> {
        // Nothing makes a guest that computes let others run, and nothing stops it: it holds a thread of the runtime, as on Spin.
        let mut config = Config::new();
        // As Spin: an instance's memories come out of a pool and go back to it.
        config.allocation_strategy(wasmtime::PoolingAllocationConfig::new());
        let engine = Engine::new(&config)?;
        let linker = linker(&engine)?;
        let mut components = BTreeMap::new();
        for (id, grants) in manifest.components {
            let source = std::fs::read(&grants.source)
                .with_context(|| format!("cannot read {}; run `spin build`", grants.source.display()))?;
            let composed = compose(&id, source, &grants.dependencies).with_context(|| format!("composing {id}"))?;
            let compiled = compile(&engine, &composed).with_context(|| format!("compiling {id}"))?;
            let pre = ProxyPre::new(
                linker
                    .instantiate_pre(&compiled)
                    .map_err(|error| error.context(format!("linking {id}")))?,
            )?;
            components.insert(id, Loaded { grants, pre });
        }
        Ok(Self {
            routes: manifest.routes,
            components,
            engine,
            database: state.join("sqlite_db.db"),
            memory_bytes_max,
        })
    }

    /// Answers a request from outside.
    pub async fn serve(
        self: &Arc<Self>,
        client: SocketAddr,
        mut request: Request<hyper::body::Incoming>,
    ) -> Response<WasiBody> {
        // Spin reads each value as text.
        if request
            .headers()
            .values()
            .any(|value| std::str::from_utf8(value.as_bytes()).is_err())
        {
            return plain(StatusCode::INTERNAL_SERVER_ERROR);
        }
        let path = request.uri().path().to_owned();
        let path = path.as_str();
        if path == "/.well-known/spin/info" {
            return plain(StatusCode::OK);
        }
        let route = self
            .routes
            .iter()
            .filter_map(|route| Some((route.pattern.as_deref().and_then(|pattern| fit(pattern, path))?, route)))
            .max_by_key(|(fit, _)| *fit);
        match route {
            Some((_, route)) => {
                let pattern = route.pattern.clone().unwrap_or_default();
                add_headers(&mut request, &pattern, client);
                self.run(&route.component, request).await
            }
            None => plain(StatusCode::NOT_FOUND),
        }
    }

    /// Answers a chained request. It needs a trigger, public or private.
    pub async fn chain(self: &Arc<Self>, component: &str, request: Request<WasiBody>) -> Response<WasiBody> {
        if self.routes.iter().any(|route| route.component == component) {
            self.run(component, request).await
        } else {
            plain(StatusCode::NOT_FOUND)
        }
    }

    /// Runs one instance. It goes on after it has answered, and after whoever asked is gone.
    async fn run<B>(self: &Arc<Self>, id: &str, request: Request<B>) -> Response<WasiBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<HttpError>,
    {
        let Some(component) = self.components.get(id) else {
            return plain(StatusCode::NOT_FOUND);
        };
        let prepared = self.instance(component).and_then(|mut store| {
            let (sender, answer) = tokio::sync::oneshot::channel();
            let mut view = wasmtime_wasi_http::WasiHttpView::http(store.data_mut());
            let request = view.new_incoming_request(Scheme::Http, request)?;
            let out = view.new_response_outparam(sender)?;
            Ok((store, request, out, answer))
        });
        let (mut store, request, out, answer) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                eprintln!("{id}: {error:#}");
                return plain(StatusCode::INTERNAL_SERVER_ERROR);
            }
        };
        let pre = component.pre.clone();
        let name = id.to_owned();
        tokio::spawn(async move {
            let ran = async {
                let proxy = pre.instantiate_async(&mut store).await?;
                proxy
                    .wasi_http_incoming_handler()
                    .call_handle(&mut store, request, out)
                    .await
            };
            if let Err(error) = ran.await {
                eprintln!("{name}: {error:#}");
            }
        });
        match answer.await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                eprintln!("{id}: {error:?}");
                plain(StatusCode::INTERNAL_SERVER_ERROR)
            }
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    fn instance(self: &Arc<Self>, component: &Loaded) -> Result<Store<Guest>> {
        let grants = &component.grants;
        let mut wasi = WasiCtx::builder();
        wasi.inherit_stderr();
        for (folder, seen_as) in &grants.files {
            wasi.preopened_dir(folder, seen_as, FsPerms::ReadOnly)?;
        }
        let mut limits = StoreLimitsBuilder::new();
        if let Some(bytes) = self.memory_bytes_max {
            limits = limits.memory_size(bytes);
        }
        let guest = Guest {
            table: ResourceTable::new(),
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            hooks: Outgoing {
                app: Arc::clone(self),
                allowed: grants.outbound.clone(),
            },
            limits: limits.build(),
            variables: grants.variables.clone(),
            database: grants
                .databases
                .iter()
                .any(|name| name == "default")
                .then(|| self.database.clone()),
        };
        let mut store = Store::new(&self.engine, guest);
        store.limiter(|guest| &mut guest.limits);
        Ok(store)
    }
}

/// What Spin adds to each request of its HTTP trigger; its names take the place of a sender's own.
fn add_headers<B>(request: &mut Request<B>, pattern: &str, client: SocketAddr) {
    let host = request
        .headers()
        .get(http::header::HOST)
        .and_then(|host| host.to_str().ok());
    let full_url = format!("http://{}{}", host.unwrap_or("localhost"), request.uri());
    let route = pattern.strip_suffix("/...").unwrap_or(pattern);
    let rest = request.uri().path().strip_prefix(route).unwrap_or_default().to_owned();
    for (name, value) in [
        ("spin-full-url", full_url),
        ("spin-path-info", rest),
        ("spin-matched-route", pattern.to_owned()),
        ("spin-base-path", "/".to_owned()),
        ("spin-raw-component-route", pattern.to_owned()),
        ("spin-component-route", route.to_owned()),
        ("spin-client-addr", client.to_string()),
    ] {
        if let Ok(value) = value.parse() {
            request.headers_mut().insert(name, value);
        }
    }
}

/// How well a route fits a path: literal segments count, and `/...` takes the rest.
fn fit(pattern: &str, path: &str) -> Option<usize> {
    match pattern.strip_suffix("/...") {
        Some(start) => {
            let rest = path.strip_prefix(start)?;
            (rest.is_empty() || rest.starts_with('/')).then_some(start.len())
        }
        None => (pattern == path).then_some(usize::MAX),
    }
}

fn plain(status: StatusCode) -> Response<WasiBody> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// Compiled code is kept between starts, by its bytes and the engine's settings: the tests start the same components often, and
/// several at once. Who comes first compiles, and the others wait for it.
fn compile(engine: &Engine, bytes: &[u8]) -> Result<Compiled> {
    let mut hash = DefaultHasher::new();
    bytes.hash(&mut hash);
    engine.precompile_compatibility_hash().hash(&mut hash);
    let executable = std::env::current_exe()?;
    let folder = executable.with_file_name("spin-stand-in-cache");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{:016x}.cwasm", hash.finish()));
    let lock = File::create(folder.join("lock"))?;
    lock.lock()?;
    if path.exists() {
        File::options()
            .append(true)
            .open(&path)?
            .set_modified(std::time::SystemTime::now())?;
    } else {
        forget_unused(&folder)?;
        let part = path.with_extension("part");
        std::fs::write(&part, engine.precompile_component(bytes)?)?;
        std::fs::rename(&part, &path)?;
    }
    lock.unlock()?;
    // SAFETY: the file was made by this program from a component, under a name that says from which.
    #[expect(unsafe_code, reason = "what is loaded was compiled here")]
    unsafe {
        Ok(Compiled::deserialize_file(engine, &path)?)
    }
}

/// Removes what no start has asked for in a while: each build of a component has a file of its own.
fn forget_unused(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.metadata()?.modified()?.elapsed().unwrap_or_default() > CACHED_FOR {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
