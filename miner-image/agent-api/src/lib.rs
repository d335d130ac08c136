//! The contract between Daylight's operator and the agent in a miner's pod.
