//! Messages for wrong configurations.

use crate::run::Site;

#[test]
fn check_explains_each_mistake_and_run_refuses() {
    let mut site = Site::new(&[]);
    site.add("[drain]\ngrace = \"soon\"\n[log]\nline_byte = 5");
    let output = site.command("check").output().unwrap();
    assert_eq!(output.status.code(), Some(12));
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines[0].contains("miner.toml, line ") && lines[0].contains("\"soon\" is not a duration"),
        "{text}"
    );
    assert!(lines[1].contains("unknown field `line_byte`"), "{text}");

    let mut run = site.run();
    assert_eq!(run.code(), 12);
    let record = run.record();
    assert_eq!(record["reason"], "BadConfiguration");
    assert!(record["message"].as_str().unwrap().contains("line_byte"), "{record}");
}

#[test]
fn check_confirms_a_valid_configuration_and_starts_nothing() {
    let site = Site::new(&["--child", "--child-file", "DIR/child"]);
    let output = site.command("check").output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("the configuration is valid"));
    assert!(!site.path("child").exists());
}

#[test]
fn the_environment_and_flags_override_the_file() {
    let mut site = Site::new(&[]);
    site.env("POOL_ENDPOINTS", "a.example.com:3333,b.example.com:nowhere");
    site.env("ENGINE", "mimer");
    let check = |site: &Site| {
        let output = site.command("check").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = check(&site);
    assert_eq!(code, Some(12));
    assert!(text.starts_with("ENGINE: unknown variant `mimer`"), "{text}");
    site.env("ENGINE", "command");
    let expected = "pool.endpoints: \"b.example.com:nowhere\": \"nowhere\" is not a port: it must be from 1 to 65535\n";
    assert_eq!(check(&site), (Some(12), expected.into()));
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
    let mut site = Site::new(&["--print", "configured"]);
    site.set("restart.limit", "1");
    let added = ["--", "--print", "added", "--end-after-ms", "1"];
    let output = site.command("run").args(added).output().unwrap();
    assert_eq!(output.status.code(), Some(11));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("configured\nadded\n"), "{text}");
}

#[test]
fn an_unknown_flag_is_a_bad_configuration() {
    let output = Site::new(&[]).command("run").arg("--wallet=49abc").output().unwrap();
    assert_eq!(output.status.code(), Some(12));
}
