//! Answers that were asked for before they are needed, within one transaction.
//!
//! A transaction has the store for itself, so an answer holds until one of its own statements changes a row that it is of. What a statement may
//! change is read from its text (`footprint`); in builds with debug assertions each answer is asked for again when it is used, and must be the
//! same.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Row;

use super::footprint::{Changed, Footprint};
use crate::sql::Value;

/// What was asked: the statement's number, and its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    statement: usize,
    parameters: Vec<u8>,
}

impl Question {
    pub(super) fn new(statement: usize, parameters: &[Value]) -> Self {
        Self {
            statement,
            parameters: bytes(parameters),
        }
    }
}

/// Values as bytes, which are different where one of them is.
pub(super) fn bytes(parameters: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    for parameter in parameters {
        let (kind, value): (u8, &[u8]) = match parameter {
            Value::Null => (0, &[]),
            Value::Integer(number) => (1, &number.to_le_bytes()),
            Value::Real(number) => (2, &number.to_le_bytes()),
            Value::Text(text) => (3, text.as_bytes()),
            Value::Blob(blob) => (4, blob),
        };
        bytes.push(kind);
        bytes.extend_from_slice(&value.len().to_le_bytes());
        bytes.extend_from_slice(value);
    }
    bytes
}

/// The name of no table.
const ANY: &str = "";

#[derive(Debug, Default)]
pub(super) struct Ahead {
    asked: HashMap<Question, Asked>,
    /// The questions about each table, and some that are answered otherwise by now. Those that may be about any stand under [`ANY`].
    of_table: HashMap<String, Vec<Question>>,
}

#[derive(Debug)]
struct Asked {
    footprint: Arc<Footprint>,
    parameters: Vec<Value>,
    /// None while it is on its way.
    rows: Option<Arc<Vec<Row>>>,
}

/// How far a question is.
pub(super) enum Found {
    Nothing,
    OnItsWay,
    Answer(Arc<Vec<Row>>),
}

impl Ahead {
    pub(super) fn find(&self, question: &Question) -> Found {
        match self.asked.get(question) {
            None => Found::Nothing,
            Some(Asked { rows: None, .. }) => Found::OnItsWay,
            Some(Asked { rows: Some(rows), .. }) => Found::Answer(Arc::clone(rows)),
        }
    }

    /// It is on its way now.
    pub(super) fn ask(&mut self, question: Question, footprint: Arc<Footprint>, parameters: Vec<Value>) {
        let mut is_about = |table: &str| match self.of_table.get_mut(table) {
            Some(questions) => questions.push(question.clone()),
            None => drop(self.of_table.insert(table.to_owned(), vec![question.clone()])),
        };
        match footprint.tables() {
            Some(tables) => tables.for_each(is_about),
            None => is_about(ANY),
        }
        let asked = Asked {
            footprint,
            parameters,
            rows: None,
        };
        self.asked.insert(question, asked);
    }

    /// The answer to what still is of interest.
    pub(super) fn answer(&mut self, question: &Question, rows: Vec<Row>) {
        if let Some(asked) = self.asked.get_mut(question) {
            asked.rows = Some(Arc::new(rows));
        }
    }

    /// Forgets what a statement may change.
    pub(super) fn change(&mut self, footprint: &Footprint, parameters: &[Value]) {
        let table = match footprint.changed() {
            Changed::Nothing => return,
            Changed::Table(table) => table,
            Changed::Anything => return self.clear(),
        };
        for about in [table, ANY] {
            let Some(questions) = self.of_table.get_mut(about) else {
                continue;
            };
            questions.retain(|question| {
                let Some(asked) = self.asked.get(question) else {
                    return false;
                };
                let stays = !footprint.may_change(parameters, &asked.footprint, &asked.parameters);
                if !stays {
                    self.asked.remove(question);
                }
                stays
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.asked.clear();
        self.of_table.clear();
    }
}
