//! A refusal of the API server stops no other object.

use daylight_crds::{ActivityClass, AiJob, GpuPool, Miner};
use daylight_test_site::{SOON, Site, create, eventually};
use daylight_testbed::trials::{apply, trial};
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

#[apply(trial!)]
async fn a_quota_refuses_one_miner_and_another_gets_the_gpus(site: &mut Site) {
    site.nodes(2).await;
    site.pool(json!({})).await;
    let quotas: Api<ResourceQuota> = site.namespaced();
    let hard = json!({"requests.nvidia.com/gpu": "3"});
    let quota = json!({"metadata": {"name": "gpus"}, "spec": {"hard": hard}});
    create(&quotas, quota).await;
    eventually(SOON, "the quota counts", || async {
        quotas.get("gpus").await.unwrap().status?.hard
    })
    .await;
    site.registered("reg", json!({"gpus": 100})).await;
    site.miner("miner", "reg", 16, json!({})).await;
    site.start();
    site.wait_for_mining(3).await;
    let status = site
        .wait_for_miner("miner", "explained by the quota", |status| {
            status["reason"] == "PodsRefused"
        })
        .await;
    assert!(status["message"].as_str().unwrap().contains("exceeded quota"), "{status:#}");
    let printed = site.daylight(&["status"]);
    assert!(printed.contains("exceeded quota"), "as `daylight why` says: {printed}");
    let tried = site.processes[0].metric("daylight_writes_total", &["create pod", "refused"]);
    assert!(tried.await.unwrap() < 100.0, "it does not try all the time");
    quotas.delete("gpus", &DeleteParams::default()).await.unwrap();
    site.wait_for_mining(16).await;
    site.wait_for_miner("miner", "content", |status| status["reason"] == "Running").await;
}

#[apply(trial!)]
async fn an_ai_job_whose_pods_are_refused_says_why(site: &mut Site) {
    site.nodes(2).await;
    site.pool(json!({})).await;
    let quotas: Api<ResourceQuota> = site.namespaced();
    let hard = json!({"requests.nvidia.com/gpu": "4"});
    create(&quotas, json!({"metadata": {"name": "gpus"}, "spec": {"hard": hard}})).await;
    eventually(SOON, "the quota counts", || async {
        quotas.get("gpus").await.unwrap().status?.hard
    })
    .await;
    site.start();
    // One of the two workers is within the quota.
    site.ai_job("training", 2, 4, json!({"gangTimeout": "6s"})).await;
    let refused = |status: &serde_json::Value| status["reason"] == "PodsRefused";
    let status = site.wait_for_job("training", "explained by the quota", refused).await;
    assert_eq!(status["state"], "Starting");
    assert!(status["message"].as_str().unwrap().contains("exceeded quota"), "{status:#}");
    let why = site.daylight(&["why", "aijob", &site.key("training")]);
    assert!(why.contains("PodsRefused") && why.contains("exceeded quota"), "{why}");
    assert!(site.daylight(&["status"]).contains("exceeded quota"));
    // Also while it backs off.
    let backs_off = |status: &serde_json::Value| status["backoffUntil"].is_string();
    let status = site.wait_for_job("training", "backing off", backs_off).await;
    assert!(refused(&status), "{status:#}");
    let asked = site.processes[0].metric("daylight_writes_total", &["list events", "done"]);
    assert!(asked.await.unwrap() < 20.0, "it does not ask all the time");

    quotas.delete("gpus", &DeleteParams::default()).await.unwrap();
    let job: Api<AiJob> = site.namespaced();
    eventually(4 * SOON, "the AIJob to run", || async {
        let status = job.get_status("training").await.unwrap().status?;
        (status.reason.as_deref() == Some("Running")).then_some(())
    })
    .await;
}

#[apply(trial!)]
async fn a_priority_class_that_would_displace_ai_stops_grants(site: &mut Site) {
    let classes: Api<PriorityClass> = Api::all(site.client.clone());
    let _ = classes.delete("daylight-miner", &DeleteParams::default()).await;
    create(&classes, json!({"metadata": {"name": "daylight-miner"}, "value": 1000})).await;
    site.nodes(1).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 8})).await;
    site.miner("miner", "reg", 8, json!({})).await;
    site.start();
    let status = site
        .wait_for_miner("miner", "explained by the class", |status| {
            status["reason"] == "PodsRefused"
        })
        .await;
    assert!(status["message"].as_str().unwrap().contains("PriorityClass daylight-miner"));
    assert_eq!(site.observer.started(), 0);
    classes.delete("daylight-miner", &DeleteParams::default()).await.unwrap();
    site.wait_for_mining(8).await;
    assert_eq!(classes.get("daylight-miner").await.unwrap().value, Some(-1_000_000));
}

#[apply(trial!)]
async fn a_bad_object_beside_good_ones_stops_none(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    let pools: Api<GpuPool> = Api::all(site.client.clone());
    let spec = json!({
        "nodeSelector": {"matchLabels": {"no": "node"}}, "resource": "nvidia.com/gpu",
        "site": {"name": "nowhere", "timeZone": "Europe/Atlantis"},
    });
    let other = format!("{}-bad", site.name);
    create(&pools, json!({"metadata": {"name": other}, "spec": spec})).await;
    site.registered("reg", json!({"gpus": 8})).await;
    site.miner("miner", "reg", 8, json!({})).await;
    site.miner("orphan", "nothing", 8, json!({})).await;
    site.start();
    site.wait_for_mining(8).await;
    let status = site
        .wait_for_status(pools, &other, "explained", |status| status["reason"] == "Invalid")
        .await;
    assert!(status["message"].as_str().unwrap().contains("Europe/Atlantis"), "{status:#}");
    site.wait_for_miner("orphan", "explained", |status| status["reason"] == "RegistrationMissing")
        .await;
}

#[apply(trial!)]
async fn a_class_that_is_taken_off_the_list_stops_mining(site: &mut Site) {
    site.full_of_miners(1).await;
    let classes: Api<ActivityClass> = Api::all(site.client.clone());
    let class = classes.get("pow-mining").await.unwrap();
    classes.delete("pow-mining", &DeleteParams::default()).await.unwrap();
    site.wait_for_mining(0).await;
    let spec = serde_json::to_value(&class.spec).unwrap();
    create(&classes, json!({"metadata": {"name": "pow-mining"}, "spec": spec})).await;
    // What was approved is there again as it was.
    site.wait_for_mining(8).await;
    let patch = json!({"spec": {"description": "Edited."}});
    classes.patch("pow-mining", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    site.wait_for_mining(0).await;
    let patch = json!({"spec": {"description": class.spec.description}});
    classes.patch("pow-mining", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    site.wait_for_mining(8).await;
}

#[apply(trial!)]
async fn a_miner_that_crashes_rests(site: &mut Site) {
    rests(site, 1, "its container ended with exit code 1").await;
}

#[apply(trial!)]
async fn a_miner_that_ends_at_once_without_an_error_rests(site: &mut Site) {
    rests(site, 0, "its container ended after 0 s without an error").await;
}

/// A miner whose containers end after 100 ms with this exit code is started a few times only, and its
/// status reports why.
async fn rests(site: &mut Site, exit: u8, why: &str) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 8})).await;
    let annotations = json!({
        "daylight.dev/simulated-run-time": "100ms",
        "daylight.dev/simulated-exit": exit.to_string(),
    });
    let miner = json!({
        "metadata": {"name": "miner", "annotations": annotations},
        "spec": {"registration": "reg", "replicas": 8, "image": "i/m:1", "wattsPerReplica": 300},
    });
    create(&site.namespaced::<daylight_crds::Miner>(), miner).await;
    site.start();
    let failed = |status: &serde_json::Value| {
        status["message"].as_str().is_some_and(|message| message.contains(why))
    };
    site.wait_for_miner("miner", "held back", failed).await;
    site.wait_for_pool("without quarantine", |status| status["gpus"]["quarantined"] == 0).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(site.observer.started() < 40, "{} pods were started", site.observer.started());
}

#[apply(trial!)]
async fn a_miner_that_would_fail_anywhere_keeps_nothing_from_others(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 8})).await;
    let record =
        json!({"daylight.dev/work": "v1", "reason": "WrongWallet", "message": "no such wallet"});
    let annotations = json!({
        "daylight.dev/simulated-run-time": "100ms", "daylight.dev/simulated-exit": "16",
        "daylight.dev/simulated-termination-message": record.to_string(),
    });
    let impostor = json!({
        "metadata": {"name": "impostor", "annotations": annotations},
        "spec": {"registration": "reg", "replicas": 1, "image": "i/m:1", "wattsPerReplica": 300},
    });
    let miners: Api<Miner> = site.namespaced();
    create(&miners, impostor).await;
    site.miner("miner", "reg", 7, json!({})).await;
    site.start();
    let explained = |status: &serde_json::Value| status["reason"] == "WrongWallet";
    let status = site.wait_for_miner("impostor", "explained", explained).await;
    assert!(status["message"].as_str().unwrap().contains("no such wallet"), "{status:#}");
    // It is tried ever more rarely, one replica at a time, and all GPUs are others' meanwhile.
    site.wait_for_miner("miner", "content", |status| status["reason"] == "Running").await;
    let eight = Patch::Merge(json!({"spec": {"replicas": 8}}));
    miners.patch("miner", &PatchParams::default(), &eight).await.unwrap();
    site.wait_for_mining(8).await;
    site.wait_for_pool("without quarantine", |status| status["gpus"]["quarantined"] == 0).await;
    assert!(site.observer.started() < 24, "{} pods were started", site.observer.started());
}
