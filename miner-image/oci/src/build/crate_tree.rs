//! The crates in the program, as cargo resolves them for exactly these features and this target,
//! not for the workspace as a whole.

use std::collections::{BTreeMap, BTreeSet};

use super::Plan;
use super::error::{Error, Result};
use super::toolchain::{Target, output};
use super::workspace::Workspace;

/// The package and all crates that it is built of and with.
#[derive(Debug, Default)]
pub(super) struct CrateTree {
    pub(super) crates: BTreeMap<Name, Crate>,
}

/// A crate's name and version.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Name {
    pub(super) name: String,
    pub(super) version: String,
}

#[derive(Debug, Default)]
pub(super) struct Crate {
    /// An SPDX expression.
    pub(super) license: String,
    pub(super) repository: String,
    /// Whether it is in the program, and not only part of its build.
    pub(super) linked: bool,
    pub(super) uses: BTreeSet<Name>,
}

impl CrateTree {
    pub(super) fn read(workspace: &Workspace, target: Target, plan: Plan<'_>) -> Result<Self> {
        let list = |edges: &str| {
            let mut cargo = workspace.cargo();
            cargo.args([
                "tree",
                "--locked",
                "--package",
                plan.recipe.package,
                "--target",
                target.triple(),
            ]);
            cargo.args(["--edges", edges, "--prefix", "depth", "--format", "{p}|{l}|{r}|"]);
            output(cargo.args(plan.arguments()))
        };
        let mut tree = Self::default();
        tree.take(&list("normal,build")?)?;
        for line in list("normal,no-proc-macro")?.lines() {
            if let Some((_, name, ..)) = parse(line)
                && let Some(linked) = tree.crates.get_mut(&name)
            {
                linked.linked = true;
            }
        }
        Ok(tree)
    }

    fn take(&mut self, list: &str) -> Result<()> {
        let mut above: Vec<Name> = Vec::new();
        for line in
            list.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit()))
        {
            let (depth, name, license, repository) = parse(line).ok_or_else(|| {
                Error::Unreadable { subject: "cargo tree", reason: line.to_owned() }
            })?;
            above.truncate(depth);
            if let Some(user) = above.last() {
                let user = self.crates.entry(user.clone()).or_default();
                user.uses.insert(name.clone());
            }
            let each = self.crates.entry(name.clone()).or_default();
            // The form with a slash is older than SPDX expressions in cargo.
            each.license = license.replace('/', " OR ");
            repository.clone_into(&mut each.repository);
            above.push(name);
        }
        Ok(())
    }

    /// Checks the tree against a crate that cargo has compiled: `id` is `registry+https://…#name@1.0.0`, or
    /// `path+file:///…/name#1.0.0`.
    pub(super) fn has(&self, id: &str) -> Result<()> {
        let (place, package) = id.rsplit_once('#').unwrap_or(("", id));
        let folder = place.rsplit_once('/').map_or(place, |(_, folder)| folder);
        let (name, version) = package.rsplit_once('@').unwrap_or((folder, package));
        let name = Name { name: name.to_owned(), version: version.to_owned() };
        if self.crates.contains_key(&name) {
            return Ok(());
        }
        Err(Error::Unlisted { name: name.name, version: name.version })
    }

    /// The version of a crate in the tree.
    pub(super) fn find(&self, name: &str) -> Option<&Name> {
        self.crates.keys().find(|each| each.name == name)
    }
}

/// Parses `2name v1.0.0 (proc-macro)|licence|repository| (*)`.
fn parse(line: &str) -> Option<(usize, Name, &str, &str)> {
    let start = line.find(|character: char| !character.is_ascii_digit())?;
    let depth = line[..start].parse().ok()?;
    let mut fields = line[start..].split('|');
    let mut package = fields.next()?.split(' ');
    let name = package.next()?.to_owned();
    let version = package.next()?.strip_prefix('v')?.to_owned();
    Some((depth, Name { name, version }, fields.next()?, fields.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_what_cargo_writes() {
        let mut tree = CrateTree::default();
        let written = "0daylight-miner v0.1.0 (/source/miner-image)|Apache-2.0||\n\
            1serde v1.0.1|MIT OR Apache-2.0|https://example.org/serde|\n\
            2serde_derive v1.0.1 (proc-macro)|MIT/Apache-2.0||\n\
            [build-dependencies]\n\
            1serde v1.0.1|MIT OR Apache-2.0|https://example.org/serde| (*)\n";
        tree.take(written).unwrap();
        let name = |name: &str| tree.find(name).unwrap();
        assert_eq!(tree.crates.len(), 3);
        assert_eq!(tree.crates[name("serde_derive")].license, "MIT OR Apache-2.0");
        assert_eq!(tree.crates[name("serde")].repository, "https://example.org/serde");
        let uses = |user: &str| tree.crates[name(user)].uses.iter().cloned().collect::<Vec<_>>();
        assert_eq!(uses("daylight-miner"), [name("serde").clone()]);
        assert_eq!(uses("serde"), [name("serde_derive").clone()]);
        tree.has("registry+https://example.org/index#serde@1.0.1").unwrap();
        tree.has("path+file:///source/miner-image#daylight-miner@0.1.0").unwrap();
        tree.has("path+file:///source/daylight-miner#0.1.0").unwrap();
        let other = tree.has("registry+https://example.org/index#serde@2.0.0").unwrap_err();
        assert_eq!(other.to_string(), "cargo compiles serde 2.0.0, which cargo tree does not list");
    }
}
