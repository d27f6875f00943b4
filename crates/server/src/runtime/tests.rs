//! Members on real threads: a group of three in one process, and each way in which one stops.

mod stored;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate_raft::{
    Config, Configuration, DropReason, ElectionTimeout, EntryId, Envelope, LogIndex, NodeId,
    Persist, Recovered, RequestId, Role, SnapshotMeta,
};
use quorate_replica::{ReplicaConfig, StateMachine};
use quorate_wal::Prepared;

use super::*;
use crate::identity::Incarnation;
use crate::metrics::RuntimeMetrics;
use crate::transport::Transport;

/// Longer than anything here takes; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
const BAD_COMMAND: &[u8] = b"from the future";

/// Remembers every command; answers how many there are.
#[derive(Debug, Default)]
struct Journal {
    commands: Vec<Vec<u8>>,
}

impl StateMachine for Journal {
    type Response = usize;
    type Error = CommandError;
    type Staged = Infallible;

    fn apply(
        &mut self,
        _entry: EntryId,
        _request: RequestId,
        command: &[u8],
    ) -> Result<usize, CommandError> {
        match command {
            BAD_COMMAND => Err(CommandError::Newer { found: 9, known: 1 }),
            _ => {
                self.commands.push(command.to_vec());
                Ok(self.commands.len())
            }
        }
    }

    fn install(&mut self, staged: Infallible) -> Result<(), CommandError> {
        match staged {}
    }

    fn digest(&self) -> u64 {
        self.commands.len() as u64
    }
}

/// Hands messages from member to member within the process.
#[derive(Clone, Default)]
struct Wires(Arc<Mutex<BTreeMap<NodeId, Handle<Journal>>>>);

impl Transport for Wires {
    fn send(&self, messages: Vec<Envelope>) {
        let members = self.0.lock().expect("no test panics while it holds the lock");
        for message in messages {
            if let Some(member) = members.get(&message.to) {
                member.peer_message(message);
            }
        }
    }
}

/// A log whose writes fail from the first one with an entry on.
struct FailingLog;

impl LogWriter for FailingLog {
    fn append(&mut self, batch: &[Persist]) -> Result<(), LogError> {
        if batch.iter().any(|persist| !persist.entries.is_empty()) {
            return Err(LogError::Missing { index: LogIndex(1) });
        }
        Ok(())
    }

    fn compact(&mut self, _snapshot: &SnapshotMeta) -> Result<(), LogError> {
        Ok(())
    }

    fn prepare(&mut self) -> Result<Prepared, LogError> {
        Ok(Prepared::Ready)
    }
}

fn start_one(
    id: u64,
    members: u64,
    wires: &Wires,
    config: RuntimeConfig,
    writer: impl LogWriter,
) -> Running<Journal> {
    let raft = Config {
        election_timeout: ElectionTimeout::Randomized(100),
        heartbeat_interval_ms: 10,
        ..Config::new(NodeId(id), id)
    };
    let configuration = Configuration::of_voters((1..=members).map(NodeId));
    let snapshot = SnapshotMeta { configuration, ..SnapshotMeta::default() };
    let parts = Parts {
        replica: ReplicaConfig::new(raft, id),
        recovered: Recovered { snapshot, ..Recovered::default() },
        committed: Configuration::default(),
        incarnation: Incarnation::default(),
        machine: Journal::default(),
        writer,
        reader: MemoryLog::new(),
        config,
        metrics: RuntimeMetrics::default(),
    };
    let wires = wires.clone();
    start(parts, move |handle| {
        wires.0.lock().expect("as above").insert(NodeId(id), handle.clone());
        Arc::new(wires)
    })
    .expect("threads are to be had")
}

async fn leads(running: &Running<Journal>) {
    let mut status = running.handle().status_changes();
    let leading = status.wait_for(|status| status.role.role == Role::Leader);
    tokio::time::timeout(PATIENCE, leading).await.expect("in time").expect("it runs");
}

async fn stopped(running: &Running<Journal>) -> StopReason {
    tokio::time::timeout(PATIENCE, running.stopped()).await.expect("in time")
}

#[tokio::test]
async fn what_one_of_three_members_takes_every_one_can_read() {
    let wires = Wires::default();
    let group: Vec<_> = (1..=3)
        .map(|id| start_one(id, 3, &wires, RuntimeConfig::default(), MemoryLog::new()))
        .collect();
    for (number, member) in group.iter().enumerate() {
        let answered = member.handle().propose(vec![number as u8]).await;
        assert_eq!(answered, Ok(number + 1));
    }
    for member in &group {
        let read = member.handle().read(|journal| journal.commands.clone()).await;
        assert_eq!(read, Ok(vec![vec![0], vec![1], vec![2]]));
    }
    let leader = group.iter().position(|m| m.handle().status().role.role == Role::Leader);
    let leader = &group[leader.expect("one leads")];
    let before = leader.handle().status().role.term;
    leader.hand_over(20_000).await;
    assert_ne!(leader.handle().status().role.role, Role::Leader);
    assert!(leader.handle().status().role.term > before);
    for member in group {
        assert!(matches!(member.stop(), StopReason::Asked));
    }
}

#[tokio::test]
async fn a_command_of_a_later_version_stops_the_member_before_it_is_applied() {
    let wires = Wires::default();
    let member = start_one(1, 1, &wires, RuntimeConfig::default(), MemoryLog::new());
    assert_eq!(member.handle().propose(b"good".to_vec()).await, Ok(1));
    let outcome = member.handle().propose(BAD_COMMAND.to_vec()).await;
    assert_eq!(outcome, Err(ProposeError::Stopped));
    let reason = stopped(&member).await;
    let error = CommandError::Newer { found: 9, known: 1 };
    assert!(
        matches!(reason, StopReason::Apply { error: MachineError::Command(found), .. } if found == error)
    );
    // A stopped member says so, and takes nothing.
    let refused = Err(ProposeError::Dropped(DropReason::Stopping));
    assert_eq!(member.handle().propose(b"late".to_vec()).await, refused);
    assert_eq!(member.handle().read(|_| ()).await, Err(ReadError::Stopped));
    assert_eq!(member.handle().read_local(|_| ()).await, Err(ReadError::Stopped));
    assert!(matches!(member.stop(), StopReason::Apply { .. }));
}

#[tokio::test]
async fn a_failed_write_stops_the_member() {
    let member = start_one(1, 1, &Wires::default(), RuntimeConfig::default(), FailingLog);
    let reason = stopped(&member).await;
    assert!(matches!(&reason, StopReason::Log(_)), "{reason}");
    let refused = Err(ProposeError::Dropped(DropReason::Stopping));
    assert_eq!(member.handle().propose(b"x".to_vec()).await, refused);
}

#[tokio::test]
async fn a_panic_in_one_thread_stops_the_whole_member() {
    let wires = Wires::default();
    let member = start_one(1, 1, &wires, RuntimeConfig::default(), MemoryLog::new());
    let read = member.handle().read_local(|_| assert_eq!(1, 2, "on purpose")).await;
    assert_eq!(read, Err(ReadError::Stopped));
    let reason = stopped(&member).await;
    assert!(matches!(reason, StopReason::Panicked { thread: "apply" }), "{reason}");
}

#[tokio::test]
async fn beyond_the_limit_requests_are_overload() {
    let config = RuntimeConfig { requests_waiting_max: 0, ..RuntimeConfig::default() };
    let member = start_one(1, 1, &Wires::default(), config, MemoryLog::new());
    let handle = member.handle();
    let overload = ProposeError::Dropped(DropReason::Overload);
    assert_eq!(handle.propose(b"x".to_vec()).await, Err(overload));
    let overload = ReadError::Failed(quorate_raft::ReadFailure::Overload);
    assert_eq!(handle.read(|_| ()).await, Err(overload));
    assert_eq!(handle.read_local(|_| ()).await, Err(overload));
}

#[tokio::test]
async fn a_log_that_is_behind_turns_proposals_away() {
    let config = RuntimeConfig { log_writes_waiting_max: 0, ..RuntimeConfig::default() };
    let member = start_one(1, 1, &Wires::default(), config, MemoryLog::new());
    leads(&member).await;
    let overload = ProposeError::Dropped(DropReason::Overload);
    assert_eq!(member.handle().propose(b"x".to_vec()).await, Err(overload));
}

#[tokio::test]
async fn without_a_leader_requests_end_by_the_members_deadline() {
    let config = RuntimeConfig { request_timeout_ms: Some(1), ..RuntimeConfig::default() };
    // Two of three members are missing.
    let member = start_one(1, 3, &Wires::default(), config, MemoryLog::new());
    assert_eq!(member.handle().propose(b"x".to_vec()).await, Err(ProposeError::TimedOut));
    assert_eq!(member.handle().read(|_| ()).await, Err(ReadError::TimedOut));
    let local = tokio::time::timeout(PATIENCE, async {
        // The state is there without any leader; only a slow machine makes it miss the deadline.
        while member.handle().read_local(|journal| journal.commands.len()).await != Ok(0) {}
    });
    local.await.expect("in time");
}
