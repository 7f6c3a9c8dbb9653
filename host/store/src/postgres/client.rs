//! A connection to PostgreSQL as the store's database: one per thread that uses it, which waits for each answer.
//!
//! A connection has a runtime of its own, which runs while an answer is waited for and at no other time. No wait is without an end:
//! the server ends a statement, and where the server says nothing any more, the wait here ends and the connection with it.
//!
//! Within a writer's transaction a change is sent and not waited for: its answer comes before the next that somebody waits for, and what it
//! failed with is said then. What will be asked can be asked before (`ahead`), many questions at once; and rows get their numbers here, so
//! that nobody waits for those either. Questions and changes of one kind are gathered and sent as one statement (`arrays`), before anything
//! else is sent that could tell the difference.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::runtime::Runtime;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, IsNull, ToSql as ToWire, Type};

use super::ahead::{Ahead, Found, Question};
use super::arrays;
use super::dialect::{Numbered, Translated, translate};
use super::footprint::Changed;
use super::gathered::{Asking, Gathered, Gathering, Ready, bytes_of};
use super::target::Target;
use super::tls::explained;
use crate::sql::{Column, Columns, Error, Kind, NextRow, Prepared, Result, Row, Rows, Sql, ToSql, Value, ValueRef};

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// What the server does with a statement that takes longer, with one that waits for a lock, and with a transaction whose host is silent, in
/// milliseconds. And no statement is long enough for a compiler.
const SETTINGS: &str = "SET statement_timeout = 10000; SET lock_timeout = 5000; SET idle_in_transaction_session_timeout = 15000; \
                        SET client_min_messages = warning; SET jit = off; SET search_path = tollgate, pg_catalog";
/// After this the server is thought to be gone. Longer than anything that it is allowed to take.
const ANSWER_MAX: Duration = Duration::from_secs(12);
/// The same where nobody waits for an answer: a whole table may be counted.
const LONG_ANSWER_MAX: Duration = Duration::from_secs(60 * 60);

/// Statements that are sent before their answers are waited for, and bytes of their parameters.
const SENT_MAX: usize = 1024;
const SENT_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) struct Client {
    // Ended by hand: a runtime must not be dropped where futures are polled.
    runtime: Option<Runtime>,
    client: Arc<tokio_postgres::Client>,
    prepared: RefCell<HashMap<String, Arc<Ready>>>,
    last_number: Cell<i64>,
    /// Something was executed that may have changed something, since it was last asked.
    wrote: Cell<bool>,
    answer_max: Cell<Duration>,
    /// Whether the connection is in a transaction in which changes are not waited for.
    sends_ahead: Cell<bool>,
    /// Whether somebody only looks what will be asked: what is not answered yet is asked, and nothing is changed.
    looks_ahead: Cell<bool>,
    gathered: RefCell<Gathered>,
    sent: RefCell<Sent>,
    ahead: RefCell<Ahead>,
    /// Whether answers that came early are held against those of now.
    compares: Cell<bool>,
    stopped_at_question: Cell<bool>,
    /// The last number of each table, as far as it is known within this transaction.
    numbers: RefCell<HashMap<String, i64>>,
}

/// What was sent and not answered yet, in its order.
#[derive(Default)]
struct Sent {
    answers: Vec<(Purpose, Pin<Box<SentAnswer>>)>,
    bytes: usize,
    /// What one of them failed with, until it can be said.
    failed: Option<Error>,
}

/// What becomes of an answer that nobody waits for.
enum Purpose {
    Nothing,
    /// Its last row's last column is the number of the row that was inserted last.
    Number,
    /// It is kept for who asks.
    Answer(Question),
    /// The last column of each row is the number of the question, from 1, that it answers.
    Answers(Vec<Question>),
}

type SentAnswer = dyn Future<Output = std::result::Result<Vec<tokio_postgres::Row>, tokio_postgres::Error>> + Send;

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// # Errors
    /// [`Kind::Away`] when there is no server, or it takes no more connections.
    pub(super) fn connect(target: &Target) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::Misused(format!("cannot make a connection's runtime: {error}")))?;
        let connecting = async {
            // The connection ends with the client. What it ended with, the client's next answer says.
            let client = match &target.tls {
                Some(connector) => {
                    let (client, connection) = target.config.connect(connector.clone()).await?;
                    drop(tokio::spawn(connection));
                    client
                }
                None => {
                    let (client, connection) = target.config.connect(tokio_postgres::NoTls).await?;
                    drop(tokio::spawn(connection));
                    client
                }
            };
            client.batch_execute(SETTINGS).await?;
            Ok(client)
        };
        let connected = runtime.block_on(async { tokio::time::timeout(CONNECT_MAX, connecting).await });
        let client = match connected {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => {
                runtime.shutdown_background();
                return Err(failed(&error));
            }
            Err(_) => {
                runtime.shutdown_background();
                return Err(away("the server does not answer"));
            }
        };
        Ok(Self {
            runtime: Some(runtime),
            client: Arc::new(client),
            prepared: RefCell::default(),
            last_number: Cell::new(0),
            wrote: Cell::new(false),
            answer_max: Cell::new(ANSWER_MAX),
            sends_ahead: Cell::new(false),
            looks_ahead: Cell::new(false),
            gathered: RefCell::default(),
            sent: RefCell::default(),
            ahead: RefCell::default(),
            compares: Cell::new(false),
            stopped_at_question: Cell::new(false),
            numbers: RefCell::default(),
        })
    }

    /// Waits for an answer, and for those of what was sent before. What one of them failed with comes first: it is why the answer fails.
    fn wait<T>(&self, answer: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>) -> Result<T> {
        self.send_gathered()?;
        let runtime = self.runtime.as_ref().ok_or_else(|| away("the connection was ended"))?;
        let Sent {
            answers,
            failed: before,
            ..
        } = self.sent.take();
        let answer_max = self.answer_max.get();
        let mut answer = std::pin::pin!(answer);
        let all = async {
            // Sent behind what was sent before it, without a wait in between.
            let early = std::future::poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
            let mut first_failed = None;
            for (purpose, answer) in answers {
                match tokio::time::timeout(answer_max, answer).await? {
                    Ok(rows) => self.take_answer(purpose, rows),
                    Err(error) => first_failed = first_failed.or(Some(error)),
                }
            }
            let answer = match early {
                Poll::Ready(answer) => answer,
                Poll::Pending => tokio::time::timeout(answer_max, answer).await?,
            };
            Ok::<_, tokio::time::error::Elapsed>((answer, first_failed))
        };
        let Ok((answer, first_failed)) = runtime.block_on(all) else {
            return Err(away("the server does not answer"));
        };
        match before.or(first_failed.as_ref().map(failed)) {
            Some(error) => Err(error),
            None => answer.map_err(|error| failed(&error)),
        }
    }

    fn take_answer(&self, purpose: Purpose, rows: Vec<tokio_postgres::Row>) {
        match purpose {
            Purpose::Nothing => {}
            Purpose::Number => {
                if let Some(row) = rows.last() {
                    self.last_number.set(row.get(row.len() - 1));
                }
            }
            Purpose::Answer(question) => self.ahead.borrow_mut().answer(&question, rows),
            Purpose::Answers(questions) => {
                let mut answers: Vec<Vec<tokio_postgres::Row>> = questions.iter().map(|_| Vec::new()).collect();
                for row in rows {
                    let number: i64 = row.get(row.len() - 1);
                    let at = usize::try_from(number - 1).ok();
                    if let Some(answer) = at.and_then(|at| answers.get_mut(at)) {
                        answer.push(row);
                    }
                }
                let mut ahead = self.ahead.borrow_mut();
                for (question, rows) in questions.iter().zip(answers) {
                    ahead.answer(question, rows);
                }
            }
        }
    }

    /// Waits for the answers of what was sent.
    pub(super) fn wait_for_all(&self) -> Result<()> {
        self.wait(async { Ok(()) })
    }

    /// Sends a statement whose answer is waited for later.
    fn send(&self, purpose: Purpose, ready: &Arc<Ready>, values: Vec<Value>) -> Result<()> {
        let (expected, found) = (ready.statement.params().len(), values.len());
        if expected != found {
            return Err(Error::Misused(format!("{found} parameters instead of {expected}")));
        }
        let bytes = values.iter().map(bytes_of).sum::<usize>();
        let (client, ready) = (Arc::clone(&self.client), Arc::clone(ready));
        self.send_ahead(purpose, bytes, async move {
            let values: Vec<Lent<'_>> = values.iter().map(|value| Lent(value.into())).collect();
            let values: Vec<&(dyn ToWire + Sync)> = values.iter().map(|value| value as &(dyn ToWire + Sync)).collect();
            client.query(&ready.statement, &values).await
        })
    }

    fn gather_question(&self, ready: &Arc<Ready>, question: Question, values: Vec<Value>) -> Result<()> {
        if !self.gathered.borrow().changes.is_empty() {
            self.send_gathered()?;
        }
        self.gathered.borrow_mut().ask(ready, question, values);
        self.send_if_full()
    }

    /// Gathers a change, or sends it where it is no row of many.
    fn gather_change(&self, ready: &Arc<Ready>, purpose: Purpose, values: Vec<Value>) -> Result<()> {
        let by_arrays = ready.change_by_arrays().filter(|_| matches!(purpose, Purpose::Nothing));
        if by_arrays.is_none() || !self.gathered.borrow().questions.is_empty() {
            self.send_gathered()?;
        }
        let Some(by_arrays) = by_arrays else {
            return self.send(purpose, ready, values);
        };
        let before = self.gathered.borrow_mut().change(ready, by_arrays, values);
        before.map_or(Ok(()), |before| self.send_rows(before))?;
        self.send_if_full()
    }

    fn send_if_full(&self) -> Result<()> {
        let is_full = {
            let gathered = self.gathered.borrow();
            gathered.rows >= SENT_MAX || gathered.bytes >= SENT_BYTES_MAX
        };
        if is_full { self.send_gathered() } else { Ok(()) }
    }

    /// Sends what was gathered.
    ///
    /// # Errors
    /// When something of it cannot be said; and then nothing of it is gathered any more.
    pub(super) fn send_gathered(&self) -> Result<()> {
        let Gathered { questions, changes, .. } = self.gathered.take();
        for Asking { ready, questions, rows } in questions {
            match &ready.by_arrays {
                Some(many) if rows.len() > 1 => {
                    self.send_arrays(Purpose::Answers(questions), &ready, &many.text, rows)?;
                }
                _ => {
                    for (question, values) in questions.into_iter().zip(rows) {
                        self.send(Purpose::Answer(question), &ready, values)?;
                    }
                }
            }
        }
        changes.into_iter().try_for_each(|of| self.send_rows(of))
    }

    fn send_rows(&self, Gathering { ready, rows, .. }: Gathering) -> Result<()> {
        match &ready.by_arrays {
            Some(many) if rows.len() > 1 => self.send_arrays(Purpose::Nothing, &ready, &many.text, rows),
            _ => rows
                .into_iter()
                .try_for_each(|values| self.send(Purpose::Nothing, &ready, values)),
        }
    }

    /// Sends a statement for many rows of parameters.
    fn send_arrays(&self, purpose: Purpose, ready: &Arc<Ready>, text: &str, rows: Vec<Vec<Value>>) -> Result<()> {
        let parameters = ready.statement.params().len();
        if let Some(row) = rows.iter().find(|row| row.len() != parameters) {
            return Err(Error::Misused(format!(
                "{} parameters instead of {parameters}",
                row.len()
            )));
        }
        let statement = self.ready_as(text, || Translated::of_arrays(text))?.statement.clone();
        let bytes = rows.iter().flatten().map(bytes_of).sum::<usize>();
        let client = Arc::clone(&self.client);
        self.send_ahead(purpose, bytes, async move {
            let column = |at: usize| {
                rows.iter()
                    .map(|row| Lent((&row[at]).into()))
                    .collect::<Vec<Lent<'_>>>()
            };
            let columns: Vec<Vec<Lent<'_>>> = (0..parameters).map(column).collect();
            let columns: Vec<&(dyn ToWire + Sync)> =
                columns.iter().map(|column| column as &(dyn ToWire + Sync)).collect();
            client.query(&statement, &columns).await
        })
    }

    fn send_ahead(
        &self,
        purpose: Purpose,
        bytes: usize,
        answer: impl Future<Output = std::result::Result<Vec<tokio_postgres::Row>, tokio_postgres::Error>> + Send + 'static,
    ) -> Result<()> {
        let mut answer: Pin<Box<SentAnswer>> = Box::pin(answer);
        let is_full = {
            let mut sent = self.sent.borrow_mut();
            // Polled once, it is on its way; or it never will be, because a parameter cannot be said or the connection is gone.
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => {}
                Poll::Ready(Err(error)) => return Err(failed(&error)),
                Poll::Ready(done) => answer = Box::pin(std::future::ready(done)),
            }
            sent.answers.push((purpose, answer));
            sent.bytes += bytes;
            sent.answers.len() >= SENT_MAX || sent.bytes >= SENT_BYTES_MAX
        };
        if is_full { self.wait_for_all() } else { Ok(()) }
    }

    /// Begins a transaction in which changes are not waited for. [`Self::batch`] ends it.
    pub(super) fn begin_sending(&self) -> Result<()> {
        self.forget();
        self.sends_ahead.set(true);
        // In every second transaction: to compare, what was gathered has to be sent.
        self.compares.set(cfg!(debug_assertions) && !self.compares.get());
        let client = Arc::clone(&self.client);
        self.send_ahead(Purpose::Nothing, 0, async move {
            client.batch_execute("BEGIN").await.map(|()| Vec::new())
        })
    }

    /// What was asked ahead, and the numbers: they are one transaction's.
    fn forget(&self) {
        self.ahead.borrow_mut().clear();
        self.numbers.borrow_mut().clear();
    }

    /// From here on until it is said otherwise nothing is changed: what is asked and not answered yet is [`Error::OnItsWay`], and so is every change.
    pub(super) fn look_ahead(&self, looks: bool) {
        self.looks_ahead.set(looks);
    }

    /// Whether a look came to a question that is not answered yet, since this was last asked.
    pub(super) fn has_stopped_at_question(&self) -> bool {
        self.stopped_at_question.take()
    }

    /// Asks for what will be asked, unless that is done.
    fn ask_ahead(&self, ready: &Arc<Ready>, parameters: &[&dyn ToSql]) -> Result<()> {
        let values = values_of(parameters);
        let question = Question::new(ready.number, &values);
        if !matches!(self.ahead.borrow().find(&question), Found::Nothing) {
            return Ok(());
        }
        self.ahead
            .borrow_mut()
            .ask(question.clone(), Arc::clone(&ready.footprint), values.clone());
        self.gather_question(ready, question, values)
    }

    /// An answer that was asked for before, if it still holds.
    fn answered(&self, ready: &Arc<Ready>, parameters: &[&dyn ToSql]) -> Result<Option<Arc<Vec<tokio_postgres::Row>>>> {
        if self.ahead.borrow().is_empty() {
            return Ok(None);
        }
        let question = Question::new(ready.number, &values_of(parameters));
        if matches!(self.ahead.borrow().find(&question), Found::OnItsWay) && !self.looks_ahead.get() {
            self.wait_for_all()?;
        }
        match self.ahead.borrow().find(&question) {
            Found::Answer(rows) => Ok(Some(rows)),
            Found::Nothing | Found::OnItsWay => Ok(None),
        }
    }

    /// A number for a row of a table that the database would number itself: the next.
    fn next_number(&self, table: &str) -> Result<i64> {
        let known = self.numbers.borrow().get(table).copied();
        let last: i64 = match known {
            Some(last) => last,
            None => (self as &dyn Sql).query_row(&last_number(table), [], |row| row.get(0))?,
        };
        Ok(last + 1)
    }

    /// Sends a change within a writer's transaction.
    fn send_change(&self, ready: &Arc<Ready>, parameters: &[&dyn ToSql]) -> Result<()> {
        let mut values = values_of(parameters);
        let (mut ready, mut purpose) = (Arc::clone(ready), Purpose::Nothing);
        let numbered = ready.numbered.clone();
        if let Some(numbered) = &numbered {
            let number = self.next_number(&numbered.table)?;
            values.push(Value::Integer(number));
            ready = self.ready_as(&numbered.text, || numbered.translated())?;
            // The number of a row that was inserted before is not the last any more, whenever it comes.
            for (of_other, _) in &mut self.sent.borrow_mut().answers {
                if matches!(of_other, Purpose::Number) {
                    *of_other = Purpose::Nothing;
                }
            }
            self.last_number.set(number);
        } else if ready.gives_number {
            purpose = Purpose::Number;
        }
        self.note_change(&ready, &values);
        self.gather_change(&ready, purpose, values)?;
        if let Some(Numbered { table, .. }) = numbered {
            self.numbers.borrow_mut().insert(table, self.last_number.get());
        }
        Ok(())
    }

    /// What was asked ahead and may be changed is not known any more.
    fn note_change(&self, ready: &Ready, values: &[Value]) {
        self.wrote.set(true);
        self.ahead.borrow_mut().change(&ready.footprint, values);
        match ready.footprint.changed() {
            Changed::Table(table) if ready.adds => drop(self.numbers.borrow_mut().remove(table)),
            Changed::Anything => self.numbers.borrow_mut().clear(),
            Changed::Table(_) | Changed::Nothing => {}
        }
    }

    /// From now on statements may take long.
    pub(super) fn take_long(&self) -> Result<()> {
        self.answer_max.set(LONG_ANSWER_MAX);
        self.batch("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
    }

    /// Several statements without parameters, in PostgreSQL's own words.
    pub(super) fn batch(&self, sql: &str) -> Result<()> {
        self.sends_ahead.set(false);
        self.forget();
        self.wait(self.client.batch_execute(sql))
    }

    /// Takes a transaction back. What failed of it is of no interest any more.
    pub(super) fn roll_back(&self) -> Result<()> {
        self.gathered.take();
        let _ = self.wait_for_all();
        self.batch("ROLLBACK")
    }

    /// Whether something was executed that may have changed something, since this was last asked.
    pub(super) fn has_written(&self) -> bool {
        self.wrote.take()
    }

    fn ready(&self, sql: &str) -> Result<Arc<Ready>> {
        self.ready_as(sql, || translate(sql))
    }

    /// A statement that is known by its text, in whosever words that is.
    fn ready_as(&self, known_by: &str, translated: impl FnOnce() -> Translated) -> Result<Arc<Ready>> {
        if let Some(ready) = self.prepared.borrow().get(known_by) {
            return Ok(Arc::clone(ready));
        }
        let Translated {
            text,
            gives_number,
            writes,
            numbered,
            footprint,
        } = translated();
        let statement = self.wait(self.client.prepare(&text))?;
        let by_arrays = match writes {
            true => arrays::change(&text, statement.params(), &footprint),
            false => arrays::question(&text, statement.params()),
        };
        let ready = Arc::new(Ready {
            number: self.prepared.borrow().len(),
            statement,
            gives_number,
            writes,
            adds: text.starts_with("INSERT"),
            numbered,
            footprint: Arc::new(footprint),
            by_arrays,
        });
        self.prepared
            .borrow_mut()
            .insert(known_by.to_owned(), Arc::clone(&ready));
        Ok(ready)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Sql for Client {
    fn prepare(&self, sql: &str) -> Result<Box<dyn Prepared + '_>> {
        Ok(Box::new(Asked {
            client: self,
            ready: self.ready(sql)?,
        }))
    }

    fn last_insert_rowid(&self) -> i64 {
        let is_on_its_way = |(purpose, _): &(Purpose, _)| matches!(purpose, Purpose::Number);
        if self.sent.borrow().answers.iter().any(is_on_its_way)
            && let Err(error) = self.wait_for_all()
        {
            // There is no number then, and whoever waits for an answer next is told why.
            self.sent.borrow_mut().failed = Some(error);
        }
        self.last_number.get()
    }

    fn will_ask(&self, sql: &str, parameters: &[&dyn ToSql]) -> Result<()> {
        match self.sends_ahead.get() {
            true => self.ask_ahead(&self.ready(sql)?, parameters),
            false => Ok(()),
        }
    }
}

/// Asks for the last number of a table.
pub(super) fn last_number(table: &str) -> String {
    format!("SELECT coalesce(max(id), 0) FROM {table}")
}

struct Asked<'c> {
    client: &'c Client,
    ready: Arc<Ready>,
}

impl Asked<'_> {
    fn ask(&self, parameters: &[&dyn ToSql]) -> Result<Arc<Vec<tokio_postgres::Row>>> {
        let Self { client, ready } = self;
        if ready.writes {
            client.note_change(ready, &values_of(parameters));
        }
        let rows = self.wait(parameters)?;
        if ready.gives_number
            && let Some(last) = rows.last()
        {
            client.last_number.set(last.get(last.len() - 1));
        }
        Ok(Arc::new(rows))
    }

    fn wait(&self, parameters: &[&dyn ToSql]) -> Result<Vec<tokio_postgres::Row>> {
        let Self { client, ready } = self;
        with_parameters(ready, parameters, |parameters| {
            client.wait(client.client.query(&ready.statement, parameters))
        })
    }
}

fn with_parameters<T>(
    ready: &Ready,
    parameters: &[&dyn ToSql],
    with: impl FnOnce(&[&(dyn ToWire + Sync)]) -> Result<T>,
) -> Result<T> {
    let (expected, found) = (ready.statement.params().len(), parameters.len());
    if expected != found {
        return Err(Error::Misused(format!("{found} parameters instead of {expected}")));
    }
    let values: Vec<Lent<'_>> = parameters.iter().map(|parameter| Lent(parameter.to_sql())).collect();
    let values: Vec<&(dyn ToWire + Sync)> = values.iter().map(|value| value as &(dyn ToWire + Sync)).collect();
    with(&values)
}

/// The parameters as the database keeps them, so that what it answers can be compared with them.
fn values_of(parameters: &[&dyn ToSql]) -> Vec<Value> {
    let value = |parameter: &&dyn ToSql| match parameter.to_sql() {
        ValueRef::Text(text) => Value::Text(kept(text).into_owned()),
        other => other.into(),
    };
    parameters.iter().map(value).collect()
}

/// A text without the one character that PostgreSQL keeps in no text. It may stand in what a plugin or a destination says, and in no name.
fn kept(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => Cow::Owned(text.replace('\0', "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

impl Prepared for Asked<'_> {
    fn execute(&mut self, parameters: &[&dyn ToSql]) -> Result<()> {
        let Self { client, ready } = self;
        match (client.looks_ahead.get(), client.sends_ahead.get()) {
            (true, _) => Err(Error::OnItsWay),
            (false, true) => client.send_change(ready, parameters),
            (false, false) => self.changed(parameters).map(drop),
        }
    }

    fn changed(&mut self, parameters: &[&dyn ToSql]) -> Result<usize> {
        let Self { client, ready } = self;
        if client.looks_ahead.get() {
            return Err(Error::OnItsWay);
        }
        if ready.gives_number {
            return Ok(self.ask(parameters)?.len());
        }
        client.note_change(ready, &values_of(parameters));
        let changed = with_parameters(ready, parameters, |parameters| {
            client.wait(client.client.execute(&ready.statement, parameters))
        })?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    fn query(&mut self, parameters: &[&dyn ToSql]) -> Result<Rows<'_>> {
        let Self { client, ready } = &*self;
        if ready.writes && client.looks_ahead.get() {
            return Err(Error::OnItsWay);
        }
        let answered = match client.sends_ahead.get() && !ready.writes {
            true => client.answered(ready, parameters)?,
            false => None,
        };
        let rows = match answered {
            Some(rows) => {
                if client.compares.get() && !client.looks_ahead.get() {
                    let now = self.wait(parameters)?;
                    assert!(
                        are_same(&rows, &now, ready.statement.columns().len()),
                        "what was asked ahead is answered otherwise now: {:?}",
                        ready.footprint
                    );
                }
                rows
            }
            None if client.looks_ahead.get() => {
                client.ask_ahead(ready, parameters)?;
                client.stopped_at_question.set(true);
                return Err(Error::OnItsWay);
            }
            None => self.ask(parameters)?,
        };
        Ok(Box::new(Answered { rows, next: 0 }))
    }
}

fn are_same(rows: &[tokio_postgres::Row], others: &[tokio_postgres::Row], columns: usize) -> bool {
    let values = |row: &tokio_postgres::Row| -> Vec<Option<Value>> {
        let value = |at| row.try_get::<_, Read<'_>>(at).ok().map(|Read(value)| value.into());
        (0..columns).map(value).collect()
    };
    rows.iter().map(values).eq(others.iter().map(values))
}

/// An answer that is read row by row.
struct Answered {
    rows: Arc<Vec<tokio_postgres::Row>>,
    next: usize,
}

impl NextRow for Answered {
    fn next(&mut self) -> Result<Option<&Row<'_>>> {
        if self.next >= self.rows.len() {
            return Ok(None);
        }
        self.next += 1;
        Ok(Some(self as &Row<'_>))
    }
}

impl Columns for Answered {
    fn value(&self, column: Column<'_>) -> Result<ValueRef<'_>> {
        let missing = || Error::Misused(format!("there is no column {column}"));
        let row = self
            .next
            .checked_sub(1)
            .and_then(|at| self.rows.get(at))
            .ok_or_else(missing)?;
        let at = match column {
            Column::At(at) => Some(at).filter(|at| *at < row.len()),
            Column::Named(name) => row
                .columns()
                .iter()
                .position(|found| found.name().eq_ignore_ascii_case(name)),
        };
        let at = at.ok_or_else(missing)?;
        row.try_get::<_, Read<'_>>(at)
            .map(|Read(value)| value)
            .map_err(|error| Error::Column(format!("column {column}: {error}")))
    }
}

type Boxed = Box<dyn std::error::Error + Sync + Send>;

/// A value of the store as a parameter of whatever type the statement gives it.
#[derive(Debug)]
struct Lent<'a>(ValueRef<'a>);

impl ToWire for Lent<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> std::result::Result<IsNull, Boxed> {
        match self.0 {
            ValueRef::Null => Ok(IsNull::Yes),
            ValueRef::Integer(number) => match *ty {
                Type::INT8 => ToWire::to_sql(&number, ty, out),
                Type::INT4 => ToWire::to_sql(&i32::try_from(number)?, ty, out),
                Type::BOOL => ToWire::to_sql(&(number != 0), ty, out),
                _ => Err(format!("a number where PostgreSQL takes {ty}").into()),
            },
            ValueRef::Real(number) => ToWire::to_sql(&number, &Type::FLOAT8, out),
            ValueRef::Text(text) => match *ty {
                Type::TEXT | Type::VARCHAR => ToWire::to_sql(&kept(text).as_ref(), ty, out),
                _ => Err(format!("a text where PostgreSQL takes {ty}").into()),
            },
            ValueRef::Blob(bytes) => match *ty {
                Type::BYTEA => ToWire::to_sql(&bytes, ty, out),
                _ => Err(format!("bytes where PostgreSQL takes {ty}").into()),
            },
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

/// A column as the store knows it.
struct Read<'a>(ValueRef<'a>);

impl<'a> FromSql<'a> for Read<'a> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> std::result::Result<Self, Boxed> {
        Ok(Self(match *ty {
            Type::INT8 => ValueRef::Integer(i64::from_sql(ty, raw)?),
            Type::INT4 => ValueRef::Integer(i32::from_sql(ty, raw)?.into()),
            Type::BOOL => ValueRef::Integer(bool::from_sql(ty, raw)?.into()),
            Type::NUMERIC => ValueRef::Integer(whole(raw)?),
            Type::FLOAT8 => ValueRef::Real(f64::from_sql(ty, raw)?),
            Type::TEXT | Type::VARCHAR => ValueRef::Text(<&str>::from_sql(ty, raw)?),
            Type::BYTEA => ValueRef::Blob(raw),
            _ => return Err(format!("a {ty}, which no statement asks for").into()),
        }))
    }

    fn from_sql_null(_: &Type) -> std::result::Result<Self, Boxed> {
        Ok(Self(ValueRef::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A NUMERIC that is a whole number, which sums of numbers are: how many digits of base 10,000, the power of the first, sign and
/// scale, two bytes each, and then the digits.
fn whole(raw: &[u8]) -> std::result::Result<i64, Boxed> {
    let (parts, []) = raw.as_chunks::<2>() else {
        return Err("a NUMERIC of an odd length".into());
    };
    let mut parts = parts.iter().map(|part| u16::from_be_bytes(*part));
    let mut next = || parts.next().ok_or("a NUMERIC that is cut off");
    let (digits, power, sign, _) = (next()?, next()?.cast_signed(), next()?, next()?);
    let mut number: i64 = 0;
    for at in 0..=i32::from(power) {
        let digit = if at < i32::from(digits) { next()? } else { 0 };
        let larger = number
            .checked_mul(10_000)
            .and_then(|number| number.checked_add(digit.into()));
        number = larger.ok_or("a sum beyond 64 bits")?;
    }
    match sign {
        0 => Ok(number),
        0x4000 => Ok(-number),
        _ => Err("a sum that is no number".into()),
    }
}

fn away(text: &str) -> Error {
    Error::Server {
        kind: Kind::Away,
        text: text.to_owned(),
    }
}

/// What PostgreSQL answered, or why it did not.
fn failed(error: &tokio_postgres::Error) -> Error {
    let Some(said) = error.as_db_error() else {
        let text =
            std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        let text = explained(text);
        // What is wrong with a parameter or a column stands in the statement, and the connection is well.
        return if error.is_closed() || !text.contains("serializing parameter") {
            Error::Server { kind: Kind::Away, text }
        } else {
            Error::Misused(text)
        };
    };
    let code = said.code();
    let ends = matches!(
        said.parsed_severity(),
        Some(tokio_postgres::error::Severity::Fatal | tokio_postgres::error::Severity::Panic)
    );
    let kind = match code {
        _ if ends => Kind::Away,
        &SqlState::DISK_FULL => Kind::NoSpace,
        &SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED => Kind::Corrupt,
        &SqlState::LOCK_NOT_AVAILABLE
        | &SqlState::QUERY_CANCELED
        | &SqlState::T_R_SERIALIZATION_FAILURE
        | &SqlState::T_R_DEADLOCK_DETECTED => Kind::Busy,
        // Read-only: a standby, or a primary that was demoted. Another connection may find the new one.
        &SqlState::OUT_OF_MEMORY | &SqlState::TOO_MANY_CONNECTIONS | &SqlState::READ_ONLY_SQL_TRANSACTION => Kind::Away,
        _ => Kind::Other,
    };
    let text = format!("{} (PostgreSQL code {})", said.message(), code.code());
    Error::Server {
        kind,
        text: if ends { explained(text) } else { text },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_read_as_a_number() {
        let numeric =
            |parts: &[u16]| whole(&parts.iter().flat_map(|part| part.to_be_bytes()).collect::<Vec<u8>>()).ok();
        assert_eq!(numeric(&[0, 0, 0, 0]), Some(0));
        assert_eq!(numeric(&[1, 0, 0, 0, 42]), Some(42));
        assert_eq!(numeric(&[1, 1, 0, 0, 3]), Some(30_000));
        assert_eq!(numeric(&[2, 1, 0x4000, 0, 1, 2]), Some(-10_002));
        assert_eq!(numeric(&[1, 0, 0xc000, 0, 0]), None);
        assert_eq!(numeric(&[1, 9, 0, 0, 9999]), None, "beyond 64 bits");
        assert_eq!(numeric(&[2, 1, 0, 0, 1]), None, "cut off");
    }
}
