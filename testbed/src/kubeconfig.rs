use std::path::{Path, PathBuf};

use serde_json::json;

use crate::certificates::{Authority, Identity};
use crate::error::Result;
use crate::scratch;

/// Writes a kubeconfig for `identity` to `path`, and returns the path.
pub(crate) fn write(
    path: &Path,
    server: &str,
    authority: &Authority,
    identity: &Identity,
) -> Result<PathBuf> {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "testbed",
            "cluster": { "server": server, "certificate-authority": authority.certificate },
        }],
        "users": [{
            "name": "testbed",
            "user": { "client-certificate": identity.certificate, "client-key": identity.key },
        }],
        "contexts": [{
            "name": "testbed",
            "context": { "cluster": "testbed", "user": "testbed" },
        }],
        "current-context": "testbed",
    });
    scratch::write(path, format!("{config:#}\n"))?;
    Ok(path.to_owned())
}
