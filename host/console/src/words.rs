//! How pages say times, lengths and numbers, and which shape stands beside a word of state.

use tollgate_core::mask;
use tollgate_core::time::UnixMillis;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
/// Between the thousands of a number, and before a unit: narrow, and no line ends there.
const THIN: char = '\u{202f}';

/// A number with its thousands apart.
pub(crate) fn number(number: impl Into<i128>) -> String {
    let number = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() + 4);
    if number < 0 {
        text.push('−');
    }
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(THIN);
        }
        text.push(digit);
    }
    text
}

/// A text of the host's in its parts, and which of them stand between backticks.
pub(crate) fn coded(text: &str) -> impl Iterator<Item = (bool, &str)> {
    let is_paired = text.matches('`').count().is_multiple_of(2);
    let mut parts = text.split('`').collect::<Vec<_>>();
    if !is_paired {
        parts = vec![text];
    }
    parts.into_iter().enumerate().map(|(at, part)| (at % 2 == 1, part))
}

/// A number of things.
pub(crate) fn counted(count: u64, thing: &str) -> String {
    match (count, thing.strip_suffix('y')) {
        (1, _) => format!("1 {thing}"),
        (_, Some(stem)) => format!("{} {stem}ies", number(count)),
        (_, None) => format!("{} {thing}s", number(count)),
    }
}

/// A length of time as a person says it, from whole seconds.
pub(crate) fn span(s: u64) -> String {
    match s {
        0..120 => format!("{s}{THIN}s"),
        120..7_200 => format!("{}{THIN}min", s / 60),
        7_200..172_800 => format!("{}{THIN}h", s / 3_600),
        _ => format!("{} days", s / 86_400),
    }
}

/// How long something took.
pub(crate) fn took(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}{THIN}µs"),
        1_000..10_000 => format!("{:.1}{THIN}ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{}{THIN}ms", us / 1_000),
        1_000_000..120_000_000 => format!("{:.1}{THIN}s", us as f64 / 1e6),
        _ => span(us / 1_000_000),
    }
}

/// How long after the beginning something was, for a column of such.
pub(crate) fn after(ms: i64) -> String {
    match ms {
        ..0 => format!("−{}", after(-ms).trim_start_matches('+')),
        0..10_000 => format!("+{ms}{THIN}ms"),
        10_000..120_000 => format!("+{:.1}{THIN}s", ms as f64 / 1e3),
        _ => format!("+{}", span(u64::try_from(ms / 1000).unwrap_or(0))),
    }
}

/// A size.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes}{THIN}B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1}{THIN}{}", UNITS[unit])
}

/// The beginning of a digest, as people tell versions apart.
pub(crate) fn short(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.get(..12).unwrap_or(hex)
}

/// An instant, short: of the same day its time, of another its day and time. In UTC, as the whole console.
pub(crate) fn instant(text: &str, now: UnixMillis) -> String {
    let Some(at) = UnixMillis::from_rfc3339(text) else {
        return mask::line(text, 60);
    };
    let text = at.to_string();
    // 2026-05-05T10:00:00.000Z
    let (Some(time), Some(month), Some(day)) = (text.get(11..19), text.get(5..7), text.get(8..10)) else {
        return text;
    };
    if at.0.div_euclid(DAY_MS) == now.0.div_euclid(DAY_MS) {
        return time.to_owned();
    }
    let month = month.parse().ok().and_then(|month: usize| MONTHS.get(month - 1));
    let day = day.trim_start_matches('0');
    format!("{day} {} {}", month.unwrap_or(&"?"), time.get(..5).unwrap_or(time))
}

/// A text of several lines with what would not be seen written out.
pub(crate) fn lines_shown(text: &str) -> String {
    let lines: Vec<_> = text
        .split('\n')
        .map(|line| mask::shown(line.trim_end_matches('\r')).into_owned())
        .collect();
    lines.join("\n")
}

/// Which shape stands beside a word of state: what a word means is never said by a colour alone.
pub(crate) fn mark(word: &str) -> &'static str {
    match word {
        "accepted" | "done" | "delivered" | "recorded" | "completed" | "published" | "same" | "active" => "good",
        "dead" | "conflict" | "suspected-replay" | "ledger-conflict" | "quarantined" | "trap" | "out-of-fuel"
        | "deadline" | "memory" | "invalid-output" | "output-too-big" | "host-fault" | "failed" => "bad",
        "held" | "held-receipt" | "held-job" | "refused" | "over-budget" => "held",
        "waiting" | "ready" | "leased" | "blocked" | "vetted" | "retry-after" | "shadow" | "canary" => "wait",
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o8_numbers_and_times_are_said_as_people_say_them() {
        let thin = |text: &str| text.replace(' ', &THIN.to_string());
        for (found, expect) in [
            (number(0u64), "0"),
            (number(999u64), "999"),
            (number(1_234_567u64), "1 234 567"),
            (number(-1_000i64), "−1 000"),
            (span(119), "119 s"),
            (span(7_200), "2 h"),
            (took(999), "999 µs"),
            (took(1_500), "1.5 ms"),
            (took(61_000_000), "61.0 s"),
            (after(0), "+0 ms"),
            (after(-5), "−5 ms"),
            (after(12_345), "+12.3 s"),
            (size(1023), "1023 B"),
            (size(1024 * 1024), "1.0 MiB"),
        ] {
            assert_eq!(found, thin(expect));
        }
        let now = UnixMillis(1_777_975_200_000);
        assert_eq!(instant("2026-05-05T10:00:00Z", now), "10:00:00");
        assert_eq!(instant("2026-05-04T23:59:59+00:00", now), "4 May 23:59");
        assert_eq!(instant("noon\u{202e}", now), "noon\\u{202e}");
    }
}
