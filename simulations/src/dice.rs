//! Chance, all of it from one seed. Each concern draws from a stream of its own, so that leaving one kind of fault
//! out changes what the others draw as little as can be.

use cwn_crypto::Time;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// What a stream of chance is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum For {
    /// Who does what, and when.
    People = 1,
    /// Delays and losses.
    Network = 2,
    /// How long a sync takes, and what a crash leaves.
    Disks = 3,
    /// Which faults come, and when.
    Faults = 4,
    /// Keys, nonces and log ids.
    Secrets = 5,
    /// What malicious members do.
    Malice = 6,
}

/// One stream of chance.
#[derive(Debug)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream for one concern of a seed's life.
    pub(crate) fn new(seed: u64, concern: For) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(concern as u64);
        Self(rng)
    }

    /// A stream of its own for somebody.
    pub(crate) fn fork(&mut self) -> Self {
        Self(ChaCha8Rng::from_seed(self.bytes()))
    }

    /// A number below `bound`; 0 when that is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound.max(1)
    }

    /// A number from `low` up to, not including, `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low))
    }

    /// Yes in so many of a thousand cases.
    pub(crate) fn per_mille(&mut self, chance: u64) -> bool {
        self.below(1_000) < chance
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len() as u64) as usize)
    }

    /// A fresh name of a log.
    pub(crate) fn log(&mut self) -> [u8; 16] {
        let mut log = [0; 16];
        log.copy_from_slice(&self.bytes()[..16]);
        log
    }

    /// Fresh random bytes.
    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// How long until the next of something that happens so many times in a thousand hours: evenly drawn about the
    /// mean, so that no floating point, which differs between machines, decides over a life.
    pub(crate) fn wait(&mut self, per_thousand_hours: u64) -> u64 {
        let mean = 1_000 * 3_600 * Time::SECOND_MS / per_thousand_hours.max(1);
        self.between(1, 2 * mean + 2)
    }
}
