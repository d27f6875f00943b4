//! The example `counter` as its readers run it: three processes on loopback, killed and started again.
//! Guards against an example that shows how it is not done, such as one that acknowledges what its
//! disk does not have.
#![expect(clippy::disallowed_methods, reason = "real processes take real time")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::spawn;
use std::time::{Duration, Instant};

/// Far longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// `cargo test` builds the examples beside the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let profile = test.ancestors().nth(2).expect("it is in a directory of the profile");
    let program = profile.join("examples/counter");
    assert!(program.exists(), "build it first: cargo build -p quorate-replica --example counter");
    program
}

struct Process {
    child: Child,
    lines: Receiver<String>,
    /// The place of the leader that it has named last.
    leader: Option<usize>,
}

impl Process {
    fn type_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        writeln!(stdin, "{line}").expect("it is read");
    }

    fn next_line(&mut self, deadline: Instant) -> String {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = self.lines.recv_timeout(left).expect("it says something in time");
        if let Some(leader) = line.strip_prefix("the leader is ") {
            let digits: String = leader.chars().filter(char::is_ascii_digit).collect();
            self.leader = digits.parse::<usize>().ok().map(|number| number - 1);
        }
        line
    }

    /// Waits until it follows somebody, or leads, but not under this one.
    fn wait_for_leader(&mut self, other_than: Option<usize>) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.leader.filter(|leader| Some(*leader) != other_than) {
                Some(leader) => return leader,
                None => _ = self.next_line(deadline),
            }
        }
    }

    fn count(&mut self) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        self.type_line("count");
        loop {
            let line = self.next_line(deadline);
            if let Some(count) = line.strip_prefix("the count is ") {
                return count.parse().expect("a number");
            }
            if line.starts_with("not counted") {
                self.type_line("count");
            }
        }
    }

    /// On Unix that is a kill -9.
    fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The members, by their places: one less than their numbers.
struct Group {
    directory: tempfile::TempDir,
    addresses: Vec<String>,
    processes: Vec<Process>,
    /// Increments that were acknowledged.
    certain: u64,
    /// Those of which nobody knows, as where a busy machine makes a leader lose touch.
    unknown: u64,
}

impl Group {
    fn start() -> Self {
        let taken: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = taken.iter().map(|it| it.local_addr().unwrap().to_string()).collect();
        drop(taken);
        let directory = tempfile::tempdir().unwrap();
        let mut group =
            Self { directory, addresses, processes: Vec::new(), certain: 0, unknown: 0 };
        group.processes = (0..3).map(|place| group.spawn(place)).collect();
        group
    }

    fn spawn(&self, place: usize) -> Process {
        let mut command = Command::new(program());
        command.arg((place + 1).to_string());
        command.arg(self.directory.path().join(place.to_string())).args(&self.addresses);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Process { child, lines, leader: None }
    }

    /// Starts a member that was killed.
    fn restart(&mut self, place: usize) {
        self.processes[place] = self.spawn(place);
    }

    /// Has this member increment until that is acknowledged.
    fn increment(&mut self, place: usize) {
        let deadline = Instant::now() + PATIENCE;
        let process = &mut self.processes[place];
        process.type_line("increment");
        loop {
            let line = process.next_line(deadline);
            if let Some(count) = line.strip_prefix("incremented to ") {
                self.certain += 1;
                return self.check(count.parse().expect("a number"));
            } else if line.contains("ended as") {
                self.unknown += u64::from(line.contains("Unknown"));
                process.type_line("increment");
            }
        }
    }

    fn check(&self, count: u64) {
        let range = self.certain..=self.certain + self.unknown;
        assert!(range.contains(&count), "{count} is none of {range:?}");
    }

    /// Every member counts what was acknowledged, each increment once.
    fn check_counts(&mut self) {
        for place in 0..3 {
            let count = self.processes[place].count();
            self.check(count);
        }
    }
}

/// An example that nobody reads to its end is none.
#[test]
fn it_is_short() {
    assert!(include_str!("../../examples/counter.rs").lines().count() < 200);
}

#[test]
fn three_processes_count_together_through_kills() {
    let mut group = Group::start();
    (0..6).for_each(|step| group.increment(step % 3));
    group.check_counts();

    // A follower misses some, and catches up.
    let leader = group.processes[0].wait_for_leader(None);
    let follower = (leader + 1) % 3;
    group.processes[follower].kill();
    (0..4).for_each(|step| group.increment((follower + 1 + step % 2) % 3));
    group.restart(follower);
    group.check_counts();

    // What is asked of a follower that still takes the dead for its leader may be lost.
    let leader = group.processes[0].wait_for_leader(None);
    group.processes[leader].kill();
    let other = (leader + 1) % 3;
    group.processes[other].wait_for_leader(Some(leader));
    group.increment(other);
    group.restart(leader);
    group.increment(leader);
    group.check_counts();

    group.processes.iter_mut().for_each(Process::kill);
    (0..3).for_each(|place| group.restart(place));
    group.check_counts();
    group.increment(0);
    group.check_counts();
}
