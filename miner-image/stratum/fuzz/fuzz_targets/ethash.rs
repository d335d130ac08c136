//! Every message that is decoded must encode to a line that decodes to the same message.

#![no_main]

use daylight_stratum::ethash::{ethproxy, stratum};

libfuzzer_sys::fuzz_target!(|line: &[u8]| {
    if let Ok(message) = stratum::FromPool::decode(line) {
        assert_eq!(stratum::FromPool::decode(message.encode().as_bytes()), Ok(message));
    }
    if let Ok(request) = stratum::Request::decode(line) {
        assert_eq!(stratum::Request::decode(request.encode().as_bytes()), Ok(request));
    }
    if let Ok(message) = ethproxy::FromPool::decode(line) {
        assert_eq!(ethproxy::FromPool::decode(message.encode().as_bytes()), Ok(message));
    }
    if let Ok(request) = ethproxy::Request::decode(line) {
        assert_eq!(ethproxy::Request::decode(request.encode().as_bytes()), Ok(request));
    }
});
