//! What runs without being asked.

use std::time::Duration;

use daylight_test_site::program::{Process, command_fails};
use daylight_test_site::{SOON, Site, eventually};
use daylight_testbed::trials::{apply, trial};
use daylight_testbed::{ControlPlane, Options};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

#[apply(trial!)]
async fn not_ready_until_the_definitions_are_installed() {
    let control_plane = ControlPlane::start(Options::api_server()).await.unwrap();
    let controller = Process::controller(&control_plane, "early", &[]);
    let (_, text) = eventually(SOON, "it says what is missing", || async {
        let (code, text) = controller.get("/readyz").await?;
        (code == 503 && text.contains("CustomResourceDefinition is not installed"))
            .then_some((code, text))
    })
    .await;
    assert!(text.contains("GpuPool"), "{text}");
    assert_eq!(controller.get("/livez").await.unwrap().0, 200);
    let complaint = command_fails(&control_plane, &["status"]);
    assert!(complaint.contains("chart daylight-crds"), "{complaint}");
    for definition in daylight_crds::definitions() {
        control_plane.apply(&daylight_crds::manifest(&definition).unwrap()).await.unwrap();
    }
    eventually(SOON, "it is ready", || async {
        (controller.get("/readyz").await?.0 == 200).then_some(())
    })
    .await;
    // Definitions that go do not end it.
    control_plane.kubectl_ok(["delete", "crd", "miners.daylight.dev"]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(controller.get("/livez").await.unwrap().0, 200);
    assert!(controller.terminate().await < Duration::from_secs(2));
    control_plane.stop().await;
}

#[apply(trial!)]
async fn pods_that_ended_are_removed(site: &mut Site) {
    site.nodes(1).await;
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 8})).await;
    let annotations = json!({"daylight.dev/simulated-run-time": "500ms"});
    let miner = json!({
        "metadata": {"name": "miner", "annotations": annotations},
        "spec": {"registration": "reg", "replicas": 2, "image": "i/m:1", "wattsPerReplica": 300},
    });
    daylight_test_site::create(&site.namespaced::<daylight_crds::Miner>(), miner).await;
    site.start();
    // Since they end early, one after the other is tried, ever more rarely.
    eventually(SOON, "pods end, new ones follow, and those that ended are gone", || async {
        let is_over =
            site.observer.started() > 3 && site.pods("daylight.dev/miner").await.len() <= 2;
        is_over.then_some(())
    })
    .await;
    let miners: Api<daylight_crds::Miner> = site.namespaced();
    let patch = json!({"spec": {"replicas": 0}});
    miners.patch("miner", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    eventually(SOON, "none is left", || async {
        site.pods("daylight.dev/miner").await.is_empty().then_some(())
    })
    .await;
}

#[apply(trial!)]
async fn nothing_is_written_while_nothing_changes(site: &mut Site) {
    site.full_of_miners(2).await;
    site.wait_for_miner("miner", "content", |status| status["reason"] == "Running").await;
    // The last Event of the filling comes ten seconds after the first.
    tokio::time::sleep(Duration::from_secs(13)).await;
    let writes = || site.processes[0].metric("daylight_writes_total", &[]);
    let before = writes().await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = writes().await.unwrap();
    assert!(after <= before, "{} writes", after - before);
}

#[apply(trial!)]
async fn a_status_that_somebody_else_wrote_is_put_right(site: &mut Site) {
    site.full_of_miners(1).await;
    site.wait_for_pool("filling", |status| status["reason"] == "Filling").await;
    let pools: Api<daylight_crds::GpuPool> = Api::all(site.client.clone());
    let patch = json!({"status": {"reason": "Nonsense"}});
    pools.patch_status(&site.name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    site.wait_for_pool("filling again", |status| status["reason"] == "Filling").await;
    pools.delete(&site.name, &DeleteParams::default()).await.unwrap();
    site.wait_for_mining(0).await;
}
