//! Files that need not exist, and files that their owner alone may read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Reads a file; `None` if there is no such file.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces a file, or creates it, and makes it durable. After an error or a crash, it is either the old
/// one or the new one, complete.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    swap_in(path, bytes)?;
    sync_name(path)
}

/// Like [`replace`], but does not make the name durable.
pub(crate) fn swap_in(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// Creates a file with a secret, for its owner alone, and makes it durable. A file that exists is an
/// error.
pub(crate) fn create_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    sync_name(path)
}

/// Makes the name of a file durable, which is data of its directory.
fn sync_name(path: &Path) -> io::Result<()> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
