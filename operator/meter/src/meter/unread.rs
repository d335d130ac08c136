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
    /// It has brought no value for so long that its energy is bounded by what it can draw.
    GivenUp,
    /// Its counter does not move while its power is reported: its energy is estimated by power.
    Stopped,
    /// Its counter, its power and its power limit have contradicted each other since this time.
    Mismatch(Timestamp),
}

impl Meter {
    /// Returns the devices of a node whose energy is not read, or not as it should be, for longer than
    /// [`crate::Config::unread_ms`].
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

    /// Time up to which the energy of a node's devices is known: booked, or, of one that was never read,
    /// the time at which it joined. `None` without devices.
    pub fn known_until(&self, node: &str) -> Option<Timestamp> {
        let node = self.nodes.get(node)?;
        node.unread_since().into_iter().chain(node.wholly_read_until()).min()
    }

    /// Time without a new value after which a device counts as unread, in milliseconds.
    pub fn unread_after(&self) -> u64 {
        self.config.unread_ms
    }
}

impl Node {
    fn unread_cause(&self, device: &Device, unread_ms: u64) -> Option<UnreadCause> {
        let queued = self.samples.get(&device.seen.id).and_then(|samples| samples.back());
        let newest = queued.or(device.last.as_ref());
        // Before the first booking of this process, nothing could be read.
        let booked_since = self.booked_since?;
        let is_old = |since: Timestamp| {
            self.state.booked_until.millis_since(since.max(booked_since)) > unread_ms
        };
        match newest {
            None => is_old(device.joined).then_some(UnreadCause::Never),
            Some(newest) if newest.is_without_value() => Some(UnreadCause::GivenUp),
            Some(newest) if is_old(newest.at.latest) => Some(UnreadCause::Since(newest.at.latest)),
            Some(_) if device.stopped.is_some() => Some(UnreadCause::Stopped),
            Some(_) => {
                let mismatched = device.mismatched.filter(|since| is_old(*since));
                mismatched.map(UnreadCause::Mismatch)
            }
        }
    }
}
