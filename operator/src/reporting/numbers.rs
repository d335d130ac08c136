//! Whole amounts as decimal numbers, rounded half up: the same amount always has the same text.

use daylight_crds::Millijoules;
use daylight_meter::Bounded;

/// Milliseconds in an hour.
pub(crate) const HOUR: u128 = 3_600_000;

/// Returns hours with three decimals.
pub(crate) fn hours(ms: u64) -> String {
    decimal(ms.into(), HOUR, 3)
}

/// Returns kilowatt-hours with three decimals.
pub(crate) fn kwh(millijoules: u64) -> String {
    decimal(millijoules.into(), Millijoules::KILOWATT_HOUR.0.into(), 3)
}

/// Returns an amount in a unit of `per`, with this many decimals.
pub(crate) fn decimal(amount: u128, per: u128, decimals: u32) -> String {
    let scale = 10_u128.pow(decimals);
    // What 128 bits of storage × time hold, times a thousand, does not fit: the site would have
    // more than exists.
    let scaled = amount.saturating_mul(scale).saturating_add(per / 2) / per;
    match decimals {
        0 => scaled.to_string(),
        _ => {
            format!("{}.{:0width$}", scaled / scale, scaled % scale, width = decimals as usize)
        }
    }
}

/// Returns the text of an amount, and of its bounds.
pub(crate) fn bounded(amount: Bounded, text: fn(u64) -> String) -> [String; 3] {
    [text(amount.value), text(amount.lower()), text(amount.upper())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_rounded_half_up() {
        assert_eq!(kwh(3_600_000_000), "1.000");
        assert_eq!(kwh(1_799_999), "0.000");
        assert_eq!(kwh(1_800_000), "0.001");
        assert_eq!(hours(u64::MAX), "5124095576030.431");
        assert_eq!(decimal(1500, 1000, 0), "2");
        assert_eq!(decimal(u128::MAX, 1, 3).len(), 40);
    }
}
