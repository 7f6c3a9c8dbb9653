//! Reads the texts of requests.

use tollgate_core::time::UnixMillis;

/// How many rows one answer has when nobody asks for another number.
const ROWS_DEFAULT: usize = 20;
/// The most rows that one answer has.
pub(crate) const ROWS_MAX: usize = 1000;

/// How many rows an answer may have. Whoever asks counts in 64 bits, also where a host has 32.
pub(crate) fn rows_within(asked: Option<u64>, default: usize, max: usize) -> usize {
    asked.map_or(default, |rows| usize::try_from(rows).unwrap_or(max).min(max))
}

/// How many rows a list has.
pub(crate) fn rows(asked: Option<u64>) -> usize {
    rows_within(asked, ROWS_DEFAULT, ROWS_MAX)
}

/// How many rows one change is about: as many as it may, unless somebody asks for fewer, and never none.
pub(crate) fn rows_of_a_change(asked: Option<u64>) -> usize {
    rows_within(asked, ROWS_MAX, ROWS_MAX).max(1)
}

pub(crate) fn since(text: Option<String>) -> Result<Option<UnixMillis>, String> {
    instant("since", text)
}

pub(crate) fn instant(field: &str, text: Option<String>) -> Result<Option<UnixMillis>, String> {
    text.map(|text| {
        UnixMillis::from_rfc3339(&text)
            .ok_or_else(|| format!("{field}: `{text}` is not an instant such as 2026-05-05T10:00:00Z"))
    })
    .transpose()
}

pub(crate) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &str,
    text: Option<String>,
) -> Result<Option<T>, String> {
    text.map(|text| read(field, &text)).transpose()
}

/// As [`parse`], of a field that must be there.
pub(crate) fn read<T: std::str::FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{field}: {error}"))
}
