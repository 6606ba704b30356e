//! What a life is made from: its seed and its measures.

use crate::scenario::Scenario;

/// Everything that decides a life, for ever.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) hours: u64,
    /// Of a hundred nodes so many are malicious.
    pub(crate) malicious_percent: u64,
    pub(crate) scenario: Scenario,
}
