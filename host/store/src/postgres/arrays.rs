//! One statement for many rows: the text of a question or a change, said for arrays of its parameters.
//!
//! What a statement costs the server is for the greater part the statement, not its row. A question is asked for each row of the arrays as it would be alone,
//! and each of its answers has the number of its row in one column more. A change is said for all rows at once, which is the same as one after the other where
//! no two of them are about the same row of its table.

use tokio_postgres::types::Type;

use super::footprint::Footprint;

/// A statement for many rows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ByArrays {
    pub(super) text: String,
    /// The parameters, counted from 0, in all of which no two rows may agree; none where any two may stand together.
    pub(super) keys: Vec<usize>,
}

/// A question for many rows of its parameters; none where it is not one that can be asked so.
pub(super) fn question(text: &str, parameters: &[Type]) -> Option<ByArrays> {
    let is_plain = text.starts_with("SELECT ") && ![" OFFSET ", " FOR "].iter().any(|word| text.contains(word));
    let rows = rows(parameters).filter(|_| is_plain)?;
    // `OFFSET 0` keeps the server from turning the question for each row into one over the whole table.
    let text = format!(
        "SELECT q.*, p.nth FROM {rows} CROSS JOIN LATERAL ({} OFFSET 0) AS q",
        columns(text)
    );
    Some(ByArrays { text, keys: Vec::new() })
}

/// A change for many rows of its parameters; none where it is not one that can be made so.
pub(super) fn change(text: &str, parameters: &[Type], footprint: &Footprint) -> Option<ByArrays> {
    if text.contains("SELECT") || text.contains(" RETURNING ") {
        return None;
    }
    let rows = rows(parameters)?;
    if let Some(rest) = text.strip_prefix("INSERT INTO ") {
        return insert(rest, &rows, footprint);
    }
    let (before, filter) = text.split_once(" WHERE ")?;
    let joined = match () {
        () if filter.contains(" WHERE ") => return None,
        () if before.starts_with("UPDATE ") && !before.contains(" FROM ") => " FROM ",
        () if before.starts_with("DELETE FROM ") && !before.contains(" USING ") => " USING ",
        () => return None,
    };
    let keys: Vec<usize> = footprint.keys().collect();
    let text = format!("{}{joined}{rows} WHERE {}", columns(before), columns(filter));
    (!keys.is_empty()).then_some(ByArrays { text, keys })
}

/// What follows `INSERT INTO`.
fn insert(rest: &str, rows: &str, footprint: &Footprint) -> Option<ByArrays> {
    let (into, rest) = rest.split_once(" VALUES (")?;
    let (values, after) = rest.split_at(closing(rest)?);
    let after = after.strip_prefix(')')?;
    let insert = |values: &str, keys| ByArrays {
        text: format!("INSERT INTO {into} SELECT {values}{after}"),
        keys,
    };
    let plain = format!("{} FROM {rows}", columns(values));
    // Behind the values a parameter would have to stand for one row.
    if after.contains('$') || !(after.is_empty() || after.starts_with(" ON CONFLICT ")) {
        return None;
    }
    let Some((conflict, set)) = after.split_once(" DO UPDATE SET ") else {
        return Some(insert(&plain, Vec::new()));
    };
    if let Some(summed) = summed(into, values, conflict, set) {
        return Some(insert(
            &format!("{} FROM {rows} GROUP BY {}", summed.values, summed.keys),
            Vec::new(),
        ));
    }
    let keys: Vec<usize> = footprint.keys().collect();
    (!keys.is_empty()).then(|| insert(&plain, keys))
}

/// The values of an insert that adds to what a row has: of all rows of a key the sum.
struct Summed {
    values: String,
    keys: String,
}

/// None where it does anything else than add.
fn summed(into: &str, values: &str, conflict: &str, set: &str) -> Option<Summed> {
    let (table, names) = into.split_once(" (")?;
    let names: Vec<&str> = names.strip_suffix(')')?.split(", ").collect();
    let values: Vec<&str> = values.split(", ").collect();
    let keys: Vec<&str> = conflict
        .strip_prefix(" ON CONFLICT (")?
        .strip_suffix(')')?
        .split(", ")
        .collect();
    let adds = |name: &str| {
        set.split(", ")
            .any(|part| part == format!("{name} = {table}.{name} + excluded.{name}"))
    };
    let is_sum = names.len() == values.len()
        && names.len() == keys.len() + set.split(", ").count()
        && names.iter().all(|name| keys.contains(name) || adds(name));
    if !is_sum {
        return None;
    }
    let said = |name: &str, value: &str| match keys.contains(&name) {
        true => columns(value),
        false => format!("sum({})::bigint", columns(value)),
    };
    Some(Summed {
        values: names
            .iter()
            .zip(&values)
            .map(|(name, value)| said(name, value))
            .collect::<Vec<_>>()
            .join(", "),
        keys: names
            .iter()
            .zip(&values)
            .filter(|(name, _)| keys.contains(name))
            .map(|(_, value)| columns(value))
            .collect::<Vec<_>>()
            .join(", "),
    })
}

/// The rows of the arrays as a table `p`, with a column for each parameter and the row's number.
fn rows(parameters: &[Type]) -> Option<String> {
    if parameters.is_empty() {
        return None;
    }
    let arrays: Option<Vec<String>> = parameters
        .iter()
        .enumerate()
        .map(|(at, of)| array(of).map(|_| format!("${}::{of}[]", at + 1)))
        .collect();
    let names: Vec<String> = (1..=parameters.len()).map(|number| format!("p{number}, ")).collect();
    let (arrays, names) = (arrays?.join(", "), names.concat());
    Some(format!("unnest({arrays}) WITH ORDINALITY AS p({names}nth)"))
}

/// The type of an array of these.
pub(super) fn array(of: &Type) -> Option<Type> {
    Some(match *of {
        Type::INT8 => Type::INT8_ARRAY,
        Type::INT4 => Type::INT4_ARRAY,
        Type::BOOL => Type::BOOL_ARRAY,
        Type::FLOAT8 => Type::FLOAT8_ARRAY,
        Type::TEXT => Type::TEXT_ARRAY,
        Type::BYTEA => Type::BYTEA_ARRAY,
        _ => return None,
    })
}

/// Where the parenthesis closes within which a text begins.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut is_quoted) = (0_u32, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '\'' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '(' => depth += 1,
            ')' if depth == 0 => return Some(at),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The text with the column of `p` in place of each parameter; what is quoted stays.
fn columns(text: &str) -> String {
    let mut said = String::with_capacity(text.len() + 32);
    for (at, part) in text.split('\'').enumerate() {
        if at > 0 {
            said.push('\'');
        }
        match at % 2 {
            0 => said.push_str(&part.replace('$', "p.p")),
            _ => said.push_str(part),
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn said(text: &str, parameters: &[Type]) -> Option<(String, Vec<usize>)> {
        let footprint = Footprint::of(text);
        let many = match text.starts_with("SELECT") {
            true => question(text, parameters),
            false => change(text, parameters, &footprint),
        };
        many.map(|ByArrays { text, keys }| (text, keys))
    }

    #[test]
    fn a_question_is_asked_for_each_row() {
        assert_eq!(
            said("SELECT a, '$1' AS b FROM t WHERE c = $1 AND d < $2 LIMIT 1", &[Type::BYTEA, Type::INT8]),
            Some((
                "SELECT q.*, p.nth FROM unnest($1::bytea[], $2::int8[]) WITH ORDINALITY AS p(p1, p2, nth) CROSS JOIN LATERAL \
                 (SELECT a, '$1' AS b FROM t WHERE c = p.p1 AND d < p.p2 LIMIT 1 OFFSET 0) AS q"
                    .to_owned(),
                vec![]
            ))
        );
        for text in [
            "SELECT max(id) FROM t",
            "SELECT a FROM t WHERE b = $1 FOR UPDATE",
            "SELECT a FROM t WHERE b = $1 LIMIT 1 OFFSET 3",
        ] {
            let parameters = [Type::INT8];
            let parameters = if text.contains('$') { &parameters[..] } else { &[] };
            assert_eq!(said(text, parameters), None, "{text}");
        }
        assert_eq!(
            said("SELECT a FROM t WHERE b = $1", &[Type::TIMESTAMPTZ]),
            None,
            "a type that no value is of"
        );
    }

    #[test]
    fn a_change_is_made_for_all_rows_where_none_meets_another() {
        let numbers = [Type::INT8, Type::INT8];
        let p = "unnest($1::int8[], $2::int8[]) WITH ORDINALITY AS p(p1, p2, nth)";
        for (one, many, keys) in [
            (
                "INSERT INTO t (a, b, c) VALUES ($1, f($2), 'x)$1')",
                format!("INSERT INTO t (a, b, c) SELECT p.p1, f(p.p2), 'x)$1' FROM {p}"),
                vec![],
            ),
            (
                "INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                format!("INSERT INTO t (a, b) SELECT p.p1, p.p2 FROM {p} ON CONFLICT DO NOTHING"),
                vec![],
            ),
            (
                "INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = excluded.b",
                format!("INSERT INTO t (a, b) SELECT p.p1, p.p2 FROM {p} ON CONFLICT (a) DO UPDATE SET b = excluded.b"),
                vec![0],
            ),
            (
                "INSERT INTO t (a, b) VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET b = t.b + excluded.b",
                format!(
                    "INSERT INTO t (a, b) SELECT p.p1, sum(p.p2)::bigint FROM {p} GROUP BY p.p1 ON CONFLICT (a) DO UPDATE SET b = t.b + excluded.b"
                ),
                vec![],
            ),
            (
                "UPDATE t SET b = b + $2 WHERE a = $1 AND b < 7",
                format!("UPDATE t SET b = b + p.p2 FROM {p} WHERE a = p.p1 AND b < 7"),
                vec![0],
            ),
            (
                "DELETE FROM t WHERE a = $1 AND b = $2",
                format!("DELETE FROM t USING {p} WHERE a = p.p1 AND b = p.p2"),
                vec![0, 1],
            ),
        ] {
            assert_eq!(said(one, &numbers), Some((many, keys)), "{one}");
        }
    }

    #[test]
    fn what_is_about_rows_that_nobody_knows_is_made_one_by_one() {
        for text in [
            "INSERT INTO t (a, b) VALUES ($1, (SELECT max(b) FROM t))",
            "INSERT INTO t (a) SELECT a FROM u WHERE b = $1",
            "INSERT INTO t (a) VALUES ($1) RETURNING id",
            "INSERT INTO t (a, b) VALUES ($1, 0) ON CONFLICT (a) DO UPDATE SET b = $2",
            "INSERT INTO t (a, b) VALUES (f($1), $2) ON CONFLICT (a) DO UPDATE SET b = excluded.b",
            "UPDATE t SET b = $1 WHERE c > $2",
            "UPDATE t SET a = $2 WHERE a = $1",
            "UPDATE t SET b = $2 WHERE a = $1 OR c = $1",
            "UPDATE t SET b = $2 FROM u WHERE t.a = u.a AND t.c = $1",
            "UPDATE t SET b = $2 WHERE a = $1 AND EXISTS (SELECT 1 FROM u WHERE u.a = t.a)",
            "DELETE FROM t WHERE a < $1",
            "DELETE FROM t",
        ] {
            assert_eq!(said(text, &[Type::INT8, Type::INT8]), None, "{text}");
        }
    }
}
