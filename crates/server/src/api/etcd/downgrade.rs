//! Whether a cluster may go back to an older version of etcd. Members of quorate report one version
//! whichever they are, so there is nothing to go back to: what tools ask beforehand is answered as etcd
//! answers it, and what would begin is refused.

use super::error::ApiError;

/// Whether etcd would allow to go back to this version from that one, which it speaks: one minor
/// version down, whatever the patch level.
///
/// # Errors
/// The target is no version, or another than that.
pub(super) fn validate(target: &str, from: &str) -> Result<(), ApiError> {
    let (major, minor) = major_and_minor(target).ok_or(ApiError::WrongDowngradeVersionFormat)?;
    let below =
        major_and_minor(from).and_then(|(major, minor)| Some((major, minor.checked_sub(1)?)));
    match below == Some((major, minor)) {
        true => Ok(()),
        false => Err(ApiError::InvalidDowngradeTarget),
    }
}

/// What the members speak: "3.7" of "3.7.1".
pub(super) fn cluster_version(version: &str) -> String {
    let (major, minor) = major_and_minor(version).unwrap_or_default();
    format!("{major}.{minor}")
}

/// Of "3.7.1", "3.7", and versions with a pre-release or build after the patch level.
fn major_and_minor(text: &str) -> Option<(u64, u64)> {
    let version = text.split('+').next()?;
    let (numbers, patch_is_needed) = match version.split_once('-') {
        Some((numbers, _release)) => (numbers, true),
        None => (version, text.contains('+')),
    };
    let numbers: Vec<u64> =
        numbers.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    match numbers[..] {
        [major, minor, _patch] => Some((major, minor)),
        [major, minor] if !patch_is_needed => Some((major, minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each was asked of etcd v3.7.1.
    #[test]
    fn one_minor_version_down_is_allowed() {
        for target in ["3.6", "3.6.4", "3.06", "3.6.0-rc.1", "3.6.0+meta"] {
            assert_eq!(validate(target, "3.7.1"), Ok(()), "{target}");
        }
        for target in ["3.7", "3.5", "4.6.0", "3.0"] {
            let error = Err(ApiError::InvalidDowngradeTarget);
            assert_eq!(validate(target, "3.7.1"), error, "{target}");
        }
        for target in ["", "x", "v3.6", "3.6.0.0", "3.6-x", "+3.6.0"] {
            let error = Err(ApiError::WrongDowngradeVersionFormat);
            assert_eq!(validate(target, "3.7.1"), error, "{target}");
        }
        assert_eq!(validate("3.0", "4.0.0"), Err(ApiError::InvalidDowngradeTarget));
        assert_eq!(cluster_version("3.7.1"), "3.7");
    }
}
