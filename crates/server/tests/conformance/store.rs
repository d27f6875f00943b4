//! What a member keeps on its disk outlives the member, in whatever way it ends; and what one lacks
//! it gets from the others, while they serve.

use std::fs;
use std::path::PathBuf;

use tokio::task::JoinSet;
use tonic::Response;

use crate::bad_input::{QUICK, REFUSED, assert_no_panic, refused};
use crate::cluster::proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, DeleteRangeRequest, HashKvRequest, HashKvResponse,
    RangeRequest, StatusResponse,
};
use crate::cluster::{Cluster, put};
use crate::process::until;

/// Timers that fit a test, and a log so short that members soon lag by more than it holds.
const SHORT_LOG: &[&str] = &[
    "--heartbeat-interval=20",
    "--election-timeout=200",
    "--log-retained-bytes=65536",
    "--catch-up-bytes-per-second=1000000000",
];

/// The value of a key at a revision, or the words of the refusal.
async fn at(cluster: &Cluster, member: usize, key: &str, revision: i64) -> String {
    let request = RangeRequest { key: key.to_owned().into(), revision, ..Default::default() };
    match cluster.kv(member).range(request).await {
        Ok(response) => {
            let kvs = response.into_inner().kvs;
            let values = kvs.iter().map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
            values.collect()
        }
        Err(status) => status.message().to_owned(),
    }
}

/// Waits until the store of a member has something beyond what it had when it held `records`.
async fn until_flushed(cluster: &Cluster, member: usize, records_bytes: i64) {
    until("the member to have flushed", async || {
        cluster.status(member).await.is_ok_and(|status| status.db_size_in_use > records_bytes)
    })
    .await;
}

/// The file with the records of the one state that counts.
fn records_file(cluster: &Cluster, member: usize) -> PathBuf {
    let store = cluster.data_directory(member).join("store");
    let files = fs::read_dir(&store).expect("a store").map(|entry| entry.expect("an entry").path());
    let records: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|name| name == "records")).collect();
    let [records] = &records[..] else { panic!("one state counts: {records:?}") };
    records.clone()
}

/// A member's checksum at a revision, or the words of the refusal.
async fn hash(cluster: &Cluster, member: usize, revision: i64) -> Result<HashKvResponse, String> {
    let asked = cluster.maintenance(member).hash_kv(HashKvRequest { revision }).await;
    asked.map(Response::into_inner).map_err(|status| status.message().to_owned())
}

/// What kubeadm and many compose files ask for; whoever leads does it.
#[tokio::test]
async fn history_is_compacted_by_itself() {
    let flags = ["--auto-compaction-mode=periodic", "--auto-compaction-retention=200ms"];
    let cluster = Cluster::start_with(3, &flags).await;
    for number in 0..10 {
        cluster.put(0, "key", &format!("value {number}")).await;
    }
    until("what is old to be forgotten", async || at(&cluster, 1, "key", 5).await == COMPACTED)
        .await;
    assert_eq!(at(&cluster, 1, "key", 0).await, "value 9", "the latest stays");
    for member in 0..3 {
        let log = cluster.log(member);
        let led = log.contains("\"role\":\"leader\"");
        assert!(led || !log.contains("compacted by itself"), "the leader alone compacts: {log}");
    }
    assert_no_panic(&cluster);
}

/// Members are compared by it, before a compaction, after it, and across it.
#[tokio::test]
async fn a_checksum_at_a_revision_is_the_same_on_every_member_and_whatever_is_compacted() {
    let cluster = Cluster::start_with(3, QUICK).await;
    assert_ne!(hash(&cluster, 0, 0).await.expect("of nothing").hash, 0, "JSON would leave it out");
    for number in 0..30 {
        cluster.put(number % 3, &format!("key{}", number % 7), &format!("{number}")).await;
    }
    let delete = DeleteRangeRequest { key: "key3".into(), ..Default::default() };
    cluster.kv(0).delete_range(delete).await.expect("deleted");
    for member in 0..3 {
        cluster.wait_until_caught_up(member).await;
    }
    let before = hash(&cluster, 0, 20).await.expect("it can be read");
    assert_eq!((before.hash_revision, before.compact_revision), (20, -1));
    let latest = hash(&cluster, 0, 0).await.expect("it can be read");
    assert_eq!(latest.hash_revision, 32);
    // There is nothing before the first revision, and that is no error.
    let nothing = hash(&cluster, 0, -1).await.expect("it can be asked for");
    assert_eq!((nothing.hash, nothing.hash_revision), (0, -1));
    let last_put = hash(&cluster, 0, 31).await.expect("it can be read");
    assert!(before.hash != latest.hash && last_put.hash != latest.hash);
    for member in 1..3 {
        assert_eq!(hash(&cluster, member, 20).await.expect("read").hash, before.hash);
        assert_eq!(hash(&cluster, member, 0).await.expect("read").hash, latest.hash);
    }
    let compaction = CompactionRequest { revision: 20, physical: true };
    cluster.kv(1).compact(compaction).await.expect("it can be compacted");
    for member in 0..3 {
        cluster.wait_until_caught_up(member).await;
        let after = hash(&cluster, member, 20).await.expect("it can be read");
        assert_eq!((after.hash, after.compact_revision), (before.hash, 20));
        assert_eq!(hash(&cluster, member, 0).await.expect("read").hash, latest.hash);
        assert_eq!(hash(&cluster, member, 19).await, Err(COMPACTED.to_owned()));
        let future = "etcdserver: mvcc: required revision is a future revision";
        assert_eq!(hash(&cluster, member, 99).await, Err(future.to_owned()));
    }
}

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

#[tokio::test]
async fn history_outlives_the_member() {
    let mut cluster = Cluster::start_with(1, QUICK).await;
    for number in 0..20 {
        cluster.put(0, "key", &format!("value {number}")).await;
    }
    // The first put makes revision 2.
    let compaction = CompactionRequest { revision: 12, physical: true };
    cluster.kv(0).compact(compaction).await.expect("it can be compacted");
    let before = cluster.status(0).await.expect("it serves");
    assert!(before.db_size >= before.db_size_in_use, "{before:?}");
    until_flushed(&cluster, 0, 1).await;
    cluster.put(0, "key", "not flushed, perhaps").await;
    for end in ["stopped", "killed"] {
        match end {
            "stopped" => assert_eq!(cluster.stop(0).await, Some(0)),
            _ => cluster.kill(0),
        }
        cluster.start_member(0);
        cluster.wait_until_it_serves(0).await;
        assert_eq!(at(&cluster, 0, "key", 0).await, "not flushed, perhaps", "{end}");
        assert_eq!(at(&cluster, 0, "key", 12).await, "value 10", "{end}");
        assert_eq!(at(&cluster, 0, "key", 20).await, "value 18", "{end}");
        assert_eq!(at(&cluster, 0, "key", 11).await, COMPACTED, "{end}");
    }
    // There is nothing to defragment, and it is no error to ask.
    let defragment = DefragmentRequest::default();
    cluster.maintenance(0).defragment(defragment).await.expect("it is done");
    assert!(cluster.log(0).contains("opened the store"));
    assert_no_panic(&cluster);
}

#[tokio::test]
async fn a_member_killed_under_load_comes_back_with_everything() {
    const PUTS: usize = 2000;
    const WRITERS: usize = 50;
    let mut cluster = Cluster::start_with(3, SHORT_LOG).await;
    for round in 0..3 {
        let killed = (cluster.leader().await + 1) % 3;
        let mut puts = JoinSet::new();
        for writer in 0..WRITERS {
            let mut client = cluster.kv((killed + 1 + writer % 2) % 3);
            puts.spawn(async move {
                for number in (writer..PUTS).step_by(WRITERS) {
                    let key = format!("{round}/{number:04}");
                    let sent = client.put(put(key, "x".repeat(200))).await;
                    sent.unwrap_or_else(|error| panic!("the leader lives on: {error}"));
                }
            });
            if writer == WRITERS / 2 {
                cluster.kill(killed);
            }
        }
        cluster.start_member(killed);
        puts.join_all().await;
        for index in 0..3 {
            cluster.wait_until_it_serves(index).await;
            cluster.wait_until_caught_up(index).await;
        }
        let all = cluster.everything(0, &format!("{round}/")).await;
        assert_eq!(all.len(), PUTS);
        for index in 1..3 {
            assert!(cluster.everything(index, &format!("{round}/")).await == all, "m{index}");
        }
    }
    assert_no_panic(&cluster);
}

/// Two decide meanwhile, and forget what they no longer need of the log.
#[tokio::test]
async fn a_member_that_was_away_for_long_is_sent_a_snapshot() {
    let mut cluster = Cluster::start_with(3, SHORT_LOG).await;
    let away = (cluster.leader().await + 1) % 3;
    cluster.put(away, "before", "value").await;
    cluster.kill(away);
    let others = [(away + 1) % 3, (away + 2) % 3];
    for number in 0..400 {
        cluster.put(others[number % 2], &format!("key{number:03}"), &"x".repeat(5000)).await;
    }
    // What is read at an old revision afterwards came with the snapshot.
    let revision = cluster.status(others[0]).await.expect("it serves");
    let revision = revision.header.expect("it has one").revision;
    cluster.put(others[0], "key000", "later").await;
    for other in others {
        until_flushed(&cluster, other, 400 * 5000).await;
    }
    cluster.start_member(away);
    cluster.wait_until_it_serves(away).await;
    cluster.wait_until_caught_up(away).await;
    let (log, sent) = (cluster.log(away), "a snapshot's receiving ended");
    assert!(log.contains(sent), "{log}");
    assert_eq!(cluster.everything(away, "key").await.len(), 400);
    assert_eq!(at(&cluster, away, "key000", revision).await, "x".repeat(5000));
    assert_eq!(at(&cluster, away, "before", 0).await, "value");
    // From then on it is a member like the others, also after another start.
    cluster.kill(away);
    cluster.start_member(away);
    cluster.wait_until_it_serves(away).await;
    assert_eq!(at(&cluster, away, "key000", 0).await, "later");
    cluster.put(away, "after", "value").await;
    assert_no_panic(&cluster);
}

#[tokio::test]
async fn a_damaged_store_is_refused_and_left_as_it_is() {
    let mut cluster = Cluster::start_with(1, QUICK).await;
    cluster.put(0, "key", "value").await;
    until_flushed(&cluster, 0, 1).await;
    assert_eq!(cluster.stop(0).await, Some(0));
    let file = records_file(&cluster, 0);
    let good = fs::read(&file).expect("records");
    // Whatever a start reads lies somewhere among these.
    let bad: Vec<u8> = good.iter().map(|byte| byte ^ 0x10).collect();
    fs::write(&file, &bad).expect("written");
    let shown = file.display().to_string();
    refused(
        cluster.command(0),
        REFUSED,
        &["data directory", &shown, "--initial-cluster-state existing"],
    )
    .await;
    assert!(fs::read(&file).expect("there") == bad, "the file was changed");
    fs::write(&file, &good).expect("written");
    cluster.start_member(0);
    cluster.wait_until_it_serves(0).await;
    assert_eq!(at(&cluster, 0, "key", 0).await, "value");
    // A log that lacks what the store has is another's.
    assert_eq!(cluster.stop(0).await, Some(0));
    let log = cluster.data_directory(0).join("log");
    fs::rename(&log, cluster.directory().join("log away")).expect("moved");
    let words = ["data directory", "log and store must be of one copy"];
    refused(cluster.command(0), REFUSED, &words).await;
    assert!(!log.exists(), "nothing was made in its place");
    assert_no_panic(&cluster);
}

/// A directory of the version before had a log alone.
#[tokio::test]
async fn a_log_without_a_store_makes_its_store_anew() {
    let mut cluster = Cluster::start_with(1, QUICK).await;
    cluster.put(0, "key", "value").await;
    assert_eq!(cluster.stop(0).await, Some(0));
    fs::remove_dir_all(cluster.data_directory(0).join("store")).expect("removed");
    cluster.start_member(0);
    cluster.wait_until_it_serves(0).await;
    assert_eq!(at(&cluster, 0, "key", 0).await, "value");
    assert_no_panic(&cluster);
}

/// The members' words on who leads; none where nobody does.
async fn leads(cluster: &Cluster, member: usize) -> bool {
    cluster
        .status(member)
        .await
        .is_ok_and(|status| status.header.is_some_and(|header| header.member_id == status.leader))
}

/// It may have voted and has forgotten, so it comes back as one that only holds data.
#[tokio::test]
async fn a_member_that_lost_its_data_gets_it_back_from_the_others_and_never_leads() {
    let mut cluster = Cluster::start_with(3, SHORT_LOG).await;
    // The one that leads is the hardest case: the others have promised it much.
    let wiped = cluster.leader().await;
    for number in 0..300 {
        cluster.put(number % 3, &format!("key{number:03}"), &"x".repeat(1000)).await;
    }
    cluster.kill(wiped);
    fs::remove_dir_all(cluster.data_directory(wiped)).expect("removed");
    let others = [(wiped + 1) % 3, (wiped + 2) % 3];
    cluster.leader().await;
    for number in 300..600 {
        cluster.put(others[number % 2], &format!("key{number:03}"), &"x".repeat(1000)).await;
    }
    let existing = ["--initial-cluster-state=existing".to_owned()];
    cluster.start_member_with(wiped, &existing);
    cluster.wait_until_it_serves(wiped).await;
    cluster.wait_until_caught_up(wiped).await;
    assert_eq!(cluster.everything(wiped, "key").await.len(), 600);
    assert!(cluster.log(wiped).contains("takes no part in elections"));
    // Its acknowledgements count: with it, one of the others is dispensable, though not to elect.
    let leader = cluster.leader().await;
    let follower = others[usize::from(leader == others[0])];
    cluster.kill(follower);
    cluster.put(wiped, "after", "value").await;
    cluster.start_member(follower);
    cluster.wait_until_it_serves(follower).await;
    // Whoever is killed, it is not the one that leads after; and it stays what it is.
    for round in 0..3 {
        cluster.wait_until_caught_up(follower).await;
        cluster.wait_until_caught_up(leader).await;
        cluster.kill(wiped);
        cluster.start_member_with(wiped, &existing);
        cluster.wait_until_it_serves(wiped).await;
        let killed = cluster.leader().await;
        assert_ne!(killed, wiped);
        cluster.kill(killed);
        cluster.start_member(killed);
        cluster.put(wiped, &format!("round{round}"), "value").await;
        assert!(!leads(&cluster, wiped).await);
    }
    // A second one that loses its data cannot get it back: nobody could know what both promised.
    cluster.kill(follower);
    fs::remove_dir_all(cluster.data_directory(follower)).expect("removed");
    cluster.start_member_with(follower, &existing);
    until("the second one to be refused", async || {
        cluster.log(follower).contains("as many members that lost their data as a minority")
    })
    .await;
    assert_no_panic(&cluster);
}

/// A quorum that elects is one of members that remember; where there is none, whoever asks is told.
#[tokio::test]
async fn without_both_others_nobody_is_elected_and_the_member_says_so() {
    let mut cluster = Cluster::start_with(3, SHORT_LOG).await;
    cluster.put(0, "before", "value").await;
    let leader = cluster.leader().await;
    let (wiped, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill(wiped);
    fs::remove_dir_all(cluster.data_directory(wiped)).expect("removed");
    cluster.start_member_with(wiped, &["--initial-cluster-state=existing".to_owned()]);
    cluster.wait_until_it_serves(wiped).await;
    let errors = cluster.status(wiped).await.expect("it serves").errors;
    assert!(errors.iter().any(|text| text.contains("no part in elections")), "{errors:?}");
    let of_others = cluster.status(other).await.expect("it serves").errors;
    assert!(of_others.is_empty(), "{of_others:?}");

    // The one that is left stands, again and again, and does not get the vote that it needs.
    cluster.kill(leader);
    until("the loss of the leader to be noticed", async || {
        let no_leader = |status: StatusResponse| {
            status.errors.iter().any(|text| text == "etcdserver: no leader")
        };
        cluster.status(other).await.is_ok_and(no_leader)
            && cluster.status(wiped).await.is_ok_and(no_leader)
    })
    .await;
    let term = cluster.status(wiped).await.expect("it serves").raft_term;
    assert!(cluster.get(wiped, "before").await.is_err(), "nobody could confirm it");
    let status = cluster.status(wiped).await.expect("it serves");
    assert_eq!((status.raft_term, status.leader), (term, 0));
    // What it holds it still shows to whoever asks for no more than that.
    assert_eq!(cluster.everything(wiped, "before").await.len(), 1);

    cluster.start_member(leader);
    until("a leader that takes writes", async || {
        cluster.kv(wiped).put(put("after".to_owned(), "value".to_owned())).await.is_ok()
    })
    .await;
    assert_ne!(cluster.leader().await, wiped);
    assert_no_panic(&cluster);
}
