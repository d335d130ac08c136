//! `miner-image`: builds `daylight-miner` as a static program and puts it into an image with nothing
//! else, the same bytes on every machine with the same compilers. `miner-image/README.md` says more.

mod bom;
mod contents;
mod failure;
mod libraries;
mod program;
mod revision;
mod toolchain;
mod tree;
mod workspace;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use daylight_oci::{Compression, Image, Platform};

use crate::bom::Bom;
use crate::failure::{Result, doing};
use crate::revision::Revision;
use crate::toolchain::{Target, Toolchain};
use crate::tree::{Choice, Tree};
use crate::workspace::Workspace;

/// Builds the miner's image: an OCI layout of one static program, the same digest wherever it is
/// built from the same source with the same compilers
#[derive(Parser)]
#[command(name = "miner-image", version)]
struct Cli {
    /// Where the image goes: a file if it ends in `.tar`, else a folder; may be said more than once
    /// [default: miner-image in cargo's target folder]
    #[arg(long, value_name = "PATH")]
    output: Vec<PathBuf>,

    /// What the image is called where it is loaded [default: daylight.dev/miner:VERSION,
    /// with GPUs daylight.dev/miner-gpu:VERSION]
    #[arg(long)]
    name: Option<String>,

    /// What it runs on [default: this machine's]
    #[arg(long, value_enum)]
    target: Option<Target>,

    /// Features of daylight-miner, separated by commas. With `gpu` the program is a dynamic one, since
    /// it loads drivers, and this machine's C library and Vulkan loader are in the image, too
    #[arg(long, value_delimiter = ',')]
    features: Vec<String>,

    /// Leave out the default features of daylight-miner
    #[arg(long)]
    no_default_features: bool,

    /// Take this program, built before from this source and for the same target, and build nothing
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,

    /// Write the bill of materials here too; the layout has it in any case
    #[arg(long, value_name = "FILE")]
    sbom: Option<PathBuf>,
}

fn main() -> ExitCode {
    match make(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("miner-image: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn make(cli: &Cli) -> Result<()> {
    let workspace = Workspace::find()?;
    let toolchain = Toolchain::find(&workspace, cli.target)?;
    let choice = Choice { features: &cli.features, no_default_features: cli.no_default_features };
    let tree = Tree::read(&workspace, toolchain.target, choice)?;
    let built = match &cli.binary {
        Some(binary) => binary.clone(),
        None => program::build(&workspace, &toolchain, &tree, choice)?,
    };
    let program = fs::read(&built).map_err(doing("reading", &built))?;
    let (platform, libraries) = if choice.is_dynamic() {
        let libraries = libraries::libraries(&workspace, &toolchain, &built)?;
        (Platform::of_dynamic(&program)?, libraries)
    } else {
        (Platform::of(&program)?, Vec::new())
    };
    if platform.architecture != toolchain.target.architecture() {
        return Err(failure::Failure(format!(
            "{} is for {}, not for {}: name its --target",
            built.display(),
            platform.architecture,
            toolchain.target.triple()
        )));
    }

    let revision = Revision::read(&workspace.root)?;
    let bom =
        Bom { workspace: &workspace, toolchain: &toolchain, tree: &tree, libraries: &libraries };
    let bom = bom.document(&program, revision.created.as_deref())?;
    let size = program.len() as u64;
    let image = Image {
        platform: platform.clone(),
        files: contents::files(&workspace, program, libraries)?,
        config: contents::config(choice.is_dynamic())?,
        created: revision.created.clone(),
        annotations: contents::annotations(&workspace, &revision),
        compression: Compression::Gzip,
    };
    let kind = if choice.is_dynamic() { "miner-gpu" } else { "miner" };
    let name = format!("daylight.dev/{kind}:{}", workspace.version);
    let name = cli.name.clone().unwrap_or(name);
    let mut layout = image.pack()?.named(&name);
    let referrer = layout.attach(bom::MEDIA_TYPE, "daylight-miner.cdx.json", bom.clone())?;
    if let Some(path) = &cli.sbom {
        fs::write(path, &bom).map_err(doing("writing", path))?;
    }
    let default = [workspace.target_directory.join("miner-image")];
    let outputs = if cli.output.is_empty() { &default[..] } else { &cli.output };
    for output in outputs {
        if is_tar(output) { layout.write_tar(output) } else { layout.write_directory(output) }?;
    }

    let sizes = layout.sizes();
    println!("image   {}", layout.digest());
    println!("name    {name} (linux/{})", platform.architecture);
    println!("program {}", bytes(size));
    println!("layer   {} (unpacked {})", bytes(sizes.layer), bytes(sizes.unpacked));
    println!("pulled  {}", bytes(sizes.total));
    println!("sbom    {referrer}");
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
