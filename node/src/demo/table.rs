//! The table, and how the demo's pages look. Nothing here asks a node: it shows what was measured.

use std::fmt;

use crate::cli::show::{self, Ink};

/// As many digits of a key or an id tell it from the others of a demo.
const DIGITS: usize = 8;
/// A run of hexadecimal digits this long is a key or an id.
const KEY_DIGITS: usize = 64;

/// Something that was claimed, and what the nodes say.
#[derive(Debug)]
pub(super) struct Line {
    /// The chapter it was measured in, from 1.
    pub(super) chapter: usize,
    /// What is claimed.
    pub(super) claim: String,
    /// What was measured.
    pub(super) measured: String,
    /// The command that shows it to a person.
    pub(super) look: &'static str,
    /// Whether what was measured is what is claimed.
    pub(super) holds: bool,
}

impl Line {
    /// The word for whether it holds.
    fn word(&self) -> &'static str {
        if self.holds { "ok" } else { "FAILED" }
    }
}

/// The table of all lines, and how many do not hold. A table of nothing proves nothing: it counts as one.
pub(super) fn page(lines: &[Line], ink: Ink) -> (String, usize) {
    let failed = lines.iter().filter(|line| !line.holds).count();
    let mut before = 0;
    let row = |line: &Line| {
        let chapter = if line.chapter == before { String::new() } else { line.chapter.to_string() };
        before = line.chapter;
        vec![chapter, line.word().to_owned(), line.claim.clone(), line.look.to_owned(), line.measured.clone()]
    };
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    let mut page = String::new();
    for (line, shown) in lines.iter().zip(show::table(&rows).lines()) {
        let shown = if line.holds { shown.to_owned() } else { ink.amber(shown) };
        page += &format!("   {shown}\n");
    }
    page += &format!("   {} of {} lines hold\n", lines.len() - failed, lines.len());
    (page, if lines.is_empty() { 1 } else { failed })
}

/// What a partner has of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    /// Its very text.
    Reads,
    /// An entry that is sealed to others.
    Sealed,
    /// Nothing at all.
    Nothing,
    /// Something that should not be, as the node itself says it.
    Odd(String),
}

impl fmt::Display for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reads => "reads",
            Self::Sealed => "sealed",
            Self::Nothing => "-",
            Self::Odd(state) => state,
        })
    }
}

/// Who sees what: a row for each document, a column for each partner.
pub(super) fn picture(partners: &[&str], documents: &[(&str, Vec<Sight>)]) -> String {
    let head = std::iter::once("").chain(partners.iter().copied()).map(str::to_owned).collect();
    let row = |(title, sights): &(&str, Vec<Sight>)| {
        std::iter::once((*title).to_owned()).chain(sights.iter().map(Sight::to_string)).collect()
    };
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(documents.iter().map(row)).collect();
    show::table(&rows)
}

/// How many of those who were asked answered as is claimed; and the names of those who did not.
#[derive(Debug, Default)]
pub(super) struct Tally {
    right: usize,
    wrong: Vec<String>,
}

impl Tally {
    /// Counts an answer.
    pub(super) fn count(&mut self, who: &str, right: bool) {
        if right {
            self.right += 1;
        } else {
            self.wrong.push(who.to_owned());
        }
    }

    /// Whether anybody was asked, and all answered as is claimed.
    pub(super) fn all(&self) -> bool {
        self.right > 0 && self.wrong.is_empty()
    }

    /// The count in words, such as "8 of 9 read it; not IBD".
    pub(super) fn say(&self, what: &str) -> String {
        let count = format!("{} of {} {what}", self.right, self.right + self.wrong.len());
        if self.wrong.is_empty() { count } else { format!("{count}; not {}", self.wrong.join(", ")) }
    }
}

/// A text in which keys and ids are short, for a table that people read.
pub(super) fn shorten(text: &str) -> String {
    let short = |word: &str| {
        let digits: usize = word.chars().take_while(char::is_ascii_hexdigit).count();
        if digits < KEY_DIGITS { word.to_owned() } else { format!("{}…{}", &word[..DIGITS], &word[digits..]) }
    };
    text.split(' ').map(short).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(claim: &str, holds: bool) -> Line {
        Line { chapter: 2, claim: claim.to_owned(), measured: "so".to_owned(), look: "cwn read", holds }
    }

    #[test]
    fn a_line_that_does_not_hold_is_counted_and_stands_out() {
        let (page, failed) = page(&[line("one", true), line("three", false)], Ink::Plain);
        assert_eq!(failed, 1);
        let expected = "   2  ok      one    cwn read  so\n      FAILED  three  cwn read  so\n   1 of 2 lines hold\n";
        assert_eq!(page, expected, "a chapter is numbered once");
    }

    #[test]
    fn a_table_of_nothing_does_not_hold() {
        assert_eq!(page(&[], Ink::Plain).1, 1);
    }

    #[test]
    fn colour_is_for_what_does_not_hold() {
        let (page, _) = page(&[line("one", true), line("three", false)], Ink::Colour);
        assert_eq!(page.matches('\x1b').count(), 2);
    }

    #[test]
    fn the_picture_has_a_column_for_each_partner() {
        let documents =
            [("advisory", vec![Sight::Reads, Sight::Sealed]), ("indicators", vec![Sight::Nothing, Sight::Reads])];
        let shown = picture(&["NCSC", "IBD"], &documents);
        assert_eq!(shown, "            NCSC   IBD\nadvisory    reads  sealed\nindicators  -      reads\n");
    }

    #[test]
    fn a_tally_names_those_who_answered_otherwise() {
        let mut tally = Tally::default();
        assert!(!tally.all(), "nobody was asked");
        tally.count("NCSC", true);
        assert!(tally.all());
        tally.count("IBD", false);
        assert!(!tally.all());
        assert_eq!(tally.say("read it"), "1 of 2 read it; not IBD");
    }

    #[test]
    fn keys_are_short_and_other_words_are_whole() {
        let text = format!("for network {}, not decade", "ab".repeat(32));
        assert_eq!(shorten(&text), "for network abababab…, not decade");
    }
}
