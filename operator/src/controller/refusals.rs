//! Miners that get no more GPUs for a while: those whose pods the API server rejects, for a quota
//! or a policy, and those whose pods fail for a reason of their own, such as a wrong wallet.
//!
//! Such a miner gets no more GPUs than it holds until a back-off is over, so that others get them;
//! then one pod is tried, and the rest only once that was accepted, or works. The whole life of
//! the cap is here: [`Refusals::raise`], [`Refusals::apply`] to what the planner receives,
//! [`Refusals::tick`] and the `pod_*` functions that lift it, [`Refusals::shown`] for the status.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use daylight_base::Name;
use daylight_cluster::slim::PodFailure;
use daylight_planner::model::{Delta, Miner};
use rustc_hash::FxHashMap;

use super::backoff::Backoff;

/// Time for which a pod has to stay ready before more are started.
const STAYED: Duration = Duration::from_secs(10);

/// A pod that ran for this time had no reason of the miner's own to fail at once.
const WORKED: Duration = Duration::from_mins(1);

/// The component that turned a miner's pod down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The API server rejected the pod.
    ApiServer,
    /// The pod's own container failed.
    Container,
}

/// A refusal of a miner's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason as one word.
    pub word: Box<str>,
    /// The reason as a sentence.
    pub sentence: String,
    /// The wait until one pod is tried again.
    pub backoff: Backoff,
    /// Replicas that the miner had when it was refused.
    pub held: u32,
    cause: Cause,
    /// A pod is ready; the time until which it has to stay.
    lifts_at: Option<Instant>,
    /// A pod has worked since; the refusal is kept for its back-off alone.
    lifted: bool,
}

/// The miners that are refused, and what the planner has to know of that.
#[derive(Debug, Default)]
pub struct Refusals {
    refused: FxHashMap<Name, Refusal>,
    /// The failure of a miner's last pod, until one is ready again.
    failures: FxHashMap<Name, PodFailure>,
    /// The miners as the view sent them, without a cap.
    miners: FxHashMap<Name, Miner>,
    /// Miners whose cap changed since the planner received them.
    changed: BTreeSet<Name>,
}

impl Refusals {
    /// A pod of `miner` was refused while the miner held `held`. Returns `false` if that is not
    /// news: the answers to requests that were under way together are one refusal.
    pub fn raise(
        &mut self,
        miner: &Name,
        cause: Cause,
        word: &str,
        sentence: &str,
        held: u32,
        now: Instant,
    ) -> bool {
        let known = self.refused.get_mut(miner);
        if let Some(known) = known.filter(|known| known.backoff.lasts(now)) {
            // Pods whose creation was under way at the first refusal counted as held.
            if held < known.held {
                known.held = held;
                self.changed.insert(miner.clone());
            }
            return false;
        }
        let last = self.refused.get(miner).map(|known| known.backoff);
        let refusal = Refusal {
            word: word.into(),
            sentence: sentence.to_owned(),
            backoff: Backoff::after(last, now),
            held,
            cause,
            lifts_at: None,
            lifted: false,
        };
        self.refused.insert(miner.clone(), refusal);
        self.changed.insert(miner.clone());
        true
    }

    /// A pod of `miner` failed on a node, for a reason that other nodes need not share.
    pub fn pod_failed(&mut self, miner: &Name, failure: &PodFailure) {
        self.failures.insert(miner.clone(), failure.clone());
    }

    /// The API server accepted a pod of `miner`. During the back-off that proves nothing: the pod was
    /// sent together with the one that was refused.
    pub fn pod_accepted(&mut self, miner: &Name, now: Instant) {
        let tried = |known: &Refusal| known.cause == Cause::ApiServer && !known.backoff.lasts(now);
        if self.refused.get(miner).is_some_and(tried) {
            self.refused.remove(miner);
            self.changed.insert(miner.clone());
        }
    }

    /// A pod of `miner` is ready. One without a readiness probe is so at once, so the others follow
    /// only if it stays.
    pub fn pod_ready(&mut self, miner: &Name, now: Instant) {
        self.failures.remove(miner);
        if let Some(known) = self.refused.get_mut(miner)
            && known.cause == Cause::Container
        {
            known.lifts_at.get_or_insert(now + STAYED);
        }
    }

    /// A pod of `miner` failed: the ones that are ready may be next.
    pub fn pod_ended(&mut self, miner: &Name) {
        if let Some(known) = self.refused.get_mut(miner)
            && !known.lifted
        {
            known.lifts_at = None;
        }
    }

    /// A pod of `miner` ended after it `ran` for some time.
    pub fn pod_ran(&mut self, miner: &Name, ran: Duration) {
        let ours = |known: &Refusal| known.cause == Cause::Container;
        if ran >= WORKED && self.refused.get(miner).is_some_and(ours) {
            self.refused.remove(miner);
        }
    }

    /// Time passed: notes the miners that may try one pod more.
    pub fn tick(&mut self, from: Instant, to: Instant) {
        let due = self.refused.iter();
        let due = due.filter(|(_, known)| known.backoff.lasts(from) && !known.backoff.lasts(to));
        self.changed.extend(due.map(|(miner, _)| miner.clone()));
        for (miner, known) in &mut self.refused {
            if !known.lifted && known.lifts_at.is_some_and(|at| at <= to) {
                known.lifted = true;
                self.changed.insert(miner.clone());
            }
        }
    }

    /// The time at which the next cap changes by itself.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        let times = self.refused.values();
        let times = times.flat_map(|refusal| [Some(refusal.backoff.until), refusal.lifts_at]);
        times.flatten().filter(|until| now < *until).min()
    }

    /// Returns `true` if no pod of `miner` may be started now.
    pub fn blocks(&self, miner: &str, now: Instant) -> bool {
        self.shown(miner).is_some_and(|refusal| refusal.backoff.lasts(now))
    }

    /// The refusal that a miner's status shows.
    pub fn shown(&self, miner: &str) -> Option<&Refusal> {
        self.refused.get(miner).filter(|refusal| !refusal.lifted)
    }

    /// Returns `true` if the pods of a miner fail by themselves, and none has worked since.
    pub fn is_failing(&self, miner: &str) -> bool {
        let by_itself = |refusal: &Refusal| refusal.cause == Cause::Container;
        self.shown(miner).is_some_and(by_itself) || self.failures.contains_key(miner)
    }

    /// The failure of a miner's last pod, if none has been ready since.
    pub fn failure(&self, miner: &str) -> Option<&PodFailure> {
        self.failures.get(miner)
    }

    /// Returns `true` if [`Refusals::take_changed`] has something to return.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Caps a miner on its way to the planner; forgets one that is gone.
    pub fn apply(&mut self, delta: &mut Delta, now: Instant) {
        match delta {
            Delta::Miner(miner) => {
                self.miners.insert(miner.key.clone(), miner.clone());
                self.changed.remove(&miner.key);
                self.cap(miner, now);
            }
            Delta::MinerGone(key) => {
                self.miners.remove(key);
                self.refused.remove(key);
                self.failures.remove(key);
                self.changed.remove(key);
            }
            _ => {}
        }
    }

    /// The miners whose cap changed, as the planner has to receive them again. Call it after
    /// [`Refusals::apply`] has seen all that the view sent.
    pub fn take_changed(&mut self, now: Instant) -> Vec<Delta> {
        let changed = std::mem::take(&mut self.changed);
        let miners = changed.iter().filter_map(|key| self.miners.get(key).cloned());
        miners
            .map(|mut miner| {
                self.cap(&mut miner, now);
                Delta::Miner(miner)
            })
            .collect()
    }

    /// Caps a miner that is refused.
    pub fn cap(&self, miner: &mut Miner, now: Instant) {
        if let Some(refusal) = self.shown(&miner.key) {
            // After the back-off one pod is tried.
            let most = refusal.held + u32::from(!refusal.backoff.lasts(now));
            miner.replicas = miner.replicas.min(most);
        }
    }
}

#[cfg(test)]
mod tests {
    use daylight_planner::model::Shape;

    use super::super::backoff::FIRST;
    use super::*;

    const MINER: &str = "team-a/kaspa";

    fn miner(replicas: u32) -> Delta {
        Delta::Miner(Miner {
            key: MINER.into(),
            created: daylight_base::Timestamp(0),
            registration: "team-a/night".into(),
            replicas,
            shape: Shape { gpus: 1, cpu_milli: 0, memory: 0, huge_pages: [0; 2] },
            weight: 1,
            watts: 0,
            drain_timeout: Duration::ZERO,
            pools: Vec::new(),
            revision: 0,
            requests_changed: None,
            problem: None,
        })
    }

    /// Refusals of a miner that wants 10 replicas.
    fn refusals(now: Instant) -> Refusals {
        let mut refusals = Refusals::default();
        refusals.apply(&mut miner(10), now);
        refusals
    }

    fn raise(refusals: &mut Refusals, cause: Cause, held: u32, now: Instant) -> bool {
        let (word, sentence) = match cause {
            Cause::ApiServer => ("PodsRefused", "exceeded quota"),
            Cause::Container => ("LoginRefused", "pool p refused the login"),
        };
        refusals.raise(&MINER.into(), cause, word, sentence, held, now)
    }

    /// Replicas that the planner is sent now; `None` if the miner is not sent.
    fn sent(refusals: &mut Refusals, now: Instant) -> Option<u32> {
        match &refusals.take_changed(now)[..] {
            [] => None,
            [Delta::Miner(miner)] => Some(miner.replicas),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_refused_miner_keeps_what_it_has_then_one_is_tried() {
        let start = Instant::now();
        let mut refusals = refusals(start);
        assert!(raise(&mut refusals, Cause::ApiServer, 3, start));
        assert!(!raise(&mut refusals, Cause::ApiServer, 3, start));
        assert_eq!(sent(&mut refusals, start), Some(3));
        assert!(refusals.blocks(MINER, start));
        let tried = start + FIRST;
        assert_eq!(refusals.wake_at(start), Some(tried));
        refusals.tick(start, tried);
        assert_eq!(sent(&mut refusals, tried), Some(4));
        assert!(raise(&mut refusals, Cause::ApiServer, 3, tried));
        refusals.tick(tried, tried + FIRST);
        assert_eq!(sent(&mut refusals, tried + FIRST), Some(3), "it doubles");
        refusals.pod_accepted(&MINER.into(), tried + 2 * FIRST);
        assert_eq!(sent(&mut refusals, tried), Some(10));
    }

    #[test]
    fn what_was_sent_together_with_a_refused_pod_is_not_scaled_down() {
        let now = Instant::now();
        let mut refusals = refusals(now);
        // Ten pods were sent under a quota of 3. Two are accepted, one is refused, and so on: those
        // that are under way count as held until they are refused themselves.
        assert!(raise(&mut refusals, Cause::ApiServer, 9, now));
        assert_eq!(sent(&mut refusals, now), Some(9));
        refusals.pod_accepted(&MINER.into(), now);
        assert_eq!(sent(&mut refusals, now), None, "the refusal holds");
        for held in (3..9).rev() {
            assert!(!raise(&mut refusals, Cause::ApiServer, held, now));
            assert_eq!(sent(&mut refusals, now), Some(held));
        }
        let tried = now + FIRST;
        refusals.tick(now, tried);
        assert_eq!(sent(&mut refusals, tried), Some(4));
    }

    #[test]
    fn a_miner_that_fails_by_itself_is_tried_until_it_works() {
        let mut now = Instant::now();
        let mut refusals = refusals(now);
        assert!(raise(&mut refusals, Cause::Container, 0, now));
        assert_eq!(sent(&mut refusals, now), Some(0));
        refusals.pod_accepted(&MINER.into(), now);
        assert_eq!(sent(&mut refusals, now), None, "the API server has nothing to do with it");
        let before = now;
        now += FIRST;
        refusals.tick(before, now);
        assert_eq!(sent(&mut refusals, now), Some(1));
        refusals.pod_ready(&MINER.into(), now);
        assert_eq!(sent(&mut refusals, now), None, "ready for a moment proves nothing");
        refusals.pod_ended(&MINER.into());
        refusals.tick(now, now + STAYED);
        assert_eq!(sent(&mut refusals, now + STAYED), None);
        refusals.pod_ready(&MINER.into(), now);
        assert_eq!(refusals.wake_at(now), Some(now + STAYED));
        refusals.tick(now, now + STAYED);
        now += STAYED;
        assert_eq!((sent(&mut refusals, now), refusals.shown(MINER)), (Some(10), None));
        // It fails all the same.
        assert!(raise(&mut refusals, Cause::Container, 0, now));
        assert_eq!(sent(&mut refusals, now + FIRST), Some(0), "it doubles");
        refusals.pod_ran(&MINER.into(), Duration::from_secs(3));
        assert!(refusals.shown(MINER).is_some());
        refusals.pod_ran(&MINER.into(), WORKED);
        assert_eq!(refusals.shown(MINER), None);
    }

    #[test]
    fn a_miner_that_changes_is_sent_once_and_capped() {
        let now = Instant::now();
        let mut refusals = refusals(now);
        assert!(raise(&mut refusals, Cause::ApiServer, 3, now));
        let mut edited = miner(20);
        refusals.apply(&mut edited, now);
        let Delta::Miner(edited) = edited else { unreachable!("it was a miner") };
        assert_eq!((edited.replicas, sent(&mut refusals, now)), (3, None));
    }

    #[test]
    fn a_miner_that_is_gone_is_forgotten() {
        let now = Instant::now();
        let mut refusals = refusals(now);
        assert!(raise(&mut refusals, Cause::ApiServer, 3, now));
        refusals.apply(&mut Delta::MinerGone(MINER.into()), now);
        assert_eq!((sent(&mut refusals, now), refusals.shown(MINER)), (None, None));
    }
}
