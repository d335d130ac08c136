//! Difficulties of shares, and the targets that their hashes must reach.

use std::fmt;

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
        Target(quotient)
    }
}

impl fmt::Display for Difficulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Largest value that a hash may have, as a number of 256 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Target([u64; 4]);

impl Target {
    /// The target that every hash reaches.
    pub const EASIEST: Self = Self([u64::MAX; 4]);

    /// Reads the compact form in a block's header (`bits`). A negative or overlong one becomes a
    /// target that no hash reaches.
    pub fn from_compact(bits: u32) -> Self {
        let (size, mantissa) = ((bits >> 24) as usize, bits & 0x007f_ffff);
        let mut bytes = [0_u8; 32];
        if bits & 0x0080_0000 == 0 {
            for (place, byte) in mantissa.to_le_bytes()[..3].iter().enumerate() {
                match (size + place).checked_sub(3) {
                    Some(index @ 0..32) => bytes[index] = *byte,
                    Some(_) if *byte > 0 => return Self([0; 4]),
                    _ => {}
                }
            }
        }
        Self(limbs(&bytes))
    }

    /// Reads the form of Monero's pools: the hash's upper 64 bits may be at most this.
    pub fn from_upper(upper: u64) -> Self {
        Self([u64::MAX, u64::MAX, u64::MAX, upper])
    }

    /// Returns whether a hash reaches the target. The hash, in SHA-256's order, is a number whose
    /// lowest byte comes first.
    pub fn reached_by(&self, hash: &[u8; 32]) -> bool {
        limbs(hash).iter().rev().le(self.0.iter().rev())
    }

    /// Returns the upper 32 bits. A hash whose own are higher cannot reach the target.
    pub fn upper32(&self) -> u32 {
        (self.0[3] >> 32) as u32
    }

    /// Returns the average number of hashes that it takes to reach the target, at most 2⁶⁴ - 1.
    pub fn expected_hashes(&self) -> u64 {
        // 2^256 / (target + 1), rounded. 128 bits of the target are enough: where they are all
        // zeros, it takes more than 2^64 hashes.
        let upper = u128::from(self.0[3]) << 64 | u128::from(self.0[2]);
        let Some(divisor) = upper.checked_add(1) else { return 1 };
        let (hashes, rest) = (u128::MAX / divisor, u128::MAX % divisor);
        u64::try_from(hashes.saturating_add((rest >= divisor / 2).into())).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Target(")?;
        self.0.iter().rev().try_for_each(|limb| write!(f, "{limb:016x}"))?;
        f.write_str(")")
    }
}

/// Splits a number into four parts, the lowest first.
fn limbs(bytes: &[u8; 32]) -> [u64; 4] {
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *limb = u64::from_le_bytes(*bytes);
    }
    limbs
}
