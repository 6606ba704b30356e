//! Enrolment over real sockets, with a real CA: what is granted, what is refused, and what is said.

use std::{net::SocketAddr, path::PathBuf};

use cwn_crypto::invitation::Approve;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::*;
use crate::{
    ca::directory::{Ca, Mesh, Outcome},
    clock, files,
    keystore::Unlock,
};

struct World {
    _dir: tempfile::TempDir,
    ca: PathBuf,
    unlock: Unlock,
    desk_keys: Keys,
    desk: Desk,
}

struct CaJudge {
    ca: PathBuf,
    unlock: Unlock,
}

impl Judge for CaJudge {
    fn judge(&self, request: &SignedRequest) -> Result<Option<Admission>, String> {
        let judged = (|| {
            let mut ca = Ca::open(&self.ca, &self.unlock)?;
            match ca.take_request(request, clock::now())? {
                Outcome::Waiting => Ok(None),
                Outcome::Certified(certificate) => ca.admission(*certificate).map(Some),
            }
        })();
        judged.map_err(|error: crate::ca::directory::Error| error.to_string())
    }
}

impl World {
    async fn new(per_minute: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let credential = dir.path().join("credential");
        files::durable_write(&credential, &[7; 32]).unwrap();
        let unlock = Unlock::credential(&credential).unwrap();
        let ca = dir.path().join("ca");
        Ca::init(&ca, &unlock, "test", clock::now()).unwrap();
        let desk_keys = Keys::generate();
        let judge = CaJudge { ca: ca.clone(), unlock: unlock.clone() };
        let desk = open_desk("127.0.0.1:0", &desk_keys.signing, per_minute, Arc::new(judge)).await.unwrap();
        let world = Self { _dir: dir, ca, unlock, desk_keys, desk };
        let mesh = Mesh {
            desk: Some(world.desk_keys.signing.public()),
            desk_addresses: vec![world.desk.address.to_string()],
            nodes: vec![(world.desk_keys.signing.public(), vec!["/ip4/127.0.0.1/tcp/4001".to_owned()])],
        };
        world.ca().set_mesh(&mesh).unwrap();
        world
    }

    fn ca(&self) -> Ca {
        Ca::open(&self.ca, &self.unlock).unwrap()
    }

    fn invite(&self, approve: Approve) -> Invitation {
        self.ca().invite("z-cert".parse().unwrap(), "Z-CERT", 3_600_000, approve, clock::now()).unwrap()
    }

    fn certificates(&self) -> usize {
        self.ca().word().nodes().count()
    }
}

async fn join(invitation: &Invitation, keys: &Keys) -> Joined {
    match ask(invitation, keys, clock::now()).await.unwrap() {
        Asked::Joined(joined) => *joined,
        Asked::Waiting => panic!("it waits"),
    }
}

async fn refusal(invitation: &Invitation, keys: &Keys) -> String {
    ask(invitation, keys, clock::now()).await.unwrap_err().to_string()
}

#[tokio::test]
async fn an_invitation_gives_a_membership_and_the_same_one_again_to_the_same_keys() {
    let world = World::new(100).await;
    let (invitation, keys) = (world.invite(Approve::Auto), Keys::generate());
    let first = join(&invitation, &keys).await;
    assert_eq!(first.membership.certificate().partner.as_str(), "z-cert");
    assert_eq!(first.nodes.len(), 1);
    assert!(!first.issuer_log.is_empty());
    // The answer was lost, or the node stopped halfway: nobody is stranded, and nothing is issued twice.
    let again = join(&invitation, &keys).await;
    assert_eq!(again.membership.certificate(), first.membership.certificate());
    assert_eq!(world.certificates(), 1);
}

#[tokio::test]
async fn an_invitation_used_by_another_key_is_refused_with_an_alarm() {
    let world = World::new(100).await;
    let invitation = world.invite(Approve::Auto);
    join(&invitation, &Keys::generate()).await;
    let why = refusal(&invitation, &Keys::generate()).await;
    assert!(why.contains("already used") && why.contains("call the coordinator"), "{why}");
    assert_eq!(world.certificates(), 1);
}

#[tokio::test]
async fn an_expired_an_unknown_and_a_changed_invitation_are_refused() {
    let world = World::new(100).await;
    let invitation = world.invite(Approve::Auto);
    let keys = Keys::generate();
    let expired = Invitation { expires: Time(0), ..invitation.clone() };
    assert!(refusal(&expired, &keys).await.contains("expired"));
    let other_secret = Invitation { secret: cwn_crypto::invitation::Secret::from_bytes([9; 16]), ..invitation.clone() };
    assert!(refusal(&other_secret, &keys).await.contains("not known"));
    let other_partner = Invitation { partner: "ferm".parse().unwrap(), ..invitation.clone() };
    assert!(refusal(&other_partner, &keys).await.contains("z-cert"));
    assert_eq!(world.certificates(), 0);
}

#[tokio::test]
async fn a_request_that_a_person_must_approve_waits_and_then_gets_its_certificate() {
    let world = World::new(100).await;
    let (invitation, keys) = (world.invite(Approve::Manual), Keys::generate());
    assert!(matches!(ask(&invitation, &keys, clock::now()).await.unwrap(), Asked::Waiting));
    assert_eq!(world.ca().requests().unwrap().len(), 1);
    world.ca().approve("z-cert", clock::now()).unwrap();
    join(&invitation, &keys).await;
    assert!(world.ca().requests().unwrap().is_empty());
}

#[tokio::test]
async fn a_request_that_a_person_refuses_is_of_no_use_any_more() {
    let world = World::new(100).await;
    let (invitation, keys) = (world.invite(Approve::Manual), Keys::generate());
    assert!(matches!(ask(&invitation, &keys, clock::now()).await.unwrap(), Asked::Waiting));
    world.ca().refuse("z-cert").unwrap();
    assert!(refusal(&invitation, &keys).await.contains("refused"));
}

#[tokio::test]
async fn nothing_of_the_invitation_is_told_to_a_desk_that_is_not_the_one_it_names() {
    let world = World::new(100).await;
    let invitation = Invitation { desk: Keys::generate().signing.public(), ..world.invite(Approve::Auto) };
    assert!(matches!(ask(&invitation, &Keys::generate(), clock::now()).await, Err(Error::NotTheDesk { .. })));
    assert_eq!(world.certificates(), 0);
}

#[tokio::test]
async fn an_answer_of_another_network_is_not_believed() {
    let world = World::new(100).await;
    let other = World::new(100).await;
    let foreign = other.invite(Approve::Auto);
    // A desk that answers with its own network's documents to somebody invited to another.
    let invitation = world.invite(Approve::Auto);
    let mixed = Invitation { network: invitation.network, root_key: invitation.root_key, ..foreign };
    let why = refusal(&mixed, &Keys::generate()).await;
    assert!(why.contains("network"), "{why}");
}

#[tokio::test]
async fn the_same_by_files_for_a_partner_that_may_not_connect() {
    let world = World::new(100).await;
    let (invitation, keys) = (world.invite(Approve::Auto), Keys::generate());
    let request = request_file(&invitation, &keys, clock::now()).unwrap();
    let mailed = format!("Dear coordinator,\r\n\r\n{}\r\nKind regards", request.replace('\n', "\r\n"));
    let signed = read_request_file(&mailed).unwrap();
    let mut ca = world.ca();
    let Outcome::Certified(certificate) = ca.take_request(&signed, clock::now()).unwrap() else { panic!("it waits") };
    let reply = reply_file(&ca.admission(*certificate).unwrap(), keys.sealing.recipient()).unwrap();
    drop(ca);
    let joined = read_reply_file(&reply, &invitation, &keys).unwrap();
    assert_eq!(joined.membership.certificate().node, keys.signing.public());
    assert!(matches!(read_reply_file(&reply, &invitation, &Keys::generate()), Err(Error::Closed(_))));
    let mut altered = request.clone();
    let middle = altered.len() / 2;
    altered.replace_range(middle..=middle, if &altered[middle..=middle] == "A" { "B" } else { "A" });
    assert!(read_request_file(&altered).is_err());
    assert!(matches!(read_request_file(&reply), Err(Error::Armour(_))), "a reply is no request");
}

#[tokio::test]
async fn a_source_that_asks_too_often_has_to_wait() {
    let world = World::new(2).await;
    let invitation = world.invite(Approve::Auto);
    let mut answered = 0;
    for _ in 0..5 {
        answered += usize::from(
            ask(&invitation, &Keys::generate(), clock::now())
                .await
                .is_err_and(|error| matches!(error, Error::Refused(_))),
        );
    }
    // A minute may turn while this runs: then twice as many.
    assert!(answered <= 4, "{answered} of 5 were answered");
}

/// Sends raw bytes to the desk, and waits until it closes.
async fn knock(address: SocketAddr, bytes: &[u8]) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The desk may close while this still writes.
    let _ = socket.write_all(bytes).await;
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn garbage_and_oversized_requests_do_not_disturb_the_desk() {
    let world = World::new(100).await;
    knock(world.desk.address, b"GET / HTTP/1.1\r\n\r\n").await;
    knock(world.desk.address, &[0xff; 100_000]).await;
    // Inside TLS: a length that nobody may send.
    let keys = Keys::generate();
    let config = tls::Config::new(&identity(&keys.signing).unwrap()).unwrap();
    let socket = TcpStream::connect(world.desk.address).await.unwrap();
    let name = protocol(&config).unwrap();
    let (_, mut stream) = config.upgrade_outbound(socket.compat(), name).await.unwrap();
    stream.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut rest = Vec::new();
    // Cut off or closed: in any case no answer.
    let _ = stream.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    join(&world.invite(Approve::Auto), &Keys::generate()).await;
}

#[test]
fn a_revocation_and_a_renewal_stand_in_the_issuers_log() {
    let dir = tempfile::tempdir().unwrap();
    let unlock = Unlock::passphrase(Zeroizing::new("a sentence to remember".to_owned())).unwrap();
    let path = dir.path().join("ca");
    let now = clock::now();
    let mut ca = Ca::init(&path, &unlock, "test", now).unwrap();
    let desk = Keys::generate().signing.public();
    ca.set_mesh(&Mesh { desk: Some(desk), desk_addresses: vec!["127.0.0.1:1".to_owned()], nodes: Vec::new() }).unwrap();
    let certify = |ca: &mut Ca, partner: &str| {
        let keys = Keys::generate();
        let invitation = ca.invite(partner.parse().unwrap(), partner, 1_000, Approve::Auto, now).unwrap();
        let request = Request::sign(&invitation, &keys.signing, keys.sealing.recipient(), now);
        ca.certify_own(&request, now).unwrap();
        keys.signing.public()
    };
    let (z_cert, ferm) = (certify(&mut ca, "z-cert"), certify(&mut ca, "ferm"));
    assert_eq!(ca.revoke("ferm", "stolen", now).unwrap(), [ferm]);
    assert!(ca.revoke("ferm", "again", now).is_err());
    assert!(!ca.nothing_else(now).unwrap());
    let later = now.plus(25 * Time::DAY_MS);
    assert_eq!(ca.renew_due(later).unwrap(), 1, "the revoked one is not renewed");
    drop(ca);
    let ca = Ca::open(&path, &unlock).unwrap();
    assert!(ca.word().revocation(&ferm).is_some() && ca.word().revocation(&z_cert).is_none());
    assert_eq!(ca.word().certificate(&z_cert).unwrap().certificate.not_before, later);
    assert!(Ca::init(&path, &unlock, "again", now).is_err(), "a CA is never founded over another");
    assert!(Ca::open(dir.path(), &unlock).is_err_and(|error| error.to_string().contains("cwn-ca")));
}
