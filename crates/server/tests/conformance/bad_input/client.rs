//! The client's commands against members that are not there, or are something else, and input that
//! makes no sense: what is said, and with which exit status.

use std::process::Command;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::{QUICK, USAGE, refused, says};
use crate::cluster::Cluster;
use crate::process::{free_port, quorate, run, run_with_input, until};

/// As `quorate get --help` says.
const NO: i32 = 1;
const NO_ANSWER: i32 = 3;
const UNKNOWN: i32 = 4;

fn client(endpoints: &str, arguments: &[&str]) -> Command {
    let mut command = quorate();
    command.args(arguments).args(["--endpoints", endpoints]);
    command
}

/// Something that says these words to whoever connects.
async fn impostor(words: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(words).await;
        }
    });
    address
}

#[tokio::test]
async fn where_no_member_is_every_command_says_so() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let http = impostor(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    let tls = impostor(b"\x15\x03\x01\x00\x02\x02\x46").await;
    let commands: [&[&str]; 4] = [&["get", "k"], &["put", "k", "v"], &["del", "k"], &["txn"]];
    for (address, remedy) in [(&nobody, "--endpoints"), (&http, "https://"), (&tls, "https://")] {
        for command in commands {
            let words = ["no member answers", address, remedy];
            refused(client(address, command), NO_ANSWER, &words).await;
        }
    }
    let all = run(client(&format!("{nobody},{http}"), &["get", "k"])).await;
    assert_eq!(all.status, Some(NO_ANSWER));
    says(&all.stderr, &[&nobody, &http]);
}

/// One member of three: it answers, and can do nothing without another.
#[tokio::test]
async fn a_majority_that_is_down_is_told_from_a_fate_that_is_unknown() {
    let mut cluster = Cluster::prepare(3, QUICK);
    cluster.start_member(0);
    let address = cluster.client_address(0);
    until("the member to listen", async || TcpStream::connect(&address).await.is_ok()).await;
    let get = client(&cluster.endpoints(), &["get", "k", "--timeout=1"]);
    let words = ["no member could serve it", &address, "a majority may be down"];
    refused(get, NO_ANSWER, &words).await;
    let put = client(&cluster.endpoints(), &["put", "k", "v", "--timeout=1"]);
    refused(put, UNKNOWN, &["whether it was done is not known", &address]).await;
}

#[tokio::test]
async fn an_answer_that_is_no_has_a_status_of_its_own() {
    let cluster = Cluster::start_with(1, QUICK).await;
    let address = cluster.client_address(0);
    refused(client(&address, &["get", "nokey"]), NO, &["key \"nokey\" not found"]).await;
    let future = client(&address, &["get", "k", "--rev", "99"]);
    refused(future, NO, &["etcdserver: mvcc: required revision is a future revision"]).await;

    let nobody = format!("127.0.0.1:{}", free_port());
    let some = run(client(&format!("{address},{nobody}"), &["status"])).await;
    assert_eq!(some.status, Some(NO), "{}", some.stderr);
    says(&some.stderr, &["1 of 2 endpoints gave no answer"]);

    // One that is down is passed over.
    let both = format!("{nobody},{address}");
    let put = run(client(&both, &["put", "k", "v"])).await;
    assert_eq!((put.status, put.stderr.as_str()), (Some(0), ""));
    let got = run(client(&both, &["get", "k"])).await;
    assert_eq!((got.status, got.stdout.as_str()), (Some(0), "v\n"));

    // The flags of every command go before its name or after it.
    for arguments in [["--output", "json", "get", "k"], ["get", "k", "-o", "json"]] {
        let got = run(client(&address, &arguments)).await;
        assert_eq!((got.status, got.stderr.as_str()), (Some(0), ""));
        let json: serde_json::Value = serde_json::from_str(&got.stdout).expect("JSON");
        assert!(json.is_object());
    }
    let mut before = quorate();
    before.args(["--endpoints", &address, "--output", "json", "status"]);
    let status = run(before).await;
    assert_eq!(status.status, Some(0), "{}", status.stderr);
    says(&status.stdout, &["\"members\"", &address]);
}

#[tokio::test]
async fn a_transaction_that_makes_no_sense_is_told_by_its_line() {
    // Nobody is asked: the language is checked first.
    let nobody = format!("127.0.0.1:{}", free_port());
    let cases = [
        ("size(\"k\") > \"0\"\n", "\"size\" cannot be compared"),
        ("mod(\"k\") ~ \"0\"\n", "is no comparison"),
        ("mod(\"k\") > \"many\"\n", "\"many\" is no number"),
        ("nonsense\n", "\"nonsense\" is no comparison"),
        ("\nput k\n", "it has no value"),
        ("\nmove a b\n", "\"move a b\" is no operation"),
        ("\nput \"k v\n", "does not end"),
        ("\nget k --size\n", "--size"),
    ];
    for (text, words) in cases {
        let ended = run_with_input(client(&nobody, &["txn"]), text.as_bytes()).await;
        assert_eq!(ended.status, Some(USAGE), "{text:?}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        says(&ended.stderr, &[words]);
    }
}
