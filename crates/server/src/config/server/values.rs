//! Numbers and words of flags, held to their limits.

use super::super::duration::parse_duration_ms;
use super::super::flags::Flags;
use super::error::ConfigError;

pub(super) fn positive(
    flags: &Flags,
    flag: &'static str,
    default: u64,
) -> Result<u64, ConfigError> {
    let Some(value) = flags.number(flag) else {
        return Ok(default);
    };
    match u64::try_from(value) {
        Ok(value) if value > 0 => Ok(value),
        _ => Err(ConfigError::NotPositive { flag, value }),
    }
}

pub(super) fn at_most(flag: &'static str, value: u64, limit: u64) -> Result<(), ConfigError> {
    if value > limit {
        return Err(ConfigError::TooLarge { flag, value, limit });
    }
    Ok(())
}

pub(super) fn size(
    flags: &Flags,
    flag: &'static str,
    default: u64,
    limit: u64,
) -> Result<usize, ConfigError> {
    let value = positive(flags, flag, default)?;
    at_most(flag, value, limit)?;
    usize::try_from(value).map_err(|_| ConfigError::TooLarge { flag, value, limit })
}

/// Milliseconds, of a duration in Go's notation.
pub(super) fn duration_ms(
    flags: &Flags,
    flag: &'static str,
    default: u64,
) -> Result<u64, ConfigError> {
    match flags.text(flag) {
        None => Ok(default),
        Some(text) => parse_duration_ms(text)
            .ok_or_else(|| ConfigError::Duration { flag, value: text.to_owned() }),
    }
}

/// Milliseconds, of a duration where none stands for the default, as in etcd.
pub(super) fn duration_or_default_ms(
    flags: &Flags,
    flag: &'static str,
    default: u64,
) -> Result<u64, ConfigError> {
    match duration_ms(flags, flag, default)? {
        0 => Ok(default),
        milliseconds => Ok(milliseconds),
    }
}

/// Words between commas; `*` where the flag was not given.
pub(super) fn words(flags: &Flags, flag: &'static str) -> Vec<String> {
    let given = flags.text(flag).unwrap_or("*").split(',').map(str::trim);
    given.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// One of several words; the first of them where the flag was not given.
pub(super) fn choose<T: Copy>(
    flags: &Flags,
    flag: &'static str,
    expected: &'static str,
    choices: &[(&str, T)],
) -> Result<T, ConfigError> {
    choose_word(flags.text(flag).unwrap_or(choices[0].0), flag, expected, choices)
}

/// The one of several words that was given.
pub(super) fn choose_word<T: Copy>(
    given: &str,
    flag: &'static str,
    expected: &'static str,
    choices: &[(&str, T)],
) -> Result<T, ConfigError> {
    let chosen = choices.iter().find(|(word, _)| *word == given);
    let unknown = || ConfigError::Choice { flag, value: given.to_owned(), expected };
    chosen.map(|&(_, choice)| choice).ok_or_else(unknown)
}
