//! Devices whose energy is not read.

use daylight_base::{Name, Timestamp};

use super::Meter;
use crate::node::Node;
use crate::state::Device;

/// Device whose energy is not read, or not read as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadDevice {
    pub device: Name,
    pub cause: UnreadCause,
}

/// Reason that the energy of a device is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadCause {
    /// It was never read.
    Never,
    /// It has brought no new value since this time.
    Since(Timestamp),
}

impl Meter {
    /// Returns the devices of a node whose energy is not read: that have brought no new value for
    /// [`crate::Config::unread_ms`], which is not more than a few minutes.
    pub fn unread_devices(&self, node: &str) -> Vec<UnreadDevice> {
        let Some(node) = self.nodes.get(node) else { return Vec::new() };
        let unread = |device: &Device| -> Option<UnreadDevice> {
            let cause = node.unread_cause(device, self.config.unread_ms)?;
            Some(UnreadDevice { device: device.seen.id.clone(), cause })
        };
        node.state.devices.iter().filter_map(unread).collect()
    }

    /// Time up to which the energy of a node's devices is booked; `None` if one was never read.
    pub fn read_until(&self, node: &str) -> Option<Timestamp> {
        self.nodes.get(node)?.wholly_read_until()
    }

    /// Time without a new value after which a device counts as unread, in milliseconds.
    pub fn unread_after(&self) -> u64 {
        self.config.unread_ms
    }
}

impl Node {
    fn unread_cause(&self, device: &Device, unread_ms: u64) -> Option<UnreadCause> {
        let queued = self.samples.get(&device.seen.id).and_then(|samples| samples.back());
        let newest = queued.or(device.last.as_ref()).map(|sample| sample.at.latest);
        // Before the first booking of this process, nothing could be read.
        let since = newest.unwrap_or(device.joined).max(self.booked_since?);
        if self.state.booked_until.millis_since(since) <= unread_ms {
            return None;
        }
        Some(newest.map_or(UnreadCause::Never, UnreadCause::Since))
    }
}
