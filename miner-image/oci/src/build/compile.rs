//! Compilation of the program: static unless it loads drivers, stripped, and the same bytes in any
//! folder.

use std::fs;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Stdio;

use cargo_metadata::Message;

use super::Plan;
use super::crate_tree::CrateTree;
use super::error::{Error, Result};
use super::toolchain::Toolchain;
use super::workspace::{Workspace, cargo_home};

/// Compiles the program and returns its path.
pub(super) fn compile(
    workspace: &Workspace,
    toolchain: &Toolchain,
    tree: &CrateTree,
    plan: Plan<'_>,
) -> Result<PathBuf> {
    let (target, package) = (toolchain.target.triple(), plan.recipe.package);
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "--profile", plan.recipe.command]);
    cargo.args(["--package", package, "--bin", package]);
    cargo.args(["--target", target, "--message-format", "json-render-diagnostics"]);
    cargo.args(plan.arguments());
    let places = places(workspace, toolchain);
    let mut flags = Vec::new();
    if plan.dynamic().is_none() {
        flags.push("-Ctarget-feature=+crt-static".to_owned());
    }
    let mut c_flags = Vec::new();
    for (from, to) in &places {
        let from =
            from.to_str().filter(|from| !from.contains(char::is_whitespace)).ok_or_else(|| {
                Error::Target(format!(
                    "{} has a space, which flags for C compilers cannot carry: build elsewhere",
                    from.display()
                ))
            })?;
        flags.push(format!("--remap-path-prefix={from}={to}"));
        c_flags.push(format!("-ffile-prefix-map={from}={to}"));
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    // Both are those whose versions the bill of materials has, whatever `cc` and `c++` are here.
    let (cc, cxx) = (&*toolchain.cc, &*toolchain.cxx);
    let c_flags = c_flags.join(" ");
    for (name, value) in [("CC", cc), ("CXX", cxx), ("CFLAGS", &*c_flags), ("CXXFLAGS", &*c_flags)]
    {
        cargo.env(format!("{name}_{}", target.replace('-', "_")), value);
    }
    // C compilers take `__DATE__` and `__TIME__` from it rather than from the clock.
    cargo.env("SOURCE_DATE_EPOCH", "0");
    // For this machine's own target rustc links by its LLD, unless a linker is named.
    if toolchain.foreign {
        let linker = format!("CARGO_TARGET_{}_LINKER", target.replace('-', "_").to_uppercase());
        cargo.env(linker, cc);
    }

    let mut child =
        cargo.stdout(Stdio::piped()).spawn().map_err(Error::unreadable("running cargo"))?;
    let mut built = None;
    for message in Message::parse_stream(BufReader::new(child.stdout.take().expect("a pipe"))) {
        if let Message::CompilerArtifact(artifact) =
            message.map_err(Error::unreadable("cargo's messages"))?
        {
            tree.has(&artifact.package_id.repr)?;
            if artifact.target.name == package {
                built = artifact.executable.or(built);
            }
        }
    }
    let status = child.wait().map_err(Error::unreadable("waiting for cargo"))?;
    built.filter(|_| status.success()).map(PathBuf::from).ok_or_else(|| {
        Error::Target(format!(
            "{package} could not be built for {target}; where its standard library is what is missing: rustup target add {target}"
        ))
    })
}

/// Returns folders of this machine with their names in the program. Where several match, rustc uses
/// the last.
fn places(workspace: &Workspace, toolchain: &Toolchain) -> Vec<(PathBuf, String)> {
    let mut places = Vec::new();
    if let Some(home) = cargo_home() {
        // A registry's folder is named after its address, which differs for a mirror.
        let registries = home.join("registry/src");
        let mut sources: Vec<PathBuf> = fs::read_dir(&registries)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        sources.sort();
        places.push((home, "/cargo".to_owned()));
        places.extend(sources.into_iter().map(|source| (source, "/cargo/registry".to_owned())));
    }
    places.push((workspace.root.clone(), "/daylight".to_owned()));
    places.push((workspace.target_directory.clone(), "/daylight/target".to_owned()));
    if let Some(build) = &workspace.build_directory {
        places.push((build.clone(), "/daylight/target".to_owned()));
    }
    let library = toolchain.sysroot.join("lib/rustlib/src/rust");
    places.push((library, format!("/rustc/{}", toolchain.rustc_commit)));
    places
}
