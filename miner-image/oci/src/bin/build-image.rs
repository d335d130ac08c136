//! Builds the miner's image, as `cargo miner-image`. `miner-image/README.md` is its manual.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use daylight_oci::build::{Error, MINER, Options, Result, Target, build};

/// Builds the miner's image as an OCI layout of one static program. The digest is the same on every
/// machine with the same source and the same compilers
#[derive(Parser)]
#[command(name = "miner-image", version)]
struct Cli {
    /// Path of the image: a file if it ends in `.tar`, else a folder. May be given more than once
    /// [default: miner-image in cargo's target folder]
    #[arg(long, value_name = "PATH")]
    output: Vec<PathBuf>,

    /// Name of the image where it is loaded [default: daylight.dev/miner:VERSION,
    /// with GPUs daylight.dev/miner-gpu:VERSION]
    #[arg(long)]
    name: Option<String>,

    /// Target to build for [default: this machine's]
    #[arg(long, value_enum)]
    target: Option<Target>,

    /// Features of daylight-miner, separated by commas. With `gpu` the program is linked dynamically,
    /// since it loads drivers, and the image includes this machine's C library and Vulkan loader
    #[arg(long, value_delimiter = ',')]
    features: Vec<String>,

    /// Leave out the features that the image has by default (randomx)
    #[arg(long)]
    no_default_features: bool,

    /// Use this program, built before from this source and for the same target, and build nothing
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,

    /// Also write the bill of materials to this file; the layout contains it in any case
    #[arg(long, value_name = "FILE")]
    sbom: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("miner-image: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let Cli { output, name, target, features, no_default_features, binary, sbom } = cli;
    let built = build(&MINER, &Options { features, no_default_features, target, binary })?;
    let name = name.unwrap_or(built.name);
    let layout = built.layout.named(&name);
    if let Some(path) = sbom {
        fs::write(&path, &built.bill_of_materials).map_err(|source| Error::Io {
            doing: "writing",
            path,
            source,
        })?;
    }
    let default = [built.target_directory.join("miner-image")];
    let outputs = if output.is_empty() { &default[..] } else { &output };
    for output in outputs {
        if is_tar(output) { layout.write_tar(output) } else { layout.write_directory(output) }?;
    }

    let sizes = layout.sizes();
    println!("image   {}", layout.digest());
    println!("name    {name} (linux/{})", built.platform.architecture);
    println!("program {}", bytes(built.program));
    println!("layer   {} (unpacked {})", bytes(sizes.layer), bytes(sizes.unpacked));
    println!("pulled  {}", bytes(sizes.total));
    println!("sbom    {}", built.referrer);
    for output in outputs {
        println!("written {}", output.display());
    }
    Ok(())
}

fn is_tar(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tar")
}

fn bytes(count: u64) -> String {
    format!("{count} bytes, {:.2} MB", count as f64 / 1e6)
}
