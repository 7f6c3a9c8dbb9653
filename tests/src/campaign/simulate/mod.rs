//! The simulation: the real store and the real rules of core, between workers, deliverers, destinations and a clock that are
//! played. One scheduler draws the next step from a seed and awaits every answer of the store before it draws again, so that a seed
//! does the same things every time: what goes wrong in one can be watched again, and thousands of them cost minutes.
//!
//! Cast: the `world` takes steps: events come, workers claim, run, settle late or die with what they hold, deliverers and their
//! destinations likewise, owners of pulled destinations as well, the clock jumps an hour, the process ends and the store is opened again. The `model` knows what each
//! answer of the store must be and says so at once. The `plugin` is a pure function with every end that a run can have.
//!
//! After the faults have ceased everything must come to its end, and what the store then tells of itself must be what the model
//! has. What this cannot show is threads: it asks one thing at a time. The campaigns `kill` and `points` do that to the whole host.

mod model;
mod place;
mod plugin;
mod tally;
mod world;

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use super::{Asked, Campaign, Found, Progress};
use place::Templates;
use tally::Tally;
use world::World;

/// The campaign as the command line offers it.
pub const CAMPAIGN: Campaign = Campaign {
    name: "simulate",
    summary: "the store and the rules among simulated workers, destinations, clocks and crashes; a seed repeats exactly",
    unit: "seeds",
    short: 90,
    full: 10_000,
    run,
};

/// What a simulated life came to.
struct Life {
    seed: u64,
    tally: Tally,
    /// Of all that was done and answered, in its order.
    digest: u64,
    problem: Option<String>,
}

/// Lives `count` seeds from `seed` on, on every core. Which thread lives which makes no difference to any of them.
fn run(asked: Asked, progress: &mut Progress) -> Found {
    let templates = Templates::make();
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let mut found = Found::default();
    let mut tally = Tally::default();
    let mut digest = 0_u64;
    thread::scope(|scope| {
        let (sender, lives) = mpsc::channel();
        for _ in 0..threads {
            let (sender, next, templates) = (sender.clone(), &next, &templates);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= asked.count || sender.send(live(asked.seed.wrapping_add(number), templates)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (done, life) in (1..).zip(lives) {
            tally.add(&life.tally);
            // A sum, because lives end in any order.
            digest = digest.wrapping_add(life.digest);
            if let Some(problem) = life.problem {
                let seed = life.seed;
                found.problems.push(format!(
                    "seed {seed}: {problem}\nthis one alone: cargo xtask campaign simulate --seed {seed} --count 1"
                ));
            }
            progress.step(done, asked.count, &format!("{} problems", found.problems.len()));
        }
    });
    found.fact("seeds", asked.count);
    for (what, count) in tally.facts() {
        found.fact(what, count);
    }
    found.fact("digest of all that was done and answered", format!("{digest:016x}"));
    found
}

/// One life, by its seed.
fn live(seed: u64, templates: &Templates) -> Life {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let (tally, digest, problem) = match runtime {
        Ok(runtime) => runtime.block_on(World::live(seed, templates)),
        Err(error) => (Tally::default(), 0, Some(format!("no runtime: {error}"))),
    };
    Life {
        seed,
        tally,
        digest,
        problem,
    }
}
