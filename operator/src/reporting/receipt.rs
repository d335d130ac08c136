//! What an AI job used, added up from the entries of a ledger.

use std::collections::{BTreeMap, BTreeSet};

use daylight_base::{Name, Timestamp};
use daylight_meter::{
    Bounded, Closed, Entry, GapKind, Image, JobKind, JobReference, Lease, Method, Moment,
    NodeEntry, PodOutcome, Settled, decimal,
};
use serde::{Deserialize, Serialize};
use serde_with::{DisplayFromStr, serde_as, skip_serializing_none};

/// Job of which a receipt is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedJob {
    Uid(Name),
    /// As the entries have it: a ledger's have its pseudonym. Of several jobs that had the name one after
    /// the other, the last one that ended.
    Name(Name),
}

/// Figures of a job: those of its pods that have ended.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobFigures {
    /// As the entries have it.
    pub job: JobReference,
    /// Time at which the first pod was bound.
    pub start: Moment,
    /// Time at which the last pod ended.
    pub end: Moment,
    /// GPU-milliseconds: GPUs × time of each pod.
    pub gpu_ms: Bounded,
    /// By method, in millijoules.
    pub energy: Vec<MethodEnergy>,
    /// Pods whose energy is not yet booked to their end.
    #[serde(with = "decimal")]
    pub unsettled: u64,
    /// Pods by how they ended, `unseen` where that was not observed.
    pub outcomes: BTreeMap<Name, u64>,
    /// Pods that did not succeed, and after which another one began.
    #[serde(with = "decimal")]
    pub interrupted_pods: u64,
    /// Times in which at least one pod was bound. Between them the job was interrupted.
    pub runs: Vec<Run>,
    pub images: Vec<Image>,
    /// Number of further images, which were not recorded.
    #[serde(with = "decimal")]
    pub more_images: u64,
    pub devices: Vec<UsedDevice>,
    pub pods: Vec<PodFigures>,
}

/// Energy by one method.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodEnergy {
    /// `None` for what an auditor of an earlier version booked.
    pub method: Option<Method>,
    pub mj: Bounded,
}

/// Time in which at least one pod was bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub from: Timestamp,
    pub until: Timestamp,
}

/// Device that a job had.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UsedDevice {
    pub node: Name,
    pub id: Name,
    pub model: Option<Name>,
    /// `false` if it is one of several of which the job had some.
    pub certain: bool,
}

/// Figures of one pod.
#[serde_as]
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodFigures {
    pub uid: Name,
    pub node: Name,
    pub class: Option<Name>,
    pub gpus: u32,
    pub bound: Moment,
    pub ended: Moment,
    pub outcome: Option<PodOutcome>,
    pub gpu_ms: Bounded,
    pub energy: Vec<MethodEnergy>,
    /// Index of the entry that has its end.
    #[serde(with = "decimal")]
    pub closed: u64,
    /// Index of the entry that has all its energy; `None` until there is one.
    #[serde_as(as = "Option<DisplayFromStr>")]
    #[serde(default)]
    pub settled: Option<u64>,
}

/// Figures of a job, with what proves them.
#[derive(Clone, Debug)]
pub struct ProvedFigures {
    pub figures: JobFigures,
    /// By their index.
    pub entries: BTreeMap<u64, Vec<u8>>,
    /// UIDs of other jobs that had the name of the job.
    pub other_jobs: Vec<Name>,
}

/// Adds up the entries of a ledger that belong to a job. It saturates: a ledger may have any numbers.
///
/// [`JobReceipts::take`] takes all entries in order, or those that [`JobReceipts::finish`] returned.
#[derive(Debug)]
pub struct JobReceipts {
    wanted: WantedJob,
    /// Pods by UID.
    pods: BTreeMap<Name, Pod>,
    /// Devices of each node, by ID.
    devices: BTreeMap<Name, BTreeMap<Name, Option<Name>>>,
    /// Entries with changes of a node's devices.
    changes: BTreeMap<Name, Vec<u64>>,
    clocks: Vec<(u64, Timestamp, u64)>,
    kept: BTreeMap<u64, Vec<u8>>,
}

#[derive(Debug)]
struct Pod {
    closed: u64,
    node: Name,
    lease: Lease,
    ended: Moment,
    /// `true` if the books had passed its end, so that it is never settled.
    is_late: bool,
    /// Devices of its node when it ended.
    present: BTreeMap<Name, Option<Name>>,
    settled: Option<(u64, Settled)>,
}

impl JobReceipts {
    /// Returns figures without any entry.
    pub fn new(wanted: WantedJob) -> Self {
        Self {
            wanted,
            pods: BTreeMap::new(),
            devices: BTreeMap::new(),
            changes: BTreeMap::new(),
            clocks: Vec::new(),
            kept: BTreeMap::new(),
        }
    }

    /// Takes the next entry. Those of other programs count for nothing.
    pub fn take(&mut self, index: u64, bytes: &[u8]) {
        let Ok(entry) = serde_json::from_slice::<Entry>(bytes) else { return };
        let matters = match &entry {
            Entry::Node(node) => self.take_node(index, node),
            Entry::Nodes(nodes) => self.settle(index, &nodes.settled),
            Entry::Clock { at, back_ms } => {
                self.clocks.push((index, *at, *back_ms));
                true
            }
            _ => false,
        };
        if matters {
            self.kept.insert(index, bytes.to_vec());
        }
    }

    fn take_node(&mut self, index: u64, entry: &NodeEntry) -> bool {
        let devices = self.devices.entry(entry.node.clone()).or_default();
        let before = devices.clone();
        for change in &entry.devices {
            if change.joined {
                devices.insert(change.device.id.clone(), change.device.model.clone());
            } else {
                devices.remove(&change.device.id);
            }
        }
        let mut matters = !entry.devices.is_empty();
        if matters {
            self.changes.entry(entry.node.clone()).or_default().push(index);
        }
        // Devices that leave in the entry of its end were there.
        let mut present = before;
        present.extend(devices.clone());
        for Closed { lease, ended, facts: _ } in &entry.closed {
            if !self.is_wanted(lease) {
                continue;
            }
            let between = Moment::between(lease.bound.earliest, ended.latest);
            let is_late =
                entry.gaps.iter().any(|gap| gap.kind == GapKind::Late && gap.between == between);
            let pod = Pod {
                closed: index,
                node: entry.node.clone(),
                lease: lease.clone(),
                ended: *ended,
                is_late,
                present: present.clone(),
                settled: None,
            };
            self.pods.insert(lease.uid.clone(), pod);
            matters = true;
        }
        self.settle(index, &entry.settled) || matters
    }

    fn is_wanted(&self, lease: &Lease) -> bool {
        lease.job.as_ref().is_some_and(|job| match &self.wanted {
            WantedJob::Uid(uid) => job.uid == *uid,
            WantedJob::Name(name) => job.name == *name,
        })
    }

    fn settle(&mut self, index: u64, settled: &[Settled]) -> bool {
        let mut matters = false;
        for one in settled {
            if let Some(pod) = self.pods.get_mut(&one.uid) {
                pod.settled.get_or_insert((index, one.clone()));
                matters = true;
            }
        }
        matters
    }

    /// Returns `None` if no pod of the job has ended.
    pub fn finish(self) -> Option<ProvedFigures> {
        let Self { wanted: _, pods, devices: _, changes, clocks, mut kept } = self;
        let reference = |pod: &Pod| pod.lease.job.as_deref().cloned();
        let last = pods.values().max_by_key(|pod| (pod.ended.latest, pod.closed))?;
        let uid = reference(last)?.uid;
        let of_it = |pod: &&Pod| reference(pod).is_some_and(|job| job.uid == uid);
        let others: BTreeSet<Name> = pods
            .values()
            .filter(|pod| !of_it(pod))
            .filter_map(|pod| Some(reference(pod)?.uid))
            .collect();
        let mut own: Vec<&Pod> = pods.values().filter(of_it).collect();
        own.sort_by_key(|pod| (pod.lease.bound.earliest, &pod.lease.uid));
        let job = own.iter().filter_map(|pod| reference(pod)).min()?;

        let start = own.iter().map(|pod| pod.lease.bound).min_by_key(|at| at.earliest)?;
        let end = own.iter().map(|pod| pod.ended).max_by_key(|at| at.latest)?;
        let clocks: Vec<_> = clocks
            .into_iter()
            .filter(|(_, at, back_ms)| {
                at.plus_millis(*back_ms) >= start.earliest && *at <= end.latest
            })
            .collect();
        let figures: Vec<PodFigures> = own.iter().map(|pod| pod.figures(&clocks)).collect();

        // The entries: those of its pods, and what happened to the devices of their nodes until they ended.
        let mut proofs: BTreeSet<u64> = clocks.iter().map(|(index, ..)| *index).collect();
        for (pod, figures) in own.iter().zip(&figures) {
            proofs.extend([pod.closed].into_iter().chain(figures.settled));
            let changes = changes.get(&pod.node).into_iter().flatten();
            proofs.extend(changes.filter(|index| **index <= pod.closed));
        }
        kept.retain(|index, _| proofs.contains(index));

        let mut outcomes: BTreeMap<Name, u64> = BTreeMap::new();
        for pod in &own {
            let outcome = pod.lease.outcome.map_or("unseen", <&str>::from);
            *outcomes.entry(outcome.into()).or_default() += 1;
        }
        let begins_after =
            |pod: &Pod| own.iter().any(|other| other.lease.bound.latest >= pod.ended.earliest);
        let interrupted = own
            .iter()
            .filter(|pod| pod.lease.outcome != Some(PodOutcome::Succeeded) && begins_after(pod));
        let images: BTreeSet<(bool, &Image)> = own
            .iter()
            .flat_map(|pod| &pod.lease.images)
            .map(|image| (image.digest.is_none(), image))
            .collect();
        let sum = |mut sum: Bounded, more: Bounded| {
            sum.saturating_add(more);
            sum
        };
        let figures_of_job = JobFigures {
            job,
            start,
            end,
            gpu_ms: figures.iter().map(|pod| pod.gpu_ms).fold(Bounded::default(), sum),
            energy: add_up(figures.iter().flat_map(|pod| &pod.energy)),
            unsettled: own.iter().filter(|pod| !pod.is_settled()).count() as u64,
            outcomes,
            interrupted_pods: interrupted.count() as u64,
            runs: runs(&own),
            images: images.into_iter().map(|(_, image)| image.clone()).collect(),
            more_images: own.iter().map(|pod| u64::from(pod.lease.more_images)).max().unwrap_or(0),
            devices: devices_of(&own),
            pods: figures,
        };
        let other_jobs = others.into_iter().collect();
        Some(ProvedFigures { figures: figures_of_job, entries: kept, other_jobs })
    }
}

impl Pod {
    fn is_settled(&self) -> bool {
        self.settled.is_some() || self.is_late || self.lease.gpus == 0
    }

    fn figures(&self, clocks: &[(u64, Timestamp, u64)]) -> PodFigures {
        let Self { closed, node, lease, ended, is_late: _, present: _, settled } = self;
        let gpus = u64::from(lease.gpus);
        // Kubernetes records a beginning and an end in whole seconds.
        let value = gpus.saturating_mul(lease.operated_ms);
        let least = ended.earliest.millis_since(lease.bound.latest);
        let back = clocks
            .iter()
            .filter(|(_, at, back_ms)| {
                at.plus_millis(*back_ms) >= lease.bound.earliest && *at <= ended.latest
            })
            .fold(0, |sum: u64, (.., back_ms)| sum.saturating_add(*back_ms));
        let most = ended.latest.millis_since(lease.bound.earliest).saturating_add(back);
        let [least, most] = [least, most].map(|ms| gpus.saturating_mul(ms));
        let gpu_ms = Bounded {
            value,
            below: value.saturating_sub(least),
            above: most.saturating_sub(value),
        };
        let (total, methods) = match settled {
            Some((_, Settled { uid: _, energy, methods })) => (energy, methods),
            None => (&lease.energy, &lease.methods),
        };
        let mut energy: Vec<MethodEnergy> = methods
            .iter()
            .map(|(method, mj)| MethodEnergy { method: Some(*method), mj: *mj })
            .collect();
        let known = methods.iter().filter(|(method, _)| gpus == 0 || **method != Method::Declared);
        let known = known.fold(0, |sum: u64, (_, mj)| sum.saturating_add(mj.value));
        if total.value > known {
            let mj = Bounded { value: total.value - known, ..*total };
            energy.push(MethodEnergy { method: None, mj });
        }
        PodFigures {
            uid: lease.uid.clone(),
            node: node.clone(),
            class: lease.account.class.clone(),
            gpus: lease.gpus,
            bound: lease.bound,
            ended: *ended,
            outcome: lease.outcome,
            gpu_ms,
            energy,
            closed: *closed,
            settled: settled.as_ref().map(|(index, _)| *index),
        }
    }
}

fn add_up<'a>(lines: impl Iterator<Item = &'a MethodEnergy>) -> Vec<MethodEnergy> {
    let mut sums: BTreeMap<(bool, Option<Method>), Bounded> = BTreeMap::new();
    for MethodEnergy { method, mj } in lines {
        sums.entry((method.is_none(), *method)).or_default().saturating_add(*mj);
    }
    sums.into_iter().map(|((_, method), mj)| MethodEnergy { method, mj }).collect()
}

/// The times in which at least one of the pods was bound; `own` are in the order in which they began.
fn runs(own: &[&Pod]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for pod in own {
        let (from, until) = (pod.lease.bound.earliest, pod.ended.latest);
        match runs.last_mut() {
            Some(last) if from <= last.until => last.until = last.until.max(until),
            _ => runs.push(Run { from, until }),
        }
    }
    runs
}

/// The devices that an exporter's labels name for the pods; of a pod without, all that its node had.
fn devices_of(own: &[&Pod]) -> Vec<UsedDevice> {
    let mut used: BTreeMap<(Name, Name), (Option<Name>, bool)> = BTreeMap::new();
    for Pod { node, lease, present, .. } in own.iter().filter(|pod| pod.lease.gpus > 0) {
        let named = lease.devices.len() == lease.gpus as usize;
        for (id, model) in present {
            if named && !lease.devices.contains(id) {
                continue;
            }
            let certain = named || present.len() == lease.gpus as usize;
            let known = used.entry((node.clone(), id.clone())).or_insert((model.clone(), false));
            known.1 |= certain;
        }
    }
    let device = |((node, id), (model, certain))| UsedDevice { node, id, model, certain };
    used.into_iter().map(device).collect()
}

impl JobFigures {
    /// Name of the job's kind.
    pub fn kind(&self) -> &'static str {
        let kind: JobKind = self.job.kind;
        kind.into()
    }
}

#[cfg(test)]
mod tests;
