use std::cell::RefCell;
use std::rc::Rc;

use super::*;

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

fn database(driver: Canned) -> Box<Connection> {
    Box::new(Hosted(driver))
}

/// What a native connection makes of the same.
fn native() -> Box<Connection> {
    Box::new(rusqlite::Connection::open_in_memory().unwrap())
}

#[test]
fn parameters_are_bound_in_their_places() {
    let driver = Canned::default();
    let asked = Rc::clone(&driver.asked);
    let changed = database(driver).prepare_cached("q").unwrap().changed(params![
        1_i64,
        "two",
        None::<i64>,
        [3_u8].as_slice(),
        true
    ]);
    assert_eq!(changed, Ok(3));
    let values = [
        Value::Integer(1),
        Value::Text("two".into()),
        Value::Null,
        Value::Blob(vec![3]),
        Value::Integer(1),
    ];
    assert_eq!(*asked.borrow(), [("q".to_owned(), values.to_vec())]);
}

#[test]
fn both_databases_read_rows_by_place_and_by_name() {
    let answer = Answer {
        columns: vec!["id".into(), "name".into()],
        rows: vec![
            vec![Value::Integer(1), Value::Text("a".into())],
            vec![Value::Integer(-2), Value::Null],
        ],
    };
    let hosted = database(Canned {
        answer,
        ..Canned::default()
    });
    for connection in [hosted, native()] {
        let mut statement = connection
            .prepare_cached("SELECT 1 AS id, 'a' AS name UNION ALL SELECT -2, NULL")
            .unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut seen = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            seen.push((
                row.get::<_, i64>(0).unwrap(),
                row.get::<_, Option<String>>("name").unwrap(),
            ));
        }
        assert_eq!(seen, [(1, Some("a".into())), (-2, None)]);
        drop(rows);

        let row = statement.query_row([], |row| {
            assert_eq!(row.get_ref("id")?, ValueRef::Integer(1));
            assert!(matches!(row.get::<_, i64>("nothing"), Err(Error::Misused(_))));
            assert!(matches!(row.get::<_, i64>("name"), Err(Error::Column(_))));
            assert!(matches!(row.get::<_, [u8; 4]>("name"), Err(Error::Column(_))));
            Ok(())
        });
        assert_eq!(row, Ok(()));
        let negative = statement
            .query_map([], |row| row.get::<_, u32>("id"))
            .unwrap()
            .collect::<Result<Vec<_>>>();
        assert_eq!(negative, Err(Error::Column("column id: -2 is out of range".into())));
    }
}

#[test]
fn no_row_is_a_value_when_asked_so() {
    for connection in [database(Canned::default()), native()] {
        let none = connection.query_row("SELECT 1 WHERE 0", [], |row| row.get::<_, i64>(0));
        assert_eq!(none, Err(Error::NoRow));
        assert_eq!(none.optional(), Ok(None));
    }
}

#[test]
fn a_parameter_too_few_or_too_many_is_refused() {
    for parameters in [params![1_i64], params![1_i64, 2_i64, 3_i64]] {
        let refused = native().query_row("SELECT ?1 + ?2", parameters, |row| row.get::<_, i64>(0));
        assert!(matches!(refused, Err(Error::Misused(_))), "{refused:?}");
    }
}

#[test]
fn a_hosts_words_are_told_apart() {
    let kind = |fails: DriverError| {
        let driver = Canned {
            fails: Some(fails),
            ..Canned::default()
        };
        match database(driver).execute("q", []) {
            Err(Error::Failed { kind, .. }) => kind,
            other => panic!("{other:?}"),
        }
    };
    for (text, expect) in [
        ("database is locked", Kind::Busy),
        ("database or disk is full", Kind::NoSpace),
        ("disk I/O error", Kind::Disk),
        ("database disk image is malformed", Kind::Corrupt),
        ("file is not a database", Kind::Corrupt),
        ("no such table: receipts", Kind::Other),
    ] {
        assert_eq!(kind(DriverError::Other(text.into())), expect, "{text}");
    }
    assert_eq!(kind(DriverError::Full), Kind::NoSpace);
}
