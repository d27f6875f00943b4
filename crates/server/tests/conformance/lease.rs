//! Leases against three real members: granted, renewed wherever a client asks, ended on time and never
//! before, whoever leads.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use crate::cluster::Cluster;
use crate::cluster::proto::etcdserverpb as wire;
use crate::process::until;

const MEMBERS: usize = 3;
/// Long enough that no test ends it by being slow.
const LONG_S: i64 = 600;
/// Leases that are renewed while leaders die.
const LEASES: i64 = 20;

async fn grant(cluster: &Cluster, index: usize, id: i64, ttl: i64) -> wire::LeaseGrantResponse {
    let request = wire::LeaseGrantRequest { id, ttl };
    let granted = cluster.lease(index).lease_grant(request).await;
    granted.unwrap_or_else(|error| panic!("grant {id}: {error}")).into_inner()
}

async fn put(cluster: &Cluster, index: usize, key: &str, lease: i64) -> wire::PutResponse {
    let key = key.to_owned().into();
    let request = wire::PutRequest { key, lease, ..Default::default() };
    cluster.kv(index).put(request).await.expect("the lease is there").into_inner()
}

/// One renewal; answers for how long.
async fn keep_alive(cluster: &Cluster, index: usize, id: i64) -> Result<i64, tonic::Status> {
    let requests = tokio_stream::iter([wire::LeaseKeepAliveRequest { id }]);
    let mut answers = cluster.lease(index).lease_keep_alive(requests).await?.into_inner();
    let answer = answers.message().await?;
    let answer = answer.ok_or_else(|| tonic::Status::unavailable("the stream ended"))?;
    assert_eq!(answer.id, id);
    Ok(answer.ttl)
}

async fn time_to_live(cluster: &Cluster, index: usize, id: i64) -> wire::LeaseTimeToLiveResponse {
    let request = wire::LeaseTimeToLiveRequest { id, keys: true };
    let answer = cluster.lease(index).lease_time_to_live(request).await;
    answer.unwrap_or_else(|error| panic!("time to live of {id}: {error}")).into_inner()
}

async fn leases(cluster: &Cluster, index: usize) -> Vec<i64> {
    let answer = cluster.lease(index).lease_leases(wire::LeaseLeasesRequest {}).await;
    let leases = answer.expect("the member serves").into_inner().leases;
    leases.into_iter().map(|lease| lease.id).collect()
}

#[tokio::test]
async fn every_member_grants_renews_shows_and_revokes() {
    let cluster = Cluster::start(MEMBERS).await;
    let leader = cluster.leader().await;
    for member in 0..MEMBERS {
        let id = 1000 + i64::try_from(member).expect("small");
        let granted = grant(&cluster, member, id, LONG_S).await;
        assert_eq!((granted.id, granted.ttl), (id, LONG_S));
        // Granting is no change of a key.
        assert_eq!(granted.header.expect("a header").revision, 1 + i64::from(member > 0));
        let other = (member + 1) % MEMBERS;
        assert_eq!(keep_alive(&cluster, other, id).await.expect("there is a leader"), LONG_S);
        if member == 0 {
            put(&cluster, other, "b", id).await;
        }
        let shown = time_to_live(&cluster, other, id).await;
        assert_eq!((shown.id, shown.granted_ttl), (id, LONG_S));
        assert!((LONG_S - 60..LONG_S).contains(&shown.ttl), "{}", shown.ttl);
        assert_eq!(shown.keys, if member == 0 { vec!["b"] } else { Vec::new() });
    }
    // The leader lists them by their ends; they were granted in this order, and renewed in it.
    assert_eq!(leases(&cluster, leader).await, [1000, 1001, 1002]);
    let put_at = put(&cluster, 1, "a", 1000).await.header.expect("a header").revision;
    let revoke = |id| wire::LeaseRevokeRequest { id };
    let revoked = cluster.lease(2).lease_revoke(revoke(1000)).await.expect("it is there");
    let revision = revoked.into_inner().header.expect("a header").revision;
    assert_eq!(revision, put_at + 1, "both keys go at one revision");
    for key in ["a", "b"] {
        assert_eq!(cluster.get(0, key).await.expect("it serves"), None);
    }
    let again = cluster.lease(0).lease_revoke(revoke(1000)).await.expect_err("it is gone");
    assert_eq!(again.code(), Code::NotFound);
    assert_eq!(again.message(), "etcdserver: requested lease not found");
    for member in 0..MEMBERS {
        assert_eq!(keep_alive(&cluster, member, 1000).await.expect("no error"), 0);
        let gone = time_to_live(&cluster, member, 1000).await;
        assert_eq!((gone.ttl, gone.granted_ttl), (-1, 0));
    }
}

#[tokio::test]
async fn what_is_refused_is_refused_in_the_words_of_etcd() {
    let cluster = Cluster::start(MEMBERS).await;
    let chosen = grant(&cluster, 0, 0, 1).await;
    assert!(chosen.id > 0);
    assert_eq!(chosen.ttl, 2, "one and a half election timeouts, in whole seconds");
    grant(&cluster, 0, 7, LONG_S).await;
    let refused = |id, ttl| {
        let mut client = cluster.lease(1);
        let request = wire::LeaseGrantRequest { id, ttl };
        async move { client.lease_grant(request).await.expect_err("it is refused") }
    };
    let exists = refused(7, LONG_S).await;
    assert_eq!(exists.code(), Code::FailedPrecondition);
    assert_eq!(exists.message(), "etcdserver: lease already exists");
    let too_large = refused(8, 9_000_000_001).await;
    assert_eq!(too_large.code(), Code::OutOfRange);
    assert_eq!(too_large.message(), "etcdserver: too large lease TTL");
    let key = wire::PutRequest { key: "a".into(), lease: 99, ..Default::default() };
    let unknown = cluster.kv(0).put(key).await.expect_err("there is no such lease");
    assert_eq!(unknown.code(), Code::NotFound);
    assert_eq!(unknown.message(), "etcdserver: requested lease not found");
}

#[tokio::test]
async fn a_lease_that_nobody_renews_ends_on_time_and_takes_its_keys_along() {
    let cluster = Cluster::start(MEMBERS).await;
    let before = Instant::now();
    grant(&cluster, 0, 7, 2).await;
    put(&cluster, 1, "a", 7).await;
    put(&cluster, 1, "b", 7).await;
    let is_gone = async || cluster.get(2, "a").await.is_ok_and(|value| value.is_none());
    until("the lease to end", is_gone).await;
    assert!(before.elapsed() >= Duration::from_secs(2), "after {:?}", before.elapsed());
    assert_eq!(cluster.get(2, "b").await.expect("it serves"), None);
    assert_eq!(time_to_live(&cluster, 2, 7).await.ttl, -1);
    assert_eq!(leases(&cluster, 2).await, [] as [i64; 0]);
}

/// The leader is killed while clients renew, again and again. What they have been told holds: a key
/// is there for as long as its lease after each renewal that was answered.
#[tokio::test]
async fn no_lease_ends_early_however_often_the_leader_dies() {
    const TTL_S: i64 = 8;
    const ROUNDS: usize = 2;
    let mut cluster = Cluster::start(MEMBERS).await;
    for id in 1..=LEASES {
        grant(&cluster, 0, id, TTL_S).await;
        put(&cluster, 0, &format!("key{id}"), id).await;
    }
    for _ in 0..ROUNDS {
        let leader = cluster.leader().await;
        let survivor = (leader + 1) % MEMBERS;
        let asked = Instant::now();
        renew_all(&cluster, survivor, TTL_S).await;
        cluster.kill(leader);
        let promised = asked + Duration::from_secs(TTL_S.unsigned_abs());
        let mut id = 1;
        // Until just before the promise is over, and most of the time without the one who made it.
        let nearly_over = async || {
            let value = cluster.get(survivor, &format!("key{id}")).await;
            // What took longer than the promise proves nothing.
            if let Ok(value) = value
                && Instant::now() < promised
            {
                assert!(value.is_some(), "the key of lease {id} was gone before its time");
            }
            id = id % LEASES + 1;
            Instant::now() + Duration::from_secs(1) > promised
        };
        until("the promise to be nearly over", nearly_over).await;
        renew_all(&cluster, survivor, TTL_S).await;
        cluster.start_member(leader);
        cluster.wait_until_caught_up(leader).await;
    }
    // And they do end.
    let all_gone = async || leases(&cluster, 0).await.is_empty();
    until("all leases to end", all_gone).await;
}

async fn renew_all(cluster: &Cluster, index: usize, expected_s: i64) {
    for id in 1..=LEASES {
        let ttl = keep_alive(cluster, index, id).await.expect("there is a leader");
        assert_eq!(ttl, expected_s, "lease {id} ended early");
    }
}
