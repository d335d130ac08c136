use tokio::signal::unix::{SignalKind, signal};

/// Waits for a signal to end this process: Ctrl-C (SIGINT) or SIGTERM.
/// From the first call on, neither signal ends the process by itself.
pub async fn wait_for_termination() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers, both signals still end the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
