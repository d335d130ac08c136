//! Temporary directories that are removed even if their process is killed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::control_groups;
use crate::error::{Error, Result};

const PREFIX: &str = "daylight-testbed-";
const LOCK: &str = "in-use";

/// A temporary directory that is removed when this is dropped, or when the next
/// one is created, if this process was killed.
#[derive(Debug)]
pub struct Scratch {
    directory: TempDir,
    /// Locked while the directory is in use.
    _lock: File,
}

impl Scratch {
    /// Creates a directory.
    pub fn new() -> Result<Self> {
        let parent = std::env::temp_dir();
        remove_abandoned(&parent);
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&parent)
            .map_err(Error::io("creating a directory", &parent))?;
        let path = directory.path().join(LOCK);
        let lock = File::create(&path).map_err(Error::io("creating", &path))?;
        lock.lock().map_err(Error::io("locking", &path))?;
        Ok(Self { directory, _lock: lock })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The control group of a real node that has its files here.
    pub(crate) fn control_group(&self) -> &OsStr {
        self.path().file_name().unwrap_or_default()
    }

    /// Creates a directory in this one.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir_all(&path).map_err(Error::io("creating a directory", &path))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        control_groups::remove(self.control_group());
    }
}

/// Removes the directories that killed processes have left: those that are not
/// locked, and old enough that their creator has had the time to lock them. Ignores
/// errors, since another process may be doing the same.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        if let Ok(lock) = File::open(entry.path().join(LOCK))
            && age(&lock).is_some_and(|age| age > Duration::from_mins(1))
            && lock.try_lock().is_ok()
        {
            control_groups::remove(&entry.file_name());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn age(file: &File) -> Option<Duration> {
    file.metadata().ok()?.modified().ok()?.elapsed().ok()
}

/// Writes a file that only this user can read: many of them are keys.
pub(crate) fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(contents.as_ref()))
        .map_err(Error::io("writing", path))
}
