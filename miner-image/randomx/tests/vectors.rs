//! The reference library's published vectors, from `src/tests/tests.cpp` of RandomX.

use std::num::NonZeroU32;
use std::ops::ControlFlow;

use daylight_randomx::{Memory, Mode, Options, Pages};

const KEY: &str = "test key 000";

const VECTORS: [(&str, &str); 3] = [
    ("This is a test", "639183aae1bf4c9a35884cb46b09cad9175f04efd7684e7262a0ac1c2f0b4e3f"),
    (
        "Lorem ipsum dolor sit amet",
        "300a0adb47603dedb42228ccb2b211104f4da45af709cd7547cd049e9489c969",
    ),
    (
        "sed do eiusmod tempor incididunt ut labore et dolore magna aliqua",
        "c36d4ed4191e617309867ed66a443be4075014e2b061bcdaf9ce7b721d2b77a8",
    ),
];

/// The last of the inputs with another key.
const OTHER_KEY: (&str, &str) =
    ("test key 001", "e9ff4503201c0c2cca26d285c93ae883f9b1d30c9eb240b820756f2d5a7905fc");

#[test]
fn light() {
    vectors(Mode::Light);
}

#[test]
#[ignore = "takes 2.3 GiB and 90 seconds of processor time"]
fn fast() {
    vectors(Mode::Fast);
}

fn vectors(mode: Mode) {
    let threads = NonZeroU32::MIN.saturating_add(1);
    let mut memory = Memory::new(Options { threads, mode, huge_pages: false }).expect("no limit");
    let reports = std::sync::Mutex::new(vec![]);
    let progress = |percent| {
        reports.lock().expect("no thread panicked").push(percent);
        ControlFlow::Continue(())
    };
    let ready = memory
        .prepare(KEY.as_bytes(), &progress)
        .expect("memory")
        .expect("it is never interrupted");
    assert_eq!(ready.pages(), &Pages::Normal);
    let mut hasher = ready.hasher().expect("memory");
    for (input, hash) in VECTORS {
        assert_eq!(hex::encode(hasher.hash(input.as_bytes())), hash, "{input}");
    }

    // The same again, each begun while the one before ends. The thread's floating-point arithmetic
    // must not change.
    hasher.begin(VECTORS[0].0.as_bytes());
    for (index, (input, hash)) in VECTORS.into_iter().enumerate() {
        let next = VECTORS[(index + 1) % VECTORS.len()].0;
        assert_eq!(hex::encode(hasher.next(next.as_bytes())), hash, "{input}");
        let third = std::hint::black_box(1.0_f64) / std::hint::black_box(3.0);
        assert_eq!(third.to_bits(), 0x3fd5_5555_5555_5555);
        assert!(std::hint::black_box(f64::MIN_POSITIVE) / 2.0 > 0.0, "no denormal numbers");
    }

    drop(hasher);

    let reports = reports.into_inner().expect("no thread panicked");
    assert_eq!(reports.first(), Some(&0));
    match mode {
        Mode::Light => {
            let (key, hash) = OTHER_KEY;
            let ready =
                memory.prepare(key.as_bytes(), &|_| ControlFlow::Continue(())).expect("memory");
            let mut hasher = ready.expect("it is never interrupted").hasher().expect("memory");
            assert_eq!(hex::encode(hasher.hash(VECTORS[2].0.as_bytes())), hash);
        }
        Mode::Fast => assert_eq!(reports.iter().max(), Some(&100)),
    }
}
