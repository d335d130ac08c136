//! Idle GPUs mine, and nothing else does.

use serde_json::json;

use crate::site::Site;

pub(crate) async fn idle_gpus_are_filled(site: &mut Site) {
    site.nodes(3).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 100})).await;
    site.miner("miner", "reg", 30, json!({})).await;
    site.start();
    site.mines(24).await;
    let status = site
        .miner_status("miner", "told that no GPU is idle", |status| {
            status["readyReplicas"] == 24 && status["reason"] == "WaitingForIdleGpus"
        })
        .await;
    assert_eq!(status["replicas"], 24);
    let pool = site.pool_status("all mining", |status| status["gpus"]["mining"] == 24).await;
    assert_eq!(pool["gpus"]["idle"], 0);
    assert_eq!(pool["reason"], "Filling");
    assert_eq!(site.observer.started(), 24, "no pod was started in vain");
}
