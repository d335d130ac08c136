//! Any program as a miner.

use std::time::Instant;

use daylight_testbed::RealNode;
use daylight_testbed::trials::{apply, trial};
use kube::ResourceExt as _;
use serde_json::json;

use crate::{RealSite, end};

#[apply(trial!)]
async fn miners_are_signalled_and_the_job_runs(site: &mut RealSite) {
    site.pool(json!({})).await;
    site.registered("reg", json!({"gpus": 100})).await;
    let engine = json!({"name": "workload", "args": ["-drain", "1s"]});
    let miner = json!({
        "image": RealNode::IMAGE, "engine": engine, "drainTimeout": "10s",
        "resources": {"cpu": "10m", "memory": "32Mi"},
    });
    site.miner("miner", "reg", 8, miner).await;
    // As with an auditor: the pods stay when they have ended, for the books.
    site.start_with(&["--metered"]);
    site.wait_for_mining(8).await;

    let begun = Instant::now();
    let container = json!({
        "name": "train", "image": RealNode::IMAGE, "args": ["-run", "5s"],
        "resources": {"limits": {"nvidia.com/gpu": "8"}},
    });
    let template = json!({"spec": {"containers": [container]}});
    site.ai_job("training", 1, 8, json!({"template": template})).await;
    let status =
        site.wait_for_job("training", "running", |status| status["state"] == "Running").await;
    eprintln!("a job of 8 GPUs ran after {:?}", begun.elapsed());
    assert_eq!(status["displaced"], 8);

    // A container that does not handle SIGTERM dies of it, or of SIGKILL, with another code.
    let miners = site.pods("daylight.dev/miner").await;
    assert_eq!(miners.len(), 8);
    for pod in &miners {
        let end = end(pod).unwrap_or_else(|| panic!("{} has not ended", pod.name_any()));
        assert_eq!((end.exit_code, end.reason.as_deref()), (0, Some("Completed")));
        let ran = end.finished_at.unwrap().0.duration_since(end.started_at.unwrap().0);
        assert!(ran.as_secs() >= 1, "{ran:?}");
        assert!(pod.finalizers().iter().any(|name| name == "daylight.dev/metered"));
    }

    site.wait_for_job("training", "done", |status| status["state"] == "Succeeded").await;
    // A node that a job has left is filled again.
    site.wait_for_mining(8).await;
}
