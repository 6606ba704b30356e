//! What is kept in memory of what members publish, as the allocator counts it; so one test alone is in here.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so at once")]

use std::alloc::System;

use cap::Cap;
use cwn_crypto::{
    Hash, SigningKey, Time,
    issuer_log::LogId,
    root::{IssuerTerm, RootDocument, SignedRoot, TrustRoot},
    seal::SealingKey,
};
use cwn_engine::{
    circle::{Charter, MemberNode, Steward, Terms},
    engine::{AcceptRule, Config, Engine},
    input::{Command, CommandId, Input},
    log::{Draft, EntryBytes, Opening, Retracts, Suite, Under, Writer},
    output::Output,
    store::Nothing,
};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

const NOW: Time = Time(1_790_000_000_000);

/// Takes an input and does what comes of it, so far as that is to write. Gives how many entries are taken back by it.
fn handle(engine: &mut Engine, input: Input) -> usize {
    engine.handle(NOW, input, &Nothing);
    let mut taken_back = 0;
    while let Some(output) = engine.poll_output() {
        match output {
            Output::Store { ticket, .. } => engine.handle(NOW, Input::Stored { ticket }, &Nothing),
            Output::Retracted { .. } => taken_back += 1,
            _ => {}
        }
    }
    taken_back
}

#[test]
fn i7_a_retraction_takes_about_a_kilobyte_of_memory() {
    let root_key = SigningKey::from_seed(&[1; 32]);
    let document = RootDocument {
        version: 1,
        name: "test".to_owned(),
        keys: vec![root_key.public()],
        threshold: 1,
        issuers: vec![IssuerTerm {
            issuer: SigningKey::from_seed(&[8; 32]).public(),
            not_before: Time(0),
            not_after: NOW.plus(Time::DAY_MS),
        }],
        freshness_ms: Time::DAY_MS,
        previous: None,
        dropped: Vec::new(),
    };
    let root = TrustRoot::from_first(&SignedRoot::sign(&document, &[&root_key])).unwrap();
    let key = SigningKey::from_seed(&[2; 32]);
    let config = Config { key: key.clone(), root, accept: AcceptRule::Ask };
    let mut engine = Engine::open(config, NOW, &Nothing).unwrap();
    let steward = |key: &SigningKey, partner: &str| {
        let node = MemberNode { node: key.public(), recipient: SealingKey::from_bytes([3; 32]).recipient() };
        Steward { partner: partner.parse().unwrap(), node }
    };
    let other = SigningKey::from_seed(&[4; 32]);
    let charter = Charter {
        name: "test circle".to_owned(),
        stewards: vec![steward(&key, "ncsc"), steward(&other, "ferm")],
        terms: Terms::default(),
        secret: [5; 32],
        founded: NOW,
        succeeds: None,
    };
    let circle = charter.id();
    handle(&mut engine, Input::Command { id: CommandId(0), command: Command::Found { charter }, random: [0; 32] });
    let mut writer = Writer::open(circle, other, LogId([6; 16]), Opening { under: Under::Charter, cites: Vec::new() });
    let count = 4_096;
    let entries: Vec<EntryBytes> = (0..count)
        .map(|seq| {
            let retracts = Some(Retracts { log: LogId([7; 16]), seq, hash: Hash([7; 32]) });
            let draft = Draft { suite: Suite::Named, epoch: None, payload: Vec::new(), expiry: None, retracts };
            writer.append(NOW, draft).bytes().clone()
        })
        .collect();
    let before = MEMORY.allocated();
    let taken_back = handle(&mut engine, Input::Import { entries: entries.clone() });
    let bytes = (MEMORY.allocated() - before) / count as usize;
    assert_eq!(taken_back, count as usize);
    assert!(bytes < 1_300, "{bytes} bytes each");
}
