//! Exporters of the devices' figures.

pub mod text;
