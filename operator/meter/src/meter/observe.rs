//! What the meter takes in: leases, devices, readings and objects.

use std::collections::BTreeSet;

use daylight_base::{Name, Timestamp};
use rustc_hash::FxHashSet;

use super::Meter;
use crate::amount::Bounded;
use crate::config::Terms;
use crate::lease::{Facts, Lease};
use crate::moment::Moment;
use crate::node::{Event, Node};
use crate::object::{ObjectKind, ObjectSeen};
use crate::observe::{DeviceSeen, LeaseSeen, Reading};

impl Meter {
    /// A pod holds GPUs. To say it again changes nothing.
    pub fn lease(&mut self, seen: LeaseSeen, now: Timestamp) {
        if self.at.contains_key(&seen.uid) {
            return;
        }
        self.at.insert(seen.uid.clone(), seen.node.clone());
        let (name, lease) = lease(seen);
        self.node(&name, now).at(lease.from, Event::Begin(lease));
    }

    /// Whether a lease is in the books and has not ended.
    pub fn holds(&self, uid: &str) -> bool {
        self.at.contains_key(uid)
    }

    /// A pod that held GPUs holds them no more. One that the books never had, and whose end they
    /// have passed, was booked before, or ended before the books began; unless it waits to be let
    /// go: then it is closed late.
    pub fn ended(&mut self, seen: LeaseSeen, ended: Moment, facts: Option<Facts>, now: Timestamp) {
        let uid = seen.uid.clone();
        if !self.at.contains_key(&uid) {
            let terms = Terms { config: &self.config, periods: &self.periods };
            let node = self.nodes.entry(seen.node.clone()).or_insert_with(|| Node::new(now));
            if node.state.closed.contains(&uid) {
                return;
            }
            if ended.earliest <= node.state.booked_until {
                if seen.owed {
                    node.close_late(lease(seen).1, ended, facts, &terms);
                }
                return;
            }
            self.lease(seen, now);
        }
        self.end(&uid, ended, facts, false);
    }

    /// What a lease says of its work so far: it counts where its end brings no other word.
    pub fn worked(&mut self, uid: &str, facts: Facts) {
        let node = self.at.get(uid).and_then(|node| self.nodes.get_mut(node));
        let lease = node.and_then(|node| {
            node.state.leases.iter_mut().find(|lease| *lease.uid == *uid && lease.until.is_none())
        });
        if let Some(lease) = lease {
            lease.work = Some(facts);
        }
    }

    /// Says of which pool a node was that the books do not have, or have no more.
    pub fn was_of_pool(&mut self, node: &Name, pool: &Name, now: Timestamp) {
        self.nodes.entry(node.clone()).or_insert_with(|| {
            let mut node = Node::new(now);
            node.state.pool = Some(pool.clone());
            node
        });
    }

    /// A pod was let go, or is gone: its end needs not be remembered.
    pub fn forget(&mut self, uid: &str) {
        for node in self.nodes.values_mut().filter(|node| !node.state.closed.is_empty()) {
            node.state.closed.retain(|closed| **closed != *uid);
        }
    }

    /// Pods that are not there any more, and whose end nobody saw: somewhere between when they
    /// were last known to hold their GPUs and `now`.
    pub fn vanished(&mut self, present: &FxHashSet<Name>, now: Timestamp) {
        let gone: BTreeSet<Name> =
            self.at.keys().filter(|uid| !present.contains(*uid)).cloned().collect();
        for uid in gone {
            self.vanish(&uid, now);
        }
    }

    /// The same for one pod.
    pub fn vanish(&mut self, uid: &str, now: Timestamp) {
        let Some(node) = self.at.get(uid).and_then(|node| self.nodes.get(node)) else { return };
        let known = node.lease(uid).map_or(node.state.booked_until, |lease| lease.from);
        let ended = Moment::between(known.max(node.state.booked_until), now);
        self.end(uid, ended, None, true);
    }

    fn end(&mut self, uid: &str, ended: Moment, facts: Option<Facts>, unseen: bool) {
        let Some(node) = self.at.get(uid).and_then(|node| self.nodes.get_mut(node)) else {
            return;
        };
        let began = node.began_at(uid);
        if node.is_ending(uid) || (node.lease(uid).is_none() && began.is_none()) {
            return;
        }
        // Whole seconds may say that it ended before it began.
        let at = ended.earliest.max(began.unwrap_or(ended.earliest));
        node.at(at, Event::End { uid: uid.into(), ended, facts, unseen });
    }

    /// The devices of a node, and how many of them it offers.
    pub fn devices(
        &mut self,
        name: &Name,
        pool: Option<&Name>,
        usable: u32,
        devices: &[DeviceSeen],
        now: Timestamp,
    ) {
        let node = self.node(name, now);
        node.at(now, Event::Devices { pool: pool.cloned(), usable, devices: devices.to_vec() });
    }

    /// Which boot of its machine a node is. With another one, its devices' counters began again,
    /// even where they have passed what they said before.
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
                // Said again until those have joined, and what is durable tells of it.
                node.began_again.extend(waiting);
                return;
            }
        }
        state.boot = Some(boot.clone());
    }

    /// What an exporter says of a node's devices. It was asked at `asked.earliest`, and had
    /// answered at `asked.latest`.
    pub fn readings(&mut self, name: &Name, asked: Moment, readings: &[Reading]) {
        let refresh = self.config.refresh_ms;
        let Some(node) = self.nodes.get_mut(name) else { return };
        for reading in readings {
            node.read(reading, asked, refresh);
        }
    }

    /// A node is gone, and with it whatever was on it: somewhere between when it was last known
    /// and `now`.
    pub fn node_gone(&mut self, name: &Name, now: Timestamp) {
        let uids: Vec<Name> =
            self.at.iter().filter(|(_, node)| *node == name).map(|(uid, _)| uid.clone()).collect();
        for uid in uids {
            self.vanish(&uid, now);
        }
        if let Some(node) = self.nodes.get_mut(name) {
            node.at(
                now,
                Event::Devices { pool: node.state.pool.clone(), usable: 0, devices: Vec::new() },
            );
        }
    }

    /// A registration, a class or a pool as it is seen. To say it again changes nothing.
    pub fn object(&mut self, seen: ObjectSeen, now: Timestamp) {
        self.entries.extend(self.register.see(seen, now));
    }

    /// Such an object is gone.
    pub fn object_gone(&mut self, kind: ObjectKind, name: &Name, now: Timestamp) {
        self.entries.extend(self.register.lose(kind, name, now));
    }

    /// How an object was last seen.
    pub fn object_seen(&self, kind: ObjectKind, name: &Name) -> Option<&ObjectSeen> {
        self.register.get(kind, name)
    }

    /// The objects that are on record, as they were last seen.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectSeen> {
        self.register.entries().map(|entry| &entry.seen)
    }
}

/// A lease as it begins in the books, and its node.
fn lease(seen: LeaseSeen) -> (Name, Lease) {
    let LeaseSeen { uid, pod, node, gpus, account, watts, bound, started, owed } = seen;
    let lease = Lease {
        uid,
        pod,
        account,
        gpus,
        owed,
        watts,
        bound,
        started,
        from: bound.earliest,
        until: None,
        ended: None,
        energy: Bounded::default(),
        work: None,
    };
    (node, lease)
}
