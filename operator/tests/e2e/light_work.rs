//! Work that requests no GPU: registered without a pool, counted, and reported when it lapses.

use std::time::Duration;

use daylight_crds::Registration;
use daylight_test_site::program::Process;
use daylight_test_site::{OFFICER, SOON, Site, create, eventually};
use daylight_testbed::trials::{apply, trial};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

/// Adds the preset classes that not every site has.
pub(crate) async fn positive_list(site: &Site) {
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

/// The names of the tenant's pods that are not being deleted.
async fn staying(site: &Site) -> Vec<String> {
    let mut pods = site.pods("daylight.dev/registration").await;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    let mut names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
    names.sort_unstable();
    names
}

async fn wait_for_pods(site: &Site, names: &[&str]) {
    eventually(SOON, &format!("the pods that stay are {names:?}"), || async {
        (staying(site).await == names).then_some(())
    })
    .await;
}

/// Waits until the condition `Lapsed` of a registration has this sentence, after its first one.
async fn wait_for_lapse(site: &Site, name: &str, then: &str) {
    let sentence = format!("Registration {} is not in force, and {then}", site.key(name));
    wait_for(site, name, &sentence, |status| {
        let lapsed = condition(status, "Lapsed");
        lapsed["status"] == "True" && lapsed["message"] == *sentence
    })
    .await;
}

#[apply(trial!)]
async fn a_lapse_is_reported_and_evicts_what_was_approved_to_be_evicted(site: &mut Site) {
    positive_list(site).await;
    site.nodes(1).await;
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(8);
    let soon = soon.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    registered(site, "reports", json!({"validUntil": soon})).await;
    registered(site, "evicts", json!({"validUntil": soon, "onLapse": "Evict"})).await;
    let storage = json!({"activityClass": "distributed-storage", "onLapse": "Evict"});
    registered(site, "storage", storage).await;
    for name in ["edited", "gone"] {
        registered(site, name, json!({"onLapse": "Evict"})).await;
    }
    for name in ["reports", "evicts", "edited", "gone"] {
        pod(site, name, "pos-validator", name).await;
    }
    pod(site, "storage", "distributed-storage", "storage").await;
    // A budget cannot keep what may not run.
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "all", "namespace": site.name},
        "spec": {"maxUnavailable": 0, "selector": {}},
    });
    site.control_plane.apply(&budget.to_string()).await.unwrap();
    site.start();

    // Validity.
    wait_for_lapse(
        site,
        "reports",
        "1 pod still runs under it. Stop them, or have them name a registration in force.",
    )
    .await;
    wait_for_pods(site, &["edited", "gone", "reports", "storage"]).await;
    wait_for(site, "evicts", "left", |status| {
        status["state"] == "Expired" && condition(status, "Lapsed")["status"] == "False"
    })
    .await;

    // What the tenant writes into an edit saves no pod, and AI is never evicted.
    let registrations: Api<Registration> = site.namespaced();
    let edit = json!({"spec": {"onLapse": "Report"}});
    let params = PatchParams::default();
    registrations.patch("edited", &params, &Patch::Merge(&edit)).await.unwrap();
    site.daylight(&["revoke", &site.key("storage"), "-m", "complaint 12", "--as", OFFICER]);
    wait_for_lapse(
        site,
        "storage",
        "1 pod still runs under it. Stop them, or have them name a registration in force.",
    )
    .await;
    wait_for_pods(site, &["gone", "reports", "storage"]).await;
    registrations.delete("gone", &DeleteParams::default()).await.unwrap();
    wait_for_pods(site, &["reports", "storage"]).await;

    // Without an object there is still a series.
    registrations.delete("reports", &DeleteParams::default()).await.unwrap();
    eventually(SOON, "the metrics follow", || async {
        let controller = &site.processes[0];
        let of = async |name| controller.metric("daylight_lapsed_pods", &[name]).await;
        let ended = controller.metric("daylight_lapsed_pod_evictions_total", &[]).await;
        let one = Some(1.0);
        let counted = of("\"storage\"").await == one && of("\"unlisted\"").await == one;
        (counted && ended == Some(3.0)).then_some(())
    })
    .await;
    let events: Api<Event> = site.namespaced();
    let noted = |events: &[Event], about: &str, reason: &str, text: &str| {
        events.iter().any(|event| {
            event.regarding.as_ref().and_then(|object| object.name.as_deref()) == Some(about)
                && event.reason.as_deref() == Some(reason)
                && event.note.as_deref().is_some_and(|note| note.contains(text))
        })
    };
    eventually(SOON, "the Events are there", || async {
        let events = events.list(&ListParams::default()).await.unwrap().items;
        let all = noted(&events, "reports", "PodsStillRun", "1 pod still runs")
            && noted(
                &events,
                "evicts",
                "RegistrationLapsed",
                "Deleted against a PodDisruptionBudget",
            )
            && noted(&events, "edited", "RegistrationLapsed", "spec.onLapse is Evict");
        all.then_some(())
    })
    .await;
    assert_eq!(staying(site).await, ["reports", "storage"]);
}

/// A pod of a tenant without a registration; with a GPU if `gpus` is not 0.
async fn plain_pod(site: &Site, class: &str, gpus: u32) {
    let pod = json!({
        "metadata": {"name": class, "labels": {"daylight.dev/activity": class}},
        "spec": {"containers": [{
            "name": "main", "image": "registry.example.com/work:1",
            "resources": {"limits": {"cpu": "1", "nvidia.com/gpu": gpus.to_string()}},
        }]},
    });
    create(&site.namespaced::<Pod>(), pod).await;
}

#[apply(trial!)]
async fn each_class_of_the_positive_list_runs_and_shows_who_does_what(site: &mut Site) {
    positive_list(site).await;
    site.nodes(2).await;
    site.pool(json!({})).await;
    let auditor =
        Process::auditor(&site.control_plane, &site.key_dash("audit"), "journal-who", &[]);
    site.start();
    // Miners: proof of work, work that is of use, and shared GPUs.
    for (class, image) in [
        ("pow-mining", "registry.example.com/miners/kaspa:1"),
        ("useful-work-mining", "registry.example.com/miners/matrix:1"),
        ("shared-gpu", "registry.example.com/shared-gpu/worker:1"),
    ] {
        site.filed_with(class, json!({"activityClass": class, "limits": {"gpus": 2}})).await;
        site.approve(class);
        site.miner(class, class, 2, json!({ "image": image })).await;
    }
    // What tenants run themselves, with a registration and without.
    registered(site, "validators", json!({})).await;
    pod(site, "validator", "pos-validator", "validators").await;
    registered(site, "storage", json!({"activityClass": "distributed-storage"})).await;
    pod(site, "storage", "distributed-storage", "storage").await;
    for (class, gpus) in
        [("ai-training", 1), ("ai-inference", 1), ("edge-compute", 0), ("data-security-compute", 0)]
    {
        plain_pod(site, class, gpus).await;
    }
    // Prohibited work gets no GPU, and what was started around admission is in no column.
    site.filed_with("banned", json!({"activityClass": "prohibited-pow", "limits": {"gpus": 2}}))
        .await;
    site.approve("banned");
    site.miner("banned", "banned", 1, json!({})).await;
    plain_pod(site, "prohibited-pow", 1).await;
    site.wait_for_mining(6).await;
    site.wait_for_miner("banned", "refused", |status| status["reason"] == "ClassProhibited").await;

    let url = format!("http://{}", auditor.listen);
    let status = ["status", "--auditor", &url];
    let figures = |line: &Value, column: &str| {
        let of = |figure: &str| line[column][figure].as_u64().unwrap_or_default();
        (of("pods"), of("gpus"), line[column]["dualUse"] == true)
    };
    let who = eventually(SOON, "all of it runs and shows", || async {
        let json = site.daylight(&[&status[..], &["-o", "json"]].concat());
        let json: Value = serde_json::from_str(&json).unwrap();
        let who = json["who"].clone();
        let lines = who["owners"].as_array()?.clone();
        let [tenant, namespace] = &lines[..] else { return None };
        let runs = figures(tenant, "finance").0 == 1
            && figures(tenant, "compute").0 == 5
            && figures(namespace, "compute").0 == 4;
        runs.then_some(who)
    })
    .await;
    let (tenant, namespace) = (&who["owners"][0], &who["owners"][1]);
    assert_eq!(tenant["name"], "Tenant");
    assert_eq!(figures(tenant, "mining"), (4, 4, true));
    assert_eq!(figures(tenant, "compute"), (5, 4, true));
    assert_eq!(figures(tenant, "finance"), (1, 0, false));
    assert_eq!(namespace["name"], format!("namespace {}", site.name));
    assert_eq!(figures(namespace, "compute"), (4, 2, false));
    assert_eq!(figures(namespace, "mining"), (0, 0, false));
    assert_eq!(who["dualUse"], json!(["useful-work-mining"]));
    let at = &who["sites"][0];
    assert_eq!(at["name"], "site-1");
    assert_eq!(figures(at, "compute"), (9, 6, true));
    assert!(who["notMetered"].is_null(), "{who:#}");
    let text = site.daylight(&status);
    assert!(text.contains("* Counted in several columns: useful-work-mining.\n"), "{text}");

    // The metrics say the same.
    eventually(SOON, "the metrics follow", || async {
        let controller = &site.processes[0];
        let of = async |labels: &[&str]| controller.metric("daylight_work_pods", labels).await;
        let compute = of(&["column=\"Compute\"", "owner=\"Tenant\""]).await == Some(5.0);
        let mining = of(&["column=\"Mining\""]).await == Some(4.0);
        (compute && mining && of(&["column=\"Finance\""]).await == Some(1.0)).then_some(())
    })
    .await;

    // The books have all of it, with GPUs and without.
    let classes = [
        "pow-mining",
        "useful-work-mining",
        "shared-gpu",
        "pos-validator",
        "distributed-storage",
        "ai-training",
        "ai-inference",
        "edge-compute",
        "data-security-compute",
    ];
    for class in classes {
        let label = format!("class=\"{class}\"");
        eventually(Duration::from_mins(1), class, || async {
            let booked = auditor.metric("daylight_operating_pod_seconds_total", &[&label]).await;
            (booked > Some(0.0)).then_some(())
        })
        .await;
    }
    let text = site.daylight(&status);
    assert!(text.contains(" h *\n"), "{text}");
    auditor.terminate().await;
}
