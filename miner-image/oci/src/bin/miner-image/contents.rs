//! What is in the image, and how it is run.

use std::collections::BTreeMap;
use std::fs;

use daylight_oci::File;
use daylight_oci::spec::{
    ANNOTATION_CREATED, ANNOTATION_DESCRIPTION, ANNOTATION_LICENSES, ANNOTATION_REVISION,
    ANNOTATION_TITLE, ANNOTATION_VERSION, Config, ConfigBuilder,
};
use pem::{EncodeConfig, LineEnding, Pem};

use crate::failure::{Result, doing, wrong};
use crate::revision::Revision;
use crate::workspace::{MINER, Workspace};

/// Nobody else's on any node.
const ID: u32 = 65532;
const PORT: &str = "9735/tcp";

/// The files: the program with its libraries, who it runs as, and whom TLS trusts.
pub(crate) fn files(
    workspace: &Workspace,
    program: Vec<u8>,
    libraries: Vec<File>,
) -> Result<Vec<File>> {
    let license = workspace.root.join("LICENSE");
    let license = fs::read(&license).map_err(doing("reading", &license))?;
    let text = |path: &str, contents| File { path: path.to_owned(), mode: 0o644, contents };
    let user = format!("daylight:x:{ID}:{ID}:daylight:/:/sbin/nologin\n");
    let files = vec![
        File { path: MINER.to_owned(), mode: 0o755, contents: program },
        text("etc/passwd", user.into_bytes()),
        text("etc/group", format!("daylight:x:{ID}:\n").into_bytes()),
        text("etc/ssl/certs/ca-certificates.crt", roots()),
        text(&format!("usr/share/doc/{MINER}/LICENSE"), license),
    ];
    Ok(files.into_iter().chain(libraries).collect())
}

/// Mozilla's roots, as they come with the lock file and not with the machine.
fn roots() -> Vec<u8> {
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    let roots: Vec<Pem> = roots.map(|root| Pem::new("CERTIFICATE", root.to_vec())).collect();
    pem::encode_many_config(&roots, EncodeConfig::new().set_line_ending(LineEnding::LF))
        .into_bytes()
}

/// What a pod says in `args` is for the engine, as with any other engine's image; the agent's own
/// settings have variables and a file.
pub(crate) fn config(dynamic: bool) -> Result<Config> {
    // By the first NVIDIA's container toolkit brings its Vulkan driver along; by the second a layer of
    // Mesa's does not look for a desktop.
    let env = ["NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility", "NODEVICE_SELECT=1"];
    let env = env.map(str::to_owned).into_iter().filter(|_| dynamic);
    ConfigBuilder::default()
        .env(env.collect::<Vec<_>>())
        .user(format!("{ID}:{ID}"))
        .entrypoint([format!("/{MINER}"), "run".to_owned(), "--".to_owned()])
        .working_dir("/")
        .exposed_ports([PORT.to_owned()])
        .stop_signal("SIGTERM")
        .build()
        .map_err(wrong("the image's configuration"))
}

pub(crate) fn annotations(workspace: &Workspace, revision: &Revision) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    let mut say = |key: &str, value: &str| annotations.insert(key.to_owned(), value.to_owned());
    say(ANNOTATION_TITLE, MINER);
    say(ANNOTATION_DESCRIPTION, "Runs a mining engine and gives the device back in time");
    say(ANNOTATION_VERSION, &workspace.version);
    say(ANNOTATION_LICENSES, &workspace.license);
    if let Some(commit) = &revision.commit {
        say(ANNOTATION_REVISION, commit);
    }
    if let Some(created) = &revision.created {
        say(ANNOTATION_CREATED, created);
    }
    annotations
}
