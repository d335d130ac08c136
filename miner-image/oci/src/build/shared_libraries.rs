//! The files that a dynamically linked program needs: its loader, the libraries that the loader
//! finds for it, and the one that it opens itself.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSection as _};

use super::error::{Error, Result};
use super::toolchain::{Toolchain, output};
use super::workspace::Workspace;
use crate::File;

/// Khronos' loader of Vulkan drivers. The drivers themselves come with the node.
const OPENED: &str = "libvulkan.so.1";

pub(super) const GLIBC_LICENSE: &str = "LGPL-2.1-or-later";
pub(super) const GCC_LICENSE: &str = "GPL-3.0-or-later WITH GCC-exception-3.1";

/// A library in the image, with what the bill of materials says of it.
#[derive(Debug)]
pub(super) struct SharedLibrary {
    pub(super) file: File,
    /// The project that it belongs to.
    pub(super) name: &'static str,
    pub(super) version: String,
    /// An SPDX expression.
    pub(super) license: &'static str,
}

/// Reads the loader and the libraries of `program`, with the paths where it looks for them.
pub(super) fn read(
    workspace: &Workspace,
    toolchain: &Toolchain,
    program: &Path,
) -> Result<Vec<SharedLibrary>> {
    let bytes = fs::read(program).map_err(Error::io("reading", program))?;
    let loader = loader(&bytes)
        .ok_or_else(|| Error::Library(format!("{} names no loader", program.display())))?;
    let opened =
        output(workspace.command(&toolchain.cc).arg(format!("-print-file-name={OPENED}")))?;
    let opened = PathBuf::from(opened.trim());
    // The compiler's answer has `..` and links in it.
    let opened = opened.canonicalize().map_or(opened, |real| real.with_file_name(OPENED));
    if toolchain.foreign {
        let says = "a dynamic image holds this machine's libraries: build it on a machine of the target's architecture";
        return Err(Error::Target(says.into()));
    }
    if !opened.is_absolute() {
        return Err(Error::Library(format!("{OPENED} is not on this machine: install libvulkan1")));
    }
    let mut found = BTreeMap::from([(loader.clone(), PathBuf::from(&loader))]);
    let mut roots = VecDeque::from([program.to_owned(), opened.clone()]);
    found.insert(in_place(&opened), opened);
    while let Some(root) = roots.pop_front() {
        let listed = output(workspace.command(&loader).arg("--list").arg(&root))?;
        for line in listed.lines() {
            let Some((_, place)) = line.split_once(" => ") else { continue };
            let Some(place) =
                place.split_whitespace().next().filter(|place| place.starts_with('/'))
            else {
                return Err(Error::Library(format!(
                    "{}: {} is not found",
                    root.display(),
                    line.trim()
                )));
            };
            found.insert(in_place(Path::new(place)), PathBuf::from(place));
        }
    }
    let library = |(path, place): (String, PathBuf)| {
        let contents = fs::read(&place).map_err(Error::io("reading", &place))?;
        let (name, version, license) = origin(toolchain, &place)?;
        let path = path.trim_start_matches('/').to_owned();
        let file = File { path, mode: 0o755, contents };
        Ok(SharedLibrary { file, name, version, license })
    };
    found.into_iter().map(library).collect()
}

/// Returns a library's project, version and licence.
fn origin(toolchain: &Toolchain, place: &Path) -> Result<(&'static str, String, &'static str)> {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split(".so").next().unwrap_or_default();
    match stem {
        "libc" | "libm" | "libdl" | "libpthread" | "librt" | "ld-linux-x86-64"
        | "ld-linux-aarch64" => Ok(("glibc", toolchain.glibc.clone(), GLIBC_LICENSE)),
        "libgcc_s" | "libstdc++" => Ok(("gcc", toolchain.gcc.clone(), GCC_LICENSE)),
        "libvulkan" => {
            // A link to a file that is named after the version.
            let real = place.canonicalize().map_err(Error::io("reading", place))?;
            let real = real.to_string_lossy();
            let version = real.rsplit_once(".so.").map_or("", |(_, version)| version);
            Ok(("Vulkan-Loader", version.to_owned(), "Apache-2.0"))
        }
        _ => Err(Error::Unknown(format!(
            "the licence of {} is not known: add it to shared_libraries.rs",
            place.display()
        ))),
    }
}

/// Returns the path of a library in the image: Debian's `/lib` is a link to `/usr/lib`, and its loader searches
/// both.
fn in_place(library: &Path) -> String {
    let text = library.to_string_lossy();
    if text.starts_with("/lib/") { format!("/usr{text}") } else { text.into_owned() }
}

/// Returns the loader that a program names.
fn loader(program: &[u8]) -> Option<String> {
    let file = ElfFile64::<Endianness>::parse(program).ok()?;
    let name = file.section_by_name(".interp")?.data().ok()?;
    Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_names_its_loader() {
        let test = fs::read("/proc/self/exe").unwrap();
        let named = loader(&test).unwrap();
        assert!(Path::new(&named).is_file(), "{named}");
        assert_eq!(loader(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn libraries_are_where_the_loader_looks() {
        let place = |path| in_place(Path::new(path));
        assert_eq!(place("/lib/x86_64-linux-gnu/libc.so.6"), "/usr/lib/x86_64-linux-gnu/libc.so.6");
        assert_eq!(place("/usr/lib/a/libvulkan.so.1"), "/usr/lib/a/libvulkan.so.1");
        assert_eq!(place("/lib64/ld-linux-x86-64.so.2"), "/lib64/ld-linux-x86-64.so.2");
    }
}
