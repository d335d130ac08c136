use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use daylight_ledger::{LogVerifier, Policy};
use proptest::prelude::*;

use super::*;

/// Disk that dies at a chosen write, which it leaves half done.
#[derive(Clone, Debug, Default)]
struct Mortal {
    files: Rc<RefCell<HashMap<String, Vec<u8>>>>,
    /// Number of writes until it dies.
    left: Rc<Cell<Option<usize>>>,
    /// Part of the last write that is done, in 255ths.
    part: Rc<Cell<u8>>,
}

impl Mortal {
    /// Returns how many bytes of a write are done: all, or a part of the last one.
    fn spend(&self, bytes: usize) -> io::Result<usize> {
        match self.left.get() {
            None => Ok(bytes),
            Some(0) => Err(io::Error::from(io::ErrorKind::StorageFull)),
            Some(left) => {
                self.left.set(Some(left - 1));
                let part = bytes * usize::from(self.part.get()) / 255;
                Ok(if left == 1 { part } else { bytes })
            }
        }
    }

    fn dead(&self) -> bool {
        self.left.get() == Some(0)
    }

    fn revive(&self) {
        self.left.set(None);
    }
}

impl Disk for Mortal {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files.borrow().get(path).cloned())
    }

    fn extend(&mut self, path: &str, keep: u64, bytes: &[u8]) -> io::Result<()> {
        let done = self.spend(bytes.len())?;
        let mut files = self.files.borrow_mut();
        let file = files.entry(path.to_owned()).or_default();
        file.truncate(usize_of(keep));
        file.extend_from_slice(&bytes[..done]);
        if self.dead() { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }

    fn replace(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let done = self.spend(bytes.len())?;
        if done == bytes.len() {
            self.files.borrow_mut().insert(path.to_owned(), bytes.to_vec());
        }
        if self.dead() { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }

    fn sync(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.spend(0)?;
        self.files.borrow_mut().remove(path);
        Ok(())
    }
}

const NONE: [&[u8]; 0] = [];

fn key() -> SigningKey {
    SigningKey::from_seed("example.com/ledger", [7; 32]).unwrap()
}

fn open<D: Disk>(disk: D) -> Result<(Journal<D>, Vec<Vec<u8>>), JournalError> {
    Journal::open(disk, key())
}

/// Reads all entries of a journal.
fn entries(journal: &Journal<impl Disk>) -> Vec<Vec<u8>> {
    let checkpoint = Checkpoint::new("example.com/ledger", journal.size(), journal.tree.root());
    let files = |path: &str| journal.disk.read(path);
    let mut all = Vec::new();
    let read = |_: u64, entry: &[u8]| all.push(entry.to_vec());
    let disagreements = LogVerifier::new(&checkpoint).verify(&files, read).unwrap();
    assert!(disagreements.is_empty(), "{disagreements:?}");
    all
}

fn entry(number: u64, length: usize) -> Vec<u8> {
    let mut text = format!("{{\"entry\":\"{number}\"}}").into_bytes();
    text.resize(text.len() + length, b' ');
    text
}

#[test]
fn what_was_appended_is_read_back() {
    let disk = Mortal::default();
    let (mut journal, state) = open(disk.clone()).unwrap();
    assert!(state.is_empty());
    let all: Vec<_> = (0..700).map(|number| entry(number, 0)).collect();
    journal.append(&all[..300], &["one", "two"], false).unwrap();
    journal.append(&all[300..400], &["three"], false).unwrap();
    let (mut journal, state) = open(disk.clone()).unwrap();
    assert_eq!(state, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    journal.append(&all[400..], &["new"], true).unwrap();
    journal.append(&NONE, &["more"], false).unwrap();
    assert_eq!(journal.size(), 700);
    let (journal, state) = open(disk.clone()).unwrap();
    assert_eq!(journal.size(), 700);
    assert_eq!(state, [b"new".to_vec(), b"more".to_vec()]);
    assert_eq!(entries(&journal), all);
    let files = disk.files.borrow();
    assert_eq!(
        files["tile/entries/000"].len(),
        all[..256].iter().map(|one| one.len() + 2).sum::<usize>()
    );
    // The old state is removed.
    assert!(files.contains_key("state/2") && !files.contains_key("state/1"));
}

#[test]
fn an_edit_of_a_file_is_found() {
    let disk = Mortal::default();
    let (mut journal, _) = open(disk.clone()).unwrap();
    let all: Vec<_> = (0..300).map(|number| entry(number, 0)).collect();
    journal.append(&all, &["state"], false).unwrap();
    let edit = |path: &str, at: usize| {
        disk.files.borrow_mut().get_mut(path).unwrap()[at] ^= 1;
    };
    let error = || open(disk.clone()).unwrap_err().to_string();
    edit("tile/entries/001", 14);
    let wrong = "entry 256 in tile/entries/001 differs from its hash in tile/0/001";
    assert!(error().contains(wrong), "{}", error());
    edit("tile/entries/001", 14);
    edit("state/1", 2);
    assert!(error().contains("state/1 differs from what was committed"), "{}", error());
    edit("state/1", 2);
    edit("tile/1/000", 2);
    let wrong = "the hashes of its 300 entries differ from what was committed";
    assert!(error().contains(wrong), "{}", error());
    edit("tile/1/000", 2);
    // Earlier bundles are checked only by reading all.
    edit("tile/entries/000", 14);
    assert!(open(disk.clone()).is_ok());
    edit("tile/entries/000", 14);
    disk.files.borrow_mut().get_mut("tile/entries/001").unwrap().truncate(20);
    assert!(error().contains("ends within entry 257"), "{}", error());
    disk.files.borrow_mut().remove("tile/entries/001");
    assert!(error().contains("tile/entries/001 is missing"), "{}", error());
}

#[test]
fn an_entry_that_is_too_long_changes_nothing() {
    let (mut journal, _) = open(Mortal::default()).unwrap();
    let long = [entry(0, 0), entry(1, MAX_ENTRY)];
    let error = journal.append(&long, &NONE, false).unwrap_err();
    assert!(matches!(error, JournalError::TooLong(_)));
    assert_eq!(journal.size(), 0);
    journal.append(&[entry(0, 0)], &NONE, false).unwrap();
}

/// A directory that cannot be made durable after a rename: the new `commit` is there, and yet the
/// write failed. Another attempt from the old ends would overwrite what the new one counts.
#[test]
fn a_commit_that_may_be_in_place_is_never_overwritten() {
    for (part, uncertain) in [(255, true), (100, false)] {
        let disk = Mortal::default();
        let (mut journal, _) = open(disk.clone()).unwrap();
        journal.append(&[entry(0, 0)], &["a"], false).unwrap();
        // The bundle, the tile, the state, and then the commit.
        disk.left.set(Some(4));
        disk.part.set(part);
        let error = journal.append(&[entry(1, 0)], &["b"], false).unwrap_err();
        disk.revive();
        assert_eq!(matches!(error, JournalError::Uncertain { .. }), uncertain, "{error}");
        if uncertain {
            (journal, _) = open(disk.clone()).unwrap();
        } else {
            journal.append(&[entry(1, 0)], &["b"], false).unwrap();
        }
        assert_eq!(entries(&journal), [entry(0, 0), entry(1, 0)]);
    }
}

#[test]
fn the_checkpoint_is_of_what_counts_and_a_standard_log() {
    let disk = Mortal::default();
    let (mut journal, _) = open(disk.clone()).unwrap();
    let signed = |disk: &Mortal| {
        let note = String::from_utf8(disk.files.borrow()["checkpoint"].clone()).unwrap();
        let note = Note::parse(&note).unwrap();
        note.verify(&[key().verifier()]).unwrap();
        Checkpoint::parse(note.text()).unwrap()
    };
    journal.publish().unwrap();
    assert_eq!(signed(&disk), Checkpoint::new("example.com/ledger", 0, Hash::empty()));
    let all: Vec<_> = (0..300).map(|number| entry(number, 0)).collect();
    journal.append(&all, &["state"], false).unwrap();
    assert_eq!(signed(&disk).size, 0, "it follows the commit");
    journal.publish().unwrap();
    let mut tree = Tree::new();
    all.iter().for_each(|entry| tree.append(Hash::leaf(entry)));
    assert_eq!(signed(&disk), Checkpoint::new("example.com/ledger", 300, tree.root()));
    assert_eq!(open(disk.clone()).unwrap().0.published(), Some(300));
    assert!(
        tree.take_writes()
            .iter()
            .all(|write| { disk.files.borrow()[&write.path.whole_name()] == write.bytes })
    );
}

#[test]
fn an_old_copy_another_history_and_another_key_are_refused() {
    let disk = Mortal::default();
    let (mut journal, _) = open(disk.clone()).unwrap();
    journal.append(&[entry(0, 0), entry(1, 0)], &["a"], false).unwrap();
    journal.publish().unwrap();
    let old = disk.files.borrow().clone();
    journal.append(&[entry(2, 0)], &["b"], false).unwrap();
    journal.publish().unwrap();
    let checkpoint = disk.files.borrow()["checkpoint"].clone();

    let error = Journal::open(disk.clone(), SigningKey::from_seed("other", [7; 32]).unwrap());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("signed by the key example.com/ledger, but the ledger's key is other+"));

    // All but the checkpoint is from a backup.
    *disk.files.borrow_mut() = old;
    disk.files.borrow_mut().insert("checkpoint".into(), checkpoint.clone());
    let error = open(disk.clone()).unwrap_err().to_string();
    assert!(error.contains("it has 2 entries, but 3 were signed: it is an old copy"), "{error}");

    // The log went on from the backup in another way.
    disk.files.borrow_mut().remove("checkpoint");
    let (mut journal, _) = open(disk.clone()).unwrap();
    journal.append(&[entry(7, 0), entry(8, 0)], &["b"], false).unwrap();
    disk.files.borrow_mut().insert("checkpoint".into(), checkpoint);
    let error = open(disk).unwrap_err().to_string();
    assert!(error.contains("its first 3 entries are not those that were signed"), "{error}");
}

#[test]
fn a_new_key_takes_over_once_both_have_signed() {
    let disk = Mortal::default();
    let next = SigningKey::from_seed("example.com/ledger", [8; 32]).unwrap();
    let policy = format!("log {}\nlog {}\nquorum none\n", key().verifier(), next.verifier());
    let policy: Policy = policy.parse().unwrap();
    let sign = |journal: &mut Journal<Mortal>, signatures: usize| {
        journal.append(&[entry(journal.size(), 0)], &NONE, false).unwrap();
        journal.publish().unwrap();
        let note = Note::parse(&journal.checkpoint().unwrap().note).unwrap();
        assert_eq!(note.signatures().len(), signatures);
        assert_eq!(policy.verify(&note).unwrap().checkpoint.size, journal.size());
    };
    let (mut journal, _) = open(disk.clone()).unwrap();
    sign(&mut journal, 1);
    let refused = Journal::open(disk.clone(), next.clone()).unwrap_err();
    assert!(matches!(refused, JournalError::OtherKey { .. }), "{refused}");
    journal.set_next_key(next.clone());
    sign(&mut journal, 2);
    open(disk.clone()).unwrap();
    let (mut journal, _) = Journal::open(disk.clone(), next).unwrap();
    sign(&mut journal, 1);
    assert!(matches!(open(disk).unwrap_err(), JournalError::OtherKey { .. }));
}

/// Writes a journal in the format without a tree: entries, and what counts of them.
fn earlier(entries: &[Vec<u8>]) -> Mortal {
    let disk = Mortal::default();
    let (mut head, mut end) = (Head::default(), 0);
    for (number, entry) in entries.iter().enumerate() {
        head = head.and(entry);
        let mut files = disk.files.borrow_mut();
        let path = format!("tile/entries/{:03}", number / 256);
        let bundle = files.entry(path).or_default();
        push_entry(bundle, entry).unwrap();
        end = bundle.len();
    }
    let state = b"line\n".to_vec();
    let commit = serde_json::json!({
        "version": 1, "size": entries.len().to_string(), "head": head, "end": end.to_string(),
        "bundleHead": Head::default(), "state": "1", "stateEnd": state.len().to_string(),
        "stateHead": Head::default().and(b"line"),
    });
    let mut files = disk.files.borrow_mut();
    files.insert("state/1".into(), state);
    files.insert("commit".into(), commit.to_string().into_bytes());
    drop(files);
    disk
}

#[test]
fn a_journal_without_a_tree_is_taken_over_whole_or_not_at_all() {
    let all: Vec<_> = (0..600).map(|number| entry(number, 0)).collect();
    // The tiles of three bundles and of the level above, and the commit.
    for dies_at in 1..=7 {
        let disk = earlier(&all);
        disk.left.set(Some(dies_at));
        disk.part.set(100);
        assert_eq!(open(disk.clone()).is_ok(), dies_at > 6, "{dies_at}");
        disk.revive();
        let (mut journal, state) = open(disk.clone()).unwrap();
        assert_eq!((entries(&journal), state), (all.clone(), vec![b"line".to_vec()]));
        journal.append(&[entry(600, 0)], &NONE, false).unwrap();
        assert_eq!(open(disk).unwrap().0.size(), 601);
    }
    let disk = earlier(&all);
    disk.files.borrow_mut().get_mut("tile/entries/001").unwrap()[14] ^= 1;
    let error = open(disk.clone()).unwrap_err().to_string();
    assert!(error.contains("its entries differ from what was committed"), "{error}");
}

proptest! {
    /// At whatever write the disk dies, and however much of that write is done: what was committed
    /// is read back, entries and state together, in order and once, and the journal continues from
    /// there.
    #[test]
    fn a_crash_at_any_write_loses_and_doubles_nothing(
        batches in prop::collection::vec((0_usize..120, any::<bool>(), 0_usize..300), 1..12),
        dies_at in 1_usize..40,
        part in any::<u8>(),
    ) {
        let disk = Mortal::default();
        let (mut journal, _) = open(disk.clone()).unwrap();
        disk.left.set(Some(dies_at));
        disk.part.set(part);
        let (mut all, mut state) = (Vec::new(), Vec::new());
        for (number, (count, replaces_state, length)) in batches.into_iter().enumerate() {
            let from = all.len() as u64;
            let batch: Vec<_> = (0..count as u64).map(|one| entry(from + one, length)).collect();
            let lines = [format!("{number}").into_bytes(), vec![b'x'; length]];
            let mut next = if replaces_state { Vec::new() } else { state.clone() };
            next.extend(lines.clone());
            if journal.append(&batch, &lines, replaces_state).is_err() {
                disk.revive();
                let (again, seen) = open(disk.clone()).unwrap();
                journal = again;
                // Nothing of the batch counts, or all of it if the disk died after the commit.
                if seen == next {
                    prop_assert_eq!(journal.size(), from + count as u64);
                } else {
                    prop_assert_eq!((journal.size(), &seen), (from, &state));
                    journal.append(&batch, &lines, replaces_state).unwrap();
                }
            }
            all.extend(batch);
            state = next;
        }
        disk.revive();
        let (journal, seen) = open(disk).unwrap();
        prop_assert_eq!(entries(&journal), all);
        prop_assert_eq!(seen, state);
    }
}

/// Directory that is removed at the end of a test.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_directory_has_one_writer_and_keeps_what_counts() {
    let name = format!("daylight-journal-{}", std::process::id());
    let scratch = Scratch(std::env::temp_dir().join(name));
    let (mut journal, _) = open(Directory::take(&scratch.0).unwrap()).unwrap();
    let error = Directory::take(&scratch.0).unwrap_err().to_string();
    assert!(error.contains("another process writes the journal"), "{error}");
    let all: Vec<_> = (0..600).map(|number| entry(number, 20)).collect();
    journal.append(&all[..255], &["a"], false).unwrap();
    journal.append(&all[255..], &["b"], true).unwrap();
    drop(journal);
    // What a crash leaves after the committed end is overwritten.
    let bundle = scratch.0.join("tile/entries/002");
    let mut torn = std::fs::read(&bundle).unwrap();
    torn.extend_from_slice(b"half an entry");
    std::fs::write(&bundle, torn).unwrap();
    let (mut journal, state) = open(Directory::take(&scratch.0).unwrap()).unwrap();
    assert_eq!((entries(&journal), state), (all, vec![b"b".to_vec()]));
    assert!(!scratch.0.join("state/1").exists());
    journal.append(&[entry(600, 0)], &NONE, false).unwrap();
    drop(journal);
    let (journal, _) = open(Directory::take(&scratch.0).unwrap()).unwrap();
    assert_eq!(journal.size(), 601);
}
