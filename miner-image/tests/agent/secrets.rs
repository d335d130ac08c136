//! Wallets and passwords are read from files, and appear nowhere else.

use std::fs;
use std::io::ErrorKind;

use crate::run::Site;

const WALLET: &str = "49WalletThatNobodyMaySee";
const PASSWORD: &str = "hunter2-secret";

/// The scripted engine with a configuration file that holds both, which it prints.
fn site() -> Site {
    let mut site = Site::new(&["--figures", "--print-file", "{config}", "--print", "hello"]);
    let wallet = site.file("wallet", &format!("{WALLET}\n"));
    let password = site.file("password", PASSWORD);
    let template = site.file("template", r#"{"user":"{wallet}","pass":"{password}"}"#);
    site.add(&format!(
        "[pool]\nwallet_file = {:?}\npassword_file = {:?}",
        wallet.to_str().expect("a path"),
        password.to_str().expect("a path")
    ));
    site.set("engine.config_template", &format!("{:?}", template.to_str().expect("a path")));
    site
}

#[test]
fn secrets_reach_the_engine_and_appear_nowhere() {
    let mut run = site().run();
    run.wait_log(r#"{"user":"[wallet]","pass":"[password]"}"#);
    run.wait("figures", |run| run.get("/readyz").0 == 200);
    let secret_file = run.site.path("run/engine.conf");
    assert!(fs::read_to_string(&secret_file).unwrap().contains(WALLET));

    let mut seen = vec![run.get("/metrics").1, run.get("/status").1];
    let mut processes = run.below();
    assert!(!processes.is_empty());
    processes.push(run.pid());
    for pid in processes {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(!line.is_empty());
        seen.push(String::from_utf8_lossy(&line).into_owned());
        match fs::read(format!("/proc/{pid}/environ")) {
            Ok(environment) => seen.push(String::from_utf8_lossy(&environment).into_owned()),
            // Only root may read the agent's, which is as good.
            Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
        }
    }
    assert_eq!(run.stop(), 0);
    assert!(!secret_file.exists());
    seen.extend([run.log(), run.record().to_string()]);
    for text in seen {
        assert!(!text.contains(WALLET) && !text.contains(PASSWORD), "{text}");
    }
}

#[test]
fn xmrig_gets_a_file_and_its_answer_is_understood() {
    let mut site = Site::new(&["--answer", "DIR/answer"]);
    // The example of doc/api/2/summary.json in xmrig's repository, without what is not read.
    site.file(
        "answer",
        r#"{"results": {"diff_current": 37638, "shares_good": 3, "shares_total": 3, "hashes_total": 165638},
            "connection": {"uptime": 106}, "hashrate": {"total": [1207.19, 1210.82, null]}}"#,
    );
    let wallet = site.file("wallet", WALLET);
    site.set("pool.wallet_file", &format!("{:?}", wallet.to_str().expect("a path")));
    site.set("pool.endpoints", "[\"stratum+ssl://pool.example.com:3333\"]");
    site.set("pool.protocol", "\"none\"");
    site.set("engine.name", "\"xmrig\"");
    site.set("engine.algorithm", "\"rx/0\"");
    site.set("engine.api_port", &site.figures.to_string());
    let mut run = site.run();
    run.wait_log(r#""user":"[wallet]""#);
    run.wait("figures", |run| run.get("/readyz").0 == 200);
    assert_eq!(run.metric(r#"hashrate{algorithm="rx/0"}"#), Some(1207.19));
    assert_eq!(run.metric("pool_authorised"), Some(1.0));
    assert_eq!(run.stop(), 0);
    let record = run.record();
    assert_eq!((&record["sharesAccepted"], &record["engine"]), (&"3".into(), &"xmrig".into()));
    assert!(!run.log().contains(WALLET), "{}", run.log());
}

#[test]
fn an_engine_that_shows_its_login_gets_no_wallet() {
    let mut site = Site::new(&[]);
    let wallet = site.file("wallet", WALLET);
    site.set("pool.wallet_file", &format!("{:?}", wallet.to_str().expect("a path")));
    site.set("pool.endpoints", "[\"127.0.0.1:3333\"]");
    site.set("engine.name", "\"rigel\"");
    let output = site.command("check").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("pool.wallet_file: rigel takes it on its command line only"),
        "{text}"
    );
}

#[test]
fn a_secret_where_everyone_can_read_it_is_refused() {
    let refused = |site: &Site, args: &[&str]| {
        let output = site.command("run").args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(12));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!text.contains(WALLET) && !text.contains(PASSWORD), "{text}");
        text
    };
    let text = refused(&site(), &["--", "engine", "-u", &format!("{WALLET}.rig")]);
    assert!(text.contains("command line: it holds the wallet or the password"), "{text}");

    let mut named = site();
    named.env("POOL_USER", WALLET);
    assert!(refused(&named, &[]).contains("environment, POOL_USER: it holds the wallet"));

    let mut known = Site::new(&[]);
    known.env("WALLET", "49Other");
    let text = refused(&known, &[]);
    assert!(text.contains("environment, WALLET: secrets are read from files only"), "{text}");
    assert!(!text.contains("49Other"), "{text}");
}

#[test]
fn a_file_that_is_not_there_or_empty_is_named() {
    let mut site = Site::new(&[]);
    let empty = site.file("empty", " \n");
    site.add(&format!(
        "[pool]\nwallet_file = \"/no/wallet\"\npassword_file = {:?}",
        empty.to_str().unwrap()
    ));
    let output = site.command("check").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("pool.wallet_file: /no/wallet cannot be read"), "{text}");
    assert!(text.contains("pool.password_file: ") && text.contains(" is empty"), "{text}");
}

#[test]
fn an_account_may_be_a_part_of_other_names() {
    let mut site = Site::new(&[]);
    let wallet = site.file("wallet", "acme");
    site.set("pool.wallet_file", &format!("{:?}", wallet.to_str().expect("a path")));
    site.env("POD_NAME", "acme-btc-0");
    site.env("ACME_SVC_PORT", "tcp://acme-svc:80");
    let output = site.command("check").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
