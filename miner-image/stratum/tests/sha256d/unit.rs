//! The division of a job's search space.

use std::collections::HashSet;
use std::sync::Arc;

use daylight_stratum::Difficulty;
use daylight_stratum::sha256d::Unit;
use daylight_stratum::v1::{Job, Work};

fn work(extranonce2_size: u8, version_mask: u32) -> Work {
    let job = Job {
        id: "1".into(),
        previous: [1; 32],
        coinbase1: vec![2],
        coinbase2: vec![3],
        branches: vec![],
        version: 0x2000_0000,
        bits: 0x1d00_ffff,
        time: 4,
        clean: true,
    };
    Work {
        job: Arc::new(job),
        extranonce1: vec![],
        extranonce2_size,
        difficulty: Difficulty::ONE,
        version_mask,
    }
}

#[test]
fn units_go_through_the_whole_space_and_nothing_twice() {
    for (size, mask, headers) in [(0, 0, 1), (0, 0x6000, 4), (1, 0, 256), (1, 0x1000_2000, 1024)] {
        let work = work(size, mask);
        let units = (0..).map_while(|number| Unit::of(&work, number));
        let mut seen = HashSet::new();
        let mut count = 0;
        for Unit { share, nonces } in units {
            count += 1;
            assert_eq!(nonces.end() - nonces.start(), u32::MAX / 16);
            assert_eq!(share.version_bits.unwrap_or(0) & !mask, 0);
            assert!(seen.insert((work.header(&share), *nonces.start())));
        }
        assert_eq!(count, headers * 16);
    }
    assert!(Unit::of(&work(8, 0), u64::MAX).is_some());
}
