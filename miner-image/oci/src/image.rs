use std::collections::{BTreeMap, HashMap};

use oci_spec::image::{
    Config, HistoryBuilder, ImageConfigurationBuilder, ImageManifestBuilder, MediaType, Os,
    PlatformBuilder, RootFsBuilder, SCHEMA_VERSION,
};

use crate::error::{Error, Result};
use crate::layer::{self, Compression, File};
use crate::layout::{self, Layout, Sizes};
use crate::platform::Platform;

/// An image before it is packed.
#[derive(Clone, Debug)]
pub struct Image {
    pub platform: Platform,
    /// The files of its one layer.
    pub files: Vec<File>,
    pub config: Config,
    /// Time of its source, by RFC 3339; none where it is unknown.
    pub created: Option<String>,
    /// Facts for people, under the keys of the image specification. They are stored in the manifest,
    /// and as labels in the configuration.
    pub annotations: BTreeMap<String, String>,
    pub compression: Compression,
}

impl Image {
    /// Packs the image into a layout.
    ///
    /// # Errors
    ///
    /// A file's path leads out of the image, or the format does not allow its description.
    pub fn pack(&self) -> Result<Layout> {
        let mut layout = Layout::new();
        let annotations: Option<HashMap<String, String>> =
            (!self.annotations.is_empty()).then(|| self.annotations.clone().into_iter().collect());

        let archive = layer::archive(&self.files)?;
        let (unpacked, id) = (archive.len(), layout::digest(&archive)?);
        let (stored, media_type) = match self.compression {
            Compression::None => (archive, MediaType::ImageLayer),
            Compression::Gzip => {
                let end = |source| Error::Layer { path: "its compressed end".to_owned(), source };
                (layer::gzip(&archive).map_err(end)?, MediaType::ImageLayerGzip)
            }
        };
        let packed = stored.len();
        let layer = layout.add(media_type, stored)?;

        let mut config = self.config.clone();
        config.set_labels(annotations.clone());
        let mut history = HistoryBuilder::default().comment("everything, in one layer");
        let mut description = ImageConfigurationBuilder::default()
            .architecture(self.platform.architecture.clone())
            .os(Os::Linux)
            .config(config)
            .rootfs(RootFsBuilder::default().typ("layers").diff_ids([id.to_string()]).build()?);
        if let Some(created) = &self.created {
            history = history.created(created);
            description = description.created(created);
        }
        let description = description.history([history.build()?]).build()?;
        let description = layout.add_json(MediaType::ImageConfig, &description)?;

        let mut manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(description.clone())
            .layers([layer.clone()]);
        if let Some(annotations) = annotations {
            manifest = manifest.annotations(annotations);
        }
        let mut manifest = layout.add_json(MediaType::ImageManifest, &manifest.build()?)?;
        let sizes = Sizes {
            unpacked: unpacked as u64,
            layer: packed as u64,
            total: manifest.size() + description.size() + layer.size(),
        };
        let platform = PlatformBuilder::default()
            .architecture(self.platform.architecture.clone())
            .os(Os::Linux)
            .build()?;
        manifest.set_platform(Some(platform));
        layout.list(manifest, sizes);
        Ok(layout)
    }
}
