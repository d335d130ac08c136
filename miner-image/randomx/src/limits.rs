//! Limits of the container, by its control group.

use std::fs;
use std::path::Path;

/// Mount point at which a container sees its own group.
pub(crate) const ROOT: &str = "/sys/fs/cgroup";

/// Returns the limit of memory in bytes, if there is one.
pub(crate) fn memory(root: &Path) -> Option<u64> {
    // Version 1 writes "no limit" as a number that no machine has, which works as one.
    read(root, "memory.max").or_else(|| read(root, "memory/memory.limit_in_bytes"))
}

/// Returns the limit of huge pages of 2 MiB in bytes, if there is one. It must be checked before: the
/// kernel maps pages beyond it, and kills the process when it touches them.
pub(crate) fn huge_pages(root: &Path) -> Option<u64> {
    read(root, "hugetlb.2MB.max").or_else(|| read(root, "hugetlb/hugetlb.2MB.limit_in_bytes"))
}

fn read(root: &Path, file: &str) -> Option<u64> {
    // `max`, or a missing file, means that there is no limit.
    fs::read_to_string(root.join(file)).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_both_versions() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!((memory(root), huge_pages(root)), (None, None));

        fs::create_dir(root.join("memory")).unwrap();
        fs::create_dir(root.join("hugetlb")).unwrap();
        fs::write(root.join("memory/memory.limit_in_bytes"), "1073741824\n").unwrap();
        fs::write(root.join("hugetlb/hugetlb.2MB.limit_in_bytes"), "0\n").unwrap();
        assert_eq!((memory(root), huge_pages(root)), (Some(1 << 30), Some(0)));

        fs::write(root.join("memory.max"), "268435456\n").unwrap();
        fs::write(root.join("hugetlb.2MB.max"), "4194304\n").unwrap();
        assert_eq!((memory(root), huge_pages(root)), (Some(1 << 28), Some(1 << 22)));
    }

    #[test]
    fn max_is_no_limit() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("memory.max"), "max\n").unwrap();
        assert_eq!(memory(root.path()), None);
    }
}
