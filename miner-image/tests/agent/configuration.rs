//! What is said of a configuration that is wrong.

use crate::run::Site;

#[test]
fn check_explains_each_mistake_and_run_refuses() {
    let mut site = Site::new(&[]);
    site.add("[drain]\ngrace = \"soon\"\n[log]\nline_byte = 5");
    let output = site.command("check").output().unwrap();
    assert_eq!(output.status.code(), Some(12));
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(
        lines[0].contains("miner.toml, line ") && lines[0].contains("\"soon\" is not a duration"),
        "{said}"
    );
    assert!(lines[1].contains("unknown field `line_byte`"), "{said}");

    let mut run = site.run();
    assert_eq!(run.code(), 12);
    let record = run.record();
    assert_eq!(record["reason"], "BadConfiguration");
    assert!(record["message"].as_str().unwrap().contains("line_byte"), "{record}");
}

#[test]
fn a_good_configuration_is_said_to_be_good_and_starts_nothing() {
    let site = Site::new(&["--child", "--child-file", "DIR/child"]);
    let output = site.command("check").output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("the configuration is valid"));
    assert!(!site.path("child").exists());
}

#[test]
fn the_environment_and_the_command_line_count_more_than_the_file() {
    let mut site = Site::new(&[]);
    site.env("POOL_ENDPOINTS", "a.example.com:3333,b.example.com:nowhere");
    site.env("ENGINE", "mimer");
    let said = |site: &Site| {
        let output = site.command("check").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = said(&site);
    assert_eq!(code, Some(12));
    assert!(text.starts_with("ENGINE: unknown variant `mimer`"), "{text}");
    site.env("ENGINE", "command");
    let says = "pool.endpoints: \"b.example.com:nowhere\": \"nowhere\" is not a port: it must be from 1 to 65535\n";
    assert_eq!(said(&site), (Some(12), says.into()));
    let output = site
        .command("run")
        .args(["--pool", "a.example.com:3333", "--", "/no/such/engine"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(12));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text, "engine.command: /no/such/engine is not an executable file\n");
}

#[test]
fn options_after_the_dashes_are_the_configured_engines() {
    let mut site = Site::new(&["--say", "configured"]);
    site.set("restart.limit", "1");
    let added = ["--", "--say", "added", "--end-after-ms", "1"];
    let output = site.command("run").args(added).output().unwrap();
    assert_eq!(output.status.code(), Some(11));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("configured\nadded\n"), "{said}");
}

#[test]
fn a_flag_that_nobody_knows_is_a_bad_configuration() {
    let output = Site::new(&[]).command("run").arg("--wallet=49abc").output().unwrap();
    assert_eq!(output.status.code(), Some(12));
}
