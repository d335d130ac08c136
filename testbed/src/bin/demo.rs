//! `cargo demo`: the main job on a real control plane, told as it happens.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use daylight_testbed::story::{self, Cluster, Operator, Stopped, Told};
use daylight_testbed::{ControlPlane, Nodes, Options, asked_to_end};
use tempfile::TempDir;

const USAGE: &str = "\
Plays Daylight's main job on a real Kubernetes control plane with 40 simulated
nodes of 8 GPUs, and says what happens and how long it takes.

Usage: cargo demo [-- OPTIONS]

  --keep               leave the cluster and the controller up, and say how to reach them
  --kubeconfig FILE    play on that cluster instead; it needs nodes labelled
                       nvidia.com/gpu.present=true with 160 nvidia.com/gpu or more that
                       run or simulate the pods of examples/
  -h, --help           print this

The first run builds Kubernetes from source, which takes some minutes.
";

struct Arguments {
    keep: bool,
    kubeconfig: Option<PathBuf>,
}

fn arguments() -> Result<Option<Arguments>, String> {
    let mut parsed = Arguments { keep: false, kubeconfig: None };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--keep" => parsed.keep = true,
            "--kubeconfig" => {
                let file = given.next().ok_or("--kubeconfig needs a file")?;
                parsed.kubeconfig = Some(file.into());
            }
            "-h" | "--help" => return Ok(None),
            other => return Err(format!("{other:?} is no option; see --help")),
        }
    }
    Ok(Some(parsed))
}

#[tokio::main]
async fn main() -> ExitCode {
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
    match run(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn repository() -> Told<PathBuf> {
    let testbed = Path::new(env!("CARGO_MANIFEST_DIR"));
    let parent = testbed.parent().filter(|path| path.join("examples").is_dir());
    parent.map(Path::to_owned).ok_or_else(|| stopped("crds/ and examples/ are not beside testbed/"))
}

fn stopped(sentence: impl Into<String>) -> Stopped {
    Stopped::new(sentence)
}

/// What the demo leaves up. All of it ends when this is dropped.
struct Stage {
    operators: Vec<Operator>,
    control_plane: Option<ControlPlane>,
    logs: TempDir,
    held: bool,
}

async fn run(arguments: &Arguments) -> Told<bool> {
    let repository = repository()?;
    println!("Building daylight ...");
    let daylight = story::build(&repository, false)?;
    let stage = tokio::select! {
        stage = demo(arguments, &repository, &daylight) => stage?,
        () = asked_to_end() => return Err(stopped("interrupted")),
    };
    if arguments.keep {
        if let Some(control_plane) = &stage.control_plane {
            println!("\nThe cluster stays up. In another shell:\n");
            println!("export KUBECONFIG={}", control_plane.kubeconfig().display());
        }
        for operator in &stage.operators {
            println!("curl http://{}/metrics   # {}", operator.address(), operator.command());
        }
        println!("Their logs are in {}. Ctrl-C ends it all.", stage.logs.path().display());
        asked_to_end().await;
    }
    for operator in stage.operators {
        operator.stop().await?;
    }
    if let Some(control_plane) = stage.control_plane {
        control_plane.stop().await;
    }
    Ok(stage.held)
}

async fn demo(arguments: &Arguments, repository: &Path, daylight: &Path) -> Told<Stage> {
    let logs = tempfile::Builder::new()
        .prefix("daylight-demo-")
        .tempdir()
        .map_err(|error| stopped(format!("no temporary directory: {error}")))?;
    let log = logs.path().join("controller.log");

    let (cluster, control_plane) = if let Some(kubeconfig) = &arguments.kubeconfig {
        (Cluster::existing(kubeconfig, daylight).await?, None)
    } else {
        let control_plane = control_plane().await?;
        let start = Instant::now();
        let cluster = Cluster::with_exporters(&control_plane, daylight).await?;
        println!("An exporter of each node answers after {}.", story::seconds(start.elapsed()));
        (cluster, Some(control_plane))
    };
    let (held, operators) = tell(&cluster, repository, &log).await?;
    Ok(Stage { operators, control_plane, logs, held })
}

async fn control_plane() -> Told<ControlPlane> {
    let start = Instant::now();
    let control_plane = ControlPlane::start(Options::full()).await?;
    println!("A Kubernetes control plane is up after {}.", story::seconds(start.elapsed()));
    let start = Instant::now();
    control_plane.create_nodes(&Nodes::new(40).label("nvidia.com/gpu.present", "true")).await?;
    println!("40 nodes of 8 GPUs are ready after {}.", story::seconds(start.elapsed()));
    Ok(control_plane)
}

/// Plays the story; says whether all of it held.
async fn tell(cluster: &Cluster, repository: &Path, log: &Path) -> Told<(bool, Vec<Operator>)> {
    let colours = std::io::stdout().is_terminal();
    let mut say = |line: &str| {
        let coloured = colours.then(|| {
            let green = line.replacen("  ok: ", "  \u{1b}[32mok\u{1b}[0m: ", 1);
            green.replacen("DID NOT HOLD", "\u{1b}[31mDID NOT HOLD\u{1b}[0m", 1)
        });
        println!("{}", coloured.as_deref().unwrap_or(line));
    };
    match story::play(cluster, repository, log, &mut say).await {
        Ok((steps, operators)) => {
            println!("\n{}", story::table(&steps));
            Ok((steps.iter().all(|step| step.held), operators))
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
