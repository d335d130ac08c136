//! How a device ends.

use std::sync::{Arc, OnceLock};

use crate::Device;

/// A device that cannot be hashed on any more, or never could. It does not come back within this
/// process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device} is lost: {cause}")]
pub struct DeviceLost {
    device: String,
    cause: String,
}

impl DeviceLost {
    pub(crate) fn new(device: &Device, cause: &str) -> Self {
        // The graphics stack says it in several lines.
        let words: Vec<_> = cause.split_whitespace().collect();
        let cause = words.join(" ");
        let cause = cause.trim_end_matches('.').to_owned();
        Self { device: device.to_string(), cause }
    }
}

/// Where the graphics stack says that something went wrong: the first is the cause of the others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Complaints(Arc<OnceLock<String>>);

impl Complaints {
    /// Listens to a device.
    pub(crate) fn of(device: &wgpu::Device) -> Self {
        let complaints = Self::default();
        let lost = complaints.clone();
        device.set_device_lost_callback(move |reason, message| {
            lost.note(match (reason, message.is_empty()) {
                (_, false) => message,
                (wgpu::DeviceLostReason::Destroyed, true) => "it was destroyed".into(),
                (wgpu::DeviceLostReason::Unknown, true) => "the driver names no reason".into(),
            });
        });
        let wrong = complaints.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            wrong.note(error.to_string());
        }));
        complaints
    }

    pub(crate) fn first(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    fn note(&self, complaint: String) {
        // A later one follows from the first.
        let _ = self.0.set(complaint);
    }
}
