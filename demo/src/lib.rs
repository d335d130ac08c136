//! The story that `cargo demo` plays, and the comparison that `cargo bench-cluster` measures.
