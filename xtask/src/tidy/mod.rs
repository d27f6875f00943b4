//! Checks over the source as text. Compilers and linters know one crate at a time; what is checked
//! here belongs to the whole: which crate may know which, how long a file may be, which words and
//! paths have no place in it.

mod arrows;
mod files;
mod markdown;
mod text;

use anyhow::{Result, bail};

use crate::run::{output, root};

/// A place that breaks a rule.
pub(crate) struct Finding {
    /// The file, from the root, and the line where there is one.
    place: String,
    /// What is wrong and what to do.
    what: String,
}

/// A file that git tracks.
pub(crate) struct Source {
    path: String,
    text: String,
}

/// Runs every check.
pub(crate) fn run() -> Result<()> {
    let sources = tracked_files()?;
    let mut findings = Vec::new();
    arrows::check(&sources, &mut findings)?;
    files::check(&sources, &mut findings);
    text::check(&sources, &mut findings);
    markdown::check(&sources, &mut findings);
    for Finding { place, what } in &findings {
        println!("{place}: {what}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings in {} files read", findings.len(), sources.len());
    }
    println!("tidy: {} files, nothing to say", sources.len());
    Ok(())
}

/// Every text file that git tracks or would track.
fn tracked_files() -> Result<Vec<Source>> {
    let listed = output("git", &["ls-files", "--cached", "--others", "--exclude-standard"])?;
    let mut sources = Vec::new();
    for path in listed.lines() {
        // A file that was deleted but not yet committed is still listed.
        if let Ok(text) = std::fs::read_to_string(root().join(path)) {
            sources.push(Source { path: path.to_owned(), text });
        }
    }
    Ok(sources)
}
