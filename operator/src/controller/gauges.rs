//! Gauges of the plan and the cluster.

use std::collections::BTreeMap;

use daylight_base::Timestamp;
use daylight_cluster::names::parts;
use daylight_cluster::timestamp;
use daylight_crds::labels::UNDECLARED;
use daylight_crds::{
    AiJobState, ApprovalState, CONDITION_READY, Registration, RegistrationSpec, RegistrationState,
};
use daylight_planner::explain::{Plan, PoolReport, RegistrationReport};
use daylight_planner::windows::WindowState;
use strum::{IntoStaticStr, VariantArray};

use super::lapses;
use super::metrics::Metrics;
use super::mirrors::{MIRRORS, Mirrors};
use super::state::State;
use super::status::registration;
use crate::metric_table::signed;
use crate::view::authority::registration_of;
use crate::view::{RegisteredWork, Work, report_columns};

/// Sets the gauges to the state of the plan and the cluster. Returns `false` if a scrape that is being
/// answered keeps it from that.
pub fn set(plan: &Plan, state: &State, mirrors: &Mirrors) -> bool {
    let metrics = &state.metrics;
    let Some(_lock) = metrics.scrape_lock.try_hold() else { return false };
    pools(plan, state);
    assigned(state);
    work(state);
    registrations(plan, state);
    lapses(plan, state);
    miners(plan, state);
    ai_jobs(state);
    metrics.emergency_stop.set(i64::from(state.view.emergency_stop().is_some()));
    metrics.pods_awaiting_auditor.set(signed(state.view.unreleased().len()));
    for (kind, name) in MIRRORS {
        // Until it is right again, the time shows since when it may not be.
        if mirrors.is_right(kind, state) {
            metrics.admission_list.with_label_values(&[name]).set(seconds(state.now));
        }
    }
    metrics.activity_class_info.reset();
    metrics.activity_class_column.reset();
    for (name, class) in state.view.cluster().classes() {
        let labels = [&**name, class.spec.category.into(), class.spec.assignment.into()];
        metrics.activity_class_info.with_label_values(&labels).set(1);
        for column in report_columns(&class.spec) {
            metrics.activity_class_column.with_label_values(&[&**name, column.into()]).set(1);
        }
    }
    true
}

fn seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1000.0
}

fn pools(plan: &Plan, state: &State) {
    let metrics = &state.metrics;
    metrics.pool_gpus.reset();
    metrics.pool_watts.reset();
    metrics.pool_window_open.reset();
    metrics.overdue_terminations.reset();
    for PoolReport { pool, gpus, watts, overdue, nodes: _, mining: _, overlap: _ } in &plan.pools {
        metrics.set_pool(pool, gpus);
        let power = |of: &str, watts: u64| {
            metrics.pool_watts.with_label_values(&[&**pool, of]).set(signed(watts));
        };
        power("mining", *watts);
        metrics.overdue_terminations.with_label_values(&[pool]).set((*overdue).into());
        let Some(known) = state.view.known_pool(pool) else { continue };
        if let Some(budget) = known.power_budget_watts {
            power("budget", budget);
        }
        let open = matches!(known.windows.at(state.now), WindowState::Open(_));
        metrics.pool_window_open.with_label_values(&[pool]).set(open.into());
    }
}

fn assigned(state: &State) {
    let metrics = &state.metrics;
    metrics.assigned_gpus.reset();
    for (assigned, gpus) in state.view.assigned() {
        let registration = assigned.registration.as_deref().map_or("", |key| parts(key).1);
        let class = assigned.class.as_deref().unwrap_or(UNDECLARED);
        let labels = [&*assigned.pool, class, registration, &*assigned.namespace];
        metrics.assigned_gpus.with_label_values(&labels).set(signed(gpus));
    }
}

/// Who does what: work of several columns adds to each of them.
fn work(state: &State) {
    let metrics = &state.metrics;
    metrics.pool_info.reset();
    metrics.work_pods.reset();
    metrics.work_gpus.reset();
    metrics.work_cpus.reset();
    let view = &state.view;
    for (name, pool) in view.cluster().pools() {
        metrics.pool_info.with_label_values(&[&**name, &*pool.spec.site.name]).set(1);
    }
    for (Work { class, registration, namespace, pool }, running) in view.work() {
        let Some(listed) = view.cluster().class(class) else { continue };
        let owner = view.owner_of(namespace, registration.as_deref());
        let site = view.site_of(registration.as_deref(), pool.as_deref()).unwrap_or_default();
        for column in report_columns(&listed.spec) {
            let labels = [&*owner, &*site, &**class, column.into()];
            metrics.work_pods.with_label_values(&labels).add(signed(running.pods));
            metrics.work_gpus.with_label_values(&labels).add(signed(running.gpus));
            metrics.work_cpus.with_label_values(&labels).add(running.cpu_milli as f64 / 1000.0);
        }
    }
}

fn miners(plan: &Plan, state: &State) {
    let metrics = &state.metrics;
    let cluster = state.view.cluster();
    metrics.miner_replicas.reset();
    metrics.failing_miners.reset();
    for report in &plan.miners {
        let Some(miner) = cluster.miner(&report.miner) else { continue };
        let (namespace, _) = parts(&report.miner);
        // Tenants may write any name, which must add no series.
        let named = registration_of(&report.miner, &miner.spec.registration);
        let registration = cluster.listed_registration(&named.into());
        let (_, registration) = parts(&registration);
        let add = |of: &str, replicas: u32| {
            let labels = [namespace, registration, of];
            metrics.miner_replicas.with_label_values(&labels).add(replicas.into());
        };
        add("wanted", miner.spec.replicas);
        add("running", report.held);
        let failing = state.refusals.is_failing(&report.miner);
        let labels = [namespace, registration];
        metrics.failing_miners.with_label_values(&labels).add(failing.into());
    }
}

/// State of an AIJob that has not ended, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
enum ActiveJob {
    Queued,
    Reserved,
    Starting,
    Running,
}

impl ActiveJob {
    /// `None` for a job that has ended.
    fn of(state: Option<AiJobState>) -> Option<Self> {
        match state {
            None | Some(AiJobState::Queued) => Some(Self::Queued),
            Some(AiJobState::Reserved) => Some(Self::Reserved),
            Some(AiJobState::Starting) => Some(Self::Starting),
            Some(AiJobState::Running) => Some(Self::Running),
            Some(AiJobState::Succeeded | AiJobState::Failed) => None,
        }
    }
}

fn ai_jobs(state: &State) {
    let metrics = &state.metrics;
    let cluster = state.view.cluster();
    let mut oldest: BTreeMap<&str, Timestamp> = BTreeMap::new();
    metrics.ai_jobs.reset();
    // Without jobs a pool shows zeros: an alert must not depend on whether there ever was one.
    for (pool, _) in cluster.pools() {
        for active in ActiveJob::VARIANTS {
            metrics.ai_jobs.with_label_values(&[&**pool, (*active).into()]);
        }
    }
    for (_, job) in cluster.ai_jobs() {
        let status = job.status.as_ref();
        let active = ActiveJob::of(status.and_then(|status| status.state));
        let Some(active) = active else { continue };
        let chosen = status.and_then(|status| status.pool.as_deref());
        let pool =
            chosen.or(job.spec.pool.as_deref()).and_then(|pool| cluster.pool(pool).map(|_| pool));
        let pool = pool.unwrap_or_default();
        metrics.ai_jobs.with_label_values(&[pool, active.into()]).inc();
        if active == ActiveJob::Queued
            && let Some(created) = &job.metadata.creation_timestamp
        {
            let created = timestamp(created);
            let oldest = oldest.entry(pool).or_insert(created);
            *oldest = created.min(*oldest);
        }
    }
    metrics.oldest_queued_ai_job.reset();
    for (pool, created) in oldest {
        metrics.oldest_queued_ai_job.with_label_values(&[pool]).set(seconds(created));
    }
}

fn registrations(plan: &Plan, state: &State) {
    let metrics = &state.metrics;
    metrics.registration_info.reset();
    metrics.registration_status.reset();
    metrics.registration_expiry.reset();
    metrics.registration_limit.reset();
    metrics.registration_used.reset();
    metrics.registration_over_limit.reset();
    metrics.registration_forecast.reset();
    metrics.registration_approval.reset();
    metrics.registration_pending_since.reset();
    for report in &plan.registrations {
        let key = &report.registration;
        let Some(object) = state.view.cluster().registration(key) else { continue };
        let (namespace, name) = parts(key);
        let spec = &object.spec;
        let info = [namespace, name, &*spec.activity_class, &*spec.site, &*spec.operator.name];
        metrics.registration_info.with_label_values(&info).set(1);
        let status: &str = registration::state(&report.state).into();
        metrics.registration_status.with_label_values(&[namespace, name, status]).set(1);
        let it = [namespace, name];
        let expiry = spec.valid_until.0.as_second() as f64;
        metrics.registration_expiry.with_label_values(&it).set(expiry);
        let work = state.view.registered_work(key);
        let over = registration::over_limit(object, report, work);
        metrics.registration_over_limit.with_label_values(&it).set(i64::from(over.is_some()));
        if let Some(forecast) = &report.forecast {
            metrics.registration_forecast.with_label_values(&it).set(seconds(forecast.at));
        }
        if let Some(at) = approved_at(object) {
            metrics.registration_approval.with_label_values(&it).set(seconds(at));
        }
        if let Some(since) = pending_since(object, registration::state(&report.state)) {
            metrics.registration_pending_since.with_label_values(&it).set(seconds(since));
        }
        used(report, work, object, metrics);
        limits(namespace, name, spec, metrics);
    }
}

fn lapses(plan: &Plan, state: &State) {
    let lapsed_pods = &state.metrics.lapsed_pods;
    lapsed_pods.reset();
    for (key, lapse) in lapses::all(&state.view, plan, state.now) {
        // Tenants may write any name, which must add no series.
        let listed = state.view.cluster().listed_registration(&key);
        let (namespace, name) = parts(&listed);
        lapsed_pods.with_label_values(&[namespace, name]).add(signed(lapse.pods.len()));
    }
}

fn approved_at(object: &Registration) -> Option<Timestamp> {
    let approval = object.status.as_ref()?.approval.as_ref()?;
    (approval.state == ApprovalState::Approved).then(|| timestamp(&approval.at))
}

/// The time since when a registration waits for an approval: a new one since its creation, one that was
/// edited since it has not been in force.
fn pending_since(object: &Registration, state: RegistrationState) -> Option<Timestamp> {
    let conditions = object.status.as_ref().map(|status| &status.conditions);
    let ready = conditions.into_iter().flatten().find(|it| it.type_ == CONDITION_READY);
    let since = match (state, ready) {
        (RegistrationState::Changed, Some(ready)) if ready.status == "False" => {
            &ready.last_transition_time
        }
        (RegistrationState::Changed | RegistrationState::Pending, _) => {
            object.metadata.creation_timestamp.as_ref()?
        }
        _ => return None,
    };
    Some(timestamp(since))
}

fn used(
    report: &RegistrationReport,
    work: RegisteredWork,
    object: &Registration,
    metrics: &Metrics,
) {
    let (namespace, name) = parts(&report.registration);
    let usage = object.status.as_ref().and_then(|status| status.usage.as_ref());
    for (limit, value) in [
        ("gpus", Some(f64::from(report.gpus))),
        ("replicas", Some(f64::from(work.replicas))),
        ("watts", Some(registration::watts(report, work) as f64)),
        ("joules", usage.map(|usage| usage.millijoules.0 as f64 / 1000.0)),
    ] {
        if let Some(value) = value {
            metrics.registration_used.with_label_values(&[namespace, name, limit]).set(value);
        }
    }
}

fn limits(namespace: &str, name: &str, spec: &RegistrationSpec, metrics: &Metrics) {
    let of_owner = spec.owner_limits.as_ref();
    for (of, limits) in [("registration", Some(&spec.limits)), ("owner", of_owner)] {
        let Some(limits) = limits else { continue };
        let joules = limits.energy.as_ref().map(|energy| energy.kwh as f64 * 3_600_000.0);
        for (limit, value) in [
            ("gpus", limits.gpus.map(f64::from)),
            ("replicas", limits.replicas.map(f64::from)),
            ("watts", limits.watts.map(|watts| watts as f64)),
            ("joules", joules),
        ] {
            if let Some(value) = value {
                let labels = [namespace, name, of, limit];
                metrics.registration_limit.with_label_values(&labels).set(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use daylight_cluster::Kind;
    use daylight_planner::Planner;
    use serde_json::{Value, json};

    use super::*;
    use crate::controller::events::Events;
    use crate::controller::refusals::Cause;
    use crate::serving::render;
    use crate::view::tests::test_cluster::{
        START, TestCluster, ai_job, class, ended, lease, miner, node, patched, pool, registration,
        running,
    };

    /// The state of a controller that sees these objects, and its plan.
    fn seen(objects: &[Value]) -> (State, Plan) {
        let cluster = TestCluster::with(objects);
        let mut state = State::new(cluster.view, Events::new("test"), Metrics::new().unwrap());
        state.now = START;
        let plan = Planner::new(state.snapshot()).plan(START);
        (state, plan)
    }

    /// The lines of the exposition that begin with one of these names.
    fn shown(state: &State, names: &[&str]) -> Vec<String> {
        let text = render(state.metrics.registry()).unwrap();
        let of =
            |line: &&str| names.iter().any(|name| line.starts_with(&format!("daylight_{name}")));
        text.lines().filter(of).map(|line| line.replacen("daylight_", "", 1)).collect()
    }

    fn site() -> Vec<Value> {
        let windowed = json!({"spec": {"mining": {
            "powerBudgetWatts": 2000,
            "windows": [{"name": "night", "schedule": "0 22 * * *", "duration": "6h"}],
        }}});
        let edited = json!({
            "metadata": {"creationTimestamp": "2026-11-01T00:00:00Z"},
            "status": {
                "approval": {
                    "state": "Approved", "by": "olga", "at": "2026-11-02T00:00:00Z",
                    "specDigest": format!("sha256:{}", "0".repeat(64)), "digestVersion": 1, "generation": 1,
                },
                "conditions": [{
                    "type": "Ready", "status": "False", "reason": "ApprovalVoided", "message": "",
                    "lastTransitionTime": "2026-11-23T06:00:00Z",
                }],
            },
        });
        let new = json!({"metadata": {"creationTimestamp": "2026-11-20T00:00:00Z"}});
        let unknown = json!({"spec": {"registration": "made-up", "replicas": 3}});
        let recorded = json!({"metadata": {"finalizers": ["daylight.dev/metered"]}});
        vec![
            pool("a"),
            patched(&pool("w"), &windowed),
            node("n1", "a"),
            class("pow", "IdleOnly"),
            class("ai-training", "Guaranteed"),
            patched(&registration("reg"), &new),
            patched(&registration("edited"), &edited),
            miner("m"),
            patched(&miner("x"), &unknown),
            running(&lease("m", "n1", 0), "n1"),
            running(&lease("m", "n1", 1), "n1"),
            ended(&patched(&running(&lease("m", "n1", 2), "n1"), &recorded), "Failed"),
            ai_job("first", 1),
            patched(
                &ai_job("second", 1),
                &json!({"metadata": {"creationTimestamp": "2026-11-24T04:00:00Z"}}),
            ),
            patched(&ai_job("runs", 1), &json!({"status": {"state": "Running", "pool": "a"}})),
            patched(&ai_job("over", 1), &json!({"status": {"state": "Succeeded", "pool": "a"}})),
        ]
    }

    #[test]
    fn each_gauge_has_its_value() {
        let (mut state, plan) = seen(&site());
        let mirrors = Mirrors::new("daylight-system");
        state.refuse(&"team/m".into(), Cause::Container, "LoginRefused", "It may not.");
        assert!(set(&plan, &state, &mirrors));
        assert_eq!(
            shown(&state, &["pool_watts", "pool_window_open", "overdue_terminations"]),
            [
                "overdue_terminations{pool=\"a\"} 0",
                "overdue_terminations{pool=\"w\"} 0",
                "pool_watts{of=\"budget\",pool=\"w\"} 2000",
                "pool_watts{of=\"mining\",pool=\"a\"} 600",
                "pool_watts{of=\"mining\",pool=\"w\"} 0",
                "pool_window_open{pool=\"a\"} 1",
                "pool_window_open{pool=\"w\"} 0",
            ]
        );
        assert_eq!(
            shown(&state, &["miner_replicas", "failing_miners"]),
            [
                "failing_miners{namespace=\"team\",registration=\"reg\"} 1",
                "failing_miners{namespace=\"team\",registration=\"unlisted\"} 0",
                "miner_replicas{namespace=\"team\",of=\"running\",registration=\"reg\"} 0",
                "miner_replicas{namespace=\"team\",of=\"running\",registration=\"unlisted\"} 0",
                "miner_replicas{namespace=\"team\",of=\"wanted\",registration=\"reg\"} 4",
                "miner_replicas{namespace=\"team\",of=\"wanted\",registration=\"unlisted\"} 3",
            ],
            "nothing runs on: the registration is not approved"
        );
        let jobs = shown(&state, &["ai_jobs", "oldest_queued"]);
        let jobs: Vec<_> = jobs.into_iter().filter(|line| !line.ends_with(" 0")).collect();
        assert_eq!(
            jobs,
            [
                "ai_jobs{pool=\"\",state=\"queued\"} 2",
                "ai_jobs{pool=\"a\",state=\"running\"} 1",
                "oldest_queued_ai_job_timestamp_seconds{pool=\"\"} 1795492800",
            ]
        );
        assert_eq!(
            shown(&state, &["emergency_stop", "pods_awaiting_auditor"]),
            ["emergency_stop 0", "pods_awaiting_auditor 1"]
        );
        assert_eq!(
            shown(&state, &["registration_approval", "registration_pending"]),
            [
                "registration_approval_timestamp_seconds{namespace=\"team\",registration=\"edited\"} 1793577600",
                "registration_pending_since_timestamp_seconds{namespace=\"team\",registration=\"edited\"} 1795413600",
                "registration_pending_since_timestamp_seconds{namespace=\"team\",registration=\"reg\"} 1795132800",
            ]
        );
    }

    #[test]
    fn a_stop_is_shown_and_a_follower_shows_nothing_of_the_site() {
        let stop = json!({
            "kind": "ConfigMap",
            "metadata": {"name": "daylight-emergency-stop", "namespace": "daylight-system"},
        });
        let (state, plan) = seen(&[site(), vec![stop]].concat());
        assert!(set(&plan, &state, &Mirrors::new("daylight-system")));
        assert_eq!(shown(&state, &["emergency_stop"]), ["emergency_stop 1"]);
        state.metrics.forget_site();
        let of_site = ["pool_", "registration_", "miner_", "failing", "ai_jobs", "oldest"];
        assert_eq!(shown(&state, &of_site), [""; 0]);
        assert_eq!(shown(&state, &["emergency_stop"]), ["emergency_stop 0"]);
    }

    #[test]
    fn the_time_of_a_list_stands_still_while_it_is_wrong() {
        let list = |name: &str, entries: Value| {
            json!({
                "kind": "AdmissionList", "spec": {"entries": entries},
                "metadata": {"name": name, "namespace": "daylight-system", "uid": name},
            })
        };
        let (mut state, plan) =
            seen(&[list("registrations", json!({})), list("classes", json!({"x": "y"}))]);
        let mut mirrors = Mirrors::new("daylight-system");
        mirrors.check_for_test(&state);
        assert!(mirrors.is_right(Kind::RegistrationMirror, &state));
        assert!(!mirrors.is_right(Kind::ClassMirror, &state), "it has an entry too many");
        set(&plan, &state, &mirrors);
        state.now = Timestamp(START.0 + 60_000);
        set(&plan, &state, &mirrors);
        assert_eq!(
            shown(&state, &["admission_list"]),
            ["admission_list_timestamp_seconds{list=\"registrations\"} 1795500060"]
        );
    }

    #[test]
    fn gauges_wait_for_no_scrape() {
        let (state, plan) = seen(&[pool("a")]);
        let mirrors = Mirrors::new("daylight-system");
        let scrape = state.metrics.scrape_lock.hold();
        assert!(!set(&plan, &state, &mirrors));
        drop(scrape);
        assert!(set(&plan, &state, &mirrors));
    }
}
