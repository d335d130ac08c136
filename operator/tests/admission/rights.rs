//! Daylight's two accounts have the rights that controller and auditor use, and no others.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use daylight_testbed::Nodes;
use daylight_testbed::trials::{apply, trial};
use serde_json::{Value, json};

use crate::cluster::{AUDITOR, CONTROLLER, Cluster, OFFICER, SYSTEM, classes, registrations};
use crate::process::{Environment, Process, command};
use crate::request::Change;

/// A verb on a resource, such as `create pods/eviction` or `patch daylight.dev/miners/status`.
type Right = String;

/// Rights that this story has no use for, each with what they are there for.
const ELSEWHERE: [(&str, &str); 4] = [
    (
        "assign daylight.dev/activityclasses",
        "asked for by the policies, when it creates a miner's pod",
    ),
    (
        "patch batch/jobs/status",
        "takes a Job's start time away on Kubernetes before 1.35, to change where it runs",
    ),
    ("get services", "checks the owner of a Service that has the name of an AIJob"),
    ("get pods", "looks what became of a miner's pod when the answer to its creation is lost"),
];

#[apply(trial!)]
async fn every_right_of_controller_and_auditor_is_used(cluster: &Cluster) {
    cluster.lists(&Value::Null, &Value::Null).await;
    let extra = ["delete", "clusterrolebinding", "daylight-accounts"];
    cluster.control_plane.kubectl_ok(extra).await.unwrap();
    let class = ["delete", "priorityclass", "daylight-miner"];
    cluster.control_plane.kubectl_ok(class).await.unwrap();
    // The auditor makes it again, or for the first time.
    let key = ["delete", "secret", "daylight-ledger-key", "-n", SYSTEM, "--ignore-not-found"];
    cluster.control_plane.kubectl_ok(key).await.unwrap();
    let before = cluster.audit_log.entries().len();

    tell_the_story(cluster).await;

    let mut wrong = Vec::new();
    for (role, account) in [("daylight-controller", CONTROLLER), ("daylight-auditor", AUDITOR)] {
        let given = rights_given(cluster, role).await;
        // A watch is in the log once it has ended, a moment after who watched has.
        let begun = Instant::now();
        let (used, refused, unused) = loop {
            let (used, refused) = rights_used(cluster, account, before);
            let unused = |right: &&Right| !used.contains(*right) && !is_elsewhere(right, &used);
            let unused: Vec<Right> = given.iter().filter(unused).cloned().collect();
            if unused.is_empty() || begun.elapsed() > Duration::from_secs(20) {
                break (used, refused, unused);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        };
        if !refused.is_empty() {
            wrong.push(format!("{role} asked for what it may not do: {refused:?}"));
        }
        if !unused.is_empty() {
            wrong
                .push(format!("{role}: rights that no code path uses: {unused:?}\nused: {used:?}"));
        }
        let seen = given.intersection(&used).count();
        println!("{role}: {} rights given, {seen} of them seen in use", given.len());
    }
    cluster.control_plane.apply(include_str!("people.yaml")).await.unwrap();
    cluster
        .helm(&["upgrade", "daylight", &crate::cluster::chart("daylight"), "--reuse-values"])
        .await;
    cluster.lists(&registrations(), &classes()).await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What an account did, and what it was refused, since the n-th entry of the log.
fn rights_used(
    cluster: &Cluster,
    account: &str,
    before: usize,
) -> (BTreeSet<Right>, BTreeSet<Right>) {
    let (mut used, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for entry in &cluster.audit_log.entries()[before..] {
        let by_process = entry["impersonatedUser"]["username"] == account
            && !entry["auditID"].as_str().unwrap_or_default().starts_with("attempt-");
        if by_process {
            // By its role, or by a policy.
            let allowed = entry["annotations"]["authorization.k8s.io/decision"] == "allow";
            match allowed && entry["responseStatus"]["code"] != 403 {
                true => used.insert(right_of(entry)),
                false => refused.insert(right_of(entry)),
            };
        }
    }
    (used, refused)
}

/// What is watched is first listed by the watch itself, and with `list` only where the API server
/// does not stream lists: that needs `list` on the same, and on nothing that is not watched.
fn is_elsewhere(right: &str, used: &BTreeSet<Right>) -> bool {
    let listed = right.strip_prefix("list ");
    ELSEWHERE.iter().any(|(known, _)| right == *known)
        || listed.is_some_and(|what| used.contains(&format!("watch {what}")))
}

fn right_of(entry: &Value) -> Right {
    let object = &entry["objectRef"];
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    name(
        entry["verb"].as_str().unwrap_or_default(),
        text("apiGroup"),
        &[text("resource"), text("subresource")].join("/"),
    )
}

fn name(verb: &str, group: &str, resource: &str) -> Right {
    let resource = resource.trim_end_matches('/');
    if group.is_empty() {
        format!("{verb} {resource}")
    } else {
        format!("{verb} {group}/{resource}")
    }
}

/// What the roles of this name give, which are those that are bound to the account of that name.
async fn rights_given(cluster: &Cluster, role: &str) -> BTreeSet<Right> {
    let mut given = BTreeSet::new();
    for kind in ["clusterrole", "role"] {
        let get = ["get", kind, role, "-n", SYSTEM, "-o", "json"];
        let role: Value =
            serde_json::from_str(&cluster.control_plane.kubectl_ok(get).await.unwrap()).unwrap();
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        for rule in role["rules"].as_array().unwrap() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        given.insert(name(&verb, &group, &resource));
                    }
                }
            }
        }
    }
    given
}

/// Everything that the two do: grants, evictions that a budget refuses, lease records, jobs that
/// start, fail to start and end, lists that another client spoils; then leases that end on record.
async fn tell_the_story(cluster: &Cluster) {
    let control_plane = &cluster.control_plane;
    let nodes = Nodes::new(4).prefix("story").label("site", "story");
    control_plane.create_nodes(&nodes).await.unwrap();
    let mut flags = vec!["controller", "--as", CONTROLLER, "--metered", "--record-after", "1s"];
    flags.extend(["--lease-duration", "3s", "--lease-renew", "500ms", "--lease-retry", "100ms"]);
    flags.extend(["--request-timeout", "1s"]);
    let controller = Process::start(control_plane, "story-controller", &flags);
    let played = tokio::spawn(story(control_plane.environment(), cluster.admin())).await;
    // Without an exporter, it reports no use of an energy limit.
    let exporter = ["--exporter", "monitoring/exporter:9400"];
    let key = ["--ledger-key", "secret/daylight-ledger-key"];
    let flags = [&["--as", AUDITOR, "--agent-every", "1s"], &exporter[..], &key].concat();
    // One that the auditor finds overdue, of which it writes an Event.
    let mut overdue = crate::cluster::declaration("overdue", "tenant@example.com");
    for (field, value) in [
        ("registration", "reg"),
        ("period", "2020-10"),
        ("start", "2020-10-01T00:00:00Z"),
        ("end", "2020-11-01T00:00:00Z"),
        ("dueAt", "2020-11-21T00:00:00Z"),
    ] {
        overdue["spec"][field] = json!(value);
    }
    let declarations = "/apis/daylight.dev/v1alpha1/namespaces/story/declarations";
    cluster.make(AUDITOR, &Change::create(declarations, overdue)).await;
    let auditor = Process::auditor(control_plane, "story-auditor", &flags);
    let spoiled = spoil_lists(cluster).await;
    let metered = tokio::spawn(story_is_metered(cluster.admin())).await;
    let controller = controller.end().await;
    let closed = tokio::spawn(story_ends(cluster.admin())).await;
    let auditor = auditor.end().await;
    if played.is_err() || !spoiled || metered.is_err() || closed.is_err() {
        // The end of each: a report keeps little of a long output.
        for (name, log) in [("controller", &controller), ("auditor", &auditor)] {
            let lines: Vec<&str> = log.lines().collect();
            println!("{name}:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
    played.unwrap();
    assert!(spoiled, "the lists are not put right");
    metered.unwrap();
    closed.unwrap();
}

/// The auditor says what it has to say, and takes over what the controller wrote down.
async fn story_is_metered(client: kube::Client) {
    let story = "/apis/daylight.dev/v1alpha1/namespaces/story";
    until(&client, "the use of the registration", &format!("{story}/registrations"), |list| {
        let registrations = list["items"].as_array().unwrap();
        registrations.iter().any(|one| one["status"]["usage"]["millijoules"].is_string())
    })
    .await;
    until(&client, "what is declared", &format!("{story}/declarations"), |list| {
        let declarations = list["items"].as_array().unwrap();
        declarations.iter().filter(|one| one["status"]["state"] == "Draft").count() == 2
    })
    .await;
    until(&client, "what agents say", &format!("{story}/miners"), |list| {
        let miners = list["items"].as_array().unwrap();
        miners.iter().any(|one| one["status"]["work"]["sharesAccepted"].as_u64() > Some(0))
    })
    .await;
    let pool = "/apis/daylight.dev/v1alpha1/gpupools/story";
    until(&client, "that the pool is metered", pool, |pool| {
        let conditions = pool["status"]["conditions"].as_array().unwrap();
        conditions.iter().any(|one| one["type"] == "Metered" && one["status"] == "True")
    })
    .await;
}

/// All miners end, with only the auditor there to release them.
async fn story_ends(client: kube::Client) {
    let pods = "/api/v1/namespaces/story/pods?labelSelector=daylight.dev/miner";
    let request = http::Request::delete(pods).body(Vec::new()).unwrap();
    client.request::<Value>(request).await.unwrap();
    let none = |list: &Value| list["items"].as_array().unwrap().is_empty();
    until(&client, "no pod of a miner", pods, none).await;
    let records = "/apis/daylight.dev/v1alpha1/namespaces/story/leaserecords";
    until(&client, "no lease record", records, none).await;
}

/// Adds an entry to both lists.
async fn spoil_lists(cluster: &Cluster) -> bool {
    let path = |name: &str| format!("{}/{name}", crate::cluster::admission_lists());
    let edit = json!({"spec": {"entries": {"x": "Guaranteed NotRequired"}}});
    // In the controller's name, since no other account may; its role lets it patch these two.
    for name in ["classes", "registrations"] {
        cluster.make(CONTROLLER, &Change::patch(&path(name), edit.clone())).await;
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        let mut well = true;
        for name in ["classes", "registrations"] {
            let data =
                ["get", "admissionlist", name, "-n", SYSTEM, "-o", "jsonpath={.spec.entries.x}"];
            let data =
                cluster.control_plane.kubectl_ok(data).await.unwrap_or_else(|_| "gone".into());
            well &= data.is_empty();
        }
        if well {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    false
}

async fn story(environment: Environment, client: kube::Client) {
    let api = |path: &str| format!("/apis/daylight.dev/v1alpha1/{path}");
    let create = async |path: &str, object: Value| {
        let answer = crate::request::make(&client, &Change::create(path, object)).await;
        assert!(answer.is_admitted(), "{path}: {}", answer.message());
    };
    let object = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let daylight = |kind: &str, name: &str, spec: Value| {
        let mut object = object(name, spec);
        object["apiVersion"] = json!("daylight.dev/v1alpha1");
        object["kind"] = json!(kind);
        object
    };
    let pool = json!({
        "nodeSelector": {"matchLabels": {"site": "story"}}, "resource": "nvidia.com/gpu",
        "site": {"name": "site-1"},
        "mining": {"policy": "Fill", "idleDelay": "0s", "drainTimeout": "5s"},
    });
    create(&api("gpupools"), daylight("GpuPool", "story", pool)).await;
    let mut registration = crate::cluster::registration("reg", "tenant@example.com");
    registration["spec"]["pools"] = json!(["story"]);
    registration["spec"]["limits"] = json!({"gpus": 32});
    let registrations = api("namespaces/story/registrations");
    create(&registrations, registration.clone()).await;
    // One whose use the auditor reports.
    registration["metadata"]["name"] = json!("limited");
    registration["spec"]["limits"]["energy"] = json!({"kwh": 100, "period": "Day"});
    create(&registrations, registration).await;
    for name in ["story/reg", "story/limited"] {
        let approve = ["approve", name, "--generation", "1", "--as", OFFICER];
        let approved = command(&environment, &approve).await;
        assert!(approved.status.success(), "{}", String::from_utf8_lossy(&approved.stderr));
    }
    let miner = json!({
        "registration": "reg", "replicas": 32, "image": "registry.example.com/miners/kaspa:1",
        "drainTimeout": "1s", "wattsPerReplica": 300, "agent": "Daylight",
    });
    let mut miner = daylight("Miner", "miner", miner);
    let said = "daylight_miner_shares_total{result=\"accepted\"} 7\n";
    miner["metadata"]["annotations"] = json!({"daylight.dev/simulated-metrics": said});
    create(&api("namespaces/story/miners"), miner).await;
    let budget = json!({
        "maxUnavailable": 0, "selector": {"matchLabels": {"daylight.dev/miner": "miner"}},
    });
    create("/apis/policy/v1/namespaces/story/poddisruptionbudgets", object("all", budget)).await;
    // Other tests' pods hold a few.
    until(&client, "28 miners", "/api/v1/namespaces/story/pods", |list| {
        let pods = list["items"].as_array().unwrap();
        pods.iter().filter(|pod| pod["status"]["phase"] == "Running").count() >= 28
    })
    .await;

    // A job that runs and ends, and one whose second worker can never be bound.
    let worker = |more: Value| {
        let mut spec = json!({"containers": [{
            "name": "train", "image": "registry.example.com/train:1",
            "resources": {"limits": {"nvidia.com/gpu": "4"}},
        }]});
        if let Value::Object(more) = more {
            for (key, value) in more {
                spec[key] = value;
            }
        }
        json!({
            "metadata": {"annotations": {"daylight.dev/simulated-run-time": "1s"}}, "spec": spec,
        })
    };
    let apart = json!({"affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{
            "topologyKey": "site",
            "labelSelector": {"matchLabels": {"daylight.dev/aijob": "apart"}},
        }],
    }}});
    let jobs = api("namespaces/story/aijobs");
    let state = |list: &Value, name: &str| -> String {
        let items = list["items"].as_array().unwrap();
        let found = items.iter().find(|job| job["metadata"]["name"] == name);
        found
            .map_or("Gone".into(), |job| job["status"]["state"].as_str().unwrap_or_default().into())
    };
    for (name, workers, more) in [("ends", 1, Value::Null), ("apart", 2, apart)] {
        let mut template = worker(more);
        if name == "apart" {
            template["metadata"] = Value::Null;
        }
        let spec = json!({
            "workers": workers, "activityClass": "ai-training", "gangTimeout": "2s",
            "ttlAfterFinished": "1s", "template": template,
        });
        create(&jobs, daylight("AIJob", name, spec)).await;
        if name == "ends" {
            until(&client, "the job that ended is gone", &jobs, |list| {
                state(list, "ends") == "Gone"
            })
            .await;
        }
    }
    // One whose pods a policy refuses: its class allows other images only.
    let spec =
        json!({"workers": 1, "activityClass": "ai-inference", "template": worker(Value::Null)});
    create(&jobs, daylight("AIJob", "refused", spec)).await;
    until(&client, "the job reads the policy's own sentence", &jobs, |list| {
        let items = list["items"].as_array().unwrap();
        let status =
            &items.iter().find(|job| job["metadata"]["name"] == "refused").unwrap()["status"];
        let sentence = "which class ai-inference does not allow";
        status["reason"] == "PodsRefused" && status["message"].as_str().unwrap().contains(sentence)
    })
    .await;
    let refused = Change::delete(&format!("{jobs}/refused"));
    assert!(crate::request::make(&client, &refused).await.is_admitted());

    until(&client, "the gang starts", &jobs, |list| state(list, "apart") == "Starting").await;
    until(&client, "the gang is queued again", &jobs, |list| state(list, "apart") == "Queued")
        .await;
    until(&client, "the gang starts again", &jobs, |list| state(list, "apart") == "Starting").await;
    until(&client, "a lease record", &api("namespaces/story/leaserecords"), |list| {
        !list["items"].as_array().unwrap().is_empty()
    })
    .await;
}

/// Waits until what is read at `path` is so.
async fn until(client: &kube::Client, what: &str, path: &str, is_so: impl Fn(&Value) -> bool) {
    let begun = Instant::now();
    loop {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let list: Value = client.request(request).await.unwrap();
        if is_so(&list) {
            return;
        }
        if begun.elapsed() >= Duration::from_mins(2) {
            let names = list["items"].as_array().map(|items| {
                items.iter().map(|item| item["metadata"]["name"].clone()).collect::<Vec<_>>()
            });
            panic!("not within two minutes: {what}: {names:?}, status {}", list["status"]);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
