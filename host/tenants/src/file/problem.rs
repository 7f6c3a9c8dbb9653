//! What is wrong with a configuration: where, what, and how to mend it. For people with the line and a caret, for programs as data.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;

/// One thing that is wrong. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file's name.
    pub file: String,
    /// From 1; absent when the file could not be read at all.
    pub line: Option<usize>,
    /// From 1, in characters.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: String,
    /// What it is about, for example `routes.cashback.grants`; absent for a file as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What the caret marks, in bytes of the file.
    #[serde(skip)]
    pub(crate) span: Range<usize>,
}

/// All that is wrong with a configuration; at least one.
#[derive(Debug, Clone)]
pub struct Problems {
    problems: Vec<Problem>,
    /// The files' texts with their secrets blotted out, by file.
    texts: BTreeMap<String, String>,
}

/// Whether rendered text carries colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// It carries none: for logs and files.
    Plain,
    /// It carries them: for a terminal.
    Coloured,
}

impl Problem {
    /// A problem at a place of a file.
    pub(crate) fn at(file: &str, text: &str, span: Range<usize>, message: String, help: String) -> Self {
        let start = floor_char_boundary(text, span.start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self {
            file: file.to_owned(),
            line: Some(before.matches('\n').count() + 1),
            column: Some(before[line_start..].chars().count() + 1),
            message,
            help,
            field: None,
            span: one_line(text, start, span.end),
        }
    }

    /// A problem with a file as a whole.
    pub(crate) fn of_file(file: String, message: String, help: String) -> Self {
        Self {
            file,
            line: None,
            column: None,
            message,
            help,
            field: None,
            span: 0..0,
        }
    }

    /// Orders problems of one file as a reader meets them.
    pub(crate) fn place(&self) -> usize {
        self.span.start
    }
}

impl Problems {
    pub(crate) fn new(problems: Vec<Problem>, texts: BTreeMap<String, String>) -> Self {
        Self { problems, texts }
    }

    /// A problem that has no place in a file.
    pub fn of_one(file: &str, message: &str, help: &str) -> Self {
        let problem = Problem::of_file(file.to_owned(), message.to_owned(), help.to_owned());
        Self::new(vec![problem], BTreeMap::new())
    }

    /// These problems, and then `others`.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.problems.extend(others.problems);
        self.texts.extend(others.texts);
        self
    }

    /// The same problems, each with `note` behind its help.
    #[must_use]
    pub fn with_note(mut self, note: &str) -> Self {
        for problem in &mut self.problems {
            problem.help = format!("{}; {note}", problem.help);
        }
        self
    }

    /// In a few words, for a log line: each with its place.
    pub fn in_words(&self) -> String {
        let one = |problem: &Problem| {
            let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
            format!("{}{line}: {} ({})", problem.file, problem.message, problem.help)
        };
        self.problems.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// The problems in the order of the files and their lines, for programs.
    pub fn as_data(&self) -> &[Problem] {
        &self.problems
    }

    /// All problems with their lines, for people.
    pub fn render(&self, ink: Ink) -> String {
        let renderer = match ink {
            Ink::Plain => Renderer::plain(),
            Ink::Coloured => Renderer::styled(),
        };
        let rendered: Vec<_> = self
            .problems
            .iter()
            .map(|problem| self.render_one(problem, &renderer))
            .collect();
        rendered.join("\n\n")
    }

    fn render_one(&self, problem: &Problem, renderer: &Renderer) -> String {
        let title = Level::ERROR.primary_title(&problem.message);
        let help = Level::HELP.message(&problem.help);
        let text = self.texts.get(&problem.file).filter(|_| problem.line.is_some());
        match text {
            Some(text) => {
                let mark = AnnotationKind::Primary.span(problem.span.clone());
                let snippet = Snippet::source(text).path(&problem.file).annotation(mark);
                renderer.render(&[title.element(snippet).element(help)])
            }
            None => {
                let origin = annotate_snippets::Origin::path(&problem.file);
                renderer.render(&[title.element(origin).element(help)])
            }
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Ink::Plain))
    }
}
impl std::error::Error for Problems {}

/// The part of `start..end` on its first line: one caret line says enough.
fn one_line(text: &str, start: usize, end: usize) -> Range<usize> {
    let end = floor_char_boundary(text, end).max(start);
    let line_end = text[start..].find(['\r', '\n']).map_or(text.len(), |at| start + at);
    start..end.min(line_end)
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
