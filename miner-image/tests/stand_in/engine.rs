//! An engine that does what it is told: the tests run it in the place of a miner. It ends by itself
//! after a minute, so that no test can leave it behind.

use std::fs;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

/// What it does.
#[derive(Clone, Parser)]
struct Engine {
    /// Says this line
    #[arg(long)]
    say: Vec<String>,
    /// Says what stands in this file
    #[arg(long)]
    show: Option<String>,
    /// Says so many long lines at once
    #[arg(long, default_value_t = 0)]
    flood: u32,
    /// Gives its figures on this loopback port
    #[arg(long)]
    figures: Option<u16>,
    /// Gives the figures that stand in this file instead
    #[arg(long)]
    answer: Option<String>,
    /// Is told where to give its figures by a file such as xmrig's, and says what stands in it
    #[arg(long)]
    config: Option<String>,
    /// Is connected to no pool
    #[arg(long)]
    offline: bool,
    /// Hashes only after this time
    #[arg(long, default_value_t = 0)]
    slow_start_ms: u64,
    /// Ends by itself after this time
    #[arg(long)]
    end_after_ms: Option<u64>,
    /// With this exit code
    #[arg(long, default_value_t = 0)]
    code: u8,
    /// Takes so long to end when asked
    #[arg(long, default_value_t = 0)]
    slow_stop_ms: u64,
    /// Does not end when asked
    #[arg(long)]
    stubborn: bool,
    /// Starts a child that does not end when asked, in a process group of its own
    #[arg(long)]
    child: bool,
    /// Writes the child's process id into this file
    #[arg(long)]
    child_file: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut engine = Engine::parse();
    if let Some(file) = &engine.config {
        let text = fs::read_to_string(file).expect("a configuration");
        let config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        engine.figures = config["http"]["port"].as_u64().and_then(|port| port.try_into().ok());
        engine.say.push(text);
    }
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
    let mut hangup = signal(SignalKind::hangup()).expect("a signal handler");
    for line in &engine.say {
        println!("{line}");
    }
    if let Some(file) = &engine.show {
        println!("{}", fs::read_to_string(file).expect("a file to show"));
    }
    for _ in 0..engine.flood {
        println!("{}", "flood ".repeat(1000));
    }
    if engine.child {
        let this = std::env::current_exe().expect("the stand-in's own path");
        let child = Command::new(this).arg("--stubborn").process_group(0).spawn().expect("a child");
        if let Some(file) = &engine.child_file {
            fs::write(file, child.id().unwrap_or(0).to_string()).expect("the child's file");
        }
    }
    if let Some(port) = engine.figures {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        tokio::spawn(give_figures(listener, engine.clone()));
    }
    println!("stand-in is up");
    let end = sleep(Duration::from_millis(engine.end_after_ms.unwrap_or(60_000)));
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return ExitCode::from(engine.code),
            _ = hangup.recv() => println!("stand-in was told to read its configuration again"),
            _ = terminate.recv() => {
                println!("stand-in was asked to end");
                if engine.stubborn {
                    continue;
                }
                sleep(Duration::from_millis(engine.slow_stop_ms)).await;
                println!("stand-in ends");
                std::io::stdout().flush().expect("standard output");
                return ExitCode::SUCCESS;
            }
        }
    }
}

/// Counts a thousand hashes and one share in each tenth of a second.
async fn give_figures(listener: TcpListener, engine: Engine) {
    let slow = Duration::from_millis(engine.slow_start_ms);
    let began = Instant::now();
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let ticks = began.elapsed().saturating_sub(slow).as_millis() / 100;
        let rate = if ticks > 0 && !engine.offline { 10_000 } else { 0 };
        let counted = format!(
            r#"{{"hashrate":{rate},"hashes":{},"accepted":{ticks},"rejected":1,"connected":{}}}"#,
            ticks * 1000,
            !engine.offline
        );
        let recorded = engine.answer.as_ref().map(fs::read_to_string);
        let body = recorded.map_or(counted, |text| text.expect("an answer"));
        answer(&mut stream, &body).await;
    }
}

async fn answer(stream: &mut TcpStream, body: &str) {
    let mut request = [0; 1024];
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length";
    let answer = format!("{head}: {}\r\n\r\n{body}", body.len());
    // Whoever asks may be gone again.
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(answer.as_bytes()).await;
}
