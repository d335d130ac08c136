//! SHA-256's functions, from FIPS 180-4, for values that are known before the device begins.

/// σ0, of the schedule.
pub(crate) fn small0(x: u32) -> u32 {
    x.rotate_right(7) ^ x.rotate_right(18) ^ x >> 3
}

/// σ1, of the schedule.
pub(crate) fn small1(x: u32) -> u32 {
    x.rotate_right(17) ^ x.rotate_right(19) ^ x >> 10
}

/// Σ0, of the rounds.
pub(crate) fn large0(x: u32) -> u32 {
    x.rotate_right(2) ^ x.rotate_right(13) ^ x.rotate_right(22)
}

/// Σ1, of the rounds.
pub(crate) fn large1(x: u32) -> u32 {
    x.rotate_right(6) ^ x.rotate_right(11) ^ x.rotate_right(25)
}

/// Chooses each bit from `f` where `e` is 1, else from `g`.
pub(crate) fn ch(e: u32, f: u32, g: u32) -> u32 {
    g ^ e & (f ^ g)
}

/// Returns the majority of the three, bit by bit.
pub(crate) fn maj(a: u32, b: u32, c: u32) -> u32 {
    a & b | c & (a | b)
}
