//! Signed things as a block of text that survives mail.
//!
//! ```text
//! -----BEGIN CWN CERTIFICATE-----
//! base64 (RFC 4648), 64 characters a line
//! =the first four bytes of a hash over the label and the bytes, in base64
//! -----END CWN CERTIFICATE-----
//! ```
//!
//! The check is no protection, for what is inside is signed; it lets a block that was cut or altered by
//! accident be told from one that was forged. This module refuses to know what the bytes mean.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD as BASE64};

use crate::encoding::{Domain, Hash};

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// A [`crate::root::SignedRoot`].
    RootDocument,
    /// A [`crate::certificate::SignedCertificate`].
    Certificate,
    /// A [`crate::authority::SignedRequest`].
    Request,
    /// The entries of an issuer's log, as the engine exports them.
    IssuerLog,
    /// What the enrolment desk answers, sealed to the node that asked.
    Reply,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RootDocument => "ROOT DOCUMENT",
            Self::Certificate => "CERTIFICATE",
            Self::Request => "REQUEST",
            Self::IssuerLog => "ISSUER LOG",
            Self::Reply => "REPLY",
        })
    }
}

/// Why no bytes came out of a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no block in it.
    #[error("there is no CWN {0} here; paste everything from BEGIN to END, without the '>' of a quoted mail")]
    NoBlock(Label),
    /// The block holds something else.
    #[error("this is a CWN {found}, where a CWN {expected} is needed; give the other file")]
    WrongLabel {
        /// What was needed.
        expected: Label,
        /// The label that stands there, shortened.
        found: String,
    },
    /// A line is not base64.
    #[error("line {line} of the text is damaged: it is not base64; copy the CWN {label} again")]
    BadLine {
        /// What was needed.
        label: Label,
        /// The line, from 1.
        line: usize,
    },
    /// The block stops before its check or its last line.
    #[error("the CWN {0} is cut short; paste everything up to and including its END line")]
    Cut(Label),
    /// The check does not match: lines are missing, or characters changed.
    #[error("the CWN {0} was altered or misses lines on the way; copy it again, as plain text")]
    Altered(Label),
    /// More than such a block may hold.
    #[error("the CWN {label} holds more than the {limit} bytes allowed; it was not made by this software")]
    TooLong {
        /// What was needed.
        label: Label,
        /// The bytes it may hold.
        limit: usize,
    },
}

const COLUMNS: usize = 64;
const BEGIN: &str = "-----BEGIN CWN ";
const DASHES: &str = "-----";

/// The block for `bytes`, with a line break at its end.
pub fn armour(label: Label, bytes: &[u8]) -> String {
    let mut text = format!("{BEGIN}{label}{DASHES}\n");
    let mut column = 0;
    for character in BASE64.encode(bytes).chars() {
        if column == COLUMNS {
            text.push('\n');
            column = 0;
        }
        text.push(character);
        column += 1;
    }
    if column > 0 {
        text.push('\n');
    }
    text.push_str(&format!("={}\n{}\n", check(label, bytes), end(label)));
    text
}

/// The bytes of the first block in `text`, which must be a `label` of at most `limit` bytes. What stands
/// before and after it is passed over, and so are spaces around its lines.
pub fn dearmour(label: Label, text: &str, limit: usize) -> Result<Vec<u8>, Refusal> {
    let mut lines = text.lines().map(str::trim).zip(1..);
    let found =
        lines.find_map(|(line, _)| line.strip_prefix(BEGIN)?.strip_suffix(DASHES)).ok_or(Refusal::NoBlock(label))?;
    if found != label.to_string() {
        return Err(Refusal::WrongLabel { expected: label, found: found.chars().take(40).collect() });
    }
    let mut base64 = String::new();
    let longest = limit.div_ceil(3).saturating_mul(4);
    for (line, number) in lines.by_ref() {
        if let Some(stated) = line.strip_prefix('=') {
            // An END line straight after the check, or the block goes on in another paste.
            let (last, _) = lines.find(|(line, _)| !line.is_empty()).ok_or(Refusal::Cut(label))?;
            return if last == end(label) { decode(label, &base64, stated, limit) } else { Err(Refusal::Cut(label)) };
        }
        if line.starts_with(DASHES) {
            return Err(Refusal::Cut(label));
        }
        if !line.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')) {
            return Err(Refusal::BadLine { label, line: number });
        }
        if base64.len() + line.len() > longest {
            return Err(Refusal::TooLong { label, limit });
        }
        base64.push_str(line);
    }
    Err(Refusal::Cut(label))
}

fn decode(label: Label, base64: &str, stated: &str, limit: usize) -> Result<Vec<u8>, Refusal> {
    let bytes = BASE64.decode(base64).map_err(|_which_character| Refusal::Altered(label))?;
    if bytes.len() > limit {
        return Err(Refusal::TooLong { label, limit });
    }
    if check(label, &bytes) == stated { Ok(bytes) } else { Err(Refusal::Altered(label)) }
}

fn end(label: Label) -> String {
    format!("-----END CWN {label}{DASHES}")
}

fn check(label: Label, bytes: &[u8]) -> String {
    let label = label.to_string();
    // The line break, which no label contains, keeps the label and the bytes apart.
    let hash = Hash::of(Domain::ARMOUR, &[label.as_bytes(), b"\n", bytes]);
    BASE64.encode(&hash.0[..4])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> String {
        armour(Label::Certificate, &(0..=255).collect::<Vec<u8>>())
    }

    fn read(text: &str) -> Result<Vec<u8>, Refusal> {
        dearmour(Label::Certificate, text, 256)
    }

    #[test]
    fn a_block_is_found_in_a_mail_with_its_greetings_and_line_ends() {
        let mail = format!("Dear all,\n\nsee below.\n{}\n-- \nAnna\n", block()).replace('\n', "\r\n");
        assert_eq!(read(&mail), Ok((0..=255).collect()));
        assert_eq!(read(&block().replace('\n', "\n   ")), Ok((0..=255).collect()));
        assert_eq!(dearmour(Label::Reply, &armour(Label::Reply, b""), 0), Ok(vec![]));
    }

    #[test]
    fn lines_are_64_characters_at_most() {
        assert!(block().lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn a_block_of_another_kind_names_both_kinds() {
        let refusal = dearmour(Label::Request, &block(), 256).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "this is a CWN CERTIFICATE, where a CWN REQUEST is needed; give the other file"
        );
    }

    #[test]
    fn a_damaged_line_is_named() {
        let mut damaged: Vec<_> = block().lines().map(str::to_owned).collect();
        damaged[2].replace_range(3..4, "*");
        assert_eq!(read(&damaged.join("\n")), Err(Refusal::BadLine { label: Label::Certificate, line: 3 }));
    }

    #[test]
    fn a_missing_line_or_another_character_is_said() {
        let mut lines: Vec<_> = block().lines().map(str::to_owned).collect();
        lines.remove(2);
        assert_eq!(read(&lines.join("\n")), Err(Refusal::Altered(Label::Certificate)));
        let altered = block().replacen("AAEC", "AAED", 1);
        assert_ne!(altered, block());
        assert_eq!(read(&altered), Err(Refusal::Altered(Label::Certificate)));
    }

    #[test]
    fn a_block_that_is_cut_anywhere_is_refused() {
        let text = block();
        for length in 0..text.trim_end().len() {
            let refusal = read(&text[..length]).unwrap_err();
            let expected = [Refusal::Cut(Label::Certificate), Refusal::NoBlock(Label::Certificate)];
            assert!(expected.contains(&refusal), "cut at {length}: {refusal}");
        }
    }

    #[test]
    fn more_than_the_limit_is_refused() {
        let refusal = Err(Refusal::TooLong { label: Label::Certificate, limit: 255 });
        assert_eq!(dearmour(Label::Certificate, &block(), 255), refusal);
        assert_eq!(
            dearmour(Label::Certificate, &block(), 10),
            Err(Refusal::TooLong { label: Label::Certificate, limit: 10 })
        );
    }

    #[test]
    fn text_without_a_block_says_what_to_paste() {
        assert_eq!(read("hello"), Err(Refusal::NoBlock(Label::Certificate)));
        assert_eq!(read(&block().replace("-----", "> -----")), Err(Refusal::NoBlock(Label::Certificate)));
    }
}
