//! A form that is filled in: its fields, each with its hint and what is wrong with what somebody wrote there.

use askama::Template;

use crate::asked::Trouble;
use crate::page::Frame;
use crate::visit::field;

/// How somebody fills a field in.
pub(crate) enum Kind {
    /// It begins a part of the form, and is filled in with nothing.
    Head,
    Line,
    /// What is filled in is not shown, and comes back in no page.
    Hidden,
    Lines(u8),
    /// One of these: the value, and what people call it.
    One(Vec<(String, String)>),
    /// Any of these.
    Many(Vec<(String, String)>),
    /// Any of these: the value, what it means, and whether it is chosen. Each is a field `NAME-VALUE`.
    Any(Vec<(String, String, bool)>),
    /// Yes or no.
    Tick,
}

pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) kind: Kind,
    pub(crate) value: String,
    /// Of [`Kind::Many`].
    pub(crate) values: Vec<String>,
    pub(crate) hint: String,
    pub(crate) required: bool,
    /// What is wrong with it.
    pub(crate) wrong: String,
    /// The line that was written, with a mark below the place.
    pub(crate) place: String,
}

impl Field {
    pub(crate) fn has(&self, value: &str) -> bool {
        self.values.iter().any(|chosen| chosen == value)
    }

    /// What describes it, by id, for whoever does not see where it stands.
    pub(crate) fn described(&self) -> String {
        let hint = (!self.hint.is_empty()).then(|| format!("h-{}", self.name));
        let wrong = (!self.wrong.is_empty()).then(|| format!("w-{}", self.name));
        hint.into_iter().chain(wrong).collect::<Vec<_>>().join(" ")
    }
}

pub(crate) fn line(name: &str, label: &str, hint: &str, required: bool) -> Field {
    Field {
        name: name.to_owned(),
        label: label.to_owned(),
        kind: Kind::Line,
        value: String::new(),
        values: Vec::new(),
        hint: hint.to_owned(),
        required,
        wrong: String::new(),
        place: String::new(),
    }
}

pub(crate) fn head(label: &str, hint: &str) -> Field {
    Field {
        kind: Kind::Head,
        ..line("", label, hint, false)
    }
}

pub(crate) fn pairs(names: impl IntoIterator<Item = impl Into<String>>) -> Vec<(String, String)> {
    let names = names.into_iter().map(Into::into);
    names.map(|name: String| (name.clone(), name)).collect()
}

/// What is wrong with a field of a form: its name, and the problem in words.
pub(crate) type Wrong = (String, String);

/// What is said where a form that asks for a reason has none.
pub(crate) const NO_REASON: &str = "why: say why: the history keeps it";

/// Why a form comes to no call.
pub(crate) enum Unfit {
    /// Something is wrong with what was filled in.
    Wrong(Vec<Wrong>),
    Trouble(Trouble),
}

impl Unfit {
    /// Something is wrong with the form, and not with one of its fields alone.
    pub(crate) fn said(says: impl Into<String>) -> Self {
        Self::at("", says)
    }

    /// Something is wrong with a field.
    pub(crate) fn at(field: &str, says: impl Into<String>) -> Self {
        Self::Wrong(vec![(field.to_owned(), says.into())])
    }
}

impl From<Trouble> for Unfit {
    /// What a call says of what was filled in is said beside it.
    fn from(trouble: Trouble) -> Self {
        match trouble.is_of_form() {
            true => Self::said(trouble.says),
            false => Self::Trouble(trouble),
        }
    }
}

/// The page of a form.
#[derive(Template)]
#[template(path = "set.html")]
pub(crate) struct Form {
    pub(crate) frame: Frame,
    /// Where it is sent.
    pub(crate) action: String,
    pub(crate) about: String,
    pub(crate) tenant: String,
    /// What stays as it is, and goes with the form.
    pub(crate) of: Vec<(&'static str, String)>,
    /// What whoever fills it in should know.
    pub(crate) needs: Vec<(&'static str, String)>,
    pub(crate) fields: Vec<Field>,
    /// It asks for something before there is a form to send.
    pub(crate) is_question: bool,
    /// It asks for a reason, which the history keeps.
    pub(crate) asks_why: bool,
    pub(crate) why: String,
    pub(crate) button: &'static str,
    pub(crate) back: String,
    pub(crate) wrong: String,
}

impl Form {
    pub(crate) fn new(frame: Frame, action: String, tenant: &str, back: String) -> Self {
        Self {
            frame,
            action,
            about: String::new(),
            tenant: tenant.to_owned(),
            of: Vec::new(),
            needs: Vec::new(),
            fields: Vec::new(),
            is_question: false,
            asks_why: true,
            why: String::new(),
            button: "Look at what would be done",
            back,
            wrong: String::new(),
        }
    }

    /// Puts back what was filled in. Of a form that was sent, what is not there was left empty.
    pub(crate) fn refill(&mut self, given: &[(String, String)]) {
        let is_sent = given.iter().any(|(name, _)| name == "why");
        for one in &mut self.fields {
            match one.kind {
                Kind::Head | Kind::Hidden | Kind::Any(_) => {}
                Kind::Many(_) => {
                    let chosen = given.iter().filter(|(name, _)| *name == one.name);
                    let chosen: Vec<_> = chosen.map(|(_, value)| value.clone()).collect();
                    if is_sent || !chosen.is_empty() {
                        one.values = chosen;
                    }
                }
                Kind::Line | Kind::Lines(_) | Kind::One(_) | Kind::Tick => {
                    let was = field(given, &one.name);
                    if is_sent || !was.is_empty() {
                        one.value = was.to_owned();
                    }
                }
            }
        }
        self.why = field(given, "why").to_owned();
    }

    /// Says what is wrong beside the field that it is about, or above all of them.
    pub(crate) fn blame(&mut self, wrong: Vec<Wrong>) {
        let mut rest = Vec::new();
        for (name, says) in wrong {
            match self.fields.iter_mut().find(|one| one.name == name && !name.is_empty()) {
                Some(one) if one.wrong.is_empty() => one.wrong = says,
                Some(one) => one.wrong = format!("{}; {says}", one.wrong),
                None => rest.push(says),
            }
        }
        if !rest.is_empty() {
            self.wrong = rest.join("; ");
        }
    }

    pub(crate) fn has_wrong_fields(&self) -> bool {
        self.fields.iter().any(|one| !one.wrong.is_empty())
    }
}
