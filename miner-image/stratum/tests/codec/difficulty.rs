//! Difficulties and targets.

use daylight_stratum::{Difficulty, Target};
use proptest::prelude::*;

fn target(difficulty: f64) -> Target {
    Difficulty::new(difficulty).expect("a difficulty").target()
}

/// The target that only the hash 0 reaches.
fn zero() -> Target {
    Target::from_compact(0)
}

/// The number, its highest byte first.
fn number(target: Target) -> [u8; 32] {
    let shown = format!("{target:?}");
    let digits = shown.strip_prefix("Target(").and_then(|rest| rest.strip_suffix(')'));
    let bytes = digits.and_then(|digits| hex::decode(digits).ok()).expect("hexadecimal digits");
    bytes.try_into().expect("32 bytes")
}

#[test]
fn targets_of_published_difficulties() {
    // The first is every pool's; the second is block 100,000's, whose `bits` are 0x1b04864c.
    assert_eq!(
        format!("{:?}", target(1.0)),
        "Target(00000000ffff0000000000000000000000000000000000000000000000000000)"
    );
    assert_eq!(Target::from_compact(0x1d00_ffff), Difficulty::ONE.target());
    assert_eq!(
        format!("{:?}", target(65_535.0)),
        "Target(0000000000010000000000000000000000000000000000000000000000000000)"
    );
    assert_eq!(
        format!("{:?}", Target::from_compact(0x1b04_864c)),
        "Target(000000000004864c000000000000000000000000000000000000000000000000)"
    );
}

#[test]
fn targets_at_the_ends() {
    assert_eq!(number(zero()), [0; 32]);
    assert_eq!(target(f64::from_bits(1)), Target::EASIEST);
    assert_eq!(target(f64::MAX), zero());
    assert_eq!(Difficulty::new(0.0), None);
    assert_eq!(Difficulty::new(f64::NAN), None);
    assert_eq!(Difficulty::new(f64::INFINITY), None);
    assert_eq!(Target::from_compact(0xff12_3456), zero());
    assert_eq!(Target::from_compact(0x0480_0001), zero());
    let mut highest = [0; 32];
    highest[0] = 0xff;
    assert_eq!(number(Target::from_compact(0x2200_00ff)), highest);
    assert_eq!(Target::EASIEST.expected_hashes(), 1);
    assert_eq!(zero().expected_hashes(), u64::MAX);
    assert_eq!(Difficulty::ONE.target().expected_hashes(), 0x1_0001_0001);
}

proptest! {
    #[test]
    fn a_harder_share_has_no_higher_target(a in 1e-12..1e18_f64, b in 1e-12..1e18_f64) {
        let (low, high) = if a < b { (a, b) } else { (b, a) };
        let [low, high] = [low, high].map(target);
        prop_assert!(number(low) >= number(high));
        prop_assert!(low.expected_hashes() <= high.expected_hashes());
    }

    #[test]
    fn a_target_reaches_itself_and_nothing_above(d in 1e-9..1e12_f64) {
        let target = target(d);
        let mut hash = number(target);
        hash.reverse();
        prop_assert!(target.reached_by(&hash));
        let upper = u64::from_le_bytes(hash[24..].try_into().unwrap());
        if let Some(next) = upper.checked_add(1) {
            hash[24..].copy_from_slice(&next.to_le_bytes());
            prop_assert!(!target.reached_by(&hash));
        }
    }
}
