//! Kueue's topology-aware scheduling (TAS) places jobs as if there were no miners.

use daylight_testbed::trials::{apply, trial};
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;

use crate::KueueSite;

const REQUIRED: &str = "kueue.x-k8s.io/podset-required-topology";

/// It rests on a rule of Kueue's: pods with an annotation do not count as taken capacity. If this
/// fails with a newer Kueue, find out how that one decides.
#[apply(trial!)]
async fn a_job_with_a_topology_is_placed_as_if_no_miner_ran(site: &mut KueueSite) {
    site.full_of_miners(2).await;
    site.queue("ai", 32, true).await;
    let annotations = || json!({REQUIRED: "site"});
    site.job("first", Some("ai"), 1, annotations()).await;
    site.wait_for_pods("first", 1).await;
    site.wait_for_mining(8).await;
    for pod in site.mining().await {
        let labels = pod.metadata.labels.unwrap_or_default();
        assert_eq!(labels["daylight.dev/epoch"], "0", "no other miner was displaced");
        let kueue = labels.keys().find(|label| label.contains("kueue"));
        assert_eq!(kueue, None, "the miner is not Kueue's");
    }

    // GPUs that a job outside of the queue releases are not lost to miners, which take them at once.
    // Kueue 0.17 does not try a waiting Workload again when such a job ends, so the second one comes
    // afterwards.
    let jobs: Api<Job> = site.namespaced();
    jobs.delete("first", &DeleteParams::background()).await.unwrap();
    site.job("plain", None, 2, json!({})).await;
    site.wait_for_pods("plain", 2).await;
    jobs.delete("plain", &DeleteParams::background()).await.unwrap();
    site.wait_for_mining(16).await;
    site.job("second", Some("ai"), 2, annotations()).await;
    site.wait_for_pods("second", 2).await;
}
