//! How much history the leader keeps when nobody compacts.

use super::super::duration::parse_duration_ms;
use super::super::flags::Flags;
use super::error::ConfigError;
use super::values::choose;

const RETENTION: &str = "auto-compaction-retention";
const HOUR_MS: u64 = 60 * 60 * 1000;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// All of it.
    Off,
    /// That of so much time: `--auto-compaction-mode=periodic`.
    Time {
        /// Milliseconds.
        kept_ms: u64,
    },
    /// That of so many revisions: `--auto-compaction-mode=revision`.
    Revisions {
        /// How many.
        kept: i64,
    },
}

impl AutoCompaction {
    /// A number alone is one of hours or of revisions, and 0 of either turns it off.
    pub(super) fn from_flags(flags: &Flags) -> Result<Self, ConfigError> {
        let modes = [("periodic", true), ("revision", false)];
        let by_time = choose(flags, "auto-compaction-mode", "periodic, revision", &modes)?;
        let text = flags.text(RETENTION).filter(|text| !text.is_empty()).unwrap_or("0");
        let number = text.parse::<u32>().ok();
        match (by_time, number) {
            (_, Some(0)) => Ok(Self::Off),
            (false, Some(kept)) => Ok(Self::Revisions { kept: kept.into() }),
            (false, None) => {
                Err(ConfigError::Revisions { flag: RETENTION, value: text.to_owned() })
            }
            (true, Some(hours)) => Ok(Self::Time { kept_ms: u64::from(hours) * HOUR_MS }),
            (true, None) => match parse_duration_ms(text) {
                Some(0) => Ok(Self::Off),
                Some(kept_ms) => Ok(Self::Time { kept_ms }),
                None => Err(ConfigError::Duration { flag: RETENTION, value: text.to_owned() }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_hours_or_revisions() {
        let read = |mode: &str, retention: &str| {
            let arguments = [("mode", mode), ("retention", retention)];
            let arguments =
                arguments.map(|(flag, value)| format!("--auto-compaction-{flag}={value}"));
            let flags = Flags::parse(arguments, []).expect("flags");
            AutoCompaction::from_flags(&flags).map_err(|error| error.to_string())
        };
        let time = |kept_ms| Ok(AutoCompaction::Time { kept_ms });
        assert_eq!(read("periodic", "2"), time(2 * HOUR_MS));
        assert_eq!(read("periodic", "90m"), time(HOUR_MS * 3 / 2));
        assert_eq!(read("revision", "1000"), Ok(AutoCompaction::Revisions { kept: 1000 }));
        for off in [("periodic", "0"), ("periodic", "0s"), ("revision", "0")] {
            assert_eq!(read(off.0, off.1), Ok(AutoCompaction::Off));
        }
        for (mode, retention) in [("periodic", "soon"), ("revision", "1h"), ("both", "1")] {
            let refused = read(mode, retention).expect_err(retention);
            assert!(refused.starts_with("--auto-compaction-"), "{refused}");
        }
        let none = Flags::parse([], []).expect("none");
        assert_eq!(AutoCompaction::from_flags(&none), Ok(AutoCompaction::Off));
    }
}
