//! An image of the cluster in memory, kept current by watches.
