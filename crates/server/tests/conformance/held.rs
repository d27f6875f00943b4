//! `quorate lock` and `quorate elect`, each a process of its own, on members that end.

use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use crate::bad_input::QUICK;
use crate::cluster::Cluster;
use crate::process::{quorate, run, until};

/// How long a line or an end is waited for, beyond the longest lease of these tests that runs out.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client that is killed when dropped.
struct Holder {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Holder {
    fn start(mut command: Command, words: &[&str]) -> Self {
        command.args(words).stdout(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        let mut child = command.kill_on_drop(true).spawn().expect("the program was built");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time");
        line.expect("text").expect("a line before its end")
    }

    async fn ended(&mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait()).await.expect("an end in time").expect("it ends").code()
    }

    fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    fn signal(&self, signal: libc::c_int) {
        let id = self.child.id().expect("it runs");
        let id = libc::pid_t::try_from(id).expect("process ids are small");
        // SAFETY: kill has no memory effects; the process has not been waited for.
        unsafe { libc::kill(id, signal) };
    }
}

/// The client, which asks this member first.
fn client(cluster: &Cluster, first: usize) -> Command {
    let count = cluster.count();
    let members: Vec<_> =
        (0..count).map(|next| cluster.client_address((first + next) % count)).collect();
    let mut command = quorate();
    command.args(["--endpoints", &members.join(",")]);
    command
}

fn output(mut command: Command, words: &[&str]) -> String {
    let output = command.args(words).output().expect("the program was built");
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

async fn waiting(cluster: &Cluster, prefix: &str, count: usize) {
    until("all to have asked", async || cluster.everything(0, prefix).await.len() == count).await;
}

/// The name is how whoever holds it is found; their keys go with them.
#[tokio::test]
async fn one_at_a_time_holds_a_lock() {
    let cluster = Cluster::start_with(3, QUICK).await;
    let mut first = Holder::start(client(&cluster, 0), &["lock", "name"]);
    let key = first.line().await;
    assert!(key.starts_with("name/"), "{key}");
    let mut second = Holder::start(client(&cluster, 1), &["lock", "name", "--ttl=5"]);
    waiting(&cluster, "name/", 2).await;
    // Whoever gives up while he waits leaves nothing behind.
    let mut third = Holder::start(client(&cluster, 2), &["lock", "name"]);
    waiting(&cluster, "name/", 3).await;
    third.terminate();
    assert_eq!(third.ended().await, Some(1));
    waiting(&cluster, "name/", 2).await;
    first.terminate();
    assert_eq!(first.ended().await, Some(0));
    let key = second.line().await;
    assert!(key.starts_with("name/"), "{key}");
    // One that is killed holds it until its time is over; the next one then gets it.
    let mut fourth = Holder::start(client(&cluster, 0), &["-o", "json", "lock", "name"]);
    waiting(&cluster, "name/", 2).await;
    second.child.kill().await.expect("killed");
    let line: serde_json::Value = serde_json::from_str(&fourth.line().await).expect("JSON");
    assert!(line["key"].as_str().expect("a key").starts_with("name/"), "{line}");
    assert!(line["create_revision"].as_i64().expect("a number") > 1, "{line}");
    fourth.terminate();
    assert_eq!(fourth.ended().await, Some(0));
    assert_eq!(output(client(&cluster, 0), &["lease", "list"]), "found 0 leases\n");
}

#[tokio::test]
async fn a_command_runs_under_a_lock_and_its_status_is_passed_on() {
    let cluster = Cluster::start_with(1, QUICK).await;
    let script = "echo $ETCD_LOCK_KEY $ETCD_LOCK_REV; exit 7";
    let mut holder = Holder::start(client(&cluster, 0), &["lock", "name", "sh", "-c", script]);
    let line = holder.line().await;
    let (key, revision) = line.split_once(' ').expect("a key and a revision");
    assert!(key.starts_with("name/") && revision.parse::<i64>().is_ok_and(|it| it > 1), "{line}");
    assert_eq!(holder.ended().await, Some(7));
    assert!(cluster.everything(0, "name/").await.is_empty());
    // A lock that is lost takes the command with it.
    let script = "trap 'echo told; exit 0' TERM; echo begun; while :; do sleep 0.05; done";
    let words = ["lock", "--ttl=2", "name", "sh", "-c", script];
    let mut holder = Holder::start(client(&cluster, 0), &words);
    assert_eq!(holder.line().await, "begun");
    let leases = output(client(&cluster, 0), &["lease", "list"]);
    let lease = leases.lines().nth(1).expect("its lease");
    output(client(&cluster, 0), &["lease", "revoke", lease]);
    assert_eq!(holder.line().await, "told");
    assert_eq!(holder.ended().await, Some(1));
    // So does one whose key is deleted, and no later than that.
    let words = ["lock", "--ttl=600", "name", "sh", "-c", script];
    let mut holder = Holder::start(client(&cluster, 0), &words);
    assert_eq!(holder.line().await, "begun");
    output(client(&cluster, 0), &["del", "--prefix", "name/"]);
    assert_eq!(holder.line().await, "told");
    assert_eq!(holder.ended().await, Some(1));
    // Nor is it left alone when the terminal goes, or somebody is impatient.
    for signal in [libc::SIGHUP, libc::SIGQUIT] {
        let mut holder = Holder::start(client(&cluster, 0), &words);
        assert_eq!(holder.line().await, "begun");
        holder.signal(signal);
        assert_eq!(holder.line().await, "told");
        assert_eq!(holder.ended().await, Some(0));
        assert!(cluster.everything(0, "name/").await.is_empty());
    }
    #[cfg(target_os = "linux")]
    {
        let mut holder = Holder::start(client(&cluster, 0), &words);
        assert_eq!(holder.line().await, "begun");
        holder.signal(libc::SIGKILL);
        assert_eq!(holder.line().await, "told");
    }
    let words = ["lock", "other", "/no/such/program"];
    assert_eq!(Holder::start(client(&cluster, 0), &words).ended().await, Some(3));
    assert!(cluster.everything(0, "other/").await.is_empty(), "nothing is left of it");
}

/// Whoever cannot renew what he holds stops before the next one begins. A machine that stands still for
/// two seconds at the wrong moment hides that, so there is more than one try.
#[tokio::test]
async fn a_lock_is_given_up_before_others_have_it() {
    const TRIES: usize = 3;
    let mut cluster = Cluster::start_with(3, QUICK).await;
    for _ in 0..TRIES {
        if is_given_up_in_time(&mut cluster).await {
            return;
        }
    }
    panic!("others could have had it by then");
}

async fn is_given_up_in_time(cluster: &mut Cluster) -> bool {
    let silent = (cluster.leader().await + 1) % 3;
    let other = (silent + 1) % 3;
    let script = "trap 'echo told; exit 0' TERM; echo begun; while :; do sleep 0.05; done";
    let mut command = quorate();
    command.args(["--endpoints", &cluster.client_address(silent)]);
    // Two seconds of these are left for stopping.
    let words = ["lock", "--ttl=16", "name", "sh", "-c", script];
    let mut holder = Holder::start(command, &words);
    assert_eq!(holder.line().await, "begun");
    cluster.process(silent).pause();
    assert_eq!(holder.line().await, "told");
    let is_in_time = cluster.everything(other, "name/").await.len() == 1;
    assert_eq!(holder.ended().await, Some(1));
    cluster.process(silent).resume();
    until("it to be gone", async || cluster.everything(other, "name/").await.is_empty()).await;
    is_in_time
}

#[tokio::test]
async fn an_election_goes_on_whatever_member_ends() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    let member = cluster.leader().await;
    let mut listener = Holder::start(client(&cluster, member), &["elect", "--listen", "office"]);
    let mut first = Holder::start(client(&cluster, member), &["elect", "office", "anne"]);
    let line = first.line().await;
    assert!(line.starts_with("office/") && line.ends_with("\tanne"), "{line}");
    assert_eq!(listener.line().await, line);
    let mut second = Holder::start(client(&cluster, member), &["elect", "office", "ben"]);
    waiting(&cluster, "office/", 2).await;
    // All three of them asked the member that ends now: the one who waits and the one who listens ask
    // another, and so does the one who renews.
    cluster.kill(member);
    let other = (member + 1) % 3;
    until("the others to serve", async || {
        let words = ["get", "--prefix", "office/", "--keys-only"];
        let output = client(&cluster, other).args(words).output().expect("the program was built");
        output.status.success() && String::from_utf8_lossy(&output.stdout).lines().count() == 2
    })
    .await;
    first.terminate();
    assert_eq!(first.ended().await, Some(0));
    let line = second.line().await;
    assert!(line.starts_with("office/") && line.ends_with("\tben"), "{line}");
    assert_eq!(listener.line().await, line);
    second.terminate();
    assert_eq!(second.ended().await, Some(0));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let cluster = Cluster::start_with(1, QUICK).await;
    let endpoint = cluster.client_address(0);
    for words in [
        &["lock"][..],
        &["lock", "--ttl=0", "name"],
        &["elect", "office"],
        &["elect", "--listen", "office", "anne"],
    ] {
        let mut command = quorate();
        command.args(["--endpoints", &endpoint]).args(words);
        assert_eq!(run(command).await.status, Some(2), "{words:?}");
    }
}
