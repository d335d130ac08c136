//! The promises of the agent, on the real binary.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::run::{ENGINE, Run, Site};
use rustix::process::{Pid, Signal, kill_process};

/// Whether the process exists whose id is in this file.
fn exists(run: &Run, file: &str) -> bool {
    let pid = fs::read_to_string(run.site.path(file)).unwrap_or_default();
    !pid.is_empty() && Path::new("/proc").join(pid.trim()).exists()
}

#[test]
fn on_sigterm_it_drains_and_leaves_a_record() {
    let mut run = Site::new(&["--figures", "--slow-stop-ms", "200"]).run();
    run.wait("shares", |run| {
        run.metric(r#"shares_total{result="accepted"}"#).is_some_and(|shares| shares > 2.0)
    });
    assert_eq!(run.stop(), 0, "{}", run.log());
    assert!(run.log().contains("stand-in ends"), "{}", run.log());
    let record = run.record();
    assert_eq!(record["daylight.dev/work"], "v1");
    assert_eq!(record["reason"], "Drained");
    assert_eq!(record["evidence"], "claimed");
    assert_eq!(record["sharesRejected"], "1");
    let number = |name: &str| record[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(number("sharesAccepted") > 2);
    assert_eq!(number("hashes"), number("sharesAccepted") * 1000);
}

#[test]
fn an_engine_that_does_not_end_is_killed_with_children_that_left_its_group() {
    let mut site = Site::new(&["--stubborn", "--child", "--child-file", "DIR/child"]);
    site.add("[drain]\ngrace = \"1s\"\nmargin = \"500ms\"");
    let mut run = site.run();
    run.wait("the child runs", |run| exists(run, "child"));
    run.wait_log("stand-in is up\nstand-in is up");
    assert_eq!(run.stop(), 10, "{}", run.log());
    assert!(!exists(&run, "child"));
    let record = run.record();
    assert_eq!(record["reason"], "Killed");
    let message = "SIGTERM: the engine had not ended after 500.0ms and was killed";
    assert_eq!(record["message"], message);
}

#[test]
fn children_that_outlive_their_parent_hold_no_device() {
    let mut site =
        Site::new(&["--child", "--child-file", "DIR/child", "--end-after-ms", "50", "--code", "3"]);
    site.set("restart.limit", "1");
    let mut run = site.run();
    assert_eq!(run.code(), 11, "{}", run.log());
    let pid = fs::read_to_string(run.site.path("child")).unwrap();
    assert!(!Path::new("/proc").join(&pid).exists(), "{pid} is left");
}

#[test]
fn a_stop_hook_runs_before_the_signal() {
    let mut site = Site::new(&["--figures"]);
    site.add(
        "[drain]\nhook = [\"sh\", \"-c\", \"echo hook for $ENGINE_PID; kill -KILL $ENGINE_PID\"]",
    );
    let mut run = site.run();
    run.wait_log("stand-in is up");
    assert_eq!(run.stop(), 0, "{}", run.log());
    assert!(run.log().contains("hook for "), "{}", run.log());
    assert!(!run.log().contains("stand-in received SIGTERM"), "{}", run.log());
}

#[test]
fn a_stop_hook_that_fails_is_followed_by_the_signal() {
    let mut site = Site::new(&[]);
    site.add("[drain]\nhook = [\"false\"]");
    let mut run = site.run();
    run.wait_log("stand-in is up");
    assert_eq!(run.stop(), 0, "{}", run.log());
    assert!(run.log().contains("drain.hook did not end the engine"), "{}", run.log());
    assert!(run.log().contains("stand-in received SIGTERM"), "{}", run.log());
}

#[test]
fn an_engine_that_crashes_is_started_again_until_it_is_too_often() {
    let mut site = Site::new(&["--end-after-ms", "20", "--code", "7"]);
    site.set("restart.limit", "3");
    let mut run = site.run();
    assert_eq!(run.code(), 11, "{}", run.log());
    assert_eq!(run.log().matches("stand-in is up").count(), 3, "{}", run.log());
    let record = run.record();
    assert_eq!(record["restarts"], 2);
    assert_eq!(record["reason"], "EngineCrashed");
    let message = record["message"].as_str().unwrap();
    assert!(message.contains("exit code 7") && message.contains("3 ends within 10m"), "{message}");
}

#[test]
fn an_engine_that_never_hashes_counts_as_crashed() {
    let mut site = Site::new(&["--figures", "--slow-start-ms", "50000"]);
    site.set("restart.limit", "1");
    site.set("engine.start_within", "\"300ms\"");
    let mut run = site.run();
    assert_eq!(run.code(), 11, "{}", run.log());
    assert!(run.log().contains("did not hash for 300ms (engine.start_within)"), "{}", run.log());
}

#[test]
fn lines_and_exit_codes_of_the_engine_can_end_the_run() {
    let cases: [(&[&str], &str, i32); 3] = [
        (
            &["--print", "[pool] Invalid login!"],
            "[engine.login_refused]\nlog = [\"Invalid login\"]",
            13,
        ),
        (&["--end-after-ms", "20", "--code", "44"], "[engine.login_refused]\nexit = [44]", 13),
        (
            &["--print", "CUDA error: device lost", "--end-after-ms", "0", "--code", "1"],
            "[engine.device_lost]\nlog = [\"CUDA error\"]",
            14,
        ),
    ];
    for (args, lines, code) in cases {
        let mut site = Site::new(args);
        site.add(lines);
        let mut run = site.run();
        assert_eq!(run.code(), code, "{}", run.log());
        let reason = if code == 13 { "LoginRefused" } else { "DeviceLost" };
        assert_eq!(run.record()["reason"], reason);
    }
}

#[test]
fn what_is_known_of_an_engine_ends_the_run_too() {
    let cases = [
        ("echo 'Authorization problem on all configured pools'; sleep 60", 13),
        ("exit 42", 14),
        ("echo 'GPU 1: unspecified launch failure'; sleep 60", 14),
    ];
    for (script, code) in cases {
        // What the agent adds is the shell's `$0` and what follows.
        let mut site = Site::with_command(&["/bin/sh", "-c", script]);
        site.set("engine.name", "\"lolminer\"");
        site.set("pool.endpoints", "[\"127.0.0.1:3333\"]");
        let mut run = site.run();
        assert_eq!(run.code(), code, "{script}: {}", run.log());
    }
}

#[test]
fn ready_is_connected_and_hashing_and_alive_is_neither() {
    let mut run = Site::new(&["--figures", "--slow-start-ms", "1000"]).run();
    run.wait("figures", |run| run.get("/readyz").1 == "the engine does not hash\n");
    assert_eq!(run.get("/readyz").0, 503);
    assert_eq!(run.get("/livez").0, 200);
    run.wait("readiness", |run| run.get("/readyz").0 == 200);
    assert_eq!(run.metric("ready"), Some(1.0));
    assert_eq!(run.metric(r#"hashrate{algorithm=""}"#), Some(10_000.0));
    let status: serde_json::Value = serde_json::from_str(&run.get("/status").1).unwrap();
    assert_eq!(status["phase"], "Working");
    assert_eq!(status["figures"]["hashrate"], 10_000.0);
    assert_eq!(run.stop(), 0);

    let mut run = Site::new(&["--figures", "--offline"]).run();
    run.wait("figures", |run| run.metric("pool_connected") == Some(0.0));
    assert_eq!(run.get("/readyz"), (503, "the engine is not connected to a pool\n".into()));
    assert_eq!(run.get("/livez").0, 200);
    assert_eq!(run.get("/elsewhere").0, 404);
    assert_eq!(run.stop(), 0);
}

#[test]
fn a_lease_is_renewed_by_the_header_alone() {
    let mut site = Site::new(&[]);
    site.env("DAYLIGHT_LEASE_SECONDS", "2");
    let mut run = site.run();
    run.wait("it answers", |run| run.get("/livez").0 == 200);
    // Twice the lease's time; a request without the header would not renew it.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        assert_eq!(run.get_with("/metrics", "daylight-lease: renew\r\n").0, 200);
        std::thread::sleep(Duration::from_millis(100));
    }
    run.wait("it lapses", |run| run.get("/metrics").0 == 0);
    assert_eq!(run.code(), 15);
    assert_eq!(run.record()["reason"], "LeaseLapsed");
}

#[test]
fn a_lease_that_is_renewed_holds_and_one_that_lapses_ends_the_work() {
    let mut site = Site::new(&["--figures"]);
    let lease = site.file("lease", "");
    site.add(&format!("[lease]\nfile = {:?}\nlapses_after = \"2s\"", lease.to_str().unwrap()));
    let mut run = site.run();
    let renew = AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while renew.load(Ordering::Relaxed) {
                fs::write(&lease, "").unwrap();
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        // 40 shares are 4 s of the engine's clock, twice the lease's time.
        run.wait("work", |run| {
            run.metric(r#"shares_total{result="accepted"}"#).is_some_and(|shares| shares > 40.0)
        });
        renew.store(false, Ordering::Relaxed);
    });
    assert_eq!(run.code(), 15, "{}", run.log());
    assert!(run.log().contains("stand-in ends"), "{}", run.log());
    assert_eq!(run.record()["reason"], "LeaseLapsed");
}

#[test]
fn a_flood_of_lines_is_held_to_its_limits() {
    let mut site = Site::new(&["--figures", "--flood", "20000"]);
    site.add("[log]\nlines_per_second = 1\nline_bytes = 100");
    let mut run = site.run();
    run.wait("dropped lines", |run| {
        run.metric("log_lines_dropped_total").is_some_and(|lines| lines > 19_000.0)
    });
    let log = run.log();
    let longest = log.lines().filter(|line| line.starts_with("flood")).map(str::len).max();
    assert_eq!(longest, Some(100 + "…".len()), "{log}");
    assert_eq!(run.stop(), 0);
}

#[test]
fn a_last_line_without_its_end_is_read() {
    let mut site = Site::with_command(&["printf", "cannot open device"]);
    site.add("[engine.device_lost]\nlog = [\"open device\"]");
    let mut run = site.run();
    assert_eq!(run.code(), 14, "{}", run.log());
    assert!(run.log().contains("cannot open device"), "{}", run.log());
}

#[test]
fn a_lease_that_has_lapsed_lets_nothing_begin() {
    let mut site = Site::new(&[]);
    let lease = site.file("lease", "");
    fs::File::open(&lease).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    site.add(&format!("[lease]\nfile = {:?}\nlapses_after = \"2s\"", lease.to_str().unwrap()));
    let mut run = site.run();
    assert_eq!(run.code(), 15, "{}", run.log());
    assert!(!run.log().contains("stand-in"), "{}", run.log());
}

#[test]
fn a_log_that_is_not_read_blocks_nothing() {
    let mut site = Site::new(&["--figures", "--flood", "2000"]);
    site.set("log.lines_per_second", "1000");
    let mut run = site.run_with_unread_log();
    run.wait("readiness", |run| run.get("/readyz").0 == 200);
    run.wait("dropped lines", |run| {
        run.metric("log_lines_dropped_total").is_some_and(|lines| lines > 0.0)
    });
    assert_eq!(run.stop(), 0);
    assert_eq!(run.record()["reason"], "Drained");
}

#[test]
fn signals_that_are_the_engines_own_are_passed_on() {
    let mut run = Site::new(&[]).run();
    run.wait_log("stand-in is up");
    run.signal(Signal::HUP);
    run.wait_log("stand-in received SIGHUP");
    assert_eq!(run.stop(), 0);
}

#[test]
fn orphans_are_reaped() {
    let script = format!("(sh -c 'echo $$ > DIR/orphan; read line < DIR/gate' &) ; exec {ENGINE}");
    let script = script.replace("echo", "mkfifo DIR/gate; echo");
    let mut run = Site::with_command(&["sh", "-c", &script]).run();
    run.wait("the orphan runs", |run| exists(run, "orphan") && run.site.path("gate").exists());
    fs::write(run.site.path("gate"), "\n").unwrap();
    // A process that ended without being reaped is still in /proc.
    run.wait("the orphan is gone", |run| !exists(run, "orphan"));
    assert_eq!(run.stop(), 0);
}

#[test]
fn as_the_first_process_it_ends_all_others() {
    let namespace = ["--pid", "--fork", "--mount-proc", "true"];
    if !Command::new("unshare").args(namespace).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: unshare cannot create a namespace here");
        return;
    }
    let mut site = Site::new(&["--child"]);
    site.set("drain.grace", "\"1s\"");
    let mut run = site.run_first();
    run.wait_log("stand-in is up\nstand-in is up");
    let agent = i32::try_from(run.below()[0]).unwrap();
    let status = fs::read_to_string(format!("/proc/{agent}/status")).unwrap();
    let ids = status.lines().find(|line| line.starts_with("NSpid:")).unwrap();
    assert!(ids.ends_with("\t1"), "{ids}");
    kill_process(Pid::from_raw(agent).unwrap(), Signal::TERM).unwrap();
    assert_eq!(run.code(), 10, "{}", run.log());
    assert_eq!(run.record()["reason"], "Killed");
}

#[test]
fn the_agents_memory_is_limited_and_the_engines_is_not() {
    let mut run = Site::new(&[]).run();
    run.wait_log("stand-in is up");
    let limit = |pid: u32| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line =
            limits.lines().find(|line| line.starts_with("Max data size")).unwrap().to_owned();
        line.split_whitespace().nth(3).unwrap().to_owned()
    };
    let own = limit(std::process::id());
    assert_eq!(limit(run.pid()), (64 << 20).to_string());
    let engine = run.below()[0];
    assert_eq!(limit(engine), own);
    assert_eq!(run.stop(), 0);
}

#[test]
fn empty_variables_are_none() {
    let mut site = Site::new(&[]);
    for name in ["ENGINE", "POOL_ENDPOINTS", "POOL_PINS", "THREADS", "DRAIN_SECONDS", "WALLET_FILE"]
    {
        site.env(name, "");
    }
    let output = site.command("check").output().expect("an agent");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn an_unknown_flag_leaves_a_record_without_its_value() {
    let site = Site::new(&[]);
    let record = site.path("unknown");
    let mut command = site.command("run");
    let output = command.args(["--user", "49wallet"]).env("DAYLIGHT_MINER_RECORD", &record);
    assert_eq!(output.output().expect("an agent").status.code(), Some(12));
    let text = std::fs::read_to_string(record).expect("a record");
    assert!(text.contains("--user: there is no such flag") && !text.contains("49wallet"), "{text}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let mut site = Site::new(&["--quiet"]);
    let template = site.file("template", "x");
    site.set("engine.config_template", &format!("{:?}", template.to_str().expect("a path")));
    site.add("engine.args = [\"{config}\"]");
    site.set_run_dir("/proc/nope");
    let mut run = site.run();
    assert_eq!(run.code(), 12);
    let message = run.record()["message"].as_str().expect("a message").to_owned();
    assert!(message.starts_with("agent.run_dir: /proc/nope cannot be written"), "{message}");
}

/// The kernel discards signals to the first process of a container that neither holds nor handles
/// them: from the moment at which it holds them, none is lost.
#[test]
fn a_signal_before_the_agent_listens_is_not_lost() {
    const TERM: u64 = 1 << 14;
    let mut run = Site::new(&[]).run_first();
    let agent = loop {
        let is_ready = |pid: &&u32| {
            // What starts it may hold signals back, too, until it has become the agent.
            let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            if !exe.ends_with("daylight-miner") {
                return false;
            }
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let has = |set: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(set));
                let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
                mask.is_some_and(|mask| mask & TERM != 0)
            };
            has("SigBlk:") || has("SigCgt:")
        };
        if let Some(pid) = run.below().iter().find(is_ready) {
            break i32::try_from(*pid).expect("a process");
        }
    };
    kill_process(Pid::from_raw(agent).expect("a process"), Signal::TERM).expect("an agent");
    assert_eq!(run.code(), 0, "{}", run.log());
    assert_eq!(run.record()["reason"], "Drained");
}
