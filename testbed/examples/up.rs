//! A Kubernetes to play with: starts a control plane with simulated nodes,
//! says how to reach it, and ends it at Ctrl-C.
//!
//! `cargo run -p daylight-testbed --example up -- [NODES]`

use std::process::ExitCode;

use daylight_testbed::{ControlPlane, Nodes, Options, Result, asked_to_end};

#[tokio::main]
async fn main() -> ExitCode {
    let nodes = match std::env::args().nth(1).map_or(Ok(4), |nodes| nodes.parse()) {
        Ok(nodes) => nodes,
        Err(error) => {
            eprintln!("up: the number of nodes is to be a number: {error}");
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
    println!("{nodes} nodes of 8 GPUs are up at {}. In another shell:\n", control_plane.url());
    for (variable, value) in control_plane.environment() {
        println!("export {variable}={}", value.display());
    }
    println!("export PATH={}:$PATH", control_plane.tools().display());
    println!("\nLogs are in {}. Ctrl-C ends it.", control_plane.directory().join("logs").display());
    asked_to_end().await;
    control_plane.stop().await;
    Ok(())
}
