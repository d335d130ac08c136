//! The bill of materials, as `CycloneDX` 1.6 in JSON: <https://cyclonedx.org/docs/1.6/json/>.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::crate_tree::{Crate, CrateTree, Name};
use super::error::{Error, Result};
use super::program_notes::{self, Tool};
use super::recipe::Recipe;
use super::shared_libraries::{GCC_LICENSE, GLIBC_LICENSE, SharedLibrary};
use super::toolchain::{Toolchain, output};
use super::workspace::Workspace;

/// Media type of the document in registries and layouts.
pub(super) const MEDIA_TYPE: &str = "application/vnd.cyclonedx+json";

/// C and C++ sources inside crates' archives, which cargo does not list.
const BUNDLED: [Bundled; 1] = [Bundled {
    of: "randomx-rs",
    of_version: "1.6.0",
    name: "RandomX",
    version: "1.2.1",
    license: "BSD-3-Clause",
    purl: "pkg:github/tevador/RandomX@v1.2.1",
    notes: "with later corrections of its compilers for arm64 and riscv64",
}];

struct Bundled {
    /// The crate that contains it, in the version that [`Self::version`] and [`Self::notes`] describe.
    of: &'static str,
    of_version: &'static str,
    name: &'static str,
    version: &'static str,
    license: &'static str,
    purl: &'static str,
    /// Differences from that version.
    notes: &'static str,
}

/// The facts for the document.
pub(super) struct BillOfMaterials<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) workspace: &'a Workspace,
    pub(super) toolchain: &'a Toolchain,
    pub(super) tree: &'a CrateTree,
    /// The libraries that the program is linked with dynamically.
    pub(super) libraries: &'a [SharedLibrary],
}

impl BillOfMaterials<'_> {
    /// Writes the document for a program.
    pub(super) fn document(&self, program: &[u8], created: Option<&str>) -> Result<Vec<u8>> {
        let tools = self.tools(program)?;
        let mut subject = Value::Null;
        let mut components = Vec::new();
        let mut dependencies = Vec::new();
        for (name, each) in &self.tree.crates {
            let mut uses: Vec<String> = each.uses.iter().map(purl).collect();
            if name.name == self.recipe.package {
                subject = self.component(name, each, "application");
                let digest = hex::encode(Sha256::digest(program));
                subject["hashes"] = json!([{ "alg": "SHA-256", "content": digest }]);
                let linked = self.linked();
                uses.extend(
                    linked.iter().filter_map(|part| part["bom-ref"].as_str().map(str::to_owned)),
                );
                components.extend(linked);
            } else {
                components.push(self.component(name, each, "library"));
            }
            for part in BUNDLED.iter().filter(|part| part.of == name.name) {
                if name.version != part.of_version {
                    return Err(Error::Unknown(format!(
                        "the version of {} in {} {} is not known: compare it with {} {}, and correct \
                         BUNDLED in bill_of_materials.rs",
                        part.name, part.of, name.version, part.of, part.of_version
                    )));
                }
                let mut component = outside(part.name, part.version, part.license, part.purl);
                component["description"] =
                    format!("as it comes with {} {}", part.of, name.version).into();
                component["pedigree"] = json!({ "notes": part.notes });
                components.push(component);
                dependencies.push(json!({ "ref": part.purl }));
                uses.push(part.purl.to_owned());
            }
            uses.sort();
            dependencies.push(json!({ "ref": purl(name), "dependsOn": uses }));
        }
        components.sort_by_key(|component| component["bom-ref"].to_string());
        dependencies.sort_by_key(|dependency| dependency["ref"].to_string());

        let mut metadata = json!({
            "lifecycles": [{ "phase": "build" }],
            "tools": { "components": tools },
            "component": subject,
            "properties": [
                { "name": "daylight:target", "value": self.toolchain.target.triple() },
            ],
        });
        if let Some(created) = created {
            metadata["timestamp"] = created.into();
        }
        let document = json!({
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": metadata,
            "components": components,
            "dependencies": dependencies,
        });
        serde_json_canonicalizer::to_vec(&document)
            .map_err(Error::unreadable("the bill of materials"))
    }

    /// Returns what made the program: as the program itself names it, or, if it names nothing, this
    /// machine's compilers. They must agree, since the libraries that are linked in are listed with
    /// the versions of this machine's compilers.
    fn tools(&self, program: &[u8]) -> Result<Vec<Value>> {
        let Toolchain { rustc, gcc, cc, .. } = self.toolchain;
        let mut tools = program_notes::tools(program);
        let named = |tools: &[Tool], name: &str, version: &str| {
            let mut found = tools.iter().filter(|tool| tool.name == name).peekable();
            found.peek().is_none() || found.any(|tool| tool.version == version)
        };
        for (command, name, version) in [("rustc", "rustc", rustc), (cc.as_str(), "gcc", gcc)] {
            if !named(&tools, name, version) {
                let notes: Vec<&str> = tools.iter().map(|tool| tool.note.as_str()).collect();
                return Err(Error::Unknown(format!(
                    "the program was built by other compilers ({}) than {command} {version} of this \
                     machine: build both with the same",
                    notes.join(", ")
                )));
            }
        }
        if tools.is_empty() {
            let tool = |name: &str, version: &str| Tool {
                name: name.to_owned(),
                version: version.to_owned(),
                note: String::new(),
            };
            tools = vec![tool("gcc", gcc), tool("rustc", rustc)];
        }
        if let Some(part) = BUNDLED.iter().find(|part| self.tree.find(part.of).is_some()) {
            let about =
                output(self.workspace.command("cmake").arg("--version")).map_err(|error| {
                    Error::Command(format!("{error}: install cmake, which {} needs", part.of))
                })?;
            let note = about.lines().next().unwrap_or_default().to_owned();
            let version = note.rsplit(' ').next().unwrap_or_default().to_owned();
            tools.push(Tool { name: "cmake".to_owned(), version, note });
        }
        tools.sort_by(|one, other| one.name.cmp(&other.name));
        let own = json!({ "type": "application", "name": self.recipe.command, "version": env!("CARGO_PKG_VERSION") });
        let tools = tools.into_iter().map(|Tool { name, version, note }| {
            let mut tool = json!({ "type": "application", "name": name });
            if !version.is_empty() {
                tool["version"] = version.into();
            }
            if !note.is_empty() {
                tool["description"] = note.into();
            }
            tool
        });
        Ok(std::iter::once(own).chain(tools).collect())
    }

    fn component(&self, name: &Name, each: &Crate, kind: &str) -> Value {
        let purl = purl(name);
        let mut component = json!({
            "type": kind,
            "bom-ref": purl,
            "name": name.name,
            "version": name.version,
            "scope": if each.linked { "required" } else { "excluded" },
            "purl": purl,
        });
        if !each.license.is_empty() {
            component["licenses"] = json!([{ "expression": each.license }]);
        }
        if let Some(checksum) = self.workspace.checksum(&name.name, &name.version) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        if !each.repository.is_empty() {
            component["externalReferences"] = json!([{ "type": "vcs", "url": each.repository }]);
        }
        component
    }

    /// Returns the components that the toolchain adds to the program, and the image's other files.
    fn linked(&self) -> Vec<Value> {
        let (rust, gcc) = (&self.toolchain.rustc, &self.toolchain.gcc);
        let library = |library: &SharedLibrary| {
            let SharedLibrary { file, name, version, license } = library;
            json!({
                "type": "file",
                "bom-ref": format!("file:{}", file.path),
                "name": file.path,
                "version": version,
                "scope": "required",
                "licenses": [{ "expression": license }],
                "description": format!("of {name}"),
                "hashes": [{ "alg": "SHA-256", "content": hex::encode(Sha256::digest(&file.contents)) }],
            })
        };
        let glibc = &self.toolchain.glibc;

        let generic = |name: &str, version: &str, license: &str| {
            outside(name, version, license, &format!("pkg:generic/{name}@{version}"))
        };
        let mut linked = vec![generic("rust-std", rust, "MIT OR Apache-2.0")];
        let dynamic = !self.libraries.is_empty();
        if !dynamic {
            linked.push(generic("glibc", glibc, GLIBC_LICENSE));
            linked.push(generic("libgcc", gcc, GCC_LICENSE));
        }
        if !dynamic && BUNDLED.iter().any(|part| self.tree.find(part.of).is_some()) {
            // Encoded as package URLs want it.
            let purl = format!("pkg:generic/libstdc%2B%2B@{gcc}");
            linked.push(outside("libstdc++", gcc, GCC_LICENSE, &purl));
        }
        linked.extend(self.libraries.iter().map(library));
        let roots = "webpki-root-certs";
        if let Some(version) = self.workspace.version_of(roots)
            && self.tree.find(roots).is_none()
        {
            let purl = format!("pkg:cargo/{roots}@{version}");
            let mut roots = outside(roots, version, "CDLA-Permissive-2.0", &purl);
            roots["type"] = "data".into();
            roots["description"] = "Mozilla's roots, in /etc/ssl/certs/ca-certificates.crt".into();
            linked.push(roots);
        }
        linked
    }
}

/// Returns a component that is not one of the program's crates.
fn outside(name: &str, version: &str, license: &str, purl: &str) -> Value {
    let mut component = Map::new();
    let mut say = |key: &str, value: Value| component.insert(key.to_owned(), value);
    say("type", "library".into());
    say("bom-ref", purl.into());
    say("name", name.into());
    say("scope", "required".into());
    say("licenses", json!([{ "expression": license }]));
    say("purl", purl.into());
    say("version", version.into());
    component.into()
}

fn purl(name: &Name) -> String {
    format!("pkg:cargo/{}@{}", name.name, name.version.replace('+', "%2B"))
}
