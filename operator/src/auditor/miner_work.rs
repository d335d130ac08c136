//! Work of each miner in its status, added up from its agents' reports.
//!
//! It is for display only: what counts is in the books, by registration. A total continues from the
//! one in the status when the auditor restarts.

use daylight_agent_api::NotReady;
use daylight_base::Name;
use daylight_crds::{EndedWork, Miner, MinerWork};
use daylight_meter::Facts;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::json;

use super::agents::AgentReport;
use super::cluster_writes::MANAGER;
use crate::api_requests::{self, ApiRequest};

/// Label of a reason that is not one of the agent's.
const OTHER: &str = "Other";

/// Work of all miners, as far as it is reported.
#[derive(Debug, Default)]
pub(super) struct MinersWork {
    /// Running pods by UID: their miner, and their last report.
    running: FxHashMap<Name, (Name, AgentReport)>,
    /// Work of ended pods by miner, on top of what the status had when the auditor started.
    ended: FxHashMap<Name, EndedWork>,
    /// UIDs of pods that have ended, are part of the sums, and still exist.
    counted: FxHashSet<Name>,
    /// Work of pods that ended before the status of their miner was read.
    before_status: FxHashMap<Name, EndedWork>,
}

impl MinersWork {
    /// Takes a report of the agent in a pod of `miner`.
    pub(super) fn reported(&mut self, uid: &Name, miner: &Name, report: AgentReport) {
        self.running.insert(uid.clone(), (miner.clone(), report));
    }

    /// Takes the end of a pod, with the work in its termination message; without any, the last
    /// report counts. It may be called again for the same pod until that is `gone`.
    pub(super) fn ended(&mut self, uid: &Name, miner: &Name, work: Option<Facts>, gone: bool) {
        let last = self.running.remove(uid).map(|(_, report)| report.work);
        let is_new = self.counted.insert(uid.clone());
        if gone {
            self.counted.remove(uid);
        }
        if let Some(work) = work.or(last).filter(|_| is_new) {
            let sums = match self.ended.get_mut(miner) {
                Some(sums) => sums,
                None => self.before_status.entry(miner.clone()).or_default(),
            };
            add(sums, work.shares_accepted, work.shares_rejected);
        }
    }

    /// Returns the miner and the reason of each running replica that earns nothing. A word that is not
    /// one of the agent's is `Other`: the container is its tenant's.
    pub(super) fn not_ready(&self) -> impl Iterator<Item = (&Name, String)> {
        self.running.values().filter_map(|(miner, report)| {
            let known = report.not_ready.as_deref()?.parse::<NotReady>();
            Some((miner, known.map_or_else(|_| OTHER.to_owned(), |known| known.to_string())))
        })
    }

    /// Returns the requests that set what has changed, given all `miners`.
    pub(super) fn statuses<'a>(
        &mut self,
        miners: impl Iterator<Item = (&'a Name, &'a Miner)>,
    ) -> Vec<ApiRequest> {
        let mut running: FxHashMap<&str, Vec<&AgentReport>> = FxHashMap::default();
        for (miner, report) in self.running.values() {
            running.entry(miner).or_default().push(report);
        }
        let mut ended = FxHashMap::default();
        let mut writes = Vec::new();
        for (key, miner) in miners {
            let shown = miner.status.as_ref().and_then(|status| status.work.as_ref());
            let mut sums = self
                .ended
                .get(key)
                .copied()
                .unwrap_or_else(|| shown.map_or_else(EndedWork::default, |work| work.ended));
            if let Some(more) = self.before_status.remove(key) {
                add(&mut sums, more.shares_accepted, more.shares_rejected);
            }
            ended.insert(key.clone(), sums);
            let reports = running.get(&**key).map_or(&[][..], Vec::as_slice);
            if reports.is_empty() && shown.is_none() && sums == EndedWork::default() {
                continue;
            }
            let wanted = work(reports, sums);
            let Some(uid) = miner.metadata.uid.as_deref().filter(|_| shown != Some(&wanted)) else {
                continue;
            };
            let status = json!({ "work": wanted });
            writes.push(api_requests::apply_status::<Miner>(key, uid, MANAGER, &status));
        }
        // Only miners that still exist are kept.
        self.ended = ended;
        self.before_status.clear();
        writes
    }
}

/// Adds shares. Miners report whatever they like, and JSON's readers know signed numbers.
fn add(sums: &mut EndedWork, accepted: u64, rejected: u64) {
    let sum = |one: u64, other: u64| one.saturating_add(other).min(i64::MAX.unsigned_abs());
    sums.shares_accepted = sum(sums.shares_accepted, accepted);
    sums.shares_rejected = sum(sums.shares_rejected, rejected);
}

fn work(reports: &[&AgentReport], ended: EndedWork) -> MinerWork {
    let mut shown = ended;
    for report in reports {
        add(&mut shown, report.work.shares_accepted, report.work.shares_rejected);
    }
    let mut not_ready: FxHashMap<&str, u32> = FxHashMap::default();
    for word in reports.iter().filter_map(|report| report.not_ready.as_deref()) {
        *not_ready.entry(word).or_default() += 1;
    }
    let most = not_ready.iter().max_by_key(|(word, count)| (**count, **word));
    MinerWork {
        hashrate: quantity(reports.iter().filter_map(|report| report.hashrate).sum()),
        shares_accepted: shown.shares_accepted,
        shares_rejected: shown.shares_rejected,
        ended,
        replicas: reports.len() as u32,
        not_ready: most.map(|(word, _)| (*word).to_owned()),
        not_ready_replicas: not_ready.values().sum(),
    }
}

/// Formats a number as a Kubernetes quantity of three digits.
fn quantity(number: f64) -> String {
    // The sum of no floats is -0.0.
    let mut scaled = number.max(0.0) + 0.0;
    let mut units = ["", "k", "M", "G", "T", "P", "E"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while scaled >= 999.5
        && let Some(next) = units.next()
    {
        (scaled, unit) = (scaled / 1000.0, next);
    }
    let digits = match scaled {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    let text = format!("{scaled:.digits$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(accepted: u64, hashrate: f64, not_ready: Option<&str>) -> AgentReport {
        let work = Facts { shares_accepted: accepted, shares_rejected: 1, ..Facts::default() };
        AgentReport { work, hashrate: Some(hashrate), not_ready: not_ready.map(Name::from) }
    }

    fn shown(writes: &[ApiRequest]) -> MinerWork {
        let [write] = writes else { panic!("{writes:?}") };
        let body: serde_json::Value = serde_json::from_slice(&write.body).unwrap();
        serde_json::from_value(body["status"]["work"].clone()).unwrap()
    }

    #[test]
    fn totals_continue_over_ends_of_pods_and_restarts_of_the_auditor() {
        let key: Name = "team/m".into();
        let mut miner: Miner = serde_json::from_value(json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "Miner",
            "metadata": {"name": "m", "namespace": "team", "uid": "1"},
            "spec": {"registration": "r", "image": "i"},
        }))
        .unwrap();
        let mut miners = MinersWork::default();
        assert_eq!(miners.statuses([(&key, &miner)].into_iter()).len(), 0);
        miners.reported(&"a".into(), &key, report(7, 29.4e6, None));
        miners.reported(&"b".into(), &key, report(5, 0.0, Some("PoolUnreachable")));
        let first = shown(&miners.statuses([(&key, &miner)].into_iter()));
        assert_eq!((first.shares_accepted, first.shares_rejected), (12, 2));
        assert_eq!((&*first.hashrate, first.replicas), ("29.4M", 2));
        let lacks = (first.not_ready.as_deref(), first.not_ready_replicas);
        assert_eq!(lacks, (Some("PoolUnreachable"), 1));

        let status = |work| daylight_crds::MinerStatus { work: Some(work), ..Default::default() };
        miner.status = Some(status(first));
        assert_eq!(miners.statuses([(&key, &miner)].into_iter()).len(), 0, "nothing is new");

        let last = Facts { shares_accepted: 9, ..Facts::default() };
        miners.ended(&"a".into(), &key, Some(last), false);
        // A pod that ended is observed again until it is gone.
        miners.ended(&"a".into(), &key, Some(last), false);
        miners.ended(&"a".into(), &key, Some(last), true);
        miners.ended(&"b".into(), &key, None, true);
        let second = shown(&miners.statuses([(&key, &miner)].into_iter()));
        assert_eq!((second.shares_accepted, second.ended.shares_accepted), (14, 14));
        assert_eq!((&*second.hashrate, second.replicas, second.not_ready.clone()), ("0", 0, None));
        // Written again until the watch shows it.
        let same = shown(&miners.statuses([(&key, &miner)].into_iter()));
        assert_eq!(same, second);

        miner.status = Some(status(second));
        let mut again = MinersWork::default();
        again.reported(&"c".into(), &key, report(1, 10.0, None));
        assert_eq!(shown(&again.statuses([(&key, &miner)].into_iter())).shares_accepted, 15);
    }

    #[test]
    fn absurd_claims_stop_nothing() {
        let absurd = report(u64::MAX, f64::MAX, None);
        let sums = work(&[&absurd, &absurd], EndedWork::default());
        assert_eq!(sums.shares_accepted, i64::MAX.unsigned_abs());
        let ended = EndedWork { shares_accepted: u64::MAX, ..EndedWork::default() };
        assert_eq!(work(&[&absurd], ended).shares_accepted, i64::MAX.unsigned_abs());
    }

    #[test]
    fn rates_have_three_digits() {
        for (number, expected) in [
            (0.0, "0"),
            (18.04, "18"),
            (999.4, "999"),
            (999.6, "1k"),
            (29_412_345.0, "29.4M"),
            (1_234.0, "1.23k"),
            (1e21, "1000E"),
        ] {
            assert_eq!(quantity(number), expected);
        }
    }
}
