use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::types::ValueRef;

/// Statements with their parameters.
type Asked = Rc<RefCell<Vec<(String, Vec<Value>)>>>;

/// A host that keeps what it was asked and gives one prepared answer.
#[derive(Default)]
struct Canned {
    asked: Asked,
    answer: Answer,
    fails: Option<DriverError>,
}

impl Driver for Canned {
    fn execute(&self, sql: &str, parameters: Vec<Value>) -> std::result::Result<Answer, DriverError> {
        self.asked.borrow_mut().push((sql.to_owned(), parameters));
        match &self.fails {
            Some(error) => Err(error.clone()),
            None => Ok(self.answer.clone()),
        }
    }

    fn last_insert_rowid(&self) -> i64 {
        7
    }

    fn changes(&self) -> u64 {
        3
    }
}

fn two_rows() -> Answer {
    Answer {
        columns: vec!["id".into(), "name".into()],
        rows: vec![
            vec![Value::Integer(1), Value::Text("a".into())],
            vec![Value::Integer(-2), Value::Null],
        ],
    }
}

#[test]
fn parameters_are_bound_in_their_places() {
    let driver = Canned::default();
    let asked = Rc::clone(&driver.asked);
    let connection = Connection::new(Box::new(driver));
    let changed = connection.execute(
        "positional",
        params![1_i64, "two", None::<i64>, [3_u8].as_slice(), true],
    );
    assert_eq!(changed, Ok(3));
    connection
        .execute(
            "a = :b AND ':quoted' <> x OR :a IS NULL OR c = :b",
            named_params! { ":a": "first", ":b": 2_i64 },
        )
        .unwrap();
    let missing = connection.execute(":c", named_params! { ":a": 1_i64 });
    assert_eq!(missing, Err(Error::InvalidParameterName(":c".into())));
    let asked = asked.borrow();
    let values: Vec<_> = asked.iter().map(|(_, values)| values.clone()).collect();
    assert_eq!(
        values,
        [
            vec![
                Value::Integer(1),
                Value::Text("two".into()),
                Value::Null,
                Value::Blob(vec![3]),
                Value::Integer(1)
            ],
            vec![Value::Integer(2), Value::Text("first".into())],
        ]
    );
}

#[test]
fn rows_are_read_by_place_and_by_name() {
    let connection = Connection::new(Box::new(Canned {
        answer: two_rows(),
        ..Canned::default()
    }));
    let mut statement = connection.prepare_cached("q").unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut seen = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        seen.push((
            row.get::<_, i64>(0).unwrap(),
            row.get::<_, Option<String>>("name").unwrap(),
        ));
    }
    assert_eq!(seen, [(1, Some("a".into())), (-2, None)]);
    assert!(rows.next().unwrap().is_none(), "the end stays the end");

    let row = statement.query_row([], |row| {
        assert_eq!(row.get_ref("id")?, ValueRef::Integer(1));
        assert_eq!(
            row.get::<_, i64>("nothing"),
            Err(Error::InvalidColumnName("nothing".into()))
        );
        assert!(matches!(row.get::<_, i64>("name"), Err(Error::InvalidColumnType(..))));
        Ok(())
    });
    assert_eq!(row, Ok(()));
    let negative = statement
        .query_map([], |row| row.get::<_, u32>("id"))
        .unwrap()
        .collect::<Result<Vec<_>>>();
    assert_eq!(negative, Err(Error::IntegralValueOutOfRange("id".into(), -2)));
}

#[test]
fn no_row_is_a_value_when_asked_so() {
    let connection = Connection::new(Box::<Canned>::default());
    let none = connection.query_row("q", [], |row| row.get::<_, i64>(0));
    assert_eq!(none, Err(Error::QueryReturnedNoRows));
    assert_eq!(none.optional(), Ok(None));
}

#[test]
fn a_hosts_words_are_told_apart() {
    let code = |error: DriverError| match Error::of_driver(error) {
        Error::SqliteFailure(error, _) => error.code,
        other => panic!("{other}"),
    };
    for (text, expect) in [
        ("database is locked", ErrorCode::DatabaseBusy),
        ("database or disk is full", ErrorCode::DiskFull),
        ("disk I/O error", ErrorCode::SystemIoFailure),
        ("database disk image is malformed", ErrorCode::DatabaseCorrupt),
        ("file is not a database", ErrorCode::NotADatabase),
        ("no such table: receipts", ErrorCode::Unknown),
    ] {
        assert_eq!(code(DriverError::Other(text.into())), expect, "{text}");
    }
    assert_eq!(code(DriverError::Full), ErrorCode::DiskFull);
}
