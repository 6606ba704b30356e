//! The fold of a circle's operations, over random histories, malicious ones too, and beside an independent model.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{
    Hash, PartnerId, PublicKey, Time,
    issuer_log::{CutLine, LogId},
    seal::Recipient,
};
use cwn_engine::{
    circle::{Act, Charter, Control, MemberNode, Operation, OperationRefusal, Steward, Stewardship, Terms},
    limits,
    log::{Header, Opening, Suite, Under},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::world::seeds;

const NAMES: [&str; 6] = ["s0", "s1", "s2", "x", "y", "z"];
const STEWARDS: usize = 3;
const OPERATIONS: usize = 14;

fn key(who: usize) -> PublicKey {
    PublicKey([who as u8 + 1; 32])
}

fn log_of(who: usize) -> LogId {
    LogId([who as u8 + 1; 16])
}

fn member(who: usize) -> MemberNode {
    MemberNode { node: key(who), recipient: Recipient([who as u8 + 1; 32]) }
}

fn partner(who: usize) -> PartnerId {
    NAMES[who].parse().unwrap()
}

fn charter() -> Charter {
    let steward = |who: usize| Steward { partner: partner(who), node: member(who) };
    Charter {
        name: "circle".to_owned(),
        stewards: (0..STEWARDS).map(steward).collect(),
        terms: Terms::default(),
        secret: [7; 32],
        founded: Time(0),
        succeeds: None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Add,
    Remove,
    Appoint,
    Dismiss,
    Policy,
}

/// An operation as the model has it.
#[derive(Debug, Clone)]
struct Op {
    hash: Hash,
    author: usize,
    seq: u64,
    previous: Option<Hash>,
    heads: Vec<Hash>,
    /// The `appoint` it acts under; the charter, when there is none.
    under: Option<Hash>,
    does: Does,
    target: usize,
    /// How many operations of the target's control log a removal or dismissal leaves standing.
    cut: u64,
}

impl Op {
    fn opens_under(&self) -> Under {
        self.under.map_or(Under::Charter, Under::Add)
    }

    fn header(&self, circle: &Control) -> Header {
        Header {
            suite: Suite::Control,
            circle: circle.charter().id(),
            author: key(self.author),
            log: log_of(self.author),
            seq: self.seq,
            previous: self.previous,
            time: Time(0),
            epoch: None,
            payload_hash: self.hash,
            payload_length: 0,
            expiry: None,
            opening: (self.seq == 0).then(|| Opening { under: self.opens_under(), cites: Vec::new() }),
            retracts: None,
        }
    }

    fn operation(&self) -> Operation {
        let (partner, node) = (partner(self.target), member(self.target));
        let cut = vec![CutLine { log: log_of(self.target), height: self.cut, head: self.hash }];
        let act = match self.does {
            Does::Add => Act::Add { partner, nodes: vec![node] },
            Does::Remove => Act::Remove { partner, node: None, cut },
            Does::Appoint => Act::Appoint { partner, node },
            Does::Dismiss => Act::Dismiss { node: node.node, cut },
            Does::Policy => Act::Policy { terms: Terms { policy: vec![self.cut as u8], ..Terms::default() } },
        };
        let stewardship = self.under.map_or(Stewardship::Charter(self.author as u16), Stewardship::Appointed);
        Operation { stewardship, heads: self.heads.clone(), act }
    }
}

/// A history in an order in which it can be taken: any stewardship ever given, any heads, any target, any cut.
fn history(seed: u64) -> Vec<Op> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut below = move |bound: u64| (rng.next_u64() % bound) as usize;
    let mut ops: Vec<Op> = Vec::new();
    for number in 0..OPERATIONS {
        let mut seats: Vec<(usize, Option<Hash>)> = (0..STEWARDS).map(|steward| (steward, None)).collect();
        let appointments = ops.iter().filter(|op| op.does == Does::Appoint);
        seats.extend(appointments.map(|op| (op.target, Some(op.hash))));
        let (author, under) = seats[below(seats.len() as u64)];
        let own: Vec<&Op> = ops.iter().filter(|op| op.author == author).collect();
        let (seq, previous) = (own.len() as u64, own.last().map(|op| op.hash));
        let mut heads: Vec<Hash> = Vec::new();
        if !ops.is_empty() {
            heads.extend((0..below(3)).map(|_| ops[below(ops.len() as u64)].hash));
        }
        heads.extend(under);
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(below(u64::MAX) as u64).to_be_bytes());
        bytes[8] = number as u8;
        let does = [Does::Add, Does::Remove, Does::Appoint, Does::Appoint, Does::Dismiss, Does::Remove, Does::Policy];
        let (does, target) = (does[below(does.len() as u64)], below(NAMES.len() as u64));
        let cut = below(4) as u64;
        ops.push(Op { hash: Hash(bytes), author, seq, previous, heads, under, does, target, cut });
    }
    ops
}

/// Takes operations into a history, in an order drawn from `rng` among those in which they can be taken.
fn take(ops: &[Op], rng: &mut ChaCha8Rng) -> Control {
    let mut control = Control::new(charter());
    let mut waiting: Vec<&Op> = ops.iter().collect();
    while !waiting.is_empty() {
        let index = (rng.next_u64() % waiting.len() as u64) as usize;
        let op = waiting[index];
        let header = op.header(&control);
        if let Ok(operation) = control.read(&header, &op.operation().to_bytes()) {
            control.insert(&header, op.hash, operation);
            waiting.swap_remove(index);
        }
    }
    control
}

/// A stewardship's path from the charter: the place, then for each appointment how much it had seen and its hash.
type Path = (usize, Vec<(usize, Hash)>);

/// The rules of protocol section 5, written from the text, with sets and recursion.
struct Model<'a> {
    ops: &'a [Op],
    past: BTreeMap<Hash, BTreeSet<Hash>>,
}

impl<'a> Model<'a> {
    fn new(ops: &'a [Op]) -> Self {
        let mut past: BTreeMap<Hash, BTreeSet<Hash>> = BTreeMap::new();
        for op in ops {
            let mut mine = BTreeSet::new();
            for seen in op.heads.iter().chain(&op.previous) {
                mine.insert(*seen);
                mine.extend(past[seen].iter().copied());
            }
            past.insert(op.hash, mine);
        }
        Self { ops, past }
    }

    fn op(&self, hash: &Hash) -> &Op {
        self.ops.iter().find(|op| op.hash == *hash).unwrap()
    }

    fn rank(&self, op: &Op) -> Path {
        op.under.map_or((op.author, Vec::new()), |appointment| self.rank_given(self.op(&appointment)))
    }

    /// The rank of the stewardship that an appointment gives.
    fn rank_given(&self, appointment: &Op) -> Path {
        let (place, mut path) = self.rank(appointment);
        path.push((self.past[&appointment.hash].len(), appointment.hash));
        (place, path)
    }

    fn seen_by(&self, op: &Hash, by: Option<Hash>) -> bool {
        by.is_some_and(|by| self.past[&by].contains(op))
    }

    /// What ends a stewardship: valid, of better rank, and not seen by its appointment.
    fn ends_of(&self, who: usize, under: Option<Hash>, rank: &Path) -> Vec<&Op> {
        let ends = |op: &&Op| {
            matches!(op.does, Does::Remove | Does::Dismiss)
                && op.target == who
                && self.rank(op) < *rank
                && !self.seen_by(&op.hash, under)
                && self.valid(op)
        };
        self.ops.iter().filter(ends).collect()
    }

    fn valid(&self, op: &Op) -> bool {
        let appointed = op.under.is_none_or(|appointment| self.valid(self.op(&appointment)));
        let ends = self.ends_of(op.author, op.under, &self.rank(op));
        let replaced = |one: &Op| {
            let replaces =
                |other: &&Op| self.past[&other.hash].contains(&one.hash) && self.rank(other) <= self.rank(one);
            ends.iter().any(replaces)
        };
        let governing = ends.iter().filter(|one| !replaced(one)).min_by_key(|one| (self.rank(one), one.hash));
        appointed && governing.is_none_or(|end| op.seq < end.cut)
    }

    /// The ranks of the stewardships of a node that stand.
    fn standing(&self, who: usize) -> BTreeSet<Path> {
        let charter = (who < STEWARDS).then_some((None, (who, Vec::new())));
        let appointments = self.ops.iter().filter(|op| op.does == Does::Appoint && op.target == who && self.valid(op));
        let given = appointments.map(|op| (Some(op.hash), self.rank_given(op)));
        let stands = |(under, rank): &(Option<Hash>, Path)| self.ends_of(who, *under, rank).is_empty();
        charter.into_iter().chain(given).filter(stands).map(|(_, rank)| rank).collect()
    }

    fn stewards(&self) -> BTreeSet<usize> {
        (0..NAMES.len()).filter(|who| !self.standing(*who).is_empty()).collect()
    }

    fn members(&self) -> BTreeSet<usize> {
        let belongs = |who: &usize| {
            let removed = |under: Option<Hash>, better_than: Option<Path>| {
                self.ops.iter().any(|op| {
                    op.does == Does::Remove
                        && op.target == *who
                        && !self.seen_by(&op.hash, under)
                        && better_than.as_ref().is_none_or(|rank| self.rank(op) < *rank)
                        && self.valid(op)
                })
            };
            let by_charter = *who < STEWARDS && !removed(None, Some((*who, Vec::new())));
            by_charter
                || self.ops.iter().any(|add| {
                    let rank = match add.does {
                        Does::Add => self.standing(*who).into_iter().next(),
                        Does::Appoint => Some(self.rank_given(add)),
                        _ => return false,
                    };
                    add.target == *who && self.valid(add) && !removed(Some(add.hash), rank)
                })
        };
        (0..NAMES.len()).filter(belongs).collect()
    }

    fn terms(&self) -> u8 {
        let policies: Vec<&Op> = self.ops.iter().filter(|op| op.does == Does::Policy && self.valid(op)).collect();
        let latest = |one: &&&Op| !policies.iter().any(|other| self.past[&other.hash].contains(&one.hash));
        let counts = policies.iter().filter(latest).min_by_key(|one| (self.rank(one), one.hash));
        counts.map_or(0, |op| op.cut as u8)
    }

    fn void(&self) -> BTreeSet<Hash> {
        self.ops.iter().filter(|op| !self.valid(op)).map(|op| op.hash).collect()
    }
}

fn members(control: &Control) -> BTreeSet<usize> {
    let fold = control.fold();
    (0..NAMES.len()).filter(|who| fold.roster().counts(&key(*who))).collect()
}

fn stewards(control: &Control) -> BTreeSet<usize> {
    let fold = control.fold();
    let steward = |who: &usize| fold.roster().member(&key(*who)).is_some_and(|member| member.steward.is_some());
    (0..NAMES.len()).filter(steward).collect()
}

fn void(control: &Control) -> BTreeSet<Hash> {
    control.voided(&control.fold()).map(|(hash, _)| hash).collect()
}

fn terms(control: &Control) -> u8 {
    control.terms(&control.fold()).policy.first().copied().unwrap_or(0)
}

#[test]
fn i4_the_fold_concludes_what_an_independent_model_concludes() {
    for seed in seeds(400) {
        let ops = history(seed);
        let control = take(&ops, &mut ChaCha8Rng::seed_from_u64(seed));
        let model = Model::new(&ops);
        assert_eq!(void(&control), model.void(), "void operations, seed {seed}");
        assert_eq!(members(&control), model.members(), "members, seed {seed}");
        assert_eq!(stewards(&control), model.stewards(), "stewards, seed {seed}");
        assert_eq!(terms(&control), model.terms(), "terms, seed {seed}");
    }
}

#[test]
fn i4_the_order_of_arrival_changes_nothing() {
    for seed in seeds(400) {
        let ops = history(seed);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let first = take(&ops, &mut rng);
        for _ in 0..3 {
            let other = take(&ops, &mut rng);
            assert_eq!(other.fold().roster(), first.fold().roster(), "seed {seed}");
            assert_eq!(void(&other), void(&first), "seed {seed}");
            assert_eq!(other.heads(), first.heads(), "seed {seed}");
            assert_eq!(terms(&other), terms(&first), "seed {seed}");
        }
    }
}

#[test]
fn a_worse_rank_never_changes_what_a_better_one_did() {
    let mut looked_at = 0;
    for seed in seeds(400) {
        let ops = history(seed);
        // Without the operations under the worst stewardship, unless others build on them.
        let model = Model::new(&ops);
        let worst = ops.iter().map(|op| model.rank(op)).max().unwrap();
        let is_worst = |op: &Op| model.rank(op) == worst;
        let builds = |op: &Op| !is_worst(op) && model.past[&op.hash].iter().any(|seen| is_worst(model.op(seen)));
        if ops.iter().any(builds) {
            continue;
        }
        looked_at += 1;
        let without: Vec<Op> = ops.iter().filter(|op| !is_worst(op)).cloned().collect();
        let kept: BTreeSet<Hash> = without.iter().map(|op| op.hash).collect();
        let with = take(&ops, &mut ChaCha8Rng::seed_from_u64(seed));
        let without = take(&without, &mut ChaCha8Rng::seed_from_u64(seed));
        let better: BTreeSet<Hash> = void(&with).intersection(&kept).copied().collect();
        assert_eq!(better, void(&without), "seed {seed}");
    }
    assert!(looked_at > 50, "{looked_at} histories say too little");
}

#[test]
fn what_the_past_of_an_operation_concludes_never_changes() {
    for seed in seeds(100) {
        let ops = history(seed);
        let half = ops.len() / 2;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let early = take(&ops[..half], &mut rng);
        let late = take(&ops, &mut rng);
        for op in &ops[..half] {
            let before = early.fold_at(&[op.hash]).unwrap();
            let after = late.fold_at(&[op.hash]).unwrap();
            assert_eq!(before.roster(), after.roster(), "seed {seed}");
        }
    }
}

/// One operation with a chosen hash; its log goes on from the hash before.
fn op(hash: u8, author: usize, seq: u64, heads: &[u8], does: Does, target: usize) -> Op {
    Op {
        hash: Hash([hash; 32]),
        author,
        seq,
        previous: (seq > 0).then(|| Hash([hash - 1; 32])),
        heads: heads.iter().map(|hash| Hash([*hash; 32])).collect(),
        under: None,
        does,
        target,
        cut: 0,
    }
}

fn under(appointment: u8, op: Op) -> Op {
    Op { under: Some(Hash([appointment; 32])), ..op }
}

fn taken(ops: &[Op]) -> Control {
    take(ops, &mut ChaCha8Rng::seed_from_u64(1))
}

#[test]
fn an_operation_by_somebody_who_is_no_steward_is_refused() {
    let control = Control::new(charter());
    let outsider = op(9, 4, 0, &[], Does::Add, 4);
    for place in 0..STEWARDS as u16 {
        let operation = Operation { stewardship: Stewardship::Charter(place), ..outsider.operation() };
        assert!(control.read(&outsider.header(&control), &operation.to_bytes()).is_err());
    }
    // Nor by one that was appointed, under another's appointment or one that it has not seen.
    let control = taken(&[op(10, 0, 0, &[], Does::Appoint, 3), op(20, 1, 0, &[], Does::Add, 5)]);
    for (author, heads) in [(4, [10]), (3, [20])] {
        let wrong = under(10, op(30, author, 0, &heads, Does::Add, 4));
        let refusal = control.read(&wrong.header(&control), &wrong.operation().to_bytes()).unwrap_err();
        assert!(matches!(refusal, OperationRefusal::NotASteward { .. }), "{refusal}");
    }
    let early = under(40, op(30, 3, 0, &[40], Does::Add, 4));
    let refusal = control.read(&early.header(&control), &early.operation().to_bytes()).unwrap_err();
    assert!(matches!(refusal, OperationRefusal::Missing(_)), "{refusal}");
}

#[test]
fn removal_wins_over_a_concurrent_add_and_a_later_add_brings_back() {
    // s1 adds x; s0 removes x without having seen that.
    let concurrent = [op(10, 1, 0, &[], Does::Add, 3), op(20, 0, 0, &[], Does::Remove, 3)];
    assert!(!members(&taken(&concurrent)).contains(&3));
    // s2 adds x again, having seen the removal.
    let again = [concurrent.as_slice(), &[op(30, 2, 0, &[20], Does::Add, 3)]].concat();
    assert!(members(&taken(&again)).contains(&3));
}

#[test]
fn a_dismissed_steward_goes_on_belonging_and_what_it_did_beyond_the_cut_is_void() {
    let appointed = op(10, 0, 0, &[], Does::Appoint, 3);
    let added = under(10, op(20, 3, 0, &[10], Does::Add, 4));
    let dismissed = op(30, 1, 0, &[20], Does::Dismiss, 3);
    // s1 is of better rank than none that s0 appointed.
    let circle = taken(&[appointed.clone(), added.clone(), dismissed.clone()]);
    assert_eq!(stewards(&circle), BTreeSet::from([0, 1, 2, 3]));
    let by_founder = Op { previous: Some(appointed.hash), seq: 1, author: 0, ..dismissed };
    let circle = taken(&[appointed, added.clone(), by_founder]);
    assert_eq!(stewards(&circle), BTreeSet::from([0, 1, 2]));
    assert!(members(&circle).contains(&3) && !members(&circle).contains(&4));
    assert_eq!(void(&circle), BTreeSet::from([added.hash]));
}

#[test]
fn nobody_dismisses_or_removes_an_equal_or_better_rank() {
    for does in [Does::Dismiss, Does::Remove] {
        let appointed = op(10, 0, 0, &[], Does::Appoint, 3);
        let upward = under(10, op(20, 3, 0, &[10], does, 0));
        let itself = Op { previous: Some(upward.hash), seq: 1, ..under(10, op(30, 3, 1, &[20], does, 3)) };
        let circle = taken(&[appointed, upward, itself]);
        assert_eq!(stewards(&circle), BTreeSet::from([0, 1, 2, 3]));
        assert_eq!(members(&circle), BTreeSet::from([0, 1, 2, 3]));
    }
}

#[test]
fn of_concurrent_terms_the_better_ranks_count_until_somebody_who_has_seen_them_changes_them() {
    let with = |op: Op, number: u64| Op { cut: number, ..op };
    let founder = with(op(10, 0, 0, &[], Does::Policy, 0), 30);
    let other = with(op(20, 1, 0, &[], Does::Policy, 0), 60);
    assert_eq!(terms(&taken(&[founder.clone(), other.clone()])), 30);
    let later = with(op(30, 2, 0, &[10, 20], Does::Policy, 0), 90);
    assert_eq!(terms(&taken(&[founder, other, later])), 90);
}

#[test]
fn appointments_have_a_depth_beyond_which_nobody_is_appointed() {
    let mut control = Control::new(charter());
    let mut before = None;
    for depth in 0..=limits::APPOINTMENTS {
        let author = if depth == 0 { 0 } else { 3 + (depth + 1) % 2 };
        let (hash, seq) = (100 + depth as u8, 0);
        let heads: Vec<u8> = before.into_iter().collect();
        let next = op(hash, author, seq, &heads, Does::Appoint, 3 + depth % 2);
        let next = before.map_or(next.clone(), |before| under(before, next));
        let header = Header { log: LogId([hash; 16]), ..next.header(&control) };
        match control.read(&header, &next.operation().to_bytes()) {
            Ok(operation) => control.insert(&header, next.hash, operation),
            Err(refusal) => {
                assert_eq!((depth, refusal), (limits::APPOINTMENTS, OperationRefusal::TooDeep));
                return;
            }
        }
        before = Some(hash);
    }
    panic!("appointments without end");
}
