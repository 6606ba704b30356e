//! The store on a disk with faults: every place where its own code touches a file fails, tears or finds the disk full,
//! and the power goes off after every one of them. Sled's own files are not among these places: what it is asked to
//! write fails or finds the disk full as a whole, and no power cut finds it halfway. The index can be built anew, and that
//! it is when it gives trouble is shown in `tests.rs`.
//!
//! One life of a store is lived over and over. First it is counted where it touches files, which must be
//! everywhere that [`Site`] names; then each of these places has each fault that it can have. Whatever happens,
//! what was acknowledged is there when the store is opened again on a good disk, and of what was not there is at
//! most a beginning: never a part that stands for the whole, never something else.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use cwn_engine::{
    log::{Authentic, Payload, Writer},
    store::{Read as _, Write},
};

use crate::disk::{
    Disk, Site,
    faults::{Event, Fault, Faults, after_power_loss, directory},
};

use super::{
    Error, Store,
    index::Trouble,
    is_locked,
    tests::{
        Contents, Model, Random, SMALL, contents, copy_directory, dropped, entries, entry, erase, fact, record,
        stands_somewhere, writer, writes,
    },
};

// -------------------------------------------------------------------------------------------- the life lived

/// How a life came to an early end.
#[derive(Debug)]
enum End {
    Failed(Error),
    /// It was said that something cannot be read; a node would fetch that from others, which are not here.
    DamageSaid,
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// One life of a store.
struct Life {
    dir: tempfile::TempDir,
    faults: Arc<Faults>,
    logs: Vec<Writer>,
    model: Model,
    /// What was asked and not answered.
    asked: Vec<Write>,
    /// After so many events, what had been acknowledged, and what was asked.
    moments: Vec<(usize, Model, Vec<Write>)>,
    /// After so many events, a whole index.
    indexes: Vec<(usize, tempfile::TempDir)>,
}

impl Life {
    fn new(planned: Option<(Site, usize, Fault)>) -> Self {
        Self {
            dir: directory(),
            faults: Faults::planning(planned),
            logs: (1..4).map(writer).collect(),
            model: Model::default(),
            asked: Vec::new(),
            moments: vec![(0, Model::default(), Vec::new())],
            indexes: Vec::new(),
        }
    }

    fn open(&self) -> Result<Store, End> {
        let disk = Disk { faults: Some(Arc::clone(&self.faults)) };
        let (store, opened) = Store::open_on(&disk, self.dir.path(), SMALL, &mut |_| {})?;
        if opened.damaged > 0 { Err(End::DamageSaid) } else { Ok(store) }
    }

    fn segment(&self, number: u32) -> PathBuf {
        self.dir.path().join(format!("segments/{number:08}.seg"))
    }

    fn last_segment(&self) -> u32 {
        (1..).take_while(|number| self.segment(*number).exists()).last().unwrap()
    }

    fn note(&mut self) {
        self.moments.push((self.faults.count(), self.model.clone(), self.asked.clone()));
    }

    fn append(&mut self, store: &mut Store, batch: Vec<Write>) -> Result<(), Error> {
        self.asked = batch;
        self.note();
        if let Err(error) = store.append(&self.asked) {
            return Err(ended(store, error));
        }
        for write in std::mem::take(&mut self.asked) {
            self.model.apply(&write);
        }
        self.note();
        Ok(())
    }

    /// Erases a secret of each log that has so many; the entry after it takes it back.
    fn erase(&mut self, store: &mut Store, which: usize) -> Result<(), Error> {
        let secret = |pair: &&[Authentic]| pair[0].bytes().payload.sealed().unwrap().starts_with(b"<");
        let pairs = self.model.entries.values().filter_map(|log| log.windows(2).filter(secret).nth(which));
        let erasures = pairs.map(|pair| erase(&pair[0], &pair[1])).collect();
        self.append(store, erasures)?;
        assert!(!self.erased_stands(self.dir.path(), &self.model), "what was erased is gone when that is said");
        Ok(())
    }

    /// Drops a payload of each log.
    fn drop_some(&mut self, store: &mut Store) -> Result<(), Error> {
        let drops = self.model.entries.values().filter_map(|log| log.get(1)).map(dropped).collect();
        self.append(store, drops)
    }

    /// Whether an erased payload is in any file.
    fn erased_stands(&self, dir: &Path, model: &Model) -> bool {
        let entries = model.entries.values().flatten();
        let mut erased = entries.filter(|entry| model.erased.contains_key(&entry.hash()));
        erased.any(|entry| stands_somewhere(dir, entry.bytes().payload.sealed().unwrap()))
    }

    /// Some of everything.
    fn append_some(&mut self, store: &mut Store, times: u8) -> Result<(), Error> {
        for time in 0..times {
            let log = &mut self.logs[usize::from(time) % 3];
            let secret = format!("<{} of {}>", log.height(), log.key().log);
            let mut batch = writes(&entries(log, 4));
            batch.push(Write::Entry(entry(log, secret.as_bytes())));
            batch.push(Write::Entry(entry(&mut self.logs[0], &[time; 700])));
            batch.push(record(self.moments.len() as u8));
            batch.push(fact("small", &self.moments.len().to_string()));
            batch.push(fact(&format!("large/{time}"), &"f".repeat(300 + usize::from(time))));
            self.append(store, batch)?;
        }
        Ok(())
    }

    /// Makes the index whole, and keeps a copy of it.
    fn close(&mut self, store: Store) -> Result<(), Error> {
        store.close()?;
        let copy = directory();
        copy_directory(&self.dir.path().join("index"), copy.path());
        self.indexes.push((self.faults.count(), copy));
        Ok(())
    }

    /// What is read is what was written, or the damage is said.
    fn read_all(&self, store: &Store) {
        for (key, log) in &self.model.entries {
            for (seq, entry) in (0..).zip(log) {
                match store.entry(key, seq) {
                    Ok(Some(read)) => assert_eq!(read, self.model.kept(entry)),
                    Ok(None) | Err(_) => assert!(self.faults.has_struck(), "entry {seq} is gone"),
                }
            }
        }
    }

    fn live(&mut self) -> Result<(), End> {
        let mut store = self.open()?;
        self.append_some(&mut store, 4)?;
        store.checkpoint()?;
        self.append_some(&mut store, 2)?;
        self.erase(&mut store, 0)?;
        self.drop_some(&mut store)?;
        self.close(store)?;

        let mut store = self.open()?;
        self.read_all(&store);
        self.append_some(&mut store, 1)?;
        // What cannot be written anew stays as it was.
        self.faults.scribble(&self.dir.path().join("segments/00000001.seg.new"), 0, &[5; 70]);
        let struck = self.faults.has_struck();
        let refused = store.segments.replace(1, &[]).unwrap_err();
        if self.faults.has_struck() != struck {
            return Err(refused.into());
        }
        self.erase(&mut store, 1)?;

        // A log was forked, and the branch that is held is not the one that stands.
        let [mut one, mut other] = [writer(5), writer(5)];
        self.append(&mut store, writes(&entries(&mut one, 5)))?;
        let shared = entries(&mut other, 3).len() as u64;
        let mut stands = vec![Write::Rewind { key: other.key(), height: shared }];
        stands.extend((0..3).map(|number| Write::Entry(entry(&mut other, &[number; 90]))));
        self.append(&mut store, stands)?;
        drop(store);

        // A crash tore the tail.
        let last = self.segment(self.last_segment());
        let length = fs::metadata(&last).unwrap().len();
        self.faults.scribble(&last, length, &[7; 100]);
        let store = self.open()?;
        drop(store);

        // A crash began the next segment, and another what was to take the first one's place.
        self.faults.scribble(&self.segment(self.last_segment() + 1), 0, b"cwn-seg\n");
        self.faults.scribble(&self.dir.path().join("segments/00000001.seg.new"), 0, &[9; 700]);
        let mut store = self.open()?;
        self.append_some(&mut store, 1)?;
        let whole: u64 = store.committed()?.iter().map(|(_, length)| length).sum();
        assert!(whole > 4_000, "a backup takes all of the segments: {whole}");
        if store.scrub(&mut |_| {})?.damaged > 0 {
            return Err(End::DamageSaid);
        }
        self.close(store)?;

        // The index gives trouble.
        let mut store = self.open()?;
        store.reader.index.distrust(&Trouble::new("of the test's making"));
        self.append_some(&mut store, 1)?;
        drop(store);
        let mut store = self.open()?;
        self.append_some(&mut store, 1)?;
        self.read_all(&store);
        Ok(self.close(store)?)
    }

    /// Opens what is left on a good disk: it must be what was acknowledged, and a beginning of what was asked.
    fn check(&self, dir: &Path, acknowledged: &Model, asked: &[Write], what: &str) {
        let segments = dir.join("segments");
        assert!(!segments.exists() || !self.erased_stands(dir, acknowledged), "{what}: an erased payload is back");
        let (mut store, opened) =
            Store::open_sized(dir, SMALL, &mut |_| {}).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = contents(&store);
        let mut model = acknowledged.clone();
        let mut possible = vec![model.contents()];
        for write in asked {
            model.apply(write);
            possible.push(model.contents());
            if model.contents() == found {
                assert!(!self.erased_stands(dir, &model), "{what}: begun, and not brought to its end");
            }
        }
        assert!(possible.contains(&found), "{what}: {}; {opened:?}", difference(&possible, &found));
        let mut log = writer(9);
        store.append(&writes(&entries(&mut log, 3))).unwrap_or_else(|error| panic!("{what}, appending: {error}"));
        store.close().unwrap();
        let (store, _) = Store::open_sized(dir, SMALL, &mut |_| {}).unwrap();
        assert_eq!(store.entries(&log.key(), 0, 9, usize::MAX).unwrap().len(), 3, "{what}, once more");
    }

    /// The whole indexes that a power cut after `events` may leave.
    fn indexes_at(&self, events: &[Event]) -> Vec<&tempfile::TempDir> {
        let set_aside = |event: &Event| matches!(event, Event::Rename { from, .. } if from.ends_with("index"));
        let durable = |event: &Event| matches!(event, Event::SyncDir(dir) if dir == self.dir.path());
        let gone = events.iter().rposition(durable).and_then(|synced| events[..synced].iter().rposition(set_aside));
        let there = gone.unwrap_or(0)..=events.len();
        self.indexes.iter().filter(|(count, _)| there.contains(count)).map(|(_, index)| index).collect()
    }

    /// As [`Self::check`], of what a power cut after `events` leaves.
    fn check_power_loss(&self, events: &[Event], random: Option<&mut Random>, what: &str) {
        let moment = self.moments.iter().rfind(|(count, ..)| *count <= events.len()).unwrap();
        let (survived, index) = match random {
            None => (after_power_loss(events, &mut || false), None),
            Some(random) => {
                let survived = after_power_loss(events, &mut || random.below(2) == 0);
                // Some index of before that was not set aside for good, or none.
                let known = self.indexes_at(events);
                (survived, known.get(random.below(known.len() as u64 + 1) as usize).copied())
            }
        };
        let left = directory();
        survived.put(self.dir.path(), left.path());
        if let Some(index) = index {
            copy_directory(index.path(), &left.path().join("index"));
        }
        self.check(left.path(), &moment.1, &moment.2, what);
    }
}

/// After an error a store takes nothing more.
fn ended(store: &mut Store, error: Error) -> Error {
    let again = store.append(&[fact("after", "the end")]);
    assert!(matches!(again, Err(Error::Poisoned)), "after {error} it goes on: {again:?}");
    error
}

/// In few words, for what failed.
fn difference(possible: &[Contents], found: &Contents) -> String {
    let count = |contents: &Contents| (contents.1.len(), contents.2.len(), contents.3.len());
    let expected: Vec<_> = possible.iter().map(count).collect();
    format!("entries, records, facts: {:?}, where one of {expected:?} was expected", count(found))
}

fn seed() -> u64 {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).unwrap();
    let seed = std::env::var("CWN_FIRST_SEED").map_or(u64::from_le_bytes(seed), |text| text.parse().unwrap());
    println!("CWN_FIRST_SEED={seed}");
    seed
}

/// Sites whose failing is said in the log and costs nothing: the index is a table of contents.
const MAY_BE_PASSED_OVER: [Site; 3] = [Site::MarkCreate, Site::MarkSync, Site::MarkNameSync];

/// What the index is asked to write. It can be built anew, and is, unless nothing is wrong with it but that the disk is
/// full.
const IN_THE_INDEX: [Site; 4] = [Site::IndexOpen, Site::IndexReplay, Site::IndexAppend, Site::IndexFlush];

/// Where a second process looks whose the lock is. These have a test of their own, because that takes time.
const AT_A_LOCK_THAT_IS_HELD: [Site; 3] = [Site::LockLook, Site::LockLength, Site::LockRead];

#[test]
fn whichever_touch_of_a_file_fails_tears_or_finds_the_disk_full_nothing_acknowledged_is_lost() {
    let mut random = Random(seed());
    let mut good = Life::new(None);
    good.live().unwrap();
    let hits = good.faults.hits();
    let missed: Vec<&Site> =
        Site::STORE.iter().filter(|site| !hits.contains_key(site) && !AT_A_LOCK_THAT_IS_HELD.contains(site)).collect();
    assert!(missed.is_empty(), "no life touches files at {missed:?}; add a step that does");

    let mut injected = 0;
    for (site, (times, faults)) in &hits {
        for fault in faults {
            // How often a checkpoint begins depends on how long the one before it takes.
            let times = if *site == Site::IndexFlush { 1 } else { *times };
            let times = BTreeSet::from([0, random.below(times as u64) as usize]);
            for time in times {
                let what = format!("{fault:?} at {site:?}, time {time}");
                let mut life = Life::new(Some((*site, time, *fault)));
                let lived = life.live();
                assert!(life.faults.has_struck(), "{what}: it did not come by");
                let only_reads = life.faults.hits()[site].1 == BTreeSet::from([Fault::Fails]);
                match (&lived, fault) {
                    (Err(End::Failed(Error::Full { .. } | Error::NoRoom { .. })), Fault::Full) => {}
                    (Err(End::Failed(Error::Index(_))) | Ok(()), Fault::Fails) if IN_THE_INDEX.contains(site) => {}
                    (Err(End::Failed(Error::Io { .. } | Error::Failed { .. })), Fault::Fails | Fault::Tears) => {}
                    (Err(End::DamageSaid), Fault::Fails) if only_reads => {}
                    (Ok(()), _) if only_reads || MAY_BE_PASSED_OVER.contains(site) => {}
                    _ => panic!("{what}: it ended in {lived:?}"),
                }
                // Sled does not let go of files that it could not write.
                let left = directory();
                copy_directory(life.dir.path(), left.path());
                life.check(left.path(), &life.model, &life.asked, &what);
                let events = life.faults.events();
                life.check_power_loss(&events, None, &format!("{what}, then the power went"));
                life.check_power_loss(&events, Some(&mut random), &format!("{what}, then the power went somehow"));
                injected += 1;
            }
        }
    }
    println!("{} sites, {injected} faults", hits.len());
}

#[test]
fn an_index_that_finds_the_disk_full_is_neither_distrusted_nor_set_aside_and_goes_on_once_there_is_room() {
    // Each at its first time in the second life, whose opening has something to replay.
    for site in IN_THE_INDEX {
        let mut life = Life::new(None);
        let mut store = life.open().unwrap();
        life.append_some(&mut store, 4).unwrap();
        store.end_checkpoint().unwrap();
        let crashed = directory();
        copy_directory(life.dir.path(), crashed.path());
        life.dir = crashed;
        life.faults = Faults::planning(Some((site, 0, Fault::Full)));
        let lived = life.open().and_then(|mut store| {
            life.append_some(&mut store, 1)?;
            Ok(store.checkpoint()?)
        });
        let Err(End::Failed(error)) = lived else { panic!("{site:?}: {lived:?}") };
        assert!(matches!(error, Error::NoRoom { .. }), "{site:?}: {error:?}");
        assert!(error.to_string().contains("free some space"), "{site:?}: {error}");
        let freed = directory();
        copy_directory(life.dir.path(), freed.path());
        for sign in ["index.suspect", "index.broken"] {
            assert!(!freed.path().join(sign).exists(), "{site:?}: {sign}");
        }
        let (store, opened) = Store::open_sized(freed.path(), SMALL, &mut |_| {}).unwrap();
        assert!(!opened.rebuilt, "{site:?}: {opened:?}");
        drop(store);
        life.check(freed.path(), &life.model, &life.asked, &format!("{site:?} with room again"));
    }
}

#[test]
fn a_directory_in_use_is_said_to_be_so_also_when_it_cannot_be_read_by_whom() {
    let good = Life::new(None);
    let _store = good.open().unwrap();
    for (site, named) in [(None, true), (Some(Site::LockLength), false), (Some(Site::LockRead), false)] {
        let disk = Disk { faults: Some(Faults::planning(site.map(|site| (site, 0, Fault::Fails)))) };
        let refused = Store::open_on(&disk, good.dir.path(), SMALL, &mut |_| {});
        let Err(Error::InUse { process, .. }) = refused else { panic!("{site:?}: {refused:?}") };
        assert_eq!(process.is_some(), named, "{site:?}");
    }
    for (planned, known) in [(None, true), (Some((Site::LockLook, 0, Fault::Fails)), false)] {
        assert_eq!(is_locked(&Disk { faults: Some(Faults::planning(planned)) }, good.dir.path()), known);
    }
}

/// Found by fault injection (`CWN_FIRST_SEED=8980295046526221243`): content that was to be dropped was taken for
/// dropped when the disk gave an error.
#[test]
fn a_payload_that_cannot_be_read_is_not_said_to_be_dropped() {
    let mut life = Life::new(None);
    let mut store = life.open().unwrap();
    let written = entries(&mut life.logs[0], 3);
    store.append(&writes(&written)).unwrap();
    store.close().unwrap();
    let drop_one = |faults: Arc<Faults>| {
        let disk = Disk { faults: Some(faults) };
        let (mut store, _) = Store::open_on(&disk, life.dir.path(), SMALL, &mut |_| {}).unwrap();
        store.append(&[dropped(&written[1])]).map_err(|error| ended(&mut store, error))
    };
    let refused = drop_one(Faults::planning(Some((Site::FrameRead, 0, Fault::Fails))));
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
    drop_one(Faults::planning(None)).unwrap();
    let read = life.open().unwrap().entry(&written[1].key(), 1).unwrap().unwrap();
    assert_eq!(read.payload, Payload::Dropped);
}

#[test]
fn wherever_the_power_goes_off_nothing_acknowledged_is_lost() {
    let mut random = Random(seed());
    let mut life = Life::new(None);
    life.live().unwrap();
    let events = life.faults.events();
    for count in 0..=events.len() {
        let what = format!("power loss after event {count} of {}", events.len());
        life.check_power_loss(&events[..count], None, &what);
        life.check_power_loss(&events[..count], Some(&mut random), &format!("{what}, some of it kept"));
    }
}

#[test]
fn what_must_be_durable_touches_files_through_the_disk_alone() {
    let touches = ["fs::", "File::", "OpenOptions", ".sync_all", ".sync_data", "FileExt"];
    for (name, text) in [
        ("mod.rs", include_str!("mod.rs")),
        ("index.rs", include_str!("index.rs")),
        ("segments.rs", include_str!("segments.rs")),
        ("the issuer's log", include_str!("../ca/log_file.rs")),
    ] {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let found: Vec<&str> = code
            .lines()
            .filter(|line| {
                !line.trim_start().starts_with("//") && !line.contains("use ") && !line.contains("TryLockError")
            })
            .filter(|line| touches.iter().any(|touch| line.replace("DiskFile::", "").contains(touch)))
            .collect();
        assert!(found.is_empty(), "{name} touches files itself, where no fault reaches it: {found:?}");
    }
}
