//! Exporters of the devices' power and energy: discovery and scrapes.

pub mod discovery;
pub(super) mod scrape;
