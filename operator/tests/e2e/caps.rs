//! Caps hold at every moment.

use std::time::Duration;

use daylight_crds::Miner;
use daylight_test_site::Site;
use daylight_testbed::trials::{apply, trial};
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

#[apply(trial!)]
async fn no_cap_is_passed_while_filling(site: &mut Site) {
    site.observer.cap_registration(&site.key("small"), 5);
    site.observer.cap_registration(&site.key("large"), 100);
    site.observer.cap_pool(&site.name, 20);
    site.nodes(4).await;
    site.pool(json!({"maxGpus": 20})).await;
    site.registered("small", json!({"gpus": 5})).await;
    site.registered("large", json!({"gpus": 100})).await;
    site.miner("a", "small", 30, json!({})).await;
    site.miner("b", "large", 30, json!({})).await;
    site.start();
    site.wait_for_mining(20).await;
    let registration = site.pods("daylight.dev/registration=small").await.len();
    assert!(registration <= 5);
    site.wait_for_miner("b", "explained by the pool's limit", |status| {
        status["reason"] == "PoolGpuLimit"
    })
    .await;
}

#[apply(trial!)]
async fn a_cap_that_shrinks_holds_again_within_the_drain_time(site: &mut Site) {
    site.full_of_miners(2).await;
    site.edit_pool(json!({"mining": {"maxGpus": 6}})).await;
    site.wait_until_settled(6).await;
    site.observer.cap_pool(&site.name, 6);
    site.observer.cap_pool(&site.name, 12);
    site.edit_pool(json!({"mining": {"maxGpus": null, "headroom": "25%"}})).await;
    site.wait_for_mining(12).await;
    site.wait_for_pool("headroom", |status| {
        status["gpus"]["headroom"] == 4 && status["gpus"]["idle"] == 0
    })
    .await;
}

#[apply(trial!)]
async fn a_power_budget_counts_declared_watts(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({"powerBudgetWatts": 1000})).await;
    site.observer.cap_pool(&site.name, 3);
    site.registered("reg", json!({"gpus": 100})).await;
    site.miner("miner", "reg", 8, json!({"wattsPerReplica": 300})).await;
    site.start();
    site.wait_for_mining(3).await;
    site.wait_for_miner("miner", "explained by the budget", |status| {
        status["reason"] == "PowerBudget"
    })
    .await;
}

#[apply(trial!)]
async fn a_kwh_limit_without_a_meter_holds_mining(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    let limits = json!({"gpus": 8, "energy": {"kwh": 10, "period": "Month"}});
    site.registered("reg", limits).await;
    site.miner("miner", "reg", 8, json!({})).await;
    site.start();
    site.wait_for_miner("miner", "explained: no meter reports", |status| {
        status["reason"] == "MeterUnavailable"
    })
    .await;
    assert_eq!(site.observer.started(), 0);
}

#[apply(trial!)]
async fn observe_writes_nothing_but_status(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({"policy": "Observe"})).await;
    site.registered("reg", json!({"gpus": 8})).await;
    site.miner("miner", "reg", 8, json!({})).await;
    site.start();
    let status =
        site.wait_for_pool("what it would do", |status| status["plannedMiningGpus"] == 8).await;
    assert_eq!(status["reason"], "Observing");
    assert_eq!(status["gpus"]["idle"], 8);
    site.wait_for_miner("miner", "explained", |status| status["reason"] == "PoolObserves").await;
    assert_eq!(site.observer.started(), 0);
    let jobs: Api<Job> = site.namespaced();
    assert_eq!(jobs.list(&ListParams::default()).await.unwrap().items.len(), 0);
    // An AI job runs all the same.
    site.ai_job("training", 1, 8, json!({})).await;
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    site.edit_pool(json!({"mining": {"policy": "Fill"}})).await;
    site.wait_for_pool("full", |status| status["gpus"]["ai"] == 8).await;
}

#[apply(trial!)]
async fn a_pool_holds_and_drains_as_it_is_told(site: &mut Site) {
    site.full_of_miners(1).await;
    site.edit_pool(json!({"mining": {"policy": "Hold"}})).await;
    site.wait_for_pool("holds", |status| status["reason"] == "Holding").await;
    let one = site.mining().await.pop().unwrap();
    let name = one.metadata.name.unwrap();
    site.control_plane.kubectl_ok(["delete", "pod", "-n", &site.name, &name]).await.unwrap();
    site.wait_for_mining(7).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.wait_for_mining(7).await;
    site.edit_pool(json!({"mining": {"policy": "Drain"}})).await;
    site.wait_for_mining(0).await;
    site.edit_pool(json!({"mining": {"policy": "Fill"}})).await;
    site.wait_for_mining(8).await;
}

#[apply(trial!)]
async fn the_window_closes_and_mining_ends(site: &mut Site) {
    site.nodes(1).await;
    // Open all the time, by two minutes each minute.
    let windows = json!([{"name": "w", "schedule": "* * * * *", "duration": "2m"}]);
    site.pool(json!({"windows": windows})).await;
    site.registered("reg", json!({"gpus": 8})).await;
    site.miner("miner", "reg", 8, json!({})).await;
    site.start();
    site.wait_for_mining(8).await;
    let half_a_year =
        (jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).month() + 5) % 12 + 1;
    let schedule = format!("0 0 1 {half_a_year} *");
    let windows = json!([{"name": "w", "schedule": schedule, "duration": "1h"}]);
    site.edit_pool(json!({"mining": {"windows": windows}})).await;
    site.wait_for_mining(0).await;
    site.wait_for_miner("miner", "explained by it", |status| status["reason"] == "WindowClosed")
        .await;
}

#[apply(trial!)]
async fn kubectl_scale_scales(site: &mut Site) {
    site.full_of_miners(1).await;
    let scale = |replicas: &'static str| {
        let namespace = site.name.clone();
        let control_plane = site.control_plane.clone();
        async move {
            let replicas = format!("--replicas={replicas}");
            let arguments = ["scale", "miner", "miner", "-n", &namespace, &replicas];
            control_plane.kubectl_ok(arguments).await.unwrap();
        }
    };
    scale("3").await;
    site.wait_for_mining(3).await;
    scale("0").await;
    site.wait_for_mining(0).await;
    site.wait_for_miner("miner", "content", |status| {
        status["reason"] == "NothingWanted" && status["replicas"] == 0
    })
    .await;
    scale("5").await;
    site.wait_for_mining(5).await;
}

#[apply(trial!)]
async fn a_changed_miner_gets_new_pods(site: &mut Site) {
    site.full_of_miners(1).await;
    let miners: Api<Miner> = site.namespaced();
    let patch = json!({"spec": {"image": "registry.example.com/miners/kaspa:2"}});
    miners.patch("miner", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    daylight_test_site::eventually(
        daylight_test_site::SOON,
        "all pods have the new image",
        || async {
            let pods = site.mining().await;
            let new = pods.iter().filter(|pod| {
                let container = pod.spec.as_ref().map(|spec| &spec.containers[0]);
                container.is_some_and(|one| one.image.as_deref().unwrap().ends_with(":2"))
            });
            (new.count() == 8).then_some(())
        },
    )
    .await;
}
