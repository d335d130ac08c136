//! Idle GPUs mine, and nothing else does.

use daylight_test_site::Site;
use daylight_testbed::trials::{apply, trial};
use serde_json::json;

#[apply(trial!)]
async fn idle_gpus_are_filled(site: &mut Site) {
    site.nodes(3).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 100})).await;
    site.miner("miner", "reg", 30, json!({})).await;
    site.start();
    site.wait_for_mining(24).await;
    let status = site
        .wait_for_miner("miner", "explained: no GPU is idle", |status| {
            status["readyReplicas"] == 24 && status["reason"] == "WaitingForIdleGpus"
        })
        .await;
    assert_eq!(status["replicas"], 24);
    let pool = site.wait_for_pool("all mining", |status| status["gpus"]["mining"] == 24).await;
    assert_eq!(pool["gpus"]["idle"], 0);
    assert_eq!(pool["reason"], "Filling");
    assert_eq!(site.observer.started(), 24, "no pod was started in vain");
}
