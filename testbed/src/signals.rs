use tokio::signal::unix::{SignalKind, signal};

/// Waits until this process is asked to end, by Ctrl-C (SIGINT) or SIGTERM.
/// While one waits, and from then on, neither ends the process by itself.
pub async fn asked_to_end() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // They go on to end the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
