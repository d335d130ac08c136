//! Where the C++ standard library is when the whole binary is static.

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
    // `randomx-rs` asks for the shared library, and beside the archive the compiler's folder has
    // it: the linker would take it, and the binary crash. So the archive gets a folder of its own.
    let folder = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::copy(archive()?, folder.join(ARCHIVE))?;
    println!("cargo:rustc-link-search=native={}", folder.display());
    Ok(())
}

fn archive() -> Result<PathBuf, Box<dyn Error>> {
    // The one for the target, as `CXX` and its like have it.
    let compiler = cc::Build::new().cpp(true).try_get_compiler()?;
    let output = compiler.to_command().arg(format!("-print-file-name={ARCHIVE}")).output()?;
    let path = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    // The compiler repeats the bare name of what it does not have.
    if path == Path::new(ARCHIVE) {
        return Err(format!("{} has no {ARCHIVE}: install it", compiler.path().display()).into());
    }
    Ok(path)
}
