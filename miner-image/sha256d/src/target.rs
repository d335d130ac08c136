//! Targets that hashes must reach.

use std::fmt;

/// Largest value that a hash may have, as a number of 256 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Target([u64; 4]);

impl Target {
    /// The target that every hash reaches.
    pub const EASIEST: Self = Self([u64::MAX; 4]);

    /// Returns a target from its four parts of 64 bits, the lowest first.
    pub const fn from_limbs(limbs: [u64; 4]) -> Self {
        Self(limbs)
    }

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

    /// Reads a number of 256 bits, the highest byte first.
    pub fn from_be_bytes(mut bytes: [u8; 32]) -> Self {
        bytes.reverse();
        Self(limbs(&bytes))
    }

    /// Returns the number, the highest byte first.
    pub fn to_be_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (bytes, limb) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0.iter().rev()) {
            *bytes = limb.to_be_bytes();
        }
        bytes
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
