//! The control group that holds those of a real node's kubelet.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const ROOT: &str = "/sys/fs/cgroup";
/// The controllers that kubelet requires, where the kernel has them.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "hugetlb", "memory", "pids"];

/// Creates a group of this name at the top of each hierarchy. In version 2 its
/// controllers have to be on: they are on a machine that runs containers.
pub(crate) fn create(name: &OsStr) -> Result<()> {
    let root = Path::new(ROOT);
    if let Ok(available) = fs::read_to_string(root.join("cgroup.controllers")) {
        let path = root.join("cgroup.subtree_control");
        let on = fs::read_to_string(&path).unwrap_or_default();
        let has = |list: &str, name: &str| list.split_whitespace().any(|one| one == name);
        for controller in CONTROLLERS {
            if has(&available, controller) && !has(&on, controller) {
                fs::write(&path, format!("+{controller}"))
                    .map_err(Error::io("enabling a controller", &path))?;
            }
        }
    }
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        fs::create_dir_all(&group).map_err(Error::io("creating a control group", &group))?;
    }
    Ok(())
}

/// Removes the groups of this name, and those in them. Those that hold
/// processes stay.
pub(crate) fn remove(name: &OsStr) {
    for hierarchy in hierarchies() {
        remove_empty(&hierarchy.join(name));
    }
}

fn remove_empty(group: &Path) {
    let Ok(entries) = fs::read_dir(group) else { return };
    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
        remove_empty(&entry.path());
    }
    let _ = fs::remove_dir(group);
}

/// Returns whether no group can be created here because the parent holds processes.
/// Version 2 allows groups below such a parent only at the machine's own root.
pub(crate) fn are_barred() -> bool {
    let root = Path::new(ROOT);
    root.join("cgroup.type").is_file()
        && fs::read_to_string(root.join("cgroup.procs")).is_ok_and(|ids| !ids.trim().is_empty())
}

/// The one hierarchy of version 2, or the many of version 1. (A directory has
/// several names there, such as `cpu` and `cpu,cpuacct`: links.)
fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from(ROOT);
    if root.join("cgroup.procs").is_file() {
        return vec![root];
    }
    let entries = fs::read_dir(&root).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.join("cgroup.procs").is_file()).collect()
}
