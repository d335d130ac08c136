//! Writes the custom resource definitions beside this crate, or, with `--check`, says whether
//! those that lie there are the ones that the types give.

use std::{error::Error, fs, path::Path, process::ExitCode};

use daylight_crds::{definitions, manifest, manifest_name};

const USAGE: &str = "usage: cargo crds [-- --check]

Writes the custom resource definitions to crds/*.yaml.
  --check   write nothing; fail if a file is not what the types give";

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
        let path = directory.join(manifest_name(&definition));
        let wanted = manifest(&definition)?;
        if fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
            continue;
        }
        if !check {
            fs::write(&path, wanted)?;
            println!("wrote {}", shown(&path));
        }
        stale.push(path);
    }
    if check && !stale.is_empty() {
        let names: Vec<String> = stale.iter().map(|path| shown(path)).collect();
        eprintln!(
            "{} differ from the types in crds/src: run `cargo crds` and commit the result",
            names.join(", ")
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    format!("crds/{}", name.display())
}
