//! Admission knows registrations and classes, and whatever happens to its lists, AI
//! runs and no miner is started that admission does not know.

use std::time::Duration;

use daylight_crds::AdmissionList;
use daylight_test_site::{OFFICER, SOON, SYSTEM, Site, create, eventually};
use daylight_testbed::trials::{apply, trial};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

const REGISTRATIONS: &str = "registrations";
const CLASSES: &str = "classes";

fn lists(site: &Site) -> Api<AdmissionList> {
    Api::namespaced(site.client.clone(), SYSTEM)
}

async fn entries(site: &Site, name: &str) -> Value {
    let list = lists(site).get_opt(name).await.unwrap();
    json!(list.map(|list| list.spec.entries).unwrap_or_default())
}

async fn wait_for_list(site: &Site, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) {
    eventually(SOON, what, || async { is_so(&entries(site, name).await).then_some(()) }).await;
}

/// Entries of 64 KiB.
fn junk(count: u32) -> Value {
    let entry = |number| (format!("junk-{number}"), json!("x".repeat(1 << 16)));
    Value::Object((0..count).map(entry).collect())
}

async fn damage(site: &Site, name: &str, patch: &Value) {
    lists(site).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[apply(trial!)]
async fn admission_is_told_what_is_registered(site: &mut Site) {
    site.full_of_miners(1).await;
    let entry = format!("{}.reg", site.name);
    let value = "pow-mining 2020-01-01T00:00:00Z 2099-01-01T00:00:00Z";
    assert_eq!(entries(site, REGISTRATIONS).await, json!({entry.as_str(): value}));
    let classes = entries(site, CLASSES).await;
    assert_eq!(classes["pow-mining"], "IdleOnly Required");
    assert_eq!(classes["ai-training"], "Guaranteed NotRequired");

    site.daylight(&["suspend", &site.key("reg"), "-m", "complaint 3", "--as", OFFICER]);
    wait_for_list(site, REGISTRATIONS, "what is suspended is taken out", |data| *data == json!({}))
        .await;
    site.approve("reg");
    wait_for_list(site, REGISTRATIONS, "it is back", |data| data[&entry] == value).await;
    site.wait_for_mining(8).await;
}

#[apply(trial!)]
async fn a_mirror_that_others_spoil_is_put_right(site: &mut Site) {
    site.full_of_miners(1).await;
    let well = entries(site, REGISTRATIONS).await;
    let classes = entries(site, CLASSES).await;
    for spoilt in [
        json!({"absent.nothing": "pow-mining"}),
        json!({(format!("{}.reg", site.name)): "?"}),
        Value::Null,
        junk(8),
    ] {
        damage(site, REGISTRATIONS, &json!({"spec": {"entries": spoilt}})).await;
        wait_for_list(site, REGISTRATIONS, "the mirror is as it was", |data| *data == well).await;
    }
    for name in [REGISTRATIONS, CLASSES] {
        lists(site).delete(name, &DeleteParams::default()).await.unwrap();
    }
    wait_for_list(site, REGISTRATIONS, "it is created again", |data| *data == well).await;
    wait_for_list(site, CLASSES, "it is created again", |data| *data == classes).await;
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
                "apiGroups": ["daylight.dev"], "apiVersions": ["v1alpha1"],
                "operations": ["CREATE", "UPDATE"], "resources": ["admissionlists"],
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
            "apiVersion": "daylight.dev/v1alpha1", "kind": "AdmissionList",
            "metadata": {"name": REGISTRATIONS}, "spec": {"entries": {"probe": "x"}},
        });
        let params = PatchParams::apply("probe").dry_run();
        lists(site)
            .patch(REGISTRATIONS, &params, &Patch::Apply(&patch))
            .await
            .is_err()
            .then_some(())
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
    let mut full = junk(16);
    full[&key] = Value::Null;
    let damages: [(&str, Option<Value>); 3] = [
        ("deleted", None),
        ("malformed", Some(json!({key.as_str(): "pow-mining whenever"}))),
        ("full", Some(full)),
    ];
    for (number, (name, patch)) in damages.iter().enumerate() {
        // While the controller is away, so that it cannot put it right before the door is shut.
        site.processes.pop().unwrap().kill().await;
        match patch {
            None => {
                lists(site).delete(REGISTRATIONS, &DeleteParams::default()).await.unwrap();
            }
            Some(spoilt) => {
                damage(site, REGISTRATIONS, &json!({"spec": {"entries": spoilt}})).await;
            }
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
