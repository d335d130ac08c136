//! Images of programs, without a daemon and without a base image.
//!
//! [`Image`] takes files and a configuration, and makes an OCI image [`Layout`] of them: the same
//! bytes on every machine and at any time. With the feature `builder`, [`build`](mod@build) makes an
//! image of a package in the workspace by a [`build::Recipe`].
//!
//! Formats: <https://github.com/opencontainers/image-spec/tree/v1.1.1>.

#[cfg(feature = "builder")]
pub mod build;
mod error;
mod image;
mod layer;
mod layout;
mod platform;

pub use oci_spec::image as spec;

pub use crate::error::{Error, Result};
pub use crate::image::Image;
pub use crate::layer::{Compression, File};
pub use crate::layout::{Layout, Sizes};
pub use crate::platform::Platform;
