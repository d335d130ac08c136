//! Observations of the cluster and of exporters.

use daylight_base::Name;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::lease::Account;
use crate::moment::Moment;
use crate::operated::Requested;

/// Pod on a node that is on record, as observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedLease {
    pub uid: Name,
    /// `namespace/name` of the pod.
    pub pod: Name,
    pub node: Name,
    /// 0 if it holds none.
    pub gpus: u32,
    pub requested: Requested,
    pub account: Account,
    /// Declared power, in watts.
    pub watts: u64,
    /// Time when the pod was bound.
    pub bound: Moment,
    /// Time when its containers started.
    pub started: Option<Moment>,
    /// True if the pod waits for its end to be recorded before it is released.
    pub owed: bool,
}

/// Device of a node, as observed.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedDevice {
    /// UUID or serial number; the node and a number if the devices have neither.
    pub id: Name,
    pub model: Option<Name>,
    /// Maximum power, in milliwatts.
    pub limit_mw: Option<u64>,
}

/// Values of a device in an exporter's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    pub device: Name,
    /// Energy counter, in millijoules.
    pub counter_mj: Option<u64>,
    /// Power, in milliwatts.
    pub power_mw: Option<u64>,
    /// `namespace/name` of the pod that holds the whole device, from the exporter's labels.
    pub holder: Option<Name>,
}
