//! Documents: each has one title, and its links to files lead somewhere.

use std::path::Path;

use super::{Finding, Source};
use crate::run::root;

pub(crate) fn check(sources: &[Source], findings: &mut Vec<Finding>) {
    for source in sources.iter().filter(|source| source.path.ends_with(".md")) {
        if !source.text.starts_with("# ") {
            findings.push(Finding {
                place: source.path.clone(),
                what: "a document begins with its title".to_owned(),
            });
        }
        let folder = Path::new(&source.path).parent().unwrap_or(Path::new(""));
        for (number, line) in source.text.lines().enumerate() {
            for target in link_targets(line) {
                if !root().join(folder).join(target).exists() {
                    findings.push(Finding {
                        place: format!("{}:{}", source.path, number + 1),
                        what: format!("the link to `{target}` leads nowhere"),
                    });
                }
            }
        }
    }
}

/// The files that `[text](file#part)` links to; not the network, not parts of the same document.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split([')', '#', ' ']).next()?;
        (!target.is_empty() && !target.contains("://")).then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_links() {
        let line = "[a](b.md#c) and [d](https://e.f) and [g](#h) and [i](../j)";
        assert_eq!(link_targets(line).collect::<Vec<_>>(), ["b.md", "../j"]);
    }
}
