use object::read::elf::{ElfFile32, ElfFile64};
use object::{Architecture, Endianness, Object as _};
use oci_spec::image::Arch;

use crate::error::{Error, Result};

/// Platform of a program. The system is Linux.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Platform {
    /// The processor, by its name in images and in Kubernetes.
    pub architecture: Arch,
}

impl Platform {
    /// Returns the platform of `program`, a static ELF executable.
    ///
    /// # Errors
    ///
    /// It is not an ELF executable, it is for a processor that images of Daylight are not made for, or
    /// it needs a dynamic loader, which an image of one program does not have.
    pub fn of(program: &[u8]) -> Result<Self> {
        match Self::read(program)? {
            (_, true) => Err(Error::Program("it is linked dynamically".to_owned())),
            (platform, false) => Ok(platform),
        }
    }

    /// Returns the platform of `program`, whose loader and libraries are in the image.
    ///
    /// # Errors
    ///
    /// It is not an ELF executable, or it is for a processor that images of Daylight are not made for.
    pub fn of_dynamic(program: &[u8]) -> Result<Self> {
        Self::read(program).map(|(platform, _)| platform)
    }

    /// Returns the platform, and whether the program needs a dynamic loader.
    fn read(program: &[u8]) -> Result<(Self, bool)> {
        let refused = |says: String| Error::Program(says);
        let file = match ElfFile64::<Endianness>::parse(program) {
            Ok(file) => file,
            Err(_) if ElfFile32::<Endianness>::parse(program).is_ok() => {
                return Err(refused("it is for a processor of 32 bits".to_owned()));
            }
            Err(error) => return Err(refused(format!("it is not an ELF file: {error}"))),
        };
        let architecture = match file.architecture() {
            Architecture::X86_64 => Arch::Amd64,
            Architecture::Aarch64 => Arch::ARM64,
            other => return Err(refused(format!("it is for {other:?}, not amd64 or arm64"))),
        };
        let endian = file.endian();
        let loader = file
            .elf_program_headers()
            .iter()
            .any(|segment| segment.p_type.get(endian) == object::elf::PT_INTERP);
        Ok((Self { architecture }, loader))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_loader_is_refused() {
        let test = std::fs::read("/proc/self/exe").unwrap();
        let error = Platform::of(&test).unwrap_err().to_string();
        assert!(error.ends_with("it is linked dynamically"), "{error}");
        let error = Platform::of(b"#!/bin/sh\n").unwrap_err().to_string();
        assert!(error.contains("it is not an ELF file"), "{error}");
    }
}
