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
        "--watch-progress-notify-interval: \"10\" is not a duration: write one such as 10m, 5s \
         or 100ms"
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
        (&["--election-timeout=50001"], "--election-timeout[50001] is too large: at most 50000"),
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
