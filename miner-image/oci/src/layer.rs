//! The file system of an image, as one archive.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use flate2::GzBuilder;

use crate::error::{Error, Result};

/// A file of an image, which root owns and which has no date.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    /// Path from the root, without a leading slash. The folders above it are added.
    pub path: String,
    /// Permissions, such as `0o644`.
    pub mode: u32,
    pub contents: Vec<u8>,
}

/// Storage form of a layer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Compression {
    None,
    /// gzip at its best level, which every runtime reads.
    #[default]
    Gzip,
}

/// Returns the archive of `files`, in the order of their paths.
pub(crate) fn archive(files: &[File]) -> Result<Vec<u8>> {
    let mut sorted: Vec<&File> = files.iter().collect();
    sorted.sort_by(|one, other| one.path.cmp(&other.path));
    let mut layer = tar::Builder::new(Vec::new());
    let mut made = BTreeSet::new();
    for file in sorted {
        let wrong = |source| Error::Layer { path: file.path.clone(), source };
        let above: Vec<&Path> = Path::new(&file.path).ancestors().skip(1).collect();
        for folder in above.into_iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
            if made.insert(folder.to_owned()) {
                let mut header = header(0o755, 0);
                header.set_entry_type(tar::EntryType::Directory);
                let path = format!("{}/", folder.display());
                layer.append_data(&mut header, path, io::empty()).map_err(wrong)?;
            }
        }
        append(&mut layer, file).map_err(wrong)?;
    }
    layer.into_inner().map_err(|source| Error::Layer { path: "its end".to_owned(), source })
}

/// Appends one file, with the same bytes at any time and for any user.
pub(crate) fn append(archive: &mut tar::Builder<impl Write>, file: &File) -> io::Result<()> {
    let mut header = header(file.mode, file.contents.len());
    archive.append_data(&mut header, &file.path, file.contents.as_slice())
}

fn header(mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Compresses with gzip, without a name, a date or a system in the header.
pub(crate) fn gzip(contents: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::best());
    encoder.write_all(contents)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> File {
        File { path: path.to_owned(), mode: 0o644, contents: path.into() }
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_once() {
        let bytes = archive(&[file("etc/ssl/certs"), file("a"), file("etc/passwd")]).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut paths = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(
                (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()),
                (0, 0, 0)
            );
            paths.push(entry.path().unwrap().display().to_string());
        }
        assert_eq!(paths, ["a", "etc/", "etc/passwd", "etc/ssl/", "etc/ssl/certs"]);
    }

    #[test]
    fn a_path_that_leaves_the_image_is_refused() {
        let error = archive(&[file("../etc/passwd")]).unwrap_err().to_string();
        assert!(error.starts_with("../etc/passwd cannot be put into the layer"), "{error}");
    }
}
