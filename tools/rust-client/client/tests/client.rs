//! What users of the Rust client `etcd-client` rely on, put to a running cluster by that client.
//! `ENDPOINTS` names its members, separated by commas. It passes against a real etcd of the same
//! version too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Error, EventType, GetOptions, LeaseGrantOptions,
    LeaseTimeToLiveOptions, LockOptions, ProclaimOptions, PutOptions, ResignOptions, SortOrder,
    SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchStream,
};

/// Longer than anything here takes; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
/// A time to live, in seconds, that no test waits for.
const LONG_S: i64 = 3600;

fn endpoints() -> Vec<String> {
    let endpoints = std::env::var("ENDPOINTS").expect("ENDPOINTS names a cluster");
    endpoints.split(',').map(str::to_owned).collect()
}

async fn connect() -> Client {
    Client::connect(endpoints(), None).await.expect("the cluster is up")
}

/// A prefix that no other test has used.
fn fresh() -> String {
    static USED: AtomicU64 = AtomicU64::new(0);
    format!("rust/{}/{}/", std::process::id(), USED.fetch_add(1, Ordering::Relaxed))
}

fn code_and_text(error: Error) -> (i32, String) {
    match error {
        Error::GRpcStatus(status) => (status.code() as i32, status.message().to_owned()),
        other => panic!("not the server's answer: {other}"),
    }
}

/// What a watch tells until so many events were told.
async fn events(stream: &mut WatchStream, count: usize) -> Vec<(EventType, String, i64)> {
    let mut told = Vec::new();
    while told.len() < count {
        let message = tokio::time::timeout(PATIENCE, stream.message()).await.expect("in time");
        let message = message.expect("watched").expect("the stream goes on");
        for event in message.events() {
            let kv = event.kv().expect("every event has its key");
            let text = kv.value_str().expect("text").to_owned();
            told.push((event.event_type(), text, kv.mod_revision()));
        }
    }
    told
}

#[tokio::test]
async fn keys() {
    let (mut client, prefix) = (connect().await, fresh());
    for number in 0..5 {
        client.put(format!("{prefix}{number}"), number.to_string(), None).await.expect("put");
    }
    let options = GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Key, SortOrder::Descend)
        .with_limit(2);
    let answer = client.get(prefix.clone(), Some(options)).await.expect("got");
    let values: Vec<_> = answer.kvs().iter().map(|kv| kv.value_str().expect("text")).collect();
    assert_eq!((values, answer.count(), answer.more()), (vec!["4", "3"], 5, true));
    let options = PutOptions::new().with_prev_key();
    let before = client.put(format!("{prefix}0"), "new", Some(options)).await.expect("put");
    assert_eq!(before.prev_key().expect("it was there").value(), b"0");
    let options = DeleteOptions::new().with_prefix();
    assert_eq!(client.delete(prefix, Some(options)).await.expect("deleted").deleted(), 5);

    let refused = client.put("", "value", None).await.expect_err("no key");
    assert_eq!(code_and_text(refused), (3, "etcdserver: key is not provided".to_owned()));
    let options = GetOptions::new().with_revision(i64::MAX);
    let refused = client.get("key", Some(options)).await.expect_err("the future");
    let text = "etcdserver: mvcc: required revision is a future revision";
    assert_eq!(code_and_text(refused), (11, text.to_owned()));
}

#[tokio::test]
async fn transactions() {
    let (mut client, key) = (connect().await, fresh());
    let txn = || {
        Txn::new()
            .when([Compare::version(key.clone(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key.clone(), "created", None)])
            .or_else([TxnOp::get(key.clone(), None)])
    };
    assert!(client.txn(txn()).await.expect("done").succeeded());
    let again = client.txn(txn()).await.expect("done");
    assert!(!again.succeeded());
    let Some(TxnOpResponse::Get(found)) = again.op_responses().pop() else { panic!("{again:?}") };
    assert_eq!(found.kvs()[0].value(), b"created");
}

#[tokio::test]
async fn watches() {
    let (mut client, prefix) = (connect().await, fresh());
    let key = format!("{prefix}a");
    let first = client.put(key.clone(), "1", None).await.expect("put");
    let first = first.header().expect("a header").revision();
    client.delete(key.clone(), None).await.expect("deleted");
    let options = WatchOptions::new().with_prefix().with_start_revision(first);
    let mut stream = client.watch(prefix, Some(options)).await.expect("watched");
    client.put(key, "2", None).await.expect("put");
    let told = events(&mut stream, 3).await;
    let kinds: Vec<_> = told.iter().map(|(kind, text, _)| (*kind, text.as_str())).collect();
    let expected = [(EventType::Put, "1"), (EventType::Delete, ""), (EventType::Put, "2")];
    assert_eq!(kinds, expected);
    assert!(told.is_sorted_by_key(|(.., revision)| *revision));
    stream.request_progress().await.expect("asked");
    let progress = tokio::time::timeout(PATIENCE, stream.message()).await.expect("in time");
    let progress = progress.expect("watched").expect("the stream goes on");
    assert!(progress.events().is_empty());
    assert!(progress.header().expect("a header").revision() >= told[2].2);
    // The first watch of a stream has number 0.
    stream.cancel(0).await.expect("asked");
}

#[tokio::test]
async fn leases() {
    let (mut client, key) = (connect().await, fresh());
    let lease = client.lease_grant(LONG_S, None).await.expect("granted").id();
    let options = PutOptions::new().with_lease(lease);
    client.put(key.clone(), "value", Some(options)).await.expect("put");
    let (mut keeper, mut kept) = client.lease_keep_alive(lease).await.expect("a stream");
    keeper.keep_alive().await.expect("asked");
    let answer = kept.message().await.expect("answered").expect("the stream goes on");
    assert_eq!((answer.id(), answer.ttl()), (lease, LONG_S));
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(lease, Some(options)).await.expect("told");
    assert_eq!((left.granted_ttl(), left.keys()), (LONG_S, &[key.clone().into_bytes()][..]));
    let all = client.leases().await.expect("listed");
    assert!(all.leases().iter().any(|known| known.id() == lease));
    let options = LeaseGrantOptions::new().with_id(lease);
    let refused = client.lease_grant(LONG_S, Some(options)).await.expect_err("it is there");
    assert_eq!(code_and_text(refused), (9, "etcdserver: lease already exists".to_owned()));
    client.lease_revoke(lease).await.expect("revoked");
    assert_eq!(client.get(key, None).await.expect("got").count(), 0);
    let refused = client.lease_revoke(lease).await.expect_err("it is gone");
    assert_eq!(code_and_text(refused), (5, "etcdserver: requested lease not found".to_owned()));
}

#[tokio::test]
async fn locks() {
    let (mut client, name) = (connect().await, fresh());
    let lease = client.lease_grant(LONG_S, None).await.expect("granted").id();
    let options = LockOptions::new().with_lease(lease);
    let first = client.lock(name.clone(), Some(options)).await.expect("locked");
    let mut other = connect().await;
    let waiting = tokio::spawn(async move { other.lock(name, None).await });
    assert!(!waiting.is_finished());
    client.unlock(first.key()).await.expect("unlocked");
    let second = tokio::time::timeout(PATIENCE, waiting).await.expect("in time");
    let second = second.expect("no panic").expect("locked");
    client.unlock(second.key()).await.expect("unlocked");
}

#[tokio::test]
async fn elections() {
    let (mut client, name) = (connect().await, fresh());
    let lease = client.lease_grant(LONG_S, None).await.expect("granted").id();
    let elected = client.campaign(name.clone(), "me", lease).await.expect("elected");
    let key = elected.leader().expect("a key").clone();
    let leader = client.leader(name.clone()).await.expect("told");
    assert_eq!(leader.kv().expect("its key").value(), b"me");
    let mut observed = client.observe(name).await.expect("a stream");
    let seen = observed.message().await.expect("told").expect("the stream goes on");
    assert_eq!(seen.kv().expect("its key").value(), b"me");
    let options = ProclaimOptions::new().with_leader(key.clone());
    client.proclaim("still me", Some(options)).await.expect("proclaimed");
    let seen = observed.message().await.expect("told").expect("the stream goes on");
    assert_eq!(seen.kv().expect("its key").value(), b"still me");
    let options = ResignOptions::new().with_leader(key);
    client.resign(Some(options)).await.expect("resigned");
}

#[tokio::test]
async fn members() {
    let mut client = connect().await;
    let members = client.member_list().await.expect("listed");
    assert_eq!(members.members().len(), endpoints().len());
    let status = client.status().await.expect("told");
    assert_eq!(status.version(), "3.7.1");
    assert!(members.members().iter().any(|member| member.id() == status.leader()));
}
