//! How things look on a terminal: safe text, times, ages, tables.

use cwn_crypto::Time;
use cwn_functions::text::{one_line, plain_text};

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

/// The start of a key or an id, enough to tell it from others.
pub fn short(hex: &str) -> &str {
    hex.get(..12).unwrap_or(hex)
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
