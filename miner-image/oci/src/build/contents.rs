//! The files in the image, and its configuration.

use std::collections::BTreeMap;
use std::fs;

use pem::{EncodeConfig, LineEnding, Pem};

use super::error::{Error, Result};
use super::revision::Revision;
use super::workspace::Workspace;
use super::{Plan, Recipe};
use crate::File;
use crate::spec::{
    ANNOTATION_CREATED, ANNOTATION_DESCRIPTION, ANNOTATION_LICENSES, ANNOTATION_REVISION,
    ANNOTATION_TITLE, ANNOTATION_VERSION, Config, ConfigBuilder,
};

/// User and group of the program: the ID that distroless images use for `nonroot`.
const ID: u32 = 65532;

/// Returns the program with its libraries, its user, and the roots for TLS.
pub(super) fn files(
    recipe: &Recipe,
    workspace: &Workspace,
    program: Vec<u8>,
    libraries: Vec<File>,
) -> Result<Vec<File>> {
    let package = recipe.package;
    let license = workspace.root.join("LICENSE");
    let license = fs::read(&license).map_err(Error::io("reading", &license))?;
    let text = |path: &str, contents| File { path: path.to_owned(), mode: 0o644, contents };
    let user = format!("daylight:x:{ID}:{ID}:daylight:/:/sbin/nologin\n");
    let files = vec![
        File { path: package.to_owned(), mode: 0o755, contents: program },
        text("etc/passwd", user.into_bytes()),
        text("etc/group", format!("daylight:x:{ID}:\n").into_bytes()),
        text("etc/ssl/certs/ca-certificates.crt", roots()),
        text(&format!("usr/share/doc/{package}/LICENSE"), license),
    ];
    Ok(files.into_iter().chain(libraries).collect())
}

/// Returns Mozilla's roots in the version of the lock file, not the machine's.
fn roots() -> Vec<u8> {
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    let roots: Vec<Pem> = roots.map(|root| Pem::new("CERTIFICATE", root.to_vec())).collect();
    pem::encode_many_config(&roots, EncodeConfig::new().set_line_ending(LineEnding::LF))
        .into_bytes()
}

/// Returns how the container is run.
pub(super) fn config(plan: Plan<'_>) -> Result<Config> {
    // The first has NVIDIA's container toolkit add its Vulkan driver; the second keeps Mesa's
    // device-select layer from connecting to a display server.
    let env = ["NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility", "NODEVICE_SELECT=1"];
    let env = env.map(str::to_owned).into_iter().filter(|_| plan.dynamic().is_some());
    let Recipe { package, arguments, ports, .. } = *plan.recipe;
    let entry_point = [format!("/{package}")].into_iter();
    let entry_point = entry_point.chain(arguments.iter().map(|&argument| argument.to_owned()));
    ConfigBuilder::default()
        .env(env.collect::<Vec<_>>())
        .user(format!("{ID}:{ID}"))
        .entrypoint(entry_point.collect::<Vec<_>>())
        .working_dir("/")
        .exposed_ports(ports.iter().map(|&port| port.to_owned()).collect::<Vec<_>>())
        .stop_signal("SIGTERM")
        .build()
        .map_err(Error::unreadable("the image's configuration"))
}

/// Returns the facts about the image for people, under the specification's keys.
pub(super) fn annotations(
    recipe: &Recipe,
    workspace: &Workspace,
    revision: &Revision,
) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    let mut annotate =
        |key: &str, value: &str| annotations.insert(key.to_owned(), value.to_owned());
    annotate(ANNOTATION_TITLE, recipe.package);
    annotate(ANNOTATION_DESCRIPTION, recipe.description);
    annotate(ANNOTATION_VERSION, &workspace.version);
    annotate(ANNOTATION_LICENSES, &workspace.license);
    if let Some(commit) = &revision.commit {
        annotate(ANNOTATION_REVISION, commit);
    }
    if let Some(created) = &revision.created {
        annotate(ANNOTATION_CREATED, created);
    }
    annotations
}
