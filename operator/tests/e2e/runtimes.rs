//! Clusters in which pods get their GPUs by a `RuntimeClass` or a DRA driver.

use daylight_test_site::{Site, create};
use daylight_testbed::Nodes;
use daylight_testbed::trials::{apply, trial};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceSlice};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

#[apply(trial!)]
async fn the_runtime_class_of_a_pool_is_its_pods_and_its_overhead_is_planned(site: &mut Site) {
    let class = site.name.clone();
    let overhead = json!({"podFixed": {"cpu": "20"}});
    let node = site.nodes(2).await.remove(0);
    let label = json!({"metadata": {"labels": {"runtime": "nvidia"}}});
    let nodes = Api::<Node>::all(site.client.clone());
    nodes.patch(&node, &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    let runtime_class = json!({
        "metadata": {"name": class}, "handler": "nvidia", "overhead": overhead,
        "scheduling": {"nodeSelector": {"runtime": "nvidia"}},
    });
    create(&Api::<RuntimeClass>::all(site.client.clone()), runtime_class).await;
    site.pool(json!({})).await;
    site.edit_pool(json!({"runtimeClassName": class})).await;
    site.registered("reg", json!({"gpus": 100})).await;
    site.miner("miner", "reg", 8, json!({"resources": {"cpu": "1"}})).await;
    site.start();
    // Of 64 CPUs each replica needs 21, and one of the two nodes has the runtime.
    site.wait_for_miner("miner", "as many as fit", |status| {
        status["readyReplicas"] == 3 && status["reason"] == "NoNodeFits"
    })
    .await;
    assert_eq!(site.observer.started(), 3, "no pod was started in vain");
    site.ai_job("train", 1, 8, json!({"pool": site.name})).await;
    site.wait_for_job("train", "it runs", |status| status["state"] == "Running").await;
    for pod in site.pods("").await {
        let spec = pod.spec.unwrap();
        assert_eq!(spec.runtime_class_name.as_deref(), Some(&*class));
        assert!(spec.overhead.is_some());
        assert_eq!(spec.node_name.as_ref(), Some(&node));
    }
}

#[apply(trial!)]
async fn gpus_that_a_dra_driver_allocated_are_told_as_such(site: &mut Site) {
    let nodes = Nodes::new(1).prefix(&site.name).label("site", &site.name).gpus(0);
    let node = site.control_plane.create_nodes(&nodes).await.unwrap().remove(0);
    let driver = format!("{}.example.com", site.name);
    let resource = format!("{driver}/gpu");
    let device_class = json!({
        "metadata": {"name": driver},
        "spec": {
            "extendedResourceName": resource,
            "selectors": [{"cel": {"expression": format!("device.driver == '{driver}'")}}],
        },
    });
    create(&Api::<DeviceClass>::all(site.client.clone()), device_class).await;
    let slice = json!({
        "metadata": {"name": site.name},
        "spec": {
            "driver": driver, "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "gpu-0"}, {"name": "gpu-1"}],
        },
    });
    create(&Api::<ResourceSlice>::all(site.client.clone()), slice).await;
    let pool = json!({
        "apiVersion": "daylight.dev/v1alpha1", "kind": "GpuPool",
        "metadata": {"name": site.name},
        "spec": {
            "nodeSelector": {"matchLabels": {"site": site.name}},
            "resource": resource, "site": {"name": "site-1"}, "mining": {"policy": "Fill"},
        },
    });
    site.control_plane.apply(&pool.to_string()).await.unwrap();
    site.start();
    site.wait_for_pool("no GPU is offered", |status| status["reason"] == "NoGpus").await;
    let pod = json!({
        "metadata": {"name": "train", "labels": {"daylight.dev/activity": "ai-training"}},
        "spec": {"containers": [{
            "name": "train", "image": "registry.example.com/train:1",
            "resources": {"limits": {resource: "1"}},
        }]},
    });
    let pods: Api<Pod> = site.namespaced();
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let pool = site.wait_for_pool("it is named", |status| status["reason"] == "GpusByClaim").await;
    assert_eq!((&pool["gpus"]["ai"], &pool["gpus"]["idle"]), (&json!(1), &json!(0)));
}
