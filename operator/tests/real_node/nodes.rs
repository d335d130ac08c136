//! Nodes with something wrong: a full disk, a network that is set up wrong.

use std::fs;
use std::time::Duration;

use daylight_crds::Miner;
use daylight_testbed::RealNode;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::{Value, json};

use crate::miners::{miner, registered};
use crate::pool::Pool;
use crate::site::{Site, create, eventually};

/// MiB of these nodes' disks.
pub(crate) const DISK: u32 = 512;

/// MiB that somebody fills: all but what images and containers take, and a rest, without which
/// containerd could not even write down that a container has ended.
const FILLED: u32 = 450;

pub(crate) async fn a_full_disk_puts_miners_out_until_there_is_room(site: &mut Site) {
    let pool = Pool::open(None).await;
    site.pool(json!({})).await;
    registered(site).await;
    site.start_with(&["--metered"]);
    miner(site, "miner", 2, &pool.endpoint(), json!({})).await;
    site.miner_status("miner", "ready", |status| status["readyReplicas"] == 2).await;

    let pods: Api<Pod> = site.namespaced();
    let fills = json!({
        "name": "fills", "image": RealNode::IMAGE, "imagePullPolicy": "Never",
        "args": ["-disk", FILLED.to_string()],
    });
    let spec = json!({"containers": [fills], "restartPolicy": "Never"});
    create(&pods, json!({"metadata": {"name": "fills"}, "spec": spec})).await;

    // The kubelet looks every ten seconds, and puts out one pod of the lowest priority.
    let out = |status: &Value| {
        status["message"].as_str().is_some_and(|it| it.contains("its node put it out"))
    };
    let status = site.miner_status("miner", "put out", out).await;
    eprintln!("{}: {}", status["reason"], status["message"]);
    let released = |status: &Value| status["gpus"]["mining"] == 0;
    site.pool_status("without miners", released).await;

    // In the end it is the turn of the one that fills it, and the miners come back by themselves.
    eventually(Duration::from_mins(2), "the disk has room again", || async {
        pods.get("fills").await.unwrap().status?.phase.filter(|phase| phase != "Running")
    })
    .await;
    let well = |status: &Value| status["readyReplicas"] == 2 && status["reason"] == "Running";
    site.miner_status("miner", "back", well).await;
}

pub(crate) async fn a_node_that_prepares_no_pod_is_told_and_left(site: &mut Site) {
    let network = site.control_plane.directory().join("node/cni/testbed.conflist");
    let well = fs::read_to_string(&network).unwrap();
    let broken = well.replace(r#""type": "bridge""#, r#""type": "no-such-plugin""#);
    assert_ne!(broken, well);
    fs::write(&network, broken).unwrap();

    let pool = Pool::open(None).await;
    site.pool(json!({})).await;
    registered(site).await;
    site.start_with(&["--metered"]);
    miner(site, "miner", 1, &pool.endpoint(), json!({})).await;
    let miners: Api<Miner> = site.namespaced();
    let message = eventually(Duration::from_mins(2), "it is told", || async {
        let message = miners.get("miner").await.unwrap().status?.message?;
        message.contains("makes neither its sandbox nor its volumes").then_some(message)
    })
    .await;
    eprintln!("{message}");

    fs::write(&network, well).unwrap();
    site.miner_status("miner", "ready", |status| status["readyReplicas"] == 1).await;
}
