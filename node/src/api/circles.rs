//! Circles: founding, joining, who belongs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cwn_crypto::{Hash, PartnerId, PublicKey, encoding::hex_decode};
use cwn_engine::{
    circle::{
        Act, Charter, Fold, History, Member, MemberNode, Operation, Quota, Steward, Stewardship, Succeeds, Terms,
    },
    engine::{Engine, Offer},
    fork::Disputed,
    input::Command,
    keep::{OverQuota, Withheld},
    limits,
    log::{CircleId, EntryBytes, LogKey, Stored},
    output::{CommandRefusal, Reply},
    replica::Replica,
    store::known_facts,
    succession::{Claim, Standing, succeeding},
};
use cwn_functions::{
    circle_policy::{Policy, bilateral_name},
    marking::Tlp,
    text::is_one_line,
};

use super::{
    NODE_DIGITS_LEAST,
    door::{Api, find_circle, find_offer, is_named, name_of},
    short,
    status::{not_joined, offers, policy_of, summarise},
    types::{
        Bilateral, BilateralFounded, CircleDetail, CircleSummary, ForkView, Id, KeptLess, MemberView, Membership,
        NewCircle, OfferSummary, OverQuotaView, PolicyChange, Problem, QuotaChange, QuotaView, RaiseView, Raising,
        Succession, SuccessionView, WithheldView,
    },
};
use crate::{
    clock,
    driver::{Failure, random},
    node::{Node, nodes_of, partner_of},
    store::Store,
};

/// Facts that say how the circles are called that this node declined.
const TURNED_DOWN_FACT: &[u8] = b"turned down/";

/// A name of so many hexadecimal digits and no other letters could be meant as an id.
const ID_LEAST: usize = 4;

/// A hundred years, and what can be told from a slip of the finger.
const RETENTION_DAYS_MOST: u32 = 36_500;

/// Bytes of entries read at a time, to say how much lies beyond a cut.
const MEASURED_BYTES: usize = 4 << 20;

/// The circles a node is in, and those it is offered.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Circles {
    /// Those it is in.
    pub circles: Vec<CircleSummary>,
    /// Those it is offered.
    pub offers: Vec<OfferSummary>,
}

fn parse_history(text: &str) -> Result<History, Problem> {
    match text {
        "none" => Ok(History::None),
        "all" => Ok(History::All),
        _ => Err(Problem::bad_request(format!("{text:?} is no history for newcomers; choose none or all"))),
    }
}

fn history_word(history: History) -> &'static str {
    match history {
        History::None => "none",
        History::All => "all",
    }
}

/// How long a circle is kept: 0 days stand for ever.
fn changed_retention(present: Option<u32>, change: Option<u32>) -> Result<Option<u32>, Problem> {
    match change {
        None => Ok(present),
        Some(0) => Ok(None),
        Some(days @ 1..=RETENTION_DAYS_MOST) => Ok(Some(days)),
        Some(days) => Err(Problem::bad_request(format!(
            "{days} days are too many: what is published is kept at most {RETENTION_DAYS_MOST} days, or with 0 for ever"
        ))),
    }
}

/// A policy that never said anything of quotas goes on saying nothing.
fn changed_quota(present: Option<Quota>, change: &QuotaChange) -> Result<Option<Quota>, Problem> {
    if *change == QuotaChange::default() {
        return Ok(present);
    }
    let QuotaChange { bytes, entries, logs, epochs } = *change;
    if [bytes, entries, logs, epochs].contains(&Some(0)) {
        return Err(Problem::bad_request("a quota of 0 would let nobody publish anything; give at least 1"));
    }
    let present = present.unwrap_or(limits::QUOTA);
    Ok(Some(Quota {
        bytes: bytes.unwrap_or(present.bytes),
        entries: entries.unwrap_or(present.entries),
        logs: logs.unwrap_or(present.logs),
        epochs: epochs.unwrap_or(present.epochs),
    }))
}

fn quota_view(Quota { bytes, entries, logs, epochs }: Quota) -> QuotaView {
    QuotaView { bytes, entries, logs, epochs }
}

fn unknown(partner: &PartnerId) -> Problem {
    Problem::not_found(format!("no partner {partner} is known here; `cwn partners` shows those there are"))
}

fn parse_partner(text: &str) -> Result<PartnerId, Problem> {
    text.parse().map_err(Problem::bad_request)
}

impl Api {
    /// The circles of this node.
    pub async fn circles(&self) -> Result<Circles, Problem> {
        let ask = |engine: &Engine, _: &_| Circles {
            circles: engine.circles().filter_map(|replica| summarise(engine, replica)).collect(),
            offers: offers(engine),
        };
        Ok(self.node.driver.ask(ask).await?)
    }

    /// One circle, and who belongs to it.
    pub async fn circle(&self, named: &str) -> Result<CircleDetail, Problem> {
        let named = named.to_owned();
        let (mut detail, withheld) = self.node.driver.ask(move |engine, store| detail(engine, store, &named)).await??;
        let node = Arc::clone(&self.node);
        let measured = tokio::task::spawn_blocking(move || measure(&node, withheld)).await;
        detail.withheld = measured.map_err(|error| Problem::broken(error.to_string()))?;
        Ok(detail)
    }

    /// Founds a circle and adds partners to it.
    pub async fn found(&self, new: NewCircle) -> Result<Id, Problem> {
        let ceiling = match new.ceiling.as_deref() {
            None => Tlp::AmberStrict,
            Some(text) => text.parse().map_err(Problem::bad_request)?,
        };
        let purposes = new.purposes.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>();
        let policy =
            Policy { ceiling, purposes: purposes.map_err(Problem::bad_request)?, description: new.description };
        let policy = policy.to_bytes().map_err(Problem::bad_request)?;
        let history = new.history.as_deref().map_or(Ok(History::None), parse_history)?;
        let quota = changed_quota(None, &new.quota)?;
        let retention_days = changed_retention(None, new.retention_days)?;
        let terms = Terms { policy, history, quota, retention_days };
        self.expect_new(&new.name).await?;
        let (stewards, adds) = self.looked_up(&new.stewards, &new.partners).await?;
        self.establish(new.name, terms, stewards, adds, None).await
    }

    /// Founds a circle that goes on for another: for what that one is for, and with its partners unless others are
    /// named. Nothing of that one is opened to anybody.
    pub async fn succeed(&self, circle: &str, new: Succession) -> Result<Id, Problem> {
        let circle = self.find(circle).await?;
        self.expect_new(&new.name).await?;
        let me = self.node.me;
        let ask = move |engine: &Engine, _: &_| {
            let replica = engine.circle(&circle)?;
            let (control, roster) = (replica.control()?, replica.fold().roster());
            let own = &roster.member(&me)?.partner;
            let others = roster.partners().into_iter().filter(|partner| *partner != own);
            let others: Vec<String> = others.map(ToString::to_string).collect();
            Some((control.terms(replica.fold()).clone(), others, succeeding(control, circle)))
        };
        let (terms, others, succeeds) = self.node.driver.ask(ask).await?.ok_or_else(|| {
            Problem::refused(
                "this node does not belong to that circle; only who belongs to it can found what succeeds it",
            )
        })?;
        let partners = if new.partners.is_empty() { others } else { new.partners };
        let (stewards, adds) = self.looked_up(&new.stewards, &partners).await?;
        self.establish(new.name, terms, stewards, adds, Some(succeeds)).await
    }

    /// People name circles by their names, so that nobody founds a second one of a name that is here already. Two members
    /// may each found one all the same; of those the id is asked.
    async fn expect_new(&self, name: &str) -> Result<(), Problem> {
        if name.trim() != name {
            return Err(Problem::bad_request(format!(
                "{name:?} is no name, for a space begins or ends it; leave that out"
            )));
        }
        let wrong = match name {
            _ if !is_one_line(name) => Some("it holds characters that are not shown as they are"),
            _ if name.contains('~') => Some("circles of two partners are named so (`cwn circle create --bilateral`)"),
            _ if name.len() >= ID_LEAST && name.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Some("it reads as the beginning of an id")
            }
            _ => None,
        };
        if let Some(why) = wrong {
            return Err(Problem::refused(format!("{name:?} is no name for a circle: {why}; choose another")));
        }
        let wanted = name.to_owned();
        let present = move |engine: &Engine, _: &_| {
            let has_it = |replica: &&Replica| name_of(replica).is_some_and(|name| name.eq_ignore_ascii_case(&wanted));
            engine.circles().find(has_it).map(Replica::id)
        };
        match self.node.driver.ask(present).await? {
            None => Ok(()),
            Some(circle) => Err(Problem::refused(format!(
                "there is a circle {name:?} here already ({}); choose another name",
                short(&circle.to_string())
            ))),
        }
    }

    /// The nodes of stewards, this one first, and of the other partners.
    async fn looked_up(
        &self,
        named: &[String],
        partners: &[String],
    ) -> Result<(Vec<Steward>, Vec<(PartnerId, Vec<MemberNode>)>), Problem> {
        let mut stewards = vec![self.own_steward()];
        // Everything is looked up before anything is done, so that a mistyped name leaves no half circle.
        for text in named {
            let partner = parse_partner(text)?;
            let nodes = self.certified(&partner).await?;
            for node in nodes {
                if stewards.iter().all(|steward: &Steward| steward.node.node != node.node) {
                    stewards.push(Steward { partner: partner.clone(), node });
                }
            }
        }
        let mut adds = Vec::new();
        for text in partners {
            let partner = parse_partner(text)?;
            let nodes = self.certified(&partner).await?;
            let named = adds.iter().any(|(added, _): &(PartnerId, _)| *added == partner);
            if !named && stewards.iter().all(|steward| steward.partner != partner) {
                adds.push((partner, nodes));
            }
        }
        Ok((stewards, adds))
    }

    fn own_steward(&self) -> Steward {
        Steward {
            partner: self.node.certificate.get().partner,
            node: MemberNode { node: self.node.me, recipient: self.node.recipient },
        }
    }

    async fn establish(
        &self,
        name: String,
        terms: Terms,
        stewards: Vec<Steward>,
        adds: Vec<(PartnerId, Vec<MemberNode>)>,
        succeeds: Option<Succeeds>,
    ) -> Result<Id, Problem> {
        let (secret, founded) = (random(), clock::now());
        let charter = Charter { name, stewards, terms, secret, founded, succeeds };
        let circle = match self.node.driver.command(Command::Found { charter }).await? {
            Reply::Founded(circle) => circle,
            other => return Err(Problem::broken(format!("founding came to {other:?}"))),
        };
        for (partner, nodes) in adds {
            self.node.driver.command(Command::Add { circle, partner, nodes }).await?;
        }
        Ok(Id { id: circle.to_string() })
    }

    /// The circle of this node's partner and another, both its stewards: the one there is, or a new one.
    pub async fn bilateral(&self, with: &Bilateral) -> Result<BilateralFounded, Problem> {
        let partner = parse_partner(&with.partner)?;
        let own = self.own_steward();
        if partner == own.partner {
            return Err(Problem::bad_request(format!("{partner} is your own; name the other partner")));
        }
        let nodes = self.certified(&partner).await?;
        let name = bilateral_name(&own.partner, &partner);
        let (ours, theirs, called) = (own.partner.clone(), partner.clone(), name.clone());
        let present = move |engine: &Engine, _: &_| -> Result<Option<CircleId>, Problem> {
            let of_both = |fold: &Fold| fold.roster().partners().into_iter().eq(BTreeSet::from([&ours, &theirs]));
            let is_called = |replica: &&Replica| {
                let named = name_of(replica).is_some_and(|name| name == called);
                named && replica.fold().roster().member(&engine.me()).is_some()
            };
            let offered =
                |(_, offer): &(&CircleId, &Offer)| offer.charter.name == called && of_both(offer.preview.fold());
            if let Some((circle, _)) = engine.offers().find(offered) {
                return Err(Problem::refused(format!(
                    "{theirs} founded {called} already and offers it to you; join it with `cwn circle accept {}`",
                    short(&circle.to_string())
                )));
            }
            let called_so: Vec<&Replica> = engine.circles().filter(is_called).collect();
            match (called_so.iter().find(|replica| of_both(replica.fold())), called_so.first()) {
                (Some(stands), _) => Ok(Some(stands.id())),
                (None, Some(other)) => Err(Problem::refused(format!(
                    "there is a circle {called:?} here already ({}), of others than you and {theirs} alone; `cwn circle show` \
                     says who belongs, and a steward adds and removes them",
                    short(&other.id().to_string())
                ))),
                (None, None) => Ok(None),
            }
        };
        if let Some(circle) = self.node.driver.ask(present).await?? {
            return Ok(BilateralFounded { id: circle.to_string(), name, founded: false });
        }
        // Only the other side makes this node current in the circle: one's own further nodes belong, and are no stewards.
        let mut further = self.certified(&own.partner).await?;
        further.retain(|node| node.node != self.node.me);
        let adds = if further.is_empty() { Vec::new() } else { vec![(own.partner.clone(), further)] };
        let theirs = nodes.into_iter().map(|node| Steward { partner: partner.clone(), node });
        let stewards = [own].into_iter().chain(theirs).collect();
        let policy = Policy::bilateral().to_bytes().map_err(Problem::bad_request)?;
        let terms = Terms { policy, ..Terms::default() };
        let Id { id } = self.establish(name.clone(), terms, stewards, adds, None).await?;
        Ok(BilateralFounded { id, name, founded: true })
    }

    async fn certified(&self, partner: &PartnerId) -> Result<Vec<MemberNode>, Problem> {
        let named = partner.clone();
        let nodes = self.node.driver.ask(move |engine, _| nodes_of(engine, &named)).await?;
        if nodes.is_empty() {
            return Err(Problem::not_found(format!(
                "no certified node of {partner} is known here; `cwn partners` shows whom the coordinator certified"
            )));
        }
        Ok(nodes.into_iter().map(|(node, recipient)| MemberNode { node, recipient }).collect())
    }

    /// The node of a partner that a person named by the first digits of its key; also one that was revoked.
    async fn one_node(&self, partner: &PartnerId, named: Option<&str>) -> Result<Option<PublicKey>, Problem> {
        let Some(named) = named else { return Ok(None) };
        if let Some(whole) = hex_decode(named).map(PublicKey) {
            return Ok(Some(whole));
        }
        if named.len() < NODE_DIGITS_LEAST {
            return Err(Problem::bad_request(format!(
                "{named:?} tells no node of {partner} from others; give at least {NODE_DIGITS_LEAST} of the 64 digits of its key"
            )));
        }
        let (of, digits) = (partner.clone(), named.to_ascii_lowercase());
        let begins = move |engine: &Engine, _: &_| -> Vec<PublicKey> {
            let nodes = engine.word().partner(&of).map(|own| own.certificate.node);
            nodes.filter(|node| node.to_string().starts_with(&digits)).collect()
        };
        match self.node.driver.ask(begins).await?.as_slice() {
            [one] => Ok(Some(*one)),
            [] => Err(Problem::not_found(format!(
                "{partner} has no node whose key begins with {named:?}; `cwn partners` shows those there are"
            ))),
            _ => Err(Problem::bad_request(format!(
                "several nodes of {partner} have keys that begin with {named:?}; give more digits"
            ))),
        }
    }

    /// Adds a partner, or one node of it.
    pub async fn add(&self, circle: &str, membership: &Membership) -> Result<Id, Problem> {
        let circle = self.find(circle).await?;
        let partner = parse_partner(&membership.partner)?;
        let mut nodes = self.certified(&partner).await?;
        if let Some(only) = self.one_node(&partner, membership.node.as_deref()).await? {
            nodes.retain(|node| node.node == only);
            if nodes.is_empty() {
                return Err(Problem::not_found(format!("{partner} has no certified node {only}")));
            }
        }
        self.node.driver.command(Command::Add { circle, partner, nodes }).await?;
        Ok(Id { id: circle.to_string() })
    }

    /// Removes a partner, or one node of it.
    pub async fn remove(&self, circle: &str, membership: &Membership) -> Result<Id, Problem> {
        let circle = self.find(circle).await?;
        let partner = parse_partner(&membership.partner)?;
        let node = self.one_node(&partner, membership.node.as_deref()).await?;
        match self.node.driver.command(Command::Remove { circle, partner, node }).await {
            Err(Failure::Refused(refusal @ CommandRefusal::NotMember { .. })) => {
                let belong = move |engine: &Engine, _: &_| {
                    let partners = engine.circle(&circle).map(|replica| replica.fold().roster().partners());
                    partners.into_iter().flatten().map(ToString::to_string).collect::<Vec<_>>()
                };
                let belong = self.node.driver.ask(belong).await?;
                Err(Problem::refused(format!("{refusal}; it has: {}", belong.join(", "))))
            }
            removed => Ok(removed.map(|_reply| Id { id: circle.to_string() })?),
        }
    }

    /// Accepts what this node holds of a removed partner beyond the cut of its removal, or branches of logs that it forked.
    pub async fn raise(&self, circle: &str, raising: &Raising) -> Result<Id, Problem> {
        let circle = self.find(circle).await?;
        let Raising { partner, node, branches } = raising.clone();
        let partner = parse_partner(&partner)?;
        let only = self.one_node(&partner, node.as_deref()).await?;
        let named = partner.clone();
        let to_raise =
            move |engine: &Engine, store: &Store| to_raise(engine, store, &circle, (&named, only), &branches);
        let to_raise = self.node.driver.ask(to_raise).await??;
        let of = to_raise.len();
        for (done, (removal, ToRaise { branches, raise })) in to_raise.into_iter().enumerate() {
            let raised = self.node.driver.command(Command::Raise { circle, removal, branches }).await;
            raised.map_err(|failure| not_raised(failure, &partner, &raise).after(done, of, "cuts were raised"))?;
        }
        Ok(Id { id: circle.to_string() })
    }

    /// Makes a node of a partner a steward.
    pub async fn appoint(&self, circle: &str, membership: &Membership) -> Result<Id, Problem> {
        let circle = self.find(circle).await?;
        let partner = parse_partner(&membership.partner)?;
        let mut nodes = self.certified(&partner).await?;
        if let Some(only) = self.one_node(&partner, membership.node.as_deref()).await? {
            nodes.retain(|node| node.node == only);
        }
        let node = match nodes.as_slice() {
            [node] => node.clone(),
            [] => return Err(Problem::not_found(format!("{partner} has no such certified node"))),
            several => {
                let keys: Vec<String> = several.iter().map(|node| node.node.to_string()).collect();
                return Err(Problem::bad_request(format!(
                    "{partner} has {} nodes, and one node is steward; name it: {}",
                    keys.len(),
                    keys.join(", ")
                )));
            }
        };
        self.node.driver.command(Command::Appoint { circle, partner, node }).await?;
        Ok(Id { id: circle.to_string() })
    }

    /// Ends the stewardship of a partner, or of one node of it.
    pub async fn dismiss(&self, circle: &str, membership: &Membership) -> Result<Id, Problem> {
        let circle = self.find(circle).await?;
        let partner = parse_partner(&membership.partner)?;
        let only = self.one_node(&partner, membership.node.as_deref()).await?;
        let named = partner.clone();
        let stewards = move |engine: &Engine, _: &_| {
            let roster = engine.circle(&circle).map(|replica| replica.fold().roster().stewards()).unwrap_or_default();
            let named = |(node, member): &(&PublicKey, &Member)| {
                member.partner == named && only.is_none_or(|only| only == **node)
            };
            roster.into_iter().filter(named).map(|(node, _)| *node).collect::<Vec<_>>()
        };
        let stewards = self.node.driver.ask(stewards).await?;
        if stewards.is_empty() {
            return Err(Problem::not_found(format!(
                "{partner} has no such steward in this circle; `cwn circle show` lists its stewards"
            )));
        }
        for node in stewards {
            self.node.driver.command(Command::Dismiss { circle, node }).await?;
        }
        Ok(Id { id: circle.to_string() })
    }

    /// Keeps a circle by other terms: what is not named stays as it is.
    pub async fn policy(&self, circle: &str, change: &PolicyChange) -> Result<Id, Problem> {
        let circle = self.find(circle).await?;
        let present = move |engine: &Engine, _: &_| {
            let replica = engine.circle(&circle)?;
            Some(replica.control()?.terms(replica.fold()).clone())
        };
        let present = self.node.driver.ask(present).await?.ok_or_else(|| Problem::not_found("the circle is gone"))?;
        let terms = changed(&present, change)?;
        self.node.driver.command(Command::Policy { circle, terms }).await?;
        Ok(Id { id: circle.to_string() })
    }

    /// Joins an offered circle.
    pub async fn accept(&self, circle: &str) -> Result<Id, Problem> {
        let circle = self.find_offered(circle).await?;
        self.node.driver.command(Command::Accept { circle }).await?;
        Ok(Id { id: circle.to_string() })
    }

    /// Does not join an offered circle, and never will: the engine passes over every further offer of it.
    pub async fn decline(&self, circle: &str) -> Result<Id, Problem> {
        let circle = self.find_offered(circle).await?;
        let name = move |engine: &Engine, _: &_| {
            engine.offers().find(|(offered, _)| **offered == circle).map(|(_, offer)| offer.charter.name.clone())
        };
        let name = self.node.driver.ask(name).await?.unwrap_or_default();
        self.node.driver.command(Command::Decline { circle }).await?;
        // The engine remembers no more than the id; people ask by the name.
        let key = [TURNED_DOWN_FACT, &circle.0.0].concat();
        self.node.driver.command(Command::Remember { key, value: name.into_bytes() }).await?;
        Ok(Id { id: circle.to_string() })
    }

    /// The circle that this node declined and a person names, by its name and how its id begins.
    fn declined(&self, named: &str) -> Result<Option<String>, Problem> {
        let facts = known_facts(&self.node.reader.get(), TURNED_DOWN_FACT).map_err(Problem::broken)?;
        let read = |(key, name): (Vec<u8>, Vec<u8>)| {
            let circle: [u8; 32] = key.get(TURNED_DOWN_FACT.len()..)?.try_into().ok()?;
            Some((CircleId(Hash(circle)), String::from_utf8(name).ok()?))
        };
        let mut declined = facts.into_iter().filter_map(read);
        let found = declined.find(|(circle, name)| is_named(circle, name, named));
        Ok(found.map(|(circle, name)| format!("{name:?} ({})", short(&circle.to_string()))))
    }

    /// Of an entry by how its hash begins, if it lies beyond the cut of a removal: what is to be said of it.
    pub(super) async fn put_aside(&self, digits: String) -> Result<Option<String>, Problem> {
        let ask = |engine: &Engine, _: &_| -> Vec<(String, Beyond)> {
            let circles = engine.circles().filter_map(|replica| Some((name_of(replica)?, replica)));
            let of = |(name, replica): (String, &Replica)| {
                beyond(engine, replica).into_iter().map(move |one| (name.clone(), one)).collect::<Vec<_>>()
            };
            circles.flat_map(of).collect()
        };
        let (withheld, node) = (self.node.driver.ask(ask).await?, Arc::clone(&self.node));
        let look = move || {
            withheld.into_iter().find_map(|(circle, (partner, _, one))| {
                let mut found = false;
                entries_beyond(&node, &one, &mut |entry| {
                    found |= Stored::read(entry).is_ok_and(|entry| entry.hash().to_string().starts_with(&digits));
                });
                found.then(|| {
                    format!(
                        "this entry is put aside, beyond the cut of the removal of {partner}, and accepted by nobody; \
                         `cwn circle show {circle}` says until when it is kept, and who can have it accepted"
                    )
                })
            })
        };
        tokio::task::spawn_blocking(look).await.map_err(Problem::broken)
    }

    pub(super) async fn find(&self, named: &str) -> Result<CircleId, Problem> {
        let named = named.to_owned();
        self.node.driver.ask(move |engine, _| find_circle(engine, &named)).await?
    }

    async fn find_offered(&self, named: &str) -> Result<CircleId, Problem> {
        let wanted = named.to_owned();
        let found = self.node.driver.ask(move |engine, _| find_offer(engine, &wanted)).await?;
        match (found, self.declined(named)?) {
            (Err(problem), Some(declined)) if problem.code == "not_found" => Err(Problem::refused(format!(
                "this node declined the circle {declined}, and that stands; a steward of it can found another that goes on for \
                 it (`cwn circle succeed`)"
            ))),
            (found, _) => found,
        }
    }
}

fn changed(present: &Terms, change: &PolicyChange) -> Result<Terms, Problem> {
    let mut policy = Policy::from_bytes(&present.policy).map_err(Problem::bad_request)?;
    if let Some(ceiling) = &change.ceiling {
        policy.ceiling = ceiling.parse().map_err(Problem::bad_request)?;
    }
    if let Some(purposes) = &change.purposes {
        let purposes = purposes.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>();
        policy.purposes = purposes.map_err(Problem::bad_request)?;
    }
    if let Some(description) = &change.description {
        policy.description.clone_from(description);
    }
    let history = change.history.as_deref().map_or(Ok(present.history), parse_history)?;
    let quota = changed_quota(present.quota, &change.quota)?;
    let retention_days = changed_retention(present.retention_days, change.retention_days)?;
    Ok(Terms { policy: policy.to_bytes().map_err(Problem::bad_request)?, history, quota, retention_days })
}

/// An operation in words.
fn in_words(operation: &Operation) -> String {
    let of = |node: &Option<PublicKey>| node.map(|node| format!(" (node {node})")).unwrap_or_default();
    match &operation.act {
        Act::Add { partner, .. } => format!("add {partner}"),
        Act::Remove { partner, node, .. } => format!("remove {partner}{}", of(node)),
        Act::Appoint { partner, node } => format!("appoint {partner}{}", of(&Some(node.node))),
        Act::Dismiss { node, .. } => format!("dismiss node {node}"),
        Act::Policy { .. } => "change the policy".to_owned(),
        Act::Later => "something that only a later version of this program knows".to_owned(),
    }
}

/// A removal whose cut is to be raised.
#[derive(Debug)]
struct ToRaise {
    /// The branches that it is to name.
    branches: Vec<Hash>,
    raise: RaiseView,
}

/// Who can raise the cut that governs what an author wrote, or make one: of no worse rank than who removed it, and of
/// better rank than it has if it belongs.
fn raisers(engine: &Engine, replica: &Replica, author: &PublicKey, removal: Option<&Hash>) -> RaiseView {
    let fold = replica.fold();
    let roster = fold.roster();
    let removal = removal.zip(replica.control()).and_then(|(removal, control)| control.valid_operation(fold, removal));
    let taken_out = |node: &PublicKey, member: &Member| match removal {
        Some((_, act)) => act.removes(&member.partner, node),
        None => node == author,
    };
    let belongs: Vec<&Member> =
        roster.iter().filter(|(node, member)| taken_out(node, member)).map(|(_, member)| member).collect();
    let can = |(_, steward): &(&PublicKey, &Member)| {
        steward.steward.as_ref().is_some_and(|(rank, _)| {
            let outranks = |member: &&Member| member.steward.as_ref().is_none_or(|(theirs, _)| rank < theirs);
            removal.is_none_or(|(removed_by, _)| rank <= removed_by) && belongs.iter().all(outranks)
        })
    };
    let can: Vec<(&PublicKey, &Member)> = roster.stewards().into_iter().filter(can).collect();
    let mut by: Vec<String> = can.iter().map(|(_, steward)| steward.partner.to_string()).collect();
    by.dedup();
    RaiseView { this: can.iter().any(|(node, _)| **node == engine.me()), by, belongs: !belongs.is_empty() }
}

/// What is left where no steward that may accept something holds it.
pub(crate) const ANEW: &str = "where none of those holds it, it cannot be accepted as things are, and whoever can read it can publish what it says anew";

/// Why a cut was not raised, and what to do.
fn not_raised(failure: Failure, partner: &PartnerId, raise: &RaiseView) -> Problem {
    match failure {
        Failure::Refused(CommandRefusal::BetterRank { .. }) => Problem::refused(format!(
            "a steward of better rank than this node's removed {partner}; only {} can have that accepted, where it is held too; \
             {ANEW}",
            raise.by.join(" or ")
        )),
        Failure::Refused(refusal @ CommandRefusal::BelongsAgain { .. }) => {
            Problem::refused(format!("{refusal}; remove it, raise the cut then, and add it again"))
        }
        failure => failure.into(),
    }
}

/// The removals of a partner, or of one node of it, whose cuts are to be raised.
fn to_raise(
    engine: &Engine,
    store: &Store,
    circle: &CircleId,
    (partner, only): (&PartnerId, Option<PublicKey>),
    branches: &[String],
) -> Result<BTreeMap<Hash, ToRaise>, Problem> {
    let replica = engine.circle(circle).ok_or_else(|| Problem::not_found("the circle is gone"))?;
    let roster = replica.fold().roster();
    match roster.member(&engine.me()) {
        Some(own) if own.steward.is_some() => {}
        Some(_) => {
            let stewards: BTreeSet<&PartnerId> =
                roster.stewards().into_iter().map(|(_, steward)| &steward.partner).collect();
            let stewards = stewards.into_iter().map(ToString::to_string).collect();
            return Err(Problem::refused(CommandRefusal::NotASteward { stewards }));
        }
        None => return Err(Problem::refused(CommandRefusal::NotAMember)),
    }
    let is_of = |author: &PublicKey, removal: &Hash| {
        let removes = |act: &Act| matches!(act, Act::Remove { partner: removed, .. } if removed == partner);
        removal_of(engine, circle, removal).is_some_and(removes) && only.is_none_or(|only| only == *author)
    };
    let raised = |author: &PublicKey, removal: Hash| {
        let raise = raisers(engine, replica, author, Some(&removal));
        (removal, ToRaise { branches: Vec::new(), raise })
    };
    let mut to_raise: BTreeMap<Hash, ToRaise> = BTreeMap::new();
    if branches.is_empty() {
        let beyond = engine.withheld(circle).into_iter().filter(|one| is_of(&one.key.author, &one.removal));
        to_raise.extend(beyond.map(|one| raised(&one.key.author, one.removal)));
    }
    let disputed = match branches.is_empty() {
        true => Vec::new(),
        false => engine.disputed(circle, store).map_err(Problem::broken)?,
    };
    for named in branches {
        let digits = named.to_ascii_lowercase();
        let is_named = |one: &Disputed| !named.is_empty() && one.first.to_string().starts_with(&digits);
        let mut found = disputed.iter().filter(|one| is_named(one)).filter_map(|one| {
            let removal = engine.governing(&one.key, store)?;
            is_of(&one.key.author, &removal).then_some((one.key.author, removal, one.first))
        });
        let (author, removal, first) = match (found.next(), found.next()) {
            (Some(found), None) => found,
            (Some(_), Some(_)) => {
                let several = format!("several branches begin with {named:?}; give more of its digits");
                return Err(Problem::bad_request(several));
            }
            (None, _) if disputed.iter().any(|one| is_named(one) && roster.member(&one.key.author).is_some()) => {
                return Err(Problem::refused(format!(
                    "whoever forked the branch that begins with {named:?} belongs to the circle, and only of who was removed \
                     a branch can stand; `cwn circle remove` comes first"
                )));
            }
            (None, _) => {
                return Err(Problem::not_found(format!(
                    "this node holds no branch that begins with {named:?} and that {partner} forked; `cwn circle show` lists those it holds"
                )));
            }
        };
        let (removal, first_of) = raised(&author, removal);
        to_raise.entry(removal).or_insert(first_of).branches.push(first);
    }
    match to_raise.is_empty() {
        false => Ok(to_raise),
        true if roster.partners().contains(partner) => {
            Err(Problem::refused(format!("{partner} belongs to the circle, and nothing of it lies beyond a cut")))
        }
        true if engine.word().partner(partner).next().is_none() => Err(unknown(partner)),
        true => Err(Problem::refused(format!(
            "nothing of {partner} is held here beyond the cut of a removal; a steward whose node holds some can raise the \
             cut if it is of no worse rank than who removed {partner}; {ANEW}"
        ))),
    }
}

/// A claim as who looks at the circle that makes it sees it.
pub(super) fn succeeded(engine: &Engine, claim: &Claim) -> SuccessionView {
    let old = engine.circle(&claim.succeeds);
    view_of(claim, claim.succeeds, old.and_then(name_of), old.is_some())
}

fn view_of(claim: &Claim, other: CircleId, name: Option<String>, joined: bool) -> SuccessionView {
    SuccessionView {
        circle: other.to_string(),
        name,
        founder: claim.partner.to_string(),
        standing: match claim.standing {
            Standing::Holds { .. } => "holds",
            Standing::Unfounded => "unfounded",
            Standing::Unknown => "unknown",
        }
        .to_owned(),
        belongs: claim.standing == Standing::Holds { belongs: true },
        joined,
    }
}

fn removal_of<'a>(engine: &'a Engine, circle: &CircleId, removal: &Hash) -> Option<&'a Act> {
    let replica = engine.circle(circle)?;
    replica.control()?.valid_operation(replica.fold(), removal).map(|(_, act)| act)
}

/// What is withheld of a log, whose it is, and who can raise its cut.
type Beyond = (String, RaiseView, Withheld);

/// What a circle holds beyond the cuts of removals.
fn beyond(engine: &Engine, replica: &Replica) -> Vec<Beyond> {
    let circle = replica.id();
    let partner = |one: &Withheld| match removal_of(engine, &circle, &one.removal) {
        Some(Act::Remove { partner, .. }) => partner.to_string(),
        _ => partner_of(engine.word(), &one.key.author),
    };
    let withheld = engine.withheld(&circle).into_iter().map(|one| {
        let raise = raisers(engine, replica, &one.key.author, Some(&one.removal));
        (partner(&one), raise, one)
    });
    withheld.collect()
}

/// The entries of a log that lie beyond its cut, as far as they can be read back; read beside the log thread.
fn entries_beyond(node: &Node, Withheld { key, cut, height, .. }: &Withheld, visit: &mut dyn FnMut(EntryBytes)) {
    let mut next = *cut;
    while next < *height {
        // What cannot be read back is passed over; the node says elsewhere that it is damaged.
        let Ok(entries) = node.reader.get().entries(key, next, *height, MEASURED_BYTES) else { break };
        if entries.is_empty() {
            break;
        }
        next += entries.len() as u64;
        entries.into_iter().for_each(&mut *visit);
    }
}

/// What is withheld of each node, with its bytes; read beside the log thread.
fn measure(node: &Node, withheld: Vec<Beyond>) -> Vec<WithheldView> {
    let mut views: BTreeMap<(String, PublicKey), WithheldView> = BTreeMap::new();
    for (partner, raise, one) in withheld {
        let view = views.entry((partner.clone(), one.key.author)).or_insert_with(|| WithheldView {
            partner,
            node: one.key.author.to_string(),
            entries: 0,
            bytes: 0,
            until: one.until.0,
            raise,
        });
        view.entries += one.height - one.cut;
        view.until = view.until.min(one.until.0);
        entries_beyond(node, &one, &mut |entry| view.bytes += entry.payload.len() as u64);
    }
    views.into_values().collect()
}

fn detail(engine: &Engine, store: &Store, named: &str) -> Result<(CircleDetail, Vec<Beyond>), Problem> {
    let circle = find_circle(engine, named)?;
    let gone = || Problem::not_found("the circle is gone");
    let replica = engine.circle(&circle).ok_or_else(gone)?;
    let control = replica.control().ok_or_else(gone)?;
    let sharing = engine.sharing(&circle);
    let peers: BTreeSet<PublicKey> = engine.peers().iter().map(|peer| peer.peer).collect();
    let stewards: Vec<&PublicKey> = replica.fold().roster().stewards().into_iter().map(|(node, _)| node).collect();
    let rank = |node: &PublicKey| stewards.iter().position(|steward| *steward == node);
    let outside = not_joined(engine, replica);
    let view = |(node, member): (&PublicKey, &Member)| MemberView {
        partner: member.partner.to_string(),
        node: node.to_string(),
        steward: rank(node).and_then(|rank| u16::try_from(rank).ok()),
        founder: member.steward.as_ref().is_some_and(|(_, by)| *by == Stewardship::Charter(0)),
        connected: sharing.iter().any(|(peer, ..)| peer == node),
        certified: engine.is_certified(node),
        revoked: engine.word().revocation(node).is_some(),
        reachable: peers.contains(node),
        not_joined: outside.contains(node),
        this: *node == engine.me(),
    };
    let mut members: Vec<MemberView> = replica.fold().roster().iter().map(view).collect();
    members.sort_by(|a, b| {
        (a.steward.is_none(), a.steward, &a.partner).cmp(&(b.steward.is_none(), b.steward, &b.partner))
    });
    // What cannot be read back cannot be accepted either.
    let disputed = engine.disputed(&circle, store).unwrap_or_default();
    let fork = |(key, place): (LogKey, u64)| {
        let branch = disputed.iter().find(|one| one.key == key);
        ForkView {
            author: partner_of(engine.word(), &key.author),
            node: key.author.to_string(),
            log: key.log.to_string(),
            place,
            of_steward: replica.is_of_steward(&key),
            branch: branch.map(|one| one.first.to_string()),
            disputed: branch.map_or(0, |one| one.height - one.seq),
            raise: raisers(engine, replica, &key.author, engine.governing(&key, store).as_ref()),
        }
    };
    let over = |one: OverQuota| OverQuotaView {
        partner: partner_of(engine.word(), &one.author),
        node: one.author.to_string(),
        used: quota_view(one.used),
        waiting: one.waiting,
    };
    let succeeded_by = engine.successors(&circle);
    let retention = engine.retention(&circle);
    let Policy { purposes, description, .. } = policy_of(&control.terms(replica.fold()).policy);
    let detail = CircleDetail {
        summary: summarise(engine, replica).ok_or_else(gone)?,
        description,
        purposes: purposes.iter().map(ToString::to_string).collect(),
        founded: control.charter().founded.0,
        history: history_word(control.terms(replica.fold()).history).to_owned(),
        kept_days: retention.days,
        kept_less: retention.shorter.map(|(days, at)| KeptLess { days, at: at.map(|at| at.0) }),
        members,
        voided: control.voided(replica.fold()).map(|(_, operation)| in_words(operation)).collect(),
        later_operations: control.later_operations(),
        forks: engine.forks(&circle).into_iter().map(fork).collect(),
        succeeds: engine.claim(&circle).map(|claim| succeeded(engine, &claim)),
        succeeded_by: succeeded_by
            .into_iter()
            .map(|claim| view_of(&claim, claim.by, Some(claim.name.clone()), claim.joined))
            .collect(),
        withheld: Vec::new(),
        quota: quota_view(replica.quota()),
        used: quota_view(replica.used(&engine.me())),
        over_quota: engine.over_quota(&circle).into_iter().map(over).collect(),
    };
    Ok((detail, beyond(engine, replica)))
}
