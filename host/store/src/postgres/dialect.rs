//! The store's statements, as PostgreSQL says them.
//!
//! They are written for SQLite and keep to what both say alike. What is left is what one pass over the text can say otherwise: how parameters
//! are numbered, what happens to a row that is there already, the empty blob, and one column whose name is a keyword here.

use super::footprint::{Changed, Footprint, NUMBERED, inserted_values, is_word};

/// Tables whose rows are replaced whole, and what names a row of them.
const REPLACED: [(&str, &[&str]); 5] = [
    ("chain_heads", &["chain"]),
    ("redelivered", &["receipt"]),
    ("plugin_bindings", &["tenant", "route"]),
    ("api_routes", &["tenant", "route"]),
    ("route_namespaces", &["tenant", "route"]),
];

/// A statement in PostgreSQL's words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Translated {
    pub(super) text: String,
    /// It inserts into a numbered table, and the last column that it returns is the row's number.
    pub(super) gives_number: bool,
    /// It may change something.
    pub(super) writes: bool,
    /// It inserts one row into a numbered table.
    pub(super) numbered: Option<Numbered>,
    pub(super) footprint: Footprint,
}

/// An insert as it is said where the row's number is known before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) table: String,
    /// Its last parameter is the number.
    pub(super) text: String,
}

impl Translated {
    /// A statement for many rows (`arrays`), whose footprint is looked at row by row.
    pub(super) fn of_arrays(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            gives_number: false,
            writes: true,
            numbered: None,
            footprint: Footprint::default(),
        }
    }
}

impl Numbered {
    pub(super) fn translated(&self) -> Translated {
        Translated {
            footprint: Footprint::of(&self.text),
            text: self.text.clone(),
            gives_number: false,
            writes: true,
            numbered: None,
        }
    }
}

pub(super) fn translate(sql: &str) -> Translated {
    let sql = sql.trim();
    debug_assert!(
        !sql.contains("SELECT *") && !sql.contains(".*"),
        "a newer schema may have columns more, with which what is prepared of this fails: {sql}"
    );
    let (sql, on_conflict) = match sql.split_once("INSERT OR IGNORE INTO") {
        Some(("", rest)) => (format!("INSERT INTO{rest}"), Some(" ON CONFLICT DO NOTHING".to_owned())),
        _ => match sql.split_once("INSERT OR REPLACE INTO") {
            Some(("", rest)) => (format!("INSERT INTO{rest}"), replacing(rest)),
            _ => (sql.to_owned(), None),
        },
    };
    let mut text = words(&sql);
    text.push_str(on_conflict.as_deref().unwrap_or_default());
    let numbered = numbered(&text);
    let gives_number =
        numbered.is_some() || into(&text).is_some_and(|table| NUMBERED.contains(&table)) && !has_number(&text);
    if gives_number {
        text.push_str(if text.contains(" RETURNING ") {
            ", id"
        } else {
            " RETURNING id"
        });
    }
    let footprint = Footprint::of(&text);
    Translated {
        writes: footprint.changed() != Changed::Nothing,
        footprint,
        text,
        gives_number,
        numbered,
    }
}

/// Whether an insert says the number of its row.
fn has_number(text: &str) -> bool {
    let columns = text.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    columns.is_some_and(|(columns, _)| columns.split(',').any(|column| column.trim() == "id"))
}

/// The insert with the row's number as one parameter more.
fn numbered(text: &str) -> Option<Numbered> {
    let table = into(text).filter(|table| NUMBERED.contains(table))?;
    let (columns, values, after) = inserted_values(text.strip_prefix("INSERT INTO ")?)?;
    if has_number(text) || !after.trim().is_empty() {
        return None;
    }
    let number = values.split(',').filter_map(parameter_number).max().unwrap_or(0) + 1;
    Some(Numbered {
        table: table.to_owned(),
        text: format!("INSERT INTO {table} ({columns}, id) VALUES ({values}, ${number})"),
    })
}

/// The `n` of `$n`.
fn parameter_number(value: &str) -> Option<usize> {
    value.trim().strip_prefix('$')?.parse().ok()
}

/// The table that an insert is about.
fn into(sql: &str) -> Option<&str> {
    sql.strip_prefix("INSERT INTO ")?
        .split(|letter: char| !is_word(letter))
        .next()
}

/// What follows an insert that replaces the row of its name; `rest` is what follows `INTO`.
fn replacing(rest: &str) -> Option<String> {
    let (table, rest) = rest.trim_start().split_once(' ')?;
    let (_, keys) = REPLACED.iter().find(|(known, _)| *known == table)?;
    let (columns, _) = rest.trim_start().strip_prefix('(')?.split_once(')')?;
    let set: Vec<String> = columns
        .split(',')
        .map(str::trim)
        .filter(|column| !keys.contains(column))
        .map(|column| format!("{column} = excluded.{column}"))
        .collect();
    Some(format!(
        " ON CONFLICT ({}) DO UPDATE SET {}",
        keys.join(", "),
        set.join(", ")
    ))
}

/// Goes through the text once, and leaves what is quoted as it is.
fn words(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len() + 16);
    // Of each open parenthesis: what is to be said before it closes.
    let mut open: Vec<String> = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' => rest[1..].find('\'').map_or(rest.len(), |end| end + 2),
            'x' if rest.starts_with("x''") => {
                text.push_str("''::bytea");
                rest = &rest[3..];
                continue;
            }
            '?' => {
                text.push('$');
                rest = &rest[1..];
                continue;
            }
            '(' => {
                let (absent, length) = unless_absent(&rest[1..]);
                open.push(absent);
                text.push('(');
                rest = &rest[1 + length..];
                continue;
            }
            ')' => {
                text.push_str(&open.pop().unwrap_or_default());
                1
            }
            'A'..='Z' | 'a'..='z' | '_' => {
                let length = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
                match &rest[..length] {
                    "end" => text.push_str("\"end\""),
                    // Only texts are asked for as blobs, and blobs: there is a function for both.
                    "CAST" => text.push_str("blob"),
                    "AS" if rest.starts_with("AS BLOB)") => {
                        rest = &rest["AS BLOB".len()..];
                        continue;
                    }
                    word => text.push_str(word),
                }
                rest = &rest[length..];
                continue;
            }
            other => other.len_utf8(),
        };
        text.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    text
}

/// `?1 IS NULL OR …` says nothing of the parameter's type, which has to be known where it stands first: so that is said last.
/// Returns what is to be said then, and how much of the text it was.
fn unless_absent(inside: &str) -> (String, usize) {
    let number = inside
        .strip_prefix('?')
        .and_then(|rest| rest.split_once(" IS NULL OR "))
        .map(|(number, _)| number)
        .filter(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    match number {
        None => (String::new(), 0),
        Some(number) => (
            format!(" OR ${number} IS NULL"),
            1 + number.len() + " IS NULL OR ".len(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(sql: &str) -> String {
        translate(sql).text
    }

    #[test]
    fn statements_are_said_in_postgresqls_words() {
        for (sqlite, postgres) in [
            (
                "SELECT a FROM t WHERE b = ?1 AND c = 'is ? end'",
                "SELECT a FROM t WHERE b = $1 AND c = 'is ? end'",
            ),
            (
                "SELECT x'' AS body, end FROM t",
                "SELECT ''::bytea AS body, \"end\" FROM t",
            ),
            (
                "SELECT 1 FROM t WHERE (?1 IS NULL OR a = ?1) AND (?12 IS NULL OR f(b, ?12) > 0 AND (c))",
                "SELECT 1 FROM t WHERE (a = $1 OR $1 IS NULL) AND (f(b, $12) > 0 AND (c) OR $12 IS NULL)",
            ),
            (
                "SELECT CAST(json AS BLOB), a AS b FROM t",
                "SELECT blob(json ), a AS b FROM t",
            ),
            (
                "INSERT OR IGNORE INTO event_ids (name, receipt) VALUES (?1, ?2)",
                "INSERT INTO event_ids (name, receipt) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            ),
            (
                "INSERT OR REPLACE INTO api_routes (tenant, route, definition) VALUES (?1, ?2, ?3)",
                "INSERT INTO api_routes (tenant, route, definition) VALUES ($1, $2, $3) \
                 ON CONFLICT (tenant, route) DO UPDATE SET definition = excluded.definition",
            ),
            (
                "INSERT INTO jobs (a) VALUES (?1)",
                "INSERT INTO jobs (a) VALUES ($1) RETURNING id",
            ),
            (
                "INSERT INTO actions (a) SELECT b FROM c RETURNING tenant",
                "INSERT INTO actions (a) SELECT b FROM c RETURNING tenant, id",
            ),
        ] {
            assert_eq!(said(sqlite), postgres);
        }
    }

    #[test]
    fn an_insert_takes_the_number_of_its_row() {
        let numbered = |sql: &str| translate(sql).numbered.map(|numbered| numbered.text);
        assert_eq!(
            numbered("INSERT INTO jobs (receipt, due_at, ended_at) VALUES (?1, ?2, ?2)").as_deref(),
            Some("INSERT INTO jobs (receipt, due_at, ended_at, id) VALUES ($1, $2, $2, $3)")
        );
        assert_eq!(
            numbered("INSERT INTO jobs (receipt, lane, state) VALUES (?1, ?2, 0)").as_deref(),
            Some("INSERT INTO jobs (receipt, lane, state, id) VALUES ($1, $2, 0, $3)")
        );
        for sql in [
            "INSERT INTO receipts (seq) VALUES (?1)",
            "INSERT INTO jobs (id) VALUES (?1)",
            "INSERT INTO jobs (receipt) SELECT seq FROM receipts",
            "INSERT INTO actions (receipt) VALUES (?1) RETURNING tenant",
            "INSERT OR IGNORE INTO jobs (receipt) VALUES (?1)",
        ] {
            assert_eq!(numbered(sql), None, "{sql}");
        }
    }

    #[test]
    fn what_only_reads_is_known() {
        assert!(!translate("SELECT 1").writes);
        assert!(!translate("WITH t AS (SELECT 1) SELECT 1 FROM t").writes);
        for sql in ["UPDATE t SET a = 1", "INSERT INTO t (a) VALUES (1)", "DELETE FROM t"] {
            assert!(translate(sql).writes, "{sql}");
        }
    }
}
