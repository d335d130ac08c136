//! Difficulties of shares.

use std::fmt;

use daylight_sha256d::Target;

/// A share difficulty of Stratum v1: 1 is a target of `0x00000000ffff0000…`, some 2³² hashes a
/// share. Finite and above 0; pools for small miners use fractions.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Difficulty(f64);

impl Difficulty {
    /// The default, where a pool sends no difficulty.
    pub const ONE: Self = Self(1.0);

    /// Returns a difficulty if it is finite and above 0.
    pub fn new(difficulty: f64) -> Option<Self> {
        (difficulty.is_finite() && difficulty > 0.0).then_some(Self(difficulty))
    }

    /// Returns the number.
    pub fn get(self) -> f64 {
        self.0
    }

    /// Returns the target: `0xffff × 2²⁰⁸` divided by the difficulty, rounded down, exactly; at most
    /// 2²⁵⁶ - 1.
    pub fn target(self) -> Target {
        // Pools and miners must agree on the last bit of the target, so this divides in whole numbers
        // rather than as floats. The number is mantissa × 2^exponent, both whole.
        let bits = self.0.to_bits();
        let (field, fraction) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
        let (mantissa, exponent) = match field {
            0 => (fraction, -1074),
            _ => (fraction | (1 << 52), field - 1075),
        };
        // Long division, bit by bit: the 16 bits of 0xffff, then 208 zeros less the exponent.
        let (mut quotient, mut rest) = ([0_u64; 4], 0_u64);
        let steps = 16 + 208 - exponent;
        for step in 0..steps {
            let digit = if step < 16 { (0xffff >> (15 - step)) & 1 } else { 0 };
            rest = rest << 1 | digit;
            let mut carry = u64::from(rest >= mantissa);
            rest -= carry * mantissa;
            for limb in &mut quotient {
                (*limb, carry) = (*limb << 1 | carry, *limb >> 63);
            }
            if carry > 0 {
                return Target::EASIEST;
            }
        }
        Target::from_limbs(quotient)
    }
}

impl fmt::Display for Difficulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
