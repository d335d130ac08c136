//! Work that requests no GPU is on record, on a cluster that has none.

use std::time::Duration;

use daylight_crds::{ActivityClass, Registration};
use daylight_test_site::program::Process;
use daylight_test_site::{SOON, Site, create, eventually};
use daylight_testbed::Nodes;
use daylight_testbed::trials::{apply, trial};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod};
use kube::Api;
use serde_json::{Value, json};

const GIB: f64 = (1_u64 << 30) as f64;

/// A pod that runs until it is deleted, or for a time.
fn pod(name: &str, labels: &Value, run_time: Option<&str>) -> Value {
    let annotations = run_time.map(|time| json!({"daylight.dev/simulated-run-time": time}));
    json!({
        "metadata": {
            "name": name, "labels": labels, "annotations": annotations.unwrap_or(json!({})),
        },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "main", "image": "registry.example.com/node:1",
                "resources": {"requests": {"cpu": "1500m", "memory": "2Gi"}},
            }],
        },
    })
}

/// From its binding to its end, in whole seconds, as Kubernetes reports it.
fn ran_seconds(pod: &Pod) -> Option<f64> {
    let status = pod.status.as_ref()?;
    let bound = status.conditions.as_ref()?.iter().find(|one| one.type_ == "PodScheduled")?;
    let ended = status.container_statuses.as_ref()?.iter().filter_map(|container| {
        container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()
    });
    let ended = ended.map(|time| time.0.as_second()).max()?;
    Some((ended - bound.last_transition_time.as_ref()?.0.as_second()) as f64)
}

/// The books' figures of one account: seconds, CPU-seconds, GiB-seconds of memory.
async fn operated(auditor: &Process, labels: &[&str]) -> Option<[f64; 3]> {
    let pods = auditor.metric("daylight_operating_pod_seconds_total", labels).await?;
    let cpu = auditor.metric("daylight_requested_cpu_seconds_total", labels).await?;
    let memory = auditor.metric("daylight_requested_memory_byte_seconds_total", labels).await?;
    Some([pods, cpu, memory / GIB])
}

/// A storage node with a claim of 10 GiB. It is bound by its spec: no driver provides the volume.
async fn storage_node(site: &Site, class: &str, node: &str) {
    let claim = json!({
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "resources": {"requests": {"storage": "10Gi"}},
        },
    });
    create(&site.namespaced::<PersistentVolumeClaim>(), claim).await;
    let mut pod = pod("store", &json!({"daylight.dev/activity": class}), None);
    pod["spec"]["nodeName"] = json!(node);
    pod["spec"]["volumes"] =
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    create(&site.namespaced::<Pod>(), pod).await;
}

/// A validator ends while the auditor is away, an edge pod begins meanwhile, and another runs all the
/// time, as does a storage node. There is no GPU and no pool. What is booked afterwards is what Kubernetes reports.
#[apply(trial!)]
async fn work_without_gpus_is_booked_without_any_pool(site: &mut Site) {
    let nodes = Nodes::new(1).prefix(&site.name).gpus(0);
    let nodes = site.control_plane.create_nodes(&nodes).await.unwrap();
    let classes: Api<ActivityClass> = Api::all(site.client.clone());
    let [validating, edge, storage] =
        ["validating", "edge", "storage"].map(|class| format!("{}-{class}", site.name));
    for class in [&validating, &edge, &storage] {
        let spec = json!({"category": "DataIndustry", "assignment": "Guaranteed"});
        create(&classes, json!({"metadata": {"name": class}, "spec": spec})).await;
    }
    let at_the_edge = site.key_dash("edge");
    let namespaces: Api<Namespace> = Api::all(site.client.clone());
    let labels = json!({"daylight.dev/activity": edge});
    let metadata = json!({"name": at_the_edge, "labels": labels, "annotations": {"test": "edge"}});
    create(&namespaces, json!({ "metadata": metadata })).await;
    let energy = json!({"kwh": 1000, "period": "Year"});
    let spec = json!({
        "activityClass": validating, "pools": [], "wattsPerReplica": 120,
        "limits": {"replicas": 1, "energy": energy},
    });
    site.filed_with("reg", spec).await;
    site.approve("reg");
    let start = |name: &str| {
        Process::auditor(&site.control_plane, &site.key_dash(name), "journal-without-gpus", &[])
    };
    let auditor = start("audit-1");
    eventually(SOON, "the auditor keeps books", || async {
        (auditor.metric("daylight_booked_until_timestamp_seconds", &[]).await? > 0.0).then_some(())
    })
    .await;

    let pods: Api<Pod> = site.namespaced();
    let edge_pods: Api<Pod> = Api::namespaced(site.client.clone(), &at_the_edge);
    let labels = json!({
        "daylight.dev/activity": validating, "daylight.dev/registration": "reg",
    });
    create(&pods, pod("validator", &labels, Some("12s"))).await;
    create(&pods, pod("misspelt", &json!({"daylight.dev/activity": "vaildating"}), None)).await;
    create(&pods, pod("plain", &json!({}), None)).await;
    create(&edge_pods, pod("first", &json!({}), None)).await;
    storage_node(site, &storage, &nodes[0]).await;
    let of_class = |class: &str| format!("class=\"{class}\"");
    let (validating, edge, storage) = (of_class(&validating), of_class(&edge), of_class(&storage));
    let (validators, at_edge) = ([&*validating, "registration=\"reg\"", "pool=\"\""], [&*edge]);
    eventually(SOON, "validator and edge pod are booked", || async {
        let [seconds, ..] = operated(&auditor, &validators).await?;
        let [others, ..] = operated(&auditor, &at_edge).await?;
        (seconds > 1.0 && others > 1.0).then_some(())
    })
    .await;
    auditor.kill().await;

    create(&edge_pods, pod("second", &json!({}), Some("3s"))).await;
    let ended = async |api: &Api<Pod>, name: &str| {
        eventually(Duration::from_mins(1), "it ends", || async {
            ran_seconds(&api.get(name).await.ok()?)
        })
        .await
    };
    let ran = ended(&pods, "validator").await;
    let second = ended(&edge_pods, "second").await;

    let auditor = start("audit-2");
    eventually(SOON, "the validator is booked as it ran", || async {
        let [seconds, cpu, memory] = operated(&auditor, &validators).await?;
        ((seconds - ran).abs() < 0.001
            && (cpu - 1.5 * ran).abs() < 0.001
            && (memory - 2.0 * ran).abs() < 0.001)
            .then_some(())
    })
    .await;
    assert_eq!(auditor.metric("daylight_books_closed", &[]).await, Some(1.0));
    // Its registration declares its energy, which counts in the limit, with a second at its end.
    let joules = auditor.metric("daylight_pod_energy_joules_total", &["method=\"declared\""]).await;
    assert!((joules.unwrap() - 120.0 * ran).abs() < 0.001, "{joules:?}");
    let registrations: Api<Registration> = site.namespaced();
    site.wait_for_status(registrations, "reg", "metered", |status| {
        let used = status["usage"]["millijoules"].as_str().and_then(|text| text.parse().ok());
        let least = 120_000.0 * ran;
        used.is_some_and(|used: f64| (least..=least + 120_000.0).contains(&used))
    })
    .await;
    // One edge pod still runs, and the other counts with all of its seconds.
    let first = edge_pods.get("first").await.unwrap();
    let conditions = first.status.unwrap().conditions.unwrap();
    let bound = conditions.iter().find(|one| one.type_ == "PodScheduled").unwrap();
    let bound = bound.last_transition_time.as_ref().unwrap().0.as_second();
    eventually(SOON, "the edge pods are booked", || async {
        let [seconds, ..] = operated(&auditor, &at_edge).await?;
        let until = auditor.metric("daylight_booked_until_timestamp_seconds", &[]).await?;
        let ran = until - bound as f64 + second;
        // Totals are shown once they are durable: those of the last entry.
        (seconds > second + 12.0 && (ran - 15.0..=ran + 1.0).contains(&seconds)).then_some(())
    })
    .await;
    eventually(SOON, "each second of the storage node has its claim", || async {
        let [seconds, ..] = operated(&auditor, &[&storage]).await?;
        let claimed = "daylight_claimed_storage_byte_seconds_total";
        let claimed = auditor.metric(claimed, &[&storage]).await? / GIB;
        (seconds > 12.0 && (claimed - 10.0 * seconds).abs() < 0.01).then_some(())
    })
    .await;
    // A class that does not exist shows, and what has none is nothing to the books.
    let namespace = format!("namespace=\"{}\"", site.name);
    let unlisted = ["class=\"unlisted\"", &namespace];
    assert!(operated(&auditor, &unlisted).await.is_some_and(|[seconds, ..]| seconds > 12.0));
    assert_eq!(operated(&auditor, &["class=\"undeclared\"", &namespace]).await, None);
    assert_eq!(operated(&auditor, &["namespace=\"kube-system\""]).await, None);
    // No device has anything of it.
    assert_eq!(auditor.metric("daylight_assigned_gpu_seconds_total", &[]).await, None);
    auditor.terminate().await;
}
