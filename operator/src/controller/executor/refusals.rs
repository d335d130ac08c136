//! Miners whose pods the API server does not take, for a quota or a policy.
//!
//! Such a miner gets no more GPUs than it holds until a back-off is over, so that others get
//! them; then one pod is tried, and the rest only once it was taken.

use std::time::{Duration, Instant};

use daylight_planner::model::Name;
use rustc_hash::FxHashMap;

/// The first back-off, and the longest.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_mins(5);

/// Why and until when a miner gets no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the API server said.
    pub message: String,
    /// When one pod is tried again.
    pub until: Instant,
    /// Replicas that it had when it was refused.
    pub held: u32,
    back_off: Duration,
}

/// The miners that are refused, by key.
#[derive(Debug, Default)]
pub struct Refusals(FxHashMap<Name, Refusal>);

impl Refusals {
    /// A pod of `miner` was refused while it held `held`. Tells whether that is news: the
    /// answers to requests that were under way together are one refusal.
    pub fn refused(&mut self, miner: &Name, message: &str, held: u32, now: Instant) -> bool {
        let known = self.0.get(miner);
        if known.is_some_and(|known| now < known.until) {
            return false;
        }
        let back_off = known.map_or(FIRST, |known| (known.back_off * 2).min(LONGEST));
        let refusal = Refusal { message: message.into(), until: now + back_off, held, back_off };
        self.0.insert(miner.clone(), refusal);
        true
    }

    /// A pod of `miner` was taken. Tells whether that is news.
    pub fn taken(&mut self, miner: &str) -> bool {
        self.0.remove(miner).is_some()
    }

    /// Why `miner` gets no more, if so.
    pub fn get(&self, miner: &str) -> Option<&Refusal> {
        self.0.get(miner)
    }

    /// The most replicas it may have now, if it is refused.
    pub fn cap(&self, miner: &str, now: Instant) -> Option<u32> {
        let refusal = self.0.get(miner)?;
        Some(if now < refusal.until { refusal.held } else { refusal.held + 1 })
    }

    /// The miners whose cap changed between two moments.
    pub fn lifted(&self, from: Instant, to: Instant) -> Vec<Name> {
        let mut lifted: Vec<Name> = self
            .0
            .iter()
            .filter(|(_, refusal)| from < refusal.until && refusal.until <= to)
            .map(|(miner, _)| miner.clone())
            .collect();
        lifted.sort_unstable();
        lifted
    }

    /// When the next cap changes.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        self.0.values().map(|refusal| refusal.until).filter(|until| now < *until).min()
    }

    /// Forgets a miner that does not exist any more.
    pub fn forget(&mut self, miner: &str) {
        self.0.remove(miner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_miner_keeps_what_it_has_then_one_is_tried() {
        let mut refusals = Refusals::default();
        let miner: Name = "team-a/kaspa".into();
        let start = Instant::now();
        assert!(refusals.refused(&miner, "exceeded quota", 3, start));
        assert!(!refusals.refused(&miner, "exceeded quota", 3, start));
        assert_eq!(refusals.cap(&miner, start), Some(3));
        let tried = start + FIRST;
        assert_eq!(refusals.lifted(start, tried), std::slice::from_ref(&miner));
        assert_eq!(refusals.cap(&miner, tried), Some(4));
        assert!(refusals.refused(&miner, "exceeded quota", 3, tried));
        assert_eq!(refusals.cap(&miner, tried + FIRST), Some(3), "it doubles");
        assert!(refusals.taken(&miner));
        assert_eq!(refusals.cap(&miner, tried), None);
    }
}
