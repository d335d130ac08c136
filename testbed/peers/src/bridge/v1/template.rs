//! Blocks before they are mined: from a node's proposal to the parts that miners get, and back to a
//! whole block.

use daylight_stratum::pool::{EXTRANONCE1, EXTRANONCE2};
use daylight_stratum::sha256d::merkle_root;
use daylight_stratum::{Target, v1};
use serde::Deserialize;

/// The answer of `getblocktemplate`, as far as it is used here. Hashes are written with their last
/// byte first.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) version: u32,
    #[serde(rename = "previousblockhash")]
    pub(super) previous: String,
    pub(super) transactions: Vec<Transaction>,
    #[serde(rename = "coinbasevalue")]
    pub(super) reward: u64,
    #[serde(rename = "curtime")]
    pub(super) time: u32,
    #[serde(rename = "mintime")]
    pub(super) earliest: u32,
    #[serde(rename = "maxtime")]
    pub(super) latest: u32,
    pub(super) bits: String,
    pub(super) height: u64,
    /// Of the output that commits to the witnesses.
    #[serde(rename = "default_witness_commitment", default)]
    pub(super) commitment: Option<String>,
}

/// A transaction of a template.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Transaction {
    /// As it stands in the block.
    data: String,
    txid: String,
}

/// A block before it is mined.
#[derive(Debug)]
pub(super) struct Template {
    pub(super) number: u64,
    /// Without `id` and `clean`, which are the pool's.
    pub(super) job: v1::Job,
    pub(super) height: u64,
    /// The times that its header may have.
    pub(super) times: std::ops::RangeInclusive<u32>,
    /// Whether the coinbase has a witness of its own.
    witness: bool,
    /// The other transactions, as they stand in the block.
    transactions: Vec<Vec<u8>>,
}

impl Template {
    /// Makes a job with a number from a node's proposal and the payment's script. None where the
    /// proposal cannot be read.
    pub(super) fn new(proposal: &Proposal, script: &[u8], number: u64) -> Option<Self> {
        let commitment = proposal.commitment.as_ref().map(commitment).transpose().ok()?;
        let transactions = proposal.transactions.iter().map(|other| hex::decode(&other.data));
        let hashes = proposal.transactions.iter().map(|other| hash(&other.txid));
        let (coinbase1, coinbase2) =
            coinbase(proposal.height, proposal.reward, script, commitment.as_deref());
        let job = v1::Job {
            id: String::new(),
            previous: hash(&proposal.previous)?,
            coinbase1,
            coinbase2,
            branches: branches(hashes.collect::<Option<_>>()?),
            version: proposal.version,
            bits: u32::from_str_radix(&proposal.bits, 16).ok()?,
            time: proposal.time,
            clean: false,
        };
        Some(Self {
            number,
            job,
            height: proposal.height,
            times: proposal.earliest.max(proposal.time)..=proposal.latest,
            witness: commitment.is_some(),
            transactions: transactions.collect::<Result<_, _>>().ok()?,
        })
    }

    /// The network's target for the block's hash.
    pub(super) fn target(&self) -> Target {
        Target::from_compact(self.job.bits)
    }

    /// Returns the whole block, as it is submitted.
    pub(super) fn block(&self, header: &[u8; 80], extranonces: &[u8]) -> Vec<u8> {
        let mut block = header.to_vec();
        block.extend(size(1 + self.transactions.len()));
        let coinbase = [&self.job.coinbase1, extranonces, &self.job.coinbase2].concat();
        if self.witness {
            // BIP 144: the marker stands after the version, the witness before the lock time.
            let (version, rest) = coinbase.split_at(4);
            let (rest, lock_time) = rest.split_at(rest.len() - 4);
            block.extend([version, &[0, 1], rest, &[1, 32], &[0; 32], lock_time].concat());
        } else {
            block.extend(coinbase);
        }
        block.extend(self.transactions.concat());
        block
    }
}

/// Returns the coinbase before and after the extranonces, without its witness.
fn coinbase(
    height: u64,
    reward: u64,
    script: &[u8],
    commitment: Option<&[u8]>,
) -> (Vec<u8>, Vec<u8>) {
    let extranonces = EXTRANONCE1 + EXTRANONCE2;
    let mut input = pushed(height);
    input.push(extranonces);

    let mut before = vec![1, 0, 0, 0, 1];
    before.extend([0; 32]);
    before.extend([0xff; 4]);
    before.extend(size(input.len() + usize::from(extranonces)));
    before.extend(input);

    let mut after = vec![0xff; 4];
    after.push(1 + u8::from(commitment.is_some()));
    for (value, script) in
        [Some((reward, script)), commitment.map(|script| (0, script))].into_iter().flatten()
    {
        after.extend(value.to_le_bytes());
        after.extend(size(script.len()));
        after.extend(script);
    }
    after.extend([0; 4]);
    (before, after)
}

/// The script that commits to the witnesses (BIP 141). BIP 145 has it in the template; btcd gives
/// only the hash in it.
fn commitment(template: &String) -> Result<Vec<u8>, hex::FromHexError> {
    let bytes = hex::decode(template)?;
    Ok(match bytes.len() {
        32 => [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed], &*bytes].concat(),
        _ => bytes,
    })
}

/// Encodes a height as a script pushes it (BIP 34).
fn pushed(height: u64) -> Vec<u8> {
    if let small @ 1..=16 = height {
        return vec![0x50 + small as u8];
    }
    let mut bytes = height.to_le_bytes().to_vec();
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    // The highest bit would be a sign.
    if bytes.last().is_some_and(|last| last & 0x80 > 0) {
        bytes.push(0);
    }
    bytes.insert(0, bytes.len() as u8);
    bytes
}

/// Encodes a number as `CompactSize`, as Bitcoin's messages do.
fn size(number: usize) -> Vec<u8> {
    match number {
        0..0xfd => vec![number as u8],
        0xfd..0x1_0000 => [&[0xfd][..], &(number as u16).to_le_bytes()].concat(),
        _ => [&[0xfe][..], &(number as u32).to_le_bytes()].concat(),
    }
}

/// Returns the hashes that the coinbase's is joined with, step by step, to the Merkle root, from the
/// hashes of the other transactions.
fn branches(mut row: Vec<[u8; 32]>) -> Vec<[u8; 32]> {
    let mut branches = vec![];
    while !row.is_empty() {
        branches.push(row.remove(0));
        row = row.chunks(2).map(|pair| merkle_root(pair[0], &[pair[pair.len() - 1]])).collect();
    }
    branches
}

/// Reads a hash that is written with its last byte first.
fn hash(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    bytes.reverse();
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use daylight_stratum::sha256d::sha256d;

    #[test]
    fn heights_are_pushed_as_scripts_have_numbers() {
        assert_eq!(pushed(1), [0x51]);
        assert_eq!(pushed(16), [0x60]);
        assert_eq!(pushed(17), [1, 17]);
        assert_eq!(pushed(128), [2, 0x80, 0]);
        assert_eq!(pushed(256), [2, 0, 1]);
        // Block 227,836, the first that had to have it.
        assert_eq!(pushed(227_836), [3, 0xfc, 0x79, 0x03]);
    }

    #[test]
    fn branches_lead_to_the_root_of_all_transactions() {
        /// Row by row, the last doubled where it is alone.
        fn root(row: &[[u8; 32]]) -> [u8; 32] {
            if let [root] = row {
                return *root;
            }
            let pairs =
                row.chunks(2).map(|pair| sha256d(&[pair[0], pair[pair.len() - 1]].concat()));
            root(&pairs.collect::<Vec<_>>())
        }
        let all: Vec<[u8; 32]> = (0..9).map(|number| sha256d(&[number])).collect();
        for count in 1..=all.len() {
            let branches = branches(all[1..count].to_vec());
            assert_eq!(merkle_root(all[0], &branches), root(&all[..count]), "{count}");
        }
    }
}
