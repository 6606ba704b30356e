//! Text that came from others, made safe to show on a terminal or in a list.
//!
//! Control characters can move a terminal's cursor and hide text; bidirectional overrides can make it read
//! otherwise than it is (Unicode Technical Report 36). Both are replaced, so that it shows that they were there.

/// Whether a character must not reach a screen as it is.
fn is_unsafe(c: char) -> bool {
    let bidi = matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    let ends_a_line = matches!(c, '\u{2028}' | '\u{2029}');
    bidi || ends_a_line || c.is_control()
}

/// One line: everything unsafe, line ends too, is replaced by a visible mark.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { '\u{FFFD}' } else { c }).collect()
}

/// Several lines: line feeds and tabs stay, carriage returns before line feeds go, the rest is replaced.
pub fn plain_text(text: &str) -> String {
    let keep = |c: char| matches!(c, '\n' | '\t') || !is_unsafe(c);
    text.replace("\r\n", "\n").chars().map(|c| if keep(c) { c } else { '\u{FFFD}' }).collect()
}

/// Whether text is one line that can be shown as it is.
pub fn is_one_line(text: &str) -> bool {
    !text.chars().any(is_unsafe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_sequence_does_not_reach_the_terminal() {
        assert_eq!(plain_text("a\x1b[2Jb"), "a\u{FFFD}[2Jb");
    }

    #[test]
    fn a_bidirectional_override_shows() {
        assert_eq!(one_line("invoice\u{202E}fdp.exe"), "invoice\u{FFFD}fdp.exe");
    }

    #[test]
    fn lines_and_tabs_stay_in_a_text_and_go_from_a_line() {
        assert_eq!(plain_text("a\r\n\tb"), "a\n\tb");
        assert_eq!(one_line("a\nb"), "a\u{FFFD}b");
    }

    #[test]
    fn a_separator_that_ends_a_line_is_not_part_of_one() {
        for separator in ['\u{2028}', '\u{2029}'] {
            assert!(!is_one_line(&format!("a{separator}b")));
            assert_eq!(one_line(&format!("a{separator}b")), "a\u{FFFD}b");
        }
    }
}
