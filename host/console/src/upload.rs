//! A plugin's version, handed in by form: a file goes to the host, which vets it and keeps it. Nothing runs it by that; it is published by a form
//! of its own, which is looked at first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use askama::Template;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use tollgate_api::plugins::UploadQuery;
use tollgate_api::{Nothing, SIGNATURE_HEADER, calls};
use tollgate_core::access::Permission;
use tollgate_core::{limits, mask};

use crate::Console;
use crate::act::ACTOR;
use crate::asked::Trouble;
use crate::page::{Frame, may, show, show_as};
use crate::settings::tenants;
use crate::visit::{Filled, Handed, Visit, asked, field, go};

/// Where a form with a file is sent.
pub(crate) const PATH: &str = "/console/plugins/upload";
/// Beside the component: the other fields, and what stands between.
const AROUND_BYTES_MAX: usize = 64 * 1024;
/// Parts of one form.
const PARTS_MAX: usize = 16;

/// A place for one file in memory; it is free again when this is dropped.
pub(crate) struct Held(Arc<AtomicUsize>);

impl Held {
    /// # Errors
    /// When there are as many as there may be.
    pub(crate) fn take(uploads: &Arc<AtomicUsize>) -> Result<Self, Trouble> {
        let taken = uploads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            (held < limits::CONSOLE_UPLOADS_MAX).then_some(held + 1)
        });
        match taken {
            Ok(_) => Ok(Self(Arc::clone(uploads))),
            Err(_) => Err(Trouble::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "others hand plugins in at this moment; nothing was done. Try again",
            )),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads a form with a file, of somebody who may hand plugins in.
///
/// # Errors
/// When it is too long, or no such form.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> Result<(Filled, Option<Handed>), Trouble> {
    let most = limits::COMPONENT_BYTES_MAX + AROUND_BYTES_MAX;
    let too_long = || {
        let says = format!(
            "a plugin has at most {} MiB; nothing was done",
            limits::COMPONENT_BYTES_MAX >> 20
        );
        Trouble::new(StatusCode::PAYLOAD_TOO_LARGE, says)
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    if announced
        .and_then(|text| text.parse::<usize>().ok())
        .is_some_and(|bytes| bytes > most)
    {
        return Err(too_long());
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = kind.and_then(boundary).ok_or_else(not_whole)?;
    let bytes = axum::body::to_bytes(body, most).await.map_err(|_| too_long())?;
    let mut fields = Vec::new();
    let mut handed = None;
    for part in parts(&boundary, &bytes).ok_or_else(not_whole)? {
        if part.name == "component" {
            handed = Some(Handed(part.bytes));
        } else {
            let text = String::from_utf8(part.bytes.to_vec());
            fields.push((
                part.name,
                text.map_err(|_| Trouble::bad("a field of the form is no text; nothing was done"))?,
            ));
        }
    }
    Ok((Filled(fields), handed))
}

fn not_whole() -> Trouble {
    Trouble::bad("this form is not whole: nothing was done. Open its page again and send it from there")
}

/// What stands between the parts of a form, as its Content-Type says it.
fn boundary(kind: &str) -> Option<Vec<u8>> {
    let (kind, rest) = kind.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = rest.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then_some(value.trim())
    })?;
    let value = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value);
    let is_one = (1..=70).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    is_one.then(|| format!("--{value}").into_bytes())
}

struct Part {
    name: String,
    bytes: Bytes,
}

/// The parts of a form (RFC 7578). None where it is none.
fn parts(delimiter: &[u8], body: &Bytes) -> Option<Vec<Part>> {
    let mut found = Vec::new();
    let mut rest = body.clone();
    if !rest.starts_with(delimiter) {
        return None;
    }
    let _ = rest.split_to(delimiter.len());
    let between = [b"\r\n", delimiter].concat();
    loop {
        if rest.starts_with(b"--") {
            return Some(found);
        }
        if !rest.starts_with(b"\r\n") || found.len() == PARTS_MAX {
            return None;
        }
        let _ = rest.split_to(2);
        let head_bytes = position(rest.get(..rest.len().min(4096))?, b"\r\n\r\n")?;
        let head = rest.split_to(head_bytes);
        let _ = rest.split_to(4);
        let bytes = rest.split_to(position(&rest, &between)?);
        let _ = rest.split_to(between.len());
        found.push(Part {
            name: name_of(std::str::from_utf8(&head).ok()?)?,
            bytes,
        });
    }
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    while let Some(at) = bytes.get(from..)?.iter().position(|byte| *byte == first) {
        let at = from + at;
        if bytes.get(at..)?.starts_with(wanted) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// The name of a part, by its head.
fn name_of(head: &str) -> Option<String> {
    let line = head.split("\r\n").find(|line| {
        line.get(..20)
            .is_some_and(|name| name.eq_ignore_ascii_case("content-disposition:"))
    })?;
    let (_, rest) = line.split_once("; name=\"")?;
    let (name, _) = rest.split_once('"')?;
    Some(name.to_owned())
}

#[derive(Template)]
#[template(path = "upload.html")]
struct Upload {
    frame: Frame,
    tenant: String,
    /// Whoever sees the whole host chooses whose it is.
    asks_whose: bool,
    tenants: Vec<String>,
    most_mib: usize,
    wrong: String,
}

impl Upload {
    async fn of(console: &Console, visit: &Visit, tenant: &str, wrong: String) -> Result<Self, Trouble> {
        let own = visit.visitor.who.tenant.as_ref();
        let tenants = match own {
            Some(_) => Vec::new(),
            None => tenants(console, visit).await?,
        };
        Ok(Self {
            frame: Frame::of(visit, "Upload a plugin"),
            tenant: own.map_or_else(|| tenant.to_owned(), ToString::to_string),
            asks_whose: own.is_none(),
            tenants: tenants.iter().map(ToString::to_string).collect(),
            most_mib: limits::COMPONENT_BYTES_MAX >> 20,
            wrong,
        })
    }
}

/// `GET /console/plugins/upload`.
pub(crate) async fn form(State(console): State<Arc<Console>>, visit: Visit, uri: Uri) -> Result<Response, Trouble> {
    if !may(&visit, Permission::PluginUpload) {
        return Err(Trouble::new(StatusCode::FORBIDDEN, "your token hands no plugins in"));
    }
    let asked = asked(&uri);
    let page = Upload::of(&console, &visit, field(&asked, "tenant"), String::new());
    Ok(show(&page.await?))
}

/// `POST /console/plugins/upload`: hands the file in, and goes to the page of what it became.
pub(crate) async fn upload(
    State(console): State<Arc<Console>>,
    visit: Visit,
    form: Filled,
    handed: Handed,
) -> Result<Response, Trouble> {
    let again = async |status, says: &str| {
        let page = Upload::of(&console, &visit, form.get("tenant"), mask::line(says, 2000));
        Ok(show_as(status, &page.await?))
    };
    if handed.0.is_empty() {
        return again(
            StatusCode::BAD_REQUEST,
            "choose the component, a .wasm file as `tollgate plugin build` makes it",
        )
        .await;
    }
    let mut headers = HeaderMap::new();
    if let Some(signature) = form.given("signature") {
        let one_line: String = signature.lines().map(str::trim).collect();
        let Ok(value) = HeaderValue::from_str(&one_line) else {
            return again(
                StatusCode::BAD_REQUEST,
                "the signature is not the document that `tollgate plugin sign` writes",
            )
            .await;
        };
        headers.insert(HeaderName::from_static(SIGNATURE_HEADER), value);
    }
    let query = UploadQuery {
        tenant: form.given("tenant"),
        dry_run: false,
        actor: ACTOR.to_owned(),
    };
    let sent = (Body::from(handed.0), headers);
    let token = &visit.visitor.token;
    match console
        .send::<calls::UploadPlugin>(token, &Nothing {}, &query, sent)
        .await
    {
        Ok(version) => Ok(go(&format!("{}/plugins/{}?uploaded=1", crate::ROOT, version.digest))),
        Err(trouble) if trouble.status.is_client_error() && trouble.status != StatusCode::UNAUTHORIZED => {
            again(trouble.status, &trouble.says).await
        }
        Err(trouble) => Err(trouble),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o8_a_form_with_a_file_is_read_as_it_was_sent_and_no_other() {
        let delimiter = boundary("multipart/form-data; boundary=----x7").unwrap();
        assert_eq!(
            boundary("multipart/form-data; charset=utf-8; BOUNDARY=\"a b\"").unwrap(),
            b"--a b"
        );
        for kind in [
            "multipart/form-data",
            "text/plain; boundary=x",
            "multipart/form-data; boundary=",
        ] {
            assert!(boundary(kind).is_none(), "{kind}");
        }
        let body = "------x7\r\nContent-Disposition: form-data; name=\"form_key\"\r\n\r\nk\r\n------x7\r\n\
                    content-disposition: form-data; name=\"component\"; filename=\"a.wasm\"\r\nContent-Type: application/wasm\r\n\r\n\
                    \0asm\r\n--\r\n------x\r\n------x7--\r\n";
        let found = parts(&delimiter, &Bytes::from(body)).unwrap();
        let found: Vec<_> = found.iter().map(|part| (part.name.as_str(), &part.bytes[..])).collect();
        assert_eq!(
            found,
            [("form_key", &b"k"[..]), ("component", b"\0asm\r\n--\r\n------x")]
        );
        for cut in 0..body.len() - 4 {
            let cut_off = parts(&delimiter, &Bytes::from(body.as_bytes()[..cut].to_vec()));
            assert!(cut_off.is_none(), "cut at {cut}");
        }
        assert!(
            parts(&delimiter, &Bytes::from("------x7\r\n\r\n\r\nx\r\n------x7--")).is_none(),
            "a part without a name"
        );
    }

    #[test]
    fn o8_files_are_held_in_memory_two_at_a_time() {
        let uploads = Arc::new(AtomicUsize::new(0));
        let first = Held::take(&uploads).unwrap();
        let _second = Held::take(&uploads).unwrap();
        assert!(Held::take(&uploads).is_err());
        drop(first);
        assert!(Held::take(&uploads).is_ok());
    }
}
