//! The default image of a real node: a static program, in a file for
//! `ctr images import`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use daylight_oci::spec::ConfigBuilder;
use daylight_oci::{Compression, File, Image, Platform};

use crate::error::{Error, Result};

/// The path of the program in the image.
const PROGRAM: &str = "workload";

/// Writes the image of this name, whose one file and entry point is `program`,
/// to the file `image`.
pub(crate) fn write(name: &str, program: &Path, image: &Path) -> Result<()> {
    let program = fs::read(program).map_err(Error::io("reading", program))?;
    let written = pack(program).and_then(|layout| layout.named(name).write_tar(image));
    written.map_err(|error| Error::io("writing", image)(std::io::Error::other(error)))
}

fn pack(program: Vec<u8>) -> daylight_oci::Result<daylight_oci::Layout> {
    let image = Image {
        platform: Platform::of(&program)?,
        files: vec![File { path: PROGRAM.to_owned(), mode: 0o755, contents: program }],
        config: ConfigBuilder::default().entrypoint([format!("/{PROGRAM}")]).build()?,
        created: None,
        annotations: BTreeMap::new(),
        // It is read once, where it is written.
        compression: Compression::None,
    };
    image.pack()
}
