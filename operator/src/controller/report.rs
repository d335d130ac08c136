//! What Prometheus is told of the site.

use daylight_base::Name;
use daylight_crds::{Registration, RegistrationSpec};
use daylight_planner::explain::{Plan, RegistrationReport};

use super::executor::Executor;
use super::executor::finish::refuse;
use super::executor::refusals::By;
use super::metrics::Metrics;
use super::site::Site;
use super::status::registration;
use crate::view::Observation;
use daylight_cluster::names::parts;
use daylight_cluster::slim::PodFailure;

/// Notes something that happened in the cluster.
pub fn seen(seen: &Observation, site: &mut Site, executor: &mut Executor) {
    match seen {
        Observation::AiPodBound { pod, waited, .. } => {
            // Workers of AIJobs wait as a gang, and are told of when all of it is bound.
            let worker = site.view.cluster().pod(pod).is_some_and(|pod| pod.ai_job.is_some());
            if !worker {
                let miners = site.displaced_for(pod);
                site.metrics.observe_ai_wait("Pod", *waited);
                site.metrics.observe_ai_wait_for_miners("Pod", miners);
            }
        }
        Observation::MinerEnded { pod, miner, failed, failure, ran, .. } => {
            if let Some(ran) = ran {
                site.refusals.ran(miner, *ran);
            }
            if *failed {
                let why = failure.as_ref().map_or("", |failure| &*failure.sentence);
                tracing::info!(%pod, why, "A miner's pod failed by itself.");
            }
            failure.iter().for_each(|failure| pod_failed(miner, failure, site));
            executor.ended(pod, site);
        }
        Observation::MinerStuck { miner, failure } => pod_failed(miner, failure, site),
        Observation::MinerReady { miner } => {
            site.failures.remove(miner);
            if site.refusals.works(miner) {
                site.tell_again(miner);
            }
        }
        Observation::AiJobGone { job } => executor.forget_job(job),
    }
}

/// A miner's pod failed. What the miner would meet anywhere caps the miner; for the rest its slot
/// rests.
fn pod_failed(miner: &Name, failure: &PodFailure, site: &mut Site) {
    let PodFailure { word, sentence, own, .. } = failure;
    if *own {
        refuse(miner, By::Itself, (word, format!("A replica failed: {sentence}.")), site);
    } else {
        site.failures.insert(miner.clone(), failure.clone());
    }
}

/// Sets the gauges to what the plan and the picture say.
pub fn metrics(plan: &Plan, site: &Site) {
    let metrics = &site.metrics;
    let _whole = metrics.whole.hold();
    metrics.pool_gpus.reset();
    for report in &plan.pools {
        metrics.set_pool(&report.pool, &report.gpus);
    }
    metrics.assigned_gpus.reset();
    for (assigned, gpus) in site.view.assigned() {
        let registration = assigned.registration.as_deref().map_or("", |key| parts(key).1);
        let class = assigned.class.as_deref().unwrap_or("undeclared");
        let labels = [&*assigned.pool, class, registration, &*assigned.namespace];
        metrics.assigned_gpus.with_label_values(&labels).set(gpus.into());
    }
    registrations(plan, site);
    metrics.activity_class_info.reset();
    for (name, class) in site.view.cluster().classes() {
        let (category, assignment) =
            (format!("{:?}", class.spec.category), format!("{:?}", class.spec.assignment));
        metrics.activity_class_info.with_label_values(&[&**name, &category, &assignment]).set(1);
    }
}

fn registrations(plan: &Plan, site: &Site) {
    let metrics = &site.metrics;
    metrics.registration_info.reset();
    metrics.registration_status.reset();
    metrics.registration_expiry.reset();
    metrics.registration_limit.reset();
    metrics.registration_used.reset();
    metrics.registration_over_limit.reset();
    metrics.registration_forecast.reset();
    for report in &plan.registrations {
        let key = &report.registration;
        let Some(object) = site.view.cluster().registration(key) else { continue };
        let (namespace, name) = parts(key);
        let spec = &object.spec;
        let info = [namespace, name, &*spec.activity_class, &*spec.site, &*spec.operator.name];
        metrics.registration_info.with_label_values(&info).set(1);
        let state = format!("{:?}", registration::state(&report.state));
        metrics.registration_status.with_label_values(&[namespace, name, &*state]).set(1);
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
