//! Campaigns: what is done to a host again and again, by one seed, and what is looked for afterwards.
//!
//! Each has a short form, which the test suite runs, and a full one: `cargo xtask campaign NAME`. Both are the same code with another
//! count. A campaign ends by itself, and what it found broken is a list of problems: empty when every promise was kept.

pub mod differential;
pub mod fleet;
pub mod fuzz;
pub mod hostile;
pub mod io;
pub mod kill;
pub mod outage;
pub mod pace;
pub mod points;
mod postmortem;
pub mod power;
mod promises;
mod puller;
pub mod shards;
pub mod simulate;
pub mod soak;
pub mod vitals;

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

/// Every campaign that the `campaign` binary runs, in the order of the list.
pub const CAMPAIGNS: &[Campaign] = &[
    kill::CAMPAIGN,
    power::CAMPAIGN,
    io::CAMPAIGN,
    points::CAMPAIGN,
    simulate::CAMPAIGN,
    differential::CAMPAIGN,
    fuzz::CAMPAIGN,
    hostile::CAMPAIGN,
    outage::CAMPAIGN,
    fleet::CAMPAIGN,
    shards::CAMPAIGN,
    soak::CAMPAIGN,
];

/// One campaign.
#[derive(Clone, Copy)]
pub struct Campaign {
    /// One word, as the command line has it.
    pub name: &'static str,
    /// One line for the list.
    pub summary: &'static str,
    /// What its count counts: cycles, crash points, seeds, seconds.
    pub unit: &'static str,
    /// The count of the test suite.
    pub short: u64,
    /// The count when nothing is said.
    pub full: u64,
    pub run: fn(Asked, &mut Progress) -> Found,
}

impl Campaign {
    /// The form of the test suite.
    ///
    /// # Panics
    /// When a promise was not kept; says which, and the command that repeats it.
    pub fn hold_short(&self, seed: u64) -> Found {
        let count = self.short;
        let found = (self.run)(Asked { seed, count }, &mut Progress::silent());
        assert!(
            found.problems.is_empty(),
            "{:#?}\nrepeat it: cargo xtask campaign {} --seed {seed} --count {count}\n{}",
            found.problems,
            self.name,
            found.table(),
        );
        found
    }
}

/// What a campaign is asked for. The same asked twice does the same things; what the clock does in between is the machine's.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub seed: u64,
    pub count: u64,
}

/// What a campaign found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// What it did and measured, for the table.
    pub facts: Vec<(String, String)>,
    /// What was promised and not kept.
    pub problems: Vec<String>,
}

/// Problems of each end of the list that are shown.
const PROBLEMS_SHOWN: usize = 25;

impl Found {
    pub fn fact(&mut self, name: &str, value: impl Display) {
        self.facts.push((name.to_owned(), value.to_string()));
    }

    /// The facts as a table.
    pub fn table(&self) -> String {
        self.facts
            .iter()
            .map(|(name, value)| format!("{name:<52}{value:>16}\n"))
            .collect()
    }

    /// The problems, the first and the last of them where there are many.
    pub fn verdict(&self) -> String {
        if self.problems.is_empty() {
            return "every promise was kept\n".to_owned();
        }
        let mut text = format!("{} promises were not kept:\n", self.problems.len());
        let later = self.problems.len().saturating_sub(PROBLEMS_SHOWN).max(PROBLEMS_SHOWN);
        let shown = self.problems.iter().take(PROBLEMS_SHOWN);
        for problem in shown.chain(self.problems.iter().skip(later)) {
            text.push_str(&format!("  {problem}\n"));
        }
        text
    }
}

/// What a person sees while a campaign runs, on stderr: one line that is written over, and on no terminal a line now and then.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    over: bool,
}

impl Progress {
    pub fn silent() -> Self {
        Self {
            shown: false,
            over: false,
        }
    }

    pub fn on_stderr() -> Self {
        Self {
            shown: true,
            over: std::io::stderr().is_terminal(),
        }
    }

    /// Says what was done last.
    pub fn line(&mut self, text: &str) {
        if self.shown {
            let mut stderr = std::io::stderr();
            let _ = if self.over {
                write!(stderr, "\r\x1b[2K{text}")
            } else {
                writeln!(stderr, "{text}")
            };
        }
    }

    /// Shows how far it is.
    pub fn step(&mut self, done: u64, of: u64, text: &str) {
        const WIDTH: u64 = 24;
        let full = (done * WIDTH).checked_div(of).unwrap_or(0).min(WIDTH) as usize;
        // Without a terminal, a line for each hundredth is more than enough.
        if self.over || of < 100 || done.is_multiple_of(of / 100) {
            let bar = format!("{}{}", "█".repeat(full), "░".repeat(WIDTH as usize - full));
            self.line(&format!("{bar} {done}/{of}  {text}"));
        }
    }

    pub fn end(&mut self) {
        if self.shown && self.over {
            let _ = writeln!(std::io::stderr());
        }
    }
}
