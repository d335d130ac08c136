//! Kernels: the search for nonces of a header that reach a target.

use std::time::{Duration, Instant};

use sha2::block_api::compress256;

use crate::constants::INITIAL;
use crate::lanes::Lanes;
use crate::{Target, sha256d};

/// A header to search, with its first 64 bytes already hashed: they are the same for all nonces.
#[derive(Clone, Debug)]
pub struct Scan {
    header: [u8; 80],
    target: Target,
    pub(crate) midstate: [u32; 8],
    pub(crate) tail: [u32; 3],
}

impl Scan {
    /// Prepares a header. Its nonce does not matter.
    pub fn new(header: [u8; 80], target: Target) -> Self {
        let (blocks, rest) = header.as_chunks::<64>();
        let mut midstate = INITIAL;
        compress256(&mut midstate, blocks);
        let (words, _) = rest.as_chunks::<4>();
        let tail = [words[0], words[1], words[2]].map(u32::from_be_bytes);
        Self { header, target, midstate, tail }
    }

    /// Returns SHA-256's state after the first 64 bytes.
    pub fn midstate(&self) -> [u32; 8] {
        self.midstate
    }

    /// Returns the next three words, which the nonce follows.
    pub fn tail(&self) -> [u32; 3] {
        self.tail
    }

    /// Returns the highest value of the hash's upper 32 bits. The hash is a number whose lowest byte
    /// comes first, so they are its last four bytes.
    pub fn upper(&self) -> u32 {
        self.target.upper32()
    }

    /// Returns whether the header with a nonce reaches the target. This computation is independent of
    /// the kernels', so that a kernel's fault cannot reach a pool.
    pub fn proved(&self, nonce: u32) -> bool {
        let mut header = self.header;
        header[76..].copy_from_slice(&nonce.to_le_bytes());
        self.target.reached_by(&sha256d(&header))
    }
}

/// Way to compute the hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Many nonces at once in the lanes of vectors: AVX-512, AVX2, NEON, or others that the CPU has.
    Lanes,
    /// One nonce after the other by the CPU's instructions for SHA-256, or in portable code without
    /// them.
    Instructions,
}

/// Nonces between two checks for new work or a stop: half a millisecond.
pub const BATCH: u32 = 1 << 14;

impl Kernel {
    /// Measures both for some milliseconds, and returns the faster one on this CPU.
    pub fn fastest() -> Self {
        let scan = Scan::new([0; 80], Target::from_upper(0));
        let speed = |kernel: Self| {
            let (start, mut count) = (Instant::now(), 0_u64);
            while start.elapsed() < Duration::from_millis(5) {
                kernel.scan(&scan, 0, 1024);
                count += 1024;
            }
            count as f64 / start.elapsed().as_secs_f64()
        };
        match speed(Self::Lanes) > speed(Self::Instructions) {
            true => Self::Lanes,
            false => Self::Instructions,
        }
    }

    /// Returns the nonces that reach the target, among `count` from `first` on (0 follows the highest).
    pub fn scan(self, scan: &Scan, first: u32, count: u32) -> Vec<u32> {
        let mut found = match self {
            Self::Lanes => pulp::Arch::new().dispatch(Lanes { scan, first, count }),
            Self::Instructions => instructions(scan, first, count),
        };
        found.retain(|nonce| scan.proved(*nonce));
        found
    }
}

/// Searches nonces one by one. Both blocks are prepared with their padding, so that a nonce costs two
/// compressions and no allocation.
fn instructions(scan: &Scan, first: u32, count: u32) -> Vec<u32> {
    let mut inner = [0; 64];
    inner[..12].copy_from_slice(&scan.header[64..76]);
    inner[16] = 0x80;
    inner[62..].copy_from_slice(&640_u16.to_be_bytes());
    let mut outer = [0; 64];
    outer[32] = 0x80;
    outer[62..].copy_from_slice(&256_u16.to_be_bytes());
    let mut found = vec![];
    for nonce in (0..count).map(|step| first.wrapping_add(step)) {
        inner[12..16].copy_from_slice(&nonce.to_le_bytes());
        let mut state = scan.midstate;
        compress256(&mut state, &[inner]);
        for (bytes, word) in outer.as_chunks_mut::<4>().0.iter_mut().zip(state) {
            *bytes = word.to_be_bytes();
        }
        state = INITIAL;
        compress256(&mut state, &[outer]);
        if state[7].swap_bytes() <= scan.upper() {
            found.push(nonce);
        }
    }
    found
}
