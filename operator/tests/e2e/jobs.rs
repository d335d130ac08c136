//! AI jobs get every GPU they ask for, as gangs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use daylight_crds::{AiJob, AiJobState};
use daylight_test_site::{SOON, Site, create, eventually};
use daylight_testbed::trials::{apply, trial};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy};
use kube::{Api, ResourceExt as _};
use serde_json::json;

#[apply(trial!)]
async fn an_ai_job_takes_back_exactly_what_it_needs(site: &mut Site) {
    site.full_of_miners(4).await;
    let begun = Instant::now();
    site.ai_job("training", 2, 8, json!({})).await;
    let status =
        site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    eprintln!("a gang of 16 GPUs ran after {:?}", begun.elapsed());
    assert_eq!(status["displaced"], 16);
    assert_eq!(status["pool"], site.name.as_str());
    assert_eq!(status["placement"].as_array().unwrap().len(), 2);
    site.wait_for_mining(16).await;
    assert_eq!(site.observer.started(), 32, "no other pod was displaced, and nothing restarted");

    // On the nodes that were cleared for it.
    let nodes: BTreeSet<_> = site
        .pods("daylight.dev/aijob=training")
        .await
        .into_iter()
        .filter_map(|pod| pod.spec?.node_name)
        .collect();
    let placed: BTreeSet<_> = status["placement"]
        .as_array()
        .unwrap()
        .iter()
        .map(|place| place["node"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(nodes, placed);

    let reclaims = site.processes[0].metric("daylight_evictions_total", &["AiDemand"]).await;
    assert_eq!(reclaims, Some(16.0));
    let waits =
        site.processes[0].metric("daylight_ai_wait_seconds_count", &["AIJob", "total"]).await;
    assert_eq!(waits, Some(1.0));

    // One Event on the job for all of it, one on the miner.
    let events: Api<Event> = site.namespaced();
    eventually(SOON, "the Events of it", || async {
        let all = events.list(&ListParams::default()).await.unwrap().items;
        let notes: Vec<_> = all
            .iter()
            .filter(|event| event.reason.as_deref() == Some("AiDemand"))
            .filter_map(|event| event.note.clone())
            .collect();
        let key = site.key("miner");
        let job = notes
            .iter()
            .any(|note| *note == format!("Taking back 16 GPUs from miners {key} (16)."));
        let miner =
            notes.iter().any(|note| note.starts_with("Stopping 16 replicas on 16 GPUs for"));
        (job && miner).then_some(())
    })
    .await;
}

#[apply(trial!)]
async fn a_gang_meets_under_one_name(site: &mut Site) {
    site.nodes(2).await;
    site.pool(json!({})).await;
    site.start();
    site.ai_job("training", 2, 8, json!({})).await;
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    let jobs: Api<Job> = site.namespaced();
    let job = jobs.get("training").await.unwrap();
    let spec = job.spec.unwrap();
    assert_eq!(spec.completion_mode.as_deref(), Some("Indexed"));
    assert_eq!((spec.parallelism, spec.completions), (Some(2), Some(2)));
    let services: Api<Service> = site.namespaced();
    let service = services.get("training").await.unwrap().spec.unwrap();
    assert_eq!(service.cluster_ip.as_deref(), Some("None"));
    for pod in site.pods("daylight.dev/aijob=training").await {
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(spec.subdomain.as_deref(), Some("training"));
        assert!(spec.hostname.as_deref().unwrap().starts_with("training-"));
        assert_eq!(pod.labels()["daylight.dev/activity"], "ai-training");
        assert_eq!(pod.labels()["daylight.dev/pool"], site.name);
    }
}

#[apply(trial!)]
async fn a_job_that_ends_gives_its_gpus_back_and_goes_in_time(site: &mut Site) {
    site.full_of_miners(1).await;
    let template = json!({"metadata": {"annotations": {"daylight.dev/simulated-run-time": "1s"}}});
    site.ai_job("training", 1, 8, json!({"ttlAfterFinished": "3s", "template": template})).await;
    let status =
        site.wait_for_job("training", "succeeded", |status| status["state"] == "Succeeded").await;
    assert!(status["finishedAt"].is_string() && status["startedAt"].is_string(), "{status:#}");
    site.wait_for_mining(8).await;
    let jobs: Api<AiJob> = site.namespaced();
    eventually(SOON, "the job is deleted", || async {
        jobs.get_opt("training").await.unwrap().is_none().then_some(())
    })
    .await;
    let batch: Api<Job> = site.namespaced();
    eventually(SOON, "its Job follows", || async {
        batch.get_opt("training").await.unwrap().is_none().then_some(())
    })
    .await;
}

#[apply(trial!)]
async fn a_job_that_fails_says_so(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    site.start();
    let annotations =
        json!({"daylight.dev/simulated-run-time": "1s", "daylight.dev/simulated-exit": "3"});
    let template = json!({"metadata": {"annotations": annotations}});
    site.ai_job("training", 2, 1, json!({"template": template})).await;
    let status =
        site.wait_for_job("training", "failed", |status| status["state"] == "Failed").await;
    let finished = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|condition| condition["type"] == "Finished");
    eventually(SOON, "the condition", || async { Some(()) }).await;
    assert!(finished.is_some());
}

#[apply(trial!)]
async fn a_half_gang_holds_no_gpus(site: &mut Site) {
    site.nodes(2).await;
    site.pool(json!({})).await;
    site.start();
    // The second worker can never be bound, for what the planner does not know.
    let affinity = json!({"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": "site",
            "labelSelector": {"matchLabels": {"daylight.dev/aijob": "training"}},
        }],
    }});
    let template = json!({"spec": {"affinity": affinity}});
    site.ai_job("training", 2, 8, json!({"gangTimeout": "2s", "template": template})).await;
    site.wait_for_job("training", "started", |status| status["state"] == "Starting").await;
    let status =
        site.wait_for_job("training", "queued again", |status| status["state"] == "Queued").await;
    assert_eq!(status["attempts"], 1);
    eventually(SOON, "no worker is left", || async {
        site.pods("daylight.dev/aijob=training").await.is_empty().then_some(())
    })
    .await;
    site.wait_for_job("training", "waiting", |status| {
        status["reason"] == "GangBackoff" && status["backoffUntil"].is_string()
    })
    .await;
    // It is tried again.
    let again = Duration::from_mins(2);
    eventually(again, "a second attempt", || async {
        let jobs: Api<AiJob> = site.namespaced();
        let status = jobs.get("training").await.unwrap().status?;
        (status.attempts >= Some(2)).then_some(())
    })
    .await;
}

#[apply(trial!)]
async fn a_job_whose_batch_job_is_deleted_gets_another(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    site.start();
    site.ai_job("training", 1, 8, json!({})).await;
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    let batch: Api<Job> = site.namespaced();
    let first = batch.get("training").await.unwrap().uid();
    batch.delete("training", &DeleteParams::background()).await.unwrap();
    eventually(SOON, "another Job", || async {
        let job = batch.get_opt("training").await.unwrap()?;
        (job.uid() != first).then_some(())
    })
    .await;
    site.wait_for_job("training", "running again", |status| status["state"] == "Running").await;
}

#[apply(trial!)]
async fn deleting_a_job_frees_its_gpus_however_it_is_deleted(site: &mut Site) {
    site.full_of_miners(1).await;
    for propagation in
        [PropagationPolicy::Foreground, PropagationPolicy::Background, PropagationPolicy::Orphan]
    {
        let name = format!("job-{propagation:?}").to_lowercase();
        site.ai_job(&name, 1, 8, json!({})).await;
        site.wait_for_job(&name, "running", |status| status["state"] == "Running").await;
        let orphan = matches!(propagation, PropagationPolicy::Orphan);
        let params =
            DeleteParams { propagation_policy: Some(propagation), ..DeleteParams::default() };
        let jobs: Api<AiJob> = site.namespaced();
        jobs.delete(&name, &params).await.unwrap();
        if orphan {
            // Then the Job is its user's, and so is what it holds.
            eventually(SOON, "the AIJob is gone", || async {
                jobs.get_opt(&name).await.unwrap().is_none().then_some(())
            })
            .await;
            let batch: Api<Job> = site.namespaced();
            assert!(batch.get_opt(&name).await.unwrap().is_some());
            batch.delete(&name, &DeleteParams::background()).await.unwrap();
        }
        site.wait_for_mining(8).await;
    }
}

#[apply(trial!)]
async fn the_queue_is_kept_and_the_waiting_are_told_why(site: &mut Site) {
    site.full_of_miners(2).await;
    site.ai_job("first", 2, 8, json!({"maxRunTime": "1h"})).await;
    site.wait_for_job("first", "running", |status| status["state"] == "Running").await;
    site.ai_job("second", 1, 8, json!({})).await;
    let status = site
        .wait_for_job("second", "waiting for capacity", |status| {
            status["reason"] == "WaitingForCapacity"
        })
        .await;
    assert!(status["estimatedStart"].is_string(), "{status:#}");
    site.wait_for_mining(0).await;
    let jobs: Api<AiJob> = site.namespaced();
    jobs.delete("first", &DeleteParams::background()).await.unwrap();
    site.wait_for_job("second", "running", |status| status["state"] == "Running").await;
    site.wait_for_mining(8).await;
}

#[apply(trial!)]
async fn with_a_kueue_queue_daylight_leaves_suspend_alone(site: &mut Site) {
    site.full_of_miners(1).await;
    site.ai_job("queued", 1, 8, json!({"queueName": "team", "pool": site.name})).await;
    let batch: Api<Job> = site.namespaced();
    let job =
        eventually(SOON, "a suspended Job", || async { batch.get_opt("queued").await.unwrap() })
            .await;
    assert_eq!(job.labels()["kueue.x-k8s.io/queue-name"], "team");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(batch.get("queued").await.unwrap().spec.unwrap().suspend, Some(true));
    site.wait_for_mining(8).await;
    // Kueue admits it.
    let patch = json!({"spec": {"suspend": false}});
    batch.patch("queued", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    site.wait_for_job("queued", "running", |status| status["state"] == "Running").await;
    // Kueue takes it back.
    let patch = json!({"spec": {"suspend": true}});
    batch.patch("queued", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    site.wait_for_job("queued", "queued", |status| status["state"] == "Queued").await;
    site.wait_for_mining(8).await;
}

#[apply(trial!)]
async fn a_job_of_that_name_is_not_taken_over(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    site.start();
    let template = json!({"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}],
    }});
    let jobs: Api<Job> = site.namespaced();
    let theirs = create(
        &jobs,
        json!({"metadata": {"name": "training"}, "spec": {"suspend": true, "template": template}}),
    )
    .await;
    site.ai_job("training", 1, 8, json!({})).await;
    let events: Api<Event> = site.namespaced();
    eventually(SOON, "a warning", || async {
        let all = events.list(&ListParams::default()).await.unwrap().items;
        all.iter()
            .any(|event| {
                event
                    .note
                    .as_ref()
                    .is_some_and(|note| note.contains("does not belong to this AIJob"))
            })
            .then_some(())
    })
    .await;
    assert_eq!(jobs.get("training").await.unwrap().uid(), theirs.uid());
    jobs.delete("training", &DeleteParams::background()).await.unwrap();
    // What was refused is tried again at growing intervals, which is what this waits for.
    let job: Api<AiJob> = site.namespaced();
    eventually(4 * SOON, "the AIJob to run", || async {
        let status = job.get_status("training").await.unwrap().status?;
        (status.state == Some(AiJobState::Running)).then_some(())
    })
    .await;
}

#[apply(trial!)]
async fn names_of_the_greatest_length_work(site: &mut Site) {
    let long = "n".repeat(63);
    let job = "j".repeat(52);
    site.nodes(2).await;
    site.pool(json!({})).await;
    site.registered(&long, json!({"gpus": 100})).await;
    site.miner(&long, &long, 16, json!({})).await;
    site.start();
    site.wait_for_mining(16).await;
    site.ai_job(&job, 2, 4, json!({})).await;
    site.wait_for_job(&job, "running", |status| status["state"] == "Running").await;
    let pods: Api<Pod> = site.namespaced();
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        assert!(pod.name_any().len() <= 63, "{}", pod.name_any());
    }
}
