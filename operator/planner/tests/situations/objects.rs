//! Objects with ordinary values, to be changed where a situation needs it:
//! `pool("h100").but(|pool| pool.max_gpus = Some(4))`.

use std::time::Duration;

use daylight_base::Timestamp;
use daylight_planner::model::*;
use daylight_planner::windows::{Span, Windows};

pub(crate) const GPU: &str = "nvidia.com/gpu";

/// Noon of the first of July 2026, UTC, when situations begin.
pub(crate) const NOON: Timestamp = Timestamp::from_seconds(1_782_907_200);

/// The beginning of the year 2027, when registrations end.
pub(crate) const NEW_YEAR: Timestamp = Timestamp::from_seconds(1_798_761_600);

/// Changes a value on its way.
pub(crate) trait But: Sized {
    fn but(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl<T> But for T {}

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// A kilowatt-hour and parts of it, in millijoules.
pub(crate) const fn watt_hours(watt_hours: u64) -> u64 {
    watt_hours * 3_600_000
}

/// A pool that fills.
pub(crate) fn pool(name: &str) -> Pool {
    Pool {
        name: name.into(),
        created: NOON - minutes(24 * 60),
        resource: GPU.into(),
        policy: MiningPolicy::Fill,
        windows: Windows::Always,
        max_gpus: None,
        headroom: Headroom::Count(0),
        power_budget_watts: None,
        idle_delay: seconds(5),
        min_run_time: seconds(60),
        drain_timeout: seconds(30),
        reclaim_unit: ReclaimUnit::Gpu,
        autoscaled_nodes: AutoscaledNodes::Skip,
        queueing: Queueing::Backfill,
        recording: Recording::Works,
        problem: None,
    }
}

/// A node of the pool `h100`.
pub(crate) fn node(name: &str, gpus: u32) -> Node {
    Node {
        name: name.into(),
        pools: vec![member("h100")],
        gpus: vec![(GPU.into(), gpus)],
        cpu_milli: 128_000,
        memory: 1 << 40,
        pod_slots: 110,
        huge_pages: [0; 2],
        lost: Vec::new(),
        condition: NodeCondition::Ready,
        autoscaled: false,
        ai_released_at: None,
        shrunk_at: None,
        quarantined_until: None,
        closed_to: Vec::new(),
    }
}

/// Nodes `node-1`, `node-2`, … of the pool `h100`.
pub(crate) fn nodes(count: u32, gpus: u32) -> Vec<Node> {
    (1..=count).map(|index| node(&format!("node-{index}"), gpus)).collect()
}

pub(crate) fn member(pool: &str) -> Membership {
    Membership { pool: pool.into(), tolerated: true, runs_miners: true }
}

pub(crate) fn class(name: &str, assignment: ClassAssignment, rank: u32) -> Class {
    Class { name: name.into(), assignment, rank }
}

/// An approved registration for `pow-mining` in the pool `h100`.
pub(crate) fn registration(key: &str) -> Registration {
    Registration {
        key: key.into(),
        owner: None,
        class: "pow-mining".into(),
        pools: vec!["h100".into()],
        valid_from: NOON - minutes(24 * 60),
        valid_until: NEW_YEAR,
        approval: Approval::Approved,
        voided_by: None,
        limits: Limits::default(),
        owner_limits: Limits::default(),
        usage: None,
        reading: Reading::Counts,
        energy_period: EnergyPeriod::default(),
        other_periods: Vec::new(),
        energy_resets: None,
        deleted_mj: 0,
        mirrored: Mirrored::Holds,
        problem: None,
    }
}

/// A miner of one GPU and 300 W a replica, under the registration `acme/power`
/// or, for another namespace, the one called `power` there.
pub(crate) fn miner(key: &str, replicas: u32) -> Miner {
    let (namespace, _) = key.split_once('/').unwrap();
    Miner {
        key: key.into(),
        registration: format!("{namespace}/power").into(),
        created: NOON - minutes(60),
        replicas,
        shape: Shape { gpus: 1, cpu_milli: 2_000, memory: 4 << 30, huge_pages: [0; 2] },
        weight: 1,
        watts: 300,
        drain_timeout: seconds(10),
        pools: Vec::new(),
        revision: 1,
        requests_changed: None,
        problem: None,
    }
}

/// A job of `workers` with `gpus` each.
pub(crate) fn job(key: &str, workers: u32, gpus: u32) -> Job {
    Job {
        key: key.into(),
        created: NOON,
        priority: 0,
        workers,
        shape: Shape { gpus, cpu_milli: 8_000, memory: 32 << 30, huge_pages: [0; 2] },
        class: "ai-training".into(),
        resource: GPU.into(),
        pool: None,
        allowed_nodes: None,
        max_run_time: None,
        gang_timeout: seconds(60),
        state: JobState::Queued { attempts: 0, suspended_at: None },
        succeeded: 0,
        suspended_by: None,
        requests_changed: None,
        problem: None,
    }
}

/// A pending pod with a class that Daylight did not make; kube-scheduler
/// preempts for it.
pub(crate) fn foreign_pod(key: &str, gpus: u32) -> Pod {
    Pod {
        key: key.into(),
        node: None,
        nominated: None,
        gpus: vec![(GPU.into(), gpus)],
        cpu_milli: 4_000,
        memory: 16 << 30,
        created: NOON,
        deleting: false,
        gone_by: None,
        huge_pages: [0; 2],
        gates: Vec::new(),
        by_claim: Vec::new(),
        role: Role::Other {
            activity: Activity::Listed("ai-inference".into()),
            preemption: Preemption::ByScheduler,
        },
    }
}

/// The same, with `preemptionPolicy: Never`, where any node passes the pod's
/// other filters.
pub(crate) fn modest_pod(key: &str, gpus: u32) -> Pod {
    foreign_pod(key, gpus).but(|pod| {
        pod.role = Role::Other {
            activity: Activity::Listed("ai-inference".into()),
            preemption: Preemption::ByDaylight { allowed_nodes: None },
        };
    })
}

/// Windows from spans of minutes after noon, known for the next day.
pub(crate) fn open(spans: &[(i64, i64)]) -> Windows {
    let at = |minutes: i64| Timestamp(NOON.0 + minutes * 60_000);
    let spans = spans.iter().map(|&(start, end)| Span { start: at(start), end: at(end) }).collect();
    Windows::from_spans(spans, at(24 * 60))
}
