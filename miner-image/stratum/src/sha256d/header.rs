//! Block headers.

use daylight_sha256d::sha256d;

use crate::v1::{Share, Work};

/// Returns the Merkle root, from the first transaction's hash and the branches that lead to the root.
pub fn merkle_root(coinbase: [u8; 32], branches: &[[u8; 32]]) -> [u8; 32] {
    branches.iter().fold(coinbase, |left, right| {
        let mut pair = [0; 64];
        pair[..32].copy_from_slice(&left);
        pair[32..].copy_from_slice(right);
        sha256d(&pair)
    })
}

impl Work {
    /// Returns the block header of a share.
    pub fn header(&self, share: &Share) -> [u8; 80] {
        let job = &*self.job;
        let coinbase =
            [&job.coinbase1[..], &self.extranonce1, &share.extranonce2, &job.coinbase2].concat();
        let version = match share.version_bits {
            Some(bits) => job.version & !self.version_mask | bits & self.version_mask,
            None => job.version,
        };
        let mut header = [0; 80];
        header[..4].copy_from_slice(&version.to_le_bytes());
        header[4..36].copy_from_slice(&job.previous);
        header[36..68].copy_from_slice(&merkle_root(sha256d(&coinbase), &job.branches));
        header[68..72].copy_from_slice(&share.time.to_le_bytes());
        header[72..76].copy_from_slice(&job.bits.to_le_bytes());
        header[76..].copy_from_slice(&share.nonce.to_le_bytes());
        header
    }
}
