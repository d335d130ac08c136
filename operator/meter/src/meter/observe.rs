//! Observations: leases, nodes, devices, readings and objects. Repeating one has no effect.

use std::collections::{BTreeMap, BTreeSet};

use daylight_base::{Name, Timestamp};
use rustc_hash::FxHashSet;

use super::Meter;
use crate::amount::Bounded;
use crate::config::Terms;
use crate::entry::{AuditorEvent, Entry};
use crate::lease::{Description, Facts, Lease, Program};
use crate::moment::Moment;
use crate::node::{Event, Node};
use crate::object::{ObjectKind, ObservedObject};
use crate::observed::{ObservedDevice, ObservedLease, Reading};
use crate::settings::ObservedSettings;

impl Meter {
    /// Records that a pod runs on a node. Its account counts as it was when its time was first booked;
    /// what it requests may change.
    pub fn lease(&mut self, seen: ObservedLease, now: Timestamp) {
        if let Some(node) = self.node_of.get(&seen.uid) {
            if let Some(node) = self.nodes.get_mut(node) {
                node.observe_again(seen, now);
            }
            return;
        }
        self.node_of.insert(seen.uid.clone(), seen.node.clone());
        let (name, lease) = lease(seen);
        self.node(&name, now).schedule(lease.from, Event::Begin(Box::new(lease)));
    }

    /// Returns whether a lease is known and has not ended.
    pub fn holds(&self, uid: &str) -> bool {
        self.node_of.contains_key(uid)
    }

    /// Returns the `namespace/name` of the pod of a lease that has not ended.
    pub fn pod_of(&self, uid: &str) -> Option<&Name> {
        let node = self.nodes.get(self.node_of.get(uid)?)?;
        let queued = node.queued_leases().find(|lease| *lease.uid == *uid);
        Some(&node.lease(uid).or(queued)?.pod)
    }

    /// Records that a pod no longer runs.
    ///
    /// A lease that is not in the books and whose end they have passed is ignored: it was booked
    /// before, or ended before the books began. If its pod waits to be released, neither is true,
    /// and it is closed late.
    pub fn ended(
        &mut self,
        seen: ObservedLease,
        ended: Moment,
        facts: Option<Facts>,
        now: Timestamp,
    ) {
        let uid = seen.uid.clone();
        if !self.node_of.contains_key(&uid) {
            // A node that holds no GPU is in the books only while leases are on it.
            if seen.gpus == 0 && !self.nodes.contains_key(&seen.node) && !seen.owed {
                let passed = Some(self.booked_until).filter(|until| *until != Timestamp(0));
                if ended.earliest <= passed.unwrap_or(now) {
                    return;
                }
            }
            let is_new = !self.nodes.contains_key(&seen.node);
            let terms = Terms { config: &self.config, counts: &self.counts };
            let node = self.nodes.entry(seen.node.clone()).or_insert_with(|| Node::new(now));
            if node.state.closed.contains(&uid) {
                return;
            }
            if ended.earliest <= node.state.booked_until {
                if seen.owed || (seen.gpus == 0 && is_new) {
                    node.close_late(lease(seen).1, ended, facts, &terms);
                }
                return;
            }
            self.lease(seen, now);
        }
        self.end(&uid, ended, facts, false);
    }

    /// Records the work of a lease so far. It counts if the end of the lease reports none.
    pub fn worked(&mut self, uid: &str, facts: Facts) {
        let node = self.node_of.get(uid).and_then(|node| self.nodes.get_mut(node));
        if let Some(lease) = node.and_then(|node| node.lease_mut(uid)) {
            lease.work = Some(facts);
        }
    }

    /// Records the pool of a node that is not in the books.
    pub fn was_of_pool(&mut self, node: &Name, pool: &Name, now: Timestamp) {
        self.nodes.entry(node.clone()).or_insert_with(|| {
            let mut node = Node::new(now);
            node.state.pool = Some(pool.clone());
            node
        });
    }

    /// Forgets a closed lease whose pod was released or is gone.
    pub fn forget(&mut self, uid: &str) {
        for node in self.nodes.values_mut().filter(|node| !node.state.closed.is_empty()) {
            node.state.closed.retain(|closed| **closed != *uid);
        }
    }

    /// Ends all leases whose pods are not in `present`, as [`Self::vanish`] does.
    pub fn vanished(&mut self, present: &FxHashSet<Name>, now: Timestamp) {
        let gone: BTreeSet<Name> =
            self.node_of.keys().filter(|uid| !present.contains(*uid)).cloned().collect();
        for uid in gone {
            self.vanish(&uid, now);
        }
    }

    /// Ends a lease whose end was not observed: it lies between the end of the books and `now`.
    pub fn vanish(&mut self, uid: &str, now: Timestamp) {
        let Some(node) = self.node_of.get(uid).and_then(|node| self.nodes.get(node)) else {
            return;
        };
        let known = node.lease(uid).map_or(node.state.booked_until, |lease| lease.from);
        let ended = Moment::between(known.max(node.state.booked_until), now);
        self.end(uid, ended, None, true);
    }

    fn end(&mut self, uid: &str, ended: Moment, facts: Option<Facts>, unseen: bool) {
        let Some(node) = self.node_of.get(uid).and_then(|node| self.nodes.get_mut(node)) else {
            return;
        };
        let began = node.queued_begin(uid);
        if node.has_queued_end(uid) || (node.lease(uid).is_none() && began.is_none()) {
            return;
        }
        // By whole seconds a short pod may end before it began; its events must not swap.
        let at = ended.earliest.max(began.unwrap_or(ended.earliest));
        node.schedule(at, Event::End { uid: uid.into(), ended, facts, unseen });
    }

    /// Records the devices of a node and the number of GPUs that it offers.
    pub fn devices(
        &mut self,
        name: &Name,
        pool: Option<&Name>,
        usable: u32,
        devices: &[ObservedDevice],
        now: Timestamp,
    ) {
        let node = self.node(name, now);
        node.schedule(
            now,
            Event::Devices { pool: pool.cloned(), usable, devices: devices.to_vec() },
        );
    }

    /// Records the boot ID of a node's machine. A new one means that all counters were reset, even
    /// those that have passed their old value since.
    pub fn boot(&mut self, name: &Name, boot: &Name, now: Timestamp) {
        let node = self.node(name, now);
        let state = &mut node.state;
        if state.boot.as_ref().is_some_and(|known| known != boot) {
            for device in &mut state.devices {
                device.resets += 1;
            }
            let joined = |id: &&Name| state.devices.iter().any(|device| device.seen.id == **id);
            let waiting: Vec<Name> =
                node.samples.keys().filter(|id| !joined(id)).cloned().collect();
            if !waiting.is_empty() {
                // `state` has no place for these devices. The old boot ID stays in it, so that after
                // a restart the reset is detected again.
                node.reset_before_joining.extend(waiting);
                return;
            }
        }
        state.boot = Some(boot.clone());
    }

    /// Records an exporter's answer, requested at `scraped.earliest` and complete at `scraped.latest`.
    pub fn readings(&mut self, name: &Name, scraped: Moment, readings: &[Reading]) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        for reading in readings {
            node.read(reading, scraped, &self.config);
        }
    }

    /// Records that a node is gone: its leases vanish and its devices leave.
    pub fn node_gone(&mut self, name: &Name, now: Timestamp) {
        let uids: Vec<Name> = self
            .node_of
            .iter()
            .filter(|(_, node)| *node == name)
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in uids {
            self.vanish(&uid, now);
        }
        if let Some(node) = self.nodes.get_mut(name) {
            node.schedule(
                now,
                Event::Devices { pool: node.state.pool.clone(), usable: 0, devices: Vec::new() },
            );
        }
    }

    /// Records what a lease on a node runs, as long as its end is in no entry.
    pub fn runs(&mut self, node: &str, uid: &str, program: Program) {
        let node = self.nodes.get_mut(node);
        if let Some(lease) = node.and_then(|node| node.unwritten_lease(uid)) {
            // A record of its end has no endpoints, and must not remove those that are known.
            let is_less =
                |known: &Program| program.endpoints.is_empty() && known.image == program.image;
            if !lease.program.as_deref().is_some_and(is_less) {
                lease.program = Some(Box::new(program));
            }
        }
    }

    /// Records what is observed of a lease on a node, as long as its end is in no entry.
    pub fn describe(&mut self, node: &str, uid: &str, seen: Description) {
        let node = self.nodes.get_mut(node);
        if let Some(lease) = node.and_then(|node| node.unwritten_lease(uid)) {
            lease.describe(seen);
        }
    }

    /// Records the current settings.
    pub fn settings(&mut self, seen: ObservedSettings, now: Timestamp) {
        self.entries.extend(self.register.observe_settings(seen, now));
    }

    /// Records that the auditor started or stopped.
    pub fn auditor(&mut self, event: AuditorEvent, version: &str, at: Timestamp) {
        self.entries.push(Entry::Auditor { at, event, version: version.into() });
    }

    /// Records the current version of an object.
    pub fn object(&mut self, seen: ObservedObject, now: Timestamp) {
        self.entries.extend(self.register.observe(seen, now));
    }

    /// Records that an object was deleted.
    pub fn object_gone(&mut self, kind: ObjectKind, name: &Name, now: Timestamp) {
        self.entries.extend(self.register.remove(kind, name, now));
    }

    /// Returns the last recorded version of an object.
    pub fn object_seen(&self, kind: ObjectKind, name: &Name) -> Option<&ObservedObject> {
        self.register.get(kind, name)
    }

    /// Iterates over the last recorded version of all objects.
    pub fn objects(&self) -> impl Iterator<Item = &ObservedObject> {
        self.register.entries().map(|entry| &entry.seen)
    }
}

/// Returns a new lease and its node.
fn lease(seen: ObservedLease) -> (Name, Lease) {
    let ObservedLease { uid, pod, node, gpus, requested, account, watts, bound, started, owed } =
        seen;
    let lease = Lease {
        uid,
        pod,
        account,
        gpus,
        requested,
        owed,
        watts,
        bound,
        started,
        from: bound.earliest,
        until: None,
        ended: None,
        operated_ms: 0,
        energy: Bounded::default(),
        methods: BTreeMap::new(),
        devices: Vec::new(),
        work: None,
        program: None,
        job: None,
        images: Vec::new(),
        more_images: 0,
        outcome: None,
    };
    (node, lease)
}
