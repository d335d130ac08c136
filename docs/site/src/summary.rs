//! The table of contents.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mdbook_summary::{Summary, SummaryItem, parse_summary};

use crate::links::resolve;
use crate::{Failure, SUMMARY};

/// Reads the table of contents, with the paths of its pages in the repository.
pub(crate) fn read(root: &Path) -> Result<Summary, Failure> {
    let mut summary = parse_summary(&fs::read_to_string(root.join(SUMMARY))?)?;
    for items in
        [&mut summary.prefix_chapters, &mut summary.numbered_chapters, &mut summary.suffix_chapters]
    {
        each_location(items, &mut |location| {
            *location = resolve(Path::new(SUMMARY), &*location);
        });
    }
    Ok(summary)
}

/// Returns the paths of all pages in the table of contents.
pub(crate) fn pages(root: &Path) -> Result<BTreeSet<PathBuf>, Failure> {
    let mut summary = read(root)?;
    let mut pages = BTreeSet::new();
    for items in
        [&mut summary.prefix_chapters, &mut summary.numbered_chapters, &mut summary.suffix_chapters]
    {
        each_location(items, &mut |location| {
            pages.insert(location.clone());
        });
    }
    Ok(pages)
}

fn each_location(items: &mut [SummaryItem], action: &mut impl FnMut(&mut PathBuf)) {
    for item in items {
        if let SummaryItem::Link(link) = item {
            if let Some(location) = &mut link.location {
                action(location);
            }
            each_location(&mut link.nested_items, action);
        }
    }
}
