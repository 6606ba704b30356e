//! The pieces that each entry passes through, one by one: what moves `tests/bench`, and by how much. Run with
//! `cargo bench -p cwn-tests`; the times are those of this machine.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use cwn_crypto::{
    Domain, Hash, SigningKey, Time,
    issuer_log::LogId,
    seal::{Age, EpochKey, Seal},
};
use cwn_engine::{
    log::{self, Authentic, CircleId, Decoded, Draft, EntryBytes, Link, Opening, Suite, Under, Writer},
    replica::Replica,
    store::Write,
    wire::{RunFrame, WireTip},
};
use cwn_node::{membership::Membership, store::Store};
use cwn_tests::world::World;

const PAYLOAD_BYTES: usize = 1_000;
/// Entries of a run, and of what is made durable at once.
const GROUP: usize = 1_024;
const STORED: usize = 20_000;
const LOGS: u16 = 1_000;
const LIMIT: usize = 1 << 20;

/// Writes a log that has never been seen before, entry by entry.
fn author(seed: u8) -> impl FnMut() -> Authentic {
    let opening = Opening { under: Under::Charter, cites: Vec::new() };
    let circle = CircleId(Hash([1; 32]));
    let mut writer = Writer::open(circle, SigningKey::from_seed(&[seed; 32]), LogId([seed; 16]), opening);
    move || {
        let payload = vec![7; PAYLOAD_BYTES];
        writer.append(Time(1), Draft { suite: Suite::Named, epoch: None, payload, expiry: None, retracts: None })
    }
}

fn entries(count: usize) -> Vec<EntryBytes> {
    let mut write = author(1);
    (0..count).map(|_| write().bytes().clone()).collect()
}

fn receiving(c: &mut Criterion) {
    let mut group = c.benchmark_group("receiving");
    let run = entries(GROUP);
    group.throughput(Throughput::Elements(GROUP as u64));
    let frame = RunFrame { records: Vec::new(), entries: run[..GROUP / 2].to_vec() }.to_bytes();
    group.bench_function("reading a frame of 512", |b| b.iter(|| RunFrame::from_bytes(black_box(&frame)).is_ok()));
    group.bench_function("decoding 1,024", |b| {
        let decode = |run: Vec<EntryBytes>| run.into_iter().map(Decoded::decode).filter(Result::is_ok).count();
        b.iter_batched(|| run.clone(), decode, BatchSize::LargeInput);
    });
    let decoded: Vec<Decoded> = run.iter().cloned().map(Decoded::decode).collect::<Result<_, _>>().unwrap_or_default();
    assert_eq!(decoded.len(), GROUP);
    group.bench_function("checking a chain of 1,024", |b| {
        b.iter_batched(|| decoded.clone(), |run| log::authenticate(run, Link::Start).is_ok(), BatchSize::LargeInput);
    });
    group.finish();
}

fn sealing(c: &mut Criterion) {
    let mut group = c.benchmark_group("sealing");
    let key = EpochKey::from_bytes([3; 32]);
    let plaintext = vec![7; PAYLOAD_BYTES];
    let sealed = Age.seal_to_epoch(&key, &plaintext);
    group.throughput(Throughput::Elements(1));
    group.bench_function("sealing 1 kB to an epoch", |b| b.iter(|| Age.seal_to_epoch(&key, black_box(&plaintext))));
    group.bench_function("opening 1 kB", |b| b.iter(|| Age.open_with_epoch(&key, black_box(&sealed), LIMIT).is_ok()));
    group.bench_function("signing and chaining 1 kB", |b| {
        b.iter_batched_ref(|| author(2), |write| write(), BatchSize::LargeInput)
    });
    group.finish();
}

fn storing(c: &mut Criterion) {
    let mut group = c.benchmark_group("storing");
    group.sample_size(20);
    group.throughput(Throughput::Elements(GROUP as u64));
    let dir = tempfile::tempdir().expect("a directory");
    let (mut store, _) = Store::open(dir.path(), &mut |_| {}).expect("an empty store opens");
    let mut write = author(3);
    group.bench_function("appending 1,024, durable", |b| {
        let writes = || -> Vec<Write> { (0..GROUP).map(|_| Write::Entry(write())).collect() };
        b.iter_batched(writes, |writes| store.append(&writes).is_ok(), BatchSize::PerIteration);
    });
    store.close().expect("it closes");
    let dir = tempfile::tempdir().expect("a directory");
    let (mut store, _) = Store::open(dir.path(), &mut |_| {}).expect("an empty store opens");
    let mut write = author(4);
    for _ in 0..STORED / GROUP {
        let writes: Vec<Write> = (0..GROUP).map(|_| Write::Entry(write())).collect();
        store.append(&writes).expect("it takes entries");
    }
    store.close().expect("it closes");
    group.sample_size(10);
    group.throughput(Throughput::Elements((STORED / GROUP * GROUP) as u64));
    group.bench_function("opening with its index lost", |b| {
        let lose = || std::fs::remove_dir_all(dir.path().join("index"));
        let open = |lost: std::io::Result<()>| lost.is_ok() && Store::open(dir.path(), &mut |_| {}).is_ok();
        b.iter_batched(lose, open, BatchSize::PerIteration);
    });
    group.finish();
}

fn comparing(c: &mut Criterion) {
    let mut group = c.benchmark_group("comparing");
    let world = World::new(&["one"]).expect("a node's directory");
    let keys = world.keys("one").expect("its keys");
    let root = Membership::load(&world.node("one").data, &keys).expect("its membership").root().clone();
    let replica = Replica::network(root);
    let tip = |number: u16| WireTip {
        author: SigningKey::from_seed(&Hash::of(Domain::DIGEST, &[&number.to_be_bytes()]).0).public(),
        log: LogId([1; 16]),
        first: false,
        height: u64::from(number),
        head: Some(Hash([2; 32])),
        forked: false,
    };
    let tips: Vec<WireTip> = (0..LOGS).map(tip).collect();
    group.throughput(Throughput::Elements(u64::from(LOGS)));
    group.bench_function("the digest of 1,000 logs", |b| b.iter(|| replica.digest(black_box(&tips))));
    group.finish();
}

criterion_group!(hot, receiving, sealing, storing, comparing);
criterion_main!(hot);
