//! Promise 1: AI work never depends on Daylight. Every legitimate way to run work is admitted while
//! the positive list is enforced, even if the lists are missing, malformed or full.

use std::process::Command;
use std::time::{Duration, Instant};

use daylight_testbed::Nodes;
use daylight_testbed::trials::{apply, trial};
use serde_json::{Value, json};

use crate::cluster::{
    AUDITOR, CONTROLLER, Cluster, OFFICER, ROBOT, TENANT, classes, gpu_pod, miner, pod,
    registration, registrations,
};
use crate::request::{Change, try_out};

/// Maximum time for Kubernetes' controllers.
const SOON: Duration = Duration::from_mins(1);

/// Returns a pod template of this pod.
fn template(pod: &Value) -> Value {
    let mut labels = pod["metadata"]["labels"].clone();
    labels["app"] = json!("x");
    json!({"metadata": {"labels": labels}, "spec": pod["spec"]})
}

#[apply(trial!)]
async fn every_legitimate_way_is_admitted(cluster: &Cluster) {
    cluster.control_plane.create_nodes(&Nodes::new(4)).await.unwrap();
    let training = template(&gpu_pod("x", Some("ai-training")));
    let mut task = training.clone();
    task["spec"]["restartPolicy"] = json!("Never");
    let selector = json!({"matchLabels": {"app": "x"}});
    let apps = "/apis/apps/v1/namespaces/tenant-a";
    let batch = "/apis/batch/v1/namespaces/tenant-a";
    let named = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});

    // Kubernetes' own controllers create the pods.
    let cron = json!({
        "schedule": "* * * * *", "jobTemplate": {"spec": {"template": task}},
    });
    cluster.make(TENANT, &Change::create(&format!("{batch}/cronjobs"), named("cron", cron))).await;
    // It has missed its last minute, and so runs at once.
    let missed = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(2);
    let missed = json!({"status": {"lastScheduleTime": missed.strftime("%FT%TZ").to_string()}});
    let path = format!("{batch}/cronjobs/cron/status");
    cluster.make_as_admin(&Change::patch(&path, missed)).await;
    for (path, object) in [
        (
            format!("{apps}/deployments"),
            named("deployment", json!({"selector": selector, "template": training})),
        ),
        (
            format!("{apps}/statefulsets"),
            named(
                "statefulset",
                json!({"selector": selector, "template": training, "serviceName": "x"}),
            ),
        ),
        (
            format!("{apps}/daemonsets"),
            named("daemonset", json!({"selector": selector, "template": training})),
        ),
        (format!("{batch}/jobs"), named("job", json!({"template": task}))),
    ] {
        cluster.make(TENANT, &Change::create(&path, object)).await;
    }
    // The Job of an AIJob, as Daylight creates it: with a finalizer, and suspended at first.
    let mut gang = task.clone();
    gang["metadata"]["labels"]["daylight.dev/aijob"] = json!("pretrain");
    gang["metadata"]["labels"]["daylight.dev/pool"] = json!("frankfurt");
    gang["metadata"]["finalizers"] = json!(["daylight.dev/metered"]);
    let jobs = format!("{batch}/jobs");
    let gang = crate::cluster::gang("gang", &gang);
    cluster.make(CONTROLLER, &Change::create(&jobs, gang)).await;
    let release = json!({"spec": {"suspend": false}});
    cluster.make(CONTROLLER, &Change::patch(&format!("{jobs}/gang"), release)).await;

    // Directly.
    let pods = "/api/v1/namespaces/tenant-a/pods";
    let mut validator = gpu_pod("validator", Some("pos-validator"));
    validator["metadata"]["labels"]["daylight.dev/registration"] = json!("validator");
    let mut serving = gpu_pod("serving", Some("ai-inference"));
    serving["spec"]["containers"][0]["image"] = json!("registry.example.com/serving/llm:1");
    let mut web = pod("web", "nginx");
    web["spec"]["volumes"] = json!([{"name": "data", "hostPath": {"path": "/data/sets"}}]);
    web["spec"]["containers"][0]["env"] =
        json!([{"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}]);
    // What cannot give access to a node: system directories for reading, and variables of another name.
    let mut reads = pod("reads", "nginx");
    reads["spec"]["volumes"] =
        json!([{"name": "certificates", "hostPath": {"path": "/etc/ssl/certs"}}]);
    reads["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "certificates", "mountPath": "/etc/ssl/certs", "readOnly": true}]);
    reads["spec"]["containers"][0]["envFrom"] = json!([
        {"configMapRef": {"name": "app", "optional": true}},
        {"prefix": "APP_", "secretRef": {"name": "app", "optional": true}},
    ]);
    let mut with_model = serving.clone();
    with_model["metadata"]["name"] = json!("with-model");
    with_model["spec"]["volumes"] =
        json!([{"name": "model", "image": {"reference": "registry.example.com/serving/model:1"}}]);
    let mut plugin = pod("plugin", "device-plugin");
    plugin["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    plugin["spec"]["volumes"] =
        json!([{"name": "plugins", "hostPath": {"path": "/var/lib/kubelet/device-plugins"}}]);
    // Many charts render a request for no GPU.
    let asks_for = |name: &str, amount: &str| {
        let mut pod = pod(name, "nginx");
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": amount}});
        pod
    };
    let mut ways = 7;
    for (who, namespace, object) in [
        (TENANT, "tenant-a", gpu_pod("plain", Some("ai-training"))),
        (ROBOT, "tenant-a", gpu_pod("by-account", Some("ai-training"))),
        (TENANT, "tenant-a", serving),
        (TENANT, "tenant-a", validator),
        (TENANT, "tenant-a", web),
        (TENANT, "tenant-a", reads),
        (TENANT, "tenant-a", with_model),
        (TENANT, "tenant-a", asks_for("no-gpu", "0")),
        (TENANT, "tenant-a", asks_for("no-gpu-either", "0k")),
        (TENANT, "labelled", gpu_pod("by-namespace", None)),
        (TENANT, "labelled", gpu_pod("by-both", Some("ai-training"))),
        (CONTROLLER, "tenant-a", miner("mines")),
        ("admin", "kube-system", plugin.clone()),
        ("admin", "gpu-operator", plugin.clone()),
    ] {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        match who {
            "admin" => cluster.make_as_admin(&Change::create(&path, object)).await,
            who => cluster.make(who, &Change::create(&path, object)).await,
        };
        ways += 1;
    }
    let plugins = named("plugin", json!({"selector": selector, "template": template(&plugin)}));
    let path = "/apis/apps/v1/namespaces/gpu-operator/daemonsets";
    cluster.make_as_admin(&Change::create(path, plugins)).await;

    // Changes of pods.
    let label = json!({"metadata": {"labels": {"team": "x"}}});
    let debug = json!({"spec": {"ephemeralContainers": [
        {"name": "look", "image": "registry.example.com/train:1"},
    ]}});
    for (who, change) in [
        (TENANT, Change::patch(&format!("{pods}/plain"), label)),
        (TENANT, Change::patch(&format!("{pods}/plain/ephemeralcontainers"), debug)),
        (
            AUDITOR,
            Change::patch(&format!("{pods}/done"), json!({"metadata": {"finalizers": null}})),
        ),
        (TENANT, Change::delete(&format!("{pods}/plain"))),
    ] {
        cluster.make(who, &change).await;
        ways += 1;
    }

    ways += daylights_own_writes(cluster, &task).await;

    // Claims with a class, and of other devices.
    for (kind, class, device) in [
        ("resourceclaims", "ai-training", "gpu.nvidia.com"),
        ("resourceclaims", "", "nic.example.com"),
    ] {
        let path = format!("/apis/resource.k8s.io/v1/namespaces/tenant-a/{kind}");
        let mut claim = named(
            &format!("claim-{}", &device[..3]),
            json!({"devices": {"requests": [
                {"name": "one", "exactly": {"deviceClassName": device}},
            ]}}),
        );
        if !class.is_empty() {
            claim["metadata"]["labels"] = json!({"daylight.dev/activity": class});
        }
        cluster.make(TENANT, &Change::create(&path, claim)).await;
        ways += 1;
    }

    // Registrations: submitted, approved by another user, metered.
    let path = "/apis/daylight.dev/v1alpha1/namespaces/tenant-a/registrations";
    cluster.make(TENANT, &Change::create(path, registration("fresh", TENANT))).await;
    let rejected = Command::new(env!("CARGO_BIN_EXE_daylight"))
        .args(["reject", "tenant-a/fresh", "-m", "not now", "--as", OFFICER])
        .envs(cluster.control_plane.environment())
        .output()
        .unwrap();
    assert!(rejected.status.success(), "{}", String::from_utf8_lossy(&rejected.stderr));
    let filed = Command::new(env!("CARGO_BIN_EXE_daylight"))
        .args(["file", "tenant-a/to-file", "--as", OFFICER])
        .args(["--reference", "N-4711", "--root", crate::cluster::ROOT])
        .envs(cluster.control_plane.environment())
        .output()
        .unwrap();
    assert!(filed.status.success(), "{}", String::from_utf8_lossy(&filed.stderr));
    ways += 1;
    let approval = json!({"status": {"approval": {
        "state": "Approved", "by": OFFICER, "at": "2026-01-01T00:00:00Z", "generation": 1,
        "specDigest": format!("sha256:{}", "0".repeat(64)),
    }}});
    let usage = json!({"status": {"usage": {
        "meteredUntil": "2026-01-01T00:00:00Z", "periodStart": "2026-01-01T00:00:00Z",
        "millijoules": "0",
    }}});
    for (who, change) in [
        (OFFICER, Change::patch(&format!("{path}/fresh/status"), approval)),
        (AUDITOR, Change::patch(&format!("{path}/fresh/status"), usage)),
        (
            CONTROLLER,
            Change::patch(&format!("{path}/fresh/status"), json!({"status": {"state": "Active"}})),
        ),
        // What is decided may be edited by another user, in that user's name, and then again.
        (
            ROBOT,
            Change::patch(
                &format!("{path}/fresh"),
                json!({"spec": {"submittedBy": ROBOT, "limits": {"gpus": 4}}}),
            ),
        ),
        (ROBOT, Change::patch(&format!("{path}/fresh"), json!({"spec": {"limits": {"gpus": 3}}}))),
        (
            "platform@example.com",
            Change::create(
                "/api/v1/namespaces",
                json!({
                    "metadata": {"name": "fresh", "labels": {"daylight.dev/activity": "ai-training"}},
                }),
            ),
        ),
    ] {
        cluster.make(who, &change).await;
        ways += 1;
    }

    for (owner, count, patience) in [
        ("ReplicaSet", 1, SOON),
        ("StatefulSet", 1, SOON),
        ("DaemonSet", 4, SOON),
        ("Job", 3, SOON),
    ] {
        wait_for_pods(cluster, owner, count, patience).await;
    }
    cluster
        .control_plane
        .kubectl_ok(["delete", "namespace", "fresh", "--timeout=60s"])
        .await
        .unwrap();
    println!("{ways} legitimate ways admitted in Enforce");
}

/// Returns the number of writes of controller, auditor and a scheduler, which are all admitted.
async fn daylights_own_writes(cluster: &Cluster, task: &Value) -> usize {
    let pods = "/api/v1/namespaces/tenant-a/pods";
    let api = |plural: &str| format!("/apis/daylight.dev/v1alpha1/namespaces/tenant-a/{plural}");
    let mut released = miner("released");
    released["metadata"]["finalizers"] = json!(["daylight.dev/metered"]);
    // No kubelet says how far it is.
    released["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "nowhere"});
    cluster.make(CONTROLLER, &Change::create(pods, released)).await;
    let ended = json!({"status": {"phase": "Failed"}});
    cluster.make_as_admin(&Change::patch(&format!("{pods}/released/status"), ended)).await;
    let mut to_bind = gpu_pod("to-bind", Some("ai-training"));
    to_bind["spec"]["schedulerName"] = json!("another");
    cluster.make(TENANT, &Change::create(pods, to_bind)).await;
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": "to-bind", "labels": {"rack": "7"}, "annotations": {"by": "another"}},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "node-0000"},
    });
    let mut data = task.clone();
    data["spec"]["volumes"] = json!([{"name": "data", "hostPath": {"path": "/data/sets"}}]);
    data["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    let jobs = "/apis/batch/v1/namespaces/tenant-a/jobs";
    let service = json!({
        "metadata": crate::cluster::gang("data", &data)["metadata"],
        "spec": {"clusterIP": "None", "ports": [{"port": 29500}]},
    });
    let services = "/api/v1/namespaces/tenant-a/services";
    let status = |plural: &str| format!("{}/known/status", api(plural));
    let writes = [
        (
            CONTROLLER,
            Change::patch(&format!("{pods}/released"), json!({"metadata": {"finalizers": null}})),
        ),
        (TENANT, Change::create(&format!("{pods}/to-bind/binding"), binding)),
        (CONTROLLER, Change::create(jobs, crate::cluster::gang("data", &data))),
        (CONTROLLER, Change::create(services, service)),
        (
            CONTROLLER,
            Change::create(&api("leaserecords"), crate::cluster::lease_record("lease-own")),
        ),
        (AUDITOR, Change::delete(&format!("{}/lease-own", api("leaserecords")))),
        (CONTROLLER, Change::patch(&status("aijobs"), json!({"status": {"state": "Queued"}}))),
        (CONTROLLER, Change::patch(&status("miners"), json!({"status": {"reason": "Running"}}))),
        (AUDITOR, Change::patch(&status("miners"), json!({"status": {"message": "Seen."}}))),
    ];
    for (who, change) in &writes {
        cluster.make(who, change).await;
    }
    writes.len()
}

/// Waits until `count` pods of tenant A are controlled by owners of this kind.
async fn wait_for_pods(cluster: &Cluster, owner: &str, count: usize, patience: Duration) {
    let begun = Instant::now();
    loop {
        let owners = [
            "get",
            "pods",
            "-n",
            "tenant-a",
            "-o",
            "jsonpath={.items[*].metadata.ownerReferences[0].kind}",
        ];
        let owners = cluster.control_plane.kubectl_ok(owners).await.unwrap();
        let found = owners.split_whitespace().filter(|kind| *kind == owner).count();
        if found >= count {
            return;
        }
        if begun.elapsed() > patience {
            let events = ["get", "events", "-n", "tenant-a", "--field-selector=type=Warning"];
            let events = cluster.control_plane.kubectl_ok(events).await.unwrap();
            panic!("{found} of {count} pods of a {owner}:\n{events}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[apply(trial!)]
async fn without_valid_lists_ai_work_continues_and_mining_stops(cluster: &Cluster) {
    // As many entries as the controller writes.
    let mut full = serde_json::Map::new();
    let entry = "pow-mining 2020-01-01T00:00:00Z 2099-01-01T00:00:00Z";
    let mut size = 0;
    for number in 0.. {
        let key = format!("tenant-{number:06}.registration");
        size += key.len() + entry.len();
        if size > 1 << 20 {
            break;
        }
        full.insert(key, json!(entry));
    }
    let mut full_classes = serde_json::Map::new();
    let mut size = 0;
    for number in 0.. {
        let key = format!("class-{number:06}");
        size += key.len() + "Guaranteed NotRequired".len();
        if size > 1 << 20 {
            break;
        }
        full_classes.insert(key, json!("Guaranteed NotRequired"));
    }
    let malformed = json!({"tenant-a.night": "\u{2603} \u{0}", "tenant-a.validator": ""});
    for (state, registrations, classes) in [
        ("missing", Value::Null, Value::Null),
        ("empty", json!({}), json!({})),
        ("malformed", malformed, json!({"ai-training": "\u{2603}", "x": "y"})),
        ("malformed, without its classes", json!({"x": ""}), json!({"x": "y"})),
        ("full", Value::Object(full), Value::Object(full_classes)),
    ] {
        cluster.lists(&registrations, &classes).await;
        // The API server reads the lists shortly after they are written.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut privileged = pod("plugin-alone", "device-plugin");
        privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
        for (what, who, namespace, object) in [
            ("AI", TENANT, "tenant-a", gpu_pod("work", Some("ai-training"))),
            ("AI by a namespace", TENANT, "labelled", gpu_pod("work", None)),
            ("a plain pod", TENANT, "tenant-a", pod("work", "nginx")),
            ("a pod of the system", "system:admin", "kube-system", privileged),
        ] {
            let path = format!("/api/v1/namespaces/{namespace}/pods");
            let client = match who {
                "system:admin" => cluster.admin(),
                who => cluster.client(who).await,
            };
            let answer = try_out(&client, &Change::create(&path, object)).await;
            assert!(answer.is_admitted(), "{what}, lists {state}: {}", answer.message());
        }
        let mut validator = gpu_pod("work", Some("pos-validator"));
        validator["metadata"]["labels"]["daylight.dev/registration"] = json!("validator");
        let mut plain = miner("work");
        plain["spec"]["priorityClassName"] = Value::Null;
        for label in ["registration", "miner", "slot", "epoch"] {
            let labels = plain["metadata"]["labels"].as_object_mut().unwrap();
            labels.remove(&format!("daylight.dev/{label}"));
        }
        for (what, who, object) in [
            ("a miner", CONTROLLER, miner("work")),
            ("registered work", TENANT, validator),
            ("mining without Daylight", TENANT, plain),
        ] {
            let path = "/api/v1/namespaces/tenant-a/pods";
            let client = cluster.client(who).await;
            let answer = try_out(&client, &Change::create(path, object)).await;
            assert!(!answer.is_admitted(), "{what} is admitted, lists {state}");
            let unclear = answer.message().contains("resulted in error");
            assert!(!unclear, "{what}, lists {state}: {}", answer.message());
        }
    }
    cluster.lists(&registrations(), &classes()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}
