//! Addresses of pools.

use daylight_stratum::{Endpoint, EndpointError};

#[test]
fn endpoints_in_every_form() {
    let shown = |text: &str| text.parse::<Endpoint>().map(|endpoint| endpoint.to_string());
    for text in ["pool.example:3333", "tcp://pool.example:3333", "stratum+tcp://pool.example:3333/"]
    {
        assert_eq!(shown(text), Ok("pool.example:3333".into()));
    }
    for text in ["tls://[::1]:443", "stratum+ssl://[::1]:443", "ssl://[::1]:443"] {
        assert_eq!(shown(text), Ok("tls://[::1]:443".into()));
    }
    assert!(matches!(shown("http://pool.example:80"), Err(EndpointError::Scheme(_))));
    for text in ["pool.example", "pool.example:0", ":1", "pool.example:65536", "::1:2", "a@b:1"] {
        assert_eq!(shown(text), Err(EndpointError::Address(text.into())), "{text}");
    }
}
