//! Work that requests no GPU: registered without a pool, counted, and reported when it lapses.

use daylight_crds::Registration;
use daylight_test_site::{SOON, Site, create, eventually};
use daylight_testbed::trials::{apply, trial};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// Adds the preset classes that not every site has.
async fn positive_list(site: &Site) {
    let presets = include_str!("../../../charts/daylight/presets/activity-classes.yaml");
    let of_sites = ["name: ai-training\n", "name: pow-mining\n"];
    let others =
        presets.split("---\n").filter(|class| !of_sites.iter().any(|it| class.contains(it)));
    let others: Vec<&str> = others.collect();
    assert_eq!(others.len(), 8);
    site.control_plane.apply(&others.join("---\n")).await.unwrap();
}

/// A registration for validators; `spec` is merged into its spec.
async fn registered(site: &Site, name: &str, spec: Value) {
    let mut all = json!({
        "activityClass": "pos-validator", "pools": [], "wattsPerReplica": 120,
        "limits": {"replicas": 2, "watts": 240},
    });
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    site.filed_with(name, all).await;
    site.approve(name);
}

/// A pod of a tenant under a registration.
async fn pod(site: &Site, name: &str, class: &str, registration: &str) {
    let pod = json!({
        "metadata": {
            "name": name,
            "labels": {"daylight.dev/activity": class, "daylight.dev/registration": registration},
            "annotations": {"daylight.dev/simulated-drain-time": "200ms"},
        },
        "spec": {"terminationGracePeriodSeconds": 5, "containers": [{
            "name": "main", "image": "registry.example.com/validators/beacon:1",
            "resources": {"requests": {"cpu": "2", "memory": "4Gi"}},
        }]},
    });
    create(&site.namespaced::<Pod>(), pod).await;
}

fn condition(status: &Value, kind: &str) -> Value {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().find(|one| one["type"] == kind).cloned().unwrap_or_default()
}

async fn wait_for(site: &Site, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    site.wait_for_status::<Registration>(site.namespaced(), name, what, holds).await
}

#[apply(trial!)]
async fn validators_without_gpus_need_no_pool_and_are_counted(site: &mut Site) {
    positive_list(site).await;
    site.nodes(1).await;
    registered(site, "validators", json!({})).await;
    site.start();
    let status =
        wait_for(site, "validators", "in force", |status| status["state"] == "Active").await;
    assert_eq!(status["limitsUsed"], "pods 0/2, 0 of 240 W");
    for number in 0..2 {
        pod(site, &format!("validator-{number}"), "pos-validator", "validators").await;
    }
    let full = "pods 2/2, 240 of 240 W";
    let status = wait_for(site, "validators", "full", |status| status["limitsUsed"] == full).await;
    assert_eq!(status["held"], json!({"gpus": 0, "replicas": 2, "watts": 240}));
    assert_eq!(condition(&status, "OverLimit")["status"], "False");
    pod(site, "validator-2", "pos-validator", "validators").await;
    let is_over = |status: &Value| condition(status, "OverLimit")["status"] == "True";
    let status = wait_for(site, "validators", "over its limit", is_over).await;
    let over = condition(&status, "OverLimit");
    assert_eq!(over["reason"], "RegistrationReplicaLimit");
    assert_eq!(
        over["message"],
        format!(
            "A limit is exceeded. Registration {} allows at most 2 pods at once, and 3 run. Stop the others, or file another with a higher limit.",
            site.key("validators")
        )
    );
    eventually(SOON, "the metrics follow", || async {
        let controller = &site.processes[0];
        let used = controller.metric("daylight_registration_used", &["validators", "replicas"]);
        let over = controller.metric("daylight_registration_over_limit", &["validators"]);
        (used.await == Some(3.0) && over.await == Some(1.0)).then_some(())
    })
    .await;

    // A miner cannot run under it, and the miner's status says why.
    site.miner("miner", "validators", 1, json!({})).await;
    let status = site
        .wait_for_miner("miner", "explained", |status| status["reason"] == "ClassNotForMining")
        .await;
    assert_eq!(
        status["message"],
        "ActivityClass pos-validator is not IdleOnly, so miners cannot run under it. Register them under an IdleOnly class."
    );
    // Nor under one for miners that names no pool.
    let without = json!({"activityClass": "pow-mining", "limits": {"watts": 600}});
    registered(site, "poolless", without).await;
    site.miner("other", "poolless", 1, json!({})).await;
    let status =
        site.wait_for_miner("other", "explained", |status| status["reason"] == "Invalid").await;
    assert_eq!(
        status["message"],
        "spec.pools is empty, but ActivityClass pow-mining is IdleOnly, so its miners need a GpuPool; name one in spec.pools."
    );
    assert_eq!(site.observer.started(), 0);
}
