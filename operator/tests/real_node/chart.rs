//! Daylight as users have it: its own image, installed by helm, as pods of the node that mines.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daylight_crds::Miner;
use daylight_test_site::pool::Pool;
use daylight_test_site::{SYSTEM, Site, eventually, introduce, program};
use daylight_testbed::trials::{Fixture, Outcome, Trial, apply, caught, trial};
use daylight_testbed::{Component, ControlPlane, OPERATOR_IMAGE, Options, RealNode};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::miners::{miner, registered};
use crate::node;

/// From `helm install` to the first miner that runs, with all images on the node.
const FIRST_MINER: Duration = Duration::from_mins(1);
const PATIENCE: Duration = Duration::from_mins(2);
/// MiB of the node's disk, which is in memory.
const DISK: u32 = 2048;
/// The ID under which the image runs.
const ID: u32 = 65532;

/// A site without Daylight, on a real node whose pods reach the API server.
struct Bare {
    site: Site,
    /// Time that `helm install` of the definitions took.
    definitions: Duration,
}

impl Fixture for Bare {
    async fn lend(trial: &Trial, test: impl AsyncFnOnce(&mut Self) -> Outcome) -> Outcome {
        // Daylight's pods request some of a disk, which a node without one of its own does not offer.
        let options = Options::full().with_real_node(node().disk(DISK)).with_services();
        let options = options.without(Component::Kubelet).without(Component::KubeProxy);
        let control_plane = Arc::new(ControlPlane::start(options).await?);
        let begun = Instant::now();
        let definitions = chart("daylight-crds");
        control_plane.helm_ok(["install", "daylight-crds", &*definitions]).await?;
        let definitions = begun.elapsed();
        introduce(&control_plane).await;
        let site = Site::new(control_plane.clone(), &trial.name(), 1).await;
        control_plane.start_component(Component::Kubelet).await?;
        control_plane.start_component(Component::KubeProxy).await?;
        let mut bare = Self { site, definitions };
        let outcome = caught(test(&mut bare)).await;
        if outcome.is_err() {
            show(&control_plane).await;
        }
        bare.site.end(outcome).await
    }
}

#[apply(trial!)]
#[ignore = "builds the operator's image, which takes minutes: run it by name with --ignored"]
async fn the_chart_runs_both_processes_as_pods(bare: &mut Bare) {
    let Bare { site, definitions } = bare;
    let journal = volume(&site.control_plane).await;
    let pool = Pool::open(None).await;

    let begun = Instant::now();
    let (repository, tag) = OPERATOR_IMAGE.rsplit_once(':').unwrap();
    let daylight = chart("daylight");
    let install = ["install", "daylight", &*daylight, "--namespace", SYSTEM, "--create-namespace"];
    let image = ["--set", &format!("image.repository={repository},image.tag={tag}")];
    let agents =
        "auditor.args={--agent-images,daylight.dev/miner*,--agent-every,1s,--book-every,5s}";
    let auditor = ["--set", "auditor.storage.className=local", "--set", agents];
    let install = [&install[..], &image, &auditor].concat();
    site.control_plane.helm_ok(install).await.unwrap();
    // Windows are in the time zone of the pool's site, which the image has to know.
    let always = json!([{"name": "always", "schedule": "0 * * * *", "duration": "2h"}]);
    site.pool(json!({"windows": always})).await;
    site.edit_pool(json!({"site": {"timeZone": "Europe/Berlin"}})).await;
    registered(site).await;
    miner(site, "miner", 8, &pool.endpoint(), json!({})).await;
    eventually(PATIENCE, "a miner runs", || async {
        (!site.mining().await.is_empty()).then_some(())
    })
    .await;
    let took = *definitions + begun.elapsed();
    eprintln!(
        "the first miner ran {took:?} after helm install, {definitions:?} of it for the definitions"
    );
    assert!(took < FIRST_MINER, "{took:?}");

    // All of them hash for the pool, and the auditor reaches them.
    let works = |status: &Value| {
        status["work"]["replicas"] == 8 && status["work"]["sharesAccepted"].as_u64() > Some(0)
    };
    let miners: Api<Miner> = site.namespaced();
    site.wait_for_status_within(PATIENCE, miners, "miner", "at work", works).await;
    for (kind, name) in [("deployment", "controller"), ("statefulset", "auditor")] {
        let ready = ["rollout", "status", kind, &format!("daylight-{name}"), "-n", SYSTEM];
        site.control_plane.kubectl_ok([&ready[..], &["--timeout=60s"]].concat()).await.unwrap();
    }

    // An AI job takes all GPUs, and each miner drained before.
    let begun = Instant::now();
    let container = json!({
        "name": "train", "image": RealNode::IMAGE, "args": ["-run", "2s"],
        "resources": {"limits": {"nvidia.com/gpu": "8"}},
    });
    let miners: Vec<String> = site.mining().await.iter().map(Pod::name_any).collect();
    site.ai_job("training", 1, 8, json!({"template": {"spec": {"containers": [container]}}})).await;
    let status =
        site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    eprintln!("a job of 8 GPUs ran after {:?}", begun.elapsed());
    assert_eq!(status["displaced"], 8);

    // The auditor removes its finalizer after the end of a lease is in its journal.
    let pods: Api<Pod> = site.namespaced();
    eventually(PATIENCE, "the ends of the miners' pods are recorded", || async {
        let left = pods.list(&ListParams::default()).await.unwrap();
        (!left.iter().any(|pod| miners.contains(&pod.name_any()))).then_some(())
    })
    .await;
    site.wait_for_job("training", "done", |status| status["state"] == "Succeeded").await;
    let records = ["get", "leaserecords", "-A", "-o", "name"];
    assert_eq!(site.control_plane.kubectl_ok(records).await.unwrap(), "");
    eventually(PATIENCE, "the journal has nine leases that ended", || async {
        let journal =
            program::command(&site.control_plane, &["ledger", "verify", "--print", &journal]);
        (journal.status.success() && closed(&journal.stdout) >= 9).then_some(())
    })
    .await;
}

/// The number of leases that ended, in the entries of a journal.
fn closed(entries: &[u8]) -> usize {
    let entries = serde_json::Deserializer::from_slice(entries).into_iter::<Value>();
    entries.flatten().filter_map(|entry| entry["closed"].as_array().map(Vec::len)).sum()
}

fn chart(name: &str) -> String {
    let charts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts");
    charts.join(name).to_str().unwrap().to_owned()
}

/// Creates the node's only volume, for the auditor, and returns its directory.
async fn volume(control_plane: &ControlPlane) -> String {
    let directory = control_plane.directory().join("journal");
    fs::create_dir(&directory).unwrap();
    chown(&directory, Some(ID), Some(ID)).unwrap();
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "local"},
        "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
    });
    let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["real-0"]});
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "journal"},
        "spec": {
            "storageClassName": "local", "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOncePod"], "local": {"path": directory},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    });
    control_plane.apply(&format!("{class}\n---\n{volume}")).await.unwrap();
    directory.to_str().unwrap().to_owned()
}

/// Prints what there is to know of Daylight's pods.
async fn show(control_plane: &ControlPlane) {
    for get in [
        "get pods,pvc,pv,svc,endpointslices -A -o wide",
        "describe pods -n daylight-system",
        "logs -n daylight-system -l app.kubernetes.io/name=daylight --tail=60 --prefix",
        "get events -n daylight-system",
    ] {
        let said = control_plane.kubectl(get.split(' ')).await;
        let said = said.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        eprintln!("--- kubectl {get}\n{}", String::from_utf8_lossy(&said));
    }
    let log = fs::read_to_string(control_plane.log(Component::KubeProxy)).unwrap_or_default();
    eprintln!("--- kube-proxy\n{}", log.lines().take(60).collect::<Vec<_>>().join("\n"));
}
