//! Failpoints: steps of an event at which a test may end the process as a power cut would, with no handler and no goodbye.
//!
//! Only a build with debug assertions has them: `TOLLGATE_DIE_AT=after-run:3` kills it when it passes `after-run` for the third
//! time. In a release build [`pass`] is empty and the variable is not read. The campaign `points` dies at each of them.

/// A failpoint, by the step that it stands before or after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failpoint {
    /// Proved and read; nothing is kept yet.
    BeforeAdmit,
    /// Kept; the sender has no answer yet.
    AfterAdmit,
    AfterClaim,
    BeforeRun,
    AfterRun,
    BeforeSettle,
    AfterSettle,
    /// Leased from the outbox.
    AfterOutboxClaim,
    BeforeDeliver,
    /// The destination has answered; nobody here has noted it.
    AfterDeliver,
    BeforeMark,
    AfterMark,
}

#[cfg(not(debug_assertions))]
pub(crate) use absent::{check, pass};
#[cfg(debug_assertions)]
pub(crate) use armed::{check, pass};

#[cfg(not(debug_assertions))]
mod absent {
    pub(crate) const fn check() -> Result<(), String> {
        Ok(())
    }

    pub(crate) const fn pass(_: super::Failpoint) {}
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::Failpoint;

    const VARIABLE: &str = "TOLLGATE_DIE_AT";

    const NAMES: [(&str, Failpoint); 12] = [
        ("before-admit", Failpoint::BeforeAdmit),
        ("after-admit", Failpoint::AfterAdmit),
        ("after-claim", Failpoint::AfterClaim),
        ("before-run", Failpoint::BeforeRun),
        ("after-run", Failpoint::AfterRun),
        ("before-settle", Failpoint::BeforeSettle),
        ("after-settle", Failpoint::AfterSettle),
        ("after-outbox-claim", Failpoint::AfterOutboxClaim),
        ("before-deliver", Failpoint::BeforeDeliver),
        ("after-deliver", Failpoint::AfterDeliver),
        ("before-mark", Failpoint::BeforeMark),
        ("after-mark", Failpoint::AfterMark),
    ];

    /// Where the process is to die, and how many times it still passes there, that time included.
    struct Death {
        point: Failpoint,
        passings: AtomicU32,
    }

    static DEATH: LazyLock<Option<Death>> = LazyLock::new(|| {
        let told = std::env::var(VARIABLE).ok()?;
        parse(&told).ok().flatten()
    });

    fn parse(told: &str) -> Result<Option<Death>, String> {
        if told.is_empty() {
            return Ok(None);
        }
        let (name, times) = told.split_once(':').unwrap_or((told, "1"));
        let found = NAMES.iter().find(|(known, _)| *known == name);
        match (found, times.parse()) {
            (Some((_, point)), Ok(times @ 1..)) => Ok(Some(Death {
                point: *point,
                passings: AtomicU32::new(times),
            })),
            _ => Err(format!(
                "{VARIABLE}={told}: `name:count` with a count from 1 and one of {}",
                NAMES.map(|(name, _)| name).join(", ")
            )),
        }
    }

    /// A name that no failpoint has would make a test that can never fail: it is refused when the process starts.
    ///
    /// # Errors
    /// When the variable names no failpoint; the message lists those that there are.
    pub(crate) fn check() -> Result<(), String> {
        std::env::var(VARIABLE).map_or(Ok(()), |told| parse(&told).map(|_| ()))
    }

    /// Dies here if this is the failpoint and the time.
    pub(crate) fn pass(point: Failpoint) {
        let Some(death) = DEATH.as_ref().filter(|death| death.point == point) else {
            return;
        };
        if death.passings.fetch_sub(1, Ordering::SeqCst) == 1 {
            let _ = kill_process(getpid(), Signal::KILL);
            // The signal may take another thread first; this one must not go a step further.
            loop {
                std::thread::park();
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_failpoint_is_named_with_its_count_or_refused() {
            let told = |text: &str| {
                let death = parse(text).map_err(|_| ())?;
                Ok(death.map(|death| (death.point, death.passings.into_inner())))
            };
            assert_eq!(told(""), Ok(None));
            assert_eq!(told("after-run"), Ok(Some((Failpoint::AfterRun, 1))));
            assert_eq!(told("before-mark:7"), Ok(Some((Failpoint::BeforeMark, 7))));
            for text in ["after-lunch", "after-run:0", "after-run:x", "after-run:", ":1"] {
                assert_eq!(told(text), Err(()), "{text}");
            }
        }
    }
}
