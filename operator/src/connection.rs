//! Connections to the API server.

use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use tower::{BoxError, Service, ServiceBuilder};

/// Idle time after which the kernel probes a connection, the interval of its probes, and the number
/// that may remain unanswered.
const PROBED_AFTER: Duration = Duration::from_secs(5);
const PROBED_EVERY: Duration = Duration::from_secs(2);
const PROBES: u32 = 3;
/// Time for which what was sent may remain unacknowledged.
const UNACKNOWLEDGED_FOR: Duration = Duration::from_secs(10);
/// Time for which a connection without a request is kept.
const KEPT_FOR: Duration = Duration::from_mins(1);

/// Returns a client that soon gives up a connection whose other end is gone.
pub fn client(config: &Config) -> Result<Client, kube::Error> {
    client_over(config, tcp(config))
}

/// A connector of plain TCP connections. Their kernel notices within seconds that the other end is
/// gone, so that the next request does not wait for it; an end that is there and silent is noticed by
/// the watches.
pub fn tcp(config: &Config) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout);
    tcp.set_keepalive(Some(PROBED_AFTER));
    tcp.set_keepalive_interval(Some(PROBED_EVERY));
    tcp.set_keepalive_retries(Some(PROBES));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED_FOR));
    tcp
}

/// Returns a client whose connections are made by `connector`, beneath TLS.
///
/// It speaks HTTP/1.1 over as many connections as there are requests under way, and retries nothing.
pub fn client_over<C>(config: &Config, connector: C) -> Result<Client, kube::Error>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let http: legacy::Client<_, Body> =
        legacy::Builder::new(TokioExecutor::new()).pool_idle_timeout(KEPT_FOR).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}
