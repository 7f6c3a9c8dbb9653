//! `tollgate plugin fixture`: what a plugin was given once, as a fixture that a test runs again.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Map, Number, Value};
use tollgate_api::fixtures::FixtureQuery;
use tollgate_api::{Nothing, calls};
use tollgate_core::ids::{ReceiptId, RouteName};

use super::super::show::{DIM, GOOD};
use super::super::{Exit, Refused, Target, Usage, ask};
use tollgate_server::operator::{NoFixture, fixture_of};

#[derive(clap::Args)]
#[command(
    after_help = "It writes what the receipt and its newest run hold: the event with its attributes and its whole body, the route's configuration, the\n\
                  state that the run read, and how it ended. That is mostly personal data: --redact takes values out, and whoever commits the\n\
                  file answers for the rest. A host asks for the permission to read receipts.\n\n\
                  Exit status: 0 it was written, 3 there is no such receipt."
)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// The receipt, for example rcpt_… (`tollgate trace` shows it)
    #[arg(long, value_name = "ID")]
    from_receipt: String,
    /// The route whose run is meant, where several ran on the event
    #[arg(long)]
    route: Option<String>,
    /// Take a value out, wherever it stands: an attribute's name, or a pointer into the body such as /customer/email. Each is replaced by a text
    /// of its own (a number by a number), so that what was equal stays equal
    #[arg(long, value_name = "NAME")]
    redact: Vec<String>,
    /// The file to write, which must not be there; without it, the fixture is printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.target.spin.is_some() {
        let why = "a Spin app answers no fixtures: `tollgate copy` its store, and ask that with --config";
        return Err(Usage(why.to_owned()).into());
    }
    let query = FixtureQuery {
        receipt: args.from_receipt.clone(),
        route: args.route.clone(),
    };
    let (receipt, route): (ReceiptId, Option<RouteName>) = query.checked().map_err(Usage)?;
    let fixture = ask::ask_or_refused::<calls::Fixture>(&args.target, &Nothing {}, &query, async |store| {
        fixture_of(&store, receipt, route).await.map_err(|error| match error {
            NoFixture::Store(error) => error.into(),
            NoFixture::Refused(why) => Refused(why).into(),
        })
    })?;
    let text = if args.redact.is_empty() {
        fixture.0.get().to_owned()
    } else {
        let mut document: Value = serde_json::from_str(fixture.0.get())?;
        redact(&mut document, &args.redact).map_err(Refused)?;
        serde_json::to_string_pretty(&document)?
    };
    let Some(path) = &args.out else {
        anstream::println!("{text}");
        return Ok(Exit::Yes);
    };
    std::fs::File::create_new(path)
        .and_then(|mut file| writeln!(file, "{text}"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    if !args.target.json {
        anstream::println!(
            "{GOOD}written{GOOD:#}  {}  {DIM}look through it before you share it{DIM:#}",
            path.display()
        );
    }
    Ok(Exit::Yes)
}

/// Replaces each named value wherever it stands in the document, in keys and within texts as well.
///
/// # Errors
/// In words, when there is nothing of that name, or what stands there is neither a text nor a number.
fn redact(document: &mut Value, names: &[String]) -> Result<(), String> {
    for (number, name) in names.iter().enumerate() {
        let event = &document["event"];
        let found = if name.starts_with('/') {
            event["payload"].pointer(name)
        } else {
            event["attributes"].get(name)
        };
        let value = match found {
            Some(Value::String(text)) if text.is_empty() => continue,
            Some(found @ (Value::String(_) | Value::Number(_))) => found.clone(),
            Some(_) => {
                return Err(format!(
                    "--redact {name}: what stands there is neither a text nor a number"
                ));
            }
            None => {
                return Err(format!(
                    "--redact {name}: the event has no such attribute, and its body nothing there"
                ));
            }
        };
        let stand_in = StandIn::of(&value, number + 1);
        stand_in.put(document);
    }
    Ok(())
}

/// What a value is replaced by.
struct StandIn {
    text: String,
    by: String,
    /// Where it is a number.
    number: Option<Number>,
}

/// A value that is shorter stands for itself alone: within a longer text it is mostly something else.
const WITHIN_BYTES_MIN: usize = 4;

impl StandIn {
    fn of(value: &Value, number: usize) -> Self {
        match value {
            Value::String(text) => Self {
                text: text.clone(),
                by: format!("redacted-{number}"),
                number: None,
            },
            other => Self {
                text: other.to_string(),
                by: (9_000_000 + number).to_string(),
                number: Some(Number::from(9_000_000 + number)),
            },
        }
    }

    fn text(&self, text: &str) -> Option<String> {
        if text == self.text {
            return Some(self.by.clone());
        }
        (self.text.len() >= WITHIN_BYTES_MIN && text.contains(&self.text)).then(|| text.replace(&self.text, &self.by))
    }

    fn put(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(instead) = self.text(text) {
                    *text = instead;
                }
            }
            Value::Number(number) => {
                if number.to_string() == self.text {
                    *value = match &self.number {
                        Some(instead) => Value::Number(instead.clone()),
                        None => Value::String(self.by.clone()),
                    };
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.put(value)),
            Value::Object(fields) => {
                let each: Map<String, Value> = std::mem::take(fields)
                    .into_iter()
                    .map(|(key, mut value)| {
                        self.put(&mut value);
                        // The fixture's own words stay: only a state's key and a body's can hold a value.
                        (self.text(&key).unwrap_or(key), value)
                    })
                    .collect();
                *fields = each;
            }
            Value::Null | Value::Bool(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_taken_out_wherever_it_stands() {
        let mut document = json!({
            "event": {
                "type": "order.paid", "subject": "c_77123",
                "attributes": { "customer": "c_77123", "operation": "o_1" },
                "payload": { "customer": { "id": "c_77123", "email": "ana@shop.example", "age": 41, "ref": 77123 }, "n": 410 }
            },
            "config": { "rate_bps": 500 },
            "state": { "customer/c_77123": { "seen": ["o_1"], "mail": "Ana <ana@shop.example>" } },
            "expect": { "actions": [], "state": { "customer/c_77123": { "seen": ["o_1"] } } }
        });
        let names = ["customer", "/customer/email", "/customer/age"].map(str::to_owned);
        redact(&mut document, &names).unwrap();
        let text = document.to_string();
        for gone in ["c_77123", "ana@shop.example", "41,"] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        assert_eq!(document["event"]["subject"], "redacted-1");
        assert_eq!(document["event"]["payload"]["customer"]["age"], 9_000_003);
        assert_eq!(document["event"]["payload"]["n"], 410, "another number");
        assert_eq!(document["event"]["type"], "order.paid");
        assert_eq!(document["state"]["customer/redacted-1"]["mail"], "Ana <redacted-2>");
        assert_eq!(document["expect"]["state"]["customer/redacted-1"]["seen"][0], "o_1");
        for wrong in ["nobody", "/customer", "/customer/none"] {
            assert!(redact(&mut document, &[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
