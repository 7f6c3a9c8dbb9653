//! The chart of `docs/performance.md`, as SVG without scripts or fonts of its own, for light and dark pages.

use std::fmt::Write as _;

/// What a server is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tollgate,
    /// What cannot be done for less.
    Floor,
    Peer,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Tollgate, Self::Floor, Self::Peer];

    fn class(self) -> &'static str {
        match self {
            Self::Tollgate => "tollgate",
            Self::Floor => "floor",
            Self::Peer => "peer",
        }
    }

    fn legend(self) -> &'static str {
        match self {
            Self::Tollgate => "Tollgate",
            Self::Floor => "what cannot be done for less",
            Self::Peer => "other people's servers",
        }
    }
}

/// One server.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) kind: Kind,
    /// Whether anything is kept when it has answered.
    pub(super) keeps: bool,
    pub(super) cpu_us: f64,
    pub(super) per_second: f64,
}

const WIDTH: f64 = 920.0;
const MARGIN: f64 = 24.0;
/// Where bars begin in each panel, and how long the longest scale is; what is right of it is for figures.
const PANELS: [f64; 2] = [206.0, 584.0];
const PANEL_WIDTH: f64 = 250.0;
const TOP: f64 = 112.0;
const ROW: f64 = 34.0;
const THICK: f64 = 20.0;

const STYLE: &str = "
  text { font: 13px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2328; }
  .title { font-size: 17px; font-weight: 600; }
  .soft { fill: #59636e; font-size: 12px; }
  .head { font-weight: 600; }
  .page { fill: #ffffff; }
  .grid { stroke: #d1d9e0; stroke-width: 1; }
  .tollgate { fill: #0969da; }
  .floor { fill: #8c959f; }
  .peer { fill: #d4a72c; }
  .own { font-weight: 600; }
  .pale { opacity: 0.45; }
  .value { stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round; paint-order: stroke; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .soft { fill: #9198a1; }
    .page { fill: #0d1117; }
    .value { stroke: #0d1117; }
    .grid { stroke: #3d444d; }
    .tollgate { fill: #4493f8; }
    .floor { fill: #6e7681; }
    .peer { fill: #bb8009; }
  }
";

/// One of two quantities, each over a logarithmic scale of whole powers of ten.
struct Panel {
    x: f64,
    title: &'static str,
    better: &'static str,
    value: fn(&Bar) -> f64,
    first: i32,
    last: i32,
}

impl Panel {
    fn new(x: f64, title: &'static str, better: &'static str, value: fn(&Bar) -> f64, bars: &[Bar]) -> Self {
        let logs = || bars.iter().map(|bar| value(bar).log10());
        // A bar has a length even where it is the least.
        let first = (logs().fold(f64::INFINITY, f64::min) - 0.15).floor();
        let last = logs().fold(f64::NEG_INFINITY, f64::max).ceil();
        let (first, last) = if bars.is_empty() { (0.0, 1.0) } else { (first, last) };
        Self {
            x,
            title,
            better,
            value,
            first: first as i32,
            last: (last as i32).max(first as i32 + 1),
        }
    }

    fn length(&self, value: f64) -> f64 {
        PANEL_WIDTH * (value.log10() - f64::from(self.first)) / f64::from(self.last - self.first)
    }

    fn draw(&self, svg: &mut String, bars: &[Bar]) {
        let bottom = TOP + ROW * bars.len() as f64;
        let _ = writeln!(
            svg,
            "<text class=\"head\" x=\"{}\" y=\"{}\">{}</text>",
            self.x,
            TOP - 34.0,
            self.title
        );
        let _ = writeln!(
            svg,
            "<text class=\"soft\" x=\"{}\" y=\"{}\">{}</text>",
            self.x,
            TOP - 17.0,
            self.better
        );
        for power in self.first..=self.last {
            let value = 10_f64.powi(power);
            let x = self.x + self.length(value);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>"
            );
            let _ = writeln!(
                svg,
                "<text class=\"soft\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                number(value)
            );
        }
        for (row, bar) in bars.iter().enumerate() {
            let (value, y) = ((self.value)(bar), TOP + ROW * row as f64 + (ROW - THICK) / 2.0);
            let length = self.length(value);
            let _ = writeln!(
                svg,
                "<rect class=\"{}\" x=\"{}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{THICK}\" rx=\"3\"/>",
                bar_class(bar),
                self.x
            );
            let _ = writeln!(
                svg,
                "<text class=\"value {}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                text_class(bar),
                self.x + length + 7.0,
                y + 14.5,
                number(value)
            );
        }
    }
}

fn bar_class(bar: &Bar) -> String {
    let pale = if bar.keeps { "" } else { " pale" };
    format!("{}{pale}", bar.kind.class())
}

fn text_class(bar: &Bar) -> &'static str {
    if bar.kind == Kind::Tollgate { "own" } else { "other" }
}

/// Draws the servers in the order that they are given in.
pub(super) fn svg(bars: &[Bar]) -> String {
    let bottom = TOP + ROW * bars.len() as f64;
    let height = bottom + 62.0;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" \
         aria-label=\"Server processor time per request, and requests per second, by server\">"
    );
    let _ = writeln!(svg, "<style>{STYLE}</style>");
    let _ = writeln!(
        svg,
        "<rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"6\"/>"
    );
    let _ = writeln!(
        svg,
        "<text class=\"title\" x=\"{MARGIN}\" y=\"36\">One signed reward event, from request to answer</text>"
    );
    for (row, bar) in bars.iter().enumerate() {
        let _ = writeln!(
            svg,
            "<text class=\"{}\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            text_class(bar),
            PANELS[0] - 12.0,
            TOP + ROW * row as f64 + ROW / 2.0 + 4.5,
            escaped(&bar.label)
        );
    }
    let [left, right] = PANELS;
    let (less, more) = (
        "shorter is better; each step is ten times more",
        "longer is better; each step is ten times more",
    );
    Panel::new(left, "Server CPU, µs per request", less, |bar| bar.cpu_us, bars).draw(&mut svg, bars);
    Panel::new(right, "Requests per second", more, |bar| bar.per_second, bars).draw(&mut svg, bars);
    let mut x = left;
    let kinds = Kind::ALL
        .into_iter()
        .filter(|kind| bars.iter().any(|bar| bar.kind == *kind));
    let mut legend: Vec<(&str, &str)> = kinds.map(|kind| (kind.class(), kind.legend())).collect();
    if bars.iter().any(|bar| !bar.keeps) {
        legend.push(("floor pale", "paler: keeps nothing"));
    }
    for (class, meaning) in legend {
        let y = bottom + 34.0;
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y}\" width=\"12\" height=\"12\" rx=\"2\"/>"
        );
        let _ = writeln!(
            svg,
            "<text class=\"soft\" x=\"{:.1}\" y=\"{}\">{meaning}</text>",
            x + 18.0,
            y + 10.5
        );
        x += 44.0 + 6.4 * meaning.len() as f64;
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// With three digits or a few more, and thousands apart.
pub(super) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 99.95 || size.fract() == 0.0 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, cpu_us: f64, per_second: f64) -> Bar {
        Bar {
            label: label.to_owned(),
            kind: Kind::Peer,
            keeps: true,
            cpu_us,
            per_second,
        }
    }

    #[test]
    fn bars_lie_on_their_scale() {
        let bars = [bar("a", 10.0, 80_000.0), bar("b", 999.0, 900.0)];
        let panel = Panel::new(0.0, "", "", |bar| bar.cpu_us, &bars);
        assert_eq!((panel.first, panel.last), (0, 3));
        assert!((panel.length(10.0) - PANEL_WIDTH / 3.0).abs() < 1e-9);
        assert!((panel.length(1000.0) - PANEL_WIDTH).abs() < 1e-9);
        let panel = Panel::new(0.0, "", "", |bar| bar.per_second, &bars);
        assert_eq!((panel.first, panel.last), (2, 5));
    }

    #[test]
    fn each_server_is_drawn_twice_and_named_once() {
        let svg = svg(&[bar("a < b", 10.0, 80_000.0), bar("c", 999.0, 900.0)]);
        assert_eq!(svg.matches("a &lt; b").count(), 1);
        assert_eq!(
            svg.matches("<rect class=\"peer\" ").count(),
            2 * 2 + 1,
            "and the legend's"
        );
        assert_eq!(self::svg(&[]).matches("<rect class=\"peer\" ").count(), 0);
    }
}
