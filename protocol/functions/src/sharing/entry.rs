//! The report: title, Markdown body, references.

use cwn_crypto::{PartnerId, PublicKey, encoding};
use cwn_engine::{limits, log::CircleId};
use minicbor::{Decode, Encode};

use crate::{
    marking::{Pap, Tlp},
    payload::{self, AttachmentRef, Payload},
    text,
};

/// The kind of a report.
pub const REPORT: &str = "report";
/// The kind of what its author says when it takes an entry back.
pub const RETRACTION: &str = "retraction";

const TITLE_CHARS: usize = 200;
const BODY_BYTES: usize = 256 << 10;
const REFERENCES: usize = 64;
const REFERENCE_BYTES: usize = 500;
const REASON_CHARS: usize = 2_000;

/// A report.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Report {
    /// Its title, one line.
    #[n(0)]
    pub title: String,
    /// Its body, in Markdown (CommonMark).
    #[n(1)]
    pub body: String,
    /// Where more stands: URLs, CVE numbers, references of entries.
    #[n(2)]
    pub references: Vec<String>,
}

/// What its author says when it takes an entry back. That it does so stands in the header, where members see it who
/// cannot open this.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Retraction {
    /// Why; it may be empty.
    #[n(0)]
    pub reason: String,
}

/// What this version knows to show of an entry of this function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A report.
    Report(Report),
    /// A retraction.
    Retraction(Retraction),
}

impl Content {
    /// What is in a payload; none when it is of a kind that this version does not know.
    pub fn from_payload(payload: &Payload) -> Result<Option<Self>, Refusal> {
        match payload.kind.as_str() {
            RETRACTION => {
                let retraction: Retraction = payload::decode_sealed(&payload.body)?;
                retraction.check()?;
                Ok(Some(Self::Retraction(retraction)))
            }
            _ => Ok(Report::from_payload(payload)?.map(Self::Report)),
        }
    }

    /// What a list shows of it.
    pub fn title(&self) -> &str {
        match self {
            Self::Report(report) => &report.title,
            Self::Retraction(retraction) => &retraction.reason,
        }
    }
}

impl Retraction {
    fn check(&self) -> Result<(), Refusal> {
        if self.reason.chars().count() > REASON_CHARS || self.reason.chars().any(|c| c.is_control() && c != '\n') {
            return Err(Refusal::Reason);
        }
        Ok(())
    }
}

/// Why something is not a report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The title cannot be shown.
    #[error("a title is one line of 1 to {TITLE_CHARS} characters, without control characters")]
    Title,
    /// The body is too long.
    #[error("a body of {length} bytes, where a report has at most {BODY_BYTES}; attach the text as a file instead")]
    Body {
        /// How long.
        length: usize,
    },
    /// The references are too many or too long.
    #[error("a report has at most {REFERENCES} references, each one line of at most {REFERENCE_BYTES} bytes")]
    References,
    /// The reason cannot be shown.
    #[error("a reason has at most {REASON_CHARS} characters, and no control characters")]
    Reason,
    /// It does not decode.
    #[error("the report inside is not one that this version can read: {0}")]
    Encoding(#[from] encoding::Refusal),
    /// The payload around it does not hold.
    #[error(transparent)]
    Payload(#[from] payload::Refusal),
}

impl Report {
    fn check(&self) -> Result<(), Refusal> {
        if !(1..=TITLE_CHARS).contains(&self.title.chars().count()) || !text::is_one_line(&self.title) {
            return Err(Refusal::Title);
        }
        if self.body.len() > BODY_BYTES {
            return Err(Refusal::Body { length: self.body.len() });
        }
        let fits = |reference: &String| reference.len() <= REFERENCE_BYTES && text::is_one_line(reference);
        if self.references.len() > REFERENCES || !self.references.iter().all(fits) {
            return Err(Refusal::References);
        }
        Ok(())
    }

    /// The report in a payload; none when it is of another kind. Fields of later versions are passed over.
    pub fn from_payload(payload: &Payload) -> Result<Option<Self>, Refusal> {
        if payload.kind != REPORT {
            return Ok(None);
        }
        if payload.body.len() > limits::PAYLOAD_BYTES {
            return Err(Refusal::Body { length: payload.body.len() });
        }
        let report: Self = payload::decode_sealed(&payload.body)?;
        report.check()?;
        Ok(Some(report))
    }
}

/// The payload that goes with taking back an entry: for the same readers, under the same marking.
pub fn retraction_payload(of: &Payload, retraction: &Retraction) -> Result<Payload, Refusal> {
    retraction.check()?;
    let (kind, body) = (RETRACTION.to_owned(), encoding::to_bytes(retraction));
    let payload = Payload { kind, body, pap: None, attachments: Vec::new(), ..of.clone() };
    payload.to_bytes()?;
    Ok(payload)
}

/// The payload that carries a report.
pub fn report_payload(
    author: PublicKey,
    circle: CircleId,
    tlp: Tlp,
    pap: Option<Pap>,
    addressees: Vec<PartnerId>,
    report: &Report,
    attachments: Vec<AttachmentRef>,
) -> Result<Payload, Refusal> {
    report.check()?;
    let body = encoding::to_bytes(report);
    let payload = Payload { kind: REPORT.to_owned(), tlp, pap, author, circle, addressees, body, attachments };
    payload.to_bytes()?;
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use cwn_crypto::Hash;

    use super::*;

    fn report() -> Report {
        Report { title: "Titel".to_owned(), body: "# Kop".to_owned(), references: vec!["CVE-2026-0001".to_owned()] }
    }

    fn payload(report: &Report) -> Result<Payload, Refusal> {
        let circle = CircleId(Hash([2; 32]));
        report_payload(PublicKey([1; 32]), circle, Tlp::Green, None, Vec::new(), report, Vec::new())
    }

    #[test]
    fn a_report_is_read_back_as_it_was_written() {
        assert_eq!(Report::from_payload(&payload(&report()).unwrap()), Ok(Some(report())));
    }

    #[test]
    fn a_title_of_two_lines_or_of_none_is_refused() {
        for title in ["", "a\nb", "a\x1b[2Jb", &"x".repeat(TITLE_CHARS + 1)] {
            assert_eq!(payload(&Report { title: title.to_owned(), ..report() }), Err(Refusal::Title));
        }
    }

    #[test]
    fn a_body_that_is_too_long_says_to_attach_it() {
        let refusal = payload(&Report { body: "x".repeat(BODY_BYTES + 1), ..report() }).unwrap_err();
        assert!(refusal.to_string().contains("attach"), "{refusal}");
    }

    #[test]
    fn a_flood_of_references_is_refused() {
        let references = vec!["x".to_owned(); REFERENCES + 1];
        assert_eq!(payload(&Report { references, ..report() }), Err(Refusal::References));
    }

    #[test]
    fn a_field_of_a_later_version_is_passed_over() {
        #[derive(Encode)]
        struct Later(#[n(0)] String, #[n(1)] String, #[n(2)] Vec<String>, #[n(3)] u32);
        let body = minicbor::to_vec(Later("Titel".to_owned(), "Tekst".to_owned(), Vec::new(), 7)).unwrap();
        let payload = Payload { body, ..payload(&report()).unwrap() };
        assert_eq!(Report::from_payload(&payload).unwrap().map(|report| report.title).as_deref(), Some("Titel"));
    }

    #[test]
    fn another_kind_is_not_taken_for_a_report() {
        let payload = Payload { kind: "survey".to_owned(), ..payload(&report()).unwrap() };
        assert_eq!(Report::from_payload(&payload), Ok(None));
    }

    #[test]
    fn a_later_field_that_nests_deeply_is_passed_over_without_harm() {
        let mut body = minicbor::to_vec(report()).unwrap();
        body[0] = 0x84;
        body.extend(vec![0x81; 200_000]);
        body.push(0);
        let payload = Payload { body, ..payload(&report()).unwrap() };
        assert_eq!(Report::from_payload(&payload), Ok(Some(report())));
    }

    #[test]
    fn nothing_may_follow_a_report() {
        let mut payload = payload(&report()).unwrap();
        payload.body.push(0);
        assert!(matches!(Report::from_payload(&payload), Err(Refusal::Encoding(_))));
    }
}
