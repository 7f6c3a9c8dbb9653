//! What people may see in logs and lists. Whole values stay in the store; here they are cut.

/// Keeps the ends of an identifier so that two lines can be told apart, and hides the middle. Short texts are hidden whole.
pub fn identifier(text: &str) -> String {
    let chars: Vec<char> = text.chars().filter(|c| !c.is_control()).collect();
    if chars.len() < 12 {
        return "…".to_owned();
    }
    let head: String = chars[..4].iter().collect();
    let tail: String = chars[chars.len() - 4..].iter().collect();
    format!("{head}…{tail}")
}

/// Cuts a text that came from outside to `bytes_max` bytes at a character boundary and replaces control characters, so that it
/// can stand in one log line.
pub fn line(text: &str, bytes_max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(bytes_max));
    for c in text.chars() {
        if line.len() + c.len_utf8() > bytes_max {
            line.push('…');
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_keep_their_ends_and_lines_stay_lines() {
        assert_eq!(identifier("cust_2myfc5acSBgoMV72R5tyTBc8"), "cust…TBc8");
        assert_eq!(identifier("short"), "…");
        assert_eq!(line("a\nb\u{1b}[31mc", 100), "a b [31mc");
        assert_eq!(line("äöü", 4), "äö…");
    }
}
