//! AI never waits on Daylight: with it, without it, and against tenants' tricks.

use std::time::{Duration, Instant};

use daylight_crds::Miner;
use daylight_test_site::{SOON, Site, create, eventually, is_running};
use daylight_testbed::Component;
use daylight_testbed::trials::{apply, trial};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PropagationPolicy};
use serde_json::{Value, json};

/// A plain Job of n pods with one GPU each.
fn plain_job(name: &str, pods: u32) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "parallelism": pods, "completions": pods,
            "template": {
                "metadata": {"labels": {"daylight.dev/activity": "ai-training"}},
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{
                        "name": "train", "image": "registry.example.com/train:1",
                        "resources": {"limits": {"nvidia.com/gpu": "1"}},
                    }],
                },
            },
        },
    })
}

async fn wait_for_plain_pods(site: &Site, name: &str, pods: usize) {
    let label = format!("job-name={name}");
    eventually(SOON, &format!("{pods} pods of {name} run"), || async {
        let running = site.pods(&label).await.iter().filter(|pod| is_running(pod)).count();
        (running == pods).then_some(())
    })
    .await;
}

#[apply(trial!)]
async fn a_plain_job_preempts_and_nobody_else_is_displaced(site: &mut Site) {
    site.full_of_miners(2).await;
    let jobs: Api<Job> = site.namespaced();
    create(&jobs, plain_job("plain", 4)).await;
    wait_for_plain_pods(site, "plain", 4).await;
    site.wait_for_mining(12).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.wait_for_mining(12).await;
    assert_eq!(site.observer.started(), 16);
    let pool = site.wait_for_pool("4 with AI", |status| status["gpus"]["ai"] == 4).await;
    assert_eq!(pool["gpus"]["mining"], 12);
}

#[apply(trial!)]
async fn with_daylight_stopped_ai_displaces_miners(site: &mut Site) {
    site.full_of_miners(2).await;
    site.processes.pop().unwrap().kill().await;
    let jobs: Api<Job> = site.namespaced();
    create(&jobs, plain_job("plain", 4)).await;
    wait_for_plain_pods(site, "plain", 4).await;
    site.wait_for_mining(12).await;
    // It returns, and assigns nothing twice.
    site.start();
    site.wait_for_pool("what is so", |status| {
        status["gpus"]["ai"] == 4 && status["gpus"]["mining"] == 12
    })
    .await;
    assert_eq!(site.observer.started(), 16);
    jobs.delete("plain", &DeleteParams::background()).await.unwrap();
    site.wait_for_mining(16).await;
}

#[apply(trial!)]
async fn a_disruption_budget_does_not_hold_gpus_back(site: &mut Site) {
    site.full_of_miners(1).await;
    let budgets: Api<PodDisruptionBudget> = site.namespaced();
    for name in ["all", "all-again"] {
        create(
            &budgets,
            json!({
                "metadata": {"name": name},
                "spec": {
                    "maxUnavailable": 0,
                    "selector": {"matchLabels": {"daylight.dev/miner": "miner"}},
                },
            }),
        )
        .await;
        // kube-controller-manager learns of new kinds, such as Miner, every 30 s.
        eventually(Duration::from_mins(1), "the budget is known", || async {
            let budget = budgets.get(name).await.unwrap();
            budget.status?.observed_generation.filter(|seen| *seen > 0)
        })
        .await;
        let job = format!("training-{name}");
        let begun = Instant::now();
        site.ai_job(&job, 1, 8, json!({})).await;
        site.wait_for_job(&job, "running", |status| status["state"] == "Running").await;
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        let jobs: Api<daylight_crds::AiJob> = site.namespaced();
        jobs.delete(&job, &DeleteParams::background()).await.unwrap();
        site.wait_for_mining(8).await;
    }
    let events: Api<Event> = site.namespaced();
    eventually(SOON, "an Event of it", || async {
        let all = events.list(&ListParams::default()).await.unwrap().items;
        let said = all.iter().any(|event| event.reason.as_deref() == Some("BudgetOverruled"));
        said.then_some(())
    })
    .await;
}

#[apply(trial!)]
async fn a_miner_gets_its_grace_and_no_more(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({"drainTimeout": "2s"})).await;
    site.registered("reg", json!({"gpus": 8})).await;
    let miners: Api<Miner> = site.namespaced();
    site.miner("miner", "reg", 8, json!({"drainTimeout": "30s"})).await;
    let patch = json!({"metadata": {"annotations": {"daylight.dev/simulated-drain-time": "1h"}}});
    miners.patch("miner", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    site.start();
    site.wait_for_mining(8).await;
    for pod in site.mining().await {
        assert_eq!(pod.spec.unwrap().termination_grace_period_seconds, Some(2));
    }
    let begun = Instant::now();
    site.ai_job("training", 1, 8, json!({})).await;
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(8), "{took:?}");
}

#[apply(trial!)]
async fn a_miner_that_is_deleted_takes_its_pods_along(site: &mut Site) {
    site.full_of_miners(1).await;
    for propagation in
        [PropagationPolicy::Foreground, PropagationPolicy::Background, PropagationPolicy::Orphan]
    {
        let params =
            DeleteParams { propagation_policy: Some(propagation), ..DeleteParams::default() };
        let miners: Api<Miner> = site.namespaced();
        miners.delete("miner", &params).await.unwrap();
        eventually(SOON, "no miner's pod is left", || async {
            site.pods("daylight.dev/miner").await.is_empty().then_some(())
        })
        .await;
        eventually(SOON, "the miner is gone", || async {
            miners.get_opt("miner").await.unwrap().is_none().then_some(())
        })
        .await;
        site.miner("miner", "reg", 8, json!({})).await;
        site.wait_for_mining(8).await;
    }
}

#[apply(trial!)]
async fn kubectl_drain_of_a_node_full_of_miners_finishes(site: &mut Site) {
    site.full_of_miners(2).await;
    let node = format!("{}-0000", site.name);
    let drain = ["drain", &node, "--ignore-daemonsets", "--force", "--timeout=60s"];
    site.control_plane.kubectl_ok(drain).await.unwrap();
    site.wait_for_mining(8).await;
    site.wait_for_pool("8 unavailable", |status| status["gpus"]["unavailable"] == 8).await;
    site.control_plane.kubectl_ok(["uncordon", &node]).await.unwrap();
    site.wait_for_mining(16).await;
}

#[apply(trial!)]
async fn a_node_that_is_deleted_is_forgotten(site: &mut Site) {
    site.full_of_miners(2).await;
    let nodes: Api<Node> = Api::all(site.client.clone());
    nodes.delete(&format!("{}-0000", site.name), &DeleteParams::default()).await.unwrap();
    site.wait_for_pool("one node", |status| status["nodes"] == 1 && status["gpus"]["total"] == 8)
        .await;
    // Kubernetes removes pods of nodes that are gone after 40 to 60 seconds.
    eventually(Duration::from_mins(3), "only the other node's miners are left", || async {
        (site.mining().await.len() == 8).then_some(())
    })
    .await;
}

#[apply(trial!)]
async fn gpus_that_vanish_for_a_moment_displace_nobody(site: &mut Site) {
    site.full_of_miners(1).await;
    let nodes: Api<Node> = Api::all(site.client.clone());
    let node = format!("{}-0000", site.name);
    for count in ["0", "8"] {
        let list = json!({"nvidia.com/gpu": count});
        let patch = json!({"status": {"allocatable": list, "capacity": list}});
        nodes.patch_status(&node, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    site.wait_for_mining(8).await;
    assert_eq!(site.observer.started(), 8);
}

#[apply(trial!)]
async fn a_namespace_is_deleted_while_its_miners_drain(site: &mut Site) {
    site.full_of_miners(1).await;
    site.edit_pool(json!({"mining": {"policy": "Drain"}})).await;
    let namespaces: Api<Namespace> = Api::all(site.client.clone());
    namespaces.delete(&site.name, &DeleteParams::default()).await.unwrap();
    eventually(Duration::from_mins(1), "the namespace is gone", || async {
        namespaces.get_opt(&site.name).await.unwrap().is_none().then_some(())
    })
    .await;
}

#[apply(trial!)]
async fn an_api_server_that_restarts_under_load_changes_nothing(site: &mut Site) {
    site.nodes(10).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 60})).await;
    site.observer.cap_registration(&site.key("reg"), 60);
    site.miner("miner", "reg", 80, json!({})).await;
    site.start();
    eventually(SOON, "filling has begun", || async { (site.observer.started() > 5).then_some(()) })
        .await;
    site.control_plane.restart_api_server().await.unwrap();
    site.wait_for_mining(60).await;
    assert_eq!(site.observer.started(), 60);
}

#[apply(trial!)]
async fn an_unreachable_nodes_miners_still_count(site: &mut Site) {
    site.nodes(2).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 8})).await;
    site.observer.cap_registration(&site.key("reg"), 8);
    site.miner("miner", "reg", 16, json!({})).await;
    site.start();
    site.wait_for_mining(8).await;
    let busy = site.mining().await[0].spec.as_ref().unwrap().node_name.clone().unwrap();
    site.control_plane.set_outage(&busy, true).await.unwrap();
    site.wait_for_pool("8 unavailable or mining", |status| status["gpus"]["mining"] == 8).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let pods: Api<Pod> = site.namespaced();
    let all = pods.list(&ListParams::default().labels("daylight.dev/miner")).await.unwrap();
    assert_eq!(
        all.items.len(),
        8,
        "{:?}",
        all.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>()
    );
    site.control_plane.set_outage(&busy, false).await.unwrap();
    assert!(site.control_plane.process_id(Component::Scheduler).is_some());
}
