//! Miners that get no more for a while: those whose pods the API server does not take, for a quota
//! or a policy, and those whose pods fail for a reason of their own, such as a wrong wallet.
//!
//! Such a miner gets no more GPUs than it holds until a back-off is over, so that others get
//! them; then one pod is tried, and the rest only once that was taken, or works.

use std::time::{Duration, Instant};

use daylight_base::Name;
use rustc_hash::FxHashMap;

/// The first back-off, and the longest.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_mins(5);

/// A pod that ran for so long had no reason of the miner's own to fail at once.
const WORKED: Duration = Duration::from_mins(1);

/// Who turned a miner's pod down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The API server, before it was there.
    ApiServer,
    Itself,
}

/// Why and until when a miner gets no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why, as one word.
    pub word: Box<str>,
    /// The same as a sentence.
    pub sentence: String,
    /// When one pod is tried again.
    pub until: Instant,
    /// Replicas that it had when it was refused.
    pub held: u32,
    by: By,
    back_off: Duration,
    /// Whether a pod has worked since; kept for the back-off.
    lifted: bool,
}

/// The miners that are refused, by key.
#[derive(Debug, Default)]
pub struct Refusals(FxHashMap<Name, Refusal>);

impl Refusals {
    /// A pod of `miner` was refused while it held `held`. Tells whether that is news: the
    /// answers to requests that were under way together are one refusal.
    pub fn refused(
        &mut self,
        miner: &Name,
        by: By,
        (word, sentence): (&str, String),
        held: u32,
        now: Instant,
    ) -> bool {
        let known = self.0.get(miner);
        if known.is_some_and(|known| now < known.until) {
            return false;
        }
        let back_off = known.map_or(FIRST, |known| (known.back_off * 2).min(LONGEST));
        let until = now + back_off;
        let word = word.into();
        let refusal = Refusal { word, sentence, until, held, by, back_off, lifted: false };
        self.0.insert(miner.clone(), refusal);
        true
    }

    /// A pod of `miner` was taken by the API server. Tells whether that is news.
    pub fn taken(&mut self, miner: &str) -> bool {
        let ours = self.0.get(miner).is_some_and(|known| known.by == By::ApiServer);
        ours && self.0.remove(miner).is_some()
    }

    /// A pod of `miner` is ready. Tells whether that is news.
    pub fn works(&mut self, miner: &str) -> bool {
        match self.0.get_mut(miner) {
            Some(known) if known.by == By::Itself && !known.lifted => {
                known.lifted = true;
                true
            }
            _ => false,
        }
    }

    /// A pod of `miner` ended after so long.
    pub fn ran(&mut self, miner: &str, ran: Duration) {
        if ran >= WORKED && self.0.get(miner).is_some_and(|known| known.by == By::Itself) {
            self.0.remove(miner);
        }
    }

    /// Why `miner` gets no more, if so.
    pub fn get(&self, miner: &str) -> Option<&Refusal> {
        self.0.get(miner).filter(|refusal| !refusal.lifted)
    }

    /// The most replicas it may have now, if it is refused.
    pub fn cap(&self, miner: &str, now: Instant) -> Option<u32> {
        let refusal = self.get(miner)?;
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

    fn quota() -> (&'static str, String) {
        ("PodsRefused", "exceeded quota".into())
    }

    #[test]
    fn a_refused_miner_keeps_what_it_has_then_one_is_tried() {
        let mut refusals = Refusals::default();
        let miner: Name = "team-a/kaspa".into();
        let start = Instant::now();
        assert!(refusals.refused(&miner, By::ApiServer, quota(), 3, start));
        assert!(!refusals.refused(&miner, By::ApiServer, quota(), 3, start));
        assert_eq!(refusals.cap(&miner, start), Some(3));
        let tried = start + FIRST;
        assert_eq!(refusals.lifted(start, tried), std::slice::from_ref(&miner));
        assert_eq!(refusals.cap(&miner, tried), Some(4));
        assert!(refusals.refused(&miner, By::ApiServer, quota(), 3, tried));
        assert_eq!(refusals.cap(&miner, tried + FIRST), Some(3), "it doubles");
        assert!(refusals.taken(&miner));
        assert_eq!(refusals.cap(&miner, tried), None);
    }

    #[test]
    fn a_miner_that_fails_by_itself_is_tried_until_it_works() {
        let mut refusals = Refusals::default();
        let miner: Name = "team-a/kaspa".into();
        let why = || ("LoginRefused", "pool p refused the login".to_owned());
        let mut now = Instant::now();
        assert!(refusals.refused(&miner, By::Itself, why(), 0, now));
        assert!(!refusals.taken(&miner), "the API server has nothing to do with it");
        now += FIRST;
        assert_eq!(refusals.cap(&miner, now), Some(1));
        assert!(refusals.works(&miner));
        assert_eq!((refusals.cap(&miner, now), refusals.get(&miner)), (None, None));
        // It was ready for a moment only.
        assert!(refusals.refused(&miner, By::Itself, why(), 0, now));
        assert_eq!(refusals.cap(&miner, now + FIRST), Some(0), "it doubles");
        refusals.ran(&miner, Duration::from_secs(3));
        assert!(refusals.get(&miner).is_some());
        refusals.ran(&miner, WORKED);
        assert_eq!(refusals.get(&miner), None);
    }
}
