//! Measures the testbed itself: the time until it is ready, has 500 nodes, and
//! runs 4,000 pods, each pinned to its node as Daylight's miners are; the memory
//! of the components then; and the processor time of an exporter on each node
//! that is scraped every 10 s.
//!
//! `cargo run --release -p daylight-testbed --example measure -- [NODES [PODS [stock]]]`,
//! with `stock` at Kubernetes' default request rates.

use std::time::{Duration, Instant};

use daylight_testbed::{Component, ControlPlane, Exporters, Nodes, Options};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

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

    scrape(&control_plane, &names).await?;

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

/// Puts an exporter on each node and scrapes each every 10 s for a minute. Prints
/// the processor time of the simulated nodes with it, and without it.
async fn scrape(control_plane: &ControlPlane, names: &[String]) -> Result<()> {
    const ROUND: Duration = Duration::from_secs(10);
    let minute = async |urls: &[String]| -> Result<(f64, usize)> {
        let (before, mut bytes) = (processor_time(control_plane)?, 0);
        for _ in 0..6 {
            let round = tokio::time::sleep(ROUND);
            bytes = stream::iter(urls.iter().map(|url| get(url)))
                .buffer_unordered(48)
                .try_fold(0, async |sum, bytes| Ok(sum + bytes))
                .await?;
            round.await;
        }
        Ok(((processor_time(control_plane)? - before) / 60.0 * 100.0, bytes))
    };
    let (idle, _) = minute(&[]).await?;

    let (begun, exporters) = (Instant::now(), Exporters::dcgm());
    control_plane.create_exporters(&exporters).await?;
    println!("{} exporters ready         {}", names.len(), seconds(begun));
    let mut urls = Vec::new();
    for name in names {
        urls.push(control_plane.exporter_url(&exporters, name).await?);
    }
    let (busy, bytes) = minute(&urls).await?;
    println!("simulated nodes            {idle:.1} % of a core, scraped every 10 s {busy:.1} %");
    println!("an answer                  {} bytes", bytes / urls.len());
    Ok(())
}

/// Returns the processor time of the simulated nodes' process, in seconds.
fn processor_time(control_plane: &ControlPlane) -> Result<f64> {
    let id = control_plane.process_id(Component::Kwok).ok_or("kwok does not run")?;
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // User and system time are fields 14 and 15, in hundredths; the name in
    // field 2 may hold spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).map(|field| field.parse().unwrap_or(0)).sum();
    Ok(ticks as f64 / 100.0)
}

/// Sends a GET, and returns the length of the response.
async fn get(url: &str) -> Result<usize> {
    let (address, _) = url.trim_start_matches("http://").split_once('/').ok_or("no path")?;
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut answer = Vec::new();
    Ok(stream.read_to_end(&mut answer).await?)
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
