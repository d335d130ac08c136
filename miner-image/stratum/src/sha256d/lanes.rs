//! SHA-256d of as many nonces at once as a vector has lanes.
//!
//! Of the 128 rounds of a nonce's two compressions (the first 64 bytes of the header are the same
//! for all) 122 are computed: the first three are the same for all, and the hash's upper word, by
//! which nearly all nonces fall, is known three rounds before the end.

use pulp::{Simd, WithSimd};

use super::Scan;
use super::kernel::INITIAL;

/// SHA-256's constants, from FIPS 180-4.
#[rustfmt::skip]
const K: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// Rounds by their numbers.
macro_rules! rounds {
    ($simd:expr, $state:expr, $words:expr, $($round:literal)*) => {
        $(round::<$round, _>($simd, &mut $state, &mut $words);)*
    };
}
/// The lanes of the widest vector.
const WIDEST: usize = 16;

/// The nonces whose hash's upper 32 bits are low enough.
pub(super) struct Lanes<'a> {
    pub(super) scan: &'a Scan,
    pub(super) first: u32,
    pub(super) count: u32,
}

impl WithSimd for Lanes<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<u32> {
        let Self { scan, first, count } = self;
        let lanes = S::U32_LANES.min(WIDEST);
        let (mut midstate, mut initial) = ([simd.splat_u32s(0); 8], [simd.splat_u32s(0); 8]);
        for (lanes, word) in midstate.iter_mut().zip(scan.midstate) {
            *lanes = simd.splat_u32s(word);
        }
        for (lanes, word) in initial.iter_mut().zip(INITIAL) {
            *lanes = simd.splat_u32s(word);
        }
        let mut inner = [simd.splat_u32s(0); 16];
        for (lanes, word) in inner.iter_mut().zip(scan.tail) {
            *lanes = simd.splat_u32s(word);
        }
        inner[4] = simd.splat_u32s(0x8000_0000);
        inner[15] = simd.splat_u32s(640);
        let mut begun = midstate;
        rounds!(simd, begun, inner, 0 1 2);

        let (mut found, mut nonces, mut uppers) = (vec![], [0; WIDEST], [0; WIDEST]);
        for step in (0..count).step_by(lanes) {
            let base = first.wrapping_add(step);
            for (lane, nonce) in nonces.iter_mut().enumerate() {
                *nonce = base.wrapping_add(lane as u32).swap_bytes();
            }
            let (mut state, mut words) = (begun, inner);
            words[3] = simd.partial_load_u32s(&nonces[..lanes]);
            rounds!(simd, state, words, 3 4 5 6 7 8 9 10 11 12 13 14 15);
            rounds!(simd, state, words, 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
            rounds!(simd, state, words, 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47);
            rounds!(simd, state, words, 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63);

            words = [simd.splat_u32s(0); 16];
            for word in 0..8 {
                words[word] = simd.add_u32s(state[word], midstate[word]);
            }
            words[8] = simd.splat_u32s(0x8000_0000);
            words[15] = simd.splat_u32s(256);
            state = initial;
            rounds!(simd, state, words, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
            rounds!(simd, state, words, 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
            rounds!(simd, state, words, 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47);
            rounds!(simd, state, words, 48 49 50 51 52 53 54 55 56 57 58 59 60);

            // What is `e` now moves on to `h`.
            simd.partial_store_u32s(&mut uppers[..lanes], simd.add_u32s(state[7], initial[7]));
            if uppers[..lanes].iter().any(|upper| upper.swap_bytes() <= scan.upper()) {
                let wanted = (lanes as u32).min(count - step);
                for (lane, upper) in (0..wanted).zip(uppers) {
                    if upper.swap_bytes() <= scan.upper() {
                        found.push(base.wrapping_add(lane));
                    }
                }
            }
        }
        found
    }
}

/// A round. Rather than moving all eight variables on by one, it takes them from places that move
/// back by one.
#[inline(always)]
fn round<const I: usize, S: Simd>(s: S, state: &mut [S::u32s; 8], words: &mut [S::u32s; 16]) {
    let (a, b, c) = (state[at(I, 0)], state[at(I, 1)], state[at(I, 2)]);
    let (e, f, g, h) = (state[at(I, 4)], state[at(I, 5)], state[at(I, 6)], state[at(I, 7)]);
    if I >= 16 {
        let (early, late) = (words[(I + 1) % 16], words[(I + 14) % 16]);
        let sigma0 =
            s.xor_u32s(s.xor_u32s(rotr(s, early, 7), rotr(s, early, 18)), shr(s, early, 3));
        let sigma1 = s.xor_u32s(s.xor_u32s(rotr(s, late, 17), rotr(s, late, 19)), shr(s, late, 10));
        let sum = s.add_u32s(words[I % 16], sigma0);
        words[I % 16] = s.add_u32s(s.add_u32s(sum, words[(I + 9) % 16]), sigma1);
    }
    let ch = s.xor_u32s(g, s.and_u32s(e, s.xor_u32s(f, g)));
    let maj = s.or_u32s(s.and_u32s(a, b), s.and_u32s(c, s.or_u32s(a, b)));
    let sum1 = s.xor_u32s(s.xor_u32s(rotr(s, e, 6), rotr(s, e, 11)), rotr(s, e, 25));
    let sum0 = s.xor_u32s(s.xor_u32s(rotr(s, a, 2), rotr(s, a, 13)), rotr(s, a, 22));
    let input = s.add_u32s(words[I % 16], s.splat_u32s(K[I]));
    let t1 = s.add_u32s(s.add_u32s(s.add_u32s(h, input), ch), sum1);
    state[at(I, 3)] = s.add_u32s(state[at(I, 3)], t1);
    state[at(I, 7)] = s.add_u32s(t1, s.add_u32s(sum0, maj));
}

/// Where a variable stands before a round.
const fn at(round: usize, variable: usize) -> usize {
    (variable + 64 - round) % 8
}

#[inline(always)]
fn rotr<S: Simd>(s: S, word: S::u32s, by: u32) -> S::u32s {
    let low = s.wrapping_dyn_shr_u32s(word, s.splat_u32s(by));
    s.or_u32s(low, s.wrapping_dyn_shl_u32s(word, s.splat_u32s(32 - by)))
}

#[inline(always)]
fn shr<S: Simd>(s: S, word: S::u32s, by: u32) -> S::u32s {
    s.wrapping_dyn_shr_u32s(word, s.splat_u32s(by))
}
