//! What the local API says and takes: the JSON of every face, and the one list of it.
//!
//! Keys and ids are lower-case hexadecimal, times milliseconds since 1970-01-01T00:00:00Z. Fields may be
//! added; a client ignores those it does not know.

use serde::{Deserialize, Serialize};

/// An error, as every path answers one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What went wrong and what to do, for a person.
    pub error: String,
    /// A short word for programs: `not_found`, `refused`, `not_current`, `bad_request`, `read_only`, `broken`.
    pub code: String,
}

/// `GET /v1/status`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// Since when it runs.
    pub since: u64,
    /// This node's key.
    pub node: String,
    /// Its fingerprint in words, to compare by telephone.
    pub fingerprint: String,
    /// Its partner.
    pub partner: String,
    /// Its partner's full name.
    pub partner_name: String,
    /// The network's id.
    pub network: String,
    /// The network's name.
    pub network_name: String,
    /// The certificate.
    pub certificate: CertificateStatus,
    /// When the issuer last said something, if anything was heard; older than a day is shown as a warning.
    pub issuer_word: Option<u64>,
    /// The version of the root document.
    pub root_version: u32,
    /// Where it listens.
    pub listening: Vec<String>,
    /// Connected peers.
    pub peers: usize,
    /// Whether its configuration keeps it from connecting with anybody.
    #[serde(default)]
    pub offline: bool,
    /// Frames that went out on live streams since the start.
    pub live_frames: u64,
    /// And their bytes.
    pub live_bytes: u64,
    /// For how many connections a protocol handler was built since the start: for no stranger, ever.
    pub handlers_built: u64,
    /// The circles.
    pub circles: Vec<CircleSummary>,
    /// Circles offered and not decided.
    pub offers: Vec<OfferSummary>,
    /// How many drafts are kept, not yet sealed.
    #[serde(default)]
    pub drafts: usize,
    /// How many of them wait for a person.
    #[serde(default)]
    pub drafts_for_a_person: usize,
    /// The data directory.
    pub data: String,
    /// Things a person should look at, each with what to do.
    pub warnings: Vec<String>,
    /// Whether the store still takes writes.
    pub read_only: bool,
}

/// How a certificate stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Its serial number.
    pub serial: u64,
    /// From when.
    pub not_before: u64,
    /// Until when.
    pub not_after: u64,
    /// `valid`, `grace`, `expired`, `not_yet` or `revoked`.
    pub standing: String,
}

/// A circle in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CircleSummary {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The highest marking.
    pub ceiling: String,
    /// How many partners belong.
    pub partners: usize,
    /// How many entries are accepted here.
    pub entries: u64,
    /// Whether this node belongs.
    pub member: bool,
    /// Whether this node is a steward.
    pub steward: bool,
    /// Whether it has heard enough since its start to be sure of who belongs.
    pub current: bool,
    /// Partners that must be heard first, when it is not.
    pub unheard: Vec<String>,
    /// How many entries connected peers are known to hold and this node lacks.
    pub behind: u64,
    /// How many connected peers share it.
    pub peers: usize,
    /// With how many of those it is still being compared what either holds.
    #[serde(default)]
    pub comparing: usize,
    /// How many entries are held beyond the cuts of removals, that a steward may raise.
    #[serde(default)]
    pub withheld_entries: u64,
    /// How many of the nodes that belong are revoked, and wait for a steward to remove them.
    #[serde(default)]
    pub revoked_nodes: usize,
    /// Of how many nodes there is more than their quota lets others take.
    #[serde(default)]
    pub nodes_over_quota: usize,
    /// Partners of whom no node is connected: what they wrote meanwhile may be unknown here.
    #[serde(default)]
    pub unreachable: Vec<String>,
    /// Partners that are connected and say nothing of this circle: they have not accepted it, or they or this node was
    /// removed, and whoever is no longer told of a circle is not told that either.
    #[serde(default)]
    pub silent: Vec<String>,
    /// Partners of whom nothing shows yet that they joined, on a steward's node; on others' it is not known, and these are
    /// among those that are unreachable or silent.
    #[serde(default)]
    pub not_joined: Vec<String>,
    /// Whether there is a steward that could remove this node.
    #[serde(default)]
    pub removable: bool,
}

/// A circle that was offered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OfferSummary {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The founder's partner.
    pub founder: String,
    /// The partners in it.
    pub partners: Vec<String>,
    /// Who offered it, by partner.
    pub from: Vec<String>,
    /// What it is for.
    pub description: String,
    /// The highest marking.
    pub ceiling: String,
    /// The circle that it claims to succeed.
    #[serde(default)]
    pub succeeds: Option<SuccessionView>,
}

/// That one circle goes on for another, as its founder says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuccessionView {
    /// The other of the two circles.
    pub circle: String,
    /// Its name, if this node is in it or is offered it.
    pub name: Option<String>,
    /// The partner of who founded the one that succeeds.
    pub founder: String,
    /// `holds`: the founder belonged to the succeeded circle; `unfounded`: it did not; `unknown`: this node does not
    /// hold that circle and cannot tell.
    pub standing: String,
    /// Whether the founder belongs to the succeeded circle still, if it did.
    pub belongs: bool,
    /// Whether this node is in the other of the two circles.
    pub joined: bool,
}

/// `POST /v1/status/acknowledge`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The circles in which this node's key was in use elsewhere, and of which no more is said until it shows again.
    pub circles: Vec<String>,
}

/// `GET /v1/circles/{id}`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CircleDetail {
    /// The line of the list.
    #[serde(flatten)]
    pub summary: CircleSummary,
    /// What it is for.
    pub description: String,
    /// The functions it is for.
    #[serde(default)]
    pub purposes: Vec<String>,
    /// When it was founded.
    pub founded: u64,
    /// What newcomers can open of what is written now: `none` or `all`.
    #[serde(default)]
    pub history: String,
    /// Days after which this node drops what was published; for ever when there are none.
    #[serde(default)]
    pub kept_days: Option<u32>,
    /// Fewer days, which the policy says and this node does not act on yet.
    #[serde(default)]
    pub kept_less: Option<KeptLess>,
    /// The nodes that count.
    pub members: Vec<MemberView>,
    /// Operations that the rules set aside, in words, for stewards to issue again or not.
    pub voided: Vec<String>,
    /// Operations that only a later version of this program understands.
    #[serde(default)]
    pub later_operations: usize,
    /// Logs of which their author signed two entries for one place.
    #[serde(default)]
    pub forks: Vec<ForkView>,
    /// The circle that it succeeds.
    #[serde(default)]
    pub succeeds: Option<SuccessionView>,
    /// The circles that succeed it, each founded by somebody who belonged to it.
    #[serde(default)]
    pub succeeded_by: Vec<SuccessionView>,
    /// What is held beyond the cuts of removals.
    #[serde(default)]
    pub withheld: Vec<WithheldView>,
    /// How much of one node's content is taken.
    #[serde(default)]
    pub quota: QuotaView,
    /// How much of it this node used.
    #[serde(default)]
    pub used: QuotaView,
    /// The nodes of which there is more.
    #[serde(default)]
    pub over_quota: Vec<OverQuotaView>,
}

/// What one node holds beyond the cut of another's removal: not accepted, kept for a while, and then dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithheldView {
    /// The partner that was removed.
    pub partner: String,
    /// The node that wrote it.
    pub node: String,
    /// How many entries.
    pub entries: u64,
    /// How many bytes, sealed.
    pub bytes: u64,
    /// When it is dropped, or the first of it.
    pub until: u64,
    /// Who can have it accepted.
    #[serde(default)]
    pub raise: RaiseView,
}

/// Who can have something accepted that lies beyond a cut, or behind a fork, as far as rank goes: what they do not hold
/// they cannot accept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaiseView {
    /// Whether this node can.
    pub this: bool,
    /// The partners that can, best rank first.
    pub by: Vec<String>,
    /// Whether its author belongs, so that it must be removed first.
    pub belongs: bool,
}

/// A log that its author forked: what comes from the place on is disputed, and accepted by nobody unless a cut names a
/// branch. Of what it did as a steward two branches count, the same ones for everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkView {
    /// The author's partner.
    pub author: String,
    /// The author's node.
    pub node: String,
    /// The log.
    pub log: String,
    /// The first place that was signed twice, from 0.
    pub place: u64,
    /// Whether it is a log of what the author did as a steward.
    #[serde(default)]
    pub of_steward: bool,
    /// The branch that this node holds and nobody accepts, by the hash of its first entry.
    #[serde(default)]
    pub branch: Option<String>,
    /// How many entries that is.
    #[serde(default)]
    pub disputed: u64,
    /// Who can have that branch accepted.
    #[serde(default)]
    pub raise: RaiseView,
}

/// A node that counts in a circle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MemberView {
    /// Its partner.
    pub partner: String,
    /// The node.
    pub node: String,
    /// Its place among the stewards, best rank first, if it is one.
    pub steward: Option<u16>,
    /// Whether it founded the circle, and still is its steward.
    pub founder: bool,
    /// Whether it is connected and shares the circle.
    pub connected: bool,
    /// Whether its certificate is known and not revoked.
    pub certified: bool,
    /// Whether it is revoked.
    #[serde(default)]
    pub revoked: bool,
    /// Whether it is connected, be it that it does not share the circle.
    #[serde(default)]
    pub reachable: bool,
    /// Whether nothing shows yet that it joined, on a steward's node.
    #[serde(default)]
    pub not_joined: bool,
    /// Whether it is this node.
    pub this: bool,
}

/// `GET /v1/partners`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PartnerView {
    /// Its short name.
    pub partner: String,
    /// Its name.
    pub name: String,
    /// Its nodes.
    pub nodes: Vec<NodeView>,
}

/// A certified node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeView {
    /// Its key.
    pub node: String,
    /// Its fingerprint in words.
    pub fingerprint: String,
    /// Since when its certificate holds: how long this key was seen.
    pub certified_since: u64,
    /// Until when.
    pub not_after: u64,
    /// Why and when it was revoked.
    pub revoked: Option<String>,
    /// When somebody here compared the fingerprint by telephone.
    pub compared: Option<u64>,
    /// The addresses it announced.
    pub addresses: Vec<String>,
    /// Whether others can reach it from outside.
    pub anchor: bool,
    /// Whether it is connected.
    pub connected: bool,
    /// Whether it is this node.
    pub this: bool,
}

/// `GET /v1/peers`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerView {
    /// Its partner.
    pub partner: String,
    /// The node.
    pub node: String,
    /// Since when it is connected; none when it is not.
    pub since: Option<u64>,
    /// Whether this node dialled.
    pub dialled: bool,
    /// The node that relays the connection; none when it is direct.
    #[serde(default)]
    pub through: Option<String>,
    /// The version of the protocol that it says it speaks, while it is connected.
    #[serde(default)]
    pub version: Option<u16>,
    /// The names of the circles both showed a tag for.
    pub circles: Vec<String>,
    /// Whether all that it held there was caught up with.
    pub caught_up: bool,
    /// How its certificate stands: `valid` or `grace`.
    pub standing: String,
    /// Why the last attempt to reach it failed.
    pub last_failure: Option<String>,
}

/// `GET /v1/refusals`: connections that were refused lately.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RefusalView {
    /// When.
    pub at: u64,
    /// Who, if that far.
    pub node: Option<String>,
    /// From where.
    pub address: String,
    /// Why.
    pub reason: String,
}

/// `POST /v1/circles`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewCircle {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// The highest marking; AMBER+STRICT when none is given.
    #[serde(default)]
    pub ceiling: Option<String>,
    /// The functions it is for.
    #[serde(default)]
    pub purposes: Vec<String>,
    /// What newcomers can open of what came before them: `none`, when it is not given, or `all`.
    #[serde(default)]
    pub history: Option<String>,
    /// How much of one node others take; usual numbers for what is not given.
    #[serde(default)]
    pub quota: QuotaChange,
    /// Days after which members drop what was published; for ever when it is not given, or 0.
    #[serde(default)]
    pub retention_days: Option<u32>,
    /// Other stewards, by partner, in the order of their rank after this node.
    #[serde(default)]
    pub stewards: Vec<String>,
    /// The partners to add.
    #[serde(default)]
    pub partners: Vec<String>,
}

/// `POST /v1/circles/{id}/succeed`: a circle that goes on for this one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Succession {
    /// Its name.
    pub name: String,
    /// Other stewards, by partner, in the order of their rank after this node.
    #[serde(default)]
    pub stewards: Vec<String>,
    /// The partners to add; those of the succeeded circle when none is given. What it is for and how high it goes it
    /// takes from there too.
    #[serde(default)]
    pub partners: Vec<String>,
}

/// `POST /v1/bilateral`: the circle of this node's partner and another.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bilateral {
    /// The other partner.
    pub partner: String,
}

/// The bilateral circle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BilateralFounded {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it was founded now; else there was one already.
    pub founded: bool,
}

/// `POST /v1/root`: versions of the root document from a file, as `cwn ca root propose` wrote and the root key holders
/// signed it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootText {
    /// The armoured text.
    pub text: String,
}

/// What became of the root document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootAdopted {
    /// The version that was held before.
    pub before: u32,
    /// The version that is held now.
    pub version: u32,
}

/// `POST /v1/circles/{id}/policy`: what is not named stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyChange {
    /// The highest marking.
    #[serde(default)]
    pub ceiling: Option<String>,
    /// The functions it is for.
    #[serde(default)]
    pub purposes: Option<Vec<String>>,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// What newcomers can open of what is written from then on: `none` or `all`.
    #[serde(default)]
    pub history: Option<String>,
    /// How much of one node others take.
    #[serde(default)]
    pub quota: QuotaChange,
    /// Days after which members drop what was published; 0 for ever.
    #[serde(default)]
    pub retention_days: Option<u32>,
}

/// How much of one node others take in a circle: what is not given stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaChange {
    /// Bytes, sealed.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Entries.
    #[serde(default)]
    pub entries: Option<u64>,
    /// Logs: one for each start of the node in which it wrote something.
    #[serde(default)]
    pub logs: Option<u64>,
    /// Epochs: one for each change of who belongs after which it wrote something, and one a month.
    #[serde(default)]
    pub epochs: Option<u64>,
}

/// How much there is of one node in a circle, or may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaView {
    /// Bytes, sealed.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
    /// Logs.
    pub logs: u64,
    /// Epochs.
    pub epochs: u64,
}

/// A retention that was shortened: it is acted on a week after it was first seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLess {
    /// The days.
    pub days: u32,
    /// When it is acted on; not known while this node's clock is doubtful.
    pub at: Option<u64>,
}

/// A node of which there is more than its quota lets others take: the rest waits with those who have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverQuotaView {
    /// Its partner.
    pub partner: String,
    /// The node.
    pub node: String,
    /// How much of it is held here.
    pub used: QuotaView,
    /// How many entries more connected peers say they hold.
    pub waiting: u64,
}

/// `POST /v1/circles/{id}/raise`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raising {
    /// The partner that was removed.
    pub partner: String,
    /// One node of it; all when none is given.
    #[serde(default)]
    pub node: Option<String>,
    /// Branches of logs that it forked, each by the hash of its first entry or how that begins ([`ForkView::branch`]): just
    /// these are accepted. When none is given, what lies beyond the cut is.
    #[serde(default)]
    pub branches: Vec<String>,
}

/// `POST /v1/circles/{id}/add`, `…/remove`, `…/appoint`, `…/dismiss`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// The partner.
    pub partner: String,
    /// One node of it; all when none is given.
    #[serde(default)]
    pub node: Option<String>,
}

/// `POST /v1/partners/{partner}/compared`: the fingerprint was compared by telephone.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// The node.
    pub node: String,
}

/// `POST /v1/entries/{reference}/retract`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retract {
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// The answer where only an id comes back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Id {
    /// The id.
    pub id: String,
}

/// `POST /v1/entries`, and `POST /v1/audience` with the same body to see who would be able to read it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEntry {
    /// The circle, by name or id.
    pub circle: String,
    /// The marking; there is no default.
    pub tlp: String,
    /// PAP, if any.
    #[serde(default)]
    pub pap: Option<String>,
    /// The title, one line.
    pub title: String,
    /// The body, in Markdown.
    pub body: String,
    /// References.
    #[serde(default)]
    pub references: Vec<String>,
    /// The partners it is for; RED needs them, and is sealed to them alone.
    #[serde(default)]
    pub to: Vec<String>,
    /// Attachments, by the id that the upload gave.
    #[serde(default)]
    pub attachments: Vec<String>,
    /// How long to wait until this node is current in the circle.
    #[serde(default)]
    pub wait_seconds: Option<u64>,
    /// From when on nobody needs to keep it; members drop what is in it then.
    #[serde(default)]
    pub expires_at: Option<u64>,
}

/// Who will be able to read an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudienceView {
    /// The circle's name.
    pub circle: String,
    /// The marking as it will stand.
    pub tlp: String,
    /// The partners, with their names.
    pub partners: Vec<String>,
    /// How many nodes.
    pub nodes: usize,
    /// Nodes of the circle that get no key, because their certificates are revoked or unknown.
    pub left_out: Vec<String>,
    /// Whether it can be published now.
    pub current: bool,
    /// Partners that must be heard first, when it cannot.
    pub unheard: Vec<String>,
    /// What it would wait for as a draft, in words; nothing when it can be sealed now.
    #[serde(default)]
    pub awaited: Vec<String>,
    /// Partners that are connected and say nothing of the circle, where nobody else of it is connected and a steward may
    /// have removed this node: as those would say nothing if one had.
    #[serde(default)]
    pub only_silent: Vec<String>,
}

/// The answer to a publication: what became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Publication {
    /// It is published.
    Published(Published),
    /// It cannot be sealed yet, and is kept as a draft until it can be.
    Kept(DraftSummary),
}

/// A draft in a list, `GET /v1/drafts`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftSummary {
    /// Its name.
    pub id: String,
    /// The circle's id.
    pub circle: String,
    /// The circle's name.
    pub circle_name: String,
    /// The marking.
    pub tlp: String,
    /// The title; none for RED.
    pub title: Option<String>,
    /// When it was written.
    pub written: u64,
    /// The partners it was written for.
    pub partners: Vec<String>,
    /// What it waits for, in words. When that has come it is published by itself.
    pub awaited: Vec<String>,
    /// Why it will not be published without a person, if so.
    pub needs: Option<String>,
}

impl CircleSummary {
    /// Whether all that is to be seen of it is what somebody sees who was removed: whoever was is told so by nobody.
    pub(crate) fn may_be_removed(&self) -> bool {
        self.member && self.removable && self.peers == 0 && !self.silent.is_empty()
    }
}

impl DraftSummary {
    /// Why it is not sealed, and how it comes to be.
    pub(crate) fn not_yet_sealed(&self) -> String {
        match &self.needs {
            Some(needs) => format!("not yet sealed: {needs}"),
            None => format!(
                "not yet sealed: {}; it is published by itself then, or at once and on record with --anyway REASON",
                self.awaited.join(", and ")
            ),
        }
    }

    /// Of a draft that does not open.
    pub(crate) fn unread(id: String) -> Self {
        Self {
            id,
            circle: String::new(),
            circle_name: String::new(),
            tlp: String::new(),
            title: None,
            written: 0,
            partners: Vec::new(),
            awaited: Vec::new(),
            needs: None,
        }
    }
}

/// `GET /v1/drafts/{id}`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DraftDetail {
    /// The line of the list.
    #[serde(flatten)]
    pub summary: DraftSummary,
    /// The body, in Markdown.
    pub body: String,
    /// PAP.
    pub pap: Option<String>,
    /// References.
    pub references: Vec<String>,
    /// The partners it names.
    pub to: Vec<String>,
    /// The names of its attachments.
    pub attached: Vec<String>,
    /// Who could read it if it were published now; none when it cannot be.
    pub audience: Option<AudienceView>,
    /// With which nodes.
    pub readers: Vec<String>,
    /// Partners of those of them that could not have read it when it was written.
    pub added: Vec<String>,
}

/// `POST /v1/drafts/{id}/publish`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishDraft {
    /// The nodes that a person confirmed as its readers. It is sealed to no other.
    pub readers: Vec<String>,
    /// Why it is sealed before what it waits for has come. Goes on record.
    #[serde(default)]
    pub anyway: Option<String>,
}

/// The answer to a publication that was published.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Published {
    /// The short reference.
    pub reference: String,
    /// The entry's hash.
    pub hash: String,
    /// The circle's id.
    pub circle: String,
    /// The audience.
    pub audience: AudienceView,
}

/// An entry in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EntrySummary {
    /// The short reference.
    pub reference: String,
    /// The circle's id.
    pub circle: String,
    /// The circle's name.
    pub circle_name: String,
    /// The author's partner.
    pub author: String,
    /// When the author says it was written.
    pub time: u64,
    /// When it was first seen here.
    pub first_seen: u64,
    /// Whether the claimed time lies ahead of the clock here.
    pub clock_doubtful: bool,
    /// The kind.
    pub kind: String,
    /// The marking.
    pub tlp: String,
    /// The title; none for RED and for what cannot be opened.
    pub title: Option<String>,
    /// How many attachments.
    pub attachments: u32,
    /// `opened`, `not_for_us`, `unreadable`, `unknown_kind`, `retracted`, `expired`, `dropped`.
    pub state: String,
    /// Whether its author's certificate was revoked.
    pub author_revoked: bool,
}

/// `GET /v1/entries/{reference}`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EntryDetail {
    /// The line of the list.
    #[serde(flatten)]
    pub summary: EntrySummary,
    /// The entry's hash.
    pub hash: String,
    /// The author's node.
    pub node: String,
    /// Why it cannot be read, if so.
    pub unreadable: Option<String>,
    /// From when on nobody keeps it, as its author wanted.
    #[serde(default)]
    pub expires_at: Option<u64>,
    /// The body, in Markdown.
    pub body: Option<String>,
    /// PAP.
    pub pap: Option<String>,
    /// References.
    pub references: Vec<String>,
    /// The partners it names.
    pub to: Vec<String>,
    /// The attachments.
    pub attached: Vec<AttachmentView>,
    /// The entry that it takes back, where that is known here.
    #[serde(default)]
    pub takes_back: Option<String>,
    /// What took it back, where that is known here.
    #[serde(default)]
    pub taken_back: Option<TakenBack>,
}

/// What took an entry back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TakenBack {
    /// Its reference.
    pub by: String,
    /// Why; empty where its author did not say, or where it cannot be read.
    pub reason: String,
}

/// An attachment of an entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttachmentView {
    /// Its name.
    pub name: String,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// How many of its chunks are here.
    pub chunks_here: u32,
    /// How many there are.
    pub chunks: u32,
}

/// `POST /v1/attachments?circle=&name=`: the body is the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Uploaded {
    /// The id to publish it by. It is kept until the daemon ends.
    pub id: String,
    /// The size that arrived.
    pub size: u64,
}

/// `GET /v1/entries/{reference}/who`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Who {
    /// The short reference.
    pub reference: String,
    /// Whether this node is told: only the author and stewards are.
    pub told: bool,
    /// The nodes of the circle.
    pub nodes: Vec<WhoLine>,
}

/// What is known of one node and one entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WhoLine {
    /// The partner.
    pub partner: String,
    /// The node.
    pub node: String,
    /// When it said it holds the entry; none means unknown.
    pub received: Option<u64>,
    /// Whether it said that it cannot open it.
    pub cannot_open: bool,
    /// When it last said anything about these logs.
    pub heard: Option<u64>,
    /// Whether it is connected now.
    pub connected: bool,
    /// Whether the entry is sealed to it.
    pub addressed: bool,
}

/// `POST /v1/issuer-log`: the issuer's log from a file, as `cwn ca log export` writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerLog {
    /// The armoured text.
    pub text: String,
}

/// What was taken in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Taken {
    /// How many entries the file had. What was held already changes nothing.
    pub entries: usize,
}

/// `GET /v1/doctor`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// `ok`, `warning` or `broken`.
    pub state: String,
    /// What was found, and what to do.
    pub found: String,
}

/// `GET /v1/circles/{id}/export/plan`: what a file would hold, and who could open it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportView {
    /// The circle's name.
    pub circle: String,
    /// Its id.
    pub id: String,
    /// The partners who can open the file.
    pub partners: Vec<String>,
    /// How many nodes they have.
    pub nodes: usize,
    /// Partners of the circle who cannot: not certified, or revoked.
    pub left_out: Vec<String>,
    /// Entries of the circle in it.
    pub entries: u64,
    /// Parts of attachments in it.
    pub parts: usize,
    /// Parts that belong to its entries and are not on this node.
    pub missing_parts: usize,
    /// Attachments of its entries that stay behind, where they were not asked for.
    #[serde(default)]
    pub left_attachments: u64,
}

/// `POST /v1/import`: what became of a file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Imported {
    /// The circle's name; none when the file broke off before it.
    pub circle: Option<String>,
    /// Its id.
    pub id: String,
    /// When the file was made, as its maker says.
    pub made: u64,
    /// How the circle stands here: `member`, `joined` by this file, `offered`, `declined`, `not_named` or
    /// `too_many_offers`; none when the file broke off before that was known.
    pub standing: Option<String>,
    /// New entries of the network circle, certificates and revocations among them.
    pub network_entries: u64,
    /// New operations of the circle.
    pub operations: u64,
    /// New entries of the circle.
    pub entries: u64,
    /// What was here already.
    pub known: u64,
    /// New parts of attachments.
    pub parts: u64,
    /// Parts of attachments that no entry which this node can read names; they were not kept.
    pub stray_parts: u64,
    /// Entries of the circle that were passed over, for this node is not in it.
    pub passed_entries: u64,
    /// Operations that were not taken: they build on what is not here, or can be no part of the circle.
    pub left_operations: u64,
    /// Entries that were not taken.
    pub left_entries: u64,
    /// Of which logs, and why; the first hundred.
    pub left: Vec<LeftView>,
    /// Why the file was not taken to its end; what came before it is kept.
    pub stopped: Option<String>,
}

/// Entries of one log that were not taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeftView {
    /// The author's partner.
    pub author: String,
    /// How many entries.
    pub entries: u64,
    /// Why.
    pub why: String,
    /// Whether they can never be taken; else they wait for something.
    pub refused: bool,
}
