//! One hash in light mode: `cargo run --release -p daylight-randomx --example hash -- KEY INPUT`.

use std::env;
use std::error::Error;
use std::num::NonZeroU32;
use std::ops::ControlFlow;

use daylight_randomx::{Memory, Mode, Options};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [key, input] = &*arguments else { return Err("give a key and an input".into()) };
    let options = Options { threads: NonZeroU32::MIN, mode: Mode::Light, huge_pages: true };
    let mut memory = Memory::new(options)?;
    let ready = memory.prepare(key.as_bytes(), &|_| ControlFlow::Continue(()))?;
    let ready = ready.ok_or("the memory was not filled")?;
    let hash = ready.hasher()?.hash(input.as_bytes());
    println!("{} on {}", hex::encode(hash), ready.pages());
    Ok(())
}
