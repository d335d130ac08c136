//! Writes the dashboards into the chart. With `--check`, writes nothing and fails if a file is out
//! of date.

use std::{error::Error, fs, path::Path, process::ExitCode};

use daylight_dashboards::{all, text};

const USAGE: &str = "usage: cargo dashboards [-- --check]

Writes the dashboards to charts/daylight/dashboards.
  --check   write nothing; fail if a file differs from charts/dashboards/src";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--check"] => true,
        _ => {
            eprintln!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daylight/dashboards");
    let mut stale = Vec::new();
    for (name, dashboard) in all() {
        let path = directory.join(name);
        let wanted = text(&dashboard);
        if fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
            continue;
        }
        if !check {
            fs::write(&path, wanted)?;
            println!("wrote charts/daylight/dashboards/{name}");
        }
        stale.push(name);
    }
    if check && !stale.is_empty() {
        eprintln!(
            "{} differ from charts/dashboards/src: run `cargo dashboards` and commit the result",
            stale.join(", ")
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
