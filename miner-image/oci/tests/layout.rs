//! What the library writes is what the image specification says, and the same every time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use daylight_oci::spec::{Arch, ConfigBuilder, ImageIndex, ImageManifest};
use daylight_oci::{Compression, Error, File, Image, Layout, Platform};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

fn image(compression: Compression) -> Image {
    let file = |path: &str, mode| File { path: path.to_owned(), mode, contents: path.into() };
    let annotations = ["one", "two", "three", "four", "five"].map(|key| (key.into(), key.into()));
    Image {
        platform: Platform { architecture: Arch::ARM64 },
        files: vec![file("program", 0o755), file("etc/passwd", 0o644)],
        config: ConfigBuilder::default()
            .entrypoint(["/program".to_owned()])
            .build()
            .expect("a configuration"),
        created: None,
        annotations: BTreeMap::from(annotations),
        compression,
    }
}

fn layout(compression: Compression) -> Layout {
    let mut layout =
        image(compression).pack().expect("an image").named("example.org:5000/program:1.0");
    layout
        .attach("application/example+json", "list.json", b"[]".to_vec())
        .expect("an image to refer to");
    layout
}

fn read<T: serde::de::DeserializeOwned>(directory: &Path, path: &str) -> T {
    let contents = fs::read(directory.join(path)).expect("a file");
    serde_json::from_slice(&contents).expect("JSON")
}

fn blob<T: serde::de::DeserializeOwned>(directory: &Path, digest: &str) -> T {
    read(directory, &format!("blobs/{}", digest.replace(':', "/")))
}

#[test]
fn every_blob_is_where_its_digest_says() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("layout");
    layout(Compression::Gzip).write_directory(&directory).unwrap();
    let blobs: Vec<_> =
        fs::read_dir(directory.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap()).collect();
    // The layer, the configuration and the manifest; the document, its manifest and the empty one.
    assert_eq!(blobs.len(), 6);
    for blob in blobs {
        let digest = hex::encode(Sha256::digest(fs::read(blob.path()).unwrap()));
        assert_eq!(blob.file_name().into_string().unwrap(), digest);
    }
}

#[test]
fn the_image_has_its_name_and_the_document_refers_to_it() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path();
    let layout = layout(Compression::None);
    layout.write_directory(directory).unwrap();
    let index: ImageIndex = read(directory, "index.json");
    let [image, document] = index.manifests().as_slice() else { panic!("{index:?}") };
    let names = image.annotations().as_ref().unwrap();
    assert_eq!(names["io.containerd.image.name"], "example.org:5000/program:1.0");
    assert_eq!(names["org.opencontainers.image.ref.name"], "1.0");
    assert_eq!(image.platform().as_ref().unwrap().architecture(), &Arch::ARM64);
    assert_eq!(image.digest().to_string(), layout.digest());

    let manifest: ImageManifest = blob(directory, document.digest().as_ref());
    assert_eq!(manifest.subject().as_ref().unwrap().digest(), image.digest());
    assert_eq!(manifest.artifact_type(), document.artifact_type());
    let list: Value = blob(directory, manifest.layers()[0].digest().as_ref());
    assert_eq!(list, Value::Array(Vec::new()));
}

#[test]
fn what_is_said_of_the_image_stands_in_its_manifest_and_in_its_labels() {
    let scratch = tempfile::tempdir().unwrap();
    let layout = layout(Compression::None);
    layout.write_directory(scratch.path()).unwrap();
    let manifest: ImageManifest = blob(scratch.path(), &layout.digest());
    let config: Value = blob(scratch.path(), manifest.config().digest().as_ref());
    assert_eq!(config["config"]["Labels"], serde_json::to_value(manifest.annotations()).unwrap());
    assert_eq!(config["config"]["Labels"]["three"], "three");
    assert_eq!(config.get("created"), None);
}

#[test]
fn a_compressed_layer_is_the_same_layer() {
    let scratch = tempfile::tempdir().unwrap();
    let layers = [Compression::None, Compression::Gzip].map(|compression| {
        let directory = scratch.path().join(format!("{compression:?}"));
        let layout = layout(compression);
        layout.write_directory(&directory).unwrap();
        let manifest: ImageManifest = blob(&directory, &layout.digest());
        let config: Value = blob(&directory, manifest.config().digest().as_ref());
        let layer = manifest.layers()[0].clone();
        let path = directory.join("blobs").join(layer.digest().as_ref().replace(':', "/"));
        assert_eq!(layout.sizes().layer, layer.size());
        (layer.media_type().to_string(), fs::read(path).unwrap(), config["rootfs"].clone())
    });
    let [(plain_type, plain, plain_root), (packed_type, packed, packed_root)] = layers;
    assert_eq!(plain_type, "application/vnd.oci.image.layer.v1.tar");
    assert_eq!(packed_type, "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(plain_root, packed_root);
    assert_eq!(packed[4..8], [0; 4], "gzip's date");
    let mut unpacked = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(packed.as_slice()), &mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
}

#[test]
fn a_hundred_layouts_are_one() {
    let scratch = tempfile::tempdir().unwrap();
    let first = scratch.path().join("first.tar");
    layout(Compression::Gzip).write_tar(&first).unwrap();
    let first = fs::read(first).unwrap();
    for _ in 0..100 {
        let next = scratch.path().join("next.tar");
        layout(Compression::Gzip).write_tar(&next).unwrap();
        assert!(fs::read(next).unwrap() == first);
    }
}

#[test]
fn an_archive_has_the_image_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let (archive, directory) = (scratch.path().join("image.tar"), scratch.path().join("image"));
    let written = layout(Compression::Gzip);
    written.write_tar(&archive).unwrap();
    tar::Archive::new(fs::File::open(archive).unwrap()).unpack(&directory).unwrap();
    let index: ImageIndex = read(&directory, "index.json");
    let [image] = index.manifests().as_slice() else { panic!("{index:?}") };
    assert_eq!(image.digest().to_string(), written.digest());
    // The layer, the configuration and the manifest.
    assert_eq!(fs::read_dir(directory.join("blobs/sha256")).unwrap().count(), 3);
    assert_eq!(written.tag(), "1.0");
}

#[test]
fn only_a_layout_is_replaced() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path();
    let stray = directory.join("blobs/sha256/stray");
    layout(Compression::None).write_directory(directory).unwrap();
    fs::write(&stray, "").unwrap();
    layout(Compression::None).write_directory(directory).unwrap();
    assert!(!stray.exists());

    let other = directory.join("blobs");
    let refused = layout(Compression::None).write_directory(&other);
    assert!(matches!(refused, Err(Error::Occupied(path)) if path == other));
}
