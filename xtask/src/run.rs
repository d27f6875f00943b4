//! Running other programs, with what is run and how long it took on standard output.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// A program, to be run at the root of the repository.
pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// Runs a program at the root of the repository; an error unless it succeeds.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    run_command(&mut command(program, arguments))
}

/// Runs a command, with its name and its time; an error unless it succeeds.
pub(crate) fn run_command(command: &mut Command) -> Result<()> {
    let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
    let name = format!("{} {}", command.get_program().to_string_lossy(), arguments.join(" "));
    println!("==> {name}");
    let began = Instant::now();
    let status = command.status().with_context(|| format!("cannot run `{name}`"))?;
    ensure!(status.success(), "`{name}` failed: {status}");
    println!("    {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// What a program prints, at the root of the repository; an error unless it succeeds.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output =
        command(program, arguments).output().with_context(|| format!("cannot run `{program}`"))?;
    ensure!(
        output.status.success(),
        "`{program} {}` failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program is on this machine.
pub(crate) fn exists(program: &str, version_argument: &str) -> bool {
    command(program, &[version_argument]).output().is_ok_and(|output| output.status.success())
}
