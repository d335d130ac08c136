//! The binary `daylight`, which is `kubectl-daylight` too.

fn main() {}
