//! Links: those of the Markdown, as a forge follows them, and those of the rendered site.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::SUMMARY;

/// The pages of the repository, and the names of all its files.
#[derive(Debug)]
pub(crate) struct Repository {
    files: BTreeSet<PathBuf>,
    pages: BTreeMap<PathBuf, Page>,
}

#[derive(Debug, Default)]
struct Page {
    links: Vec<Link>,
    anchors: HashSet<String>,
}

#[derive(Debug)]
struct Link {
    line: usize,
    target: String,
}

impl Repository {
    /// Reads those of `files` that are Markdown. Paths are relative to `root`.
    pub(crate) fn read(root: &Path, files: BTreeSet<PathBuf>) -> io::Result<Self> {
        let mut pages = BTreeMap::new();
        for file in files.iter().filter(|file| is_page(file)) {
            pages.insert(file.clone(), Page::parse(&fs::read_to_string(root.join(file))?));
        }
        Ok(Self { files, pages })
    }

    /// Returns a sentence for each relative link whose file or heading does not exist.
    pub(crate) fn broken_links(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for (path, page) in &self.pages {
            for Link { line, target } in &page.links {
                if let Err(reason) = self.follow(path, target) {
                    broken.push(format!("{}:{line}: link to {target}: {reason}", path.display()));
                }
            }
        }
        broken
    }

    fn follow(&self, from: &Path, target: &str) -> Result<(), String> {
        let (path, anchor) = split(target);
        let file = if path.is_empty() { from.to_path_buf() } else { resolve(from, path) };
        if !self.files.contains(&file) {
            return Err(if self.files.iter().any(|known| known.starts_with(&file)) {
                "a web server has no page for a folder; link to a file in it".to_owned()
            } else {
                format!("there is no file {}", file.display())
            });
        }
        match (anchor, self.pages.get(&file)) {
            (None, _) => Ok(()),
            (Some(anchor), Some(page)) if page.anchors.contains(anchor) => Ok(()),
            (Some(anchor), _) => Err(format!("{} has no heading #{anchor}", file.display())),
        }
    }

    /// Returns a sentence for each page that is missing from the table of contents: those in `docs`, and those to
    /// which a page of the site links.
    pub(crate) fn links_off_the_site(&self, site: &BTreeSet<PathBuf>) -> Vec<String> {
        let in_docs = self.pages.keys().filter(|path| path.starts_with("docs")).cloned();
        let linked = self.links_of(site).filter(|path| is_page(path));
        let missing: BTreeSet<PathBuf> = in_docs
            .chain(linked)
            .filter(|path| path != Path::new(SUMMARY) && !site.contains(path))
            .collect();
        missing.iter().map(|path| format!("{SUMMARY} lacks the page {}", path.display())).collect()
    }

    /// Returns the files that are no pages, and to which pages of the site link.
    pub(crate) fn linked_files(&self, site: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
        self.links_of(site).filter(|path| !is_page(path)).collect()
    }

    fn links_of(&self, site: &BTreeSet<PathBuf>) -> impl Iterator<Item = PathBuf> {
        let pages = self.pages.iter().filter(|(path, _)| site.contains(*path));
        pages.flat_map(|(path, page)| {
            let targets = page.links.iter().map(|link| split(&link.target).0);
            targets.filter(|target| !target.is_empty()).map(|target| resolve(path, target))
        })
    }
}

impl Page {
    fn parse(text: &str) -> Self {
        let options = Options::ENABLE_TABLES
            | Options::ENABLE_FOOTNOTES
            | Options::ENABLE_STRIKETHROUGH
            | Options::ENABLE_TASKLISTS
            | Options::ENABLE_GFM;
        let mut page = Self::default();
        let mut heading: Option<String> = None;
        for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
            let line = || text[..range.start].matches('\n').count() + 1;
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.add_link(line(), &dest_url);
                }
                Event::Html(html) | Event::InlineHtml(html) => {
                    for target in
                        ["href", "src", "srcset"].iter().flat_map(|name| values(&html, name))
                    {
                        page.add_link(line(), target);
                    }
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(part) | Event::Code(part) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&part);
                    }
                }
                Event::End(TagEnd::Heading(_)) => {
                    if let Some(heading) = heading.take() {
                        page.add_anchor(&heading);
                    }
                }
                _ => {}
            }
        }
        page
    }

    fn add_link(&mut self, line: usize, target: &str) {
        if !is_external(target) {
            self.links.push(Link { line, target: target.to_owned() });
        }
    }

    /// Adds the anchor that forges give to a heading. mdBook's is the same.
    fn add_anchor(&mut self, heading: &str) {
        let name: String = heading
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let mut anchor = name.clone();
        let mut count = 0;
        while !self.anchors.insert(anchor) {
            count += 1;
            anchor = format!("{name}-{count}");
        }
    }
}

/// Returns the path in the repository to which the page `from` refers as `target`.
pub(crate) fn resolve(from: &Path, target: impl AsRef<Path>) -> PathBuf {
    let mut path = from.parent().unwrap_or(from).to_path_buf();
    for component in target.as_ref().components() {
        match component {
            Component::ParentDir => {
                // Above the root there is no file of the repository, so the link is found to be broken.
                if !path.pop() {
                    path.push("..");
                }
            }
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}

/// Returns a sentence for each link of the rendered pages that leads nowhere.
pub(crate) fn broken_html_links(site: &Path) -> io::Result<Vec<String>> {
    let mut pages = BTreeMap::new();
    let mut folders = vec![site.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "html") {
                let text = fs::read_to_string(&path)?;
                pages.insert(path, text);
            }
        }
    }
    let anchors: BTreeMap<&Path, HashSet<&str>> = pages
        .iter()
        .map(|(path, text)| (path.as_path(), values(text, "id").into_iter().collect()))
        .collect();
    let mut broken = Vec::new();
    // 404.html is served at any path, and toc.html is part of another page.
    let complete = |path: &Path| !path.ends_with("404.html") && !path.ends_with("toc.html");
    for (path, text) in pages.iter().filter(|(path, _)| complete(path)) {
        for target in ["href", "src"].iter().flat_map(|name| values(text, name)) {
            if is_external(target) {
                continue;
            }
            let (file, anchor) = split(target);
            let file = if file.is_empty() { path.clone() } else { resolve(path, file) };
            let known = anchor.is_none_or(|anchor| {
                anchor.is_empty()
                    || anchors.get(file.as_path()).is_none_or(|known| known.contains(anchor))
            });
            if !file.is_file() || !known {
                broken.push(format!("{}: link to {target} leads nowhere", path.display()));
            }
        }
    }
    Ok(broken)
}

/// Returns the values of an attribute in HTML as mdBook writes it.
fn values<'a>(html: &'a str, attribute: &str) -> Vec<&'a str> {
    let start = format!(" {attribute}=\"");
    html.split(start.as_str()).skip(1).filter_map(|part| part.split('"').next()).collect()
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

fn is_external(target: &str) -> bool {
    let scheme = target.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.chars().all(|c| c.is_ascii_alphanumeric()))
}

fn split(target: &str) -> (&str, Option<&str>) {
    match target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (target, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(files: &[(&str, &str)]) -> Repository {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let names = files.iter().map(|(path, _)| PathBuf::from(path)).collect();
        Repository::read(folder.path(), names).unwrap()
    }

    #[test]
    fn each_broken_link_is_named_with_its_line() {
        let repository = repository(&[
            (
                "README.md",
                "# A\n[1](docs/b.md#what-is-b)\n[2](docs/b.md#c) [3](docs) [4](no.md)\n\n<img src=\"no.svg\">",
            ),
            (
                "docs/b.md",
                "## What is `b`?\n## What is b?\n[5](#what-is-b-1) [6](../../x.md) [7](mailto:a@b)",
            ),
        ]);
        assert_eq!(
            repository.broken_links(),
            [
                "README.md:3: link to docs/b.md#c: docs/b.md has no heading #c",
                "README.md:3: link to docs: a web server has no page for a folder; link to a file in it",
                "README.md:3: link to no.md: there is no file no.md",
                "README.md:5: link to no.svg: there is no file no.svg",
                "docs/b.md:3: link to ../../x.md: there is no file ../x.md",
            ]
        );
    }

    #[test]
    fn a_page_that_the_table_of_contents_lacks_is_named() {
        let repository = repository(&[
            ("README.md", "[a](docs/a.md) [l](LICENSE) [t](tests/README.md)"),
            ("LICENSE", ""),
            ("docs/SUMMARY.md", "[a](a.md)"),
            ("docs/a.md", ""),
            ("docs/b.md", ""),
            ("tests/README.md", ""),
        ]);
        let site = ["README.md", "docs/a.md"].map(PathBuf::from).into();
        assert_eq!(
            repository.links_off_the_site(&site),
            [
                "docs/SUMMARY.md lacks the page docs/b.md",
                "docs/SUMMARY.md lacks the page tests/README.md"
            ]
        );
        assert_eq!(repository.linked_files(&site), [PathBuf::from("LICENSE")].into());
    }

    #[test]
    fn links_of_rendered_pages_are_followed() {
        let site = tempfile::tempdir().unwrap();
        let page = "<h1 id=\"a\"></h1><a href=\"#a\"></a> <a href=\"#b\"></a> <img src=\"no.svg\">";
        fs::write(site.path().join("p.html"), page).unwrap();
        let broken = broken_html_links(site.path()).unwrap();
        assert_eq!(broken.len(), 2, "{broken:?}");
        assert!(broken[0].ends_with("p.html: link to #b leads nowhere"), "{broken:?}");
        assert!(broken[1].ends_with("p.html: link to no.svg leads nowhere"), "{broken:?}");
    }
}
