//! A Kubernetes to play with: starts a control plane with simulated nodes,
//! prints how to reach it, and stops it at Ctrl-C.
//!
//! `cargo run -p daylight-testbed --example up -- [NODES]`

use std::process::ExitCode;

use daylight_testbed::{ControlPlane, Nodes, Options, Result, wait_for_termination};

#[tokio::main]
async fn main() -> ExitCode {
    let nodes = match std::env::args().nth(1).map_or(Ok(4), |nodes| nodes.parse()) {
        Ok(nodes) => nodes,
        Err(error) => {
            eprintln!("up: NODES is not a number: {error}");
            return ExitCode::FAILURE;
        }
    };
    match up(nodes).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("up: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn up(nodes: usize) -> Result<()> {
    let control_plane = ControlPlane::start(Options::full()).await?;
    control_plane.create_nodes(&Nodes::new(nodes)).await?;
    println!(
        "{nodes} nodes of 8 GPUs are ready at {}. To use them, run in another shell:\n",
        control_plane.url()
    );
    for (variable, value) in control_plane.environment() {
        println!("export {variable}={}", value.display());
    }
    println!("export PATH={}:$PATH", control_plane.tools().display());
    println!(
        "\nThe logs are in {}. Press Ctrl-C to stop it.",
        control_plane.directory().join("logs").display()
    );
    wait_for_termination().await;
    control_plane.stop().await;
    Ok(())
}
