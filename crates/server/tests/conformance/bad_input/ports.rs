//! What arrives at a port and is no request: ports that are taken, garbage, connections that say
//! nothing, members of another cluster.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{QUICK, REFUSED, assert_no_panic, refused, says};
use crate::cluster::Cluster;
use crate::process::{Process, free_port, quorate, run, until};

/// Longer than a handshake may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// By how much a member may grow while it is pressed.
const GROWTH_KB_MAX: u64 = 64 << 10;

#[tokio::test]
async fn a_port_that_is_taken_is_named_and_nothing_is_made() {
    let cluster = Cluster::prepare(1, QUICK);
    for address in [cluster.client_address(0), cluster.peer_address(0)] {
        let taken = TcpListener::bind(&address).await.expect("it was free");
        let url = format!("cannot listen on http://{address}");
        refused(cluster.command(0), REFUSED, &[&url, "stop what listens there"]).await;
        drop(taken);
    }
    assert!(!cluster.data_directory(0).exists());

    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let mut node = quorate();
    node.args(["raft-node", &port, &port, "0", "100", "1000"]);
    refused(node, REFUSED, &["cannot listen on", &port]).await;
}

/// Bytes that look random and are the same in every run.
fn garbage(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(length).collect()
}

/// A first word that is no peer's, or one that is followed by nonsense.
fn nonsense() -> Vec<Vec<u8>> {
    vec![
        garbage(1 << 20),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"POST /v3/kv/put HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n{".to_vec(),
        [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &garbage(4096)].concat(),
        [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0xFF; 4096]].concat(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03".to_vec(),
        [&b"QUORPEER"[..], &garbage(4096)].concat(),
        [&b"QUORPEER"[..], &[0; 48]].concat(),
        b"QUOR".to_vec(),
        Vec::new(),
    ]
}

async fn memory_kb(cluster: &mut Cluster, index: usize) -> u64 {
    let path = format!("/proc/{}/status", cluster.process(index).id());
    let status = tokio::fs::read_to_string(path).await.unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn garbage_on_either_port_is_cut_off_and_the_cluster_goes_on() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    cluster.put(0, "kept", "value").await;
    let leader = cluster.leader().await;
    let before_kb = memory_kb(&mut cluster, leader).await;
    let mut open = Vec::new();
    for address in [cluster.client_address(leader), cluster.peer_address(leader)] {
        for words in nonsense() {
            for _ in 0..8 {
                let mut stream = TcpStream::connect(&address).await.expect("it listens");
                // Whoever is cut off in the middle of a word cannot say the rest.
                let _ = timeout(PATIENCE, stream.write_all(&words)).await;
                open.push(stream);
            }
        }
    }
    for index in 0..3 {
        cluster.put(index, "under garbage", "value").await;
    }
    let grown_kb = memory_kb(&mut cluster, leader).await.saturating_sub(before_kb);
    assert!(grown_kb < GROWTH_KB_MAX, "the member has grown by {grown_kb} KiB");
    assert_eq!(cluster.leader().await, leader, "nobody had a reason to elect another");
    says(&cluster.log(leader), &["closed a connection to the peer port"]);
    assert_no_panic(&cluster);
}

/// The peer port takes a bounded number of connections, and one that says nothing only for a time,
/// so that a member which comes back is heard in the end.
#[tokio::test]
async fn connections_that_say_nothing_do_not_keep_a_member_out() {
    let mut cluster = Cluster::start_with(3, QUICK).await;
    let leader = cluster.leader().await;
    let other = (leader + 1) % 3;
    assert_eq!(cluster.stop(other).await, Some(0));
    let mut silent = Vec::new();
    for _ in 0..100 {
        for index in (0..3).filter(|&index| index != other) {
            silent.push(TcpStream::connect(cluster.peer_address(index)).await.expect("it listens"));
            silent
                .push(TcpStream::connect(cluster.client_address(index)).await.expect("it listens"));
        }
    }
    cluster.put(leader, "meanwhile", "value").await;
    cluster.start_member(other);
    until("the member to be back", async || {
        cluster.get(other, "meanwhile").await.is_ok_and(|value| value.is_some())
    })
    .await;
    // Each silent one at the peer port was closed by now, or is within its time.
    let mut byte = [0];
    let closed = timeout(PATIENCE, silent[0].read(&mut byte)).await;
    assert!(matches!(closed, Ok(Ok(0) | Err(_))), "a silent connection is still open");
    assert_no_panic(&cluster);
}

/// Every connection takes a file, and a member without one left could open neither its next segment
/// nor a connection to a peer.
#[tokio::test]
async fn more_clients_than_there_are_files_are_turned_away() {
    const FILES_MAX: libc::rlim_t = 200;
    const CLIENTS: usize = 300;
    let cluster = Cluster::prepare(1, QUICK);
    let log = cluster.directory().join("m0.log");
    let mut command = cluster.command(0);
    command.stderr(std::fs::File::create(log).expect("a log file"));
    let limit = || {
        let limit = libc::rlimit { rlim_cur: FILES_MAX / 2, rlim_max: FILES_MAX };
        // SAFETY: the call is async-signal-safe and reads only `limit`.
        match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(limit) };
    let _member = Process::start(&mut command);
    cluster.wait_until_it_serves(0).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(TcpStream::connect(cluster.client_address(0)).await.expect("it listens"));
    }
    let mut byte = [0];
    let turned_away = clients.last_mut().expect("there are many").read(&mut byte);
    let closed = timeout(PATIENCE, turned_away).await;
    assert!(matches!(closed, Ok(Ok(0) | Err(_))), "it was let in");
    // Whoever was there before is served, and room is given to others once there is some.
    cluster.put(0, "meanwhile", "value").await;
    drop(clients);
    until("a new client to be let in", async || {
        let mut client = quorate();
        client.args(["get", "meanwhile", "--endpoints", &cluster.client_address(0)]);
        run(client).await.stdout == "value\n"
    })
    .await;
    says(&cluster.log(0), &["closed clients' connections: too many"]);
    assert!(!cluster.log(0).contains("cannot accept"), "{}", cluster.log(0));
}

/// Two clusters whose operator mixed up the ports: neither hears a word of the other.
#[tokio::test]
async fn a_peer_of_another_cluster_is_refused_by_name() {
    let cluster = Cluster::start_with(1, QUICK).await;
    cluster.put(0, "ours", "value").await;
    let before = cluster.status(0).await.expect("it answers");
    let mut stranger = Cluster::prepare(1, QUICK);
    let own = stranger.peer_address(0);
    let mixed_up = format!("m0=http://{own},m1=http://{}", cluster.peer_address(0));
    let flags = vec![format!("--initial-cluster={mixed_up}"), "--election-timeout=300".to_owned()];
    stranger.start_member_with(0, &flags);
    until("both to say so", async || {
        stranger.log(0).contains("not of ours: check --initial-cluster")
            && cluster.log(0).contains("refused a peer's connection")
    })
    .await;
    let after = cluster.status(0).await.expect("it answers");
    assert_eq!((after.leader, after.raft_term), (before.leader, before.raft_term));
    cluster.put(0, "ours", "still").await;
    assert_no_panic(&cluster);
    assert_no_panic(&stranger);
}

/// What takes a member for something that it is not.
#[tokio::test]
async fn a_peer_url_where_something_else_listens_is_named() {
    let other = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = other.local_addr().expect("bound");
    tokio::spawn(async move {
        loop {
            let Ok((mut stream, _)) = other.accept().await else { return };
            // Longer than the answer of a peer.
            let _ =
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await;
        }
    });
    let mut cluster = Cluster::prepare(1, QUICK);
    let own = cluster.peer_address(0);
    let nobody = free_port();
    let members = format!("m0=http://{own},m1=http://{address},m2=http://127.0.0.1:{nobody}");
    cluster.start_member_with(0, &[format!("--initial-cluster={members}")]);
    until("the member to say so", async || {
        let log = cluster.log(0);
        log.contains("does not speak the peer protocol") && log.contains("refused")
    })
    .await;
    assert_no_panic(&cluster);
}
