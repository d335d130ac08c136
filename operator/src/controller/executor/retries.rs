//! Targets whose last request had no lasting effect yet, and the time of the next one.
//!
//! A plan is made many times a second, and repeats what the cluster does not show as done. The API
//! server must not receive a request each time: neither one that it refused, nor one that it
//! accepted, whose effect no watch has reported yet.

use std::time::Instant;

use daylight_base::Name;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Target;
use crate::controller::backoff::Backoff;

/// A refusal to end a pod, or to record its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRefusal {
    /// The miner whose pod it is, if it is a miner's.
    pub miner: Option<Name>,
    pub kind: PodRefusalKind,
    /// The answer of the API server.
    pub message: String,
}

/// The request about a pod that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, strum::IntoStaticStr)]
pub enum PodRefusalKind {
    #[strum(serialize = "StopRefused")]
    Stop,
    #[strum(serialize = "RecordRefused")]
    Record,
}

impl PodRefusal {
    /// The reason of the miner, as one word.
    pub fn code(&self) -> &'static str {
        self.kind.into()
    }

    /// The reason of a miner of which `pods` pods are refused, as a sentence.
    pub fn sentence(&self, pods: u32) -> String {
        let pods = if pods == 1 { "1 pod".to_owned() } else { format!("{pods} pods") };
        let Self { message, .. } = self;
        match self.kind {
            PodRefusalKind::Stop => format!(
                "The API server refuses to stop {pods} of the miner, so the GPUs stay in use; \
                 remove what refuses it, and Daylight tries again: {message}"
            ),
            PodRefusalKind::Record => format!(
                "The API server refuses the LeaseRecord of {pods} of the miner, so they stay; remove \
                 what refuses it, and Daylight tries again: {message}"
            ),
        }
    }
}

/// The state of an AIJob on which the answer of the API server depended: the UID of the Job that has
/// its name, and its own generation.
type Cause = (Box<str>, Option<i64>);

#[derive(Debug)]
struct Retry {
    backoff: Backoff,
    refusal: Option<PodRefusal>,
    cause: Option<Cause>,
}

/// The targets that wait, and why.
#[derive(Debug, Default)]
pub struct Retries(FxHashMap<Target, Retry>);

impl Retries {
    /// Notes a request that may have to be repeated; returns the wait until then.
    pub fn note(&mut self, target: Target, now: Instant) -> Backoff {
        self.insert(target, None, None, now)
    }

    /// Notes a refused request about a pod.
    pub fn pod_refused(&mut self, pod: &Name, refusal: PodRefusal, now: Instant) -> Backoff {
        self.insert(Target::Pod(pod.clone()), Some(refusal), None, now)
    }

    /// Notes a failed change of an AIJob, which is repeated earlier if `cause` changes.
    pub fn job_failed(&mut self, job: &Name, cause: Cause, now: Instant) -> Backoff {
        self.insert(Target::Job(job.clone()), None, Some(cause), now)
    }

    fn insert(
        &mut self,
        target: Target,
        refusal: Option<PodRefusal>,
        cause: Option<Cause>,
        now: Instant,
    ) -> Backoff {
        let last = self.0.get(&target).map(|retry| retry.backoff);
        let backoff = Backoff::after(last, now);
        self.0.insert(target, Retry { backoff, refusal, cause });
        backoff
    }

    /// Forgets a target: its request had an effect, or it is gone.
    pub fn forget(&mut self, target: &Target) {
        self.0.remove(target);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns `true` while no request for the target may be sent.
    pub fn block(&self, target: &Target, now: Instant) -> bool {
        self.0.get(target).is_some_and(|retry| retry.backoff.lasts(now))
    }

    /// Returns `true` while an AIJob may not be changed, given its present state.
    pub fn block_job(&self, job: &Name, cause: &Cause, now: Instant) -> bool {
        let target = Target::Job(job.clone());
        self.0.get(&target).is_some_and(|retry| {
            retry.backoff.lasts(now) && retry.cause.as_ref().is_none_or(|of| of == cause)
        })
    }

    /// The time at which the next target may be tried again.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        self.0.values().map(|retry| retry.backoff.until).filter(|until| now < *until).min()
    }

    /// Forgets what is long ago, and the refusals to end pods that are to end no more.
    pub fn sweep(&mut self, ending: &FxHashSet<&Name>, now: Instant) {
        self.0.retain(|target, retry| {
            let moot = |pod: &Name| retry.refusal.is_some() && !ending.contains(pod);
            let moot = matches!(target, Target::Pod(pod) if moot(pod));
            !moot && !retry.backoff.is_forgotten(now)
        });
    }

    /// The refusals to end pods of miners, or to record their ends: one of each miner, with the number
    /// of its pods.
    pub fn refusals(&self) -> FxHashMap<Name, (u32, &PodRefusal)> {
        let mut refusals: FxHashMap<Name, (u32, &PodRefusal)> = FxHashMap::default();
        for refusal in self.0.values().filter_map(|retry| retry.refusal.as_ref()) {
            let Some(miner) = refusal.miner.clone() else { continue };
            let (count, shown) = refusals.entry(miner).or_insert((0, refusal));
            *count += 1;
            // The same one each time, so that the status does not change with the order of the map.
            if (refusal.kind, &refusal.message) < (shown.kind, &shown.message) {
                *shown = refusal;
            }
        }
        refusals
    }
}
