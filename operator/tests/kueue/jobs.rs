//! AIJobs in Kueue's queues.

use daylight_crds::AiJob;
use daylight_testbed::Component;
use daylight_testbed::trials::{Outcome, apply, trial};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::KueueSite;

/// Whether an AIJob has this reason, and a message with this in it.
fn explained(status: &Value, reason: &str, part: &str) -> bool {
    status["reason"] == reason && status["message"].as_str().is_some_and(|it| it.contains(part))
}

#[apply(trial!)]
async fn a_queued_job_names_its_queue_and_what_it_waits_for(site: &mut KueueSite) {
    site.full_of_miners(2).await;
    site.queue("ai", 8, false).await;
    let queue = json!({"queueName": "ai"});
    site.ai_job("first", 1, 8, queue.clone()).await;
    site.wait_for_job("first", "running", |status| {
        status["state"] == "Running" && explained(status, "Running", "")
    })
    .await;
    // Each status is written in its own time.
    site.wait_for_miner("miner", "it waits", |status| status["reason"] == "WaitingForIdleGpus")
        .await;
    let shown: Value = serde_json::from_str(&site.daylight(&["status", "-o", "json"])).unwrap();
    assert_eq!(shown["waiting"][0]["kind"], "miner", "only the miner waits: {shown:#}");

    site.ai_job("second", 1, 8, queue).await;
    site.ai_job("lost", 1, 8, json!({"queueName": "nosuch"})).await;
    let name = format!("Kueue's LocalQueue {}/ai has not admitted the job: ", site.name);
    let status =
        site.wait_for_job("second", "waiting", |status| explained(status, "External", &name)).await;
    assert!(explained(&status, "External", "insufficient"), "{status:#}");
    let doesnt_exist = "nosuch doesn't exist";
    site.wait_for_job("lost", "waiting", |status| explained(status, "External", doesnt_exist))
        .await;
    site.wait_for_mining(8).await;

    site.set_quota(16).await;
    site.wait_for_job("second", "running", |status| status["state"] == "Running").await;
    site.wait_for_mining(0).await;
    assert_eq!(site.observer.started(), 16, "each miner was displaced once");
    let jobs: Api<AiJob> = site.namespaced();
    jobs.delete("first", &DeleteParams::background()).await.unwrap();
    site.wait_for_mining(8).await;
}

#[apply(trial!)]
async fn without_kueues_webhooks_a_job_names_their_failure(site: &mut KueueSite) -> Outcome {
    site.nodes(1).await;
    site.pool(json!({})).await;
    site.queue("ai", 8, false).await;
    site.start();
    site.control_plane.stop_component(Component::Kueue).await?;
    site.ai_job("train", 1, 8, json!({"queueName": "ai"})).await;
    let refused = "The API server rejects its Job: Internal error occurred: failed calling webhook";
    site.wait_for_job("train", "refused", |status| explained(status, "PodsRefused", refused)).await;
    site.control_plane.start_component(Component::Kueue).await?;
    site.wait_for_job("train", "running", |status| status["state"] == "Running").await;
    Ok(())
}

/// With `manageJobsWithoutQueueName`, Kueue suspends Jobs without a queue for ever, and gates pods
/// unless it knows that another kind owns them.
#[apply(trial!)]
async fn a_job_that_kueue_suspends_queues_again(site: &mut KueueSite) -> Outcome {
    let frameworks = json!({
        "frameworks": ["batch/job", "pod"],
        "externalFrameworks": ["Miner.v1alpha1.daylight.dev"],
    });
    let settings = json!({"manageJobsWithoutQueueName": true, "integrations": frameworks});
    site.control_plane.restart_kueue(settings).await?;
    site.full_of_miners(1).await;
    site.ai_job("train", 1, 8, json!({})).await;
    site.wait_for_job("train", "suspended", |status| {
        status["state"] == "Queued" && explained(status, "JobSuspended", "kueue suspended Job ")
    })
    .await;
    site.wait_for_mining(8).await;
    site.control_plane.restart_kueue(json!({})).await?;
    Ok(())
}
