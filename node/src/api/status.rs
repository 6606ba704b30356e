//! How this node is: identity, certificate, connections, circles.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{Hash, PartnerId, PublicKey, Time, certificate::Standing, encoding, seal::Recipient, words};
use cwn_engine::{
    acceptance,
    engine::Engine,
    input::Command,
    log::{CircleId, LogKind},
    replica::Replica,
    root::{Alarm, Freshness},
    store::{Fact, Read},
    sync::PeerStatus,
};
use cwn_functions::circle_policy::Policy;

use super::{
    circles::succeeded,
    count,
    door::{Api, name_of},
    types::{Acknowledged, CertificateStatus, CircleSummary, OfferSummary, PeerView, Problem, RefusalView, Status},
};
use crate::{
    clock,
    network::admission,
    node::{Node, partner_of},
};

/// Facts that say in which circles this node's key was in use elsewhere, and since when that is known.
const ELSEWHERE_FACT: &[u8] = b"elsewhere/";

/// The node's key signed something that it did not write: said until somebody acknowledges it, across restarts.
pub(crate) async fn note_elsewhere(node: &Node, circle: CircleId) -> Result<(), Problem> {
    let key = [ELSEWHERE_FACT, &circle.0.0].concat();
    if node.reader.get().facts(&key).map_err(Problem::broken)?.is_empty() {
        let value = encoding::to_bytes(&clock::now());
        node.driver.command(Command::Remember { key, value }).await?;
    }
    Ok(())
}

/// How a warning begins of revoked nodes that no steward removed yet; by it `cwn doctor` knows it.
pub(super) const REVOKED_MEMBERS: &str = "revoked, and still in";

/// How the network's trust stands.
struct TrustView {
    network_name: String,
    version: u32,
    freshness: Freshness,
    alarms: Vec<String>,
    forked: BTreeSet<String>,
}

impl TrustView {
    /// A further node of one's own partner is no alarm once its fingerprint was compared.
    fn of(engine: &Engine, compared: &BTreeMap<(PublicKey, Recipient), Time>) -> Self {
        let known = |alarm: &Alarm| match alarm {
            Alarm::OwnPartner { node, .. } => {
                let own = engine.word().certificate(node);
                own.is_some_and(|own| compared.contains_key(&(*node, own.certificate.recipient)))
            }
            _ => false,
        };
        let alarms = engine.alarms().filter(|(alarm, _)| !known(alarm));
        let document = engine.root().document();
        Self {
            network_name: document.name.clone(),
            version: document.version,
            freshness: engine.freshness(),
            forked: forked(engine),
            alarms: alarms.map(|(alarm, since)| format!("ALARM since {since}: {alarm}")).collect(),
        }
    }
}

/// The members whose key signed two entries for one place. Of one that was removed there is nothing left to do.
fn forked(engine: &Engine) -> BTreeSet<String> {
    let mut said = BTreeSet::new();
    for replica in engine.circles() {
        let Some(circle) = name_of(replica) else { continue };
        for (key, _) in engine.forks(&replica.id()) {
            if key.author == engine.me() {
                said.insert(format!(
                    "somebody signs with this node's key: two entries stand at one place of its log in {circle}; tell the coordinator, and join anew with new keys"
                ));
            } else if replica.fold().roster().member(&key.author).is_some() {
                said.insert(format!(
                    "{} signed two entries for one place of its log in {circle}: its key may be in other hands; call it, and see `cwn circle show {circle}`",
                    partner_of(engine.word(), &key.author)
                ));
            }
        }
    }
    said
}

/// The words of a fingerprint as they are read out.
pub(super) fn words_of(node: &PublicKey, recipient: &cwn_crypto::seal::Recipient) -> String {
    words::fingerprint(node, recipient).join(" ")
}

/// The policy in a circle's terms; the strictest reading where it cannot be read.
pub(super) fn policy_of(bytes: &[u8]) -> Policy {
    Policy::from_bytes(bytes).unwrap_or_default()
}

/// A circle as a list shows it.
pub(super) fn summarise(engine: &Engine, replica: &Replica) -> Option<CircleSummary> {
    let circle = replica.id();
    let policy = policy_of(&replica.control()?.terms(replica.fold()).policy);
    let roster = replica.fold().roster();
    let content = replica.logs().filter(|(_, log)| log.kind == LogKind::Content);
    let entries = content.map(|(key, log)| acceptance::reach(replica, &key.author, &key.log).of(log.durable)).sum();
    let own = roster.member(&engine.me());
    let unheard: Vec<String> = waited_for(engine, &circle).iter().map(ToString::to_string).collect();
    let peers = engine.peers();
    let sharing: Vec<(PublicKey, bool)> = peers.iter().filter_map(|peer| shared_with(peer, &circle)).collect();
    let connected = sharing.iter().filter_map(|(peer, _)| roster.member(peer)).chain(own);
    let connected: BTreeSet<&PartnerId> = connected.map(|member| &member.partner).collect();
    let there = peers.iter().filter_map(|peer| roster.member(&peer.peer)).map(|member| &member.partner);
    let there: BTreeSet<&PartnerId> = there.collect();
    let missing = roster.partners().into_iter().filter(|partner| own.is_some() && !connected.contains(partner));
    let outside = not_joined(engine, replica);
    let joined = roster.iter().filter(|(node, _)| !outside.contains(*node)).map(|(_, member)| &member.partner);
    let joined: BTreeSet<&PartnerId> = joined.collect();
    let (missing, not_joined): (Vec<&PartnerId>, Vec<&PartnerId>) =
        missing.partition(|partner| joined.contains(partner));
    let (silent, unreachable): (Vec<&PartnerId>, Vec<&PartnerId>) =
        missing.into_iter().partition(|partner| there.contains(partner));
    let names = |partners: Vec<&PartnerId>| partners.into_iter().map(ToString::to_string).collect();
    Some(CircleSummary {
        id: circle.to_string(),
        name: name_of(replica)?,
        ceiling: policy.ceiling.to_string(),
        partners: roster.partners().len(),
        entries,
        member: own.is_some(),
        steward: own.is_some_and(|member| member.steward.is_some()),
        current: own.is_some() && unheard.is_empty(),
        unheard,
        behind: engine.behind(&circle),
        peers: sharing.len(),
        nodes_over_quota: engine.over_quota(&circle).len(),
        revoked_nodes: roster.iter().filter(|(node, _)| engine.word().revocation(node).is_some()).count(),
        withheld_entries: engine.withheld(&circle).iter().map(|one| one.height - one.cut).sum(),
        comparing: sharing.iter().filter(|(_, caught_up)| !caught_up).count(),
        unreachable: names(unreachable),
        silent: names(silent),
        not_joined: names(not_joined),
        // A steward is removed only by one of better rank.
        removable: roster.stewards().first().is_some_and(|(node, _)| **node != engine.me()),
    })
}

/// The partners of whom word is waited for before this node counts as current in a circle: those of the engine, but for
/// partners of which every node is revoked. Nobody connects with those any more, and nothing that one of them did since
/// would count.
pub(super) fn waited_for(engine: &Engine, circle: &CircleId) -> Vec<PartnerId> {
    let mut unheard = engine.unheard(circle);
    let Some(roster) = engine.circle(circle).map(|replica| replica.fold().roster()) else { return unheard };
    let standing: BTreeSet<&PartnerId> = roster
        .iter()
        .filter(|(node, _)| engine.word().revocation(node).is_none())
        .map(|(_, member)| &member.partner)
        .collect();
    let own = roster.member(&engine.me()).map(|member| &member.partner);
    let others = standing.iter().filter(|partner| Some(**partner) != own).count();
    unheard.retain(|partner| standing.contains(partner));
    // Half of the others are enough, as the engine has it.
    if unheard.len() * 2 <= others { Vec::new() } else { unheard }
}

impl Api {
    /// Whether the engine itself is to refuse what is appended before this node is current in a circle: it waits for those that
    /// are revoked too, and where only they are missing it is not asked to.
    pub(super) async fn engine_judges(&self, circle: CircleId) -> Result<bool, Problem> {
        let judges =
            move |engine: &Engine, _: &_| engine.unheard(&circle).is_empty() || !waited_for(engine, &circle).is_empty();
        Ok(self.node.driver.ask(judges).await?)
    }
}

/// The members of which nothing shows that they joined: they share the circle with nobody here, wrote nothing in it, and
/// never said what they hold of it. That is said to stewards alone, so that on no other node there are any.
pub(super) fn not_joined(engine: &Engine, replica: &Replica) -> BTreeSet<PublicKey> {
    let (circle, roster) = (replica.id(), replica.fold().roster());
    if roster.member(&engine.me()).is_none_or(|own| own.steward.is_none()) {
        return BTreeSet::new();
    }
    let sharing: BTreeSet<PublicKey> = engine.sharing(&circle).into_iter().map(|(peer, ..)| peer).collect();
    let authors: BTreeSet<PublicKey> = replica.logs().map(|(key, _)| key.author).collect();
    let heard = |node: &PublicKey| {
        let ledger = engine.ledger(&circle);
        ledger.is_some_and(|ledger| authors.iter().any(|author| ledger.heard(node, author).is_some()))
    };
    let shows =
        |node: &PublicKey| *node == engine.me() || sharing.contains(node) || authors.contains(node) || heard(node);
    roster.iter().map(|(node, _)| *node).filter(|node| !shows(node)).collect()
}

/// A connected peer that shares a circle, and whether it is known what either lacks.
fn shared_with(peer: &PeerStatus, circle: &CircleId) -> Option<(PublicKey, bool)> {
    let (_, caught_up) = peer.circles.iter().find(|(shared, _)| shared == circle)?;
    Some((peer.peer, *caught_up))
}

/// The offers that wait.
pub(super) fn offers(engine: &Engine) -> Vec<OfferSummary> {
    let summary = |(circle, offer): (&cwn_engine::log::CircleId, &cwn_engine::engine::Offer)| {
        let control = offer.preview.control();
        let terms = control.map_or(&offer.charter.terms, |control| control.terms(offer.preview.fold()));
        let policy = policy_of(&terms.policy);
        let partners = offer.preview.fold().roster().partners();
        OfferSummary {
            id: circle.to_string(),
            name: offer.charter.name.clone(),
            founder: offer.charter.stewards.first().map(|steward| steward.partner.to_string()).unwrap_or_default(),
            partners: partners.iter().map(ToString::to_string).collect(),
            from: offer.from.iter().map(|node| partner_of(engine.word(), node)).collect(),
            description: policy.description,
            ceiling: policy.ceiling.to_string(),
            succeeds: engine.claim(circle).map(|claim| succeeded(engine, &claim)),
        }
    };
    engine.offers().map(summary).collect()
}

impl Api {
    /// How this node is.
    pub async fn status(&self) -> Result<Status, Problem> {
        let now = clock::now();
        let (me, recipient) = (self.node.me, self.node.recipient);
        let compared = self.compared()?;
        let (circles, offers, word, revoked, foreign, trust) = self
            .node
            .driver
            .ask(move |engine, _| {
                let circles: Vec<CircleSummary> =
                    engine.circles().filter_map(|replica| summarise(engine, replica)).collect();
                let word = engine.word();
                let foreign = word.certificates(&me).any(|own| own.certificate.recipient != recipient);
                let age = word.newest_by(now);
                (
                    circles,
                    offers(engine),
                    age,
                    word.revocation(&me).is_some(),
                    foreign,
                    TrustView::of(engine, &compared),
                )
            })
            .await?;
        let certificate = self.node.certificate.get();
        let standing = certificate.standing(now);
        let mut warnings = Vec::new();
        let standing_word = match &standing {
            _ if revoked => "revoked",
            Standing::Valid => "valid",
            Standing::Grace { .. } => "grace",
            Standing::Expired { .. } => "expired",
            Standing::NotYet => "not_yet",
        };
        match (&standing, revoked) {
            (_, true) => warnings.push("this node's certificate was revoked; ask the coordinator".to_owned()),
            (Standing::Grace { expired_at }, _) => warnings.push(format!(
                "the certificate expired on {expired_at}; partners accept it for 30 days more; ask the coordinator to renew it"
            )),
            (Standing::Expired { expired_at }, _) => warnings.push(format!(
                "the certificate expired on {expired_at} and is accepted no longer; ask the coordinator to renew it"
            )),
            (Standing::NotYet, _) => {
                warnings.push("the certificate is not valid yet: is this machine's clock right?".to_owned());
            }
            (Standing::Valid, _) => {}
        }
        if foreign {
            warnings.push(
                "a certificate of this node names a sealing key that is not its own, and is not used: somebody else may have the issuer's key; tell the coordinator at once"
                    .to_owned(),
            );
        }
        match word {
            None => warnings.push("nothing was heard from the issuer yet".to_owned()),
            Some(at) => match trust.freshness {
                Freshness::Fresh => {}
                Freshness::Stale => warnings.push(format!(
                    "the issuer's last word is {} hours old: revocations since then are not known here",
                    now.since(at) / 3_600_000
                )),
                Freshness::HoldsBack => warnings.push(format!(
                    "the issuer's last word is {} days old: what is AMBER+STRICT or RED is held back until there is a newer one; ask the coordinator for the issuer's log",
                    now.since(at) / Time::DAY_MS
                )),
            },
        }
        if !revoked && !self.node.gate.leaves(&certificate) {
            warnings.push(
                "this node's certificate fell away with its issuer, which the root keys dropped; ask the coordinator for another"
                    .to_owned(),
            );
        }
        for (name, since) in self.elsewhere().await? {
            warnings.push(format!(
                "ALARM since {since}: this node's key signed something in {name} that this node did not write: a copy of it runs, somebody else has the key, or an old backup was restored; when you know why, `cwn status --acknowledge`"
            ));
        }
        warnings.extend(trust.alarms);
        warnings.extend(trust.forked);
        warnings.extend(circles.iter().filter(|circle| circle.steward && circle.withheld_entries > 0).map(|circle| {
            format!(
                "beyond the cut of a removal in {}, and dropped in time: {}; see `cwn circle show {}`",
                circle.name,
                count(circle.withheld_entries, "entry", "entries"),
                circle.name
            )
        }));
        warnings.extend(circles.iter().filter(|circle| circle.steward && circle.nodes_over_quota > 0).map(|circle| {
            format!(
                "more was written in {} than its quota lets others take, by {}: raise it, or remove who wrote so much; see `cwn circle show {}`",
                circle.name,
                count(circle.nodes_over_quota as u64, "node", "nodes"),
                circle.name
            )
        }));
        warnings.extend(circles.iter().filter(|circle| circle.steward && circle.revoked_nodes > 0).map(|circle| {
            format!(
                "{REVOKED_MEMBERS} {}: {}; it gets no keys, and what it wrote counts until a steward removes it; see `cwn circle show {}`",
                circle.name,
                count(circle.revoked_nodes as u64, "node", "nodes"),
                circle.name
            )
        }));
        if !revoked
            && self.node.connections.count() == 0
            && self.node.connections.failed_for(&admission::told_revoked())
        {
            warnings.push(
                "partners refuse this node and say that it is revoked: nobody gets what it publishes; ask the coordinator why"
                    .to_owned(),
            );
        }
        let drafts = self.drafts().await?;
        let for_a_person = drafts.iter().filter(|draft| draft.needs.is_some()).count();
        if for_a_person > 0 {
            warnings.push(format!(
                "{for_a_person} of {} drafts will not be published without you; see `cwn drafts`",
                drafts.len()
            ));
        }
        let failure = self.node.driver.failure();
        if let Some(why) = &failure {
            warnings.push(format!("this node is read-only: {why}"));
        }
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: self.node.started.0,
            node: me.to_string(),
            fingerprint: words_of(&me, &recipient),
            partner: certificate.partner.to_string(),
            partner_name: certificate.name.clone(),
            network: self.node.network_id.to_string(),
            network_name: trust.network_name,
            certificate: CertificateStatus {
                serial: certificate.serial,
                not_before: certificate.not_before.0,
                not_after: certificate.not_after.0,
                standing: standing_word.to_owned(),
            },
            root_version: trust.version,
            issuer_word: word.map(|at: Time| at.0),
            // Who takes no more writes has left the network.
            listening: if failure.is_some() { Vec::new() } else { self.node.connections.listening() },
            peers: self.node.connections.count(),
            offline: self.node.config.network.offline,
            live_frames: self.node.driver.traffic().0,
            live_bytes: self.node.driver.traffic().1,
            handlers_built: self.node.network.handlers_built(),
            circles,
            offers,
            drafts: drafts.len(),
            drafts_for_a_person: for_a_person,
            data: self.node.data.display().to_string(),
            warnings,
            read_only: failure.is_some(),
        })
    }

    /// In which circles this node's key was in use elsewhere, and when that was seen first.
    async fn elsewhere(&self) -> Result<Vec<(String, Time)>, Problem> {
        let facts = self.node.reader.get().facts(ELSEWHERE_FACT).map_err(Problem::broken)?;
        let read = |Fact { key, value }: Fact| {
            let circle: [u8; 32] = key.get(ELSEWHERE_FACT.len()..)?.try_into().ok()?;
            // Of one that rotted the name says where; since when is not known any more.
            let since = value.ok().and_then(|value| encoding::from_bytes::<Time>(&value, 16).ok());
            Some((CircleId(Hash(circle)), since.unwrap_or(clock::now())))
        };
        let seen: Vec<(CircleId, Time)> = facts.into_iter().filter_map(read).collect();
        let ask = move |engine: &Engine, _: &_| {
            let name = |circle: &CircleId| match engine.circle(circle).and_then(name_of) {
                Some(name) => name,
                None if *circle == engine.network() => "the network circle".to_owned(),
                None => circle.to_string(),
            };
            seen.iter().map(|(circle, since)| (name(circle), *since)).collect()
        };
        Ok(self.node.driver.ask(ask).await?)
    }

    /// Somebody knows why this node's key was in use elsewhere: that is said no more, until it shows again.
    pub async fn acknowledge(&self) -> Result<Acknowledged, Problem> {
        let circles = self.elsewhere().await?.into_iter().map(|(name, _)| name).collect();
        for Fact { key, .. } in self.node.reader.get().facts(ELSEWHERE_FACT).map_err(Problem::broken)? {
            self.node.driver.command(Command::Remember { key, value: Vec::new() }).await?;
        }
        Ok(Acknowledged { circles })
    }

    /// The certified nodes of the network but this one, and whether they are connected.
    pub async fn peers(&self) -> Result<Vec<PeerView>, Problem> {
        let me = self.node.me;
        let (nodes, sessions) = self
            .node
            .driver
            .ask(move |engine, _| {
                let name = |circle: &cwn_engine::log::CircleId| engine.circle(circle).and_then(name_of);
                let sessions: Vec<(PublicKey, Option<u16>, Vec<String>, bool)> = engine
                    .peers()
                    .into_iter()
                    .map(|status| {
                        let names = status.circles.iter().filter_map(|(circle, _)| name(circle)).collect();
                        (status.peer, status.version, names, status.circles.iter().all(|(_, caught_up)| *caught_up))
                    })
                    .collect();
                let nodes: Vec<(PublicKey, String)> = engine
                    .word()
                    .unrevoked()
                    .map(|own| (own.certificate.node, own.certificate.partner.to_string()))
                    .filter(|(node, _)| *node != me)
                    .collect();
                (nodes, sessions)
            })
            .await?;
        let view = |(node, partner): (PublicKey, String)| {
            let connected = self.node.connections.connected(&node);
            let session = sessions.iter().find(|(peer, ..)| *peer == node);
            PeerView {
                partner,
                node: node.to_string(),
                since: connected.as_ref().map(|connected| connected.since.0),
                dialled: connected.as_ref().is_some_and(|connected| connected.dialled),
                through: connected.as_ref().and_then(|connected| connected.through).map(|relay| relay.to_string()),
                version: session.and_then(|(_, version, ..)| *version),
                circles: session.map(|(_, _, names, _)| names.clone()).unwrap_or_default(),
                caught_up: session.is_some_and(|(.., caught_up)| *caught_up),
                standing: connected.map_or("", |connected| connected.standing).to_owned(),
                last_failure: self.node.connections.failure(&node),
            }
        };
        let mut views: Vec<PeerView> = nodes.into_iter().map(view).collect();
        views.sort_by(|a, b| a.partner.cmp(&b.partner));
        Ok(views)
    }

    /// Connections that were refused lately.
    pub fn refusals(&self) -> Vec<RefusalView> {
        let view = |refused: crate::connections::Refused| RefusalView {
            at: refused.at.0,
            node: refused.peer.map(|peer| peer.to_string()),
            address: refused.address,
            reason: refused.reason,
        };
        self.node.connections.refusals().into_iter().map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use cwn_engine::{
        engine::{AcceptRule, Config},
        store::Write,
    };

    use super::*;
    use crate::{
        network::test_world::{World, key},
        store::Store,
    };

    #[test]
    fn an_issuer_that_signed_two_branches_of_its_log_is_an_alarm_of_the_networks_and_no_member_to_call() {
        let world = World::new();
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(&dir.path().join("store"), &mut |_| {}).unwrap();
        let issuer = world.root.document().issuers[0].issuer;
        // As the engine remembers where a log forks whose proof it cannot read back.
        let parts: [&[u8]; 5] = [b"fork/", &world.root.network().0.0, &issuer.0, &[5; 16], &0_u64.to_be_bytes()];
        store.append(&[Write::Fact { key: parts.concat(), value: vec![0] }]).unwrap();
        let config = Config { key: key(1), root: world.root.clone(), accept: AcceptRule::Ask };
        let engine = Engine::open(config, world.now(), &store).unwrap();
        let trust = TrustView::of(&engine, &BTreeMap::new());
        let [alarm] = trust.alarms.as_slice() else { panic!("{:?}", trust.alarms) };
        // By how it begins `cwn doctor` knows it.
        assert!(alarm.starts_with("ALARM since") && alarm.contains("signed two branches"), "{alarm}");
        assert_eq!(trust.forked, BTreeSet::new());
    }
}
