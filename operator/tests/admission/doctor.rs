//! `daylight doctor` finds nothing wrong with what the charts installed, and each way of spoiling it.

use daylight_testbed::trials::{apply, trial};
use serde_json::{Value, json};

use crate::cluster::{Cluster, SYSTEM, TENANT, chart, classes, gpu_pod, registrations};
use crate::process::command;
use crate::request::Change;

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
const PRIORITIES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const CLASSES: &str = "/apis/daylight.dev/v1alpha1/activityclasses";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const ROLE_BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

/// What the doctor calls a problem.
async fn problems(cluster: &Cluster) -> Vec<String> {
    let output = command(&cluster.control_plane.environment(), &["doctor", "-o", "json"]).await;
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let problems = found.iter().filter(|one| one["level"] == "Problem");
    // Why the auditor has no node changes with the nodes that there are.
    let sentence = |one: &Value| {
        let sentence = one["sentence"].as_str().unwrap();
        let id = one["id"].as_str().unwrap();
        let end = if id == "Auditor" { sentence.find(" (") } else { None };
        sentence[..end.unwrap_or(sentence.len())].to_owned()
    };
    let problems: Vec<String> = problems.map(sentence).collect();
    assert_eq!(output.status.success(), problems.is_empty());
    problems
}

/// An object as it can be created again.
async fn object(cluster: &Cluster, path: &str) -> Value {
    let text = cluster.control_plane.kubectl_ok(["get", "--raw", path]).await.unwrap();
    let mut object: Value = serde_json::from_str(&text).unwrap();
    for field in ["resourceVersion", "uid", "creationTimestamp", "generation", "managedFields"] {
        object["metadata"].as_object_mut().unwrap().remove(field);
    }
    object
}

/// Spoils something, sees that the doctor says so, and mends it.
async fn expect_finding(
    cluster: &Cluster,
    spoil: &[Change],
    mend: &[Change],
    what: &str,
    sound: &[String],
) {
    for change in spoil {
        cluster.make_as_admin(change).await;
    }
    let found = problems(cluster).await;
    let new: Vec<&String> = found.iter().filter(|one| !sound.contains(one)).collect();
    assert!(new.iter().any(|one| one.contains(what)), "{what}: {new:#?}");
    println!("{}", new.iter().find(|one| one.contains(what)).unwrap());
    for change in mend {
        cluster.make_as_admin(change).await;
    }
}

#[apply(trial!)]
async fn a_sound_installation_is_found_sound_and_each_spoiled_one_is_told(cluster: &Cluster) {
    // Of a controller that another test killed: it would end, and be found, at some time in between.
    let lease = ["delete", "lease", "daylight-controller", "-n", SYSTEM, "--ignore-not-found"];
    cluster.control_plane.kubectl_ok(lease).await.unwrap();
    let sound = problems(cluster).await;
    // No image is there to run.
    assert!(sound.iter().all(|one| one.contains("ready") || one.contains("leads")), "{sound:#?}");

    let output = command(&cluster.control_plane.environment(), &["doctor"]).await;
    println!("{}", String::from_utf8_lossy(&output.stdout));
    let output = command(&cluster.control_plane.environment(), &["doctor", "--all"]).await;
    let all = String::from_utf8_lossy(&output.stdout).into_owned();
    for sentence in [
        "passed   The API server decides by the current list of registrations.",
        "warning  Pods in the namespaces daylight-system, labelled, ",
    ] {
        assert!(all.contains(sentence), "{sentence}: {all}");
    }
    // A user who may read little sees what is not checked, and the rest is checked.
    let output =
        command(&cluster.control_plane.environment(), &["doctor", "--as", TENANT, "-o", "json"])
            .await;
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let unread = |one: &Value| one["sentence"].as_str().unwrap().starts_with("You may not list");
    assert!(found.iter().filter(|one| one["level"] == "Unknown" && unread(one)).count() > 5);

    let named = |collection: &str, name: &str| format!("{collection}/{name}");
    let delete_and_create = async |collection: &str, name: &str| {
        let path = named(collection, name);
        let object = object(cluster, &path).await;
        ([Change::delete(&path)], [Change::create(collection, object)])
    };
    for (collection, name) in [
        (POLICIES, "daylight-lists"),
        (BINDINGS, "daylight-miner-pods"),
        (PRIORITIES, "daylight-miner"),
    ] {
        let (spoil, mend) = delete_and_create(collection, name).await;
        expect_finding(cluster, &spoil, &mend, &format!("{name} is missing"), &sound).await;
    }

    // The lists are the controller's.
    cluster.lists(&registrations(), &Value::Null).await;
    let found = problems(cluster).await;
    assert!(
        found.iter().any(|one| one.contains("AdmissionList daylight-system/classes is missing")),
        "{found:#?}"
    );
    cluster.lists(&registrations(), &classes()).await;

    let policy = named(POLICIES, "daylight-gpu-pods");
    let before = object(cluster, &policy).await;
    let edit = |field: &str, value: Value| Change::patch(&policy, json!({"spec": {field: value}}));
    let as_before = |field: &str| edit(field, before["spec"][field].clone());
    let mut lax = before["spec"]["validations"].clone();
    lax[0]["expression"] = json!("true");
    for (field, value) in [
        ("failurePolicy", json!("Ignore")),
        ("validations", lax),
        ("matchConditions", json!([{"name": "never", "expression": "false"}])),
    ] {
        let what = "daylight-gpu-pods differs from this version";
        expect_finding(cluster, &[edit(field, value)], &[as_before(field)], what, &sound).await;
    }

    let binding = named(BINDINGS, "daylight-miner-pods");
    let act =
        |actions: Value| Change::patch(&binding, json!({"spec": {"validationActions": actions}}));
    expect_finding(
        cluster,
        &[act(json!(["Audit"]))],
        &[act(json!(["Deny", "Audit"]))],
        "rules about miners must always be enforced",
        &sound,
    )
    .await;

    let below = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": "below"}, "value": -2_000_000,
    });
    expect_finding(
        cluster,
        &[Change::create(PRIORITIES, below)],
        &[Change::delete(&named(PRIORITIES, "below"))],
        "cannot displace miners",
        &sound,
    )
    .await;

    // A class that admission takes for one of AI.
    let class = json!({
        "apiVersion": "daylight.dev/v1alpha1", "kind": "ActivityClass",
        "metadata": {"name": "edge-compute"},
        "spec": {"category": "Declared", "assignment": "IdleOnly", "registration": "Required"},
    });
    expect_finding(
        cluster,
        &[Change::create(CLASSES, class)],
        &[Change::delete(&named(CLASSES, "edge-compute"))],
        "admission.guaranteedClasses lists it",
        &sound,
    )
    .await;

    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "assigner"},
        "rules": [{
            "apiGroups": ["daylight.dev"], "resources": ["activityclasses"], "verbs": ["assign"],
        }],
    });
    let bound = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "assigner"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "assigner",
        },
        "subjects": [{
            "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory@example.com",
        }],
    });
    expect_finding(
        cluster,
        &[Change::create(ROLES, role), Change::create(ROLE_BINDINGS, bound)],
        &[
            Change::delete(&named(ROLE_BINDINGS, "assigner")),
            Change::delete(&named(ROLES, "assigner")),
        ],
        "lets User mallory@example.com start pods of classes that fill idle GPUs",
        &sound,
    )
    .await;
    let mut second = object(cluster, &named(ROLE_BINDINGS, "daylight-controller")).await;
    second["metadata"]["name"] = json!("second");
    second["subjects"] = json!([{
        "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory@example.com",
    }]);
    expect_finding(
        cluster,
        &[Change::create(ROLE_BINDINGS, second)],
        &[Change::delete(&named(ROLE_BINDINGS, "second"))],
        "User mallory@example.com has the ClusterRole daylight-controller",
        &sound,
    )
    .await;
    on_a_node_of_a_pool(cluster, &sound).await;
    assert_eq!(problems(cluster).await, sound);
    // What was mended by hand is helm's again.
    let daylight = chart("daylight");
    cluster.helm(&["upgrade", "daylight", &daylight, "--reuse-values", "--force-conflicts"]).await;
}

/// A command against a server that does not answer, or that the kubeconfig does not trust, fails with one
/// sentence that has the cause. None passes for a success.
#[apply(trial!)]
async fn without_an_api_server_every_command_is_one_sentence(cluster: &Cluster) {
    let environment = cluster.control_plane.environment();
    let (_, kubeconfig) = environment.iter().find(|(name, _)| *name == "KUBECONFIG").unwrap();
    let kubeconfig = std::fs::read_to_string(kubeconfig).unwrap();
    let edited = |name: &str, field: &str, value: Value| {
        let path = cluster.control_plane.directory().join(name);
        let mut edited: Value = serde_json::from_str(&kubeconfig).unwrap();
        edited["clusters"][0]["cluster"][field] = value;
        std::fs::write(&path, edited.to_string()).unwrap();
        path
    };
    let elsewhere = edited("no-server", "server", json!("https://127.0.0.1:1"));
    let untrusted = edited("no-authority", "certificate-authority", Value::Null);
    for (kubeconfig, cause) in [(elsewhere, "Connection refused"), (untrusted, "certificate")] {
        for arguments in [
            &["status"][..],
            &["status", "-n", "tenant-a"],
            &["doctor"],
            &["why", "pod", "tenant-a/x"],
            &["approve", "tenant-a/x"],
            &["stop", "-m", "smoke"],
            &["release"],
        ] {
            let output = command(&vec![("KUBECONFIG", kubeconfig.clone())], arguments).await;
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success(), "{arguments:?} succeeded");
            assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
            assert!(error.starts_with("Error: Cannot connect to the API server: "), "{error}");
            assert!(error.contains(cause), "{arguments:?}: {error}");
        }
    }
}

/// Pods that came in where nothing is refused.
async fn on_a_node_of_a_pool(cluster: &Cluster, sound: &[String]) {
    let pools = "/apis/daylight.dev/v1alpha1/gpupools";
    let pool = json!({
        "apiVersion": "daylight.dev/v1alpha1", "kind": "GpuPool",
        "metadata": {"name": "doctors"},
        "spec": {
            "nodeSelector": {"matchLabels": {"doctor": "yes"}}, "resource": "nvidia.com/gpu",
            "site": {"name": "site-1", "timeZone": "Etc/UTC"},
        },
    });
    cluster.make_as_admin(&Change::create(pools, pool)).await;
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "doctors-node", "labels": {"doctor": "yes"}},
    });
    cluster.make_as_admin(&Change::create("/api/v1/nodes", node)).await;
    let amounts = json!({"nvidia.com/gpu": "8", "cpu": "64", "memory": "64Gi", "pods": "110"});
    let offered = json!({"status": {"allocatable": amounts, "capacity": amounts}});
    cluster.make_as_admin(&Change::patch("/api/v1/nodes/doctors-node/status", offered)).await;

    let pods = "/api/v1/namespaces/kube-system/pods";
    let bound = |mut pod: Value| {
        pod["spec"]["nodeName"] = json!("doctors-node");
        Change::create(pods, pod)
    };
    let off_list = gpu_pod("off-list", Some("no-such-class"));
    let gone = |name: &str| {
        let mut delete = Change::delete(&format!("{pods}/{name}"));
        delete.body = json!({"gracePeriodSeconds": 0});
        delete
    };
    for (name, pod, what) in [
        ("undeclared", gpu_pod("undeclared", None), "declares no class"),
        ("off-list", off_list, "not on the positive list"),
    ] {
        expect_finding(cluster, &[bound(pod)], &[gone(name)], what, sound).await;
    }
    cluster.make_as_admin(&Change::delete("/api/v1/nodes/doctors-node")).await;
    cluster.make_as_admin(&Change::delete(&format!("{pools}/doctors"))).await;
}
