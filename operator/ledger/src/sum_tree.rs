//! Merkle-sum trees: accounts whose amounts add up to a total that everyone sees, and of which each
//! account's holder can verify its own.
//!
//! Every node has a hash and the sums of the amounts below it, and the hash covers the sums of both
//! children. So an account cannot be left out or made smaller without its holder's proof failing, and
//! nothing can be added without the total growing.
//!
//! A path to the root shows the sums of the subtrees next to it. So that none of them is the amount of
//! an account, each account has two leaves in two halves of the tree: a share of its amounts that its
//! name and the tree's seed determine, and the rest. Their places there are determined in the same way.
//! Only where there are two accounts, each can subtract its own from the total.

use sha2::{Digest as _, Sha256};

use crate::hash::Hash;

/// First bytes of what is hashed, so that nothing can pass for something else.
#[derive(Clone, Copy)]
enum Tag {
    Leaf = 0,
    Node = 1,
    Account = 2,
    Shares = 3,
    Place = 4,
}

fn hash(tag: Tag, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new().chain_update([tag as u8]);
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// Node of a tree: its hash, and the sums of the amounts below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SumNode<const N: usize> {
    pub hash: Hash,
    pub sums: [u64; N],
}

impl<const N: usize> SumNode<N> {
    fn leaf(place: &[u8; 32], sums: [u64; N]) -> Self {
        Self { hash: Hash(hash(Tag::Leaf, &[place, &bytes(&sums)])), sums }
    }

    /// Joins two nodes; `None` if a sum does not fit into 64 bits.
    fn join(left: &Self, right: &Self) -> Option<Self> {
        let mut sums = left.sums;
        for (sum, more) in sums.iter_mut().zip(right.sums) {
            *sum = sum.checked_add(more)?;
        }
        let parts = [&left.hash.0[..], &bytes(&left.sums), &right.hash.0, &bytes(&right.sums)];
        Some(Self { hash: Hash(hash(Tag::Node, &parts)), sums })
    }

    /// Root of a tree without accounts.
    fn empty() -> Self {
        Self { hash: Hash::empty(), sums: [0; N] }
    }
}

fn bytes<const N: usize>(sums: &[u64; N]) -> Vec<u8> {
    sums.iter().flat_map(|sum| sum.to_be_bytes()).collect()
}

/// Both leaves of an account, each with the place by which the leaves of its half are in order.
fn leaves<const N: usize>(
    seed: u64,
    name: &[u8],
    amounts: &[u64; N],
) -> [([u8; 32], SumNode<N>); 2] {
    const { assert!(N <= 4, "a share takes 8 of the 32 bytes of a hash") };
    let account = hash(Tag::Account, &[&seed.to_be_bytes(), name]);
    let shares = hash(Tag::Shares, &[&account]);
    let (shares, _) = shares.as_chunks::<8>();
    let (mut share, mut rest) = (*amounts, *amounts);
    for (at, part) in shares.iter().take(N).enumerate() {
        let part = u128::from(u64::from_be_bytes(*part));
        share[at] = ((u128::from(amounts[at]) * part) >> 64) as u64;
        rest[at] = amounts[at] - share[at];
    }
    [(0, share), (1, rest)].map(|(half, amounts)| {
        let place = hash(Tag::Place, &[&[half], &account]);
        (place, SumNode::leaf(&place, amounts))
    })
}

/// Error of accounts whose amounts add up to more than 64 bits hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the amounts add up to more than 64 bits hold")]
pub struct SumOverflow;

/// Merkle-sum tree with `N` amounts for each account.
#[derive(Clone, Debug)]
pub struct SumTree<const N: usize> {
    seed: u64,
    /// The shares, and the rests.
    halves: [Half<N>; 2],
    root: SumNode<N>,
}

/// Tree over one of the leaves of each account.
#[derive(Clone, Debug)]
struct Half<const N: usize> {
    /// Places of the leaves, in ascending order.
    places: Vec<[u8; 32]>,
    /// Nodes by level, the leaves first. A node without a right neighbour is also in the level above.
    levels: Vec<Vec<SumNode<N>>>,
}

impl<const N: usize> SumTree<N> {
    /// Builds the tree of some accounts, each with a name of its own. Trees with different seeds have
    /// different leaves for the same account.
    ///
    /// # Errors
    ///
    /// An amount adds up to more than 64 bits hold.
    pub fn new<'a>(
        seed: u64,
        accounts: impl IntoIterator<Item = (&'a [u8], [u64; N])>,
    ) -> Result<Self, SumOverflow> {
        let accounts = accounts.into_iter();
        let (shares, rests): (Vec<_>, Vec<_>) =
            accounts.map(|(name, amounts)| leaves(seed, name, &amounts).into()).unzip();
        let halves = [Half::new(shares)?, Half::new(rests)?];
        let root = match halves.each_ref().map(Half::root) {
            [Some(shares), Some(rests)] => SumNode::join(shares, rests).ok_or(SumOverflow)?,
            _ => SumNode::empty(),
        };
        Ok(Self { seed, halves, root })
    }

    /// The root, with the sums of all amounts.
    pub fn root(&self) -> SumNode<N> {
        self.root
    }

    /// Returns the proof of an account; `None` if the tree does not have it with these amounts.
    pub fn prove(&self, name: &[u8], amounts: [u64; N]) -> Option<SumProof<N>> {
        let [share, rest] = leaves(self.seed, name, &amounts);
        let [shares, rests] = &self.halves;
        Some(SumProof { amounts, paths: [shares.path(share)?, rests.path(rest)?] })
    }
}

impl<const N: usize> Half<N> {
    fn new(mut leaves: Vec<([u8; 32], SumNode<N>)>) -> Result<Self, SumOverflow> {
        leaves.sort_unstable_by_key(|(place, _)| *place);
        let (places, mut level): (Vec<_>, Vec<_>) = leaves.into_iter().unzip();
        let mut levels = Vec::new();
        while level.len() > 1 {
            let join = |pair: &[SumNode<N>]| match pair {
                [left, right] => SumNode::join(left, right).ok_or(SumOverflow),
                // `chunks` never gives an empty one.
                alone => Ok(alone[0]),
            };
            let above = level.chunks(2).map(join).collect::<Result<_, _>>()?;
            levels.push(std::mem::replace(&mut level, above));
        }
        levels.push(level);
        Ok(Self { places, levels })
    }

    fn root(&self) -> Option<&SumNode<N>> {
        self.levels.last().and_then(|level| level.first())
    }

    fn path(&self, (place, leaf): ([u8; 32], SumNode<N>)) -> Option<SumPath<N>> {
        let mut at = self.places.binary_search(&place).ok()?;
        let number = at as u64;
        let mut siblings = Vec::new();
        for level in &self.levels {
            siblings.extend(level.get(at ^ 1));
            at /= 2;
        }
        (self.levels[0][number as usize] == leaf).then_some(SumPath { number, siblings })
    }
}

/// Way from a leaf to the root of its half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumPath<const N: usize> {
    /// Number of the leaf in its half, from 0.
    pub number: u64,
    /// Nodes that are joined on the way, from the leaf's up.
    pub siblings: Vec<SumNode<N>>,
}

/// Proof that a tree has an account with these amounts. It contains the amounts of no other account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumProof<const N: usize> {
    pub amounts: [u64; N],
    /// Paths of the account's share and of its rest.
    pub paths: [SumPath<N>; 2],
}

/// Error of a proof that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SumProofError {
    /// A path has more or fewer nodes than lead to the root, or begins outside of the tree.
    #[error("the proof is not one for a tree of {accounts} accounts")]
    Shape { accounts: u64 },
    /// The sums on a path are more than 64 bits hold.
    #[error(transparent)]
    Overflow(#[from] SumOverflow),
    /// A path leads to another root.
    #[error("the account is not in the tree with these amounts")]
    Root,
}

impl<const N: usize> SumProof<N> {
    /// Verifies that the tree with this root has the account with exactly [`SumProof::amounts`].
    ///
    /// # Errors
    ///
    /// It does not, or the proof is not one of a tree of `accounts` accounts.
    pub fn verify(
        &self,
        seed: u64,
        name: &[u8],
        accounts: u64,
        root: &SumNode<N>,
    ) -> Result<(), SumProofError> {
        let wrong = SumProofError::Shape { accounts };
        let [share, rest] = leaves(seed, name, &self.amounts).map(|(_, leaf)| leaf);
        let [shares, rests] = &self.paths;
        let shares = shares.root(share, accounts)?.ok_or(wrong)?;
        let rests = rests.root(rest, accounts)?.ok_or(wrong)?;
        match SumNode::join(&shares, &rests).ok_or(SumOverflow)? == *root {
            true => Ok(()),
            false => Err(SumProofError::Root),
        }
    }
}

impl<const N: usize> SumPath<N> {
    /// Returns the root to which it leads; `None` if it is not one of a half of this size.
    fn root(&self, leaf: SumNode<N>, size: u64) -> Result<Option<SumNode<N>>, SumOverflow> {
        let (mut at, mut last) = match size.checked_sub(1) {
            Some(last) if self.number <= last => (self.number, last),
            _ => return Ok(None),
        };
        let (mut node, mut siblings) = (leaf, self.siblings.iter());
        while last > 0 {
            // The last node of a level has no neighbour on its right, and is in the level above.
            if at % 2 == 1 || at < last {
                let Some(sibling) = siblings.next() else { return Ok(None) };
                let (left, right) = if at % 2 == 1 { (sibling, &node) } else { (&node, sibling) };
                node = SumNode::join(left, right).ok_or(SumOverflow)?;
            }
            (at, last) = (at / 2, last / 2);
        }
        Ok(siblings.next().is_none().then_some(node))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accounts(amounts: &[[u64; 2]]) -> Vec<(Vec<u8>, [u64; 2])> {
        let named = amounts.iter().enumerate();
        named
            .map(|(number, amounts)| (format!("account {number}").into_bytes(), *amounts))
            .collect()
    }

    fn tree(seed: u64, accounts: &[(Vec<u8>, [u64; 2])]) -> SumTree<2> {
        SumTree::new(seed, accounts.iter().map(|(name, amounts)| (&**name, *amounts))).unwrap()
    }

    #[test]
    fn a_tree_without_accounts_has_no_sums() {
        assert_eq!(tree(0, &[]).root(), SumNode { hash: Hash::empty(), sums: [0, 0] });
        assert_eq!(tree(0, &[]).prove(b"account 0", [0, 0]), None);
    }

    #[test]
    fn sums_beyond_64_bits_are_refused() {
        let half = 1_u64 << 63;
        let accounts = [(&b"a"[..], [half]), (b"b", [half])];
        assert_eq!(SumTree::new(0, accounts).map(|tree| tree.root()), Err(SumOverflow));
    }

    #[test]
    fn the_same_account_has_other_leaves_in_the_next_tree() {
        let accounts = accounts(&[[7, 9], [1 << 40, 3]]);
        let (one, other) = (tree(1, &accounts), tree(2, &accounts));
        assert_eq!(one.root().sums, other.root().sums);
        let places = |tree: &SumTree<2>| tree.halves.clone().map(|half| half.places).concat();
        assert!(places(&one).iter().all(|place| !places(&other).contains(place)));
    }

    #[test]
    fn a_path_shows_the_amounts_of_no_other_account() {
        let amounts: Vec<[u64; 2]> =
            (0..64).map(|number| [1_000_000_007 * (number + 1), 1 << (number / 2 + 20)]).collect();
        let accounts = accounts(&amounts);
        let tree = tree(3, &accounts);
        for (name, own) in &accounts {
            for path in tree.prove(name, *own).unwrap().paths {
                for sibling in path.siblings {
                    assert!(!amounts.contains(&sibling.sums), "{sibling:?}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_account_is_proved_and_nothing_else(
            amounts in prop::collection::vec([0..1_u64 << 50, 0..1_u64 << 50], 1..40),
            seed in any::<u64>(),
            changed in any::<prop::sample::Index>(),
            by in 1..1000_u64,
        ) {
            let accounts = accounts(&amounts);
            let (tree, count) = (tree(seed, &accounts), accounts.len() as u64);
            let root = tree.root();
            for at in 0..2 {
                prop_assert_eq!(root.sums[at], amounts.iter().map(|amounts| amounts[at]).sum::<u64>());
            }
            for (name, amounts) in &accounts {
                let proof = tree.prove(name, *amounts).unwrap();
                prop_assert_eq!(proof.verify(seed, name, count, &root), Ok(()));
                let other = SumProof { amounts: [amounts[0] + by, amounts[1]], ..proof.clone() };
                prop_assert_eq!(other.verify(seed, name, count, &root), Err(SumProofError::Root));
                prop_assert!(proof.verify(seed, b"another", count, &root).is_err());
                prop_assert!(proof.verify(seed ^ 1, name, count, &root).is_err());
                prop_assert!(proof.verify(seed, name, 0, &root).is_err());
                let mut short = proof.clone();
                if short.paths[1].siblings.pop().is_some() {
                    prop_assert!(short.verify(seed, name, count, &root).is_err());
                }
                let mut long = proof;
                long.paths[0].siblings.push(root);
                prop_assert!(long.verify(seed, name, count, &root).is_err());
            }
            // With a smaller account the root differs, and the account cannot be proved.
            let mut shrunk = accounts.clone();
            let at = changed.index(shrunk.len());
            shrunk[at].1[0] /= 2;
            let forged = SumTree::new(seed, shrunk.iter().map(|(name, sums)| (&**name, *sums))).unwrap();
            if shrunk[at].1 != accounts[at].1 {
                prop_assert_ne!(forged.root(), root);
                prop_assert_eq!(forged.prove(&accounts[at].0, accounts[at].1), None);
            }
        }
    }
}
