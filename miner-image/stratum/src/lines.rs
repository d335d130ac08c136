//! A connection as lines, each of bounded length and bounded time.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use crate::MAX_LINE;

/// A stream of any kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why no more lines come.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The other side closed the connection.
    #[error("the other side closed the connection")]
    Closed,
    /// A line is too long.
    #[error("the other side sent a line of more than {MAX_LINE} bytes")]
    TooLong,
    /// A line took too long to come or to go.
    #[error("the other side took too long over a line")]
    TooSlow,
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

/// How long a line may take from its first byte to its last, and how long the other side may take
/// to accept one.
pub const LINE_TIME: Duration = Duration::from_secs(10);

/// A connection as lines, each of bounded length and bounded time.
pub struct Lines {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    /// How much of the buffer was looked through for an end of line.
    seen: usize,
    /// When the line that is not there in full has to be.
    due: Option<Instant>,
    line_time: Duration,
}

impl Lines {
    /// A connection whose lines may take so long each; [`LINE_TIME`] is usual.
    pub fn new(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        line_time: Duration,
    ) -> Self {
        Self { stream: Box::new(stream), buffer: vec![], seen: 0, due: None, line_time }
    }

    /// The next line, without its end. May be dropped and called again at any time.
    pub async fn next(&mut self) -> Result<Vec<u8>, Broken> {
        loop {
            if let Some(end) = self.buffer[self.seen..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.seen + end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.truncate(line.trim_ascii_end().len());
                self.seen = 0;
                self.due = (!self.buffer.is_empty()).then(|| Instant::now() + self.line_time);
                if line.is_empty() {
                    continue;
                }
                return Ok(line);
            }
            self.seen = self.buffer.len();
            if self.seen > MAX_LINE {
                return Err(Broken::TooLong);
            }
            self.buffer.reserve(4096);
            let read = self.stream.read_buf(&mut self.buffer);
            let count = match self.due {
                None => read.await?,
                Some(due) => timeout_at(due, read).await.map_err(|_| Broken::TooSlow)??,
            };
            if count == 0 {
                return Err(Broken::Closed);
            }
            self.due.get_or_insert_with(|| Instant::now() + self.line_time);
        }
    }

    /// Sends a line.
    pub async fn send(&mut self, line: &str) -> Result<(), Broken> {
        self.send_raw(format!("{line}\n").as_bytes()).await
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        let send = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        Ok(timeout(self.line_time, send).await.map_err(|_| Broken::TooSlow)??)
    }

    /// Closes in good order: what was sent arrives.
    pub async fn close(mut self) {
        let _ = timeout(self.line_time, self.stream.shutdown()).await;
    }
}
