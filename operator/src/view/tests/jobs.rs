//! AI jobs, their Jobs and their workers.

use daylight_base::Timestamp;
use daylight_cluster::slim::Pod;
use daylight_planner::model::{
    Activity, Delta, ExternalStage, JobState, Placement, Preemption, Role, Shape,
};
use serde_json::{Value, json};

use crate::view::Observation;
use crate::view::tests::TestCluster;
use crate::view::tests::test_cluster::{
    ai_job, batch_job, lease, miner, node, patched, pool, registration, worker,
};

fn with_status(job: &Value, status: &Value) -> Value {
    patched(job, &json!({ "status": status }))
}

#[test]
fn a_job_asks_for_what_its_template_asks_for() {
    let (cluster, _) = TestCluster::with_deltas(&[pool("a"), node("n1", "a"), ai_job("train", 16)]);
    let job = cluster.job("ml/train").unwrap();
    assert_eq!(job.workers, 16);
    assert_eq!(
        job.shape,
        Shape { gpus: 2, cpu_milli: 8_000, memory: 64 << 30, huge_pages: [0; 2] }
    );
    assert_eq!(&*job.resource, "nvidia.com/gpu");
    assert_eq!(job.allowed_nodes, None);
    assert_eq!(job.state, JobState::Queued { attempts: 0, suspended_at: None });
    assert_eq!(job.problem, None);
}

#[test]
fn its_state_is_read_from_its_status() {
    let job = ai_job("train", 2);
    let placement = json!([{"node": "n1", "workers": 2}]);
    let placed = vec![Placement { node: "n1".into(), workers: 2 }];
    let at = Timestamp::from_seconds(1_795_500_000);
    for (status, expected) in [
        (
            json!({"state": "Reserved", "placement": placement, "attempts": 1}),
            JobState::Reserved { placement: placed.clone(), attempts: 1 },
        ),
        // One that does not fit the job keeps no GPUs free.
        (
            json!({"state": "Reserved", "placement": [{"node": "n1", "workers": 1}]}),
            JobState::Queued { attempts: 0, suspended_at: None },
        ),
        (
            json!({"state": "Reserved", "placement": [
                {"node": "n1", "workers": 2}, {"node": "n2", "workers": 1},
            ]}),
            JobState::Queued { attempts: 0, suspended_at: None },
        ),
        (
            json!({
                "state": "Starting", "placement": placement, "attempts": 2,
                "releasedAt": "2026-11-24T06:00:00Z",
            }),
            JobState::Released { placement: placed, at, attempts: 1 },
        ),
        (
            json!({"state": "Running", "startedAt": "2026-11-24T06:00:00Z"}),
            JobState::Running { since: at },
        ),
        (json!({"state": "Succeeded"}), JobState::Finished),
        (json!({"state": "Failed"}), JobState::Finished),
    ] {
        let mut cluster = TestCluster::with(&[pool("a")]);
        cluster.apply(&with_status(&job, &status));
        assert_eq!(cluster.job("ml/train").unwrap().state, expected, "{status}");
    }
}

#[test]
fn another_queue_or_the_end_of_its_job_decides_first() {
    let queued = patched(&ai_job("train", 2), &json!({"spec": {"queueName": "team"}}));
    let mut cluster = TestCluster::with(&[pool("a")]);
    cluster.apply(&queued);
    assert_eq!(
        cluster.job("ml/train").unwrap().state,
        JobState::External { queue: "ml/team".into(), stage: ExternalStage::Waiting(None) }
    );
    let complete = patched(
        &batch_job("train"),
        &json!({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}),
    );
    cluster.apply(&complete);
    assert_eq!(cluster.job("ml/train").unwrap().state, JobState::Finished);
}

/// Nothing can be created in the namespace any more, so nothing is displaced for its jobs.
#[test]
fn a_job_ends_with_its_namespace() {
    let mut cluster = TestCluster::with(&[pool("a")]);
    let namespace = json!({"kind": "Namespace", "metadata": {"name": "ml", "uid": "ns"}});
    cluster.apply(&namespace);
    cluster.apply(&ai_job("train", 2));
    let ending = json!({"metadata": {"deletionTimestamp": "2026-11-24T06:00:00Z"}});
    let deltas = cluster.apply(&patched(&namespace, &ending));
    assert!(matches!(&*deltas, [Delta::Job(_)]), "{deltas:?}");
    assert_eq!(cluster.job("ml/train").unwrap().state, JobState::Finished);
}

#[test]
fn a_queue_that_kueue_gave_to_the_job_counts_and_its_workload_states_the_reason() {
    let mut cluster = TestCluster::with(&[pool("a")]);
    cluster.apply(&ai_job("train", 2));
    let labels = json!({"metadata": {"labels": {"kueue.x-k8s.io/queue-name": "default"}}});
    let batch = patched(&batch_job("train"), &labels);
    cluster.apply(&batch);
    let state = |cluster: &TestCluster| cluster.job("ml/train").unwrap().state;
    let waiting = |why: Option<&str>| JobState::External {
        queue: "ml/default".into(),
        stage: ExternalStage::Waiting(why.map(Into::into)),
    };
    assert_eq!(state(&cluster), waiting(None));
    let workload = |message: &str, job_uid: &Value| {
        json!({
            "kind": "Workload",
            "metadata": {
                "name": "job-train-1", "namespace": "ml", "uid": "w",
                "ownerReferences": [{
                    "kind": "Job", "name": "train", "uid": job_uid, "controller": true,
                }],
            },
            "status": {"conditions": [
                {"type": "QuotaReserved", "status": "False", "message": message},
            ]},
        })
    };
    let uid = &batch["metadata"]["uid"];
    cluster.apply(&workload("The quota is used up", uid));
    assert_eq!(state(&cluster), waiting(Some("The quota is used up.")));
    // A Workload of an earlier Job of that name.
    cluster.apply(&workload("It is stopped", &json!("earlier")));
    assert_eq!(state(&cluster), waiting(None));
}

#[test]
fn a_worker_is_known_by_the_chain_of_its_owners() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a")]);
    let worker_pod = worker("train", 0);
    // Its label alone proves nothing.
    cluster.apply(&worker_pod);
    let other = Role::Other { activity: Activity::Unlisted, preemption: Preemption::ByScheduler };
    assert_eq!(cluster.pod("ml/train-0").unwrap().role, other);
    cluster.apply(&batch_job("train"));
    assert_eq!(cluster.pod("ml/train-0").unwrap().role, other);
    let deltas = cluster.apply(&ai_job("train", 1));
    assert!(matches!(&*deltas, [Delta::Job(_), Delta::Pod(_)]), "{deltas:?}");
    assert_eq!(
        cluster.pod("ml/train-0").unwrap().role,
        Role::Worker { job: "ml/train".into(), preemption: Preemption::ByScheduler }
    );
    // A Job of the same name with another owner.
    let foreign = patched(
        &batch_job("train"),
        &json!({"metadata": {"ownerReferences": [{"kind": "AIJob", "uid": "other", "controller": true}]}}),
    );
    cluster.apply(&foreign);
    assert_eq!(cluster.pod("ml/train-0").unwrap().role, other);
}

#[test]
fn a_template_may_allow_some_nodes_only() {
    let restricted = patched(
        &ai_job("train", 1),
        &json!({"spec": {"template": {"spec": {"nodeSelector": {"fast": "yes"}}}}}),
    );
    let fast = |name| patched(&node(name, "a"), &json!({"metadata": {"labels": {"fast": "yes"}}}));
    let mut cluster = TestCluster::with(&[pool("a"), fast("n1"), node("n2", "a"), restricted]);
    let allowed = |cluster: &TestCluster| cluster.job("ml/train").unwrap().allowed_nodes;
    assert_eq!(allowed(&cluster), Some(vec!["n1".into()]));
    let deltas = cluster.apply(&fast("n3"));
    assert!(matches!(&*deltas, [Delta::Node(_), Delta::Job(_)]), "{deltas:?}");
    assert_eq!(allowed(&cluster), Some(vec!["n1".into(), "n3".into()]));
    cluster.apply(&node("n1", "a"));
    assert_eq!(allowed(&cluster), Some(vec!["n3".into()]));
    // Where every node passes, nothing is restricted.
    cluster.apply(&fast("n1"));
    cluster.apply(&fast("n2"));
    assert_eq!(allowed(&cluster), None);
    // A node that is gone is no longer one of them.
    cluster.apply(&node("n2", "a"));
    cluster.delete(&fast("n3"));
    assert_eq!(allowed(&cluster), Some(vec!["n1".into()]));
}

#[test]
fn a_job_that_asks_for_nothing_of_a_pool_has_a_problem() {
    let mut cluster = TestCluster::with(&[pool("a")]);
    let without = patched(
        &ai_job("train", 1),
        &json!({"spec": {"template": {"spec": {"containers": [{"name": "w"}]}}}}),
    );
    cluster.apply(&without);
    assert_eq!(
        cluster.job("ml/train").unwrap().problem.as_deref(),
        Some(
            "spec.template requests no pool's resource; set nvidia.com/gpu in a container's resources.limits."
        )
    );
    // The pool of another resource appears, and the job names it.
    let amd = patched(&pool("b"), &json!({"spec": {"resource": "amd.com/gpu"}}));
    cluster.apply(&amd);
    cluster.apply(&patched(&ai_job("two", 1), &json!({"spec": {"pool": "b"}})));
    assert_eq!(
        cluster.job("ml/two").unwrap().problem.as_deref(),
        Some(
            "spec.template requests nvidia.com/gpu, but pool b has amd.com/gpu; name another pool or request amd.com/gpu."
        )
    );
    assert_eq!(
        cluster.view.problem(daylight_cluster::Kind::AiJob, "ml/two"),
        cluster.job("ml/two").unwrap().problem.as_deref()
    );
}

#[test]
fn the_end_of_an_ai_job_is_noted() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a"), ai_job("train", 2)]);
    assert_eq!(cluster.view.take_observations(), []);
    cluster.delete(&ai_job("train", 2));
    let gone = Observation::AiJobGone { job: "ml/train".into() };
    assert_eq!(cluster.view.take_observations().first(), Some(&gone));
}

#[test]
fn a_quantity_that_cannot_be_read_is_named_with_its_field() {
    let limits = json!({"nvidia.com/gpu": "2", "memory": "kubernetes.io/x"});
    let job = patched(
        &ai_job("train", 1),
        &json!({"spec": {"template": {"spec": {"containers": [
            {"name": "w", "resources": {"limits": limits}},
        ]}}}}),
    );
    let cluster = TestCluster::with(&[pool("a"), job]);
    assert_eq!(
        cluster.job("ml/train").unwrap().problem.as_deref(),
        Some(
            "spec.template cannot be read: containers[0].resources.limits[memory]: \"kubernetes.io/x\" is not a quantity; write a number such as 4, 500m or 16Gi."
        )
    );
}

#[test]
fn the_client_that_suspended_its_job_is_known() {
    let mut cluster = TestCluster::with(&[pool("a"), ai_job("train", 2)]);
    let suspended = |manager: &str| {
        patched(
            &batch_job("train"),
            &json!({
                "metadata": {"managedFields": [
                    {"manager": "daylight/queue", "fieldsV1": {"f:spec": {"f:template": {}}}},
                    {"manager": manager, "fieldsV1": {"f:spec": {"f:suspend": {}}}},
                    {"manager": "kube-controller-manager", "fieldsV1": {"f:status": {}}},
                ]},
                "spec": {"suspend": true},
                "status": {"succeeded": 1},
            }),
        )
    };
    cluster.apply(&suspended("daylight/queue"));
    assert_eq!(cluster.job("ml/train").unwrap().suspended_by, None);
    cluster.apply(&suspended("kueue"));
    let job = cluster.job("ml/train").unwrap();
    assert_eq!((job.suspended_by.as_deref(), job.succeeded), (Some("kueue"), 1));
    // Once it is resumed, it does not matter who suspended it.
    cluster.apply(&patched(&suspended("kueue"), &json!({"spec": {"suspend": false}})));
    let job = cluster.job("ml/train").unwrap();
    assert_eq!(job.suspended_by, None);
    assert!(matches!(job.state, JobState::Released { attempts: 0, .. }));
}

#[test]
fn what_admission_adds_to_a_worker_is_planned_from_the_first_pod_on() {
    let mut cluster = TestCluster::with(&[pool("a"), node("n1", "a"), ai_job("train", 1)]);
    let seen = |cluster: &TestCluster| cluster.job("ml/train").unwrap();
    let set = seen(&cluster).shape;
    assert_eq!(seen(&cluster).requests_changed, None);
    cluster.apply(&batch_job("train"));
    let worker = |gpus: u32| {
        patched(
            &worker("train", 0),
            &json!({
                "metadata": {"annotations": {"kubernetes.io/limit-ranger": "LimitRanger plugin set: …"}},
                "spec": {"containers": [{"resources": {"requests": {
                    "cpu": "8", "memory": "64Gi", "nvidia.com/gpu": gpus.to_string(),
                }}}]},
            }),
        )
    };
    cluster.apply(&worker(set.gpus));
    assert_eq!(seen(&cluster).requests_changed, None);
    cluster.delete(&worker(set.gpus));
    cluster.apply(&worker(set.gpus + 1));
    let job = seen(&cluster);
    assert_eq!(job.shape.gpus, set.gpus + 1);
    assert_eq!(
        &*job.requests_changed.unwrap(),
        "Pod ml/train-0 requests 3 nvidia.com/gpu, 2 are set. A LimitRange of the namespace added to it."
    );
    // It is remembered when the pods are gone, until the spec changes.
    cluster.delete(&worker(set.gpus + 1));
    assert_eq!(seen(&cluster).shape.gpus, set.gpus + 1);
    cluster.apply(&patched(&ai_job("train", 1), &json!({"spec": {"priority": 5}})));
    assert_eq!(seen(&cluster).shape, set);
}

#[test]
fn what_a_runtime_class_adds_is_planned_before_the_first_pod() {
    let in_pool = |class: &str| patched(&pool("a"), &json!({"spec": {"runtimeClassName": class}}));
    let mut cluster = TestCluster::with(&[
        in_pool("nvidia"),
        pool("b"),
        node("n1", "a"),
        registration("reg"),
        miner("kaspa"),
        ai_job("train", 1),
    ]);
    let shapes = |cluster: &TestCluster| {
        let (job, miner) = (cluster.job("ml/train").unwrap(), cluster.miner("team/kaspa").unwrap());
        assert_eq!((job.requests_changed, miner.requests_changed), (None, None));
        [job.shape, miner.shape].map(|shape| (shape.cpu_milli, shape.memory))
    };
    let class = |name: &str, memory: &str| {
        json!({
            "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
            "metadata": {"name": name, "uid": name}, "handler": name,
            "overhead": {"podFixed": {"cpu": "50m", "memory": memory}},
        })
    };
    let own = shapes(&cluster);
    let raised = |(cpu, memory): (u64, u64), mebibytes: u64| (cpu + 50, memory + (mebibytes << 20));
    cluster.apply(&class("nvidia", "128Mi"));
    // The job may run in other pools, and its template names no class.
    assert_eq!(shapes(&cluster), [own[0], raised(own[1], 128)]);
    let of_pool = patched(&ai_job("train", 1), &json!({"spec": {"pool": "a"}}));
    cluster.apply(&of_pool);
    assert_eq!(shapes(&cluster), [raised(own[0], 128), raised(own[1], 128)]);
    cluster.apply(&class("nvidia", "256Mi"));
    assert_eq!(shapes(&cluster), [raised(own[0], 256), raised(own[1], 256)]);
    // So does a pod that is about to be created, though nothing was added to it yet.
    let mut pod: Pod = serde_json::from_value(lease("kaspa", "n1", 0)).unwrap();
    pod.requests.cpu_milli = 1;
    let mut out = Vec::new();
    cluster.view.foresee_pod(pod, cluster.now, &mut out);
    let [Delta::Pod(pod)] = &*out else { panic!("{out:?}") };
    assert_eq!(pod.cpu_milli, shapes(&cluster)[1].0);
    // The template's own class counts, and one that does not exist adds nothing.
    cluster.apply(&class("kata", "1Gi"));
    let with = json!({"spec": {"template": {"spec": {"runtimeClassName": "kata"}}}});
    cluster.apply(&patched(&of_pool, &with));
    assert_eq!(shapes(&cluster), [raised(own[0], 1024), raised(own[1], 256)]);
    cluster.apply(&in_pool("missing"));
    cluster.delete(&class("kata", "1Gi"));
    assert_eq!(shapes(&cluster), own);
}

#[test]
fn the_nodes_of_a_runtime_class_are_planned_before_the_first_pod() {
    let in_pool = patched(&pool("a"), &json!({"spec": {"runtimeClassName": "nvidia"}}));
    let tainted = json!({
        "metadata": {"labels": {"runtime": "nvidia"}},
        "spec": {"taints": [{"key": "runtime", "effect": "NoSchedule"}]},
    });
    let mut cluster = TestCluster::with(&[
        in_pool,
        node("n1", "a"),
        patched(&node("n2", "a"), &tainted),
        patched(&ai_job("train", 1), &json!({"spec": {"pool": "a"}})),
    ]);
    let class = |scheduling: Value| {
        json!({
            "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
            "metadata": {"name": "nvidia", "uid": "nvidia"}, "handler": "nvidia",
            "scheduling": scheduling,
        })
    };
    let nodes = |cluster: &TestCluster| {
        let of = |node: &str| {
            let member = cluster.node(node).unwrap().pools.remove(0);
            (member.tolerated, member.runs_miners)
        };
        let allowed = cluster.job("ml/train").unwrap().allowed_nodes;
        let allowed =
            allowed.map(|nodes| nodes.iter().map(ToString::to_string).collect::<Vec<_>>());
        ([of("n1"), of("n2")], allowed)
    };
    assert_eq!(nodes(&cluster), ([(true, true), (false, true)], None));
    let only = Some(vec!["n2".to_owned()]);
    let scheduling = json!({
        "nodeSelector": {"runtime": "nvidia"},
        "tolerations": [{"key": "runtime", "operator": "Exists"}],
    });
    cluster.apply(&class(scheduling));
    assert_eq!(nodes(&cluster), ([(true, false), (true, true)], only.clone()));
    // A node that becomes one of them.
    let labelled = json!({"metadata": {"labels": {"runtime": "nvidia"}}});
    cluster.apply(&patched(&node("n1", "a"), &labelled));
    assert_eq!(nodes(&cluster), ([(true, true), (true, true)], None));
    cluster.apply(&node("n1", "a"));
    assert_eq!(nodes(&cluster).1, only);
    cluster.apply(&class(json!(null)));
    assert_eq!(nodes(&cluster), ([(true, true), (false, true)], None));
}
