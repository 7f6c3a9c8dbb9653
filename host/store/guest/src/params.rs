//! Parameters, in the shapes that the store writes them.

use crate::types::{ToSql, ToSqlOutput, Value};
use crate::{Error, Result};

/// The parameters of one statement.
pub trait Params {
    /// The values by their position in `sql`.
    ///
    /// # Errors
    /// When a value cannot be bound, or a named parameter has none.
    fn values(&self, sql: &str) -> Result<Vec<Value>>;
}

fn value(parameter: &(impl ToSql + ?Sized)) -> Result<Value> {
    Ok(match parameter.to_sql()? {
        ToSqlOutput::Borrowed(value) => value.into(),
        ToSqlOutput::Owned(value) => value,
    })
}

/// `[]` is no parameters.
impl Params for [&dyn ToSql; 0] {
    fn values(&self, _sql: &str) -> Result<Vec<Value>> {
        Ok(Vec::new())
    }
}

/// `[a]` is one. The store writes more with [`crate::params!`].
impl<T: ToSql> Params for [T; 1] {
    fn values(&self, _sql: &str) -> Result<Vec<Value>> {
        Ok(vec![value(&self[0])?])
    }
}

impl Params for &[&dyn ToSql] {
    fn values(&self, _sql: &str) -> Result<Vec<Value>> {
        self.iter().map(|parameter| value(*parameter)).collect()
    }
}

/// Named parameters have the positions in which the statement first names them, as in SQLite.
impl Params for &[(&str, &dyn ToSql)] {
    fn values(&self, sql: &str) -> Result<Vec<Value>> {
        names(sql)
            .into_iter()
            .map(|name| {
                let found = self.iter().find(|(given, _)| *given == name);
                let (_, parameter) = found.ok_or_else(|| Error::InvalidParameterName(name.to_owned()))?;
                value(*parameter)
            })
            .collect()
    }
}

/// The `:name` parameters of a statement, each once, in the order of their first use. Texts in quotes are skipped.
fn names(sql: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (at, piece) in sql.split('\'').enumerate() {
        if at % 2 == 1 {
            continue;
        }
        for (colon, _) in piece.match_indices(':') {
            let rest = &piece[colon + 1..];
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .unwrap_or(rest.len());
            let name = &piece[colon..=colon + end];
            if end > 0 && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// Positional parameters: `params![a, b]`.
#[macro_export]
macro_rules! params {
    () => { &[] as &[&dyn $crate::ToSql] };
    ($($param:expr),+ $(,)?) => { &[$(&$param as &dyn $crate::ToSql),+] as &[&dyn $crate::ToSql] };
}

/// Named parameters: `named_params! { ":a": a }`.
#[macro_export]
macro_rules! named_params {
    ($($name:literal: $value:expr),+ $(,)?) => {
        &[$(($name, &$value as &dyn $crate::ToSql)),+] as &[(&str, &dyn $crate::ToSql)]
    };
}
