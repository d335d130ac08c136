//! `docs/benchmarks.md`.

use std::fmt::Write as _;
use std::path::Path;

use daylight_demo::{Error, Result};

use crate::measured::{Rates, Row, Run, Side, What};

/// The text after this line in the file is written by hand, and kept.
const WRITTEN_BY_HAND: &str = "<!-- Below this line the file is written by hand. -->";

/// The circumstances of the measurements.
pub(crate) struct Header {
    pub nodes: usize,
    pub sizes: Vec<usize>,
    pub command: String,
    pub machine: String,
    pub versions: String,
    pub date: String,
}

/// Writes the file with the runs so far.
pub(crate) fn write(path: &Path, header: &Header, runs: &[Run]) -> Result<()> {
    let before = std::fs::read_to_string(path).unwrap_or_default();
    let by_hand = before.split_once(WRITTEN_BY_HAND).map_or("\n", |(_, rest)| rest);
    let text = format!("{}{WRITTEN_BY_HAND}{by_hand}", measured(header, runs));
    std::fs::write(path, text)
        .map_err(|error| Error::new(format!("{} cannot be written: {error}", path.display())))
}

fn measured(header: &Header, runs: &[Run]) -> String {
    let gpus = header.nodes * 8;
    let mut text = format!(
        "\
# Benchmarks: side by side on a whole cluster

Written by `{}`.

| | |
|---|---|
| date | {} |
| machine | {} |
| versions | {} |
| cluster | {} simulated nodes of 8 GPUs ({gpus}), a real control plane, a fresh one for each side |

Each pod asks for 1 GPU, 500m CPU and 1 GiB. Times go from the request that creates the work until an independent watch
has seen all its pods Running. Displaced is the number of bound filling pods that the watch saw stopping; *by Daylight* is
the number of them that Daylight counted as its own evictions (kube-scheduler preempts for plain work). All sides send the
same filling pods: those that Daylight creates for a Miner, with labels, security context, variables and owner.

- **(a) bare Kubernetes:** a Deployment of {gpus} pods with priority -1000000 and `preemptionPolicy: Never` fills;
  kube-scheduler preempts for plain work.
- **(b) bare client:** sends the same {gpus} pods, each pinned to its node, 64 requests at once, and decides nothing;
  then evicts as many as the largest Job has, and creates the Job once these have ended.
- **(c) Daylight:** one Miner of {gpus} replicas, policy `Fill`, headroom 0, everything else at its default.
- **Stock rates:** kube-controller-manager and kube-scheduler send requests at their default rates:
  20 a second for each controller, 50 for the scheduler. **High rates:** high enough to be no limit.
- **Drain:** the time that a filling pod takes from SIGTERM to its end.
",
        header.command, header.date, header.machine, header.versions, header.nodes,
    );
    for run in runs {
        let _ = write!(text, "\n{}", section(header, run));
    }
    text.push('\n');
    text
}

fn section(header: &Header, run: &Run) -> String {
    let rates = match run.rates {
        Rates::Stock => "Stock rates",
        Rates::High => "High rates",
    };
    let mut text = format!("## {rates}, drain {} s\n\n", run.drain);
    let mut lines: Vec<(What, usize)> = Vec::new();
    for (_, row) in &run.rows {
        if !lines.contains(&(row.what, row.pods)) {
            lines.push((row.what, row.pods));
        }
    }
    text.push_str(
        "| what | (a) bare Kubernetes | (b) bare client | (c) Daylight |\n|---|---|---|---|\n",
    );
    for (what, pods) in lines {
        let cells = Side::ALL
            .map(|side| run.row(side, what, pods).map_or_else(|| "-".to_owned(), Row::text));
        let _ = writeln!(text, "| {} | {} |", what.text(pods), cells.join(" | "));
    }
    text.push_str("\n| bar | measured | |\n|---|---|---|\n");
    for bar in bars(header, run) {
        let met = match bar.met {
            Some(true) => "hit",
            Some(false) => "**missed**",
            None => "not measured",
        };
        let _ = writeln!(text, "| {} | {} | {met} |", bar.what, bar.measured);
    }
    text.push_str("\nEvents in seconds from the start, and CPU-seconds by process:\n\n");
    text.push_str("| side | what | when | CPU-seconds |\n|---|---|---|---|\n");
    for (side, row) in &run.rows {
        let what = row.what.text(row.pods);
        let _ = writeln!(text, "| ({}) | {what} | {} | {} |", side.letter(), row.timeline, row.cpu);
    }
    text.push('\n');
    if let Some(bytes) = run.memory {
        let _ = writeln!(text, "- Daylight's memory: at most {} MB resident.", bytes / 1_000_000);
    }
    for note in &run.notes {
        let _ = writeln!(text, "- {note}");
    }
    text
}

struct Bar {
    what: String,
    measured: String,
    met: Option<bool>,
}

/// Compares two times, if both were measured.
fn compare(
    what: String,
    ours: Option<f64>,
    theirs: Option<f64>,
    met: impl Fn(f64, f64) -> bool,
) -> Bar {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => Bar {
            what,
            measured: format!("{ours:.2} s to {theirs:.2} s ({:.0}%)", 100.0 * ours / theirs),
            met: Some(met(ours, theirs)),
        },
        _ => Bar { what, measured: "-".to_owned(), met: None },
    }
}

/// Returns whether `ours` is at most `theirs`, within the noise of a measurement.
fn no_slower(ours: f64, theirs: f64) -> bool {
    ours <= theirs * 1.1
}

fn bars(header: &Header, run: &Run) -> Vec<Bar> {
    let gpus = header.nodes * 8;
    let median = |side, what, pods| run.row(side, what, pods).and_then(Row::median);
    let (a, b, c) = (Side::Kubernetes, Side::Client, Side::Daylight);
    let filled = median(c, What::Fill, gpus);
    let mut bars = vec![
        compare(
            "(c) fills at 80% of the rate of (b) or more".to_owned(),
            filled,
            median(b, What::Fill, gpus),
            |ours, theirs| theirs / ours >= 0.8,
        ),
        compare(
            "(c) fills faster than (a)".to_owned(),
            filled,
            median(a, What::Fill, gpus),
            |ours, theirs| ours < theirs,
        ),
        compare(
            "one plain pod: the median of (c) no slower than the slowest of (a) within 10%"
                .to_owned(),
            median(c, What::Pod, 1),
            run.row(a, What::Pod, 1).and_then(Row::slowest),
            no_slower,
        ),
    ];
    for &pods in &header.sizes {
        let ours = run.row(c, What::AiJob, pods);
        if Some(&pods) == header.sizes.last() {
            bars.push(compare(
                format!("AIJob of {pods}: at most half the time of a plain Job in (a)"),
                median(c, What::AiJob, pods),
                median(a, What::Job, pods),
                |ours, theirs| ours <= theirs / 2.0,
            ));
        }
        bars.push(Bar {
            what: format!("AIJob of {pods}: exactly {pods} displaced"),
            measured: ours.map_or_else(|| "-".to_owned(), |row| row.displaced.to_string()),
            met: ours.map(|row| row.displaced == pods && !row.times.is_empty()),
        });
        if pods == 1 {
            continue;
        }
        bars.push(compare(
            format!("plain Job of {pods}: no slower than (a) within 10%"),
            median(c, What::Job, pods),
            median(a, What::Job, pods),
            no_slower,
        ));
        let displaced = |side| run.row(side, What::Job, pods).map(|row| row.displaced);
        let both = displaced(c).zip(displaced(a));
        bars.push(Bar {
            what: format!("plain Job of {pods}: no more displaced than in (a)"),
            measured: both.map_or_else(
                || "-".to_owned(),
                |(ours, theirs)| match run.row(c, What::Job, pods).and_then(|row| row.evicted) {
                    Some(evicted) => format!("{ours} to {theirs}; {evicted} by Daylight"),
                    None => format!("{ours} to {theirs}"),
                },
            ),
            met: both.map(|(ours, theirs)| ours <= theirs),
        });
    }
    bars
}
