//! The CA's directory through crashes, rot and a coordinator's slips of the hand.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use clap::Parser;
use cwn_crypto::{
    PublicKey, Time,
    authority::{Reason, Request, SignedRequest},
    certificate::Certificate,
    invitation::{Approve, Invitation},
};

use super::{
    cli,
    directory::{Ca, Error, Follower, Mesh, Outcome},
    root::{self, Adopted, Change, Proposal},
};
use crate::{
    clock, enrolment, files,
    keystore::{Keys, Unlock},
};

struct World {
    dir: tempfile::TempDir,
    unlock: Unlock,
    now: Time,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let credential = dir.path().join("credential");
        files::durable_write(&credential, &[7; 32]).unwrap();
        let world = Self { unlock: Unlock::credential(&credential).unwrap(), dir, now: clock::now() };
        let ca = Ca::init(&world.ca_dir(), &world.unlock, "test", world.now).unwrap();
        let desk = Some(Keys::generate().signing.public());
        ca.set_mesh(&Mesh { desk, desk_addresses: vec!["127.0.0.1:1".to_owned()], nodes: Vec::new() }).unwrap();
        world
    }

    fn ca_dir(&self) -> PathBuf {
        self.dir.path().join("ca")
    }

    fn log(&self) -> PathBuf {
        self.ca_dir().join("issuer.log")
    }

    /// A CA opened by a process of its own.
    fn ca(&self) -> Ca {
        Ca::open(&self.ca_dir(), &self.unlock).unwrap()
    }

    fn refusal(&self) -> String {
        Ca::open(&self.ca_dir(), &self.unlock).unwrap_err().to_string()
    }

    fn invite(&self, partner: &str, approve: Approve) -> Invitation {
        self.ca().invite(partner.parse().unwrap(), partner, Time::DAY_MS, approve, self.now).unwrap()
    }

    fn request(&self, invitation: &Invitation, keys: &Keys) -> SignedRequest {
        Request::sign(invitation, &keys.signing, keys.sealing.recipient(), self.now)
    }

    fn ask(&self, invitation: &Invitation, keys: &Keys) -> Result<Outcome, Error> {
        self.ca().take_request(&self.request(invitation, keys), self.now)
    }

    fn certify(&self, partner: &str) -> PublicKey {
        let keys = Keys::generate();
        certified(self.ask(&self.invite(partner, Approve::Auto), &keys).unwrap());
        keys.signing.public()
    }
}

fn certified(outcome: Outcome) -> Certificate {
    match outcome {
        Outcome::Certified(signed) => signed.unverified(4_096).unwrap(),
        Outcome::Waiting => panic!("it waits"),
    }
}

// ---- Crashes and rot.

#[test]
fn a_crash_before_the_certificate_was_written_strands_nobody_and_opens_nothing_to_another() {
    let world = World::new();
    let (invitation, keys) = (world.invite("z-cert", Approve::Auto), Keys::generate());
    let before = fs::read(world.log()).unwrap();
    certified(world.ask(&invitation, &keys).unwrap());
    // The record says who used the invitation, and the log never got the certificate.
    fs::write(world.log(), before).unwrap();
    let other = world.ask(&invitation, &Keys::generate());
    assert!(matches!(other, Err(Error::Refused(Reason::UsedWithAnotherKey { .. }))));
    assert_eq!(certified(world.ask(&invitation, &keys).unwrap()).node, keys.signing.public());
    assert_eq!(world.ca().word().nodes().count(), 1);
}

#[test]
fn a_crash_in_the_middle_of_a_write_leaves_a_log_that_goes_on() {
    let world = World::new();
    let (z_cert, ferm) = (world.certify("z-cert"), world.certify("ferm"));
    let whole = fs::read(world.log()).unwrap();
    fs::write(world.log(), &whole[..whole.len() - 1]).unwrap();
    let ca = world.ca();
    assert!(ca.cut_back_bytes > 0);
    assert!(ca.word().certificate(&z_cert).is_some() && ca.word().certificate(&ferm).is_none());
    drop(ca);
    world.certify("divd");
    assert_eq!(world.ca().word().nodes().count(), 2);
}

#[test]
fn rot_in_the_issuers_log_is_said_and_costs_no_entry_behind_it() {
    let world = World::new();
    let node = world.certify("z-cert");
    world.ca().revoke("z-cert", "stolen", world.now).unwrap();
    world.certify("ferm");
    let whole = fs::read(world.log()).unwrap();
    // In a length, in a checksum, and in what they are of.
    for place in [0, 5, 100] {
        let mut rotten = whole.clone();
        rotten[place] ^= 1;
        fs::write(world.log(), &rotten).unwrap();
        let said = world.refusal();
        assert!(said.contains("issuer.log") && said.contains("backup"), "{said}");
        assert_eq!(fs::read(world.log()).unwrap(), rotten, "what is left stays as it is");
    }
    fs::write(world.log(), whole).unwrap();
    assert!(world.ca().word().revocation(&node).is_some());
}

#[test]
fn what_a_crash_left_of_a_request_does_not_hide_the_others() {
    let world = World::new();
    let (invitation, keys) = (world.invite("z-cert", Approve::Manual), Keys::generate());
    assert!(matches!(world.ask(&invitation, &keys).unwrap(), Outcome::Waiting));
    fs::write(world.ca_dir().join("requests/.0123.77.new"), b"torn").unwrap();
    assert_eq!(world.ca().requests().unwrap().len(), 1);
    assert!(!world.ca_dir().join("requests/.0123.77.new").exists());
    world.ca().approve("z-cert", world.now).unwrap();
}

#[test]
fn entries_reach_a_follower_only_when_their_writer_is_done() {
    let world = World::new();
    let mut follower = Follower::new(&world.ca_dir()).unwrap();
    assert_eq!(follower.news().unwrap(), []);
    let mut ca = world.ca();
    assert!(ca.nothing_else(world.now).unwrap());
    assert_eq!(follower.news().unwrap(), [], "who writes may not have it on disk yet");
    drop(ca);
    assert_eq!(follower.news().unwrap().len(), 1);
}

#[test]
fn a_serial_is_given_once_also_when_the_clock_jumped_back() {
    let world = World::new();
    let keys = Keys::generate();
    let issue = |partner: &str, keys: &Keys, now: Time| {
        let request = world.request(&world.invite(partner, Approve::Auto), keys);
        certified(world.ca().take_request(&request, now).unwrap()).serial
    };
    // The second certificate begins before the first, so the first stays the node's newest.
    assert_eq!(issue("z-cert", &keys, world.now.plus(3_600_000)), 1);
    assert_eq!(issue("z-cert", &keys, world.now), 2);
    assert_eq!(issue("ferm", &Keys::generate(), world.now), 3);
}

// ---- Files that others can reach.

#[test]
fn a_directory_that_others_can_reach_is_refused_with_the_remedy() {
    let world = World::new();
    let mode = |mode| fs::set_permissions(world.ca_dir(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o750);
    assert!(world.refusal().contains("chmod 0700"));
    mode(0o700);
    let key = world.ca_dir().join("issuer.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(world.refusal().contains("chmod 0600"));
    let wide = world.dir.path().join("wide");
    fs::create_dir(&wide).unwrap();
    fs::set_permissions(&wide, fs::Permissions::from_mode(0o755)).unwrap();
    let said = Ca::init(&wide, &world.unlock, "test", world.now).unwrap_err().to_string();
    assert!(said.contains("chmod 0700"), "{said}");
    assert!(!wide.join("root.key").exists(), "no key is written where others can reach it");
}

// ---- Slips of the hand, and hands of others.

#[test]
fn a_reason_too_long_is_refused_and_nothing_is_said() {
    let world = World::new();
    let node = world.certify("z-cert");
    let said = world.ca().revoke("z-cert", &"x".repeat(501), world.now).unwrap_err().to_string();
    assert!(said.contains("500") && said.contains("shorten"), "{said}");
    assert!(world.ca().word().revocation(&node).is_none());
    assert_eq!(world.ca().revoke("z-cert", &"x".repeat(500), world.now).unwrap(), [node]);
}

#[test]
fn the_start_of_a_key_revokes_one_node_or_none() {
    let world = World::new();
    let nodes = [world.certify("z-cert"), world.certify("z-cert"), world.certify("ferm")];
    assert!(matches!(world.ca().revoke(&nodes[0].to_string()[..5], "x", world.now), Err(Error::NotCertified(_))));
    assert_eq!(world.ca().revoke(&nodes[0].to_string()[..12], "x", world.now).unwrap(), [nodes[0]]);
    // A partner whose name could be the start of a key is that partner, and nobody else.
    let start = &nodes[2].to_string()[..8];
    let named = world.certify(start);
    assert_eq!(world.ca().revoke(start, "x", world.now).unwrap(), [named]);
    let ca = world.ca();
    assert!(ca.word().revocation(&nodes[1]).is_none() && ca.word().revocation(&nodes[2]).is_none());
}

#[test]
fn two_requests_under_one_name_are_told_apart_by_their_keys() {
    let world = World::new();
    let invitation = world.invite("z-cert", Approve::Manual);
    let (ours, theirs) = (Keys::generate(), Keys::generate());
    for keys in [&ours, &theirs] {
        assert!(matches!(world.ask(&invitation, keys).unwrap(), Outcome::Waiting));
    }
    let said = world.ca().approve("z-cert", world.now).unwrap_err().to_string();
    let (ours_key, theirs_key) = (ours.signing.public().to_string(), theirs.signing.public().to_string());
    assert!(said.contains(&ours_key[..12]) && said.contains(&theirs_key[..12]), "{said}");
    world.ca().approve(&ours_key[..12], world.now).unwrap();
    let other = world.ca().approve(&theirs_key, world.now);
    assert!(matches!(other, Err(Error::Refused(Reason::UsedWithAnotherKey { .. }))));
    certified(world.ask(&invitation, &ours).unwrap());
}

#[test]
fn i7_one_invitation_keeps_few_requests_waiting() {
    let world = World::new();
    let invitation = world.invite("z-cert", Approve::Manual);
    let first = Keys::generate();
    assert!(matches!(world.ask(&invitation, &first).unwrap(), Outcome::Waiting));
    let kept = (0..10).filter(|_| world.ask(&invitation, &Keys::generate()).is_ok()).count();
    assert_eq!(kept, 3);
    let said = world.ask(&invitation, &Keys::generate()).unwrap_err().to_string();
    assert!(said.contains("call the coordinator"), "{said}");
    assert!(matches!(world.ask(&invitation, &first).unwrap(), Outcome::Waiting), "who waits may ask again");
    assert_eq!(world.ca().requests().unwrap().len(), 4);
    let another = world.invite("ferm", Approve::Manual);
    assert!(matches!(world.ask(&another, &Keys::generate()).unwrap(), Outcome::Waiting));
}

#[test]
fn a_revoked_node_gets_no_certificate_by_whatever_invitation() {
    let world = World::new();
    let keys = Keys::generate();
    let used = world.invite("z-cert", Approve::Auto);
    certified(world.ask(&used, &keys).unwrap());
    world.ca().revoke("z-cert", "stolen", world.now).unwrap();
    for invitation in [used, world.invite("z-cert", Approve::Auto), world.invite("z-cert", Approve::Manual)] {
        let said = world.ask(&invitation, &keys).unwrap_err().to_string();
        assert!(said.contains("revoked") && said.contains("new data directory"), "{said}");
    }
    assert!(world.ca().requests().unwrap().is_empty());
}

#[test]
fn the_node_of_one_partner_does_not_become_anothers() {
    let world = World::new();
    let keys = Keys::generate();
    let first = certified(world.ask(&world.invite("z-cert", Approve::Auto), &keys).unwrap());
    // A second invitation of the same partner is fine: the first certificate may have ended.
    let second = certified(world.ask(&world.invite("z-cert", Approve::Auto), &keys).unwrap());
    assert_eq!((first.serial, second.serial), (1, 2));
    let said = world.ask(&world.invite("ferm", Approve::Auto), &keys).unwrap_err().to_string();
    assert!(said.contains("z-cert") && said.contains("new data directory"), "{said}");
}

// ---- The commands.

#[derive(Debug, Parser)]
struct Program {
    #[command(flatten)]
    arguments: cli::Arguments,
}

/// Runs `cwn-ca` on the world's CA.
fn run(world: &World, command: &[&str]) -> Result<(), String> {
    let (dir, credential) = (world.ca_dir(), world.dir.path().join("credential"));
    let dir = ["cwn-ca", "--dir", dir.to_str().unwrap(), "--credential", credential.to_str().unwrap()];
    let program = Program::try_parse_from(dir.iter().chain(command)).map_err(|error| error.to_string())?;
    cli::run(program.arguments).map_err(|error| format!("{error:#}"))
}

#[test]
fn a_ca_kept_offline_tells_a_newcomer_whom_to_dial() {
    let world = World::new();
    let (anchor, keys) = (Keys::generate().signing.public(), Keys::generate());
    let node = |address: &str| format!("{anchor}={address}");
    let (four, six) = (node("/ip4/192.0.2.1/tcp/4001"), node("/ip6/2001:db8::1/tcp/4001"));
    run(&world, &["mesh", "--node", &four, "--node", &six]).unwrap();
    let (request, reply) = (world.dir.path().join("request.txt"), world.dir.path().join("reply.txt"));
    let invitation = world.invite("z-cert", Approve::Auto);
    assert_eq!(invitation.addresses, ["127.0.0.1:1"], "the desk stays where it was");
    fs::write(&request, enrolment::request_file(&invitation, &keys, world.now).unwrap()).unwrap();
    let files = ["approve", "--request", request.to_str().unwrap(), "--out", reply.to_str().unwrap(), "--yes"];
    // A second time, because the reply file was lost: the same certificate.
    let certificates: Vec<Certificate> = (0..2)
        .map(|_| {
            run(&world, &files).unwrap();
            let text = fs::read_to_string(&reply).unwrap();
            fs::remove_file(&reply).unwrap();
            let joined = enrolment::read_reply_file(&text, &invitation, &keys).unwrap();
            let addresses = ["/ip4/192.0.2.1/tcp/4001", "/ip6/2001:db8::1/tcp/4001"].map(str::to_owned);
            assert_eq!(joined.nodes, [(anchor, addresses.to_vec())]);
            joined.membership.certificate().clone()
        })
        .collect();
    assert_eq!(certificates[0], certificates[1]);
}

#[test]
fn what_cannot_be_meant_is_answered_with_what_can() {
    let world = World::new();
    let answered = |command: &[&str]| run(&world, command).unwrap_err();
    assert!(answered(&["invite", "z-cert", "--name", "Z", "--hours", "73"]).contains("1..=72"));
    assert!(answered(&["invite", "z-cert", "--name", "Z", "--hours", "0"]).contains("1..=72"));
    assert!(answered(&["mesh"]).contains("--node"));
    assert!(answered(&["mesh", "--address", "192.0.2.1:4002"]).contains("--desk-key"));
    assert!(answered(&["mesh", "--node", "/ip4/192.0.2.1/tcp/4001"]).contains("KEY=/ip4"));
    assert!(answered(&["mesh", "--node", "abc=/ip4/192.0.2.1/tcp/4001"]).contains("64 hexadecimal"));
    let node = format!("{}=192.0.2.1:4001", Keys::generate().signing.public());
    assert!(answered(&["mesh", "--node", &node]).contains("multiaddress"));
    assert!(answered(&["approve"]).contains("REQUEST_OF"));
    assert!(answered(&["approve", "z-cert"]).contains("cwn ca requests"));
    assert!(answered(&["revoke", "z-cert", "--reason", "x"]).contains("cwn ca list"));
    let nowhere = world.dir.path().join("nowhere");
    let missing = ["approve", "--request", nowhere.to_str().unwrap(), "--out", "reply.txt"];
    assert!(answered(&missing).contains("nowhere"));
    let garbage = world.dir.path().join("garbage");
    fs::write(&garbage, vec![b'x'; 70_000]).unwrap();
    let long = ["approve", "--request", garbage.to_str().unwrap(), "--out", "reply.txt"];
    assert!(answered(&long).contains("too long"));
}

#[test]
fn nothing_is_revoked_before_somebody_says_yes_or_without_a_reason() {
    let world = World::new();
    let node = world.certify("z-cert");
    let revoked = || world.ca().word().revocation(&node).is_some();
    for blank in ["", "  "] {
        let said = run(&world, &["revoke", "z-cert", "--yes", "--reason", blank]).unwrap_err();
        assert!(said.contains("members see"), "{said}");
    }
    let said = run(&world, &["revoke", "z-cert", "--reason", "stolen"]).unwrap_err();
    assert!(said.contains("z-cert") && said.contains("--yes") && !revoked(), "{said}");
    run(&world, &["revoke", "z-cert", "--reason", "stolen", "--yes"]).unwrap();
    assert!(revoked());
}

#[test]
fn who_is_revoked_already_is_called_that_with_the_day_the_reason_and_the_way_back() {
    let world = World::new();
    let node = world.certify("z-cert");
    world.ca().revoke("z-cert", "stolen", world.now).unwrap();
    for named in ["z-cert", &node.to_string()[..12]] {
        let said = world.ca().revoke(named, "again", world.now).unwrap_err().to_string();
        let day = world.now.date().to_string();
        assert!(said.contains(&format!("revoked already, on {day}: stolen")), "{said}");
        assert!(said.contains("`cwn ca invite z-cert --name NAME`"), "{said}");
    }
    // Another node of it is not.
    let second = world.certify("z-cert");
    assert_eq!(world.ca().revoke("z-cert", "again", world.now).unwrap(), [second]);
}

#[test]
fn no_request_is_approved_before_somebody_says_yes() {
    let world = World::new();
    let certified = || world.ca().word().nodes().count();
    let (invitation, keys) = (world.invite("z-cert", Approve::Manual), Keys::generate());
    assert!(matches!(world.ask(&invitation, &keys).unwrap(), Outcome::Waiting));
    let said = run(&world, &["approve", "z-cert"]).unwrap_err();
    assert!(said.contains("z-cert") && said.contains("--yes"), "{said}");
    let (request, reply) = (world.file("request.txt"), world.file("reply.txt"));
    let invitation = world.invite("ferm", Approve::Auto);
    fs::write(&request, enrolment::request_file(&invitation, &Keys::generate(), world.now).unwrap()).unwrap();
    let files = ["approve", "--request", request.to_str().unwrap(), "--out", reply.to_str().unwrap(), "--yes"];
    let said = run(&world, &files[..5]).unwrap_err();
    assert!(said.contains("ferm") && said.contains("--yes") && !reply.exists(), "{said}");
    assert_eq!((certified(), world.ca().requests().unwrap().len()), (0, 1));
    run(&world, &["approve", "z-cert", "--yes"]).unwrap();
    run(&world, &files).unwrap();
    assert_eq!((certified(), world.ca().requests().unwrap().len()), (2, 0));
}

#[test]
fn nobody_is_asked_about_a_request_that_is_refused_anyway() {
    let world = World::new();
    let invitation = world.invite("z-cert", Approve::Auto);
    certified(world.ask(&invitation, &Keys::generate()).unwrap());
    let request = world.file("request.txt");
    fs::write(&request, enrolment::request_file(&invitation, &Keys::generate(), world.now).unwrap()).unwrap();
    let said = run(&world, &["approve", "--request", request.to_str().unwrap(), "--out", "reply.txt"]).unwrap_err();
    assert!(said.contains("already used"), "{said}");
}

#[test]
fn the_directory_and_the_credential_of_the_ca_are_named_on_either_side_of_a_command() {
    let world = World::new();
    let (dir, credential) = (world.ca_dir(), world.dir.path().join("credential"));
    let after = ["cwn-ca", "list", "--dir", dir.to_str().unwrap(), "--credential", credential.to_str().unwrap()];
    cli::run(Program::try_parse_from(after).unwrap().arguments).unwrap();
}

#[test]
fn an_existing_file_is_written_over_by_no_command() {
    let world = World::new();
    let mine = world.file("mine");
    let file = mine.to_str().unwrap();
    let (request, invitation) = (world.file("request.txt"), world.invite("ferm", Approve::Auto));
    fs::write(&request, enrolment::request_file(&invitation, &Keys::generate(), world.now).unwrap()).unwrap();
    let commands: [&[&str]; 4] = [
        &["log", "export", file],
        &["issuer", "renew", "--out", file],
        &["root", "propose", "--new-issuer", "--out", file],
        &["approve", "--yes", "--request", request.to_str().unwrap(), "--out", file],
    ];
    for command in commands {
        fs::write(&mine, "mine").unwrap();
        let said = run(&world, command).unwrap_err();
        assert!(said.contains("exists already"), "{command:?}: {said}");
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine", "{command:?}");
        fs::remove_file(&mine).unwrap();
        run(&world, command).unwrap();
        assert!(mine.exists(), "{command:?}");
    }
}

#[test]
fn a_version_of_the_root_document_that_changes_nothing_is_not_proposed() {
    let world = World::new();
    let proposal = world.file("proposal");
    let root_key = Ca::root_of(&world.ca_dir()).unwrap().document().keys[0].to_string();
    let nothing: [&[&str]; 3] = [&[], &["--threshold", "1"], &["--add-key", &root_key]];
    for said in nothing {
        let command = [&["root", "propose", "--out", proposal.to_str().unwrap()], said].concat();
        let said = run(&world, &command).unwrap_err();
        assert!(said.contains("changes nothing") && said.contains("root propose --help"), "{said}");
        assert!(!proposal.exists());
    }
}

// ---- The root document goes on.

impl World {
    fn propose(&self, change: &Change) -> Proposal {
        root::propose(&self.ca_dir(), change, || Ok(self.unlock.clone()), self.now).unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Signs a proposal with the keys in these files, each its own copy, and adopts the copies.
    fn adopt(&self, proposal: &Proposal, keys: &[PathBuf]) -> Result<Adopted, root::Error> {
        let mut copies = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            let copy = self.file(&format!("copy-{number}"));
            proposal.write(&copy)?;
            let mut signed = Proposal::read(&copy)?;
            signed.sign(&root::open_root_key(key, &self.unlock)?)?;
            signed.write(&copy)?;
            copies.push(copy);
        }
        root::adopt(&self.ca_dir(), &copies)
    }

    /// Two more root keys, of which two of the three must sign from now on.
    fn three_root_keys(&self) -> [PathBuf; 3] {
        let (second, third) = (self.file("second.key"), self.file("third.key"));
        let add_keys = [&second, &third].map(|path| root::make_key(path, &self.unlock).unwrap());
        let change = Change { add_keys: add_keys.to_vec(), threshold: Some(2), ..Change::default() };
        let keys = [self.ca_dir().join("root.key"), second, third];
        self.adopt(&self.propose(&change), &keys[..2]).unwrap();
        keys
    }

    fn issuer(&self) -> PublicKey {
        let root = Ca::root_of(&self.ca_dir()).unwrap();
        root.document().issuers[0].issuer
    }
}

#[test]
fn a_stolen_issuer_is_dropped_by_two_of_three_root_keys_and_the_ca_goes_on_with_another() {
    let world = World::new();
    let keys = world.three_root_keys();
    let (z_cert, stolen) = (world.certify("z-cert"), world.issuer());
    let head = world.ca().word().heads(&stolen);
    // Said with the CA itself by whoever broke in.
    let thief = world.certify("thief");
    let change = Change { new_issuer: true, drop: vec![(stolen, Some(head))], ..Change::default() };
    let proposal = world.propose(&change);
    let alone = world.adopt(&proposal, &keys[2..]).unwrap_err().to_string();
    assert!(alone.contains("let 1 more sign"), "{alone}");
    assert_eq!(Ca::root_of(&world.ca_dir()).unwrap().version(), 2);
    let adopted = world.adopt(&proposal, &keys[1..]).unwrap();
    assert_eq!((adopted.root.version(), adopted.fallen), (3, vec![(thief, "thief".parse().unwrap())]));
    let mut ca = world.ca();
    assert!(ca.word().certificate(&z_cert).is_some() && ca.word().certificate(&thief).is_none());
    // What the stolen key certified in time is renewed by its successor.
    assert_eq!(ca.renew_due(world.now.plus(22 * Time::DAY_MS)).unwrap(), 1);
    let renewed = ca.word().certificate(&z_cert).unwrap().certificate.issuer;
    assert!(renewed != stolen && ca.root().issuer(&renewed).is_some());
    drop(ca);
    let ferm = world.certify("ferm");
    assert!(world.ca().word().certificate(&ferm).is_some());
    let again = world.adopt(&proposal, &keys[1..]).unwrap_err().to_string();
    assert!(again.contains("nothing to adopt"), "{again}");
}

#[test]
fn an_issuer_is_followed_by_another_before_its_term_ends_and_dropped_when_it_is_over() {
    let mut world = World::new();
    let (node, first, key) = (world.certify("z-cert"), world.issuer(), [world.ca_dir().join("root.key")]);
    let ends = |world: &World, days: u64| {
        let root = Ca::root_of(&world.ca_dir()).unwrap();
        root::issuers_end(root.document(), world.now.plus(days * Time::DAY_MS)).is_some()
    };
    assert!(!ends(&world, 75) && ends(&world, 76), "fourteen days ahead");
    let renewal = Change { new_issuer: true, drop_ended: true, ..Change::default() };
    world.now = world.now.plus(20 * Time::DAY_MS);
    let proposal = world.propose(&renewal);
    // Until it is adopted the present one goes on; asked twice, it is the same successor.
    assert_eq!(world.ca().renew_due(world.now.plus(2 * Time::DAY_MS)).unwrap(), 1);
    assert_eq!(world.propose(&renewal).review().unwrap().document, proposal.review().unwrap().document);
    world.adopt(&proposal, &key).unwrap();
    assert!(!ends(&world, 75));
    world.now = world.now.plus(40 * Time::DAY_MS);
    assert_eq!(world.ca().renew_due(world.now).unwrap(), 1);
    let second = world.ca().word().certificate(&node).unwrap().certificate.issuer;
    assert_ne!(second, first);
    world.now = world.now.plus(31 * Time::DAY_MS);
    let adopted = world.adopt(&world.propose(&renewal), &key).unwrap();
    assert_eq!(adopted.root.document().dropped.len(), 1);
    assert!(adopted.root.known(&first).unwrap().dropped.is_some() && adopted.fallen.is_empty());
    assert_eq!(world.ca().word().certificates(&node).count(), 3, "all it said goes on");
}

#[test]
fn what_cannot_be_adopted_is_refused_with_the_remedy() {
    let (world, other) = (World::new(), World::new());
    let change = Change { new_issuer: true, ..Change::default() };
    let proposal = world.propose(&change);
    let stranger = world.file("stranger.key");
    root::make_key(&stranger, &world.unlock).unwrap();
    let refused = world.adopt(&proposal, &[stranger]).unwrap_err().to_string();
    assert!(refused.contains("no root key") && refused.contains("root show"), "{refused}");
    let file = other.file("foreign");
    other.propose(&change).write(&file).unwrap();
    let refused = root::adopt(&world.ca_dir(), std::slice::from_ref(&file)).unwrap_err().to_string();
    assert!(refused.contains("another network"), "{refused}");
    fs::write(&file, "hello").unwrap();
    assert!(Proposal::read(&file).unwrap_err().to_string().contains("root propose"));
    let none = Change { drop: vec![(world.issuer(), None)], ..Change::default() };
    let refused = root::propose(&world.ca_dir(), &none, || Ok(world.unlock.clone()), world.now).unwrap_err();
    assert!(refused.to_string().contains("--new-issuer"), "{refused}");
    assert!(root::parse_head("12:3").unwrap_err().contains("root show"));
}
