//! `cargo demo`: plays the main job on a real control plane and prints each step as it happens.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use daylight_demo::{self as story, Cluster, Error, MiningPool, Process, Result, Step};
use daylight_testbed::{
    ControlPlane, Nodes, Options, RealNode, isolate_with, miner_image, wait_for_termination,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const USAGE: &str = "\
Plays Daylight's main job on a real Kubernetes control plane with 40 simulated
nodes of 8 GPUs, and prints what happens and how long it takes.

Usage: cargo demo [-- OPTIONS]

  --keep               keep the cluster and the controller running, and print how to reach them
  --kubeconfig FILE    play on that cluster instead; it needs nodes labelled
                       nvidia.com/gpu.present=true with 160 nvidia.com/gpu or more that
                       run or simulate the pods of examples/
  --real               play with containers on one real node of 8 simulated GPUs, whose miners
                       hash for a mining pool; needs root, containerd, runc, the CNI plugins
                       and iproute2, and names what is missing
  -h, --help           print this

The first run builds Kubernetes from source, which takes about 8 minutes on two cores, and
with --real the miner's image.
";

/// Printed first, while nothing else is to be seen.
const TIMES: &str = "The demo takes about 2 minutes, and its first run about 10 more, because it \
                     builds Kubernetes from source.";

struct Arguments {
    keep: bool,
    kubeconfig: Option<PathBuf>,
    real: bool,
}

fn arguments() -> Result<Option<Arguments>, String> {
    let mut parsed = Arguments { keep: false, kubeconfig: None, real: false };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--keep" => parsed.keep = true,
            "--real" => parsed.real = true,
            "--kubeconfig" => {
                let file = given.next().ok_or("--kubeconfig needs a file")?;
                parsed.kubeconfig = Some(file.into());
            }
            "-h" | "--help" => return Ok(None),
            other => return Err(format!("{other:?} is not an option; see --help")),
        }
    }
    if parsed.real && parsed.kubeconfig.is_some() {
        return Err("--real starts its own cluster: remove --kubeconfig".to_owned());
    }
    Ok(Some(parsed))
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("demo: {error}");
            return ExitCode::from(2);
        }
    };
    match play(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The files that are built first.
struct Built {
    daylight: PathBuf,
    /// The miner's image, for a real node.
    image: Option<PathBuf>,
}

fn play(arguments: &Arguments) -> Result<bool> {
    let repository = story::repository()?;
    // Before anything is started: with a real node this program starts again, in a network namespace.
    let built = build(arguments, &repository)?;
    let runtime = Runtime::new()
        .map_err(|error| Error::new(format!("threads cannot be started: {error}")))?;
    runtime.block_on(run(arguments, &repository, &built))
}

fn build(arguments: &Arguments, repository: &Path) -> Result<Built> {
    if !arguments.real {
        println!("Building daylight. {TIMES}");
        return Ok(Built { daylight: story::build(repository, false)?, image: None });
    }
    let mut files = isolate_with(|| {
        println!("Building daylight and the miner's image. {TIMES}");
        Ok::<_, Error>(vec![story::build(repository, false)?, miner_image()?])
    })?
    .into_iter();
    match (files.next(), files.next()) {
        (Some(daylight), image @ Some(_)) => Ok(Built { daylight, image }),
        _ => Err(Error::new(
            "the built files are unknown: start the demo outside of its network namespace",
        )),
    }
}

/// The cluster and the processes of the demo. All of them end when this is dropped.
struct Stage {
    processes: Vec<Process>,
    control_plane: Option<ControlPlane>,
    /// The mining pool of a real node's miners.
    pool: Option<MiningPool>,
    logs: TempDir,
    held: bool,
}

async fn run(arguments: &Arguments, repository: &Path, built: &Built) -> Result<bool> {
    let stage = tokio::select! {
        stage = demo(arguments, repository, built) => stage?,
        () = wait_for_termination() => return Err(Error::new("interrupted")),
    };
    if arguments.keep {
        if let Some(control_plane) = &stage.control_plane {
            println!("\nThe cluster keeps running. To use it, run in another shell:\n");
            if stage.pool.is_some() {
                // It cannot be reached from outside of its network namespace.
                println!("nsenter --net --target {}", std::process::id());
                println!("export PATH={}:$PATH", control_plane.tools().display());
            }
            println!("export KUBECONFIG={}", control_plane.kubeconfig().display());
        }
        for controller in &stage.processes {
            println!("curl http://{}/metrics   # {}", controller.address(), controller.command());
        }
        println!(
            "The logs are in {}. Press Ctrl-C to stop everything.",
            stage.logs.path().display()
        );
        wait_for_termination().await;
    }
    for controller in stage.processes {
        controller.stop().await?;
    }
    if let Some(control_plane) = stage.control_plane {
        control_plane.stop().await;
    }
    Ok(stage.held)
}

async fn demo(arguments: &Arguments, repository: &Path, built: &Built) -> Result<Stage> {
    let logs = tempfile::Builder::new()
        .prefix("daylight-demo-")
        .tempdir()
        .map_err(|error| Error::new(format!("a temporary directory cannot be created: {error}")))?;
    let log = logs.path().join("controller.log");
    let daylight = &built.daylight;

    if let Some(image) = &built.image {
        let control_plane = with_real_node(image).await?;
        let cluster = Cluster::of_testbed(&control_plane, daylight)?;
        let pool = MiningPool::open().await?;
        let played = story::play_real(&cluster, &pool, repository, &log, &mut print).await;
        let (held, processes) = sum_up(played, &log)?;
        let (control_plane, pool) = (Some(control_plane), Some(pool));
        return Ok(Stage { processes, control_plane, pool, logs, held });
    }
    let (cluster, control_plane) = if let Some(kubeconfig) = &arguments.kubeconfig {
        (Cluster::existing(kubeconfig, daylight).await?, None)
    } else {
        let control_plane = control_plane().await?;
        let start = Instant::now();
        let cluster = Cluster::with_exporters(&control_plane, daylight).await?;
        println!(
            "The GPU exporters of all nodes are ready after {}.",
            story::seconds(start.elapsed())
        );
        (cluster, Some(control_plane))
    };
    let played = story::play(&cluster, repository, &log, &mut print).await;
    let (held, processes) = sum_up(played, &log)?;
    Ok(Stage { processes, control_plane, pool: None, logs, held })
}

async fn control_plane() -> Result<ControlPlane> {
    let start = Instant::now();
    let control_plane = ControlPlane::start(Options::full()).await?;
    println!("A Kubernetes control plane is ready after {}.", story::seconds(start.elapsed()));
    let start = Instant::now();
    control_plane.create_nodes(&Nodes::new(40).label("nvidia.com/gpu.present", "true")).await?;
    println!("40 nodes of 8 GPUs are ready after {}.", story::seconds(start.elapsed()));
    Ok(control_plane)
}

async fn with_real_node(image: &Path) -> Result<ControlPlane> {
    let start = Instant::now();
    let node = RealNode::new("real-0").label("nvidia.com/gpu.present", "true").image(image);
    let control_plane = ControlPlane::start(Options::full().with_real_node(node)).await?;
    println!(
        "A Kubernetes control plane and a real node, with kubelet, containerd and 8 simulated GPUs, \
         are ready after {}.",
        story::seconds(start.elapsed())
    );
    Ok(control_plane)
}

fn print(line: &str) {
    let coloured = std::io::stdout().is_terminal().then(|| {
        let green = line.replacen("  ok: ", "  \u{1b}[32mok\u{1b}[0m: ", 1);
        green.replacen("DID NOT HOLD", "\u{1b}[31mDID NOT HOLD\u{1b}[0m", 1)
    });
    println!("{}", coloured.as_deref().unwrap_or(line));
}

/// Prints the table, or the end of the controller's log, and returns whether every step held.
fn sum_up(played: Result<(Vec<Step>, Vec<Process>)>, log: &Path) -> Result<(bool, Vec<Process>)> {
    match played {
        Ok((steps, processes)) => {
            println!("\n{}", story::table(&steps));
            Ok((steps.iter().all(|step| step.held), processes))
        }
        Err(error) => {
            if let Ok(log) = std::fs::read_to_string(log) {
                let last: Vec<_> = log.lines().rev().take(10).collect();
                last.into_iter().rev().for_each(|line| eprintln!("controller: {line}"));
            }
            Err(error)
        }
    }
}
