//! What the agents of a miner say of their work, added up for its status.
//!
//! For eyes only: what counts is in the books, by registration. A total that was shown goes on
//! from there when the auditor starts again.

use daylight_base::Name;
use daylight_crds::{EndedWork, Miner, MinerWork};
use daylight_meter::Facts;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::json;

use super::say::MANAGER;
use crate::api_requests::{self, ApiRequest};

/// What an agent says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Says {
    /// Its work so far.
    pub(super) facts: Facts,
    /// Hashes per second.
    pub(super) hashrate: Option<f64>,
    /// What it lacks, as one word, if it does not work.
    pub(super) not_ready: Option<Name>,
}

/// The work of all miners, as far as their agents say.
#[derive(Debug, Default)]
pub(super) struct Miners {
    /// Pods that run, by UID, with their miner.
    live: FxHashMap<Name, (Name, Says)>,
    /// What pods that have ended did, by miner: what was shown as the auditor began, and more since.
    ended: FxHashMap<Name, EndedWork>,
    /// Pods that have ended, are in that, and are still there.
    counted: FxHashSet<Name>,
    /// What ended before it was known what is shown of its miner.
    newly: FxHashMap<Name, EndedWork>,
}

impl Miners {
    /// The agent of a pod of `miner` says how it is.
    pub(super) fn said(&mut self, uid: &Name, miner: &Name, says: Says) {
        self.live.insert(uid.clone(), (miner.clone(), says));
    }

    /// A pod has ended, and says of its work what `facts` are; where it says nothing, what it said
    /// last counts. It may be told again until the pod is `gone`.
    pub(super) fn ended(&mut self, uid: &Name, miner: &Name, facts: Option<Facts>, gone: bool) {
        let last = self.live.remove(uid).map(|(_, says)| says.facts);
        let is_new = self.counted.insert(uid.clone());
        if gone {
            self.counted.remove(uid);
        }
        if let Some(facts) = facts.or(last).filter(|_| is_new) {
            let sums = match self.ended.get_mut(miner) {
                Some(sums) => sums,
                None => self.newly.entry(miner.clone()).or_default(),
            };
            sums.shares_accepted += facts.shares_accepted;
            sums.shares_rejected += facts.shares_rejected;
        }
    }

    /// The statuses that have changed, of all `miners` there are.
    pub(super) fn due<'a>(
        &mut self,
        miners: impl Iterator<Item = (&'a Name, &'a Miner)>,
    ) -> Vec<ApiRequest> {
        let mut live: FxHashMap<&str, Vec<&Says>> = FxHashMap::default();
        for (miner, says) in self.live.values() {
            live.entry(miner).or_default().push(says);
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
            if let Some(newly) = self.newly.remove(key) {
                sums.shares_accepted += newly.shares_accepted;
                sums.shares_rejected += newly.shares_rejected;
            }
            ended.insert(key.clone(), sums);
            let live = live.get(&**key).map_or(&[][..], Vec::as_slice);
            if live.is_empty() && shown.is_none() && sums == EndedWork::default() {
                continue;
            }
            let wanted = work(live, sums);
            let Some(uid) = miner.metadata.uid.as_deref().filter(|_| shown != Some(&wanted)) else {
                continue;
            };
            let status = json!({ "work": wanted });
            writes.push(api_requests::apply_status::<Miner>(key, uid, MANAGER, &status));
        }
        // Those that are gone are forgotten.
        self.ended = ended;
        self.newly.clear();
        writes
    }
}

fn work(live: &[&Says], ended: EndedWork) -> MinerWork {
    let sum = |of: fn(&Facts) -> u64| live.iter().map(|says| of(&says.facts)).sum::<u64>();
    let mut lacking: FxHashMap<&str, u32> = FxHashMap::default();
    for word in live.iter().filter_map(|says| says.not_ready.as_deref()) {
        *lacking.entry(word).or_default() += 1;
    }
    let most = lacking.iter().max_by_key(|(word, count)| (**count, **word));
    MinerWork {
        hashrate: quantity(live.iter().filter_map(|says| says.hashrate).sum()),
        shares_accepted: ended.shares_accepted + sum(|facts| facts.shares_accepted),
        shares_rejected: ended.shares_rejected + sum(|facts| facts.shares_rejected),
        ended,
        replicas: live.len() as u32,
        not_ready: most.map(|(word, _)| (*word).to_owned()),
        not_ready_replicas: lacking.values().sum(),
    }
}

/// A number as a quantity of Kubernetes with three digits.
fn quantity(number: f64) -> String {
    // The sum of nothing is -0.
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

    fn says(accepted: u64, hashrate: f64, not_ready: Option<&str>) -> Says {
        let facts = Facts { shares_accepted: accepted, shares_rejected: 1, ..Facts::default() };
        Says { facts, hashrate: Some(hashrate), not_ready: not_ready.map(Name::from) }
    }

    fn shown(writes: &[ApiRequest]) -> MinerWork {
        let [write] = writes else { panic!("{writes:?}") };
        let body: serde_json::Value = serde_json::from_slice(&write.body).unwrap();
        serde_json::from_value(body["status"]["work"].clone()).unwrap()
    }

    #[test]
    fn totals_go_on_over_ends_and_restarts_of_the_auditor() {
        let key: Name = "team/m".into();
        let mut miner: Miner = serde_json::from_value(json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "Miner",
            "metadata": {"name": "m", "namespace": "team", "uid": "1"},
            "spec": {"registration": "r", "image": "i"},
        }))
        .unwrap();
        let mut miners = Miners::default();
        assert_eq!(miners.due([(&key, &miner)].into_iter()).len(), 0);
        miners.said(&"a".into(), &key, says(7, 29.4e6, None));
        miners.said(&"b".into(), &key, says(5, 0.0, Some("PoolUnreachable")));
        let first = shown(&miners.due([(&key, &miner)].into_iter()));
        assert_eq!((first.shares_accepted, first.shares_rejected), (12, 2));
        assert_eq!((&*first.hashrate, first.replicas), ("29.4M", 2));
        let lacks = (first.not_ready.as_deref(), first.not_ready_replicas);
        assert_eq!(lacks, (Some("PoolUnreachable"), 1));

        let status = |work| daylight_crds::MinerStatus { work: Some(work), ..Default::default() };
        miner.status = Some(status(first));
        assert_eq!(miners.due([(&key, &miner)].into_iter()).len(), 0, "nothing is new");

        let last = Facts { shares_accepted: 9, ..Facts::default() };
        miners.ended(&"a".into(), &key, Some(last), false);
        // A pod that ended is told of again until it is gone.
        miners.ended(&"a".into(), &key, Some(last), false);
        miners.ended(&"a".into(), &key, Some(last), true);
        miners.ended(&"b".into(), &key, None, true);
        let second = shown(&miners.due([(&key, &miner)].into_iter()));
        assert_eq!((second.shares_accepted, second.ended.shares_accepted), (14, 14));
        assert_eq!((&*second.hashrate, second.replicas, second.not_ready.clone()), ("0", 0, None));
        // Once more before the watch has shown it.
        let same = shown(&miners.due([(&key, &miner)].into_iter()));
        assert_eq!(same, second);

        miner.status = Some(status(second));
        let mut again = Miners::default();
        again.said(&"c".into(), &key, says(1, 10.0, None));
        assert_eq!(shown(&again.due([(&key, &miner)].into_iter())).shares_accepted, 15);
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
