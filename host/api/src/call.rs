//! What a call is, and how its parts are read and written on either side of the wire.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tollgate_core::access::Permission;

/// One call of the operator API. Its types say what goes over the wire; the table in [`crate::calls`] is the only place that
/// names them.
pub trait Call: 'static {
    /// The method of the request.
    const METHOD: Method;
    /// The path, with `{name}` for each field of [`Call::Path`]. `{tenant}` is the tenant that the call is about.
    const PATH: &'static str;
    /// What the caller must be allowed.
    const PERMISSION: Permission;
    /// What the request's body is.
    const TAKES: Content;

    /// The values in the path, one field for each `{name}`; [`Nothing`] where it has none.
    type Path: Serialize + DeserializeOwned + Send;
    /// The parameters of the query; [`Nothing`] where there are none.
    type Query: Serialize + DeserializeOwned + Send;
    /// The request's body as JSON; [`Nothing`] where there is none.
    type Body: Serialize + DeserializeOwned + Send;
    /// The body of the answer 200; [`Nothing`] where that is no JSON.
    type Answer: Serialize + DeserializeOwned + Send;
}

/// Stands where a call has no parameters, or no body.
#[derive(Debug, Default, Clone, Copy, Serialize, serde::Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The HTTP methods that calls use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads, and changes nothing.
    Get,
    /// Changes something, or adds something.
    Post,
    /// Puts something in the place of what was there.
    Put,
    /// Removes something.
    Delete,
}

impl Method {
    /// The method as a request has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// There is none.
    Nothing,
    /// A JSON document.
    Json,
    /// A WebAssembly component.
    Component,
    /// Text for Prometheus.
    Metrics,
}

/// The body of every answer whose status is not 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "document", schemars(rename = "Error"))]
pub struct ErrorBody {
    /// In words: what is wrong, where, and how to mend it.
    pub error: String,
    /// A word for programs, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Each thing that is wrong with what was sent, where there may be several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<FieldProblem>,
}

/// One thing that is wrong with what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[cfg_attr(feature = "document", derive(schemars::JsonSchema))]
pub struct FieldProblem {
    /// What it is about, for example `routes.cashback.grants`; null where it is the whole.
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: String,
    /// Where it stands in a text that was sent, from 1; absent where it is at no one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The same in its line, in characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
}

/// Whether a request's path is one of a call; `template` is [`Call::PATH`].
pub fn is_path(template: &str, path: &str) -> bool {
    let (mut parts, mut segments) = (template.split('/'), path.split('/'));
    loop {
        match (parts.next(), segments.next()) {
            (None, None) => return true,
            (Some(part), Some(segment)) if part == segment || part.starts_with('{') && !segment.is_empty() => {}
            (Some(_), Some(_)) | (Some(_), None) | (None, Some(_)) => return false,
        }
    }
}

/// Reads what stands in a path; for hosts without a router.
///
/// # Errors
/// In words, when it is not what the call takes.
pub fn read_path<C: Call>(path: &str) -> Result<C::Path, String> {
    let pairs = C::PATH.split('/').zip(path.split('/'));
    let named = pairs.filter_map(|(part, segment)| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        // As in a form, except that a plus stands for itself.
        let form = format!("{name}={}", segment.replace('+', "%2B"));
        form_urlencoded::parse(form.as_bytes())
            .next()
            .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
    });
    let fields: serde_json::Map<String, serde_json::Value> = named.collect();
    serde_json::from_value(fields.into()).map_err(|error| format!("path: {error}"))
}

/// Reads a query; `text` is what stands behind the `?`, or empty.
///
/// # Errors
/// In words, naming the parameter, when one is unknown, or not what its name says.
pub fn read_query<C: Call>(text: &str) -> Result<C::Query, String> {
    serde_urlencoded::from_str(text).map_err(|error| {
        // The error says what is wrong and not where: it is at the parameter without which all is well.
        let pairs: Vec<(String, String)> = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        let is_wrong = |at: &usize| {
            let others = pairs.iter().enumerate().filter(|(other, _)| other != at);
            let others: Vec<_> = others.map(|(_, pair)| pair).collect();
            serde_urlencoded::to_string(others)
                .is_ok_and(|others| serde_urlencoded::from_str::<C::Query>(&others).is_ok())
        };
        match (0..pairs.len()).find(is_wrong).map(|at| &pairs[at]) {
            Some((name, value)) => format!(
                "parameter {}: `{}`: {error}",
                tollgate_core::mask::line(name, 60),
                tollgate_core::mask::line(value, 60)
            ),
            None => format!("parameters: {error}"),
        }
    })
}

/// Reads a body. Where the call takes none, whatever came is passed over.
///
/// # Errors
/// In words, when it is not what the call takes.
pub fn read_body<C: Call>(bytes: &[u8]) -> Result<C::Body, String> {
    let bytes = match C::TAKES {
        // An empty body stands for an empty object.
        Content::Json if bytes.is_empty() => b"{}",
        Content::Json => bytes,
        Content::Nothing | Content::Component | Content::Metrics => b"{}",
    };
    // A list would be read as the fields in their order, which nobody means.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err("the body is not what is asked for: it is no JSON object".to_owned());
    }
    serde_json::from_slice(bytes).map_err(|error| format!("the body is not what is asked for: {error}"))
}

/// The path and query that ask for a call.
///
/// # Errors
/// When the values cannot be written as text.
pub fn question<C: Call>(path: &C::Path, query: &C::Query) -> Result<String, serde_json::Error> {
    let mut question = C::PATH.to_owned();
    for (name, value) in texts(path)? {
        question = question.replace(&format!("{{{name}}}"), &escaped(&value));
    }
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    for (name, value) in texts(query)? {
        pairs.append_pair(&name, &value);
    }
    let pairs = pairs.finish();
    if !pairs.is_empty() {
        question.push('?');
        question.push_str(&pairs);
    }
    Ok(question)
}

/// The fields of a struct that are not null, as text.
fn texts(value: &impl Serialize) -> Result<Vec<(String, String)>, serde_json::Error> {
    let serde_json::Value::Object(fields) = serde_json::to_value(value)? else {
        return Ok(Vec::new());
    };
    let given = fields.into_iter().filter(|(_, value)| !value.is_null());
    Ok(given
        .map(|(name, value)| match value {
            serde_json::Value::String(text) => (name, text),
            other => (name, other.to_string()),
        })
        .collect())
}

/// One segment of a path.
fn escaped(segment: &str) -> String {
    use std::fmt::Write as _;

    let mut text = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'@' => text.push(byte.into()),
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls;

    #[test]
    fn a_body_is_an_object() {
        let check = |body: &[u8], expect: Result<(), &str>| {
            let read = read_body::<calls::LiftQuarantine>(body).map(|_| ());
            match (read, expect) {
                (Ok(()), Ok(())) => {}
                (Err(found), Err(expect)) => assert!(found.contains(expect), "{found}"),
                (read, _) => panic!("{}: {read:?}", String::from_utf8_lossy(body)),
            }
        };
        check(br#" {"why":"w","actor":"a"}"#, Ok(()));
        check(br#"["acme","r","w"]"#, Err("no JSON object"));
        check(b"7", Err("no JSON object"));
        check(b"{", Err("EOF"));
    }

    #[test]
    fn a_question_reads_back_what_it_was_written_from() {
        let query = crate::trace::TraceParameters {
            id: Some("red 1&2".to_owned()),
            limit: Some(u64::MAX),
            ..Default::default()
        };
        let question = question::<calls::Trace>(&Nothing {}, &query).unwrap();
        assert_eq!(question, "/v1/trace?id=red+1%262&limit=18446744073709551615");
        let (_, asked) = question.split_once('?').unwrap();
        let read = read_query::<calls::Trace>(asked).unwrap();
        assert_eq!(read.id.as_deref(), Some("red 1&2"));
        assert_eq!(read.checked().unwrap().receipts_max, 1000);
        let path = crate::plugins::PluginPath {
            plugin: "a/b c@1.0.0".to_owned(),
        };
        let question = super::question::<calls::ShowPlugin>(&path, &Default::default()).unwrap();
        assert_eq!(question, "/v1/plugins/a%2Fb%20c@1.0.0");
        assert!(is_path(calls::ShowPlugin::PATH, &question) && !is_path(calls::PluginHistory::PATH, &question));
        assert!(!is_path(calls::ShowPlugin::PATH, "/v1/plugins/"));
        assert_eq!(read_path::<calls::ShowPlugin>(&question).unwrap().plugin, path.plugin);
        assert!(read_path::<calls::ShowRoute>("/v1/tenants/No Tenant/routes/r").is_err());
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for (query, part) in [
            ("tenant=acme&limit=many", "parameter limit: `many`"),
            ("tenants=acme", "parameter tenants: `acme`: unknown field"),
            ("id=a&id=b", "parameter id: `a`: duplicate field"),
        ] {
            let said = read_query::<calls::Trace>(query).unwrap_err();
            assert!(said.contains(part), "{query}: {said}");
        }
    }
}
