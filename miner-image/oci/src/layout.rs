//! Image layouts: <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::BufWriter;
use std::path::Path;
use std::str::FromStr as _;

use oci_spec::image::{
    ANNOTATION_REF_NAME, Descriptor, Digest, ImageIndexBuilder, ImageManifestBuilder, MediaType,
    OciLayoutBuilder, SCHEMA_VERSION,
};
use serde::Serialize;
use sha2::Digest as _;

use crate::error::{Error, Result};
use crate::layer::{self, File};

/// Annotation in which containerd looks for an image's whole name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// File that marks a folder as a layout.
const MARK: &str = "oci-layout";

/// Blobs by their hash.
type Blobs = BTreeMap<String, Vec<u8>>;

/// An image with the documents that refer to it, ready to be written.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// The image's manifest first, then those of the documents.
    manifests: Vec<Descriptor>,
    /// Those of the image.
    blobs: Blobs,
    /// Those of the documents.
    documents: Blobs,
    sizes: Sizes,
}

/// How large an image is, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sizes {
    /// The files as an archive.
    pub unpacked: u64,
    /// The layer as it is stored and pulled.
    pub layer: u64,
    /// The layer, the configuration and the manifest: all that a node pulls.
    pub total: u64,
}

impl Layout {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Digest of the image's manifest, as after the `@` in a pod, on any registry.
    pub fn digest(&self) -> String {
        self.manifests.first().map(|image| image.digest().to_string()).unwrap_or_default()
    }

    /// Sizes of the image.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Names the image for those who load the layout, such as `example.org/miner:1.0`. The digest
    /// stays the same.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        let tag = name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'));
        let mut names = HashMap::from([(CONTAINERD_NAME.to_owned(), name.to_owned())]);
        names.insert(ANNOTATION_REF_NAME.to_owned(), tag.unwrap_or("latest").to_owned());
        if let Some(image) = self.manifests.first_mut() {
            image.set_annotations(Some(names));
        }
        self
    }

    /// Tag under which layouts hold the image, once it has a name.
    pub fn tag(&self) -> &str {
        let names = self.manifests.first().and_then(|image| image.annotations().as_ref());
        names.and_then(|names| names.get(ANNOTATION_REF_NAME)).map_or("", String::as_str)
    }

    /// Attaches a document that refers to the image, as registries list it (`referrers`). Returns the
    /// digest of the manifest by which it refers.
    ///
    /// # Errors
    ///
    /// There is no image yet, or the format does not allow the media type.
    pub fn attach(&mut self, media_type: &str, title: &str, document: Vec<u8>) -> Result<String> {
        let image = self.manifests.first().ok_or_else(|| {
            oci_spec::OciSpecError::Other("a document needs an image to refer to".to_owned())
        })?;
        let subject =
            Descriptor::new(MediaType::ImageManifest, image.size(), image.digest().clone());
        let kind = MediaType::from(media_type);
        let mut document = insert(&mut self.documents, kind.clone(), document)?;
        let title = (oci_spec::image::ANNOTATION_TITLE.to_owned(), title.to_owned());
        document.set_annotations(Some([title].into()));
        let manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .artifact_type(kind.clone())
            .config(insert(&mut self.documents, MediaType::EmptyJSON, b"{}".to_vec())?)
            .layers([document])
            .subject(subject)
            .build()?;
        let manifest = json(&manifest)?;
        let mut manifest = insert(&mut self.documents, MediaType::ImageManifest, manifest)?;
        manifest.set_artifact_type(Some(kind));
        let digest = manifest.digest().to_string();
        self.manifests.push(manifest);
        Ok(digest)
    }

    /// Writes the layout as a folder. One that holds a layout already is replaced.
    ///
    /// # Errors
    ///
    /// The folder holds something else, or cannot be written.
    pub fn write_directory(&self, directory: &Path) -> Result<()> {
        if directory.join(MARK).exists() {
            fs::remove_dir_all(directory).map_err(Error::io("replacing", directory))?;
        } else if fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Error::Occupied(directory.to_owned()));
        }
        let blobs = self.blobs.iter().chain(&self.documents);
        for file in files(&self.manifests, blobs)? {
            let path = directory.join(&file.path);
            let folder = path.parent().unwrap_or(directory);
            fs::create_dir_all(folder).map_err(Error::io("making", folder))?;
            fs::write(&path, &file.contents).map_err(Error::io("writing", &path))?;
        }
        Ok(())
    }

    /// Writes the image as one archive, which `ctr images import`, `podman load` and others read.
    ///
    /// The archive has no documents: with the flags that kind gives it, `ctr` unpacks every manifest
    /// as an image, and fails at the first that is none.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write_tar(&self, path: &Path) -> Result<()> {
        let file = fs::File::create(path).map_err(Error::io("creating", path))?;
        let mut archive = tar::Builder::new(BufWriter::new(file));
        let image = self.manifests.get(..1).unwrap_or_default();
        for file in files(image, &self.blobs)? {
            layer::append(&mut archive, &file).map_err(Error::io("writing", path))?;
        }
        let file = archive.into_inner().map_err(Error::io("writing", path))?;
        file.into_inner().map(drop).map_err(|error| Error::io("writing", path)(error.into_error()))
    }

    pub(crate) fn add(&mut self, media_type: MediaType, blob: Vec<u8>) -> Result<Descriptor> {
        insert(&mut self.blobs, media_type, blob)
    }

    pub(crate) fn add_json(
        &mut self,
        media_type: MediaType,
        blob: &impl Serialize,
    ) -> Result<Descriptor> {
        self.add(media_type, json(blob)?)
    }

    /// Lists the image itself, before all documents.
    pub(crate) fn list(&mut self, image: Descriptor, sizes: Sizes) {
        self.manifests.insert(0, image);
        self.sizes = sizes;
    }
}

fn insert(blobs: &mut Blobs, media_type: MediaType, blob: Vec<u8>) -> Result<Descriptor> {
    let digest = digest(&blob)?;
    let descriptor = Descriptor::new(media_type, blob.len() as u64, digest.clone());
    blobs.insert(digest.digest().to_owned(), blob);
    Ok(descriptor)
}

/// Returns the files of a layout, the mark first.
fn files<'a>(
    manifests: &[Descriptor],
    blobs: impl IntoIterator<Item = (&'a String, &'a Vec<u8>)>,
) -> Result<Vec<File>> {
    let mark = OciLayoutBuilder::default().image_layout_version("1.0.0").build()?;
    let index = ImageIndexBuilder::default()
        .schema_version(SCHEMA_VERSION)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests.to_vec())
        .build()?;
    let file = |path: String, contents| File { path, mode: 0o644, contents };
    let mut files =
        vec![file(MARK.to_owned(), json(&mark)?), file("index.json".to_owned(), json(&index)?)];
    for (hash, contents) in blobs {
        files.push(file(format!("blobs/sha256/{hash}"), contents.clone()));
    }
    Ok(files)
}

pub(crate) fn digest(blob: &[u8]) -> Result<Digest> {
    Ok(Digest::from_str(&format!("sha256:{}", hex::encode(sha2::Sha256::digest(blob))))?)
}

/// Writes canonical JSON, since maps of the specification's types have no order of their own.
fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    Ok(serde_json_canonicalizer::to_vec(value)?)
}
