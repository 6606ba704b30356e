//! Enrolment over real sockets, with a real CA: what is granted, what is refused, and what is said.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::mpsc,
};

use cwn_crypto::invitation::Approve;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::*;
use crate::{
    ca::directory::{Ca, Mesh, Outcome},
    clock,
    coordinator::DeskJudge,
    files,
    keystore::Unlock,
};

struct World {
    _dir: tempfile::TempDir,
    ca: PathBuf,
    unlock: Unlock,
    desk_keys: Keys,
    desk: Desk,
}

/// What stands behind the coordinator's own desk.
fn judge(ca: &Path, unlock: &Unlock) -> Arc<DeskJudge> {
    Arc::new(DeskJudge { dir: ca.to_owned(), unlock: unlock.clone(), wrote: Arc::default() })
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
        let judge = judge(&ca, &unlock);
        let desk = open_desk("127.0.0.1:0", &desk_keys.signing, per_minute, judge).await.unwrap();
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
async fn a_request_for_another_network_is_refused() {
    let (world, other) = (World::new(100).await, World::new(100).await);
    let invitation = Invitation { network: other.ca().network(), ..world.invite(Approve::Auto) };
    let why = refusal(&invitation, &Keys::generate()).await;
    assert!(why.contains("is for network"), "{why}");
    assert_eq!(world.certificates(), 0);
}

/// A desk with the right key that hands out whatever it was told to.
struct Liar(Admission);

impl Judge for Liar {
    fn judge(&self, _request: &SignedRequest) -> Result<Option<Admission>, String> {
        Ok(Some(self.0.clone()))
    }
}

impl World {
    async fn lies(&self, invitation: &Invitation, keys: &Keys, admission: Admission) -> String {
        let desk = open_desk("127.0.0.1:0", &self.desk_keys.signing, 100, Arc::new(Liar(admission))).await.unwrap();
        let invitation = Invitation { addresses: vec![desk.address.to_string()], ..invitation.clone() };
        refusal(&invitation, keys).await
    }

    /// What this network's coordinator gives to these keys.
    fn admission(&self, partner: &str, keys: &Keys) -> Admission {
        let mut ca = self.ca();
        let invitation = ca.invite(partner.parse().unwrap(), partner, 3_600_000, Approve::Auto, clock::now()).unwrap();
        let request = Request::sign(&invitation, &keys.signing, keys.sealing.recipient(), clock::now());
        let certificate = ca.certify_own(&request, clock::now()).unwrap();
        ca.admission(certificate).unwrap()
    }
}

#[tokio::test]
async fn i5_nothing_of_an_answer_is_believed_that_the_invitation_does_not_vouch_for() {
    let (world, other) = (World::new(100).await, World::new(100).await);
    let (invitation, keys) = (world.invite(Approve::Auto), Keys::generate());
    let foreign = other.admission("z-cert", &keys);
    let why = world.lies(&invitation, &keys, foreign.clone()).await;
    assert!(why.contains("another network"), "{why}");
    // The right root, and a certificate that another issued.
    let own = world.admission("z-cert", &keys);
    let mixed = Admission { certificate: foreign.certificate, ..own.clone() };
    let why = world.lies(&invitation, &keys, mixed).await;
    assert!(why.contains("certificate of z-cert is for network"), "{why}");
    let others = world.admission("z-cert", &Keys::generate());
    let why = world.lies(&invitation, &keys, others).await;
    assert!(why.contains("two data directories"), "{why}");
    let renamed = Keys::generate();
    let why = world.lies(&invitation, &renamed, world.admission("ferm", &renamed)).await;
    assert!(why.contains("for ferm"), "{why}");
}

#[tokio::test]
async fn the_desk_is_found_at_its_next_address_when_something_else_answers_at_the_first() {
    let world = World::new(100).await;
    let judge = judge(&world.ca, &world.unlock);
    let other = open_desk("127.0.0.1:0", &Keys::generate().signing, 100, judge).await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let invitation = world.invite(Approve::Auto);
    let at = |addresses: &[SocketAddr]| Invitation {
        addresses: addresses.iter().map(SocketAddr::to_string).collect(),
        ..invitation.clone()
    };
    let keys = Keys::generate();
    let nowhere = ask(&at(&[other.address, closed]), &keys, clock::now()).await;
    assert!(matches!(nowhere, Err(Error::NotTheDesk { .. })), "who answered wrongly is what the partner must hear");
    assert!(matches!(ask(&at(&[closed]), &keys, clock::now()).await, Err(Error::Unreachable { .. })));
    join(&at(&[closed, other.address, world.desk.address]), &keys).await;
}

/// Hands the desk a request over a connection of `keys`.
async fn hand_in(world: &World, request: &SignedRequest, keys: &Keys) -> Answer {
    let config = tls::Config::new(&identity(&keys.signing).unwrap()).unwrap();
    let socket = TcpStream::connect(world.desk.address).await.unwrap();
    let name = protocol(&config).unwrap();
    let (_, mut stream) = config.upgrade_outbound(socket.compat(), name).await.unwrap();
    write(&mut stream, &encoding::to_bytes(request)).await.unwrap();
    encoding::from_bytes(&read(&mut stream, ANSWER_BYTES).await.unwrap(), ANSWER_BYTES).unwrap()
}

#[tokio::test]
async fn a_request_that_was_altered_or_taken_from_another_is_refused() {
    let world = World::new(100).await;
    let (invitation, keys) = (world.invite(Approve::Auto), Keys::generate());
    let request = Request::sign(&invitation, &keys.signing, keys.sealing.recipient(), clock::now());
    let taken = hand_in(&world, &request, &Keys::generate()).await;
    assert!(matches!(taken, Answer::Refused(why) if why.contains("another node")));
    let mut bytes = encoding::to_bytes(&request);
    *bytes.last_mut().unwrap() ^= 1;
    let altered = hand_in(&world, &encoding::from_bytes(&bytes, REQUEST_BYTES).unwrap(), &keys).await;
    assert!(matches!(altered, Answer::Refused(why) if why.contains("cannot be trusted")));
    assert_eq!(world.certificates(), 0);
    assert!(matches!(hand_in(&world, &request, &keys).await, Answer::Admitted(_)));
}

#[tokio::test]
async fn the_desk_goes_by_its_own_clock_and_not_by_the_partners() {
    let world = World::new(100).await;
    let partner = "z-cert".parse().unwrap();
    let ended = Time(clock::now().0 - Time::DAY_MS);
    let invitation = world.ca().invite(partner, "Z-CERT", 3_600_000, Approve::Auto, ended).unwrap();
    let why = ask(&invitation, &Keys::generate(), ended).await.unwrap_err().to_string();
    assert!(why.contains("the desk refused") && why.contains("expired"), "{why}");
    assert_eq!(world.certificates(), 0);
}

#[tokio::test]
async fn who_has_no_invitation_costs_the_coordinator_no_opening_of_its_keys() {
    let world = World::new(100).await;
    let closed = Unlock::passphrase(Zeroizing::new("not the right sentence".to_owned())).unwrap();
    let (invitation, keys) = (world.invite(Approve::Auto), Keys::generate());
    let desk = judge(&world.ca, &closed);
    let judge = |invitation: &Invitation| {
        let request = Request::sign(invitation, &keys.signing, keys.sealing.recipient(), clock::now());
        desk.judge(&request).unwrap_err()
    };
    let stranger = Invitation { secret: cwn_crypto::invitation::Secret::from_bytes([9; 16]), ..invitation.clone() };
    assert!(judge(&stranger).contains("not known"));
    assert!(judge(&invitation).contains("does not open"));
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
    assert!(Ca::open(dir.path(), &unlock).is_err_and(|error| error.to_string().contains("cwn ca")));
}

#[tokio::test]
async fn i7_who_says_nothing_holds_a_place_at_the_desk_only_for_a_while() {
    let world = World::new(100).await;
    let (invitation, keys) = (world.invite(Approve::Auto), Keys::generate());
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(TcpStream::connect(world.desk.address).await.unwrap());
    }
    let full = ask(&invitation, &keys, clock::now()).await;
    assert!(matches!(full, Err(Error::Broken(_))), "{full:?}");
    for mut socket in silent {
        let mut rest = Vec::new();
        timeout(3 * PATIENCE, socket.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(rest.is_empty());
    }
    join(&invitation, &keys).await;
}

/// A CA whose lock somebody holds until the test lets go of it.
struct Held {
    asked: mpsc::Sender<()>,
    free: Mutex<mpsc::Receiver<()>>,
}

impl Judge for Held {
    fn judge(&self, _request: &SignedRequest) -> Result<Option<Admission>, String> {
        self.asked.send(()).unwrap();
        let _ = self.free.lock().unwrap().recv();
        Ok(None)
    }
}

#[tokio::test]
async fn i7_who_went_away_while_the_ca_was_busy_leaves_no_work_behind_beyond_the_places_at_the_desk() {
    let world = World::new(100).await;
    let ((asked, asks), (let_go, free)) = (mpsc::channel(), mpsc::channel());
    let held = Arc::new(Held { asked, free: Mutex::new(free) });
    let desk = open_desk("127.0.0.1:0", &world.desk_keys.signing, 100, held).await.unwrap();
    let invitation = Invitation { addresses: vec![desk.address.to_string()], ..world.invite(Approve::Manual) };
    let visit = || async { ask(&invitation, &Keys::generate(), clock::now()).await };
    let first = futures::future::join_all((0..CONNECTIONS).map(|_| visit())).await;
    assert!(first.iter().all(|visit| matches!(visit, Err(Error::Broken(_)))), "the desk hung up on each: {first:?}");
    assert!(visit().await.is_err(), "and on who came later, at once");
    assert_eq!(asks.try_iter().count(), CONNECTIONS, "as many are judged as there are places");
    drop(let_go);
    // Each place is free again once its judgement ended.
    while visit().await.is_err() {}
}

#[test]
fn i7_one_source_that_asks_without_end_does_not_close_the_desk_to_others() {
    let rate = Rate { per_minute: 2, counted: Mutex::default() };
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let allowed = |text: &str, times: usize| (0..times).filter(|_| rate.allows(ip(text), Time(0))).count();
    assert_eq!(allowed("192.0.2.1", 1_000), 2);
    assert_eq!(allowed("192.0.2.2", 1), 1);
    // An IPv4 address is the same one on a listener for both, and not all of IPv4.
    assert_eq!(allowed("::ffff:192.0.2.1", 1), 0);
    assert_eq!(allowed("::ffff:192.0.2.3", 1), 1);
    // Who has a network of 64 bits asks from each of its addresses once.
    assert_eq!((1..=100).map(|host| allowed(&format!("2001:db8::{host:x}"), 1)).sum::<usize>(), 2);
    assert_eq!(allowed("2001:db8:0:1::1", 1), 1);
    // All together have a bound of their own, until the minute turns.
    assert_eq!((0..100).map(|host| allowed(&format!("198.51.100.{host}"), 1)).sum::<usize>(), 20 - 7);
    assert!(rate.allows(ip("192.0.2.1"), Time(MINUTE_MS)));
}
