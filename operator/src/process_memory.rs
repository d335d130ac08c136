//! The memory of this process.

/// Bytes of this process that are in memory, by the kernel's account; `None` where there is none.
pub(crate) fn resident_bytes() -> Option<i64> {
    // Pages: of the whole address space, in memory, shared, and others.
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let resident: usize = pages.split(' ').nth(1)?.parse().ok()?;
    i64::try_from(resident.checked_mul(rustix::param::page_size())?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_written_is_resident() {
        let before = resident_bytes().unwrap();
        let taken = vec![1_u8; 64 << 20];
        let after = resident_bytes().unwrap();
        assert!(after - before > 32 << 20, "{before} {after} {}", taken[taken.len() / 2]);
    }
}
