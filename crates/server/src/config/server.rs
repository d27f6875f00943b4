//! The configuration of one member, made from its flags, with everything checked that can be
//! checked before a file is opened or a port bound.

use std::collections::BTreeMap;
use std::path::PathBuf;

use quorate_raft::NodeId;
use thiserror::Error;

use super::duration::parse_duration_ms;
use super::flags::{FlagError, Flags};
use super::url::{Url, UrlError};
use crate::identity::{ClusterId, cluster_id, member_id};

const NAME_DEFAULT: &str = "default";
const PEER_URL_DEFAULT: &str = "http://localhost:2380";
const CLIENT_URL_DEFAULT: &str = "http://localhost:2379";
const TOKEN_DEFAULT: &str = "etcd-cluster";
const HEARTBEAT_MS_DEFAULT: u64 = 100;
const ELECTION_MS_DEFAULT: u64 = 1000;
/// A leader must get several heartbeats through before it is given up.
const ELECTION_HEARTBEATS_MIN: u64 = 5;
/// Beyond this a cluster would be without a leader for minutes; etcd's limit.
const ELECTION_MS_MAX: u64 = 50_000;
const REQUEST_BYTES_DEFAULT: u64 = 1_572_864;
/// A request must fit into one record of the log and one frame between peers.
const REQUEST_BYTES_LIMIT: u64 = 10 << 20;
const TXN_OPERATIONS_DEFAULT: u64 = 128;
const WATCH_PROGRESS_MS_DEFAULT: u64 = 600_000;
/// Below this notices would be most of what is sent.
const WATCH_PROGRESS_MS_MIN: u64 = 100;
const LEARNERS_DEFAULT: u64 = 1;
/// A configuration has no room for more.
const LEARNERS_LIMIT: u64 = 64;
const LOG_RETAINED_BYTES_DEFAULT: u64 = 32 << 20;
const CATCH_UP_BYTES_PER_SECOND_DEFAULT: u64 = 16 << 20;

/// One member, ready to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Where its data lies.
    pub data_directory: PathBuf,
    /// Where it listens for members.
    pub listen_peer_urls: Vec<Url>,
    /// Where it listens for clients.
    pub listen_client_urls: Vec<Url>,
    /// Where clients reach it.
    pub advertise_client_urls: Vec<Url>,
    /// Itself.
    pub member: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// All members, itself included.
    pub members: BTreeMap<NodeId, ClusterMember>,
    /// Whether it begins a cluster or joins one.
    pub initial_state: InitialState,
    /// Milliseconds between heartbeats.
    pub heartbeat_interval_ms: u64,
    /// Milliseconds without a leader before an election.
    pub election_timeout_ms: u64,
    /// Whether to ask before standing for election.
    pub pre_vote: bool,
    /// Whether reads are confirmed by a lease, which rests on the clocks of all members.
    pub lease_reads: LeaseMode,
    /// Bytes that a request may have.
    pub request_bytes_max: usize,
    /// Operations that a transaction may have.
    pub txn_operations_max: usize,
    /// Learners that the cluster may have: `--max-learners`.
    pub learners_max: usize,
    /// Milliseconds between notices to watchers that nothing has happened:
    /// `--watch-progress-notify-interval`.
    pub watch_progress_interval_ms: u64,
    /// Whether a change of the members is refused that would leave too few that are up:
    /// `--strict-reconfig-check`.
    pub strict_reconfiguration: bool,
    /// Bytes of the log that stay behind the store, for members that lag: so many that lag a little
    /// need no snapshot. Eight times as many stay for one that is known to need them.
    pub log_retained_bytes: u64,
    /// Bytes a second that are sent to a member that is far behind, of a snapshot or of old entries.
    pub catch_up_bytes_per_second: u64,
    /// Least severe level that is logged: `debug`, `info`, `warn` or `error`.
    pub log_level: tracing::Level,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// A member of the initial cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterMember {
    /// Its name.
    pub name: String,
    /// Where the other members reach it.
    pub peer_url: Url,
}

/// What a member without data does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    /// Begins a cluster with the others.
    New,
    /// Joins one that runs.
    Existing,
}

/// Reads under a lease: see `quorate_raft::LeaseReads` for what they rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseMode {
    /// None: every read is confirmed by a majority.
    Off,
    /// The member keeps the promise on which others' leases rest, and serves none itself.
    Promise,
    /// It serves reads under a lease where it leads.
    Serve,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Console,
}

/// Why a member cannot be started as asked. Each text is one line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A flag is wrong by itself.
    #[error(transparent)]
    Flag(#[from] FlagError),
    /// A flag's URL is wrong.
    #[error("--{flag}: {error}")]
    Url {
        /// The flag.
        flag: &'static str,
        /// What is wrong.
        error: UrlError,
    },
    /// A member without a name.
    #[error("--name is empty: give the member the name that it has in --initial-cluster")]
    NameEmpty,
    /// A part of `--initial-cluster` is not `name=url`.
    #[error("--initial-cluster: {0:?} does not have the form name=url")]
    MemberForm(String),
    /// Two members of one name.
    #[error("--initial-cluster names {0:?} twice: give each member a name and one URL of its own")]
    DuplicateName(String),
    /// Two members at one URL.
    #[error(
        "--initial-cluster gives {url} to both {first:?} and {second:?}: each member needs its own"
    )]
    DuplicateUrl {
        /// The URL.
        url: Url,
        /// Who has it first.
        first: String,
        /// Who has it too.
        second: String,
    },
    /// The member is not in its own cluster.
    #[error(
        "couldn't find local name {0:?} in the initial cluster configuration: \
         add it to --initial-cluster or correct --name"
    )]
    OwnNameMissing(String),
    /// The member would be reached elsewhere than the others are told.
    #[error(
        "--initial-cluster has {name}={cluster}, but --initial-advertise-peer-urls is {advertised}: \
         make them equal"
    )]
    OwnUrlDiffers {
        /// The member.
        name: String,
        /// What the cluster is told.
        cluster: Url,
        /// What the member says.
        advertised: String,
    },
    /// Peers and clients on one port.
    #[error(
        "--listen-client-urls and --listen-peer-urls both listen on {0}: choose another port for one"
    )]
    SamePort(Url),
    /// A name cannot be listened on.
    #[error("--{flag}: expected IP in URL for binding ({url})")]
    BindName {
        /// The flag.
        flag: &'static str,
        /// The URL.
        url: Url,
    },
    /// Clients elsewhere could not be told where the member is.
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    AdvertiseMissing,
    /// Not a duration.
    #[error("--{flag}: {value:?} is not a duration: write one such as 10m, 5s or 100ms")]
    Duration {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
    },
    /// A number that must be positive.
    #[error("--{flag}[{value}] must be positive")]
    NotPositive {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: i64,
    },
    /// A number beyond what is sensible.
    #[error("--{flag}[{value}] is too large: at most {limit}")]
    TooLarge {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// Leases rest on pre-votes.
    #[error("--lease-reads needs pre-votes: leave out --pre-vote=false")]
    LeaseWithoutPreVote,
    /// Elections would start between two heartbeats.
    #[error(
        "--election-timeout[{election_ms}ms] should be at least as 5 times as \
         --heartbeat-interval[{heartbeat_ms}ms]"
    )]
    ElectionTooShort {
        /// The election timeout.
        election_ms: u64,
        /// The heartbeat interval.
        heartbeat_ms: u64,
    },
    /// A word that is none of those that the flag takes.
    #[error("--{flag}: {value:?} is none of {expected}")]
    Choice {
        /// The flag.
        flag: &'static str,
        /// What it was given.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
}

impl ConfigError {
    /// Whether the command line itself is wrong, rather than what it asks for.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Flag(error) if error.is_usage())
    }
}

impl ServerConfig {
    /// Checks the flags and fills in etcd's defaults.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn from_flags(flags: &Flags) -> Result<Self, ConfigError> {
        let name = flags.text("name").unwrap_or(NAME_DEFAULT).to_owned();
        if name.is_empty() {
            return Err(ConfigError::NameEmpty);
        }
        let listen_peer_urls = listen_urls(flags, "listen-peer-urls", PEER_URL_DEFAULT)?;
        let listen_client_urls = listen_urls(flags, "listen-client-urls", CLIENT_URL_DEFAULT)?;
        check_ports(&listen_peer_urls, &listen_client_urls)?;
        let advertised = flags.text("initial-advertise-peer-urls").unwrap_or(PEER_URL_DEFAULT);
        let (member, cluster, members) = initial_cluster(flags, &name, advertised)?;
        let (heartbeat_interval_ms, election_timeout_ms) = timers(flags)?;
        let (pre_vote, lease_reads) = elections(flags)?;
        Ok(Self {
            data_directory: data_directory(flags, &name),
            advertise_client_urls: advertise_client_urls(flags)?,
            initial_state: choose(
                flags,
                "initial-cluster-state",
                "new, existing",
                &[("new", InitialState::New), ("existing", InitialState::Existing)],
            )?,
            pre_vote,
            lease_reads,
            request_bytes_max: size(
                flags,
                "max-request-bytes",
                REQUEST_BYTES_DEFAULT,
                REQUEST_BYTES_LIMIT,
            )?,
            txn_operations_max: size(
                flags,
                "max-txn-ops",
                TXN_OPERATIONS_DEFAULT,
                u32::MAX.into(),
            )?,
            watch_progress_interval_ms: watch_progress_interval(flags)?,
            learners_max: size(flags, "max-learners", LEARNERS_DEFAULT, LEARNERS_LIMIT)?,
            strict_reconfiguration: flags.switch("strict-reconfig-check").unwrap_or(true),
            log_retained_bytes: positive(flags, "log-retained-bytes", LOG_RETAINED_BYTES_DEFAULT)?,
            catch_up_bytes_per_second: positive(
                flags,
                "catch-up-bytes-per-second",
                CATCH_UP_BYTES_PER_SECOND_DEFAULT,
            )?,
            log_level: choose(
                flags,
                "log-level",
                "debug, info, warn, error",
                &[
                    ("info", tracing::Level::INFO),
                    ("debug", tracing::Level::DEBUG),
                    ("warn", tracing::Level::WARN),
                    ("error", tracing::Level::ERROR),
                    ("dpanic", tracing::Level::ERROR),
                    ("panic", tracing::Level::ERROR),
                    ("fatal", tracing::Level::ERROR),
                ],
            )?,
            log_format: log_format(flags)?,
            name,
            listen_peer_urls,
            listen_client_urls,
            member,
            cluster,
            members,
            heartbeat_interval_ms,
            election_timeout_ms,
        })
    }

    /// The members other than this one.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, &ClusterMember)> {
        let members = self.members.iter().map(|(&id, member)| (id, member));
        members.filter(move |&(id, _)| id != self.member)
    }
}

/// An empty one is none, as in etcd: it must not become the working directory.
fn data_directory(flags: &Flags, name: &str) -> PathBuf {
    let given = flags.text("data-dir").filter(|directory| !directory.is_empty());
    given.map_or_else(|| PathBuf::from(format!("{name}.etcd")), PathBuf::from)
}

fn urls(flags: &Flags, flag: &'static str, default: &str) -> Result<Vec<Url>, ConfigError> {
    Url::parse_list(flags.text(flag).unwrap_or(default))
        .map_err(|error| ConfigError::Url { flag, error })
}

fn listen_urls(flags: &Flags, flag: &'static str, default: &str) -> Result<Vec<Url>, ConfigError> {
    let urls = urls(flags, flag, default)?;
    match urls.iter().find(|url| url.bind_address().is_none()) {
        Some(url) => Err(ConfigError::BindName { flag, url: url.clone() }),
        None => Ok(urls),
    }
}

fn check_ports(peers: &[Url], clients: &[Url]) -> Result<(), ConfigError> {
    let overlap = |peer: &Url, client: &Url| {
        let any = |url: &Url| url.bind_address().is_some_and(|(ip, _)| ip.is_unspecified());
        let same_host = peer.bind_address() == client.bind_address();
        peer.port() == client.port() && (same_host || any(peer) || any(client))
    };
    let shared = clients.iter().find(|client| peers.iter().any(|peer| overlap(peer, client)));
    shared.map_or(Ok(()), |url| Err(ConfigError::SamePort(url.clone())))
}

fn advertise_client_urls(flags: &Flags) -> Result<Vec<Url>, ConfigError> {
    if flags.text("listen-client-urls").is_some() && flags.text("advertise-client-urls").is_none() {
        return Err(ConfigError::AdvertiseMissing);
    }
    urls(flags, "advertise-client-urls", CLIENT_URL_DEFAULT)
}

/// Who the members are, by name, address and the numbers that etcd derives from them.
fn initial_cluster(
    flags: &Flags,
    name: &str,
    advertised: &str,
) -> Result<(NodeId, ClusterId, BTreeMap<NodeId, ClusterMember>), ConfigError> {
    let advertised_urls = Url::parse_list(advertised)
        .map_err(|error| ConfigError::Url { flag: "initial-advertise-peer-urls", error })?;
    let alone = format!("{name}={advertised}");
    let by_name = members_by_name(flags.text("initial-cluster").unwrap_or(&alone))?;
    let token = flags.text("initial-cluster-token").unwrap_or(TOKEN_DEFAULT);
    let own = by_name.get(name).ok_or_else(|| ConfigError::OwnNameMissing(name.to_owned()))?;
    if advertised_urls != [own.clone()] {
        return Err(ConfigError::OwnUrlDiffers {
            name: name.to_owned(),
            cluster: own.clone(),
            advertised: advertised.to_owned(),
        });
    }
    let id = |url: &Url| member_id(&[url.to_string()], token, None);
    let member = id(own);
    let members: BTreeMap<NodeId, ClusterMember> = by_name
        .into_iter()
        .map(|(name, peer_url)| (id(&peer_url), ClusterMember { name, peer_url }))
        .collect();
    let ids: Vec<NodeId> = members.keys().copied().collect();
    Ok((member, cluster_id(&ids), members))
}

fn members_by_name(text: &str) -> Result<BTreeMap<String, Url>, ConfigError> {
    let mut by_name: BTreeMap<String, Url> = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let form = || ConfigError::MemberForm(part.to_owned());
        let (name, url) = part.split_once('=').ok_or_else(form)?;
        if name.is_empty() {
            return Err(form());
        }
        let url =
            Url::parse(url).map_err(|error| ConfigError::Url { flag: "initial-cluster", error })?;
        if let Some((first, _)) = by_name.iter().find(|(_, other)| **other == url)
            && first != name
        {
            let (first, second) = (first.clone(), name.to_owned());
            return Err(ConfigError::DuplicateUrl { url, first, second });
        }
        if by_name.insert(name.to_owned(), url).is_some() {
            return Err(ConfigError::DuplicateName(name.to_owned()));
        }
    }
    Ok(by_name)
}

fn timers(flags: &Flags) -> Result<(u64, u64), ConfigError> {
    let heartbeat_ms = positive(flags, "heartbeat-interval", HEARTBEAT_MS_DEFAULT)?;
    let election_ms = positive(flags, "election-timeout", ELECTION_MS_DEFAULT)?;
    if heartbeat_ms.saturating_mul(ELECTION_HEARTBEATS_MIN) > election_ms {
        return Err(ConfigError::ElectionTooShort { election_ms, heartbeat_ms });
    }
    at_most("election-timeout", election_ms, ELECTION_MS_MAX)?;
    Ok((heartbeat_ms, election_ms))
}

fn log_format(flags: &Flags) -> Result<LogFormat, ConfigError> {
    let formats = [("json", LogFormat::Json), ("console", LogFormat::Console)];
    choose(flags, "log-format", "json, console", &formats)
}

/// Leases rest on voters that keep their word, and pre-votes are part of it.
fn elections(flags: &Flags) -> Result<(bool, LeaseMode), ConfigError> {
    let pre_vote = flags.switch("pre-vote").unwrap_or(true);
    let modes =
        [("off", LeaseMode::Off), ("promise", LeaseMode::Promise), ("serve", LeaseMode::Serve)];
    let lease_reads = choose(flags, "lease-reads", "off, promise, serve", &modes)?;
    if lease_reads != LeaseMode::Off && !pre_vote {
        return Err(ConfigError::LeaseWithoutPreVote);
    }
    Ok((pre_vote, lease_reads))
}

fn positive(flags: &Flags, flag: &'static str, default: u64) -> Result<u64, ConfigError> {
    let Some(value) = flags.number(flag) else {
        return Ok(default);
    };
    match u64::try_from(value) {
        Ok(value) if value > 0 => Ok(value),
        _ => Err(ConfigError::NotPositive { flag, value }),
    }
}

/// As in etcd, 0 is the default, and what is too short is the shortest there is.
fn watch_progress_interval(flags: &Flags) -> Result<u64, ConfigError> {
    const FLAG: &str = "watch-progress-notify-interval";
    let Some(given) = flags.text(FLAG) else { return Ok(WATCH_PROGRESS_MS_DEFAULT) };
    match parse_duration_ms(given) {
        Some(0) => Ok(WATCH_PROGRESS_MS_DEFAULT),
        Some(interval_ms) => Ok(interval_ms.max(WATCH_PROGRESS_MS_MIN)),
        None => Err(ConfigError::Duration { flag: FLAG, value: given.to_owned() }),
    }
}

fn at_most(flag: &'static str, value: u64, limit: u64) -> Result<(), ConfigError> {
    if value > limit {
        return Err(ConfigError::TooLarge { flag, value, limit });
    }
    Ok(())
}

fn size(flags: &Flags, flag: &'static str, default: u64, limit: u64) -> Result<usize, ConfigError> {
    let value = positive(flags, flag, default)?;
    at_most(flag, value, limit)?;
    usize::try_from(value).map_err(|_| ConfigError::TooLarge { flag, value, limit })
}

/// One of several words; the first of them where the flag was not given.
fn choose<T: Copy>(
    flags: &Flags,
    flag: &'static str,
    expected: &'static str,
    choices: &[(&str, T)],
) -> Result<T, ConfigError> {
    let given = flags.text(flag).unwrap_or(choices[0].0);
    let chosen = choices.iter().find(|(word, _)| *word == given);
    let unknown = || ConfigError::Choice { flag, value: given.to_owned(), expected };
    chosen.map(|&(_, choice)| choice).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str = "--initial-cluster=a=http://h1:2380,b=http://h2:2380,c=http://h3:2380";

    fn configure(arguments: &[&str]) -> Result<ServerConfig, ConfigError> {
        let arguments = arguments.iter().map(|&argument| argument.to_owned());
        ServerConfig::from_flags(&Flags::parse(arguments, [])?)
    }

    #[test]
    fn without_flags_it_is_etcds_single_member() {
        let config = configure(&[]).expect("defaults");
        assert_eq!(config.name, "default");
        assert_eq!(config.data_directory, PathBuf::from("default.etcd"));
        assert_eq!(configure(&["--data-dir="]).expect("as without"), config);
        assert_eq!(config.members.len(), 1);
        // What etcd prints for its defaults.
        assert_eq!(format!("{:x}", config.member.0), "8e9e05c52164694d");
        assert_eq!(format!("{:x}", config.cluster.0), "cdf818194e3a8c32");
        assert_eq!(config.election_timeout_ms, 1000);
        assert_eq!(config.request_bytes_max, 1_572_864);
    }

    #[test]
    fn three_members_agree_on_who_they_are() {
        let own = |name: &str, host: &str| {
            let advertise = format!("--initial-advertise-peer-urls=http://{host}:2380");
            configure(&[&format!("--name={name}"), &advertise, THREE]).expect("good flags")
        };
        let (a, b) = (own("a", "h1"), own("b", "h2"));
        assert_eq!((a.cluster, &a.members), (b.cluster, &b.members));
        assert_ne!(a.member, b.member);
        assert_eq!(a.peers().count(), 2);
        assert_eq!(b.members[&b.member].name, "b");
    }

    #[test]
    fn a_member_needs_a_name() {
        let error = configure(&["--name="]).expect_err("it is empty");
        assert_eq!(
            error.to_string(),
            "--name is empty: give the member the name that it has in --initial-cluster"
        );
    }

    #[test]
    fn leases_need_pre_votes() {
        let mode = |flags: &[&str]| configure(flags).map(|config| config.lease_reads);
        assert_eq!(mode(&[]), Ok(LeaseMode::Off));
        assert_eq!(mode(&["--lease-reads=promise"]), Ok(LeaseMode::Promise));
        let error = mode(&["--lease-reads=serve", "--pre-vote=false"]).expect_err("no pre-votes");
        let text = "--lease-reads needs pre-votes: leave out --pre-vote=false";
        assert_eq!(error.to_string(), text);
        let error = mode(&["--lease-reads=yes"]).expect_err("no such mode");
        let text = "--lease-reads: \"yes\" is none of off, promise, serve";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn the_progress_interval_has_etcds_default_and_lower_bound() {
        for (text, ms) in [("0", 600_000), ("50ms", 100), ("1m30s", 90_000)] {
            let flag = format!("--watch-progress-notify-interval={text}");
            let config = configure(&[&flag]).expect("it is a duration");
            assert_eq!(config.watch_progress_interval_ms, ms);
        }
        let error = configure(&["--watch-progress-notify-interval=10"]).expect_err("no unit");
        assert_eq!(
            error.to_string(),
            "--watch-progress-notify-interval: \"10\" is not a duration: write one such as 10m, \
             5s or 100ms"
        );
    }

    #[test]
    fn each_mistake_is_named_with_its_remedy() {
        let cases: [(&[&str], &str); 16] = [
            (
                &["--initial-cluster=default=http://localhost:2380,default=http://h:1"],
                "--initial-cluster names \"default\" twice: give each member a name and one URL \
                 of its own",
            ),
            (
                &["--initial-cluster=default=http://localhost:2380,b=http://localhost:2380"],
                "--initial-cluster gives http://localhost:2380 to both \"default\" and \"b\": \
                 each member needs its own",
            ),
            (
                &["--name=d", THREE],
                "couldn't find local name \"d\" in the initial cluster configuration: add it to \
                 --initial-cluster or correct --name",
            ),
            (
                &["--name=a", THREE],
                "--initial-cluster has a=http://h1:2380, but --initial-advertise-peer-urls is \
                 http://localhost:2380: make them equal",
            ),
            (
                &["--initial-cluster=http://h1:2380"],
                "--initial-cluster: \"http://h1:2380\" does not have the form name=url",
            ),
            (
                &["--initial-cluster=a=h1:2380"],
                "--initial-cluster: URL scheme must be http, https, unix, or unixs: h1:2380",
            ),
            (
                &["--listen-peer-urls=http://0.0.0.0:2379"],
                "--listen-client-urls and --listen-peer-urls both listen on \
                 http://localhost:2379: choose another port for one",
            ),
            (
                &["--listen-peer-urls=http://example.com:2380"],
                "--listen-peer-urls: expected IP in URL for binding (http://example.com:2380)",
            ),
            (
                &["--listen-client-urls=http://127.0.0.1:1"],
                "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            ),
            (
                &["--election-timeout=499"],
                "--election-timeout[499ms] should be at least as 5 times as \
                 --heartbeat-interval[100ms]",
            ),
            (
                &["--election-timeout=50001"],
                "--election-timeout[50001] is too large: at most 50000",
            ),
            (&["--heartbeat-interval=0"], "--heartbeat-interval[0] must be positive"),
            (&["--max-txn-ops=-1"], "--max-txn-ops[-1] must be positive"),
            (
                &["--max-request-bytes=10485761"],
                "--max-request-bytes[10485761] is too large: at most 10485760",
            ),
            (
                &["--initial-cluster-state=old"],
                "--initial-cluster-state: \"old\" is none of new, existing",
            ),
            (&["--log-format=xml"], "--log-format: \"xml\" is none of json, console"),
        ];
        for (arguments, message) in cases {
            let error = configure(arguments).expect_err(message);
            assert_eq!(error.to_string(), message);
            assert!(!error.is_usage());
        }
        assert!(configure(&["--nmae=x"]).expect_err("unknown").is_usage());
    }
}
