//! Tests that the simulated exporters report what real ones do, for devices whose
//! power depends on their pods, and that they fail in the ways in which real ones fail.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use daylight_testbed::trials::{Outcome, Trials, apply, trial};
use daylight_testbed::{Component, ControlPlane, Exporters, Nodes, Options};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use prometheus_parse::{Sample, Scrape, Value};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ENERGY: &str = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION";
const POWER: &str = "DCGM_FI_DEV_POWER_USAGE";
const FAULTS: &str = "daylight.dev/simulated-exporter-faults";
const PATIENCE: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    Trials::registered().sharing(|| Box::pin(start())).run()
}

async fn start() -> Outcome<ControlPlane> {
    let control_plane = ControlPlane::start(Options::full()).await?;
    control_plane.create_nodes(&Nodes::new(8).gpus(2)).await?;
    control_plane
        .create_nodes(&Nodes::new(1).prefix("amd").gpus(0).resource("amd.com/gpu", "2"))
        .await?;
    control_plane
        .create_nodes(&sized("sliced", 4).annotation("daylight.dev/simulated-time-slicing", "4"))
        .await?;
    control_plane
        .create_nodes(&sized("mig", 7).annotation("daylight.dev/simulated-mig", "7"))
        .await?;
    control_plane.create_exporters(&dcgm()).await?;
    control_plane.create_exporters(&amd()).await?;
    Ok(control_plane)
}

fn sized(prefix: &str, gpus: u32) -> Nodes {
    Nodes::new(1).prefix(prefix).gpus(gpus)
}

fn dcgm() -> Exporters {
    Exporters::dcgm().refresh(Duration::from_millis(200)).power_limit()
}

fn amd() -> Exporters {
    Exporters::amd().refresh(Duration::from_millis(200))
}

// ---- what they say -------------------------------------------------------

#[apply(trial!)]
async fn dcgm_exporters_fields_are_all_there(control_plane: &ControlPlane) -> Outcome {
    let url = control_plane.exporter_url(&dcgm(), "node-0000").await?;
    let text = scrape(&url).await?;
    for (metric, kind) in [
        ("DCGM_FI_DEV_SM_CLOCK", "gauge"),
        ("DCGM_FI_DEV_MEM_CLOCK", "gauge"),
        ("DCGM_FI_DEV_GPU_TEMP", "gauge"),
        (POWER, "gauge"),
        (ENERGY, "counter"),
        ("DCGM_FI_DEV_GPU_UTIL", "gauge"),
        ("DCGM_FI_DEV_FB_USED", "gauge"),
        ("DCGM_FI_DEV_XID_ERRORS", "gauge"),
        ("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "gauge"),
        ("DCGM_FI_DEV_POWER_MGMT_LIMIT", "gauge"),
    ] {
        assert!(text.contains(&format!("# HELP {metric} ")), "{metric}");
        assert!(text.contains(&format!("# TYPE {metric} {kind}\n")), "{metric}");
        let samples = of(&text, metric);
        assert_eq!(samples.len(), 2, "{metric}");
        for (index, sample) in samples.iter().enumerate() {
            let label = |name: &str| sample.labels.get(name).unwrap_or_default().to_owned();
            assert_eq!(label("gpu"), index.to_string());
            assert_eq!(label("device"), format!("nvidia{index}"));
            assert_eq!(label("Hostname"), "node-0000");
            assert_eq!(label("UUID").len(), "GPU-".len() + 36);
            for name in ["pci_bus_id", "modelName", "DCGM_FI_DRIVER_VERSION"] {
                assert!(!label(name).is_empty(), "{metric} {name}");
            }
            assert!(sample.labels.get("pod").is_none() && sample.labels.get("GPU_I_ID").is_none());
        }
    }
    let answer = get(&url.replace("/metrics", "/health"), PATIENCE).await?;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");

    // Each node has its own address and its own devices.
    let other = control_plane.exporter_url(&dcgm(), "node-0001").await?;
    assert_ne!(url, other);
    assert_ne!(ids(&text, ENERGY), ids(&scrape(&other).await?, ENERGY));
    Ok(())
}

#[apply(trial!)]
async fn counters_move_by_watts_and_time(control_plane: &ControlPlane) -> Outcome {
    let node = "node-0001";
    let url = control_plane.exporter_url(&dcgm(), node).await?;
    // The exporter's own clock on each line, so that no wait of ours counts.
    control_plane.annotate_node(node, FAULTS, Some("time=0s")).await?;
    let watched = async |watts: f64| -> Outcome<f64> {
        let first =
            until(&url, |text| at(text).is_some() && (value(text, POWER, 0) - watts).abs() < 1e-9)
                .await?;
        let second = until(&url, |text| at(text) > at(&first).map(|ms| ms + 500)).await?;
        let seconds = (at(&second).unwrap_or(0) - at(&first).unwrap_or(0)) as f64 / 1000.0;
        let joules = (value(&second, ENERGY, 0) - value(&first, ENERGY, 0)) / 1000.0;
        // Times are whole milliseconds, and energy whole millijoules.
        let error = watts * 0.002 + 0.002;
        assert!(
            (joules - watts * seconds).abs() <= error,
            "{joules} J in {seconds} s at {watts} W"
        );
        Ok(joules)
    };
    watched(60.0).await?;
    let pod = pod("drawing", node, 1, &json!({ "daylight.dev/simulated-watts": "417" }));
    create(control_plane, &pod).await?;
    watched(417.0).await?;
    delete(control_plane, "drawing").await?;
    watched(60.0).await?;
    control_plane.annotate_node(node, "daylight.dev/simulated-idle-watts", Some("75")).await?;
    watched(75.0).await?;
    Ok(())
}

#[apply(trial!)]
async fn devices_say_which_pod_has_them(control_plane: &ControlPlane) -> Outcome {
    let node = "node-0002";
    let url = control_plane.exporter_url(&dcgm(), node).await?;
    create(control_plane, &pod("first", node, 1, &json!({}))).await?;
    let text = until(&url, |text| holder(text, 0) == "default/first/main").await?;
    assert_eq!(holder(&text, 1), "//");
    create(control_plane, &pod("second", node, 1, &json!({}))).await?;
    until(&url, |text| holder(text, 1) == "default/second/main").await?;
    let busy = until(&url, |text| value(text, "DCGM_FI_DEV_GPU_UTIL", 1) > 99.0).await?;
    delete(control_plane, "first").await?;
    let text = until(&url, |text| holder(text, 0) == "//").await?;
    assert_eq!(holder(&text, 1), "default/second/main", "a pod keeps its device");
    assert_eq!(ids(&busy, ENERGY), ids(&text, ENERGY));
    delete(control_plane, "second").await
}

#[apply(trial!)]
async fn scrapes_between_refreshes_repeat(control_plane: &ControlPlane) -> Outcome {
    // Any pod with the annotation will do.
    let annotations = json!({
        "daylight.dev/simulated-exporter": "dcgm",
        "daylight.dev/simulated-exporter-refresh": "1h",
    });
    create(control_plane, &pod("slow-exporter", "node-0003", 0, &annotations)).await?;
    let pods: Api<Pod> = Api::default_namespaced(control_plane.client());
    let address = pods.get("slow-exporter").await?.status.and_then(|status| status.pod_ip);
    let slow = format!("http://{}:9400/metrics", address.ok_or("no address")?);
    let fast = control_plane.exporter_url(&dcgm(), "node-0003").await?;

    let (first, moving) = (scrape(&slow).await?, scrape(&fast).await?);
    assert!(of(&first, "DCGM_FI_DEV_POWER_MGMT_LIMIT").is_empty(), "not in the default set");
    until(&fast, |text| value(text, ENERGY, 0) > value(&moving, ENERGY, 0)).await?;
    assert_eq!(scrape(&slow).await?, first);

    delete(control_plane, "slow-exporter").await?;
    let begun = Instant::now();
    while get(&slow, PATIENCE).await.is_ok() {
        assert!(begun.elapsed() < PATIENCE, "the exporter outlives its pod");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[apply(trial!)]
async fn amd_exporters_speak_amds_format(control_plane: &ControlPlane) -> Outcome {
    let url = control_plane.exporter_url(&amd(), "amd-0000").await?;
    assert!(url.ends_with(":5000/metrics"), "{url}");
    let mut pod = pod("on-amd", "amd-0000", 0, &json!({ "daylight.dev/simulated-watts": "500" }));
    pod["spec"]["containers"][0]["resources"]["limits"] = json!({ "amd.com/gpu": "1" });
    create(control_plane, &pod).await?;
    let text = until(&url, |text| value(text, "gpu_package_power", 0) > 499.0).await?;
    assert!(text.contains("# TYPE gpu_energy_consumed gauge\n"), "AMD's are all gauges");
    let samples = of(&text, "gpu_energy_consumed");
    assert_eq!(samples.len(), 2);
    let label = |name: &str| samples[0].labels.get(name);
    assert_eq!((label("gpu_id"), label("pod")), (Some("0"), Some("on-amd")));
    assert_eq!((label("gpu_partition_id"), label("hostname")), (Some("0"), Some("amd-0000")));
    assert_eq!(label("serial_number").map(str::len), Some(12));
    let later = until(&url, |later| {
        value(later, "gpu_energy_consumed", 0) > value(&text, "gpu_energy_consumed", 0)
    })
    .await?;
    let moved = |index| {
        value(&later, "gpu_energy_consumed", index) - value(&text, "gpu_energy_consumed", index)
    };
    // Microjoules, of a busy device and of an idle one, over the same time.
    assert!((moved(0) / moved(1) - 500.0 / 60.0).abs() < 0.1, "{} and {}", moved(0), moved(1));

    // An exporter knows its maker's devices only.
    let nvidias = control_plane.exporter_url(&dcgm(), "amd-0000").await?;
    assert!(of(&scrape(&nvidias).await?, POWER).is_empty());
    delete(control_plane, "on-amd").await
}

// ---- what goes wrong with them -------------------------------------------

#[apply(trial!)]
async fn an_exporter_hangs_or_fails_or_is_frozen(control_plane: &ControlPlane) -> Outcome {
    let node = "node-0004";
    let url = control_plane.exporter_url(&dcgm(), node).await?;
    let set = async |faults| control_plane.annotate_node(node, FAULTS, faults).await;
    set(Some("error")).await?;
    eventually(async || {
        Ok(get(&url, PATIENCE).await.is_ok_and(|answer| answer.starts_with("HTTP/1.0 500")))
    })
    .await?;
    set(Some("hang")).await?;
    eventually(async || Ok(get(&url, Duration::from_secs(1)).await.is_err())).await?;
    set(None).await?;
    // A scrape that comes before the change does hangs for good.
    eventually(async || Ok(get(&url, Duration::from_secs(1)).await.is_ok())).await?;
    set(Some("frozen")).await?;
    eventually(async || {
        let first = scrape(&url).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(scrape(&url).await? == first)
    })
    .await?;
    set(None).await?;
    let last = scrape(&url).await?;
    until(&url, |text| value(text, ENERGY, 0) > value(&last, ENERGY, 0)).await.map(drop)
}

#[apply(trial!)]
async fn fields_are_blank_or_missing(control_plane: &ControlPlane) -> Outcome {
    let url = control_plane.exporter_url(&dcgm(), "node-0005").await?;
    let faults = format!("blank={ENERGY}, blank={POWER}, missing=DCGM_FI_DEV_GPU_UTIL");
    control_plane.annotate_node("node-0005", FAULTS, Some(&faults)).await?;
    let text = until(&url, |text| of(text, "DCGM_FI_DEV_GPU_UTIL").is_empty()).await?;
    // DCGM's integer and floating-point blanks.
    assert!(text.contains("} 9223372036854775792\n"), "{text}");
    assert!(text.contains("} 140737488355328.000000\n"), "{text}");
    assert_eq!(of(&text, "DCGM_FI_DEV_FB_USED").len(), 2, "other fields are as ever");
    Ok(())
}

#[apply(trial!)]
async fn an_exporter_lies_about_time(control_plane: &ControlPlane) -> Outcome {
    let url = control_plane.exporter_url(&dcgm(), "node-0005").await?;
    assert!(!scrape(&url).await?.is_empty());
    control_plane.annotate_node("node-0005", FAULTS, Some("time=-1h")).await?;
    let text = until(&url, |text| at(text).is_some()).await?;
    let now = k8s_openapi::jiff::Timestamp::now().as_millisecond();
    let ago = Duration::from_millis((now - at(&text).unwrap_or(now)).unsigned_abs());
    assert!(ago >= Duration::from_hours(1) && ago < Duration::from_hours(1) + PATIENCE, "{ago:?}");
    Ok(())
}

#[apply(trial!)]
async fn an_exporter_restarts_and_keeps_its_counters(control_plane: &ControlPlane) -> Outcome {
    let (node, url) = ("node-0006", control_plane.exporter_url(&dcgm(), "node-0006").await?);
    let before = scrape(&url).await?;
    control_plane
        .annotate_node(node, "daylight.dev/simulated-exporter-restarts", Some("1"))
        .await?;
    eventually(async || Ok(get(&url, PATIENCE).await.is_err())).await?;
    eventually(async || Ok(scrape(&url).await.is_ok())).await?;
    let after = scrape(&url).await?;
    assert!(value(&after, ENERGY, 0) > value(&before, ENERGY, 0));
    assert_eq!(ids(&after, ENERGY), ids(&before, ENERGY));
    assert_eq!(control_plane.exporter_url(&dcgm(), node).await?, url);
    Ok(())
}

#[apply(trial!)]
async fn a_boot_a_jump_and_a_replacement(control_plane: &ControlPlane) -> Outcome {
    let (node, url) = ("node-0007", control_plane.exporter_url(&dcgm(), "node-0007").await?);
    control_plane
        .annotate_node(node, "daylight.dev/simulated-energy-jump", Some("90000000"))
        .await?;
    let ahead = until(&url, |text| value(text, ENERGY, 0) > 9e10).await?;
    control_plane.annotate_node(node, "daylight.dev/simulated-energy-jump", None).await?;
    let back = until(&url, |text| value(text, ENERGY, 0) < 9e10).await?;

    control_plane.annotate_node(node, "daylight.dev/simulated-replaced-gpus", Some("1")).await?;
    let replaced = until(&url, |text| ids(text, ENERGY) != ids(&ahead, ENERGY)).await?;
    assert_eq!(ids(&replaced, ENERGY)[0], ids(&ahead, ENERGY)[0]);
    assert!(value(&replaced, ENERGY, 1) < value(&replaced, ENERGY, 0), "a new counter");

    control_plane.annotate_node(node, "daylight.dev/simulated-boots", Some("1")).await?;
    let booted = until(&url, |text| value(text, ENERGY, 0) < value(&back, ENERGY, 0)).await?;
    assert_eq!(ids(&booted, ENERGY), ids(&replaced, ENERGY), "the devices are the same");
    let nodes: Api<Node> = Api::all(control_plane.client());
    let boot = async || nodes.get(node).await.ok()?.status?.node_info.map(|info| info.boot_id);
    eventually(async || Ok(boot().await.as_deref() == Some("1"))).await?;
    Ok(())
}

#[apply(trial!)]
async fn parts_repeat_their_device(control_plane: &ControlPlane) -> Outcome {
    let url = control_plane.exporter_url(&dcgm(), "sliced-0000").await?;
    for name in ["one", "two"] {
        let watts = json!({ "daylight.dev/simulated-watts": "400" });
        create(control_plane, &pod(name, "sliced-0000", 1, &watts)).await?;
    }
    // Two of four shares at 400 W, two at 60 W.
    let text =
        until(&url, |text| of(text, POWER).len() == 2 && value(text, POWER, 0) > 229.0).await?;
    for metric in [POWER, ENERGY] {
        let samples = of(&text, metric);
        assert_eq!(samples[0].value, samples[1].value, "each has the whole device's");
        let pods: BTreeSet<_> =
            samples.iter().filter_map(|sample| sample.labels.get("pod")).collect();
        assert_eq!(pods, ["one", "two"].into());
        assert_eq!(ids(&text, metric)[0], ids(&text, metric)[1]);
    }

    let text = scrape(&control_plane.exporter_url(&dcgm(), "mig-0000").await?).await?;
    let samples = of(&text, ENERGY);
    let instances: BTreeSet<_> =
        samples.iter().filter_map(|sample| sample.labels.get("GPU_I_ID")).collect();
    assert_eq!((samples.len(), instances.len()), (7, 7));
    assert!(samples.iter().all(|sample| sample.labels.get("GPU_I_PROFILE") == Some("1g.10gb")));
    assert!(samples.iter().all(|sample| sample.value == samples[0].value));
    assert_eq!(ids(&text, ENERGY).into_iter().collect::<BTreeSet<_>>().len(), 1);
    for name in ["one", "two"] {
        delete(control_plane, name).await?;
    }
    Ok(())
}

#[apply(trial!)]
async fn exporters_are_back_with_their_process() -> Outcome {
    let control_plane = ControlPlane::start(Options::full()).await?;
    control_plane.create_nodes(&Nodes::new(1).gpus(1)).await?;
    control_plane.create_exporters(&dcgm()).await?;
    let url = control_plane.exporter_url(&dcgm(), "node-0000").await?;
    let before = scrape(&url).await?;
    control_plane.stop_component(Component::Kwok).await?;
    assert!(get(&url, PATIENCE).await.is_err());
    control_plane.start_component(Component::Kwok).await?;
    let after = until(&url, |text| !of(text, ENERGY).is_empty()).await?;
    assert_eq!(ids(&after, ENERGY), ids(&before, ENERGY));
    control_plane.stop().await;
    Ok(())
}

// ---- for the tests -------------------------------------------------------

async fn get(url: &str, patience: Duration) -> Outcome<String> {
    let (address, path) = url.trim_start_matches("http://").split_once('/').ok_or("no path")?;
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /{path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = tokio::time::timeout(patience, answer).await??;
    if answer.is_empty() {
        Err(format!("{url} closed without an answer").into())
    } else {
        Ok(answer)
    }
}

/// The body of an answer that is 200.
async fn scrape(url: &str) -> Outcome<String> {
    let answer = get(url, PATIENCE).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
    if head.starts_with("HTTP/1.0 200") { Ok(body.to_owned()) } else { Err(head.into()) }
}

/// The first answer that is as wanted.
async fn until(url: &str, wanted: impl Fn(&str) -> bool) -> Outcome<String> {
    let begun = Instant::now();
    loop {
        let answer = scrape(url).await;
        if let Ok(text) = &answer
            && wanted(text)
        {
            return answer;
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{url} does not say what is wanted, but {answer:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn eventually(wanted: impl AsyncFn() -> Outcome<bool>) -> Outcome {
    let begun = Instant::now();
    while !wanted().await? {
        if begun.elapsed() > PATIENCE {
            return Err("it does not come about".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn samples(text: &str) -> Vec<Sample> {
    Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).expect("the text format").samples
}

fn of(text: &str, metric: &str) -> Vec<Sample> {
    samples(text).into_iter().filter(|sample| sample.metric == metric).collect()
}

fn number(sample: &Sample) -> f64 {
    match sample.value {
        Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => value,
        _ => f64::NAN,
    }
}

/// The value of the metric's line with this number.
fn value(text: &str, metric: &str, index: usize) -> f64 {
    of(text, metric).get(index).map_or(f64::NAN, number)
}

/// The devices of a metric's lines.
fn ids(text: &str, metric: &str) -> Vec<String> {
    of(text, metric)
        .iter()
        .filter_map(|sample| sample.labels.get("UUID").map(str::to_owned))
        .collect()
}

fn holder(text: &str, index: usize) -> String {
    of(text, POWER).get(index).map_or_else(String::new, |sample| {
        ["namespace", "pod", "container"]
            .map(|name| sample.labels.get(name).unwrap_or_default())
            .join("/")
    })
}

/// The time that the lines have, if they have one, in milliseconds.
fn at(text: &str) -> Option<i64> {
    let line = text.lines().find(|line| line.starts_with(POWER))?;
    line.split_once("} ")?.1.split_once(' ')?.1.parse().ok()
}

fn pod(name: &str, node: &str, gpus: u32, annotations: &serde_json::Value) -> serde_json::Value {
    json!({
        "metadata": { "name": name, "annotations": annotations },
        "spec": {
            "nodeName": node,
            "containers": [{
                "name": "main",
                "image": "main",
                "resources": { "limits": { "nvidia.com/gpu": gpus.to_string() } },
            }],
        },
    })
}

async fn create(control_plane: &ControlPlane, pod: &serde_json::Value) -> Outcome {
    let pods: Api<Pod> = Api::default_namespaced(control_plane.client());
    let pod: Pod = serde_json::from_value(pod.clone())?;
    let name = pod.metadata.name.clone().unwrap_or_default();
    pods.create(&PostParams::default(), &pod).await?;
    let running = kube::runtime::wait::await_condition(
        pods,
        &name,
        kube::runtime::wait::conditions::is_pod_running(),
    );
    tokio::time::timeout(PATIENCE, running).await??;
    Ok(())
}

async fn delete(control_plane: &ControlPlane, name: &str) -> Outcome {
    let pods: Api<Pod> = Api::default_namespaced(control_plane.client());
    pods.delete(name, &DeleteParams::default()).await?;
    Ok(())
}
