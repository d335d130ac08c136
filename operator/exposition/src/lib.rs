//! Metrics of GPUs, as exporters serve them in the Prometheus text format.
//!
//! [`Sample`] is one line of the format, of any exporter. [`devices`] reads the energy and power of
//! each device from an answer of NVIDIA's dcgm-exporter or AMD's device-metrics-exporter, whichever
//! it is.

mod devices;
mod sample;

pub use devices::{DeviceId, DeviceReading, Unreadable, devices};
pub use sample::{Sample, samples};
