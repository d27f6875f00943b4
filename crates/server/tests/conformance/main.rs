//! What must hold of the real program: real processes on loopback, real clients, real kills. The
//! quick tests run with all others; those marked `ignored` take minutes or need an idle machine,
//! and have a command of their own (`cargo xtask`).

/// The program under the name of etcd.
mod as_etcd;
/// Bad input and broken surroundings: one clear line, nothing changed, nothing lost.
mod bad_input;
/// The clients that people have.
mod clients;
/// Three members of the real program.
mod cluster;
/// The same requests put to a real etcd, and the same answers expected.
mod differential;
/// etcd's own programs.
mod etcd_programs;
/// The real etcdctl.
mod etcdctl;
/// etcd's API in JSON.
mod gateway;
/// Locks and offices, held from the command line.
mod held;
/// Probes, version and pages over HTTP/1.1.
mod http;
/// The least of an HTTP/1.1 client.
mod http_client;
/// kill -9 of the leader under load, again and again.
mod kill_leader;
/// Leases, as long as they last.
mod lease;
/// A steady load, and whether what was acknowledged is there.
mod load;
/// Leases by the ten thousand.
mod many_leases;
/// Members that come and go.
mod membership;
/// What dashboards and alerts read.
mod metrics;
/// The program, started and stopped.
mod process;
/// The ten scenarios of the RaftNode API, message by message.
mod raft_node;
/// Ranges in pieces.
mod range_stream;
/// A cluster whose majority is lost for good.
mod recovery;
/// What a member keeps on its disk, and what it gets from others when it lacks that.
mod store;
/// Certificates, on clients' ports and between members.
mod tls;
/// Watches, whatever becomes of the members.
mod watch;

/// A number from the environment, for the length of long tests.
fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
