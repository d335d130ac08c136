//! Division of a job's search space among threads and devices.

use std::ops::RangeInclusive;

use crate::v1::{Share, Work};

/// Part of a job's space that one thread or device searches at a time: a sixteenth of the nonces of one
/// header.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The header's other parts; its nonce is 0.
    pub share: Share,
    /// The nonces to search.
    pub nonces: RangeInclusive<u32>,
}

/// Units of a header, so that several threads can search one.
const PARTS: u64 = 16;

impl Unit {
    /// Returns a unit by its number: nonces change first, then versions, then the miner's part of the
    /// coinbase, which is the most expensive to change. None after the last.
    pub fn of(work: &Work, number: u64) -> Option<Self> {
        let (part, header) = (number % PARTS, number / PARTS);
        let versions = 1_u64 << work.version_mask.count_ones();
        let (version, extranonce2) = (header % versions, header / versions);
        let size = usize::from(work.extranonce2_size);
        if size < 8 && extranonce2 >> (8 * size) > 0 {
            return None;
        }
        let mut bytes = extranonce2.to_le_bytes().to_vec();
        bytes.resize(size, 0);
        let length = (1_u64 << 32) / PARTS;
        let share = Share {
            job: work.job.id.clone(),
            extranonce2: bytes,
            time: work.job.time,
            nonce: 0,
            version_bits: (work.version_mask > 0).then(|| spread(version, work.version_mask)),
        };
        Some(Self { share, nonces: (part * length) as u32..=((part + 1) * length - 1) as u32 })
    }
}

/// Moves the lowest bits of a number to the places of a mask.
fn spread(number: u64, mask: u32) -> u32 {
    let places = (0..32).filter(|place| mask >> place & 1 == 1).enumerate();
    places.fold(0, |bits, (index, place)| bits | ((number >> index & 1) as u32) << place)
}
