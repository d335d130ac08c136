//! Promise 2: work that requests GPUs is on the positive list, and work that mines is registered.

use daylight_testbed::trials::{apply, trial};
use serde_json::{Value, json};

use crate::cluster::{
    AUDITOR, CONTROLLER, Cluster, OFFICER, OPERATOR, ROBOT, SYSTEM, TENANT, gpu_pod, miner, pod,
    registration,
};
use crate::request::{Change, try_out};

/// The effect of admission.mode on a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// A rule for miners and their records. It always refuses.
    Always,
    /// A rule for all work. It follows the mode.
    Mode,
}

/// A request that must be refused.
#[derive(Debug)]
pub(crate) struct Attempt {
    what: &'static str,
    pub(crate) who: &'static str,
    rule: Rule,
    pub(crate) change: Change,
    /// A part of the refusal, which names the cause and the remedy.
    message: &'static str,
}

impl Attempt {
    pub(crate) fn is_always(&self) -> bool {
        self.rule == Rule::Always
    }
}

/// The minimum number of attempts in the list.
const AT_LEAST: usize = 60;

#[apply(trial!)]
async fn what_is_off_the_list_is_refused_or_reported(cluster: &Cluster) {
    let attempts = attempts();
    assert!(attempts.len() >= AT_LEAST, "only {} attempts", attempts.len());
    let mut wrong = Vec::new();

    for attempt in &attempts {
        let answer = try_out(&cluster.client(attempt.who).await, &attempt.change).await;
        let refused = matches!(answer.code, 403 | 422);
        if !refused || !is_clear(answer.message(), attempt.message) {
            wrong.push(format!(
                "{} (Enforce): {} {}\n    expected: {}",
                attempt.what,
                answer.code,
                answer.message(),
                attempt.message
            ));
        }
    }

    cluster.set_mode("Audit").await;
    let mut admitted = Vec::new();
    for attempt in &attempts {
        let answer = try_out(&cluster.client(attempt.who).await, &attempt.change).await;
        if answer.is_admitted() == attempt.is_always() {
            wrong.push(format!("{} (Audit): {} {}", attempt.what, answer.code, answer.message()));
        } else if answer.is_admitted() {
            assert!(answer.warnings.iter().all(|text| !text.contains("daylight")));
            admitted.push((attempt, answer.audit_id));
        }
    }
    let ids: Vec<&str> = admitted.iter().map(|(_, id)| id.as_str()).collect();
    for ((attempt, _), entry) in admitted.iter().zip(cluster.audit_log.of(&ids).await) {
        let note = &entry["annotations"]["validation.policy.admission.k8s.io/validation_failure"];
        if !note.as_str().is_some_and(|note| note.contains(attempt.message)) {
            wrong.push(format!("{} (Audit): not reported: {entry}", attempt.what));
        }
    }

    cluster.set_mode("Warn").await;
    let mut warned = 0;
    for attempt in attempts.iter().filter(|attempt| attempt.rule == Rule::Mode) {
        let answer = try_out(&cluster.client(attempt.who).await, &attempt.change).await;
        let message = attempt.message.replace('"', "\\\"");
        if answer.is_admitted() && answer.warnings.iter().any(|text| text.contains(&message)) {
            warned += 1;
        } else {
            wrong.push(format!("{} (Warn): {} {:?}", attempt.what, answer.code, answer.warnings));
        }
    }
    cluster.set_mode("Enforce").await;
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    println!(
        "{} attempts refused in Enforce; {} of them refused in every mode, {} admitted and reported \
         in Audit, {warned} warned of in Warn",
        attempts.len(),
        attempts.len() - admitted.len(),
        admitted.len(),
    );
}

/// Whether the answer names the policy and has the expected message.
fn is_clear(answer: &str, message: &str) -> bool {
    answer.contains("daylight") && answer.contains(message) && !answer.contains("failed expression")
}

fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

fn claims(namespace: &str, kind: &str) -> String {
    format!("/apis/resource.k8s.io/v1/namespaces/{namespace}/{kind}")
}

fn registrations() -> String {
    "/apis/daylight.dev/v1alpha1/namespaces/tenant-a/registrations".into()
}

/// Returns `pod` with `change` merged into its only container.
fn with(mut pod: Value, change: Value) -> Value {
    merge(&mut pod["spec"]["containers"][0], change);
    pod
}

/// Sets the fields of `object` that `change` has.
fn merge(object: &mut Value, change: Value) {
    let Value::Object(change) = change else { panic!("{change} is no object") };
    for (key, value) in change {
        object[key] = value;
    }
}

fn labelled(mut pod: Value, labels: &[(&str, &str)]) -> Value {
    for (label, value) in labels {
        pod["metadata"]["labels"][format!("daylight.dev/{label}")] = json!(value);
    }
    pod
}

fn host_path(path: &str) -> Value {
    let mut pod = pod("reach", "busybox");
    pod["spec"]["volumes"] = json!([{"name": "host", "hostPath": {"path": path}}]);
    pod
}

fn approval(by: &str, state: &str) -> Value {
    json!({"status": {"approval": {
        "state": state, "by": by, "at": "2026-01-01T00:00:00Z", "generation": 1,
        "specDigest": format!("sha256:{}", "0".repeat(64)), "message": "because",
    }}})
}

fn claim(request: Value, class: Option<&str>) -> Value {
    let mut claim = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {"name": "claim"},
        "spec": {"devices": {}},
    });
    claim["spec"]["devices"]["requests"] = Value::Array(vec![request]);
    if let Some(class) = class {
        claim["metadata"]["labels"] = json!({"daylight.dev/activity": class});
    }
    claim
}

fn template(request: Value) -> Value {
    let mut template = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate",
        "metadata": {"name": "template"},
        "spec": {"spec": {"devices": {}}},
    });
    template["spec"]["spec"]["devices"]["requests"] = Value::Array(vec![request]);
    template
}

fn ephemeral(image: &str, more: Value) -> Value {
    let mut container = json!({"name": "look", "image": image});
    merge(&mut container, more);
    json!({"spec": {"ephemeralContainers": [container]}})
}

/// Returns all attempts.
pub(crate) fn attempts() -> Vec<Attempt> {
    let mut all = Vec::new();
    let mut add = |what, who, rule, change, message| {
        all.push(Attempt { what, who, rule, change, message });
    };
    let create = |pod: Value| Change::create(&pods("tenant-a"), pod);
    let gpus = |resource: &str| {
        with(pod("work", "busybox"), json!({"resources": {"limits": {(resource): "1"}}}))
    };

    // GPU work off the list.
    let unlisted = "but has no activity class: set the label daylight.dev/activity on the pod or its namespace";
    for (what, resource) in [
        ("a GPU without a class", "nvidia.com/gpu"),
        ("a shared GPU without a class", "nvidia.com/gpu.shared"),
        ("a MIG slice without a class", "nvidia.com/mig-1g.10gb"),
        ("an AMD GPU without a class", "amd.com/gpu"),
        ("an Intel GPU without a class", "gpu.intel.com/i915"),
        (
            "a GPU by an implicit device class name",
            "deviceclass.resource.kubernetes.io/gpu.nvidia.com",
        ),
    ] {
        add(what, TENANT, Rule::Mode, create(gpus(resource)), unlisted);
    }
    add(
        "a GPU without a class, by a service account",
        ROBOT,
        Rule::Mode,
        create(gpus("nvidia.com/gpu")),
        unlisted,
    );
    let mut init = pod("work", "busybox");
    init["spec"]["initContainers"] = json!([{
        "name": "hidden", "image": "busybox", "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }]);
    add(
        "a GPU in an init container",
        TENANT,
        Rule::Mode,
        create(init.clone()),
        "requests GPUs in container hidden but has no activity class",
    );
    init["spec"]["initContainers"][0]["restartPolicy"] = json!("Always");
    add(
        "a GPU in a sidecar",
        TENANT,
        Rule::Mode,
        create(init),
        "requests GPUs in container hidden but has no activity class",
    );
    let empty = labelled(gpu_pod("work", None), &[("activity", "")]);
    add("an empty class", TENANT, Rule::Mode, create(empty), unlisted);
    let mut generated = gpus("nvidia.com/gpu");
    generated["metadata"] = json!({"generateName": "work-"});
    add(
        "a GPU without a class, under a generated name",
        TENANT,
        Rule::Mode,
        create(generated),
        "in namespace tenant-a requests GPUs in container main but has no activity class",
    );
    add(
        "a class that is not on the list",
        TENANT,
        Rule::Mode,
        create(gpu_pod("work", Some("ai-mining"))),
        "which is not on the positive list",
    );
    add(
        "a class that is prohibited",
        TENANT,
        Rule::Always,
        create(gpu_pod("work", Some("prohibited-pow"))),
        "which is prohibited: do not run this work here.",
    );
    add(
        "a prohibited class without a GPU",
        ROBOT,
        Rule::Always,
        create(labelled(pod("work", "busybox"), &[("activity", "prohibited-pow")])),
        "which is prohibited",
    );
    add(
        "a class that the account may not use",
        OPERATOR,
        Rule::Mode,
        Change::create(&pods("tenant-b"), gpu_pod("work", Some("ai-training"))),
        "which its service account default may not use",
    );
    let mut foreign_account = gpu_pod("work", Some("ai-training"));
    foreign_account["spec"]["serviceAccountName"] = json!("default");
    add(
        "a class of another namespace's",
        OPERATOR,
        Rule::Mode,
        Change::create(&pods("labelled-validator"), foreign_account),
        "ask an administrator to grant it the verb use on activityclasses/ai-training",
    );
    add(
        "a foreign image",
        TENANT,
        Rule::Mode,
        create(gpu_pod("work", Some("ai-inference"))),
        "runs the image registry.example.com/train:1, which class ai-inference does not allow",
    );
    let mut two = gpu_pod("work", Some("ai-inference"));
    two["spec"]["containers"][0]["image"] = json!("registry.example.com/serving/llm:1");
    two["spec"]["initContainers"] =
        json!([{"name": "first", "image": "registry.example.com/xmrig:6"}]);
    add(
        "a foreign image in an init container",
        TENANT,
        Rule::Mode,
        create(two.clone()),
        "runs the image registry.example.com/xmrig:6",
    );
    two["spec"]["initContainers"] =
        json!([{"name": "first", "image": "registry.example.com/x/serving:v12"}]);
    add(
        "an image that is longer than the pattern",
        TENANT,
        Rule::Mode,
        create(two),
        "runs the image registry.example.com/x/serving:v12",
    );
    add(
        "a validator without a registration",
        TENANT,
        Rule::Mode,
        create(gpu_pod("work", Some("pos-validator"))),
        "which requires a registration: set the label daylight.dev/registration",
    );
    let without_gpus = labelled(pod("work", "beacon"), &[("activity", "pos-validator")]);
    add(
        "a validator without GPUs and without a registration",
        TENANT,
        Rule::Mode,
        create(without_gpus),
        "which requires a registration: set the label daylight.dev/registration",
    );
    add(
        "a pod that takes its class from the namespace, without a registration",
        OPERATOR,
        Rule::Mode,
        Change::create(&pods("labelled-validator"), pod("work", "busybox")),
        "which requires a registration",
    );

    let mut volume = gpu_pod("work", Some("ai-inference"));
    volume["spec"]["containers"][0]["image"] = json!("registry.example.com/serving/llm:1");
    volume["spec"]["volumes"] = json!([{"name": "m", "image": {"reference": "evil/xmrig:1"}}]);
    add(
        "a foreign image as a volume",
        TENANT,
        Rule::Mode,
        create(volume),
        "runs the image evil/xmrig:1, which class ai-inference does not allow",
    );

    // Mining without Daylight, with an image that the class allows.
    let mining = |pod| with(pod, json!({"image": "registry.example.com/miners/kaspa:1"}));
    add(
        "a mining class, plainly",
        TENANT,
        Rule::Always,
        create(mining(gpu_pod("work", Some("pow-mining")))),
        "whose pods only Daylight may start: create a Miner",
    );
    add(
        "a mining class without a GPU",
        ROBOT,
        Rule::Always,
        create(mining(labelled(pod("work", "busybox"), &[("activity", "pow-mining")]))),
        "whose pods only Daylight may start",
    );
    add(
        "a pod in a namespace of a mining class",
        OPERATOR,
        Rule::Always,
        Change::create(&pods("labelled-mining"), mining(gpu_pod("work", None))),
        "whose pods only Daylight may start",
    );
    add("the miners' priority", TENANT, Rule::Always, create(miner("work")), "create a Miner");
    add(
        "the miners' priority, as a Job's controller would",
        "system:serviceaccount:kube-system:job-controller",
        Rule::Always,
        create(miner("work")),
        "create a Miner",
    );
    let mut priority = gpu_pod("work", Some("ai-training"));
    priority["spec"]["priorityClassName"] = json!("daylight-miner");
    add(
        "the miners' priority for AI",
        TENANT,
        Rule::Always,
        create(priority),
        "has the priority class daylight-miner or the labels of a lease",
    );
    let mut priority = pod("work", "busybox");
    priority["spec"]["priorityClassName"] = json!("daylight-miner");
    add(
        "the miners' priority without a class",
        TENANT,
        Rule::Always,
        create(priority),
        "has the priority class daylight-miner",
    );
    for (what, label) in [
        ("the label of a miner", "miner"),
        ("the label of a slot", "slot"),
        ("the label of an epoch", "epoch"),
    ] {
        add(
            what,
            TENANT,
            Rule::Always,
            create(labelled(gpu_pod("work", Some("ai-training")), &[(label, "1")])),
            "or the labels of a lease",
        );
    }
    let visible =
        with(miner("work"), json!({"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]}));
    add(
        "a miner that sees all devices",
        CONTROLLER,
        Rule::Always,
        create(visible),
        "sets NVIDIA_VISIBLE_DEVICES",
    );
    let privileged = with(miner("work"), json!({"securityContext": {"privileged": true}}));
    add("a privileged miner", CONTROLLER, Rule::Always, create(privileged), "its node");
    add(
        "a miner with a foreign image",
        CONTROLLER,
        Rule::Always,
        create(with(miner("work"), json!({"image": "busybox"}))),
        "runs the image busybox",
    );

    // Registrations.
    let validator = |registration: &str| {
        labelled(gpu_pod("work", Some("pos-validator")), &[("registration", registration)])
    };
    add(
        "a registration that does not exist",
        TENANT,
        Rule::Always,
        create(validator("nowhere")),
        "but its namespace has no approved Registration of that name",
    );
    add(
        "another tenant's registration",
        TENANT,
        Rule::Always,
        create(validator("theirs")),
        "but its namespace has no approved Registration of that name",
    );
    add(
        "another tenant's registration, with its namespace",
        TENANT,
        Rule::Always,
        create(validator("tenant-b.theirs")),
        "but its namespace has no approved Registration of that name",
    );
    add(
        "a registration for another class",
        TENANT,
        Rule::Always,
        create(validator("night")),
        "has class pos-validator, but its registration night is for class pow-mining",
    );
    add(
        "a registration that has expired",
        TENANT,
        Rule::Always,
        create(validator("over")),
        "which is valid only from 2020-01-01T00:00:00Z until 2021-01-01T00:00:00Z:",
    );
    let labels = [("activity", "pos-validator"), ("registration", "over")];
    add(
        "a registration that has expired, without GPUs",
        TENANT,
        Rule::Always,
        create(labelled(pod("work", "beacon"), &labels)),
        "which is valid only from 2020-01-01T00:00:00Z until 2021-01-01T00:00:00Z:",
    );
    add(
        "a registration that is not valid yet",
        TENANT,
        Rule::Always,
        create(validator("ahead")),
        "which is valid only from 2098-01-01T00:00:00Z",
    );
    add(
        "a registration whose entry is malformed",
        TENANT,
        Rule::Always,
        create(validator("spoiled")),
        "is malformed: check that the controller runs",
    );
    add(
        "a registration whose entry has no date",
        TENANT,
        Rule::Always,
        create(validator("nodate")),
        "is malformed: check that the controller runs",
    );
    let unclassed = labelled(pod("work", "busybox"), &[("registration", "validator")]);
    add(
        "a registration without a class",
        TENANT,
        Rule::Always,
        create(unclassed),
        "has class (none), but its registration validator is for class pos-validator",
    );

    // Running pods.
    let on = |pod: &str| format!("{}/{pod}", pods("tenant-a"));
    let relabel = |labels: Value| json!({"metadata": {"labels": labels}});
    let immutable = "the labels daylight.dev/... of a pod are immutable";
    add(
        "another class for a running pod",
        TENANT,
        Rule::Always,
        Change::patch(&on("training"), relabel(json!({"daylight.dev/activity": "ai-inference"}))),
        immutable,
    );
    add(
        "no class for a running pod",
        TENANT,
        Rule::Always,
        Change::patch(&on("training"), relabel(json!({"daylight.dev/activity": null}))),
        immutable,
    );
    add(
        "a registration for a running pod",
        ROBOT,
        Rule::Always,
        Change::patch(&on("training"), relabel(json!({"daylight.dev/registration": "validator"}))),
        immutable,
    );
    add(
        "another miner for a lease",
        TENANT,
        Rule::Always,
        Change::patch(&on("mine"), relabel(json!({"daylight.dev/miner": "other"}))),
        immutable,
    );
    add(
        "another slot for a lease",
        CONTROLLER,
        Rule::Always,
        Change::patch(&on("mine"), relabel(json!({"daylight.dev/slot": "7"}))),
        immutable,
    );
    add(
        "another class, through the status",
        TENANT,
        Rule::Always,
        Change::patch(
            &format!("{}/status", on("training")),
            relabel(json!({"daylight.dev/activity": "ai-inference"})),
        ),
        immutable,
    );
    let swap = json!({"spec": {"containers": [{"name": "main", "image": "registry.example.com/xmrig:6", "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}}}]}});
    add(
        "another image for a miner",
        TENANT,
        Rule::Always,
        Change::strategic(&on("mine"), swap.clone()),
        "and may run only the images with which it was created, not registry.example.com/xmrig:6",
    );
    add(
        "another image for AI",
        TENANT,
        Rule::Mode,
        Change::strategic(&on("training"), swap),
        "and may run only the images with which it was created, not registry.example.com/xmrig:6",
    );
    add(
        "a foreign ephemeral container in a miner",
        TENANT,
        Rule::Always,
        Change::patch(
            &format!("{}/ephemeralcontainers", on("mine")),
            ephemeral("registry.example.com/xmrig:6", json!({})),
        ),
        "and may run only the images with which it was created",
    );
    add(
        "a foreign ephemeral container in AI",
        TENANT,
        Rule::Mode,
        Change::patch(
            &format!("{}/ephemeralcontainers", on("training")),
            ephemeral("registry.example.com/xmrig:6", json!({})),
        ),
        "and may run only the images with which it was created",
    );
    let inherits = format!("{}/inherits", pods("labelled"));
    add(
        "another image for a pod with the class of its namespace",
        TENANT,
        Rule::Mode,
        Change::strategic(
            &inherits,
            json!({"spec": {"containers": [{"name": "main", "image": "evil/xmrig:1"}]}}),
        ),
        "and may run only the images with which it was created, not evil/xmrig:1",
    );
    add(
        "a foreign ephemeral container in a pod with the class of its namespace",
        TENANT,
        Rule::Mode,
        Change::patch(
            &format!("{inherits}/ephemeralcontainers"),
            ephemeral("evil/xmrig:1", json!({})),
        ),
        "and may run only the images with which it was created, not evil/xmrig:1",
    );
    add(
        "a privileged ephemeral container",
        TENANT,
        Rule::Mode,
        Change::patch(
            &format!("{}/ephemeralcontainers", on("training")),
            ephemeral(
                "registry.example.com/train:1",
                json!({"securityContext": {"privileged": true}}),
            ),
        ),
        "container look is privileged or has a capability",
    );
    add(
        "an ephemeral container that sees all devices",
        TENANT,
        Rule::Mode,
        Change::patch(
            &format!("{}/ephemeralcontainers", on("training")),
            ephemeral(
                "registry.example.com/train:1",
                json!({"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]}),
            ),
        ),
        "sets NVIDIA_VISIBLE_DEVICES",
    );

    // The finalizer, and the auditor.
    let no_finalizers = json!({"metadata": {"finalizers": null}});
    add(
        "the finalizer off a running miner",
        TENANT,
        Rule::Always,
        Change::patch(&on("mine"), no_finalizers.clone()),
        "only Daylight removes the finalizer daylight.dev/metered",
    );
    add(
        "the finalizer off a miner that has ended",
        ROBOT,
        Rule::Always,
        Change::patch(&on("done"), no_finalizers.clone()),
        "only Daylight removes the finalizer daylight.dev/metered",
    );
    add(
        "the finalizer, through the status",
        TENANT,
        Rule::Always,
        Change::patch(&format!("{}/status", on("done")), no_finalizers.clone()),
        "only Daylight removes the finalizer daylight.dev/metered",
    );
    let auditor = "may only remove the finalizer daylight.dev/metered, after the pod has ended";
    add(
        "the finalizer, by the auditor, too early",
        AUDITOR,
        Rule::Always,
        Change::patch(&on("mine"), no_finalizers.clone()),
        auditor,
    );
    add(
        "an annotation, by the auditor",
        AUDITOR,
        Rule::Always,
        Change::patch(&on("done"), json!({"metadata": {"annotations": {"x": "y"}}})),
        auditor,
    );
    add(
        "a label, by the auditor",
        AUDITOR,
        Rule::Always,
        Change::patch(&on("done"), relabel(json!({"x": "y"}))),
        auditor,
    );
    add(
        "another finalizer, by the auditor",
        AUDITOR,
        Rule::Always,
        Change::patch(&on("done"), json!({"metadata": {"finalizers": ["example.com/mine"]}})),
        auditor,
    );
    add(
        "the status of a pod, by the auditor",
        AUDITOR,
        Rule::Always,
        Change::patch(&format!("{}/status", on("done")), json!({"status": {"message": "x"}})),
        auditor,
    );

    // Access to devices without a request for GPUs.
    let reach = |container: Value| create(with(pod("reach", "busybox"), container));
    add(
        "privileged",
        TENANT,
        Rule::Mode,
        reach(json!({"securityContext": {"privileged": true}})),
        "is privileged or has a capability that gives access to every GPU of its node",
    );
    let mut init = pod("reach", "busybox");
    init["spec"]["initContainers"] =
        json!([{"name": "first", "image": "busybox", "securityContext": {"privileged": true}}]);
    add(
        "a privileged init container",
        TENANT,
        Rule::Mode,
        create(init),
        "container first is privileged or has a capability",
    );
    for (what, capability) in [
        ("all capabilities", "ALL"),
        ("the capability SYS_ADMIN", "SYS_ADMIN"),
        ("the capability BPF", "CAP_BPF"),
        ("all capabilities, in lower case", "all"),
        ("a capability in lower case", "sys_admin"),
        ("a capability in both cases", "Cap_Sys_Admin"),
        ("the capability to open any file of the host", "DAC_READ_SEARCH"),
        ("the capability to load a kernel", "SYS_BOOT"),
        ("the capability to trace the kernel", "PERFMON"),
    ] {
        add(
            what,
            TENANT,
            Rule::Mode,
            reach(json!({"securityContext": {"capabilities": {"add": [capability]}}})),
            "is privileged or has a capability that gives access to every GPU of its node",
        );
    }
    for (what, path) in [
        ("the host's root", "/"),
        ("the host's devices", "/dev"),
        ("a device", "/dev/nvidia0"),
        ("the devices by number", "/dev/char/"),
        ("a device, spelled oddly", "//dev/./dri"),
        ("the device plugins' sockets", "/var/lib/kubelet/device-plugins/kubelet.sock"),
        ("a directory that contains the kubelet's", "/var/lib"),
        ("the container runtime's socket", "/run/containerd/containerd.sock"),
        ("the container runtime's socket, by the link", "/var/run/docker.sock"),
        ("static pods", "/etc/kubernetes/manifests"),
        ("the tokens and volumes of all pods", "/var/lib/kubelet/pods"),
        ("the kubelet's keys", "/var/lib/kubelet/pki"),
        ("k3s' runtime", "/run/k3s/containerd"),
        ("the home of root", "/root/.ssh"),
        ("the host's processes", "/proc/1/root/dev"),
    ] {
        add(
            what,
            TENANT,
            Rule::Mode,
            create(host_path(path)),
            ", which gives access to GPUs that the pod does not request: remove the volume",
        );
    }
    let variable =
        |name: &str, value: &str| reach(json!({"env": [{"name": name, "value": value}]}));
    add(
        "all devices by a variable",
        TENANT,
        Rule::Mode,
        variable("NVIDIA_VISIBLE_DEVICES", "all"),
        "sets NVIDIA_VISIBLE_DEVICES, which gives access to GPUs",
    );
    add(
        "one device by a variable",
        ROBOT,
        Rule::Mode,
        variable("NVIDIA_VISIBLE_DEVICES", "GPU-4711"),
        "sets NVIDIA_VISIBLE_DEVICES",
    );
    add(
        "AMD devices by a variable",
        TENANT,
        Rule::Mode,
        variable("AMD_VISIBLE_DEVICES", "0"),
        "sets AMD_VISIBLE_DEVICES",
    );
    add(
        "all devices by the version of CUDA",
        TENANT,
        Rule::Mode,
        variable("CUDA_VERSION", "12.0"),
        "sets CUDA_VERSION, which gives access to GPUs",
    );
    for prefix in ["NVIDIA_", "N", "AMD_VISIBLE"] {
        add(
            "devices by variables with a prefix",
            TENANT,
            Rule::Mode,
            reach(json!({"envFrom": [{"prefix": prefix, "configMapRef": {"name": "x"}}]})),
            "takes variables from a ConfigMap or Secret with the prefix",
        );
    }
    for (what, kind, plural) in [
        ("devices by the keys of a ConfigMap", "ConfigMap", "configmaps"),
        ("devices by the keys of a Secret", "Secret", "secrets"),
    ] {
        let source = json!({
            "apiVersion": "v1", "kind": kind, "metadata": {"name": "x"},
            "data": {"NVIDIA_VISIBLE_DEVICES": "YWxs"},
        });
        add(
            what,
            TENANT,
            Rule::Mode,
            Change::create(&format!("/api/v1/namespaces/tenant-a/{plural}"), source),
            "has the key NVIDIA_VISIBLE_DEVICES, which as a variable of a container gives access",
        );
    }
    for (what, path) in [
        ("the host's programs, for writing", "/usr/local/bin"),
        ("the host's optional programs, for writing", "/opt"),
        ("the host's libraries, for writing", "/lib64"),
        ("the host's timetable, for writing", "/etc/cron.d"),
        ("the host's services, for writing", "/etc/systemd/system"),
        ("the host's containers, for writing", "/var/lib/containerd"),
        ("the host's kernel, for writing", "/sys"),
        ("a home, for writing", "/home/admin/.ssh"),
    ] {
        let mut writes = host_path(path);
        writes["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "host", "mountPath": "/host"}]);
        add(
            what,
            TENANT,
            Rule::Mode,
            create(writes),
            "for writing, a host path that gives control of the node and its GPUs: mount it with readOnly",
        );
    }
    for field in ["hostPID", "hostIPC", "hostNetwork"] {
        let mut shares = pod("reach", "busybox");
        shares["spec"][field] = json!(true);
        add(
            "a namespace of the host",
            TENANT,
            Rule::Mode,
            create(shares),
            "which gives access to what other pods of its node do: remove it",
        );
    }
    add(
        "devices by a variable from elsewhere",
        TENANT,
        Rule::Mode,
        reach(
            json!({"env": [{"name": "NVIDIA_VISIBLE_DEVICES", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "y"}}}]}),
        ),
        "sets NVIDIA_VISIBLE_DEVICES",
    );
    let mut mounts = with(
        pod("reach", "busybox"),
        json!({"volumeMounts": [{"name": "x", "mountPath": "/var/run/nvidia-container-devices/all"}]}),
    );
    mounts["spec"]["volumes"] = json!([{"name": "x", "emptyDir": {}}]);
    add(
        "devices by a mount",
        TENANT,
        Rule::Mode,
        create(mounts),
        "requests devices from the container runtime by a mount",
    );
    for (what, key) in [
        ("devices by an annotation", "cdi.k8s.io/x"),
        ("devices by an annotation of NVIDIA's", "nvidia.cdi.k8s.io/x"),
        ("devices by an annotation of CRI-O's", "io.kubernetes.cri-o.Devices"),
        ("devices by a newer annotation of CRI-O's", "devices.crio.io"),
        ("devices by an annotation of a plugin's", "devices.nri.io/container.main"),
        ("mounts by an annotation of a plugin's", "mounts.nri.io/pod"),
    ] {
        let annotations = json!({(key): "nvidia.com/gpu=all"});
        let mut annotated = pod("reach", "busybox");
        annotated["metadata"]["annotations"] = annotations.clone();
        let message = "requests devices from the container runtime by the annotation";
        add(what, TENANT, Rule::Mode, create(annotated), message);
        let later =
            Change::patch(&on("training"), json!({"metadata": {"annotations": annotations}}));
        add(what, TENANT, Rule::Mode, later, message);
    }
    let annotations = json!({"metadata": {"annotations": {"cdi.k8s.io/x": "nvidia.com/gpu=all"}}});
    add(
        "devices by an annotation, through the status",
        TENANT,
        Rule::Mode,
        Change::patch(&format!("{}/status", on("training")), annotations.clone()),
        "by the annotation cdi.k8s.io/x",
    );
    add(
        "devices for a miner by an annotation",
        TENANT,
        Rule::Always,
        Change::patch(&on("mine"), annotations),
        "by the annotation cdi.k8s.io/x",
    );

    // What a scheduler may set when it binds a pod.
    let bind = |metadata: Value| {
        let mut binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "target": {"apiVersion": "v1", "kind": "Node", "name": "none"},
        });
        binding["metadata"] = metadata;
        binding["metadata"]["name"] = json!("training");
        binding
    };
    for (what, path) in [
        ("another class by a binding", format!("{}/binding", on("training"))),
        ("another class by a binding of old", "/api/v1/namespaces/tenant-a/bindings".to_owned()),
    ] {
        add(
            what,
            TENANT,
            Rule::Always,
            Change::create(
                &path,
                bind(
                    relabel(json!({"daylight.dev/activity": "pos-validator"}))["metadata"].clone(),
                ),
            ),
            "a binding may not set daylight.dev/activity",
        );
    }
    add(
        "devices by a binding",
        TENANT,
        Rule::Mode,
        Change::create(
            &format!("{}/binding", on("training")),
            bind(json!({"annotations": {"cdi.k8s.io/x": "nvidia.com/gpu=all"}})),
        ),
        "by the annotation cdi.k8s.io/x",
    );

    // Claims.
    let exactly = json!({"name": "gpu", "exactly": {"deviceClassName": "gpu.nvidia.com"}});
    let first = json!({"name": "gpu", "firstAvailable": [{"name": "a", "deviceClassName": "mig.nvidia.com"}]});
    let admin = json!({"name": "gpu", "exactly": {"deviceClassName": "gpu.nvidia.com", "adminAccess": true}});
    let unlisted = "requests GPUs by device class but has no activity class";
    let a_claims = claims("tenant-a", "resourceclaims");
    let a_templates = claims("tenant-a", "resourceclaimtemplates");
    add(
        "a claim without a class",
        TENANT,
        Rule::Mode,
        Change::create(&a_claims, claim(exactly.clone(), None)),
        unlisted,
    );
    add(
        "a claim by its alternatives",
        TENANT,
        Rule::Mode,
        Change::create(&a_claims, claim(first.clone(), None)),
        unlisted,
    );
    add(
        "a template without a class",
        TENANT,
        Rule::Mode,
        Change::create(&a_templates, template(exactly.clone())),
        unlisted,
    );
    add(
        "a template by its alternatives",
        ROBOT,
        Rule::Mode,
        Change::create(&a_templates, template(first)),
        "set the label daylight.dev/activity in spec.metadata.labels",
    );
    let mut admin_claim = claim(admin.clone(), Some("ai-training"));
    admin_claim["metadata"]["name"] = json!("admin");
    add(
        "admin access",
        OPERATOR,
        Rule::Mode,
        Change::create(&claims("admins", "resourceclaims"), admin_claim),
        "requests GPUs with adminAccess",
    );
    let mut admin_template = template(admin);
    admin_template["spec"]["metadata"] =
        json!({"labels": {"daylight.dev/activity": "ai-training"}});
    add(
        "admin access by a template",
        OPERATOR,
        Rule::Mode,
        Change::create(&claims("admins", "resourceclaimtemplates"), admin_template),
        "requests GPUs with adminAccess",
    );
    let mut claiming = pod("work", "busybox");
    claiming["spec"]["resourceClaims"] = json!([{"name": "gpu", "resourceClaimName": "claim"}]);
    add(
        "a pod with a claim and without a class",
        TENANT,
        Rule::Mode,
        create(claiming),
        "uses resource claims, which may allocate GPUs, but has no activity class",
    );

    // Approvals.
    let status = |name: &str| format!("{}/{name}/status", registrations());
    add(
        "an approval without the right",
        TENANT,
        Rule::Always,
        Change::patch(&status("own"), approval(TENANT, "Approved")),
        "may not write status.approval: ask a user who has the verb approve",
    );
    add(
        "an approval in another's name",
        TENANT,
        Rule::Always,
        Change::patch(&status("night"), approval(OFFICER, "Approved")),
        "may not write status.approval",
    );
    add(
        "an approval in another's name, by a user who may approve",
        OFFICER,
        Rule::Always,
        Change::patch(&status("night"), approval("boss@example.com", "Approved")),
        "status.approval.by is boss@example.com, but you are officer@example.com",
    );
    add(
        "an approval of one's own submission",
        OFFICER,
        Rule::Always,
        Change::patch(&status("own"), approval(OFFICER, "Approved")),
        "have another user approve",
    );
    add(
        "an approval by the controller",
        CONTROLLER,
        Rule::Always,
        Change::patch(&status("night"), approval(CONTROLLER, "Approved")),
        "may not write status.approval",
    );
    add(
        "a submission in another's name",
        TENANT,
        Rule::Always,
        Change::create(&registrations(), registration("forged", "bob@tenant-b.example")),
        "spec.submittedBy is bob@tenant-b.example, but you are alice@tenant-a.example",
    );
    let usage = json!({"status": {"usage": {"meteredUntil": "2026-01-01T00:00:00Z", "periodStart": "2026-01-01T00:00:00Z", "millijoules": "0"}}});
    add(
        "the usage, by the tenant",
        TENANT,
        Rule::Always,
        Change::patch(&status("night"), usage.clone()),
        "only the auditor writes status.usage",
    );
    add(
        "the usage, by the controller",
        CONTROLLER,
        Rule::Always,
        Change::patch(&status("night"), usage),
        "only the auditor writes status.usage",
    );
    let state = json!({"status": {"state": "Active"}});
    add(
        "the state, by the tenant",
        TENANT,
        Rule::Always,
        Change::patch(&status("night"), state.clone()),
        "only the controller writes this part of the status",
    );
    add(
        "the state, by the auditor",
        AUDITOR,
        Rule::Always,
        Change::patch(&status("night"), state),
        "only the controller writes this part of the status",
    );

    // Four eyes.
    let one = |name: &str| format!("{}/{name}", registrations());
    add(
        "an edit in the submitter's name, by the officer",
        OFFICER,
        Rule::Always,
        Change::patch(&one("night"), json!({"spec": {"limits": {"gpus": 4000}}})),
        "spec.submittedBy is alice@tenant-a.example, but you are officer@example.com",
    );
    add(
        "an edit of what another user's edit awaits a decision on",
        OFFICER,
        Rule::Always,
        Change::patch(
            &one("night"),
            json!({"spec": {"submittedBy": OFFICER, "limits": {"gpus": 4000}}}),
        ),
        "has an edit of alice@tenant-a.example that is not decided",
    );
    let mut older = approval(OFFICER, "Approved");
    older["status"]["approval"]["generation"] = json!(7);
    add(
        "an approval of what is no longer there",
        OFFICER,
        Rule::Always,
        Change::patch(&status("night"), older),
        "was edited: it has generation 1, and the decision is about 7",
    );

    add(
        "the end of a revocation, with the whole status",
        OFFICER,
        Rule::Always,
        Change::patch(&status("revoked"), json!({"status": null})),
        "Revoked is final: create another Registration",
    );

    // The statuses by which the controller goes, and the evidence for the auditor.
    let api = |plural: &str| format!("/apis/daylight.dev/v1alpha1/namespaces/tenant-a/{plural}");
    let reserved =
        json!({"status": {"state": "Reserved", "placement": [{"node": "n", "workers": 1}]}});
    for (what, plural, status) in [
        ("GPUs kept free by a status", "aijobs", reserved.clone()),
        ("the state of a miner", "miners", json!({"status": {"reason": "Running"}})),
    ] {
        let path = format!("{}/known/status", api(plural));
        let message = "is written by Daylight alone, and you are";
        add(what, TENANT, Rule::Always, Change::patch(&path, status), message);
    }
    add(
        "the state of an AIJob, by the auditor",
        AUDITOR,
        Rule::Always,
        Change::patch(&format!("{}/known/status", api("aijobs")), reserved),
        "is written by Daylight alone",
    );
    let record = crate::cluster::lease_record("lease-forged");
    for (what, who) in [("a forged lease", TENANT), ("a lease, by the auditor", AUDITOR)] {
        add(
            what,
            who,
            Rule::Always,
            Change::create(&api("leaserecords"), record.clone()),
            "LeaseRecords are created by the controller alone",
        );
    }
    for (what, who) in
        [("a lease off the record", TENANT), ("the same, by the controller", CONTROLLER)]
    {
        add(
            what,
            who,
            Rule::Always,
            Change::delete(&format!("{}/lease-known", api("leaserecords"))),
            "is deleted by the auditor once it is in the journal",
        );
    }

    // The figures are the auditor's, and a filing is another person's.
    let declared = |name: &str| format!("{}/{name}/status", api("declarations"));
    add(
        "a declaration of one's own",
        TENANT,
        Rule::Always,
        Change::create(&api("declarations"), crate::cluster::declaration("mine", TENANT)),
        "is written by the auditor alone",
    );
    for (what, who) in [("better figures", TENANT), ("the same, by the controller", CONTROLLER)] {
        add(
            what,
            who,
            Rule::Always,
            Change::patch(&declared("ready"), json!({"status": {"gpuTime": "0.00 GPU-hours"}})),
            "its figures are written by the auditor alone",
        );
    }
    add(
        "another period",
        TENANT,
        Rule::Always,
        Change::patch(
            &format!("{}/ready", api("declarations")),
            json!({"spec": {"period": "2026-09"}}),
        ),
        "spec is immutable",
    );
    let filing = crate::cluster::filing;
    let mut other_figures = filing(OFFICER);
    other_figures["status"]["filing"]["rootHash"] = json!("n0FV");
    let mut again = filing(OFFICER);
    again["status"]["filing"]["reference"] = json!("N-4712");
    for (what, who, name, filing, message) in [
        (
            "a filing without the right",
            ROBOT,
            "ready",
            filing(ROBOT),
            "may not write status.filing",
        ),
        ("a filing in another name", OFFICER, "ready", filing(ROBOT), "file in your own name"),
        ("a filing of a draft", OFFICER, "draft", filing(OFFICER), "file it once it is Ready"),
        (
            "a filing of one's own registration",
            OFFICER,
            "own",
            filing(OFFICER),
            "filing.by must differ from spec.submittedBy",
        ),
        ("a filing of other figures", OFFICER, "ready", other_figures, "filing.rootHash must be"),
        ("another filing", OFFICER, "filed", again, "filing is final"),
        (
            "no filing any more",
            OFFICER,
            "filed",
            json!({"status": null}),
            "written by the auditor alone",
        ),
        (
            "other figures than those filed",
            AUDITOR,
            "filed",
            json!({"status": {"ledger": {"size": 8}}}),
            "totals and ledger are final once they are filed",
        ),
    ] {
        add(what, who, Rule::Always, Change::patch(&declared(name), filing), message);
    }

    // The controller's account does nothing but the controller's work.
    let mut auditor_pod = pod("auditor", "evil/x");
    auditor_pod["spec"]["serviceAccountName"] = json!("daylight-auditor");
    let mut rooted = host_path("/");
    rooted["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    for (what, namespace, pod) in [
        ("the auditor's account", SYSTEM, auditor_pod),
        ("the host, from Daylight's namespace", SYSTEM, rooted.clone()),
        ("the host, from the system's namespace", "kube-system", rooted),
        ("a miner in an exempt namespace", "gpu-operator", miner("work")),
    ] {
        add(
            what,
            CONTROLLER,
            Rule::Always,
            Change::create(&pods(namespace), pod),
            "the controller starts no pods",
        );
    }
    let plain = with(miner("work"), json!({}));
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut pod = plain.clone();
        change(&mut pod);
        create(pod)
    };
    for (what, change, message) in [
        (
            "a pod that is no miner's",
            changed(&|pod| {
                pod["metadata"]["labels"].as_object_mut().unwrap().remove("daylight.dev/slot");
            }),
            "the controller starts no pods but those of miners",
        ),
        (
            "a miner with a token",
            changed(&|pod| pod["spec"]["automountServiceAccountToken"] = Value::Null),
            "a miner has no service account token",
        ),
        (
            "a miner with a token as a volume",
            changed(&|pod| {
                pod["spec"]["volumes"] = json!([{"name": "t", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "token"}},
                ]}}]);
            }),
            "a miner has no service account token",
        ),
        (
            "a miner with the account of another",
            changed(&|pod| pod["spec"]["serviceAccountName"] = json!("robot")),
            "a miner has no service account token",
        ),
        (
            "a miner with a path of the host",
            changed(&|pod| {
                pod["spec"]["volumes"] = json!([{"name": "h", "hostPath": {"path": "/data"}}]);
            }),
            "a miner has no access to its node",
        ),
        (
            "a miner with a capability",
            changed(&|pod| {
                pod["spec"]["containers"][0]["securityContext"] =
                    json!({"capabilities": {"add": ["NET_ADMIN"]}});
            }),
            "a miner has no access to its node",
        ),
        (
            "the image of a pod, by the controller",
            Change::strategic(
                &on("training"),
                json!({"spec": {"containers": [{"name": "main", "image": "registry.example.com/train:1"}], "activeDeadlineSeconds": 60}}),
            ),
            "controller and auditor may only remove the finalizer",
        ),
        (
            "an annotation, by the controller",
            Change::patch(&on("done"), json!({"metadata": {"annotations": {"x": "y"}}})),
            "controller and auditor may only remove the finalizer",
        ),
    ] {
        add(what, CONTROLLER, Rule::Always, change, message);
    }
    let jobs = |namespace: &str| format!("/apis/batch/v1/namespaces/{namespace}/jobs");
    let train = |spec: Value| {
        let mut task = gpu_pod("x", Some("ai-training"));
        task["spec"]["restartPolicy"] = json!("Never");
        merge(&mut task["spec"], spec);
        let mut metadata = task["metadata"].clone();
        metadata.as_object_mut().unwrap().remove("name");
        crate::cluster::gang("gang", &json!({"metadata": metadata, "spec": task["spec"]}))
    };
    let mut free = train(json!({}));
    free["spec"]["suspend"] = json!(false);
    let mut orphan = train(json!({}));
    orphan["metadata"]["ownerReferences"] = Value::Null;
    for (what, change, message) in [
        (
            "a Job in Daylight's namespace",
            Change::create(&jobs(SYSTEM), train(json!({"serviceAccountName": "daylight-auditor"}))),
            "the controller starts no Jobs in its own namespace and in exempt ones",
        ),
        (
            "a Job that no AIJob owns",
            Change::create(&jobs("tenant-a"), orphan),
            "changes no Jobs but those of AIJobs",
        ),
        (
            "a Job that starts at once",
            Change::create(&jobs("tenant-a"), free),
            "changes no Jobs but those of AIJobs",
        ),
        (
            "another user's Job",
            Change::patch(
                &format!("{}/theirs", jobs("tenant-a")),
                json!({"spec": {"suspend": false}}),
            ),
            "changes no Jobs but those of AIJobs",
        ),
        (
            "a Job with the host's processes",
            Change::create(&jobs("tenant-a"), train(json!({"hostPID": true}))),
            "an AIJob cannot get access to its node",
        ),
        (
            "a Job with all pods' volumes",
            Change::create(
                &jobs("tenant-a"),
                train(
                    json!({"volumes": [{"name": "h", "hostPath": {"path": "/var/lib/kubelet/pods"}}]}),
                ),
            ),
            "an AIJob cannot get access to its node",
        ),
    ] {
        add(what, CONTROLLER, Rule::Always, change, message);
    }
    let service = json!({"metadata": {"name": "taken"}, "spec": {"ports": [{"port": 80}]}});
    add(
        "a Service of another kind, by the controller",
        CONTROLLER,
        Rule::Always,
        Change::create("/api/v1/namespaces/tenant-a/services", service),
        "the controller creates no Services but the headless ones of AIJobs",
    );
    let priority = json!({"metadata": {"name": "above-all"}, "value": 1_000_000});
    add(
        "a priority, by the controller",
        CONTROLLER,
        Rule::Always,
        Change::create("/apis/scheduling.k8s.io/v1/priorityclasses", priority),
        "the controller creates daylight-miner alone",
    );

    // The lists.
    let list = crate::cluster::admission_lists();
    let keeps = "is read by admission policies, and only the controller may write it";
    let entries = |entries: Value| json!({"spec": {"entries": entries}});
    let forged = "pow-mining 2020-01-01T00:00:00Z 2099-01-01T00:00:00Z";
    add(
        "an entry in the list of registrations",
        OPERATOR,
        Rule::Always,
        Change::patch(
            &format!("{list}/registrations"),
            entries(json!({"tenant-a.forged": forged})),
        ),
        keeps,
    );
    add(
        "the deletion of the list of registrations",
        OPERATOR,
        Rule::Always,
        Change::delete(&format!("{list}/registrations")),
        keeps,
    );
    add(
        "an entry in the list of classes",
        OPERATOR,
        Rule::Always,
        Change::patch(&format!("{list}/classes"), entries(json!({"x": "Guaranteed NotRequired"}))),
        keeps,
    );
    let mut more = entries(json!({}));
    more["apiVersion"] = json!("daylight.dev/v1alpha1");
    more["kind"] = json!("AdmissionList");
    more["metadata"] = json!({"name": "more"});
    add("a list of one's own", OPERATOR, Rule::Always, Change::create(&list, more), keeps);

    // The last checkpoint of the ledger.
    let maps = format!("/api/v1/namespaces/{}/configmaps", crate::cluster::SYSTEM);
    let map = |name: &str| json!({"metadata": {"name": name}, "data": {"checkpoint": "x\n1\n"}});
    for who in [OPERATOR, CONTROLLER] {
        add(
            "a checkpoint of one's own",
            who,
            Rule::Always,
            Change::create(&maps, map("daylight-ledger")),
            "keeps the last checkpoint of the ledger, only the auditor may write it",
        );
    }
    add(
        "another ConfigMap, by the auditor",
        AUDITOR,
        Rule::Always,
        Change::create(&maps, map("daylight-authority-keys")),
        "The auditor writes no ConfigMap but daylight-ledger",
    );

    // Namespaces.
    let namespace = |name: &str| format!("/api/v1/namespaces/{name}");
    let label = |class: Value| json!({"metadata": {"labels": {"daylight.dev/activity": class}}});
    let guarded = "may not change the label daylight.dev/activity from";
    add(
        "a class for a namespace",
        OPERATOR,
        Rule::Mode,
        Change::patch(&namespace("tenant-a"), label(json!("ai-training"))),
        guarded,
    );
    add(
        "another class for a namespace",
        OPERATOR,
        Rule::Mode,
        Change::patch(&namespace("labelled"), label(json!("ai-inference"))),
        guarded,
    );
    add(
        "no class for a namespace",
        OPERATOR,
        Rule::Mode,
        Change::patch(&namespace("labelled"), label(Value::Null)),
        guarded,
    );
    let mut fresh = label(json!("ai-training"));
    fresh["metadata"]["name"] = json!("fresh");
    add(
        "a new namespace with a class",
        OPERATOR,
        Rule::Mode,
        Change::create("/api/v1/namespaces", fresh),
        guarded,
    );
    add(
        "a class for a namespace, through the status",
        OPERATOR,
        Rule::Mode,
        Change::patch(&format!("{}/status", namespace("tenant-a")), label(json!("ai-training"))),
        guarded,
    );
    add(
        "a class that one may not give",
        "platform@example.com",
        Rule::Mode,
        Change::patch(&namespace("labelled"), label(json!("pow-mining"))),
        guarded,
    );
    all
}
