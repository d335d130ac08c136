//! The log: lines of the engine and of the agent, within limits and without secrets.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use daylight_agent_api::Outcome;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::config::Log;
use crate::secret::Secrets;

/// Lines that are kept for a slow reader of the log. Further ones are dropped.
const WAITING: usize = 256;

/// Seconds for which unused lines add up: an engine prints a table of its devices at once.
const BURST: f64 = 10.0;

/// Writes the log on a thread of its own, so that a log that is not being read never blocks the agent.
#[derive(Clone)]
pub(crate) struct LogWriter {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
    secrets: Secrets,
}

enum Line {
    Engine(String),
    Agent(String),
    End(oneshot::Sender<()>),
}

impl LogWriter {
    /// Starts the thread.
    pub(crate) fn new(secrets: Secrets) -> Self {
        let (lines, written) = sync_channel(WAITING);
        std::thread::spawn(move || {
            for line in written {
                // A log that cannot be written cannot report it either.
                let _ = match line {
                    Line::Engine(line) => writeln!(std::io::stdout(), "{line}"),
                    Line::Agent(line) => writeln!(std::io::stderr(), "daylight-miner: {line}"),
                    Line::End(done) => {
                        let _ = done.send(());
                        return;
                    }
                };
            }
        });
        Self { lines, dropped: Arc::default(), secrets }
    }

    /// Writes a sentence of the agent, without the secrets in it.
    pub(crate) fn write(&self, sentence: &str) {
        self.send(Line::Agent(self.secrets.hide(sentence)));
    }

    /// Returns the number of lines that were dropped.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all lines are written, for a short time at most.
    pub(crate) async fn finish(&self) {
        let (done, is_done) = oneshot::channel();
        self.send(Line::End(done));
        let _ = timeout(Duration::from_millis(200), is_done).await;
    }

    fn send(&self, line: Line) {
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Texts in the engine's log that end the run, each with its outcome.
#[derive(Clone, Default)]
pub(crate) struct Signs(pub(crate) Vec<(String, Outcome)>);

impl Signs {
    fn found_in(&self, line: &str) -> Option<Outcome> {
        self.0.iter().find(|(text, _)| line.contains(text)).map(|(_, outcome)| *outcome)
    }
}

/// Logs the lines of `output` until it ends, and reports the first of the `signs` in them to `found`.
pub(crate) async fn pass_on(
    output: Option<Receiver>,
    limits: Log,
    log: LogWriter,
    signs: Signs,
    found: mpsc::Sender<Outcome>,
) {
    let Some(mut output) = output else { return };
    let longest = log.secrets.longest();
    // Longer than what is shown by one secret, so that a secret at the cut is whole and is found.
    let mut lines = Lines { limit: limits.line_bytes + longest, ..Lines::default() };
    let mut allowance = Allowance::new(limits.lines_per_second);
    let mut each = |line: &[u8], cut| {
        let text = String::from_utf8_lossy(line);
        if let Some(outcome) = signs.found_in(&text) {
            // The channel holds one: the first sign decides.
            let _ = found.try_send(outcome);
        }
        if allowance.take(Instant::now()) {
            let hidden = log.secrets.hide(&text);
            log.send(Line::Engine(shown(&hidden, limits.line_bytes, longest, cut)));
        } else {
            log.dropped.fetch_add(1, Ordering::Relaxed);
        }
    };
    let mut buffer = [0; 8192];
    while let Ok(read @ 1..) = output.read(&mut buffer).await {
        lines.split(&buffer[..read], &mut each);
    }
    if !lines.line.is_empty() {
        each(&lines.line, lines.cut);
    }
}

/// Returns at most `limit` bytes of a line. The last `longest` bytes of a line that was `cut` are left
/// out, since they may be the beginning of a secret.
fn shown(line: &str, limit: usize, longest: usize, cut: bool) -> String {
    let line = line.trim_end_matches('\r');
    let whole = if cut { line.len().saturating_sub(longest) } else { line.len() };
    let end = line.floor_char_boundary(whole.min(limit));
    if end < line.len() || cut { format!("{}…", &line[..end]) } else { line.to_owned() }
}

/// Splits a stream into lines, and keeps the first `limit` bytes of each.
#[derive(Default)]
struct Lines {
    limit: usize,
    line: Vec<u8>,
    cut: bool,
}

impl Lines {
    fn split(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8], bool)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.add(&bytes[..end]);
            each(&self.line, self.cut);
            self.line.clear();
            self.cut = false;
            bytes = &bytes[end + 1..];
        }
        self.add(bytes);
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = self.limit - self.line.len();
        self.cut |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Token bucket for the engine's lines.
struct Allowance {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, left: per_second * BURST, at: Instant::now() }
    }

    fn take(&mut self, now: Instant) -> bool {
        let grown = (now - self.at).as_secs_f64() * self.per_second;
        self.left = (self.left + grown).min(self.per_second * BURST);
        self.at = now;
        let allowed = self.left >= 1.0;
        if allowed {
            self.left -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(limit: usize, pieces: &[&str]) -> Vec<(String, bool)> {
        let mut lines = Lines { limit, ..Lines::default() };
        let mut found = Vec::new();
        for piece in pieces {
            lines.split(piece.as_bytes(), |line, cut| {
                found.push((String::from_utf8_lossy(line).into_owned(), cut));
            });
        }
        found
    }

    #[test]
    fn lines_are_found_across_reads_and_kept_short() {
        let found = lines(4, &["ab", "c\nlonger than four", "\n\n", "unfinished"]);
        assert_eq!(found, [("abc".into(), false), ("long".into(), true), (String::new(), false)]);
    }

    #[test]
    fn no_part_of_a_secret_is_shown_where_a_line_is_cut() {
        let secret = "49wallet";
        let secrets = Secrets { wallet: Some(secret.into()), ..Secrets::default() };
        for before in 0..40 {
            let line = format!("{secret} {}{secret}", "-".repeat(before));
            let raw = &line[..line.len().min(20 + secret.len())];
            let cut = raw.len() < line.len();
            let seen = shown(&secrets.hide(raw), 20, secret.len(), cut);
            assert!(!seen.contains("49"), "{seen}");
        }
    }

    #[test]
    fn a_flood_is_held_to_its_rate() {
        let mut allowance = Allowance::new(2);
        let start = allowance.at;
        let passed =
            |allowance: &mut Allowance, at| (0..1000).filter(|_| allowance.take(at)).count();
        assert_eq!(passed(&mut allowance, start), 20);
        assert_eq!(passed(&mut allowance, start + Duration::from_secs(3)), 6);
        assert_eq!(passed(&mut allowance, start + Duration::from_mins(5)), 20);
    }
}
