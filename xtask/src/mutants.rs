//! Broken variants of the code, each a small patch beside the simulator that names the checker
//! which must see it. A simulator, or an exploration, that finds nothing proves something only if it
//! finds these.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::run::{command, output, root, run_command};

/// Who must find them.
#[derive(Clone, Copy)]
pub(crate) enum Finder {
    /// The simulator, in some seed.
    Simulator,
    /// The explorer, within the bounds that the patch names.
    Explorer,
}

/// Seeds within which each must be caught.
const SEEDS: &str = "2000";
/// Begins the line of a patch that is found so seldom that it is given more of them.
const SEEDS_LINE: &str = "Seeds:";
/// Begins the line of a patch that is seen only with more arguments, and names them.
const ARGUMENTS_LINE: &str = "Arguments:";
/// Begins the line of a patch that names its checker.
const CHECKER: &str = "Checker:";
/// Begins the line of a patch that names the bounds within which the explorer must find it.
const EXPLORE_LINE: &str = "Explore:";

struct Mutant {
    name: String,
    path: PathBuf,
    checker: String,
    /// What the finder is asked to do.
    arguments: Vec<String>,
}

impl Finder {
    fn folder(self) -> &'static str {
        match self {
            Self::Simulator => "crates/simulator/mutants",
            Self::Explorer => "crates/simulator/explorer-mutants",
        }
    }
}

fn all(finder: Finder) -> Result<Vec<Mutant>> {
    let mut mutants = Vec::new();
    let folder = finder.folder();
    for entry in std::fs::read_dir(root().join(folder)).context(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "patch") {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(|value| value.trim().to_owned())
        };
        let checker = value(CHECKER)
            .with_context(|| format!("{}: no line `{CHECKER} NAME`", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let what = match finder {
            Finder::Simulator => {
                let count = value(SEEDS_LINE).unwrap_or_else(|| SEEDS.to_owned());
                let more = value(ARGUMENTS_LINE).unwrap_or_default();
                format!("--count {count} {more}")
            }
            Finder::Explorer => {
                let bounds = value(EXPLORE_LINE)
                    .with_context(|| format!("{}: no line `{EXPLORE_LINE}`", path.display()))?;
                format!("explore {bounds}")
            }
        };
        let arguments = what.split_whitespace().map(str::to_owned).collect();
        mutants.push(Mutant { name, checker, path, arguments });
    }
    mutants.sort_by(|a, b| a.name.cmp(&b.name));
    ensure!(!mutants.is_empty(), "{folder} has no patches");
    Ok(mutants)
}

/// Demands that each patch still applies: one that does not tests nothing any more.
pub(crate) fn check(finder: Finder) -> Result<()> {
    for mutant in all(finder)? {
        let path = mutant.path.to_string_lossy().into_owned();
        output("git", &["apply", "--check", &path])
            .with_context(|| format!("mutant {} no longer applies", mutant.name))?;
        println!("mutant {}: applies ({})", mutant.name, mutant.checker);
    }
    Ok(())
}

/// Breaks a copy of the repository in each of these ways and has it found there.
pub(crate) fn run(finder: Finder) -> Result<()> {
    check(finder)?;
    let folder = root().join("target").join("mutants");
    let tree = folder.join("tree");
    let tree_name = tree.to_string_lossy().into_owned();
    let mut missed = Vec::new();
    for mutant in all(finder)? {
        if tree.exists() {
            output("git", &["worktree", "remove", "--force", &tree_name])?;
        }
        output("git", &["worktree", "add", "--detach", &tree_name, "HEAD"])?;
        let path = mutant.path.to_string_lossy().into_owned();
        let mut apply = command("git", &["apply", &path]);
        run_command(apply.current_dir(&tree))?;
        println!("mutant {}: {} must fire", mutant.name, mutant.checker);
        let mut simulate = command("cargo", &["run", "--quiet", "--release"]);
        simulate.args(["--package", "quorate-simulator", "--"]).args(&mutant.arguments);
        simulate.args(["--expect", &mutant.checker]);
        simulate.current_dir(&tree).env("CARGO_TARGET_DIR", folder.join("target"));
        if run_command(&mut simulate).is_err() {
            missed.push(mutant.name);
        }
    }
    output("git", &["worktree", "remove", "--force", &tree_name])?;
    if !missed.is_empty() {
        bail!("not caught: {}", missed.join(", "));
    }
    Ok(())
}
