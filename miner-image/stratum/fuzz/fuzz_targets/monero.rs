//! Every message that is decoded must encode to a line that decodes to the same message.

#![no_main]

use daylight_stratum::monero::{FromPool, Request};

libfuzzer_sys::fuzz_target!(|line: &[u8]| {
    if let Ok(message) = FromPool::decode(line) {
        assert_eq!(FromPool::decode(message.encode().as_bytes()), Ok(message));
    }
    if let Ok(request) = Request::decode(line) {
        assert_eq!(Request::decode(request.encode().as_bytes()), Ok(request));
    }
});
