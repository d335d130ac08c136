//! The heart of the end-to-end tests once more, with containers: on a real node of eight GPUs,
//! where miners and jobs are processes that a kubelet starts and signals. Where no real node can
//! run, the tests are ignored and say why.

#![allow(clippy::unwrap_used)] // A test may fail where it likes.

mod chains;
#[allow(dead_code)] // The tests on simulated nodes need more of it.
#[path = "../e2e/daylight.rs"]
mod daylight;
mod miners;
mod nodes;
#[allow(dead_code)]
#[path = "../e2e/observer.rs"]
mod observer;
mod pool;
mod signals;
#[allow(dead_code)]
#[path = "../e2e/site.rs"]
mod site;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use daylight_peers::Btcd;
use daylight_testbed::{
    Component, ControlPlane, Error, Options, RealNode, isolate_with, miner_image,
};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::Runtime;

use site::Site;

/// Runs on a site of its own, with a real node.
type Test = for<'a> fn(&'a mut Site) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

macro_rules! tests {
    ($($module:ident::$name:ident),* $(,)?) => {
        vec![$((
            concat!(stringify!($module), "::", stringify!($name)),
            (|site| Box::pin($module::$name(site))) as Test,
        )),*]
    };
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    // Before anything is started.
    let possible = if arguments.list {
        Ok(Vec::new())
    } else {
        isolate_with(|| {
            // Where it cannot be built, that is said by those who need it.
            let _ = Btcd::build();
            Ok(vec![miner_image()?])
        })
    };
    let possible = Arc::new(possible);
    let tests = tests![
        signals::miners_are_signalled_and_the_job_runs,
        miners::containers_hash_drain_and_give_way,
        miners::what_is_wrong_with_a_miner_shows_on_it,
        miners::an_engine_that_hangs_gives_its_gpus_back_in_time,
        nodes::a_full_disk_puts_miners_out_until_there_is_room,
        nodes::a_node_that_prepares_no_pod_is_told_and_left,
        chains::containers_mine_blocks_that_real_nodes_accept,
    ];
    let trials = tests.into_iter().map(|(name, test)| {
        let possible = Arc::clone(&possible);
        Trial::ignorable_test(name, move || match &*possible {
            Err(why @ Error::NoRealNode { .. }) => Ok(Completion::ignored_with(why)),
            Err(error) => Err(Failed::from(error)),
            Ok(images) => {
                let runtime = Runtime::new()?;
                if name.starts_with("chains::")
                    && let Some(missing) = runtime.block_on(chains::missing())
                {
                    return Ok(Completion::ignored_with(missing));
                }
                runtime.block_on(on_a_real_node(name, images, test))?;
                Ok(Completion::Completed)
            }
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

async fn on_a_real_node(name: &str, images: &[PathBuf], test: Test) -> Result<(), Error> {
    // The site's nodes are known by its name: t and its number.
    let node = RealNode::new("real-0").label("site", "t1");
    let node = images.iter().fold(node, RealNode::image);
    let node = if name.starts_with("nodes::") { node.disk(nodes::DISK) } else { node };
    let options = Options::full().with_real_node(node).without(Component::Kubelet);
    let control_plane = Arc::new(ControlPlane::start(options).await?);
    site::install(&control_plane).await;
    let mut site = Site::new(control_plane.clone(), name, 1).await;
    control_plane.start_component(Component::Kubelet).await?;

    let logs = control_plane.directory().join("logs");
    let outcome = tokio::spawn(async move {
        test(&mut site).await;
        site.end().await;
    })
    .await;
    if let Err(error) = outcome {
        daylight::show_logs(&logs, 1);
        std::panic::resume_unwind(error.into_panic());
    }
    Ok(())
}

/// How the container of a pod ended, if it has.
fn end(pod: &Pod) -> Option<ContainerStateTerminated> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.terminated.clone()
}
