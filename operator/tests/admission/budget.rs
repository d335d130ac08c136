//! Every rule keeps to the API server's budget of CEL, also where there is most to look at. A rule that
//! does not would refuse AI, or admit what it was to refuse.

use std::time::Duration;

use daylight_testbed::trials::{apply, trial};
use serde_json::{Value, json};

use crate::cluster::{
    AUDITOR, CONTROLLER, Cluster, ROBOT, TENANT, classes, gpu_pod, miner, pod, registrations,
};
use crate::request::{Change, try_out};

/// A pod of these is about 1 MiB of JSON, near what etcd takes.
const CONTAINERS: usize = 80;
const INIT_CONTAINERS: usize = 16;
/// Of each container.
const VARIABLES: usize = 100;
const MOUNTS: usize = 100;
/// The longest that an image pattern and a path may be.
const LONG: usize = 255;

/// `text`, made as long as may be.
fn long(text: &str) -> String {
    format!("{text}{}", "x".repeat(LONG - text.len()))
}

/// Makes of a pod the largest that does the same.
fn enlarge(mut pod: Value) -> Value {
    let image = pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
    let limits = pod["spec"]["containers"][0]["resources"]["limits"].clone();
    let container = |name: String| {
        let variables: Vec<Value> = (0..VARIABLES)
            .map(|number| json!({"name": format!("VARIABLE_{number}"), "value": "a-value-of-a-variable-as-they-are"}))
            .collect();
        let mounts: Vec<Value> = (0..MOUNTS)
            .map(|number| json!({"name": format!("volume-{number}"), "mountPath": format!("/{number}")}))
            .collect();
        json!({
            "name": name, "image": image, "env": variables, "volumeMounts": mounts,
            "securityContext": {"capabilities": {"add": ["CHOWN", "KILL", "NET_BIND_SERVICE"]}},
        })
    };
    let many = |count: usize, name: &str| -> Vec<Value> {
        (0..count).map(|number| container(format!("{name}-{number}"))).collect()
    };
    pod["spec"]["containers"] = json!(many(CONTAINERS, "work"));
    pod["spec"]["initContainers"] = json!(many(INIT_CONTAINERS, "before"));
    pod["spec"]["containers"][CONTAINERS - 1]["resources"] = json!({"limits": limits});
    let volumes: Vec<Value> = (0..MOUNTS)
        .map(|number| {
            let path = format!("/data/{number}{}", "/set".repeat(50));
            json!({"name": format!("volume-{number}"), "hostPath": {"path": path}})
        })
        .collect();
    pod["spec"]["volumes"] = json!(volumes);
    // Daylight builds no miner with capabilities or host paths.
    if pod["metadata"]["labels"].get("daylight.dev/miner").is_some() {
        for volume in pod["spec"]["volumes"].as_array_mut().unwrap() {
            *volume = json!({"name": volume["name"], "emptyDir": {}});
        }
        for kind in ["containers", "initContainers"] {
            for container in pod["spec"][kind].as_array_mut().unwrap() {
                container["securityContext"] = json!({"runAsNonRoot": true});
            }
        }
    }
    for field in ["labels", "annotations"] {
        for number in 0..100 {
            pod["metadata"][field][format!("example.com/key-{number}")] = json!("some-value");
        }
    }
    assert!(pod.to_string().len() > 1_000_000, "{}", pod.to_string().len());
    pod
}

/// Lists that are full, with a class whose list of images is the longest.
fn full_lists() -> (Value, Value) {
    let fill = |list: Value, key: &dyn Fn(usize) -> String, entry: &str| {
        let Value::Object(mut list) = list else { unreachable!() };
        let length = |(key, entry): (&String, &Value)| key.len() + entry.as_str().unwrap().len();
        let mut size: usize = list.iter().map(length).sum();
        for number in 0.. {
            size += key(number).len() + entry.len();
            if size > 1 << 20 {
                return Value::Object(list);
            }
            list.insert(key(number), json!(entry));
        }
        unreachable!()
    };
    let class = |number: usize| format!("class-{number:06}-{}", "x".repeat(90));
    let mut classes = classes();
    let mut images: Vec<String> =
        (0..63).map(|number| long(&format!("registry[.]example[.]com/{number}/"))).collect();
    images.push("registry[.]example[.]com/serving/.*".into());
    classes["ai-inference.images"] = json!(format!("^({})$", images.join("|")));
    (
        fill(
            registrations(),
            &|number| format!("tenant-{number:06}.registration"),
            "pow-mining 2020-01-01T00:00:00Z 2099-01-01T00:00:00Z",
        ),
        fill(classes, &class, "Guaranteed NotRequired"),
    )
}

/// What policies found wrong, or could not tell, by the API server's own count.
async fn findings(cluster: &Cluster) -> Vec<String> {
    let metrics = cluster.control_plane.kubectl_ok(["get", "--raw", "/metrics"]).await.unwrap();
    let of_policies = |line: &&str| {
        line.starts_with("apiserver_validating_admission_policy_check_total")
            && line.contains("policy=\"daylight-")
            && !line.contains("error_type=\"no_error\"")
    };
    metrics.lines().filter(of_policies).map(str::to_owned).collect()
}

/// Fills the lists, or writes those of other tests.
async fn write_lists(cluster: &Cluster, (registrations, classes): (Value, Value)) {
    cluster.lists(&registrations, &classes).await;
    // The API server takes the lists in a moment after they are written.
    tokio::time::sleep(Duration::from_secs(1)).await;
}

/// A large pod of a class whose list of images is the longest, with the longest name of an image.
fn serving() -> Value {
    let mut pod = gpu_pod("large", Some("ai-inference"));
    pod["spec"]["containers"][0]["image"] = json!(long("registry.example.com/serving/"));
    enlarge(pod)
}

fn validator() -> Value {
    let mut pod = gpu_pod("large", Some("pos-validator"));
    pod["metadata"]["labels"]["daylight.dev/registration"] = json!("validator");
    enlarge(pod)
}

#[apply(trial!)]
async fn the_largest_pods_keep_to_the_budget_of_every_rule(cluster: &Cluster) {
    let training = enlarge(gpu_pod("large", Some("ai-training")));
    let subjects = [
        ("AI", TENANT, "tenant-a", training.clone()),
        ("AI of an account", ROBOT, "tenant-a", training),
        ("AI with bounded images", TENANT, "tenant-a", serving()),
        ("AI by a namespace", TENANT, "labelled", enlarge(gpu_pod("large", None))),
        ("registered work", TENANT, "tenant-a", validator()),
        ("a miner", CONTROLLER, "tenant-a", enlarge(miner("large"))),
    ];
    let mut wrong = Vec::new();
    for mode in ["Audit", "Warn", "Enforce"] {
        cluster.set_mode(mode).await;
        write_lists(cluster, full_lists()).await;
        for (what, who, namespace, pod) in &subjects {
            let before = findings(cluster).await;
            let path = format!("/api/v1/namespaces/{namespace}/pods");
            let create = Change::create(&path, pod.clone());
            let answer = try_out(&cluster.client(who).await, &create).await;
            if !answer.is_admitted() || !answer.warnings.is_empty() {
                wrong.push(format!("{what} in {mode}: {} {:?}", answer.message(), answer.warnings));
            }
            let after = findings(cluster).await;
            let new = after.into_iter().filter(|finding| !before.contains(finding));
            wrong.extend(new.map(|finding| format!("{what} in {mode}: {finding}")));
        }
        write_lists(cluster, (registrations(), classes())).await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is wrong with a pod is found however much there is to look at before.
#[apply(trial!)]
async fn nothing_passes_for_want_of_budget(cluster: &Cluster) {
    write_lists(cluster, full_lists()).await;
    let at = CONTAINERS - 1;
    let unlisted = enlarge(gpu_pod("large", Some("unheard-of")));
    let mut foreign = serving();
    foreign["spec"]["containers"][at]["image"] = json!("registry.example.com/foreign:1");
    let mut many = serving();
    for (number, container) in
        many["spec"]["containers"].as_array_mut().unwrap().iter_mut().enumerate()
    {
        container["image"] = json!(long(&format!("registry.example.com/foreign/{number}/")));
    }
    let mut privileged = serving();
    privileged["spec"]["containers"][at]["securityContext"] = json!({"privileged": true});
    let mut variable = serving();
    variable["spec"]["containers"][at]["env"][VARIABLES - 1] =
        json!({"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"});
    let mut path = serving();
    path["spec"]["volumes"][MOUNTS - 1]["hostPath"]["path"] = json!("/dev/nvidia0");
    let undeclared = enlarge(gpu_pod("large", None));
    let mut unregistered = validator();
    unregistered["metadata"]["labels"]["daylight.dev/registration"] = json!("theirs");
    let client = cluster.client(TENANT).await;
    for (pod, message) in [
        (unlisted, "which is not on the positive list"),
        (foreign, "runs the image registry.example.com/foreign:1"),
        (many, "whose names are too long to check"),
        (privileged, "container work-79 is privileged"),
        (variable, "sets NVIDIA_VISIBLE_DEVICES"),
        (path, "mounts the host path /dev/nvidia0/, which"),
        (undeclared, "requests GPUs in container work-79"),
        (unregistered, "no approved Registration of that name"),
    ] {
        let create = Change::create("/api/v1/namespaces/tenant-a/pods", pod);
        let answer = try_out(&client, &create).await;
        assert!(
            answer.message().contains(message),
            "{message}: {} {}",
            answer.code,
            answer.message()
        );
    }
    write_lists(cluster, (registrations(), classes())).await;
}

/// A pod of this class that runs `image` once, and before it `count` containers of other images.
fn crowd(class: &str, image: &str, images: impl Fn(usize) -> String, count: usize) -> Value {
    let mut pod = pod("crowd", image);
    pod["metadata"]["labels"] = json!({"daylight.dev/activity": class});
    if class == "pos-validator" {
        pod["metadata"]["labels"]["daylight.dev/registration"] = json!("validator");
    }
    let containers = pod["spec"]["containers"].as_array_mut().unwrap();
    for number in 0..count {
        containers.push(json!({"name": format!("c{number}"), "image": images(number)}));
    }
    pod
}

/// However many containers a pod has, up to what the API server stores, none runs an image that its class
/// does not allow.
#[apply(trial!)]
async fn no_crowd_of_containers_hides_an_image(cluster: &Cluster) {
    let mut listed = classes();
    listed["pos-validator.images"] = listed["ai-inference.images"].clone();
    write_lists(cluster, (registrations(), listed)).await;
    let long = |_| format!("registry.example.com/serving/{}", "a".repeat(992));
    let short = |number| format!("registry.example.com/serving/image-{number:04}");
    let same = |_| "registry.example.com/serving/one".to_owned();
    let tiny = |_| "x".to_owned();
    let foreign = "evil/xmrig:1";
    let before = findings(cluster).await;
    let client = cluster.client(TENANT).await;
    for class in ["ai-inference", "pos-validator"] {
        for pod in [
            crowd(class, foreign, long, 99),
            crowd(class, foreign, long, 500),
            crowd(class, foreign, short, 498),
            crowd(class, foreign, same, 576),
            crowd(class, foreign, tiny, 5_000),
        ] {
            let create = Change::create("/api/v1/namespaces/tenant-a/pods", pod);
            let answer = try_out(&client, &create).await;
            let message = answer.message();
            assert!(!answer.is_admitted(), "{class}");
            assert!(
                message.contains("whose names are too long to check")
                    || message.contains("runs the image"),
                "{class}: {} {message}",
                answer.code
            );
        }
        let ordinary = crowd(class, &same(0), short, 30);
        let create = Change::create("/api/v1/namespaces/tenant-a/pods", ordinary);
        let answer = try_out(&client, &create).await;
        assert!(answer.is_admitted(), "{class}: {}", answer.message());
    }
    let after = findings(cluster).await;
    let admits = |one: &&String| one.contains("\"allow\"") && !before.contains(one);
    let errors: Vec<&String> = after.iter().filter(admits).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    write_lists(cluster, (registrations(), classes())).await;
}

/// Of a pod that is there, everything is compared with what it was.
#[apply(trial!)]
async fn the_largest_pods_change_within_budget(cluster: &Cluster) {
    let path = "/api/v1/namespaces/tenant-a/pods";
    let mut pod = serving();
    pod["metadata"]["name"] = json!("large-stays");
    pod["metadata"]["finalizers"] = json!(["daylight.dev/metered"]);
    cluster.make(TENANT, &Change::create(path, pod)).await;
    let one = format!("{path}/large-stays");
    let before = findings(cluster).await;
    let client = cluster.client(TENANT).await;
    let label = json!({"metadata": {"labels": {"example.com/key-99": "another"}}});
    let debug = json!({"spec": {"ephemeralContainers": [
        {"name": "look", "image": long("registry.example.com/serving/")},
    ]}});
    for change in
        [Change::patch(&one, label), Change::patch(&format!("{one}/ephemeralcontainers"), debug)]
    {
        let answer = try_out(&client, &change).await;
        assert!(answer.is_admitted(), "{change:?}: {}", answer.message());
    }
    cluster.make_as_admin(&Change::delete(&format!("{one}?gracePeriodSeconds=0"))).await;
    let ended = json!({"status": {"phase": "Succeeded"}});
    cluster.make_as_admin(&Change::patch(&format!("{one}/status"), ended)).await;
    let release = json!({"metadata": {"finalizers": null}});
    cluster.make(AUDITOR, &Change::patch(&one, release)).await;
    assert_eq!(findings(cluster).await, before);
}
