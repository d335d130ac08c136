//! What the machine's environment may change of the image: nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Outcome, World, builder, run};

/// A small program with C and C++ as crates bring it, built twice: in an environment that is as good
/// as empty, and in one where each variable breaks the build or changes the program.
pub(crate) fn no_variable_reaches_a_compiler(_: &World) -> Outcome {
    let scratch = tempfile::tempdir()?;
    let mut digests = Vec::new();
    for (name, variables) in [("one", Vec::new()), ("another", poisoned())] {
        let folder = scratch.path().join(name);
        small_workspace(&folder)?;
        let said = run(builder()
            .env("CARGO_TARGET_DIR", folder.join("target"))
            .envs(variables)
            .current_dir(&folder)
            .arg("--no-default-features")
            .arg("--output")
            .arg(folder.join("image.tar")))?;
        digests.push(said.lines().next().unwrap_or_default().to_owned());
    }
    assert_eq!(digests[0], digests[1]);
    Ok(())
}

/// Variables that change what compilers write, each with a value that shows if it reaches one.
pub(crate) fn poisoned() -> Vec<(String, String)> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let underscored = target.replace('-', "_");
    let mut variables = Vec::new();
    let mut set = |name: &str, value: &str| variables.push((name.to_owned(), value.to_owned()));
    let flags = "-DPOISONED -O0 -ggdb";
    for (tool, value) in [
        ("CC", "/poisoned/cc"),
        ("CXX", "/poisoned/c++"),
        ("AR", "/poisoned/ar"),
        ("RANLIB", "/poisoned/ranlib"),
        ("CFLAGS", flags),
        ("CXXFLAGS", flags),
        ("ARFLAGS", "poisoned"),
    ] {
        for name in [tool, &format!("HOST_{tool}"), &format!("TARGET_{tool}")] {
            set(name, value);
        }
        for target in [&target, &underscored] {
            set(&format!("{tool}_{target}"), value);
        }
    }
    for name in [
        "LD",
        "LDFLAGS",
        "CPPFLAGS",
        "MAKEFLAGS",
        "GCC_EXEC_PREFIX",
        "COMPILER_PATH",
        "CPATH",
        "C_INCLUDE_PATH",
        "CPLUS_INCLUDE_PATH",
        "LIBRARY_PATH",
        "LD_RUN_PATH",
        "LD_LIBRARY_PATH",
        "CMAKE",
        "CMAKE_GENERATOR",
        "CMAKE_TOOLCHAIN_FILE",
        "CMAKE_PREFIX_PATH",
        "CMAKE_BUILD_TYPE",
        "RANDOMX_DIR",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_RUSTC",
        "CARGO_BUILD_RUSTC_WRAPPER",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_INCREMENTAL",
        "CARGO_PROFILE_MINER_IMAGE_LTO",
        "CARGO_PROFILE_MINER_IMAGE_STRIP",
    ] {
        set(name, "/poisoned");
    }
    let cargo = format!("CARGO_TARGET_{}", underscored.to_uppercase());
    set(&format!("{cargo}_LINKER"), "/poisoned/linker");
    set(&format!("{cargo}_RUSTFLAGS"), "--cfg=poisoned");
    variables
}

/// Writes a workspace with a package of the recipe's name, which compiles C and C++ by the crates that
/// the real one's dependencies use.
fn small_workspace(folder: &Path) -> Outcome {
    fs::create_dir_all(folder.join("src"))?;
    let write = |name: &str, text: &str| fs::write(folder.join(name), text);
    write(
        "Cargo.toml",
        "[package]\nname = \"daylight-miner\"\nversion = \"0.1.0\"\nedition = \"2024\"\nlicense = \"Apache-2.0\"\n\
         [build-dependencies]\ncc = \"1\"\ncmake = \"0.1\"\n\
         [profile.miner-image]\ninherits = \"release\"\nstrip = true\n",
    )?;
    write("LICENSE", "")?;
    write(
        "build.rs",
        r#"
fn main() {
    for (name, value) in std::env::vars() {
        assert!(!value.to_lowercase().contains("poisoned"), "{name} is {value}");
    }
    cc::Build::new().file("one.c").cargo_metadata(false).compile("one");
    let two = cmake::build(".");
    println!("cargo:rustc-link-search=native={}", std::env::var("OUT_DIR").unwrap());
    println!("cargo:rustc-link-search=native={}/lib", two.display());
    println!("cargo:rustc-link-lib=static:+whole-archive=one");
    println!("cargo:rustc-link-lib=static:+whole-archive=two");
}
"#,
    )?;
    let text = "__attribute__((used)) const char NAME[] = __FILE__\n#ifdef POISONED\n\"poisoned\"\n#endif\n;\n";
    write("one.c", &text.replace("NAME", "one"))?;
    write("two.cpp", &text.replace("const char NAME", "extern const char two"))?;
    write(
        "CMakeLists.txt",
        "cmake_minimum_required(VERSION 3.10)\nproject(two)\nadd_library(two STATIC two.cpp)\n\
         install(TARGETS two DESTINATION lib)\n",
    )?;
    write("src/main.rs", "fn main() {\n    println!(\"{}\", file!());\n}\n")?;
    run(Command::new(env!("CARGO")).current_dir(folder).args([
        "generate-lockfile",
        "--offline",
        "--quiet",
    ]))?;
    Ok(())
}
