//! Images of programs, without a daemon and without a base image: what an image holds and
//! says goes in, an OCI image layout of the same bytes comes out, wherever and whenever it is made.
//!
//! Formats: <https://github.com/opencontainers/image-spec/tree/v1.1.1>.

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
