//! Admission knows registrations and classes, and whatever happens to its lists, AI
//! runs and no miner is started that admission does not know.

use std::time::Duration;

use daylight_test_site::{OFFICER, SOON, SYSTEM, Site, create, eventually};
use daylight_testbed::trials::{apply, trial};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

const REGISTRATIONS: &str = "daylight-registrations";
const CLASSES: &str = "daylight-classes";

fn maps(site: &Site) -> Api<ConfigMap> {
    Api::namespaced(site.client.clone(), SYSTEM)
}

async fn data(site: &Site, name: &str) -> Value {
    let map = maps(site).get_opt(name).await.unwrap();
    json!(map.and_then(|map| map.data).unwrap_or_default())
}

async fn wait_for_map(site: &Site, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) {
    eventually(SOON, what, || async { is_so(&data(site, name).await).then_some(()) }).await;
}

async fn damage(site: &Site, name: &str, patch: &Value) {
    maps(site).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[apply(trial!)]
async fn admission_is_told_what_is_registered(site: &mut Site) {
    site.full_of_miners(1).await;
    let entry = format!("{}.reg", site.name);
    let value = "pow-mining 2020-01-01T00:00:00Z 2099-01-01T00:00:00Z";
    assert_eq!(data(site, REGISTRATIONS).await, json!({entry.as_str(): value}));
    let classes = data(site, CLASSES).await;
    assert_eq!(classes["pow-mining"], "IdleOnly Required");
    assert_eq!(classes["ai-training"], "Guaranteed NotRequired");
    let map = maps(site).get(REGISTRATIONS).await.unwrap();
    let labels = map.metadata.labels.unwrap();
    assert_eq!(labels["daylight.dev/mirror"], "registrations");

    site.daylight(&["suspend", &site.key("reg"), "-m", "complaint 3", "--as", OFFICER]);
    wait_for_map(site, REGISTRATIONS, "what is suspended is taken out", |data| *data == json!({}))
        .await;
    site.approve("reg");
    wait_for_map(site, REGISTRATIONS, "it is back", |data| data[&entry] == value).await;
    site.wait_for_mining(8).await;
}

#[apply(trial!)]
async fn a_mirror_that_others_spoil_is_put_right(site: &mut Site) {
    site.full_of_miners(1).await;
    let well = data(site, REGISTRATIONS).await;
    let classes = data(site, CLASSES).await;
    for spoilt in [
        json!({"data": {"nobody.nothing": "pow-mining"}}),
        json!({"data": {(format!("{}.reg", site.name)): "?"}}),
        json!({"data": null}),
        json!({"data": {"junk": "x".repeat(1 << 19)}, "binaryData": {"more": "AAAA"}}),
        json!({"data": {"junk": "x"}, "immutable": true}),
    ] {
        damage(site, REGISTRATIONS, &spoilt).await;
        wait_for_map(site, REGISTRATIONS, "the mirror is as it was", |data| *data == well).await;
    }
    damage(site, REGISTRATIONS, &json!({"metadata": {"labels": null}})).await;
    eventually(SOON, "the label is back", || async {
        let labels = maps(site).get(REGISTRATIONS).await.unwrap().metadata.labels;
        labels?.contains_key("daylight.dev/mirror").then_some(())
    })
    .await;
    for name in [REGISTRATIONS, CLASSES] {
        maps(site).delete(name, &DeleteParams::default()).await.unwrap();
    }
    wait_for_map(site, REGISTRATIONS, "it is created again", |data| *data == well).await;
    wait_for_map(site, CLASSES, "it is created again", |data| *data == classes).await;
    // None of it cost a miner its place.
    assert_eq!(site.observer.started(), 8);
    site.wait_for_mining(8).await;
}

/// Lets only this test write the mirror of registrations.
async fn keep_out(site: &Site) {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(site.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(site.client.clone());
    create(
        &policies,
        json!({"metadata": {"name": "keep-out"}, "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                "resources": ["configmaps"],
            }]},
            "validations": [{
                "expression": format!("object.metadata.name != '{REGISTRATIONS}'"),
                "message": "keep out",
            }],
        }}),
    )
    .await;
    create(
        &bindings,
        json!({"metadata": {"name": "keep-out"}, "spec": {
            "policyName": "keep-out", "validationActions": ["Deny"],
        }}),
    )
    .await;
    eventually(SOON, "the policy is in force", || async {
        let patch = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": REGISTRATIONS},
        });
        let params = PatchParams::apply("probe").dry_run();
        maps(site).patch(REGISTRATIONS, &params, &Patch::Apply(&patch)).await.is_err().then_some(())
    })
    .await;
}

async fn let_in(site: &Site) {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(site.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(site.client.clone());
    let now = DeleteParams::default();
    bindings.delete("keep-out", &now).await.unwrap();
    policies.delete("keep-out", &now).await.unwrap();
}

#[apply(trial!)]
async fn without_a_mirror_ai_runs_and_no_miner_is_started(site: &mut Site) {
    site.nodes(2).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 100})).await;
    site.miner("miner", "reg", 1, json!({})).await;
    site.start();
    site.wait_for_mining(1).await;
    let key = format!("{}.reg", site.name);
    let damages: [(&str, Option<Value>); 3] = [
        ("deleted", None),
        ("malformed", Some(json!({"data": {key.as_str(): "pow-mining whenever"}}))),
        ("full", Some(json!({"data": {key.as_str(): null, "junk": "x".repeat(1 << 20)}}))),
    ];
    for (number, (name, patch)) in damages.iter().enumerate() {
        // While the controller is away, so that it cannot put it right before the door is shut.
        site.processes.pop().unwrap().kill().await;
        match patch {
            None => {
                maps(site).delete(REGISTRATIONS, &DeleteParams::default()).await.unwrap();
            }
            Some(patch) => damage(site, REGISTRATIONS, patch).await,
        }
        keep_out(site).await;
        site.start();
        let running = number as u32 + 1;
        let patch = json!({"spec": {"replicas": running + 1}});
        let miners: Api<daylight_crds::Miner> = site.namespaced();
        miners.patch("miner", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        let status = site
            .wait_for_miner("miner", "explained", |status| status["reason"] == "MirrorPending")
            .await;
        let message = status["message"].as_str().unwrap();
        assert!(message.contains(REGISTRATIONS), "{message}");
        site.ai_job(&format!("training-{name}"), 1, 2, json!({})).await;
        site.wait_for_job(&format!("training-{name}"), "running", |status| {
            status["state"] == "Running"
        })
        .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Those that run stay.
        site.wait_for_mining(running as usize).await;
        let_in(site).await;
        site.wait_for_mining(running as usize + 1).await;
    }
}
