//! Where a journal lies.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// What a journal needs of a disk. Paths are relative, with `/`.
pub trait Disk {
    /// A file's bytes; `None` where there is no such file.
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>>;
    /// Makes a file the first `keep` bytes of what it is and `bytes` behind them, and all of it
    /// durable. After an error it holds at least the first `keep` bytes.
    fn extend(&mut self, path: &str, keep: u64, bytes: &[u8]) -> io::Result<()>;
    /// Puts a file in place of the one of its name, durable. After an error, and after a crash, it
    /// is the old one or the new one, whole.
    fn replace(&mut self, path: &str, bytes: &[u8]) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, path: &str) -> io::Result<()>;
}

/// A directory, which no other process may write while this exists.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    /// Not there where it is only read.
    _lock: Option<File>,
}

impl Directory {
    /// Takes a directory, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// It cannot be made or written, or another process has it.
    pub fn take(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(root.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another process writes the journal there",
            ),
            fs::TryLockError::Error(error) => error,
        })?;
        Ok(Self { root: root.to_owned(), _lock: Some(lock) })
    }

    /// A directory that is only read, also while another process writes it.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn look_at(root: &Path) -> io::Result<Self> {
        fs::read_dir(root)?;
        Ok(Self { root: root.to_owned(), _lock: None })
    }

    /// Makes the names in a directory, and in those above it, durable.
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
        match fs::read(self.root.join(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
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
                "the file is shorter than what was committed of it",
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
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        self.sync_names(&path)
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        fs::remove_file(self.root.join(path))
    }
}
