//! The command of a recipe, such as `cargo miner-image`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use super::{Error, Options, Recipe, Result, Target, build};

/// Image of one static program as an OCI layout. The digest is the same on every machine with the
/// same source and the same compilers
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Path of the image: a file if it ends in `.tar`, else a folder. May be given more than once.
    /// Only a folder contains the bill of materials [default: a folder and a file in cargo's target folder]
    #[arg(long, value_name = "PATH")]
    output: Vec<PathBuf>,

    /// Name of the image where it is loaded [default: the program's, with its version as the tag]
    #[arg(long)]
    name: Option<String>,

    /// Target to build for [default: this machine's]
    #[arg(long, value_enum)]
    target: Option<Target>,

    /// Features of the program, separated by commas. With `gpu` the miner is linked dynamically,
    /// since it loads drivers, and the image includes this machine's C library and Vulkan loader
    #[arg(long, value_delimiter = ',')]
    features: Vec<String>,

    /// Leave out the features that the image has by default, such as the miner's `randomx`
    #[arg(long)]
    no_default_features: bool,

    /// Use this program, built before from this source and for the same target, and build nothing
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,

    /// Also write the bill of materials to this file
    #[arg(long, value_name = "FILE")]
    sbom: Option<PathBuf>,

    /// Import the image into this machine's containerd with `ctr`, for its kubelet
    #[arg(long)]
    load: bool,

    /// Socket of containerd for `--load`
    #[arg(
        long,
        value_name = "SOCKET",
        env = "CONTAINERD_ADDRESS",
        default_value = "/run/containerd/containerd.sock"
    )]
    containerd: PathBuf,
}

/// Runs the command of a recipe with this process' arguments.
pub fn main(recipe: &Recipe) -> ExitCode {
    let command = Cli::command().name(recipe.command);
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    match run(recipe, cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", recipe.command);
            ExitCode::FAILURE
        }
    }
}

fn run(recipe: &Recipe, cli: Cli) -> Result<()> {
    let Cli {
        output: mut outputs,
        name,
        target,
        features,
        no_default_features,
        binary,
        sbom,
        load,
        containerd,
    } = cli;
    let built = build(recipe, &Options { features, no_default_features, target, binary })?;
    let name = name.unwrap_or(built.name);
    let layout = built.layout.named(&name);
    if let Some(path) = sbom {
        fs::write(&path, &built.bill_of_materials).map_err(Error::io("writing", &path))?;
    }
    let folder = built.target_directory.join(recipe.command);
    let archive = folder.with_extension("tar");
    if outputs.is_empty() {
        outputs = vec![folder, archive];
    } else if load && !outputs.iter().any(|output| is_archive(output)) {
        outputs.push(archive);
    }
    for output in &outputs {
        if is_archive(output) { layout.write_tar(output) } else { layout.write_directory(output) }?;
    }

    let sizes = layout.sizes();
    println!("image   {}", layout.digest());
    println!("name    {name} (linux/{})", built.platform.architecture);
    println!("program {}", bytes(built.program));
    println!("layer   {} (unpacked {})", bytes(sizes.layer), bytes(sizes.unpacked));
    println!("pulled  {}", bytes(sizes.total));
    println!("sbom    {}", built.referrer);
    for output in &outputs {
        println!("written {}", output.display());
    }
    let archive = outputs.iter().find(|output| is_archive(output));
    if let Some(archive) = archive.filter(|_| load) {
        import(&containerd, archive)?;
        println!("loaded  {name} into {}", containerd.display());
    }
    println!("\nTo load it on nodes, or push it to a registry of yours:");
    for line in next_commands(recipe, &name, layout.tag(), &outputs) {
        println!("    {line}");
    }
    Ok(())
}

/// Returns commands that bring the image to a cluster, for the forms that were written.
fn next_commands(recipe: &Recipe, name: &str, tag: &str, outputs: &[PathBuf]) -> Vec<String> {
    let mut commands = Vec::new();
    if let Some(archive) = outputs.iter().find(|output| is_archive(output)) {
        let archive = archive.display();
        commands.push(format!("ctr -n k8s.io images import {archive}"));
        commands.push(format!("kind load image-archive {archive}"));
        commands.push(format!("k3d image import {archive}"));
    }
    let default = recipe.image.rsplit_once('/').map_or(recipe.image, |(_, last)| last);
    let pushed = if name.starts_with(&format!("{}:", recipe.image)) {
        format!("registry.example.com/{default}:{tag}")
    } else {
        name.to_owned()
    };
    if let Some(output) = outputs.iter().min_by_key(|output| is_archive(output)) {
        let form = if is_archive(output) { "oci-archive" } else { "oci" };
        let output = output.display();
        commands.push(format!("skopeo copy {form}:{output}:{tag} docker://{pushed}"));
    }
    commands
}

/// Imports an archive into containerd, in the namespace of its Kubernetes plugin.
fn import(containerd: &Path, archive: &Path) -> Result<()> {
    let mut ctr = Command::new("ctr");
    ctr.arg("--address").arg(containerd).args(["--namespace", "k8s.io", "images", "import"]);
    let output = ctr.arg(archive).output().map_err(|error| {
        Error::Command(format!(
            "ctr cannot be run: {error}: install containerd, which it belongs to"
        ))
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Command(format!(
        "containerd at {} did not take {}: {}. Name its socket with --containerd",
        containerd.display(),
        archive.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tar")
}

fn bytes(count: u64) -> String {
    format!("{count} bytes, {:.2} MB", count as f64 / 1e6)
}
