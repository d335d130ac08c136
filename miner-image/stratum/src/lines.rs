//! A connection as lines, each of bounded length and bounded time.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

use crate::MAX_LINE;

/// A stream of any kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Reason why a connection delivers no more lines.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("the other side closed the connection")]
    Closed,
    #[error("the other side sent a line of more than {MAX_LINE} bytes")]
    TooLong,
    /// A line took too long to arrive or to leave.
    #[error("the other side took too long over a line")]
    TooSlow,
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

/// Usual limit of the time that a line takes to arrive, from its first byte to its last, or to be
/// accepted by the other side.
pub const LINE_TIME: Duration = Duration::from_secs(10);

/// A connection as lines, each of bounded length and bounded time.
pub struct Lines {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    /// Bytes of the buffer that are known to hold no end of line.
    seen: usize,
    /// Deadline of the line that has begun to arrive.
    due: Option<Instant>,
    line_time: Duration,
}

impl Lines {
    /// Wraps a stream, with a limit of the time for each line; [`LINE_TIME`] is usual.
    pub fn new(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        line_time: Duration,
    ) -> Self {
        Self { stream: Box::new(stream), buffer: vec![], seen: 0, due: None, line_time }
    }

    /// Returns the next line, without its end. Cancel safe: dropping the future loses no bytes, as all
    /// state is in the buffer.
    pub async fn next(&mut self) -> Result<Vec<u8>, LineError> {
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
                return Err(LineError::TooLong);
            }
            // Reads at most this much beyond the limit, so a hostile peer cannot make the buffer grow.
            self.buffer.reserve(4096);
            let read = self.stream.read_buf(&mut self.buffer);
            let count = match self.due {
                None => read.await?,
                Some(due) => timeout_at(due, read).await.map_err(|_| LineError::TooSlow)??,
            };
            if count == 0 {
                return Err(LineError::Closed);
            }
            self.due.get_or_insert_with(|| Instant::now() + self.line_time);
        }
    }

    /// Sends a line.
    pub async fn send(&mut self, line: &str) -> Result<(), LineError> {
        self.send_raw(format!("{line}\n").as_bytes()).await
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), LineError> {
        let send = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        Ok(timeout(self.line_time, send).await.map_err(|_| LineError::TooSlow)??)
    }

    /// Closes in good order, so that everything that was sent arrives.
    pub async fn close(mut self) {
        let _ = timeout(self.line_time, self.stream.shutdown()).await;
    }
}
