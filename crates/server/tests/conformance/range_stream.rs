//! A range in pieces is the range, whole.

use tonic::Code;

use crate::bad_input::QUICK;
use crate::cluster::Cluster;
use crate::cluster::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::cluster::proto::etcdserverpb::{CompactionRequest, RangeRequest, RangeResponse};

const KEYS: usize = 300;

async fn filled() -> Cluster {
    let cluster = Cluster::start_with(3, QUICK).await;
    let value = "v".repeat(20_000);
    for number in 0..KEYS {
        cluster.put(number % 3, &format!("key{number:03}"), &value).await;
    }
    cluster
}

fn all() -> RangeRequest {
    RangeRequest { key: "key".into(), range_end: "kez".into(), ..Default::default() }
}

/// The pieces that a member answers.
async fn pieces(cluster: &Cluster, at: usize, request: RangeRequest) -> Vec<RangeResponse> {
    let mut stream = cluster.kv(at).range_stream(request).await.expect("taken").into_inner();
    let mut pieces = Vec::new();
    while let Some(piece) = stream.message().await.expect("served") {
        pieces.push(piece.range_response.expect("something"));
    }
    pieces
}

/// What the pieces come to: header, count and `more` are the last one's.
fn whole(pieces: &[RangeResponse]) -> RangeResponse {
    let (last, before) = pieces.split_last().expect("at least one");
    for piece in before {
        assert!(piece.header.is_none() && piece.count == 0 && !piece.more);
    }
    let kvs = pieces.iter().flat_map(|piece| piece.kvs.clone()).collect();
    RangeResponse { kvs, ..last.clone() }
}

#[tokio::test]
async fn pieces_come_to_what_a_range_answers() {
    let cluster = filled().await;
    let revision = 150;
    let requests = [
        all(),
        RangeRequest { limit: 7, ..all() },
        RangeRequest { limit: 123, ..all() },
        RangeRequest { limit: 300, ..all() },
        RangeRequest { revision, ..all() },
        RangeRequest { serializable: true, keys_only: true, ..all() },
        RangeRequest { count_only: true, ..all() },
        RangeRequest { key: "nothing".into(), ..Default::default() },
        RangeRequest {
            sort_order: SortOrder::Ascend.into(),
            sort_target: SortTarget::Key.into(),
            ..all()
        },
    ];
    for (at, request) in requests.into_iter().enumerate() {
        let at = at % 3;
        // Everybody has everything, so that a serializable read sees it too.
        cluster.wait_until_caught_up(at).await;
        let expected = cluster.kv(at).range(request.clone()).await.expect("served").into_inner();
        let pieces = pieces(&cluster, at, request.clone()).await;
        assert_eq!(whole(&pieces), expected, "{request:?}");
    }
    let pieces = pieces(&cluster, 0, all()).await;
    assert_eq!(pieces[0].kvs.len(), 10);
    assert!(pieces.len() > 3, "6 MB in {} pieces", pieces.len());
}

/// Only an order is refused, not a target without one: etcd's own suite asks for it.
#[tokio::test]
async fn a_target_without_an_order_sorts_each_piece() {
    let cluster = Cluster::start_with(1, QUICK).await;
    let puts = [("key2", "a"), ("key1", "c"), ("key3", "b"), ("key3", "b"), ("key1", "c")];
    for (key, value) in puts {
        cluster.put(0, key, value).await;
    }
    for target in [SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value] {
        for keys_only in [false, true] {
            let request = RangeRequest { sort_target: target.into(), keys_only, ..all() };
            let expected = cluster.kv(0).range(request.clone()).await.expect("served").into_inner();
            assert_eq!(whole(&pieces(&cluster, 0, request).await), expected, "{target:?}");
        }
    }
    for number in 4..KEYS {
        cluster.put(0, &format!("key{number:03}"), &format!("{}", KEYS - number)).await;
    }
    let request = RangeRequest { sort_target: SortTarget::Value.into(), ..all() };
    let pieces = pieces(&cluster, 0, request).await;
    assert!(pieces.len() > 1);
    for piece in &pieces {
        assert!(piece.kvs.is_sorted_by_key(|kv| kv.value.clone()));
    }
    let mut keys: Vec<_> = pieces.iter().flat_map(|piece| &piece.kvs).map(|kv| &kv.key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), KEYS - 4 + 3, "each key once");
}

#[tokio::test]
async fn what_does_not_come_in_pieces_is_refused_in_etcds_words() {
    let cluster = Cluster::start_with(1, QUICK).await;
    for number in 0..20 {
        cluster.put(0, &format!("key{number:02}"), "value").await;
    }
    let compaction = CompactionRequest { revision: 10, ..Default::default() };
    cluster.kv(0).compact(compaction).await.expect("it can be compacted");
    let cases = [
        (RangeRequest::default(), Code::InvalidArgument, "etcdserver: key is not provided"),
        (
            RangeRequest { sort_order: 9, ..all() },
            Code::InvalidArgument,
            "etcdserver: invalid sort option",
        ),
        (
            RangeRequest { sort_order: SortOrder::Descend.into(), ..all() },
            Code::Unimplemented,
            "RangeStream does not support custom sort orders",
        ),
        (
            RangeRequest { min_mod_revision: 1, ..all() },
            Code::Unimplemented,
            "RangeStream does not support revision filters",
        ),
        (
            RangeRequest { revision: 99, ..all() },
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (
            RangeRequest { revision: 9, ..all() },
            Code::OutOfRange,
            "etcdserver: mvcc: required revision has been compacted",
        ),
    ];
    for (request, code, text) in cases {
        let refused = match cluster.kv(0).range_stream(request.clone()).await {
            Err(status) => status,
            Ok(stream) => stream.into_inner().message().await.expect_err("refused"),
        };
        assert_eq!((refused.code(), refused.message()), (code, text), "{request:?}");
    }
}
