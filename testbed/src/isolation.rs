//! The network namespace that a real node needs: its pods' bridge and addresses
//! are made there, and nothing is changed outside.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{fs, io};

use crate::binary::{Programs, build_workload};
use crate::error::{Error, Result};
use crate::{Component, control_groups};

/// The real node's own address, on the loopback interface of the namespace: kubelet
/// refuses an address of the loopback network.
pub(crate) const ADDRESS: &str = "10.88.0.1";
/// Set in the namespace, to what was built for it.
const ISOLATED: &str = "DAYLIGHT_TESTBED_ISOLATED";
/// Where distributions and the CNI project put the plugins.
const PLUGINS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
/// What a real node does in its namespaces first, in short.
const TRIAL: &str = "
    ip link add daylight0 type bridge
    mount -t tmpfs tmpfs /run
    mkdir /run/upper /run/work
    mount -t overlay overlay -o lowerdir=/var/lib,upperdir=/run/upper,workdir=/run/work /var/lib
";

/// Starts this program over, with the same arguments, in a network namespace of
/// its own, as a control plane with a real node has to run. To be called first
/// of all: it returns `Ok` only in there, where there is a loopback interface
/// and no other.
///
/// The process stays the same one, and the namespace goes with the last process
/// in it.
///
/// # Errors
///
/// [`Error::NoRealNode`] where no real node can run: it takes Linux, root,
/// containerd, runc, the CNI plugins, and util-linux and iproute2. Also where
/// the programs cannot be built, which is done before: there is no network
/// inside.
pub fn isolate() -> Result<()> {
    isolate_with(|| Ok(Vec::new())).map(drop)
}

/// The same for a program that needs more than that: `build` makes it once it is known that a real
/// node can run, while there still is a network. The files that it gives are given back inside.
///
/// # Errors
///
/// Those of [`isolate`], and of `build`.
pub fn isolate_with<E: From<Error>>(
    build: impl FnOnce() -> Result<Vec<PathBuf>, E>,
) -> Result<Vec<PathBuf>, E> {
    if let Some(files) = std::env::var_os(ISOLATED) {
        let files = std::env::split_paths(&files).filter(|file| !file.as_os_str().is_empty());
        return Ok(files.collect());
    }
    if let Some(why) = obstacle() {
        return Err(Error::NoRealNode { why }.into());
    }
    let files = build()?;
    Programs::find([Component::Kubelet])?;
    build_workload()?;
    Err(start_over(&files).into())
}

/// Returns only where that failed.
fn start_over(files: &[PathBuf]) -> Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return Error::io("finding", "this program")(error),
    };
    let files = match std::env::join_paths(files) {
        Ok(files) => files,
        Err(error) => return Error::io("naming", "what was built")(io::Error::other(error)),
    };
    let inside = format!(r#"ip link set lo up && ip address add {ADDRESS}/32 dev lo && exec "$@""#);
    let error = Command::new("unshare")
        .args(["--net", "sh", "-c", &inside, "sh"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(ISOLATED, files)
        .exec();
    Error::io("starting", "unshare")(error)
}

pub(crate) fn is_isolated() -> bool {
    std::env::var_os(ISOLATED).is_some()
}

/// The directory of the CNI plugins.
pub(crate) fn plugins() -> Option<PathBuf> {
    PLUGINS.iter().map(PathBuf::from).find(|directory| {
        ["bridge", "host-local", "loopback"].iter().all(|plugin| directory.join(plugin).is_file())
    })
}

/// What keeps a real node from running here, if anything does.
fn obstacle() -> Option<String> {
    if fs::metadata("/proc/self").map_or(true, |process| process.uid() != 0) {
        return Some("it takes root, on Linux".to_owned());
    }
    let programs = ["containerd", "ctr", "runc", "unshare", "mount", "ip"];
    let mut missing: Vec<&str> = programs.into_iter().filter(|name| !is_on_path(name)).collect();
    if plugins().is_none() {
        missing.push("the CNI plugins");
    }
    if !missing.is_empty() {
        return Some(format!(
            "{} missing (Debian: apt-get install containerd runc containernetworking-plugins \
             iproute2)",
            missing.join(", ")
        ));
    }
    if control_groups::are_barred() {
        return Some(
            "the root of the control groups holds processes, as in a container whose first \
             process has not moved them, and so no groups below it"
                .to_owned(),
        );
    }
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--mount-proc", "--fork", "sh", "-ec", TRIAL])
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| !output.status.success())?;
    let said = String::from_utf8_lossy(&output.stderr);
    Some(format!("namespaces, or a bridge or an overlay in them, are refused ({})", said.trim()))
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
