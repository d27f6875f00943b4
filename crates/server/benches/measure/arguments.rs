//! What a command was told on its command line: pairs of `--name value`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// The options that were given and not yet asked for.
pub(crate) struct Arguments(BTreeMap<String, String>);

impl Arguments {
    /// Takes the pairs; an error for a name without a value, or one that comes twice.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = BTreeMap::new();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").with_context(|| format!("`{word}`: no option"))?;
            let value = words.next().with_context(|| format!("`{word}` needs a value"))?;
            ensure!(options.insert(name.to_owned(), value).is_none(), "`{word}` is given twice");
        }
        Ok(Self(options))
    }

    /// A number of at least 1.
    pub(crate) fn number(&mut self, name: &str, default: u64) -> Result<u64> {
        let Some(text) = self.0.remove(name) else { return Ok(default) };
        let number = text.parse().with_context(|| format!("--{name}: `{text}` is no number"))?;
        ensure!(number > 0, "--{name}: at least 1");
        Ok(number)
    }

    /// A number of things that are held in memory.
    pub(crate) fn count(&mut self, name: &str, default: u64) -> Result<usize> {
        Ok(usize::try_from(self.number(name, default)?)?)
    }

    /// A text.
    pub(crate) fn text(&mut self, name: &str, default: &str) -> String {
        self.0.remove(name).unwrap_or_else(|| default.to_owned())
    }

    /// Words with blanks between them.
    pub(crate) fn words(&mut self, name: &str, default: &str) -> Vec<String> {
        self.text(name, default).split_whitespace().map(str::to_owned).collect()
    }

    /// To be called after the last option was asked for: an error if one is left.
    pub(crate) fn finish(&self) -> Result<()> {
        if let Some(name) = self.0.keys().next() {
            bail!("there is no option --{name}");
        }
        Ok(())
    }
}
