//! Where a member listens, and where it says that it is reached.

use super::super::flags::Flags;
use super::super::url::Url;
use super::CLIENT_URL_DEFAULT;
use super::error::ConfigError;

/// Where peers find a member, which they are told beforehand.
const PEERS: &str = "listen-peer-urls";

fn urls(flags: &Flags, flag: &'static str, default: &str) -> Result<Vec<Url>, ConfigError> {
    let parse = if flag == PEERS { Url::parse_list } else { Url::parse_client_list };
    parse(flags.text(flag).unwrap_or(default)).map_err(|error| ConfigError::Url { flag, error })
}

pub(super) fn listen_urls(
    flags: &Flags,
    flag: &'static str,
    default: &str,
) -> Result<Vec<Url>, ConfigError> {
    let urls = urls(flags, flag, default)?;
    match urls.iter().find(|url| url.bind_address().is_none()) {
        Some(url) => Err(ConfigError::BindName { flag, url: url.clone() }),
        None => Ok(urls),
    }
}

/// Those of a flag that none need be given to.
pub(super) fn more_urls(flags: &Flags, flag: &'static str) -> Result<Vec<Url>, ConfigError> {
    match flags.text(flag) {
        None | Some("") => Ok(Vec::new()),
        Some(_) => listen_urls(flags, flag, ""),
    }
}

/// No two flags may ask for one port.
pub(super) fn check_ports(flags: &[(&'static str, &[Url])]) -> Result<(), ConfigError> {
    let overlap = |one: &Url, other: &Url| {
        let any = |url: &Url| url.bind_address().is_some_and(|(ip, _)| ip.is_unspecified());
        let same_host = one.bind_address() == other.bind_address();
        one.port() == other.port() && one.port() != 0 && (same_host || any(one) || any(other))
    };
    for (place, &(first, before)) in flags.iter().enumerate() {
        for &(second, urls) in &flags[place + 1..] {
            let shared = urls.iter().find(|url| before.iter().any(|one| overlap(one, url)));
            if let Some(url) = shared {
                return Err(ConfigError::SamePort { first, second, url: url.clone() });
            }
        }
    }
    Ok(())
}

pub(super) fn advertise_client_urls(flags: &Flags) -> Result<Vec<Url>, ConfigError> {
    if flags.text("listen-client-urls").is_some() && flags.text("advertise-client-urls").is_none() {
        return Err(ConfigError::AdvertiseMissing);
    }
    urls(flags, "advertise-client-urls", CLIENT_URL_DEFAULT)
}
