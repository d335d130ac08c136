//! Nonces that a device finds.

use daylight_gpu::{Device, Kernel};
use daylight_stratum::Target;
use daylight_stratum::sha256d::{self, Scan};

use crate::Outcome;

/// Blocks 0, 1, 100,000 and 125,552 of Bitcoin, with their nonces.
const BLOCKS: [(&str, u32); 4] = [
    (
        "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c",
        2_083_236_893,
    ),
    (
        "010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4ba744bbbe680e1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299",
        2_573_394_689,
    ),
    (
        "0100000050120119172a610421a6c3011dd330d9df07b63616c2cc1f1cd00200000000006657a9252aacd5c0b2940996ecff952228c3067cc38d4885efb5a4ac4247e9f337221b4d4c86041b0f2b5710",
        274_148_111,
    ),
    (
        "0100000081cd02ab7e569e8bcd9317e2fe99f2de44d49ab2b8851ba4a308000000000000e320b6c2fffc8d750423db8b1eb942ae710e951ed797f7affc8892b0f1fc122bc7f5d74df2b9441a42a14695",
        2_504_433_986,
    ),
];

pub(crate) fn published_blocks(device: &Device) -> Outcome {
    let mut kernel = Kernel::open(device)?;
    for (text, nonce) in BLOCKS {
        let mut header = [0; 80];
        hex::decode_to_slice(text, &mut header)?;
        let bits = u32::from_le_bytes([header[72], header[73], header[74], header[75]]);
        // The header's nonce must not help.
        header[76..].fill(0);
        let scan = Scan::new(header, Target::from_compact(bits));
        for first in [nonce - 99_999, nonce - 50_000, nonce] {
            assert_eq!(kernel.scan(&scan, first, 100_000)?, [nonce], "{text} from {first}");
        }
        assert_eq!(kernel.scan(&scan, nonce + 1, 10_000)?, [0; 0]);
        assert_eq!(kernel.scan(&scan, nonce - 10_000, 10_000)?, [0; 0]);
    }
    Ok(())
}

pub(crate) fn same_as_the_cpu(device: &Device) -> Outcome {
    let mut kernel = Kernel::open(device)?;
    let mut random = fastrand::Rng::with_seed(1);
    // Around the workgroups' sizes, across the last nonce, and many.
    let counts = [0, 1, 2, 63, 64, 65, 1000, 4097, 300_000];
    for count in counts.into_iter().cycle().take(3 * counts.len()) {
        let mut header = [0; 80];
        random.fill(&mut header);
        let first = match random.bool() {
            true => random.u32(..),
            false => u32::MAX - count / 2,
        };
        let scan = Scan::new(header, Target::from_upper(u64::MAX / 600));
        let found = kernel.scan(&scan, first, count)?;
        assert_eq!(found, sha256d::Kernel::Instructions.scan(&scan, first, count));
        // An empty result would make the comparison pointless.
        assert!(count < 10_000 || found.len() > 300, "only {} of {count}", found.len());
    }
    Ok(())
}

pub(crate) fn whole_target(device: &Device) -> Outcome {
    let mut kernel = Kernel::open(device)?;
    let mut header = [9; 80];
    let scan = |upper| Scan::new([9; 80], Target::from_upper(upper));
    let loose = kernel.scan(&scan(u64::MAX / 100), 0, 1000)?;
    let nonce = *loose.first().ok_or("none of 1000 hashes is below a hundredth")?;
    header[76..].copy_from_slice(&nonce.to_le_bytes());
    let [.., a, b, c, d, e, f, g, h] = sha256d::sha256d(&header);
    let upper = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    // Both targets have the same upper 32 bits, and the device compares no more.
    assert_eq!(upper >> 32, (upper - 1) >> 32);
    assert_eq!(kernel.scan(&scan(upper), nonce, 1)?, [nonce]);
    assert_eq!(kernel.scan(&scan(upper - 1), nonce, 1)?, [0; 0]);
    Ok(())
}

pub(crate) fn much_is_found(device: &Device) -> Outcome {
    let mut kernel = Kernel::open(device)?;
    // All of them, ten times as many as a batch can store.
    let (first, count) = (u32::MAX - 3000, 10_000);
    let found = kernel.scan(&Scan::new([3; 80], Target::EASIEST), first, count)?;
    let all: Vec<_> = (0..count).map(|step| first.wrapping_add(step)).collect();
    assert_eq!(found, all);
    // Every second one.
    let scan = Scan::new([4; 80], Target::from_upper(u64::MAX / 2));
    let found = kernel.scan(&scan, first, count)?;
    assert_eq!(found, sha256d::Kernel::Lanes.scan(&scan, first, count));
    assert!((4500..5500).contains(&found.len()), "{}", found.len());
    Ok(())
}
