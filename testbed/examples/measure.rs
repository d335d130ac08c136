//! Measures the testbed itself: how long it takes to start, to have 500 nodes,
//! and to have 4,000 pods running, each pinned to its node as Daylight's
//! miners are; and how much memory the components then have.
//!
//! `cargo run --release -p daylight-testbed --example measure -- [NODES [PODS [stock]]]`,
//! with `stock` at the request rates of a Kubernetes that is told nothing.

use std::time::{Duration, Instant};

use daylight_testbed::{Component, ControlPlane, Nodes, Options};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let nodes = arguments.next().map_or(Ok(500), |number| number.parse::<usize>())?;
    let pods = arguments.next().map_or(Ok(8 * nodes), |number| number.parse())?;
    let options = match arguments.next().as_deref() {
        Some("stock") => Options::full().stock_client_rates(),
        _ => Options::full(),
    };

    let begun = Instant::now();
    let control_plane = ControlPlane::start(options).await?;
    println!("control plane ready        {}", seconds(begun));

    let begun = Instant::now();
    let names = control_plane.create_nodes(&Nodes::new(nodes)).await?;
    println!("{nodes} nodes ready           {}", seconds(begun));

    let begun = Instant::now();
    let api: Api<Pod> = Api::default_namespaced(control_plane.client());
    stream::iter((0..pods).map(|number| {
        let (api, pod) = (api.clone(), pod(number, &names[number % names.len()]));
        async move { api.create(&PostParams::default(), &pod).await }
    }))
    .buffer_unordered(48)
    .try_for_each(|_| async { Ok(()) })
    .await?;
    println!("{pods} pods created         {}", seconds(begun));
    wait(&control_plane.client(), "Running", pods).await?;
    println!("{pods} pods running         {}", seconds(begun));

    for component in Component::ALL {
        let bytes = control_plane.resident_memory(component).unwrap_or_default();
        println!("{:26} {} MiB", component.to_string(), bytes >> 20);
    }

    let begun = Instant::now();
    control_plane.kubectl_ok(["delete", "pods", "--all", "--wait=false"]).await?;
    while count(&control_plane.client(), None).await? > 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("{pods} pods gone            {}", seconds(begun));

    let begun = Instant::now();
    control_plane.stop().await;
    println!("control plane gone         {}", seconds(begun));
    Ok(())
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}

fn pod(number: usize, node: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": format!("miner-{number}") },
        "spec": {
            "containers": [{
                "name": "miner",
                "image": "miner",
                "resources": { "limits": { "nvidia.com/gpu": "1" } },
            }],
            "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchFields": [
                    { "key": "metadata.name", "operator": "In", "values": [node] },
                ]}],
            }}},
        },
    }))
    .expect("a pod")
}

async fn count(client: &Client, phase: Option<&str>) -> Result<usize> {
    let mut parameters = ListParams::default().match_any();
    if let Some(phase) = phase {
        parameters = parameters.fields(&format!("status.phase={phase}"));
    }
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    Ok(api.list_metadata(&parameters).await?.items.len())
}

async fn wait(client: &Client, phase: &str, pods: usize) -> Result<()> {
    while count(client, Some(phase)).await? < pods {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
