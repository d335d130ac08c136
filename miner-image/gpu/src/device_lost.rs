//! Loss of a device.

use std::sync::{Arc, OnceLock};

use crate::Device;

/// A device that can no longer compute, or never could. It does not return within this process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device} is lost: {cause}")]
pub struct DeviceLost {
    device: String,
    cause: String,
}

impl DeviceLost {
    pub(crate) fn new(device: &Device, cause: &str) -> Self {
        // Messages of the graphics stack have several lines.
        let words: Vec<_> = cause.split_whitespace().collect();
        let cause = words.join(" ");
        let cause = cause.trim_end_matches('.').to_owned();
        Self { device: device.to_string(), cause }
    }
}

/// First error that the graphics stack reports, which is the cause of the others.
#[derive(Clone, Debug, Default)]
pub(crate) struct FirstError(Arc<OnceLock<String>>);

impl FirstError {
    /// Registers with a device.
    pub(crate) fn of(device: &wgpu::Device) -> Self {
        let first = Self::default();
        let lost = first.clone();
        device.set_device_lost_callback(move |reason, message| {
            lost.note(match (reason, message.is_empty()) {
                (_, false) => message,
                (wgpu::DeviceLostReason::Destroyed, true) => "it was destroyed".into(),
                (wgpu::DeviceLostReason::Unknown, true) => "the driver names no reason".into(),
            });
        });
        let uncaptured = first.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            uncaptured.note(error.to_string());
        }));
        first
    }

    pub(crate) fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    fn note(&self, error: String) {
        // Fails for every later error.
        let _ = self.0.set(error);
    }
}
