//! Each query of the dashboards has an answer. The crate `daylight-dashboards` tests the rest.

use std::path::{Path, PathBuf};
use std::time::Duration;

use daylight_crds::Miner;
use daylight_test_site::program::Process;
use daylight_test_site::{OFFICER, SOON, Site, eventually};
use daylight_testbed::Exporters;
use daylight_testbed::trials::{Outcome, Skip, apply, trial};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::EXPORTER;
use crate::light_work::positive_list;
use crate::prometheus::{Prometheus, lint, missing};

fn dashboards() -> Vec<(PathBuf, Value)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/daylight/dashboards");
    let mut found: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            (path, serde_json::from_str(&text).unwrap())
        })
        .collect();
    found.sort_by(|a: &(PathBuf, Value), b| a.0.cmp(&b.0));
    assert_eq!(found.len(), 5);
    found
}

/// Panels of what does not happen here, and has no series until it does. Prometheus must accept their
/// queries all the same.
const MAY_BE_EMPTY: [&str; 9] = [
    // Only if the limit will be reached in this period.
    "Energy limit reached in",
    // AI jobs get their GPUs at once, and no pod is refused.
    "Oldest AIJob queued",
    "Pods refused",
    // The registration is approved, and its miners have no agent.
    "Waits for approval",
    "Replicas that earn nothing",
    // Every exporter answers.
    "Nodes whose energy is late",
    // No admission policies are installed.
    "Admission",
    // The API server may accept every write.
    "Failed attempts by category",
    "Failed attempts by kind",
];

/// Everything that can happen happens once; then each query of each dashboard has an answer, and
/// promtool has nothing to say against the metrics.
#[apply(trial!)]
async fn every_query_of_every_dashboard_has_an_answer(site: &mut Site) -> Outcome {
    if let Some(why) = missing() {
        return Err(Skip(why).into());
    }
    let nodes = site.nodes(2).await;
    let exporters = Exporters::dcgm().refresh(Duration::from_secs(1)).power_limit();
    site.control_plane.create_exporters(&exporters).await.unwrap();
    site.pool(json!({"powerBudgetWatts": 1_000_000})).await;
    let energy = json!({"kwh": 1_000_000, "period": "Year"});
    let limits = json!({"gpus": 16, "watts": 16_000, "energy": energy});
    let owner = json!({"gpus": 32, "watts": 32_000, "energy": energy});
    let operator = json!({"name": "Tenant", "ownerPseudonym": "0".repeat(64)});
    let spec = json!({"operator": operator, "limits": limits, "ownerLimits": owner});
    site.filed_with("reg", spec).await;
    site.approve("reg");
    site.filed("not-yet", json!({"gpus": 16})).await;
    let auditor = Process::auditor(
        &site.control_plane,
        &site.key_dash("audit"),
        "journal-dashboards",
        &EXPORTER,
    );
    site.start_with(&["--metered", "--record-after", "10m"]);
    let targets = [site.processes[0].listen.clone(), auditor.listen.clone()];
    let targets = [&*targets[0], &*targets[1]];
    let directory = site.control_plane.directory().to_owned();
    let prometheus = Prometheus::start(&directory, &targets).await;
    eventually(SOON, "the auditor reads the exporters", || async {
        (auditor.metric("daylight_metered_nodes", &["exporter"]).await? >= 2.0).then_some(())
    })
    .await;

    miner(site).await;
    site.wait_for_mining(14).await;
    undeclared(site).await;
    site.ai_job("training", 1, 8, json!({})).await;
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    // On the other node.
    other_columns(site).await;
    // A counter that begins again leaves a gap.
    let boots = "daylight.dev/simulated-boots";
    site.control_plane.annotate_node(&nodes[0], boots, Some("2")).await.unwrap();
    eventually(Duration::from_mins(2), "a gap is booked", || async {
        let gaps = auditor.metric("daylight_meter_gap_seconds_total", &[]).await?;
        (gaps > 0.0).then_some(())
    })
    .await;
    site.daylight(&["stop", "-m", "test", "--as", OFFICER]);
    eventually(SOON, "mining has ended", || async {
        site.pods("daylight.dev/miner").await.is_empty().then_some(())
    })
    .await;
    site.daylight(&["resume", "-m", "test", "--as", OFFICER]);
    eventually(SOON, "it mines again", || async { (site.mining().await.len() >= 4).then_some(()) })
        .await;
    // For the rates over the last scrapes, and idle energy.
    tokio::time::sleep(Duration::from_secs(10)).await;

    for (name, process) in [("controller", &site.processes[0]), ("auditor", &auditor)] {
        let (code, exposition) = process.get("/metrics").await.unwrap();
        assert_eq!(code, 200);
        assert_eq!(lint(&exposition), "", "promtool about the {name}");
    }
    let mut asked = 0;
    let mut without = Vec::new();
    for (path, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            let may_be_empty = panel["title"].as_str().is_some_and(|it| MAY_BE_EMPTY.contains(&it));
            for target in panel["targets"].as_array().into_iter().flatten() {
                asked += 1;
                if let Err(why) = ask(&prometheus, target, &site.name, may_be_empty) {
                    let (file, title) = (path.file_name().unwrap(), &panel["title"]);
                    without.push(format!("{} {title} {}: {why}", file.display(), target["refId"]));
                }
            }
        }
    }
    println!("{asked} queries asked of Prometheus");
    assert!(without.is_empty(), "{} without an answer:\n{}", without.len(), without.join("\n"));
    let dcgm = ["delete", "daemonset", "--namespace", "gpu-operator", "nvidia-dcgm-exporter"];
    site.control_plane.kubectl_ok(dcgm).await.unwrap();
    auditor.terminate().await;
    Ok(())
}

/// A miner whose pods report their work as they end.
async fn miner(site: &Site) {
    let work = json!({
        "daylight.dev/work": "v1", "sharesAccepted": "7", "sharesRejected": 1, "hashes": "9000000000",
    });
    let miner = json!({
        "metadata": {"name": "miner", "annotations": {
            "daylight.dev/simulated-drain-time": "200ms",
            "daylight.dev/simulated-termination-message": work.to_string(),
        }},
        "spec": {
            "registration": "reg", "replicas": 14, "wattsPerReplica": 300, "drainTimeout": "5s",
            "image": "registry.example.com/miners/kaspa:1",
        },
    });
    daylight_test_site::create(&site.namespaced::<Miner>(), miner).await;
}

/// Registered work in the columns Compute and Finance, and in two columns at once.
async fn other_columns(site: &Site) {
    positive_list(site).await;
    for class in ["distributed-storage", "pos-validator", "useful-work-mining"] {
        site.filed_with(class, json!({"activityClass": class, "limits": {"gpus": 1}})).await;
        site.approve(class);
        let labels = json!({"daylight.dev/activity": class, "daylight.dev/registration": class});
        let limits = json!({"nvidia.com/gpu": "1", "cpu": "1"});
        let pod = json!({
            "metadata": {"name": class, "labels": labels},
            "spec": {"containers": [{
                "name": "main", "image": "main", "resources": {"limits": limits},
            }]},
        });
        daylight_test_site::create(&site.namespaced::<k8s_openapi::api::core::v1::Pod>(), pod)
            .await;
    }
}

/// A pod that holds a GPU and declares no class.
async fn undeclared(site: &Site) {
    let pods: Api<k8s_openapi::api::core::v1::Pod> = site.namespaced();
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "undeclared"},
        "spec": {"containers": [{
            "name": "main", "image": "main", "resources": {"limits": {"nvidia.com/gpu": "1"}},
        }]},
    }));
    pods.create(&PostParams::default(), &pod.unwrap()).await.unwrap();
}

/// Asks as Grafana would, with all pools and the site's registration selected. No series is an answer
/// if it `may_be_empty`.
fn ask(
    prometheus: &Prometheus,
    target: &Value,
    namespace: &str,
    may_be_empty: bool,
) -> Result<(), String> {
    let range = prometheus.age().as_secs().to_string();
    let query = target["expr"]
        .as_str()
        .unwrap()
        .replace("$__rate_interval", "10s")
        .replace("$__range_s", &range)
        .replace("$__range", &format!("{range}s"))
        .replace("$pool", ".*")
        .replace("$namespace", namespace)
        .replace("$registration", "reg")
        .replace("$site", ".*")
        .replace("$owner", ".*");
    // A group of label_replace() is no variable.
    let variables = query.replace("$1", "");
    assert!(!variables.contains('$'), "a variable that is not known: {query}");
    let instant = target["instant"] == true;
    let series = if instant { prometheus.instant(&query)? } else { prometheus.range(&query)? };
    if may_be_empty && series.is_empty() {
        return Ok(());
    }
    let number = |value: &Value| value[1].as_str().and_then(|text| text.parse::<f64>().ok());
    let has_number = |one: &Value| {
        let values = one["values"].as_array().cloned().unwrap_or_default();
        let all = values.iter().chain(std::iter::once(&one["value"]));
        all.filter_map(number).any(f64::is_finite)
    };
    if !series.iter().any(has_number) {
        return Err(format!("no number of {query}"));
    }
    // What the legend names is there to be shown.
    let legend = target["legendFormat"].as_str().unwrap_or_default();
    for label in legend.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")) {
        if series.iter().any(|one| one["metric"][label.0].is_null()) {
            return Err(format!("the legend names {}, which {query} does not give", label.0));
        }
    }
    Ok(())
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
}
