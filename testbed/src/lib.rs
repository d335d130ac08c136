//! A real Kubernetes for tests and demonstrations: started in seconds, held by
//! a value, and gone when the value is.

mod binary;
mod certificates;
mod component;
mod control_plane;
mod error;
mod kubeconfig;
mod nodes;
mod options;
mod process;
mod scratch;

pub use binary::{Programs, build};
pub use component::Component;
pub use control_plane::ControlPlane;
pub use error::{Error, Result};
pub use nodes::Nodes;
pub use options::{ClientRate, Options};
