//! The metrics that etcd's dashboards and alerts read: all there on every member, and moving.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::Cluster;
use crate::cluster::proto::etcdserverpb::DeleteRangeRequest;
use crate::http_client::{ask, get};
use crate::process::until;

/// The names that etcd's own mixin of alerts and dashboards has.
const MIXIN: [&str; 21] = [
    "etcd_server_has_leader",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_failed_total",
    "etcd_server_proposals_pending",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_applied_total",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_disk_backend_commit_duration_seconds_bucket",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_server_quota_backend_bytes",
    "etcd_network_peer_round_trip_time_seconds_bucket",
    "etcd_network_peer_sent_bytes_total",
    "etcd_network_peer_received_bytes_total",
    "etcd_network_peer_sent_failures_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_network_client_grpc_received_bytes_total",
    "grpc_server_started_total",
    "grpc_server_handled_total",
    "grpc_server_handling_seconds_bucket",
    "process_resident_memory_bytes",
];

/// What must have grown on every member once keys were written through it.
const MOVING: [&str; 9] = [
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_applied_total",
    "etcd_disk_wal_fsync_duration_seconds_count",
    "etcd_network_peer_sent_bytes_total",
    "etcd_network_peer_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_network_client_grpc_received_bytes_total",
    "grpc_server_started_total",
    "grpc_server_handled_total",
];

/// The sum of all samples of each name.
async fn scrape(address: &str) -> BTreeMap<String, f64> {
    let answer = get(address, "/metrics").await;
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let named = |kind: &str| -> BTreeSet<&str> {
        let told = answer.body.lines().filter_map(|line| line.strip_prefix(kind));
        told.filter_map(|rest| rest.split(' ').next()).collect()
    };
    assert_eq!(named("# HELP "), named("# TYPE "));
    let mut sums = BTreeMap::new();
    for line in answer.body.lines().filter(|line| !line.starts_with('#')) {
        let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let name = sample.split('{').next().unwrap_or_default();
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        *sums.entry(name.to_owned()).or_default() += value;
    }
    sums
}

#[tokio::test]
async fn what_dashboards_and_alerts_read_is_there_and_moves() {
    let cluster = Cluster::start_with(3, &["--metrics=extensive"]).await;
    for index in 0..3 {
        let address = cluster.client_address(index);
        cluster.wait_until_it_serves(index).await;
        let before = scrape(&address).await;
        for name in MIXIN {
            assert!(before.contains_key(name), "m{index} lacks {name}");
        }
        for key in 0..20 {
            cluster.put(index, &format!("m{index}/{key}"), "value").await;
        }
        until("the metrics to move", async || {
            let after = scrape(&address).await;
            MOVING.iter().all(|&name| after[name] > before[name])
        })
        .await;
        let after = scrape(&address).await;
        assert!(after["etcd_server_has_leader"] == 1.0);
        assert!(after["etcd_server_leader_changes_seen_total"] >= 1.0);
        assert!(after["etcd_network_peer_round_trip_time_seconds_count"] >= 2.0);
        assert!(after["etcd_server_quota_backend_bytes"] == 2_147_483_648.0);
        assert!(after["process_resident_memory_bytes"] > 1e6);
    }
}

#[tokio::test]
async fn calls_are_counted_by_what_ended_them() {
    let cluster = Cluster::start(1).await;
    let address = cluster.client_address(0);
    cluster.put(0, "a", "1").await;
    assert!(cluster.kv(0).put(crate::cluster::put(String::new(), String::new())).await.is_err());
    ask(&address, "POST", "/v3/kv/put", &[], r#"{"key":"YQ=="}"#).await;
    let put = r#"grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary""#;
    until("the calls to be counted", async || {
        let text = get(&address, "/metrics").await.body;
        let handled = |code: &str, count: u32| {
            let sample =
                format!("grpc_server_handled_total{{grpc_code=\"{code}\",{put}}} {count}\n");
            text.contains(&sample)
        };
        handled("OK", 2) && handled("InvalidArgument", 1) && handled("Unavailable", 0)
    })
    .await;
    let text = get(&address, "/metrics").await.body;
    assert!(text.contains(&format!("grpc_server_started_total{{{put}}} 3\n")), "{text}");
    assert!(text.contains("# TYPE grpc_server_started_total counter\n"), "{text}");
    assert!(!text.contains("grpc_server_handling_seconds"), "only with --metrics=extensive");

    let delete = DeleteRangeRequest { key: "a".into(), ..Default::default() };
    cluster.kv(0).delete_range(delete).await.expect("deleted");
    let text = get(&address, "/metrics").await.body;
    for sample in ["etcd_mvcc_put_total 2\n", "etcd_mvcc_delete_total 1\n"] {
        assert!(text.contains(sample), "{text}");
    }

    let accept = [("Accept", "application/openmetrics-text; version=1.0.0")];
    let answer = ask(&address, "GET", "/metrics", &accept, "").await;
    assert!(answer.body.ends_with("# EOF\n"));
    let kind = answer.header("content-type").unwrap_or_default();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
}
