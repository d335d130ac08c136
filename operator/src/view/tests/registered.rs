//! Registrations for work that requests no GPU, and the pods that run under any.

use serde_json::{Value, json};

use crate::view::RegisteredWork;
use crate::view::tests::TestCluster;
use crate::view::tests::test_cluster::{
    class, ended, lease, miner, node, patched, pool, registration, running,
};

/// A registration without pools.
fn without_pools(name: &str) -> Value {
    let spec = json!({
        "pools": null, "activityClass": "validator", "wattsPerReplica": 40,
        "limits": {"gpus": null, "replicas": 2},
    });
    patched(&registration(name), &json!({ "spec": spec }))
}

/// A pod that a tenant created; it requests no GPU.
fn validator(name: &str, registration: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "team", "uid": format!("pod-{name}"),
            "labels": {"daylight.dev/activity": "validator", "daylight.dev/registration": registration},
        },
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
        "status": {"phase": "Pending"},
    })
}

#[test]
fn a_registration_without_pools_is_for_work_that_tenants_start() {
    let problem = |objects: &[Value]| {
        let cluster = TestCluster::with(objects);
        cluster.registration("team/reg").unwrap().problem.map(|problem| problem.to_string())
    };
    let guaranteed = class("validator", "Guaranteed");
    assert_eq!(problem(&[guaranteed.clone(), without_pools("reg")]), None);
    let idle_only = class("validator", "IdleOnly");
    assert_eq!(
        problem(&[idle_only.clone(), without_pools("reg")]).unwrap(),
        "spec.pools is empty, but ActivityClass validator is IdleOnly, so its miners need a GpuPool; name one in spec.pools."
    );
    let named = patched(&without_pools("reg"), &json!({"spec": {"pools": ["a"]}}));
    assert_eq!(
        problem(&[idle_only, pool("a"), named]).unwrap(),
        "spec.limits.replicas counts pods that tenants create, but ActivityClass validator is IdleOnly; limit its miners by spec.limits.gpus."
    );
    // What voids its approval has no pool to name.
    let approval = json!({
        "state": "Approved", "by": "olga", "at": "2026-11-23T00:00:00Z", "generation": 1,
        "specDigest": format!("sha256:{}", "0".repeat(64)), "digestVersion": 1,
    });
    let approved = patched(&without_pools("reg"), &json!({"status": {"approval": approval}}));
    let cluster = TestCluster::with(&[guaranteed, approved]);
    let voided_by = cluster.registration("team/reg").unwrap().voided_by.unwrap();
    assert_eq!(&*voided_by, "ActivityClass validator changed");
}

#[test]
fn pods_count_for_their_registration_from_their_node_to_their_end() {
    let first = validator("v-0", "validators");
    let mut cluster = TestCluster::with(&[
        pool("a"),
        node("n1", "a"),
        class("validator", "Guaranteed"),
        class("pow", "IdleOnly"),
        without_pools("validators"),
        registration("reg"),
        miner("m"),
        first.clone(),
        running(&validator("v-1", "validators"), "n1"),
        running(&lease("m", "n1", 0), "n1"),
        running(&validator("stray", "nothing"), "n1"),
    ]);
    let work = |cluster: &TestCluster, name: &str| cluster.view.registered_work(name);
    let of = |replicas, declared_watts| RegisteredWork { replicas, declared_watts };
    assert_eq!(work(&cluster, "team/validators"), of(1, 40));
    assert_eq!(work(&cluster, "team/reg"), of(1, 0));
    assert_eq!(work(&cluster, "team/nothing"), of(1, 0));
    cluster.apply(&running(&first, "n1"));
    assert_eq!(work(&cluster, "team/validators"), of(2, 80));
    // With a GPU it is metered, and declares nothing.
    let gpu = json!({"spec": {"containers": [{"name": "c", "resources": {
        "requests": {"nvidia.com/gpu": "1"},
    }}]}});
    cluster.apply(&running(&patched(&first, &gpu), "n1"));
    assert_eq!(work(&cluster, "team/validators"), of(2, 40));
    cluster.apply(&ended(&running(&validator("v-1", "validators"), "n1"), "Failed"));
    assert_eq!(work(&cluster, "team/validators"), of(1, 0));
    cluster.delete(&first);
    cluster.delete(&validator("stray", "nothing"));
    cluster.delete(&lease("m", "n1", 0));
    for name in ["team/validators", "team/reg", "team/nothing"] {
        assert_eq!(work(&cluster, name), RegisteredWork::default(), "{name}");
    }
}
