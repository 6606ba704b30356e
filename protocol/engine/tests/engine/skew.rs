//! Nodes of two versions: what a later one says that an earlier one does not know is neither blamed nor lost, and they
//! agree on what both know.

use cwn_crypto::{Domain, Hash, Signed, SigningKey, Time, encoding, issuer_log::LogId};
use cwn_engine::{
    circle::{Act, Operation, Stewardship},
    epoch::{Record, SignedRecord},
    held::Statement,
    input::Input,
    limits,
    log::{CircleId, EntryBytes, Header, LogKey, Opening, Payload, Suite, Under},
    output::Event,
    store::Read as _,
    wire::{Frame, VERSION, common_version},
};
use minicbor::{Decoder, Encode, Encoder};

use crate::world::{World, key_of, partner};

const THREE: [&str; 3] = ["ncsc", "z-cert", "ferm"];

/// An array as a later version writes it, that appended an item to one of `known` items; those at its end that are
/// left out stand there as nulls now.
pub fn longer(array: &[u8], known: u64) -> Vec<u8> {
    let mut read = Decoder::new(array);
    let items = read.array().unwrap().unwrap();
    let mut longer = Encoder::new(Vec::new());
    longer.array(known + 1).unwrap();
    longer.writer_mut().extend_from_slice(&array[read.position()..]);
    for _ in items..known {
        longer.null().unwrap();
    }
    longer.str("of a later version").unwrap();
    longer.into_writer()
}

/// A frame as a node of a later version sends it: its greeting says so, something stands behind what is known, and
/// frames of a type of its own go with it.
pub fn as_later(bytes: Vec<u8>) -> Vec<Vec<u8>> {
    let frame = Frame::from_bytes(&bytes).unwrap();
    let unknown = encoding::to_bytes(&(77_u8, "something", [1_u64, u64::MAX]));
    match frame {
        Frame::Hello { version, nonce } => {
            let hello = Frame::Hello { version: version + 1, nonce }.to_bytes();
            vec![longer(&hello, 3), unknown]
        }
        Frame::Root { .. } => vec![longer(&bytes, 4), unknown],
        _ => {
            let items = Decoder::new(&bytes).array().unwrap().unwrap();
            vec![unknown, longer(&bytes, items)]
        }
    }
}

impl World {
    fn expect_peace(&self, circle: CircleId, names: &[&str]) {
        for (name, other) in names.iter().flat_map(|name| names.iter().map(move |other| (name, other))) {
            if name != other {
                assert!(self.is_connected(name, other), "{name} and {other}");
                assert_eq!(self.refusals_of(name, other), Vec::<String>::new(), "{name} of {other}");
            }
            assert_eq!(self.digest(name, circle), self.digest(other, circle), "{name} and {other}");
        }
    }

    /// A node comes by entries as a file that somebody carried, or as its operator who wrote them.
    fn take(&mut self, name: &str, entries: &[EntryBytes]) {
        let index = self.index(name);
        self.input(index, Input::Import { entries: entries.to_vec() });
    }

    fn under(&self, name: &str, circle: CircleId) -> Under {
        self.engine(name).circle(&circle).unwrap().fold().roster().member(&self.key(name)).unwrap().under
    }
}

/// A log that a node of a later version writes.
struct LaterLog {
    key: LogKey,
    signing: SigningKey,
    under: Under,
    entries: Vec<EntryBytes>,
}

impl LaterLog {
    fn of(world: &World, name: &str, circle: CircleId, under: Under) -> Self {
        let signing = world.node(name).key.clone();
        let key = LogKey { circle, author: signing.public(), log: LogId([0x77; 16]) };
        Self { key, signing, under, entries: Vec::new() }
    }

    fn hash(&self) -> Option<Hash> {
        self.entries.last().map(|entry| Hash::of(Domain::ENTRY, &[&entry.header]))
    }

    /// Writes an entry; `change` makes of its header what a later version would.
    fn write(&mut self, suite: u16, payload: &[u8], change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Hash {
        let seq = self.entries.len() as u64;
        let opening = (seq == 0).then(|| Opening { under: self.under, cites: Vec::new() });
        let header = Header {
            suite: Suite::of(suite).unwrap(),
            circle: self.key.circle,
            author: self.key.author,
            log: self.key.log,
            seq,
            previous: self.hash(),
            time: Time(crate::world::START.0 + seq),
            epoch: None,
            payload_hash: Hash::of(Domain::PAYLOAD, &[payload]),
            payload_length: payload.len() as u32,
            expiry: None,
            opening,
            retracts: None,
        };
        let header = change(encoding::to_bytes(&header));
        let signature = self.signing.sign(Domain::ENTRY, &header);
        self.entries.push(EntryBytes { header, signature, payload: Payload::Sealed(payload.to_vec()) });
        self.hash().unwrap()
    }
}

#[test]
fn two_nodes_speak_the_lower_of_their_versions_if_both_still_do() {
    for (ours, theirs, common) in [
        (1..=1, 1, Some(1)),
        (1..=1, 2, Some(1)),
        (1..=2, 1, Some(1)),
        (1..=2, 2, Some(2)),
        (2..=3, 9, Some(3)),
        (2..=3, 1, None),
        (1..=1, 0, None),
    ] {
        assert_eq!(common_version(ours.clone(), theirs), common, "{ours:?} with {theirs}");
    }
}

#[test]
fn what_a_node_of_before_says_of_the_root_is_read_though_it_does_not_say_which_document_it_means() {
    let said = Frame::from_bytes(&[0x82, 9, 2]).unwrap();
    assert_eq!(said, Frame::Root { held: 2, document: None, newest: None });
}

#[test]
fn a_node_of_a_later_version_and_earlier_ones_agree_on_what_all_know() {
    let mut world = World::unconnected(1, &THREE);
    world.speak_later("z-cert");
    world.connect_all().settle();
    let circle = world.circle(&THREE);
    for (name, text) in [("ncsc", "earlier"), ("z-cert", "later"), ("ferm", "earlier too")] {
        world.append(name, circle, text);
    }
    world.settle();
    // What was missed comes in runs.
    world.crash("z-cert");
    for number in 0..300 {
        world.append("ncsc", circle, &format!("missed {number}"));
    }
    world.settle();
    world.start("z-cert").connect_all().settle();
    world.append("z-cert", circle, "again");
    world.settle();
    world.expect_peace(circle, &THREE);
    assert_eq!(world.reads("ferm", circle).len(), 304);
    assert_eq!(world.reads("ferm", circle), world.reads("z-cert", circle));
    let said =
        |name: &str| -> Vec<Option<u16>> { world.engine(name).peers().iter().map(|peer| peer.version).collect() };
    assert_eq!(said("z-cert"), [Some(VERSION); 2]);
    assert!(said("ncsc").contains(&Some(VERSION + 1)));
}

#[test]
fn of_a_peer_that_speaks_a_later_version_what_is_no_frame_ends_the_session_all_the_same() {
    for bytes in [vec![], vec![0x82, 0x18, 0x63], vec![0x82, 0x18, 0x63, 0, 0], vec![0x82, 0, 0], vec![0x18, 0x63]] {
        let mut world = World::unconnected(1, &THREE);
        world.speak_later("ferm");
        world.connect_all().settle();
        world.send_raw("ferm", "ncsc", vec![0x82, 0x18, 0x63, 0]);
        assert!(world.is_connected("ncsc", "ferm"), "a frame of a later type");
        world.send_raw("ferm", "ncsc", bytes.clone());
        assert!(!world.is_connected("ncsc", "ferm"), "{bytes:?}");
    }
}

#[test]
fn entries_of_a_later_suite_or_with_more_in_their_headers_are_held_and_handed_on_by_earlier_nodes() {
    let mut world = World::new(&THREE);
    let circle = world.circle(&THREE);
    let mut log = LaterLog::of(&world, "z-cert", circle, world.under("z-cert", circle));
    log.write(2, b"with more in its header", |header| longer(&header, 13));
    log.write(99, b"sealed in another way", |header| header);
    log.write(2, b"as always", |header| header);
    world.disconnect("ncsc", "ferm");
    world.take("ferm", &log.entries);
    world.settle();
    // From ferm to z-cert, and on to ncsc.
    world.connect_all().settle();
    world.expect_peace(circle, &THREE);
    for name in THREE {
        assert_eq!(world.engine(name).circle(&circle).unwrap().accepted(&log.key.author, &log.key.log), 3, "{name}");
        for (seq, entry) in log.entries.iter().enumerate() {
            assert_eq!(world.node(name).store.entry(&log.key, seq as u64).unwrap().as_ref(), Some(entry), "{name}");
        }
        world.crash(name).start(name);
        assert_eq!(world.engine(name).circle(&circle).unwrap().accepted(&log.key.author, &log.key.log), 3, "{name}");
        assert!(!world.node(name).events.iter().any(|event| matches!(event, Event::Damaged { .. })), "{name}");
    }
}

#[test]
fn an_entry_of_no_suite_is_refused() {
    let mut world = World::new(&THREE);
    let circle = world.circle(&THREE);
    let mut log = LaterLog::of(&world, "ferm", circle, world.under("ferm", circle));
    log.write(2, b"of suite 0", |mut header| {
        assert_eq!(std::mem::replace(&mut header[1], 0), 2, "the suite");
        header
    });
    let tag = world.tag("ferm", "ncsc", circle);
    let push = Frame::Push { tag, record: None, entry: log.entries[0].clone() };
    world.send_raw("ferm", "ncsc", push.to_bytes());
    assert_eq!(world.refusals_of("ncsc", "ferm").len(), 1);
}

/// An operation as a later version writes it, of an act that is not known here.
fn later_operation(heads: Vec<Hash>) -> Vec<u8> {
    #[derive(Encode)]
    struct Later(#[n(0)] Stewardship, #[n(1)] Vec<Hash>, #[n(2)] (u32, (u8, &'static str)));
    encoding::to_bytes(&Later(Stewardship::Charter(0), heads, (5, (1, "a node for a week"))))
}

#[test]
fn an_act_of_a_later_version_does_nothing_here_and_stops_nothing() {
    let mut world = World::new(&THREE);
    let circle = world.circle(&THREE);
    let heads = world.engine("ncsc").circle(&circle).unwrap().control().unwrap().heads();
    let mut log = LaterLog::of(&world, "ncsc", circle, Under::Charter);
    let act = log.write(3, &later_operation(heads), |header| header);
    world.take("z-cert", &log.entries);
    world.settle();
    for name in THREE {
        let replica = world.engine(name).circle(&circle).unwrap();
        assert_eq!(replica.control().unwrap().later_operations(), 1, "{name}");
        assert!(replica.control().unwrap().holds(&act) && replica.fold().roster().iter().count() == 3, "{name}");
    }
    // What is known goes on after it.
    world.append("z-cert", circle, "sealed after it");
    world.settle();
    world.expect_reads("ferm", circle, &["sealed after it"]);
    world.remove("ncsc", circle, "ferm");
    world.settle();
    assert!(!world.engine("z-cert").circle(&circle).unwrap().counts(&world.key("ferm")));
    world.crash("z-cert").start("z-cert").connect_all().settle();
    assert_eq!(world.engine("z-cert").circle(&circle).unwrap().control().unwrap().later_operations(), 1);
    world.expect_peace(circle, &["ncsc", "z-cert"]);
}

#[test]
fn i1_behind_an_act_of_a_later_version_a_node_seals_by_epochs_of_its_own_alone() {
    let mut world = World::new(&["ncsc", "z-cert", "z-cert/2"]);
    let circle = world.circle(&["ncsc", "z-cert", "z-cert/2"]);
    let epochs = |world: &mut World| {
        ["z-cert", "z-cert/2"].map(|name| {
            world.append(name, circle, name);
            world.settle();
            let log = world.content_log(name, circle);
            world.engine(name).circle(&circle).unwrap().log(&log.author, &log.log).unwrap().epoch
        })
    };
    let [first, second] = epochs(&mut world);
    assert!(first.is_some() && first == second, "two nodes of one partner use one epoch");
    let heads = world.engine("ncsc").circle(&circle).unwrap().control().unwrap().heads();
    let mut log = LaterLog::of(&world, "ncsc", circle, Under::Charter);
    log.write(3, &later_operation(heads), |header| header);
    world.take("z-cert", &log.entries);
    world.settle();
    // Those that joined since made the others make epochs anew.
    world.enrol("ibd");
    world.connect_all().settle();
    world.add("ncsc", circle, "ibd");
    world.settle();
    let [first, second] = epochs(&mut world);
    assert!(first.is_some() && second.is_some() && first != second);
    assert_eq!(world.reads("ibd", circle).iter().filter(|text| text.starts_with("z-cert")).count(), 2);
}

#[test]
fn more_in_an_operation_is_passed_over_and_more_in_a_known_act_is_refused() {
    let operation = Operation {
        stewardship: Stewardship::Charter(0),
        heads: vec![Hash([1; 32])],
        act: Act::Add { partner: partner("x"), nodes: Vec::new() },
    };
    let bytes = operation.to_bytes();
    assert_eq!(Operation::from_bytes(&longer(&bytes, 3)), Ok(operation));
    let later = Operation::from_bytes(&longer(&later_operation(Vec::new()), 3)).unwrap();
    assert_eq!((later.act, later.heads), (Act::Later, Vec::new()));
    // `[…, [0, ["x", []]]]`, with a third part in the act.
    let in_act = [&bytes[..bytes.len() - 4], &[0x83, 0x61, b'x', 0x80, 7]].concat();
    assert!(Operation::from_bytes(&bytes).is_ok() && Operation::from_bytes(&in_act).is_err());
    let cut_off = later_operation(Vec::new());
    assert!(Operation::from_bytes(&cut_off[..cut_off.len() - 1]).is_err());
}

#[test]
fn who_belongs_by_an_act_of_a_later_version_waits_and_whoever_brings_it_is_not_blamed() {
    let mut world = World::new(&["ncsc", "z-cert", "ferm", "ibd"]);
    let circle = world.circle(&THREE);
    let heads = world.engine("ncsc").circle(&circle).unwrap().control().unwrap().heads();
    let mut operations = LaterLog::of(&world, "ncsc", circle, Under::Charter);
    let act = operations.write(3, &later_operation(heads), |header| header);
    world.take("z-cert", &operations.entries);
    world.settle();
    // By that act, as later versions read it, ibd belongs: it writes, and makes an epoch.
    let sealed = |world: &World, record: &SignedRecord| {
        let mut log = LaterLog::of(world, "ibd", circle, Under::Add(act));
        let epoch = Some(record.hash(Domain::EPOCH));
        let names = |header: Vec<u8>| Header { suite: Suite::Epoch, epoch, ..Header::from_bytes(&header).unwrap() };
        log.write(2, b"for a week", |header| encoding::to_bytes(&names(header)));
        log.entries.remove(0)
    };
    let record = Record {
        circle,
        maker: world.key("ibd"),
        heads: vec![act],
        left_out: Vec::new(),
        commitment: Hash([1; 32]),
        wrapped: vec![1; 100],
        made: world.now,
    };
    let record = Signed::sign(&record, Domain::EPOCH, &world.node("ibd").key);
    let entry = sealed(&world, &record);
    for _ in 0..limits::FAULTS {
        let tag = world.tag("z-cert", "ferm", circle);
        for record in [None, Some(record.clone())] {
            let entry = entry.clone();
            world.send_raw("z-cert", "ferm", Frame::Push { tag, record, entry }.to_bytes());
        }
    }
    world.settle();
    world.expect_peace(circle, &THREE);
    world.expect_reads("ferm", circle, &[]);
    // Without such an act the same is a fault of who brings it.
    let stranger = Record { heads: Vec::new(), ..record.unverified(limits::RECORD_BYTES).unwrap() };
    let record = Signed::sign(&stranger, Domain::EPOCH, &world.node("ibd").key);
    let (tag, entry) = (world.tag("z-cert", "ferm", circle), sealed(&world, &record));
    world.send_raw("z-cert", "ferm", Frame::Push { tag, record: Some(record), entry }.to_bytes());
    assert_eq!(world.refusals_of("ferm", "z-cert").len(), 1);
}

#[test]
fn a_circle_whose_charter_says_more_is_not_joined_and_who_offers_it_is_not_blamed() {
    let mut world = World::new(&THREE);
    let circle = world.circle(&["ncsc", "z-cert"]);
    let charter = world.engine("ncsc").circle(&circle).unwrap().control().unwrap().charter().to_bytes();
    let welcome = |charter: Vec<u8>| Frame::Welcome { charter, entries: Vec::new(), last: true }.to_bytes();
    for _ in 0..=limits::FAULTS {
        world.send_raw("ncsc", "ferm", welcome(longer(&charter, 6)));
    }
    world.settle();
    assert!(world.is_connected("ferm", "ncsc"));
    assert!(world.refusals_of("ferm", "ncsc")[0].contains("update"));
    assert_eq!(world.engine("ferm").circles().count(), 1, "the network's");
    // What is no charter of any version is its bearer's fault.
    for _ in 0..limits::FAULTS {
        world.send_raw("ncsc", "ferm", welcome(charter[..charter.len() - 1].to_vec()));
    }
    assert!(!world.is_connected("ferm", "ncsc"));
}

#[test]
fn an_issuers_statement_of_a_later_version_is_held_and_what_it_says_after_it_is_heard() {
    let mut world = World::new(&THREE);
    let network = CircleId(world.root.network().0);
    let payload = encoding::to_bytes(&(9_u8, ("suspended for a day",)));
    let draft = cwn_engine::log::Draft { suite: Suite::Network, epoch: None, payload, expiry: None, retracts: None };
    let entry = world.issuer.writer.append(world.now, draft);
    world.issuer.entries.push(entry.bytes().clone());
    world.certify(&key_of("ibd", 1), &cwn_crypto::seal::SealingKey::from_bytes([5; 32]), "ibd");
    let entries = world.issuer.entries.clone();
    world.take("ncsc", &entries);
    world.settle();
    world.expect_peace(network, &THREE);
    assert!(world.engine("ferm").circle(&network).unwrap().counts(&key_of("ibd", 1).public()));
}

#[test]
fn records_and_statements_of_what_is_held_say_what_is_known_when_a_later_version_says_more() {
    #[derive(Encode, minicbor::Decode)]
    #[cbor(transparent)]
    struct Raw(#[n(0)] minicbor::bytes::ByteVec);
    let signing = key_of("z-cert", 1);
    let circle = CircleId(Hash([7; 32]));
    let held = Statement {
        circle,
        holder: signing.public(),
        author: key_of("ferm", 1).public(),
        heads: Vec::new(),
        unopenable: Vec::new(),
        time: Time(3),
    };
    let bytes = longer(&encoding::to_bytes(&held), 6);
    let signature = signing.sign(Domain::HELD, &bytes);
    let travels = encoding::to_bytes(&(Raw(bytes.into()), signature));
    let signed: cwn_engine::held::SignedStatement = encoding::from_bytes(&travels, 1 << 16).unwrap();
    assert_eq!(Statement::verify(&signed), Ok(held));
}
