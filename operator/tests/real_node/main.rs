//! The heart of the end-to-end tests once more, with containers: on a real node of eight GPUs,
//! where miners and jobs are processes that a kubelet starts and signals. Where no real node can
//! run, the tests are ignored and say why.

#![allow(clippy::unwrap_used)] // A test may fail where it likes.

mod chains;
mod chart;
mod miners;
mod nodes;
mod signals;

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use daylight_peers::Btcd;
use daylight_test_site::{Site, install};
use daylight_testbed::trials::{Fixture, Outcome, Trial, Trials, caught};
use daylight_testbed::{
    Component, ControlPlane, Error, Options, RealNode, isolate_with, miner_image, operator_image,
};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};

/// The images that the real node's pods can run, built while there still is a network.
static IMAGES: OnceLock<Vec<PathBuf>> = OnceLock::new();

fn main() -> ExitCode {
    let prepare = || {
        let images = isolate_with(|| {
            // Tests that need it report why it could not be built.
            let _ = Btcd::build();
            let mut images = vec![miner_image()?];
            // Its build takes minutes, and only tests need it that run when asked for.
            if std::env::args().any(|argument| argument.ends_with("ignored")) {
                images.push(operator_image()?);
            }
            Ok::<_, Error>(images)
        })?;
        IMAGES.get_or_init(|| images);
        Ok(())
    };
    Trials::registered()
        .after(prepare)
        .skipping(|error| error.downcast_ref().is_some_and(daylight_peers::Error::is_missing))
        .run()
}

/// A site of one real node, on a control plane of its own. Without `DISK`, in MiB, the node uses
/// this machine's.
pub(crate) struct RealSite<const DISK: u32 = 0>(Site);

impl<const DISK: u32> Deref for RealSite<DISK> {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.0
    }
}

impl<const DISK: u32> DerefMut for RealSite<DISK> {
    fn deref_mut(&mut self) -> &mut Site {
        &mut self.0
    }
}

impl<const DISK: u32> Fixture for RealSite<DISK> {
    async fn lend(trial: &Trial, test: impl AsyncFnOnce(&mut Self) -> Outcome) -> Outcome {
        let node = if DISK > 0 { node().disk(DISK) } else { node() };
        let options = Options::full().with_real_node(node).without(Component::Kubelet);
        let control_plane = Arc::new(ControlPlane::start(options).await?);
        install(&control_plane).await;
        let site = Site::new(control_plane.clone(), &trial.name(), 1).await;
        control_plane.start_component(Component::Kubelet).await?;
        let mut site = Self(site);
        let outcome = caught(test(&mut site)).await;
        site.0.end(outcome).await
    }
}

/// A node that belongs to the first site's pool, with all images.
fn node() -> RealNode {
    let node = RealNode::new("real-0").label("site", "t1");
    IMAGES.get().into_iter().flatten().fold(node, RealNode::image)
}

/// How the container of a pod ended, if it has.
fn end(pod: &Pod) -> Option<ContainerStateTerminated> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    status.state.as_ref()?.terminated.clone()
}
