//! Charts of what the host did lately: SVG without a style of its own, each with its numbers as a table.

use tollgate_api::lately::{Ended, Lately, LatelyStep, Took};
use tollgate_core::time::UnixMillis;

use crate::words::{instant, number, span, took};

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 96.0;
/// Steps that are one point: a chart has sixty at the most.
const POINTS_MAX: usize = 60;

/// A chart with its table.
pub(crate) struct Chart {
    pub(crate) name: &'static str,
    /// What it shows now, in words: whoever does not see it has this.
    pub(crate) says: String,
    /// What stands at its top.
    pub(crate) most: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) bars: Vec<Bar>,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) heads: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

pub(crate) struct Line {
    pub(crate) class: &'static str,
    pub(crate) points: String,
}

pub(crate) struct Bar {
    pub(crate) class: &'static str,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) width: String,
    pub(crate) height: String,
}

/// The charts; none while there are fewer than two steps.
pub(crate) fn charts(lately: &Lately, now: UnixMillis) -> Vec<Chart> {
    if lately.steps.len() < 2 {
        return Vec::new();
    }
    let each = lately.steps.len().div_ceil(POINTS_MAX);
    let groups: Vec<&[LatelyStep]> = lately.steps.chunks(each).collect();
    let step_s = lately.step_s * each as u64;
    let at = |group: &[LatelyStep]| {
        group
            .last()
            .map(|step| instant(&step.at.to_string(), now))
            .unwrap_or_default()
    };
    let frame = |name, says, most: u64, heads: Vec<&'static str>, unit: fn(u64) -> String| Chart {
        name,
        says,
        most: unit(most),
        lines: Vec::new(),
        bars: Vec::new(),
        from: groups.first().map(|group| at(group)).unwrap_or_default(),
        to: groups.last().map(|group| at(group)).unwrap_or_default(),
        heads,
        rows: Vec::new(),
    };
    let plain: fn(u64) -> String = |count| number(count);

    // Bars that stand on each other, of what was counted in each step.
    let stacked = |name, heads: [&'static str; 4], counts: Vec<[u64; 3]>| {
        let totals = counts
            .iter()
            .fold([0; 3], |all, one| [all[0] + one[0], all[1] + one[1], all[2] + one[2]]);
        let says = totals
            .iter()
            .zip(&heads[1..])
            .map(|(total, head)| format!("{} {}", number(*total), head.to_lowercase()));
        let most = counts.iter().map(|all| all.iter().sum()).max().unwrap_or(0).max(1);
        let mut chart = frame(name, says.collect::<Vec<_>>().join(", "), most, heads.to_vec(), plain);
        let width = WIDTH / counts.len() as f64;
        for (place, all) in counts.iter().enumerate() {
            let mut top = HEIGHT;
            for (count, class) in all.iter().zip(["bars", "bars-again", "bars-bad"]) {
                let height = *count as f64 / most as f64 * HEIGHT;
                top -= height;
                if *count > 0 {
                    chart.bars.push(Bar {
                        class,
                        x: format!("{:.1}", place as f64 * width + 0.5),
                        y: format!("{top:.1}"),
                        width: format!("{:.1}", (width - 1.0).max(1.0)),
                        height: format!("{height:.1}"),
                    });
                }
            }
            let row = [at(groups[place])]
                .into_iter()
                .chain(all.iter().map(|count| number(*count)));
            chart.rows.push(row.collect());
        }
        (chart, totals != [0; 3])
    };
    let counted = |of: fn(&LatelyStep) -> [u64; 3]| -> Vec<[u64; 3]> {
        let sums = groups.iter().map(|group| {
            let all = group.iter().map(of);
            all.fold([0; 3], |all, one| [all[0] + one[0], all[1] + one[1], all[2] + one[2]])
        });
        sums.collect()
    };
    let (came, _) = stacked(
        "Intake",
        ["Until", "Kept", "Again", "Refused"],
        counted(|step| [step.kept, step.again, step.refused]),
    );
    let (jobs, has_jobs) = stacked(
        "Runs by outcome",
        ["Until", "Done", "Again", "Held or dead"],
        counted(|step| of_ended(&step.jobs_ended)),
    );
    let (sent, has_sent) = stacked(
        "Deliveries by code",
        ["Until", "2xx", "3xx or 4xx", "5xx or none"],
        counted(|step| {
            [
                step.answers.taken,
                step.answers.refused,
                step.answers.failed + step.answers.none,
            ]
        }),
    );

    let last = |group: &[LatelyStep], of: fn(&LatelyStep) -> Option<u64>| group.iter().rev().find_map(of);
    let queue: Vec<[Option<u64>; 2]> = groups
        .iter()
        .map(|group| {
            [
                last(group, |step| step.jobs_waiting),
                last(group, |step| step.deliveries_waiting),
            ]
        })
        .collect();
    let newest = queue
        .last()
        .copied()
        .unwrap_or_default()
        .map(|count| number(count.unwrap_or(0)));
    let mut waits = two_lines(
        frame(
            "Waiting",
            format!("{} jobs, {} deliveries", newest[0], newest[1]),
            most_of(&queue),
            vec!["At", "Jobs", "Deliveries"],
            plain,
        ),
        &queue,
    );
    for (group, all) in groups.iter().zip(&queue) {
        waits.rows.push(
            [at(group)]
                .into_iter()
                .chain(all.map(|count| count.map_or_else(|| "–".to_owned(), number)))
                .collect(),
        );
    }

    let mut all = vec![came, waits];
    let oldest: Vec<[Option<u64>; 2]> = groups
        .iter()
        .map(|group| [last(group, |step| step.oldest_s), None])
        .collect();
    if oldest.iter().any(|age| age[0].is_some_and(|age| age > 0)) {
        let newest = oldest.last().and_then(|age| age[0]);
        let says = newest.map_or_else(|| "nothing waits".to_owned(), |age| format!("for {}", span(age)));
        let mut chart = two_lines(
            frame(
                "The oldest that waits",
                says,
                most_of(&oldest),
                vec!["At", "Waited"],
                span,
            ),
            &oldest,
        );
        for (group, age) in groups.iter().zip(&oldest) {
            chart
                .rows
                .push(vec![at(group), age[0].map_or_else(|| "–".to_owned(), span)]);
        }
        all.push(chart);
    }
    all.extend(
        [(jobs, has_jobs), (sent, has_sent)]
            .into_iter()
            .filter_map(|(chart, has)| has.then_some(chart)),
    );
    for (name, of) in [
        ("Commit", (|step: &LatelyStep| step.admit) as fn(&LatelyStep) -> Took),
        ("Runs", |step| step.run),
        ("Deliveries", |step| step.deliver),
    ] {
        // Of several steps the slowest is shown: a quantile of quantiles is none.
        let slowest = |group: &[LatelyStep], of_took: fn(Took) -> Option<u64>| {
            group.iter().filter_map(|step| of_took(of(step))).max()
        };
        let times: Vec<[Option<u64>; 2]> = groups
            .iter()
            .map(|group| [slowest(group, |took| took.p50_us), slowest(group, |took| took.p95_us)])
            .collect();
        if times.iter().all(|both| both[1].is_none()) {
            continue;
        }
        let newest = times
            .iter()
            .rev()
            .find(|both| both[1].is_some())
            .copied()
            .unwrap_or_default();
        let said = newest.map(|time| took(time.unwrap_or(0)));
        let mut chart = two_lines(
            frame(
                name,
                format!("p50 {}, p95 {}", said[0], said[1]),
                most_of(&times),
                vec!["At", "p50", "p95"],
                took,
            ),
            &times,
        );
        for (group, both) in groups.iter().zip(&times) {
            chart.rows.push(
                [at(group)]
                    .into_iter()
                    .chain(both.map(|time| time.map_or_else(|| "–".to_owned(), took)))
                    .collect(),
            );
        }
        all.push(chart);
    }
    for chart in &mut all {
        chart.from = format!("{} ago", span(step_s * groups.len() as u64));
        chart.rows.reverse();
    }
    all
}

fn of_ended(ended: &Ended) -> [u64; 3] {
    [ended.done, ended.again, ended.held + ended.dead]
}

fn most_of(values: &[[Option<u64>; 2]]) -> u64 {
    values.iter().flatten().flatten().copied().max().unwrap_or(0).max(1)
}

/// Two lines over the same time: the first is whole, the second is dashed.
fn two_lines(mut chart: Chart, values: &[[Option<u64>; 2]]) -> Chart {
    let most = most_of(values) as f64;
    let apart = WIDTH / (values.len().max(2) - 1) as f64;
    for (which, class) in [(0, "one"), (1, "two-of")] {
        // A line ends where nothing is known, and begins anew.
        for piece in values
            .iter()
            .enumerate()
            .collect::<Vec<_>>()
            .chunk_by(|a, b| a.1[which].is_some() == b.1[which].is_some())
        {
            let points: Vec<_> = piece
                .iter()
                .filter_map(|(place, both)| {
                    let value = both[which]? as f64;
                    Some(format!(
                        "{:.1},{:.1}",
                        *place as f64 * apart,
                        HEIGHT - value / most * HEIGHT
                    ))
                })
                .collect();
            let points = match points.as_slice() {
                [] => continue,
                // One point alone is a short line.
                [one] => {
                    let (x, y) = one.split_once(',').unwrap_or(("0", "0"));
                    let x: f64 = x.parse().unwrap_or(0.0);
                    format!("{:.1},{y} {:.1},{y}", (x - 2.0).max(0.0), (x + 2.0).min(WIDTH))
                }
                many => many.join(" "),
            };
            chart.lines.push(Line { class, points });
        }
    }
    chart
}

#[cfg(test)]
mod tests {
    use tollgate_api::lately::Answers;

    use super::*;

    fn step(at: i64, kept: u64, waiting: Option<u64>, p95_us: Option<u64>) -> LatelyStep {
        let took = Took {
            count: 1,
            p50_us: p95_us.map(|us| us / 2),
            p95_us,
        };
        LatelyStep {
            at: UnixMillis(1_777_975_200_000 + at * 10_000),
            kept,
            again: 0,
            refused: 1,
            jobs_waiting: waiting,
            deliveries_waiting: waiting,
            oldest_s: waiting.filter(|count| *count > 0).map(|count| count * 60),
            jobs_ended: Ended {
                done: kept,
                held: 1,
                ..Ended::default()
            },
            answers: Answers {
                taken: kept,
                none: at.unsigned_abs(),
                ..Answers::default()
            },
            admit: took,
            run: Took::default(),
            deliver: Took::default(),
        }
    }

    #[test]
    fn o8_a_chart_has_its_numbers_beside_it_and_a_gap_where_nothing_is_known() {
        let now = UnixMillis(1_777_975_260_000);
        let lately = |steps| Lately { step_s: 10, steps };
        assert!(charts(&lately(vec![step(0, 1, None, None)]), now).is_empty());
        let steps = vec![
            step(0, 3, Some(4), Some(2_000)),
            step(1, 0, None, None),
            step(2, 1, Some(2), Some(1_000)),
            step(3, 0, Some(0), Some(1_000)),
        ];
        let charts = charts(&lately(steps), now);
        let names: Vec<_> = charts.iter().map(|chart| chart.name).collect();
        assert_eq!(
            names,
            [
                "Intake",
                "Waiting",
                "The oldest that waits",
                "Runs by outcome",
                "Deliveries by code",
                "Commit"
            ],
            "how long runs and deliveries took nobody knows"
        );
        assert_eq!(charts[4].says, "4 2xx, 0 3xx or 4xx, 6 5xx or none");
        assert_eq!(charts[3].says, "4 done, 0 again, 4 held or dead");
        assert_eq!(charts[2].rows[3], ["10:00:00", "4\u{202f}min"]);
        assert_eq!(charts[0].says, "4 kept, 0 again, 4 refused");
        assert_eq!(charts[0].bars.len(), 2 + 4);
        let first: Vec<_> = charts[1].lines.iter().filter(|line| line.class == "one").collect();
        assert_eq!(first.len(), 2, "before the gap and behind it");
        assert_eq!(first[1].points, "226.7,48.0 340.0,96.0");
        assert_eq!(charts[1].rows[2], ["10:00:10", "–", "–"]);
        assert_eq!(charts[1].rows[3], ["10:00:00", "4", "4"]);
    }

    #[test]
    fn o8_an_hour_has_sixty_points() {
        let steps = (0..360).map(|at| step(at, 1, Some(1), Some(1_000))).collect();
        let charts = charts(&Lately { step_s: 10, steps }, UnixMillis(1_777_975_200_000));
        assert_eq!(charts[0].rows.len(), 60);
        assert_eq!(charts[0].rows[0][1], "6");
    }
}
