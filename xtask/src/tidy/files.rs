//! How long a file may be, and what every crate must have. Functions are clippy's to measure.

use super::{Finding, Source};

/// Lines of a file before its tests. Longer ones hold more than one concern.
const PRODUCTION_LINES_MAX: usize = 600;
/// Bytes of a file. Larger ones are data, and do not belong here.
const BYTES_MAX: usize = 512 * 1024;

pub(crate) fn check(sources: &[Source], findings: &mut Vec<Finding>) {
    for source in sources {
        if source.text.len() > BYTES_MAX {
            findings.push(Finding {
                place: source.path.clone(),
                what: format!("{} bytes; the limit is {BYTES_MAX}", source.text.len()),
            });
        }
        if source.path.ends_with(".rs") {
            let lines = production_lines(&source.text);
            if lines > PRODUCTION_LINES_MAX {
                findings.push(Finding {
                    place: source.path.clone(),
                    what: format!(
                        "{lines} production lines; the limit is {PRODUCTION_LINES_MAX}: split it \
                         by role or concern"
                    ),
                });
            }
        }
        if source.path == "Cargo.toml" {
            unexplained_dependencies(source, findings);
        }
    }
}

fn production_lines(text: &str) -> usize {
    text.lines().take_while(|line| *line != "#[cfg(test)]").count()
}

/// Each third-party dependency says on its line why it is worth its weight.
fn unexplained_dependencies(manifest: &Source, findings: &mut Vec<Finding>) {
    let lines = manifest.text.lines().enumerate();
    let section = lines
        .skip_while(|(_, line)| *line != "[workspace.dependencies]")
        .skip(1)
        .take_while(|(_, line)| !line.starts_with('['));
    for (number, line) in section {
        let ours = line.contains("path = ");
        if line.contains('=') && !ours && !line.starts_with('#') && !line.contains(" # ") {
            findings.push(Finding {
                place: format!("{}:{}", manifest.path, number + 1),
                what: "a dependency without a word on why it is needed".to_owned(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_and_bare_dependencies_are_found() {
        let long = Source { path: "a.rs".into(), text: "x\n".repeat(601) };
        let tests =
            Source { path: "b.rs".into(), text: format!("x\n#[cfg(test)]\n{}", "x\n".repeat(601)) };
        let manifest = Source {
            path: "Cargo.toml".into(),
            text: "[workspace.dependencies]\na = \"1\" # because\nb = \"1\"\n".into(),
        };
        let mut findings = Vec::new();
        check(&[long, tests, manifest], &mut findings);
        let places: Vec<_> = findings.iter().map(|finding| finding.place.as_str()).collect();
        assert_eq!(places, ["a.rs", "Cargo.toml:3"]);
    }
}
