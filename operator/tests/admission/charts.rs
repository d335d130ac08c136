//! The charts: installed, upgraded, uninstalled and installed again, by the real helm.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, SYSTEM, chart};

/// Kubernetes removes things in the background; nothing may hang.
const SOON: Duration = Duration::from_secs(30);

pub(crate) async fn the_charts_install_upgrade_uninstall_and_install_again(cluster: &Cluster) {
    let control_plane = &cluster.control_plane;
    let (daylight, definitions) = (chart("daylight"), chart("daylight-crds"));
    let everything = [
        "get",
        "clusterroles,clusterrolebindings,validatingadmissionpolicies,\
         validatingadmissionpolicybindings,priorityclasses",
        "-o",
        "name",
    ];
    let ours = async || -> Vec<String> {
        let names = control_plane.kubectl_ok(everything).await.unwrap();
        names.lines().filter(|name| name.contains("/daylight")).map(str::to_owned).collect()
    };
    let installed = ours().await;
    assert!(installed.len() > 20, "{installed:?}");

    // An upgrade that changes nothing keeps everything, and one that changes the mode changes only
    // what a policy does.
    cluster.helm(&["upgrade", "daylight", &daylight, "--reuse-values"]).await;
    assert_eq!(ours().await, installed);
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

    let begun = Instant::now();
    cluster.helm(&["uninstall", "daylight", "--wait", "--timeout", "60s"]).await;
    cluster.helm(&["uninstall", "daylight-crds", "--wait", "--timeout", "60s"]).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    // What people made for Daylight's accounts in this test is theirs.
    let left: Vec<String> =
        ours().await.into_iter().filter(|name| !name.ends_with("/daylight-accounts")).collect();
    assert!(left.is_empty(), "{left:?}");
    let kept = control_plane.kubectl_ok(["get", "crds", "-o", "name"]).await.unwrap();
    assert!(kept.contains("registrations.daylight.dev"), "{kept}");
    let kept = ["get", "registration", "night", "-n", "tenant-a", "-o", "name"];
    control_plane.kubectl_ok(kept).await.unwrap();

    // helm takes over the definitions that it left, and the objects are as they were.
    cluster.helm(&["install", "daylight-crds", &definitions, "--take-ownership"]).await;
    let mut again = vec!["install", "daylight", &*daylight];
    again.extend(["--set", "controller.replicas=0", "--set", "admission.mode=Enforce"]);
    cluster.helm(&again).await;
    assert_eq!(ours().await, installed);
    cluster.set_mode("Enforce").await;
}

pub(crate) async fn values_that_make_no_sense_are_refused_with_a_sentence(cluster: &Cluster) {
    let daylight = chart("daylight");
    for (value, says) in [
        ("admission.mode=Enforced", "value must be one of 'Audit', 'Warn', 'Enforce'"),
        ("admision.mode=Enforce", "additional properties 'admision' not allowed"),
        ("controller.replicas=two", "got string, want integer"),
        ("gpuResources={gpu}", "does not match pattern"),
        ("admission.exemptNamespaces={Kube_System}", "does not match pattern"),
        ("auditor.exporter=dcgm-exporter", "does not match pattern"),
        ("auditor.storage.size=ten", "does not match pattern"),
        ("admission.devicePaths={dev}", "does not match pattern"),
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
        vec!["admission.exemptNamespaces={a,b}", "controller.replicas=1"],
        vec!["minerPriorityClass.create=false", "metrics.annotations=false"],
    ] {
        let mut template = vec!["template", "daylight", &*daylight, "--namespace", SYSTEM];
        template.extend(values.iter().flat_map(|value| ["--set", value]));
        let rendered = cluster.control_plane.helm_ok(template).await.unwrap();
        let file = cluster.control_plane.directory().join("rendered.yaml");
        std::fs::write(&file, rendered).unwrap();
        let apply = ["apply", "--dry-run=server", "--server-side", "--force-conflicts", "-f"];
        let apply = apply.iter().copied().chain([file.to_str().unwrap()]);
        cluster.control_plane.kubectl_ok(apply).await.unwrap();
    }
}
