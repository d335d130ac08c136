//! The charts: installed, upgraded, uninstalled and installed again, by the real helm.

use std::time::{Duration, Instant};

use daylight_testbed::Nodes;
use daylight_testbed::trials::{apply, trial};
use serde_json::{Value, json};

use crate::cluster::{
    AUDITOR, CONTROLLER, Cluster, IMAGE, SYSTEM, TENANT, chart, classes, gpu_pod, miner,
    registrations,
};
use crate::process::{Process, command, path};
use crate::request::{Change, try_out};

/// Kubernetes removes things in the background; nothing may hang.
const SOON: Duration = Duration::from_mins(1);
const PODS: &str = "/api/v1/namespaces/tenant-a/pods";

/// The names of all that the charts have installed in addition to the definitions.
async fn installed(cluster: &Cluster) -> Vec<String> {
    let everywhere = "clusterroles,clusterrolebindings,validatingadmissionpolicies,\
                      validatingadmissionpolicybindings,priorityclasses";
    let namespaced = "deployments,statefulsets,poddisruptionbudgets,services,serviceaccounts,roles,\
                      rolebindings";
    let mut names = String::new();
    for kinds in [everywhere, namespaced] {
        let get = ["get", kinds, "-n", SYSTEM, "-o", "name"];
        names += &cluster.control_plane.kubectl_ok(get).await.unwrap();
    }
    // What people made for Daylight's accounts in this test is theirs.
    let ours = |name: &&str| name.contains("/daylight") && !name.ends_with("/daylight-accounts");
    names.lines().filter(ours).map(str::to_owned).collect()
}

/// Installs both charts again, and waits until policies hold.
async fn install(cluster: &Cluster) -> String {
    // helm takes over the definitions that it left.
    cluster.helm(&["install", "daylight-crds", &chart("daylight-crds")]).await;
    let daylight = chart("daylight");
    let mut install = vec!["install", "daylight", &*daylight, "--set", IMAGE];
    install.extend(["--set", "controller.replicas=0", "--set", "admission.mode=Enforce"]);
    let notes = cluster.helm(&install).await;
    cluster.set_mode("Enforce").await;
    notes
}

/// Uninstalls both charts, as where no Job can run.
async fn uninstall(cluster: &Cluster) {
    let begun = Instant::now();
    cluster.helm(&["uninstall", "daylight", "--no-hooks", "--wait", "--timeout", "60s"]).await;
    cluster.helm(&["uninstall", "daylight-crds", "--wait", "--timeout", "60s"]).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

/// Waits for what kubectl says of something to be so, and gives it.
async fn until(cluster: &Cluster, get: &[&str], is_so: impl Fn(&str) -> bool) -> String {
    let begun = Instant::now();
    loop {
        let output = cluster.control_plane.kubectl(get).await.unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if is_so(&said) {
            return said;
        }
        assert!(begun.elapsed() < SOON, "{get:?}: {said}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Starts a miner's pod, for the node `left-0000`, whose end is to be taken on record.
async fn start_metered(cluster: &Cluster, name: &str, annotations: Value) {
    let mut pod = miner(name);
    pod["metadata"]["finalizers"] = json!(["daylight.dev/metered"]);
    pod["metadata"]["annotations"] = annotations;
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": "left-0000"});
    cluster.make(CONTROLLER, &Change::create(PODS, pod)).await;
}

/// Waits until a pod is in this phase.
async fn until_phase(cluster: &Cluster, name: &str, phase: &str) {
    let get = ["get", "pod", name, "-n", "tenant-a", "-o", "jsonpath={.status.phase}"];
    until(cluster, &get, |found| found == phase).await;
}

#[apply(trial!)]
async fn the_charts_install_upgrade_uninstall_and_install_again(cluster: &Cluster) {
    let control_plane = &cluster.control_plane;
    let daylight = chart("daylight");
    let before = installed(cluster).await;
    assert!(before.len() > 30, "{before:?}");
    let auditors = |names: &[String]| {
        let ours = names.iter().filter(|name| name.ends_with("/daylight-auditor"));
        let mut kinds: Vec<_> = ours.filter_map(|name| name.split(['.', '/']).next()).collect();
        kinds.sort_unstable();
        kinds.join(" ")
    };
    assert_eq!(
        auditors(&before),
        "clusterrole clusterrolebinding role rolebinding service serviceaccount statefulset"
    );
    let claim = ["get", "pvc", "journal-daylight-auditor-0", "-n", SYSTEM, "-o"];
    let claim = [&claim[..], &["jsonpath={.metadata.uid}"]].concat();
    let journal = until(cluster, &claim, |uid| uid.len() == 36).await;

    // An upgrade that changes nothing keeps everything, and one that changes the mode changes only
    // what a policy does.
    cluster.helm(&["upgrade", "daylight", &daylight, "--reuse-values"]).await;
    assert_eq!(installed(cluster).await, before);
    cluster.set_mode("Warn").await;
    let actions = [
        "get",
        "validatingadmissionpolicybinding",
        "daylight-gpu-pods",
        "daylight-miner-pods",
        "-o",
        "jsonpath={.items[*].spec.validationActions}",
    ];
    let actions = control_plane.kubectl_ok(actions).await.unwrap();
    assert_eq!(actions, r#"["Warn","Audit"] ["Deny","Audit"]"#);

    // The auditor goes and comes; its journal stays. The controller gives out the finalizer as long
    // as there is one to take it off.
    let flags =
        ["get", "deployment", "daylight-controller", "-n", SYSTEM, "-o", "jsonpath={..args}"];
    for enabled in ["false", "true"] {
        let value = format!("auditor.enabled={enabled}");
        cluster.helm(&["upgrade", "daylight", &daylight, "--reuse-values", "--set", &value]).await;
        let now = installed(cluster).await;
        assert_eq!(auditors(&now).is_empty(), enabled == "false", "{now:?}");
        let flags = control_plane.kubectl_ok(flags).await.unwrap();
        assert!(flags.contains(r#""--gpu-resources","nvidia.com/gpu,"#), "{flags}");
        assert_eq!(flags.contains("--metered"), enabled == "true", "{flags}");
        assert_eq!(until(cluster, &claim, |uid| !uid.is_empty()).await, journal);
    }

    uninstall(cluster).await;
    let left = installed(cluster).await;
    assert!(left.is_empty(), "{left:?}");
    let kept = control_plane.kubectl_ok(["get", "crds", "-o", "name"]).await.unwrap();
    assert!(kept.contains("registrations.daylight.dev"), "{kept}");
    let kept = ["get", "registration", "night", "-n", "tenant-a", "-o", "name"];
    control_plane.kubectl_ok(kept).await.unwrap();

    // Objects and journal are as they were.
    let notes = install(cluster).await;
    the_lists_are_read_again(cluster).await;
    assert_eq!(installed(cluster).await, before);
    assert_eq!(until(cluster, &claim, |uid| !uid.is_empty()).await, journal);
    // There is none here, and the installation says so.
    assert!(notes.contains("has no default StorageClass"), "{notes}");
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {
            "name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
    });
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    cluster.make_as_admin(&Change::create(classes, class)).await;
    let notes = cluster.helm(&["upgrade", "daylight", &daylight, "--reuse-values"]).await;
    assert!(
        notes.contains("admission.mode is Enforce") && !notes.contains("StorageClass"),
        "{notes}"
    );
    // The remedy that it names.
    let delete = ["delete", "statefulset,pvc", "-n", SYSTEM, "-l"];
    let delete = [&delete[..], &["app.kubernetes.io/component=auditor"]].concat();
    control_plane.kubectl_ok(delete).await.unwrap();
    let named = ["upgrade", "daylight", &daylight, "--reuse-values", "--set"];
    cluster.helm(&[&named[..], &["auditor.storage.className=local"]].concat()).await;
    let claim = ["get", "pvc", "journal-daylight-auditor-0", "-n", SYSTEM, "-o"];
    let claim = [&claim[..], &["jsonpath={.spec.storageClassName}"]].concat();
    until(cluster, &claim, |class| class == "local").await;
    cluster.make_as_admin(&Change::delete(&format!("{classes}/local"))).await;

    the_account_of_the_auditor_audits(cluster).await;
}

/// The API server goes by what is approved and revoked after Daylight was installed again.
async fn the_lists_are_read_again(cluster: &Cluster) {
    let admitted = async |registration: &str| {
        let mut pod = gpu_pod("again", Some("pos-validator"));
        pod["metadata"]["labels"]["daylight.dev/registration"] = json!(registration);
        let client = cluster.client(TENANT).await;
        try_out(&client, &Change::create(PODS, pod)).await.is_admitted()
    };
    let until = async |registration: &str, wanted: bool| {
        let begun = Instant::now();
        while admitted(registration).await != wanted {
            assert!(begun.elapsed() < SOON, "{registration} is admitted: {}", !wanted);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    until("validator", true).await;
    let mut approved = registrations();
    approved["tenant-a.fresh"] = approved["tenant-a.validator"].take();
    approved.as_object_mut().unwrap().remove("tenant-a.validator");
    cluster.lists(&approved, &classes()).await;
    until("fresh", true).await;
    until("validator", false).await;
    cluster.lists(&registrations(), &classes()).await;
    until("validator", true).await;
}

/// An auditor with the token of the account that the chart makes takes the end of a lease on record.
async fn the_account_of_the_auditor_audits(cluster: &Cluster) {
    let control_plane = &cluster.control_plane;
    let token = ["create", "token", "daylight-auditor", "-n", SYSTEM];
    let token = format!("--token={}", control_plane.kubectl_ok(token).await.unwrap().trim());
    let file = control_plane.directory().join("auditor.kubeconfig");
    std::fs::copy(control_plane.kubeconfig(), &file).unwrap();
    let kubeconfig = ["--kubeconfig", path(&file)];
    for set in
        [["set-credentials", "auditor", &*token], ["set-context", "--current", "--user=auditor"]]
    {
        let set = [&kubeconfig[..], &["config"], &set[..]].concat();
        control_plane.kubectl_ok(set).await.unwrap();
    }
    let who = [&kubeconfig[..], &["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]];
    assert_eq!(control_plane.kubectl_ok(who.concat()).await.unwrap(), AUDITOR);

    // There is no such node yet, so no kubelet says how far the pod is.
    start_metered(cluster, "audited", Value::Null).await;
    let ended = json!({"status": {"phase": "Succeeded"}});
    cluster.make_as_admin(&Change::patch(&format!("{PODS}/audited/status"), ended)).await;
    let auditor = Process::auditor(control_plane, "charts-auditor", &kubeconfig);
    let finalizers =
        ["get", "pod", "audited", "-n", "tenant-a", "-o", "jsonpath={.metadata.finalizers}"];
    until(cluster, &finalizers, str::is_empty).await;
    auditor.end().await;
}

#[apply(trial!)]
async fn pods_that_an_uninstallation_leaves_behind_can_be_let_go(cluster: &Cluster) {
    let control_plane = &cluster.control_plane;
    control_plane.create_nodes(&Nodes::new(1).prefix("left")).await.unwrap();
    let soon = json!({"daylight.dev/simulated-run-time": "1s"});
    for (name, annotations) in
        [("left-running", Value::Null), ("left-ended", soon), ("left-ending", Value::Null)]
    {
        start_metered(cluster, name, annotations).await;
    }
    until_phase(cluster, "left-running", "Running").await;
    until_phase(cluster, "left-ended", "Succeeded").await;
    cluster.make_as_admin(&Change::delete(&format!("{PODS}/left-ending"))).await;

    // What is still to be booked stays: its policy holds as long as Daylight is installed.
    let refused = command(&control_plane.environment(), &["release"]).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("only Daylight removes the finalizer"),
        "{said}"
    );

    uninstall(cluster).await;
    let namespace = json!({"metadata": {"name": "leaving"}});
    cluster.make_as_admin(&Change::create("/api/v1/namespaces", namespace)).await;
    let mut pod = crate::cluster::pod("held", "nginx");
    pod["metadata"]["finalizers"] = json!(["daylight.dev/metered"]);
    pod["spec"]["serviceAccountName"] = Value::Null;
    cluster.make_as_admin(&Change::create("/api/v1/namespaces/leaving/pods", pod)).await;
    for delete in [
        &["delete", "pods", "-n", "tenant-a", "-l", "daylight.dev/miner", "--wait=false"][..],
        &["delete", "namespace", "leaving", "--wait=false"],
    ] {
        control_plane.kubectl_ok(delete).await.unwrap();
    }
    let held = ["get", "pods", "-A", "-o", "jsonpath={..metadata.finalizers}"];
    let held = control_plane.kubectl_ok(held).await.unwrap();
    assert!(held.matches("daylight.dev/metered").count() >= 4, "{held}");

    // The API server takes a moment to forget a policy.
    let begun = Instant::now();
    let released = loop {
        let released = command(&control_plane.environment(), &["release", "-o", "json"]).await;
        if released.status.success() {
            break serde_json::from_slice::<Value>(&released.stdout).unwrap();
        }
        let said = String::from_utf8_lossy(&released.stderr);
        assert!(begun.elapsed() < SOON, "{said}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let released = released["released"].as_array().unwrap();
    for key in ["tenant-a/left-running", "tenant-a/left-ended", "leaving/held"] {
        assert!(released.contains(&json!(key)), "{released:?}");
    }
    let left = ["get", "pods", "-n", "tenant-a", "-l", "daylight.dev/miner", "-o", "name"];
    until(cluster, &left, str::is_empty).await;
    let left = ["get", "namespace", "leaving"];
    until(cluster, &left, |said| said.contains("NotFound")).await;

    install(cluster).await;
}

#[apply(trial!)]
async fn presets_are_created_once_and_belong_to_the_users_after_that(cluster: &Cluster) {
    let control_plane = &cluster.control_plane;
    let daylight = chart("daylight");
    control_plane.kubectl_ok(["delete", "activityclasses,gpupools", "--all"]).await.unwrap();
    let upgrade = ["upgrade", "daylight", &daylight, "--reuse-values"];
    let some = "presets.activityClasses={ai-training,pow-mining}";
    let with = ["--set", some, "--set", r"presets.minerImages={registry.example.com/miners/*}"];
    cluster.helm(&[&upgrade[..], &with[..], &["--set", "pool.name=hall"]].concat()).await;
    let created = ["get", "activityclasses,gpupools", "-o", "name"];
    assert_eq!(
        control_plane.kubectl_ok(created).await.unwrap(),
        "activityclass.daylight.dev/ai-training\nactivityclass.daylight.dev/pow-mining\n\
         gpupool.daylight.dev/hall"
    );
    let images = ["get", "activityclass", "pow-mining", "-o", "jsonpath={.spec.allowedImages}"];
    let images = control_plane.kubectl_ok(images).await.unwrap();
    assert_eq!(images, r#"["registry.example.com/miners/*"]"#);

    // An edit and a removal outlive an upgrade to all presets, a rollback and an uninstallation.
    control_plane.kubectl_ok(["delete", "activityclass", "ai-training"]).await.unwrap();
    for (object, patch) in [
        ("activityclass/pow-mining", r#"{"spec":{"rank":77}}"#),
        ("gpupool/hall", r#"{"spec":{"mining":{"headroom":2}}}"#),
    ] {
        let patch = ["patch", object, "--type", "merge", "-p", patch];
        control_plane.kubectl_ok(patch).await.unwrap();
    }
    let state = "jsonpath={range .items[*]}{.metadata.uid} {.spec}{end}";
    let state = ["get", "activityclasses,gpupools", "-o", state];
    let edited = control_plane.kubectl_ok(state).await.unwrap();
    assert!(edited.contains(r#""rank":77"#) && edited.contains(r#""headroom":2"#), "{edited}");
    let all = ["--set", "presets.activityClasses=true"];
    cluster.helm(&[&upgrade[..], &all].concat()).await;
    assert_eq!(control_plane.kubectl_ok(state).await.unwrap(), edited);
    cluster.helm(&["rollback", "daylight"]).await;
    assert_eq!(control_plane.kubectl_ok(state).await.unwrap(), edited);
    uninstall(cluster).await;
    assert_eq!(control_plane.kubectl_ok(state).await.unwrap(), edited);
    install(cluster).await;
    assert_eq!(control_plane.kubectl_ok(state).await.unwrap(), edited);
}

#[apply(trial!)]
async fn installations_that_cannot_work_are_refused_with_a_sentence(cluster: &Cluster) {
    let daylight = chart("daylight");
    let upgrade = ["upgrade", "daylight", &daylight, "--reuse-values", "--namespace", SYSTEM];
    let second = ["install", "second", &daylight, "--namespace", "default", "--set", IMAGE];
    for (arguments, says) in [
        (
            &second[..],
            "Daylight is already installed as release daylight in namespace daylight-system",
        ),
        (
            &[&upgrade[..], &["--set", "image.repository=registry.example.com/daylight"]].concat(),
            "image.repository is registry.example.com/daylight, which is an example",
        ),
        // What --reuse-values takes from a chart that did not have this value yet.
        (
            &[&upgrade[..], &["--set", "uninstall=null"]].concat(),
            "The value uninstall is missing. --reuse-values keeps the values of an older chart",
        ),
        (
            &[&upgrade[..], &["--set", "metrics.serviceMonitor=null"]].concat(),
            "The value metrics.serviceMonitor is missing.",
        ),
    ] {
        let output = cluster.control_plane.helm(arguments).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(says), "{arguments:?}: {said}");
    }
}

#[apply(trial!)]
async fn values_that_make_no_sense_are_refused_with_a_sentence(cluster: &Cluster) {
    let daylight = chart("daylight");
    for (value, says) in [
        ("admission.mode=Enforced", "value must be one of 'Audit', 'Warn', 'Enforce'"),
        ("admision.mode=Enforce", "additional properties 'admision' not allowed"),
        ("controller.replicas=two", "got string, want integer"),
        ("gpuResources={gpu}", "does not match pattern"),
        ("admission.exemptNamespaces={Kube_System}", "does not match pattern"),
        ("auditor.exporter=dcgm-exporter", "does not match pattern"),
        (r"auditor.exporter=a/b:9400\,c", "does not match pattern"),
        ("auditor.storage.size=ten", "does not match pattern"),
        ("admission.devicePaths={dev}", "does not match pattern"),
        ("presets.activityClasses={ai-trainig}", "value must be one of 'ai-training'"),
        ("presets.minerImages={registry.example.com*}", "does not match pattern"),
        ("pool.resource=gpu", "does not match pattern"),
        ("pool.name=hall,pool.resource=gpu.intel.com/i915", "set pool.nodeLabels"),
    ] {
        let template = ["template", "daylight", &daylight, "--namespace", SYSTEM, "--set", value];
        let output = cluster.control_plane.helm(template).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{value} is taken");
        assert!(said.contains(says), "{value}: {said}");
    }
    // What may be chosen is rendered, and taken by the API server.
    for values in [
        vec!["auditor.enabled=true", "auditor.exporter=gpu-operator/nvidia-dcgm-exporter:9400"],
        vec![r"auditor.exporter=a/nvidia-dcgm-exporter:9400\,b/default-metrics-exporter:5000"],
        vec!["admission.exemptNamespaces={a,b}", "controller.replicas=1"],
        vec!["minerPriorityClass.create=false", "metrics.annotations=false"],
        vec!["requireSignature=true", "networkPolicy.enabled=true"],
        vec!["pool.name=hall,pool.resource=amd.com/gpu", "pool.runtimeClassName=nvidia"],
    ] {
        // As for an upgrade of what is installed, since a claim keeps its size.
        let mut template = vec!["template", "daylight", &*daylight, "--namespace", SYSTEM];
        template.extend(["--dry-run=server", "--set", IMAGE]);
        template.extend(values.iter().flat_map(|value| ["--set", value]));
        let rendered = cluster.control_plane.helm_ok(template).await.unwrap();
        let file = cluster.control_plane.directory().join("rendered.yaml");
        std::fs::write(&file, rendered).unwrap();
        let apply = ["apply", "--dry-run=server", "--server-side", "--force-conflicts", "-f"];
        let apply = apply.iter().copied().chain([file.to_str().unwrap()]);
        cluster.control_plane.kubectl_ok(apply).await.unwrap();
    }
}
