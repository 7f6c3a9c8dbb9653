//! An HTTP request as it came in: nothing is parsed yet and nothing is believed.

use crate::time::UnixMillis;

/// One header as received. Names are lower case; values are raw bytes.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    /// In lower case.
    pub name: &'a str,
    /// As it came, without the white space around it.
    pub value: &'a [u8],
}

/// A request before verification. Borrowed: intake copies a body once, into the store.
#[derive(Debug, Clone, Copy)]
pub struct RawRequest<'a> {
    /// In capitals, as it came.
    pub method: &'a str,
    /// The path of the request's target as it came; `None` when only the URL that was called is known.
    pub path: Option<&'a str>,
    /// The query of the request's target, without the `?`, as it came.
    pub query: Option<&'a str>,
    /// In the order in which they came; a name may come several times.
    pub headers: &'a [Header<'a>],
    /// Exactly the bytes that were sent.
    pub body: &'a [u8],
    /// The source's configured public URL, for schemes that sign it: scheme, host, port, and what a proxy takes off the path, or the
    /// whole URL that the provider was given. Never taken from Host or X-Forwarded-*.
    pub url: Option<&'a str>,
    /// When the last byte of the body was read.
    pub received_at: UnixMillis,
}

/// The tenant and the source that a path names: `/in/{tenant}/{source}`. A slash that is doubled, or stands at the end, means nothing: some
/// senders and proxies add one.
pub fn source_of_path(path: &str) -> Option<(&str, &str)> {
    let mut steps = path.split('/').filter(|step| !step.is_empty());
    match (steps.next(), steps.next(), steps.next(), steps.next()) {
        (Some("in"), Some(tenant), Some(source), None) => Some((tenant, source)),
        _ => None,
    }
}

impl<'a> RawRequest<'a> {
    /// The URLs that a sender may have signed when it called this one. Scheme, host and port are those of the configured URL, path and query
    /// those of the request; when a proxy writes paths anew, so that the provider was given another one, the configured path is the
    /// signed one. Empty when no URL is configured.
    ///
    /// A port that the scheme has anyway may be written or left out: Twilio does either.
    pub fn urls(&self) -> Vec<String> {
        let Some((origin, path, query)) = self.url.and_then(split_url) else {
            return Vec::new();
        };
        let query = self
            .query
            .or(query)
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        let mut paths = Vec::new();
        if let Some(own) = self.path {
            let bare = |path: &'a str| path.trim_end_matches('/');
            let prefix = bare(path);
            paths.push(format!("{}{own}", prefix.strip_suffix(bare(own)).unwrap_or(prefix)));
        }
        if !paths.iter().any(|own| own == path) {
            paths.push(path.to_owned());
        }
        let mut origins = vec![origin.to_owned()];
        origins.extend(with_the_other_port(origin));
        let urls = |path: &String| {
            let urls = origins.iter().map(|origin| format!("{origin}{path}{query}"));
            urls.collect::<Vec<_>>()
        };
        paths.iter().flat_map(urls).collect()
    }

    /// All values of a header, in the order they came. `name` is lower case.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |header| header.name == name)
            .map(|header| header.value)
    }

    /// The only value of a header: `Ok(None)` when absent, `Err(())` when it came more than once.
    #[expect(
        clippy::result_unit_err,
        reason = "the caller knows which header it asked for and says so"
    )]
    pub fn single_header(&self, name: &str) -> Result<Option<&'a [u8]>, ()> {
        let mut values = self.header_values(name);
        let first = values.next();
        if values.next().is_some() { Err(()) } else { Ok(first) }
    }
}

/// The URL that a sender signs when it calls `target` and the receiver's public URL is `public`: see [`RawRequest::urls`]. `None` when one
/// of them is no URL.
pub fn signed_url(public: &str, target: &str) -> Option<String> {
    let (_, path, query) = split_url(target)?;
    let request = RawRequest {
        method: "POST",
        path: Some(if path.is_empty() { "/" } else { path }),
        query,
        headers: &[],
        body: &[],
        url: Some(public),
        received_at: UnixMillis(0),
    };
    request.urls().into_iter().next()
}

/// A URL's scheme, host and port; its path; and its query, where it has one. What stands behind a `#` is never sent.
fn split_url(url: &str) -> Option<(&str, &str, Option<&str>)> {
    let url = url.split('#').next()?;
    let (before, query) = match url.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (url, None),
    };
    let host_at = before.find("://")? + "://".len();
    let path_at = before[host_at..].find('/').map_or(before.len(), |at| host_at + at);
    let (origin, path) = before.split_at(path_at);
    Some((origin, path, query))
}

/// The origin without its port, or with the one that its scheme implies.
fn with_the_other_port(origin: &str) -> Option<String> {
    let (scheme, host) = origin.split_once("://")?;
    // A colon in brackets belongs to an IPv6 address.
    let port_at = host.rfind(':').filter(|&at| !host[at..].contains(']'));
    match (port_at, scheme.to_ascii_lowercase().as_str()) {
        (Some(at), _) => Some(format!("{scheme}://{}", &host[..at])),
        (None, "https") => Some(format!("{origin}:443")),
        (None, "http") => Some(format!("{origin}:80")),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_too_many_names_the_same_source() {
        for path in [
            "/in/acme/shop",
            "/in/acme/shop/",
            "/in/acme/shop//",
            "//in//acme///shop",
        ] {
            assert_eq!(source_of_path(path), Some(("acme", "shop")), "{path}");
        }
        for path in [
            "/in/acme",
            "/in/acme/",
            "/in/acme/shop/more",
            "/acme/shop",
            "/",
            "",
            "/IN/acme/shop",
        ] {
            assert_eq!(source_of_path(path), None, "{path}");
        }
    }

    #[test]
    fn the_signed_url_has_the_requests_own_path_and_query() {
        let urls = |url: &str, path: Option<&str>, query: Option<&str>| {
            let request = RawRequest {
                method: "POST",
                path,
                query,
                headers: &[],
                body: &[],
                url: Some(url),
                received_at: UnixMillis(0),
            };
            // Those with the port as it is written.
            let urls = request.urls();
            urls.into_iter().step_by(2).collect::<Vec<_>>()
        };
        let own = Some("/in/acme/sms");
        let whole = "https://h.example/in/acme/sms";
        // Scheme and host alone, with or without a slash; a prefix that a proxy takes off; and the whole URL, as it was written before.
        assert_eq!(urls("https://h.example", own, None)[0], whole);
        assert_eq!(urls("https://h.example/", own, None)[0], whole);
        assert_eq!(urls(whole, own, None), [whole]);
        assert_eq!(
            urls("https://h.example/hooks", own, None)[0],
            "https://h.example/hooks/in/acme/sms"
        );
        assert_eq!(
            urls("https://h.example/hooks/in/acme/sms", own, None),
            ["https://h.example/hooks/in/acme/sms"]
        );
        // The proxy writes paths anew.
        assert_eq!(
            urls("https://h.example/twilio", own, Some("a=1")),
            [
                "https://h.example/twilio/in/acme/sms?a=1",
                "https://h.example/twilio?a=1"
            ]
        );
        // The request's own query counts; the configured one where a proxy took it off.
        assert_eq!(urls(whole, own, Some("a=1&b=%20")), [format!("{whole}?a=1&b=%20")]);
        assert_eq!(
            urls(&format!("{whole}?a=1"), own, Some("a=2")),
            [format!("{whole}?a=2")]
        );
        assert_eq!(urls(&format!("{whole}?a=1"), own, None), [format!("{whole}?a=1")]);
        assert_eq!(urls(&format!("{whole}#rc=2"), own, None), [whole]);
        assert_eq!(urls(whole, Some("/in/acme/sms/"), None), [&format!("{whole}/"), whole]);
        // Only the URL is known, as offline.
        assert_eq!(urls(whole, None, None), [whole]);
        assert_eq!(urls("no url", own, None), Vec::<String>::new());
    }

    #[test]
    fn a_port_may_be_written_or_left_out() {
        for (origin, other) in [
            ("https://h.example", Some("https://h.example:443")),
            ("http://h.example", Some("http://h.example:80")),
            ("https://h.example:8443", Some("https://h.example")),
            ("https://[::1]", Some("https://[::1]:443")),
            ("https://[::1]:444", Some("https://[::1]")),
            ("other://h", None),
        ] {
            assert_eq!(with_the_other_port(origin).as_deref(), other, "{origin}");
        }
    }
}
