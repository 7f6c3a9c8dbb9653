//! The numbered steps of the schema. The file's `user_version` says how many were taken.

/// A file's statements, without what is said about them: each instance on Spin carries them.
macro_rules! statements {
    ($path:literal) => {{
        const FILE: &str = include_str!($path);
        const LENGTH: usize = write_statements(FILE, &mut [0; FILE.len()]);
        const STATEMENTS: [u8; LENGTH] = {
            let (mut statements, mut whole) = ([0; LENGTH], [0; FILE.len()]);
            write_statements(FILE, &mut whole);
            let mut at = 0;
            while at < LENGTH {
                statements[at] = whole[at];
                at += 1;
            }
            statements
        };
        const TEXT: &str = match str::from_utf8(&STATEMENTS) {
            Ok(text) => text,
            Err(_) => panic!("lines are left out whole"),
        };
        TEXT
    }};
}

/// Writes `sql` without its comments, indentation and empty lines, and says how many bytes that are. No text in a migration may
/// contain `--`; a test holds them to it.
const fn write_statements(sql: &str, to: &mut [u8]) -> usize {
    let from = sql.as_bytes();
    let (mut read, mut written) = (0, 0);
    while read < from.len() {
        let starts_line = written == 0 || to[written - 1] == b'\n';
        let next = if read + 1 < from.len() { from[read + 1] } else { b'\n' };
        let is_left_out = match from[read] {
            b' ' => starts_line || next == b' ',
            b'\n' => starts_line,
            _ => false,
        };
        if from[read] == b'-' && next == b'-' {
            while read < from.len() && from[read] != b'\n' {
                read += 1;
            }
        } else if is_left_out {
            read += 1;
        } else {
            to[written] = from[read];
            written += 1;
            read += 1;
        }
    }
    written
}

pub(crate) const MIGRATIONS: &[&str] = &[
    statements!("../../migrations/0001_first.sql"),
    statements!("../../migrations/0002_budgets.sql"),
    statements!("../../migrations/0003_pauses.sql"),
    statements!("../../migrations/0004_bulks.sql"),
    statements!("../../migrations/0005_issues.sql"),
    statements!("../../migrations/0006_order.sql"),
    statements!("../../migrations/0007_pulls.sql"),
    statements!("../../migrations/0008_settings.sql"),
    statements!("../../migrations/0009_portal_links.sql"),
];
pub(crate) const SCHEMA_VERSION: u32 = MIGRATIONS.len() as u32;

/// How SQLite means to find what is asked, step by step. It plans for an empty store as for a full one: it keeps no statistics of either.
#[cfg(test)]
pub(crate) fn plan(sql: &str) -> Vec<String> {
    let store = rusqlite::Connection::open_in_memory().unwrap();
    for step in MIGRATIONS {
        store.execute_batch(step).unwrap();
    }
    let mut plan = store.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let none = vec![None::<i64>; plan.parameter_count()];
    plan.query_map(rusqlite::params_from_iter(none), |row| row.get("detail"))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
}

/// Whether a plan begins with a range of rows that has two ends, and reads no table as a whole.
#[cfg(test)]
pub(crate) fn is_ranged(plan: &[String]) -> bool {
    let first = plan.iter().find(|step| step.starts_with("SEARCH"));
    first.is_some_and(|first| first.contains(">? AND ") && first.contains("<?)"))
        && !plan.iter().any(|step| step.starts_with("SCAN"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_carried_without_their_comments() {
        let text = "-- Why.\nCREATE TABLE t (\n    a TEXT,   -- one\n\n    b TEXT\n) STRICT; -- end";
        let mut to = [0; 200];
        let length = write_statements(text, &mut to);
        let kept = str::from_utf8(&to[..length]).unwrap();
        assert_eq!(kept, "CREATE TABLE t (\na TEXT, \nb TEXT\n) STRICT; ");
        for migration in MIGRATIONS {
            assert!(!migration.contains("--") && !migration.contains("  "), "{migration}");
            assert!(migration.trim_end().ends_with(';'), "{migration}");
        }
    }

    #[test]
    fn no_text_in_a_migration_has_dashes() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            for line in std::fs::read_to_string(&path).unwrap().lines() {
                let code = line.split("--").next().unwrap_or_default();
                let quotes = code.matches('\'').count();
                assert_eq!(quotes % 2, 0, "{}: {line}", path.display());
            }
        }
    }
}
