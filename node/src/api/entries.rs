//! Entries: publishing, listing, reading, and who has them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cwn_crypto::{Hash, PartnerId, PublicKey, Time};
use cwn_engine::{
    engine::Engine,
    input::{Audience, Command, Input},
    log::{CircleId, LogKey, Retracts, Stored},
    output::Reply,
    replica::Replica,
    store::Read,
};
use cwn_functions::{
    marking::{Pap, Tlp},
    payload::{AttachmentRef, Payload},
    sharing::{self, Awaited, Content, Forbidden, Report, Retraction},
};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    door::{Api, name_of},
    short,
    status::{policy_of, summarise, waited_for},
    types::{
        AttachmentView, AudienceView, CircleSummary, EntryDetail, EntrySummary, NewEntry, Problem, Publication,
        Published, Retract, TakenBack, Who, WhoLine,
    },
};
use crate::{
    clock,
    inbox::{Listed, Unread},
    mesh,
    node::partner_of,
};

/// Hexadecimal digits of a reference: 48 bits, so that a person can type it and two never meet.
const REFERENCE_DIGITS: usize = 12;
/// And the fewest that a person must give.
const REFERENCE_LEAST: usize = 6;
/// How often it is looked whether this node is current by now.
const CURRENT_EVERY: Duration = Duration::from_millis(200);
/// How long a publication waits for the list to follow.
const LISTED_WAIT: Duration = Duration::from_secs(1);
/// Entries of one page of a list.
const LIST_MOST: usize = 1_000;

pub(super) fn reference(hash: &Hash) -> String {
    hash.to_string()[..REFERENCE_DIGITS].to_owned()
}

/// A request that was looked at whole, before anything is done.
pub(super) struct Prepared {
    circle: CircleId,
    tlp: Tlp,
    to: Vec<PartnerId>,
    audience: Audience,
    pub(super) payload: Payload,
    pub(super) expiry: Option<Time>,
}

impl Api {
    async fn prepare(&self, new: &NewEntry, circle: CircleId) -> Result<(Prepared, AudienceView), Problem> {
        let tlp: Tlp = new.tlp.parse().map_err(Problem::bad_request)?;
        let pap: Option<Pap> = new.pap.as_deref().map(str::parse).transpose().map_err(Problem::bad_request)?;
        let to = new.to.iter().map(|text| text.parse()).collect::<Result<Vec<PartnerId>, _>>();
        let to = to.map_err(Problem::bad_request)?;
        // What the circle does not carry is no question of what is still missing.
        let addressees = to.clone();
        let seen = self.node.driver.ask(move |engine, _| audience(engine, &circle, tlp, &addressees)).await?;
        let (view, _) = seen?;
        let report = Report { title: new.title.clone(), body: new.body.clone(), references: new.references.clone() };
        let attachments =
            new.attachments.iter().map(|id| self.uploads.get(id, &circle)).collect::<Result<Vec<_>, _>>()?;
        let payload = sharing::report_payload(self.node.me, circle, tlp, pap, to.clone(), &report, attachments);
        let payload = payload.map_err(Problem::refused)?;
        let audience = meant_for(&to);
        let expiry = new.expires_at.map(Time);
        if expiry.is_some_and(|expiry| expiry <= clock::now()) {
            return Err(Problem::bad_request("it would have expired already; say how long it is to be kept"));
        }
        Ok((Prepared { circle, tlp, to, audience, payload, expiry }, view))
    }

    /// Who would be able to read an entry, and whether it can be published now. Does nothing.
    pub async fn audience(&self, new: &NewEntry) -> Result<AudienceView, Problem> {
        let circle = self.find(&new.circle).await?;
        Ok(self.prepare(new, circle).await?.1)
    }

    async fn audience_of(&self, prepared: &Prepared) -> Result<(AudienceView, BTreeSet<PublicKey>), Problem> {
        let (circle, tlp, to) = (prepared.circle, prepared.tlp, prepared.to.clone());
        self.node.driver.ask(move |engine, _| audience(engine, &circle, tlp, &to)).await?
    }

    /// Publishes a report, or keeps it as a draft while it cannot be sealed; durable here when this returns.
    pub async fn publish(&self, new: &NewEntry) -> Result<Publication, Problem> {
        let circle = self.find(&new.circle).await?;
        // What can never be published is refused before anybody waits for anything.
        let (prepared, _) = self.prepare(new, circle).await?;
        let awaited = self.wait(&prepared, new.wait_seconds.unwrap_or(0)).await?;
        let (view, readers) = self.audience_of(&prepared).await?;
        if !awaited.is_empty() {
            let kept = self.keep(prepared, &view, readers, None).await?;
            self.settle_uploads(&new.attachments);
            return Ok(Publication::Kept(kept));
        }
        let only_when_current = prepared.tlp > Tlp::Green && self.engine_judges(circle).await?;
        let plaintext = prepared.payload.to_bytes().map_err(Problem::refused)?;
        let (audience, expiry, retracts, kept) = (prepared.audience, prepared.expiry, None, None);
        let command = Command::Append { circle, audience, expiry, only_when_current, retracts, kept };
        let published = self.appended(command, plaintext, circle, view).await?;
        if !prepared.to.is_empty() {
            // What is meant for some in person does not wait for neighbours to carry it.
            mesh::meet(&self.node, readers);
        }
        self.settle_uploads(&new.attachments);
        Ok(Publication::Published(published))
    }

    async fn appended(
        &self,
        command: Command,
        plaintext: Vec<u8>,
        circle: CircleId,
        audience: AudienceView,
    ) -> Result<Published, Problem> {
        match self.node.driver.append(command, Zeroizing::new(plaintext)).await? {
            Reply::Appended { hash, .. } => {
                self.wait_until_listed(&hash).await;
                let (reference, hash, circle) = (reference(&hash), hash.to_string(), circle.to_string());
                Ok(Published { reference, hash, circle, audience })
            }
            other => Err(Problem::broken(format!("publishing came to {other:?}"))),
        }
    }

    /// Takes back an entry that this node published. It is for the readers of that entry, and hides it at once. A reason
    /// says something, and is kept as a draft while it cannot be sealed; a bare retraction does not wait.
    pub async fn retract(&self, named: &str, why: &Retract) -> Result<Publication, Problem> {
        let (key, seq, listed) = self.locate(named).await?;
        if key.author != self.node.me {
            let author = self.node.driver.ask(move |engine, _| partner_of(engine.word(), &key.author)).await?;
            return Err(Problem::refused(format!(
                "only its author can take an entry back; ask {author}, whose node {} published it",
                short(&key.author.to_string())
            )));
        }
        let (entry, payload) = self.opened(key, seq).await?;
        if entry.header().retracts.is_some() {
            return Err(Problem::refused("this entry takes another one back; that stays"));
        }
        let payload = payload.map_err(|unread| Problem::refused(format!("it cannot be taken back: {unread}")))?;
        let retraction = sharing::retraction_payload(&payload, &Retraction { reason: why.reason.clone() });
        let retraction = retraction.map_err(Problem::refused)?;
        let plaintext = retraction.to_bytes().map_err(Problem::refused)?;
        let (circle, tlp, to) = (key.circle, payload.tlp, payload.addressees);
        let ask = move |engine: &Engine, _: &_| {
            let audience = still_there(engine, &circle, &to);
            (view_of(engine, &circle, tlp, &audience), audience)
        };
        let (view, audience) = self.node.driver.ask(ask).await?;
        let (view, readers) = view?;
        let retracts = Some(Retracts { log: key.log, seq, hash: listed.hash });
        let prepared =
            Prepared { circle, tlp, to: Vec::new(), audience: audience.clone(), payload: retraction, expiry: None };
        if !why.reason.is_empty() && !self.wait(&prepared, 0).await?.is_empty() {
            return Ok(Publication::Kept(self.keep(prepared, &view, readers, retracts).await?));
        }
        let only_when_current = tlp > Tlp::Green && !why.reason.is_empty() && self.engine_judges(circle).await?;
        let (expiry, kept) = (None, None);
        let command = Command::Append { circle, audience, expiry, only_when_current, retracts, kept };
        Ok(Publication::Published(self.appended(command, plaintext, circle, view).await?))
    }

    /// What was published is durable by now; who looks for it at once should find it in the list too.
    pub(super) async fn wait_until_listed(&self, hash: &Hash) {
        let digits = hash.to_string();
        let mut changes = self.node.inbox.changes();
        let listed = async {
            while !self.node.inbox.find(&digits).is_ok_and(|found| !found.is_empty()) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        // The list follows by itself; it is not worth failing for.
        let _ = tokio::time::timeout(LISTED_WAIT, listed).await;
    }

    /// Waits for the members that must be heard first, and gives what is awaited still.
    async fn wait(&self, prepared: &Prepared, seconds: u64) -> Result<Vec<Awaited>, Problem> {
        let (circle, tlp) = (prepared.circle, prepared.tlp);
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let ask =
                move |engine: &Engine, _: &_| sharing::awaited(tlp, waited_for(engine, &circle), engine.freshness());
            let awaited = self.node.driver.ask(ask).await?;
            // The issuer's word may be days away.
            let members = awaited.iter().any(|awaited| matches!(awaited, Awaited::Members(_)));
            if !members || Instant::now() >= deadline {
                return Ok(awaited);
            }
            tokio::time::sleep(CURRENT_EVERY).await;
        }
    }

    /// The newest entries first, of one circle or of all; with a reference only what is older than that entry. The
    /// last reference of a page leads to the next, whatever is written meanwhile.
    pub async fn entries(
        &self,
        circle: Option<&str>,
        limit: usize,
        before: Option<&str>,
    ) -> Result<Vec<EntrySummary>, Problem> {
        let circle = match circle {
            None => None,
            Some(named) => Some(self.find(named).await?),
        };
        let before = match before {
            None => None,
            Some(named) => {
                let (key, seq, listed) = self.locate(named).await?;
                Some((key, seq, listed.row.time))
            }
        };
        let inbox = std::sync::Arc::clone(&self.node.inbox);
        let limit = limit.min(LIST_MOST);
        let read = move || inbox.newest(circle, before, limit);
        let listed = tokio::task::spawn_blocking(read).await.map_err(Problem::broken)?.map_err(Problem::broken)?;
        let summarise = move |engine: &Engine, _: &_| listed.iter().map(|one| summary(engine, one)).collect();
        Ok(self.node.driver.ask(summarise).await?)
    }

    pub(super) async fn locate(&self, named: &str) -> Result<(LogKey, u64, Listed), Problem> {
        let digits = named.to_ascii_lowercase();
        if digits.len() < REFERENCE_LEAST || digits.len() > 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Problem::bad_request(format!(
                "{named:?} is not a reference: give at least {REFERENCE_LEAST} of the hexadecimal digits that `cwn list` shows"
            )));
        }
        let inbox = std::sync::Arc::clone(&self.node.inbox);
        let found = tokio::task::spawn_blocking(move || inbox.find(&digits)).await.map_err(Problem::broken)?;
        let mut found = found.map_err(Problem::broken)?;
        match (found.pop(), found.is_empty()) {
            (Some(found), true) => Ok(found),
            (Some(_), false) => {
                Err(Problem::bad_request(format!("more than one entry starts with {named}; give more digits")))
            }
            (None, _) => Err(Problem::not_found(match self.put_aside(named.to_ascii_lowercase()).await? {
                Some(aside) => aside,
                None => format!("no entry here starts with {named}; `cwn list` shows those there are"),
            })),
        }
    }

    /// Opens an entry that was located.
    pub(super) async fn opened(&self, key: LogKey, seq: u64) -> Result<(Stored, Result<Payload, Unread>), Problem> {
        let (reader, inbox) = (self.node.reader.get(), std::sync::Arc::clone(&self.node.inbox));
        let driver = self.node.driver.clone();
        let bytes = tokio::task::spawn_blocking(move || reader.entry(&key, seq)).await.map_err(Problem::broken)?;
        let bytes = match bytes {
            Ok(bytes) => bytes.ok_or_else(|| Problem::not_found("the entry is no longer held"))?,
            Err(damage) => {
                self.node.driver.input(Input::Damaged { key, seq }).await?;
                return Err(Problem::broken(format!(
                    "{damage}; it is asked of members: try again when one is connected"
                )));
            }
        };
        let open = move || {
            let entry = Stored::read(bytes).map_err(Problem::broken)?;
            let payload = inbox.open(&entry, Some(&driver));
            Ok((entry, payload))
        };
        tokio::task::spawn_blocking(open).await.map_err(Problem::broken)?
    }

    /// One entry, opened.
    pub async fn entry(&self, named: &str) -> Result<EntryDetail, Problem> {
        let (key, seq, listed) = self.locate(named).await?;
        let (entry, payload) = self.opened(key, seq).await?;
        let hash = entry.hash();
        let summary = self.node.driver.ask(move |engine, _| summary(engine, &listed)).await?;
        let mut detail = EntryDetail {
            summary,
            hash: hash.to_string(),
            node: key.author.to_string(),
            unreadable: None,
            expires_at: entry.header().expiry.map(|expiry| expiry.0),
            body: None,
            pap: None,
            references: Vec::new(),
            to: Vec::new(),
            attached: Vec::new(),
            takes_back: None,
            taken_back: None,
        };
        match payload {
            Err(unread) => {
                if matches!(unread, Unread::Retracted) {
                    detail.taken_back = self.taken_back(key, hash).await?;
                }
                detail.unreadable = Some(unread.to_string());
            }
            Ok(payload) => {
                detail.pap = payload.pap.map(|pap| pap.to_string());
                detail.to = payload.addressees.iter().map(ToString::to_string).collect();
                detail.attached =
                    payload.attachments.iter().map(|attachment| self.attachment_view(&key, attachment)).collect();
                match Content::from_payload(&payload) {
                    Ok(Some(Content::Report(report))) => {
                        detail.summary.title = Some(report.title);
                        detail.body = Some(report.body);
                        detail.references = report.references;
                    }
                    Ok(Some(Content::Retraction(retraction))) => detail.body = Some(retraction.reason),
                    Ok(None) => {
                        detail.unreadable = Some(format!(
                            "it is of the kind {:?}, which this version does not know; a newer `cwn` shows it",
                            payload.kind
                        ));
                    }
                    Err(refusal) => detail.unreadable = Some(refusal.to_string()),
                }
            }
        }
        if let Some(Retracts { log, seq, hash }) = entry.header().retracts {
            let found = self.node.inbox.find(&hash.to_string()).map_err(Problem::broken)?;
            // Whoever names what somebody else wrote takes nothing back.
            let own = found.iter().any(|(of, place, _)| (*of, *place) == (LogKey { log, ..key }, seq));
            detail.takes_back = own.then(|| reference(&hash));
        }
        detail.references.extend(detail.takes_back.clone());
        detail.references.extend(detail.taken_back.as_ref().map(|taken| taken.by.clone()));
        Ok(detail)
    }

    async fn taken_back(&self, key: LogKey, hash: Hash) -> Result<Option<TakenBack>, Problem> {
        let found = self.node.inbox.taken_back_by(&key, &hash).map_err(Problem::broken)?;
        let Some((key, seq, listed)) = found else { return Ok(None) };
        // That it was taken back is so, whether or not the reason can be read.
        let reason = match self.opened(key, seq).await {
            Ok((_, Ok(payload))) => match Content::from_payload(&payload) {
                Ok(Some(Content::Retraction(retraction))) => retraction.reason,
                _ => String::new(),
            },
            _ => String::new(),
        };
        Ok(Some(TakenBack { by: reference(&listed.hash), reason }))
    }

    fn attachment_view(&self, key: &LogKey, attachment: &AttachmentRef) -> AttachmentView {
        let here = attachment.chunks.iter().filter(|chunk| self.node.chunks.holds(&key.circle, chunk)).count();
        AttachmentView {
            name: attachment.name.clone(),
            media_type: attachment.media_type.clone(),
            size: attachment.size,
            chunks_here: u32::try_from(here).unwrap_or(u32::MAX),
            chunks: u32::try_from(attachment.chunks.len()).unwrap_or(u32::MAX),
        }
    }

    /// Who has an entry, since when, and of whom that is unknown.
    pub async fn who(&self, named: &str) -> Result<Who, Problem> {
        let (key, seq, listed) = self.locate(named).await?;
        let (entry, payload) = self.opened(key, seq).await?;
        let epoch = entry.header().epoch;
        let addressees: Vec<PartnerId> = payload.map(|payload| payload.addressees).unwrap_or_default();
        let ask = move |engine: &Engine, _: &_| who(engine, &key, seq, &listed, epoch, &addressees);
        let mut who = self.node.driver.ask(ask).await?;
        for line in &mut who.nodes {
            line.connected =
                PublicKey::from_hex(&line.node).is_some_and(|node| self.node.connections.connected(&node).is_some());
        }
        Ok(who)
    }
}

/// For whom an entry is that names these partners; all when it names none.
pub(super) fn meant_for(to: &[PartnerId]) -> Audience {
    if to.is_empty() { Audience::Circle } else { Audience::Partners(to.to_vec()) }
}

/// As [`meant_for`], without those who left the circle: who can still be told. It may be nobody but this partner.
pub(super) fn still_there(engine: &Engine, circle: &CircleId, to: &[PartnerId]) -> Audience {
    let roster = engine.circle(circle).map(|replica| replica.fold().roster().partners()).unwrap_or_default();
    match meant_for(to) {
        Audience::Partners(to) => Audience::Partners(to.into_iter().filter(|one| roster.contains(one)).collect()),
        Audience::Circle => Audience::Circle,
    }
}

/// Who would be able to read a new entry, and with which nodes; refused where the circle's policy does.
pub(super) fn audience(
    engine: &Engine,
    circle: &CircleId,
    tlp: Tlp,
    to: &[PartnerId],
) -> Result<(AudienceView, BTreeSet<PublicKey>), Problem> {
    let seen = view_of(engine, circle, tlp, &meant_for(to))?;
    if let Some((replica, control)) = engine.circle(circle).and_then(|replica| Some((replica, replica.control()?))) {
        let policy = policy_of(&control.terms(replica.fold()).policy);
        let roster = replica.fold().roster().iter();
        let members = roster.map(|(node, member)| (*node, member.partner.clone())).collect();
        sharing::may_publish(tlp, to, &policy, &members).map_err(|forbidden| match forbidden {
            Forbidden::AboveCeiling { .. } => {
                Problem::refused(format!("{forbidden}; {}", raised(replica, engine, tlp)))
            }
            forbidden => Problem::refused(forbidden),
        })?;
    }
    Ok(seen)
}

/// How a circle comes to carry a marking.
fn raised(replica: &Replica, engine: &Engine, tlp: Tlp) -> String {
    let (name, tlp) = (name_of(replica).unwrap_or_default(), tlp.to_string());
    let command = format!("`cwn circle policy {name} --ceiling {}`", tlp.trim_start_matches("TLP:"));
    let stewards = replica.fold().roster().stewards();
    if stewards.iter().any(|(node, _)| **node == engine.me()) {
        return format!("publish it in a circle that is meant for it, or let this one carry it with {command}");
    }
    let stewards: BTreeSet<String> = stewards.iter().map(|(_, steward)| steward.partner.to_string()).collect();
    let stewards = stewards.into_iter().collect::<Vec<_>>().join(" or ");
    format!("publish it in a circle that is meant for it, or ask a steward ({stewards}) for {command}")
}

/// Who is able to read what is meant for these, and with which nodes.
pub(super) fn view_of(
    engine: &Engine,
    circle: &CircleId,
    tlp: Tlp,
    whom: &Audience,
) -> Result<(AudienceView, BTreeSet<PublicKey>), Problem> {
    let gone = || Problem::not_found("the circle is gone");
    let replica = engine.circle(circle).ok_or_else(gone)?;
    let roster = replica.fold().roster();
    roster
        .member(&engine.me())
        .ok_or_else(|| Problem::refused("this node no longer belongs to the circle; ask a steward to add it again"))?;
    let members: BTreeMap<PublicKey, PartnerId> =
        roster.iter().map(|(node, member)| (*node, member.partner.clone())).collect();
    let (_, left_out) = engine.present_set(replica);
    let readers = engine.readers(replica, whom);
    let partners: BTreeSet<String> =
        readers.iter().filter_map(|node| members.get(node)).map(ToString::to_string).collect();
    let unheard = waited_for(engine, circle);
    let awaited = sharing::awaited(tlp, unheard.clone(), engine.freshness());
    let unheard: Vec<String> = unheard.iter().map(ToString::to_string).collect();
    let summary = summarise(engine, replica).filter(CircleSummary::may_be_removed);
    let only_silent = summary.map(|summary| summary.silent);
    let view = AudienceView {
        circle: name_of(replica).unwrap_or_default(),
        tlp: tlp.to_string(),
        partners: partners.into_iter().collect(),
        nodes: readers.len(),
        left_out: left_out.iter().filter_map(|node| members.get(node)).map(ToString::to_string).collect(),
        current: unheard.is_empty(),
        unheard,
        awaited: awaited.iter().map(ToString::to_string).collect(),
        only_silent: only_silent.unwrap_or_default(),
    };
    Ok((view, readers))
}

fn summary(engine: &Engine, listed: &Listed) -> EntrySummary {
    let Listed { hash, first_seen, row } = listed;
    let circle = row.id.circle;
    EntrySummary {
        reference: reference(hash),
        circle: circle.to_string(),
        circle_name: engine.circle(&circle).and_then(name_of).unwrap_or_default(),
        author: partner_of(engine.word(), &row.id.author),
        time: row.time.0,
        first_seen: first_seen.0,
        clock_doubtful: row.clock_doubtful,
        kind: row.kind.clone(),
        tlp: row.tlp.map(|tlp| tlp.to_string()).unwrap_or_default(),
        title: row.title.clone(),
        attachments: row.attachments,
        state: row.state.word().to_owned(),
        author_revoked: engine.word().revocation(&row.id.author).is_some(),
    }
}

fn who(engine: &Engine, key: &LogKey, seq: u64, listed: &Listed, epoch: Option<Hash>, addressees: &[PartnerId]) -> Who {
    let replica = engine.circle(&key.circle);
    let roster = replica.map(|replica| replica.fold().roster());
    let own = roster.and_then(|roster| roster.member(&engine.me()));
    let told = key.author == engine.me() || own.is_some_and(|member| member.steward.is_some());
    let ledger = engine.ledger(&key.circle);
    let sealed_to = |node: &PublicKey, partner: &PartnerId| match (epoch, replica) {
        (Some(epoch), Some(replica)) => replica.epoch(&epoch).is_some_and(|epoch| epoch.names(node)),
        _ => addressees.contains(partner) || *node == key.author,
    };
    let line = |(node, member): (&PublicKey, &cwn_engine::circle::Member)| WhoLine {
        partner: member.partner.to_string(),
        node: node.to_string(),
        received: ledger.and_then(|ledger| ledger.received(node, &key.author, &key.log, seq)).map(|at| at.0),
        cannot_open: epoch.zip(ledger).is_some_and(|(epoch, ledger)| ledger.cannot_open(node, &key.author, &epoch)),
        heard: ledger.and_then(|ledger| ledger.heard(node, &key.author)).map(|at| at.0),
        connected: false,
        addressed: sealed_to(node, &member.partner),
    };
    let others = roster.into_iter().flat_map(|roster| roster.iter());
    let nodes = others.filter(|(node, _)| **node != key.author && **node != engine.me()).map(line).collect();
    Who { reference: reference(&listed.hash), told, nodes }
}
