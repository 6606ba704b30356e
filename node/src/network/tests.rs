//! The network over real sockets on the loopback interface: stories of nodes that meet.

use std::{collections::VecDeque, ffi::OsStr, sync::Arc, time::Duration};

use cwn_crypto::{
    certificate::Standing,
    encoding::{self, Domain},
    identity::{PublicKey, Signed},
};
use cwn_engine::limits::FRAME_BYTES;
use futures::{AsyncWriteExt, StreamExt};
use libp2p::{
    Stream, Swarm, SwarmBuilder,
    core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
    ping,
    swarm::{SwarmEvent, dial_opts::DialOpts},
    tcp, tls, yamux,
};
use tokio::sync::mpsc;

use super::{
    admission::{Gate, Reason, Refusal},
    streams::Kind,
    test_world::{World, key},
    *,
};

/// Longer than anything here takes on a busy machine: a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node of a test, and what it reported and nobody asked for yet.
struct Node {
    key: PublicKey,
    gate: Arc<Gate>,
    handle: Handle,
    events: mpsc::Receiver<Event>,
    unasked: VecDeque<Event>,
    address: Address,
}

impl Node {
    async fn start(world: &World, partner: &str, number: u8) -> Self {
        Self::with_gate(world.gate(partner, number), number).await
    }

    async fn with_gate(gate: Arc<Gate>, number: u8) -> Self {
        let config = Config {
            key: key(number),
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
            external: Vec::new(),
            relay: None,
            gate: gate.clone(),
            dial_spread: Duration::ZERO,
            memory_limit: None,
        };
        let mut node = Self::with_config(config);
        node.address = node.listening().await;
        node
    }

    fn with_config(config: Config) -> Self {
        let (key, gate) = (config.key.public(), config.gate.clone());
        let (handle, events) = start(config).unwrap();
        Self { key, gate, handle, events, unasked: VecDeque::new(), address: Address::empty() }
    }

    /// An anchor that passes connections on.
    async fn relay(world: &World, partner: &str, number: u8) -> Self {
        Self::relay_within(world, partner, number, RelayLimits::default()).await
    }

    /// One that does so within limits of its own.
    async fn relay_within(world: &World, partner: &str, number: u8, limits: RelayLimits) -> Self {
        let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let config = Config { listen, relay: Some(limits), ..Self::behind_a_wall(world, partner, number) };
        let mut node = Self::with_config(config);
        node.address = node.listening().await;
        node
    }

    /// What a node starts with that nobody can dial.
    fn behind_a_wall(world: &World, partner: &str, number: u8) -> Config {
        Config {
            key: key(number),
            listen: Vec::new(),
            external: Vec::new(),
            relay: None,
            gate: world.gate(partner, number),
            dial_spread: Duration::ZERO,
            memory_limit: None,
        }
    }

    /// A node that nobody can dial, connected with a relay and reached through it.
    async fn behind(world: &World, partner: &str, number: u8, relay: &Self) -> Self {
        let mut node = Self::with_config(Self::behind_a_wall(world, partner, number));
        node.handle.want(relay.key, vec![relay.address.clone()]);
        node.handle.reach_through(relay.key, vec![relay.address.clone()]);
        node.address = node.listening().await;
        node
    }

    async fn listening(&mut self) -> Address {
        self.until(|event| match event {
            Event::Listening { address } => Some(address.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for an event; others stay for later.
    async fn until<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        for at in 0..self.unasked.len() {
            if let Some(found) = wanted(&self.unasked[at]) {
                self.unasked.remove(at);
                return found;
            }
        }
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            let event = event.unwrap_or_else(|_elapsed| panic!("waited in vain beside {:?}", self.unasked)).unwrap();
            match wanted(&event) {
                Some(found) => return found,
                None => self.unasked.push_back(event),
            }
        }
    }

    async fn up(&mut self, with: PublicKey) -> u64 {
        self.until(|event| match event {
            Event::PeerUp { peer, session, .. } if *peer == with => Some(*session),
            _ => None,
        })
        .await
    }

    /// Waits for a session with a peer; gives the relay that passes it on.
    async fn up_through(&mut self, with: PublicKey) -> Option<PublicKey> {
        self.until(|event| match event {
            Event::PeerUp { peer, through, .. } if *peer == with => Some(*through),
            _ => None,
        })
        .await
    }

    async fn down(&mut self, of: u64) -> String {
        self.until(|event| match event {
            Event::PeerDown { session, reason, .. } if *session == of => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    async fn frame(&mut self, from: PublicKey) -> Vec<u8> {
        self.until(|event| match event {
            Event::Frame { peer, bytes, .. } if *peer == from => Some(bytes.clone()),
            _ => None,
        })
        .await
    }

    async fn refused(&mut self) -> Refusal {
        self.until(|event| match event {
            Event::Refused { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    async fn dial_failed(&mut self) -> String {
        self.until(|event| match event {
            Event::DialFailed { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    fn dial(&self, other: &Self) {
        self.handle.dial(other.key, vec![other.address.clone()]);
    }
}

/// A member that keeps to no rule: admitted, and then with its hands on the live stream.
struct Hostile {
    live: Stream,
    _audit: mpsc::Receiver<transport::Audited>,
}

impl Hostile {
    async fn dial(world: &World, number: u8, victim: &Node) -> Self {
        let gate = world.gate("mal-intent", number);
        let keypair = keypair(number);
        let (audits, audit) = mpsc::channel(1);
        let (circuits, _) = libp2p::relay::client::new(keypair.public().to_peer_id());
        let transport = transport::transport(&keypair, gate.clone(), audits, circuits).unwrap();
        let behaviour = membership::Behaviour::new(gate, Arc::default());
        let config = libp2p::swarm::Config::with_tokio_executor();
        let mut swarm = Swarm::new(transport, behaviour, keypair.public().to_peer_id(), config);
        let peer = transport::peer_id(&victim.key).unwrap();
        swarm.dial(DialOpts::peer_id(peer).addresses(vec![victim.address.clone()]).build()).unwrap();
        let link = loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { connection_id, .. } => {
                    break swarm.behaviour_mut().take_link(connection_id).unwrap();
                }
                SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
                _ => {}
            }
        };
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Self { live: link.opener.open(Kind::Live).await.unwrap(), _audit: audit }
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.live.write_all(bytes).await.unwrap();
        self.live.flush().await.unwrap();
    }

    async fn close(&mut self) {
        self.live.close().await.unwrap();
    }
}

fn keypair(number: u8) -> libp2p::identity::Keypair {
    libp2p::identity::Keypair::ed25519_from_bytes([number; 32]).unwrap()
}

/// Two members, the first of which dialled the second.
async fn pair(world: &World) -> ((Node, u64), (Node, u64)) {
    let (mut one, mut two) = (Node::start(world, "z-cert", 1).await, Node::start(world, "ferm", 2).await);
    one.dial(&two);
    let (at_one, at_two) = (one.up(two.key).await, two.up(one.key).await);
    ((one, at_one), (two, at_two))
}

#[tokio::test]
async fn two_members_connect_and_exchange_frames_both_ways() {
    let world = World::new();
    let (mut one, mut two) = (Node::start(&world, "z-cert", 1).await, Node::start(&world, "ferm", 2).await);
    one.dial(&two);
    for (node, other, partner, dialled) in
        [(&mut one, two.key, "ferm", true), (&mut two, key(1).public(), "z-cert", false)]
    {
        let (peer, session) = node
            .until(|event| match event {
                Event::PeerUp { peer, certificate, standing, dialer, session, .. } => {
                    assert_eq!(certificate.partner.as_str(), partner);
                    assert_eq!(*standing, Standing::Valid);
                    assert_eq!(*dialer, dialled);
                    Some((*peer, *session))
                }
                _ => None,
            })
            .await;
        assert_eq!(peer, other);
        for number in 0..100 {
            node.handle.send(other, session, vec![number; 1_000]);
        }
    }
    for number in 0..100 {
        assert_eq!(one.frame(two.key).await, vec![number; 1_000]);
        assert_eq!(two.frame(one.key).await, vec![number; 1_000]);
    }
    assert_eq!((one.handle.handlers_built(), two.handle.handlers_built()), (1, 1));
}

#[tokio::test]
async fn a_frame_of_the_limit_arrives_and_a_longer_one_ends_that_session_alone() {
    let world = World::new();
    let ((one, at_one), (mut two, at_two)) = pair(&world).await;
    let mut three = Node::start(&world, "ibd", 3).await;
    three.dial(&two);
    let (at_three, beside) = (three.up(two.key).await, two.up(three.key).await);

    one.handle.send(two.key, at_one, vec![7; FRAME_BYTES]);
    assert_eq!(two.frame(one.key).await.len(), FRAME_BYTES);

    two.handle.send(three.key, beside, vec![1]);
    assert_eq!(three.frame(two.key).await, [1]);
    one.handle.send(two.key, at_one, vec![7; FRAME_BYTES + 1]);
    two.down(at_two).await;
    three.handle.send(two.key, at_three, vec![2]);
    assert_eq!(two.frame(three.key).await, [2]);
}

#[tokio::test]
async fn a_frame_that_announces_too_much_ends_the_session_with_a_reason_at_who_receives_it() {
    let world = World::new();
    let mut two = Node::start(&world, "ferm", 2).await;
    let mut hostile = Hostile::dial(&world, 1, &two).await;
    let session = two.up(key(1).public()).await;
    hostile.write(&[0xff, 0xff, 0xff, 0xff, 1, 2, 3]).await;
    let reason = two.down(session).await;
    assert!(reason.contains("4294967295 bytes, where at most 1048576"), "{reason}");
}

#[tokio::test]
async fn a_frame_that_is_cut_off_ends_the_session_with_a_reason() {
    let world = World::new();
    let mut two = Node::start(&world, "ferm", 2).await;
    let mut hostile = Hostile::dial(&world, 1, &two).await;
    let session = two.up(key(1).public()).await;
    hostile.write(&[0, 0, 0, 9, 1, 2, 3]).await;
    hostile.close().await;
    let reason = two.down(session).await;
    assert!(reason.contains("cut off"), "{reason}");
}

#[tokio::test]
async fn whoever_shows_a_bad_certificate_is_refused_with_the_reason_and_no_handler_is_built() {
    let world = World::new();
    let mut host = Node::start(&world, "z-cert", 1).await;
    host.gate.revoke(key(9).public());
    let good = encoding::to_bytes(&world.certificate("ferm", 2));
    let mut altered = good.clone();
    *altered.last_mut().unwrap() ^= 1;
    let changed = |change: fn(&mut cwn_crypto::certificate::Certificate)| {
        let mut contents = world.contents("ferm", 2);
        change(&mut contents);
        encoding::to_bytes(&world.sign(&contents))
    };
    let mut foreign = world.contents("ferm", 2);
    foreign.issuer = key(8).public();
    let cases: Vec<(u8, Vec<u8>, Reason)> = vec![
        (2, Vec::new(), Reason::Missing),
        (2, b"not a certificate".to_vec(), Reason::Malformed),
        (2, vec![0; 60_000], Reason::Malformed),
        (2, [&[0x98, 2], &good[1..]].concat(), Reason::NotCanonical),
        (2, altered, Reason::Signature),
        (2, encoding::to_bytes(&World::named("elders").certificate("ferm", 2)), Reason::OtherNetwork),
        (3, good.clone(), Reason::OtherKey),
        (2, encoding::to_bytes(&Signed::sign(&foreign, Domain::CERTIFICATE, &key(8))), Reason::Issuer),
        (2, changed(|contents| contents.not_before = contents.not_before.plus(2 * 86_400_000)), Reason::NotYet),
        (2, changed(|contents| contents.suite = 9), Reason::UnknownSuite),
        (9, encoding::to_bytes(&world.certificate("divd", 9)), Reason::Revoked),
    ];
    for (number, shown, reason) in cases {
        let gate = world.gate("ferm", number);
        gate.show(shown);
        let mut stranger = Node::with_gate(gate, number).await;
        stranger.dial(&host);
        assert_eq!(host.refused().await.reason(), reason);
        let told = stranger.dial_failed().await;
        assert!(told.contains(&Refusal::ByPeer(reason).to_string()), "{reason:?}: {told}");
    }
    assert_eq!(host.handle.handlers_built(), 0);
}

#[tokio::test]
async fn a_certificate_in_grace_connects_amber_and_one_beyond_it_is_refused() {
    let world = World::new();
    let mut host_contents = world.contents("z-cert", 1);
    host_contents.not_after = host_contents.not_after.plus(90 * 86_400_000);
    let mut host = Node::with_gate(world.gate_with(&world.sign(&host_contents)), 1).await;
    world.set_days(40);
    let mut guest = Node::start(&world, "ferm", 2).await;
    guest.dial(&host);
    let standing = host
        .until(|event| match event {
            Event::PeerUp { standing, .. } => Some(*standing),
            _ => None,
        })
        .await;
    assert!(matches!(standing, Standing::Grace { .. }));
    let session = guest.up(host.key).await;

    world.set_days(61);
    host.handle.recheck();
    assert_eq!(host.refused().await.reason(), Reason::Expired);
    guest.down(session).await;
    guest.dial(&host);
    let told = guest.dial_failed().await;
    assert!(told.contains("expired"), "{told}");
}

#[tokio::test]
async fn a_listener_with_a_bad_certificate_is_refused_by_who_dials_it() {
    let world = World::new();
    let gate = world.gate("ferm", 2);
    gate.show(encoding::to_bytes(&World::named("elders").certificate("ferm", 2)));
    let mut impostor = Node::with_gate(gate, 2).await;
    let mut one = Node::start(&world, "z-cert", 1).await;
    one.dial(&impostor);
    assert_eq!(one.refused().await.reason(), Reason::OtherNetwork);
    assert_eq!(impostor.refused().await, Refusal::ByPeer(Reason::OtherNetwork));
    assert_eq!((one.handle.handlers_built(), impostor.handle.handlers_built()), (0, 0));
}

#[tokio::test]
async fn other_libp2p_software_without_a_certificate_reaches_no_handler() {
    let world = World::new();
    let host = Node::start(&world, "z-cert", 1).await;
    let mut stranger: Swarm<ping::Behaviour> = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), tls::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| ping::Behaviour::default())
        .unwrap()
        .build();
    stranger.dial(host.address.clone()).unwrap();
    let failed = async {
        loop {
            match stranger.select_next_some().await {
                SwarmEvent::OutgoingConnectionError { error, .. } => return error.to_string(),
                SwarmEvent::ConnectionEstablished { .. } => panic!("a stranger is connected"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, failed).await.unwrap();
    assert_eq!(host.handle.handlers_built(), 0);
}

#[tokio::test]
async fn a_node_revoked_while_connected_is_disconnected_and_not_let_in_again() {
    let world = World::new();
    let ((mut one, at_one), (mut two, at_two)) = pair(&world).await;
    one.gate.revoke(two.key);
    one.handle.recheck();
    let reason = one.down(at_one).await;
    assert!(reason.contains("revoked"), "{reason}");
    assert_eq!(one.refused().await, Refusal::Revoked { node: two.key });
    two.down(at_two).await;
    two.dial(&one);
    assert!(two.dial_failed().await.contains("revoked"));
    assert_eq!(one.handle.handlers_built(), 1);
}

#[tokio::test]
async fn of_two_dials_at_the_same_time_one_session_is_left() {
    let world = World::new();
    for round in 0..5 {
        let (number, next) = (2 * round + 1, 2 * round + 2);
        let mut nodes = [Node::start(&world, "z-cert", number).await, Node::start(&world, "ferm", next).await];
        let [one, two] = &nodes;
        one.handle.want(two.key, vec![two.address.clone()]);
        two.handle.want(one.key, vec![one.address.clone()]);
        // Over each session that stands a number goes back and forth, until it has done so 200 times over one.
        let mut open = [None, None];
        let mut highest = 0;
        while highest < 200 {
            let [one, two] = &mut nodes;
            let (at, event) = tokio::select! {
                event = one.events.recv() => (0, event.unwrap()),
                event = two.events.recv() => (1, event.unwrap()),
                () = tokio::time::sleep(PATIENCE) => panic!("open at the end: {open:?}"),
            };
            let other = nodes[1 - at].key;
            let (session, number) = match event {
                Event::PeerUp { session, .. } => {
                    assert_eq!(open[at].replace(session), None, "two sessions at a time");
                    (session, 0)
                }
                Event::PeerDown { session, .. } => {
                    assert_eq!(open[at].take(), Some(session));
                    highest = 0;
                    continue;
                }
                Event::Frame { session, bytes, .. } => {
                    assert_eq!(open[at], Some(session));
                    (session, u32::from_be_bytes(bytes.try_into().unwrap()))
                }
                _ => continue,
            };
            highest = highest.max(number);
            nodes[at].handle.send(other, session, (number + 1).to_be_bytes().to_vec());
        }
        assert!(open.iter().all(Option::is_some));
    }
}

#[tokio::test]
async fn a_node_that_dials_again_replaces_its_session_and_the_old_one_is_down_before_the_new_one_is_up() {
    let world = World::new();
    let mut host = Node::start(&world, "ferm", 2).await;
    let mut before = Hostile::dial(&world, 1, &host).await;
    let first = host.up(key(1).public()).await;
    // More than the driver's channel holds: the first session waits for the driver when the second begins.
    before.write(&[0, 0, 0, 1, 7].repeat(3 * EVENTS)).await;
    let _after = Hostile::dial(&world, 1, &host).await;
    let mut ended = None;
    loop {
        match host.events.recv().await.unwrap() {
            Event::Frame { session, .. } => assert_eq!((session, &ended), (first, &None)),
            Event::PeerDown { session, reason, .. } => {
                assert_eq!(session, first);
                ended = Some(reason);
            }
            Event::PeerUp { session, .. } => {
                assert_ne!(session, first);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let reason = ended.expect("the first is down");
    assert!(reason.contains("took its place"), "{reason}");
}

#[tokio::test]
async fn a_slow_driver_holds_back_its_peers_and_their_memory_stays_bounded() {
    let world = World::new();
    let ((mut one, at_one), (mut two, _)) = pair(&world).await;
    const FRAME: usize = FRAME_BYTES / 2;
    const SENT: u32 = 400;
    // `two` takes nothing meanwhile.
    for number in 0..SENT {
        let mut frame = vec![0; FRAME];
        frame[..4].copy_from_slice(&number.to_be_bytes());
        one.handle.send(two.key, at_one, frame);
        tokio::task::yield_now().await;
    }
    // A mark that is taken once there is room again ends what was under way.
    let mut arrived = 0;
    loop {
        one.handle.send(two.key, at_one, b"mark".to_vec());
        let frame = two.frame(one.key).await;
        if frame == b"mark" {
            break;
        }
        arrived += frame.len();
    }
    // Queue, events and what yamux and TCP hold under way; of 200 MiB sent.
    assert!(arrived < 64 << 20, "{} MiB were held", arrived >> 20);
    one.until(|event| matches!(event, Event::LiveQueueDropped { session, .. } if *session == at_one).then_some(()))
        .await;
}

#[tokio::test]
async fn a_run_of_twenty_frames_of_a_mebibyte_arrives_whole() {
    let world = World::new();
    let ((mut one, at_one), (mut two, _)) = pair(&world).await;
    one.handle.pull(two.key, at_one, 77, b"from 0 to 20".to_vec());
    let (stream, asked) = two
        .until(|event| match event {
            Event::RunRequest { stream, bytes, .. } => Some((*stream, bytes.clone())),
            _ => None,
        })
        .await;
    assert_eq!(asked, b"from 0 to 20");
    let mut writer = two.handle.serve(stream);
    let serving = tokio::spawn(async move {
        for number in 0..20 {
            writer.send(vec![number; FRAME_BYTES]).await.unwrap();
        }
        writer.finish().await.unwrap();
    });
    for number in 0..20 {
        let frame = one.run_frame(77).await;
        assert_eq!(frame, vec![number; FRAME_BYTES]);
    }
    assert_eq!(one.run_ended(77).await, None);
    serving.await.unwrap();
}

impl Node {
    async fn run_frame(&mut self, of: u64) -> Vec<u8> {
        self.until(|event| match event {
            Event::RunFrame { pull, bytes } if *pull == of => Some(bytes.clone()),
            _ => None,
        })
        .await
    }

    async fn run_ended(&mut self, of: u64) -> Option<String> {
        self.until(|event| match event {
            Event::RunEnded { pull, error } if *pull == of => Some(error.clone()),
            _ => None,
        })
        .await
    }

    async fn run_request(&mut self) -> u64 {
        self.until(|event| match event {
            Event::RunRequest { stream, .. } => Some(*stream),
            _ => None,
        })
        .await
    }
}

#[tokio::test]
async fn a_run_that_its_server_gives_up_is_reported_as_cut_off_and_never_as_complete() {
    let world = World::new();
    let ((mut one, at_one), (mut two, _)) = pair(&world).await;
    one.handle.pull(two.key, at_one, 1, b"first".to_vec());
    let stream = two.run_request().await;
    let mut writer = two.handle.serve(stream);
    writer.send(vec![1]).await.unwrap();
    drop(writer);
    let error = one.run_ended(1).await.unwrap();
    assert!(error.contains("cut off") || error.contains("failed"), "{error}");

    one.handle.pull(two.key, at_one, 2, b"second".to_vec());
    let stream = two.run_request().await;
    two.handle.decline(stream);
    assert!(one.run_ended(2).await.is_some());
    assert!(two.handle.serve(stream).send(vec![1]).await.is_err());
}

#[tokio::test]
async fn forty_runs_at_once_all_arrive() {
    let world = World::new();
    let ((mut one, at_one), (mut two, _)) = pair(&world).await;
    for pull in 0..40 {
        one.handle.pull(two.key, at_one, pull, vec![1]);
    }
    let handle = two.handle.clone();
    let serving = tokio::spawn(async move {
        for _ in 0..40 {
            let mut writer = handle.serve(two.run_request().await);
            tokio::spawn(async move {
                writer.send(vec![5; 10_000]).await.unwrap();
                writer.finish().await.unwrap();
            });
        }
        two
    });
    for pull in 0..40 {
        assert_eq!(one.run_ended(pull).await, None);
        assert_eq!(one.run_frame(pull).await.len(), 10_000);
    }
    serving.await.unwrap();
}

#[tokio::test]
async fn a_cancelled_pull_reports_nothing_more_and_its_server_notices() {
    let world = World::new();
    let ((mut one, at_one), (mut two, _)) = pair(&world).await;
    one.handle.pull(two.key, at_one, 5, b"much".to_vec());
    let stream = two.run_request().await;
    let mut writer = two.handle.serve(stream);
    writer.send(vec![1]).await.unwrap();
    one.run_frame(5).await;
    one.handle.cancel_pull(5);
    let noticed = async { while writer.send(vec![2; 100_000]).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, noticed).await.unwrap();
    one.handle.pull(two.key, at_one, 6, b"little".to_vec());
    let stream = two.run_request().await;
    two.handle.serve(stream).finish().await.unwrap();
    assert_eq!(one.run_ended(6).await, None);
    assert!(one.unasked.iter().all(|event| !matches!(event, Event::RunEnded { pull: 5, .. })));
}

#[tokio::test]
async fn a_goodbye_waits_for_the_runs_that_are_under_way_on_both_sides() {
    let world = World::new();
    let ((mut one, at_one), (mut two, at_two)) = pair(&world).await;
    one.handle.pull(two.key, at_one, 9, b"much".to_vec());
    let stream = two.run_request().await;
    let mut writer = two.handle.serve(stream);
    // Whether it reads or serves.
    one.handle.leave(&two.key, "another neighbour took its place");
    two.handle.leave(&one.key, "another neighbour took its place");
    for number in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        writer.send(vec![number; 1_000]).await.unwrap();
        assert_eq!(one.run_frame(9).await, vec![number; 1_000]);
    }
    writer.finish().await.unwrap();
    assert_eq!(one.run_ended(9).await, None);
    one.down(at_one).await;
    two.down(at_two).await;
    // Somebody it is not connected with needs no goodbye.
    one.handle.leave(&two.key, "again");
}

#[tokio::test]
async fn a_pull_in_a_session_that_is_over_ends_with_an_error() {
    let world = World::new();
    let ((mut one, at_one), (mut two, at_two)) = pair(&world).await;
    one.handle.pull(two.key, at_one, 1, vec![1]);
    two.run_request().await;
    two.handle.disconnect(one.key, "enough".to_owned());
    assert_eq!(two.down(at_two).await, "enough");
    assert!(one.run_ended(1).await.is_some(), "a pull that was under way");
    one.down(at_one).await;
    one.handle.pull(two.key, at_one, 2, vec![1]);
    assert!(one.run_ended(2).await.is_some(), "a pull that comes too late");
    assert!(matches!(one.handle.fetch_chunk(two.key, at_one, vec![1]).await, Err(Broken::Gone)));
}

#[tokio::test]
async fn a_chunk_is_fetched_and_one_that_is_too_long_is_refused() {
    let world = World::new();
    let ((one, at_one), (mut two, _)) = pair(&world).await;
    let lengths = [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1];
    let fetched = lengths.map(|length| {
        let request = u32::try_from(length).unwrap().to_be_bytes().to_vec();
        one.handle.fetch_chunk(two.key, at_one, request)
    });
    let serving = tokio::spawn(async move {
        for _ in lengths {
            let (stream, asked) = two
                .until(|event| match event {
                    Event::ChunkRequest { stream, bytes, .. } => Some((*stream, bytes.clone())),
                    _ => None,
                })
                .await;
            let length = u32::from_be_bytes(asked.try_into().unwrap());
            two.handle.reply(stream, vec![9; usize::try_from(length).unwrap()]);
        }
        two
    });
    for (length, fetched) in lengths.into_iter().zip(fetched) {
        match fetched.await {
            Ok(bytes) => assert!(bytes.len() == length && length <= CHUNK_BYTES),
            Err(_) => assert!(length > CHUNK_BYTES),
        }
    }
    serving.await.unwrap();
}

#[tokio::test]
async fn a_dial_that_meets_another_node_does_not_show_it_the_certificate() {
    let world = World::new();
    let mut one = Node::start(&world, "z-cert", 1).await;
    let two = Node::start(&world, "ferm", 2).await;
    let expected = key(3).public();
    one.handle.dial(expected, vec![two.address.clone()]);
    let refusal = one.refused().await;
    assert_eq!(refusal, Refusal::OtherNode { expected, found: two.key });
    assert!(one.dial_failed().await.contains("another node answers"));
    // Had it been shown, it would have been judged, and remembered.
    assert_eq!(two.gate.admitted(&one.key), Err(Refusal::Missing));
    one.dial(&two);
    one.up(two.key).await;
    assert!(two.gate.admitted(&one.key).is_ok(), "what the line above would see");
}

#[tokio::test]
async fn a_wanted_peer_that_went_away_is_met_again() {
    let world = World::new();
    let (mut one, mut two) = (Node::start(&world, "z-cert", 1).await, Node::start(&world, "ferm", 2).await);
    one.handle.want(two.key, vec![two.address.clone()]);
    let (at_one, _) = (one.up(two.key).await, two.up(one.key).await);
    two.handle.disconnect(one.key, "for a moment".to_owned());
    one.down(at_one).await;
    let again = one.up(two.key).await;
    assert_ne!(again, at_one);
}

#[tokio::test]
async fn two_that_nobody_can_dial_meet_through_a_relay_and_exchange_frames_both_ways() {
    let world = World::new();
    let relay = Node::relay(&world, "ncsc", 1).await;
    let mut ferm = Node::behind(&world, "ferm", 2, &relay).await;
    let mut surf = Node::behind(&world, "surf", 3, &relay).await;
    assert!(surf.address.to_string().contains("p2p-circuit"), "{}", surf.address);
    ferm.dial(&surf);
    let (at_ferm, at_surf) = (ferm.up(surf.key).await, surf.up(ferm.key).await);
    ferm.handle.send(surf.key, at_ferm, vec![7; FRAME_BYTES]);
    surf.handle.send(ferm.key, at_surf, b"and back".to_vec());
    assert_eq!(surf.frame(ferm.key).await, vec![7; FRAME_BYTES]);
    assert_eq!(ferm.frame(surf.key).await, b"and back");
}

#[tokio::test]
async fn both_ends_of_a_circuit_know_through_whom_they_are_connected_and_the_relay_is_connected_with_directly() {
    let world = World::new();
    let relay = Node::relay(&world, "ncsc", 1).await;
    let mut ferm = Node::behind(&world, "ferm", 2, &relay).await;
    let mut surf = Node::behind(&world, "surf", 3, &relay).await;
    ferm.dial(&surf);
    assert_eq!(ferm.up_through(surf.key).await, Some(relay.key));
    assert_eq!(surf.up_through(ferm.key).await, Some(relay.key));
    assert_eq!(ferm.up_through(relay.key).await, None);
}

#[tokio::test]
async fn beyond_the_circuits_of_a_relay_no_more_come_about_and_those_that_stand_stay() {
    let world = World::new();
    let limits = RelayLimits { circuits: 1, ..RelayLimits::default() };
    let relay = Node::relay_within(&world, "ncsc", 1, limits).await;
    let mut ferm = Node::behind(&world, "ferm", 2, &relay).await;
    let mut surf = Node::behind(&world, "surf", 3, &relay).await;
    let mut ibd = Node::behind(&world, "ibd", 4, &relay).await;
    ferm.dial(&surf);
    let (at_ferm, _) = (ferm.up(surf.key).await, surf.up(ferm.key).await);
    ibd.dial(&surf);
    assert!(!ibd.dial_failed().await.is_empty());
    ferm.handle.send(surf.key, at_ferm, b"still here".to_vec());
    assert_eq!(surf.frame(ferm.key).await, b"still here");
}

#[tokio::test]
async fn beyond_the_nodes_of_a_relay_no_other_can_be_reached_through_it() {
    let world = World::new();
    let limits = RelayLimits { nodes: 1, ..RelayLimits::default() };
    let relay = Node::relay_within(&world, "ncsc", 1, limits).await;
    let ferm = Node::behind(&world, "ferm", 2, &relay).await;
    let mut surf = Node::with_config(Node::behind_a_wall(&world, "surf", 3));
    surf.handle.want(relay.key, vec![relay.address.clone()]);
    surf.handle.reach_through(relay.key, vec![relay.address.clone()]);
    surf.up(relay.key).await;
    let mut ibd = Node::with_config(Node::behind_a_wall(&world, "ibd", 4));
    ibd.handle.dial(surf.key, vec![ferm.address.clone()]);
    assert!(!ibd.dial_failed().await.is_empty());
    ibd.dial(&ferm);
    assert_eq!(ibd.up_through(ferm.key).await, Some(relay.key));
}

#[tokio::test]
async fn a_circuit_ends_after_the_bytes_and_the_time_that_its_relay_allows() {
    for limits in [
        RelayLimits { circuit_bytes: FRAME_BYTES as u64 / 2, ..RelayLimits::default() },
        RelayLimits { circuit_lasts: Duration::from_secs(2), ..RelayLimits::default() },
    ] {
        let world = World::new();
        let relay = Node::relay_within(&world, "ncsc", 1, limits).await;
        let mut ferm = Node::behind(&world, "ferm", 2, &relay).await;
        let mut surf = Node::behind(&world, "surf", 3, &relay).await;
        ferm.dial(&surf);
        let (at_ferm, at_surf) = (ferm.up(surf.key).await, surf.up(ferm.key).await);
        ferm.handle.send(surf.key, at_ferm, b"within it".to_vec());
        assert_eq!(surf.frame(ferm.key).await, b"within it");
        ferm.handle.send(surf.key, at_ferm, vec![7; FRAME_BYTES]);
        ferm.down(at_ferm).await;
        surf.down(at_surf).await;
        // It can be dialled again.
        ferm.dial(&surf);
        assert_eq!(ferm.up_through(surf.key).await, Some(relay.key));
    }
}

#[tokio::test]
async fn inside_a_circuit_certificates_are_judged_as_anywhere() {
    let world = World::new();
    let relay = Node::relay(&world, "ncsc", 1).await;
    let ferm = Node::behind(&world, "ferm", 2, &relay).await;
    let mut surf = Node::behind(&world, "surf", 3, &relay).await;
    // What surf heard of ferm the relay did not hear yet.
    surf.gate.revoke(ferm.key);
    let built = surf.handle.handlers_built();
    ferm.dial(&surf);
    assert!(matches!(surf.refused().await, Refusal::Revoked { node } if node == ferm.key));
    assert_eq!(surf.handle.handlers_built(), built);
}

#[tokio::test]
async fn an_anchor_that_does_not_relay_gives_no_reservation_and_stays_connected() {
    let world = World::new();
    let anchor = Node::start(&world, "ncsc", 1).await;
    let mut ferm = Node::with_config(Node::behind_a_wall(&world, "ferm", 2));
    ferm.handle.want(anchor.key, vec![anchor.address.clone()]);
    ferm.handle.reach_through(anchor.key, vec![anchor.address.clone()]);
    let session = ferm.up(anchor.key).await;
    let surf = Node::start(&world, "surf", 3).await;
    let through = format!("{}/p2p/{}/p2p-circuit", anchor.address, keypair(1).public().to_peer_id());
    surf.handle.dial(ferm.key, vec![through.parse().unwrap()]);
    let mut surf = surf;
    assert!(!surf.dial_failed().await.is_empty());
    ferm.handle.send(anchor.key, session, b"still here".to_vec());
    let mut anchor = anchor;
    assert_eq!(anchor.frame(ferm.key).await, b"still here");
}

#[tokio::test]
async fn when_the_relay_goes_a_node_says_that_it_is_reached_there_no_longer_and_again_when_it_is_back() {
    let world = World::new();
    let relay = Node::relay(&world, "ncsc", 1).await;
    let mut ferm = Node::behind(&world, "ferm", 2, &relay).await;
    let was = relay.address.clone();
    relay.handle.shut_down();
    drop(relay);
    let gone = ferm
        .until(|event| match event {
            Event::ListeningNoLonger { address } => Some(address.clone()),
            _ => None,
        })
        .await;
    assert_eq!(gone, ferm.address);
    let config =
        Config { listen: vec![was], relay: Some(RelayLimits::default()), ..Node::behind_a_wall(&world, "ncsc", 1) };
    let _relay = Node::with_config(config);
    assert_eq!(ferm.listening().await, gone);
}

#[tokio::test]
async fn a_panic_below_ends_the_sessions_and_the_network_starts_anew_where_it_was() {
    let world = World::new();
    let ((mut one, at_one), (mut two, at_two)) = pair(&world).await;
    two.handle.panic();
    let reason = two.down(at_two).await;
    assert!(reason.contains("started anew"), "{reason}");
    one.down(at_one).await;
    let again = two
        .until(|event| match event {
            Event::Listening { address } => Some(address.clone()),
            _ => None,
        })
        .await;
    assert_eq!(again, two.address);
    one.dial(&two);
    one.up(two.key).await;
    two.up(one.key).await;
}

#[tokio::test]
async fn shutting_down_ends_the_sessions_and_then_the_events() {
    let world = World::new();
    let ((mut one, at_one), (mut two, at_two)) = pair(&world).await;
    one.handle.shut_down();
    assert_eq!(one.down(at_one).await, "this node is ending");
    two.down(at_two).await;
    let end = async { while one.events.recv().await.is_some() {} };
    tokio::time::timeout(PATIENCE, end).await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_taken_is_said_at_the_start_also_when_another_node_has_it() {
    let world = World::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let of_another_program: Address =
        format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port()).parse().unwrap();
    let twin = Node::start(&world, "ferm", 2).await;
    for address in [of_another_program, twin.address.clone()] {
        let config = Config { listen: vec![address], ..Node::behind_a_wall(&world, "z-cert", 1) };
        let error = start(config).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("cannot listen on") && error.contains("choose another"), "{error}");
        assert!(!error.contains(": :"), "{error}");
    }
}

#[tokio::test]
async fn tls_agrees_on_the_hybrid_post_quantum_exchange() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (dialled, accepted) =
        tokio::join!(tokio::net::TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let tls = |number| transport::Tls::new(&keypair(number)).unwrap();
    let (dialer, listener) = tokio::join!(
        tls(1).upgrade_outbound(tcp::tokio::TcpStream(dialled.unwrap()), ""),
        tls(2).upgrade_inbound(tcp::tokio::TcpStream(accepted.unwrap().0), ""),
    );
    for (peer, stream) in [dialer.unwrap(), listener.unwrap()] {
        assert!([1, 2].map(|number| keypair(number).public().to_peer_id()).contains(&peer));
        let session = stream.get_ref().1;
        assert_eq!(format!("{:?}", session.protocol_version().unwrap()), "TLSv1_3");
        assert_eq!(format!("{:?}", session.negotiated_key_exchange_group().unwrap().name()), "X25519MLKEM768");
    }
}

#[test]
fn a_key_log_is_refused_and_without_one_the_start_goes_on() {
    let refusal = refuse_key_log(Some(OsStr::new("/tmp/keys"))).unwrap_err().to_string();
    assert!(refusal.contains("SSLKEYLOGFILE") && refusal.contains("unset it"), "{refusal}");
    assert_eq!(refuse_key_log(None), Ok(()));
}
