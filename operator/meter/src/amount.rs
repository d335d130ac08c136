//! Whole amounts with bounds, and their division without loss.

use std::fmt::Display;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whole numbers of which there are amounts: 64 bits hold the time and energy of any site, and 128
/// the time of its memory and storage.
pub trait Whole:
    Copy
    + Default
    + Display
    + FromStr<Err: Display>
    + Ord
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
{
    /// The sum, or the largest number in place of a larger one.
    #[must_use]
    fn saturating_add(self, other: Self) -> Self;
}

impl Whole for u64 {
    fn saturating_add(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

impl Whole for u128 {
    fn saturating_add(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

/// Amount with bounds on its error.
///
/// In JSON each number is a decimal string, because totals exceed the 2^53 that JSON numbers hold
/// exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "N: Whole")]
pub struct Bounded<N = u64> {
    /// Amount in the books. Values add up exactly.
    #[serde(with = "decimal")]
    pub value: N,
    /// The true amount is at least `value - below`.
    #[serde(with = "decimal")]
    pub below: N,
    /// The true amount is at most `value + above`.
    #[serde(with = "decimal")]
    pub above: N,
}

impl<N: Whole> Bounded<N> {
    /// Returns an amount without error.
    pub fn exactly(value: N) -> Self {
        Self { value, below: N::default(), above: N::default() }
    }

    /// Lower bound of the true amount.
    pub fn lower(&self) -> N {
        self.value - self.below.min(self.value)
    }

    /// Adds an amount and its bounds.
    pub fn add(&mut self, other: Self) {
        self.value += other.value;
        self.below += other.below;
        self.above += other.above;
    }

    /// Adds an amount and its bounds that may be any numbers, such as those of a ledger of others.
    pub fn saturating_add(&mut self, other: Self) {
        self.value = self.value.saturating_add(other.value);
        self.below = self.below.saturating_add(other.below);
        self.above = self.above.saturating_add(other.above);
    }

    /// Returns whether the amount is certainly zero.
    pub fn is_zero(&self) -> bool {
        self.value == N::default() && self.above == N::default()
    }

    /// Returns whether nothing is booked: neither an amount nor a bound.
    pub(crate) fn is_nothing(&self) -> bool {
        self.is_zero() && self.below == N::default()
    }
}

impl Bounded {
    /// Upper bound of the true amount.
    pub fn upper(&self) -> u64 {
        self.value.saturating_add(self.above)
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
    use super::{Deserialize, Deserializer, Serializer, Whole};

    /// Writes a number as a string.
    pub fn serialize<N: Whole, S: Serializer>(
        number: &N,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    /// Reads a number from a string; fails for anything but a decimal number that fits.
    pub fn deserialize<'de, N: Whole, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<N, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Energy in millijoules of a power in milliwatts over a time in milliseconds, rounded up.
pub(crate) fn energy_mj(milliwatts: u64, ms: u64) -> u64 {
    let mj = (u128::from(milliwatts) * u128::from(ms)).div_ceil(1000);
    u64::try_from(mj).unwrap_or(u64::MAX)
}

pub(crate) fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
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
