//! The disk of a journal.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::files;

/// Operations that a journal needs. Paths are relative, with `/`.
pub trait Disk {
    /// Reads a file; `None` if there is no such file.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;
    /// Cuts a file to its first `keep` bytes, appends `bytes`, and makes it durable. After an error
    /// or a crash, the file has at least the first `keep` bytes.
    fn extend(&mut self, path: &str, keep: u64, bytes: &[u8]) -> io::Result<()>;
    /// Replaces a file, or creates it, and makes it durable. After an error or a crash, it is either
    /// the old one or the new one, complete.
    fn replace(&mut self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file durable that another process may have replaced and not made durable.
    fn sync(&mut self, path: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, path: &str) -> io::Result<()>;
}

impl<D: Disk> Disk for &mut D {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        (**self).read(path)
    }

    fn extend(&mut self, path: &str, keep: u64, bytes: &[u8]) -> io::Result<()> {
        (**self).extend(path, keep, bytes)
    }

    fn replace(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        (**self).replace(path, bytes)
    }

    fn sync(&mut self, path: &str) -> io::Result<()> {
        (**self).sync(path)
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        (**self).remove(path)
    }
}

/// Directory that no other process may write while this value exists.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    _lock: File,
}

impl Directory {
    /// Takes a directory for writing, and creates it if necessary.
    ///
    /// # Errors
    ///
    /// It cannot be created or written, or another process has taken it.
    pub fn take(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(root.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another process writes the journal in it",
            ),
            fs::TryLockError::Error(error) => error,
        })?;
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// Makes the name of a file durable, and those of the directories above it. Syncing a file does
    /// not do so: its directory entry is data of the directory.
    fn sync_names(&self, path: &Path) -> io::Result<()> {
        let above = path.ancestors().skip(1).take_while(|above| above.starts_with(&self.root));
        for directory in above {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

impl Disk for Directory {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        files::read(&self.root.join(path))
    }

    fn extend(&mut self, path: &str, keep: u64, bytes: &[u8]) -> io::Result<()> {
        let path = self.root.join(path);
        if keep == 0
            && let Some(directory) = path.parent()
        {
            fs::create_dir_all(directory)?;
        }
        let mut file =
            OpenOptions::new().create(keep == 0).truncate(false).write(true).open(&path)?;
        if file.metadata()?.len() < keep {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file is shorter than its committed part",
            ));
        }
        file.set_len(keep)?;
        file.seek(SeekFrom::Start(keep))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if keep == 0 {
            self.sync_names(&path)?;
        }
        Ok(())
    }

    fn replace(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.root.join(path);
        files::swap_in(&path, bytes)?;
        self.sync_names(&path)
    }

    fn sync(&mut self, path: &str) -> io::Result<()> {
        let path = self.root.join(path);
        File::open(&path)?.sync_all()?;
        self.sync_names(&path)
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }
}
