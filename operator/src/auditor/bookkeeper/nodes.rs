//! Nodes and their devices: listed by an exporter, or else counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use daylight_base::{Name, Timestamp};
use daylight_exposition::DeviceReading;
use daylight_meter::{Moment, ObservedDevice, Reading};
use rustc_hash::FxHashSet;

use super::{Bookkeeper, MOST_GPUS};
use crate::auditor::exporter::scrape::Scrape;
use crate::auditor::poll::Answer;

/// Milliseconds after the start during which a node without a scrape has no devices yet. Devices
/// that are only counted would leave the books again as soon as the exporter names them.
const EXPORTER_WITHIN_MS: u64 = 60_000;

/// State of a node, as the meter takes it.
#[derive(Debug, PartialEq)]
pub(super) struct NodeSent {
    pub(super) pool: Option<Name>,
    /// Devices that the node offers.
    usable: u32,
    pub(super) devices: Vec<ObservedDevice>,
}

/// Devices of a node as exporters list them.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// Those that the books had at the start, until every exporter has answered or had the time to.
    restored: Vec<ObservedDevice>,
    /// By the number of the exporter.
    by_exporter: BTreeMap<usize, Vec<ObservedDevice>>,
}

impl Listed {
    pub(super) fn restored(devices: Vec<ObservedDevice>) -> Self {
        Self { restored: devices, ..Self::default() }
    }

    /// Returns all devices, each once.
    fn devices(&self) -> Vec<ObservedDevice> {
        let mut devices: Vec<ObservedDevice> = Vec::new();
        for device in self.by_exporter.values().flatten().chain(&self.restored) {
            if devices.iter().all(|known| known.id != device.id) {
                devices.push(device.clone());
            }
        }
        devices
    }
}

impl Bookkeeper {
    pub(super) fn observe_nodes(&mut self, now: Timestamp) {
        let known: FxHashSet<Name> = self.cluster.nodes().map(|node| node.name.clone()).collect();
        let gone: Vec<Name> =
            self.meter.nodes().filter(|node| !known.contains(*node)).cloned().collect();
        for name in known.into_iter().chain(gone) {
            self.observe_node(&name, now);
        }
    }

    pub(super) fn observe_node(&mut self, name: &Name, now: Timestamp) {
        let Some(node) = self.cluster.node(name) else {
            let was_sent = self.node_sent.remove(name).is_some();
            if was_sent || self.meter.nodes().any(|node| node == name) {
                self.meter.node_gone(name, now);
            }
            self.listed.remove(name);
            self.unlisted_since.remove(name);
            self.scrape_failures.retain(|(node, _), _| node != name);
            self.offered.remove(name);
            return;
        };
        let (boot, extended) = (node.boot.clone(), &node.allocatable.extended);
        // A node that offers no GPU at the moment, as while its device plugin restarts, stays in its
        // pool, and its devices are unavailable.
        let offers = extended.iter().filter(|(_, count)| *count > 0);
        let pool = { offers }
            .find_map(|(resource, _)| self.pools.pool_of(node, resource).cloned())
            .or_else(|| self.node_sent.get(name).and_then(|sent| sent.pool.clone()));
        let usable = self.gpus(extended).unwrap_or_default().min(MOST_GPUS);
        let most = self.offered.entry(name.clone()).or_default();
        *most = usable.max(*most);
        let waits = self.awaits_exporters
            && self.warm_at.is_none_or(|at| now.millis_since(at) < EXPORTER_WITHIN_MS);
        let devices = match self.listed.get(name) {
            Some(listed) => listed.devices(),
            None if waits => Vec::new(),
            None => numbered(name, *most),
        };
        if devices.is_empty() && !self.node_sent.contains_key(name) {
            return;
        }
        if self.listed.contains_key(name) {
            self.unlisted_since.remove(name);
        } else {
            self.unlisted_since.entry(name.clone()).or_insert(now);
        }
        // Before the devices: a boot resets their counters.
        if let Some(boot) = boot {
            self.meter.boot(name, &boot, now);
        }
        let node = NodeSent { pool, usable, devices };
        if self.node_sent.get(name) != Some(&node) {
            self.meter.devices(name, node.pool.as_ref(), node.usable, &node.devices, now);
            self.node_sent.insert(name.clone(), node);
        }
    }

    /// Takes the answer of an exporter.
    pub(in crate::auditor) fn scraped(&mut self, scrape: &Scrape, now: Timestamp) {
        let Scrape { exporter, answer } = scrape;
        let Answer { from: node, asked, answered, content } = answer;
        if self.cluster.node(node).is_none() {
            return;
        }
        let readings = match content {
            Ok(readings) => readings,
            Err(reason) => {
                self.scrape_failures.insert((node.clone(), *exporter), reason.clone());
                return;
            }
        };
        self.scrape_failures.remove(&(node.clone(), *exporter));
        let id = |reading: &DeviceReading| Name::from(reading.id.on(node));
        let devices: Vec<ObservedDevice> = readings
            .iter()
            .map(|reading| ObservedDevice {
                id: id(reading),
                model: reading.model.as_deref().map(Name::from),
                limit_mw: reading.limit_mw,
            })
            .collect();
        let listed = self.listed.entry(node.clone()).or_default();
        if listed.by_exporter.get(exporter) != Some(&devices) {
            listed.by_exporter.insert(*exporter, devices);
            if listed.by_exporter.len() >= self.exporters.len() {
                listed.restored.clear();
            }
            self.observe_node(node, now);
        }
        let readings: Vec<Reading> = readings
            .iter()
            .map(|reading| Reading {
                device: id(reading),
                counter_mj: reading.energy_mj,
                power_mw: reading.power_mw,
                holder: reading
                    .holder
                    .as_ref()
                    .map(|(namespace, pod)| Arc::from(format!("{namespace}/{pod}"))),
            })
            .collect();
        self.meter.readings(node, Moment::between(*asked, *answered), &readings);
    }

    /// Applies what depends on time alone.
    pub(in crate::auditor) fn refresh(&mut self, now: Timestamp) {
        if self.warm_at.is_some_and(|at| now.millis_since(at) >= EXPORTER_WITHIN_MS)
            && self.awaits_exporters
        {
            // Once: devices of nodes without a scrape are only counted from now on.
            self.awaits_exporters = false;
            for listed in self.listed.values_mut().filter(|listed| !listed.by_exporter.is_empty()) {
                listed.restored.clear();
            }
            self.observe_nodes(now);
        }
    }

    /// Number of nodes whose devices an exporter names, and number of those whose devices are only
    /// counted.
    pub(in crate::auditor) fn nodes_by_source(&self) -> (usize, usize) {
        let named = self.node_sent.keys().filter(|node| self.listed.contains_key(*node)).count();
        (named, self.node_sent.len() - named)
    }
}

/// Devices that only a number distinguishes.
fn numbered(node: &Name, count: u32) -> Vec<ObservedDevice> {
    (0..count)
        .map(|number| ObservedDevice {
            id: format!("{node}/{number}").into(),
            model: None,
            limit_mw: None,
        })
        .collect()
}

/// Returns `true` for the id of a device of [`numbered`].
pub(super) fn is_numbered(node: &str, device: &str) -> bool {
    device.strip_prefix(node).is_some_and(|rest| rest.starts_with('/'))
}
