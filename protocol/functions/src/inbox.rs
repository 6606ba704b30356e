//! Opened entries as rows of a list: no more plaintext than a list needs, of RED none.

use cwn_crypto::{PublicKey, Time, issuer_log::LogId};
use cwn_engine::log::CircleId;
use minicbor::{Decode, Encode};

use crate::{marking::Tlp, payload::Payload, sharing::Content, text};

/// Names one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct EntryId {
    /// Its circle.
    #[n(0)]
    pub circle: CircleId,
    /// Its author.
    #[n(1)]
    pub author: PublicKey,
    /// Its log.
    #[n(2)]
    pub log: LogId,
    /// Its place in the log.
    #[n(3)]
    pub seq: u64,
}

/// What became of opening an entry.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum RowState {
    /// It can be read.
    #[n(0)]
    Opened,
    /// It is sealed to others.
    #[n(1)]
    NotForUs,
    /// It is sealed to this node, and yet cannot be read.
    #[n(2)]
    Unreadable(#[n(0)] String),
    /// It opens, but is of a kind that this version does not know.
    #[n(3)]
    UnknownKind,
    /// Its author took it back.
    #[n(4)]
    Retracted,
    /// It expired, as its author wanted, and what was in it is no longer held here.
    #[n(5)]
    Expired,
    /// It is older than the circle keeps what is published, and what was in it is no longer held here.
    #[n(6)]
    Dropped,
}

impl RowState {
    /// A word for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::NotForUs => "not_for_us",
            Self::Unreadable(_) => "unreadable",
            Self::UnknownKind => "unknown_kind",
            Self::Retracted => "retracted",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
        }
    }
}

/// A row of the inbox.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Row {
    /// Which entry.
    #[n(0)]
    pub id: EntryId,
    /// When its author says it was written.
    #[n(1)]
    pub time: Time,
    /// Whether that lies ahead of the clock here.
    #[n(2)]
    pub clock_doubtful: bool,
    /// What became of opening it.
    #[n(3)]
    pub state: RowState,
    /// Its kind; empty where it was not opened.
    #[n(4)]
    pub kind: String,
    /// Its marking, where it was opened.
    #[n(5)]
    pub tlp: Option<Tlp>,
    /// Its title, where a list may hold it.
    #[n(6)]
    pub title: Option<String>,
    /// How many attachments.
    #[n(7)]
    pub attachments: u32,
}

impl Row {
    /// The row of an entry that was opened.
    pub fn opened(id: EntryId, time: Time, payload: &Payload) -> Self {
        let content = Content::from_payload(payload);
        let state = match &content {
            Ok(Some(_)) => RowState::Opened,
            Ok(None) => RowState::UnknownKind,
            Err(refusal) => RowState::Unreadable(refusal.to_string()),
        };
        let title = match &content {
            Ok(Some(content)) if payload.tlp < Tlp::Red => Some(text::one_line(content.title())),
            _ => None,
        };
        let attachments = u32::try_from(payload.attachments.len()).unwrap_or(u32::MAX);
        let kind = payload.kind.clone();
        Self { id, time, clock_doubtful: false, state, kind, tlp: Some(payload.tlp), title, attachments }
    }

    /// The row of an entry that was not.
    pub fn closed(id: EntryId, time: Time, state: RowState) -> Self {
        let kind = String::new();
        Self { id, time, clock_doubtful: false, state, kind, tlp: None, title: None, attachments: 0 }
    }

    /// This row, with doubt about the clock when the entry's time lies beyond `latest`.
    pub fn seen(self, latest: Time) -> Self {
        Self { clock_doubtful: self.time > latest, ..self }
    }
}

#[cfg(test)]
mod tests {
    use cwn_crypto::Hash;

    use super::*;
    use crate::sharing::{self, Report};

    const ID: EntryId =
        EntryId { circle: CircleId(Hash([2; 32])), author: PublicKey([1; 32]), log: LogId([3; 16]), seq: 0 };

    fn payload(tlp: Tlp) -> Payload {
        let report = Report { title: "Titel".to_owned(), body: "Tekst".to_owned(), references: Vec::new() };
        let to = vec!["ferm".parse().unwrap()];
        sharing::report_payload(ID.author, ID.circle, tlp, None, to, &report, Vec::new()).unwrap()
    }

    #[test]
    fn a_list_shows_the_title_of_what_was_opened() {
        let row = Row::opened(ID, Time(1), &payload(Tlp::Amber));
        assert_eq!((row.title.as_deref(), row.state), (Some("Titel"), RowState::Opened));
    }

    #[test]
    fn i11_a_list_holds_no_plaintext_of_red() {
        let row = Row::opened(ID, Time(1), &payload(Tlp::Red));
        assert_eq!(row.title, None);
        let bytes = cwn_crypto::encoding::to_bytes(&row);
        assert!(!bytes.windows(5).any(|window| window == b"Titel" || window == b"Tekst"));
    }

    #[test]
    fn a_kind_of_a_later_version_is_shown_as_such() {
        let payload = Payload { kind: "weather".to_owned(), ..payload(Tlp::Green) };
        let row = Row::opened(ID, Time(1), &payload);
        assert_eq!((row.state, row.kind.as_str()), (RowState::UnknownKind, "weather"));
    }

    #[test]
    fn an_entry_from_the_future_is_doubted_and_shown() {
        assert!(Row::closed(ID, Time(2_000), RowState::NotForUs).seen(Time(1_000)).clock_doubtful);
        assert!(!Row::closed(ID, Time(1_000), RowState::NotForUs).seen(Time(1_000)).clock_doubtful);
    }
}
