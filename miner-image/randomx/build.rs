//! Links the archive of the C++ standard library into static binaries.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

const ARCHIVE: &str = "libstdc++.a";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if env::var("CARGO_CFG_TARGET_ENV")? != "gnu" || !features.split(',').any(|f| f == "crt-static")
    {
        return Ok(());
    }
    // `randomx-rs` links with stdc++ by name, and the compiler's folder has the shared library next to
    // the archive. The linker would choose that one, and the binary crash. So the archive is copied to
    // a folder without it.
    let folder = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::copy(archive()?, folder.join(ARCHIVE))?;
    println!("cargo:rustc-link-search=native={}", folder.display());
    Ok(())
}

fn archive() -> Result<PathBuf, Box<dyn Error>> {
    // The compiler for the target, as `CXX` and the like name it.
    let compiler = cc::Build::new().cpp(true).try_get_compiler()?;
    let output = compiler.to_command().arg(format!("-print-file-name={ARCHIVE}")).output()?;
    let path = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    // For a file that it does not have, the compiler prints the bare name.
    if path == Path::new(ARCHIVE) {
        return Err(format!("{} has no {ARCHIVE}: install it", compiler.path().display()).into());
    }
    Ok(path)
}
