//! An author signs two entries for one place.

use cwn_crypto::{
    Domain, Hash, Signature, encoding,
    issuer_log::{CutLine, LogId},
};
use cwn_engine::{
    circle::Quota,
    fork::{Branch, ForkProof},
    input::{Command, CommandId, Input},
    limits,
    log::{CircleId, Draft, EntryBytes, Header, LogKey, Opening, Payload, Suite, Writer},
    output::{CommandRefusal, Event, Reply},
    wire::Frame,
};
use minicbor::{Decoder, Encoder};

use crate::world::World;

const FOUR: [&str; 4] = ["ncsc", "z-cert", "ibd", "ferm"];

/// Entries of one log of `ferm`: `common` the same in both branches, then `length` of its own in each.
pub struct Fork {
    pub key: LogKey,
    pub branches: [Vec<EntryBytes>; 2],
}

impl Fork {
    /// The hash of one entry of a branch.
    pub fn hash_of(&self, branch: usize, place: usize) -> Hash {
        Hash::of(Domain::ENTRY, &[&self.branches[branch][place].header])
    }

    /// What proves it: of each branch the header of its own first entry.
    pub fn proof(&self, common: usize) -> ForkProof {
        let branch = |entries: &[EntryBytes]| Branch {
            headers: vec![entries[common].header.clone().into()],
            signature: entries[common].signature,
        };
        ForkProof { one: branch(&self.branches[0]), other: branch(&self.branches[1]) }
    }
}

fn draft(text: &str) -> Draft {
    let payload = text.as_bytes().to_vec();
    Draft { suite: Suite::Named, epoch: None, payload, expiry: None, retracts: None }
}

/// A circle of four, of whom `ferm` forks a log.
pub fn forked(common: usize, length: usize) -> (World, CircleId, Fork) {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    world.disconnect("z-cert", "ibd");
    let fork = fork(&world, circle, LogId([0xf0; 16]), common, length);
    (world, circle, fork)
}

/// Both branches of one of `ferm`'s logs.
fn fork(world: &World, circle: CircleId, log: LogId, common: usize, length: usize) -> Fork {
    let ferm = world.key("ferm");
    let under = world.engine("ferm").circle(&circle).unwrap().fold().roster().member(&ferm).unwrap().under;
    let branch = |name: &str| -> Vec<EntryBytes> {
        let opening = Opening { under, cites: Vec::new() };
        let mut writer = Writer::open(circle, world.node("ferm").key.clone(), log, opening);
        let common = (0..common).map(|number| format!("common {number}"));
        let own = (0..length).map(|number| format!("{name} {number}"));
        common.chain(own).map(|text| writer.append(world.now, draft(&text)).bytes().clone()).collect()
    };
    let branches = [branch("one"), branch("other")];
    Fork { key: LogKey { circle, author: ferm, log }, branches }
}

/// A header as a later version may write it, so long.
fn padded(header: &[u8], length: usize) -> Vec<u8> {
    let mut read = Decoder::new(header);
    let items = read.array().unwrap().unwrap();
    let mut longer = Encoder::new(Vec::new());
    longer.array(14).unwrap();
    longer.writer_mut().extend_from_slice(&header[read.position()..]);
    for _ in items..13 {
        longer.null().unwrap();
    }
    // Before so many bytes stand three that say how many.
    let rest = length - longer.writer().len() - 3;
    longer.bytes(&vec![7; rest]).unwrap();
    longer.into_writer()
}

/// `ferm` goes on behind these entries with so many whose headers are so long, of which it signs the last alone.
fn go_on(world: &World, entries: &[EntryBytes], count: usize, header_bytes: usize) -> Vec<EntryBytes> {
    let mut entries = entries.to_vec();
    for number in 1..=count {
        let last = &entries[entries.len() - 1];
        let before = Header::from_bytes(&last.header).unwrap();
        let payload = format!("padded {number}").into_bytes();
        let header = Header {
            seq: before.seq + 1,
            previous: Some(Hash::of(Domain::ENTRY, &[&last.header])),
            payload_hash: Hash::of(Domain::PAYLOAD, &[&payload]),
            payload_length: payload.len() as u32,
            opening: None,
            ..before
        };
        let header = padded(&encoding::to_bytes(&header), header_bytes);
        let signature = match number == count {
            true => world.node("ferm").key.sign(Domain::ENTRY, &header),
            false => Signature([1; 64]),
        };
        entries.push(EntryBytes { header, signature, payload: Payload::Sealed(payload) });
    }
    entries
}

impl World {
    /// `ferm` hands a node one branch.
    pub fn hand(&mut self, to: &str, circle: CircleId, branch: &[EntryBytes]) {
        branch.iter().for_each(|entry| self.push_raw("ferm", to, circle, entry.clone()));
        self.run(100);
    }

    /// Somebody hands a node entries in a file.
    pub fn import(&mut self, to: &str, entries: &[EntryBytes]) {
        let index = self.index(to);
        self.input(index, Input::Import { entries: entries.to_vec() });
        self.run(100);
    }

    pub fn accepted(&self, name: &str, key: &LogKey) -> u64 {
        self.engine(name).circle(&key.circle).unwrap().accepted(&key.author, &key.log)
    }

    pub fn knows_the_fork(&self, name: &str, key: &LogKey) -> Option<u64> {
        self.engine(name).forks(&key.circle).into_iter().find(|(log, _)| log == key).map(|(_, seq)| seq)
    }
}

#[test]
fn i4_a_fork_ends_a_log_at_the_same_place_for_everybody_and_is_told() {
    for (common, length) in [(0, 1), (1, 1), (3, 5), (20, 2), (70, 40)] {
        let (mut world, circle, fork) = forked(common, length);
        // ferm keeps to itself what it does to the others.
        world.hand("z-cert", circle, &fork.branches[0]);
        world.hand("ibd", circle, &fork.branches[1]);
        world.crash("ferm");
        world.settle();
        for name in ["ncsc", "z-cert", "ibd"] {
            assert_eq!(world.knows_the_fork(name, &fork.key), Some(common as u64), "{name}, {common} and {length}");
            assert_eq!(world.accepted(name, &fork.key), common as u64, "{name}, {common} and {length}");
            let told = world.node(name).events.iter().filter(|event| matches!(event, Event::Fork { .. })).count();
            assert_eq!(told, 1, "{name} is told once");
            assert_eq!(world.digest(name, circle), world.digest("ncsc", circle), "{name}, {common} and {length}");
        }
        // It stands after a restart, and a newcomer hears of it.
        world.crash("z-cert").start("z-cert").connect_all().settle();
        assert_eq!(world.accepted("z-cert", &fork.key), common as u64);
        assert_eq!(world.digest("z-cert", circle), world.digest("ncsc", circle));
        world.append("ncsc", circle, "life goes on");
        world.settle();
        for name in ["z-cert", "ibd"] {
            assert!(world.reads(name, circle).contains(&"life goes on".to_owned()), "{name}");
        }
    }
}

#[test]
fn i4_a_cut_names_the_branch_that_stands_and_everybody_ends_with_that_one() {
    let (mut world, circle, fork) = forked(2, 3);
    world.hand("z-cert", circle, &fork.branches[0]);
    world.crash("ferm");
    world.settle();
    // Before anybody hears of the other branch, ferm is removed with what is held of it.
    world.disconnect("ibd", "ncsc").disconnect("ibd", "z-cert");
    world.start("ferm").connect("ferm", "ibd").run(1_000);
    world.remove("ncsc", circle, "ferm");
    world.hand("ibd", circle, &fork.branches[1]);
    world.crash("ferm");
    assert_eq!(world.accepted("ibd", &fork.key), 5);
    world.connect_all().settle();
    let branch = |world: &World, name: &str| world.node(name).store.logs[&fork.key][4].1.clone();
    for name in ["ncsc", "z-cert", "ibd"] {
        assert_eq!(world.accepted(name, &fork.key), 5, "{name}\n{}", world.describe(name, circle));
        assert_eq!(branch(&world, name), fork.branches[0][4], "{name} holds the branch that the cut names");
        assert_eq!(world.digest(name, circle), world.digest("ncsc", circle), "{name}");
    }
    world.crash("ibd").start("ibd").connect_all().settle();
    assert_eq!(world.accepted("ibd", &fork.key), 5);
}

#[test]
fn i4_who_holds_less_of_another_branch_than_the_cut_names_ends_with_the_named_one() {
    let (mut world, circle, fork) = forked(2, 3);
    world.disconnect("ibd", "ncsc").disconnect("ibd", "z-cert");
    world.hand("z-cert", circle, &fork.branches[0]);
    world.hand("ibd", circle, &fork.branches[1][..3]);
    world.crash("ferm");
    world.settle();
    world.remove("ncsc", circle, "ferm");
    world.settle();
    world.connect_all().settle();
    for name in ["ncsc", "z-cert", "ibd"] {
        assert_eq!(world.accepted(name, &fork.key), 5, "{name}\n{}", world.describe(name, circle));
        assert_eq!(world.digest(name, circle), world.digest("ncsc", circle), "{name}");
    }
}

#[test]
fn i4_a_removal_after_the_fork_was_proven_leaves_what_stands_before_it() {
    let (mut world, circle, fork) = forked(2, 3);
    world.hand("z-cert", circle, &fork.branches[0]);
    world.hand("ibd", circle, &fork.branches[1]);
    world.settle();
    world.remove("ncsc", circle, "ferm");
    world.settle();
    for name in ["ncsc", "z-cert", "ibd"] {
        assert_eq!(world.accepted(name, &fork.key), 2, "{name}");
        assert_eq!(world.digest(name, circle), world.digest("ncsc", circle), "{name}");
    }
}

/// The fork is proven, and `ferm` removed with what stands before it; z-cert holds one branch, ibd the other.
fn removed_after_the_proof() -> (World, CircleId, Fork) {
    let (mut world, circle, fork) = forked(2, 3);
    world.hand("z-cert", circle, &fork.branches[0]);
    world.hand("ibd", circle, &fork.branches[1]);
    world.appoint("ncsc", circle, "z-cert");
    world.appoint("ncsc", circle, "ibd");
    world.settle();
    world.remove("ibd", circle, "ferm");
    world.crash("ferm").settle();
    (world, circle, fork)
}

/// Asks for a branch, by its first entry.
fn name_branch(world: &mut World, by: &str, fork: &Fork, first: Hash) -> CommandId {
    let removal = world.engine(by).governing(&fork.key, &world.node(by).store).unwrap();
    let id = world.command(by, Command::Raise { circle: fork.key.circle, removal, branches: vec![first] });
    world.settle();
    id
}

#[test]
fn i7_what_is_disputed_is_looked_up_where_logs_fork_and_not_among_all_that_are_held() {
    let (world, circle, fork) = removed_after_the_proof();
    let store = &world.node("z-cert").store;
    let before = store.lists.get();
    let disputed = world.engine("z-cert").disputed(&circle, store).unwrap();
    assert_eq!(disputed.iter().map(|one| one.key).collect::<Vec<_>>(), [fork.key]);
    assert_eq!(store.lists.get(), before);
}

#[test]
fn i4_a_steward_names_the_branch_that_stands_after_the_fork_was_proven_and_all_end_with_it() {
    let (mut world, circle, fork) = removed_after_the_proof();
    let disputed = world.engine("z-cert").disputed(&circle, &world.node("z-cert").store).unwrap();
    assert_eq!(disputed.iter().map(|one| (one.key, one.seq, one.height)).collect::<Vec<_>>(), [(fork.key, 2, 5)]);
    let named = name_branch(&mut world, "z-cert", &fork, fork.hash_of(0, 2));
    assert!(
        matches!(world.reply("z-cert", named), Some(Ok(Reply::Appended { .. }))),
        "{:?}",
        world.reply("z-cert", named)
    );
    for restarted in [false, true] {
        for name in ["ncsc", "z-cert", "ibd"] {
            assert_eq!(world.accepted(name, &fork.key), 5, "{name}, {restarted}\n{}", world.describe(name, circle));
            assert_eq!(world.node(name).store.logs[&fork.key][4].1, fork.branches[0][4], "{name}, {restarted}");
            assert_eq!(world.digest(name, circle), world.digest("ncsc", circle), "{name}, {restarted}");
            let disputed = world.engine(name).disputed(&circle, &world.node(name).store).unwrap();
            assert_eq!(disputed, [], "{name}, {restarted}");
        }
        for name in ["ncsc", "z-cert", "ibd"] {
            world.crash(name).start(name);
        }
        world.connect_all().settle();
    }
}

#[test]
fn a_branch_that_this_node_does_not_hold_or_nobody_put_aside_is_named_by_nobody() {
    let (mut world, _, fork) = removed_after_the_proof();
    let other = name_branch(&mut world, "z-cert", &fork, fork.hash_of(1, 2));
    assert!(matches!(world.reply("z-cert", other), Some(Err(CommandRefusal::NoSuchBranch { .. }))));
    let before = name_branch(&mut world, "z-cert", &fork, fork.hash_of(0, 1));
    assert!(matches!(world.reply("z-cert", before), Some(Err(CommandRefusal::NoSuchBranch { .. }))));
    for name in ["ncsc", "z-cert", "ibd"] {
        assert_eq!(world.accepted(name, &fork.key), 2, "{name}");
    }
}

#[test]
fn i4_of_two_stewards_that_name_different_branches_the_better_rank_is_followed_by_all() {
    let (mut world, circle, fork) = removed_after_the_proof();
    world.partition(&[&["ncsc", "z-cert"], &["ibd"]]);
    name_branch(&mut world, "z-cert", &fork, fork.hash_of(0, 2));
    name_branch(&mut world, "ibd", &fork, fork.hash_of(1, 2));
    world.connect_all().settle();
    let standing = world.node("ncsc").store.logs[&fork.key][4].1.clone();
    assert!(fork.branches.iter().any(|branch| branch[4] == standing));
    for name in ["ncsc", "z-cert", "ibd"] {
        assert_eq!(world.accepted(name, &fork.key), 5, "{name}\n{}", world.describe(name, circle));
        assert_eq!(world.node(name).store.logs[&fork.key][4].1, standing, "{name}");
        assert_eq!(world.digest(name, circle), world.digest("ncsc", circle), "{name}");
    }
}

/// Found by cwn-sim (`--malice forker` among many removals and raised cuts, seed 41, 7 nodes, 3 h).
#[test]
fn i4_who_hears_of_the_log_that_names_a_branch_after_the_cut_that_reaches_it_goes_back_to_that_branch() {
    let (mut world, circle, fork) = forked(2, 3);
    world.appoint("ncsc", circle, "ibd");
    world.settle();
    world.partition(&[&["ncsc", "z-cert"], &["ibd", "ferm"]]);
    let ferm = world.key("ferm");
    let under = world.engine("ferm").circle(&circle).unwrap().fold().roster().member(&ferm).unwrap().under;
    let cites = vec![CutLine { log: fork.key.log, height: 5, head: fork.hash_of(1, 4) }];
    let key = world.node("ferm").key.clone();
    let next = Writer::open(circle, key, LogId([0xf1; 16]), Opening { under, cites }).append(world.now, draft("next"));
    for name in ["ncsc", "z-cert"] {
        world.import(name, &fork.branches[1]);
        world.import(name, &[next.bytes().clone()]);
    }
    world.remove("ncsc", circle, "ferm");
    // On the other side the fork is known, and a steward of worse rank names the other branch.
    world.import("ibd", &fork.branches[0]);
    let tag = world.tag("ferm", "ibd", circle);
    world.send_raw("ferm", "ibd", Frame::Fork { tag, proof: fork.proof(2) }.to_bytes());
    world.settle();
    world.remove("ibd", circle, "ferm");
    world.crash("ferm").settle();
    name_branch(&mut world, "ibd", &fork, fork.hash_of(0, 2));
    assert_eq!(world.accepted("ibd", &fork.key), 5);
    world.connect_all().settle();
    for name in ["ncsc", "z-cert", "ibd"] {
        assert_eq!(world.accepted(name, &fork.key), 5, "{name}\n{}", world.describe(name, circle));
        assert_eq!(world.node(name).store.logs[&fork.key][4].1, fork.branches[1][4], "{name}");
        assert_eq!(world.digest(name, circle), world.digest("ncsc", circle), "{name}");
    }
}

#[test]
fn i4_who_was_sent_the_branch_that_counts_before_it_heard_so_asks_for_it_again() {
    let (mut world, circle, fork) = forked(2, 3);
    world.partition(&[&["ncsc"], &["z-cert"], &["ibd"], &["ferm"]]);
    let ferm = world.key("ferm");
    let under = world.engine("ferm").circle(&circle).unwrap().fold().roster().member(&ferm).unwrap().under;
    let citing = |id: u8, height: u64, head: Hash| {
        let opening = Opening { under, cites: vec![CutLine { log: fork.key.log, height, head }] };
        let mut writer = Writer::open(circle, world.node("ferm").key.clone(), LogId([id; 16]), opening);
        writer.append(world.now, draft("next")).bytes().clone()
    };
    // One that cites an entry which nobody ever wrote, and one that cites a branch.
    let (other, next) = (citing(0xf2, 4, Hash([7; 32])), citing(0xf1, 5, fork.hash_of(1, 4)));
    world.import("ncsc", &fork.branches[1]);
    world.import("ncsc", &[next]);
    world.import("ncsc", std::slice::from_ref(&other));
    world.remove("ncsc", circle, "ferm");
    world.import("ibd", &[other]);
    world.crash("ferm").connect("ncsc", "ibd").settle();
    assert_eq!(world.accepted("ncsc", &fork.key), 5);
    assert_eq!(world.accepted("ibd", &fork.key), 5, "{}", world.describe("ibd", circle));
    assert_eq!(world.digest("ibd", circle), world.digest("ncsc", circle));
}

/// Found by cwn-sim (a forker among many changes of who belongs, seed 2): of a log that a cut ends before its first
/// entry some hold entries that do not count, others nothing; they differed for ever in whether they said that it forks.
#[test]
fn i4_a_fork_that_is_told_of_a_log_which_a_cut_leaves_nothing_of_sets_nobody_apart() {
    let (mut world, circle, fork) = forked(0, 3);
    world.partition(&[&["ncsc", "ibd"], &["z-cert", "ferm"]]);
    world.hand("z-cert", circle, &fork.branches[0]);
    world.remove("ncsc", circle, "ferm");
    world.crash("ferm").connect_all().settle();
    assert_eq!((world.accepted("z-cert", &fork.key), world.accepted("ncsc", &fork.key)), (0, 0));
    let tag = world.tag("ibd", "z-cert", circle);
    world.send_raw("ibd", "z-cert", Frame::Fork { tag, proof: fork.proof(0) }.to_bytes());
    world.settle();
    for name in ["ncsc", "z-cert"] {
        assert_eq!(world.knows_the_fork(name, &fork.key), Some(0), "{name}");
        assert_eq!(world.digest(name, circle), world.digest("ncsc", circle), "{name}");
    }
}

#[test]
fn i10_a_clone_that_writes_on_in_the_same_log_is_told_that_its_key_is_in_use_elsewhere() {
    let (mut world, circle, fork) = forked(1, 2);
    let writes = fork.branches[0].clone();
    world.hand("z-cert", circle, &writes);
    world.settle();
    let told =
        |world: &World| world.node("ferm").events.iter().any(|event| matches!(event, Event::OwnKeyElsewhere { .. }));
    assert!(told(&world), "what its key wrote elsewhere came to ferm");
    world.append("ferm", circle, "from the real one");
    world.settle();
    assert!(world.reads("ncsc", circle).contains(&"from the real one".to_owned()));
}

#[test]
fn i5_a_proof_of_a_fork_that_proves_nothing_is_refused_and_its_bearer_blamed() {
    let (mut world, circle, fork) = forked(2, 2);
    world.hand("z-cert", circle, &fork.branches[0]);
    world.hand("ibd", circle, &fork.branches[1]);
    world.settle();
    let facts = &world.node("ncsc").store.facts;
    let proof = facts.iter().find(|(key, _)| key.starts_with(b"fork/")).unwrap().1.clone();
    let proof: ForkProof = cwn_crypto::encoding::from_bytes(&proof, limits::FRAME_BYTES).unwrap();
    assert!(proof.verify().is_ok());
    let mut unsigned = proof.clone();
    unsigned.one.signature = Signature([1; 64]);
    let same = ForkProof { one: proof.one.clone(), other: proof.one.clone() };
    let mut longer = proof.clone();
    longer.other.headers.push(longer.other.headers[0].clone());
    let mut empty = proof.clone();
    empty.one.headers.clear();
    for (number, wrong) in [unsigned, same, longer, empty].into_iter().enumerate() {
        assert!(wrong.verify().is_err(), "{number}");
    }
    let wrong = ForkProof { other: proof.one.clone(), ..proof };
    let tag = world.tag("ferm", "z-cert", circle);
    world.send_raw("ferm", "z-cert", Frame::Fork { tag, proof: wrong }.to_bytes());
    assert_eq!(world.refusals_of("z-cert", "ferm").len(), 1);
}

#[test]
fn i7_however_long_headers_are_made_what_is_taken_of_a_fork_is_proven_in_one_frame() {
    for (header_bytes, taken) in
        [(20_000, false), (limits::PLAIN_HEADER_BYTES + 1, false), (limits::PLAIN_HEADER_BYTES, true)]
    {
        let (mut world, circle, fork) = forked(3, 2);
        world.entries_per_frame = 10;
        let other = go_on(&world, &fork.branches[0][..3], limits::UNSIGNED_ENTRIES + 1, header_bytes);
        world.hand("z-cert", circle, &fork.branches[0]);
        world.partition(&[&["ncsc", "z-cert"], &["ibd"]]);
        world.crash("ferm");
        world.import("ibd", &other);
        world.connect_all().settle();
        for name in ["ncsc", "z-cert", "ibd"] {
            let (known, accepted) = if taken { (Some(3), 3) } else { (None, 5) };
            assert_eq!(world.knows_the_fork(name, &fork.key), known, "{name}, headers of {header_bytes}");
            assert_eq!(world.accepted(name, &fork.key), accepted, "{name}, headers of {header_bytes}");
            assert_eq!(world.digest(name, circle), world.digest("ncsc", circle), "{name}, headers of {header_bytes}");
        }
    }
}

#[test]
fn i4_however_many_logs_an_author_forks_members_end_with_the_same() {
    let (mut world, circle, _) = forked(0, 0);
    let count = limits::FORKS_PER_AUTHOR as u8 + 6;
    let forks: Vec<Fork> = (0..count).map(|log| fork(&world, circle, LogId([log; 16]), 1, 1)).collect();
    for fork in &forks {
        world.hand("z-cert", circle, &fork.branches[0]);
        world.hand("ibd", circle, &fork.branches[1]);
    }
    world.crash("ferm");
    world.settle().settle();
    for name in ["ncsc", "z-cert", "ibd"] {
        let accepted: Vec<u64> = forks.iter().map(|fork| world.accepted(name, &fork.key)).collect();
        assert_eq!(accepted, vec![1; forks.len()], "{name}");
        assert_eq!(world.digest(name, circle), world.digest("ncsc", circle), "{name}");
    }
    world.crash("ibd").start("ibd");
    assert_eq!(world.engine("ibd").forks(&circle).len(), forks.len());
}

#[test]
fn i7_of_logs_that_are_not_held_no_more_proofs_of_forks_are_kept_than_of_an_honest_author() {
    let (mut world, circle, _) = forked(0, 0);
    for log in 0..limits::FORKS_PER_AUTHOR as u8 + 6 {
        let proof = fork(&world, circle, LogId([log; 16]), 1, 1).proof(1);
        let tag = world.tag("ncsc", "ibd", circle);
        world.send_raw("ncsc", "ibd", Frame::Fork { tag, proof }.to_bytes());
    }
    world.run(100);
    assert_eq!(world.engine("ibd").forks(&circle).len(), limits::FORKS_PER_AUTHOR);
}

#[test]
fn i7_many_forks_that_are_told_in_a_row_are_compared_about_once() {
    // cwn-sim seed 20001, 20 nodes, 24 h, 10 % malicious.
    let (mut world, circle, _) = forked(0, 0);
    world.settle();
    let before = world.node("ibd").frames;
    let count = 40;
    for log in 0..count {
        let proof = fork(&world, circle, LogId([log; 16]), 1, 1).proof(1);
        let tag = world.tag("ncsc", "ibd", circle);
        world.send_raw("ncsc", "ibd", Frame::Fork { tag, proof }.to_bytes());
    }
    world.run(100);
    assert_eq!(world.engine("ibd").forks(&circle).len(), usize::from(count));
    // ferm and nobody else has not told it yet.
    let proofs = u64::from(count);
    let sent = world.node("ibd").frames - before;
    assert!((proofs..proofs + 10).contains(&sent), "{sent} frames");
}

#[test]
fn i7_forks_without_end_are_not_told_to_all_by_all_and_are_known_to_all_in_the_end() {
    let (mut world, circle, _) = forked(0, 0);
    let count = 200_u16;
    let held = fork(&world, circle, LogId([9; 16]), count.into(), 0);
    ["ncsc", "z-cert", "ibd"].iter().for_each(|name| world.hand(name, circle, &held.branches[0]));
    world.settle();
    let tag = world.tag("ncsc", "ibd", circle);
    let before = world.node("ibd").frames;
    // Each for an earlier place of one log.
    for place in (0..count).rev() {
        let proof = fork(&world, circle, LogId([9; 16]), usize::from(place), 1).proof(place.into());
        world.send_raw("ncsc", "ibd", Frame::Fork { tag, proof }.to_bytes());
    }
    world.run(500);
    let sent = world.node("ibd").frames - before;
    assert!(sent < 2 * limits::FORKS_TOLD_AT_ONCE as u64, "{sent} frames");
    world.settle();
    for name in ["ncsc", "z-cert", "ibd"] {
        assert_eq!(world.knows_the_fork(name, &held.key), Some(0), "{name}");
        assert_eq!(world.digest(name, circle), world.digest("ibd", circle), "{name}");
    }
}

#[test]
fn i9_who_hands_on_a_branch_that_begins_without_signatures_is_not_blamed_unless_it_wrote_it() {
    let (mut world, circle, fork) = forked(2, 5);
    // Large entries come one in a frame.
    world.entries_per_frame = 1;
    let mut other = fork.branches[1].clone();
    other[2..5].iter_mut().for_each(|entry| entry.signature = Signature([1; 64]));
    world.partition(&[&["ncsc", "z-cert", "ferm"], &["ibd"]]);
    world.hand("z-cert", circle, &fork.branches[0][..3]);
    world.import("ibd", &other);
    assert_eq!(world.accepted("ibd", &fork.key), 7);
    world.connect("z-cert", "ibd").settle();
    assert_eq!(world.refusals_of("z-cert", "ibd"), Vec::<String>::new());
    assert!(world.is_connected("z-cert", "ibd"));
    for name in ["z-cert", "ibd", "ncsc"] {
        assert_eq!((world.knows_the_fork(name, &fork.key), world.accepted(name, &fork.key)), (Some(2), 2), "{name}");
    }
    // Whoever wrote it has nobody to blame.
    let (mut world, circle, fork) = forked(2, 5);
    world.hand("z-cert", circle, &fork.branches[0][..3]);
    world.push_raw("ferm", "z-cert", circle, other[3].clone());
    assert_eq!(world.refusals_of("z-cert", "ferm").len(), 1);
}

#[test]
fn i4_more_unsigned_entries_in_a_row_than_a_proof_has_room_for_are_taken_by_nobody() {
    let mut world = World::new(&FOUR);
    let circle = world.circle(&FOUR);
    let ferm = world.key("ferm");
    let under = world.engine("ferm").circle(&circle).unwrap().fold().roster().member(&ferm).unwrap().under;
    for (unsigned, taken) in [(limits::UNSIGNED_ENTRIES, true), (limits::UNSIGNED_ENTRIES + 1, false)] {
        let log = LogId([unsigned as u8; 16]);
        let opening = Opening { under, cites: Vec::new() };
        let mut writer = Writer::open(circle, world.node("ferm").key.clone(), log, opening);
        let mut entries: Vec<EntryBytes> = (0..unsigned + 3)
            .map(|number| writer.append(world.now, draft(&format!("{number}"))).bytes().clone())
            .collect();
        for entry in &mut entries[1..=unsigned] {
            entry.signature = Signature([1; 64]);
        }
        let key = LogKey { circle, author: ferm, log };
        for pieces in [1, 2, unsigned + 3] {
            let mut other = World::new(&FOUR);
            let founded = other.circle(&FOUR);
            assert_eq!(founded, circle, "the same world, seed by seed");
            let index = other.index("ibd");
            let size = (unsigned + 3).div_ceil(pieces);
            // However it is cut into pieces: what waits for a signature comes again with what follows.
            for end in (0..=unsigned + 3).step_by(size).skip(1).chain([unsigned + 3]) {
                other.input(index, Input::Import { entries: entries[..end].to_vec() });
                other.run(100);
            }
            let expected = if taken { unsigned as u64 + 3 } else { 1 };
            assert_eq!(other.accepted("ibd", &key), expected, "{unsigned} unsigned, in {pieces} pieces");
        }
    }
}

/// An author signs no entry but the first and one that the others do not take.
#[test]
fn i4_a_cut_names_an_entry_that_all_can_take_though_nothing_behind_it_was() {
    let (mut world, circle, fork) = forked(5, 0);
    let mut entries = fork.branches[0].clone();
    entries[1..4].iter_mut().for_each(|entry| entry.signature = Signature([1; 64]));
    world.set_quota("ncsc", circle, Quota { entries: 4, ..limits::QUOTA }).settle();
    world.partition(&[&["ncsc"], &["z-cert"], &["ibd"], &["ferm"]]);
    world.import("ncsc", &entries);
    world.import("z-cert", &entries);
    world.remove("ncsc", circle, "ferm");
    world.crash("ferm").connect_all().settle();
    for name in ["ibd", "z-cert", "ncsc"] {
        assert_eq!(world.digest(name, circle), world.digest("ncsc", circle), "{name}");
        assert_eq!(world.accepted(name, &fork.key), 1, "{name}");
        assert_eq!(world.engine(name).circle(&circle).unwrap().used(&fork.key.author).entries, 1, "{name}");
    }
}

/// An author signs an entry that nobody can ever take, and not the one before it.
#[test]
fn i4_what_an_entry_alone_vouches_for_that_nobody_takes_is_taken_by_nobody() {
    let (mut world, circle, fork) = forked(1, 0);
    world.append("ncsc", circle, "sealed");
    world.settle();
    let epoch = world.first_epoch("ibd", circle);
    let ferm = world.key("ferm");
    let under = world.engine("ferm").circle(&circle).unwrap().fold().roster().member(&ferm).unwrap().under;
    let opening = Opening { under, cites: Vec::new() };
    let mut writer = Writer::open(circle, world.node("ferm").key.clone(), fork.key.log, opening);
    let of_another = Draft { suite: Suite::Epoch, epoch: Some(epoch), ..draft("sealed by another") };
    let drafts = [draft("signed"), draft("not signed"), of_another];
    let mut entries: Vec<EntryBytes> =
        drafts.into_iter().map(|draft| writer.append(world.now, draft).bytes().clone()).collect();
    entries[1].signature = Signature([1; 64]);
    world.crash("ferm");
    world.import("ibd", &entries);
    world.connect_all().settle();
    for _ in 0..40 {
        world.run(limits::DIGEST_EVERY_MS);
    }
    for name in ["ncsc", "z-cert", "ibd"] {
        assert_eq!(world.accepted(name, &fork.key), 1, "{name}");
        assert_eq!(world.digest(name, circle), world.digest("ncsc", circle), "{name}");
        assert!(world.is_connected(name, "ibd") || name == "ibd", "{name}");
    }
}

/// What stands before the fork is not signed itself: whose signature vouched for it stood behind the fork.
#[test]
fn i4_who_hears_of_a_fork_first_takes_what_stands_before_it_as_those_do_who_held_a_branch() {
    for unsigned in [1, limits::UNSIGNED_ENTRIES, limits::UNSIGNED_ENTRIES + 1] {
        let (mut world, circle, fork) = forked(1 + unsigned, 1);
        let stands = 1 + unsigned as u64;
        let taken = unsigned <= limits::UNSIGNED_ENTRIES;
        world.partition(&[&["ncsc"], &["z-cert", "ferm"], &["ibd"]]);
        world.crash("ferm");
        for (name, branch) in [("z-cert", &fork.branches[0]), ("ibd", &fork.branches[1])] {
            let mut branch = branch.clone();
            branch[1..=unsigned].iter_mut().for_each(|entry| entry.signature = Signature([1; 64]));
            world.import(name, &branch);
        }
        world.connect("z-cert", "ibd").settle();
        let accepted = if taken { stands } else { 1 };
        assert_eq!((world.accepted("z-cert", &fork.key), world.accepted("ibd", &fork.key)), (accepted, accepted));
        world.connect_all().settle();
        assert_eq!(world.knows_the_fork("ncsc", &fork.key), taken.then_some(stands));
        assert_eq!(world.accepted("ncsc", &fork.key), accepted, "{unsigned} unsigned");
        assert!(unsigned_in_a_row(&world, "ncsc", &fork.key) <= limits::UNSIGNED_ENTRIES);
        assert_eq!(world.digest("ncsc", circle), world.digest("ibd", circle), "{unsigned} unsigned");
        world.crash("ncsc").start("ncsc");
        assert_eq!(world.accepted("ncsc", &fork.key), accepted);
    }
}

/// The most entries in a row, of what a node holds of a log, whose own signatures do not hold.
fn unsigned_in_a_row(world: &World, name: &str, key: &LogKey) -> usize {
    let signed = |bytes: &EntryBytes| key.author.verify(Domain::ENTRY, &bytes.header, &bytes.signature).is_ok();
    let log = &world.node(name).store.logs[key];
    log.split(|(_, bytes)| signed(bytes)).map(<[_]>::len).max().unwrap_or(0)
}

/// Two bearers hand on what `ferm` signed whole, each without some of the signatures.
#[test]
fn i4_what_was_taken_up_to_an_unsigned_entry_goes_on_with_no_more_of_those_than_anybody_takes() {
    for restart in [false, true] {
        let (mut world, circle, fork) = forked(110, 0);
        let key = fork.key;
        let whole = &fork.branches[0];
        let without = |from: usize, to: usize| {
            let mut entries = whole.clone();
            entries[from..to].iter_mut().for_each(|entry| entry.signature = Signature([1; 64]));
            entries
        };
        world.partition(&[&["ncsc"], &["z-cert"], &["ibd", "ferm"]]);
        world.import("ibd", &without(1, 41)[..50]);
        let index = world.index("ibd");
        world.nodes[index].store.rotten.insert((key, 41));
        world.input(index, Input::Damaged { key, seq: 41 });
        world.crash("ferm");
        assert_eq!(world.accepted("ibd", &key), 41, "rot ends it behind forty that are not signed");
        world.import("z-cert", &without(41, 105));
        assert_eq!(world.accepted("z-cert", &key), 110);
        if restart {
            // What it held before rot took it is not looked at then.
            world.nodes[index].store.logs.get_mut(&key).unwrap().truncate(41);
            world.crash("ibd").start("ibd");
        }
        world.connect("ibd", "z-cert").settle();
        assert!(unsigned_in_a_row(&world, "ibd", &key) <= limits::UNSIGNED_ENTRIES);
        assert_eq!(world.accepted("ibd", &key), 41, "what z-cert holds does not go together with what ibd holds");
        assert_eq!(world.refusals_of("ibd", "z-cert"), Vec::<String>::new(), "which is not z-cert's fault");
        world.import("ncsc", whole);
        world.connect("ibd", "ncsc").settle();
        assert_eq!(world.accepted("ibd", &key), 110);
        assert!(unsigned_in_a_row(&world, "ibd", &key) <= limits::UNSIGNED_ENTRIES);
        assert_eq!(world.digest("ibd", circle), world.digest("ncsc", circle));
    }
}
