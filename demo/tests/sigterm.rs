//! A terminated program leaves nothing behind.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a control plane to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends SIGKILL when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn nothing_is_left_of_bench_cluster_at_sigterm() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let there = || entries(directory.path());
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench-cluster"));
    bench.args(["--nodes", "2", "--sides", "a", "--daylight", "/bin/true"]);
    let mut bench = Killed(bench.env("TMPDIR", directory.path()).stdout(Stdio::null()).spawn()?);
    let begun = Instant::now();
    while !there().iter().any(|name| name.starts_with("daylight-testbed-")) {
        assert!(begun.elapsed() < PATIENCE, "it does not start: {:?}", there());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(there().iter().any(|name| name.starts_with("daylight-bench-")), "{:?}", there());
    let id = bench.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status()?.success());
    assert_eq!(bench.0.wait()?.code(), Some(1));
    assert_eq!(there(), Vec::<String>::new());
    Ok(())
}
