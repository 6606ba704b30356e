//! The store as a whole: what is kept, what survives, what is refused.

use std::{
    fs::{self, OpenOptions},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use cwn_crypto::{Signature, SigningKey, Time, issuer_log::LogId};
use cwn_engine::log::{Decoded, Draft as EntryDraft, Link, Opening, Retracts, Suite, Under, Writer, authenticate};

use super::*;

/// Small segments and frequent checkpoints, so that a test sees many of both.
pub(super) const SMALL: Sizes =
    Sizes { segment_bytes: 4_000, checkpoint_bytes: 6_000, index_patience: Duration::from_secs(60) };

fn circle(number: u8) -> CircleId {
    CircleId(Hash([number; 32]))
}

/// A data directory, and the writers of its logs.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn try_open(&self) -> Result<(Store, Opened), Error> {
        self.open_patiently(SMALL.index_patience)
    }

    fn open_patiently(&self, index_patience: Duration) -> Result<(Store, Opened), Error> {
        Store::open_sized(self.dir.path(), Sizes { index_patience, ..SMALL }, &mut |_| {})
    }

    fn open(&self) -> Store {
        self.reopen().0
    }

    fn reopen(&self) -> (Store, Opened) {
        self.try_open().unwrap()
    }

    /// The store after its index was lost, built from the segments.
    fn rebuild(&self, store: Store) -> (Store, Opened) {
        drop(store);
        fs::remove_dir_all(self.index()).unwrap();
        self.reopen()
    }

    fn index(&self) -> PathBuf {
        self.dir.path().join("index")
    }

    fn segment(&self, number: u32) -> PathBuf {
        self.dir.path().join(format!("segments/{number:08}.seg"))
    }

    /// What the disk holds at this moment, as a crash would leave it. A copy is not made in one moment, so no
    /// checkpoint may run meanwhile; see [`World::crash_of`].
    fn crash(&self) -> Self {
        let copy = Self::new();
        copy_directory(self.dir.path(), copy.dir.path());
        copy
    }

    /// As [`World::crash`], under a store that is open.
    fn crash_of(&self, store: &mut Store) -> Self {
        store.end_checkpoint().unwrap();
        self.crash()
    }
}

pub(super) fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        match item.file_type().unwrap().is_dir() {
            true => copy_directory(&item.path(), &target),
            false => drop(fs::copy(item.path(), target).unwrap()),
        }
    }
}

pub(super) fn writer(number: u8) -> Writer {
    let signing = SigningKey::from_seed(&[number; 32]);
    let opening = Opening { under: Under::Charter, cites: vec![] };
    Writer::open(circle(1), signing, LogId([number; 16]), opening)
}

pub(super) fn entry(writer: &mut Writer, payload: &[u8]) -> Authentic {
    let draft =
        EntryDraft { suite: Suite::Control, epoch: None, payload: payload.to_vec(), expiry: None, retracts: None };
    writer.append(Time(1), draft)
}

pub(super) fn entries(writer: &mut Writer, count: usize) -> Vec<Authentic> {
    (0..count).map(|number| entry(writer, format!("entry {number}").as_bytes())).collect()
}

pub(super) fn writes(entries: &[Authentic]) -> Vec<Write> {
    entries.iter().cloned().map(Write::Entry).collect()
}

pub(super) fn record(number: u8) -> Write {
    Write::Record { circle: circle(1), hash: Hash([number; 32]), bytes: vec![number; 40] }
}

pub(super) fn fact(key: &str, value: &str) -> Write {
    Write::Fact { key: key.as_bytes().to_vec(), value: value.as_bytes().to_vec() }
}

fn facts(store: &impl Read, prefix: &str) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let facts = store.facts(prefix.as_bytes()).unwrap().into_iter();
    facts.map(|fact| (text(fact.key), text(fact.value.unwrap()))).collect()
}

/// Everything a store holds, in an order that does not depend on how it came there.
pub(super) type Contents = (Vec<(LogKey, Tip)>, Vec<EntryBytes>, Vec<((CircleId, Hash), Vec<u8>)>, Vec<store::Fact>);

pub(super) fn contents(store: &Store) -> Contents {
    let logs = store.logs().unwrap();
    let every = logs.iter().flat_map(|(key, tip)| (0..tip.height).map(move |seq| (key, seq)));
    let entries = every.map(|(key, seq)| store.entry(key, seq).unwrap().unwrap()).collect();
    let named = store.records().unwrap().into_iter();
    let records = named.map(|(circle, hash)| ((circle, hash), store.record(&circle, &hash).unwrap().unwrap()));
    (logs, entries, records.collect(), store.facts(&[]).unwrap())
}

/// Takes an entry back, with the header of another of the same log.
pub(super) fn erase(entry: &Authentic, by: &Authentic) -> Write {
    let EntryBytes { header, signature, .. } = by.bytes().clone();
    let because = Retraction { header, signature };
    Write::Erase { key: entry.key(), seq: entry.header().seq, hash: entry.hash(), because }
}

/// Drops the payload of an entry.
pub(super) fn dropped(entry: &Authentic) -> Write {
    Write::Drop { key: entry.key(), seq: entry.header().seq, hash: entry.hash() }
}

/// An entry as it should be read that was taken back.
fn taken_back(entry: &Authentic, by: &Authentic) -> EntryBytes {
    let EntryBytes { header, signature, .. } = by.bytes().clone();
    EntryBytes { payload: Payload::Retracted(Retraction { header, signature }), ..entry.bytes().clone() }
}

/// Whether some bytes stand in any file of the segments.
pub(super) fn stands_somewhere(dir: &Path, what: &[u8]) -> bool {
    let files = fs::read_dir(dir.join("segments")).unwrap().map(|item| fs::read(item.unwrap().path()).unwrap());
    files.into_iter().any(|bytes| bytes.windows(what.len()).any(|window| window == what))
}

fn flip_where(path: &Path, what: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(what.len()).position(|window| window == what).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The segment in which some bytes stand.
fn segment_with(world: &World, what: &[u8]) -> PathBuf {
    let holds = |path: &PathBuf| fs::read(path).unwrap().windows(what.len()).any(|window| window == what);
    (1..).map(|number| world.segment(number)).take_while(|path| path.exists()).find(holds).unwrap()
}

#[test]
fn what_was_appended_is_read_back_at_once_and_after_closing() {
    let world = World::new();
    let mut log = writer(1);
    let written = entries(&mut log, 40);
    let mut store = world.open();
    store.append(&writes(&written)).unwrap();
    store.append(&[record(3), fact("node/start", "1"), fact("node/long", &"x".repeat(5_000))]).unwrap();
    let before = contents(&store);
    assert_eq!(before.0, [(log.key(), Tip { height: 40, head: written[39].hash() })]);
    assert_eq!(before.1, written.iter().map(|entry| entry.bytes().clone()).collect::<Vec<_>>());
    assert_eq!(store.hash(&log.key(), 7).unwrap(), Some(written[7].hash()));
    assert_eq!(store.entry(&log.key(), 40).unwrap(), None);
    assert_eq!(store.entry(&writer(9).key(), 0).unwrap(), None);
    assert_eq!(store.record(&circle(2), &Hash([3; 32])).unwrap(), None);
    store.close().unwrap();

    let (store, opened) = world.reopen();
    assert_eq!(contents(&store), before);
    assert!(world.segment(3).exists(), "segments are rolled");
    assert_eq!((opened.replayed, opened.rebuilt, opened.cut_back_bytes, opened.damaged), (0, false, 0, 0));
}

#[test]
fn the_latest_value_of_a_fact_counts_and_an_empty_one_takes_it_back() {
    let world = World::new();
    let mut store = world.open();
    store.append(&[fact("a/1", "old"), fact("a/2", "two"), fact("b", "other"), fact("a/1", "new")]).unwrap();
    assert_eq!(facts(&store, "a/"), [("a/1".into(), "new".into()), ("a/2".into(), "two".into())]);
    store.append(&[fact("a/2", ""), fact("a/1", &"n".repeat(2_000))]).unwrap();
    assert_eq!(facts(&store, "a/"), [("a/1".into(), "n".repeat(2_000))]);
    assert_eq!(facts(&world.rebuild(store).0, "a/"), [("a/1".into(), "n".repeat(2_000))]);
}

#[test]
fn two_logs_written_in_turn_are_read_apart_and_in_order() {
    let world = World::new();
    let (mut one, mut two) = (writer(1), writer(2));
    let mut store = world.open();
    for number in 0..30 {
        let turn = [entry(&mut one, &[number; 50]), entry(&mut two, &[number; 90]), entry(&mut two, b"again")];
        store.append(&writes(&turn)).unwrap();
    }
    let read = store.entries(&one.key(), 5, 25, usize::MAX).unwrap();
    assert_eq!(
        read.iter().map(|entry| entry.payload.sealed().unwrap()[0]).collect::<Vec<_>>(),
        (5..25).collect::<Vec<_>>()
    );
    let read = store.entries(&two.key(), 0, 1_000, usize::MAX).unwrap();
    assert_eq!(read.len(), 60);
    assert!(read.chunks(2).enumerate().all(|(at, pair)| pair[0].payload.sealed() == Some(&[at as u8; 90])));
}

#[test]
fn a_bulk_read_keeps_to_its_bounds() {
    let world = World::new();
    let mut log = writer(1);
    let mut store = world.open();
    store.append(&writes(&entries(&mut log, 50))).unwrap();
    let key = log.key();
    let one = store.entries(&key, 3, 50, 1).unwrap();
    assert_eq!(one, [store.entry(&key, 3).unwrap().unwrap()], "one is given however small the bound");
    let some = store.entries(&key, 3, 50, 2_000).unwrap();
    let length: usize = some.iter().map(|entry| entry.header.len() + entry.payload.len() + 68).sum();
    assert!((2..20).contains(&some.len()) && length <= 2_000);
    for (from, to) in [(50, 60), (7, 7), (9, 3), (u64::MAX, u64::MAX)] {
        assert_eq!(store.entries(&key, from, to, 2_000).unwrap(), []);
    }
    assert_eq!(store.entries(&writer(8).key(), 0, 9, 2_000).unwrap(), []);
}

#[test]
fn a_crash_loses_nothing_that_was_acknowledged() {
    let world = World::new();
    let mut log = writer(1);
    let mut store = world.open();
    for number in 0..25 {
        store.append(&[Write::Entry(entry(&mut log, &[number; 100])), fact("count", &number.to_string())]).unwrap();
        if number % 8 == 3 {
            let crashed = world.crash_of(&mut store);
            let (after, opened) = crashed.reopen();
            assert_eq!(contents(&after), contents(&store));
            assert!(!opened.rebuilt && opened.damaged == 0);
        }
    }
}

#[test]
fn a_torn_tail_is_cut_reported_and_written_over() {
    let world = World::new();
    let mut log = writer(1);
    let mut store = world.open();
    store.append(&writes(&entries(&mut log, 3))).unwrap();
    let before = contents(&store);
    let length = fs::metadata(world.segment(1)).unwrap().len();
    let last = entry(&mut log, b"never acknowledged");
    store.append(&[Write::Entry(last.clone())]).unwrap();
    let torn = world.crash_of(&mut store);
    drop(store);
    let segment = OpenOptions::new().write(true).open(torn.segment(1)).unwrap();
    segment.set_len(length + 100).unwrap();

    let (mut store, opened) = torn.reopen();
    assert_eq!((opened.cut_back_bytes, opened.damaged), (100, 0));
    assert_eq!(contents(&store), before);
    store.append(&[Write::Entry(last)]).unwrap();
    drop(store);
    assert_eq!(torn.open().logs().unwrap()[0].1.height, 4);
}

#[test]
fn an_index_that_is_gone_broken_or_of_another_history_is_built_anew() {
    let world = World::new();
    let other = World::new();
    let (mut log, mut stranger) = (writer(1), writer(2));
    let mut store = world.open();
    store.append(&writes(&entries(&mut log, 30))).unwrap();
    store.append(&[record(4), fact("who", "me")]).unwrap();
    let before = contents(&store);
    store.close().unwrap();
    let mut store = other.open();
    store.append(&writes(&entries(&mut stranger, 60))).unwrap();
    store.close().unwrap();

    let garbage: &dyn Fn(&World) = &|world| {
        let metadata = fs::read_dir(world.index().join("metadata")).unwrap();
        for file in metadata.map(|item| item.unwrap().path()).filter(|path| path.is_file()) {
            fs::write(file, [0x5a; 4_000]).unwrap();
        }
    };
    let gone: &dyn Fn(&World) = &|world| fs::remove_dir_all(world.index()).unwrap();
    let a_file: &dyn Fn(&World) = &|world| {
        gone(world);
        fs::write(world.index(), "not a directory").unwrap();
    };
    let strangers: &dyn Fn(&World) = &|world| {
        gone(world);
        copy_directory(&other.index(), &world.index());
    };
    let suspect: &dyn Fn(&World) = &|world| fs::write(world.dir.path().join("index.suspect"), "").unwrap();
    let cases =
        [("garbage", garbage), ("gone", gone), ("a file", a_file), ("stranger's", strangers), ("suspect", suspect)];
    for (case, damage) in cases {
        let world = world.crash();
        damage(&world);
        let (store, opened) = world.reopen();
        assert_eq!(contents(&store), before, "{case}");
        assert!(opened.rebuilt && opened.replayed == 32, "{case}: {opened:?}");
        drop(store);
        let (store, opened) = world.reopen();
        assert_eq!(contents(&store), before, "{case}, once more");
        assert!(!opened.rebuilt && opened.replayed == 0, "{case}, once more: {opened:?}");
    }
}

#[test]
fn a_checkpoint_runs_beside_the_appends_and_the_next_opening_replays_what_came_after_it() {
    let world = World::new();
    let mut log = writer(1);
    let mut store = world.open();
    let mut written = 0;
    while store.flushing.is_none() {
        store.append(&writes(&entries(&mut log, 10))).unwrap();
        written += 10;
    }
    store.append(&writes(&entries(&mut log, 3))).unwrap();
    let crashed = world.crash_of(&mut store);
    let (after, opened) = crashed.reopen();
    assert_eq!((opened.replayed, opened.rebuilt), (3, false), "of {written} and 3");
    assert_eq!(contents(&after), contents(&store));
}

#[test]
fn an_index_older_than_the_segments_is_brought_up_to_date() {
    let world = World::new();
    let mut log = writer(1);
    let mut store = world.open();
    store.append(&writes(&entries(&mut log, 10))).unwrap();
    store.close().unwrap();
    let old = world.crash();
    let mut store = world.open();
    store.append(&writes(&entries(&mut log, 40))).unwrap();
    let before = contents(&store);
    store.close().unwrap();
    fs::remove_dir_all(world.index()).unwrap();
    copy_directory(&old.index(), &world.index());
    let (store, opened) = world.reopen();
    assert_eq!(contents(&store), before);
    assert_eq!((opened.rebuilt, opened.replayed, opened.damaged), (false, 40, 0));
}

#[test]
fn lost_segments_are_said_even_though_the_index_knew_them() {
    let world = World::new();
    let mut store = world.open();
    store.append(&writes(&entries(&mut writer(1), 30))).unwrap();
    store.close().unwrap();
    fs::remove_dir_all(world.dir.path().join("segments")).unwrap();
    let (store, opened) = world.reopen();
    assert_eq!((store.logs().unwrap(), store.tip(&writer(1).key()).unwrap()), (Vec::new(), None));
    assert!(opened.rebuilt && opened.damaged == 1);
    assert!(opened.damages[0].what.contains("was acknowledged"));
}

#[test]
fn a_flipped_bit_is_found_and_said_and_not_served() {
    let world = World::new();
    let mut log = writer(1);
    let written: Vec<Authentic> = (0..30).map(|n| entry(&mut log, format!("payload <{n}>").as_bytes())).collect();
    let mut store = world.open();
    store.append(&writes(&written)).unwrap();
    store.close().unwrap();
    flip_where(&segment_with(&world, b"<5>"), b"<5>");

    let key = log.key();
    let mut store = world.open();
    let damage = store.entry(&key, 5).unwrap_err();
    assert!(damage.to_string().contains("entry 5 of log"), "{damage}");
    assert!(damage.to_string().contains("the checksum does not match"), "{damage}");
    assert_eq!(store.entries(&key, 0, 30, usize::MAX).unwrap().len(), 5, "those before it are given");
    assert!(store.entries(&key, 5, 30, usize::MAX).is_err());
    assert_eq!(store.entries(&key, 6, 30, usize::MAX).unwrap().len(), 24);

    let scrubbed = store.scrub(&mut |_| {}).unwrap();
    assert_eq!((scrubbed.damaged, scrubbed.withdrawn_entries), (1, 1));
    let tip = Tip { height: 5, head: written[4].hash() };
    assert_eq!((store.logs().unwrap(), store.tip(&key).unwrap()), (vec![(key, tip)], Some(tip)));
    assert_eq!(store.entry(&key, 5).unwrap(), None, "no longer counted as held, so it is fetched again");

    // The same when the index is built from the damaged segments.
    let (mut store, opened) = world.rebuild(store);
    assert_eq!(opened.damaged, 1);
    assert_eq!(store.logs().unwrap()[0].1.height, 5);

    // And it heals when a peer sends it again; nothing else may take its place.
    let mut fork = writer(1);
    let fork: Vec<Authentic> = (0..6).map(|n| entry(&mut fork, format!("payload <{}>", n % 5).as_bytes())).collect();
    assert!(matches!(store.append(&writes(&fork[5..])), Err(Error::Conflict { seq: 5, .. })));
    store.append(&writes(&written[5..6])).unwrap();
    assert_eq!(store.logs().unwrap(), [(key, Tip { height: 30, head: written[29].hash() })]);
    assert_eq!(store.entries(&key, 0, 30, usize::MAX).unwrap().len(), 30);
    drop(store);
    assert_eq!(world.open().logs().unwrap()[0].1.height, 30);
}

#[test]
fn damage_found_while_reading_heals_when_the_entry_comes_again() {
    let world = World::new();
    let mut log = writer(1);
    let written: Vec<Authentic> = (0..9).map(|n| entry(&mut log, format!("payload <{n}>").as_bytes())).collect();
    let mut store = world.open();
    store.append(&writes(&written)).unwrap();
    flip_where(&segment_with(&world, b"<4>"), b"<4>");
    assert!(store.entry(&log.key(), 4).is_err());
    store.append(&writes(&written)).unwrap();
    assert_eq!(store.entries(&log.key(), 0, 9, usize::MAX).unwrap().len(), 9);
}

#[test]
fn a_scrub_withdraws_damaged_records_and_writes_facts_again() {
    let world = World::new();
    let mut store = world.open();
    store.append(&[record(b'R'), record(b'S'), fact("node/word", "latest")]).unwrap();
    flip_where(&world.segment(1), &[b'R'; 40]);
    flip_where(&world.segment(1), b"latest");
    assert!(store.record(&circle(1), &Hash([b'R'; 32])).is_err());
    let scrubbed = store.scrub(&mut |_| {}).unwrap();
    assert_eq!((scrubbed.damaged, scrubbed.withdrawn_records, scrubbed.rewritten_facts), (2, 1, 1));
    assert_eq!(store.records().unwrap(), [(circle(1), Hash([b'S'; 32]))]);
    store.append(&[record(b'R')]).unwrap();
    store.close().unwrap();
    fs::remove_dir_all(world.index()).unwrap();
    let store = world.open();
    assert_eq!(facts(&store, ""), [("node/word".into(), "latest".into())]);
    assert_eq!(store.record(&circle(1), &Hash([b'R'; 32])).unwrap(), Some(vec![b'R'; 40]));
}

#[test]
fn a_fact_whose_value_is_damaged_is_listed_and_keeps_no_other_from_being_read() {
    let world = World::new();
    let mut store = world.open();
    let long = "long".repeat(200);
    store.append(&[fact("a", "one"), fact("b", &long), fact("c", "three")]).unwrap();
    flip_where(&world.segment(1), long.as_bytes());
    let read = |store: &Store| -> Vec<(Vec<u8>, bool)> {
        store.facts(&[]).unwrap().into_iter().map(|fact| (fact.key, fact.value.is_ok())).collect()
    };
    let expected = [(b"a".to_vec(), true), (b"b".to_vec(), false), (b"c".to_vec(), true)];
    assert_eq!(read(&store), expected);
    store.scrub(&mut |_| {}).unwrap();
    assert_eq!(read(&store), expected, "a scrub does not make up what it was");
    store.append(&[fact("b", &long)]).unwrap();
    assert!(read(&store).iter().all(|(_, reads)| *reads), "and it is whole once it is written anew");
}

#[test]
fn what_is_held_is_not_written_twice_and_a_fork_is_refused_before_anything_is_written() {
    let world = World::new();
    let mut log = writer(1);
    let written = entries(&mut log, 6);
    let mut store = world.open();
    store.append(&writes(&written)).unwrap();
    store.append(&[record(1)]).unwrap();
    let length = || fs::metadata(world.segment(1)).unwrap().len();
    let before = length();
    store.append(&writes(&written)).unwrap();
    store.append(&[record(1)]).unwrap();
    store.append(&[]).unwrap();
    assert_eq!(length(), before);

    let mut fork = writer(1);
    let fork: Vec<Authentic> = (0..8).map(|number| entry(&mut fork, &[number; 9])).collect();
    for (what, seq) in [(&fork[2..3], 2), (&fork[6..7], 6)] {
        let refused = store.append(&[writes(what), vec![fact("with", "it")]].concat());
        assert!(matches!(refused, Err(Error::Conflict { seq: named, .. }) if named == seq));
    }
    let refused = store.append(&writes(&[&entries(&mut writer(3), 1)[..], &fork[7..]].concat()));
    assert!(matches!(refused, Err(Error::Gap { seq: 7, expected: 6, .. })));
    let twice = [entries(&mut writer(4), 1), vec![entry(&mut writer(4), b"another first")]].concat();
    assert!(matches!(store.append(&writes(&twice)), Err(Error::Conflict { seq: 0, .. })));
    assert_eq!(length(), before);
    let same_twice = entries(&mut writer(4), 2);
    store.append(&writes(&[&same_twice[..], &same_twice[..]].concat())).unwrap();
    assert_eq!(contents(&store).1.len(), 8);
}

#[test]
fn what_is_too_long_is_refused_before_anything_is_written() {
    let world = World::new();
    let mut store = world.open();
    let long = |length| vec![0; length];
    let too_long = [
        Write::Fact { key: long(FACT_KEY_BYTES + 1), value: vec![1] },
        Write::Fact { key: vec![1], value: long(VALUE_BYTES + 1) },
        Write::Record { circle: circle(1), hash: Hash([1; 32]), bytes: long(VALUE_BYTES + 1) },
    ];
    for write in too_long {
        assert!(matches!(store.append(&[fact("before", "it"), write]), Err(Error::TooLong { .. })));
    }
    assert_eq!(store.facts(&[]).unwrap(), []);
    store.append(&[Write::Fact { key: long(FACT_KEY_BYTES), value: long(VALUE_BYTES) }]).unwrap();
    assert_eq!(store.facts(&[]).unwrap()[0].value.as_ref().unwrap().len(), VALUE_BYTES);
}

#[test]
fn a_directory_in_use_is_refused_by_the_name_of_the_process() {
    let world = World::new();
    let store = world.open();
    let reader = store.reader();
    let process = std::process::id();
    let refused = |world: &World| world.try_open().unwrap_err().to_string();
    let expected = format!("{} is in use by process {process}; stop it first", world.dir.path().display());
    assert_eq!(refused(&world), expected);
    drop(store);
    assert_eq!(refused(&world), expected, "a reader still uses it");
    drop(reader);
    world.open();
}

#[test]
fn a_reader_on_another_thread_sees_whole_batches_while_the_store_appends() {
    let world = World::new();
    let mut log = writer(1);
    let mut store = world.open();
    let (reader, key) = (store.reader(), log.key());
    let watch = thread::spawn(move || {
        let mut height = 0;
        while height < 100 {
            let tips = reader.logs().unwrap();
            let now = tips.first().map_or(0, |(_, tip)| tip.height);
            assert!(now >= height && now % 5 == 0, "from {height} to {now}");
            assert_eq!(reader.entries(&key, 0, now, usize::MAX).unwrap().len() as u64, now);
            height = now;
        }
    });
    for _ in 0..20 {
        store.append(&writes(&entries(&mut log, 5))).unwrap();
    }
    watch.join().unwrap();
}

#[test]
fn a_view_is_kept_scanned_in_order_and_empty_after_the_index_was_lost() {
    let world = World::new();
    let store = world.open();
    let view = store.view("inbox").unwrap();
    let put = |key: &str| Change::Put(key.as_bytes().to_vec(), key.as_bytes().to_vec());
    view.apply(&[put("b/2"), put("a/9"), put("b/1"), put("c/0"), put("b/3"), Change::Remove(b"b/2".to_vec())]).unwrap();
    let keys = |view: &View, prefix: &str, start: &str, most: usize| {
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            keys.push(String::from_utf8(key.to_vec()).unwrap());
            keys.len() < most
        };
        view.scan_from(prefix.as_bytes(), start.as_bytes(), &mut visit).unwrap();
        keys
    };
    assert_eq!(keys(&view, "b/", "", 9), ["b/1", "b/3"]);
    assert_eq!(keys(&view, "b/", "b/2", 9), ["b/3"]);
    assert_eq!(keys(&view, "", "", 3), ["a/9", "b/1", "b/3"]);
    assert_eq!(store.view("other").unwrap().get(b"b/1").unwrap(), None);
    store.close().unwrap();
    drop(view);

    let store = world.open();
    let view = store.view("inbox").unwrap();
    assert_eq!(view.get(b"b/1").unwrap(), Some(b"b/1".to_vec()));
    view.clear().unwrap();
    assert_eq!(keys(&view, "", "", 9), [""; 0]);
    view.put(b"k", b"v").unwrap();
    drop((store, view));
    fs::remove_dir_all(world.index()).unwrap();
    assert_eq!(world.open().view("inbox").unwrap().get(b"k").unwrap(), None);
}

/// sled keeps the only leaf of a keyspace that nothing was ever put into in memory alone, forgets it like any other when
/// much else is read, and then looks for it for ever.
#[test]
fn entries_are_read_where_there_are_so_many_that_the_index_forgot_that_nothing_was_ever_erased() {
    const COUNT: u64 = 70_000;
    const BATCH: u64 = 1_000;
    let world = World::new();
    let mut log = writer(1);
    let (mut store, _) = Store::open(world.dir.path(), &mut |_| {}).unwrap();
    for _ in 0..COUNT / BATCH {
        store.append(&writes(&entries(&mut log, BATCH as usize))).unwrap();
    }
    store.close().unwrap();
    let (store, _) = Store::open(world.dir.path(), &mut |_| {}).unwrap();
    let (reader, view, key) = (store.reader(), store.view("inbox").unwrap(), log.key());
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        for from in (0..COUNT).step_by(BATCH as usize) {
            let read = reader.entries(&key, from, from + BATCH, usize::MAX).unwrap();
            assert_eq!(read.len() as u64, BATCH);
            for number in from..from + BATCH {
                // In no order, so that many leaves are touched.
                let place = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
                view.put(&(place ^ place >> 29).to_be_bytes(), &[7; 800]).unwrap();
                view.put(&[&[1][..], &number.to_be_bytes()].concat(), &[7; 40]).unwrap();
            }
        }
        done.send(()).unwrap();
    });
    assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(()), "reading came to no end");
}

#[test]
fn progress_ends_at_its_total() {
    let world = World::new();
    let mut store = world.open();
    store.append(&writes(&entries(&mut writer(1), 60))).unwrap();
    drop(store);
    fs::remove_dir_all(world.index()).unwrap();
    let mut heard = Vec::new();
    let (store, _) = Store::open_sized(world.dir.path(), SMALL, &mut |progress| heard.push(progress)).unwrap();
    assert!(heard.len() > 3 && heard.is_sorted_by_key(|progress| progress.done_bytes));
    assert!(heard.iter().all(|progress| progress.work == Work::Rebuilding));
    let last = heard.pop().unwrap();
    assert_eq!(last.done_bytes, last.total_bytes);
    drop(store);
    Store::open_sized(world.dir.path(), SMALL, &mut |progress| panic!("nothing to do, but {progress:?}")).unwrap();
}

#[test]
fn an_erased_payload_is_gone_from_every_file_and_the_rest_of_the_log_is_as_it_was() {
    let world = World::new();
    let mut log = writer(1);
    let written: Vec<Authentic> = (0..30).map(|n| entry(&mut log, format!("payload <{n}>").as_bytes())).collect();
    let mut store = world.open();
    store.append(&writes(&written)).unwrap();
    let before = contents(&store);
    // One in a segment that has ended, and one in that which is appended to.
    let erasures = [erase(&written[3], &written[28]), erase(&written[27], &written[29])];
    store.append(&erasures).unwrap();

    let as_expected = |store: &Store| {
        for (seq, by) in [(3, 28), (27, 29)] {
            let expected = taken_back(&written[seq], &written[by]);
            assert_eq!(store.entry(&log.key(), seq as u64).unwrap(), Some(expected));
        }
        assert!(!stands_somewhere(world.dir.path(), b"<3>") && !stands_somewhere(world.dir.path(), b"<27>"));
        let after = contents(store);
        let mut others = before.1.clone();
        for seq in [3, 27] {
            others[seq] = after.1[seq].clone();
        }
        assert_eq!((&after.0, &after.1), (&before.0, &others), "all else is as it was");
        assert_eq!(store.hash(&log.key(), 3).unwrap(), Some(written[3].hash()));
        assert_eq!(store.entries(&log.key(), 0, 30, usize::MAX).unwrap().len(), 30);
    };
    as_expected(&store);
    let length = || {
        fs::read_dir(world.dir.path().join("segments"))
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum::<u64>()
    };
    let length_before = length();
    store.append(&erasures).unwrap();
    store.append(&writes(&written)).unwrap();
    assert_eq!(length(), length_before, "neither the erasures nor the payloads are stored again");
    as_expected(&store);
    store.close().unwrap();

    let (store, opened) = world.reopen();
    assert_eq!((opened.replayed, opened.rebuilt, opened.damaged), (0, false, 0));
    as_expected(&store);
    let (mut store, opened) = world.rebuild(store);
    assert_eq!(opened.damaged, 0, "{opened:?}");
    as_expected(&store);
    assert_eq!(store.scrub(&mut |_| {}).unwrap().damaged, 0);
    store.append(&writes(&written)).unwrap();
    as_expected(&store);
}

#[test]
fn a_dropped_payload_is_gone_from_every_file_the_log_goes_on_and_an_erasure_of_it_counts() {
    let world = World::new();
    let mut log = writer(1);
    let written: Vec<Authentic> = (0..30).map(|n| entry(&mut log, format!("payload <{n}>").as_bytes())).collect();
    let mut store = world.open();
    store.append(&writes(&written)).unwrap();
    let before = contents(&store);
    let mut other = dropped(&written[5]);
    if let Write::Drop { hash, .. } = &mut other {
        *hash = Hash([9; 32]);
    }
    store.append(&[dropped(&written[3]), dropped(&written[27]), other]).unwrap();
    let as_expected = |store: &Store| {
        let mut expected = before.1.clone();
        for seq in [3, 27] {
            expected[seq].payload = Payload::Dropped;
        }
        assert_eq!((&contents(store).0, &contents(store).1), (&before.0, &expected), "all else is as it was");
        assert!(!stands_somewhere(world.dir.path(), b"<3>") && !stands_somewhere(world.dir.path(), b"<27>"));
        assert!(stands_somewhere(world.dir.path(), b"<5>"), "of a fork the other is left alone");
    };
    as_expected(&store);
    store.append(&[dropped(&written[3])]).unwrap();
    store.append(&writes(&written)).unwrap();
    as_expected(&store);
    let (mut store, opened) = world.rebuild(store);
    assert_eq!(opened.damaged, 0, "{opened:?}");
    as_expected(&store);
    assert_eq!(store.scrub(&mut |_| {}).unwrap().damaged, 0);
    store.append(&[erase(&written[3], &written[28])]).unwrap();
    store.append(&[dropped(&written[3])]).unwrap();
    assert_eq!(store.entry(&log.key(), 3).unwrap(), Some(taken_back(&written[3], &written[28])));
    assert_eq!(world.rebuild(store).0.entry(&log.key(), 3).unwrap(), Some(taken_back(&written[3], &written[28])));
}

#[test]
fn an_entry_that_comes_dropped_is_stored_so_and_damage_to_it_is_found_and_healed() {
    let world = World::new();
    let mut log = writer(1);
    let mut named = |payload: &[u8]| {
        let draft =
            EntryDraft { suite: Suite::Named, epoch: None, payload: payload.to_vec(), expiry: None, retracts: None };
        log.append(Time(1), draft)
    };
    let (first, second) = (named(b"gone <elsewhere>"), named(b"here"));
    let bare = EntryBytes { payload: Payload::Dropped, ..first.bytes().clone() };
    let run = vec![Decoded::decode(bare.clone()).unwrap(), Decoded::decode(second.bytes().clone()).unwrap()];
    let proven = authenticate(run, Link::Start).unwrap().proven;
    let mut store = world.open();
    store.append(&writes(&proven)).unwrap();
    assert_eq!(store.entry(&first.key(), 0).unwrap().as_ref(), Some(&bare));
    let mut store = world.rebuild(store).0;
    assert_eq!(store.entry(&first.key(), 0).unwrap().as_ref(), Some(&bare));
    let header = &first.bytes().header;
    flip_where(&segment_with(&world, header), header);
    store.entry(&first.key(), 0).unwrap_err();
    assert_eq!(store.scrub(&mut |_| {}).unwrap().withdrawn_entries, 1);
    store.append(&writes(&proven)).unwrap();
    assert_eq!(store.entry(&first.key(), 0).unwrap().as_ref(), Some(&bare));
}

#[test]
fn an_entry_that_came_with_its_retraction_gets_its_payload_unless_it_was_erased_here() {
    let world = World::new();
    let mut log = writer(1);
    let mut named = |payload: &str, retracts| {
        let payload = payload.as_bytes().to_vec();
        log.append(Time(1), EntryDraft { suite: Suite::Named, epoch: None, payload, expiry: None, retracts })
    };
    let (one, other) = (named("payload <1>", None), named("payload <2>", None));
    let take_back =
        |entry: &Authentic| Some(Retracts { log: entry.key().log, seq: entry.header().seq, hash: entry.hash() });
    let (of_one, of_other) = (named("", take_back(&one)), named("", take_back(&other)));
    let bare = |entry: &Authentic, by: &Authentic| taken_back(entry, by);
    let run = [bare(&one, &of_one), bare(&other, &of_other), of_one.bytes().clone(), of_other.bytes().clone()];
    let run = run.map(|bytes| Decoded::decode(bytes).unwrap()).to_vec();
    let proven = authenticate(run, Link::Start).unwrap().proven;
    let mut store = world.open();
    store.append(&writes(&proven)).unwrap();
    let entry = |store: &Store, seq: u64| store.entry(&one.key(), seq).unwrap().unwrap();
    assert_eq!([entry(&store, 0), entry(&store, 1)], [bare(&one, &of_one), bare(&other, &of_other)]);
    let (mut store, _) = world.rebuild(store);
    assert_eq!([entry(&store, 0), entry(&store, 1)], [bare(&one, &of_one), bare(&other, &of_other)]);

    store.append(&[erase(&other, &of_other)]).unwrap();
    store.append(&writes(&[one.clone(), other.clone()])).unwrap();
    assert_eq!(entry(&store, 0), bare(&one, &of_one), "it is held already");
    store.append(&[Write::Mend(one.clone()), Write::Mend(other.clone())]).unwrap();
    let as_expected = |store: &Store| {
        assert_eq!([entry(store, 0), entry(store, 1)], [one.bytes().clone(), bare(&other, &of_other)]);
        assert!(!stands_somewhere(world.dir.path(), b"<2>"));
    };
    as_expected(&store);
    let (mut store, opened) = world.rebuild(store);
    assert_eq!(opened.damaged, 0, "{opened:?}");
    as_expected(&store);
    store.append(&[erase(&one, &of_one), Write::Mend(one.clone())]).unwrap();
    assert_eq!(entry(&store, 0), bare(&one, &of_one));
    assert!(!stands_somewhere(world.dir.path(), b"<1>"));
}

#[test]
fn an_entry_erased_before_it_came_never_gets_its_payload_and_a_fork_of_it_is_left_alone() {
    let world = World::new();
    let mut log = writer(1);
    let written: Vec<Authentic> = (0..4).map(|n| entry(&mut log, format!("payload <{n}>").as_bytes())).collect();
    let mut store = world.open();
    let mut other = erase(&written[1], &written[3]);
    if let Write::Erase { hash, .. } = &mut other {
        *hash = Hash([9; 32]);
    }
    store.append(&[erase(&written[2], &written[3]), other]).unwrap();
    store.append(&writes(&written)).unwrap();
    assert!(!stands_somewhere(world.dir.path(), b"<2>"));
    assert_eq!(store.logs().unwrap(), [(log.key(), Tip { height: 4, head: written[3].hash() })]);
    assert_eq!(store.entry(&log.key(), 2).unwrap(), Some(taken_back(&written[2], &written[3])));
    assert_eq!(store.entry(&log.key(), 1).unwrap().as_ref(), Some(written[1].bytes()));
    assert_eq!(world.rebuild(store).0.entry(&log.key(), 2).unwrap(), Some(taken_back(&written[2], &written[3])));
}

#[test]
fn damage_that_was_healed_is_not_said_again_and_leaves_no_copy_behind_that_an_erasure_would_miss() {
    let world = World::new();
    let mut log = writer(1);
    let written: Vec<Authentic> = (0..20).map(|n| entry(&mut log, format!("secret <{n}>").as_bytes())).collect();
    let mut store = world.open();
    store.append(&writes(&written)).unwrap();
    // A single bit, so that nearly all of the payload still stands there.
    flip_where(&segment_with(&world, b"<4>"), b"<4>");
    store.append(&writes(&written)).unwrap();
    assert_eq!(contents(&store).1.len(), 20);
    store.append(&[erase(&written[4], &written[19])]).unwrap();
    assert!(!stands_somewhere(world.dir.path(), b"secret <4>"));
    assert!(!stands_somewhere(world.dir.path(), b"secret =4>"), "nor the damaged copy");
    let (store, opened) = world.rebuild(store);
    assert_eq!((opened.damaged, contents(&store).1.len()), (0, 20), "{opened:?}");
}

#[test]
fn a_damaged_record_of_an_erasure_is_written_again_while_it_is_known_and_never_brings_the_payload_back() {
    let world = World::new();
    let mut log = writer(1);
    let written: Vec<Authentic> = (0..4).map(|n| entry(&mut log, format!("payload <{n}>").as_bytes())).collect();
    let mut store = world.open();
    store.append(&writes(&written)).unwrap();
    let erased = erase(&written[2], &written[3]);
    store.append(std::slice::from_ref(&erased)).unwrap();
    let in_the_record = [&2_u64.to_le_bytes()[..], &written[2].hash().0].concat();
    flip_where(&segment_with(&world, &in_the_record), &in_the_record);
    let damage = store.entry(&log.key(), 2).unwrap_err();
    assert!(damage.why.contains("checksum"), "{damage}");
    store.append(&writes(&written)).unwrap();
    assert!(!stands_somewhere(world.dir.path(), b"<2>"));
    store.append(&[erased]).unwrap();
    assert_eq!(store.entry(&log.key(), 2).unwrap(), Some(taken_back(&written[2], &written[3])));
    assert_eq!(world.rebuild(store).0.entry(&log.key(), 2).unwrap(), Some(taken_back(&written[2], &written[3])));
}

#[test]
fn an_entry_that_comes_without_its_payload_is_stored_with_its_retraction() {
    let world = World::new();
    let mut log = writer(1);
    let mut named = |payload: &[u8], retracts| {
        let draft = EntryDraft { suite: Suite::Named, epoch: None, payload: payload.to_vec(), expiry: None, retracts };
        log.append(Time(1), draft)
    };
    let first = named(b"taken back", None);
    let by = named(b"for this reason", Some(Retracts { log: first.key().log, seq: 0, hash: first.hash() }));
    let bare = Decoded::decode(taken_back(&first, &by)).unwrap();
    let proven = authenticate(vec![bare, Decoded::decode(by.bytes().clone()).unwrap()], Link::Start).unwrap().proven;
    let mut store = world.open();
    store.append(&writes(&proven)).unwrap();
    assert_eq!(store.entry(&first.key(), 0).unwrap(), Some(taken_back(&first, &by)));
    store.append(&writes(&[first.clone(), by.clone()])).unwrap();
    assert!(!stands_somewhere(world.dir.path(), b"taken back"), "nor does its payload come back");
    assert_eq!(world.rebuild(store).0.entry(&first.key(), 0).unwrap(), Some(taken_back(&first, &by)));
}

#[test]
fn a_log_that_is_rewound_is_forgotten_from_there_and_takes_other_entries() {
    let world = World::new();
    let (mut one, mut other) = (writer(1), writer(1));
    let mut first = entries(&mut one, 3);
    let shared = entries(&mut other, 3);
    first.extend((0..4).map(|n| entry(&mut one, format!("one branch {n}").as_bytes())));
    let second: Vec<Authentic> = (0..2).map(|n| entry(&mut other, format!("the other {n}").as_bytes())).collect();
    let key = one.key();
    let mut store = world.open();
    store.append(&writes(&first)).unwrap();
    assert!(matches!(store.append(&writes(&second)), Err(Error::Conflict { seq: 3, .. })));
    store.append(&[vec![Write::Rewind { key, height: 3 }], writes(&second)].concat()).unwrap();
    let as_expected = |store: &Store| {
        assert_eq!(store.logs().unwrap(), [(key, Tip { height: 5, head: second[1].hash() })]);
        let expected = shared.iter().chain(&second).map(|entry| entry.bytes().clone()).collect::<Vec<_>>();
        assert_eq!(store.entries(&key, 0, 9, usize::MAX).unwrap(), expected);
        assert_eq!(store.entry(&key, 5).unwrap(), None);
    };
    as_expected(&store);
    // What is not held is forgotten already.
    store.append(&[Write::Rewind { key, height: 5 }, Write::Rewind { key: writer(7).key(), height: 0 }]).unwrap();
    as_expected(&store);
    let (mut store, opened) = world.rebuild(store);
    assert_eq!(opened.damaged, 0, "{opened:?}");
    as_expected(&store);
    store.append(&[Write::Rewind { key, height: 0 }]).unwrap();
    assert_eq!(store.logs().unwrap(), []);
    // In one batch what came before it is forgotten too.
    let there_and_back = [writes(&first), vec![Write::Rewind { key, height: 3 }], writes(&second)].concat();
    store.append(&there_and_back).unwrap();
    as_expected(&store);
}

#[test]
fn behind_an_entry_that_rotted_another_branch_takes_the_place_of_the_one_that_stands_there() {
    for parts_at in [3, 4, 6] {
        let world = World::new();
        let (mut one, mut other) = (writer(1), writer(1));
        let shared = |log: &mut Writer| (0..parts_at).map(|n| entry(log, format!("<{n}>").as_bytes())).collect();
        let (mut first, mut second): (Vec<Authentic>, Vec<Authentic>) = (shared(&mut one), shared(&mut other));
        first.extend((parts_at..10).map(|n| entry(&mut one, format!("one branch <{n}>").as_bytes())));
        second.extend((parts_at..8).map(|n| entry(&mut other, format!("the other {n}").as_bytes())));
        let key = one.key();
        let mut store = world.open();
        store.append(&writes(&first)).unwrap();
        flip_where(&segment_with(&world, b"<3>"), b"<3>");
        store.scrub(&mut |_| {}).unwrap();
        assert_eq!(store.logs().unwrap()[0].1.height, 3);
        // What was there comes back as it was, and nothing need be forgotten.
        let hashes = |entries: &[Authentic]| -> Vec<(u64, Hash)> {
            entries.iter().map(|entry| (entry.header().seq, entry.hash())).collect()
        };
        assert_eq!(store.parts(&key, &hashes(&first[3..5])).unwrap(), None);
        for batch in [&second[3..4], &second[4..]] {
            let rewind = store.parts(&key, &hashes(batch)).unwrap().map(|height| Write::Rewind { key, height });
            let batch: Vec<Write> = rewind.into_iter().chain(writes(batch)).collect();
            store.append(&batch).unwrap();
        }
        let expected: Vec<EntryBytes> = second.iter().map(|entry| entry.bytes().clone()).collect();
        assert_eq!(store.entries(&key, 0, 20, usize::MAX).unwrap(), expected, "apart at {parts_at}");
        let rebuilt = world.rebuild(store).0.entries(&key, 0, 20, usize::MAX);
        assert_eq!(rebuilt.unwrap(), expected, "apart at {parts_at}");
    }
}

/// All files below a directory.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let items = fs::read_dir(dir).unwrap().map(|item| item.unwrap().path());
    items.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// A closed store with something of every kind, and what it holds.
fn closed_store() -> (World, Contents) {
    let world = World::new();
    let mut log = writer(1);
    let written = entries(&mut log, 40);
    let mut store = world.open();
    store.append(&writes(&written)).unwrap();
    store.append(&[record(b'R'), fact("small", "value"), fact("large", &"f".repeat(900))]).unwrap();
    store.append(&[erase(&written[5], &written[6])]).unwrap();
    let held = contents(&store);
    store.close().unwrap();
    (world, held)
}

/// Another seed each time, which is said.
fn any_seed() -> u64 {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).unwrap();
    let seed = u64::from_le_bytes(seed);
    println!("seed {seed}");
    seed
}

/// Flips a bit in one of the files below a directory, and says where.
fn flip_below(dir: &Path, random: &mut Random) -> String {
    let has_bytes = |path: &PathBuf| path.metadata().unwrap().len() > 0;
    let files: Vec<PathBuf> = files_below(dir).into_iter().filter(has_bytes).collect();
    let path = &files[random.below(files.len() as u64) as usize];
    let mut bytes = fs::read(path).unwrap();
    let at = random.below(bytes.len() as u64) as usize;
    bytes[at] ^= 1 << random.below(8);
    fs::write(path, bytes).unwrap();
    format!("a bit of byte {at} of {}", path.display())
}

/// Looks that nothing is served which was not stored, and that what is gone is said; gives how often it was said.
fn expect_nothing_else(store: &Store, opened: &Opened, held: &Contents, what: &str) -> usize {
    let (logs, entries, records, known) = held;
    let mut said = opened.damaged + opened.cut_back_bytes as usize;
    for (seq, entry) in (0..logs[0].1.height).zip(entries) {
        match store.entry(&logs[0].0, seq) {
            Ok(Some(found)) => assert_eq!(found, *entry, "{what}"),
            Err(_) => said += 1,
            Ok(None) => assert!(said > 0, "{what}: entry {seq} is gone without a word"),
        }
    }
    match store.facts(&[]) {
        Ok(found) => {
            let (read, lost): (Vec<store::Fact>, Vec<store::Fact>) =
                found.into_iter().partition(|fact| fact.value.is_ok());
            said += lost.len();
            assert!(read.iter().all(|fact| known.contains(fact)) && (said > 0 || read == *known), "{what}");
        }
        Err(_) => said += 1,
    }
    match store.record(&circle(1), &Hash([b'R'; 32])) {
        Ok(Some(found)) => assert_eq!(found, records[0].1, "{what}"),
        Ok(None) => assert!(said > 0, "{what}: the record is gone without a word"),
        Err(_) => said += 1,
    }
    said
}

#[test]
fn a_bit_flipped_anywhere_in_the_segments_is_said_and_nothing_else_is_served() {
    let (closed, held) = closed_store();
    let seed = any_seed();
    let mut random = Random(seed);
    for _time in 0..150 {
        let world = closed.crash();
        let what = format!("{} (seed {seed})", flip_below(&world.dir.path().join("segments"), &mut random));
        let (store, opened) = world.try_open().unwrap_or_else(|error| panic!("{what}: {error}"));
        expect_nothing_else(&store, &opened, &held, &what);
    }
}

/// Whatever the index says, all is in the segments: so after the next start at the latest all is there again.
#[test]
fn a_bit_flipped_anywhere_in_the_index_is_never_served_and_is_gone_after_the_next_start() {
    let (closed, held) = closed_store();
    let seed = any_seed();
    let rebuilt = AtomicUsize::new(0);
    let flip = |seed: u64| {
        let mut random = Random(seed);
        for _time in 0..12 {
            let world = closed.crash();
            let what = format!("{} (seed {seed})", flip_below(&world.index(), &mut random));
            let open = |world: &World| {
                world.open_patiently(Duration::from_secs(5)).unwrap_or_else(|error| panic!("{what}: {error}"))
            };
            let (store, opened) = open(&world);
            assert_eq!(opened.damaged, 0, "{what}: nothing is wrong with the segments, yet {:?}", opened.damages);
            let said = expect_nothing_else(&store, &opened, &held, &what);
            drop(store);
            // In a copy: an opening that came to no end keeps the directory in use as long as its process lives.
            let next = world.crash();
            let (store, again) = open(&next);
            assert!(again.rebuilt || said == 0, "{what}: {said} said, and the index is believed again");
            assert_eq!(contents(&store), held, "{what}");
            rebuilt.fetch_add(usize::from(opened.rebuilt || again.rebuilt), Ordering::Relaxed);
        }
    };
    // Side by side: most of the time is spent on openings that come to no end.
    thread::scope(|scope| {
        for number in 0..8 {
            let flip = &flip;
            scope.spawn(move || flip(seed.wrapping_add(number)));
        }
    });
    assert!(rebuilt.into_inner() > 0, "no flip was found (seed {seed})");
}

/// Opens a named pipe for writing, so that whoever waits to read it does so no longer.
fn let_go(pipe: &Path) {
    drop(OpenOptions::new().write(true).open(pipe).unwrap());
}

#[test]
fn an_index_whose_opening_comes_to_no_end_is_given_up_set_aside_and_built_anew() {
    let (world, held) = closed_store();
    // What sled reads first never comes: nobody writes to the pipe.
    let inside =
        files_below(&world.index()).into_iter().find(|path| path.to_string_lossy().contains("metadata")).unwrap();
    fs::remove_file(&inside).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&inside).status().unwrap().success());
    let begun = Instant::now();
    let (store, opened) = world.open_patiently(Duration::from_secs(5)).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(5), "it was waited for");
    assert!(opened.rebuilt && opened.damaged == 0, "{opened:?}");
    assert_eq!(contents(&store), held);
    store.close().unwrap();
    let aside = world.index().with_extension("broken");
    assert!(aside.is_dir(), "it is there for someone to look at");
    // The directory stays this process's as long as that opening may still write to it.
    assert!(matches!(world.try_open(), Err(Error::InUse { .. })));
    let_go(&aside.join(inside.strip_prefix(world.index()).unwrap()));
    let (store, opened) = world.reopen();
    assert!(!opened.rebuilt, "{opened:?}");
    assert_eq!(contents(&store), held);
}

/// splitmix64, which suffices for tests and repeats from its seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}

/// What a store should hold.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) entries: BTreeMap<LogKey, Vec<Authentic>>,
    records: BTreeMap<(CircleId, Hash), Vec<u8>>,
    facts: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) erased: BTreeMap<Hash, Retraction>,
    pub(super) dropped: BTreeSet<Hash>,
}

impl Model {
    pub(super) fn apply(&mut self, write: &Write) {
        match write {
            Write::Entry(entry) => self.entries.entry(entry.key()).or_default().push(entry.clone()),
            Write::Record { circle, hash, bytes } => drop(self.records.insert((*circle, *hash), bytes.clone())),
            Write::Fact { key, value } if value.is_empty() => drop(self.facts.remove(key)),
            Write::Fact { key, value } => drop(self.facts.insert(key.clone(), value.clone())),
            Write::Erase { hash, because, .. } => drop(self.erased.insert(*hash, because.clone())),
            Write::Drop { hash, .. } => assert!(self.dropped.insert(*hash), "a story drops a payload once"),
            Write::Mend(entry) => {
                let log = self.entries.entry(entry.key()).or_default();
                log[entry.header().seq as usize] = entry.clone();
            }
            Write::Rewind { key, height } => self.entries.entry(*key).or_default().truncate(*height as usize),
        }
    }

    /// An entry as it should be read.
    pub(super) fn kept(&self, entry: &Authentic) -> EntryBytes {
        match self.erased.get(&entry.hash()) {
            Some(because) => EntryBytes { payload: Payload::Retracted(because.clone()), ..entry.bytes().clone() },
            None if self.dropped.contains(&entry.hash()) => {
                EntryBytes { payload: Payload::Dropped, ..entry.bytes().clone() }
            }
            None => entry.bytes().clone(),
        }
    }

    pub(super) fn contents(&self) -> Contents {
        let tip = |log: &Vec<Authentic>| Tip { height: log.len() as u64, head: log[log.len() - 1].hash() };
        (
            self.entries.iter().map(|(key, log)| (*key, tip(log))).collect(),
            self.entries.values().flatten().map(|entry| self.kept(entry)).collect(),
            self.records.clone().into_iter().collect(),
            self.facts.iter().map(|(key, value)| store::Fact { key: key.clone(), value: Ok(value.clone()) }).collect(),
        )
    }
}

#[test]
fn whatever_happens_a_store_holds_what_a_map_would() {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).unwrap();
    random_history(u64::from_le_bytes(seed));
}

fn random_history(seed: u64) {
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut world = World::new();
    let mut store = world.open();
    let mut model = Model::default();
    let mut writers: Vec<Writer> = (0..4).map(writer).collect();
    for _step in 0..60 {
        match random.below(12) {
            0 => {
                store.close().unwrap();
                store = world.open();
            }
            1 => {
                let crashed = world.crash_of(&mut store);
                drop(store);
                world = crashed;
                store = world.open();
            }
            2 => {
                drop(store);
                fs::remove_dir_all(world.index()).unwrap();
                store = world.open();
            }
            3 => store.checkpoint().unwrap(),
            _ => {
                let batch: Vec<Write> =
                    (0..=random.below(12)).map(|_| random_write(&mut random, &mut writers)).collect();
                store.append(&batch).unwrap();
                batch.iter().for_each(|write| model.apply(write));
            }
        }
        assert_eq!(contents(&store), model.contents(), "seed {seed}");
    }
}

fn random_write(random: &mut Random, writers: &mut [Writer]) -> Write {
    match random.below(8) {
        0 => record(random.below(20) as u8),
        1 => fact(&format!("fact/{}", random.below(6)), &"v".repeat(random.below(600) as usize)),
        2 => fact(&format!("fact/{}", random.below(6)), ""),
        _ => {
            let writer = random.below(writers.len() as u64) as usize;
            let payload = vec![random.below(256) as u8; random.below(900) as usize];
            Write::Entry(entry(&mut writers[writer], &payload))
        }
    }
}

#[test]
fn malformed_bodies_are_refused_and_not_indexed() {
    assert!(decode_entry(&[]).is_none());
    assert!(decode_entry(&[[0xff; 4].to_vec(), vec![0; 100]].concat()).is_none());
    assert!(decode_fact(&[5, 0, 0, 0, b'a']).is_none());
    assert!(decode_record(&[0; 63]).is_none());
    let bytes = EntryBytes { header: vec![1, 2], signature: Signature([3; 64]), payload: Payload::Sealed(vec![4]) };
    let held = Held { place: Place { segment: 1, offset: 64, length: 71 }, hash: Hash([0; 32]) };
    assert_eq!(verify(&bytes.header, held), Err("another entry stands in its place"));
}
