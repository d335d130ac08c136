//! Addresses of pools.

use std::fmt;
use std::str::FromStr;

/// Address of a pool: `host:port`, or with a scheme before it: `stratum+tcp://` and `tcp://` for plain
/// TCP, `stratum+ssl://`, `stratum+tls://`, `ssl://` and `tls://` for TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address, where an IPv6 address has no brackets.
    pub host: String,
    pub port: u16,
    pub tls: Tls,
}

/// Security of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    Off,
    /// A certificate that the system's roots sign.
    Roots,
    /// One of these certificates or public keys, each by its SHA-256, regardless of who signed it.
    Pinned(Vec<[u8; 32]>),
}

/// Reason why a text is not the address of a pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// A scheme of another protocol.
    #[error("pool {0}: unknown scheme: write stratum+tcp:// or stratum+tls://, or only host:port")]
    Scheme(String),
    /// The host or the port is missing.
    #[error("pool {0}: write host:port, with a port from 1 to 65535")]
    Address(String),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (scheme, address) = text.split_once("://").unwrap_or(("tcp", text));
        let tls = match scheme.strip_prefix("stratum+").unwrap_or(scheme) {
            "tcp" => Tls::Off,
            "tls" | "ssl" => Tls::Roots,
            _ => return Err(EndpointError::Scheme(text.into())),
        };
        let wrong = || EndpointError::Address(text.into());
        let (host, port) = address.trim_end_matches('/').rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        if host.is_empty() || (bare.is_none() && host.contains([':', '/', '@'])) {
            return Err(wrong());
        }
        Ok(Self { host: host.into(), port, tls })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tls != Tls::Off {
            f.write_str("tls://")?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}
