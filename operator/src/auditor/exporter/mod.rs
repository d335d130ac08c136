//! The exporters of the devices' figures: found, asked, read.

pub mod found;
pub mod scrape;
pub mod text;
