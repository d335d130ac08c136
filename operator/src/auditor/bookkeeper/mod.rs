//! The bookkeeper: feeds the meter with what the cluster, the exporters and the agents show.
//!
//! It is synchronous and has no clock: time is an argument.

mod leases;
mod nodes;
mod register;
#[cfg(test)]
mod tests;
mod unread;

use std::collections::BTreeMap;

use daylight_base::{Name, Timestamp};
use daylight_cluster::slim::{Node, Pod, VolumeClaim};
use daylight_cluster::store::Store;
use daylight_cluster::{Change, Changed, Cluster, Event, Kind, Touched};
use daylight_meter::{Meter, ObjectKind};
use rustc_hash::{FxHashMap, FxHashSet};

use super::agents::Agent;
use super::exporter::discovery::ExporterName;
use super::miner_work::MinersWork;
use crate::gpu_resources::GpuResources;
use crate::view::Unreleased;
use crate::view::authority::{Authority, Verdict};
use crate::view::pools::PoolMap;
use nodes::{Listed, NodeSent, is_numbered};
pub(super) use unread::{LateNode, UnreadEnergy};

/// Keeps the books.
///
/// 1. [`Bookkeeper::apply`] each event, from the first on.
/// 2. [`Bookkeeper::take_record`] the recorded ends of leases, then [`Bookkeeper::begin`], once the
///    cluster is complete. Nothing is booked before.
/// 3. [`Bookkeeper::refresh`] at least once a second, and advance the meter while
///    [`Bookkeeper::is_current`].
#[derive(Debug)]
pub(super) struct Bookkeeper {
    pub(super) cluster: Cluster,
    claims: Store<VolumeClaim>,
    pools: PoolMap,
    authority: Authority,
    /// The auditor's own verdicts on registrations.
    verdicts: FxHashMap<Name, Verdict>,
    unreleased: Unreleased,
    pub(super) meter: Meter,
    resources: GpuResources,
    trusted_images: Vec<String>,
    /// Exporters that the installation names.
    exporters: Vec<ExporterName>,
    /// `true` while nodes that no exporter has listed have no devices yet.
    awaits_exporters: bool,
    /// Agents that can be queried, by their pods' UIDs.
    pub(super) agents: FxHashMap<Name, Agent>,
    miners_work: MinersWork,
    listed: FxHashMap<Name, Listed>,
    /// Reason that the last scrape of a node's exporter failed, by node and number of the exporter.
    scrape_failures: BTreeMap<(Name, usize), String>,
    /// Time since when each node has had devices that no exporter lists.
    unlisted_since: FxHashMap<Name, Timestamp>,
    /// The most devices that each node has offered.
    offered: FxHashMap<Name, u32>,
    /// The last state of each node that was sent to the meter.
    node_sent: FxHashMap<Name, NodeSent>,
    /// Mode of the admission policies, as the installation names it.
    admission_mode: Option<Name>,
    ledger_keys: Vec<Name>,
    warm_at: Option<Timestamp>,
    /// End of the books that this process continues: no lease that began before is unknown.
    books_until: Timestamp,
}

/// Most GPUs of one node: more than any has, cut into the smallest partitions.
pub(super) const MOST_GPUS: u32 = 1024;

/// Milliseconds before the end of the books from which a beginning may still be unknown to them.
const UNWRITTEN_MS: u64 = 60_000;

/// Settings of the books.
#[derive(Clone, Debug, Default)]
pub(super) struct BookSettings {
    /// Extended resources that are GPUs, in addition to those that pools name.
    pub(super) resources: GpuResources,
    /// Patterns of images from which the evidence `seen` counts.
    pub(super) trusted_images: Vec<String>,
    /// Exporters that the installation names.
    pub(super) exporters: Vec<ExporterName>,
    /// `true` if approvals count only with the authority's signature.
    pub(super) signature_required: bool,
    /// Mode of the admission policies, to be recorded.
    pub(super) admission_mode: Option<Name>,
    /// Public keys that sign the ledger, to be recorded.
    pub(super) ledger_keys: Vec<Name>,
}

impl Bookkeeper {
    /// Books that continue those of `meter`.
    pub(super) fn new(meter: Meter, settings: BookSettings) -> Self {
        let BookSettings {
            resources,
            trusted_images,
            exporters,
            signature_required,
            admission_mode,
            ledger_keys,
        } = settings;
        // Until the first scrape, a node keeps the devices that the books have. If they left and
        // joined again, each restart would be a gap in their energy.
        let listed = meter
            .nodes()
            .map(|node| (node.clone(), meter.devices_of(node)))
            .filter(|(node, devices)| devices.iter().any(|device| !is_numbered(node, &device.id)))
            .map(|(node, devices)| (node, Listed::restored(devices)))
            .collect();
        let books_until = meter.booked_until().minus_millis(UNWRITTEN_MS);
        Self {
            cluster: Cluster::default(),
            claims: Store::default(),
            pools: PoolMap::default(),
            authority: Authority::new(signature_required),
            verdicts: FxHashMap::default(),
            unreleased: Unreleased::default(),
            meter,
            resources,
            trusted_images,
            awaits_exporters: !exporters.is_empty(),
            exporters,
            agents: FxHashMap::default(),
            miners_work: MinersWork::default(),
            listed,
            scrape_failures: BTreeMap::new(),
            unlisted_since: FxHashMap::default(),
            offered: FxHashMap::default(),
            node_sent: FxHashMap::default(),
            admission_mode,
            ledger_keys,
            warm_at: None,
            books_until,
        }
    }

    /// Returns `true` if the installation names an exporter.
    pub(super) fn has_exporter(&self) -> bool {
        !self.exporters.is_empty()
    }

    /// Returns `true` once everything is listed. Claims that cannot be listed hold nothing up: storage is
    /// not booked then.
    pub(super) fn is_complete(&self) -> bool {
        let claims = self.claims.listed().is_some() || self.claims.failure().is_some();
        claims && self.cluster.is_complete()
    }

    /// Takes in a change of a volume claim.
    pub(super) fn apply_claim(&mut self, change: Change<VolumeClaim>, now: Timestamp) {
        let bytes = |claim: Option<&VolumeClaim>| claim.map_or(0, |claim| claim.bytes);
        let mut changed = self.claims.apply(change);
        changed.retain(|Changed { key, before }| {
            bytes(self.claims.get(key)) != bytes(before.as_deref())
        });
        if changed.is_empty() || self.warm_at.is_none() {
            return;
        }
        let changed: FxHashSet<Name> = changed.into_iter().map(|changed| changed.key).collect();
        let has_one = |pod: &&Pod| {
            let mut claims = pod.claims.iter();
            claims.any(|claim| changed.contains(&*format!("{}/{claim}", pod.namespace())))
        };
        let pods: Vec<Pod> = self.cluster.pods().filter(has_one).cloned().collect();
        for pod in &pods {
            self.observe_pod(pod, now);
        }
    }

    /// Returns `true` once [`Bookkeeper::begin`] was called.
    pub(super) fn is_warm(&self) -> bool {
        self.warm_at.is_some()
    }

    /// Takes in what a watch observed.
    pub(super) fn apply(&mut self, event: Event, now: Timestamp) {
        let listed = event.completes_list();
        let touched = self.cluster.apply(event);
        match &touched {
            Touched::Pod(changed) => {
                for Changed { key, .. } in changed {
                    self.unreleased.track(key, self.cluster.pod(key), now);
                }
            }
            Touched::GpuPool(_) => {
                self.pools.rebuild(&mut self.cluster);
            }
            Touched::AuthorityKeys(_) => self.authority.read_keys(&self.cluster),
            _ => {}
        }
        if self.warm_at.is_none() {
            return;
        }
        let is_longer = match &touched {
            Touched::ActivityClass(changed) => changed.iter().any(|one| one.before.is_none()),
            Touched::Registration(changed) => changed.iter().any(|one| one.before.is_none()),
            _ => false,
        };
        match touched {
            Touched::Pod(_) if listed => self.observe_all(now),
            Touched::Pod(changed) => self.pods_changed(&changed, now),
            Touched::Node(_) if listed => self.observe_nodes(now),
            Touched::Node(changed) => {
                for Changed { key, .. } in changed {
                    self.observe_node(&key, now);
                }
            }
            Touched::Registration(changed) if !listed => {
                for Changed { key, .. } in changed {
                    self.observe_object(ObjectKind::Registration, &key, now);
                }
            }
            Touched::GpuPool(changed)
                if !listed && self.any_edited(ObjectKind::GpuPool, &changed) =>
            {
                self.observe_register(now);
                self.observe_nodes(now);
            }
            // A status changes all the time, and only an edit of a spec matters.
            Touched::GpuPool(_) if !listed => {}
            Touched::ActivityClass(changed)
                if !listed && !self.any_edited(ObjectKind::ActivityClass, &changed) => {}
            Touched::Registration(_)
            | Touched::ActivityClass(_)
            | Touched::GpuPool(_)
            | Touched::AuthorityKeys(_) => self.observe_register(now),
            Touched::EmergencyStop(_) => self.observe_settings(now),
            Touched::Namespace(changed) => {
                for Changed { key, before } in changed {
                    let class = self.cluster.namespace(&key).and_then(|it| it.activity.clone());
                    if class != before.and_then(|before| before.activity) {
                        self.observe_namespace(&key, now);
                    }
                }
            }
            _ => {}
        }
        if is_longer {
            self.list_again(now);
        }
    }

    fn any_edited<T>(&self, kind: ObjectKind, changed: &[Changed<T>]) -> bool {
        changed.iter().any(|changed| self.is_edited(kind, &changed.key))
    }

    /// Books from now on. The cluster must be complete.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.warm_at = Some(now);
        // Pods first: what they name may have been deleted meanwhile, and the register forgets it.
        self.observe_all(now);
        self.observe_register(now);
    }

    fn observe_all(&mut self, now: Timestamp) {
        self.observe_nodes(now);
        let pods: Vec<Pod> = self.cluster.pods().cloned().collect();
        for pod in &pods {
            self.observe_pod(pod, now);
        }
        // Leases in the books without a pod in the list ended at an unknown time.
        let present: FxHashSet<Name> = pods.iter().map(|pod| Name::from(&*pod.uid)).collect();
        self.meter.vanished(&present, now);
    }

    /// Adds up the GPUs among extended resources; `None` if there is none.
    fn gpus(&self, extended: &[(Name, u32)]) -> Option<u32> {
        let counts = extended.iter().filter(|(resource, _)| self.is_gpu(resource));
        let gpus = counts.fold(0_u32, |sum, (_, count)| sum.saturating_add(*count));
        (gpus > 0).then_some(gpus)
    }

    fn is_gpu(&self, resource: &str) -> bool {
        self.pools.has_resource(resource) || self.resources.have(resource)
    }

    /// The most GPUs that a pod can hold on a node: as many as it has ever offered. Of a node that is
    /// not known, or that has offered none yet, as many as any other.
    fn most_gpus(&self, node: &str) -> u32 {
        let offers = |node: &Node| self.gpus(&node.allocatable.extended).unwrap_or_default();
        let offered = self.offered.get(node).copied().unwrap_or_default();
        let now = self.cluster.node(node).map_or(0, offers);
        let listed = u32::try_from(self.meter.devices_of(node).len()).unwrap_or(MOST_GPUS);
        let most = match offered.max(now).max(listed) {
            0 => self.cluster.nodes().map(offers).max().filter(|most| *most > 0),
            most => Some(most),
        };
        most.unwrap_or(MOST_GPUS).min(MOST_GPUS)
    }

    /// Returns `true` if time can be booked: every watch that shows leases works. An interrupted
    /// watch may hide an end, and time that was booked to the lease after it would stay booked.
    pub(super) fn is_current(&self) -> bool {
        self.is_warm()
            && [Kind::Pod, Kind::Node]
                .iter()
                .all(|kind| self.cluster.watch_failure(*kind).is_none())
    }
}
