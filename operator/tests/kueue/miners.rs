//! Miners that Kueue holds, because their namespace has a default queue.

use daylight_test_site::program;
use daylight_testbed::trials::{apply, trial};
use k8s_openapi::api::batch::v1::Job;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::KueueSite;
use crate::queues::QUEUE;

#[apply(trial!)]
async fn gated_miners_hold_nothing_and_their_gate_is_named(site: &mut KueueSite) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    // It has no quota for the miners' CPU and memory.
    site.queue("default", 8, false).await;
    site.registered("reg", json!({"gpus": 8})).await;
    site.miner("miner", "reg", 8, json!({})).await;
    site.start();
    let gate = "8 replicas are held by the scheduling gates kueue.x-k8s.io/admission";
    site.wait_for_miner("miner", "gated", |status| {
        status["reason"] == "ReplicasGated"
            && status["message"].as_str().is_some_and(|message| message.contains(gate))
    })
    .await;
    site.wait_for_pool("idle", |status| {
        status["gpus"]["mining"] == 0 && status["gpus"]["idle"] == 8
    })
    .await;

    // Kueue gives its default queue to the AIJob's Job, too.
    site.ai_job("train", 1, 8, json!({})).await;
    let status = site.wait_for_job("train", "running", |status| status["state"] == "Running").await;
    assert_eq!(status["displaced"], Value::Null, "no miner was displaced: {status:#}");
    let jobs: Api<Job> = site.namespaced();
    assert_eq!(jobs.get("train").await.unwrap().labels()[QUEUE], "default");
    site.wait_for_pool("in use", |status| status["gpus"]["ai"] == 8).await;
    let shown: Value = serde_json::from_str(&site.daylight(&["status", "-o", "json"])).unwrap();
    let gpus = &shown["pools"][0]["gpus"];
    assert_eq!((&gpus["total"], &gpus["ai"]), (&json!(8), &json!(8)), "{gpus:#}");
    assert_eq!(site.pods("daylight.dev/miner").await.len(), 8, "none was made again");

    let doctor = program::command(&site.control_plane, &["doctor"]);
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    let queue = format!("Namespace {} has Miners and a LocalQueue named default", site.name);
    for warning in ["held by the scheduling gate kueue.x-k8s.io/admission", &queue] {
        assert!(doctor.contains(warning), "no {warning}: {doctor}");
    }
}
