//! The heart of the end-to-end tests once more, with containers: on a real node of eight GPUs,
//! where miners and jobs are processes that a kubelet starts and signals. Where no real node can
//! run, the test is ignored and says why.

#![allow(clippy::unwrap_used)] // A test may fail where it likes.

#[allow(dead_code)] // The tests on simulated nodes need more of it.
#[path = "../e2e/daylight.rs"]
mod daylight;
#[allow(dead_code)]
#[path = "../e2e/observer.rs"]
mod observer;
#[allow(dead_code)]
#[path = "../e2e/site.rs"]
mod site;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use daylight_testbed::{Component, ControlPlane, Error, Options, RealNode, isolate};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::ResourceExt as _;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::json;
use tokio::runtime::Runtime;

use site::Site;

const NAME: &str = "miners_are_signalled_and_the_job_runs";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // Before anything is started.
    let isolated = if arguments.list { Ok(()) } else { isolate() };
    let trial = Trial::ignorable_test(NAME, move || match isolated {
        Err(why @ Error::NoRealNode { .. }) => Ok(Completion::ignored_with(why)),
        Err(error) => Err(Failed::from(error)),
        Ok(()) => {
            Runtime::new()?.block_on(on_a_real_node())?;
            Ok(Completion::Completed)
        }
    });
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

async fn on_a_real_node() -> Result<(), Error> {
    // The site's nodes are known by its name: t and its number.
    let node = RealNode::new("real-0").label("site", "t1");
    let options = Options::full().with_real_node(node).without(Component::Kubelet);
    let control_plane = Arc::new(ControlPlane::start(options).await?);
    site::install(&control_plane).await;
    let mut site = Site::new(control_plane.clone(), NAME, 1).await;
    control_plane.start_component(Component::Kubelet).await?;

    let logs = control_plane.directory().join("logs");
    let outcome = tokio::spawn(async move {
        miners_are_signalled_and_the_job_runs(&mut site).await;
        site.end().await;
    })
    .await;
    if let Err(error) = outcome {
        daylight::show_logs(&logs, 1);
        std::panic::resume_unwind(error.into_panic());
    }
    Ok(())
}

async fn miners_are_signalled_and_the_job_runs(site: &mut Site) {
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
    site.mines(8).await;

    let begun = Instant::now();
    let container = json!({
        "name": "train", "image": RealNode::IMAGE, "args": ["-run", "5s"],
        "resources": {"limits": {"nvidia.com/gpu": "8"}},
    });
    let template = json!({"spec": {"containers": [container]}});
    site.ai_job("training", 1, 8, json!({"template": template})).await;
    let status =
        site.job_status("training", "running", |status| status["state"] == "Running").await;
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

    site.job_status("training", "done", |status| status["state"] == "Succeeded").await;
    // A node that a job has left is filled again.
    site.mines(8).await;
}

fn end(pod: &Pod) -> Option<ContainerStateTerminated> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.terminated.clone()
}
