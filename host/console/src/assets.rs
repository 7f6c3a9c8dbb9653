//! What pages look like and the one script. The address of an asset has its content's digest, so that a browser keeps it for as long
//! as it likes, and never mixes two versions.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use data_encoding::HEXLOWER;
use http::{StatusCode, header};
use sha2::{Digest as _, Sha256};
use tollgate_core::portal::Colour;

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

/// Where the colours of a portal link are; nothing for whoever came otherwise.
pub(crate) fn colours(accent: Option<&str>) -> String {
    let digits = accent.and_then(|accent| accent.strip_prefix('#'));
    digits.map_or_else(String::new, |digits| format!("{}/colours/{digits}", crate::ROOT))
}

/// Answers the colours that a page has with an accent, to whoever asks: they are made of the address, which is digits, and of nothing else.
pub(crate) async fn colours_of(Path(digits): Path<String>) -> Response {
    let Ok(accent) = format!("#{digits}").parse::<Colour>() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let [light, dark] = accent.shades();
    let style = format!(
        ":root {{\n  --accent: light-dark({}, {});\n  --on-accent: light-dark({}, {});\n  --wash: light-dark({}, {});\n}}\n",
        light.accent, dark.accent, light.on_accent, dark.on_accent, light.wash, dark.wash,
    );
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    (headers, style).into_response()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The colours of links are moved as far as the grounds of this style need it.
    #[test]
    fn o13_the_grounds_that_accents_are_held_against_are_those_of_the_style() {
        for says in [
            "--sheet: light-dark(#ffffff, #1b1d20)",
            "--sunk: light-dark(#f3f1ec, #0f1011)",
            "--paper: light-dark(#faf9f6, #141517)",
        ] {
            assert!(STYLE.contains(says), "{says}");
        }
    }
}
