//! What a member says over HTTP/1.1, on the ports of its clients and on those for metrics.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::bad_input::QUICK;
use crate::cluster::Cluster;
use crate::http_client::{ask, get};
use crate::process::{free_port, until};

const WELL: &str = r#"{"health":"true","reason":""}"#;

async fn one_member(flags: &[String]) -> Cluster {
    let mut cluster = Cluster::prepare(1, &[]);
    cluster.start_member_with(0, flags);
    cluster.leader().await;
    cluster
}

#[tokio::test]
async fn one_port_speaks_grpc_and_http() {
    let cluster = Cluster::start(1).await;
    let address = cluster.client_address(0);
    cluster.put(0, "a", "1").await;
    let answer = get(&address, "/health").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, WELL));
    let answer = get(&address, "/version").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.body, r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#);
    let answer = get(&address, "/debug/vars").await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("\"raft.status\""), "{}", answer.body);
    let answer = get(&address, "/nowhere").await;
    assert_eq!((answer.status, answer.body.as_str()), (404, "404 page not found\n"));
    let answer = ask(&address, "POST", "/health", &[], "").await;
    assert_eq!((answer.status, answer.body.as_str()), (405, "Method Not Allowed\n"));
    assert_eq!(answer.header("allow"), Some("GET"));
}

#[tokio::test]
async fn probes_tell_which_question_was_answered_how() {
    let mut cluster = Cluster::start(3).await;
    let address = cluster.client_address(0);
    assert_eq!(get(&address, "/livez").await.body, "ok\n");
    assert_eq!(get(&address, "/livez?verbose").await.body, "[+]serializable_read ok\nok\n");
    assert_eq!(get(&address, "/readyz/linearizable_read").await.body, "ok\n");
    assert_eq!(get(&address, "/readyz/nothing").await.status, 404);
    assert_eq!(
        get(&address, "/readyz?verbose&exclude=data_corruption&exclude=unknown").await.body,
        "[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"
    );

    cluster.kill(1);
    cluster.kill(2);
    until("the member to know of no leader", async || {
        get(&address, "/health").await.body.contains("RAFT NO LEADER")
    })
    .await;
    let answer = get(&address, "/health").await;
    let unwell = "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n";
    assert_eq!((answer.status, answer.body.as_str()), (503, unwell));
    // The process itself is alive, and need not be started again.
    assert_eq!(get(&address, "/health?serializable=true").await.body, WELL);
    assert_eq!(get(&address, "/livez").await.status, 200);
    let answer = get(&address, "/readyz").await;
    assert_eq!(answer.status, 503);
    let failed = "[-]linearizable_read failed: etcdserver: ";
    assert!(answer.body.contains(failed), "{}", answer.body);
    assert_eq!(get(&address, "/readyz?exclude=linearizable_read").await.status, 200);
}

#[tokio::test]
async fn http_and_metrics_may_have_ports_of_their_own() {
    let (http, metrics) = (free_port(), free_port());
    let cluster = one_member(&[
        format!("--listen-client-http-urls=http://127.0.0.1:{http}"),
        format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"),
    ])
    .await;
    cluster.put(0, "a", "1").await;
    assert_eq!(get(&cluster.client_address(0), "/health").await.status, 404);
    let (http, metrics) = (format!("127.0.0.1:{http}"), format!("127.0.0.1:{metrics}"));
    assert_eq!(get(&http, "/health").await.body, WELL);
    assert_eq!(get(&http, "/version").await.status, 200);
    assert_eq!(get(&metrics, "/health").await.body, WELL);
    assert_eq!(get(&metrics, "/readyz").await.body, "ok\n");
    assert!(get(&metrics, "/metrics").await.body.contains("\netcd_server_has_leader 1\n"));
    assert_eq!(get(&metrics, "/version").await.status, 404);
}

#[tokio::test]
async fn pages_of_strangers_reach_no_member_through_a_browser() {
    let flags = ["--host-whitelist=good.example", "--cors=http://good.example"];
    let cluster = one_member(&flags.map(str::to_owned)).await;
    let address = cluster.client_address(0);
    let answer = ask(&address, "GET", "/health", &[("Host", "evil.example:2379")], "").await;
    assert_eq!(answer.status, 421);
    assert!(answer.body.contains("--host-whitelist \"evil.example\""), "{}", answer.body);
    let from = |origin| [("Host", "good.example:2379"), ("Origin", origin)];
    let answer = ask(&address, "OPTIONS", "/v3/kv/put", &from("http://good.example"), "").await;
    assert_eq!(answer.status, 200);
    let allowed = "access-control-allow-origin";
    assert_eq!(answer.header(allowed), Some("http://good.example"));
    let answer = ask(&address, "GET", "/health", &from("http://evil.example"), "").await;
    assert_eq!((answer.status, answer.header(allowed)), (200, None));
}

/// Whoever sends half a request, or nothing, does not hold its connection for ever. The limit is
/// half a minute, so this only sees that others are served meanwhile.
#[tokio::test]
async fn slow_clients_hold_up_nobody() {
    let cluster = Cluster::start(1).await;
    let address = cluster.client_address(0);
    let mut slow = Vec::new();
    for bytes in [&b""[..], b"GET /health HTT", b"GET /health HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = TcpStream::connect(&address).await.expect("it listens");
        stream.write_all(bytes).await.expect("it reads");
        slow.push(stream);
    }
    assert_eq!(get(&address, "/health").await.body, WELL);
    for mut stream in slow {
        let answered = timeout(Duration::from_millis(10), stream.read_u8()).await;
        assert!(answered.is_err(), "{answered:?}");
    }
}

#[tokio::test]
async fn a_connection_has_only_so_many_calls_under_way() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let cluster = one_member(&["--max-concurrent-streams=1".to_owned()]).await;
    let url = format!("http://{}", cluster.client_address(0));
    let channel = tonic::transport::Endpoint::from_shared(url).expect("a URI");
    let channel = channel.connect().await.expect("it listens");
    let mut health = HealthClient::new(channel);
    let request = || HealthCheckRequest { service: String::new() };
    // It goes on for as long as it is held.
    let mut watch = health.watch(request()).await.expect("a stream").into_inner();
    watch.message().await.expect("it says how it is").expect("it does not end");
    let mut second = std::pin::pin!(health.check(request()));
    let waited = timeout(Duration::from_millis(200), second.as_mut()).await;
    assert!(waited.is_err(), "a second call must wait for the first to end");
    drop(watch);
    timeout(Duration::from_secs(20), second).await.expect("its turn comes").expect("it answers");
}

/// The limit is etcd's, and so is what a client is told, by which gRPC's clients ask less often.
#[tokio::test]
async fn a_client_that_asks_for_signs_of_life_too_often_is_told_so() {
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let cluster = Cluster::start_with(1, QUICK).await;
    let mut stream = TcpStream::connect(cluster.client_address(0)).await.expect("it listens");
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SETTINGS, &PING.repeat(4)].concat();
    stream.write_all(&begin).await.expect("it is read");
    let mut told = Vec::new();
    // What is still under way when it closes may break the connection.
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut told)).await.expect("it ends");
    let told = String::from_utf8_lossy(&told);
    assert!(told.ends_with("too_many_pings"), "{told:?}");
}
