//! Writes the record of work into the container's termination message.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use daylight_agent_api::WorkRecord;

/// Bytes of the message that are kept. Kubernetes keeps 4,096 bytes of the whole record, in which a
/// quote or a line break takes two.
const LONGEST_MESSAGE: usize = 1024;

/// Writes `record` over what `file` holds.
///
/// The file is a mount of its own in a container, so that no other file can be renamed over it. It is
/// overwritten first and cut to length afterwards: an agent that is killed in between leaves its record
/// on the first line, with the end of the previous one after it.
pub(crate) fn write(mut record: WorkRecord, file: &Path) -> io::Result<()> {
    let message = &mut record.last_words.message;
    message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
    let mut line = serde_json::to_vec(&record)?;
    line.push(b'\n');
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(file)?;
    file.write_all(&line)?;
    // A device such as a terminal has no length.
    if file.metadata()?.is_file() {
        file.set_len(line.len() as u64)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use daylight_agent_api::{LastWords, Outcome, Work};

    #[test]
    fn a_record_is_one_line_that_fits() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("termination-log");
        std::fs::write(&file, "x".repeat(9000)).unwrap();
        let record = WorkRecord {
            work: Work { shares_accepted: 118, hashes: 9_000_000_000, ..Work::default() },
            last_words: LastWords {
                reason: Some(Outcome::Drained.to_string()),
                message: "ä\n\"".repeat(2000),
            },
            engine: "xmrig".into(),
            ..WorkRecord::default()
        };
        write(record, &file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.len() < 4096, "{}", text.len());
        assert_eq!(text.lines().count(), 1);
        let start = r#"{"daylight.dev/work":"v1","sharesAccepted":"118","sharesRejected":"0","hashes":"9000000000","evidence":"claimed","reason":"Drained","#;
        assert!(text.starts_with(start), "{text}");
    }
}
