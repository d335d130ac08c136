//! The reports of a plan: one explanation per object.

use rustc_hash::FxHashMap;

use crate::explain::{
    JobReport, MinerReport, PodReport, PoolGpus, PoolReport, Reason, RegistrationReport,
};
use crate::model::{ExternalStage, JobState};
use crate::plan::Run;
use crate::plan::modes::Mode;
use crate::plan::power::Counted;
use crate::state::table::Id;
use crate::state::{Declared, PoolRow};

impl Run<'_> {
    /// Reports the pools as they are before any action.
    pub(super) fn report_pools(&self) -> Vec<PoolReport> {
        let mut quarantined: FxHashMap<Id<PoolRow>, u32> = FxHashMap::default();
        for &(_, node) in &self.state.watched {
            let row = &self.state.nodes[node];
            let Some(object) = &row.object else { continue };
            for host in row.hosts.iter().filter(|host| host.open) {
                let free = host.bucket().free;
                // What is closed to some miners alone is idle for the others.
                if object.quarantined_until.is_some_and(|until| self.now < until) {
                    *quarantined.entry(host.pool).or_default() += free;
                }
            }
        }
        let overdue = self.state.overdue();
        let report = |(name, id): (&daylight_base::Name, &Id<PoolRow>)| {
            let row = &self.state.pools[*id];
            let pool = row.object.as_ref()?;
            let sums = row.sums;
            let headroom = pool.headroom.of(sums.usable).min(sums.free);
            let quarantined =
                quarantined.get(id).copied().unwrap_or_default().min(sums.free - headroom);
            let overlap = row
                .lost_to
                .iter()
                .next()
                .map(|(pool, nodes)| Reason::Overlapping { pool: pool.clone(), nodes: *nodes });
            Some(PoolReport {
                pool: name.clone(),
                nodes: sums.hosts,
                gpus: PoolGpus {
                    total: sums.ai
                        + sums.undeclared
                        + sums.unlisted
                        + sums.mining
                        + sums.free
                        + sums.unavailable,
                    ai: sums.ai,
                    mining: sums.mining,
                    undeclared: sums.undeclared,
                    unlisted: sums.unlisted,
                    idle: sums.free - headroom - quarantined,
                    headroom,
                    unavailable: sums.unavailable,
                    quarantined,
                },
                watts: self.pool_watts(*id, Counted::All, None),
                overdue: overdue.get(id).copied().unwrap_or_default(),
                mining: Reason::Filling,
                overlap,
            })
        };
        self.state.pools_by_name.iter().filter_map(report).collect()
    }

    /// Completes the reports of pools with the reason why each mines or does not.
    pub(super) fn explain_pools(
        &self,
        reports: &mut [PoolReport],
        would_mine: &FxHashMap<Id<PoolRow>, u32>,
    ) {
        for report in reports {
            let Some(id) = self.state.pools_by_name.get(&report.pool) else {
                continue;
            };
            let unusual = self.unusual(*id, report);
            report.mining = match self.modes.get(id) {
                // Without nodes, no policy has anything to act on. Only what concerns the whole site or
                // makes the selector unreliable comes before that.
                Some(
                    Mode::Keep(reason @ Reason::Invalid { .. })
                    | Mode::Stop(_, reason @ Reason::EmergencyStop { .. }),
                ) => reason.clone(),
                _ if report.nodes == 0 => report.overlap.clone().unwrap_or(Reason::NoNodes),
                Some(Mode::Keep(reason) | Mode::Stop(_, reason)) => reason.clone(),
                Some(Mode::Observe(_)) => match would_mine.get(id).copied().unwrap_or_default() {
                    0 => unusual.unwrap_or(Reason::Observing { would_mine: 0 }),
                    would_mine => Reason::Observing { would_mine },
                },
                Some(Mode::Fill(_)) | None => unusual.unwrap_or(Reason::Filling),
            };
        }
    }

    /// Returns what a reader must know of a pool before anything else: that its GPUs are not there, or
    /// are not its nodes'.
    fn unusual(&self, id: Id<PoolRow>, report: &PoolReport) -> Option<Reason> {
        let row = &self.state.pools[id];
        if row.sums.by_claim > 0 {
            Some(Reason::GpusByClaim { gpus: row.sums.by_claim })
        } else if row.sums.beyond > 0 {
            Some(Reason::GpusBeyondNodes { gpus: row.sums.beyond })
        } else if row.sums.usable > 0 || report.nodes == 0 {
            None
        } else if report.gpus.total == 0 {
            Some(Reason::NoGpus { resource: row.object.as_ref()?.resource.clone() })
        } else if report.gpus.unavailable == report.gpus.total {
            Some(Reason::GpusUnavailable { gpus: report.gpus.unavailable })
        } else {
            None
        }
    }

    pub(super) fn report_registrations(&self) -> Vec<RegistrationReport> {
        let report = |(key, id): (&daylight_base::Name, _)| {
            let verdict = self.verdicts.get(id)?;
            let held = self.state.registrations[*id].held;
            let object = self.state.registrations[*id].object.as_ref()?;
            let state = verdict.held_back.as_ref().unwrap_or(&verdict.state).clone();
            Some(RegistrationReport {
                registration: key.clone(),
                state,
                gpus: held.gpus(),
                watts: self.registration_watts(*id, Counted::All, Declared::default()),
                over: self.over_limit(object, verdict),
                forecast: self.forecast(object),
            })
        };
        self.state.registrations_by_key.iter().filter_map(report).collect()
    }

    pub(super) fn report_miners(&self) -> Vec<MinerReport> {
        let report = |(key, &id): (&daylight_base::Name, &Id<_>)| {
            let row = &self.state.miners[id];
            let wanted = row.object.as_ref().map_or(0, |miner| miner.replicas);
            let reason = self.gated(id).unwrap_or_else(|| {
                let outcome = self.outcomes.get(&id).and_then(|outcome| outcome.reason.clone());
                let changed = row.object.as_ref().and_then(|miner| miner.requests_changed.clone());
                match (outcome, changed) {
                    (Some(Reason::NoNodeFits { .. }), Some(change)) => {
                        Reason::RequestsChanged { change }
                    }
                    (outcome, _) => outcome.unwrap_or_else(|| self.silent_reason(id)),
                }
            });
            MinerReport {
                miner: key.clone(),
                wanted,
                held: row.active() - row.gated,
                stopping: row.draining,
                reason,
            }
        };
        self.state.miners_by_key.iter().map(report).collect()
    }

    /// Returns the reason of a miner whose pods have scheduling gates, by the first of them.
    fn gated(&self, id: Id<crate::state::MinerRow>) -> Option<Reason> {
        let row = &self.state.miners[id];
        let replicas = row.gated;
        let pods = (replicas > 0).then(|| row.pods())?;
        let gated = pods.map(|pod| &self.state.pods[pod].pod).filter(|pod| pod.is_gated());
        let first = gated.min_by_key(|pod| &pod.key)?;
        Some(Reason::ReplicasGated { replicas, gates: first.gates.clone() })
    }

    /// Returns the reason of a miner for which no step found one: it has what it wants, or its pools
    /// observe.
    fn silent_reason(&self, id: Id<crate::state::MinerRow>) -> Reason {
        let observing = self.candidate(id).ok().and_then(|candidate| {
            let observes =
                |pool: &&Id<PoolRow>| matches!(self.modes.get(pool), Some(Mode::Observe(_)));
            candidate.pools.iter().find(observes).copied()
        });
        match observing {
            Some(pool) => Reason::PoolObserves { pool: self.state.pools.name(pool).clone() },
            None => Reason::Running,
        }
    }

    pub(super) fn report_jobs(&mut self) -> Vec<JobReport> {
        let mut reports = Vec::with_capacity(self.state.jobs_by_key.len());
        for (key, &id) in &self.state.jobs_by_key {
            let row = &self.state.jobs[id];
            let reason = self.queue.reasons.remove(&id).unwrap_or_else(|| {
                let Some(job) = &row.object else { return Reason::Finished };
                let bound = row.bound_total;
                let missing = bound.saturating_add(job.succeeded) < job.workers;
                match &job.state {
                    JobState::External { queue, stage: ExternalStage::Waiting(why) } => {
                        Reason::External { queue: queue.clone(), why: why.clone() }
                    }
                    JobState::External { stage: ExternalStage::Starting, .. } => {
                        Reason::Starting { bound, workers: job.workers }
                    }
                    JobState::Finished => Reason::Finished,
                    _ if missing => Reason::WorkersMissing { bound, workers: job.workers },
                    _ => Reason::Running,
                }
            });
            reports.push(JobReport { job: key.clone(), bound: row.bound_total, reason });
        }
        reports
    }

    pub(super) fn report_waiting_pods(&mut self) -> Vec<PodReport> {
        let mut reports = Vec::with_capacity(self.state.waiting.len());
        for (key, id) in &self.state.waiting {
            let reason = self.pod_reasons.remove(id).unwrap_or(Reason::SchedulerDecides);
            reports.push(PodReport { pod: key.clone(), reason });
        }
        reports
    }
}
