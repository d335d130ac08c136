//! The network namespace that a real node requires: its pods' bridge and addresses
//! are created there, and nothing is changed outside.

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
/// The variable that is set in the namespace, to the paths of the files that were built for it.
const ISOLATED: &str = "DAYLIGHT_TESTBED_ISOLATED";
/// The directories in which distributions and the CNI project install the plugins.
const PLUGINS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
/// The first steps of a real node in its namespaces, to see whether they are permitted.
const TRIAL: &str = "
    ip link add daylight0 type bridge
    mount -t tmpfs tmpfs /run
    mkdir /run/upper /run/work
    mount -t overlay overlay -o lowerdir=/var/lib,upperdir=/run/upper,workdir=/run/work /var/lib
";

/// Starts this program again, with the same arguments, in its own network
/// namespace, where a control plane with a real node has to run. Call it before
/// anything else: it returns `Ok` only inside, where the loopback interface is
/// the only one.
///
/// The process stays the same, and the namespace ends with the last process
/// in it.
///
/// # Errors
///
/// [`Error::NoRealNode`] where no real node can run: it requires Linux, root,
/// containerd, runc, the CNI plugins, and util-linux and iproute2. Also where
/// the programs cannot be built, which happens first: there is no network
/// inside.
pub fn isolate() -> Result<()> {
    isolate_with(|| Ok(Vec::new())).map(drop)
}

/// Does the same for a program that needs more files: `build` is called once it is known that a real
/// node can run, while there still is a network. Inside, this returns the files that it returned.
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

/// Starts this program again, inside. Returns only if that fails.
fn start_over(files: &[PathBuf]) -> Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return Error::io("finding", "this program")(error),
    };
    let files = match std::env::join_paths(files) {
        Ok(files) => files,
        Err(error) => return Error::io("naming", "the built files")(io::Error::other(error)),
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

/// Returns the reason why no real node can run here, if there is one.
fn obstacle() -> Option<String> {
    if fs::metadata("/proc/self").map_or(true, |process| process.uid() != 0) {
        return Some("it requires root, on Linux".to_owned());
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
             process has not moved them, so that no groups can be created below it"
                .to_owned(),
        );
    }
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--mount-proc", "--fork", "sh", "-ec", TRIAL])
        .stdin(Stdio::null())
        .output()
        .ok()
        .filter(|output| !output.status.success())?;
    let error = String::from_utf8_lossy(&output.stderr);
    Some(format!(
        "namespaces, or a bridge or an overlay in them, are not permitted: {}",
        error.trim()
    ))
}

/// Checks that kube-proxy finds iptables.
pub(crate) fn find_iptables() -> Result<()> {
    if is_on_path("iptables") {
        return Ok(());
    }
    let why = "kube-proxy requires iptables (Debian: apt-get install iptables)".to_owned();
    Err(Error::NoRealNode { why })
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
