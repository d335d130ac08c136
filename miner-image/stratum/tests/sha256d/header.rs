//! Headers and hashes of published blocks.

use std::sync::Arc;

use daylight_stratum::sha256d::{Kernel, Scan, merkle_root, sha256d};
use daylight_stratum::v1::{Job, Share, Work};
use daylight_stratum::{Difficulty, Target};

/// Reads a hash as it is published, the highest byte first.
fn hash(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).expect("32 bytes");
    bytes.reverse();
    bytes
}

/// Bitcoin's first transaction. Eight of the newspaper's letters take the place of the pool's
/// and the miner's parts.
const COINBASE: [&str; 3] = [
    "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff001d0104455468652054696d65732030332f4a616e2f32303039",
    "204368616e63656c",
    "6c6f72206f6e206272696e6b206f66207365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000",
];

fn genesis() -> (Work, Share) {
    let [before, extranonces, after] = COINBASE.map(|part| hex::decode(part).expect("bytes"));
    let job = Job {
        id: "genesis".into(),
        previous: [0; 32],
        coinbase1: before,
        coinbase2: after,
        branches: vec![],
        version: 1,
        bits: 0x1d00_ffff,
        time: 1_231_006_505,
        clean: true,
    };
    let work = Work {
        job: Arc::new(job),
        extranonce1: extranonces[..4].to_vec(),
        extranonce2_size: 4,
        difficulty: Difficulty::ONE,
        version_mask: 0,
    };
    let share = Share {
        job: "genesis".into(),
        extranonce2: extranonces[4..].to_vec(),
        time: 1_231_006_505,
        nonce: 2_083_236_893,
        version_bits: None,
    };
    (work, share)
}

#[test]
fn bitcoins_first_block_from_its_parts() {
    let (work, share) = genesis();
    let header = work.header(&share);
    assert_eq!(
        hex::encode(header),
        "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
    );
    let found = hash("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f");
    assert_eq!(sha256d(&header), found);
    let scan = Scan::new(header, work.difficulty.target());
    for kernel in [Kernel::Lanes, Kernel::Instructions] {
        assert_eq!(kernel.scan(&scan, share.nonce - 999, 2000), [share.nonce], "{kernel:?}");
    }
}

#[test]
fn later_blocks() {
    // Block 1.
    let header = hex::decode("010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4ba744bbbe680e1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299").unwrap();
    let found = hash("00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048");
    assert_eq!(sha256d(&header), found);

    // Block 100,000, from its four transactions.
    let [coinbase, second, third, fourth] = [
        "8c14f0db3df150123e6f3dbbf30f8b955a8249b62ac1d1ff16284aefa3d06d87",
        "fff2525b8931402dd09222c50775608f75787bd2b87e56995a7bdd30f79702c4",
        "6359f0868171b1d194cbee1af2f16ea598ae8fad666d9b012c8ed2b79a236ec4",
        "e9a66845e05d5abc0ad04ec80f774a7e585c6e8db975962d069a522137b80c1d",
    ]
    .map(hash);
    let root = merkle_root(coinbase, &[second, merkle_root(third, &[fourth])]);
    assert_eq!(root, hash("f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766"));
    let mut header = [0; 80];
    header[0] = 1;
    header[4..36]
        .copy_from_slice(&hash("000000000002d01c1fccc21636b607dfd930d31d01c3a62104612a1719011250"));
    header[36..68].copy_from_slice(&root);
    header[68..72].copy_from_slice(&1_293_623_863_u32.to_le_bytes());
    header[72..76].copy_from_slice(&0x1b04_864c_u32.to_le_bytes());
    header[76..].copy_from_slice(&274_148_111_u32.to_le_bytes());
    let found = hash("000000000003ba27aa200b1cecaad478d2b00432346c3f1f3986da1afd33e506");
    assert_eq!(sha256d(&header), found);
    let scan = Scan::new(header, Target::from_compact(0x1b04_864c));
    for kernel in [Kernel::Lanes, Kernel::Instructions] {
        assert_eq!(kernel.scan(&scan, 274_148_000, 200), [274_148_111], "{kernel:?}");
    }
}

#[test]
fn only_the_masks_bits_of_the_version_are_rolled() {
    let (mut work, mut share) = genesis();
    work.version_mask = 0x1fff_e000;
    share.version_bits = Some(0xffff_ffff);
    assert_eq!(work.header(&share)[..4], 0x1fff_e001_u32.to_le_bytes());
    share.version_bits = Some(0);
    assert_eq!(work.header(&share)[..4], 1_u32.to_le_bytes());
}
