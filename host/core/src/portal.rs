//! Portal links (promise O13): for how long one opens the console, and how the console looks to whoever comes by it.
//!
//! A link is a token with an end, one tenant and listed capabilities ([`crate::access`]). Here is what a link has beside: its colours are
//! somebody's brand, and text must be legible in them and on them, whatever they are.

use std::fmt;
use std::str::FromStr;

use crate::{limits, mask};

/// What text needs at least to be legible (WCAG 2.2, 1.4.3).
const CONTRAST_MIN: f64 = 4.5;
/// What accents stand on in the console, light and dark: its darkest and its lightest ground. A test of the console holds them to its style.
const LIGHT_GROUNDS: [Colour; 2] = [Colour([0xf3, 0xf1, 0xec]), Colour([0xff, 0xff, 0xff])];
const DARK_GROUNDS: [Colour; 2] = [Colour([0x0f, 0x10, 0x11]), Colour([0x1b, 0x1d, 0x20])];
const WHITE: Colour = Colour([0xff; 3]);
const BLACK: Colour = Colour([0; 3]);
/// How much of the accent is in the ground of what is chosen, in hundredths.
const WASH: u32 = 10;

/// A colour: red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub [u8; 3]);

/// The text is no colour.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no colour: write # and three or six hexadecimal digits, for example #0a7 or #00aa77")]
pub struct NoColour(String);

impl FromStr for Colour {
    type Err = NoColour;

    fn from_str(text: &str) -> Result<Self, NoColour> {
        let wrong = || NoColour(mask::line(text, 40));
        let digits = text.strip_prefix('#').ok_or_else(wrong)?;
        let digits: Option<Vec<u8>> = digits
            .chars()
            .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        match digits.as_deref() {
            Some(&[red, green, blue]) => Ok(Self([red * 17, green * 17, blue * 17])),
            Some(&[a, b, c, d, e, f]) => Ok(Self([a * 16 + b, c * 16 + d, e * 16 + f])),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

impl Colour {
    /// As bright as people see it, from 0 to 1.
    fn luminance(self) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 {
                part / 12.92
            } else {
                ((part + 0.055) / 1.055).powf(2.4)
            }
        };
        let [red, green, blue] = self.0.map(linear);
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    /// How far two colours stand apart, from 1 to 21: text and its ground need 4.5.
    pub fn contrast(self, other: Self) -> f64 {
        let (one, other) = (self.luminance(), other.luminance());
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    /// So many hundredths of `other` in it.
    fn mixed(self, other: Self, hundredths: u32) -> Self {
        let mut parts = self.0;
        for (part, other) in parts.iter_mut().zip(other.0) {
            let sum = u32::from(*part) * (100 - hundredths) + u32::from(other) * hundredths;
            *part = u8::try_from((sum + 50) / 100).unwrap_or(u8::MAX);
        }
        Self(parts)
    }

    /// What the colour becomes in the console: the same where it is legible, and else moved towards black in light pages and towards white in
    /// dark ones, no further than is needed.
    pub fn shades(self) -> [Shade; 2] {
        [self.shade(LIGHT_GROUNDS, BLACK), self.shade(DARK_GROUNDS, WHITE)]
    }

    fn shade(self, grounds: [Self; 2], towards: Self) -> Shade {
        let [_, sheet] = grounds;
        let made = |hundredths| {
            let accent = self.mixed(towards, hundredths);
            let on_accent = if accent.contrast(WHITE) >= accent.contrast(BLACK) {
                WHITE
            } else {
                BLACK
            };
            Shade {
                accent,
                on_accent,
                wash: sheet.mixed(accent, WASH),
            }
        };
        let is_legible = |shade: &Shade| {
            let grounds = grounds.into_iter().chain([shade.wash, shade.on_accent]);
            grounds
                .into_iter()
                .all(|ground| shade.accent.contrast(ground) >= CONTRAST_MIN)
        };
        // All of it is black or white at the end, which is legible.
        (0..100).map(made).find(is_legible).unwrap_or_else(|| made(100))
    }
}

/// An accent as one scheme has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shade {
    /// Of links and of what is chosen.
    pub accent: Colour,
    /// Of text on it.
    pub on_accent: Colour,
    /// The ground of what is chosen.
    pub wash: Colour,
}

/// Whether pages are light or dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Dark text on light paper.
    Light,
    /// Light text on dark paper.
    Dark,
}

impl Scheme {
    /// The word in requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// The text is no scheme.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scheme: light or dark")]
pub struct NoScheme(String);

impl FromStr for Scheme {
    type Err = NoScheme;

    fn from_str(text: &str) -> Result<Self, NoScheme> {
        match text {
            "light" => Ok(Self::Light),
            "dark" => Ok(Self::Dark),
            _ => Err(NoScheme(mask::line(text, 40))),
        }
    }
}

/// How the console looks to whoever comes by a link. Nothing is said where it looks as ever.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Appearance {
    /// In place of the console's own accent.
    pub accent: Option<Colour>,
    /// Light or dark, until its reader chooses; without one, as their browser says.
    pub scheme: Option<Scheme>,
}

/// Where pages come from, as browsers write it: scheme, host, and a port where it is not the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

/// The text is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no origin: write scheme and host, and a port where it needs one, for example https://shop.example")]
pub struct NoOrigin(String);

impl Origin {
    /// As it stands in a policy or before a path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether nobody on the way reads or changes what goes there: by TLS, or on this machine.
    pub fn is_safe(&self) -> bool {
        let on_this_machine = ["http://localhost", "http://127.0.0.1", "http://[::1]"];
        let is_local = |local: &str| {
            self.0
                .strip_prefix(local)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        };
        self.is_https() || on_this_machine.into_iter().any(is_local)
    }

    /// Whether it is asked by TLS.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl FromStr for Origin {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<Self, NoOrigin> {
        let wrong = || NoOrigin(mask::line(text, 80));
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let rest = rest.ok_or_else(wrong)?;
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or_else(wrong)?;
                let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
                (is_address, port)
            }
            None => {
                let (host, port) = rest.split_at(rest.find(':').unwrap_or(rest.len()));
                let is_label = |label: &str| {
                    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
                    !label.is_empty() && !label.starts_with('-') && label.bytes().all(fits)
                };
                (host.len() <= 253 && host.split('.').all(is_label), port)
            }
        };
        let is_port = match port.strip_prefix(':') {
            Some(digits) => digits
                .parse::<u16>()
                .is_ok_and(|port| port > 0 && port.to_string() == digits),
            None => port.is_empty(),
        };
        match host && is_port {
            true => Ok(Self(text.to_owned())),
            false => Err(wrong()),
        }
    }
}

/// How long a link lasts, in milliseconds, from a text such as `30m`, `1h` or `2d`.
///
/// # Errors
/// In words, when it is no such text, or longer or shorter than a link may last.
pub fn lasts_ms(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{}` is no length of time such as 30m, 1h or 2d", mask::line(text, 40));
    let unit_ms = match text.chars().next_back() {
        Some('s') => 1_000,
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        _ => return Err(wrong()),
    };
    let count: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let lasts = i64::from(count) * unit_ms;
    if (limits::PORTAL_LINK_MS_MIN..=limits::PORTAL_LINK_MS_MAX).contains(&lasts) {
        return Ok(lasts);
    }
    Err(format!("`{text}`: a link lasts from a second to seven days"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o13_a_colour_is_digits_and_nothing_else() {
        for (text, expect) in [
            ("#0a7", Ok("#00aa77")),
            ("#00AA77", Ok("#00aa77")),
            ("#fff", Ok("#ffffff")),
            ("0a7", Err(())),
            ("#0a7;", Err(())),
            ("#0a77", Err(())),
            ("#", Err(())),
            ("", Err(())),
            ("red", Err(())),
            ("#0a7}body{display:none", Err(())),
            ("url(x)", Err(())),
            ("#٠٠٠", Err(())),
        ] {
            let read = text.parse::<Colour>().map(|colour| colour.to_string());
            assert_eq!(read.as_deref().map_err(|_| ()), expect, "{text}");
        }
    }

    #[test]
    fn o13_an_origin_is_a_scheme_and_a_host_and_fits_into_a_policy() {
        for (text, is_safe) in [
            ("https://shop.example", true),
            ("https://shop.example:8443", true),
            ("https://xn--bcher-kva.example", true),
            ("https://10.0.0.5", true),
            ("http://127.0.0.1:9090", true),
            ("http://localhost", true),
            ("http://[::1]:9090", true),
            ("http://localhost.evil.example", false),
            ("http://shop.example", false),
        ] {
            let origin: Origin = text.parse().unwrap();
            assert_eq!((origin.as_str(), origin.is_safe()), (text, is_safe));
        }
        for text in [
            "",
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://shop.example/path",
            "https://Shop.example",
            "https://*.shop.example",
            "https://*",
            "*",
            "'self'",
            "https://shop.example; script-src *",
            "https://shop.example https://evil.example",
            "https://user@shop.example",
            "https://shop..example",
            "https://shop.example:0",
            "https://shop.example:08",
            "https://shop.example:99999",
            "https://shop.example:",
            "ftp://shop.example",
            "https://[::1",
            "https://[zz]",
            "https://shop.example\n",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }

    #[test]
    fn o13_text_is_legible_in_every_colour_and_on_it() {
        let parts: Vec<u8> = (0..=255).step_by(15).collect();
        for red in &parts {
            for green in &parts {
                for blue in &parts {
                    let colour = Colour([*red, *green, *blue]);
                    for (shade, grounds) in colour.shades().into_iter().zip([LIGHT_GROUNDS, DARK_GROUNDS]) {
                        for ground in grounds.into_iter().chain([shade.wash, shade.on_accent]) {
                            let contrast = shade.accent.contrast(ground);
                            assert!(contrast >= CONTRAST_MIN, "{colour}: {shade:?} on {ground}: {contrast}");
                        }
                    }
                }
            }
        }
        // What is legible already stays as it is.
        let [light, dark] = Colour([0x0b, 0x64, 0x70]).shades();
        assert_eq!((light.accent.to_string().as_str(), light.on_accent), ("#0b6470", WHITE));
        assert_ne!(dark.accent, light.accent);
        assert!((WHITE.contrast(BLACK) - 21.0).abs() < 1e-9);
    }

    #[test]
    fn o13_a_link_is_short_lived() {
        for (text, expect) in [
            ("1h", Ok(3_600_000)),
            ("1s", Ok(1_000)),
            ("7d", Ok(604_800_000)),
            ("8d", Err("a second to seven days")),
            ("0s", Err("a second to seven days")),
            ("0h", Err("a second to seven days")),
            ("4294967295d", Err("a second to seven days")),
            ("1", Err("no length of time")),
            ("h", Err("no length of time")),
            ("", Err("no length of time")),
            ("-1h", Err("no length of time")),
            ("1ħ", Err("no length of time")),
        ] {
            match (lasts_ms(text), expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found, expect),
                (Err(said), Err(part)) => assert!(said.contains(part), "{text}: {said}"),
                (found, expect) => panic!("{text}: {found:?} in place of {expect:?}"),
            }
        }
        assert_eq!("dark".parse(), Ok(Scheme::Dark));
        assert!("plaid".parse::<Scheme>().is_err());
    }
}
