//! Writes the custom resource definitions into this crate's folder, to which the chart
//! `daylight-crds` links, and the page that describes them. With `--check`, writes nothing and fails
//! if a file is out of date.

use std::{error::Error, fs, path::Path, process::ExitCode};

use daylight_crds::{api_reference, definitions, manifest, manifest_name};

const USAGE: &str = "usage: cargo crds [-- --check]

Writes the custom resource definitions to crds/*.yaml, and docs/reference/api.md.
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
    let definitions = definitions();
    let mut files = vec![("docs/reference/api.md".to_owned(), api_reference(&definitions))];
    for definition in &definitions {
        files.push((format!("crds/{}", manifest_name(definition)), manifest(definition)?));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut stale = Vec::new();
    for (name, wanted) in files {
        let path = root.join(&name);
        if fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
            continue;
        }
        if !check {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&path, wanted)?;
            println!("wrote {name}");
        }
        stale.push(name);
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
