//! What the command line and the environment can get wrong. Nothing is started and nothing made.

use std::process::Command;

use super::{REFUSED, USAGE, contents, refused, says};
use crate::process::{quorate, run};

/// A name and a value.
type Variable = (&'static str, &'static str);

/// `quorate server` in an empty directory, so that everything it made would be seen.
fn server(directory: &tempfile::TempDir, flags: &[&str]) -> Command {
    let mut command = quorate();
    command.arg("server").args(flags).current_dir(directory.path());
    command
}

#[tokio::test]
async fn a_member_names_the_bad_flag_and_makes_nothing() {
    let cluster = "--initial-cluster=a=http://127.0.0.1:1,b=http://127.0.0.1:2";
    let cases: &[(i32, &[&str], &[&str])] = &[
        (USAGE, &["--nmae=a"], &["-nmae", "--help"]),
        (USAGE, &["start"], &["\"start\"", "--help"]),
        (USAGE, &["--name"], &["-name", "needs an argument"]),
        (USAGE, &["--heartbeat-interval=1s"], &["\"1s\"", "-heartbeat-interval", "a number"]),
        (USAGE, &["--election-timeout="], &["-election-timeout", "a number"]),
        (USAGE, &["--pre-vote=perhaps"], &["-pre-vote", "true or false"]),
        (REFUSED, &["--election-timeout=499"], &["--election-timeout[499ms]", "100ms"]),
        (REFUSED, &["--heartbeat-interval=0"], &["--heartbeat-interval[0]", "positive"]),
        (REFUSED, &["--heartbeat-interval=-1"], &["--heartbeat-interval[-1]", "positive"]),
        (REFUSED, &["--heartbeat-interval=9223372036854775807"], &["--heartbeat-interval"]),
        (REFUSED, &["--election-timeout=60000"], &["--election-timeout[60000]", "50000"]),
        (REFUSED, &["--max-request-bytes=99999999"], &["--max-request-bytes", "at most"]),
        (REFUSED, &["--name="], &["--name is empty"]),
        (REFUSED, &["--name=c", cluster], &["\"c\"", "--initial-cluster"]),
        (REFUSED, &["--name=a", cluster], &["a=http://127.0.0.1:1", "make them equal"]),
        (REFUSED, &["--initial-cluster=default"], &["\"default\"", "name=url"]),
        (
            REFUSED,
            &["--initial-cluster=default=http://localhost:2380,default=http://localhost:1"],
            &["\"default\" twice"],
        ),
        (
            REFUSED,
            &["--initial-cluster=default=http://localhost:2380,b=http://localhost:2380"],
            &["both \"default\" and \"b\""],
        ),
        (REFUSED, &["--listen-peer-urls=http://127.0.0.1:2379"], &["both listen on", "2379"]),
        (REFUSED, &["--listen-peer-urls=http://0.0.0.0:2379"], &["both listen on", "2379"]),
        (REFUSED, &["--listen-peer-urls=nonsense"], &["--listen-peer-urls", "nonsense"]),
        (REFUSED, &["--listen-peer-urls=http://127.0.0.1:70000"], &["host:port", "70000"]),
        (REFUSED, &["--listen-peer-urls=http://127.0.0.1:0"], &["port 0"]),
        (REFUSED, &["--listen-peer-urls=http://example.com:1"], &["expected IP", "example.com"]),
        (REFUSED, &["--listen-client-urls=http://127.0.0.1:1"], &["--advertise-client-urls"]),
        (REFUSED, &["--initial-cluster-state=old"], &["\"old\"", "new, existing"]),
        (REFUSED, &["--grpc-keepalive-interval=soon"], &["\"soon\" is not a duration"]),
        (REFUSED, &["--grpc-keepalive-min-time=5"], &["\"5\" is not a duration"]),
        (REFUSED, &["--max-concurrent-streams=0"], &["--max-concurrent-streams[0]", "positive"]),
        (REFUSED, &["--log-level=loud"], &["--log-level", "\"loud\""]),
        (REFUSED, &["--log-outputs=no/such/file"], &["--log-outputs: cannot append to no/such"]),
        // Left out silently, these would leave a member open that was to be closed.
        (
            REFUSED,
            &["--listen-client-urls=https://127.0.0.1:2379", "--advertise-client-urls=https://a:1"],
            &["add --cert-file and --key-file, or --auto-tls"],
        ),
        (
            REFUSED,
            &["--listen-peer-urls=https://127.0.0.1:2380"],
            &["add --peer-cert-file and --peer-key-file, or --peer-auto-tls"],
        ),
        (REFUSED, &["--listen-client-urls=unix://a:1"], &["unix sockets are not supported"]),
        (REFUSED, &["--cert-file=c.pem"], &["--cert-file is given without --key-file"]),
        (REFUSED, &["--peer-key-file=k.pem"], &["--peer-key-file is given without"]),
        (REFUSED, &["--wal-dir=w"], &["--wal-dir is not supported"]),
        (REFUSED, &["--config-file=etcd.yml"], &["--config-file: cannot read etcd.yml"]),
    ];
    let directory = tempfile::tempdir().expect("a directory");
    for &(status, flags, words) in cases {
        refused(server(&directory, flags), status, words).await;
    }
    assert!(contents(directory.path()).is_empty());
}

#[tokio::test]
async fn a_variable_never_contradicts_a_flag_and_is_checked_as_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let cases: &[(i32, &[&str], Variable, &[&str])] = &[
        (REFUSED, &["--name=a"], ("ETCD_NAME", "b"), &["ETCD_NAME", "--name"]),
        (REFUSED, &[], ("ETCD_CERT_FILE", "c.pem"), &["--cert-file is given without --key-file"]),
        (REFUSED, &[], ("ETCD_ELECTION_TIMEOUT", "100"), &["--election-timeout[100ms]"]),
        (USAGE, &[], ("ETCD_ELECTION_TIMEOUT", "soon"), &["-election-timeout", "\"soon\""]),
    ];
    for &(status, flags, (variable, value), words) in cases {
        let mut command = server(&directory, flags);
        command.env(variable, value);
        refused(command, status, words).await;
    }
    assert!(contents(directory.path()).is_empty());
}

#[tokio::test]
async fn the_arguments_of_the_other_commands_are_usage_errors() {
    let cases: &[(&[&str], &str)] = &[
        (&["raft-node"], "required arguments"),
        (&["raft-node", "1", "1,2", "0", "100"], "required arguments"),
        (&["raft-node", "x", "1,2", "0", "100", "1000"], "'x' for '<MY_PORT>'"),
        (&["raft-node", "70000", "1,2", "0", "100", "1000"], "'70000' for '<MY_PORT>'"),
        (&["raft-node", "1", "1,z", "0", "100", "1000"], "\"z\" is no port"),
        (&["raft-node", "1", "1,1", "0", "100", "1000"], "port 1 is listed twice"),
        (&["raft-node", "1", "1,2", "2", "100", "1000"], "node id 2 is outside the list"),
        (&["raft-node", "1", "1,2", "-1", "100", "1000"], "'-1' for '<NODE_ID>'"),
        (&["raft-node", "1", "1,2", "0", "0", "1000"], "'0' for '<HEARTBEAT_MS>'"),
        (&["raft-node", "1", "1,2", "0", "-5", "1000"], "'-5' for '<HEARTBEAT_MS>'"),
        (&["raft-node", "1", "1,2", "0", "100", "1e3"], "'1e3' for '<ELECTION_TIMEOUT_MS>'"),
        (&["raft-node", "1", "1,2", "0", "100", "1000", "x"], "unexpected argument 'x'"),
        (&["dev", "--members=0"], "a number from 1 to 9"),
        (&["dev", "--members=10"], "a number from 1 to 9"),
        (&["dev", "--members=many"], "a number from 1 to 9"),
        (&["dev", "--membres=3"], "'--membres'"),
        (&["--output=json", "dev"], "--output is for the client's commands"),
        (&["sever"], "'sever'"),
        (&["get"], "required arguments"),
        (&["get", "k", "--limit=few"], "'few' for '--limit"),
        (&["get", "k", "--timeout=0"], "'0' for '--timeout"),
        (&["get", "k", "--output=xml"], "'xml' for '--output"),
        (&["get", "k", "z", "--prefix"], "cannot be used with"),
        (&["put", "k", "v", "--ignore-value"], "cannot be used with"),
        (&["get", ""], "the key is empty"),
        (&["put", "", "v"], "the key is empty"),
        (&["get", "k", "--endpoints="], "--endpoints names no endpoint"),
        (&["get", "k", "--endpoints=here"], "\"here\" cannot be used: write host:port"),
        (&["get", "k", "--endpoints=unix://a:1"], "only http:// and https:// are supported"),
        (&["get", "k", "--endpoints=https://a:1", "--cacert=none"], "--cacert: cannot read none"),
        (&["get", "k", "--cert=c.pem"], "--cert needs --key"),
    ];
    for &(arguments, words) in cases {
        let mut command = quorate();
        command.args(arguments);
        let ended = run(command).await;
        assert_eq!(ended.status, Some(USAGE), "{arguments:?}: {}", ended.stderr);
        says(ended.stderr.lines().next().unwrap_or_default(), &[words]);
    }
}

#[tokio::test]
async fn help_begins_with_what_the_program_is_for() {
    let mut command = quorate();
    command.arg("--help");
    let ended = run(command).await;
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    says(ended.stdout.lines().next().unwrap_or_default(), &["replicated key-value store"]);
}
