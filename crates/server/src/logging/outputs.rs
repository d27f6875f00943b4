//! Where lines go: each of them to every output, as a whole, and whether or not another one takes it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

use super::LogFileError;
use crate::config::LogOutput;

/// See the module.
pub(super) struct Outputs(Vec<Output>);

enum Output {
    Stderr,
    Stdout,
    File(File),
}

impl Outputs {
    /// Opens the files, or makes them. They are appended to, so that a tool which rotates logs may cut
    /// them short.
    ///
    /// # Errors
    /// The first that cannot be opened.
    pub(super) fn open(outputs: &[LogOutput]) -> Result<Self, LogFileError> {
        let open = |output: &LogOutput| match output {
            LogOutput::Stderr => Ok(Output::Stderr),
            LogOutput::Stdout => Ok(Output::Stdout),
            LogOutput::File(path) => OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .map(Output::File)
                .map_err(|error| LogFileError { path: path.clone(), error }),
        };
        Ok(Self(outputs.iter().map(open).collect::<Result<_, _>>()?))
    }
}

impl<'a> MakeWriter<'a> for Outputs {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Outputs {
    /// Takes all of it, always: a log that cannot be written is no reason to fail, nor for the other
    /// outputs to go without.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        for output in &self.0 {
            let _lost = match output {
                Output::Stderr => io::stderr().write_all(line),
                Output::Stdout => io::stdout().write_all(line),
                Output::File(file) => {
                    let mut file = file;
                    file.write_all(line)
                }
            };
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_goes_to_every_file_at_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| directory.path().join(name));
        std::fs::write(&paths[0], "before\n").unwrap();
        let files = paths.each_ref().map(|path| LogOutput::File(path.clone()));
        let outputs = Outputs::open(&files).unwrap();
        (&outputs).write_all(b"line\n").unwrap();
        assert_eq!(std::fs::read_to_string(&paths[0]).unwrap(), "before\nline\n");
        assert_eq!(std::fs::read_to_string(&paths[1]).unwrap(), "line\n");
        let nowhere = LogOutput::File(directory.path().join("no/such/file"));
        let refused = Outputs::open(&[nowhere]).err().unwrap().to_string();
        assert!(refused.starts_with("--log-outputs: cannot append to "), "{refused}");
    }
}
