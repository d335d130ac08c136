//! Figures of engines whose JSON answers hold them at fixed places.

use serde_json::Value;

use super::{count, measured, number, text};
use crate::figures::{Device, Figures};

/// Places of an engine's figures in its answer.
///
/// Each is a JSON pointer in which one segment may be `*`: all members of a list or an object, whose
/// numbers are added up. Engines that mine two algorithms at once keep figures for each.
pub(super) struct Places {
    /// Places of hash rates that are added up, in hashes per second.
    pub(super) hashrate: &'static [&'static str],
    pub(super) hashes: Option<&'static str>,
    pub(super) shares_accepted: Option<&'static str>,
    pub(super) shares_rejected: Option<&'static str>,
    /// Shares that the engine itself found to be wrong, if it counts them. They are rejected, too.
    pub(super) shares_invalid: Option<&'static str>,
    /// All shares, of an engine that does not count the rejected ones.
    pub(super) shares_sent: Option<&'static str>,
    pub(super) shares_stale: Option<&'static str>,
    pub(super) difficulty: Option<&'static str>,
    /// Seconds since it connected to the pool.
    pub(super) connected_for: Option<&'static str>,
    /// Seconds since the pool accepted its login.
    pub(super) logged_in_for: Option<&'static str>,
    pub(super) devices: Option<DevicePlaces>,
}

/// Places of the figures of each device, relative to its entry in `list`.
pub(super) struct DevicePlaces {
    pub(super) list: &'static str,
    pub(super) index: &'static str,
    pub(super) name: &'static str,
    pub(super) hashrate: &'static str,
    pub(super) temperature: &'static str,
    pub(super) power: &'static str,
}

impl Places {
    /// No place at all, to begin a description with.
    pub(super) const NONE: Self = Self {
        hashrate: &[],
        hashes: None,
        shares_accepted: None,
        shares_rejected: None,
        shares_invalid: None,
        shares_sent: None,
        shares_stale: None,
        difficulty: None,
        connected_for: None,
        logged_in_for: None,
        devices: None,
    };

    /// Reads the figures in `answer`.
    pub(super) fn read(&self, answer: &Value) -> Figures {
        let total = |place: Option<&str>| total(answer, place?);
        let since = |place: Option<&str>| sum(answer, place?).map(|seconds| seconds > 0.0);
        let accepted = total(self.shares_accepted);
        let invalid = total(self.shares_invalid).unwrap_or(0);
        let rejected = total(self.shares_rejected).map(|rejected| rejected + invalid);
        let others = || Some(total(self.shares_sent)?.saturating_sub(accepted?));
        Figures {
            connected: since(self.connected_for),
            authorised: since(self.logged_in_for),
            hashrate: self
                .hashrate
                .iter()
                .filter_map(|place| rate(answer, place))
                .reduce(|a, b| a + b),
            hashes: self.hashes.and_then(|place| number(answer, place)),
            shares_accepted: accepted,
            shares_rejected: rejected.or_else(others),
            shares_stale: total(self.shares_stale),
            difficulty: self.difficulty.and_then(|place| number(answer, place)),
            devices: self.devices.iter().flat_map(|places| places.read(answer)).collect(),
            ..Figures::default()
        }
    }
}

impl DevicePlaces {
    fn read(&self, answer: &Value) -> Vec<Device> {
        let devices = answer.pointer(self.list).and_then(Value::as_array);
        let device = |device: &Value| {
            Some(Device {
                index: count(device, self.index)?,
                name: text(device, self.name),
                hashrate: rate(device, self.hashrate),
                temperature: measured(device, self.temperature),
                power: measured(device, self.power),
            })
        };
        devices.into_iter().flatten().filter_map(device).collect()
    }
}

/// Adds up the hash rates at `place`. One that is not a number counts as 0: xmrig writes `null` until it
/// has hashed for long enough, and must not be ready until then.
fn rate(value: &Value, place: &str) -> Option<f64> {
    let rates = members(value, place)?;
    Some(rates.iter().map(|rate| rate.and_then(Value::as_f64).unwrap_or(0.0)).sum())
}

/// Adds up the counters at `place`.
fn total(value: &Value, place: &str) -> Option<u64> {
    sum(value, place).filter(|sum| *sum >= 0.0).map(|sum| sum as u64)
}

/// Adds up the numbers at `place`, if all of them are there. A sum of counters that lacks one would be
/// lower than the sum before, which looks like a restart of the engine.
fn sum(value: &Value, place: &str) -> Option<f64> {
    members(value, place)?.iter().map(|number| number.and_then(Value::as_f64)).sum()
}

/// Returns the values at `place`, one for each member where it has a `*`. `None` if there is no such
/// place; a member that lacks the value is `None` in the list.
fn members<'a>(value: &'a Value, place: &str) -> Option<Vec<Option<&'a Value>>> {
    let Some((collection, rest)) = place.split_once("/*") else {
        return Some(vec![Some(value.pointer(place)?)]);
    };
    let members: Vec<&Value> = match value.pointer(collection)? {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => return None,
    };
    Some(members.into_iter().map(|member| member.pointer(rest)).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_added_up() {
        let answer =
            json!({"a": {"x": {"n": 1}, "y": {"n": 2}}, "b": [3, null], "none": [], "n": 7});
        assert_eq!(total(&answer, "/a/*/n"), Some(3));
        assert_eq!(total(&answer, "/n"), Some(7));
        // A rate that is not known yet is 0; a counter that is not there makes the sum unknown.
        assert_eq!(rate(&answer, "/b/*"), Some(3.0));
        assert_eq!(total(&answer, "/b/*"), None);
        assert_eq!((rate(&answer, "/none/*"), total(&answer, "/none/*")), (Some(0.0), Some(0)));
        assert_eq!((rate(&answer, "/c/*"), total(&answer, "/n/*")), (None, None));
    }
}
