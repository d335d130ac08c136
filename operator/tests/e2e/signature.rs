//! Where the installation requires the authority's signature, nothing mines without it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use daylight_crds::Registration;
use daylight_test_site::program::{Process, command_fails};
use daylight_test_site::{OFFICER, SOON, SYSTEM, Site, eventually};
use daylight_testbed::Exporters;
use daylight_testbed::trials::{apply, trial};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::EXPORTER;

const KEYS: &str = "authority-of-this-test";

/// Runs openssl as docs/registrations.md says; `None` where it is not installed.
fn openssl(directory: &Path, arguments: &str) -> Option<Vec<u8>> {
    let words = arguments.split_whitespace();
    let output = Command::new("openssl").args(words).current_dir(directory).output().ok()?;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {error}");
    Some(output.stdout)
}

/// Signs what a registration's approval is about.
fn sign(site: &Site, directory: &Path, key: &str, name: &str) -> String {
    let message = site.daylight(&["approve", &site.key(name), "--print-message"]);
    std::fs::write(directory.join("message"), message).unwrap();
    let sign = format!("pkeyutl -sign -rawin -inkey {key} -in message -out {name}.{key}.sig");
    openssl(directory, &sign).unwrap();
    directory.join(format!("{name}.{key}.sig")).display().to_string()
}

async fn wait_for_state(site: &Site, name: &str, state: &str) {
    let registrations: Api<Registration> = site.namespaced();
    site.wait_for_status(registrations, name, state, |status| status["state"] == state).await;
}

/// Makes the authority's key pair, and the `ConfigMap` with the public one; `None` where openssl
/// is not installed.
async fn authority(site: &Site, directory: &Path) -> Option<()> {
    std::fs::create_dir_all(directory).unwrap();
    openssl(directory, "genpkey -algorithm ed25519 -out authority.pem")?;
    let public = openssl(directory, "pkey -in authority.pem -pubout").unwrap();
    let public = String::from_utf8(public).unwrap();
    set_keys(site, json!({"2026": public, "note": "not a key"})).await;
    Some(())
}

async fn set_keys(site: &Site, keys: Value) {
    let maps: Api<ConfigMap> = Api::namespaced(site.client.clone(), SYSTEM);
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": KEYS}, "data": keys,
    });
    let params = PatchParams::apply("test").force();
    maps.patch(KEYS, &params, &Patch::Apply(&map)).await.unwrap();
}

/// The controller was configured without the signature, or another program was put in its place. The
/// auditor was not: it gives no reading for what is not signed, and nothing mines.
#[apply(trial!)]
async fn the_auditor_verifies_the_signature_by_itself(site: &mut Site) {
    let directory = site.control_plane.directory().join("authority-2");
    if authority(site, &directory).await.is_none() {
        println!("not tested: openssl is not installed");
        return;
    }
    site.nodes(1).await;
    // Without an exporter, an energy limit holds mining.
    let exporters = Exporters::dcgm().refresh(Duration::from_secs(1)).power_limit();
    site.control_plane.create_exporters(&exporters).await.unwrap();
    site.pool(json!({})).await;
    let limits = json!({"gpus": 8, "energy": {"kwh": 1_000, "period": "Year"}});
    site.registered("reg", limits).await;
    site.miner("miner", "reg", 8, json!({})).await;
    site.start();
    let auditor = Process::auditor(
        &site.control_plane,
        &site.key_dash("audit"),
        "journal-signature",
        &[&["--require-signature", "--authority-keys", KEYS], &EXPORTER[..]].concat(),
    );
    eventually(SOON, "the auditor has the node in its books", || async {
        (auditor.metric("daylight_metered_nodes", &["exporter"]).await? >= 1.0).then_some(())
    })
    .await;
    wait_for_state(site, "reg", "Active").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    site.wait_for_miner("miner", "explained", |status| status["reason"] == "MeterUnavailable")
        .await;
    assert_eq!(site.observer.started(), 0);

    let signature = sign(site, &directory, "authority.pem", "reg");
    site.approve_with("reg", &["--signature", &signature]);
    site.wait_for_mining(8).await;
    auditor.terminate().await;
}

#[apply(trial!)]
async fn nothing_mines_without_the_authoritys_signature(site: &mut Site) {
    let directory = site.control_plane.directory().join("authority");
    if authority(site, &directory).await.is_none() {
        println!("not tested: openssl is not installed");
        return;
    }
    openssl(&directory, "genpkey -algorithm ed25519 -out other.pem").unwrap();

    site.nodes(1).await;
    site.pool(json!({})).await;
    site.filed("reg", json!({"gpus": 8})).await;
    site.filed("twin", json!({"gpus": 8})).await;
    site.miner("miner", "reg", 8, json!({})).await;
    site.start_with(&["--require-signature", "--authority-keys", KEYS]);
    let key = site.key("reg");
    let approve = |file: &str| site.approve_with("reg", &["--signature", file]);

    site.approve("reg");
    wait_for_state(site, "reg", "SignatureMissing").await;
    site.wait_for_miner("miner", "explained", |status| status["reason"] == "SignatureMissing")
        .await;
    for foreign in [
        sign(site, &directory, "other.pem", "reg"),
        sign(site, &directory, "authority.pem", "twin"),
    ] {
        approve(&foreign);
        wait_for_state(site, "reg", "SignatureInvalid").await;
        // So that the next one is seen to be judged again.
        site.approve("reg");
        wait_for_state(site, "reg", "SignatureMissing").await;
    }
    assert_eq!(site.observer.started(), 0);
    std::fs::write(directory.join("junk"), "no signature").unwrap();
    let junk = directory.join("junk").display().to_string();
    let complaint = command_fails(
        &site.control_plane,
        &["approve", &key, "--generation", "1", "--signature", &junk, "--as", OFFICER],
    );
    assert!(complaint.contains("does not contain an Ed25519 signature"), "{complaint}");

    approve(&sign(site, &directory, "authority.pem", "reg"));
    wait_for_state(site, "reg", "Active").await;
    site.wait_for_mining(8).await;
    // A key that is withdrawn ends what it signed; AI runs all the same.
    set_keys(site, json!({})).await;
    wait_for_state(site, "reg", "SignatureInvalid").await;
    site.wait_for_mining(0).await;
    site.ai_job("training", 1, 8, json!({})).await;
    site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
}
