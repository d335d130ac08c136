//! What is observed.

use daylight_base::Name;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::lease::Account;
use crate::moment::Moment;

/// A pod that holds GPUs of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSeen {
    pub uid: Name,
    /// `namespace/name` of the pod.
    pub pod: Name,
    pub node: Name,
    pub gpus: u32,
    pub account: Account,
    /// Watts declared for it.
    pub watts: u64,
    /// When it was bound.
    pub bound: Moment,
    /// When it began to run, if it did.
    pub started: Option<Moment>,
    /// Whether it waits to be let go, so that its end is not to be missed.
    pub owed: bool,
}

/// A device of a node.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceSeen {
    /// Its UUID or serial number; of devices that nothing tells apart, the node and a number.
    pub id: Name,
    /// What it is, if that is known.
    pub model: Option<Name>,
    /// The most power it draws, in milliwatts, if that is known.
    pub limit_mw: Option<u64>,
}

/// What an exporter says of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub device: Name,
    /// Its energy counter, in millijoules.
    pub counter_mj: Option<u64>,
    /// Its power, in milliwatts.
    pub power_mw: Option<u64>,
    /// `namespace/name` of the pod that has the whole of it, if the exporter knows.
    pub holder: Option<Name>,
}
