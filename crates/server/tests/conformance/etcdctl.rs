//! The real etcdctl, v3.7.1, against a cluster of three: what it prints here it prints there.
//! `cargo xtask etcdctl` runs these, and says so loudly where there is no Go to build it with.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::cluster::Cluster;
use crate::etcd_programs;
use crate::process::until;

struct Etcdctl {
    program: PathBuf,
    endpoints: String,
}

/// What a command printed, and how it ended.
struct Printed {
    stdout: String,
    stderr: String,
    code: i32,
}

impl Etcdctl {
    fn run_with_input(&self, arguments: &[&str], input: &str) -> Printed {
        let mut child = Command::new(&self.program)
            .env("ETCDCTL_ENDPOINTS", &self.endpoints)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcdctl was built");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(input.as_bytes()).expect("etcdctl reads its input");
        drop(stdin);
        let output = child.wait_with_output().expect("etcdctl ends");
        Printed {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// Runs a command line that must succeed, and returns what it printed.
    #[track_caller]
    fn ok(&self, line: &str) -> String {
        let printed = self.run_with_input(&line.split(' ').collect::<Vec<_>>(), "");
        assert_eq!(printed.code, 0, "etcdctl {line}: {}", printed.stderr);
        printed.stdout
    }

    /// Runs a command line that must fail, and returns what it said.
    #[track_caller]
    fn fails(&self, line: &str) -> String {
        let printed = self.run_with_input(&line.split(' ').collect::<Vec<_>>(), "");
        assert_ne!(printed.code, 0, "etcdctl {line}: {}", printed.stdout);
        printed.stderr
    }
}

async fn start() -> (Cluster, Etcdctl) {
    let cluster = Cluster::start(3).await;
    let program = etcd_programs::etcdctl();
    let endpoints = cluster.endpoints();
    (cluster, Etcdctl { program, endpoints })
}

#[tokio::test]
#[ignore = "needs Go: cargo xtask etcdctl"]
async fn keys() {
    let (_cluster, etcdctl) = start().await;
    assert_eq!(etcdctl.ok("put a/1 one"), "OK\n");
    assert_eq!(etcdctl.ok("put a/2 two"), "OK\n");
    assert_eq!(etcdctl.ok("put --prev-kv a/2 zwei"), "OK\na/2\ntwo\n");
    assert_eq!(etcdctl.ok("get a/1"), "a/1\none\n");
    assert_eq!(etcdctl.ok("get a/1 --print-value-only"), "one\n");
    assert_eq!(etcdctl.ok("get missing"), "");
    assert_eq!(etcdctl.ok("get --prefix a/ --keys-only"), "a/1\n\na/2\n\n");
    assert_eq!(etcdctl.ok("get --prefix a/ --limit 1"), "a/1\none\n");
    assert_eq!(
        etcdctl.ok("get --prefix a/ --order DESCEND --sort-by MODIFY --print-value-only"),
        "zwei\none\n"
    );
    assert_eq!(etcdctl.ok("get --consistency s a/1 --print-value-only"), "one\n");
    assert_eq!(etcdctl.ok("get a/2 --rev 3 --print-value-only"), "two\n");
    let count = etcdctl.ok("get --prefix a/ --count-only -w fields");
    assert!(count.contains("\"Count\" : 2"), "{count}");
    assert_eq!(etcdctl.ok("del a/1"), "1\n");
    assert_eq!(etcdctl.ok("del --prefix a/ --prev-kv"), "1\na/2\nzwei\n");
    assert_eq!(etcdctl.ok("del a/1"), "0\n");
}

#[tokio::test]
#[ignore = "needs Go: cargo xtask etcdctl"]
async fn transactions() {
    let (_cluster, etcdctl) = start().await;
    etcdctl.ok("put key1 v1");
    let transaction = "mod(\"key1\") > \"0\"\nvalue(\"key1\") = \"v1\"\n\n\
                       put key1 overwritten\nget key1\n\nput key2 created\n\n";
    let printed = etcdctl.run_with_input(&["txn"], transaction);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    assert!(printed.stdout.ends_with("SUCCESS\n\nOK\n\nkey1\noverwritten\n"), "{}", printed.stdout);
    let printed = etcdctl.run_with_input(&["txn"], transaction);
    assert!(printed.stdout.ends_with("FAILURE\n\nOK\n"), "{}", printed.stdout);
    assert_eq!(etcdctl.ok("get key2 --print-value-only"), "created\n");
    let twice = "\n\nput a 1\nput a 2\n\n\n";
    let printed = etcdctl.run_with_input(&["txn"], &twice[1..]);
    assert!(
        printed.stderr.contains("etcdserver: duplicate key given in txn request"),
        "{}",
        printed.stderr
    );
}

#[tokio::test]
#[ignore = "needs Go: cargo xtask etcdctl"]
async fn compaction() {
    let (_cluster, etcdctl) = start().await;
    for value in 1..=5 {
        etcdctl.ok(&format!("put k {value}"));
    }
    assert_eq!(etcdctl.ok("compaction 4"), "compacted revision 4\n");
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    assert!(etcdctl.fails("compaction 4").contains(compacted));
    assert!(etcdctl.fails("get k --rev 3").contains(compacted));
    assert_eq!(etcdctl.ok("get k --rev 4 --print-value-only"), "3\n");
    let future = "etcdserver: mvcc: required revision is a future revision";
    assert!(etcdctl.fails("compaction 99").contains(future));
    assert!(etcdctl.fails("get k --rev 99").contains(future));
}

#[tokio::test]
#[ignore = "needs Go: cargo xtask etcdctl"]
async fn members_and_status() {
    let (cluster, etcdctl) = start().await;
    // Each tells the others once it has a leader, and may serve a moment before.
    until("all to have told where they are", async || {
        let members = etcdctl.ok("member list");
        cluster.endpoints().split(',').all(|endpoint| members.contains(endpoint))
    })
    .await;
    let members = etcdctl.ok("member list");
    assert_eq!(members.lines().count(), 3, "{members}");
    for line in members.lines() {
        let fields: Vec<&str> = line.split(", ").collect();
        assert!(u64::from_str_radix(fields[0], 16).is_ok(), "{line}");
        assert_eq!(fields[1], "started", "{line}");
        assert_eq!(fields[5], "false", "{line}");
    }
    let status = etcdctl.ok("endpoint status");
    assert_eq!(status.lines().count(), 3, "{status}");
    assert!(status.lines().all(|line| line.contains(", 3.7.1, ")), "{status}");
    let leaders = status.lines().filter(|line| line.split(", ").any(|f| f == "true")).count();
    assert_eq!(leaders, 1, "{status}");
}

#[tokio::test]
#[ignore = "needs Go: cargo xtask etcdctl"]
async fn leases() {
    let (_cluster, etcdctl) = start().await;
    let granted = etcdctl.ok("lease grant 600");
    let id = granted.split(' ').nth(1).expect("its number").to_owned();
    assert_eq!(granted, format!("lease {id} granted with TTL(600s)\n"));
    assert_eq!(etcdctl.ok(&format!("put a one --lease={id}")), "OK\n");
    assert_eq!(etcdctl.ok(&format!("put b two --lease={id}")), "OK\n");
    assert_eq!(etcdctl.ok("put b three --ignore-lease"), "OK\n");
    let shown = etcdctl.ok(&format!("lease timetolive {id} --keys"));
    let (begin, end) = (format!("lease {id} granted with TTL(600s), remaining("), "keys([a b])\n");
    assert!(shown.starts_with(&begin) && shown.ends_with(end), "{shown}");
    let renewed = etcdctl.ok(&format!("lease keep-alive --once {id}"));
    assert_eq!(renewed, format!("lease {id} keepalived with TTL(600)\n"));
    assert_eq!(etcdctl.ok("lease list"), format!("found 1 leases\n{id}\n"));
    assert_eq!(etcdctl.ok(&format!("lease revoke {id}")), format!("lease {id} revoked\n"));
    assert_eq!(etcdctl.ok("get a"), "");
    let expired = etcdctl.ok(&format!("lease timetolive {id}"));
    assert_eq!(expired, format!("lease {id} already expired\n"));
    for gone in ["lease revoke 7b", "lease keep-alive --once 7b", "put a one --lease=7b"] {
        let said = etcdctl.fails(gone);
        assert!(said.contains("etcdserver: requested lease not found"), "{gone}: {said}");
    }
    let said = etcdctl.fails("lease grant 9000000001");
    assert!(said.contains("etcdserver: too large lease TTL"), "{said}");
}

impl Etcdctl {
    /// What a command prints that is stopped once it has printed so many lines.
    fn first_lines(&self, line: &str, count: usize) -> Vec<String> {
        let mut child = Command::new(&self.program)
            .env("ETCDCTL_ENDPOINTS", &self.endpoints)
            .args(line.split(' '))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("etcdctl was built");
        let stdout = child.stdout.take().expect("it is piped");
        let lines = std::io::BufReader::new(stdout).lines().take(count);
        let lines = lines.map(|line| line.expect("it is text")).collect();
        child.kill().expect("it is our child");
        child.wait().expect("it is our child");
        lines
    }
}

#[tokio::test]
#[ignore = "needs Go: cargo xtask etcdctl"]
async fn watches() {
    let (_cluster, etcdctl) = start().await;
    for value in ["1", "2"] {
        etcdctl.ok(&format!("put k {value}"));
    }
    etcdctl.ok("put ka x");
    etcdctl.ok("del k");
    assert_eq!(
        etcdctl.first_lines("watch --prefix k --rev 2 --prev-kv", 16),
        ["PUT", "k", "1", "PUT", "k", "1", "k", "2", "PUT", "ka", "x", "DELETE", "k", "2", "k", "",]
    );
    let json = etcdctl.first_lines("watch k --rev 5 -w json", 1);
    assert!(json[0].contains(r#""kv":{"key":"aw==","mod_revision":5}"#), "{json:?}");
    etcdctl.ok("compaction 4");
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    assert!(etcdctl.fails("watch k --rev 3").contains(compacted));
}
