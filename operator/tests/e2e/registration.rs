//! What mines is registered and approved, and nothing mines against anybody's word.

use std::time::Duration;

use daylight_crds::Registration;
use daylight_test_site::program::{as_plugin, command, command_fails};
use daylight_test_site::{OFFICER, SYSTEM, Site};
use daylight_testbed::trials::{apply, trial};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

#[apply(trial!)]
async fn nothing_mines_before_approval(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    site.filed("reg", json!({"gpus": 8})).await;
    site.miner("miner", "reg", 8, json!({})).await;
    site.start();
    let status = site
        .wait_for_miner("miner", "waiting for approval", |status| {
            status["reason"] == "AwaitingApproval"
        })
        .await;
    let key = site.key("reg");
    assert_eq!(
        status["message"],
        format!(
            "Registration {key} awaits approval by another user than its submitter (`daylight approve`)."
        )
    );
    assert_eq!(site.observer.started(), 0);
    let printed = site.daylight(&["why", "miner", &site.key("miner")]);
    assert!(printed.contains("AwaitingApproval"), "{printed}");

    site.approve("reg");
    site.wait_for_mining(8).await;
    let registrations: Api<Registration> = site.namespaced();
    let status = site
        .wait_for_status(registrations, "reg", "active", |status| status["reason"] == "Active")
        .await;
    assert_eq!(status["approval"]["by"], OFFICER);
    assert_eq!(status["state"], "Active");
    assert_eq!(status["conditions"][0]["status"], "True");
}

#[apply(trial!)]
async fn an_edit_voids_the_approval_and_mining_stops(site: &mut Site) {
    site.full_of_miners(1).await;
    let registrations: Api<Registration> = site.namespaced();
    let patch = json!({"spec": {"limits": {"gpus": 4711}}});
    let params = PatchParams::default();
    registrations.patch("reg", &params, &Patch::Merge(&patch)).await.unwrap();
    site.wait_for_mining(0).await;
    site.wait_for_miner("miner", "explained by it", |status| status["reason"] == "ApprovalVoided")
        .await;
    site.approve("reg");
    site.wait_for_mining(8).await;
}

#[apply(trial!)]
async fn suspended_rejected_and_revoked_registrations_do_not_mine(site: &mut Site) {
    site.full_of_miners(1).await;
    let key = site.key("reg");
    site.daylight(&["suspend", &key, "-m", "complaint 12", "--as", OFFICER]);
    site.wait_for_mining(0).await;
    site.wait_for_miner("miner", "explained by it", |status| status["reason"] == "Suspended").await;
    site.approve("reg");
    site.wait_for_mining(8).await;
    site.daylight(&["revoke", &key, "-m", "complaint 12", "--as", OFFICER]);
    site.wait_for_mining(0).await;
    // Revoked is for good.
    let approve = ["approve", &key, "--generation", "1", "--as", OFFICER];
    let complaint = command_fails(&site.control_plane, &approve);
    assert!(complaint.contains("Revoked is final"), "{complaint}");
}

#[apply(trial!)]
async fn nobody_approves_what_they_submitted_or_what_was_edited(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    site.filed("reg", json!({"gpus": 8})).await;
    let control_plane = &site.control_plane;
    control_plane
        .kubectl_ok([
            "create",
            "clusterrolebinding",
            &site.name,
            "--clusterrole=cluster-admin",
            "--user=tenant@example.com",
        ])
        .await
        .unwrap();
    let key = site.key("reg");
    let own = command_fails(control_plane, &["approve", &key, "--as", "tenant@example.com"]);
    assert!(own.contains("Another person must approve it"), "{own}");
    let old =
        command_fails(control_plane, &["approve", &key, "--generation", "7", "--as", OFFICER]);
    assert!(old.contains("was edited"), "{old}");
    let unread = command_fails(control_plane, &["approve", &key, "--as", OFFICER]);
    assert!(unread.contains("is not approved yet. To approve it, run the command"), "{unread}");
    let wrong = ["approve", &key, "--digest", "sha256:00", "--as", OFFICER];
    let wrong = command_fails(control_plane, &wrong);
    assert!(wrong.contains("its class or its pools were edited"), "{wrong}");
    let unknown = command_fails(control_plane, &["approve", "nobody/nothing"]);
    assert!(unknown.contains("There is no Registration nobody/nothing"), "{unknown}");
    let no_reason = command(control_plane, &["reject", &key]);
    assert!(!no_reason.status.success());
}

#[apply(trial!)]
async fn the_emergency_stop_ends_all_mining_until_it_is_lifted(site: &mut Site) {
    site.full_of_miners(2).await;
    site.daylight(&["stop", "-m", "smoke in hall 1", "--as", OFFICER]);
    site.wait_for_mining(0).await;
    let status = site
        .wait_for_miner("miner", "explained by it", |status| status["reason"] == "EmergencyStop")
        .await;
    let message = status["message"].as_str().unwrap();
    assert!(message.contains(OFFICER) && message.contains("smoke in hall 1"), "{message}");
    site.wait_for_pool("drains", |status| status["policy"] == "Drain").await;
    let again = command_fails(&site.control_plane, &["stop", "-m", "again"]);
    assert!(again.contains("already stopped, by officer@example.com"), "{again}");

    // It outlasts a restart.
    site.processes.pop().unwrap().kill().await;
    site.start();
    tokio::time::sleep(Duration::from_secs(7)).await;
    site.wait_for_mining(0).await;

    let lifted: Value =
        serde_json::from_str(&site.daylight(&["resume", "-m", "false alarm", "-o", "json"]))
            .unwrap();
    assert_eq!(lifted["mining"], "Resumed");
    site.wait_for_mining(16).await;
    let maps: Api<ConfigMap> = Api::namespaced(site.client.clone(), SYSTEM);
    assert!(maps.get_opt("daylight-emergency-stop").await.unwrap().is_none());
    let events: Api<Event> = Api::namespaced(site.client.clone(), SYSTEM);
    let events = events.list(&ListParams::default()).await.unwrap().items;
    // Other tests have stopped and resumed mining, too.
    let noted = |reason: &str, text: &str| {
        events.iter().any(|event| {
            event.reason.as_deref() == Some(reason)
                && event.note.as_deref().is_some_and(|note| note.contains(text))
        })
    };
    assert!(noted("MiningStopped", "smoke in hall 1"), "{events:#?}");
    assert!(noted("MiningResumed", "false alarm"), "{events:#?}");
}

#[apply(trial!)]
async fn people_see_who_has_what_and_why(site: &mut Site) {
    site.full_of_miners(2).await;
    site.ai_job("training", 2, 4, json!({})).await;
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    site.wait_for_pool("shared", |status| {
        status["gpus"]["ai"] == 8 && status["gpus"]["mining"] == 8
    })
    .await;
    let name = site.name.clone();
    let printed = site.daylight(&["status"]);
    assert!(printed.contains("leads"), "{printed}");
    assert!(printed.contains("pow-mining") && printed.contains("ai-training"), "{printed}");
    assert!(printed.contains(&format!("{name}-0000 ")), "{printed}");
    let json: Value = serde_json::from_str(&site.daylight(&["status", "-o", "json"])).unwrap();
    assert_eq!(json["pools"][0]["gpus"]["ai"], 8);
    assert_eq!(json["pools"][0]["gpus"]["mining"], 8);

    // As a plugin of the real kubectl, which finds it on the path.
    let directory = site.control_plane.directory().join("bin");
    std::fs::create_dir_all(&directory).unwrap();
    as_plugin(&directory);
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap_or_default());
    let plugin = std::process::Command::new(as_plugin(&directory))
        .args(["why", "gpupool", &name, "-o", "json"])
        .envs(site.control_plane.environment())
        .env("PATH", path)
        .output()
        .unwrap();
    let json: Value = serde_json::from_slice(&plugin.stdout).unwrap();
    assert_eq!(json["reason"], "Filling", "{json}");

    // A pod counts under the class of its namespace, as in the figures. kubectl's -n names it.
    let label = format!("namespace/{name}");
    let class = "daylight.dev/activity=ai-training";
    site.control_plane.kubectl_ok(["label", &label, class]).await.unwrap();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "plain", "namespace": name},
        "spec": {
            "nodeName": format!("{name}-0000"),
            "containers": [{"name": "c", "image": "i"}],
        },
    });
    site.control_plane.apply(&pod.to_string()).await.unwrap();
    let why = site.daylight(&["why", "pod", "plain", "-n", &name]);
    assert!(why.contains("under the class ai-training of its namespace"), "{why}");
    let error =
        command_fails(&site.control_plane, &["why", "miner", "none", "-n", &name, "-o", "json"]);
    let error: Value = serde_json::from_str(&error).unwrap();
    assert_eq!(error["error"]["code"], "NotFound", "{error}");

    // A pod that nothing is displaced for: it never preempts, and asks for more than there is.
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "big", "namespace": name},
        "spec": {
            "schedulerName": "nobody",
            "containers": [{
                "name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "1"}},
            }],
        },
    });
    site.control_plane.apply(&pod.to_string()).await.unwrap();
    let why = site.daylight(&["why", "pod", &site.key("big")]);
    assert!(why.contains("Pod") && why.contains("why"), "{why}");
    let complaint = command_fails(&site.control_plane, &["why", "miner", "nobody/nothing"]);
    assert!(complaint.contains("There is no Miner nobody/nothing"), "{complaint}");
}
