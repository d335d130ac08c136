//! Prometheus metrics of the controller. Every name begins with `daylight_`.
//!
//! Labels are pools, classes, registrations, namespaces and reasons, never pods, so that the
//! number of series stays bounded.

use std::time::Duration;

use daylight_planner::explain::{PoolGpus, ReclaimReason};
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};
use strum::{IntoStaticStr, VariantArray};

use crate::metric_table::{Register, Row};
use crate::serving::ScrapeLock;

/// All metrics of the controller.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// Held while gauges are set.
    pub scrape_lock: ScrapeLock,
    rows: Vec<Row>,
    /// GPUs of each pool by state.
    pub pool_gpus: IntGaugeVec,
    /// GPUs that pods hold, by pool, class, registration and namespace.
    pub assigned_gpus: IntGaugeVec,
    /// Time that AI work waited for its GPUs, and the share of it for miners to leave.
    pub ai_wait: HistogramVec,
    /// Time from the eviction of a miner's pod to its end.
    pub reclaim_duration: HistogramVec,
    pub evictions: IntCounterVec,
    /// Pods of tenants that Daylight ended since their registration lapsed.
    pub lapsed_evictions: IntCounter,
    pub grants: IntCounterVec,
    pub plan_duration: Histogram,
    /// Plans that panicked.
    pub plan_panics: IntCounter,
    /// Time from the first event that a plan takes in to the plan.
    pub plan_lag: Histogram,
    /// Changes that wait to be written.
    pub queued_writes: IntGauge,
    /// Requests that change something, by kind and result.
    pub writes: IntCounterVec,
    /// Time that those requests took.
    pub write_duration: HistogramVec,
    /// Class, site and operator of each registration.
    pub registration_info: IntGaugeVec,
    /// 1 for the state that a registration is in.
    pub registration_status: IntGaugeVec,
    /// End of a registration, in seconds since 1970.
    pub registration_expiry: GaugeVec,
    /// Limits of registrations and owners.
    pub registration_limit: GaugeVec,
    /// Use of those limits by each registration.
    pub registration_used: GaugeVec,
    /// 1 if a limit is exceeded.
    pub registration_over_limit: IntGaugeVec,
    /// Pods of tenants that run under a registration that is not in force.
    pub lapsed_pods: IntGaugeVec,
    /// Time at which an energy limit will be reached, in seconds since 1970.
    pub registration_forecast: GaugeVec,
    pub activity_class_info: IntGaugeVec,
    /// 1 for each column of declarations in which work of a class is counted.
    pub activity_class_column: IntGaugeVec,
    /// 1 for the site of a pool.
    pub pool_info: IntGaugeVec,
    /// Pods on the positive list that run, by owner, site, class and column.
    pub work_pods: IntGaugeVec,
    /// GPUs that they hold.
    pub work_gpus: IntGaugeVec,
    /// CPUs that they request.
    pub work_cpus: GaugeVec,
    /// Ends of leases that the controller recorded in the auditor's place.
    pub lease_records: IntCounter,
    /// 1 while an emergency stop is in force.
    pub emergency_stop: IntGauge,
    /// AIJobs that have not ended, by state.
    pub ai_jobs: IntGaugeVec,
    /// Creation of the oldest AIJob that is queued, in seconds since 1970.
    pub oldest_queued_ai_job: GaugeVec,
    /// Replicas of miners, wanted and held.
    pub miner_replicas: IntGaugeVec,
    /// Miners whose pods fail by themselves.
    pub failing_miners: IntGaugeVec,
    /// Power that may mine, and that mines.
    pub pool_watts: IntGaugeVec,
    /// 1 while a pool's windows are open.
    pub pool_window_open: IntGaugeVec,
    /// Miners' pods that should have stopped.
    pub overdue_terminations: IntGaugeVec,
    /// Pods that the API server refused, by kind and cause.
    pub pod_refusals: IntCounterVec,
    /// Ended pods that the auditor has not released.
    pub pods_awaiting_auditor: IntGauge,
    /// Time of an approval, in seconds since 1970.
    pub registration_approval: GaugeVec,
    /// Time since when a registration waits for its approval, in seconds since 1970.
    pub registration_pending_since: GaugeVec,
    /// Time at which a list that admission reads was last seen to be right, in seconds since 1970.
    pub admission_list: GaugeVec,
    /// Attempts to write that failed, by kind and category.
    pub write_errors: IntCounterVec,
    /// 1 if this process leads.
    pub leader: IntGauge,
    pub resident_memory: IntGauge,
    /// Events that were taken from watches.
    pub watch_events: IntCounter,
    /// Kinds of which changes may be missing.
    pub stale_watches: IntGauge,
}

/// Kind of the object whose pods the API server refused.
#[derive(Clone, Copy, Debug, IntoStaticStr)]
pub enum PodsOf {
    Miner,
    #[strum(serialize = "AIJob")]
    AiJob,
}

/// The part of the API server that refused a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
pub enum PodRefusalReason {
    Quota,
    AdmissionPolicy,
    PodSecurity,
    Webhook,
    /// The service account may not create it.
    Forbidden,
    Invalid,
    Other,
}

impl PodRefusalReason {
    /// The text is the only sign of the admission plugin: all answer 403 or 422 with the same reasons.
    fn of(code: u16, message: &str) -> Self {
        let part = [
            ("exceeded quota", Self::Quota),
            ("ValidatingAdmissionPolicy", Self::AdmissionPolicy),
            ("violates PodSecurity", Self::PodSecurity),
            ("webhook", Self::Webhook),
        ];
        let named = part.into_iter().find(|(sign, _)| message.contains(sign));
        match (named, code) {
            (Some((_, reason)), _) => reason,
            (None, 401 | 403) => Self::Forbidden,
            (None, 400 | 422) => Self::Invalid,
            (None, _) => Self::Other,
        }
    }
}

/// Labels of work.
const OF_WORK: [&str; 4] = ["owner", "site", "class", "column"];

/// From a millisecond to a quarter of an hour.
const WAITS: [f64; 16] = [
    0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
];

/// From a tenth of a millisecond to a second.
const INSTANTS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// From a millisecond to the longest a request may take.
const REQUESTS: [f64; 11] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

impl Metrics {
    /// Registers all metrics, at zero.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let mut r = Register::new(&registry);
        let opts = |name: &str, help: &str| Opts::new(format!("daylight_{name}"), help);
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            HistogramOpts::new(format!("daylight_{name}"), help).buckets(buckets.to_vec())
        };
        let build_info = r.add(IntGaugeVec::new(
            opts("build_info", "Version of the running process; the value is 1."),
            &["version"],
        ))?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            pool_gpus: r.add(IntGaugeVec::new(
                opts("pool_gpus", "GPUs of a pool by state; the states add up to all GPUs of the pool."),
                &["pool", "state"],
            ))?,
            assigned_gpus: r.add(IntGaugeVec::new(
                opts("assigned_gpus", "GPUs held by pods."),
                &["pool", "class", "registration", "namespace"],
            ))?,
            ai_wait: r.add(HistogramVec::new(
                histogram(
                    "ai_wait_seconds",
                    "Time that AI work waited until all of it was bound: part=\"total\" from its creation, part=\"miners\" while miners were leaving for it.",
                    &WAITS,
                ),
                &["kind", "part"],
            ))?,
            reclaim_duration: r.add(HistogramVec::new(
                histogram(
                    "reclaim_duration_seconds",
                    "Time from the eviction of a miner's pod to its end.",
                    &WAITS,
                ),
                &["reason"],
            ))?,
            evictions: r.add(IntCounterVec::new(
                opts("evictions_total", "Miners' pods that Daylight ended."),
                &["reason"],
            ))?,
            lapsed_evictions: r.add(IntCounter::with_opts(opts(
                "lapsed_pod_evictions_total",
                "Pods of tenants that Daylight ended, since their registration was not in force.",
            )))?,
            grants: r.add(IntCounterVec::new(
                opts("grants_total", "Miners' pods that Daylight started."),
                &["pool"],
            ))?,
            plan_duration: r.add(Histogram::with_opts(histogram(
                "plan_duration_seconds",
                "Time that making a plan took.",
                &INSTANTS,
            )))?,
            plan_panics: r.add(IntCounter::with_opts(opts(
                "plan_panics_total",
                "Plans that panicked, which is a defect.",
            )))?,
            plan_lag: r.add(Histogram::with_opts(histogram(
                "plan_lag_seconds",
                "Time from the first change that a plan takes in to the plan.",
                &INSTANTS,
            )))?,
            queued_writes: r.add(IntGauge::with_opts(opts(
                "queued_writes",
                "Changes of the current plan that wait to be sent.",
            )))?,
            writes: r.add(IntCounterVec::new(
                opts("writes_total", "Requests that change something, by kind and result."),
                &["write", "result"],
            ))?,
            write_duration: r.add(HistogramVec::new(
                histogram("write_duration_seconds", "Time that such a request took.", &REQUESTS),
                &["write"],
            ))?,
            registration_info: r.add(IntGaugeVec::new(
                opts("registration_info", "Class, site and operator of a registration; the value is 1."),
                &["namespace", "registration", "class", "site", "operator"],
            ))?,
            registration_status: r.add(IntGaugeVec::new(
                opts("registration_status", "1 for the state that a registration is in."),
                &["namespace", "registration", "state"],
            ))?,
            registration_expiry: r.add(GaugeVec::new(
                opts("registration_expiry_timestamp_seconds", "End of a registration."),
                &["namespace", "registration"],
            ))?,
            registration_limit: r.add(GaugeVec::new(
                opts(
                    "registration_limit",
                    "Limit of a registration, or of all registrations of its owner: GPUs, watts, or joules in a period.",
                ),
                &["namespace", "registration", "of", "limit"],
            ))?,
            registration_used: r.add(GaugeVec::new(
                opts(
                    "registration_used",
                    "Use of a registration's limits: GPUs and watts now, or joules in the current period.",
                ),
                &["namespace", "registration", "limit"],
            ))?,
            registration_over_limit: r.add(IntGaugeVec::new(
                opts("registration_over_limit", "1 if a limit of a registration or its owner is exceeded."),
                &["namespace", "registration"],
            ))?,
            lapsed_pods: r.add(IntGaugeVec::new(
                opts(
                    "lapsed_pods",
                    "Pods of tenants that run under a registration that is not in force.",
                ),
                &["namespace", "registration"],
            ))?,
            registration_forecast: r.add(GaugeVec::new(
                opts(
                    "registration_forecast_timestamp_seconds",
                    "Time at which an energy limit will be reached at the current rate, if in this period.",
                ),
                &["namespace", "registration"],
            ))?,
            activity_class_column: r.add(IntGaugeVec::new(
                opts(
                    "activity_class_column",
                    "Columns of declarations in which work of a class is counted; the value is 1.",
                ),
                &["class", "column"],
            ))?,
            pool_info: r.add(IntGaugeVec::new(
                opts("pool_info", "Site of a pool; the value is 1."),
                &["pool", "site"],
            ))?,
            work_pods: r.add(IntGaugeVec::new(
                opts(
                    "work_pods",
                    "Pods on the positive list that run; work of several columns is counted in each.",
                ),
                &OF_WORK,
            ))?,
            work_gpus: r.add(IntGaugeVec::new(
                opts("work_gpus", "GPUs that these pods hold."),
                &OF_WORK,
            ))?,
            work_cpus: r.add(GaugeVec::new(
                opts("work_cpu_cores", "CPUs that these pods request."),
                &OF_WORK,
            ))?,
            activity_class_info: r.add(IntGaugeVec::new(
                opts("activity_class_info", "The positive list; the value is 1."),
                &["class", "category", "assignment"],
            ))?,
            lease_records: r.add(IntCounter::with_opts(opts(
                "lease_records_total",
                "Ends of leases that the controller recorded because the auditor had not within a minute.",
            )))?,
            emergency_stop: r.add(IntGauge::with_opts(opts(
                "emergency_stop",
                "1 while an emergency stop is in force.",
            )))?,
            ai_jobs: r.add(IntGaugeVec::new(
                opts("ai_jobs", "AIJobs that have not ended, by state; pool is empty until one is chosen."),
                &["pool", "state"],
            ))?,
            oldest_queued_ai_job: r.add(GaugeVec::new(
                opts(
                    "oldest_queued_ai_job_timestamp_seconds",
                    "Creation of the oldest AIJob that is queued.",
                ),
                &["pool"],
            ))?,
            miner_replicas: r.add(IntGaugeVec::new(
                opts(
                    "miner_replicas",
                    "Replicas of miners: of=\"wanted\" by their specs, of=\"running\" as pods that are not stopping.",
                ),
                &["namespace", "registration", "of"],
            ))?,
            failing_miners: r.add(IntGaugeVec::new(
                opts(
                    "failing_miners",
                    "Miners whose pods fail by themselves, of which none has been ready since.",
                ),
                &["namespace", "registration"],
            ))?,
            pool_watts: r.add(IntGaugeVec::new(
                opts(
                    "pool_watts",
                    "Watts of a pool's miners: of=\"budget\" at most, of=\"mining\" now.",
                ),
                &["pool", "of"],
            ))?,
            pool_window_open: r.add(IntGaugeVec::new(
                opts("pool_window_open", "1 while the mining windows of a pool are open."),
                &["pool"],
            ))?,
            overdue_terminations: r.add(IntGaugeVec::new(
                opts(
                    "overdue_terminations",
                    "Miners' pods that are still there 30 seconds after the end of their grace period.",
                ),
                &["pool"],
            ))?,
            pod_refusals: r.add(IntCounterVec::new(
                opts("pod_refusals_total", "Pods that the API server refused."),
                &["kind", "reason"],
            ))?,
            pods_awaiting_auditor: r.add(IntGauge::with_opts(opts(
                "pods_awaiting_auditor",
                "Ended pods that the auditor has not released.",
            )))?,
            registration_approval: r.add(GaugeVec::new(
                opts("registration_approval_timestamp_seconds", "Time of the approval of a registration."),
                &["namespace", "registration"],
            ))?,
            registration_pending_since: r.add(GaugeVec::new(
                opts(
                    "registration_pending_since_timestamp_seconds",
                    "Time since when a registration waits for an approval.",
                ),
                &["namespace", "registration"],
            ))?,
            admission_list: r.add(GaugeVec::new(
                opts(
                    "admission_list_timestamp_seconds",
                    "Time at which a list that admission reads was last seen to be as the controller wants it.",
                ),
                &["list"],
            ))?,
            write_errors: r.add(IntCounterVec::new(
                opts("write_errors_total", "Attempts to write that failed, by kind and category."),
                &["write", "category"],
            ))?,
            leader: r.add(IntGauge::with_opts(opts("leader", "1 if this process leads.")))?,
            resident_memory: r.add(IntGauge::with_opts(opts(
                "resident_memory_bytes",
                "Bytes of this process that are in memory.",
            )))?,
            watch_events: r.add(IntCounter::with_opts(opts(
                "watch_events_total",
                "Events received from watches.",
            )))?,
            stale_watches: r.add(IntGauge::with_opts(opts(
                "stale_watches",
                "Kinds of objects of which changes may be missing, because the API server does not report them in time; no miner starts while it is above 0.",
            )))?,
            registry: registry.clone(),
            scrape_lock: ScrapeLock::default(),
            rows: r.rows(),
        };
        for reason in ReclaimReason::ALL {
            metrics.evictions.with_label_values(&[reason.code()]);
            metrics.reclaim_duration.with_label_values(&[reason.code()]);
        }
        // At zero from the start: `rate()` misses the first increase of a new series.
        for kind in ["Pod", "AIJob"] {
            for part in ["total", "miners"] {
                metrics.ai_wait.with_label_values(&[kind, part]);
            }
        }
        for reason in PodRefusalReason::VARIANTS {
            for kind in [PodsOf::Miner, PodsOf::AiJob] {
                metrics.pod_refusals.with_label_values(&[<&str>::from(kind), (*reason).into()]);
            }
        }
        Ok(metrics)
    }

    /// Counts a pod that the API server refused.
    pub fn count_pod_refusal(&self, kind: PodsOf, code: u16, message: &str) {
        let reason = PodRefusalReason::of(code, message);
        self.pod_refusals.with_label_values(&[<&str>::from(kind), reason.into()]).inc();
    }

    /// Sets a pool's GPUs by state.
    pub fn set_pool(&self, pool: &str, gpus: &PoolGpus) {
        let states = [
            ("ai", gpus.ai),
            ("mining", gpus.mining),
            ("undeclared", gpus.undeclared),
            ("unlisted", gpus.unlisted),
            ("idle", gpus.idle),
            ("headroom", gpus.headroom),
            ("unavailable", gpus.unavailable),
            ("quarantined", gpus.quarantined),
        ];
        for (state, gpus) in states {
            self.pool_gpus.with_label_values(&[pool, state]).set(gpus.into());
        }
    }

    /// Counts AI work that has all its GPUs, with the time that it waited for them.
    pub fn observe_ai_wait(&self, kind: &str, total: Duration) {
        self.ai_wait.with_label_values(&[kind, "total"]).observe(total.as_secs_f64());
    }

    /// Counts the part of that wait that was for miners to leave.
    pub fn observe_ai_wait_for_miners(&self, kind: &str, miners: Duration) {
        self.ai_wait.with_label_values(&[kind, "miners"]).observe(miners.as_secs_f64());
    }

    /// Removes the series that only the leader shows.
    pub fn forget_site(&self) {
        self.pool_gpus.reset();
        self.assigned_gpus.reset();
        self.registration_info.reset();
        self.registration_status.reset();
        self.registration_expiry.reset();
        self.registration_limit.reset();
        self.registration_used.reset();
        self.lapsed_pods.reset();
        self.activity_class_column.reset();
        self.pool_info.reset();
        self.work_pods.reset();
        self.work_gpus.reset();
        self.work_cpus.reset();
        self.registration_over_limit.reset();
        self.registration_forecast.reset();
        self.activity_class_info.reset();
        self.emergency_stop.set(0);
        self.ai_jobs.reset();
        self.oldest_queued_ai_job.reset();
        self.miner_replicas.reset();
        self.failing_miners.reset();
        self.pool_watts.reset();
        self.pool_window_open.reset();
        self.overdue_terminations.reset();
        self.pods_awaiting_auditor.set(0);
        self.registration_approval.reset();
        self.registration_pending_since.reset();
        self.admission_list.reset();
        self.queued_writes.set(0);
    }

    /// Name, type and labels of every metric.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The registry of all metrics.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_every_metric_and_no_other() {
        crate::metric_table::check("Controller", Metrics::new().unwrap().rows().to_vec());
    }

    #[test]
    fn refusals_are_counted_by_the_part_that_refuses() {
        let metrics = Metrics::new().unwrap();
        for (code, message, reason) in [
            (403, "pods \"a\" is forbidden: exceeded quota: gpus, requested: …", "Quota"),
            (
                422,
                "pods \"a\" is forbidden: ValidatingAdmissionPolicy 'daylight-miner-pods' with binding …",
                "AdmissionPolicy",
            ),
            (
                403,
                "pods \"a\" is forbidden: violates PodSecurity \"baseline:latest\": …",
                "PodSecurity",
            ),
            (400, "admission webhook \"w.example.com\" denied the request: no", "Webhook"),
            (403, "pods is forbidden: User \"x\" cannot create resource \"pods\"", "Forbidden"),
            (422, "Pod \"a\" is invalid: spec.containers: Required value", "Invalid"),
            (409, "object is being deleted", "Other"),
        ] {
            metrics.count_pod_refusal(PodsOf::Miner, code, message);
            let counted = metrics.pod_refusals.with_label_values(&["Miner", reason]).get();
            assert_eq!(counted, 1, "{message}");
        }
        assert_eq!(metrics.pod_refusals.with_label_values(&["AIJob", "Quota"]).get(), 0);
    }

    #[test]
    fn a_scrape_shows_every_metric_with_its_prefix() {
        let metrics = Metrics::new().unwrap();
        let gpus = PoolGpus { total: 8, ai: 3, mining: 5, ..PoolGpus::default() };
        metrics.set_pool("hall-1", &gpus);
        metrics.observe_ai_wait("AIJob", Duration::from_secs(3));
        metrics.observe_ai_wait_for_miners("AIJob", Duration::from_secs(2));
        let text = crate::serving::render(metrics.registry()).unwrap();
        assert!(text.contains("daylight_pool_gpus{pool=\"hall-1\",state=\"mining\"} 5"));
        assert!(text.contains("daylight_evictions_total{reason=\"AiDemand\"} 0"));
        assert!(text.contains("daylight_ai_wait_seconds_sum{kind=\"AIJob\",part=\"miners\"} 2"));
        assert!(text.contains("daylight_build_info{version="));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("daylight_"), "{line}");
        }
    }
}
