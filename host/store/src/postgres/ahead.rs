//! Answers that were asked for before they are needed, within one transaction.
//!
//! A transaction has the store for itself, so an answer holds until one of its own statements changes a row that it is of. What a statement may
//! change is read from its text (`footprint`); in builds with debug assertions each answer is asked for again when it is used, and must be the
//! same.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Row;

use super::footprint::{Changed, Footprint, Touches};
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
            parameters: bytes(parameters.iter()),
        }
    }
}

/// Values as bytes, which are different where one of them is.
pub(super) fn bytes<'v>(parameters: impl Iterator<Item = &'v Value>) -> Vec<u8> {
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
    /// The questions about each table, by their statements. Those that may be about any stand under [`ANY`].
    of_table: HashMap<String, HashMap<usize, About>>,
}

/// The questions of one statement. Some may be answered otherwise by now.
#[derive(Debug)]
struct About {
    footprint: Arc<Footprint>,
    questions: Vec<Question>,
    /// The same once more for each way in which they were told apart from a change so far.
    apart: Vec<Apart>,
}

/// Questions of one statement by some of their parameters: a change finds those that it may concern, however many there are.
#[derive(Debug)]
struct Apart {
    parameters: Vec<usize>,
    /// Of the parameters of every question. Where they are mixed, this tells nothing apart.
    kinds: Option<Vec<Kind>>,
    by_value: HashMap<Vec<u8>, Vec<Question>>,
}

/// What is compared with its like. Nothing differs from NULL or a fraction for sure.
type Kind = Option<std::mem::Discriminant<Value>>;

fn kinds(values: &[Value], parameters: &[usize]) -> Vec<Kind> {
    let kind = |value: &Value| match value {
        Value::Integer(_) | Value::Text(_) | Value::Blob(_) => Some(std::mem::discriminant(value)),
        Value::Null | Value::Real(_) => None,
    };
    parameters.iter().map(|at| values.get(*at).and_then(kind)).collect()
}

fn key(values: &[Value], parameters: &[usize]) -> Vec<u8> {
    bytes(parameters.iter().filter_map(|at| values.get(*at)))
}

impl About {
    /// The questions that a change may concern, and others; `own` are the change's parameters that are equal to those of what it changes.
    fn concerned(
        &mut self,
        asked: &HashMap<Question, Asked>,
        values: &[Value],
        own: &[usize],
        of_read: Vec<usize>,
    ) -> &mut Vec<Question> {
        let known = self.apart.iter().position(|apart| apart.parameters == of_read);
        let at = known.unwrap_or_else(|| {
            let mut apart = Apart::by(of_read);
            for question in &self.questions {
                if let Some(asked) = asked.get(question) {
                    apart.add(question, &asked.parameters);
                }
            }
            self.apart.push(apart);
            self.apart.len() - 1
        });
        let kinds = kinds(values, own);
        match self.apart.get_mut(at) {
            Some(apart) if apart.kinds.as_ref() == Some(&kinds) && kinds.iter().all(Option::is_some) => {
                apart.by_value.entry(key(values, own)).or_default()
            }
            _ => &mut self.questions,
        }
    }
}

impl Apart {
    fn by(parameters: Vec<usize>) -> Self {
        Self {
            parameters,
            kinds: None,
            by_value: HashMap::new(),
        }
    }

    fn add(&mut self, question: &Question, values: &[Value]) {
        let kinds = kinds(values, &self.parameters);
        if *self.kinds.get_or_insert_with(|| kinds.clone()) != kinds {
            // No change has these kinds, so that this is not asked any more.
            self.kinds = Some(Vec::new());
        }
        let same = self.by_value.entry(key(values, &self.parameters)).or_default();
        same.push(question.clone());
    }
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
        let mut is_about = |table: &str| {
            let of_table = match self.of_table.get_mut(table) {
                Some(of_table) => of_table,
                None => self.of_table.entry(table.to_owned()).or_default(),
            };
            let about = of_table.entry(question.statement).or_insert_with(|| About {
                footprint: Arc::clone(&footprint),
                questions: Vec::new(),
                apart: Vec::new(),
            });
            about.questions.push(question.clone());
            about
                .apart
                .iter_mut()
                .for_each(|apart| apart.add(&question, &parameters));
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
        let Self { asked, of_table } = self;
        for table in [table, ANY] {
            for about in of_table.get_mut(table).into_iter().flat_map(HashMap::values_mut) {
                let concerned = match footprint.touches(&about.footprint) {
                    Touches::None => continue,
                    Touches::Any => &mut about.questions,
                    Touches::Where { own, of_read } => about.concerned(asked, parameters, &own, of_read),
                };
                concerned.retain(|question| {
                    let stays = asked
                        .get(question)
                        .is_some_and(|asked| !footprint.may_change(parameters, &asked.footprint, &asked.parameters));
                    if !stays {
                        asked.remove(question);
                    }
                    stays
                });
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that often agree, of kinds that cannot always be compared.
    fn value(random: &mut impl FnMut(u64) -> u64) -> Value {
        match random(12) {
            0 => Value::Null,
            1 => Value::Real(1.0),
            2 | 3 => Value::Text(random(3).to_string()),
            4 | 5 => Value::Blob(vec![random(3) as u8]),
            _ => Value::Integer(random(3) as i64),
        }
    }

    #[test]
    fn a_change_forgets_what_it_may_concern_and_nothing_else() {
        let mut state = 7_u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let read = [
            "SELECT lane FROM jobs WHERE id = $1",
            "SELECT EXISTS (SELECT 1 FROM jobs WHERE lane = $1 AND state < 3)",
            "SELECT version FROM plugin_state WHERE tenant = $1 AND key = $2",
            "SELECT a.id FROM jobs a JOIN jobs b ON b.lane = a.id WHERE a.id = $1",
            "SELECT max(id) FROM jobs",
            "SELECT next_job()",
        ];
        let changes = [
            "UPDATE jobs SET state = $2 WHERE id = $1 AND lane = $3",
            "INSERT INTO jobs (receipt, lane) VALUES ($1, $2) RETURNING id",
            "INSERT INTO plugin_state (tenant, key, version) VALUES ($1, $2, $3) ON CONFLICT (tenant, key) DO UPDATE SET version = excluded.version",
            "DELETE FROM plugin_state WHERE key = $1",
            "DELETE FROM runs",
            "UPDATE jobs SET state = 1",
        ];
        let read = read.map(|text| Arc::new(Footprint::of(text)));
        let changes = changes.map(Footprint::of);
        let mut kept_of_some = 0;
        for _ in 0..300 {
            let mut ahead = Ahead::default();
            let mut expected: Vec<(Question, usize, Vec<Value>)> = Vec::new();
            for _ in 0..40 {
                if random(3) > 0 {
                    let (statement, values) = (random(6) as usize, vec![value(&mut random), value(&mut random)]);
                    let question = Question::new(statement, &values);
                    if matches!(ahead.find(&question), Found::Nothing) {
                        ahead.ask(question.clone(), Arc::clone(&read[statement]), values.clone());
                        expected.push((question, statement, values));
                    }
                    continue;
                }
                let change = &changes[random(6) as usize];
                let values: Vec<Value> = (0..3).map(|_| value(&mut random)).collect();
                let (stay, go): (Vec<_>, Vec<_>) = expected
                    .into_iter()
                    .partition(|(_, statement, of_read)| !change.may_change(&values, &read[*statement], of_read));
                ahead.change(change, &values);
                for (question, ..) in go {
                    assert!(matches!(ahead.find(&question), Found::Nothing), "{question:?}");
                }
                for (question, ..) in &stay {
                    assert!(matches!(ahead.find(question), Found::OnItsWay), "{question:?}");
                }
                kept_of_some += usize::from(!stay.is_empty());
                expected = stay;
            }
        }
        assert!(kept_of_some > 1000, "{kept_of_some}");
    }
}
