//! Members that come and go, as real processes: what is promised holds throughout, and whoever is no
//! member any more is told so and does no harm.

use std::fs;
use std::sync::Arc;

use tokio::time::Instant;
use tonic::{Code, Status};

use crate::cluster::Cluster;
use crate::cluster::proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, MoveLeaderRequest,
};
use crate::load::{Record, load, longest_silence, verify};
use crate::process::{run, until};

/// Elections within a quarter of a second.
const QUICK: &[&str] = &["--heartbeat-interval=20", "--election-timeout=200"];

/// And changes while somebody is down.
const QUICK_AND_NOT_STRICT: &[&str] =
    &["--heartbeat-interval=20", "--election-timeout=200", "--strict-reconfig-check=false"];

async fn members(cluster: &Cluster, at: usize) -> Vec<Member> {
    let request = MemberListRequest { linearizable: true };
    let answer = cluster.cluster(at).member_list(request).await.expect("it serves");
    answer.into_inner().members
}

/// Adds a member that is prepared, and answers its number.
async fn add(cluster: &Cluster, at: usize, index: usize, is_learner: bool) -> Result<u64, Status> {
    let request = MemberAddRequest { peer_urls: vec![cluster.peer_url(index)], is_learner };
    let answer = cluster.cluster(at).member_add(request).await?.into_inner();
    Ok(answer.member.expect("who was added").id)
}

async fn remove(cluster: &Cluster, at: usize, id: u64) -> Result<Vec<Member>, Status> {
    let removed = cluster.cluster(at).member_remove(MemberRemoveRequest { id }).await?;
    Ok(removed.into_inner().members)
}

/// Promotes a learner as soon as it has caught up.
async fn promote(cluster: &Cluster, at: usize, id: u64) {
    until("the learner to have caught up", async || {
        match cluster.cluster(at).member_promote(MemberPromoteRequest { id }).await {
            Ok(_) => true,
            Err(status) => {
                assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
                assert!(status.message().contains("in sync with leader"), "{status}");
                false
            }
        }
    })
    .await;
}

/// Waits until the configuration knows which life of its disk each member is in.
async fn wait_until_recorded(cluster: &Cluster) {
    let recorded = |index| cluster.log(index).contains("\"recorded\":3");
    until("every incarnation to be recorded", async || (0..cluster.count()).all(recorded)).await;
}

fn assert_no_panic(cluster: &Cluster) {
    for index in 0..cluster.count() {
        let log = cluster.log(index);
        assert!(!log.contains("panicked"), "m{index}: {log}");
    }
}

#[tokio::test]
async fn a_learner_joins_is_promoted_and_takes_the_place_of_another() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    for number in 0..50 {
        cluster.put(number % 3, &format!("key{number:02}"), "value").await;
    }
    let joining = cluster.prepare_another();
    let id = add(&cluster, 0, joining, true).await.expect("a learner");
    let listed = members(&cluster, 1).await;
    let added = listed.iter().find(|member| member.id == id).expect("listed");
    assert!(added.is_learner && added.name.is_empty() && added.client_urls.is_empty());
    assert_eq!(added.peer_urls, [cluster.peer_url(joining)]);

    cluster.start_member(joining);
    cluster.wait_until_it_serves(joining).await;
    assert_eq!(cluster.id(joining).await, id);
    assert!(cluster.status(joining).await.expect("it is up").is_learner);
    promote(&cluster, 1, id).await;
    cluster.wait_until_caught_up(joining).await;
    assert_eq!(cluster.everything(joining, "key").await.len(), 50);
    let all = members(&cluster, joining).await;
    assert!(all.iter().all(|member| !member.is_learner && !member.name.is_empty()), "{all:?}");

    // The leader goes; it says so and ends by itself, and the others elect another.
    let leader = cluster.leader().await;
    let (gone, staying) = (cluster.id(leader).await, (leader + 1) % 4);
    let left = remove(&cluster, leader, gone).await.expect("it is up to others then");
    assert_eq!(left.len(), 3);
    assert_eq!(cluster.ended(leader).await, Some(0));
    assert!(cluster.log(leader).contains("it was removed from its cluster"));
    cluster.put(staying, "after", "value").await;
    assert!(members(&cluster, staying).await.iter().all(|member| member.id != gone));

    // Started again, it is refused, is told why, and has done nobody any harm.
    let before = cluster.leader().await;
    cluster.start_member(leader);
    assert_eq!(cluster.ended(leader).await, Some(1));
    assert!(cluster.log(leader).contains("do not count it among them"), "{}", cluster.log(leader));
    assert_eq!(cluster.leader().await, before);

    // The new one is a member like any other: it comes back, and remembers who it is.
    cluster.kill(joining);
    cluster.start_member(joining);
    cluster.wait_until_it_serves(joining).await;
    assert_eq!(cluster.id(joining).await, id);
    assert_no_panic(&cluster);
}

#[tokio::test]
async fn one_becomes_three_by_voters_alone() {
    let mut cluster = Cluster::start_with(1, QUICK).await;
    cluster.put(0, "key", "value").await;
    for _ in 0..2 {
        let joining = cluster.prepare_another();
        until("the others to be connected", async || {
            add(&cluster, 0, joining, false).await.is_ok()
        })
        .await;
        // It is no burden before it is there.
        cluster.put(0, "key", "value").await;
        cluster.start_member(joining);
        cluster.wait_until_it_serves(joining).await;
        cluster.put(joining, "by", &joining.to_string()).await;
    }
    assert_eq!(members(&cluster, 2).await.len(), 3);
    // Any of them can go once all have their votes.
    until("all to be voters", async || {
        (0..3).all(|index| cluster.log(index).contains("\"voters\":3"))
    })
    .await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    cluster.put((leader + 1) % 3, "after", "value").await;
    assert_no_panic(&cluster);
}

#[tokio::test]
async fn one_that_was_removed_while_it_was_away_is_told_when_it_comes_back() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    let away = (cluster.leader().await + 1) % 3;
    let id = cluster.id(away).await;
    let at = (away + 1) % 3;
    cluster.kill(away);
    cluster.put(at, "meanwhile", "value").await;
    remove(&cluster, at, id).await.expect("it is down");
    cluster.start_member(away);
    assert_eq!(cluster.ended(away).await, Some(1));
    let log = cluster.log(away);
    assert!(log.contains("was removed from its cluster while it was away"), "{log}");
    cluster.put(at, "after", "value").await;
    assert_no_panic(&cluster);
}

/// Puts another in the place of a member that is up, and ends that one's process.
async fn replace(cluster: &mut Cluster, old: usize) -> usize {
    let new = cluster.prepare_another();
    let id = add(cluster, old, new, true).await.expect("a learner");
    cluster.start_member(new);
    promote(cluster, old, id).await;
    let gone = cluster.id(old).await;
    until("the quorum to be up", async || remove(cluster, new, gone).await.is_ok()).await;
    assert_eq!(cluster.ended(old).await, Some(0));
    new
}

/// Nobody whom its log or its flags name is there any more, so it is for those who are to find it.
#[tokio::test]
async fn one_that_was_away_while_all_others_were_replaced_is_found_by_their_successors() {
    let mut cluster = Cluster::start_with(3, QUICK_AND_NOT_STRICT).await;
    let away = (cluster.leader().await + 1) % 3;
    let id = cluster.id(away).await;
    cluster.kill(away);
    let mut at = away;
    for old in [(away + 1) % 3, (away + 2) % 3] {
        at = replace(&mut cluster, old).await;
    }
    cluster.put(at, "meanwhile", "value").await;
    cluster.start_member(away);
    cluster.wait_until_it_serves(away).await;
    assert_eq!(cluster.id(away).await, id);
    assert_eq!(cluster.get(away, "meanwhile").await.expect("served"), Some(b"value".to_vec()));
    // Not only does it follow: its vote counts.
    cluster.kill(at);
    cluster.put(away, "after", "value").await;
    assert_no_panic(&cluster);
}

/// Moves a member that is up to another port, as the operator's manual has it.
async fn move_elsewhere(cluster: &mut Cluster, moving: usize, at: usize) {
    let id = cluster.id(moving).await;
    cluster.move_peer_port(moving);
    let request = MemberUpdateRequest { id, peer_urls: vec![cluster.peer_url(moving)] };
    cluster.cluster(at).member_update(request).await.expect("a free address");
    assert_eq!(cluster.stop(moving).await, Some(0));
    cluster.start_member_with(moving, &["--initial-cluster-state=existing".to_owned()]);
    cluster.wait_until_it_serves(moving).await;
}

/// It lets the others in, for it knows who they are, and would answer them where they are no more.
#[tokio::test]
async fn one_that_was_away_while_others_moved_is_told_where_they_are() {
    let mut cluster = Cluster::start_with(3, QUICK_AND_NOT_STRICT).await;
    let away = (cluster.leader().await + 1) % 3;
    let (first, second) = ((away + 1) % 3, (away + 2) % 3);
    cluster.kill(away);
    let before: Vec<_> =
        (0..3).map(|index| format!("m{index}={}", cluster.peer_url(index))).collect();
    move_elsewhere(&mut cluster, first, second).await;
    move_elsewhere(&mut cluster, second, first).await;
    cluster.start_member_with(away, &[format!("--initial-cluster={}", before.join(","))]);
    cluster.wait_until_it_serves(away).await;
    cluster.kill(second);
    cluster.put(away, "after", "value").await;
    assert_no_panic(&cluster);
}

#[tokio::test]
async fn one_that_was_added_moves_too() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    let added = cluster.prepare_another();
    let id = add(&cluster, 0, added, true).await.expect("a learner");
    cluster.start_member(added);
    promote(&cluster, 0, id).await;
    cluster.wait_until_it_serves(added).await;
    move_elsewhere(&mut cluster, added, 0).await;
    assert_eq!(cluster.id(added).await, id);
    cluster.put(added, "moved", "value").await;
    // The directory of another is still not taken for it.
    assert_eq!(cluster.stop(added).await, Some(0));
    let own = cluster.data_directory(added);
    fs::remove_dir_all(&own).expect("removed");
    assert_eq!(cluster.stop(1).await, Some(0));
    fs::rename(cluster.data_directory(1), &own).expect("another's");
    cluster.start_member_with(added, &["--initial-cluster-state=existing".to_owned()]);
    assert_eq!(cluster.ended(added).await, Some(1));
    assert!(cluster.log(added).contains("holds the data of member"), "{}", cluster.log(added));
}

/// Nothing of what it has applied is told to it again after a start.
#[tokio::test]
async fn one_that_was_restarted_is_removed_like_any_other() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    let restarted = (cluster.leader().await + 1) % 3;
    let id = cluster.id(restarted).await;
    assert_eq!(cluster.stop(restarted).await, Some(0));
    cluster.start_member(restarted);
    cluster.wait_until_it_serves(restarted).await;
    let at = (restarted + 1) % 3;
    until("the quorum to be up", async || remove(&cluster, at, id).await.is_ok()).await;
    assert_eq!(cluster.ended(restarted).await, Some(0));
    assert!(cluster.log(restarted).contains("it was removed from its cluster"));
}

/// Whom it meets first has been away since before it was added, and its own log does not say yet that
/// it was.
#[tokio::test]
async fn one_that_has_just_joined_is_not_sent_away_by_one_that_lags() {
    let mut cluster = Cluster::start_with(3, QUICK_AND_NOT_STRICT).await;
    wait_until_recorded(&cluster).await;
    let lagging = (cluster.leader().await + 1) % 3;
    let others = [(lagging + 1) % 3, (lagging + 2) % 3];
    cluster.kill(lagging);
    let joining = cluster.prepare_another();
    add(&cluster, others[0], joining, false).await.expect("not strict");
    cluster.start_member(joining);
    until("the member to have joined", async || cluster.log(joining).contains("opened the store"))
        .await;
    for index in [joining, others[0], others[1]] {
        cluster.kill(index);
    }
    cluster.start_member(lagging);
    cluster.start_member(joining);
    until("the two to have met", async || {
        cluster.log(lagging).contains("was told who is a member")
            || cluster.log(joining).contains("connected to a peer")
    })
    .await;
    for index in others {
        cluster.start_member(index);
    }
    cluster.wait_until_it_serves(joining).await;
    cluster.put(joining, "after", "value").await;
    assert_no_panic(&cluster);
}

/// Most of those whom it knows could not say so any more: one that knows what is committed is enough.
#[tokio::test]
async fn one_that_was_removed_is_told_by_the_only_one_left_whom_it_knows() {
    let mut cluster = Cluster::start_with(3, QUICK_AND_NOT_STRICT).await;
    let away = (cluster.leader().await + 1) % 3;
    let (gone, staying) = ((away + 1) % 3, (away + 2) % 3);
    let id = cluster.id(away).await;
    cluster.kill(away);
    let new = replace(&mut cluster, gone).await;
    remove(&cluster, staying, id).await.expect("it is down");
    cluster.start_member(away);
    assert_eq!(cluster.ended(away).await, Some(1));
    let log = cluster.log(away);
    assert!(log.contains("was removed from its cluster while it was away"), "{log}");
    cluster.put(new, "after", "value").await;
    assert_no_panic(&cluster);
}

/// It may have voted, and has forgotten. Nobody that runs has ever heard it, but the log has.
#[tokio::test]
async fn a_member_that_lost_its_data_is_known_by_the_log_where_nobody_remembers_it() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    cluster.put(0, "kept", "value").await;
    wait_until_recorded(&cluster).await;
    for index in 0..3 {
        cluster.kill(index);
    }
    let wiped = 1;
    fs::remove_dir_all(cluster.data_directory(wiped)).expect("removed");
    for index in 0..3 {
        cluster.start_member(index);
    }
    until("the wiped member to be told", async || {
        cluster.log(wiped).contains("one that lost its data")
    })
    .await;
    cluster.put(0, "after", "value").await;
    assert_eq!(cluster.get(2, "kept").await.expect("served"), Some(b"value".to_vec()));
    // Replaced, it is a member again.
    cluster.kill(wiped);
    fs::remove_dir_all(cluster.data_directory(wiped)).expect("removed");
    let old = members(&cluster, 0).await;
    let old = old.iter().find(|member| member.name == "m1").expect("listed").id;
    remove(&cluster, 0, old).await.expect("it is down");
    let new = add(&cluster, 0, wiped, false).await.expect("two of two are up");
    assert_ne!(new, old);
    cluster.start_member_with(wiped, &["--initial-cluster-state=existing".to_owned()]);
    cluster.wait_until_it_serves(wiped).await;
    cluster.put(wiped, "again", "value").await;
    assert_eq!(cluster.id(wiped).await, new);
    assert!(!cluster.log(wiped).contains("takes no part in elections"));
    assert_no_panic(&cluster);
}

#[tokio::test]
async fn a_member_moves_to_another_port() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    let moving = (cluster.leader().await + 1) % 3;
    let id = cluster.id(moving).await;
    assert_eq!(cluster.stop(moving).await, Some(0));
    cluster.move_peer_port(moving);
    let peer_urls = vec![cluster.peer_url(moving)];
    let request = MemberUpdateRequest { id, peer_urls: peer_urls.clone() };
    let at = (moving + 1) % 3;
    let updated = cluster.cluster(at).member_update(request).await.expect("a free address");
    let listed = updated.into_inner().members;
    assert_eq!(listed.iter().find(|member| member.id == id).expect("listed").peer_urls, peer_urls);
    cluster.start_member_with(moving, &["--initial-cluster-state=existing".to_owned()]);
    cluster.wait_until_it_serves(moving).await;
    assert_eq!(cluster.id(moving).await, id);
    cluster.put(moving, "moved", "value").await;
    assert!(!cluster.log(moving).contains("look for this one at"));
    // With flags that say otherwise it hears of nobody, and is told why.
    assert_eq!(cluster.stop(moving).await, Some(0));
    cluster.move_peer_port(moving);
    cluster.start_member_with(moving, &["--initial-cluster-state=existing".to_owned()]);
    until("a warning", async || {
        cluster.log(moving).contains(&format!("look for this one at {}", peer_urls[0]))
    })
    .await;
    assert_no_panic(&cluster);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_in_etcds_words() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    let joining = cluster.prepare_another();
    let own = cluster.id(0).await;
    let said = |status: Status| (status.code(), status.message().to_owned());
    let refusal = |code, text: &str| (code, format!("etcdserver: {text}"));

    let mut client = cluster.cluster(0);
    for peer_urls in [vec![], vec!["h:1".to_owned()], vec!["ftp://h:1".to_owned()]] {
        let request = MemberAddRequest { peer_urls, is_learner: false };
        let error = client.member_add(request).await.expect_err("bad URLs");
        assert_eq!(said(error), refusal(Code::InvalidArgument, "given member URLs are invalid"));
    }
    let error = add(&cluster, 0, 1, true).await.expect_err("its URL is taken");
    assert_eq!(said(error), refusal(Code::FailedPrecondition, "Peer URLs already exists"));
    let not_found = refusal(Code::NotFound, "member not found");
    let error = remove(&cluster, 0, 99).await.expect_err("there is none");
    assert_eq!(said(error), not_found);
    let request = MemberPromoteRequest { id: 99 };
    assert_eq!(said(client.member_promote(request).await.expect_err("none")), not_found);
    let request = MemberUpdateRequest { id: 99, peer_urls: vec!["http://h:1".to_owned()] };
    assert_eq!(said(client.member_update(request).await.expect_err("none")), not_found);
    let error = client.member_promote(MemberPromoteRequest { id: own }).await.expect_err("a voter");
    let text = "can only promote a learner member";
    assert_eq!(said(error), refusal(Code::FailedPrecondition, text));

    let learner = add(&cluster, 1, joining, true).await.expect("a learner");
    let another = cluster.prepare_another();
    let error = add(&cluster, 1, another, true).await.expect_err("one is enough");
    let text = "too many learner members in cluster";
    assert_eq!(said(error), refusal(Code::FailedPrecondition, text));
    let error = client.member_promote(MemberPromoteRequest { id: learner }).await;
    let text = "can only promote a learner member which is in sync with leader";
    assert_eq!(
        said(error.expect_err("it was never started")),
        refusal(Code::FailedPrecondition, text)
    );
    remove(&cluster, 2, learner).await.expect("it counts in nothing");

    // With one of three down, one more voter would leave two of four.
    cluster.kill(2);
    let unhealthy = refusal(Code::Unavailable, "unhealthy cluster");
    until("the loss to be noticed", async || {
        let added = add(&cluster, 0, joining, false).await;
        added.is_err_and(|error| said(error) == unhealthy)
    })
    .await;
    let error = remove(&cluster, 0, cluster.id(1).await).await.expect_err("it is needed");
    assert_eq!(said(error), unhealthy);
    assert_no_panic(&cluster);
}

#[tokio::test]
async fn leadership_is_moved_to_whom_it_is_asked_for() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    let leader = cluster.leader().await;
    let (target, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let target_id = cluster.id(target).await;
    let ask = async |at: usize, target_id: u64| {
        let moved = cluster.maintenance(at).move_leader(MoveLeaderRequest { target_id }).await;
        moved.map_err(|status| (status.code(), status.message().to_owned()))
    };
    let refusal = |text: &str| (Code::FailedPrecondition, format!("etcdserver: {text}"));
    assert_eq!(ask(other, target_id).await.expect_err("it follows"), refusal("not leader"));
    assert_eq!(ask(leader, 99).await.expect_err("nobody"), refusal("bad leader transferee"));
    let answer = ask(leader, target_id).await.expect("it is up to date").into_inner();
    assert!(answer.header.is_none());
    assert_eq!(cluster.leader().await, target);
    cluster.put(leader, "after", "value").await;
    let log = cluster.log(leader);
    assert!(log.contains("stepped down: another member was called to lead"), "{log}");

    let joining = cluster.prepare_another();
    let learner = add(&cluster, 0, joining, true).await.expect("a learner");
    let moved =
        cluster.maintenance(target).move_leader(MoveLeaderRequest { target_id: learner }).await;
    assert_eq!(moved.expect_err("it has no vote").message(), "etcdserver: bad leader transferee");
}

/// Reads are served while leases are on, and once the leader that held one is gone.
#[tokio::test]
async fn with_leases_reads_go_on_and_see_every_write() {
    const LEASES: &[&str] =
        &["--heartbeat-interval=20", "--election-timeout=200", "--lease-reads=serve"];
    let mut cluster = Cluster::start_with(3, LEASES).await;
    for round in 0..3 {
        for number in 0..30 {
            let (at, value) = (number % 3, format!("{round} {number}"));
            cluster.put(at, "key", &value).await;
            let read = cluster.get((at + 1) % 3, "key").await.expect("served");
            assert_eq!(read, Some(value.into_bytes()));
        }
        let leader = cluster.leader().await;
        cluster.kill(leader);
        cluster.wait_until_it_serves((leader + 1) % 3).await;
        cluster.start_member(leader);
        cluster.wait_until_it_serves(leader).await;
    }
    assert_no_panic(&cluster);
}

/// One that joins must have been added, under the URL that it has.
#[tokio::test]
async fn one_that_nobody_has_added_cannot_join() {
    let mut cluster = Cluster::start_with(1, QUICK).await;
    let joining = cluster.prepare_another();
    let ended = run(cluster.command(joining));
    // Half a minute is more patience than a test has; being there and not being let in is enough.
    let waited = tokio::time::timeout(std::time::Duration::from_secs(2), ended).await;
    assert!(waited.is_err(), "it asks on");
    assert!(!cluster.data_directory(joining).exists());
    cluster.put(0, "key", "value").await;
}

/// All three are replaced, one after the other, under 500 puts a second.
#[tokio::test]
#[ignore = "takes half a minute: cargo xtask replace-members"]
async fn all_members_are_replaced_under_load() {
    let mut cluster = Cluster::start(3).await;
    println!("logs in {}", cluster.directory().display());
    let joining: Vec<_> = (0..3).map(|_| cluster.prepare_another()).collect();
    let record = Arc::new(Record::default());
    let clients = (0..cluster.count()).map(|index| cluster.kv(index)).collect();
    let load = tokio::spawn(load(clients, Arc::clone(&record)));
    record.wait_for_success_after(Instant::now()).await;
    let began = Instant::now();
    for (old, &new) in joining.iter().enumerate() {
        let id = add(&cluster, old, new, true).await.expect("a learner");
        cluster.start_member(new);
        promote(&cluster, old, id).await;
        let gone = cluster.id(old).await;
        let leads = cluster.leader().await == old;
        until("the quorum to be up", async || remove(&cluster, new, gone).await.is_ok()).await;
        assert_eq!(cluster.ended(old).await, Some(0));
        println!("m{old} replaced by m{new}; it led: {leads}");
        record.wait_for_success_after(Instant::now()).await;
    }
    let silence = longest_silence(&record, began);
    record.stop();
    let sent = load.await.expect("the load does not panic");
    verify(&cluster, &joining, &record).await;
    println!("{sent} puts sent; longest time without a successful write: {silence:?}");
    assert_no_panic(&cluster);
}
