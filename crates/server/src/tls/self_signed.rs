//! Certificates that a member makes for itself: nobody can know by them who it is, but what is said
//! is not read on its way. They are kept in the data directory, where etcd keeps its own, so that a
//! restart does not change them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use super::TlsError;
use crate::config::{TlsOptions, TlsSide, Url};

const CERT_FILE: &str = "cert.pem";
const KEY_FILE: &str = "key.pem";
const SECONDS_A_DAY: u64 = 86_400;

/// The options, with a certificate of the member's own where they ask for one: the one that is kept in
/// the data directory, or a new one.
///
/// # Errors
/// It cannot be made or kept.
pub fn with_own_certificate(
    options: &TlsOptions,
    data_directory: &Path,
    urls: &[Url],
) -> Result<TlsOptions, TlsError> {
    let mut options = options.clone();
    if options.automatic && urls.iter().any(Url::is_secure) {
        let (cert, key) = own_certificate(&options, data_directory, urls)?;
        (options.cert_file, options.key_file) = (Some(cert), Some(key));
    }
    Ok(options)
}

fn own_certificate(
    options: &TlsOptions,
    data_directory: &Path,
    urls: &[Url],
) -> Result<(PathBuf, PathBuf), TlsError> {
    let flag = options.side.automatic_flag();
    let side = match options.side {
        TlsSide::Client => "client",
        TlsSide::Peer => "peer",
    };
    let directory = data_directory.join("fixtures").join(side);
    let (cert, key) = (directory.join(CERT_FILE), directory.join(KEY_FILE));
    if cert.exists() && key.exists() {
        return Ok((cert, key));
    }
    let mut hosts: Vec<String> = urls.iter().map(|url| url.host().to_owned()).collect();
    hosts.sort();
    hosts.dedup();
    let (cert_pem, key_pem) =
        make(&hosts, options.self_signed_years).map_err(|error| TlsError::Make { flag, error })?;
    let kept = fs::create_dir_all(&directory)
        .and_then(|()| write(&key, &key_pem))
        // Last: a start that finds it finds both.
        .and_then(|()| write(&cert, &cert_pem));
    kept.map_err(|error| TlsError::Keep { flag, path: directory, error })?;
    tracing::info!(flag, cert = %cert.display(), "made a self-signed certificate");
    Ok((cert, key))
}

/// Nobody else may read the key.
fn write(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    const OWNER_ALONE: u32 = 0o600;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(OWNER_ALONE);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn make(hosts: &[String], years: u64) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let today = now / SECONDS_A_DAY;
    // A clock that is a little behind takes it too.
    let day = |days: u64| {
        let (year, month, day) = date(days);
        date_time_ymd(year, month, day)
    };
    params.not_before = day(today.saturating_sub(1));
    params.not_after = day(today + 1 + years.saturating_mul(365));
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// The date so many days after the first of January 1970.
fn date(days: u64) -> (i32, u8, u8) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut rest) = (1970, days);
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if rest < length {
            break;
        }
        (year, rest) = (year + 1, rest - length);
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if rest < length {
            break;
        }
        (month, rest) = (month + 1, rest - length);
    }
    (i32::try_from(year).unwrap_or(i32::MAX), month, u8::try_from(rest + 1).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(58), (1970, 2, 28));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(11_017), (2000, 3, 1));
        assert_eq!(date(20_453), (2025, 12, 31));
        assert_eq!(date(20_454), (2026, 1, 1));
    }
}
