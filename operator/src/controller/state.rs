//! The state of the main loop, apart from plan and executor.

use std::time::{Duration, Instant};

use daylight_base::{Name, Timestamp};
use daylight_cluster::Kind;
use daylight_planner::model::{Delta, Snapshot};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource as _;

use super::events::{Events, Notice};
use super::gang_refusals::GangRefusals;
use super::gang_services::GangServices;
use super::metrics::Metrics;
use super::refusals::{Cause, Refusals};
use super::waits::Waits;
use crate::clock::wall_clock;
use crate::metric_table::signed;
use crate::view::View;

/// The consequence of a picture of the cluster that may be stale.
pub const NO_GRANTS_WHILE_STALE: &str = "The API server does not report changes in time, so no miner \
     starts until it does; AI jobs displace miners as before. Check the API server and the way to it.";

/// The state that the parts of the main loop share.
pub struct State {
    pub view: View,
    /// Changes from the view that the planner has not received yet.
    pub deltas: Vec<Delta>,
    pub events: Events,
    pub metrics: Metrics,
    pub refusals: Refusals,
    pub gang_refusals: GangRefusals,
    pub gang_services: GangServices,
    pub waits: Waits,
    /// Kinds of which changes may be missing, as last noted, and the time since when there are any.
    stale: Vec<Kind>,
    stale_since: Option<Instant>,
    /// Now, by the wall clock and by the monotonic one.
    pub now: Timestamp,
    /// See `now`.
    pub instant: Instant,
}

impl State {
    /// The state at the start.
    pub fn new(view: View, events: Events, metrics: Metrics) -> Self {
        Self {
            view,
            deltas: Vec::new(),
            events,
            metrics,
            refusals: Refusals::default(),
            gang_refusals: GangRefusals::default(),
            gang_services: GangServices::default(),
            waits: Waits::default(),
            stale: Vec::new(),
            stale_since: None,
            now: wall_clock(),
            instant: Instant::now(),
        }
    }

    /// Reads the clocks.
    pub fn tick(&mut self) {
        let before = self.instant;
        self.instant = Instant::now();
        self.now = wall_clock();
        self.view.tick(self.now, self.instant, &mut self.deltas);
        self.refusals.tick(before, self.instant);
    }

    /// Notes and reports when the picture of the cluster may become stale, and when it is current
    /// again. Returns `true` if that changed.
    pub fn note_staleness(&mut self) -> bool {
        let stale = self.view.stale();
        if stale == self.stale || !self.view.is_warm() {
            return false;
        }
        self.metrics.stale_watches.set(signed(stale.len()));
        if self.stale.is_empty() {
            let names: Vec<String> = stale.iter().map(Kind::to_string).collect();
            tracing::warn!(kinds = names.join(", "), "{NO_GRANTS_WHILE_STALE}");
            self.stale_since = Some(self.instant);
        } else if stale.is_empty() {
            tracing::info!("The API server reports all changes again; miners may start.");
            self.stale_since = None;
        }
        self.stale = stale;
        true
    }

    /// Returns `true` if the picture of the cluster may have been stale for this time.
    pub fn is_stale_for(&self, time: Duration) -> bool {
        let age = |since| self.instant.saturating_duration_since(since);
        self.stale_since.is_some_and(|since| age(since) >= time)
    }

    /// Returns `true` if the planner has something to receive.
    pub fn has_deltas(&self) -> bool {
        !self.deltas.is_empty() || self.refusals.has_changed()
    }

    /// Takes the changes for the planner, with the caps of refused miners applied.
    pub fn take_deltas(&mut self) -> Vec<Delta> {
        let mut deltas = std::mem::take(&mut self.deltas);
        for delta in &mut deltas {
            self.refusals.apply(delta, self.instant);
            self.waits.note(delta, self.now);
        }
        deltas.extend(self.refusals.take_changed(self.instant));
        deltas
    }

    /// The site as the planner has to know it, with the caps of refused miners applied.
    pub fn snapshot(&self) -> Snapshot {
        let mut site = self.view.snapshot();
        site.miners.iter_mut().for_each(|miner| self.refusals.cap(miner, self.instant));
        site
    }

    /// Caps a miner whose pod was turned down, and reports it.
    pub fn refuse(&mut self, miner: &Name, cause: Cause, word: &str, sentence: &str) {
        let held = self.held(miner);
        if !self.refusals.raise(miner, cause, word, sentence, held, self.instant) {
            return;
        }
        tracing::warn!(%miner, word, sentence, "A miner gets no more GPUs for a while.");
        if let Some(subject) = self.miner_reference(miner) {
            let notice = Notice::MinerRefused { word: word.into(), sentence: sentence.into() };
            self.events.note(&subject, notice, 0, None, self.instant);
        }
    }

    /// A miner as the object of an Event.
    pub fn miner_reference(&self, miner: &str) -> Option<ObjectReference> {
        self.view.cluster().miner(miner).map(|miner| miner.object_ref(&()))
    }

    /// Replicas of a miner that exist or are being created, and have not ended.
    fn held(&self, miner: &str) -> u32 {
        let pods = self.view.cluster().pods();
        let held = pods.filter(|pod| {
            !pod.is_terminal() && pod.lease.as_ref().is_some_and(|lease| *lease.miner == *miner)
        });
        held.count() as u32
    }
}
