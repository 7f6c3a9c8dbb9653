//! The raw stage: what a file says, each key and value with its place. Reading a value checks its type; what is wrong goes to
//! the [`Findings`], and reading goes on.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tollgate_core::config_schema::{ConfigPath, Segment};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Problems};
use super::resolver::{Owner, Resolver};

/// Where problems are gathered while files are checked.
pub struct Findings<'a> {
    resolver: &'a dyn Resolver,
    problems: RefCell<Vec<Problem>>,
    /// Parts of files that must not be shown: (file, bytes).
    blots: RefCell<Vec<(String, Range<usize>)>>,
    /// Texts of files that a configuration names and that have problems of their own, by name.
    named: RefCell<BTreeMap<String, String>>,
}

/// One file's text.
pub struct File {
    name: String,
    text: String,
    /// What relative paths in it start from.
    folder: PathBuf,
}

/// A table of a file. Remembers which keys were asked for: the others are unknown.
pub struct Section<'a> {
    findings: &'a Findings<'a>,
    file: &'a File,
    /// As people write it in a header, for example `routes.cashback`; empty for the whole file.
    path: String,
    /// What to point at when something is missing.
    span: Range<usize>,
    table: &'a DeTable<'a>,
    asked: RefCell<Vec<&'static str>>,
}

/// A value of a file under its key.
#[derive(Clone)]
pub struct Value<'a> {
    findings: &'a Findings<'a>,
    file: &'a File,
    path: String,
    key_span: Range<usize>,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Findings<'a> {
    /// No problems yet; references are followed by `resolver`.
    pub fn new(resolver: &'a dyn Resolver) -> Self {
        Self {
            resolver,
            problems: RefCell::default(),
            blots: RefCell::default(),
            named: RefCell::default(),
        }
    }

    /// Ends the checking of these files.
    ///
    /// # Errors
    /// When there are problems: all of them, in the order of the files and their lines.
    pub fn finish<'f>(self, files: impl Iterator<Item = &'f File>) -> Result<(), Problems> {
        let mut problems = self.problems.into_inner();
        if problems.is_empty() {
            return Ok(());
        }
        let files: Vec<_> = files.collect();
        // What stands in a file that another names comes last.
        let order = |problem: &Problem| {
            let at = files.iter().position(|file| file.name == problem.file);
            at.unwrap_or(if problem.line.is_none() { 0 } else { files.len() })
        };
        problems.sort_by_key(|problem| (order(problem), problem.file.clone(), problem.place()));
        let mut blots = self.blots.into_inner();
        for file in &files {
            blots.extend(secret_looking(&file.text).map(|span| (file.name.clone(), span)));
        }
        let mut texts: BTreeMap<_, _> = self
            .named
            .into_inner()
            .into_iter()
            .map(|(name, text)| {
                let shown = blotted(&text, secret_looking(&text));
                (name, shown)
            })
            .collect();
        let own = files.iter().map(|file| {
            let spans = blots
                .iter()
                .filter(|(name, _)| *name == file.name)
                .map(|(_, span)| span.clone());
            (file.name.clone(), blotted(&file.text, spans))
        });
        texts.extend(own);
        Err(Problems::new(problems, texts))
    }

    /// What was read of a file, when nothing was found.
    ///
    /// # Errors
    /// What was found.
    pub fn made<T>(self, read: Option<T>, file: &File) -> Result<T, Problems> {
        self.finish(std::iter::once(file))?;
        // A file without a problem makes something.
        read.ok_or_else(|| Problems::of_one(&file.name, "the file makes nothing", "compare it with the example"))
    }

    /// `field` is empty for what is about no one value.
    fn report(&self, file: &File, field: &str, span: Range<usize>, message: String, help: String) {
        self.problems.borrow_mut().push(Problem {
            field: (!field.is_empty()).then(|| field.to_owned()),
            ..Problem::at(&file.name, &file.text, span, message, help)
        });
    }
}

impl File {
    /// A file with this text, whose relative paths start from `folder`.
    pub fn new(name: String, text: String, folder: &Path) -> Self {
        Self {
            name,
            text,
            folder: folder.to_owned(),
        }
    }

    /// The file as it was when this was its text.
    #[must_use]
    pub fn with(&self, text: &str) -> Self {
        Self::new(self.name.clone(), text.to_owned(), &self.folder)
    }

    /// The text as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reads the file as TOML and hands its table to `check`. A file with a syntax error is not checked further: what follows
    /// the error would be guessed.
    pub fn read<T>(&self, findings: &Findings, check: impl FnOnce(&Section) -> Option<T>) -> Option<T> {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            blot_likely_secrets(self, findings);
            findings.report(
                self,
                "",
                span,
                format!("not TOML: {}", error.message()),
                "mend the syntax; the rest is checked then".into(),
            );
        }
        if !errors.is_empty() {
            return None;
        }
        let section = Section {
            findings,
            file: self,
            path: String::new(),
            span: 0..0,
            table: table.get_ref(),
            asked: RefCell::default(),
        };
        let checked = check(&section);
        section.finish();
        checked
    }

    /// The name that problems say.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A problem with the file's name.
    pub fn misnamed(&self, findings: &Findings, message: String, help: &str) {
        findings
            .problems
            .borrow_mut()
            .push(Problem::of_file(self.name.clone(), message, help.to_owned()));
    }
}

impl<'a> Section<'a> {
    /// The value under a key, if it is there. The key then counts as known.
    pub fn get(&self, key: &'static str) -> Option<Value<'a>> {
        self.asked.borrow_mut().push(key);
        let (name, value) = self.table.get_key_value(key)?;
        Some(self.value(name, value))
    }

    /// As [`Section::get`]; absence is a problem.
    pub fn require(&self, key: &'static str, help: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.problem(format!("{} needs `{key}`", self.title()), help);
        }
        value
    }

    /// The table under `key`.
    pub fn section(&self, key: &'static str) -> Option<Self> {
        self.get(key)?.section()
    }

    /// A whole number within `bounds`, in whatever holds it.
    pub fn number<T: TryFrom<i64>>(&self, key: &'static str, bounds: RangeInclusive<i64>) -> Option<T> {
        T::try_from(self.get(key)?.integer(bounds)?).ok()
    }

    /// All values of the table with their keys. Whatever the keys are, they are asked for.
    pub fn entries(&self) -> Vec<(&'a str, Value<'a>)> {
        self.table
            .iter()
            .map(|(name, value)| (name.get_ref().as_ref(), self.value(name, value)))
            .collect()
    }

    /// The tables under `key` by the names that people gave them, as in `[routes.cashback]`. A name of the wrong shape is a
    /// problem and left out.
    pub fn named<N: FromStr<Err: Display>>(&self, key: &'static str) -> Vec<(N, Section<'a>)> {
        let Some(group) = self.get(key).and_then(|value| value.section()) else {
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (name, value) in group.table.iter() {
            let value = group.value(name, value);
            let parsed = match name.get_ref().parse::<N>() {
                Ok(parsed) => Some(parsed),
                Err(error) => {
                    let field = format!("{}.{}", group.path, name.get_ref());
                    self.findings
                        .report(self.file, &field, name.span(), error.to_string(), "rename it".into());
                    None
                }
            };
            let section = value.section();
            if let (Some(parsed), Some(section)) = (parsed, section) {
                sections.push((parsed, section));
            }
        }
        sections
    }

    /// Reports the keys that nobody asked for. Call it last.
    pub fn finish(&self) {
        let asked = self.asked.borrow();
        for name in self
            .table
            .keys()
            .filter(|name| !asked.contains(&name.get_ref().as_ref()))
        {
            let help = suggestion(name.get_ref(), asked.iter().copied(), "known here");
            let message = format!("unknown key `{}` in {}", name.get_ref(), self.title());
            let dot = if self.path.is_empty() { "" } else { "." };
            let field = format!("{}{dot}{}", self.path, name.get_ref());
            self.findings.report(self.file, &field, name.span(), message, help);
        }
    }

    /// Reports a problem with the table as a whole.
    pub fn problem(&self, message: impl Into<String>, help: &str) {
        self.findings.report(
            self.file,
            &self.path,
            self.span.clone(),
            message.into(),
            help.to_owned(),
        );
    }

    /// What people call the table.
    pub fn title(&self) -> String {
        if self.path.is_empty() {
            "the file".to_owned()
        } else {
            format!("[{}]", self.path)
        }
    }

    /// A path relative to the file's folder.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.file.folder.join(path)
    }

    fn value(&self, name: &Spanned<toml::de::DeString<'a>>, value: &'a Spanned<DeValue<'a>>) -> Value<'a> {
        let dot = if self.path.is_empty() { "" } else { "." };
        Value {
            findings: self.findings,
            file: self.file,
            path: format!("{}{dot}{}", self.path, name.get_ref()),
            key_span: name.span(),
            value,
        }
    }
}

impl<'a> Value<'a> {
    /// A text.
    pub fn text(&self) -> Option<&'a str> {
        let text = self.value.get_ref().as_str();
        if text.is_none() {
            self.mistyped("a text in quotes");
        }
        text
    }

    /// True or false.
    pub fn boolean(&self) -> Option<bool> {
        let boolean = self.value.get_ref().as_bool();
        if boolean.is_none() {
            self.mistyped("true or false");
        }
        boolean
    }

    /// A whole number within `bounds`.
    pub fn integer(&self, bounds: RangeInclusive<i64>) -> Option<i64> {
        let DeValue::Integer(integer) = self.value.get_ref() else {
            self.mistyped("a whole number");
            return None;
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|number| bounds.contains(number));
        if number.is_none() {
            let (least, most) = (bounds.start(), bounds.end());
            self.problem(
                format!("`{}` is out of bounds", self.key()),
                &format!("write a number from {least} to {most}"),
            );
        }
        number
    }

    /// A text that a type reads.
    pub fn parse<T: FromStr<Err: Display>>(&self, help: &str) -> Option<T> {
        self.text()?
            .parse()
            .map_err(|error: T::Err| self.problem(error.to_string(), help))
            .ok()
    }

    /// The elements of a list.
    pub fn list(&self) -> Option<Vec<Self>> {
        let Some(elements) = self.value.get_ref().as_array() else {
            self.mistyped("a list in [ ]");
            return None;
        };
        Some(
            elements
                .iter()
                .map(|value| Self {
                    key_span: value.span(),
                    value,
                    ..self.clone()
                })
                .collect(),
        )
    }

    /// The elements of a list, each taken by `take`; `None` elements are left out, as their problem is reported. The same text
    /// twice is a problem.
    pub fn list_of<T>(&self, take: impl Fn(&Self) -> Option<T>) -> Vec<T> {
        let elements = self.list().unwrap_or_default();
        for (at, element) in elements.iter().enumerate() {
            let text = element.value.get_ref().as_str();
            if text.is_some()
                && elements[..at]
                    .iter()
                    .any(|earlier| earlier.value.get_ref().as_str() == text)
            {
                element.problem(
                    format!("`{}` stands twice in `{}`", text.unwrap_or_default(), self.key()),
                    "remove one",
                );
            }
        }
        elements.iter().filter_map(take).collect()
    }

    /// The table that the value is.
    pub fn section(&self) -> Option<Section<'a>> {
        let Some(table) = self.value.get_ref().as_table() else {
            self.mistyped("a table");
            return None;
        };
        Some(Section {
            findings: self.findings,
            file: self.file,
            path: self.path.clone(),
            span: self.key_span.clone(),
            table,
            asked: RefCell::default(),
        })
    }

    /// A path, made relative to the file's folder.
    pub fn path(&self) -> Option<PathBuf> {
        let text = self.text()?;
        if text.is_empty() {
            self.problem(format!("`{}` is empty", self.key()), "name a file");
            return None;
        }
        Some(self.file.folder.join(text))
    }

    /// The text of a small file that the value names, and whether a reader of problems may be shown lines of it.
    pub fn file_text(&self) -> Option<(String, Owner)> {
        let path = self.path()?;
        let text = self.resolver().text(&path, self.text()?);
        text.map_err(|refused| self.problem(refused.message, &refused.help))
            .ok()
    }

    /// A problem in the file that the value names, at its line and column where they are known. Of a file that is somebody else's no
    /// line is shown.
    pub fn problem_in_named_file(
        &self,
        (text, owner): &(String, Owner),
        place: Option<(usize, usize)>,
        message: String,
        help: &str,
    ) {
        let Some(path) = self.path() else { return };
        let name = path.display().to_string();
        let Some((line, column)) = place else {
            return self.problem(format!("{name}: {message}"), help);
        };
        if *owner == Owner::Foreign {
            return self.problem(format!("{name}, line {line}: {message}"), help);
        }
        let line_start: usize = text
            .split_inclusive('\n')
            .take(line.saturating_sub(1))
            .map(str::len)
            .sum();
        let rest = text.get(line_start..).unwrap_or_default();
        let start = line_start
            + rest
                .chars()
                .take(column.saturating_sub(1))
                .map(char::len_utf8)
                .sum::<usize>();
        let end = line_start + rest.lines().next().map_or(0, str::len);
        let problem = Problem::at(&name, text, start..end.max(start), message, help.to_owned());
        self.findings.problems.borrow_mut().push(problem);
        self.findings.named.borrow_mut().insert(name, text.clone());
    }

    /// What the file's references lead to.
    pub fn resolver(&self) -> &'a dyn Resolver {
        self.findings.resolver
    }

    /// The value at a path inside this one, or the nearest around it that the file has.
    pub fn at(&self, path: &ConfigPath) -> Self {
        let mut found = self.clone();
        for segment in &path.0 {
            let next = match (segment, found.value.get_ref()) {
                (Segment::Key(key), DeValue::Table(table)) => table
                    .get_key_value(key.as_str())
                    .map(|(name, value)| (format!("{}.{key}", found.path), name.span(), value)),
                (Segment::Index(at), DeValue::Array(list)) => list
                    .get(*at)
                    .map(|value| (format!("{}[{at}]", found.path), value.span(), value)),
                _ => None,
            };
            let Some((path, key_span, value)) = next else { break };
            found = Self {
                path,
                key_span,
                value,
                ..found
            };
        }
        found
    }

    /// Whether it is a list without elements.
    pub fn is_empty_list(&self) -> bool {
        self.raw().as_array().is_some_and(|elements| elements.is_empty())
    }

    /// The value as TOML has it.
    pub fn raw(&self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    /// The last part of the path: what people call this value.
    pub fn key(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }

    /// Points at the value.
    pub fn problem(&self, message: impl Into<String>, help: &str) {
        self.findings.report(
            self.file,
            &self.path,
            self.value.span(),
            message.into(),
            help.to_owned(),
        );
    }

    /// Points at the key, or at an element of a list itself.
    pub fn problem_of_key(&self, message: impl Into<String>, help: String) {
        self.findings
            .report(self.file, &self.path, self.key_span.clone(), message.into(), help);
    }

    /// Points at the value and suggests the nearest of `candidates`.
    pub fn unknown<'c>(&self, message: String, word: &str, candidates: impl Iterator<Item = &'c str>, known: &str) {
        self.problem(message, &suggestion(word, candidates, known));
    }

    /// Keeps the value out of every rendering.
    pub fn blot(&self) {
        self.findings
            .blots
            .borrow_mut()
            .push((self.file.name.clone(), self.value.span()));
    }

    fn mistyped(&self, expected: &str) {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.problem(
            format!("`{}` must be {expected}, but it is {found}", self.key()),
            &format!("write {expected}"),
        );
    }
}

/// Puts what the file says into `place`, which else keeps its default.
pub fn set<T>(place: &mut T, said: Option<T>) {
    if let Some(said) = said {
        *place = said;
    }
}

/// Names the candidates that `word` may have been meant for, or all of them.
pub(super) fn suggestion<'c>(word: &str, candidates: impl Iterator<Item = &'c str>, known: &str) -> String {
    let mut candidates: Vec<_> = candidates.collect();
    candidates.sort_unstable();
    candidates.dedup();
    let distance = |candidate: &str| strsim::damerau_levenshtein(word, candidate);
    let close = |candidate: &&str| {
        let near = distance(candidate) <= candidate.chars().count().max(word.chars().count()).div_ceil(3);
        let starts = word.len() >= 3 && (candidate.starts_with(word) || word.starts_with(*candidate));
        near || starts
    };
    match candidates
        .iter()
        .copied()
        .filter(close)
        .min_by_key(|candidate| distance(candidate))
    {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None if candidates.is_empty() => format!("nothing is {known}"),
        None => format!("{known}: {}", candidates.join(", ")),
    }
}

/// Words in the names of keys that hold secrets.
const SECRET_WORDS: [&str; 9] = [
    "secret",
    "token",
    "pass",
    "bearer",
    "basic",
    "auth",
    "credential",
    "_key",
    "apikey",
];

/// Blots out what looks like a secret, for a file whose structure is not known: what begins like a signing secret, and what
/// follows a key that holds one.
fn blot_likely_secrets(file: &File, findings: &Findings) {
    let mut blots = findings.blots.borrow_mut();
    let mut line_start = 0;
    for line in file.text.split_inclusive('\n') {
        if let Some((key, value)) = line.split_once('=')
            && SECRET_WORDS
                .iter()
                .chain(&["key", "value"])
                .any(|word| key.contains(word))
            && !value.contains("env")
            && !value.contains("file")
        {
            let start = line_start + key.len() + 1;
            blots.push((file.name.clone(), start..line_start + line.trim_end().len()));
        }
        line_start += line.len();
    }
}

/// The parts of a text that look like secrets, whatever it is: what begins like a signing secret, up to the end of its line, and texts
/// in quotes, alone or in a list, that follow a key whose name says that it holds a secret. Such a line is shown when something else in
/// it is wrong.
fn secret_looking(text: &str) -> impl Iterator<Item = Range<usize>> + use<> {
    let mut spans = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let line_end = line_start + line.trim_end().len();
        for (at, _) in line.match_indices("whsec_").chain(line.match_indices("whsk_")) {
            spans.push(line_start + at..line_end);
        }
        for (at, _) in line.match_indices('=') {
            let before = line[..at].trim_end();
            let name_start = before
                .rfind(|character: char| !(character.is_alphanumeric() || matches!(character, '_' | '-' | '.')))
                .map_or(0, |at| at + 1);
            let name = before.get(name_start..).unwrap_or_default().to_lowercase();
            let value = &line[at + 1..];
            let is_text = value
                .trim_start()
                .trim_start_matches('[')
                .trim_start()
                .starts_with(['"', '\'']);
            if is_text && SECRET_WORDS.iter().any(|word| name.contains(word)) {
                // Up to what begins the next value, or the end: a quote within a text is no end of it that could be trusted.
                spans.push(line_start + at + 1..line_end);
            }
        }
        line_start += line.len();
    }
    spans.into_iter()
}

/// The text with each span's characters replaced by as many bytes of `*`, so that places stay where they are.
fn blotted(text: &str, spans: impl Iterator<Item = Range<usize>>) -> String {
    let spans: Vec<_> = spans.collect();
    let mut shown = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        if character != '\n' && spans.iter().any(|span| span.contains(&at)) {
            shown.extend(std::iter::repeat_n('*', character.len_utf8()));
        } else {
            shown.push(character);
        }
    }
    shown
}
