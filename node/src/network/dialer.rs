//! When to dial whom: jitter, backoff and how many at once.
//!
//! Pure: the time and random numbers are arguments, and what to dial comes out of [`Dialer::due`]. It refuses
//! to know sockets. [`super::swarm`] drives it.

use std::{collections::BTreeMap, time::Duration};

use cwn_crypto::identity::PublicKey;

use super::Address;

/// Dials at once: 200 at once on a small machine made each other time out.
pub(super) const DIALS_AT_ONCE: usize = 16;
/// The first pause after a failure; it doubles with each that follows.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: a partner that was away for a week is met again within ten minutes.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// The longest pause towards whom this node was connected with within [`LATELY`]: a line that broke is up again
/// soon after it can be.
const SHORT_PAUSE: Duration = Duration::from_secs(30);
/// How long a peer that was lost is expected back any moment.
const LATELY: Duration = Duration::from_secs(3_600);
/// A connection that lasted as long as this was a success, and the pauses start over. A peer that admits us
/// and ends each session at once would otherwise be dialled every second for ever.
const LASTING: Duration = Duration::from_secs(60);

/// Why a dial did not succeed, as far as the next pause depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setback {
    /// Nobody answered, or something else than an admission failed: it may be over soon.
    Passing,
    /// They refused our certificate as expired or revoked: only the coordinator can change that.
    Lasting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting { until: Duration },
    Dialling,
    Connected { since: Duration },
}

#[derive(Debug)]
struct Wanted {
    addresses: Vec<Address>,
    state: State,
    failures: u32,
    /// When a connection that had lasted ended.
    lost: Option<Duration>,
}

impl Wanted {
    fn wait(&mut self, now: Duration, random: u64) {
        let lately = self.lost.is_some_and(|lost| now.saturating_sub(lost) < LATELY);
        let longest = if lately { SHORT_PAUSE } else { LONGEST_PAUSE };
        self.state = State::Waiting { until: now + pause(self.failures, longest, random) };
    }
}

/// The peers to be connected with, and when each is to be dialled next. Times count from the node's start.
#[derive(Debug)]
pub(super) struct Dialer {
    /// Over how long the first dials after a start are spread, so that a network that comes back after a
    /// power cut does not come back in one second.
    spread: Duration,
    wanted: BTreeMap<PublicKey, Wanted>,
}

impl Dialer {
    pub(super) fn new(spread: Duration) -> Self {
        Self { spread, wanted: BTreeMap::new() }
    }

    /// From now on `peer` is wanted, at these addresses. Asking again changes the addresses, and no pause.
    pub(super) fn want(
        &mut self,
        now: Duration,
        peer: PublicKey,
        addresses: Vec<Address>,
        connected: bool,
        random: u64,
    ) {
        let until = now + part(self.spread, random);
        let state = if connected { State::Connected { since: now } } else { State::Waiting { until } };
        let fresh = || Wanted { addresses: Vec::new(), state, failures: 0, lost: None };
        let wanted = self.wanted.entry(peer).or_insert_with(fresh);
        wanted.addresses = addresses;
    }

    /// `peer` is no longer wanted; a connection that exists stays.
    pub(super) fn unwant(&mut self, peer: &PublicKey) {
        self.wanted.remove(peer);
    }

    /// A connection with `peer` stands, whoever dialled.
    pub(super) fn connected(&mut self, now: Duration, peer: &PublicKey) {
        if let Some(wanted) = self.wanted.get_mut(peer)
            && !matches!(wanted.state, State::Connected { .. })
        {
            wanted.state = State::Connected { since: now };
        }
    }

    /// The last connection with `peer` ended.
    pub(super) fn disconnected(&mut self, now: Duration, peer: &PublicKey, random: u64) {
        let Some(wanted) = self.wanted.get_mut(peer) else { return };
        if let State::Connected { since } = wanted.state {
            let lasted = now.saturating_sub(since) >= LASTING;
            wanted.failures = if lasted { 0 } else { wanted.failures.saturating_add(1) };
            wanted.lost = if lasted { Some(now) } else { wanted.lost };
        }
        wanted.wait(now, random);
    }

    /// A dial of `peer` failed.
    pub(super) fn failed(&mut self, now: Duration, peer: &PublicKey, setback: Setback, random: u64) {
        let Some(wanted) = self.wanted.get_mut(peer) else { return };
        if wanted.state != State::Dialling {
            return;
        }
        wanted.failures = wanted.failures.saturating_add(1);
        match setback {
            Setback::Passing => wanted.wait(now, random),
            Setback::Lasting => {
                wanted.state = State::Waiting { until: now + pause(u32::MAX, LONGEST_PAUSE, random) };
            }
        }
    }

    /// Whom to dial now, and where. Each is taken to be dialled until one of the calls above says how it went.
    pub(super) fn due(&mut self, now: Duration) -> Vec<(PublicKey, Vec<Address>)> {
        let dialling = self.wanted.values().filter(|wanted| wanted.state == State::Dialling).count();
        let mut waiting: Vec<_> = self
            .wanted
            .iter_mut()
            .filter_map(|(peer, wanted)| match wanted.state {
                State::Waiting { until } if until <= now && !wanted.addresses.is_empty() => Some((until, peer, wanted)),
                _ => None,
            })
            .collect();
        waiting.sort_by_key(|(until, peer, _)| (*until, **peer));
        waiting.truncate(DIALS_AT_ONCE.saturating_sub(dialling));
        waiting
            .into_iter()
            .map(|(_, peer, wanted)| {
                wanted.state = State::Dialling;
                (*peer, wanted.addresses.clone())
            })
            .collect()
    }

    /// When to ask [`Self::due`] again, unless something is reported before.
    pub(super) fn next(&self) -> Option<Duration> {
        let dialling = self.wanted.values().filter(|wanted| wanted.state == State::Dialling).count();
        if dialling >= DIALS_AT_ONCE {
            return None;
        }
        let untils = self.wanted.values().filter_map(|wanted| match wanted.state {
            State::Waiting { until } if !wanted.addresses.is_empty() => Some(until),
            _ => None,
        });
        untils.min()
    }

    /// Every connection and every dial is gone: the swarm was started anew.
    pub(super) fn start_over(&mut self, now: Duration, mut random: impl FnMut() -> u64) {
        for wanted in self.wanted.values_mut() {
            if !matches!(wanted.state, State::Waiting { .. }) {
                wanted.wait(now, random());
            }
        }
    }
}

/// The pause after so many failures: between half and all of what doubling gives, so that two nodes that
/// failed together do not try together again.
fn pause(failures: u32, longest: Duration, random: u64) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    let full = FIRST_PAUSE.saturating_mul(doubled).min(longest);
    full / 2 + part(full / 2, random)
}

/// A random part of a duration, in milliseconds.
fn part(whole: Duration, random: u64) -> Duration {
    let ms = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random % ms.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn peer(number: u8) -> PublicKey {
        PublicKey([number; 32])
    }

    fn somewhere() -> Vec<Address> {
        vec!["/ip4/192.0.2.1/tcp/4001".parse().unwrap()]
    }

    fn wanting(count: u8) -> Dialer {
        let mut dialer = Dialer::new(Duration::ZERO);
        (0..count).for_each(|number| dialer.want(at(0), peer(number), somewhere(), false, 0));
        dialer
    }

    #[test]
    fn the_first_dials_are_spread_over_the_jitter() {
        let mut dialer = Dialer::new(at(30));
        for number in 0..200 {
            let random = u64::from(number) * 7_919;
            dialer.want(at(0), peer(number), somewhere(), false, random);
        }
        let mut slowest = 0;
        for second in 0..=30 {
            let due = dialer.due(at(second));
            slowest = slowest.max(due.len());
            due.iter().for_each(|(peer, _)| dialer.connected(at(second), peer));
        }
        assert!(slowest <= 16, "{slowest} within one second");
        assert_eq!(dialer.next(), None, "all were dialled within the jitter");
    }

    #[test]
    fn no_more_than_sixteen_are_dialled_at_once() {
        let mut dialer = wanting(40);
        assert_eq!(dialer.due(at(0)).len(), DIALS_AT_ONCE);
        assert!(dialer.due(at(1)).is_empty());
        assert_eq!(dialer.next(), None);
        dialer.failed(at(1), &peer(0), Setback::Passing, 0);
        assert_eq!(dialer.due(at(1)).len(), 1);
    }

    #[test]
    fn the_pause_doubles_up_to_ten_minutes_and_starts_over_after_a_lasting_success() {
        let mut dialer = wanting(1);
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(dialer.due(now).len(), 1);
            dialer.failed(now, &peer(0), Setback::Passing, u64::MAX / 2);
            let next = dialer.next().unwrap();
            pauses.push(next - now);
            now = next;
        }
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1] * 2), "{pauses:?}");
        assert!(pauses[0] <= at(1) && pauses[11] >= at(300) && pauses[11] <= at(600), "{pauses:?}");

        assert_eq!(dialer.due(now).len(), 1);
        dialer.connected(now, &peer(0));
        now += LASTING;
        dialer.disconnected(now, &peer(0), 0);
        assert!(dialer.next().unwrap() - now <= at(1));
    }

    #[test]
    fn whom_it_was_connected_with_lately_it_looks_for_every_half_minute_and_after_an_hour_less_often() {
        let mut dialer = wanting(1);
        dialer.due(at(0));
        dialer.connected(at(0), &peer(0));
        let lost = at(0) + LASTING;
        dialer.disconnected(lost, &peer(0), 0);
        let mut longest_lately = Duration::ZERO;
        let mut longest = Duration::ZERO;
        let mut now = lost;
        while now < lost + 3 * LATELY {
            let next = dialer.next().unwrap();
            let seen = if next < lost + LATELY { &mut longest_lately } else { &mut longest };
            *seen = (*seen).max(next - now);
            now = next;
            assert_eq!(dialer.due(now).len(), 1);
            dialer.failed(now, &peer(0), Setback::Passing, u64::MAX / 2);
        }
        assert!(longest_lately <= SHORT_PAUSE && longest_lately >= SHORT_PAUSE / 2, "{longest_lately:?}");
        assert!(longest >= LONGEST_PAUSE / 2, "{longest:?}");
    }

    #[test]
    fn a_peer_that_ends_every_session_at_once_is_dialled_ever_less_often() {
        let mut dialer = wanting(1);
        let mut now = at(0);
        for _ in 0..20 {
            assert_eq!(dialer.due(now).len(), 1);
            dialer.connected(now, &peer(0));
            dialer.disconnected(now, &peer(0), 0);
            now = dialer.next().unwrap();
        }
        dialer.due(now);
        dialer.connected(now, &peer(0));
        dialer.disconnected(now, &peer(0), 0);
        assert!(dialer.next().unwrap() - now >= at(300));
    }

    #[test]
    fn a_peer_that_refused_us_as_revoked_is_asked_again_only_after_the_longest_pause() {
        let mut dialer = wanting(1);
        dialer.due(at(0));
        dialer.failed(at(0), &peer(0), Setback::Lasting, 0);
        assert!(dialer.next().unwrap() >= at(300));
    }

    #[test]
    fn a_connected_peer_is_not_dialled_and_a_failed_dial_beside_it_changes_nothing() {
        let mut dialer = wanting(1);
        dialer.due(at(0));
        dialer.connected(at(1), &peer(0));
        dialer.failed(at(2), &peer(0), Setback::Passing, 0);
        assert_eq!(dialer.next(), None);
        assert!(dialer.due(at(9_999)).is_empty());
    }

    #[test]
    fn a_peer_no_longer_wanted_is_not_dialled_again() {
        let mut dialer = wanting(1);
        dialer.due(at(0));
        dialer.unwant(&peer(0));
        dialer.failed(at(0), &peer(0), Setback::Passing, 0);
        assert_eq!(dialer.next(), None);
    }

    #[test]
    fn a_peer_without_an_address_waits_for_one() {
        let mut dialer = Dialer::new(Duration::ZERO);
        dialer.want(at(0), peer(1), Vec::new(), false, 0);
        assert!(dialer.due(at(9)).is_empty());
        dialer.want(at(9), peer(1), somewhere(), false, 0);
        assert_eq!(dialer.due(at(9)).len(), 1);
    }

    #[test]
    fn after_a_restart_of_the_swarm_everyone_is_dialled_again() {
        let mut dialer = wanting(2);
        dialer.due(at(0));
        dialer.connected(at(0), &peer(0));
        dialer.start_over(at(5), || 0);
        assert_eq!(dialer.due(at(7)).len(), 2);
    }
}
