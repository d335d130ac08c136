//! `cargo bench -p daylight --bench real_node`: how long an AI pod of one GPU waits for its container
//! on a real node full of miners, next to the same node when it is empty. As root, with
//! containerd. `ROUNDS` is 50 unless set. Says where the time went, too.

#![allow(clippy::unwrap_used)]

#[path = "real_node/stages.rs"]
mod stages;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daylight_test_site::pool::{Pool, WALLET};
use daylight_test_site::{Site, create, eventually, install};
use daylight_testbed::{
    Component, ControlPlane, Error, MINER_IMAGE, Options, RealNode, isolate_with, miner_image,
};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tokio::runtime::Runtime;

use stages::Stages;

/// kubelet handles the end of a pod whose last change it has not yet seen in its containers one or
/// two of its looks later, and it looks once a second.
const SETTLED: Duration = Duration::from_secs(3);

fn main() {
    // `cargo test --benches` only wants to see that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let images = match isolate_with(|| Ok::<_, Error>(vec![miner_image()?])) {
        Ok(images) => images,
        Err(error) => {
            eprintln!("nothing is measured: {error}");
            std::process::exit(1);
        }
    };
    Runtime::new().unwrap().block_on(measure(&images));
}

async fn measure(images: &[PathBuf]) {
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    let node = RealNode::new("real-0").label("site", "t1");
    let node = images.iter().fold(node, RealNode::image);
    let options = Options::full().with_real_node(node).without(Component::Kubelet);
    let control_plane = Arc::new(ControlPlane::start(options).await.unwrap());
    install(&control_plane).await;
    let mut site = Site::new(control_plane.clone(), "bench", 1).await;
    control_plane.start_component(Component::Kubelet).await.unwrap();
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 100})).await;
    let pool = Pool::open(None).await;
    let secrets: Api<Secret> = site.namespaced();
    let data = json!({"address": WALLET});
    create(&secrets, json!({"metadata": {"name": "wallet"}, "stringData": data})).await;
    let miner = json!({
        "image": MINER_IMAGE, "agent": "Daylight", "engine": {"name": "sha256d"},
        "poolEndpoints": [pool.endpoint()], "walletSecretRef": {"name": "wallet"},
        "drainTimeout": "10s", "resources": {"cpu": "50m", "memory": "64Mi"},
        "env": [{"name": "THREADS", "value": "1"}],
    });
    site.miner("miner", "reg", 0, miner).await;
    site.start();

    let empty = ai_starts(&site, "empty", rounds, 0, Duration::ZERO).await;
    let miners: Api<daylight_crds::Miner> = site.namespaced();
    let eight = Patch::Merge(json!({"spec": {"replicas": 8}}));
    miners.patch("miner", &PatchParams::default(), &eight).await.unwrap();
    let full = ai_starts(&site, "full", rounds, 8, SETTLED).await;
    let young = ai_starts(&site, "young", rounds, 8, Duration::ZERO).await;
    println!("from an AI pod's creation to its container, {rounds} times each:");
    empty.tell("an empty node");
    full.tell("a node full of miners");
    young.tell("a node full of miners, of which one has just begun to hash");
    println!("load {}", std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim());
    site.end(Ok(())).await.unwrap();
}

/// Starts AI pods one after the other, each when n miners have hashed for a while.
async fn ai_starts(
    site: &Site,
    name: &str,
    rounds: usize,
    miners: usize,
    hash_for: Duration,
) -> Stages {
    let pods: Api<Pod> = site.namespaced();
    let mut stages = Stages::watch(pods.clone());
    for round in 0..rounds {
        eventually(Duration::from_mins(1), "all of them hash", || async {
            let hash = site.mining().await.iter().filter(|pod| is_ready(pod)).count();
            (hash == miners).then_some(())
        })
        .await;
        tokio::time::sleep(hash_for).await;
        let name = format!("{name}-{round}");
        let container = json!({
            "name": "train", "image": RealNode::IMAGE, "imagePullPolicy": "Never",
            "resources": {"limits": {"nvidia.com/gpu": "1"}},
        });
        stages.begin(&name);
        create(&pods, json!({"metadata": {"name": name}, "spec": {"containers": [container]}}))
            .await;
        let runs = Duration::from_mins(1);
        let times = eventually(runs, "the AI pod runs", || async { stages.times() }).await;
        stages.keep(times);
        let now = DeleteParams::default().grace_period(0);
        pods.delete(&name, &now).await.unwrap();
        eventually(Duration::from_mins(1), "it is gone", || async {
            pods.get_opt(&name).await.unwrap().is_none().then_some(())
        })
        .await;
    }
    stages
}

fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
