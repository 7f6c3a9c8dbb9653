//! What was found, kept as `docs/performance.json`, and told as the tables of `docs/performance.md` and its chart.
//!
//! The page is written by people but for what stands between two marks, which is replaced as a whole.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::bare::Mode;
use super::chart::{self, Bar, Kind, number};
use super::lists::{self, Asking, LISTS, PAGES};
use super::machine::{Machine, Watch, today};
use super::measures::{
    EVENTS_PER_SECOND, FEW, Found, MANY, PACED, Plan, RECEIPTS, REPLAY_PER_CPU_SECOND, RESIDENT, RUN, SETTLED_RUN,
    STALL_MS, STALL_SETUPS, TRIAL_PER_CPU_SECOND, TRIAL_PER_SECOND, WAY, at, best, cpu, rate,
};
use super::median;
use super::peers::Peer;

const BEGIN: &str = "<!-- Written by `cargo xtask bench` from here … -->\n";
const END: &str = "<!-- … to here. -->\n";

/// Everything found until now, by the measure's name.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Report {
    pub(super) measures: BTreeMap<String, Taken>,
}

/// One measure, and the circumstances.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Taken {
    date: String,
    commit: String,
    machine: Machine,
    seconds: u64,
    /// What anything else used of the machine meanwhile.
    others_per_cent: f64,
    seconds_each: u64,
    samples: BTreeMap<String, Vec<f64>>,
    words: BTreeMap<String, String>,
    skipped: BTreeMap<String, String>,
}

impl Taken {
    pub(super) fn new(found: Found, plan: &Plan, commit: String, watch: &Watch) -> anyhow::Result<Self> {
        let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
        let samples = found.samples.into_iter();
        Ok(Self {
            date: today(),
            commit,
            machine: Machine::this()?,
            seconds: watch.seconds() as u64,
            others_per_cent: rounded(watch.others_per_cent()?),
            seconds_each: plan.seconds,
            samples: samples
                .map(|(name, values)| (name, values.into_iter().map(rounded).collect()))
                .collect(),
            words: found.words,
            skipped: found.skipped,
        })
    }
}

/// A row of the first table: what was asked for, and what came.
struct Asked {
    measure: &'static str,
    label: &'static str,
    /// In words: the bound, and what was aimed at beyond it.
    wanted: &'static str,
    bound: f64,
    aim: Option<f64>,
    better: Better,
    unit: &'static str,
    value: fn(&Report) -> Option<f64>,
    /// What else is to be said of the figure.
    besides: fn(&Report) -> Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Better {
    Less,
    More,
}

const NOTHING: fn(&Report) -> Option<String> = |_| None;

const ASKED: [Asked; 13] = [
    Asked {
        measure: "ingest",
        label: "ingest ÷ bare hyper of the same shape: server CPU per request, 256 connections",
        wanted: "≤ 2.5×, aim 2.0×",
        bound: 2.5,
        aim: Some(2.0),
        better: Better::Less,
        unit: "×",
        value: |report| report.ratio("ingest", &cpu(&at("ingest", 256)), &cpu(&bare(Mode::Answer))),
        besides: NOTHING,
    },
    Asked {
        measure: "ingest",
        label: "ingest ÷ bare hyper that appends the same bytes and waits for fdatasync: the same",
        wanted: "≤ 1.35×, aim 1.15×",
        bound: 1.35,
        aim: Some(1.15),
        better: Better::Less,
        unit: "×",
        value: |report| report.ratio("ingest", &cpu(&at("ingest", 256)), &cpu(&bare(Mode::Append))),
        besides: |report| {
            let proved = &cpu(&bare(Mode::ProveAndAppend));
            let ratio = report.ratio("ingest", &cpu(&at("ingest", 256)), proved)?;
            Some(format!("{}× one that also proves the signature", number(ratio)))
        },
    },
    Asked {
        measure: "million",
        label: "ingest over a full store ÷ over one of 10,000 receipts: the same",
        wanted: "≤ 1.15×",
        bound: 1.15,
        aim: None,
        better: Better::Less,
        unit: "×",
        value: |report| report.ratio("million", &cpu(MANY), &cpu(FEW)),
        besides: |report| {
            let resident = report.median("million", &format!("{MANY}: {RESIDENT}"))?;
            let before = report.median("million", &format!("{FEW}: {RESIDENT}"))?;
            let receipts = report.median("million", &format!("{MANY}: {RECEIPTS}"))?;
            let [receipts, resident, before] = [receipts, resident, before].map(number);
            Some(format!(
                "{receipts} receipts; resident {resident} MiB, over 10,000 {before} MiB"
            ))
        },
    },
    Asked {
        measure: "lists",
        label: "first page of the slowest list over a full store, while 2,000 events per second come in: p95",
        wanted: "≤ 100 ms",
        bound: 100.0,
        aim: None,
        better: Better::Less,
        unit: " ms",
        value: |report| slowest(report).map(|(_, ms)| ms),
        besides: |report| {
            let (list, _) = slowest(report)?;
            let events = report.median("lists", &lists::p95("events")).map(number)?;
            let receipts = report.median("lists", lists::RECEIPTS).map(number)?;
            Some(format!(
                "that of {list}; of events {events} ms; {receipts} receipts at first"
            ))
        },
    },
    Asked {
        measure: "lists",
        label: "p99 of intake at 2,000 per second while ten people ask for a list each second ÷ without",
        wanted: "≤ 1.10×",
        bound: 1.10,
        aim: None,
        better: Better::Less,
        unit: "×",
        value: |report| report.ratio("lists", Asking::Ten.p99(), Asking::Nobody.p99()),
        besides: |report| beside(report, Asking::Ten),
    },
    Asked {
        measure: "lists",
        label: "the same while lists are asked for without end",
        wanted: "≤ 1.10×",
        bound: 1.10,
        aim: None,
        better: Better::Less,
        unit: "×",
        value: |report| report.ratio("lists", Asking::WithoutEnd.p99(), Asking::Nobody.p99()),
        besides: |report| {
            let asked = report.median("lists", lists::ASKED_PER_SECOND).map(number)?;
            Some(format!(
                "{}; {asked} lists a second",
                beside(report, Asking::WithoutEnd)?
            ))
        },
    },
    Asked {
        measure: "lists",
        label: "slowest page of the console over that store, from the question until Chromium has loaded it: p95",
        wanted: "≤ 300 ms",
        bound: 300.0,
        aim: None,
        better: Better::Less,
        unit: " ms",
        value: |report| slowest_page(report).map(|(_, ms)| ms),
        besides: |report| {
            let (page, _) = slowest_page(report)?;
            let of = |page| report.median("lists", &lists::opened(page)).map(number);
            let (events, event) = (of("/events")?, of("/events/{receipt}")?);
            Some(format!(
                "`/console{page}`; the list of events {events} ms, an event {event} ms"
            ))
        },
    },
    Asked {
        measure: "way",
        label: "end to end (verify → receipt → plugin → settled action): server CPU per event",
        wanted: "≤ 130 µs",
        bound: 130.0,
        aim: None,
        better: Better::Less,
        unit: " µs",
        value: |report| report.median("way", &cpu(WAY)),
        besides: |report| {
            let events = report.median("way", EVENTS_PER_SECOND)?;
            Some(format!("{} events settled per second", number(events)))
        },
    },
    Asked {
        measure: "peers",
        label: "ingest ÷ Fastify + better-sqlite3 of the same durability: requests per second, each at its best",
        wanted: "≥ 20×",
        bound: 20.0,
        aim: None,
        better: Better::More,
        unit: "×",
        value: |report| report.ratio("peers", &rate("ingest"), &rate(Peer::Fastify.name())),
        besides: |report| {
            let grouped = report.ratio("peers", &rate("ingest"), &rate(Peer::FastifyGrouped.name()))?;
            Some(format!("{}× one whose requests share commits", number(grouped)))
        },
    },
    Asked {
        measure: "repeat",
        label: "trial of a Rust plugin: recorded runs per second of processor time",
        wanted: "≥ 20,000",
        bound: 20_000.0,
        aim: None,
        better: Better::More,
        unit: "",
        value: |report| report.median("repeat", TRIAL_PER_CPU_SECOND),
        besides: |report| {
            let wall = report.median("repeat", TRIAL_PER_SECOND)?;
            Some(format!("{} per second with one thread for plugins", number(wall)))
        },
    },
    Asked {
        measure: "repeat",
        label: "replay of recorded runs (`plugin proof`): the same",
        wanted: "≥ 20,000",
        bound: 20_000.0,
        aim: None,
        better: Better::More,
        unit: "",
        value: |report| report.median("repeat", REPLAY_PER_CPU_SECOND),
        besides: NOTHING,
    },
    Asked {
        measure: "stall",
        label: "2,000 requests per second, open loop: the longest wait for an answer",
        wanted: "≤ 50 ms",
        bound: STALL_MS,
        aim: None,
        better: Better::Less,
        unit: " ms",
        value: |report| report.median("stall", "ingest: max ms"),
        besides: |report| {
            let of = |what: &str| report.median("stall", &format!("ingest: {what}")).map(number);
            let checkpoints = of("checkpoints").unwrap_or_else(|| "an unknown number of".to_owned());
            Some(format!(
                "p99.9 {} ms, {checkpoints} checkpoints meanwhile",
                of("p99.9 ms")?
            ))
        },
    },
    Asked {
        measure: "runs",
        label: "a sandboxed run of cashback: instantiate, call, drop",
        wanted: "≤ 60 µs",
        bound: 60.0,
        aim: None,
        better: Better::Less,
        unit: " µs",
        value: |report| report.median("runs", RUN),
        besides: |report| {
            let settled = report.median("runs", SETTLED_RUN)?;
            Some(format!(
                "{} µs with claim, judgement and durable settlement",
                number(settled)
            ))
        },
    },
];

/// Intake's p99 beside who asks, and beside nobody.
fn beside(report: &Report, asking: Asking) -> Option<String> {
    let ms = |asking: Asking| report.median("lists", asking.p99()).map(number);
    let (asked, quiet) = (ms(asking)?, ms(Asking::Nobody)?);
    let rounds = report.samples("lists", Asking::Nobody.p99())?.len();
    Some(format!("{asked} ms beside {quiet} ms; {rounds} rounds in turns"))
}

/// The list whose first page takes longest, and its p95 in milliseconds.
fn slowest(report: &Report) -> Option<(&'static str, f64)> {
    let all = LISTS
        .iter()
        .filter_map(|(list, _)| Some((*list, report.median("lists", &lists::p95(list))?)));
    all.max_by(|(_, one), (_, other)| one.total_cmp(other))
}

fn slowest_page(report: &Report) -> Option<(&'static str, f64)> {
    let all = PAGES
        .iter()
        .filter_map(|page| Some((*page, report.median("lists", &lists::opened(page))?)));
    all.max_by(|(_, one), (_, other)| one.total_cmp(other))
}

fn bare(mode: Mode) -> String {
    at(mode.name(), 256)
}

/// A server of the second table and the chart.
struct Line {
    measure: &'static str,
    /// As its samples are named.
    key: String,
    label: String,
    kind: Kind,
    /// Whether anything is kept when it has answered.
    keeps: bool,
    does: &'static str,
}

fn lines() -> Vec<Line> {
    let ingest = |key: String, kind, does| Line {
        measure: "ingest",
        label: key.clone(),
        key,
        kind,
        keeps: true,
        does,
    };
    let mut lines = vec![
        ingest(bare(Mode::Answer), Kind::Floor, "reads the body, answers"),
        ingest(
            bare(Mode::Append),
            Kind::Floor,
            "appends the body, group commit by fdatasync",
        ),
        ingest(
            bare(Mode::ProveAndAppend),
            Kind::Floor,
            "the same after Tollgate's own check of the signature",
        ),
        ingest(at("ingest", 256), Kind::Tollgate, INGEST),
    ];
    lines[0].keeps = false;
    lines.extend(Peer::ALL.map(|peer| Line {
        measure: "peers",
        key: peer.name().to_owned(),
        label: peer.name().to_owned(),
        kind: Kind::Peer,
        keeps: peer != Peer::Webhook,
        does: match peer {
            Peer::Fastify => "proves, inserts once per event, a commit with fsync for each request",
            Peer::FastifyGrouped => "the same; what has come meanwhile shares a commit",
            Peer::FastifyTwo => "the first, two processes on one database",
            Peer::FastifyPg => "proves, inserts once per event into PostgreSQL, a commit with fsync for each request",
            Peer::FastApi => "proves, inserts once per event, a commit with fsync for each request",
            Peer::Restate => {
                "takes it into its replicated log (one node), once per key; then calls a service, which proves"
            }
            Peer::Webhook => "proves, runs `/bin/true`; stores nothing",
        },
    }));
    lines
}

const INGEST: &str = "proves, reads, judges the lifecycle, receipt and body durable, duplicates known";

impl Report {
    /// What was found before; nothing when there is no file.
    pub(super) fn read() -> anyhow::Result<Self> {
        let path = docs("performance.json");
        match std::fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("cannot read {}", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Writes the figures, the page and its chart.
    pub(super) fn write(&self) -> anyhow::Result<()> {
        let page = docs("performance.md");
        let text = std::fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
        let text = between(&text, &self.tables()).with_context(|| format!("{} lacks a mark", page.display()))?;
        let mut json = serde_json::to_string_pretty(self)?;
        json.push('\n');
        std::fs::write(docs("performance.json"), json)?;
        std::fs::write(docs("performance.svg"), chart::svg(&self.bars()))?;
        std::fs::write(page, text)?;
        Ok(())
    }

    /// For the terminal.
    pub(super) fn text(&self) -> String {
        self.tables().replace("**", "")
    }

    fn samples(&self, measure: &str, name: &str) -> Option<&[f64]> {
        let values = self.measures.get(measure)?.samples.get(name)?;
        (!values.is_empty()).then_some(values)
    }

    fn median(&self, measure: &str, name: &str) -> Option<f64> {
        Some(median(self.samples(measure, name)?))
    }

    /// The median of the ratios of each round: both sides of one ratio met the same minute of the machine.
    fn ratio(&self, measure: &str, above: &str, below: &str) -> Option<f64> {
        let (above, below) = (self.samples(measure, above)?, self.samples(measure, below)?);
        let ratios: Vec<f64> = above.iter().zip(below).map(|(above, below)| above / below).collect();
        Some(median(&ratios))
    }

    fn bars(&self) -> Vec<Bar> {
        let lines = lines().into_iter();
        lines
            .filter_map(|line| {
                Some(Bar {
                    cpu_us: self.median(line.measure, &cpu(&line.key))?,
                    per_second: self.median(line.measure, &rate(&line.key))?,
                    label: if line.kind == Kind::Tollgate {
                        "Tollgate ingest".to_owned()
                    } else {
                        line.label.trim_end_matches(", 256 connections").to_owned()
                    },
                    kind: line.kind,
                    keeps: line.keeps,
                })
            })
            .collect()
    }

    fn tables(&self) -> String {
        let mut text = String::new();
        text.push_str(&table(
            &["measure", "found", "asked", ""],
            ASKED.iter().map(|asked| self.asked(asked)).collect(),
        ));
        text.push_str("\n## Servers side by side\n\n![The same by server](performance.svg)\n\n");
        text.push_str(&table(
            &[
                "server",
                "CPU µs per request",
                "requests per second",
                "connections",
                "before it answers, it",
            ],
            self.servers(),
        ));
        text.push_str(&self.skips());
        text.push_str("\n## How late an answer is\n\n");
        let mut header = vec!["at 2,000 requests per second"];
        header.extend(PACED);
        text.push_str(&table(&header, self.stalls()));
        text.push_str("\n## What was run, when and where\n\n");
        text.push_str(&table(
            &["measure", "date", "commit", "took", "used by others"],
            self.measures.iter().map(|(name, taken)| taken.row(name)).collect(),
        ));
        text.push('\n');
        text.push_str(&self.machines());
        text.push_str(&self.versions());
        text
    }

    fn asked(&self, asked: &Asked) -> Vec<String> {
        let keeps = |value: f64, bound: f64| match asked.better {
            Better::Less => value <= bound,
            Better::More => value >= bound,
        };
        let (found, verdict) = match (asked.value)(self) {
            None => (
                format!("not measured: `cargo xtask bench --only {}`", asked.measure),
                "",
            ),
            Some(value) => {
                let verdict = match asked.aim {
                    _ if !keeps(value, asked.bound) => "missed",
                    Some(aim) if keeps(value, aim) => "kept, and the aim",
                    _ => "kept",
                };
                let besides = (asked.besides)(self).map(|besides| format!("; {besides}"));
                let found = format!("**{}{}**", number(value), asked.unit);
                (found + &besides.unwrap_or_default(), verdict)
            }
        };
        [asked.label, &found, asked.wanted, verdict].map(str::to_owned).to_vec()
    }

    fn servers(&self) -> Vec<Vec<String>> {
        let mut lines = lines();
        let small = |name: &str, does| Line {
            measure: "ingest",
            key: at(name, 64),
            label: at(name, 64),
            kind: Kind::Floor,
            keeps: true,
            does,
        };
        lines.insert(4, small("ingest", INGEST));
        lines.insert(1, small(Mode::Answer.name(), "reads the body, answers"));
        let spread = |measure: &str, name: &str| {
            let values = self.samples(measure, name)?;
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            Some(format!(
                "{} ({} to {})",
                number(median(values)),
                number(least),
                number(most)
            ))
        };
        let rows = lines.into_iter().filter_map(|line| {
            let (name, connections) = match line.label.split_once(", ") {
                Some((name, rest)) if rest.ends_with(" connections") => {
                    (name.to_owned(), rest.trim_end_matches(" connections").to_owned())
                }
                _ => (line.label.clone(), number(self.median("peers", &best(&line.key))?)),
            };
            Some(vec![
                name,
                spread(line.measure, &cpu(&line.key))?,
                spread(line.measure, &rate(&line.key))?,
                connections,
                line.does.to_owned(),
            ])
        });
        rows.collect()
    }

    fn skips(&self) -> String {
        let all = self.measures.values().flat_map(|taken| &taken.skipped);
        all.map(|(name, reason)| format!("\n**Not run here: {name}.** {reason}\n"))
            .collect()
    }

    fn stalls(&self) -> Vec<Vec<String>> {
        let rows = STALL_SETUPS.map(|setup| {
            let name = setup.name();
            let value = |what: &&str| self.median("stall", &format!("{name}: {what}"));
            let mut row = vec![name.to_owned()];
            row.extend(
                PACED
                    .iter()
                    .map(|what| value(what).map_or_else(|| "–".to_owned(), number)),
            );
            row
        });
        rows.into_iter().filter(|row| row[1] != "–").collect()
    }

    /// The machines, each with what was measured on it: one, unless the figures were put together.
    fn machines(&self) -> String {
        let mut machines: Vec<(&Machine, Vec<&str>)> = Vec::new();
        for (name, taken) in &self.measures {
            match machines.iter_mut().find(|(known, _)| **known == taken.machine) {
                Some((_, names)) => names.push(name),
                None => machines.push((&taken.machine, vec![name])),
            }
        }
        let tell = |(machine, names): &(&Machine, Vec<&str>)| {
            let Machine {
                cores,
                processor,
                memory_gib,
                kernel,
                file_system,
            } = machine;
            format!(
                "Machine of {}: {cores} cores of {processor}, {memory_gib} GiB, Linux {kernel}, stores on {file_system}.\n",
                names.join(", ")
            )
        };
        machines.iter().map(tell).collect()
    }

    fn versions(&self) -> String {
        let all = self.measures.values().flat_map(|taken| &taken.words);
        let all: Vec<String> = all.map(|(name, words)| format!("- {name}: {words}\n")).collect();
        if all.is_empty() {
            String::new()
        } else {
            format!("\nPeers as they were installed:\n\n{}", all.concat())
        }
    }
}

impl Taken {
    fn row(&self, name: &str) -> Vec<String> {
        vec![
            name.to_owned(),
            self.date.clone(),
            self.commit.clone(),
            format!("{} s", self.seconds),
            format!("{:.0} % of the machine", self.others_per_cent),
        ]
    }
}

fn docs(name: &str) -> PathBuf {
    tollgate_tests::root().join("docs").join(name)
}

/// The page with other text between the marks.
fn between(page: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{text}\n{END}{after}"))
}

/// A table in Markdown whose columns stand under each other in plain text too.
fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut all: Vec<Vec<String>> = vec![header.iter().map(|&cell| cell.to_owned()).collect()];
    all.extend(rows);
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            all.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
                .max(3)
        })
        .collect();
    let mut text = String::new();
    for (at, row) in all.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("| {cell:<width$} "));
        }
        text.push_str("|\n");
        if at == 0 {
            widths
                .iter()
                .for_each(|width| text.push_str(&format!("|{}", "-".repeat(width + 2))));
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_thousands_apart() {
        for (value, expect) in [
            (0.0, "0"),
            (1.347, "1.35"),
            (27.34, "27.3"),
            (99.97, "100"),
            (850.2, "850"),
            (21_900.4, "21,900"),
            (1_000_000.0, "1,000,000"),
        ] {
            assert_eq!(number(value), expect, "{value}");
        }
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let page = format!("before\n{BEGIN}old\n{END}after\n");
        let again = between(&page, "new\n").unwrap();
        assert_eq!(again, format!("before\n{BEGIN}\nnew\n\n{END}after\n"));
        assert_eq!(between(&again, "new\n"), Some(again.clone()));
        assert_eq!(between("no marks", "new"), None);
    }

    #[test]
    fn a_ratio_is_of_rounds_and_a_bound_is_kept_or_missed() {
        let taken = |samples: &[(&str, &[f64])]| Taken {
            date: String::new(),
            commit: String::new(),
            machine: Machine {
                cores: 2,
                processor: String::new(),
                memory_gib: 1,
                kernel: String::new(),
                file_system: String::new(),
            },
            seconds: 1,
            others_per_cent: 0.0,
            seconds_each: 1,
            samples: samples
                .iter()
                .map(|(name, values)| ((*name).to_owned(), values.to_vec()))
                .collect(),
            words: BTreeMap::new(),
            skipped: BTreeMap::new(),
        };
        let (above, below) = (cpu(&at("ingest", 256)), cpu(&bare(Mode::Answer)));
        let check = |above_us: &[f64], expect: (&str, &str)| {
            // The second round was slow for both.
            let samples = [(above.as_str(), above_us), (below.as_str(), &[10.0, 30.0, 10.0][..])];
            let mut report = Report::default();
            report.measures.insert("ingest".to_owned(), taken(&samples));
            let row = report.asked(&ASKED[0]);
            assert_eq!((row[1].as_str(), row[3].as_str()), expect);
        };
        check(&[24.0, 75.0, 25.0], ("**2.50×**", "kept"));
        check(&[19.0, 60.0, 25.0], ("**2×**", "kept, and the aim"));
        check(&[26.0, 78.0, 24.0], ("**2.60×**", "missed"));
        assert_eq!(Report::default().asked(&ASKED[0])[3], "");
    }
}
