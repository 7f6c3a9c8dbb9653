//! What pages look like and the one script. The address of an asset has its content's digest, so that a browser keeps it for as long
//! as it likes, and never mixes two versions.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use data_encoding::HEXLOWER;
use http::{StatusCode, header};
use sha2::{Digest as _, Sha256};

const STYLE: &str = include_str!("../assets/console.css");
const SCRIPT: &str = include_str!("../assets/console.js");
const ICON: &str = include_str!("../assets/icon.svg");

/// The first digits of the digest of all assets together.
static DIGEST: LazyLock<String> = LazyLock::new(|| {
    let all = [STYLE, SCRIPT, ICON].join("\0");
    HEXLOWER.encode(&Sha256::digest(all)[..6])
});

/// The folder of the assets, as pages name it.
pub(crate) fn folder() -> String {
    format!("{}/assets/{}", crate::ROOT, *DIGEST)
}

/// Answers an asset to whoever asks: there is no secret in them, and the page to sign in needs them.
pub(crate) async fn asset(Path((digest, name)): Path<(String, String)>) -> Response {
    let (kind, text) = match name.as_str() {
        "console.css" => ("text/css; charset=utf-8", STYLE),
        "console.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    if digest != *DIGEST {
        return StatusCode::NOT_FOUND.into_response();
    }
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    (headers, text).into_response()
}
