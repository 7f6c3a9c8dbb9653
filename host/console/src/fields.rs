//! A form that is filled in: its fields, each with its hint and what is wrong with what somebody wrote there.

use askama::Template;

use tollgate_api::FieldProblem;

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
    /// Something is wrong with the settings that were made of it.
    Problems(Vec<FieldProblem>),
    Trouble(Trouble),
}

/// What somebody filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrote {
    /// Fields, of which settings are made whose lines nobody sees.
    Fields,
    /// The settings' text itself.
    Text,
}

impl Unfit {
    /// Something is wrong with the form, and not with one of its fields alone.
    pub(crate) fn said(says: impl Into<String>) -> Self {
        Self::at("", says)
    }

    /// What is wrong, to be said beside the fields that it is about.
    ///
    /// # Errors
    /// When it is nothing that whoever filled the form in can mend.
    pub(crate) fn wrong(self, wrote: Wrote) -> Result<Vec<Wrong>, Trouble> {
        match self {
            Self::Wrong(wrong) => Ok(wrong),
            Self::Problems(problems) => Ok(problems.iter().map(|problem| said(problem, wrote)).collect()),
            Self::Trouble(trouble) => Err(trouble),
        }
    }

    /// Something is wrong with a field.
    pub(crate) fn at(field: &str, says: impl Into<String>) -> Self {
        Self::Wrong(vec![(field.to_owned(), says.into())])
    }
}

impl From<Trouble> for Unfit {
    /// What a call says of what was filled in is said beside it.
    fn from(trouble: Trouble) -> Self {
        match (trouble.is_of_form(), trouble.problems.is_empty()) {
            (true, true) => Self::said(trouble.says),
            (true, false) => Self::Problems(trouble.problems),
            (false, _) => Self::Trouble(trouble),
        }
    }
}

/// A problem with settings: of their text at its line, of fields at the one that says the key, `url` of `destinations.books.url`.
fn said(problem: &FieldProblem, wrote: Wrote) -> Wrong {
    let says = format!("{} ({})", problem.message, problem.help);
    match (wrote, problem.line) {
        (Wrote::Text, Some(line)) => (String::new(), format!("line {line}: {says}")),
        (Wrote::Text, None) => (String::new(), says),
        (Wrote::Fields, _) => {
            let key = problem.field.as_deref().and_then(|field| field.rsplit('.').next());
            let key = key.and_then(|key| key.split('[').next()).unwrap_or_default();
            (key.to_owned(), says)
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
    /// What whoever fills it in should know, and of whom that is.
    pub(crate) needs: Vec<(&'static str, String)>,
    pub(crate) needs_of: String,
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
            frame: frame.within(&back),
            action,
            about: String::new(),
            tenant: tenant.to_owned(),
            of: Vec::new(),
            needs: Vec::new(),
            needs_of: String::new(),
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
