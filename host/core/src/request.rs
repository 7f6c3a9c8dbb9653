//! What came in over HTTP, as it came: nothing is parsed yet and nothing is believed.

use crate::time::UnixMillis;

/// One header as received. Names are lower case; values are raw bytes.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    pub name: &'a str,
    pub value: &'a [u8],
}

/// A request before verification. Borrowed: intake copies a body once, into the store.
#[derive(Debug, Clone, Copy)]
pub struct RawRequest<'a> {
    /// In capitals, as it came.
    pub method: &'a str,
    /// The query of the request's target, without the `?`, as it came.
    pub query: Option<&'a str>,
    pub headers: &'a [Header<'a>],
    /// Exactly the bytes that were sent.
    pub body: &'a [u8],
    /// The source's configured public URL, for schemes that sign it. Never taken from Host or X-Forwarded-*.
    pub url: Option<&'a str>,
    /// When the last byte of the body was read.
    pub received_at: UnixMillis,
}

impl<'a> RawRequest<'a> {
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
