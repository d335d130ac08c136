//! The changes that wait, the most urgent first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use daylight_base::Name;
use daylight_planner::explain::{Action, Grant, ReclaimReason};
use daylight_planner::model::Placement;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::controller::executor::job_status::Transition;

/// One change to make.
#[derive(Clone, Debug)]
pub enum Change {
    /// Suspend a Job again whose gang was not bound in time.
    Suspend { job: Name },
    /// Delete an AIJob's reservation.
    Requeue { job: Name },
    /// Write the nodes reserved for an AIJob into its status.
    Reserve {
        job: Name,
        placement: Vec<Placement>,
        /// Miners that are displaced for the job.
        displaced: u32,
    },
    /// Start the pods of a Job.
    Release {
        job: Name,
        /// The nodes to prefer.
        placement: Vec<Placement>,
    },
    /// Create an `AIJob`'s Job and Service.
    MakeGang { job: Name },
    /// Write a step of an AIJob into its status.
    Advance { job: Name, step: Transition },
    /// Stop a miner's pod.
    Evict { pod: Name, reason: ReclaimReason, beneficiary: Option<Name>, grace: Duration },
    /// Evict a pod that a tenant runs under a registration that is no longer in force.
    EvictLapsed { pod: Name, registration: Name },
    /// Remove a miner's pod that has ended or never began.
    Remove { pod: Name },
    /// Record the end of a pod that the auditor has not recorded in time, and release the pod.
    Record { pod: Name },
    /// Start one replica of a miner.
    Grant(Grant),
    /// Delete an `AIJob` that ended long enough ago.
    Expire { job: Name },
}

impl From<Action> for Change {
    fn from(action: Action) -> Self {
        match action {
            Action::Reserve { job, placement, displaced } => {
                Self::Reserve { job, placement, displaced }
            }
            Action::Release { job, placement } => Self::Release { job, placement },
            Action::Suspend { job } => Self::Suspend { job },
            Action::Requeue { job } => Self::Requeue { job },
            Action::Evict { pod, reason, beneficiary, grace } => {
                Self::Evict { pod, reason, beneficiary, grace }
            }
            Action::Grant(grant) => Self::Grant(grant),
        }
    }
}

/// The number of urgencies.
const URGENCIES: usize = 5;

impl Change {
    fn urgency(&self) -> usize {
        match self {
            Self::Suspend { .. }
            | Self::Requeue { .. }
            | Self::Reserve { .. }
            | Self::MakeGang { .. } => 0,
            Self::Evict { .. } | Self::Release { .. } => 1,
            Self::Advance { .. } => 2,
            Self::Grant(_) => 3,
            Self::Remove { .. }
            | Self::EvictLapsed { .. }
            | Self::Record { .. }
            | Self::Expire { .. } => 4,
        }
    }
}

/// The changes that have not begun. A new plan replaces all of them.
#[derive(Debug, Default)]
pub struct Queue {
    by_urgency: [VecDeque<Change>; URGENCIES],
    /// Jobs whose reservation is not written yet, and the evictions that wait for that.
    reserving: FxHashMap<Name, Vec<Change>>,
    /// Takes turns between grants and removals, so that neither starves the other.
    turn: bool,
}

impl Queue {
    /// Replaces the changes that have not begun by those of the new plan. `writing` are the jobs
    /// whose reservation is being written.
    pub fn replace(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
        writing: &FxHashSet<Name>,
    ) {
        self.clear();
        self.reserving.extend(writing.iter().map(|job| (job.clone(), Vec::new())));
        for change in changes {
            if let Change::Reserve { job, .. } = &change {
                self.reserving.entry(job.clone()).or_default();
            }
            self.by_urgency[change.urgency()].push_back(change);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.by_urgency.iter_mut().for_each(VecDeque::clear);
        self.reserving.clear();
    }

    /// The most urgent change that can begin; grants only if there is `room` for one.
    pub fn pop(&mut self, room: bool) -> Option<Change> {
        for urgency in 0..3 {
            while let Some(change) = self.by_urgency[urgency].pop_front() {
                if let Change::Evict { beneficiary: Some(job), .. } = &change
                    && let Some(waiting) = self.reserving.get_mut(job)
                {
                    waiting.push(change);
                    continue;
                }
                return Some(change);
            }
        }
        self.turn = !self.turn;
        if !room {
            return self.by_urgency[4].pop_front();
        }
        let (first, second) = if self.turn { (3, 4) } else { (4, 3) };
        let next = self.by_urgency[first].pop_front();
        next.or_else(|| self.by_urgency[second].pop_front())
    }

    /// Ends the wait for the reservation of a job. If it was not written, no pod is evicted for it.
    pub fn reserved(&mut self, job: &str, written: bool) {
        if let Some(waiting) = self.reserving.remove(job)
            && written
        {
            self.by_urgency[1].extend(waiting);
        }
    }

    /// Number of changes that wait.
    pub fn len(&self) -> usize {
        let waiting: usize = self.reserving.values().map(Vec::len).sum();
        self.by_urgency.iter().map(VecDeque::len).sum::<usize>() + waiting
    }

    /// Returns `true` if no change waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A limit on the changes that begin in a second, with bursts of a tenth of a second's worth.
#[derive(Debug)]
pub struct Pace {
    per_second: f64,
    saved: f64,
    at: Option<Instant>,
}

impl Pace {
    /// Creates a limit of `per_second` changes; 0 sets no limit.
    pub fn new(per_second: u32) -> Self {
        Self { per_second: per_second.into(), saved: 0.0, at: None }
    }

    /// Returns `true` if one more change may begin now.
    pub fn allows(&mut self, now: Instant) -> bool {
        if self.per_second <= 0.0 {
            return true;
        }
        let most = (self.per_second / 10.0).max(1.0);
        self.saved = match self.at.replace(now) {
            Some(at) => {
                let passed = now.saturating_duration_since(at).as_secs_f64();
                (self.saved + passed * self.per_second).min(most)
            }
            None => most,
        };
        self.saved >= 1.0
    }

    /// Counts a change that began.
    pub fn spend(&mut self) {
        self.saved -= 1.0;
    }

    /// Time until the next may begin.
    pub fn wait(&self) -> Duration {
        if self.per_second <= 0.0 || self.saved >= 1.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64((1.0 - self.saved) / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evict(pod: &str, beneficiary: Option<&str>) -> Change {
        Change::Evict {
            pod: pod.into(),
            reason: ReclaimReason::AiDemand,
            beneficiary: beneficiary.map(Name::from),
            grace: Duration::ZERO,
        }
    }

    fn grant(slot: u32) -> Change {
        Change::Grant(Grant {
            miner: "team-a/kaspa".into(),
            registration: "team-a/night-shift".into(),
            pool: "hall-1".into(),
            node: "gpu-1".into(),
            slot,
            grace: Duration::ZERO,
            until: None,
        })
    }

    fn reserve(job: &str) -> Change {
        Change::Reserve { job: job.into(), placement: Vec::new(), displaced: 1 }
    }

    fn word(change: &Change) -> String {
        match change {
            Change::Evict { pod, .. } => format!("evict {pod}"),
            Change::Grant(grant) => format!("grant {}", grant.slot),
            Change::Reserve { job, .. } => format!("reserve {job}"),
            Change::Remove { pod } => format!("remove {pod}"),
            _ => "other".into(),
        }
    }

    #[test]
    fn evictions_wait_for_the_reservation_they_serve_and_grants_for_evictions() {
        let mut queue = Queue::default();
        let plan = [grant(0), evict("p1", Some("j")), evict("p2", None), reserve("j"), grant(1)];
        queue.replace(plan, &FxHashSet::default());
        let mut order = vec![word(&queue.pop(true).unwrap()), word(&queue.pop(true).unwrap())];
        assert_eq!(order, ["reserve j", "evict p2"]);
        queue.reserved("j", true);
        order = std::iter::from_fn(|| queue.pop(true)).map(|change| word(&change)).collect();
        assert_eq!(order, ["evict p1", "grant 0", "grant 1"]);
    }

    #[test]
    fn no_pod_is_evicted_for_a_reservation_that_failed() {
        let mut queue = Queue::default();
        queue.replace([reserve("j"), evict("p1", Some("j"))], &FxHashSet::default());
        queue.pop(true);
        assert!(queue.pop(true).is_none());
        queue.reserved("j", false);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_reservation_under_way_holds_back_the_evictions_of_the_next_plan() {
        let mut queue = Queue::default();
        let writing = FxHashSet::from_iter([Name::from("j")]);
        queue.replace([evict("p1", Some("j"))], &writing);
        assert!(queue.pop(true).is_none());
        queue.reserved("j", true);
        assert_eq!(word(&queue.pop(true).unwrap()), "evict p1");
    }

    #[test]
    fn a_pace_is_kept_and_unused_changes_expire() {
        let mut pace = Pace::new(100);
        let start = Instant::now();
        let mut begun = |at: Instant| {
            let mut count = 0;
            while pace.allows(at) {
                pace.spend();
                count += 1;
            }
            count
        };
        assert_eq!(begun(start), 10);
        assert_eq!(begun(start + Duration::from_millis(50)), 5);
        assert_eq!(begun(start + Duration::from_mins(1)), 10);
    }
}
