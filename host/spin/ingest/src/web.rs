//! HTTP as this shell speaks it: bounded bodies in, whole answers out.

use futures::TryStreamExt as _;
use spin_sdk::http::{Headers, IncomingRequest, IncomingResponse, Method, OutgoingResponse, Request, ResponseOutparam};
use tollgate_core::answer::Rejection;
use tollgate_core::limits;
use tollgate_core::request::Header;

use crate::clock;

/// A request without its body.
pub(crate) struct Head {
    /// In capitals, as it came.
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Head {
    pub(crate) fn of(request: &IncomingRequest) -> Self {
        let whole = request.path_with_query().unwrap_or_default();
        let (path, query) = match whole.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (whole.as_str(), None),
        };
        let mut headers = request.headers().entries();
        for (name, _) in &mut headers {
            name.make_ascii_lowercase();
        }
        Self {
            method: method_name(&request.method()).to_owned(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
            headers,
        }
    }

    pub(crate) fn is(&self, method: &str) -> bool {
        self.method == method
    }

    pub(crate) fn headers(&self) -> Vec<Header<'_>> {
        self.headers
            .iter()
            .map(|(name, value)| Header { name, value })
            .collect()
    }

    /// Empty when there is none.
    pub(crate) fn query(&self) -> &str {
        self.query.as_deref().unwrap_or_default()
    }

    /// The first value of a header; `name` is lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_slice())
    }

    /// The bounds that are looked at before a body is read.
    pub(crate) fn check_bounds(&self) -> Result<(), Rejection> {
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
        if promised.is_some_and(|bytes| bytes > limits::BODY_BYTES_MAX as u64) {
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
pub(crate) async fn body(request: IncomingRequest) -> Result<Vec<u8>, Rejection> {
    let read = async {
        let mut chunks = Box::pin(request.into_body_stream());
        let mut body = Vec::new();
        while let Some(chunk) = chunks.try_next().await.map_err(|_| Rejection::Malformed)? {
            if body.len() + chunk.len() > limits::BODY_BYTES_MAX {
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
pub(crate) struct Whole<'a> {
    pub(crate) status: u16,
    pub(crate) content_type: &'a str,
    pub(crate) headers: Vec<(&'a str, String)>,
    pub(crate) body: String,
}

/// Sends a whole answer. What follows in the same invocation keeps nobody waiting.
pub(crate) async fn respond(out: ResponseOutparam, whole: Whole<'_>) {
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

/// What came back from a POST.
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) end: BodyEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    Whole,
    /// It broke off.
    Broken,
    /// There is more than was to be read.
    Cut,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
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
pub(crate) async fn post(
    url: &str,
    mut headers: Vec<(String, String)>,
    body: Vec<u8>,
    answer_bytes_max: usize,
) -> Result<Reply, String> {
    // Without it the body is sent in chunks, which not every receiver reads.
    headers.push(("content-length".to_owned(), body.len().to_string()));
    let mut request = Request::post(url, body);
    request.headers(headers);
    let response: IncomingResponse = spin_sdk::http::send(request.build())
        .await
        .map_err(|error| error.to_string())?;
    let mut reply = Reply {
        status: response.status(),
        headers: response.headers().entries(),
        body: Vec::new(),
        end: BodyEnd::Whole,
    };
    let mut chunks = Box::pin(response.take_body_stream());
    loop {
        match chunks.try_next().await {
            Ok(None) => return Ok(reply),
            Ok(Some(chunk)) => reply.body.extend_from_slice(&chunk),
            Err(_) => {
                reply.end = BodyEnd::Broken;
                return Ok(reply);
            }
        }
        if reply.body.len() > answer_bytes_max {
            reply.body.truncate(answer_bytes_max);
            reply.end = BodyEnd::Cut;
            return Ok(reply);
        }
    }
}
