//! What is to be sent next: questions and changes of one kind, gathered until something else is sent that could tell the difference.

use std::collections::HashSet;
use std::sync::Arc;

use super::ahead::{self, Question};
use super::arrays::ByArrays;
use super::dialect::Numbered;
use super::footprint::{Changed, Footprint};
use crate::sql::Value;

/// A statement that the server knows.
pub(super) struct Ready {
    /// Of this connection's statements.
    pub(super) number: usize,
    pub(super) statement: tokio_postgres::Statement,
    pub(super) gives_number: bool,
    pub(super) writes: bool,
    pub(super) adds: bool,
    pub(super) numbered: Option<Numbered>,
    pub(super) footprint: Arc<Footprint>,
    /// The same for many rows of parameters, where it can be said.
    pub(super) by_arrays: Option<ByArrays>,
}

/// Questions, or changes: none of the one stands beside one of the other. Changes of different tables have no order, since none of them reads another's.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) questions: Vec<Asking>,
    pub(super) changes: Vec<Gathering>,
    pub(super) rows: usize,
    /// Of the rows' parameters.
    pub(super) bytes: usize,
}

/// Questions of one statement, with the parameters of each.
pub(super) struct Asking {
    pub(super) ready: Arc<Ready>,
    pub(super) questions: Vec<Question>,
    pub(super) rows: Vec<Vec<Value>>,
}

/// Rows of one statement that changes one table.
pub(super) struct Gathering {
    pub(super) ready: Arc<Ready>,
    pub(super) rows: Vec<Vec<Value>>,
    /// What no further row may have in common with one of these.
    keys: HashSet<Vec<u8>>,
}

impl Gathered {
    pub(super) fn ask(&mut self, ready: &Arc<Ready>, question: Question, values: Vec<Value>) {
        self.count(&values);
        match self.questions.iter_mut().find(|of| of.ready.number == ready.number) {
            Some(of) => {
                of.questions.push(question);
                of.rows.push(values);
            }
            None => self.questions.push(Asking {
                ready: Arc::clone(ready),
                questions: vec![question],
                rows: vec![values],
            }),
        }
    }

    /// Takes a row of a change of this table. Returns what has to be sent before anything of it is: what was gathered for the table and does not stand beside it.
    pub(super) fn change(&mut self, ready: &Arc<Ready>, by_arrays: &ByArrays, values: Vec<Value>) -> Option<Gathering> {
        let key: Vec<Value> = by_arrays
            .keys
            .iter()
            .filter_map(|at| values.get(*at).cloned())
            .collect();
        let key = (!key.is_empty()).then(|| ahead::bytes(key.iter()));
        let of_table = |of: &Gathering| of.ready.footprint.changed() == ready.footprint.changed();
        self.count(&values);
        let found = self.changes.iter_mut().find(|of| of_table(of));
        let stands_beside =
            |of: &Gathering| of.ready.number == ready.number && key.as_ref().is_none_or(|key| !of.keys.contains(key));
        match found {
            Some(of) if stands_beside(of) => {
                of.rows.push(values);
                of.keys.extend(key);
                None
            }
            Some(of) => Some(std::mem::replace(of, Gathering::new(ready, values, key))),
            None => {
                self.changes.push(Gathering::new(ready, values, key));
                None
            }
        }
    }

    fn count(&mut self, values: &[Value]) {
        self.rows += 1;
        self.bytes += values.iter().map(bytes_of).sum::<usize>();
    }
}

impl Gathering {
    fn new(ready: &Arc<Ready>, values: Vec<Value>, key: Option<Vec<u8>>) -> Self {
        Self {
            ready: Arc::clone(ready),
            rows: vec![values],
            keys: key.into_iter().collect(),
        }
    }
}

impl Ready {
    /// How a change of one table is made for many rows, where it can be.
    pub(super) fn change_by_arrays(&self) -> Option<&ByArrays> {
        match self.footprint.changed() {
            Changed::Table(_) => self.by_arrays.as_ref(),
            Changed::Nothing | Changed::Anything => None,
        }
    }
}

/// How much of a message a parameter is, about.
pub(super) fn bytes_of(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
        Value::Null | Value::Integer(_) | Value::Real(_) => size_of::<i64>(),
    }
}
