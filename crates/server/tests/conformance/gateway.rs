//! etcd's API in JSON: the same answers and the same errors as over gRPC, in grpc-gateway's form.

use std::process::Command;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::http_client::{Answer, Objects, ask, get};
use crate::process::until;

async fn post(address: &str, path: &str, body: &str) -> Answer {
    ask(address, "POST", path, &[], body).await
}

fn object(answer: &Answer) -> serde_json::Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body))
}

#[tokio::test]
async fn keys_are_written_and_read_on_any_member() {
    let cluster = Cluster::start(3).await;
    let addresses: Vec<String> = (0..3).map(|index| cluster.client_address(index)).collect();
    let answer = post(&addresses[0], "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(object(&answer)["header"]["revision"], "2");
    let answer = post(&addresses[1], "/v3/kv/range", r#"{"key":"Zm9v","unknown":[1]}"#).await;
    let read = object(&answer);
    assert_eq!(read["kvs"][0]["value"], "YmFy", "{}", answer.body);
    assert_eq!((&read["count"], &read["kvs"][0]["mod_revision"]), (&"1".into(), &"2".into()));
    assert!(read.get("more").is_none(), "what is empty is left out: {}", answer.body);
    let txn = r#"{"compare":[{"result":"EQUAL","target":"CREATE","key":"Zm9v","createRevision":"2"}],
        "success":[{"requestPut":{"key":"Zm9v","value":"YmF6"}},{"request_range":{"key":"Zm9v"}}]}"#;
    let answer = post(&addresses[2], "/v3beta/kv/txn", txn).await;
    let done = object(&answer);
    assert_eq!(done["succeeded"], true, "{}", answer.body);
    assert_eq!(done["responses"][1]["response_range"]["kvs"][0]["value"], "YmF6");
    let answer = post(&addresses[0], "/v3/kv/deleterange", r#"{"key":"Zm9v"}"#).await;
    assert_eq!(object(&answer)["deleted"], "1");
    let answer = post(&addresses[0], "/v3/cluster/member/list", "").await;
    let members = object(&answer);
    assert_eq!(members["members"].as_array().map(Vec::len), Some(3), "{}", answer.body);
    assert!(members["members"][0]["peerURLs"][0].as_str().is_some(), "{}", answer.body);
    let answer = post(&addresses[0], "/v3/maintenance/status", "{}").await;
    assert_eq!(object(&answer)["version"], "3.7.1", "{}", answer.body);
}

#[tokio::test]
async fn errors_have_etcds_texts_and_the_status_that_goes_with_them() {
    let cluster = Cluster::start(1).await;
    let address = cluster.client_address(0);
    let cases = [
        ("/v3/kv/put", r#"{"value":"YQ=="}"#, 400, 3, "etcdserver: key is not provided"),
        (
            "/v3/kv/range",
            r#"{"key":"YQ==","revision":"99"}"#,
            400,
            11,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        ("/v3/kv/nothing", "{}", 404, 5, "Not Found"),
        ("/v3/auth/enable", "{}", 501, 12, "unknown service or method"),
        ("/v3/lock/lock", r#"{"lease":"4242"}"#, 500, 2, "etcdserver: requested lease not found"),
    ];
    for (path, body, status, code, text) in cases {
        let answer = post(&address, path, body).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        let error = object(&answer);
        assert_eq!(error["code"], code, "{path}");
        assert_eq!(error["message"], text, "{path}");
    }
    for body in ["{", "[]", r#"{"key":1}"#] {
        let answer = post(&address, "/v3/kv/range", body).await;
        assert_eq!((answer.status, object(&answer)["code"].clone()), (400, 3.into()), "{body}");
    }
    let answer = ask(&address, "GET", "/v3/kv/range", &[], "").await;
    assert_eq!((answer.status, object(&answer)["code"].clone()), (501, 12.into()));
    let answer = ask(&address, "OPTIONS", "/v3/kv/range", &[], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let large = format!(r#"{{"key":"YQ==","value":"{}"}}"#, "AAAA".repeat(600_000));
    let answer = post(&address, "/v3/kv/put", &large).await;
    assert_eq!(object(&answer)["message"], "etcdserver: request is too large");
}

/// A stream that is refused has the form of a stream.
#[tokio::test]
async fn streams_are_one_object_a_line() {
    let cluster = Cluster::start(1).await;
    let address = cluster.client_address(0);
    let answer = post(&address, "/v3/maintenance/snapshot", "{}").await;
    for line in answer.body.lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect("an object a line");
        assert!(object.get("result").is_some() || object.get("error").is_some(), "{line}");
    }
    assert!(answer.body.ends_with('\n'), "{}", answer.body);
}

/// Through three members, so that it does not matter which of them leads; and every call is counted.
#[tokio::test]
async fn watches_and_leases_are_served_and_counted() {
    let cluster = Cluster::start(3).await;
    let addresses: Vec<String> = (0..3).map(|index| cluster.client_address(index)).collect();
    let answer = post(&addresses[0], "/v3/lease/grant", r#"{"TTL":"60","ID":"77"}"#).await;
    assert_eq!((&object(&answer)["ID"], &object(&answer)["TTL"]), (&"77".into(), &"60".into()));
    let create = r#"{"create_request":{"key":"Zm9v","prev_kv":true}}"#;
    let mut watch = Objects::post(&addresses[1], "/v3/watch", create).await;
    assert_eq!(watch.next().await["result"]["created"], true);
    let put = r#"{"key":"Zm9v","value":"YmFy","lease":"77"}"#;
    assert_eq!(post(&addresses[2], "/v3/kv/put", put).await.status, 200);
    let seen = watch.next().await;
    let key = &seen["result"]["events"][0]["kv"];
    assert_eq!((&key["value"], &key["lease"]), (&"YmFy".into(), &"77".into()), "{seen}");
    for address in &addresses {
        let answer = post(address, "/v3/lease/keepalive", r#"{"ID":"77"}"#).await;
        assert_eq!(object(&answer)["result"]["TTL"], "60", "{}", answer.body);
    }
    let ask_keys = r#"{"ID":"77","keys":true}"#;
    let answer = post(&addresses[1], "/v3/lease/timetolive", ask_keys).await;
    assert_eq!(object(&answer)["keys"][0], "Zm9v", "{}", answer.body);
    let answer = post(&addresses[2], "/v3/kv/lease/revoke", r#"{"ID":"77"}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let seen = watch.next().await;
    let event = &seen["result"]["events"][0];
    assert_eq!((&event["type"], &event["prev_kv"]["value"]), (&"DELETE".into(), &"YmFy".into()));
    drop(watch);
    let counted = [
        (0, "unary", "Lease", "LeaseGrant", "OK"),
        (1, "bidi_stream", "Lease", "LeaseKeepAlive", "OK"),
        (1, "bidi_stream", "Watch", "Watch", "Canceled"),
        (2, "unary", "Lease", "LeaseRevoke", "OK"),
    ];
    for (index, kind, service, method, code) in counted {
        let sample = format!(
            "grpc_server_handled_total{{grpc_code=\"{code}\",grpc_method=\"{method}\",\
             grpc_service=\"etcdserverpb.{service}\",grpc_type=\"{kind}\"}} 1\n"
        );
        until("the calls to be counted", async || {
            get(&addresses[index], "/metrics").await.body.contains(&sample)
        })
        .await;
    }
}

/// Asks what must be granted.
async fn granted(address: &str, path: &str, body: serde_json::Value) -> serde_json::Value {
    let answer = post(address, path, &body.to_string()).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    object(&answer)
}

#[tokio::test]
async fn locks_and_offices_are_held() {
    let cluster = Cluster::start(1).await;
    let address = cluster.client_address(0);
    for id in ["77", "78"] {
        granted(&address, "/v3/lease/grant", json!({ "ID": id, "TTL": "600" })).await;
    }
    let leases = granted(&address, "/v3/lease/leases", json!({})).await;
    assert_eq!(leases["leases"].as_array().map(Vec::len), Some(2), "{leases}");
    // "name", and its prefix as a range.
    let lock = |lease| json!({ "name": "bmFtZQ==", "lease": lease });
    let first = granted(&address, "/v3/lock/lock", lock("77")).await;
    let waits = tokio::spawn({
        let (address, body) = (address.clone(), lock("78").to_string());
        async move { post(&address, "/v3/lock/lock", &body).await }
    });
    until("the second to wait", async || cluster.everything(0, "name/").await.len() == 2).await;
    granted(&address, "/v3/lease/revoke", json!({ "ID": "78" })).await;
    // As in etcd it notices when its turn comes.
    granted(&address, "/v3/lock/unlock", json!({ "key": first["key"] })).await;
    let refused = waits.await.expect("it is answered");
    assert_eq!(refused.status, 500);
    assert_eq!(object(&refused)["message"], "mutex: session is expired");

    let campaign = json!({ "name": "b2ZmaWNl", "lease": "77", "value": "YW5uZQ==" });
    let elected = granted(&address, "/v3/election/campaign", campaign).await;
    let mut observed =
        Objects::post(&address, "/v3/election/observe", r#"{"name":"b2ZmaWNl"}"#).await;
    assert_eq!(observed.next().await["result"]["kv"]["value"], "YW5uZQ==");
    let proclaim = json!({ "leader": elected["leader"], "value": "YmVu" });
    granted(&address, "/v3/election/proclaim", proclaim).await;
    assert_eq!(observed.next().await["result"]["kv"]["value"], "YmVu");
    let leader = granted(&address, "/v3/election/leader", json!({ "name": "b2ZmaWNl" })).await;
    assert_eq!(leader["kv"]["value"], "YmVu", "{leader}");
    granted(&address, "/v3/election/resign", json!({ "leader": elected["leader"] })).await;
    let nobody = post(&address, "/v3/election/leader", r#"{"name":"b2ZmaWNl"}"#).await;
    assert_eq!(object(&nobody)["message"], "election: no leader");
}

#[tokio::test]
async fn what_operators_ask_for_is_answered() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let address = cluster.client_address(leader);
    for value in ["YQ==", "Yg=="] {
        granted(&address, "/v3/kv/put", json!({ "key": "Zm9v", "value": value })).await;
    }
    granted(&address, "/v3/kv/compaction", json!({ "revision": "2" })).await;
    let hash = granted(&address, "/v3/maintenance/hash", json!({})).await;
    let hash_kv = granted(&address, "/v3/maintenance/hashkv", json!({ "revision": "3" })).await;
    assert_eq!(hash["hash"], hash_kv["hash"], "both of the latest revision");
    assert_eq!(
        (&hash_kv["hash_revision"], &hash_kv["compact_revision"]),
        (&"3".into(), &"2".into())
    );
    granted(&address, "/v3/maintenance/defragment", json!({})).await;
    let alarms = granted(&address, "/v3/maintenance/alarm", json!({ "action": "GET" })).await;
    assert!(alarms.get("alarms").is_none(), "{alarms}");
    let target = (leader + 1) % 3;
    let body = json!({ "targetID": cluster.id(target).await.to_string() });
    granted(&address, "/v3/maintenance/transfer-leadership", body).await;
    assert_eq!(cluster.leader().await, target);
    let joining = json!({ "peerURLs": ["http://127.0.0.1:1"], "isLearner": true });
    let added = granted(&address, "/v3/cluster/member/add", joining).await;
    let id = &added["member"]["ID"];
    let moved = json!({ "ID": id, "peerURLs": ["http://127.0.0.1:2"] });
    granted(&address, "/v3/cluster/member/update", moved).await;
    let lags = post(&address, "/v3/cluster/member/promote", &json!({ "ID": id }).to_string()).await;
    let text = "etcdserver: can only promote a learner member which is in sync with leader";
    assert_eq!(object(&lags)["message"], text);
    let left = granted(&address, "/v3/cluster/member/remove", json!({ "ID": id })).await;
    assert_eq!(left["members"].as_array().map(Vec::len), Some(3), "{left}");
}

async fn open_files(address: &str) -> u64 {
    let metrics = get(address, "/metrics").await.body;
    let files = metrics.lines().find_map(|line| line.strip_prefix("process_open_fds "));
    files.and_then(|files| files.parse().ok()).expect("a number")
}

/// Whatever of their request had come by then. Each would keep a connection otherwise, until there are
/// none left.
#[tokio::test]
async fn clients_that_go_in_the_middle_leave_nothing_behind() {
    const EACH: u64 = 20;
    let cluster = Cluster::start(1).await;
    let address = cluster.client_address(0);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let create = r#"{"create_request":{"key":"Zm9v"}}"#;
    let before = open_files(&address).await;
    let mut clients = Vec::new();
    for (head, body) in [
        ("Content-Length: 100", String::new()),
        ("Content-Length: 100", create[..9].to_owned()),
        ("Transfer-Encoding: chunked", chunk(&create[..9])),
        ("Transfer-Encoding: chunked", chunk(create)),
    ] {
        for _ in 0..EACH {
            let mut client = TcpStream::connect(&address).await.expect("it listens");
            let host = format!("Host: {address}\r\n{head}\r\n");
            let request = format!("POST /v3/watch HTTP/1.1\r\n{host}\r\n{body}");
            client.write_all(request.as_bytes()).await.expect("it takes requests");
            clients.push(client);
        }
    }
    until("them to be there", async || open_files(&address).await >= before + 4 * EACH).await;
    drop(clients);
    until("them to be gone", async || open_files(&address).await < before + EACH).await;
}

/// Tools ask before they begin with it; it does not begin.
#[tokio::test]
async fn whether_an_older_version_may_be_gone_back_to() {
    let cluster = Cluster::start(1).await;
    let address = cluster.client_address(0);
    let ask = async |body: &str| {
        let answer = post(&address, "/v3/maintenance/downgrade", body).await;
        (answer.status, object(&answer))
    };
    for body in [r#"{"version":"3.6"}"#, r#"{"action":"CANCEL"}"#] {
        let (status, answer) = ask(body).await;
        assert_eq!((status, &answer["version"]), (200, &"3.7".into()), "{answer}");
        assert_eq!(answer["header"]["revision"], "1", "{answer}");
    }
    let refused = [
        (r#"{"action":0,"version":"3.0"}"#, 3, "etcdserver: invalid downgrade target version"),
        (r#"{"action":1,"version":"x"}"#, 3, "etcdserver: wrong downgrade target version format"),
        (r#"{"action":7,"version":"3.6"}"#, 2, "etcdserver: unknown method"),
        (
            r#"{"action":"ENABLE","version":"3.6"}"#,
            12,
            "quorate: Downgrade is not implemented by this version",
        ),
    ];
    for (body, code, text) in refused {
        let (_status, answer) = ask(body).await;
        assert_eq!((&answer["code"], &answer["message"]), (&code.into(), &text.into()), "{body}");
    }
}

#[tokio::test]
async fn the_gateway_can_be_left_out() {
    let cluster = Cluster::start_with(1, &["--enable-grpc-gateway=false"]).await;
    let answer = post(&cluster.client_address(0), "/v3/kv/range", r#"{"key":"YQ=="}"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (404, "404 page not found\n"));
}

#[tokio::test]
async fn curl_is_served() {
    let cluster = Cluster::start(1).await;
    let url = format!("http://{}/v3/kv/put", cluster.client_address(0));
    let curl = Command::new("curl")
        .args(["-sS", "-L", &url, "-X", "POST", "-d", r#"{"key":"Zm9v","value":"YmFy"}"#])
        .output();
    let Ok(output) = curl else {
        eprintln!("SKIPPED: there is no curl on this machine");
        return;
    };
    let body = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(body.contains("\"revision\":\"2\""), "{body}{output:?}");
    assert_eq!(cluster.get(0, "foo").await.expect("read"), Some(b"bar".to_vec()));
}
