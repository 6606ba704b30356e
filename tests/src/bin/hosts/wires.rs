//! The wires between the hosts: every packet passes here, and is late, lost or cut off as the story wants it.
//!
//! Each host has a TUN device whose other end is this process. The kernels' TCP is real; what lies between is
//! ours, so that it needs nothing of the kernel but TUN, and any pair of hosts can be treated on its own, one
//! direction at a time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_tun::Tun;

/// What a device takes at once, headers included.
pub(crate) const MTU: i32 = 1_500;
/// Packets on their way to one host. With more a router drops too: 400 ms of 100 Mbit/s.
const ON_THEIR_WAY: usize = 4_096;

/// How one host's packets get to another.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wire {
    /// Nothing arrives.
    pub(crate) cut: bool,
    /// How long a packet takes.
    pub(crate) delay: Duration,
    /// Of a thousand packets so many are lost.
    pub(crate) lost_per_mille: u32,
}

/// Packets so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Packets {
    pub(crate) carried: u64,
    pub(crate) lost: u64,
    pub(crate) cut_off: u64,
}

#[derive(Debug)]
struct State {
    wires: BTreeMap<(usize, usize), Wire>,
    packets: Packets,
    random: ChaCha8Rng,
}

/// All wires. They end with this.
#[derive(Debug)]
pub(crate) struct Wires {
    state: Arc<Mutex<State>>,
    hosts: usize,
    _carriers: JoinSet<()>,
}

/// A packet and when it arrives; of two at the same time the first sent is first.
type Due = Reverse<(Instant, u64, Vec<u8>)>;

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wires {
    /// Connects hosts, each with its address. `seed` decides which packets are lost.
    pub(crate) fn between(hosts: Vec<(Ipv4Addr, Tun)>, seed: u64) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed);
        let state = State { wires: BTreeMap::new(), packets: Packets::default(), random };
        let state = Arc::new(Mutex::new(state));
        let (mut into, mut out_of) = (Vec::new(), Vec::new());
        for _ in &hosts {
            let (sender, receiver) = mpsc::channel(ON_THEIR_WAY);
            into.push(sender);
            out_of.push(receiver);
        }
        let addresses: BTreeMap<Ipv4Addr, usize> = hosts.iter().map(|(address, _)| *address).zip(0..).collect();
        let mut carriers = JoinSet::new();
        let count = hosts.len();
        for (from, ((_, tun), arriving)) in hosts.into_iter().zip(out_of).enumerate() {
            let tun = Arc::new(tun);
            carriers.spawn(carry(Arc::clone(&tun), from, addresses.clone(), into.clone(), Arc::clone(&state)));
            carriers.spawn(deliver(tun, arriving));
        }
        Self { state, hosts: count, _carriers: carriers }
    }

    /// Changes how packets get from hosts to others.
    pub(crate) fn set(&self, from: &[usize], to: &[usize], wire: Wire) {
        let mut state = lock(&self.state);
        let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
        state.wires.extend(pairs.map(|pair| (pair, wire)));
    }

    /// Changes how packets get from any host to any other.
    pub(crate) fn set_all(&self, wire: Wire) {
        let all: Vec<usize> = (0..self.hosts).collect();
        self.set(&all, &all, wire);
    }

    /// Packets so far.
    pub(crate) fn packets(&self) -> Packets {
        lock(&self.state).packets
    }
}

/// Takes what a host sends, and lets it go on its way.
async fn carry(
    tun: Arc<Tun>,
    from: usize,
    addresses: BTreeMap<Ipv4Addr, usize>,
    into: Vec<mpsc::Sender<(Instant, Vec<u8>)>>,
    state: Arc<Mutex<State>>,
) {
    let mut buffer = [0; 2 * MTU as usize];
    // It fails for good when the host is taken away.
    while let Ok(length) = tun.recv(&mut buffer).await {
        let packet = &buffer[..length];
        let Some(to) = destination(packet).and_then(|address| addresses.get(&address).copied()) else { continue };
        let arrives = {
            let State { wires, packets, random } = &mut *lock(&state);
            let wire = wires.get(&(from, to)).copied().unwrap_or_default();
            if wire.cut {
                packets.cut_off += 1;
                continue;
            }
            if random.next_u32() % 1_000 < wire.lost_per_mille {
                packets.lost += 1;
                continue;
            }
            packets.carried += 1;
            Instant::now() + wire.delay
        };
        // A queue that is full loses the packet, as a router's does.
        let _full = into[to].try_send((arrives, packet.to_vec()));
    }
}

/// Hands a host what arrives.
async fn deliver(tun: Arc<Tun>, mut arriving: mpsc::Receiver<(Instant, Vec<u8>)>) {
    let mut on_their_way: BinaryHeap<Due> = BinaryHeap::new();
    let mut number = 0;
    loop {
        let next = on_their_way.peek().map(|Reverse((at, ..))| *at);
        tokio::select! {
            biased;
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                if let Some(Reverse((_, _, packet))) = on_their_way.pop() {
                    // A host whose device is not up yet, or no longer, hears nothing.
                    let _deaf = tun.send_all(&packet).await;
                }
            }
            packet = arriving.recv(), if on_their_way.len() < ON_THEIR_WAY => {
                let Some((at, packet)) = packet else { return };
                number += 1;
                on_their_way.push(Reverse((at, number, packet)));
            }
        }
    }
}

/// Where an IPv4 packet wants to go.
fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let is_v4 = packet.first()? >> 4 == 4;
    let address: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    is_v4.then(|| address.into())
}
