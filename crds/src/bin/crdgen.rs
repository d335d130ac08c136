//! Writes the custom resource definitions beside this crate and into the chart `daylight-crds`, or,
//! with `--check`, says whether those that lie there are the ones that the types give.

use std::{error::Error, fs, path::Path, process::ExitCode};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use daylight_crds::{definitions, manifest, manifest_name};

const USAGE: &str = "usage: cargo crds [-- --check]

Writes the custom resource definitions to crds/*.yaml and charts/daylight-crds/templates/*.yaml.
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut stale = Vec::new();
    for definition in definitions() {
        let name = manifest_name(&definition);
        for (file, wanted) in [
            (format!("crds/{name}"), manifest(&definition)?),
            (format!("charts/daylight-crds/templates/{name}"), manifest(&kept(definition))?),
        ] {
            let path = root.join(&file);
            if fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
                continue;
            }
            if !check {
                fs::write(&path, wanted)?;
                println!("wrote {file}");
            }
            stale.push(file);
        }
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

/// Marked so that helm leaves it when the chart is uninstalled: all objects would go with it.
fn kept(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    let annotations = definition.metadata.annotations.get_or_insert_default();
    annotations.insert("helm.sh/resource-policy".into(), "keep".into());
    definition
}
