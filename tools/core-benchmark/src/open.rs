//! openraft, with a log in a vector of memory and function calls for a network.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::Cursor;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openraft::error::{InstallSnapshotError, RPCError, RaftError, RemoteError};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::storage::{
    LogFlushed, LogState, RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine,
    Snapshot,
};
use openraft::{
    Config, Entry, EntryPayload, LogId, OptionalSend, Raft, RaftLogId, SnapshotMeta, StorageError,
    StoredMembership, Vote,
};
use serde::{Deserialize, Serialize};
use tokio::sync::RwLock;

use crate::COMMAND_BYTES;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Command([u8; COMMAND_BYTES]);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Done;

openraft::declare_raft_types!(
    pub(crate) Types:
        D = Command,
        R = Done,
        Node = (),
);

type Id = u64;
type Storage<T> = Result<T, StorageError<Id>>;

pub(crate) fn run(batch: usize, commands: u64) -> Duration {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("a runtime");
    let elapsed = runtime.block_on(drive(batch as u64, commands));
    runtime.shutdown_background();
    elapsed
}

async fn drive(clients: u64, commands: u64) -> Duration {
    let config = Config {
        election_timeout_min: 200,
        election_timeout_max: 2000,
        purge_batch_size: 1024,
        ..Config::default()
    };
    let config = Arc::new(config.validate().expect("a good configuration"));
    let router = Router::default();
    for id in 0..3 {
        let (log, machine) = (Arc::new(Log::default()), Arc::new(Machine::default()));
        let raft = Raft::new(id, Arc::clone(&config), router.clone(), log, machine).await;
        router.0.lock().expect("no panic").insert(id, raft.expect("a node"));
    }
    let leader = router.node(0);
    leader.initialize(BTreeSet::from([0, 1, 2])).await.expect("a new cluster");
    leader.wait(None).current_leader(0, "an election").await.expect("it wins");

    let began = Instant::now();
    let each = commands / clients;
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let leader = leader.clone();
            tokio::spawn(async move {
                for _ in 0..each {
                    leader.client_write(Command([7; COMMAND_BYTES])).await.expect("it leads");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let elapsed = began.elapsed();
    for id in 0..3 {
        let _ = router.node(id).shutdown().await;
    }
    elapsed
}

#[derive(Clone, Default)]
struct Router(Arc<Mutex<BTreeMap<Id, Raft<Types>>>>);

impl Router {
    fn node(&self, id: Id) -> Raft<Types> {
        self.0.lock().expect("no panic")[&id].clone()
    }
}

impl RaftNetworkFactory<Types> for Router {
    type Network = Wire;

    async fn new_client(&mut self, target: Id, _node: &()) -> Wire {
        Wire { target, raft: self.node(target) }
    }
}

struct Wire {
    target: Id,
    raft: Raft<Types>,
}

type Rpc<T, E = openraft::error::Infallible> = Result<T, RPCError<Id, (), RaftError<Id, E>>>;

impl RaftNetwork<Types> for Wire {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<Id>> {
        let answer = self.raft.append_entries(request).await;
        Ok(answer.map_err(|error| RemoteError::new(self.target, error))?)
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _option: RPCOption,
    ) -> Rpc<InstallSnapshotResponse<Id>, InstallSnapshotError> {
        let answer = self.raft.install_snapshot(request).await;
        Ok(answer.map_err(|error| RemoteError::new(self.target, error))?)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Id>,
        _option: RPCOption,
    ) -> Rpc<VoteResponse<Id>> {
        let answer = self.raft.vote(request).await;
        Ok(answer.map_err(|error| RemoteError::new(self.target, error))?)
    }
}

/// The log of one node.
#[derive(Debug, Default)]
struct Log(RwLock<LogContent>);

#[derive(Debug, Default)]
struct LogContent {
    vote: Option<Vote<Id>>,
    entries: BTreeMap<u64, Entry<Types>>,
    purged: Option<LogId<Id>>,
}

impl RaftLogReader<Types> for Arc<Log> {
    async fn try_get_log_entries<B: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: B,
    ) -> Storage<Vec<Entry<Types>>> {
        Ok(self.0.read().await.entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }
}

impl RaftLogStorage<Types> for Arc<Log> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Storage<LogState<Types>> {
        let content = self.0.read().await;
        let last = content.entries.last_key_value().map(|(_, entry)| *entry.get_log_id());
        let last_purged_log_id = content.purged;
        Ok(LogState { last_purged_log_id, last_log_id: last.or(last_purged_log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        Arc::clone(self)
    }

    async fn save_vote(&mut self, vote: &Vote<Id>) -> Storage<()> {
        self.0.write().await.vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Storage<Option<Vote<Id>>> {
        Ok(self.0.read().await.vote)
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<Types>) -> Storage<()>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
    {
        let mut content = self.0.write().await;
        content.entries.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
        drop(content);
        flushed.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId<Id>) -> Storage<()> {
        self.0.write().await.entries.split_off(&from.index);
        Ok(())
    }

    async fn purge(&mut self, to: LogId<Id>) -> Storage<()> {
        let mut content = self.0.write().await;
        content.purged = Some(to);
        content.entries = content.entries.split_off(&(to.index + 1));
        Ok(())
    }
}

/// A state machine that holds nothing but how far it has come.
#[derive(Debug, Default)]
struct Machine(RwLock<MachineContent>);

#[derive(Clone, Debug, Default)]
struct MachineContent {
    applied: Option<LogId<Id>>,
    membership: StoredMembership<Id, ()>,
}

impl Machine {
    async fn snapshot(&self) -> Snapshot<Types> {
        let content = self.0.read().await.clone();
        let snapshot_id = content.applied.map_or(0, |id| id.index).to_string();
        let (last_log_id, last_membership) = (content.applied, content.membership);
        Snapshot {
            meta: SnapshotMeta { last_log_id, last_membership, snapshot_id },
            snapshot: Box::new(Cursor::new(Vec::new())),
        }
    }
}

impl RaftSnapshotBuilder<Types> for Arc<Machine> {
    async fn build_snapshot(&mut self) -> Storage<Snapshot<Types>> {
        Ok(self.snapshot().await)
    }
}

impl RaftStateMachine<Types> for Arc<Machine> {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Storage<(Option<LogId<Id>>, StoredMembership<Id, ()>)> {
        let content = self.0.read().await;
        Ok((content.applied, content.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Storage<Vec<Done>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut content = self.0.write().await;
        let mut done = Vec::new();
        for entry in entries {
            content.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                content.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            done.push(Done);
        }
        Ok(done)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        Arc::clone(self)
    }

    async fn begin_receiving_snapshot(&mut self) -> Storage<Box<Cursor<Vec<u8>>>> {
        Ok(Box::new(Cursor::new(Vec::new())))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<Id, ()>,
        _snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Storage<()> {
        let (applied, membership) = (meta.last_log_id, meta.last_membership.clone());
        *self.0.write().await = MachineContent { applied, membership };
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Storage<Option<Snapshot<Types>>> {
        Ok(Some(self.snapshot().await))
    }
}
