//! Source of the shader, with all rounds unrolled and constants folded.
//!
//! A loop over the rounds would index arrays at run time, which drivers place in memory. Unrolled,
//! all values stay in registers.

use std::fmt::Write as _;

use daylight_stratum::sha256d::{INITIAL, K};

use crate::params::NAMES;
use crate::sha256;

/// Invocations of a workgroup.
pub(crate) const GROUP: u32 = 64;

/// Nonces that a batch can store as found.
pub(crate) const ROOM: u32 = 1024;

const FUNCTIONS: &str = "
fn rotr(x: u32, by: u32) -> u32 { return (x >> by) | (x << (32u - by)); }
fn small0(x: u32) -> u32 { return rotr(x, 7u) ^ rotr(x, 18u) ^ (x >> 3u); }
fn small1(x: u32) -> u32 { return rotr(x, 17u) ^ rotr(x, 19u) ^ (x >> 10u); }
fn large0(x: u32) -> u32 { return rotr(x, 2u) ^ rotr(x, 13u) ^ rotr(x, 22u); }
fn large1(x: u32) -> u32 { return rotr(x, 6u) ^ rotr(x, 11u) ^ rotr(x, 25u); }
fn ch(e: u32, f: u32, g: u32) -> u32 { return g ^ (e & (f ^ g)); }
fn maj(a: u32, b: u32, c: u32) -> u32 { return (a & b) | (c & (a | b)); }
fn swapped(x: u32) -> u32 {
    return (x << 24u) | ((x & 0xff00u) << 8u) | ((x >> 8u) & 0xff00u) | (x >> 24u);
}
";

/// Returns the source in WGSL, with the entry point `main`.
pub(crate) fn shader() -> String {
    let fields = NAMES.map(|name| format!("{name}: u32")).join(", ");
    let mut body = Body::default();
    let hash = body.hash();
    format!(
        "struct Params {{ {fields} }}
struct Found {{ count: atomic<u32>, nonces: array<u32, {ROOM}> }}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> found: Found;
{FUNCTIONS}
@compute @workgroup_size({GROUP})
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) place: u32,
) {{
    let index = (group.y * groups.x + group.x) * {GROUP}u + place;
    if index >= p.count {{ return; }}
    let nonce = p.first + index;
    let word = swapped(nonce);
{lines}    if swapped({hash}) <= p.upper {{
        let at = atomicAdd(&found.count, 1u);
        if at < {ROOM}u {{ found.nonces[at] = nonce; }}
    }}
}}
",
        lines = body.lines,
    )
}

/// A word within the shader.
#[derive(Clone)]
enum Word {
    Known(u32),
    /// An expression.
    Of(String),
}

use Word::Known;

impl Word {
    fn of(expression: &str) -> Self {
        Self::Of(expression.to_owned())
    }

    fn written(&self) -> String {
        match self {
            Known(value) => format!("{value:#x}u"),
            Self::Of(expression) => expression.clone(),
        }
    }
}

/// Body of the shader, line by line.
#[derive(Default)]
struct Body {
    lines: String,
    named: usize,
}

impl Body {
    /// Writes both compressions, and returns the expression of the hash's last word.
    fn hash(&mut self) -> String {
        let param = |name: &str| Word::Of(format!("p.{name}"));
        let nonce = Word::of("word");

        // The block's words: the end of the header, and the padding. The first three are needed only for
        // the schedule's first words, which are parameters. They are never read, so they stay 0.
        let mut words = vec![Known(0); 16];
        words[3] = nonce.clone();
        words[4] = Known(0x8000_0000);
        words[15] = Known(640);
        words.push(param("w16"));
        words.push(param("w17"));
        words.push(self.sum(&[param("w18"), call("small0", sha256::small0, &nonce)]));
        words.push(self.sum(&[param("w19"), nonce.clone()]));
        self.extend(&mut words, 64);

        let a = self.sum(&[param("a3"), nonce.clone()]);
        let e = self.sum(&[param("e3"), nonce]);
        let [b, c, d] = ["a2", "b2", "c2"].map(param);
        let [f, g, h] = ["e2", "f2", "g2"].map(param);
        let mut state = [a, b, c, d, e, f, g, h];
        for (round, word) in words.iter().enumerate().skip(4) {
            state = self.round(round, state, word);
        }

        // The second block is the first one's hash, and the padding.
        let mut words = vec![];
        for (index, word) in state.into_iter().enumerate() {
            words.push(self.sum(&[word, param(&format!("m{index}"))]));
        }
        words.extend([0; 8].map(Known));
        words[8] = Known(0x8000_0000);
        words[15] = Known(256);
        self.extend(&mut words, 61);
        state = INITIAL.map(Known);
        for (round, word) in words.iter().enumerate() {
            state = self.round(round, state, word);
        }
        // The last three rounds would only move this `e` to `h`, the hash's last word.
        let [.., e, _, _, _] = state;
        self.sum(&[e, Known(INITIAL[7])]).written()
    }

    /// Writes the schedule, up to `length` words.
    fn extend(&mut self, words: &mut Vec<Word>, length: usize) {
        for index in words.len()..length {
            let word = self.sum(&[
                call("small1", sha256::small1, &words[index - 2]),
                words[index - 7].clone(),
                call("small0", sha256::small0, &words[index - 15]),
                words[index - 16].clone(),
            ]);
            words.push(word);
        }
    }

    fn round(&mut self, index: usize, state: [Word; 8], word: &Word) -> [Word; 8] {
        let [a, b, c, d, e, f, g, h] = state;
        let t1 = self.sum(&[
            h,
            call("large1", sha256::large1, &e),
            call3("ch", sha256::ch, [&e, &f, &g]),
            Known(K[index]),
            word.clone(),
        ]);
        let first = self.sum(&[
            t1.clone(),
            call("large0", sha256::large0, &a),
            call3("maj", sha256::maj, [&a, &b, &c]),
        ]);
        [first, a, b, c, self.sum(&[d, t1]), e, f, g]
    }

    /// Writes a sum, and returns its variable, or its value if that is known.
    fn sum(&mut self, words: &[Word]) -> Word {
        let (mut known, mut terms) = (0_u32, vec![]);
        for word in words {
            match word {
                Known(value) => known = known.wrapping_add(*value),
                Word::Of(expression) => terms.push(expression.clone()),
            }
        }
        if terms.is_empty() {
            return Known(known);
        }
        if known > 0 {
            terms.push(Known(known).written());
        }
        self.named += 1;
        let name = format!("v{}", self.named);
        // Writing to a string cannot fail.
        let _ = writeln!(self.lines, "    let {name} = {};", terms.join(" + "));
        Word::Of(name)
    }
}

/// Returns a function's value if it is known, else its expression.
fn call(name: &str, function: fn(u32) -> u32, x: &Word) -> Word {
    match x {
        Known(x) => Known(function(*x)),
        Word::Of(x) => Word::Of(format!("{name}({x})")),
    }
}

/// Returns the same for a function of three words.
fn call3(name: &str, function: fn(u32, u32, u32) -> u32, words: [&Word; 3]) -> Word {
    match words {
        [Known(x), Known(y), Known(z)] => Known(function(*x, *y, *z)),
        _ => Word::Of(format!("{name}({})", words.map(Word::written).join(", "))),
    }
}
