//! From a package of the workspace to its image: cargo compiles the program, and the image holds it
//! and nothing that differs from one machine to the next.

mod bill_of_materials;
pub mod command;
mod compile;
mod contents;
mod crate_tree;
mod environment;
mod error;
mod program_notes;
mod recipe;
mod revision;
mod shared_libraries;
mod toolchain;
mod workspace;

use std::fs;
use std::path::PathBuf;

use crate::{Compression, Image, Layout, Platform};
use bill_of_materials::BillOfMaterials;
use crate_tree::CrateTree;
pub use error::{Error, Result};
pub use recipe::{MINER, OPERATOR, Recipe};
use revision::Revision;
pub use toolchain::Target;
use toolchain::Toolchain;
use workspace::Workspace;

/// Options of one build.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Features of the package in addition to the recipe's.
    pub features: Vec<String>,
    /// Leaves the recipe's features out.
    pub no_default_features: bool,
    /// This machine's, unless another is named.
    pub target: Option<Target>,
    /// A program that was built before from the same source and for the same target.
    pub binary: Option<PathBuf>,
}

/// An image with the facts about it.
#[derive(Debug)]
pub struct Built {
    /// The image and its bill of materials, without a name.
    pub layout: Layout,
    pub platform: Platform,
    /// Name by the recipe, with the package's version as the tag.
    pub name: String,
    /// Size of the program in bytes.
    pub program: u64,
    /// The bill of materials, as `CycloneDX` 1.6 in JSON.
    pub bill_of_materials: Vec<u8>,
    /// Digest of the manifest by which the bill of materials refers to the image.
    pub referrer: String,
    /// cargo's target folder.
    pub target_directory: PathBuf,
}

/// A recipe with the options of one build.
#[derive(Clone, Copy)]
struct Plan<'a> {
    recipe: &'a Recipe,
    options: &'a Options,
}

impl Plan<'_> {
    /// The image's name if the program has to load drivers, which a static one cannot.
    fn dynamic(self) -> Option<&'static str> {
        let (dynamic, image) = self.recipe.dynamic?;
        self.options.features.iter().any(|feature| feature == dynamic).then_some(image)
    }

    /// The features as cargo's arguments.
    fn arguments(self) -> Vec<String> {
        let Options { features, no_default_features, .. } = self.options;
        let default = if *no_default_features { &[] } else { self.recipe.features };
        let features = default.iter().copied().chain(features.iter().map(String::as_str));
        let features = features.map(|feature| format!("--features={feature}"));
        std::iter::once("--no-default-features".to_owned()).chain(features).collect()
    }
}

/// Builds an image in the workspace around the current folder.
///
/// # Errors
///
/// The program cannot be built here, or it does not make an image.
pub fn build(recipe: &Recipe, options: &Options) -> Result<Built> {
    let plan = Plan { recipe, options };
    let workspace = Workspace::find(recipe.package)?;
    let toolchain = Toolchain::find(&workspace, options.target)?;
    let tree = CrateTree::read(&workspace, toolchain.target, plan)?;
    let path = match &options.binary {
        Some(binary) => binary.clone(),
        None => compile::compile(&workspace, &toolchain, &tree, plan)?,
    };
    let program = fs::read(&path).map_err(Error::io("reading", &path))?;
    let (platform, libraries) = if plan.dynamic().is_some() {
        let libraries = shared_libraries::read(&workspace, &toolchain, &path)?;
        (Platform::of_dynamic(&program)?, libraries)
    } else {
        (Platform::of(&program)?, Vec::new())
    };
    if platform.architecture != toolchain.target.architecture() {
        return Err(Error::Target(format!(
            "{} is for {}, not for {}: name its --target",
            path.display(),
            platform.architecture,
            toolchain.target.triple()
        )));
    }

    let revision = Revision::read(&workspace.root)?;
    let bill = BillOfMaterials {
        recipe,
        workspace: &workspace,
        toolchain: &toolchain,
        tree: &tree,
        libraries: &libraries,
    };
    let bill = bill.document(&program, revision.created.as_deref())?;
    let files = libraries.into_iter().map(|library| library.file).collect();
    let size = program.len() as u64;
    let image = Image {
        platform: platform.clone(),
        files: contents::files(recipe, &workspace, program, files)?,
        config: contents::config(plan)?,
        created: revision.created.clone(),
        annotations: contents::annotations(recipe, &workspace, &revision),
        compression: Compression::Gzip,
    };
    let mut layout = image.pack()?;
    let title = format!("{}.cdx.json", recipe.package);
    let referrer = layout.attach(bill_of_materials::MEDIA_TYPE, &title, bill.clone())?;
    Ok(Built {
        layout,
        platform,
        name: format!("{}:{}", plan.dynamic().unwrap_or(recipe.image), workspace.version),
        program: size,
        bill_of_materials: bill,
        referrer,
        target_directory: workspace.target_directory,
    })
}
