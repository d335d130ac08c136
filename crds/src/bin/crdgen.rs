//! Writes the custom resource definitions into this crate's folder, to which the chart
//! `daylight-crds` links. With `--check`, writes nothing and fails if a file is out of date.

use std::{error::Error, fs, path::Path, process::ExitCode};

use daylight_crds::{definitions, manifest, manifest_name};

const USAGE: &str = "usage: cargo crds [-- --check]

Writes the custom resource definitions to crds/*.yaml.
  --check   write nothing; fail if a file differs from the types";

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
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut stale = Vec::new();
    for definition in definitions() {
        let name = manifest_name(&definition);
        let path = directory.join(&name);
        let wanted = manifest(&definition)?;
        if fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
            continue;
        }
        if !check {
            fs::write(&path, wanted)?;
            println!("wrote crds/{name}");
        }
        stale.push(format!("crds/{name}"));
    }
    if check && !stale.is_empty() {
        eprintln!(
            "{} differ from the types in crds/src: run `cargo crds` and commit the result",
            stale.join(", ")
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
