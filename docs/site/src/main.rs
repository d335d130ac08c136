//! Builds the documentation site with mdBook, into `target/site`, and checks every relative link of every page.
//! With `--check`, only checks the links of the Markdown.
//!
//! Pages link to each other, to examples and to sources as a forge shows them: by paths in the repository. The site
//! keeps these paths, so that no link is rewritten. What a page links to and is not a page is copied.

mod links;
mod summary;

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{fs, io};

use mdbook_driver::MDBook;
use mdbook_driver::config::Config;

use self::links::Repository;

const USAGE: &str = "usage: cargo docs-site [-- --check]

Builds the documentation into target/site and checks its links.
  --check   write nothing; only check the links of every page of the repository";

/// Where the table of contents is. Its links are relative to its folder, as those of any page.
const SUMMARY: &str = "docs/SUMMARY.md";

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<ExitCode, Failure> {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(io::stderr)
        .without_time()
        .init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let build = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => true,
        ["--check"] => false,
        _ => {
            eprintln!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let repository = Repository::read(&root, files(&root)?)?;
    let mut errors = repository.broken_links();
    if errors.is_empty() {
        let pages = summary::pages(&root)?;
        errors = repository.links_off_the_site(&pages);
        if errors.is_empty() && build {
            let site = root.join("target/site");
            render(&root, &repository, &pages, &site)?;
            errors = links::broken_html_links(&site)?;
            println!("{} pages: {}", pages.len(), site.join("index.html").display());
        }
    }
    for error in &errors {
        eprintln!("{error}");
    }
    Ok(if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the files of the repository, also those that are not committed.
fn files(root: &Path) -> Result<BTreeSet<PathBuf>, Failure> {
    let git = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()?;
    if !git.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&git.stderr)).into());
    }
    let names = String::from_utf8(git.stdout)?;
    let names = names.split_terminator('\0').map(PathBuf::from);
    Ok(names.filter(|name| root.join(name).is_file()).collect())
}

/// Copies `pages` and what they link to, and has mdBook render them into `site`.
fn render(
    root: &Path,
    repository: &Repository,
    pages: &BTreeSet<PathBuf>,
    site: &Path,
) -> Result<(), Failure> {
    let source = root.join("target/site-source");
    for folder in [&source, site] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
    }
    for file in pages.iter().chain(&repository.linked_files(pages)) {
        let copy = source.join(file);
        fs::create_dir_all(copy.parent().unwrap_or(&source))?;
        fs::copy(root.join(file), copy)?;
    }
    let book = root.join("docs/site");
    let mut config = Config::from_disk(book.join("book.toml"))?;
    config.book.src = source;
    config.build.build_dir = site.to_path_buf();
    // They would rename README.md, to which pages link.
    config.build.use_default_preprocessors = false;
    let summary = summary::read(root)?;
    MDBook::load_with_config_and_summary(book, config, summary)?.build()?;
    Ok(())
}
