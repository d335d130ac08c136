//! Which crates are in the program: what cargo's own resolver says for exactly these features and
//! this target, not what the workspace has together.

use std::collections::{BTreeMap, BTreeSet};

use crate::failure::{Failure, Result};
use crate::toolchain::{Target, output};
use crate::workspace::{MINER, Workspace};

/// The miner's features that were asked for.
#[derive(Clone, Copy)]
pub(crate) struct Choice<'a> {
    pub(crate) features: &'a [String],
    pub(crate) no_default_features: bool,
}

impl Choice<'_> {
    /// Whether the program has to load drivers, which a static one cannot.
    pub(crate) fn is_dynamic(self) -> bool {
        self.features.iter().any(|feature| feature == "gpu")
    }

    /// As cargo's arguments.
    pub(crate) fn arguments(self) -> Vec<String> {
        let features = self.features.iter().map(|feature| format!("--features={feature}"));
        features
            .chain(self.no_default_features.then(|| "--no-default-features".to_owned()))
            .collect()
    }
}

/// The miner's crate and everything that it is built of and with.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) crates: BTreeMap<Name, Crate>,
}

/// A crate's name and version.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Name {
    pub(crate) name: String,
    pub(crate) version: String,
}

#[derive(Debug, Default)]
pub(crate) struct Crate {
    /// As SPDX writes it.
    pub(crate) license: String,
    pub(crate) repository: String,
    /// Whether it is in the program, not only at work while that is built.
    pub(crate) linked: bool,
    pub(crate) uses: BTreeSet<Name>,
}

impl Tree {
    pub(crate) fn read(workspace: &Workspace, target: Target, choice: Choice<'_>) -> Result<Self> {
        let list = |edges: &str| {
            let mut cargo = workspace.cargo();
            cargo.args(["tree", "--locked", "--package", MINER, "--target", target.triple()]);
            cargo.args(["--edges", edges, "--prefix", "depth", "--format", "{p}|{l}|{r}|"]);
            output(cargo.args(choice.arguments()))
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
                Failure(format!("cargo tree writes what is not understood: {line}"))
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

    /// Holds the tree to what cargo has compiled: `id` is `registry+https://…#name@1.0.0`, or
    /// `path+file:///…/name#1.0.0`.
    pub(crate) fn has(&self, id: &str) -> Result<()> {
        let (place, package) = id.rsplit_once('#').unwrap_or(("", id));
        let folder = place.rsplit_once('/').map_or(place, |(_, folder)| folder);
        let (name, version) = package.rsplit_once('@').unwrap_or((folder, package));
        let name = Name { name: name.to_owned(), version: version.to_owned() };
        if self.crates.contains_key(&name) {
            return Ok(());
        }
        Err(Failure(format!(
            "cargo compiles {} {}, which cargo tree does not list",
            name.name, name.version
        )))
    }

    /// The version of a crate in the tree.
    pub(crate) fn find(&self, name: &str) -> Option<&Name> {
        self.crates.keys().find(|each| each.name == name)
    }
}

/// `2name v1.0.0 (proc-macro)|licence|repository| (*)`
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
        let mut tree = Tree::default();
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
