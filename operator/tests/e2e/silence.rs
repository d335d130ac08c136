//! A watch that is silent proves nothing.

use std::time::{Duration, Instant};

use daylight_test_site::proxy::Proxy;
use daylight_test_site::{SOON, Site, eventually};
use daylight_testbed::trials::{apply, trial};
use kube::ResourceExt;
use serde_json::json;

/// Time within which a silent watch is noticed.
const NOTICED: Duration = Duration::from_secs(20);

/// 16 GPUs of which 8 may mine, and a miner that would take all.
async fn capped(site: &Site, idle_delay: &str) {
    site.nodes(2).await;
    site.pool(json!({"maxGpus": 8, "idleDelay": idle_delay})).await;
    site.observer.cap_pool(&site.name, 8);
    site.registered("reg", json!({"gpus": 100})).await;
    site.miner("miner", "reg", 16, json!({})).await;
}

async fn stale_watches(site: &Site) -> Option<f64> {
    site.processes[0].metric("daylight_stale_watches", &[]).await
}

/// Waits until the controller notices that watches are silent.
async fn wait_until_noticed(site: &Site, since: Instant) {
    eventually(NOTICED.saturating_sub(since.elapsed()), "the silence is noticed", || async {
        (stale_watches(site).await? > 0.0).then_some(())
    })
    .await;
    eprintln!("noticed after {:?}", since.elapsed());
}

async fn wait_until_current(site: &Site) {
    eventually(SOON, "all is reported again", || async {
        (stale_watches(site).await? == 0.0).then_some(())
    })
    .await;
}

async fn uids(site: &Site) -> Vec<String> {
    let mut uids: Vec<_> = site.mining().await.iter().filter_map(ResourceExt::uid).collect();
    uids.sort();
    uids
}

#[apply(trial!)]
async fn a_silent_watch_is_noticed_and_no_pod_is_taken_for_lost(site: &mut Site) {
    let proxy = Proxy::start(&site.control_plane, &site.name).await;
    // The miners' pods are created after the watches fell silent.
    capped(site, "4s").await;
    site.start_through(&proxy, &[]);
    eventually(SOON, "it leads, and has listed everything", || async {
        let ready = site.processes[0].get("/readyz").await?.0 == 200;
        (ready && site.processes[0].leads().await).then_some(())
    })
    .await;
    proxy.silence();
    let silent = Instant::now();
    site.wait_for_mining(8).await;
    let began = uids(site).await;
    eprintln!("8 mine {:?} after the silence began", silent.elapsed());
    wait_until_noticed(site, silent).await;
    wait_until_current(site).await;
    eprintln!("current after {:?}", silent.elapsed());
    assert_eq!(uids(site).await, began);
    assert_eq!(site.observer.started(), 8, "no pod was replaced");
    // It still decides by what it sees now.
    site.ai_job("training", 2, 8, json!({})).await;
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
}

#[apply(trial!)]
async fn a_network_that_swallows_everything_ends_no_miner(site: &mut Site) {
    let proxy = Proxy::start(&site.control_plane, &site.name).await;
    capped(site, "0s").await;
    site.start_through(&proxy, &[]);
    site.wait_for_mining(8).await;
    let began = uids(site).await;
    proxy.silence_all();
    wait_until_noticed(site, Instant::now()).await;
    assert!(!site.processes[0].leads().await);
    assert_eq!(uids(site).await, began);
    proxy.restore();
    wait_until_current(site).await;
    eventually(SOON, "it leads", || async { site.processes[0].leads().await.then_some(()) }).await;
    site.edit_pool(json!({"mining": {"maxGpus": 9}})).await;
    site.observer.cap_pool(&site.name, 9);
    site.wait_for_mining(9).await;
    assert_eq!(site.observer.started(), 9, "no pod was replaced");
}

/// Binds a user to a cluster role.
fn binding(user: &str, role: &str) -> String {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": format!("{user}-{role}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    })
    .to_string()
}

#[apply(trial!)]
async fn while_a_kind_is_not_reported_ai_displaces_miners_and_none_starts(site: &mut Site) {
    let user = format!("{}-controller", site.name);
    let control_plane = site.control_plane.clone();
    // All rights but those to watch namespaces.
    let role = format!("{}-blind", site.name);
    let core = ["pods", "pods/eviction", "nodes", "configmaps", "services", "events"];
    let everything = |groups: &[&str], resources: &[&str]| json!({"apiGroups": groups, "resources": resources, "verbs": ["*"]});
    let groups = [
        "apps",
        "batch",
        "coordination.k8s.io",
        "daylight.dev",
        "events.k8s.io",
        "policy",
        "scheduling.k8s.io",
    ];
    let blind = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": role},
        "rules": [everything(&[""], &core), everything(&groups, &["*"])],
    });
    let all_rights = binding(&user, "cluster-admin");
    for object in [blind.to_string(), binding(&user, &role), all_rights.clone()] {
        control_plane.apply(&object).await.unwrap();
    }
    site.nodes(1).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 100})).await;
    site.miner("miner", "reg", 8, json!({})).await;
    site.start_with(&["--as", &user]);
    site.wait_for_mining(8).await;
    let name = format!("{user}-cluster-admin");
    control_plane.kubectl_ok(["delete", "clusterrolebinding", &name]).await.unwrap();
    wait_until_noticed(site, Instant::now()).await;
    site.ai_job("training", 1, 8, json!({})).await;
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    site.control_plane.kubectl_ok(["delete", "aijob", "training", "-n", &site.name]).await.unwrap();
    site.wait_for_miner("miner", "explained", |status| status["reason"] == "ApiServerSilent").await;
    site.wait_for_pool("idle", |status| status["gpus"]["idle"] == 8).await;
    assert_eq!(site.observer.started(), 8, "no miner starts");
    control_plane.apply(&all_rights).await.unwrap();
    site.wait_for_mining(8).await;
}
