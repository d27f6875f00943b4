//! The same command lines of the real etcdctl, against etcd and against quorate: what it prints
//! must be the same to the byte, but for ids and terms, and so must be how it ends.

use std::process::Command;

use super::generate::Rng;
use super::pair::Etcd;
use crate::cluster::Cluster;
use crate::etcd_programs;
use crate::number;
use crate::process::{Ended, run_with_input};

/// A command line, and what is typed into it.
#[derive(Debug)]
struct Line {
    arguments: Vec<String>,
    input: String,
}

const KEYS: [&str; 12] =
    ["a", "b", "ab", "c", "k/1", "k/2", "k/10", "with space", "\"quoted\"", "\u{fc}", "k", "A"];
const VALUES: [&str; 8] = ["", "1", "2", "two words", "li\nnes", "{\"json\": 1}", "\u{1f600}", "0"];

struct Lines {
    rng: Rng,
    /// About how far the store has come, for revisions to be near.
    puts: usize,
}

impl Lines {
    fn draw(&mut self) -> Line {
        let mut input = String::new();
        let mut arguments = match self.rng.below(20) {
            0..=6 => self.put(),
            7..=13 => self.get(),
            14..=15 => self.del(),
            16..=18 => {
                input = self.txn();
                vec!["txn".to_owned()]
            }
            _ => self.compaction(),
        };
        let out = self.rng.pick(&["simple", "simple", "json", "fields"]);
        arguments.push(format!("--write-out={out}"));
        if self.rng.chance(100) {
            arguments.push("--hex".to_owned());
        }
        Line { arguments, input }
    }

    fn key(&mut self) -> String {
        self.rng.pick(&KEYS).to_owned()
    }

    fn flags(&mut self, arguments: &mut Vec<String>, of: &[&str], per_mille: usize) {
        for flag in of {
            if self.rng.chance(per_mille) {
                arguments.push((*flag).to_owned());
            }
        }
    }

    fn put(&mut self) -> Vec<String> {
        self.puts += 1;
        let mut arguments = vec!["put".to_owned(), self.key()];
        if self.rng.chance(100) {
            arguments.push("--ignore-value".to_owned());
        } else {
            arguments.push(self.rng.pick(&VALUES).to_owned());
        }
        self.flags(&mut arguments, &["--prev-kv"], 300);
        self.flags(&mut arguments, &["--ignore-lease"], 60);
        self.flags(&mut arguments, &["--lease=7b"], 30);
        arguments
    }

    fn get(&mut self) -> Vec<String> {
        let mut arguments = vec!["get".to_owned(), self.key()];
        match self.rng.below(8) {
            0..=2 => arguments.push("--prefix".to_owned()),
            3 => arguments.push("--from-key".to_owned()),
            4 => arguments.push(self.key()),
            _ => {}
        }
        let only = ["--keys-only", "--count-only", "--print-value-only"];
        self.flags(&mut arguments, &only, 80);
        if self.rng.chance(200) {
            arguments.push(format!("--limit={}", self.rng.below(4)));
        }
        if self.rng.chance(250) {
            let by = self.rng.pick(&["CREATE", "KEY", "MODIFY", "VALUE", "VERSION", "NONSENSE"]);
            arguments.push(format!("--sort-by={by}"));
            let order = self.rng.pick(&["ASCEND", "DESCEND"]);
            arguments.push(format!("--order={order}"));
        }
        for flag in ["rev", "min-mod-rev", "max-mod-rev", "min-create-rev", "max-create-rev"] {
            if self.rng.chance(60) {
                arguments.push(format!("--{flag}={}", self.rng.below(self.puts + 4)));
            }
        }
        arguments
    }

    fn del(&mut self) -> Vec<String> {
        let mut arguments = vec!["del".to_owned(), self.key()];
        match self.rng.below(8) {
            0 => arguments.push("--prefix".to_owned()),
            1 => arguments.push("--from-key".to_owned()),
            2 => arguments.push(self.key()),
            _ => {}
        }
        self.flags(&mut arguments, &["--prev-kv"], 400);
        arguments
    }

    fn compaction(&mut self) -> Vec<String> {
        let revision = self.rng.below(self.puts + 4);
        let mut arguments = vec!["compaction".to_owned(), revision.to_string()];
        self.flags(&mut arguments, &["--physical"], 500);
        arguments
    }

    /// Comparisons, then what is done if they hold, then what is done otherwise; an empty line
    /// ends each.
    fn txn(&mut self) -> String {
        let compares: Vec<String> = (0..self.rng.below(3)).map(|_| self.compare()).collect();
        let success: Vec<String> = (0..self.rng.below(4)).map(|_| self.operation()).collect();
        let failure: Vec<String> = (0..self.rng.below(4)).map(|_| self.operation()).collect();
        let part = |lines: Vec<String>| lines.iter().map(|line| format!("{line}\n")).collect();
        let parts: [String; 3] = [part(compares), part(success), part(failure)];
        parts.map(|part| part + "\n").concat()
    }

    fn plain_key(&mut self) -> String {
        self.rng.pick(&["a", "b", "ab", "c", "k/1", "k/2"]).to_owned()
    }

    fn compare(&mut self) -> String {
        let key = self.plain_key();
        let sign = self.rng.pick(&["=", ">", "<", "!="]);
        let (target, operand) = match self.rng.below(5) {
            0 => ("value", self.rng.pick(&["1", "2", "0"]).to_owned()),
            1 => ("version", self.rng.below(3).to_string()),
            2 => ("create", self.rng.below(self.puts + 2).to_string()),
            3 => ("mod", self.rng.below(self.puts + 2).to_string()),
            _ => ("lease", "0".to_owned()),
        };
        format!("{target}(\"{key}\") {sign} \"{operand}\"")
    }

    fn operation(&mut self) -> String {
        let key = self.plain_key();
        match self.rng.below(6) {
            0..=2 => format!("put {key} {}", self.rng.below(3)),
            3 => format!("get {key}"),
            4 => "get --prefix k".to_owned(),
            _ => format!("del {key}"),
        }
    }
}

/// What of a run can be compared: how it ended, what it printed but for ids and terms, and its last
/// word if it failed. The log lines before that hold times and addresses.
fn comparable(ended: &Ended) -> (Option<i32>, String, Vec<&str>) {
    let mut printed = ended.stdout.clone();
    for name in ["cluster_id", "member_id", "raft_term", "ClusterID", "MemberID", "RaftTerm"] {
        printed = without_number(&printed, &format!("\"{name}\""));
    }
    let last_words = ended.stderr.lines().filter(|line| line.starts_with("Error:")).collect();
    (ended.status, printed, last_words)
}

/// The text without the number, decimal or hexadecimal, that follows each mention of the name.
fn without_number(text: &str, name: &str) -> String {
    let mut parts = text.split(name);
    let mut without = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.trim_start_matches([' ', ':']);
        without.push_str(name);
        without.push_str(&part[..part.len() - digits.len()]);
        without.push_str(digits.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    }
    without
}

#[tokio::test]
#[ignore = "needs Go: cargo xtask differential"]
async fn etcdctl_prints_the_same() {
    const MEMBERS: usize = 3;
    let count = number("QUORATE_COMMANDS", 200);
    let seed = u64::try_from(number("QUORATE_SEED", 1)).expect("a usize fits");
    let etcd = Etcd::start().await;
    let cluster = Cluster::start(MEMBERS).await;
    let run = |line: &Line, endpoint: &str| {
        let mut command = Command::new(etcd_programs::etcdctl());
        command.env("ETCDCTL_ENDPOINTS", endpoint).args(&line.arguments);
        let input = line.input.clone();
        async move { run_with_input(command, input.as_bytes()).await }
    };
    let mut lines = Lines { rng: Rng::new(seed), puts: 0 };
    let mut said_no = 0;
    for index in 0..count {
        let line = lines.draw();
        let member = format!("http://{}", cluster.client_address(index % MEMBERS));
        let (expected, found) = tokio::join!(run(&line, etcd.endpoint()), run(&line, &member));
        said_no += usize::from(expected.status != Some(0));
        assert_eq!(
            comparable(&expected),
            comparable(&found),
            "seed {seed}, command {index}: {line:?}\netcd: {}\nquorate: {}",
            expected.stderr,
            found.stderr
        );
    }
    println!("{count} command lines of etcdctl ({said_no} of them refused): no difference");
}

#[test]
fn numbers_are_left_out_by_name() {
    let json = "{\"header\":{\"cluster_id\":12,\"revision\":3,\"raft_term\":4}}";
    let json = without_number(&without_number(json, "\"cluster_id\""), "\"raft_term\"");
    assert_eq!(json, "{\"header\":{\"cluster_id\":,\"revision\":3,\"raft_term\":}}");
    let fields = "\"ClusterID\" : c0ffee\n\"Revision\" : 2\n";
    let expected = "\"ClusterID\" : \n\"Revision\" : 2\n";
    assert_eq!(without_number(fields, "\"ClusterID\""), expected);
}
