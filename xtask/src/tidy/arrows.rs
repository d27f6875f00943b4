//! Which crate may depend on which. The table in ARCHITECTURE.md is the whole list: a crate exists
//! because something must be unable to be imported there.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

use super::{Finding, Source};

const PREFIX: &str = "quorate-";
/// What only the server may know.
const SERVER_ONLY: [&str; 6] = ["axum", "clap", "prost", "tokio", "tonic", "tracing"];

pub(crate) fn check(sources: &[Source], findings: &mut Vec<Finding>) -> Result<()> {
    let architecture = sources
        .iter()
        .find(|source| source.path == "ARCHITECTURE.md")
        .context("there is no ARCHITECTURE.md")?;
    let allowed = allowed_arrows(&architecture.text)?;
    for source in sources {
        let Some(name) =
            source.path.strip_prefix("crates/").and_then(|p| p.strip_suffix("/Cargo.toml"))
        else {
            continue;
        };
        let Some(may_know) = allowed.get(name) else {
            findings.push(Finding {
                place: source.path.clone(),
                what: format!("crate `{name}` is not in ARCHITECTURE.md's table"),
            });
            continue;
        };
        for dependency in dependencies(&source.text) {
            let place = source.path.clone();
            if let Some(ours) = dependency.strip_prefix(PREFIX) {
                if !may_know.contains(ours) {
                    let what = format!("`{name}` must not depend on `{ours}` (ARCHITECTURE.md)");
                    findings.push(Finding { place, what });
                }
            } else if name != "server"
                && SERVER_ONLY.iter().any(|banned| dependency.starts_with(banned))
            {
                let what = format!("only `server` may depend on `{dependency}`");
                findings.push(Finding { place, what });
            }
        }
    }
    Ok(())
}

/// Reads the rows of the table whose header begins with `| crate`: the first cell names the crate,
/// the third those it may depend on, each in backquotes.
fn allowed_arrows(architecture: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let rows = architecture
        .lines()
        .skip_while(|line| !line.starts_with("| crate"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut allowed = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        ensure!(cells.len() >= 4, "ARCHITECTURE.md: a row of the table of crates is short: {row}");
        let name = cells[1].trim_matches('`').to_owned();
        let names = cells[3].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        allowed.insert(name, names);
    }
    ensure!(!allowed.is_empty(), "ARCHITECTURE.md has no table of crates");
    Ok(allowed)
}

/// The names in the `[dependencies]` of a manifest. Test and build dependencies are free.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', '=', ' ']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_that_is_not_in_the_table_is_found() {
        let table =
            "| crate | is | depends on |\n|---|---|---|\n| `wal` | a log | `raft`, `disk` |\n";
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        let sources = [
            source("ARCHITECTURE.md", table),
            source(
                "crates/wal/Cargo.toml",
                "[dependencies]\nquorate-raft.workspace = true\nquorate-kv.workspace = true\ntokio = \"1\"\n",
            ),
        ];
        let mut findings = Vec::new();
        check(&sources, &mut findings).unwrap();
        let what: Vec<_> = findings.iter().map(|finding| finding.what.as_str()).collect();
        assert_eq!(
            what,
            [
                "`wal` must not depend on `kv` (ARCHITECTURE.md)",
                "only `server` may depend on `tokio`"
            ]
        );
    }
}
