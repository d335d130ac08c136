//! Nodes with something wrong: a full disk, a network that is set up wrong.

use std::fs;
use std::time::Duration;

use daylight_crds::Miner;
use daylight_test_site::pool::Pool;
use daylight_test_site::{Site, create, eventually};
use daylight_testbed::RealNode;
use daylight_testbed::trials::{apply, trial};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::{Value, json};

use crate::RealSite;
use crate::miners::{miner, registered};

/// MiB of these nodes' disks.
pub(crate) const DISK: u32 = 512;

/// MiB that another process fills: all but what images and containers take, and a rest, without which
/// containerd could not even write down that a container has ended.
const FILLED: u32 = 450;

const PATIENCE: Duration = Duration::from_mins(2);

#[apply(trial!)]
async fn a_full_disk_puts_miners_out_until_there_is_room(site: &mut RealSite<DISK>) {
    let _pool = begin(site, 2).await;
    site.wait_for_miner("miner", "ready", |status| status["readyReplicas"] == 2).await;

    let pods: Api<Pod> = site.namespaced();
    let fills = json!({
        "name": "fills", "image": RealNode::IMAGE, "imagePullPolicy": "Never",
        "args": ["-disk", FILLED.to_string()],
    });
    let spec = json!({"containers": [fills], "restartPolicy": "Never"});
    create(&pods, json!({"metadata": {"name": "fills"}, "spec": spec})).await;

    // The kubelet looks every ten seconds, and puts out one pod of the lowest priority.
    let status =
        wait_for_kubelet(site, "evicted", |status| says(status, "it was evicted by its node"))
            .await;
    eprintln!("{}: {}", status["reason"], status["message"]);

    // In the end it is the turn of the one that fills it, and the miners come back by themselves.
    eventually(PATIENCE, "the disk has room again", || async {
        pods.get("fills").await.unwrap().status?.phase.filter(|phase| phase != "Running")
    })
    .await;
    wait_for_kubelet(site, "back", |status| status["readyReplicas"] == 2).await;
}

#[apply(trial!)]
async fn a_node_that_prepares_no_pod_is_told_and_left(site: &mut RealSite<DISK>) {
    let network = site.control_plane.directory().join("node/cni/testbed.conflist");
    let well = fs::read_to_string(&network).unwrap();
    let broken = well.replace(r#""type": "bridge""#, r#""type": "no-such-plugin""#);
    assert_ne!(broken, well);
    fs::write(&network, broken).unwrap();

    let _pool = begin(site, 1).await;
    let says = |status: &Value| says(status, "created neither its sandbox nor its volumes");
    let status = wait_for_kubelet(site, "explained", says).await;
    eprintln!("{}: {}", status["reason"], status["message"]);

    fs::write(&network, well).unwrap();
    wait_for_kubelet(site, "ready", |status| status["readyReplicas"] == 1).await;
}

/// Starts Daylight with a miner that hashes for the pool.
async fn begin(site: &mut Site, replicas: u32) -> Pool {
    let pool = Pool::open(None).await;
    site.pool(json!({})).await;
    registered(site).await;
    site.start_with(&["--metered"]);
    miner(site, "miner", replicas, &pool.endpoint(), json!({})).await;
    pool
}

/// The miner's status, once it is so: kubelets take their time.
async fn wait_for_kubelet(site: &Site, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let miners: Api<Miner> = site.namespaced();
    site.wait_for_status_within(PATIENCE, miners, "miner", what, holds).await
}

fn says(status: &Value, part: &str) -> bool {
    status["message"].as_str().is_some_and(|message| message.contains(part))
}
