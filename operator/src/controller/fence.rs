//! Connections on which no byte is sent unless the lease is held.
//!
//! A request passes several queues between the moment at which the lease is checked and the moment
//! at which its bytes leave. A process that is paused in between, and resumes after another process
//! took the lease, would still send them. So the connections that carry writes check the lease
//! again as the last step before they hand bytes to the kernel.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use kube::{Client, Config};
use tower::Service;

use crate::connection::{client_over, tcp};
use crate::controller::lease::LeaseValidity;

/// The error of a fenced connection that does not send.
const REFUSED: &str = "this replica does not hold the lease for long enough to write";

/// A client whose requests leave only while the lease is held for `needed` more.
///
/// It speaks HTTP/1.1 over as many connections as there are requests under way, so a connection
/// that refuses to send fails one request only. It retries nothing.
pub fn fenced_client(
    config: &Config,
    validity: LeaseValidity,
    needed: Duration,
) -> Result<Client, kube::Error> {
    // Beneath TLS: what TLS has encrypted and buffered is checked once more when it leaves.
    client_over(config, FencedConnector { inner: tcp(config), validity, needed })
}

/// A connector whose connections send only while the lease is held for long enough.
#[derive(Clone, Debug)]
pub struct FencedConnector<C> {
    inner: C,
    validity: LeaseValidity,
    needed: Duration,
}

impl<C> Service<http::Uri> for FencedConnector<C>
where
    C: Service<http::Uri>,
    C::Future: Send + 'static,
{
    type Response = FencedStream<C::Response>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        let (validity, needed) = (self.validity.clone(), self.needed);
        Box::pin(async move { Ok(FencedStream { inner: connecting.await?, validity, needed }) })
    }
}

/// A connection that sends only while the lease is held for long enough.
#[derive(Debug)]
pub struct FencedStream<S> {
    inner: S,
    validity: LeaseValidity,
    needed: Duration,
}

impl<S> FencedStream<S> {
    fn check(&self) -> io::Result<()> {
        if self.validity.is_current_for(self.needed) {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::PermissionDenied, REFUSED))
        }
    }
}

impl<S: Read + Unpin> Read for FencedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: Write + Unpin> Write for FencedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    // Flush and shutdown hand over no bytes, since a TCP stream has no buffer of its own; unfenced,
    // they let a connection close that may no longer send.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, buffers)
    }
}

impl<S: Connection> Connection for FencedStream<S> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use kube::client::Body;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::controller::lease::LeaseValidity;

    /// Answers each connection's requests with 200 and counts the bytes that arrive.
    async fn server() -> (http::Uri, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let received = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = received.clone();
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let count = count.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = socket.read(&mut buffer).await {
                        count.fetch_add(read, std::sync::atomic::Ordering::SeqCst);
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        socket.write_all(answer).await.unwrap();
                    }
                });
            }
        });
        (uri, received)
    }

    #[tokio::test]
    async fn bytes_leave_only_under_the_lease() {
        let (uri, received) = server().await;
        let validity = LeaseValidity::default();
        let client =
            fenced_client(&Config::new(uri), validity.clone(), Duration::from_secs(1)).unwrap();
        let send = || client.send(http::Request::get("/").body(Body::empty()).unwrap());
        let count = || received.load(std::sync::atomic::Ordering::SeqCst);

        assert!(send().await.is_err());
        assert_eq!(count(), 0);

        validity.hold_for_test(Duration::from_secs(5), Instant::now());
        assert!(send().await.is_ok());
        let sent = count();
        assert!(sent > 0);

        // The open connection is fenced as well.
        validity.hold_for_test(Duration::from_millis(500), Instant::now());
        assert!(send().await.is_err());
        assert_eq!(count(), sent);
    }
}
