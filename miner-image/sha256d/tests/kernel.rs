//! The kernels against the reference.

use daylight_sha256d::{Kernel, Scan, Target};
use proptest::prelude::*;

/// A target that one hash in `hashes` reaches.
fn one_in(hashes: u64) -> Target {
    Target::from_upper(u64::MAX / hashes)
}

proptest! {
    #[test]
    fn all_kernels_find_what_plain_hashing_finds(
        head: [u8; 32], middle: [u8; 32], tail: [u8; 16], first: u32, count in 0..700_u32,
    ) {
        let mut header = [0; 80];
        header[..32].copy_from_slice(&head);
        header[32..64].copy_from_slice(&middle);
        header[64..].copy_from_slice(&tail);
        let scan = Scan::new(header, one_in(50));
        let plain: Vec<u32> = (0..count)
            .map(|step| first.wrapping_add(step))
            .filter(|nonce| scan.proved(*nonce))
            .collect();
        prop_assert_eq!(&Kernel::Lanes.scan(&scan, first, count), &plain);
        prop_assert_eq!(&Kernel::Instructions.scan(&scan, first, count), &plain);
    }
}
