//! HTTP for the app's components: bodies are read within bounds, and answers are sent whole.

use futures::{SinkExt as _, TryStreamExt as _};
use spin_sdk::http::{
    Headers, IncomingRequest, IncomingResponse, Method, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};
use tollgate_core::answer::Rejection;
use tollgate_core::limits;
use tollgate_core::request::Header;

use crate::clock;

/// What Spin adds to each request, of which a sender knows nothing: it counts towards no bound and reaches nobody.
const ADDED_BY_SPIN: [&str; 7] = [
    "spin-base-path",
    "spin-client-addr",
    "spin-component-route",
    "spin-full-url",
    "spin-matched-route",
    "spin-path-info",
    "spin-raw-component-route",
];

/// A request without its body.
pub struct Head {
    /// In capitals, as it came.
    pub method: String,
    /// The path of the request's target, as it came.
    pub path: String,
    /// The query without the `?`, as it came.
    pub query: Option<String>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// Takes the head of a request, without what Spin adds.
    pub fn of(request: &IncomingRequest) -> Self {
        let whole = request.path_with_query().unwrap_or_default();
        let (path, query) = match whole.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (whole.as_str(), None),
        };
        let mut headers = request.headers().entries();
        for (name, _) in &mut headers {
            name.make_ascii_lowercase();
        }
        headers.retain(|(name, _)| !ADDED_BY_SPIN.contains(&name.as_str()));
        Self {
            method: method_name(&request.method()).to_owned(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
            headers,
        }
    }

    /// Whether the request has this method, written in capitals.
    pub fn is(&self, method: &str) -> bool {
        self.method == method
    }

    /// Every header, in the order in which they came.
    pub fn headers(&self) -> Vec<Header<'_>> {
        self.headers
            .iter()
            .map(|(name, value)| Header { name, value })
            .collect()
    }

    /// The query; empty when there is none.
    pub fn query(&self) -> &str {
        self.query.as_deref().unwrap_or_default()
    }

    /// The first value of a header; `name` is lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_slice())
    }

    /// Checks the bounds that can be checked before a body is read.
    pub fn check_bounds(&self, body_bytes_max: usize) -> Result<(), Rejection> {
        let bytes: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > limits::HEADER_BYTES_MAX || self.headers.len() > limits::HEADER_COUNT_MAX {
            return Err(Rejection::HeadersTooLarge);
        }
        let encoded =
            |(name, value): &(String, Vec<u8>)| name == "content-encoding" && !value.eq_ignore_ascii_case(b"identity");
        if self.headers.iter().any(encoded) {
            return Err(Rejection::Encoded);
        }
        let promised = self
            .header("content-length")
            .and_then(|value| std::str::from_utf8(value).ok())
            .and_then(|text| text.parse::<u64>().ok());
        if promised.is_some_and(|bytes| bytes > body_bytes_max as u64) {
            return Err(Rejection::BodyTooLarge);
        }
        Ok(())
    }
}

fn method_name(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}

/// Reads a request's body within its bounds of size and time.
/// `bytes_max` is the largest body that is taken.
pub async fn body(request: IncomingRequest, bytes_max: usize) -> Result<Vec<u8>, Rejection> {
    let read = async {
        let mut chunks = Box::pin(request.into_body_stream());
        let mut body = Vec::new();
        while let Some(chunk) = chunks.try_next().await.map_err(|_| Rejection::Malformed)? {
            if body.len() + chunk.len() > bytes_max {
                return Err(Rejection::BodyTooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    clock::within(limits::BODY_READ_MS_MAX, read)
        .await
        .unwrap_or(Err(Rejection::TooSlow))
}

/// A whole answer.
pub struct Whole<'a> {
    /// The status.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'a str,
    /// Further headers.
    pub headers: Vec<(&'a str, String)>,
    /// The body.
    pub body: String,
}

/// Sends a whole answer. What follows in the same invocation keeps nobody waiting.
pub async fn respond(out: ResponseOutparam, whole: Whole<'_>) {
    let Whole {
        status,
        content_type,
        mut headers,
        body,
    } = whole;
    headers.push(("content-type", content_type.to_owned()));
    headers.push(("content-length", body.len().to_string()));
    let fields = Headers::new();
    for (name, value) in headers {
        // Names and values are ours or a profile's, which were held to be some when it was read: none is refused.
        let _ = fields.append(name, &value.into_bytes());
    }
    let response = OutgoingResponse::new(fields);
    // Every status of the answer table is one.
    let _ = response.set_status_code(status);
    // A sender that is gone does not change what was recorded.
    let _ = out.set_with_body(response, body.into_bytes()).await;
}

/// The head of what comes back from a POST; its body is still under way.
pub struct Begun {
    response: IncomingResponse,
}

impl Begun {
    /// A header's value, if it is text.
    pub fn header(&self, name: &str) -> Option<String> {
        let value = self.response.headers().get(name).into_iter().next()?;
        String::from_utf8(value).ok()
    }

    /// Reads up to `bytes_max` of the body.
    pub async fn read(self, bytes_max: usize) -> Reply {
        let mut reply = Reply {
            status: self.response.status(),
            headers: self.response.headers().entries(),
            body: Vec::new(),
            end: BodyEnd::Whole,
        };
        let mut chunks = Box::pin(self.response.take_body_stream());
        loop {
            match chunks.try_next().await {
                Ok(None) => return reply,
                Ok(Some(chunk)) => reply.body.extend_from_slice(&chunk),
                Err(_) => {
                    reply.end = BodyEnd::Broken;
                    return reply;
                }
            }
            if reply.body.len() > bytes_max {
                reply.body.truncate(bytes_max);
                reply.end = BodyEnd::Cut;
                return reply;
            }
        }
    }
}

/// What came back from a POST.
pub struct Reply {
    /// The status.
    pub status: u16,
    headers: Vec<(String, Vec<u8>)>,
    /// As much of the body as was read.
    pub body: Vec<u8>,
    /// Whether that is all of it.
    pub end: BodyEnd,
}

/// How the reading of a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// All of it was read.
    Whole,
    /// It ended before its end.
    Broken,
    /// The body is longer than the bound.
    Cut,
}

impl Reply {
    /// The first value of a header, if it is text; `name` may have any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}

/// Posts `body` and reads up to `answer_bytes_max` of the answer. No redirect is followed.
///
/// # Errors
/// In words, when no answer began.
pub async fn post(
    url: &str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    answer_bytes_max: usize,
) -> Result<Reply, String> {
    Ok(begin(url, headers, body).await?.read(answer_bytes_max).await)
}

/// Posts `body` and waits for the head of the answer. No redirect is followed.
///
/// In the words of `wasi:http`: the SDK's own request carries an error type with it whose stack traces are a tenth of a component.
///
/// # Errors
/// In words, when no answer began.
pub async fn begin(url: &str, mut headers: Vec<(String, String)>, body: Vec<u8>) -> Result<Begun, String> {
    // Without it the body is sent in chunks, which not every receiver reads.
    headers.push(("content-length".to_owned(), body.len().to_string()));
    let fields = Headers::new();
    for (name, value) in headers {
        let refused = |_| format!("the header {name} cannot be sent");
        fields.append(&name, &value.into_bytes()).map_err(refused)?;
    }
    let (scheme, authority, path) = parts(url).ok_or("it is not a URL that can be called")?;
    let request = OutgoingRequest::new(fields);
    request
        .set_method(&Method::Post)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)))
        .map_err(|()| "it is not a URL that can be called")?;
    let mut sink = request.take_body();
    let sending = async move {
        // What could not be sent is said by the answer, or by there being none.
        let _ = sink.send(body).await;
    };
    let (response, ()) = futures::join!(spin_sdk::http::send(request), sending);
    let response = response.map_err(|error| error.to_string())?;
    Ok(Begun { response })
}

/// Scheme, authority and path with query.
fn parts(url: &str) -> Option<(Scheme, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    Some((scheme, authority, if path.is_empty() { "/" } else { path }))
}
