//! The environment of compilers: what they need, and nothing that changes their output.

use std::ffi::OsString;
use std::process::Command;

/// Variables that say where tools, sources and results are, and how the network is reached. Cargo
/// checks what it downloads against the lock file, and names of folders are rewritten in the program.
const KEPT: [&str; 18] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_JOBS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// Beginnings of the names of such variables. Those of rustup choose the toolchain, whose version is
/// in the bill of materials.
const KEPT_PREFIXES: [&str; 5] =
    ["RUSTUP_", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_TERM_"];

/// Removes every other variable of this process from a command's environment, and sets those that
/// override cargo's configuration files.
///
/// A list of unwanted variables would never be complete: each build script and each compiler adds
/// its own, such as `CFLAGS_x86_64-unknown-linux-gnu`, `CMAKE_TOOLCHAIN_FILE` or `CPATH`.
pub(super) fn limit(command: &mut Command) {
    command.env_clear().envs(kept(std::env::vars_os()));
    // Messages of compilers are read.
    command.env("LC_ALL", "C");
    // Empty, they also turn off the wrappers of configuration files.
    command.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
}

fn kept(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    variables.filter(|(name, _)| {
        let Some(name) = name.to_str() else { return false };
        KEPT.contains(&name) || KEPT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_tools_and_the_network_are_kept() {
        let names = |list: &str| {
            let variables = list.split(' ').map(|name| (name.into(), "value".into()));
            let kept = kept(variables).map(|(name, _)| name.into_string().unwrap());
            kept.collect::<Vec<String>>().join(" ")
        };
        let needed = "PATH HOME TMPDIR CARGO_HOME CARGO_TARGET_DIR RUSTUP_HOME RUSTUP_TOOLCHAIN \
                      https_proxy NO_PROXY CARGO_HTTP_CAINFO CARGO_NET_OFFLINE";
        assert_eq!(names(needed), needed);
        let unwanted = "CC CFLAGS_x86_64-unknown-linux-gnu HOST_CFLAGS CMAKE_GENERATOR CPATH \
                        RUSTFLAGS RUSTC CARGO_PROFILE_MINER_IMAGE_LTO CARGO_BUILD_RUSTFLAGS LD_PRELOAD \
                        CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER MAKEFLAGS PATHS";
        assert_eq!(names(unwanted), "");
    }
}
