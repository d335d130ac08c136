//! SHA-256d of one nonce in each lane of a vector.
//!
//! A nonce takes two compressions, since the first 64 bytes of the header are the same for all. Of
//! their 128 rounds, 122 are computed: the first three are the same for all nonces, and the hash's
//! upper word, which rejects nearly all nonces, is known three rounds before the end.

use pulp::{Simd, WithSimd};

use crate::constants::{INITIAL, K};
use crate::kernel::Scan;

/// Rounds by their numbers, as constants: then the places of state and schedule are known at compile
/// time and stay in registers.
macro_rules! rounds {
    ($simd:expr, $state:expr, $words:expr, $($round:literal)*) => {
        $(round::<$round, _>($simd, &mut $state, &mut $words);)*
    };
}
/// Lanes of the widest vector.
const WIDEST: usize = 16;

/// Search for nonces whose hash's upper 32 bits are low enough.
pub(crate) struct Lanes<'a> {
    pub(crate) scan: &'a Scan,
    pub(crate) first: u32,
    pub(crate) count: u32,
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

            // The last three rounds would only move this `e` to `h`, the hash's last word.
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

/// Computes a round. Instead of moving all eight variables by one place, the places move back by one.
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

/// Returns the place of a variable before a round.
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
