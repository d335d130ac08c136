//! Whole amounts with bounds, and how they are divided without loss.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount, and how far the truth may be from it.
///
/// In JSON each number is a decimal string, since a total passes the 2^53 that JSON numbers hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounded {
    /// What is booked. Values add up exactly.
    #[serde(with = "decimal")]
    pub value: u64,
    /// The truth is less by this at most.
    #[serde(with = "decimal")]
    pub below: u64,
    /// The truth is more by this at most.
    #[serde(with = "decimal")]
    pub above: u64,
}

impl Bounded {
    /// An amount that is known.
    pub fn exactly(value: u64) -> Self {
        Self { value, below: 0, above: 0 }
    }

    /// The truth is not less.
    pub fn lower(&self) -> u64 {
        self.value.saturating_sub(self.below)
    }

    /// The truth is not more.
    pub fn upper(&self) -> u64 {
        self.value.saturating_add(self.above)
    }

    /// Adds an amount and its bounds.
    pub fn add(&mut self, other: Self) {
        self.value += other.value;
        self.below += other.below;
        self.above += other.above;
    }

    /// Whether nothing is in it, nor could be.
    pub fn is_zero(&self) -> bool {
        self.value == 0 && self.above == 0
    }
}

/// Divides a total by weights: the parts add up to it, and each is off by less than one. Without
/// any weight the first part is all of it.
pub fn split(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if sum == 0 {
        return (0..weights.len()).map(|at| if at == 0 { total } else { 0 }).collect();
    }
    let mut parts = Vec::with_capacity(weights.len());
    let mut passed: u128 = 0;
    let mut given: u64 = 0;
    for weight in weights {
        passed += u128::from(*weight);
        // What is due to all so far, so that no remainder is ever lost or doubled.
        let due = (u128::from(total) * passed / sum) as u64;
        parts.push(due - given);
        given = due;
    }
    parts
}

/// Whole numbers as decimal strings, for `#[serde(with)]`: JSON's numbers are doubles.
pub mod decimal {
    use super::{Deserialize, Deserializer, Serializer};

    /// Writes one.
    ///
    /// # Errors
    ///
    /// The serializer fails.
    pub fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// It is no decimal string, or larger than 64 bits.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Milliwatts × milliseconds, in millijoules, rounded up.
pub(crate) fn most_mj(milliwatts: u64, ms: u64) -> u64 {
    let mj = (u128::from(milliwatts) * u128::from(ms)).div_ceil(1000);
    u64::try_from(mj).unwrap_or(u64::MAX)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
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
