//! The alerts: each has its section in the documentation, its tests by promtool, and metrics that
//! exist; those whose cause can be made are fired by a real Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use daylight_crds::Miner;
use daylight_test_site::program::Process;
use daylight_test_site::{OFFICER, SOON, Site, create, eventually};
use daylight_testbed::Exporters;
use daylight_testbed::trials::{Outcome, Skip, apply, trial};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::EXPORTER;
use crate::prometheus::{Prometheus, missing};

/// The files with the rules.
pub(crate) fn files() -> [PathBuf; 2] {
    ["controller", "auditor"].map(|part| at(&format!("charts/daylight/alerts/{part}.yaml")))
}

/// A file of the repository.
fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap()
}

/// All rules, those that record included.
fn rules() -> Vec<Value> {
    let groups = files().map(|file| yaml(&file)["groups"].as_array().unwrap().clone());
    groups.concat().iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// The alerts by name.
fn alerts() -> BTreeMap<String, Value> {
    let alerts =
        rules().into_iter().filter_map(|rule| Some((rule["alert"].as_str()?.to_owned(), rule)));
    let alerts: Vec<_> = alerts.collect();
    let by_name: BTreeMap<_, _> = alerts.iter().cloned().collect();
    assert_eq!(by_name.len(), alerts.len(), "an alert twice");
    by_name
}

#[apply(trial!)]
async fn each_alert_has_its_section_and_each_section_its_alert() {
    let page = read(&at("docs/alerts.md"));
    let sections = page.lines().filter_map(|line| line.strip_prefix("### "));
    let sections: BTreeSet<String> = sections.map(str::to_owned).collect();
    let alerts = alerts();
    assert_eq!(sections, alerts.keys().cloned().collect());
    for (name, rule) in alerts {
        let anchor = name.to_lowercase();
        assert_eq!(rule["annotations"]["runbook"], format!("docs/alerts.md#{anchor}"), "{name}");
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity}");
        for text in ["summary", "description"] {
            let text = rule["annotations"][text].as_str().unwrap();
            assert!(text.ends_with('.') && text.len() > 25, "{name}: {text}");
        }
    }
}

/// The words of an expression that could be metrics.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_' || it == ':'))
        .filter(|word| word.starts_with("daylight_") || word.starts_with("daylight:"))
}

#[apply(trial!)]
async fn each_metric_of_an_alert_is_documented() {
    let page = read(&at("docs/metrics.md"));
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let mut known: BTreeSet<String> = rows.map(str::to_owned).collect();
    let rules = rules();
    known.extend(rules.iter().filter_map(|rule| rule["record"].as_str()).map(str::to_owned));
    let mut used = BTreeSet::new();
    for rule in &rules {
        for word in words(rule["expr"].as_str().unwrap()) {
            let name = word.strip_suffix("_bucket").unwrap_or(word);
            assert!(known.contains(name), "{name} in {rule}");
            used.insert(name.to_owned());
        }
    }
    assert!(used.len() > 30, "{used:?}");
}

/// promtool runs the tests; they show each alert to fire and not to, with the labels that its texts
/// name.
#[apply(trial!)]
async fn promtool_shows_each_alert_to_fire_and_to_be_quiet() -> Outcome {
    if let Some(why) = missing() {
        return Err(Skip(why).into());
    }
    let path = at("operator/tests/alerts/tests.yaml");
    let output = Command::new("promtool").args(["test", "rules"]).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");

    let alerts = alerts();
    let tests = yaml(&path);
    let tests = tests["tests"].as_array().unwrap();
    let tested: BTreeSet<&str> = tests.iter().map(|test| test["name"].as_str().unwrap()).collect();
    assert_eq!(tested, alerts.keys().map(String::as_str).collect());
    for test in tests {
        let name = test["name"].as_str().unwrap();
        let checks = test["promql_expr_test"].as_array().unwrap();
        let asks = format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\"}}");
        assert!(checks.iter().all(|check| check["expr"] == *asks), "{name}");
        let samples = |check: &Value| check["exp_samples"].as_array().unwrap().clone();
        assert!(checks.iter().any(|check| samples(check).is_empty()), "{name} is never quiet");
        let fired: Vec<Value> = checks.iter().flat_map(samples).collect();
        let [fired] = &fired[..] else { panic!("{name} has to fire once") };
        let labels = fired["labels"].as_str().unwrap();
        let annotations = alerts[name]["annotations"].to_string();
        for label in annotations.split("$labels.").skip(1) {
            let label = label.split(|it: char| !(it.is_ascii_alphanumeric() || it == '_')).next();
            let label = label.unwrap_or_default();
            assert!(labels.contains(&format!("{label}=")), "{name} has no label {label}");
        }
    }
    Ok(())
}

/// The rules with times that a test can wait for: conditions hold for a second, windows are ten
/// seconds, and what may be late by minutes may be so by seconds.
fn in_seconds(rules: &str) -> String {
    let mut text = String::new();
    for line in rules.lines() {
        let indented = line.trim_start();
        let indent = &line[..line.len() - indented.len()];
        if indented.starts_with("for: ") {
            text.push_str(indent);
            text.push_str("for: 1s\n");
            continue;
        }
        let mut line = line.to_owned();
        for window in ["[10m]", "[15m]", "[1h]", "[6h]", "[1d]"] {
            line = line.replace(window, "[10s]");
        }
        for (late, soon) in
            [("> 600", "> 5"), ("> 120", "> 5"), ("> 60", "> 0"), ("> 3 * 86400", "> 1")]
        {
            if line.ends_with(late) || line.ends_with(&format!("{late})")) {
                line = line.replace(late, soon);
            }
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Waits until all of these alerts fire, or have fired a moment ago.
async fn fire(prometheus: &Prometheus, alerts: &[&str]) {
    for alert in alerts {
        let firing = format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}");
        let query = format!("max_over_time({firing}[30s])");
        eventually(2 * SOON, &format!("{alert} fires"), || async {
            (!prometheus.instant(&query).ok()?.is_empty()).then_some(())
        })
        .await;
    }
}

/// Waits until none of these alerts fires.
async fn resolve(prometheus: &Prometheus, alerts: &[&str]) {
    for alert in alerts {
        let query = format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}");
        eventually(2 * SOON, &format!("{alert} resolves"), || async {
            prometheus.instant(&query).ok()?.is_empty().then_some(())
        })
        .await;
    }
}

fn days_ahead(days: f64) -> String {
    let at = Timestamp::now() + Duration::from_secs_f64(days * 86_400.0);
    Timestamp::from_second(at.as_second()).unwrap().to_string()
}

/// A pod that holds a GPU, with this class, if any.
async fn gpu_pod(site: &Site, name: &str, class: Option<&str>) {
    let pods: Api<Pod> = site.namespaced();
    let labels = class.map(|class| json!({"daylight.dev/activity": class}));
    let resources = json!({"limits": {"nvidia.com/gpu": "1"}});
    let spec = json!({"containers": [{"name": "main", "image": "main", "resources": resources}]});
    create(&pods, json!({"metadata": {"name": name, "labels": labels}, "spec": spec})).await;
}

/// A miner of one replica whose simulated containers do as the annotations say.
async fn miner(site: &Site, name: &str, annotations: Value, spec: Value) {
    let mut object = json!({
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "registration": "reg", "replicas": 1, "image": "registry.example.com/miner:1",
            "drainTimeout": "10s", "wattsPerReplica": 300,
        },
    });
    for (key, value) in spec.as_object().unwrap() {
        object["spec"][key] = value.clone();
    }
    create(&site.namespaced::<Miner>(), object).await;
}

async fn delete<K>(site: &Site, names: &[&str])
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = site.namespaced();
    for name in names {
        api.delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }
}

/// The chart's objects have the rules of the files, with the address of the page.
async fn check_chart(site: &Site) {
    let chart = at("charts/daylight");
    let chart = chart.to_str().unwrap();
    let template = ["template", "daylight", chart, "--show-only", "templates/prometheus-rule.yaml"];
    let rendered = async |flags: &[&str]| -> Vec<Value> {
        let enabled = ["--set", "metrics.prometheusRule.enabled=true"];
        let arguments = [&template[..], &enabled, flags].concat();
        let text = site.control_plane.helm_ok(arguments).await.unwrap();
        let objects = text.split("---\n").filter(|text| text.contains("kind: "));
        objects.map(|text| serde_saphyr::from_str(text).unwrap()).collect()
    };
    let groups = |objects: &[Value]| -> Vec<Value> {
        objects.iter().map(|object| object["spec"]["groups"].clone()).collect()
    };
    let [controller, auditor] = files().map(|file| yaml(&file)["groups"].clone());
    assert_eq!(groups(&rendered(&[]).await), [controller.clone(), auditor]);
    assert_eq!(groups(&rendered(&["--set", "auditor.enabled=false"]).await), [controller]);
    let page = "https://example.com/alerts.md";
    let flags = ["--set", &format!("metrics.prometheusRule.runbookUrl={page}")];
    let text = json!(rendered(&flags).await).to_string();
    assert!(text.contains(&format!("\"runbook_url\":\"{page}#daylightnoleader\"")), "{text}");
    assert!(!text.contains("\"runbook\":"), "{text}");
}

/// The causes of most alerts are made on a site. Those of the others take too long, are defects, or
/// cannot be made here: promtool alone shows that they fire.
#[apply(trial!)]
async fn alerts_fire_by_their_causes_and_resolve(site: &mut Site) -> Outcome {
    if let Some(why) = missing() {
        return Err(Skip(why).into());
    }
    check_chart(site).await;
    let nodes = site.nodes(2).await;
    let exporters = Exporters::dcgm().refresh(Duration::from_secs(1)).power_limit();
    site.control_plane.create_exporters(&exporters).await.unwrap();
    site.pool(json!({})).await;
    let energy = json!({"kwh": 50, "period": "Year"});
    site.registered("reg", json!({"gpus": 16, "energy": energy})).await;
    let flags = [&EXPORTER[..], &["--agent-every", "1s"]].concat();
    let auditor =
        Process::auditor(&site.control_plane, &site.key_dash("audit"), "journal-alerts", &flags);
    site.start_with(&["--metered", "--record-after", "6s"]);
    let controller = site.processes[0].listen.clone();
    let directory = site.control_plane.directory().join(site.key_dash("prometheus"));
    let rules = files().map(|file| in_seconds(&read(&file)));
    let targets = [&*controller, &*auditor.listen];
    let prometheus = Prometheus::start_with(&directory, &targets, &rules).await;
    let p = &prometheus;

    // What is filed, declared and admitted.
    site.filed("waits", json!({"gpus": 1})).await;
    for (name, days) in [("month", 20.0), ("week", 5.0), ("day", 0.5)] {
        let spec = json!({"limits": {"gpus": 1}, "validUntil": days_ahead(days)});
        site.filed_with(name, spec).await;
        site.approve(name);
    }
    gpu_pod(site, "undeclared", None).await;
    gpu_pod(site, "unlisted", Some("made-up")).await;
    gpu_pod(site, "unregistered", Some("pow-mining")).await;
    let slow = json!({"daylight.dev/simulated-drain-time": "6s"});
    miner(site, "slow", slow, json!({"replicas": 2})).await;
    let crashes =
        json!({"daylight.dev/simulated-run-time": "1s", "daylight.dev/simulated-exit": "1"});
    miner(site, "crashes", crashes, json!({})).await;
    let reports = "daylight_miner_hashes_total 0\n\
                   daylight_miner_not_ready{reason=\"PoolUnreachable\"} 1\n";
    let cut_off = json!({"daylight.dev/simulated-metrics": reports});
    miner(site, "cut-off", cut_off, json!({"agent": "Daylight"})).await;
    let admission = "apiVersion: admissionregistration.k8s.io/v1\n\
                     kind: ValidatingAdmissionPolicy\n\
                     metadata: {name: daylight-miner-pods}\n\
                     spec:\n\
                     \u{20} matchConstraints: {resourceRules: [{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}\n\
                     \u{20} validations: [{expression: \"true\"}]\n";
    site.control_plane.apply(admission).await.unwrap();
    let filed = [
        "DaylightApprovalWaiting",
        "DaylightRegistrationExpiresIn30Days",
        "DaylightRegistrationExpiresIn7Days",
        "DaylightRegistrationExpiresTomorrow",
        "DaylightUndeclaredGpus",
        "DaylightUnlistedGpus",
        "DaylightUnregisteredGpus",
        "DaylightMinerCrashLooping",
        "DaylightMiningPoolUnreachable",
        "DaylightLimitForecast",
        "DaylightAdmissionPolicyAltered",
    ];
    fire(p, &filed).await;
    fire(p, &["DaylightAdmissionPolicyMissing"]).await;
    let rendered = p.alerts().await;
    assert!(!rendered.contains("<no value>") && !rendered.contains("error"), "{rendered}");

    site.approve("waits");
    for name in ["month", "week", "day"] {
        site.daylight(&["suspend", &site.key(name), "-m", "test", "--as", OFFICER]);
    }
    delete::<Pod>(site, &["undeclared", "unlisted", "unregistered"]).await;
    delete::<Miner>(site, &["crashes", "cut-off"]).await;
    let policy = ["delete", "validatingadmissionpolicy", "daylight-miner-pods"];
    site.control_plane.kubectl_ok(policy).await.unwrap();

    // AI work waits for miners that take seconds to leave, and the API server refuses a miner.
    let quotas: Api<ResourceQuota> = site.namespaced();
    site.wait_for_mining(2).await;
    site.miner("rest", "reg", 14, json!({})).await;
    site.wait_for_mining(16).await;
    site.ai_job("training", 2, 8, json!({})).await;
    fire(p, &["DaylightAiWaitsForMiners"]).await;
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    resolve(p, &["DaylightAiWaitsForMiners"]).await;
    let none =
        json!({"metadata": {"name": "gpus"}, "spec": {"hard": {"requests.nvidia.com/gpu": "0"}}});
    create(&quotas, none).await;
    eventually(SOON, "the quota counts", || async {
        quotas.get("gpus").await.unwrap().status?.hard
    })
    .await;
    delete::<daylight_crds::AiJob>(site, &["training"]).await;
    fire(p, &["DaylightPodsRefused"]).await;
    quotas.delete("gpus", &DeleteParams::default()).await.unwrap();
    site.wait_for_mining(16).await;
    resolve(p, &["DaylightPodsRefused"]).await;

    // Mining ends for a registration, and then for all; its miners take seconds.
    site.daylight(&["suspend", &site.key("reg"), "-m", "test", "--as", OFFICER]);
    fire(p, &["DaylightMiningWhileNotInForce"]).await;
    site.daylight(&["stop", "-m", "test", "--as", OFFICER]);
    fire(p, &["DaylightEmergencyStopInForce"]).await;
    resolve(p, &["DaylightMiningWhileNotInForce"]).await;
    site.approve("reg");
    site.daylight(&["resume", "-m", "test", "--as", OFFICER]);
    site.wait_for_mining(16).await;
    resolve(p, &["DaylightEmergencyStopInForce"]).await;

    // The journal's disk is full, and nodes boot.
    auditor.fill_disk();
    let boots = "daylight.dev/simulated-boots";
    site.control_plane.annotate_node(&nodes[0], boots, Some("2")).await.unwrap();
    fire(p, &["DaylightJournalNotWritable"]).await;
    auditor.free_disk();
    fire(p, &["DaylightMeterGap"]).await;

    // The auditor hangs while miners end, and the controller hangs.
    auditor.pause();
    let miners: Api<Miner> = site.namespaced();
    let fewer = Patch::Merge(json!({"spec": {"replicas": 4}}));
    miners.patch("rest", &PatchParams::default(), &fewer).await.unwrap();
    fire(p, &["DaylightAuditorDown", "DaylightPodsAwaitAuditor", "DaylightEndsNotRecorded"]).await;
    site.processes[0].pause();
    fire(p, &["DaylightNoLeader"]).await;
    site.processes[0].resume();
    auditor.resume();
    resolve(p, &["DaylightNoLeader", "DaylightAuditorDown", "DaylightPodsAwaitAuditor"]).await;

    // The exporters go, and return.
    let dcgm = ["delete", "daemonset", "--namespace", "gpu-operator", "nvidia-dcgm-exporter"];
    site.control_plane.kubectl_ok(dcgm).await.unwrap();
    let unread =
        ["DaylightEnergyUnread", "DaylightNodeEnergyLate", "DaylightRegistrationReadingOld"];
    fire(p, &unread).await;
    site.control_plane.create_exporters(&exporters).await.unwrap();
    resolve(p, &unread).await;
    delete::<Miner>(site, &["slow", "rest"]).await;
    resolve(p, &filed).await;
    resolve(p, &["DaylightJournalNotWritable", "DaylightMeterGap", "DaylightEndsNotRecorded"])
        .await;
    site.control_plane.kubectl_ok(dcgm).await.unwrap();
    auditor.terminate().await;
    Ok(())
}
