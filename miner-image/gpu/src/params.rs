//! Parameters of the shader: the values that are the same for all nonces of a batch.

use daylight_stratum::sha256d::{K, Scan};

use crate::sha256::{ch, large0, large1, maj, small0, small1};

/// Names of the parameters, in their order. First those of the header:
///
/// - `m0` to `m7` are the state after the header's first 64 bytes.
/// - `a2` to `g2` are the state after three more rounds. `e3` and `a3` are the fourth round's results,
///   without the nonce.
/// - `w16` and `w17` are words of the schedule; so are `w18` and `w19`, without the nonce's part.
///
/// Then those of the batch: the first nonce, the number of nonces, and the highest value of the hash's
/// upper 32 bits.
pub(crate) const NAMES: [&str; 23] = [
    "m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "a2", "b2", "c2", "e2", "f2", "g2", "e3", "a3",
    "w16", "w17", "w18", "w19", "first", "count", "upper",
];

/// Returns the parameters' values, as the device reads them.
pub(crate) fn params(scan: &Scan, first: u32, count: u32) -> Vec<u8> {
    let (midstate, tail) = (scan.midstate(), scan.tail());
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = midstate;
    // The fourth round is computed with a nonce of 0. The nonce enters it only by sums, so the shader
    // adds it later.
    let mut before = [0; 6];
    for (round, word) in [tail[0], tail[1], tail[2], 0].into_iter().enumerate() {
        before = [a, b, c, e, f, g];
        let t1 = sum([h, large1(e), ch(e, f, g), K[round], word]);
        let t2 = sum([large0(a), maj(a, b, c)]);
        (h, g, f, e) = (g, f, e, sum([d, t1]));
        (d, c, b, a) = (c, b, a, sum([t1, t2]));
    }
    let w16 = sum([tail[0], small0(tail[1])]);
    let w17 = sum([tail[1], small0(tail[2]), small1(640)]);
    let w18 = sum([tail[2], small1(w16)]);
    let w19 = sum([small0(0x8000_0000), small1(w17)]);
    let batch = [first, count, scan.upper()];
    let words = midstate.into_iter().chain(before).chain([e, a, w16, w17, w18, w19]).chain(batch);
    words.flat_map(u32::to_le_bytes).collect()
}

fn sum<const N: usize>(words: [u32; N]) -> u32 {
    words.into_iter().fold(0, u32::wrapping_add)
}
