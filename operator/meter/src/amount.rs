//! Whole amounts with bounds, and their division without loss.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Amount with bounds on its error.
///
/// In JSON each number is a decimal string, because totals exceed the 2^53 that JSON numbers hold
/// exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounded {
    /// Amount in the books. Values add up exactly.
    #[serde(with = "decimal")]
    pub value: u64,
    /// The true amount is at least `value - below`.
    #[serde(with = "decimal")]
    pub below: u64,
    /// The true amount is at most `value + above`.
    #[serde(with = "decimal")]
    pub above: u64,
}

impl Bounded {
    /// Returns an amount without error.
    pub fn exactly(value: u64) -> Self {
        Self { value, below: 0, above: 0 }
    }

    /// Lower bound of the true amount.
    pub fn lower(&self) -> u64 {
        self.value.saturating_sub(self.below)
    }

    /// Upper bound of the true amount.
    pub fn upper(&self) -> u64 {
        self.value.saturating_add(self.above)
    }

    /// Adds an amount and its bounds.
    pub fn add(&mut self, other: Self) {
        self.value += other.value;
        self.below += other.below;
        self.above += other.above;
    }

    /// Returns whether the amount is certainly zero.
    pub fn is_zero(&self) -> bool {
        self.value == 0 && self.above == 0
    }
}

/// Divides a total in proportion to weights. The parts add up to the total, and each is off by
/// less than one. If all weights are zero, the first part is the whole total.
pub fn split(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if sum == 0 {
        return (0..weights.len()).map(|at| if at == 0 { total } else { 0 }).collect();
    }
    let mut parts = Vec::with_capacity(weights.len());
    let mut weight_so_far: u128 = 0;
    let mut assigned: u64 = 0;
    for weight in weights {
        weight_so_far += u128::from(*weight);
        // Rounding the running sum instead of each part neither loses nor doubles a remainder.
        let due = (u128::from(total) * weight_so_far / sum) as u64;
        parts.push(due - assigned);
        assigned = due;
    }
    debug_assert_eq!(assigned, total, "parts add up");
    parts
}

/// Whole numbers as decimal strings, for `#[serde(with)]`: JSON's numbers are doubles.
pub mod decimal {
    use super::{Deserialize, Deserializer, Serializer};

    /// Writes a number as a string.
    pub fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    /// Reads a number from a string; fails for anything but a decimal number of at most 64 bits.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Energy in millijoules of a power in milliwatts over a time in milliseconds, rounded up.
pub(crate) fn energy_mj(milliwatts: u64, ms: u64) -> u64 {
    let mj = (u128::from(milliwatts) * u128::from(ms)).div_ceil(1000);
    u64::try_from(mj).unwrap_or(u64::MAX)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_add_up_and_are_in_proportion(
            total in any::<u64>(),
            weights in prop::collection::vec(0_u64..1 << 40, 1..20),
        ) {
            let parts = split(total, &weights);
            prop_assert_eq!(parts.iter().map(|part| u128::from(*part)).sum::<u128>(), u128::from(total));
            let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
            for (part, weight) in parts.iter().zip(&weights) {
                let due = u128::from(total) * u128::from(*weight);
                if let Some(fair) = due.checked_div(sum) {
                    prop_assert!(u128::from(*part).abs_diff(fair) <= 1);
                }
            }
        }
    }
}
