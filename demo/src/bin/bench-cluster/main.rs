//! `cargo bench-cluster`: compares Daylight with bare Kubernetes and a bare client, on the same
//! simulated cluster with a real control plane.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use daylight_demo::{self as story, Error, Result};

mod manifests;
mod measured;
mod report;
mod sides;
mod site;
mod usage;
mod watcher;

use measured::{Rates, Rows, Run, Side};
use site::Setup;

const USAGE: &str = "\
Measures how fast Daylight fills a cluster and returns GPUs to AI, compared with bare
Kubernetes (a) and a bare client (b), each on a fresh simulated cluster.

Usage: cargo bench-cluster [-- OPTIONS]

  --nodes N            nodes of 8 GPUs (500)
  --drain S,S,...      seconds that filling pods take to stop (0,5,30)
  --rates R,R          Kubernetes' own client rates: stock, high (stock)
  --sides a,b,c        which sides to measure (a,b,c)
  --repeats N          how often one plain pod, and Jobs of at most 64, are created (3)
  --daylight FILE      use this binary, instead of building a release
  --write FILE         write the results to this file, in Markdown
  -h, --help           print this
";

/// The longest time for one side.
const SIDE_LIMIT: Duration = Duration::from_mins(30);

struct Arguments {
    nodes: usize,
    drains: Vec<u64>,
    rates: Vec<Rates>,
    sides: Vec<Side>,
    repeats: usize,
    daylight: Option<PathBuf>,
    write: Option<PathBuf>,
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number that is possible here"))
}

fn list<T>(text: &str, one: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    text.split(',').map(one).collect()
}

fn arguments() -> Result<Option<Arguments>, String> {
    let mut parsed = Arguments {
        nodes: 500,
        drains: vec![0, 5, 30],
        rates: vec![Rates::Stock],
        sides: Side::ALL.to_vec(),
        repeats: 3,
        daylight: None,
        write: None,
    };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--nodes" => parsed.nodes = number::<usize>(&value()?)?.max(2),
            "--drain" => parsed.drains = list(&value()?, number)?,
            "--rates" => {
                parsed.rates = list(&value()?, |text| match text {
                    "stock" => Ok(Rates::Stock),
                    "high" => Ok(Rates::High),
                    other => Err(format!("{other:?} is neither stock nor high")),
                })?;
            }
            "--sides" => {
                parsed.sides = list(&value()?, |text| {
                    let side = Side::ALL.into_iter().find(|side| side.letter() == text);
                    side.ok_or_else(|| format!("{text:?} is not one of a, b and c"))
                })?;
            }
            "--repeats" => parsed.repeats = number(&value()?)?,
            "--daylight" => parsed.daylight = Some(value()?.into()),
            "--write" => parsed.write = Some(value()?.into()),
            "-h" | "--help" => return Ok(None),
            other => return Err(format!("{other:?} is not an option; see --help")),
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
            eprintln!("bench-cluster: {error}");
            return ExitCode::from(2);
        }
    };
    let measured = tokio::select! {
        measured = bench(&arguments) => measured,
        () = daylight_testbed::wait_for_termination() => Err(Error::new("interrupted")),
    };
    match measured {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-cluster: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the first line that a program prints, if it succeeds.
fn first_line(directory: &Path, program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).current_dir(directory).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(str::to_owned).filter(|_| output.status.success())
}

fn machine() -> String {
    let value = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = value("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = value("/proc/meminfo", "MemTotal").and_then(|text| {
        let kilobytes: u64 = text.split_whitespace().next()?.parse().ok()?;
        Some(format!(", {} GiB", (kilobytes + (1 << 19)) >> 20))
    });
    format!("{model}, {cores} cores{}", memory.unwrap_or_default())
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// The sizes of the Jobs: 1, 64 and 512 GPUs, and at most half of the cluster.
fn sizes(nodes: usize) -> Vec<usize> {
    let mut sizes: Vec<_> = [1, 64, 512].into_iter().map(|size| size.min(nodes * 4)).collect();
    sizes.dedup();
    sizes
}

async fn bench(arguments: &Arguments) -> Result<bool> {
    let repository = story::repository()?;
    let daylight = if let Some(path) = &arguments.daylight {
        // In the form that /proc shows.
        let path = path.canonicalize();
        path.map_err(|error| Error::new(format!("--daylight cannot be used: {error}")))?
    } else {
        println!("Building a release of daylight ...");
        story::build(&repository, true)?
    };
    let logs = tempfile::Builder::new()
        .prefix("daylight-bench-")
        .tempdir()
        .map_err(|error| Error::new(format!("a temporary directory cannot be created: {error}")))?;
    let log = logs.path().join("controller.log");

    let mut given: Vec<_> = std::env::args().skip(1).collect();
    if let Some(at) = given.iter().position(|argument| argument == "--daylight") {
        given.drain(at..given.len().min(at + 2));
    }
    let version = first_line(&repository, &daylight, &["--version"]).unwrap_or_default();
    let commit = first_line(&repository, Path::new("git"), &["describe", "--always", "--dirty"]);
    let mut header = report::Header {
        nodes: arguments.nodes,
        sizes: sizes(arguments.nodes),
        command: format!("cargo bench-cluster -- {}", given.join(" ")),
        machine: machine(),
        versions: format!("{version} ({}), Kubernetes v1.37.2", commit.unwrap_or_default()),
        date: first_line(&repository, Path::new("date"), &["-u", "+%F"]).unwrap_or_default(),
    };
    header.command.truncate(header.command.trim_end_matches([' ', '-']).len());
    let mut runs: Vec<Run> = Vec::new();
    let mut complete = true;
    for &rates in &arguments.rates {
        for &drain in &arguments.drains {
            let setup = Setup {
                nodes: arguments.nodes,
                drain,
                rates,
                sizes: header.sizes.clone(),
                repeats: arguments.repeats,
                daylight: daylight.clone(),
                repository: repository.clone(),
            };
            runs.push(Run { rates, drain, rows: Vec::new(), notes: Vec::new(), memory: None });
            for &side in &arguments.sides {
                let Some(run) = runs.last_mut() else { continue };
                let (load, begun) = (load(), Instant::now());
                println!(
                    "\n{} with {} rates, drain {drain} s (load average before: {load})",
                    side.text(),
                    rates.text(),
                );
                run.notes.push(format!("{}: load average before it {load}.", side.text()));
                let mut rows = Rows { side, run };
                let measured = async {
                    match side {
                        Side::Kubernetes => sides::kubernetes(&setup, &mut rows).await,
                        Side::Client => sides::client(&setup, &mut rows).await,
                        Side::Daylight => sides::daylight(&setup, &log, &mut rows).await,
                    }
                };
                let measured = tokio::time::timeout(SIDE_LIMIT, Box::pin(measured)).await;
                let measured =
                    measured.unwrap_or_else(|_| Err(Error::new("it exceeded its total time")));
                if let Err(error) = measured {
                    complete = false;
                    println!("  stopped: {error}");
                    run.notes.push(format!("{}: stopped: {error}.", side.text()));
                    show_log(side, &log);
                }
                println!("  {} in total", story::seconds(begun.elapsed()));
                if let Some(path) = &arguments.write {
                    report::write(path, &header, &runs)?;
                }
            }
        }
    }
    Ok(complete)
}

/// Prints the end of the controller's log.
fn show_log(side: Side, log: &Path) {
    if side == Side::Daylight {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let last: Vec<_> = text.lines().rev().take(10).collect();
        last.into_iter().rev().for_each(|line| println!("  controller: {line}"));
    }
}
