//! `campaign NAME`: one campaign by itself, as long as there is time for; see `tollgate_tests::campaign`.
//!
//! Progress goes to stderr, the table to stdout. Exit status: 0 all promises kept, 1 some not, 2 bad usage.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tollgate_tests::campaign::{Asked, CAMPAIGNS, Campaign, Found, Progress};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty()
        || arguments
            .iter()
            .any(|argument| argument == "--help" || argument == "-h")
    {
        print(&usage());
        return ExitCode::SUCCESS;
    }
    let (campaign, asked, json) = match parse(&arguments) {
        Ok(parsed) => parsed,
        Err(message) => {
            say(&format!("campaign: {message}\n\n{}", usage()));
            return ExitCode::from(2);
        }
    };
    say(&format!(
        "{}: {} {}, seed {}",
        campaign.name, asked.count, campaign.unit, asked.seed
    ));
    let begun = Instant::now();
    let mut progress = Progress::on_stderr();
    let found = (campaign.run)(asked, &mut progress);
    progress.end();
    print(&if json {
        as_json(campaign, asked, &found)
    } else {
        let (name, summary) = (campaign.name, campaign.summary);
        let (seed, seconds) = (asked.seed, begun.elapsed().as_secs());
        format!(
            "\n{name}: {summary}\nseed {seed}, {seconds} s\n\n{}\n{}",
            found.table(),
            found.verdict()
        )
    });
    if found.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn usage() -> String {
    let mut text = "Usage: campaign NAME [--count N] [--seed S] [--short] [--json]

--count N  how much: what N counts, and how many by default, stands in the list
--seed S   repeats a campaign; without one it is drawn from the clock and printed
--short    as much as the test suite does

"
    .to_owned();
    for campaign in CAMPAIGNS {
        let Campaign {
            name,
            summary,
            unit,
            short,
            full,
            ..
        } = campaign;
        text.push_str(&format!(
            "  {name:<12} {summary}\n{:15}{full} {unit}, short {short}\n",
            ""
        ));
    }
    text
}

fn parse(arguments: &[String]) -> Result<(&'static Campaign, Asked, bool), String> {
    let mut arguments = arguments.iter();
    let name = arguments.next().map_or("", String::as_str);
    let campaign = CAMPAIGNS
        .iter()
        .find(|campaign| campaign.name == name)
        .ok_or_else(|| format!("there is no campaign `{name}`"))?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut asked = Asked {
        seed: clock.as_secs(),
        count: campaign.full,
    };
    let mut json = false;
    while let Some(flag) = arguments.next() {
        let mut number = || -> Result<u64, String> {
            let text = arguments.next().ok_or_else(|| format!("{flag} needs a number"))?;
            text.parse().map_err(|_| format!("{flag}: `{text}` is no number"))
        };
        match flag.as_str() {
            "--count" => asked.count = number()?,
            "--seed" => asked.seed = number()?,
            "--short" => asked.count = campaign.short,
            "--json" => json = true,
            _ => return Err(format!("there is no option `{flag}`")),
        }
    }
    if asked.count == 0 {
        return Err("--count: at least 1".to_owned());
    }
    Ok((campaign, asked, json))
}

fn as_json(campaign: &Campaign, asked: Asked, found: &Found) -> String {
    let facts: serde_json::Map<_, _> = found
        .facts
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into()))
        .collect();
    let all = serde_json::json!({
        "campaign": campaign.name,
        "seed": asked.seed,
        "count": asked.count,
        "unit": campaign.unit,
        "facts": facts,
        "problems": found.problems,
    });
    format!("{all}\n")
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The result; a reader that has gone away is no reason to fail.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
