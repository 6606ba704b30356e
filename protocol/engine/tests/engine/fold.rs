//! The fold of a circle's operations, over random histories, malicious ones too, and beside an independent model.

use std::collections::{BTreeMap, BTreeSet};

use cwn_crypto::{
    Hash, PartnerId, PublicKey, Time,
    issuer_log::{CutLine, LogId},
    seal::Recipient,
};
use cwn_engine::{
    circle::{Act, Charter, Control, MemberNode, Operation, Steward},
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
        policy: Vec::new(),
        secret: [7; 32],
        founded: Time(0),
    }
}

/// An operation as the model has it.
#[derive(Debug, Clone)]
struct Op {
    hash: Hash,
    author: usize,
    seq: u64,
    previous: Option<Hash>,
    heads: Vec<Hash>,
    adds: bool,
    target: usize,
    /// How many operations of the target's control log a removal leaves standing.
    cut: u64,
}

impl Op {
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
            opening: (self.seq == 0).then(|| Opening { under: Under::Charter, cites: Vec::new() }),
        }
    }

    fn operation(&self) -> Operation {
        let act = if self.adds {
            Act::Add { partner: partner(self.target), nodes: vec![member(self.target)] }
        } else {
            let line = CutLine { log: log_of(self.target), height: self.cut, head: self.hash };
            Act::Remove { partner: partner(self.target), node: None, cut: vec![line] }
        };
        Operation { place: self.author as u16, heads: self.heads.clone(), act }
    }
}

/// A history in an order in which it can be taken: any steward, any heads, any target, any cut.
fn history(seed: u64) -> Vec<Op> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut below = move |bound: u64| rng.next_u64() % bound;
    let mut ops: Vec<Op> = Vec::new();
    for number in 0..OPERATIONS {
        let author = below(STEWARDS as u64) as usize;
        let own: Vec<&Op> = ops.iter().filter(|op| op.author == author).collect();
        let (seq, previous) = (own.len() as u64, own.last().map(|op| op.hash));
        let mut heads: Vec<Hash> = Vec::new();
        if !ops.is_empty() {
            heads.extend((0..below(3)).map(|_| ops[below(ops.len() as u64) as usize].hash));
        }
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&below(u64::MAX).to_be_bytes());
        bytes[8] = number as u8;
        let (adds, target) = (below(2) == 0, below(NAMES.len() as u64) as usize);
        let cut = below(4);
        ops.push(Op { hash: Hash(bytes), author, seq, previous, heads, adds, target, cut });
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

    fn removals_of(&self, who: usize, better_than: usize) -> Vec<&Op> {
        let removes = |op: &&Op| !op.adds && op.target == who && op.author < better_than && self.valid(op);
        self.ops.iter().filter(removes).collect()
    }

    fn valid(&self, op: &Op) -> bool {
        let removals = self.removals_of(op.author, op.author);
        let replaced = |one: &Op| {
            removals.iter().any(|other| self.past[&other.hash].contains(&one.hash) && other.author <= one.author)
        };
        let governing = removals.iter().filter(|one| !replaced(one)).min_by_key(|one| (one.author, one.hash));
        governing.is_none_or(|removal| op.seq < removal.cut)
    }

    fn stands(&self, who: usize) -> bool {
        who < STEWARDS && self.removals_of(who, who).is_empty()
    }

    fn members(&self) -> BTreeSet<usize> {
        let belongs = |who: &usize| {
            self.stands(*who)
                || self.ops.iter().any(|add| {
                    let ends = |removal: &&Op| {
                        let may = !self.stands(*who) || removal.author < *who;
                        may && !self.past[&add.hash].contains(&removal.hash)
                    };
                    let removals = self.removals_of(*who, usize::MAX);
                    add.adds && add.target == *who && self.valid(add) && !removals.iter().any(ends)
                })
        };
        (0..NAMES.len()).filter(belongs).collect()
    }

    fn void(&self) -> BTreeSet<Hash> {
        self.ops.iter().filter(|op| !self.valid(op)).map(|op| op.hash).collect()
    }
}

fn members(control: &Control) -> BTreeSet<usize> {
    let fold = control.fold();
    (0..NAMES.len()).filter(|who| fold.roster().counts(&key(*who))).collect()
}

fn void(control: &Control) -> BTreeSet<Hash> {
    control.voided(&control.fold()).map(|(hash, _)| hash).collect()
}

#[test]
fn i4_the_fold_concludes_what_an_independent_model_concludes() {
    for seed in seeds(400) {
        let ops = history(seed);
        let control = take(&ops, &mut ChaCha8Rng::seed_from_u64(seed));
        let model = Model::new(&ops);
        assert_eq!(void(&control), model.void(), "void operations, seed {seed}");
        assert_eq!(members(&control), model.members(), "members, seed {seed}");
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
        }
    }
}

#[test]
fn a_worse_rank_never_changes_what_a_better_one_did() {
    for seed in seeds(400) {
        let ops = history(seed);
        let worst = STEWARDS - 1;
        // Without the worst rank's operations, and those that build on them.
        let model = Model::new(&ops);
        let is_worst = |hash: &Hash| ops.iter().any(|op| op.hash == *hash && op.author == worst);
        let without: Vec<Op> =
            ops.iter().filter(|op| op.author != worst && !model.past[&op.hash].iter().any(is_worst)).cloned().collect();
        let kept: BTreeSet<Hash> = without.iter().map(|op| op.hash).collect();
        if ops.iter().any(|op| op.author != worst && !kept.contains(&op.hash)) {
            continue;
        }
        let with_void: BTreeSet<Hash> = void(&take(&ops, &mut ChaCha8Rng::seed_from_u64(seed)));
        let without_void = void(&take(&without, &mut ChaCha8Rng::seed_from_u64(seed)));
        let better: BTreeSet<Hash> = with_void.intersection(&kept).copied().collect();
        assert_eq!(better, without_void, "seed {seed}");
    }
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

#[test]
fn an_operation_by_somebody_who_is_no_steward_is_refused() {
    let control = Control::new(charter());
    let outsider =
        Op { hash: Hash([9; 32]), author: 4, seq: 0, previous: None, heads: Vec::new(), adds: true, target: 4, cut: 0 };
    for place in 0..STEWARDS as u16 {
        let operation = Operation { place, ..outsider.operation() };
        assert!(control.read(&outsider.header(&control), &operation.to_bytes()).is_err());
    }
}

#[test]
fn removal_wins_over_a_concurrent_add_and_a_later_add_brings_back() {
    let op = |hash: u8, author, seq, heads: &[u8], adds| Op {
        hash: Hash([hash; 32]),
        author,
        seq,
        previous: (seq > 0).then(|| Hash([hash - 1; 32])),
        heads: heads.iter().map(|hash| Hash([*hash; 32])).collect(),
        adds,
        target: 3,
        cut: 0,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    // s1 adds x; s0 removes x without having seen that.
    let concurrent = [op(10, 1, 0, &[], true), op(20, 0, 0, &[], false)];
    assert!(!members(&take(&concurrent, &mut rng)).contains(&3));
    // s2 adds x again, having seen the removal.
    let again = [concurrent.as_slice(), &[op(30, 2, 0, &[20], true)]].concat();
    assert!(members(&take(&again, &mut rng)).contains(&3));
}
