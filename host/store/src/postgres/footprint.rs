//! Which rows a statement reads or changes, as far as its text and its parameters say: whether an answer that came early still holds.
//!
//! Only what is certain counts. A statement of which not even the tables are understood reads or changes everything; one of which the rows are
//! not, every row of its tables.

use crate::sql::Value;

/// Tables whose rows the database numbers: an insert asks for the number.
pub(super) const NUMBERED: [&str; 20] = [
    "origins",
    "deliveries",
    "jobs",
    "runs",
    "actions",
    "outbox",
    "attempts",
    "dead_letters",
    "history",
    "tokens",
    "plugin_versions",
    "plugin_history",
    "shadow_runs",
    "plugin_trials",
    "quarantines",
    "work_reviews",
    "resends",
    "state_edits",
    "bulks",
    "issues",
];

/// What a statement reads and changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Footprint {
    reads: Vec<Read>,
    /// It may read tables that are not among these.
    reads_anything: bool,
    change: Option<Change>,
}

/// What a statement changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed<'f> {
    /// It only reads.
    Nothing,
    /// Rows of this table.
    Table(&'f str),
    /// Nobody knows.
    Anything,
}

/// Which answers a change may concern.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Touches {
    None,
    /// Those where none of these parameters of the change, counted from 0, differs from its of the answer's question.
    Where {
        own: Vec<usize>,
        of_read: Vec<usize>,
    },
    Any,
}

/// A table that a statement reads.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    table: String,
    /// Columns that have to be equal to parameters, which count from 0.
    equal: Vec<(String, usize)>,
    /// It is reached by its number from another: rows that are added have other numbers.
    by_number: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    /// None where it is not understood.
    table: Option<String>,
    /// What its rows have before it and after it.
    equal: Vec<(String, usize)>,
    /// It adds rows that the database numbers, and changes none.
    adds_numbered: bool,
}

impl Footprint {
    /// Of a statement in PostgreSQL's words.
    pub(super) fn of(text: &str) -> Self {
        let change = Change::of(text);
        let (reads, reads_anything) = match &change {
            Some(_) => (Vec::new(), false),
            None => (Read::all_of(text), Read::may_have_others(text)),
        };
        Self {
            reads,
            reads_anything,
            change,
        }
    }

    /// The tables that are read; none where it may be any.
    pub(super) fn tables(&self) -> Option<impl Iterator<Item = &str>> {
        (!self.reads_anything).then(|| self.reads.iter().map(|read| read.table.as_str()))
    }

    /// What is changed.
    pub(super) fn changed(&self) -> Changed<'_> {
        match &self.change {
            None => Changed::Nothing,
            Some(change) => change.table.as_deref().map_or(Changed::Anything, Changed::Table),
        }
    }

    /// The parameters, counted from 0, that columns of what is changed are equal to before it and after it.
    pub(super) fn keys(&self) -> impl Iterator<Item = usize> {
        self.change
            .iter()
            .flat_map(|change| change.equal.iter().map(|(_, at)| *at))
    }

    /// Whether a statement with this footprint may change what one with that of `read` has answered.
    pub(super) fn may_change(&self, parameters: &[Value], read: &Self, of_read: &[Value]) -> bool {
        let Some(change) = &self.change else { return false };
        let Some(table) = &change.table else { return true };
        let differs = |(own, of): (usize, usize)| match (parameters.get(own), of_read.get(of)) {
            (Some(Value::Integer(changed)), Some(Value::Integer(read))) => changed != read,
            (Some(Value::Text(changed)), Some(Value::Text(read))) => changed != read,
            (Some(Value::Blob(changed)), Some(Value::Blob(read))) => changed != read,
            _ => false,
        };
        read.reads_anything
            || read
                .reads
                .iter()
                .filter(|read| change.may_concern(table, read))
                .any(|read| !change.shared(read).any(differs))
    }

    /// The same of every statement with the footprint of `read`, whatever its parameters are.
    pub(super) fn touches(&self, read: &Self) -> Touches {
        let Some(change) = &self.change else {
            return Touches::None;
        };
        let Some(table) = change.table.as_ref().filter(|_| !read.reads_anything) else {
            return Touches::Any;
        };
        let mut of_table = read.reads.iter().filter(|read| change.may_concern(table, read));
        let Some(first) = of_table.next() else {
            return Touches::None;
        };
        let (own, of_read): (Vec<_>, Vec<_>) = change.shared(first).unzip();
        match own.is_empty() || of_table.next().is_some() {
            true => Touches::Any,
            false => Touches::Where { own, of_read },
        }
    }
}

impl Change {
    /// Rows that are added and numbered have other numbers than any that is known.
    fn may_concern(&self, table: &str, read: &Read) -> bool {
        let is_by_number = || read.by_number || read.equal.iter().any(|(column, _)| column == "id");
        read.table == table && !(self.adds_numbered && is_by_number())
    }

    /// The parameters of the change and of the question that stand for the same column, which each has to be equal to.
    fn shared(&self, read: &Read) -> impl Iterator<Item = (usize, usize)> {
        self.equal.iter().flat_map(|(column, own)| {
            let of_read = read.equal.iter().filter(move |(same, _)| same == column);
            of_read.map(|(_, of)| (*own, *of))
        })
    }

    /// Nothing of a statement that only reads.
    fn of(text: &str) -> Option<Self> {
        let words = Words(text);
        if let Some(rest) = text.strip_prefix("INSERT INTO ") {
            return Some(Self::inserted(rest));
        }
        if let Some(rest) = text.strip_prefix("UPDATE ") {
            let (set, filter) = words.between("SET", "WHERE").unwrap_or((rest, ""));
            let mut equal = match set.contains("SELECT") || set.contains(") =") {
                true => Vec::new(),
                false => equalities(filter),
            };
            equal.retain(|(column, _)| !assigned(set).any(|assigned| assigned == column));
            return Some(Self {
                table: plain_name(rest),
                equal,
                adds_numbered: false,
            });
        }
        if let Some(rest) = text.strip_prefix("DELETE FROM ") {
            return Some(Self {
                table: plain_name(rest),
                equal: rest
                    .split_once(" WHERE ")
                    .map_or(Vec::new(), |(_, filter)| equalities(filter)),
                adds_numbered: false,
            });
        }
        let first = first_word(text);
        let only_reads = matches!(first, "SELECT" | "WITH")
            && !text
                .replace("FOR UPDATE", "")
                .split(|letter| !is_word(letter))
                .any(|word| matches!(word, "INSERT" | "UPDATE" | "DELETE" | "MERGE"));
        (!only_reads).then(Self::default)
    }

    /// What follows `INSERT INTO`.
    fn inserted(rest: &str) -> Self {
        let table = first_word(rest);
        let (mut equal, mut adds_numbered) = (Vec::new(), false);
        if let Some((columns, values, after)) = inserted_values(rest) {
            let columns = columns.split(',').map(str::trim);
            // A row that is there already has the same key, and anything else beside it.
            let key = after
                .split_once("ON CONFLICT (")
                .filter(|_| !after.contains("DO NOTHING"))
                .and_then(|(_, rest)| rest.split_once(')'))
                .map(|(key, _)| key.split(',').map(str::trim).collect::<Vec<_>>());
            adds_numbered = NUMBERED.contains(&table) && key.is_none() && !columns.clone().any(|column| column == "id");
            equal = columns
                .zip(values.split(',').map(str::trim))
                .filter(|(column, _)| key.as_ref().is_none_or(|key| key.contains(column)))
                .filter_map(|(column, value)| Some((column.to_owned(), parameter(value)?)))
                .collect();
        }
        Self {
            table: plain_name(rest),
            equal,
            adds_numbered,
        }
    }
}

/// The columns and the values of an insert of one row whose values are plain, and what follows them.
pub(super) fn inserted_values(rest: &str) -> Option<(&str, &str, &str)> {
    let (columns, rest) = rest.split_once('(')?.1.split_once(')')?;
    let (values, after) = rest.trim_start().strip_prefix("VALUES (")?.split_once(')')?;
    let is_plain = !values.contains('(') && !after.trim_start().starts_with(',') && !values.contains('\'');
    (is_plain && columns.split(',').count() == values.split(',').count()).then_some((columns, values, after))
}

impl Read {
    /// Whether a statement may read tables beside those that [`Self::all_of`] finds: lists of tables, names with a dot or in quotes, keywords that
    /// are written otherwise than the store's, and statements that name no table but call what may read some.
    fn may_have_others(text: &str) -> bool {
        let words: Vec<&str> = text.split_whitespace().collect();
        let mut found = 0;
        for (at, word) in words.iter().enumerate() {
            let keyword = word.trim_start_matches('(');
            if matches!(keyword, "from" | "join" | "From" | "Join" | "TABLE") {
                return true;
            }
            if !matches!(keyword, "FROM" | "JOIN") {
                continue;
            }
            found += 1;
            let mut depth = 0_i32;
            for (nth, word) in words[at + 1..].iter().enumerate() {
                if nth == 0 && !word.starts_with('(') && plain_name(word).is_none() {
                    return true;
                }
                if matches!(
                    *word,
                    "WHERE" | "ON" | "JOIN" | "GROUP" | "ORDER" | "LIMIT" | "UNION" | "EXCEPT" | "INTERSECT"
                ) && depth == 0
                {
                    break;
                }
                for letter in word.chars() {
                    match letter {
                        '(' => depth += 1,
                        ')' => depth -= 1,
                        ',' if depth == 0 => return true,
                        _ => {}
                    }
                    if depth < 0 {
                        break;
                    }
                }
                if depth < 0 {
                    break;
                }
            }
        }
        found == 0
    }

    fn all_of(text: &str) -> Vec<Self> {
        // Each table with the name under which the statement has it.
        let mut tables: Vec<(Self, &str)> = Vec::new();
        let mut is_plain = true;
        let words: Vec<&str> = text.split_whitespace().collect();
        for (at, word) in words.iter().enumerate() {
            let keyword = word.trim_start_matches('(');
            if matches!(keyword, "OR" | "UNION" | "EXCEPT" | "INTERSECT" | "LEFT" | "WITH") {
                is_plain = false;
            }
            if !matches!(keyword, "FROM" | "JOIN") {
                continue;
            }
            let Some(table) = words.get(at + 1).map(|table| first_word(table)) else {
                continue;
            };
            if table.is_empty() {
                // A statement within: its tables come.
                is_plain = false;
                continue;
            }
            // Lists of tables and whatever else is not `table`, `table t` or `table AS t`.
            is_plain &= table.len() == words[at + 1].trim_end_matches(')').len();
            let alias = match words.get(at + 2).copied() {
                Some("AS") => words.get(at + 3).copied().unwrap_or(table),
                Some(next)
                    if next
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) =>
                {
                    next
                }
                _ => table,
            };
            let by_number = keyword == "JOIN"
                && NUMBERED.contains(&table)
                && words[at..].iter().take(5).any(|word| *word == format!("{alias}.id"));
            tables.push((
                Self {
                    table: table.to_owned(),
                    equal: Vec::new(),
                    by_number,
                },
                alias,
            ));
        }
        is_plain &= words
            .iter()
            .filter(|word| word.trim_start_matches('(') == "SELECT")
            .count()
            <= 1 + usize::from(text.starts_with("SELECT EXISTS (SELECT "));
        is_plain &= words.iter().filter(|word| **word == "FROM").count() == 1;
        if is_plain && let Some((_, filter)) = text.split_once(" WHERE ") {
            let is_alone = tables.len() == 1;
            for (read, alias) in &mut tables {
                read.equal = equalities(filter)
                    .into_iter()
                    .filter_map(|(column, at)| match column.split_once('.') {
                        Some((of, column)) => (of == *alias).then(|| (column.to_owned(), at)),
                        None => is_alone.then_some((column, at)),
                    })
                    .collect();
            }
        } else {
            for (read, _) in &mut tables {
                read.by_number = false;
            }
        }
        tables.into_iter().map(|(read, _)| read).collect()
    }
}

/// The conditions of a filter that say `column = $n`, of those that all have to hold.
fn equalities(filter: &str) -> Vec<(String, usize)> {
    let (mut depth, mut condition, mut conditions) = (0_i32, String::new(), Vec::new());
    for word in filter.split_whitespace() {
        if depth == 0 && matches!(word, "ORDER" | "LIMIT" | "GROUP" | "RETURNING" | "FOR" | "ON") {
            break;
        }
        if depth == 0 && word == "OR" {
            return Vec::new();
        }
        if depth == 0 && word == "AND" {
            conditions.push(std::mem::take(&mut condition));
            continue;
        }
        depth += word.matches('(').count() as i32 - word.matches(')').count() as i32;
        condition.push_str(word);
        condition.push(' ');
        if depth < 0 {
            // The statement around this one goes on.
            break;
        }
    }
    conditions.push(condition);
    let equality = |condition: &String| {
        let (column, value) = condition.trim().trim_end_matches(')').split_once(" = ")?;
        let is_column = column.chars().all(|letter| is_word(letter) || letter == '.');
        is_column.then_some((column.to_owned(), parameter(value)?))
    };
    conditions.iter().filter_map(equality).collect()
}

/// `$n`, counted from 0.
fn parameter(value: &str) -> Option<usize> {
    value.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
}

/// The columns that an update assigns.
fn assigned(set: &str) -> impl Iterator<Item = &str> {
    // A comma within a call begins no column, and a word before ` = ` that is none does no harm.
    set.split(',')
        .filter_map(|part| Some(part.split_once('=')?.0.trim().trim_start_matches('(')))
}

/// Whether a letter may stand in a name.
pub(super) fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// The name of a table that a text begins with, where it is one of the store's: without a schema and without quotes.
fn plain_name(text: &str) -> Option<String> {
    let name = first_word(text);
    let is_plain = !name.is_empty() && !text[name.len()..].starts_with(['.', '"']);
    is_plain.then(|| name.to_owned())
}

fn first_word(text: &str) -> &str {
    let end = text.find(|letter: char| !is_word(letter)).unwrap_or(text.len());
    &text[..end]
}

/// A statement's text, to be cut at its keywords.
struct Words<'t>(&'t str);

impl<'t> Words<'t> {
    /// What stands between two keywords, and what stands behind the second.
    fn between(&self, first: &str, second: &str) -> Option<(&'t str, &'t str)> {
        let (_, rest) = self.0.split_once(&format!(" {first} "))?;
        rest.split_once(&format!(" {second} "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Value::{Blob, Integer, Text};

    fn text(text: &str) -> Value {
        Text(text.to_owned())
    }

    /// Whether what the first statement answered may be otherwise behind the second.
    #[track_caller]
    fn check(read: &str, of_read: &[Value], change: &str, parameters: &[Value], expected: bool) {
        let (read, change) = (Footprint::of(read), Footprint::of(change));
        assert_eq!(
            change.may_change(parameters, &read, of_read),
            expected,
            "{read:?} {change:?}"
        );
    }

    #[test]
    fn an_answer_holds_beside_changes_of_other_rows() {
        let job = "SELECT id, lane FROM jobs WHERE id = $1";
        let ended = "UPDATE jobs SET state = $2, worker = NULL WHERE id = $1";
        check(job, &[Integer(7)], ended, &[Integer(7), Integer(3)], true);
        check(job, &[Integer(7)], ended, &[Integer(8), Integer(3)], false);
        let lane = "SELECT EXISTS (SELECT 1 FROM jobs WHERE lane = $1 AND state < 3)";
        check(lane, &[Integer(1)], ended, &[Integer(8), Integer(3)], true);
        let of_lane = "UPDATE jobs SET state = $2 WHERE id = $1 AND lane = $3";
        check(
            lane,
            &[Integer(1)],
            of_lane,
            &[Integer(8), Integer(3), Integer(1)],
            true,
        );
        check(
            lane,
            &[Integer(1)],
            of_lane,
            &[Integer(8), Integer(3), Integer(2)],
            false,
        );
        let added = "INSERT INTO jobs (receipt, lane) VALUES ($1, $2) RETURNING id";
        check(lane, &[Integer(1)], added, &[Integer(5), Integer(1)], true);
        check(lane, &[Integer(1)], added, &[Integer(5), Integer(2)], false);
        check(job, &[Integer(7)], added, &[Integer(5), Integer(1)], false);
        let numbered = "INSERT INTO jobs (receipt, lane, id) VALUES ($1, $2, $3)";
        check(
            job,
            &[Integer(7)],
            numbered,
            &[Integer(5), Integer(1), Integer(7)],
            true,
        );
        check(
            job,
            &[Integer(7)],
            numbered,
            &[Integer(5), Integer(1), Integer(8)],
            false,
        );
    }

    #[test]
    fn an_answer_of_several_tables_holds_while_none_of_its_rows_changes() {
        let entry = "SELECT e.state, a.receipt FROM outbox e JOIN actions a ON a.id = e.action WHERE e.id = $1";
        let moved = "UPDATE outbox SET state = $2 WHERE id = $1";
        check(entry, &[Integer(7)], moved, &[Integer(7), Integer(3)], true);
        check(entry, &[Integer(7)], moved, &[Integer(8), Integer(3)], false);
        check(
            entry,
            &[Integer(7)],
            "INSERT INTO actions (run, at) VALUES ($1, $2) RETURNING id",
            &[Integer(1), Integer(2)],
            false,
        );
        check(
            entry,
            &[Integer(7)],
            "UPDATE actions SET at = $2 WHERE id = $1",
            &[Integer(8), Integer(3)],
            true,
        );
        check(
            entry,
            &[Integer(7)],
            "UPDATE runs SET at = $2 WHERE id = $1",
            &[Integer(7), Integer(3)],
            false,
        );
    }

    #[test]
    fn a_row_that_is_replaced_is_known_by_its_key_alone() {
        let (by_key, by_version) = (
            "SELECT version FROM plugin_state WHERE tenant = $1 AND key = $2",
            "SELECT key FROM plugin_state WHERE version = $1",
        );
        let put = "INSERT INTO plugin_state (tenant, key, version) VALUES ($1, $2, $3) ON CONFLICT (tenant, key) DO UPDATE SET version = excluded.version";
        let values = [text("acme"), text("k"), Integer(4)];
        check(by_key, &[text("acme"), text("k")], put, &values, true);
        check(by_key, &[text("acme"), text("l")], put, &values, false);
        check(by_version, &[Integer(3)], put, &values, true);
        let receipt = "SELECT seq FROM receipts WHERE id = $1";
        let kept = "INSERT INTO receipts (seq, id) VALUES ($1, $2)";
        check(receipt, &[Blob(vec![1])], kept, &[Integer(1), Blob(vec![1])], true);
        check(receipt, &[Blob(vec![1])], kept, &[Integer(1), Blob(vec![2])], false);
    }

    #[test]
    fn what_is_not_understood_may_change_everything_of_its_table() {
        let job = "SELECT id, lane FROM jobs WHERE id = $1";
        for change in [
            "UPDATE jobs SET due_at = $3 WHERE id IN (SELECT id FROM jobs WHERE tenant = $1)",
            "UPDATE jobs SET id = $1 WHERE id = $2",
            "UPDATE jobs SET due_at = $3 WHERE id = $1 OR lane = $2",
            "UPDATE jobs SET due_at = $3",
            "UPDATE jobs SET due_at = (SELECT max(due_at) FROM jobs WHERE id = $1)",
            "UPDATE jobs SET (id, lane) = ($1, $2) WHERE id = $3",
            "INSERT INTO jobs (id, lane) SELECT $1, lane FROM jobs",
            "INSERT INTO jobs (id, lane) VALUES ($1 + 1, $2)",
            "DELETE FROM jobs",
        ] {
            check(job, &[Integer(7)], change, &[Integer(1), Integer(2), Integer(3)], true);
        }
        let change = "UPDATE jobs SET due_at = $2 WHERE id = $1";
        for read in [
            "SELECT id FROM jobs WHERE id = $1 OR lane = $2",
            "SELECT id FROM jobs WHERE (id = $1 OR lane = $2)",
            "SELECT id FROM jobs WHERE id > $1",
            "SELECT max(id) FROM jobs",
            "SELECT 1 FROM runs WHERE id = $1 AND job IN (SELECT id FROM jobs)",
            "SELECT 1 FROM runs r LEFT JOIN jobs j ON j.id = r.job WHERE j.id = $1",
            "WITH t AS (SELECT id FROM jobs) SELECT 1 FROM t WHERE id = $1",
            "SELECT id FROM jobs WHERE id = $1 UNION SELECT id FROM jobs",
        ] {
            check(read, &[Integer(7)], change, &[Integer(8), Integer(3)], true);
        }
        check(job, &[Value::Null], change, &[Integer(8), Integer(3)], true);
    }

    #[test]
    fn a_statement_of_which_the_tables_are_not_understood_reads_and_changes_everything() {
        let job = "SELECT id, lane FROM jobs WHERE id = $1";
        for change in [
            "WITH gone AS (DELETE FROM jobs WHERE id = $2 RETURNING id) SELECT id FROM gone",
            "WITH t AS (SELECT 1) UPDATE jobs SET lane = $2",
            "WITH t AS (SELECT 1)INSERT INTO jobs SELECT * FROM t",
            "UPDATE tollgate.jobs SET lane = $2 WHERE id = $1",
            "DELETE FROM \"jobs\"",
            "INSERT INTO tollgate.jobs (id) VALUES ($1)",
            "TRUNCATE jobs",
            "MERGE INTO jobs USING runs ON true WHEN MATCHED THEN DELETE",
            "CALL something()",
        ] {
            check(job, &[Integer(7)], change, &[Integer(8), Integer(3)], true);
            assert_ne!(Footprint::of(change).changed(), Changed::Nothing, "{change}");
        }
        let change = "UPDATE jobs SET due_at = $2 WHERE id = $1";
        for read in [
            "SELECT r.id FROM runs r, jobs j WHERE r.id = $1 AND r.job = j.id",
            "SELECT id FROM runs, jobs",
            "SELECT id FROM unnest($1) AS x, jobs WHERE id = $1",
            "SELECT id FROM tollgate.jobs WHERE id = $1",
            "SELECT id FROM \"jobs\" WHERE id = $1",
            "SELECT id from jobs where id = $1",
            "SELECT next_job()",
            "TABLE jobs",
        ] {
            let of = Footprint::of(read);
            if of.changed() == Changed::Nothing {
                check(read, &[Integer(7)], change, &[Integer(8), Integer(3)], true);
            }
        }
        // A comma that is no list of tables.
        let read = "SELECT coalesce((SELECT max(id) FROM runs WHERE job = $1), $2), x FROM jobs j WHERE j.id IN ($1, $2) ORDER BY lane, id";
        check(
            read,
            &[Integer(7)],
            "UPDATE outbox SET state = $1",
            &[Integer(1)],
            false,
        );
    }
}
