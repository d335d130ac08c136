//! Waiting, in commands, for answers of web servers.

use tokio::runtime::Handle;

/// Waits for a future within a command.
pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| Handle::current().block_on(future))
}
