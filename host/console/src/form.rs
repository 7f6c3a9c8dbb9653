//! Forms with fields of their own, as every one that adds something shows them.

use askama::Template;

use crate::page::Frame;

/// How somebody fills a field in.
pub(crate) enum Kind {
    Line,
    /// What is filled in is not shown, and comes back in no page.
    Hidden,
    Lines(u8),
    /// One of these: the value, and what people call it.
    One(Vec<(String, String)>),
    /// Any of these: the value, what people call it, and whether it is chosen. Each is a field `NAME-VALUE`.
    Any(Vec<(String, String, bool)>),
}

pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) kind: Kind,
    pub(crate) value: String,
    pub(crate) hint: String,
    pub(crate) required: bool,
}

#[derive(Template)]
#[template(path = "set.html")]
pub(crate) struct Form {
    pub(crate) frame: Frame,
    /// Where it is sent.
    pub(crate) action: String,
    pub(crate) about: &'static str,
    /// Whose it is; empty where that is no matter of the form, or is asked for by it.
    pub(crate) tenant: String,
    /// What stays as it is, and goes with the form.
    pub(crate) of: Vec<(&'static str, String)>,
    /// What a provider needs, in words.
    pub(crate) needs: Vec<(&'static str, String)>,
    pub(crate) fields: Vec<Field>,
    /// It asks for something before there is a form to send.
    pub(crate) is_question: bool,
    pub(crate) why: String,
    pub(crate) back: String,
    pub(crate) wrong: String,
}

pub(crate) fn line(name: &str, label: &str, hint: &str, required: bool) -> Field {
    Field {
        name: name.to_owned(),
        label: label.to_owned(),
        kind: Kind::Line,
        value: String::new(),
        hint: hint.to_owned(),
        required,
    }
}
