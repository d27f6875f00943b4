//! Watches on real members: everything that is promised of them, over the wire, whatever becomes of
//! the members.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::bad_input::QUICK;
use crate::cluster::proto::etcdserverpb as wire;
use crate::cluster::proto::etcdserverpb::lease_client::LeaseClient;
use crate::cluster::proto::etcdserverpb::watch_client::WatchClient;
use crate::cluster::proto::etcdserverpb::watch_request::RequestUnion;
use crate::cluster::proto::mvccpb::Event;
use crate::cluster::{Cluster, prefix_end, put};
use crate::process::{quorate, run, until};

/// How long an answer may take before it counts as missing.
const PATIENCE: Duration = Duration::from_secs(20);
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Timers that fit a test, and a log so short that members soon lag by more than it holds.
const SHORT_LOG: &[&str] = &[
    "--heartbeat-interval=20",
    "--election-timeout=200",
    "--log-retained-bytes=65536",
    "--catch-up-bytes-per-second=1000000000",
];

/// A client's stream.
struct Watch {
    requests: mpsc::Sender<wire::WatchRequest>,
    responses: Streaming<wire::WatchResponse>,
}

impl Watch {
    async fn open(cluster: &Cluster, member: usize) -> Self {
        Self::try_open(cluster.channel(member), &[]).await.expect("a stream")
    }

    async fn try_open(channel: Channel, metadata: &[(&'static str, &str)]) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(1024);
        let mut request = Request::new(ReceiverStream::new(receiver));
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().expect("metadata"));
        }
        let mut client = WatchClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { requests, responses: client.watch(request).await?.into_inner() })
    }

    async fn ask(&self, request: RequestUnion) {
        let request = wire::WatchRequest { request_union: Some(request) };
        self.requests.send(request).await.expect("the stream is open");
    }

    async fn next(&mut self) -> Result<wire::WatchResponse, Status> {
        let response = timeout(PATIENCE, self.responses.message()).await;
        match response.expect("an answer in time") {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(Status::ok("the stream has ended")),
            Err(status) => Err(status),
        }
    }

    /// Creates a watcher, and answers its number.
    async fn create(&mut self, create: wire::WatchCreateRequest) -> i64 {
        self.ask(RequestUnion::CreateRequest(create)).await;
        let response = self.next().await.expect("an answer");
        assert!(response.created && !response.canceled, "{response:?}");
        assert!(response.events.is_empty(), "events wait for the answer");
        response.watch_id
    }

    /// The next events, which must be so many.
    async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            let response = self.next().await.expect("events");
            assert!(!response.canceled, "{response:?}");
            events.extend(response.events);
        }
        assert_eq!(events.len(), count);
        events
    }

    async fn progress(&mut self) {
        self.ask(RequestUnion::ProgressRequest(wire::WatchProgressRequest {})).await;
    }
}

fn key(key: &str) -> wire::WatchCreateRequest {
    wire::WatchCreateRequest { key: key.to_owned().into(), ..Default::default() }
}

fn prefix(prefix: &str) -> wire::WatchCreateRequest {
    wire::WatchCreateRequest { range_end: prefix_end(prefix).into(), ..key(prefix) }
}

/// What an event says, in a line.
fn shown(event: &Event) -> String {
    let kv = event.kv.as_ref().expect("an event has a key");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut line = match event.r#type {
        0 => format!("put {}={} @{}", text(&kv.key), text(&kv.value), kv.mod_revision),
        _ => format!("delete {} @{}", text(&kv.key), kv.mod_revision),
    };
    if let Some(previous) = &event.prev_kv {
        line += &format!(" was {} @{}", text(&previous.value), previous.mod_revision);
    }
    line
}

fn revision(response: &wire::WatchResponse) -> i64 {
    response.header.expect("a response has a header").revision
}

async fn delete(cluster: &Cluster, member: usize, key: &str) {
    let request = wire::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
    cluster.kv(member).delete_range(request).await.expect("it is deleted");
}

async fn compact(cluster: &Cluster, member: usize, revision: i64) {
    let request = wire::CompactionRequest { revision, physical: true };
    cluster.kv(member).compact(request).await.expect("it is compacted");
}

#[tokio::test]
async fn history_and_what_comes_after_it_from_any_member() {
    let cluster = Cluster::start(3).await;
    for value in ["1", "2"] {
        cluster.put(0, "a", value).await;
    }
    cluster.put(1, "ab", "x").await;
    delete(&cluster, 2, "a").await;
    let expected =
        ["put a=1 @2", "put a=2 @3 was 1 @2", "put ab=x @4", "delete a @5 was 2 @3"].to_vec();
    for member in 0..3 {
        cluster.wait_until_caught_up(member).await;
        let mut watch = Watch::open(&cluster, member).await;
        let create = wire::WatchCreateRequest { start_revision: 2, prev_kv: true, ..prefix("a") };
        assert_eq!(watch.create(create).await, 0);
        let response = watch.next().await.expect("the past");
        // It came with the others, so it says what the store's revision was.
        let now = revision(&response);
        assert!(now >= 5);
        assert_eq!(response.events.iter().map(shown).collect::<Vec<_>>(), expected);
        // From a revision that is to come nothing earlier is told.
        let create = wire::WatchCreateRequest { start_revision: now + 2, ..prefix("b") };
        let future = watch.create(create).await;
        assert_eq!(future, 1);
        let filtered = wire::WatchCreateRequest { filters: vec![0], ..key("b") };
        assert_eq!(watch.create(filtered).await, 2);
        let other = (member + 1) % 3;
        for value in ["6", "7"] {
            cluster.put(other, "b", value).await;
        }
        let response = watch.next().await.expect("the present");
        assert_eq!((response.watch_id, revision(&response)), (future, now + 2));
        let told: Vec<String> = response.events.iter().map(shown).collect();
        assert_eq!(told, [format!("put b=7 @{}", now + 2)]);
    }
}

#[tokio::test]
async fn what_is_refused_and_what_is_cancelled() {
    let cluster = Cluster::start_with(1, QUICK).await;
    cluster.put(0, "a", "1").await;
    let mut watch = Watch::open(&cluster, 0).await;
    let refused = [
        (
            wire::WatchCreateRequest { start_revision: -1, ..key("a") },
            "etcdserver: mvcc: required revision has been compacted",
        ),
        (
            wire::WatchCreateRequest { range_end: "a".into(), ..key("b") },
            "mvcc: watcher range is empty",
        ),
    ];
    for (request, reason) in refused {
        watch.ask(RequestUnion::CreateRequest(request)).await;
        let response = watch.next().await.expect("an answer");
        assert!(response.created && response.canceled, "{response:?}");
        assert_eq!((response.watch_id, response.compact_revision), (-1, 0));
        assert_eq!((response.cancel_reason.as_str(), revision(&response)), (reason, 2));
    }
    let chosen = wire::WatchCreateRequest { watch_id: 7, ..key("a") };
    assert_eq!(watch.create(chosen.clone()).await, 7);
    watch.ask(RequestUnion::CreateRequest(chosen)).await;
    let response = watch.next().await.expect("an answer");
    let reason = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!((response.watch_id, response.cancel_reason.as_str()), (-1, reason));
    // Of a number that nobody has, and of nothing at all, nothing is said.
    let cancel = |watch_id| RequestUnion::CancelRequest(wire::WatchCancelRequest { watch_id });
    watch.ask(cancel(99)).await;
    watch.requests.send(wire::WatchRequest::default()).await.expect("the stream is open");
    watch.ask(cancel(7)).await;
    let response = watch.next().await.expect("an answer");
    assert!(response.canceled && !response.created, "{response:?}");
    assert_eq!((response.watch_id, response.cancel_reason.as_str()), (7, ""));
    // What an empty key stands for.
    assert_eq!(watch.create(key("")).await, 0);
    cluster.put(0, "\0", "first").await;
    assert_eq!(watch.events(1).await.len(), 1);
}

#[tokio::test]
async fn what_was_compacted_is_told_and_nothing_is_passed_over() {
    let cluster = Cluster::start_with(1, QUICK).await;
    for value in 0..10 {
        cluster.put(0, "a", &value.to_string()).await;
    }
    delete(&cluster, 0, "a").await;
    compact(&cluster, 0, 12).await;
    let mut watch = Watch::open(&cluster, 0).await;
    let from = |start_revision| wire::WatchCreateRequest { start_revision, ..key("a") };
    let early = watch.create(from(11)).await;
    let response = watch.next().await.expect("the end");
    assert!(response.canceled && !response.created, "{response:?}");
    assert_eq!((response.watch_id, response.compact_revision), (early, 12));
    assert_eq!((response.cancel_reason.as_str(), revision(&response)), ("", 0));
    // The deletion at the compact revision is still there.
    watch.create(wire::WatchCreateRequest { prev_kv: true, ..from(12) }).await;
    let events = watch.events(1).await;
    assert_eq!(events.iter().map(shown).collect::<Vec<_>>(), ["delete a @12"]);
    // Compactions at the present revision end nobody who is up to date, and come to their end.
    for round in 13..40 {
        cluster.put(0, "a", "again").await;
        compact(&cluster, 0, round).await;
        let told = shown(&watch.events(1).await[0]);
        assert!(told.starts_with(&format!("put a=again @{round}")), "{told}");
    }
}

#[tokio::test]
async fn progress_is_told_on_demand_and_in_intervals() {
    let mut flags = QUICK.to_vec();
    flags.push("--watch-progress-notify-interval=100ms");
    let cluster = Cluster::start_with(3, &flags).await;
    let member = (cluster.leader().await + 1) % 3;
    let mut watch = Watch::open(&cluster, member).await;
    watch.create(prefix("a")).await;
    for round in 0..20 {
        cluster.put(member, "a", "value").await;
        let now = round + 2;
        watch.progress().await;
        // Everything that is acknowledged here was told before.
        let first = watch.next().await.expect("an event");
        assert_eq!(first.events.len(), 1, "{first:?}");
        let second = watch.next().await.expect("progress");
        assert!(second.events.is_empty(), "{second:?}");
        assert_eq!((second.watch_id, revision(&second)), (-1, now));
    }
    let mut noticed = Watch::open(&cluster, member).await;
    let create = wire::WatchCreateRequest { progress_notify: true, ..key("other") };
    assert_eq!(noticed.create(create).await, 0);
    for _ in 0..3 {
        let response = noticed.next().await.expect("a notice");
        assert!(response.events.is_empty() && !response.canceled, "{response:?}");
        assert_eq!((response.watch_id, revision(&response)), (0, 21));
    }
}

/// The events of one revision, in parts if the client allows it.
#[tokio::test]
async fn a_revision_comes_whole_unless_it_may_be_split() {
    let mut flags = QUICK.to_vec();
    flags.push("--max-request-bytes=10485760");
    let cluster = Cluster::start_with(1, &flags).await;
    let puts = (0..20).map(|number| wire::RequestOp {
        request: Some(wire::request_op::Request::RequestPut(put(
            format!("a{number:02}"),
            "x".repeat(500_000),
        ))),
    });
    let mut watch = Watch::open(&cluster, 0).await;
    assert_eq!(watch.create(prefix("a")).await, 0);
    assert_eq!(watch.create(wire::WatchCreateRequest { fragment: true, ..prefix("a") }).await, 1);
    let txn = wire::TxnRequest { success: puts.collect(), ..Default::default() };
    cluster.kv(0).txn(txn.clone()).await.expect("10 MB");
    // One that could be sent in a message is; so two revisions make the second too long.
    cluster.kv(0).txn(txn).await.expect("10 MB");
    let mut counts: BTreeMap<i64, Vec<(usize, bool)>> = BTreeMap::new();
    while counts.values().flatten().map(|(count, _)| count).sum::<usize>() < 80 {
        let response = watch.next().await.expect("events");
        let part = (response.events.len(), response.fragment);
        counts.entry(response.watch_id).or_default().push(part);
    }
    assert!(counts[&0].iter().all(|(count, fragment)| count % 20 == 0 && !fragment), "{counts:?}");
    assert_eq!(counts[&1].iter().map(|(count, _)| count).sum::<usize>(), 40);

    let from_start = wire::WatchCreateRequest { fragment: true, start_revision: 2, ..prefix("a") };
    let mut smaller = Watch::open(&cluster, 0).await;
    smaller.create(from_start).await;
    assert_eq!(smaller.events(40).await.len(), 40);
}

/// As many as a large client has on one connection, of single keys and of ranges.
#[tokio::test]
async fn many_watchers_on_a_stream_are_each_told_theirs() {
    const KEYS: usize = 2000;
    const ROUNDS: usize = 3;
    let cluster = Cluster::start_with(3, QUICK).await;
    let member = (cluster.leader().await + 1) % 3;
    let mut watch = Watch::open(&cluster, member).await;
    for number in 0..KEYS {
        let create = if number % 2 == 0 {
            key(&format!("{number:05}"))
        } else {
            prefix(&format!("{number:05}"))
        };
        watch.ask(RequestUnion::CreateRequest(create)).await;
        if number % 500 == 499 {
            for _ in 0..500 {
                assert!(watch.next().await.expect("an answer").created);
            }
        }
    }
    let all = watch.create(wire::WatchCreateRequest { range_end: "\0".into(), ..key("\0") }).await;
    for round in 0..ROUNDS {
        for hundred in 0..KEYS / 100 {
            let puts = (hundred * 100..(hundred + 1) * 100).map(|number| wire::RequestOp {
                request: Some(wire::request_op::Request::RequestPut(put(
                    format!("{number:05}"),
                    round.to_string(),
                ))),
            });
            let txn = wire::TxnRequest { success: puts.collect(), ..Default::default() };
            cluster.kv(member).txn(txn).await.expect("a transaction");
        }
    }
    let mut told: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    while told.values().map(Vec::len).sum::<usize>() < 2 * KEYS * ROUNDS {
        let response = watch.next().await.expect("events");
        told.entry(response.watch_id).or_default().extend(response.events.iter().map(shown));
    }
    assert_eq!(told[&all].len(), KEYS * ROUNDS);
    for number in 0..KEYS {
        let id = i64::try_from(number).expect("small");
        let values = told[&id].iter().map(|line| line.split(' ').nth(1).expect("a pair"));
        let expected = (0..ROUNDS).map(|round| format!("{number:05}={round}"));
        assert!(values.eq(expected), "{:?}", told[&id]);
    }
}

/// A client that comes back asks for all that it had, without waiting for one answer after the other.
/// Clients in other languages send each message in a frame of its own.
#[tokio::test]
async fn thousands_are_asked_for_in_one_go() {
    const WATCHERS: usize = 20_000;
    const RENEWALS: usize = 5000;
    async fn in_a_frame_of_its_own<T>(message: T) -> T {
        tokio::task::yield_now().await;
        message
    }
    let cluster = Cluster::start_with(1, QUICK).await;
    let url = format!("http://{}", cluster.client_address(0));
    let endpoint =
        Endpoint::from_shared(url).expect("a URI").initial_connection_window_size(16 << 20);
    let channel = endpoint.connect().await.expect("it listens");

    let create = |number: usize| {
        let create = RequestUnion::CreateRequest(key(&format!("key{number}")));
        wire::WatchRequest { request_union: Some(create) }
    };
    let requests = tokio_stream::iter((0..WATCHERS).map(create)).then(in_a_frame_of_its_own);
    let requests = requests.chain(tokio_stream::pending());
    let mut client = WatchClient::new(channel.clone());
    let mut answers = client.watch(requests).await.expect("a stream").into_inner();
    for number in 0..WATCHERS {
        let answer = answers.message().await.expect("it goes on").expect("it does not end");
        assert!(answer.created && !answer.canceled, "{number}");
    }

    let grant = wire::LeaseGrantRequest { ttl: 600, id: 7 };
    cluster.lease(0).lease_grant(grant).await.expect("granted");
    let renewals = std::iter::repeat_n(wire::LeaseKeepAliveRequest { id: 7 }, RENEWALS);
    let renewals = tokio_stream::iter(renewals).then(in_a_frame_of_its_own);
    let mut client = LeaseClient::new(channel);
    let mut answers = client.lease_keep_alive(renewals).await.expect("a stream").into_inner();
    for number in 0..RENEWALS {
        let answer = answers.message().await.expect("it goes on").expect("it does not end");
        assert_eq!(answer.ttl, 600, "{number}");
    }
}

/// Clients that never read cost no more than their outboxes, and hold up nobody.
#[tokio::test]
async fn clients_that_do_not_read_hold_up_neither_writers_nor_readers() {
    const DEAF: usize = 20;
    const PUTS: usize = 600;
    let cluster = Cluster::start_with(1, QUICK).await;
    let mut deaf = Vec::new();
    for _ in 0..DEAF {
        // Streams of one connection share what it may send, which is for its client to mind.
        let own = Endpoint::from_shared(format!("http://{}", cluster.client_address(0)));
        let own = own.expect("an address is a URI").connect_lazy();
        let watch = Watch::try_open(own, &[]).await.expect("a stream");
        watch.ask(RequestUnion::CreateRequest(prefix("a"))).await;
        deaf.push(watch);
    }
    let mut reader = Watch::open(&cluster, 0).await;
    reader.create(prefix("a")).await;
    let value = "x".repeat(20_000);
    let (mut written, mut read) = (0, 0);
    while read < PUTS {
        if written < PUTS {
            cluster.put(0, "a", &value).await;
            written += 1;
        }
        read += reader.next().await.expect("events").events.len();
    }
    // Whoever reads after all is told all of it, in order.
    for watch in deaf.iter_mut().take(3) {
        assert!(watch.next().await.expect("an answer").created);
        let events = watch.events(PUTS).await;
        let revisions = events.iter().filter_map(|event| event.kv.as_ref());
        let revisions: Vec<i64> = revisions.map(|kv| kv.mod_revision).collect();
        assert!(revisions.is_sorted_by(|left, right| left < right));
    }
}

/// A client with three endpoints, as etcd's own: it goes on elsewhere from what it has seen.
#[tokio::test]
async fn a_client_goes_on_with_another_member_after_kill() {
    const PUTS: i64 = 300;
    let mut cluster = Cluster::start_with(3, QUICK).await;
    let mut member = cluster.leader().await;
    let mut next = 2;
    let mut watch = Watch::open(&cluster, member).await;
    watch.create(wire::WatchCreateRequest { start_revision: next, ..key("a") }).await;
    let writer = (member + 1) % 3;
    let mut client = cluster.kv(writer);
    let puts = tokio::spawn(async move {
        let mut written = 0;
        while written < PUTS {
            // One that is not answered may have been done, which the watcher will tell.
            written += i64::from(client.put(put("a".into(), written.to_string())).await.is_ok());
        }
    });
    let mut seen = 0;
    let mut killed = false;
    while seen < PUTS || !puts.is_finished() {
        match watch.next().await {
            Ok(response) => {
                for event in &response.events {
                    let revision = event.kv.as_ref().expect("a key").mod_revision;
                    assert_eq!(revision, next, "each once and in order");
                    next += 1;
                    seen += 1;
                }
                if seen > PUTS / 3 && !std::mem::replace(&mut killed, true) {
                    cluster.kill(member);
                }
            }
            Err(_broken) => {
                member = writer;
                watch = Watch::open(&cluster, member).await;
                let create = wire::WatchCreateRequest { start_revision: next, ..key("a") };
                watch.create(create).await;
            }
        }
    }
    puts.await.expect("all were put");
    assert!(killed);
}

#[tokio::test]
async fn a_snapshot_takes_no_watcher_back() {
    let mut cluster = Cluster::start_with(3, SHORT_LOG).await;
    let away = (cluster.leader().await + 1) % 3;
    let others = [(away + 1) % 3, (away + 2) % 3];
    let mut watch = Watch::open(&cluster, away).await;
    watch.create(prefix("key")).await;
    cluster.put(away, "key000", "before").await;
    assert_eq!(watch.events(1).await.len(), 1);
    // It sleeps, with its watcher, while the others forget what they no longer need of the log. More
    // is written than may be on its way to it: what waits in its sockets must not be enough.
    cluster.process(away).pause();
    let value = "x".repeat(60_000);
    for number in 0..400 {
        cluster.put(others[number % 2], &format!("key{number:03}"), &value).await;
    }
    until("a snapshot to be on its way", async || {
        others.iter().any(|other| cluster.log(*other).contains("sending a snapshot"))
    })
    .await;
    cluster.process(away).resume();
    cluster.wait_until_caught_up(away).await;
    let events = watch.events(400).await;
    let revisions: Vec<i64> =
        events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision).collect();
    assert!(revisions.into_iter().eq(3..403), "each once and in order");
    let log = cluster.log(away);
    assert!(log.contains("a snapshot's receiving ended"), "{log}");
    cluster.put(away, "key", "after").await;
    assert_eq!(watch.events(1).await.len(), 1);
}

#[tokio::test]
async fn whoever_wants_a_leader_is_not_left_without_one() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    let leader = cluster.leader().await;
    let member = (leader + 1) % 3;
    let metadata = [("hasleader", "true")];
    let channel = cluster.channel(member);
    let mut wants = Watch::try_open(channel.clone(), &metadata).await.expect("there is a leader");
    wants.create(key("a")).await;
    let mut content = Watch::open(&cluster, member).await;
    content.create(key("a")).await;
    for other in (0..3).filter(|other| *other != member) {
        cluster.kill(other);
    }
    let ended = wants.next().await.expect_err("there is no leader");
    assert_eq!((ended.code(), ended.message()), (Code::Unavailable, "etcdserver: no leader"));
    let Err(refused) = Watch::try_open(channel, &metadata).await else {
        panic!("there is no leader")
    };
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "etcdserver: no leader"));
    // The other stays, and goes on once there is one again.
    cluster.start_member(leader);
    cluster.put(member, "a", "value").await;
    assert_eq!(content.events(1).await.len(), 1);
}

/// Whoever sends what cannot be read is told so, rather than heard no more.
#[tokio::test]
async fn a_request_that_is_too_long_ends_its_stream() {
    let cluster = Cluster::start_with(1, QUICK).await;
    let mut watch = Watch::open(&cluster, 0).await;
    watch.create(key("a")).await;
    watch.ask(RequestUnion::CreateRequest(key(&"x".repeat(3 << 20)))).await;
    let refused = watch.next().await.expect_err("the stream is ended");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().starts_with("grpc: received message larger than max"), "{refused}");
}

/// The client of the command line, over the loss of the member that it follows.
#[tokio::test]
async fn the_command_line_prints_what_changes_and_goes_on_elsewhere() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    cluster.put(0, "a/1", "one").await;
    let mut command = tokio::process::Command::from(quorate());
    // It follows the first that answers.
    let followed = 0;
    command
        .args(["watch", "--prefix", "a/", "--rev", "2", "--prev-kv", "--endpoints"])
        .arg(cluster.endpoints())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().expect("the program was built with this test");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut expect = async |expected: &[&str]| {
        for expected in expected {
            let line = timeout(PATIENCE, lines.next_line()).await.expect("a line in time");
            assert_eq!(line.expect("it is text").as_deref(), Some(*expected));
        }
    };
    expect(&["PUT", "a/1", "one"]).await;
    cluster.put(0, "a/1", "two").await;
    expect(&["PUT", "a/1", "one", "a/1", "two"]).await;
    cluster.kill(followed);
    let other = (followed + 1) % 3;
    cluster.leader().await;
    delete(&cluster, other, "a/1").await;
    cluster.put(other, "a/2", "three").await;
    expect(&["DELETE", "a/1", "two", "a/1", "", "PUT", "a/2", "three"]).await;

    let mut compacted = quorate();
    compact(&cluster, other, 4).await;
    compacted.args(["watch", "a", "--rev", "1", "--output", "json", "--endpoints"]);
    compacted.arg(cluster.endpoints());
    let ended = run(compacted).await;
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.contains("required revision has been compacted"), "{}", ended.stderr);
}
