//! Exporters of the devices' power and energy: discovery, scrapes, formats.

pub mod discovery;
pub(super) mod scrape;
pub mod text;
