//! An `AIJob` as a suspended indexed Job with a headless Service.

use std::collections::BTreeMap;

use daylight_crds::labels::{ACTIVITY, AI_JOB, MANAGED_BY, METERED_FINALIZER, POOL};
use daylight_crds::{AiJob, GpuPoolSpec};
use daylight_planner::model::Placement;
use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};
use k8s_openapi::api::core::v1::{
    Affinity, Container, EnvVar, EnvVarSource, NodeAffinity, NodeSelectorRequirement,
    NodeSelectorTerm, ObjectFieldSelector, PodTemplateSpec, PreferredSchedulingTerm, Service,
    ServicePort, ServiceSpec, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use daylight_cluster::quantity::Quantity;
use daylight_cluster::well_known::KUEUE_QUEUE;

/// The pod's place in its gang, as the Job controller annotates it.
const COMPLETION_INDEX: &str = "metadata.annotations['batch.kubernetes.io/job-completion-index']";

/// The node label that the preference uses; kubelets set it to the node's name.
const HOSTNAME: &str = "kubernetes.io/hostname";

fn metadata(job: &AiJob) -> ObjectMeta {
    ObjectMeta {
        name: job.metadata.name.clone(),
        namespace: job.metadata.namespace.clone(),
        labels: Some(BTreeMap::from([
            (AI_JOB.into(), job.name_any()),
            (ACTIVITY.into(), job.spec.activity_class.clone()),
            ("app.kubernetes.io/managed-by".into(), MANAGED_BY.into()),
        ])),
        owner_references: job.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// The headless Service under which worker 0 is found.
pub fn service(job: &AiJob) -> Service {
    Service {
        metadata: metadata(job),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            selector: Some(BTreeMap::from([(
                "batch.kubernetes.io/job-name".into(),
                job.name_any(),
            )])),
            // Workers look for worker 0 before it is ready.
            publish_not_ready_addresses: Some(true),
            ports: Some(vec![ServicePort {
                name: Some("master".into()),
                port: job.spec.master_port.into(),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The Job, suspended. `pool` is the pool that the `AIJob` names, if it names one; with a Kueue
/// queue, no other component adds the pool's tolerations.
pub fn batch_job(job: &AiJob, pool: Option<(&str, &GpuPoolSpec)>, resource: &str) -> Job {
    let workers = i32::try_from(job.spec.workers).unwrap_or(i32::MAX);
    let mut metadata = metadata(job);
    if let (Some(queue), Some(labels)) = (&job.spec.queue_name, &mut metadata.labels) {
        labels.insert(KUEUE_QUEUE.into(), queue.clone());
    }
    let template = template(job, pool, resource);
    let never_restarts =
        template.spec.as_ref().is_some_and(|spec| spec.restart_policy.as_deref() == Some("Never"));
    Job {
        metadata,
        spec: Some(JobSpec {
            suspend: Some(true),
            completion_mode: Some("Indexed".into()),
            completions: Some(workers),
            parallelism: Some(workers),
            // A gang is lost with any of its workers; its own launcher restarts what can be
            // restarted in place.
            backoff_limit: never_restarts.then_some(0),
            // A worker that a drain or a preemption ends has not failed.
            pod_failure_policy: never_restarts.then(disruptions_do_not_count),
            // A replacement would request a GPU that the old worker still holds.
            pod_replacement_policy: Some("Failed".into()),
            active_deadline_seconds: job
                .spec
                .max_run_time
                .as_ref()
                .and_then(|time| i64::try_from(time.as_secs()).ok()),
            template,
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// Adds the auditor's finalizer to the Job's pods, so that their end is recorded before they go.
pub fn metered(mut job: Job) -> Job {
    if let Some(spec) = &mut job.spec {
        let metadata = spec.template.metadata.get_or_insert_default();
        metadata.finalizers.get_or_insert_default().push(METERED_FINALIZER.into());
    }
    job
}

fn disruptions_do_not_count() -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![PodFailurePolicyRule {
            action: "Ignore".into(),
            on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                type_: "DisruptionTarget".into(),
                status: Some("True".into()),
            }]),
            on_exit_codes: None,
        }],
    }
}

fn template(job: &AiJob, pool: Option<(&str, &GpuPoolSpec)>, resource: &str) -> PodTemplateSpec {
    let mut template = job.spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(AI_JOB.into(), job.name_any());
    labels.insert(ACTIVITY.into(), job.spec.activity_class.clone());
    let spec = template.spec.get_or_insert_default();
    spec.subdomain = Some(job.name_any());
    spec.restart_policy.get_or_insert_with(|| "Never".into());
    for container in &mut spec.containers {
        add_rendezvous(container, job, resource);
    }
    if let Some((name, pool)) = pool {
        labels.insert(POOL.into(), name.into());
        spec.tolerations = Some(tolerations(job, pool));
        if spec.runtime_class_name.is_none() {
            spec.runtime_class_name.clone_from(&pool.runtime_class_name);
        }
    }
    template
}

/// The GPUs that a container requests; `None` without any. As a number: Kubernetes also accepts
/// `8000m` and `8e0`, torchrun does not.
fn gpus_of(container: &Container, resource: &str) -> Option<u64> {
    let resources = container.resources.as_ref()?;
    let of = |list: &Option<BTreeMap<String, _>>| list.as_ref()?.get(resource).cloned();
    let quantity = of(&resources.limits).or_else(|| of(&resources.requests))?;
    let gpus = quantity.0.parse::<Quantity>().ok()?.units();
    (gpus > 0).then_some(gpus)
}

/// Returns `true` if only init containers of the template request GPUs, so that the training itself
/// has none.
pub fn only_init_containers_have_gpus(job: &AiJob, resource: &str) -> bool {
    let Some(spec) = &job.spec.template.spec else { return false };
    let has = |container: &Container| gpus_of(container, resource).is_some();
    !spec.containers.iter().any(has) && spec.init_containers.iter().flatten().any(has)
}

/// Adds torchrun's rendezvous variables to a container, unless it sets them itself.
fn add_rendezvous(container: &mut Container, job: &AiJob, resource: &str) {
    let name = job.name_any();
    let master = format!("{name}-0.{name}.{}.svc", job.namespace().unwrap_or_default());
    let gpus = gpus_of(container, resource);
    let rank = EnvVarSource {
        field_ref: Some(ObjectFieldSelector {
            field_path: COMPLETION_INDEX.into(),
            api_version: None,
        }),
        ..EnvVarSource::default()
    };
    let plain = |value: &str| (Some(value.to_owned()), None);
    let port = job.spec.master_port.to_string();
    let env = container.env.get_or_insert_default();
    let mut add = |name: &str, (value, value_from): (Option<String>, Option<EnvVarSource>)| {
        if !env.iter().any(|variable| variable.name == name) {
            env.push(EnvVar { name: name.into(), value, value_from });
        }
    };
    add("PET_NNODES", plain(&job.spec.workers.to_string()));
    add("PET_NODE_RANK", (None, Some(rank)));
    add("PET_MASTER_ADDR", plain(&master));
    add("PET_MASTER_PORT", plain(&port));
    add("MASTER_ADDR", plain(&master));
    add("MASTER_PORT", plain(&port));
    if let Some(gpus) = gpus {
        add("PET_NPROC_PER_NODE", plain(&gpus.to_string()));
    }
}

/// The job's own tolerations and those of the pool.
fn tolerations(job: &AiJob, pool: &GpuPoolSpec) -> Vec<Toleration> {
    let own = job.spec.template.spec.as_ref().and_then(|spec| spec.tolerations.clone());
    let mut all = own.unwrap_or_default();
    for toleration in &pool.tolerations {
        if !all.contains(toleration) {
            all.push(toleration.clone());
        }
    }
    all
}

/// The patch that releases a suspended Job: its pods tolerate the pool's taints and prefer the nodes
/// that were cleared for them. If another pod took a GPU there in the meantime, kube-scheduler
/// still finds a place.
///
/// A JSON merge patch; with the Job's uid in it, it changes no other Job of that name.
pub fn release(
    job: &AiJob,
    uid: &str,
    pool: Option<(&str, &GpuPoolSpec)>,
    placement: &[Placement],
) -> Value {
    let mut spec = json!({});
    let own = job.spec.template.spec.as_ref().and_then(|spec| spec.affinity.clone());
    let mut affinity = own.unwrap_or_default();
    prefer(&mut affinity, placement);
    spec["affinity"] = json!(affinity);
    let mut template = json!({ "spec": spec });
    if let Some((name, pool)) = pool {
        template["spec"]["tolerations"] = json!(tolerations(job, pool));
        template["metadata"] = json!({ "labels": { POOL: name } });
    }
    json!({
        "metadata": { "uid": uid },
        "spec": { "suspend": false, "template": template },
    })
}

fn prefer(affinity: &mut Affinity, placement: &[Placement]) {
    if placement.is_empty() {
        return;
    }
    affinity
        .node_affinity
        .get_or_insert_with(NodeAffinity::default)
        .preferred_during_scheduling_ignored_during_execution
        .get_or_insert_default()
        .push(PreferredSchedulingTerm {
            weight: 100,
            // One term for all nodes: kube-scheduler looks its values up in a set, whereas
            // matchFields would need a term a node.
            preference: NodeSelectorTerm {
                match_expressions: Some(vec![NodeSelectorRequirement {
                    key: HOSTNAME.into(),
                    operator: "In".into(),
                    values: Some(placement.iter().map(|place| place.node.to_string()).collect()),
                }]),
                match_fields: None,
            },
        });
}

/// The change that takes a released Job back.
pub fn suspend(uid: &str) -> Value {
    json!({ "metadata": { "uid": uid }, "spec": { "suspend": true } })
}

#[cfg(test)]
mod tests {
    use daylight_crds::GpuPool;

    use super::*;

    fn job() -> AiJob {
        serde_json::from_value(json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "AIJob",
            "metadata": {"name": "llm", "namespace": "team-b", "uid": "77aa"},
            "spec": {
                "workers": 16, "activityClass": "ai-training", "maxRunTime": "2h",
                "template": {
                    "metadata": {"labels": {"app": "llm"}},
                    "spec": {
                        "containers": [{
                            "name": "train", "image": "registry.example.com/train:1",
                            "env": [{"name": "PET_MASTER_PORT", "value": "1234"}],
                            "resources": {"limits": {"nvidia.com/gpu": "8"}},
                        }],
                        "tolerations": [{"key": "own", "operator": "Exists"}],
                    },
                },
            },
        }))
        .unwrap()
    }

    fn pool() -> GpuPool {
        serde_json::from_value(json!({
            "apiVersion": "daylight.dev/v1alpha1", "kind": "GpuPool",
            "metadata": {"name": "hall-1"},
            "spec": {
                "nodeSelector": {"matchLabels": {"gpu": "true"}},
                "resource": "nvidia.com/gpu", "site": {"name": "oslo"},
                "tolerations": [
                    {"key": "nvidia.com/gpu", "operator": "Exists"},
                    {"key": "own", "operator": "Exists"},
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_gang_becomes_a_suspended_job() {
        insta::assert_yaml_snapshot!(batch_job(&job(), None, "nvidia.com/gpu"));
    }

    #[test]
    fn the_number_of_processes_is_a_number() {
        let processes = |gpus: &str| {
            let mut job = job();
            let container = &mut job.spec.template.spec.as_mut().unwrap().containers[0];
            let limits = container.resources.as_mut().unwrap().limits.as_mut().unwrap();
            limits.get_mut("nvidia.com/gpu").unwrap().0 = gpus.into();
            let built =
                batch_job(&job, None, "nvidia.com/gpu").spec.unwrap().template.spec.unwrap();
            let env = built.containers[0].env.clone().unwrap();
            let variable = env.into_iter().find(|one| one.name == "PET_NPROC_PER_NODE");
            variable.and_then(|variable| variable.value)
        };
        for (gpus, expected) in
            [("8", "8"), ("8000m", "8"), ("1e1", "10"), ("0.8e1", "8"), ("8e0", "8")]
        {
            assert_eq!(processes(gpus).as_deref(), Some(expected), "{gpus}");
        }
        assert_eq!(processes("0"), None);
    }

    #[test]
    fn gpus_of_init_containers_alone_are_noticed() {
        let with = |containers: serde_json::Value, init: serde_json::Value| {
            let mut job = job();
            let spec = json!({"containers": containers, "initContainers": init});
            job.spec.template.spec = serde_json::from_value(spec).unwrap();
            only_init_containers_have_gpus(&job, "nvidia.com/gpu")
        };
        let gpus = json!({"name": "warm", "resources": {"limits": {"nvidia.com/gpu": "8"}}});
        let none = json!({"name": "train"});
        assert!(with(json!([none]), json!([gpus])));
        assert!(!with(json!([gpus]), json!([gpus])));
        assert!(!with(json!([none]), json!([none])));
    }

    #[test]
    fn worker_0_is_found_by_name() {
        insta::assert_yaml_snapshot!(service(&job()));
    }

    #[test]
    fn a_released_job_prefers_its_nodes_and_tolerates_the_pools_taints() {
        let pool = pool();
        let placement = [
            Placement { node: "gpu-1".into(), workers: 1 },
            Placement { node: "gpu-2".into(), workers: 1 },
        ];
        insta::assert_yaml_snapshot!(release(
            &job(),
            "u-1",
            Some(("hall-1", &pool.spec)),
            &placement
        ));
    }

    #[test]
    fn kueue_gets_its_label_and_the_pools_tolerations_at_once() {
        let mut job = job();
        job.spec.queue_name = Some("team-b".into());
        let pool = pool();
        let built = batch_job(&job, Some(("hall-1", &pool.spec)), "nvidia.com/gpu");
        assert_eq!(built.labels().get(KUEUE_QUEUE).map(String::as_str), Some("team-b"));
        let template = built.spec.unwrap().template.spec.unwrap();
        assert_eq!(template.tolerations.unwrap().len(), 2);
    }

    #[test]
    fn a_template_without_a_runtime_class_gets_that_of_its_pool() {
        let mut pool = pool();
        pool.spec.runtime_class_name = Some("nvidia".into());
        let class = |job: &AiJob| {
            let job = batch_job(job, Some(("hall-1", &pool.spec)), "nvidia.com/gpu");
            job.spec.unwrap().template.spec.unwrap().runtime_class_name
        };
        let mut job = job();
        assert_eq!(class(&job).as_deref(), Some("nvidia"));
        job.spec.template.spec.as_mut().unwrap().runtime_class_name = Some("kata".into());
        assert_eq!(class(&job).as_deref(), Some("kata"));
    }

    #[test]
    fn containers_that_restart_in_place_keep_kubernetes_own_limit() {
        let mut job = job();
        job.spec.template.spec.as_mut().unwrap().restart_policy = Some("OnFailure".into());
        let spec = batch_job(&job, None, "nvidia.com/gpu").spec.unwrap();
        assert_eq!((spec.backoff_limit, spec.pod_failure_policy), (None, None));
    }
}
