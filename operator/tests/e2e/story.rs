//! The story of `cargo demo`: every step of the main job, on its own control plane.

use std::path::Path;

use daylight_demo::{self as story, Cluster};
use daylight_testbed::trials::{Outcome, apply, trial};
use daylight_testbed::{ControlPlane, Nodes, Options};

#[apply(trial!)]
async fn every_step_of_the_demonstration_holds() -> Outcome {
    let control_plane = ControlPlane::start(Options::full()).await?;
    let nodes = Nodes::new(40).label("nvidia.com/gpu.present", "true");
    control_plane.create_nodes(&nodes).await?;
    let daylight = Path::new(env!("CARGO_BIN_EXE_daylight"));
    let cluster = Cluster::with_exporters(&control_plane, daylight).await?;
    let repository =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the crate has no parent")?;
    let log = control_plane.directory().join("controller.log");

    let mut output = String::new();
    let mut print = |line: &str| {
        output.push_str(line);
        output.push('\n');
    };
    let played = story::play(&cluster, repository, &log, &mut print).await;
    let held = match played {
        Ok((steps, processes)) => {
            for process in processes {
                process.stop().await?;
            }
            steps.iter().all(|step| step.held)
        }
        Err(error) => {
            output.push_str(&error.to_string());
            false
        }
    };
    if !held {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        return Err(format!("{output}\nThe controller's log:\n{log}").into());
    }
    control_plane.stop().await;
    Ok(())
}
