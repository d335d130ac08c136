//! What compilers and linkers leave about themselves in the program, in its section `.comment`.

use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSection as _};

/// A compiler or linker that took part in a program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) version: String,
    /// The note as it stands there.
    pub(super) note: String,
}

/// Returns the tools that a program names. A program without the section names none.
pub(super) fn tools(program: &[u8]) -> Vec<Tool> {
    let Ok(file) = ElfFile64::<Endianness>::parse(program) else { return Vec::new() };
    let section = file.section_by_name(".comment");
    let notes = section.and_then(|section| section.data().ok()).unwrap_or_default();
    let notes = notes.split(|&byte| byte == 0).filter(|note| !note.is_empty());
    notes.map(|note| tool(&String::from_utf8_lossy(note))).collect()
}

/// Reads `GCC: (Debian 12.2.0-14) 12.2.0`, `rustc version 1.95.0 (…)`, `Linker: LLD 22.1.2 (…)` or
/// `clang version 19.1.0`. Any other note is a name without a version.
fn tool(note: &str) -> Tool {
    let first = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
    let (name, version) = if let Some(gcc) = note.strip_prefix("GCC: ") {
        ("gcc", gcc.rsplit(' ').next().unwrap_or_default().to_owned())
    } else if let Some(lld) = note.strip_prefix("Linker: LLD ") {
        ("lld", first(lld))
    } else if let Some((_, clang)) = note.split_once("clang version ") {
        ("clang", first(clang))
    } else if let Some(rustc) = note.strip_prefix("rustc version ") {
        ("rustc", first(rustc))
    } else {
        (note, String::new())
    };
    Tool { name: name.to_owned(), version, note: note.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_names_its_compilers() {
        let test = std::fs::read("/proc/self/exe").unwrap();
        let tools = tools(&test);
        let rustc = tools.iter().find(|tool| tool.name == "rustc");
        assert!(rustc.is_some_and(|tool| tool.version.starts_with("1.")), "{tools:?}");
        assert_eq!(super::tools(b"#!/bin/sh\n"), []);
    }

    #[test]
    fn notes_are_read_as_tools_write_them() {
        for (note, name, version) in [
            ("GCC: (Debian 12.2.0-14+deb12u1) 12.2.0", "gcc", "12.2.0"),
            ("GCC: (GNU) 8.5.0", "gcc", "8.5.0"),
            ("rustc version 1.95.0 (59807616e 2026-04-14)", "rustc", "1.95.0"),
            ("Linker: LLD 22.1.2 (/checkout/src/llvm-project/llvm 1cb4e38)", "lld", "22.1.2"),
            ("Debian clang version 19.1.7 (3)", "clang", "19.1.7"),
            ("mold 2.40.0 (compatible with GNU ld)", "mold 2.40.0 (compatible with GNU ld)", ""),
        ] {
            let tool = tool(note);
            assert_eq!((&*tool.name, &*tool.version, &*tool.note), (name, version, note));
        }
    }
}
