//! The one image that a real node has: a static program, in a file that
//! `ctr images import` reads. Its form is an OCI image layout
//! (<https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>).

use std::fs::{self, File};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};

/// Writes the image of this name, whose one file and entry point is `program`,
/// to the file `image`.
pub(crate) fn write(name: &str, program: &Path, image: &Path) -> Result<()> {
    let program = fs::read(program).map_err(Error::io("reading", program))?;
    let file = File::create(image).map_err(Error::io("creating", image))?;
    pack(name, &program, file).map_err(Error::io("writing", image))
}

fn pack(name: &str, program: &[u8], file: File) -> std::io::Result<()> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "workload", program)?;
    let layer = layer.into_inner()?;
    let (architecture, os) = (architecture(), "linux");
    let config = json!({
        "architecture": architecture,
        "os": os,
        "config": { "Entrypoint": ["/workload"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    })
    .to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    })
    .to_string();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    entry["platform"] = json!({ "architecture": architecture, "os": os });
    entry["annotations"] = json!({ "io.containerd.image.name": name });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();

    let mut image = tar::Builder::new(file);
    append(&mut image, "oci-layout", json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
    append(&mut image, "index.json", index)?;
    for blob in [layer.as_slice(), config.as_bytes(), manifest.as_bytes()] {
        append(&mut image, &format!("blobs/{}", digest(blob).replace(':', "/")), blob)?;
    }
    image.into_inner().map(drop)
}

fn append(
    archive: &mut tar::Builder<impl std::io::Write>,
    path: &str,
    contents: impl AsRef<[u8]>,
) -> std::io::Result<()> {
    let contents = contents.as_ref();
    let mut header = tar::Header::new_gnu();
    header.set_size(contents.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, path, contents)
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(blob), "size": blob.len() })
}

fn digest(blob: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(blob).iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// This machine's, as Go and images call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
