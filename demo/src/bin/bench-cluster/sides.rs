//! The three sides.

use std::path::Path;
use std::time::Duration;

use daylight_demo::{Cluster, Error, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use crate::manifests::{self, FILL, MINING};
use crate::measured::{Row, Rows, What};
use crate::site::{Setup, Site, patch, post};
use crate::usage;

/// The bare client's requests in flight at once, as many as Daylight has.
const CONCURRENCY: usize = 64;

const JOBS: &str = "/apis/batch/v1/namespaces/ai-team/jobs";
const AI_JOBS: &str = "/apis/daylight.dev/v1alpha1/namespaces/ai-team/aijobs";
const AI_PODS: &str = "/api/v1/namespaces/ai-team/pods";
const FILL_PODS: &str = "/api/v1/namespaces/tenant-a/pods";

/// (a): a Deployment fills, and kube-scheduler preempts.
pub(crate) async fn kubernetes(setup: &Setup, rows: &mut Rows<'_>) -> Result<()> {
    let site = Site::start(setup).await?;
    let gpus = setup.gpus();
    let deployment = manifests::deployment(gpus, setup.drain);
    let path = format!("/apis/apps/v1/namespaces/{MINING}/deployments");
    let fill = post(&site.client, &path, &deployment);
    let row = site.measure(What::Fill, FILL, gpus, fill).await?;
    fill_must_be_complete(&row)?;
    rows.push(row);
    plain_work(&site, rows).await?;
    rows.most_on_a_node(site.observer.most_on_a_node());
    site.control_plane.stop().await;
    Ok(())
}

fn fill_must_be_complete(row: &Row) -> Result<()> {
    match row.times.first() {
        Some(_) => Ok(()),
        None => Err(Error::new(format!("the fill was not complete in time: {}", row.timeline))),
    }
}

/// The largest Job that is measured as often as one plain pod is.
const REPEATED: usize = 64;

/// Plain pods, one at a time, then plain Jobs.
async fn plain_work(site: &Site<'_>, rows: &mut Rows<'_>) -> Result<()> {
    let repeats = site.setup.repeats.max(1);
    let work = (0..repeats).map(|number| {
        let name = format!("pod-{number}");
        let pod = manifests::plain_pod(&name);
        (name, pod)
    });
    repeat(site, rows, What::Pod, AI_PODS, 1, work).await?;
    for &pods in &site.setup.sizes {
        let times = if pods <= REPEATED { repeats } else { 1 };
        let work = (0..times).map(|number| {
            let name = format!("job-{pods}-{number}");
            let job = manifests::plain_job(&name, pods);
            (name, job)
        });
        repeat(site, rows, What::Job, JOBS, pods, work).await?;
    }
    Ok(())
}

/// Creates and removes AI work, one piece after the other, and adds one row for all of it.
async fn repeat(
    site: &Site<'_>,
    rows: &mut Rows<'_>,
    what: What,
    path: &str,
    pods: usize,
    work: impl Iterator<Item = (String, serde_json::Value)>,
) -> Result<()> {
    let mut all: Option<Row> = None;
    let mut restored = Ok(());
    for (name, object) in work {
        let begin = post(&site.client, path, &object);
        let mut row = site.measure(what, &name, pods, begin).await?;
        let refilled = site.restore(&format!("{path}/{name}"), &name).await;
        row.refilled = refilled.as_ref().ok().copied();
        all = Some(match all {
            None => row,
            Some(before) => before.and(row),
        });
        restored = refilled.map(|_| ());
        if restored.is_err() {
            break;
        }
    }
    all.into_iter().for_each(|row| rows.push(row));
    restored
}

/// Installs Daylight's kinds and the objects of its site, without Daylight.
async fn prepare(site: &Site<'_>) -> Result<Cluster> {
    let cluster = Cluster::of_testbed(&site.control_plane, &site.setup.daylight)?;
    for path in ["crds", "examples/10-activity-classes.yaml"] {
        let path = site.setup.repository.join(path);
        cluster.kubectl(&["apply".as_ref(), "-f".as_ref(), path.as_os_str()]).await?;
        let wait = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"];
        cluster.kubectl(&wait).await?;
    }
    for object in manifests::site(site.setup.gpus(), site.setup.drain) {
        site.control_plane.apply(&object.to_string()).await?;
    }
    Ok(cluster)
}

/// (b): a client that does nothing but send requests.
pub(crate) async fn client(setup: &Setup, rows: &mut Rows<'_>) -> Result<()> {
    let site = Site::start(setup).await?;
    let gpus = setup.gpus();
    let cluster = prepare(&site).await?;
    let uid = ["get", "miner", "bench", "-n", MINING, "-o", "jsonpath={.metadata.uid}"];
    let miner = cluster.kubectl(&uid).await?;
    let fill = async {
        let pods = (0..gpus).map(|number| {
            let node = &site.nodes[number % site.nodes.len()];
            let pod = manifests::pinned_pod(number, node, &miner, setup.drain);
            let client = site.client.clone();
            async move { post(&client, FILL_PODS, &pod).await }
        });
        stream::iter(pods).buffer_unordered(CONCURRENCY).try_for_each(async |()| Ok(())).await
    };
    let row = site.measure(What::Fill, FILL, gpus, fill).await?;
    fill_must_be_complete(&row)?;
    rows.push(row);

    let pods = setup.sizes.last().copied().unwrap_or(1);
    let nodes = &site.nodes[..pods.div_ceil(8).min(site.nodes.len())];
    let victims = site.observer.names_on(FILL, nodes).into_iter().take(pods).collect::<Vec<_>>();
    let job = manifests::plain_job("job", pods);
    let before = site.observer.count(FILL).alive;
    let begin = async {
        let evictions = victims.iter().map(|name| {
            let eviction = json!({
                "apiVersion": "policy/v1", "kind": "Eviction",
                "metadata": { "name": name, "namespace": MINING },
            });
            let client = site.client.clone();
            async move { post(&client, &format!("{FILL_PODS}/{name}/eviction"), &eviction).await }
        });
        stream::iter(evictions)
            .buffer_unordered(CONCURRENCY)
            .try_for_each(async |()| Ok(()))
            .await?;
        let limit = Duration::from_secs(120 + setup.drain);
        let free = before.saturating_sub(victims.len());
        let freed = site.observer.until(limit, |snapshot| snapshot.count(FILL).alive <= free).await;
        if !freed {
            return Err(Error::new("the evicted pods did not end in time"));
        }
        post(&site.client, JOBS, &job).await
    };
    let row = site.measure(What::EvictThenJob, "job", pods, begin).await?;
    rows.push(row);
    rows.most_on_a_node(site.observer.most_on_a_node());
    site.control_plane.stop().await;
    Ok(())
}

/// (c): Daylight.
pub(crate) async fn daylight(setup: &Setup, log: &Path, rows: &mut Rows<'_>) -> Result<()> {
    let mut site = Site::start(setup).await?;
    let gpus = setup.gpus();
    let system = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "daylight-system" },
    });
    post(&site.client, "/api/v1/namespaces", &system).await?;
    let cluster = prepare(&site).await?;
    let controller = cluster.start_controller(log).await?;
    site.daylight = usage::process_of(&setup.daylight, controller.address());
    site.controller = Some(controller);
    cluster
        .daylight(&[
            "approve",
            &format!("{MINING}/bench"),
            "--generation",
            "1",
            "-m",
            "To be measured.",
        ])
        .await?;
    let would = format!("jsonpath={{.status.plannedMiningGpus}}={gpus}");
    cluster.kubectl(&["wait", "gpupool", "bench", "--for", &would, "--timeout=60s"]).await?;
    // Until every GPU has been idle for longer than the pool's idleDelay.
    tokio::time::sleep(Duration::from_secs(7)).await;

    let pool = "/apis/daylight.dev/v1alpha1/gpupools/bench";
    let change = json!({ "spec": { "mining": { "policy": "Fill" } } });
    let fill = patch(&site.client, pool, &change);
    let row = site.measure(What::Fill, FILL, gpus, fill).await?;
    fill_must_be_complete(&row)?;
    rows.push(row);
    tokio::time::sleep(Duration::from_secs(2)).await;

    for &workers in &setup.sizes {
        let name = format!("aijob-{workers}");
        let job = manifests::ai_job(&name, workers);
        let work = std::iter::once((name, job));
        repeat(&site, rows, What::AiJob, AI_JOBS, workers, work).await?;
    }
    plain_work(&site, rows).await?;
    rows.most_on_a_node(site.observer.most_on_a_node());
    rows.memory(site.daylight.and_then(usage::peak_memory));
    if let Some(controller) = site.controller.take() {
        controller.stop().await?;
    }
    site.control_plane.stop().await;
    Ok(())
}
