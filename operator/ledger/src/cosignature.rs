//! What witnesses sign, by C2SP `tlog-cosignature`.

use crate::checkpoint::Checkpoint;

/// Most bytes of a cosigner's name and of an origin that ML-DSA-44 signs.
pub(crate) const MAX_NAME: usize = 255;

/// Latest time of a cosignature, in seconds since 1970.
pub(crate) const MAX_TIME: u64 = i64::MAX as u64;

/// Error of a checkpoint that cannot be cosigned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosignError {
    /// A name is empty or longer than the signed message can state.
    #[error("a name of {0} bytes cannot be cosigned with ML-DSA-44: it must have 1 to {MAX_NAME}")]
    Name(usize),
    /// The time is 0, which stands for none, or too large.
    #[error("{0} is not the time of a cosignature in seconds: it must be 1 to 2^63 - 1")]
    Time(u64),
}

/// Splits a cosignature into its time and what follows.
pub(crate) fn split(signature: &[u8]) -> Option<(u64, &[u8])> {
    let (time, rest) = signature.split_first_chunk()?;
    let time = u64::from_be_bytes(*time);
    (time <= MAX_TIME).then_some((time, rest))
}

/// Returns what an Ed25519 cosignature signs. `text` is that of the checkpoint's note.
pub(crate) fn ed25519_message(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// Returns what an ML-DSA-44 cosignature signs. The extension lines are not part of it.
pub(crate) fn ml_dsa_message(
    cosigner: &str,
    checkpoint: &Checkpoint,
    time: u64,
) -> Result<Vec<u8>, CosignError> {
    let Checkpoint { origin, size, root, extensions: _ } = checkpoint;
    let mut message = b"subtree/v1\n\0".to_vec();
    push_name(&mut message, cosigner)?;
    message.extend(time.to_be_bytes());
    push_name(&mut message, origin)?;
    message.extend(0_u64.to_be_bytes());
    message.extend(size.to_be_bytes());
    message.extend(root.0);
    Ok(message)
}

fn push_name(message: &mut Vec<u8>, name: &str) -> Result<(), CosignError> {
    let length = u8::try_from(name.len()).ok().filter(|length| *length > 0);
    message.push(length.ok_or(CosignError::Name(name.len()))?);
    message.extend(name.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hash;
    use crate::key::{CosigningKey, SigningKey};
    use crate::note::{Note, NoteError, Verified};

    /// The checkpoint in the example of C2SP `tlog-cosignature`.
    fn checkpoint() -> Checkpoint {
        let root = Hash::from_base64("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=").unwrap();
        Checkpoint::new("example.com/behind-the-sofa", 20_852_163, root)
    }

    #[test]
    fn what_is_signed_is_as_in_the_specification() {
        assert_eq!(
            ed25519_message(&checkpoint().to_string(), 1_679_315_147),
            "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n\
             CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
        );
        let message = ml_dsa_message("w", &checkpoint(), 1_679_315_147).unwrap();
        let expected: [&[u8]; 8] = [
            b"subtree/v1\n\0",
            b"\x01w",
            &[0, 0, 0, 0, 0x64, 0x18, 0x50, 0xcb],
            b"\x1bexample.com/behind-the-sofa",
            &[0; 8],
            &[0, 0, 0, 0, 0x01, 0x3e, 0x2d, 0xc3],
            &checkpoint().root.0,
            b"",
        ];
        assert_eq!(message, expected.concat());
    }

    #[test]
    fn a_checkpoint_is_cosigned_by_both_kinds_of_keys() {
        let log = SigningKey::from_seed("example.com/behind-the-sofa", [1; 32]).unwrap();
        let keys = [
            CosigningKey::ed25519("witness.example.com/w1", [2; 32]).unwrap(),
            CosigningKey::ml_dsa_44("witness.example.com/w2", [2; 32]).unwrap(),
        ];
        let known = [keys[0].verifier(), keys[1].verifier()];
        let mut note = checkpoint().sign(&[&log]).unwrap();
        for (number, key) in keys.iter().enumerate() {
            let line = format!("{}\n", key.cosign(&checkpoint(), 1_679_315_147).unwrap());
            // A cosignature of another witness is ignored.
            assert_eq!(
                note.add_lines(&line, &known[1 - number..2 - number]),
                Err(NoteError::Unknown(known[1 - number].name().into()))
            );
            assert_eq!(note.add_lines(&line, &known), Ok(1));
        }
        let note = Note::parse(&note.to_string()).unwrap();
        let times: Vec<_> = note.verify(&known).unwrap().iter().map(Verified::time).collect();
        assert_eq!(times, [Some(1_679_315_147); 2]);
        let logs = [log.verifier()];
        assert_eq!(note.verify(&logs).unwrap()[0].time(), None);

        // Another time, size or root is another message; so are the extension lines for Ed25519.
        for (key, known) in keys.iter().zip(&known) {
            let signature = key.cosign(&checkpoint(), 7).unwrap();
            let verifies = |checkpoint: &Checkpoint, signature: &[u8]| {
                known.verifies(&checkpoint.to_string(), signature)
            };
            assert!(verifies(&checkpoint(), signature.bytes()));
            let mut later = signature.bytes().to_vec();
            later[7] += 1;
            assert!(!verifies(&checkpoint(), &later));
            assert!(!verifies(&checkpoint(), &signature.bytes()[..8]));
            let Checkpoint { origin, size, root, .. } = checkpoint();
            assert!(!verifies(&Checkpoint::new(&origin, size + 1, root), signature.bytes()));
            assert!(!verifies(&Checkpoint::new(&origin, size, Hash::empty()), signature.bytes()));
            assert!(!verifies(&Checkpoint::new("other", size, root), signature.bytes()));
            let mut extended = checkpoint();
            extended.extensions.push("extension".into());
            assert_eq!(verifies(&extended, signature.bytes()), key.name().ends_with("w2"));
        }
    }

    #[test]
    fn what_cannot_be_signed_is_refused() {
        let key = CosigningKey::ml_dsa_44("w", [2; 32]).unwrap();
        let long = Checkpoint::new("x".repeat(256), 1, Hash::empty());
        assert_eq!(key.cosign(&long, 1), Err(CosignError::Name(256)));
        for time in [0, 1 << 63] {
            assert_eq!(key.cosign(&checkpoint(), time), Err(CosignError::Time(time)));
        }
    }
}
