//! HTTP as the command line speaks it: to sources (send) and to a running host's private listener.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tollgate_api::ErrorBody;
use tollgate_core::secret::Secret;

use super::Refused;

/// An answer is read up to here.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longer than most answers take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client that keeps its connections.
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Http {
    pub(super) fn new() -> Self {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .build();
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// Posts `body` with `headers`: the answer's status and text.
    ///
    /// # Errors
    /// When the URL is none, nothing listens, or no answer came within ten seconds.
    pub(super) async fn post(
        &self,
        url: &str,
        headers: &[(String, String)],
        body: Bytes,
    ) -> anyhow::Result<(u16, String)> {
        self.exchange(Request::post(url), url, headers, body, PATIENCE).await
    }

    /// Gets `url` with `headers`: the answer's status and text.
    ///
    /// # Errors
    /// As [`Http::post`].
    pub(super) async fn get(&self, url: &str, headers: &[(String, String)]) -> anyhow::Result<(u16, String)> {
        self.exchange(Request::get(url), url, headers, Bytes::new(), PATIENCE)
            .await
    }

    async fn exchange(
        &self,
        mut request: http::request::Builder,
        url: &str,
        headers: &[(String, String)],
        body: Bytes,
        patience: Duration,
    ) -> anyhow::Result<(u16, String)> {
        for (name, value) in headers {
            request = request.header(name.as_str(), value.as_str());
        }
        let request = request
            .body(Full::new(body))
            .with_context(|| format!("`{url}` or a header cannot be sent"))?;
        let exchange = async {
            let answer = self
                .client
                .request(request)
                .await
                .with_context(|| format!("no answer from {url}"))?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body
                .map_err(|error| anyhow::anyhow!("the answer of {url} broke off: {error}"))?
                .to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        tokio::time::timeout(patience, exchange)
            .await
            .with_context(|| format!("no answer from {url} in {} s", patience.as_secs()))?
    }
}

/// What an operator asks a host: its private listener's address, or a Spin app's, without a `/` at the end; and the token.
pub(super) struct Operated<'a> {
    pub(super) base: String,
    pub(super) token: &'a Secret,
}

impl Operated<'_> {
    /// Asks for something that writes: posts `body` to `path`.
    ///
    /// # Errors
    /// [`Refused`] with the host's own words when it says that this cannot be; anything else when it did not answer as asked.
    pub(super) async fn write<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> anyhow::Result<T> {
        let url = format!("{}{path}", self.base);
        let body = serde_json::to_vec(body)?.into();
        let (status, text) = Http::new().post(&url, &self.headers()?, body).await?;
        if status == 409 {
            return Err(Refused(refusal(&text)).into());
        }
        read((status, text))
    }

    /// Gets the answer of a question; `question` is a path and its query.
    ///
    /// # Errors
    /// When it cannot be asked, or its answer is none.
    pub(super) async fn ask<T: serde::de::DeserializeOwned>(&self, question: &str) -> anyhow::Result<T> {
        let url = format!("{}{question}", self.base);
        read(Http::new().get(&url, &self.headers()?).await?)
    }

    /// Sends `body` to a path with its query; `headers` are added to the usual ones and replace them. Returns the status and the
    /// text, whatever they are.
    ///
    /// # Errors
    /// When nothing answers within `patience`.
    pub(super) async fn send(
        &self,
        method: http::Method,
        path: &str,
        headers: &[(String, String)],
        body: Vec<u8>,
        patience: Duration,
    ) -> anyhow::Result<(u16, String)> {
        let url = format!("{}{path}", self.base);
        let usual = self.headers()?;
        let usual = usual
            .into_iter()
            .filter(|(name, _)| !headers.iter().any(|(own, _)| own == name));
        let all: Vec<_> = usual.chain(headers.iter().cloned()).collect();
        let request = Request::builder().method(method).uri(&url);
        Http::new().exchange(request, &url, &all, body.into(), patience).await
    }

    fn headers(&self) -> anyhow::Result<[(String, String); 2]> {
        let token = std::str::from_utf8(self.token.expose()).context("the operator's token is not text")?;
        Ok([
            (header::AUTHORIZATION.to_string(), format!("Bearer {token}")),
            (header::CONTENT_TYPE.to_string(), "application/json".to_owned()),
        ])
    }
}

fn read<T: serde::de::DeserializeOwned>((status, text): (u16, String)) -> anyhow::Result<T> {
    anyhow::ensure!(status == 200, "it answered {status}: {}", refusal(&text));
    serde_json::from_str(&text).context("its answer is not what was asked for")
}

/// What a host says when it refuses: its words and each problem with its mend, or the text as it came where it is no such answer.
pub(super) fn refusal(text: &str) -> String {
    match serde_json::from_str::<ErrorBody>(text) {
        Ok(said) => said.problems.iter().fold(said.error, |message, problem| {
            let line = problem.line.map(|line| format!("line {line}, ")).unwrap_or_default();
            format!(
                "{message}\n  {line}{}: {} ({})",
                problem.field.as_deref().unwrap_or_default(),
                problem.message,
                problem.help
            )
        }),
        Err(_) => text.trim().to_owned(),
    }
}
