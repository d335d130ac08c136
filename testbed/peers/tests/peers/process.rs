//! Processes that are left after their parent was killed.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use daylight_peers::Btcd;
use daylight_testbed::trials::{Outcome, apply, trial};
use tokio::runtime::Runtime;

/// Makes this executable a test's child: it starts a node, prints that, and waits to be killed.
pub(crate) const CHILD: &str = "DAYLIGHT_PEERS_TEST_CHILD";

pub(crate) fn child() -> ! {
    let runtime = Runtime::new().expect("a runtime");
    let _node = runtime.block_on(Btcd::start()).expect("a node");
    println!("started");
    loop {
        std::thread::park();
    }
}

#[apply(trial!)]
async fn nothing_outlives_a_killed_parent() -> Outcome {
    // Fails where the node cannot run, which ignores the test.
    drop(Btcd::start().await?);
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.env(CHILD, "1").stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take().ok_or("its output")?;
    let line = BufReader::new(output).lines().next();
    let family = family(child.id());
    let killed = child.kill().and_then(|()| child.wait());
    assert_eq!(line.ok_or("it prints a line")??, "started");
    killed?;
    assert!(family.iter().any(|id| command_line(*id).contains("--regtest")), "{family:?}");

    let begun = Instant::now();
    while family.iter().any(|id| !command_line(*id).is_empty()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{family:?} still run");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A process's descendants.
fn family(id: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let children: Vec<u32> = tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|ids| ids.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|id| id.parse().ok())
        .collect();
    children.into_iter().flat_map(|id| [id].into_iter().chain(family(id))).collect()
}

/// Empty for one that is gone, and for a zombie.
fn command_line(id: u32) -> String {
    fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default()
}
