//! Gauges of the plan and the cluster.

use daylight_cluster::names::parts;
use daylight_crds::labels::UNDECLARED;
use daylight_crds::{Registration, RegistrationSpec};
use daylight_planner::explain::{Plan, RegistrationReport};

use super::metrics::Metrics;
use super::state::State;
use super::status::registration;

/// Sets the gauges to the state of the plan and the cluster.
pub fn set(plan: &Plan, state: &State) {
    let metrics = &state.metrics;
    let _lock = metrics.scrape_lock.hold();
    metrics.pool_gpus.reset();
    for report in &plan.pools {
        metrics.set_pool(&report.pool, &report.gpus);
    }
    metrics.assigned_gpus.reset();
    for (assigned, gpus) in state.view.assigned() {
        let registration = assigned.registration.as_deref().map_or("", |key| parts(key).1);
        let class = assigned.class.as_deref().unwrap_or(UNDECLARED);
        let labels = [&*assigned.pool, class, registration, &*assigned.namespace];
        metrics.assigned_gpus.with_label_values(&labels).set(gpus.into());
    }
    registrations(plan, state);
    metrics.activity_class_info.reset();
    for (name, class) in state.view.cluster().classes() {
        let labels = [&**name, class.spec.category.into(), class.spec.assignment.into()];
        metrics.activity_class_info.with_label_values(&labels).set(1);
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
        metrics
            .registration_over_limit
            .with_label_values(&it)
            .set(i64::from(report.over.is_some()));
        if let Some(forecast) = &report.forecast {
            let at = forecast.at.0 as f64 / 1000.0;
            metrics.registration_forecast.with_label_values(&it).set(at);
        }
        used(report, object, metrics);
        limits(namespace, name, spec, metrics);
    }
}

fn used(report: &RegistrationReport, object: &Registration, metrics: &Metrics) {
    let (namespace, name) = parts(&report.registration);
    let usage = object.status.as_ref().and_then(|status| status.usage.as_ref());
    for (limit, value) in [
        ("gpus", Some(f64::from(report.gpus))),
        ("watts", Some(report.watts as f64)),
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
