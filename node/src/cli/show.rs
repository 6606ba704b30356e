//! How things look on a terminal: safe text, times, ages, tables, colour; and how they get there.
//!
//! Times are shown in UTC, with their Z: partners in other places read the same page aloud by telephone.
//!
//! Nothing here panics when nobody reads: `println!` would.

use std::io::{self, IsTerminal, Write};

use cwn_crypto::Time;
use cwn_functions::text::{is_one_line, one_line, plain_text};
use serde::Serialize;

pub use crate::api::{count, short};

/// Writes a page to standard output.
pub fn page(page: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(page.as_bytes())?;
    out.flush()
}

/// Says something beside the page, on standard error.
pub fn note(note: &str) {
    // When standard error is closed there is nobody left to tell.
    let _ = writeln!(io::stderr().lock(), "{note}");
}

/// What a program asked for, as JSON that a terminal can be shown too: what could move its cursor or turn its
/// text around is escaped, which JSON takes for the same text.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut shown = String::new();
    for c in serde_json::to_string_pretty(value)?.chars() {
        // The line ends are the pretty printer's own: those in a text are escaped by now.
        if c == '\n' || is_one_line(c.encode_utf8(&mut [0; 4])) {
            shown.push(c);
        } else {
            shown.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    shown.push('\n');
    Ok(shown)
}

/// Whether a page may have colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Letters alone.
    Plain,
    /// A terminal, and nobody said `NO_COLOR`.
    Colour,
}

impl Ink {
    /// What standard output takes.
    pub fn of_stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if wanted && io::stdout().is_terminal() { Self::Colour } else { Self::Plain }
    }

    /// Something to look at, though it works.
    pub fn amber(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\x1b[33m{text}\x1b[0m"),
        }
    }
}

/// One line that came from somewhere.
pub fn line(text: &str) -> String {
    one_line(text)
}

/// Several lines that came from somewhere.
pub fn text(text: &str) -> String {
    plain_text(text)
}

/// A time in UTC.
pub fn time(ms: u64) -> String {
    Time(ms).to_string()
}

/// How long ago something was.
pub fn ago(now: u64, then: u64) -> String {
    let Some(ms) = now.checked_sub(then) else { return "in the future".to_owned() };
    span(ms) + " ago"
}

/// A span of time, roughly.
pub fn span(ms: u64) -> String {
    let (value, unit) = match ms / 1_000 {
        seconds @ 0..120 => (seconds, "second"),
        seconds @ 120..7_200 => (seconds / 60, "minute"),
        seconds @ 7_200..172_800 => (seconds / 3_600, "hour"),
        seconds => (seconds / 86_400, "day"),
    };
    format!("{value} {unit}{}", if value == 1 { "" } else { "s" })
}

/// A size, roughly.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

/// Rows in columns: every column as wide as its widest cell, the last one free.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| Some(row.get(column)?.chars().count())).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut shown = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if column + 1 < row.len() {
                let pad = widths[column].saturating_sub(cell.chars().count()) + 2;
                line.extend(std::iter::repeat_n(' ', pad));
            }
        }
        shown.push_str(line.trim_end());
        shown.push('\n');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_of_others_text_moves_no_cursor_and_says_the_same() {
        let theirs = "a\u{9b}31m \u{7f}\u{202e}b\nc";
        let shown = json(&theirs).unwrap();
        assert_eq!(shown, "\"a\\u009b31m \\u007f\\u202eb\\nc\"\n");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), theirs);
    }

    #[test]
    fn amber_is_a_colour_on_a_terminal_only() {
        assert_eq!([Ink::Plain.amber("x"), Ink::Colour.amber("x")], ["x", "\x1b[33mx\x1b[0m"]);
    }

    #[test]
    fn columns_line_up_whatever_the_letters() {
        let rows = [["één", "x"], ["twaalf", "y"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "één     x\ntwaalf  y\n");
    }

    #[test]
    fn spans_are_said_as_people_say_them() {
        assert_eq!([span(1_000), span(150_000), span(7_300_000)], ["1 second", "2 minutes", "2 hours"]);
        assert_eq!(ago(5_000, 9_000), "in the future");
    }
}
