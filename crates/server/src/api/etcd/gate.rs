//! Where every request of etcd's API passes: it is admitted, put to the member, tried again while
//! that is certainly harmless, and its answer given its header.

use std::sync::Arc;
use std::time::Duration;

use quorate_kv::{Command as StoreCommand, Response as StoreResponse, Revision};
use quorate_raft::{ChangeRefusal, ConfigurationChange, NodeId, Role, Status};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use super::ClusterInfo;
use super::error::ApiError;
use super::members::{Active, Members};
use crate::machine::{Applied, Command, KvMachine};
use crate::proto::etcdserverpb::ResponseHeader;
use crate::runtime::{Handle, Query};

/// What all services share.
pub(super) struct Gate {
    handle: Handle<KvMachine>,
    info: Arc<ClusterInfo>,
}

impl Gate {
    pub(super) fn new(handle: Handle<KvMachine>, info: Arc<ClusterInfo>) -> Self {
        Self { handle, info }
    }

    pub(super) fn info(&self) -> &ClusterInfo {
        &self.info
    }

    pub(super) fn status(&self) -> Status {
        self.handle.status()
    }

    pub(super) fn handle(&self) -> &Handle<KvMachine> {
        &self.handle
    }

    /// Whether the client wants no answer of a member that knows no leader.
    pub(super) fn needs_leader(metadata: &MetadataMap) -> bool {
        metadata.get("hasleader").is_some_and(|value| value == "true")
    }

    /// Resolves once no leader has been known for so long: what becomes of a stream whose client
    /// asked for a leader. Never where the client has not.
    pub(super) async fn leader_lost(&self, needs_leader: bool, patience: Duration) {
        if !needs_leader {
            return std::future::pending().await;
        }
        let mut status = self.handle.status_changes();
        // The member outlives its streams.
        while status.wait_for(|status| status.role.leader.is_none()).await.is_ok() {
            let found = status.wait_for(|status| status.role.leader.is_some());
            if tokio::time::timeout(patience, found).await.is_err() {
                return;
            }
        }
    }

    /// What a client may say of any request beside the request itself.
    pub(super) fn admit(&self, metadata: &MetadataMap) -> Result<(), ApiError> {
        if let Some(version) = metadata.get("client-api-version")
            && std::str::from_utf8(version.as_bytes()).is_err()
        {
            return Err(ApiError::InvalidClientApiVersion);
        }
        if Self::needs_leader(metadata) && self.status().role.leader.is_none() {
            return Err(ApiError::NoLeader);
        }
        Ok(())
    }

    /// The header of an answer. Those of the Cluster service have revision 0, as etcd's.
    pub(super) fn header(&self, revision: Revision) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.info.cluster_id.0,
            member_id: self.info.member_id.0,
            revision: revision.0,
            raft_term: self.status().role.term.0,
        }
    }

    /// Replicates the command, and answers what applying it answered. One that certainly never
    /// reached a log, for want of a leader, is proposed again once there is one.
    pub(super) async fn propose(&self, command: &Command) -> Result<Applied, ApiError> {
        let mut patience = self.patience();
        loop {
            patience.note_status();
            let error = match self.handle.propose(command.encode()).await {
                Ok(answer) => return answer.map_err(ApiError::from),
                Err(error) => ApiError::from(error),
            };
            patience.another_try(error).await?;
        }
    }

    /// As [`Gate::propose`], of a command of the store.
    pub(super) async fn propose_to_store(
        &self,
        command: StoreCommand,
    ) -> Result<StoreResponse, ApiError> {
        match self.propose(&Command::Kv(command)).await? {
            Applied::Kv(response) => Ok(response),
            Applied::MemberPublished => {
                unreachable!("the store answers the commands that it is given")
            }
        }
    }

    /// Runs `read` on the state: once that is linearizable, or at once where the client asked for a
    /// serializable read.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        serializable: bool,
        read: impl FnOnce(&KvMachine) -> T + Clone + Send + 'static,
    ) -> Result<T, ApiError> {
        if serializable {
            return self.handle.read_local(read).await.map_err(ApiError::from);
        }
        let mut patience = self.patience();
        loop {
            patience.note_status();
            let error = match self.handle.read(read.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => ApiError::from(error),
            };
            patience.another_try(error).await?;
        }
    }

    /// Changes the members as `plan` says, given who they are now and who of them can be reached; plans
    /// anew where somebody else was faster. Answers what the plan named, and who the members are then.
    pub(super) async fn change_members<T>(
        &self,
        plan: impl Fn(&Members, &Active) -> Result<(T, ConfigurationChange), ApiError>,
    ) -> Result<(T, Members), ApiError> {
        let mut patience = self.patience();
        loop {
            patience.note_status();
            let members = self.read(false, Members::of).await?;
            let mut active = self.handle.connected_peers();
            active.push(self.info.member_id);
            let error = match plan(&members, &active) {
                Ok((planned, change)) => match self.handle.change_members(change).await {
                    Ok(configuration) => return Ok((planned, members.with(configuration))),
                    Err(error) => ApiError::from(error),
                },
                Err(error) => error,
            };
            patience.another_change(error).await?;
        }
    }

    /// Has this member, which must lead, hand leadership to another, and waits until that one leads.
    pub(super) async fn move_leader(&self, to: NodeId) -> Result<(), ApiError> {
        if self.status().role.role != Role::Leader {
            return Err(ApiError::NotLeader);
        }
        let votes =
            self.read(true, move |machine: &KvMachine| machine.configuration().is_voter(to));
        if !votes.await? {
            return Err(ApiError::BadLeaderTransferee);
        }
        let mut status = self.handle.status_changes();
        self.handle.transfer_leadership(to).await;
        let limit = Duration::from_millis(self.info.limits.request_timeout_ms);
        let leads = status.wait_for(|status| status.role.leader == Some(to));
        match tokio::time::timeout(limit, leads).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_stopped)) => Err(ApiError::Stopped),
            Err(_elapsed) => Err(ApiError::LeaderTransferTimedOut),
        }
    }

    /// Makes a read that may take long, in slices; else as [`Gate::read`]. `query` is asked for each
    /// attempt.
    pub(super) async fn query<Q: Query<KvMachine>>(
        &self,
        serializable: bool,
        query: impl Fn() -> Q,
    ) -> Result<Q::Answer, ApiError> {
        if serializable {
            return self.handle.query_local(query()).await.map_err(ApiError::from);
        }
        let mut patience = self.patience();
        loop {
            patience.note_status();
            let error = match self.handle.query(query()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => ApiError::from(error),
            };
            patience.another_try(error).await?;
        }
    }

    /// Waits until nothing before this revision takes up room any more, as far as this member's
    /// compaction goes.
    pub(super) async fn compacted(&self, revision: Revision) -> Result<(), ApiError> {
        let mut compactions = self.read(true, KvMachine::compactions).await?;
        let limit = Duration::from_millis(self.info.limits.request_timeout_ms);
        let done = compactions.wait_for(|&done| done >= revision);
        match tokio::time::timeout(limit, done).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_stopped)) => Err(ApiError::Stopped),
            Err(_elapsed) => Err(ApiError::TimedOut),
        }
    }

    fn patience(&self) -> Patience {
        Patience {
            status: self.handle.status_changes(),
            deadline: Instant::now() + Duration::from_millis(self.info.limits.request_timeout_ms),
        }
    }
}

/// How long a request may wait for a leader, and how it notices one.
/// After which something that did not happen for want of a leader is tried again, where no change
/// of status has said so before.
const RETRY: Duration = Duration::from_millis(500);
/// After which a change of the members is asked for again that came upon another one.
const CHANGE_RETRY: Duration = Duration::from_millis(50);

struct Patience {
    status: watch::Receiver<Status>,
    deadline: Instant,
}

impl Patience {
    /// Whatever happens to the member from here on is a reason to try again.
    fn note_status(&mut self) {
        self.status.borrow_and_update();
    }

    /// Waits a moment after an error that says that another change has to come first; else as
    /// [`Patience::another_try`].
    async fn another_change(&mut self, error: ApiError) -> Result<(), ApiError> {
        use ChangeRefusal::{NotReady, Outdated, Pending};
        match error {
            ApiError::Change(NotReady | Pending | Outdated { .. }) => {
                let wake = Instant::now() + CHANGE_RETRY;
                if wake >= self.deadline {
                    return Err(error);
                }
                tokio::time::sleep_until(wake).await;
                Ok(())
            }
            _ => self.another_try(error).await,
        }
    }

    /// Waits for a leader after an error that says that nothing was done for want of one; hands
    /// back every other error, and this one too when time is up.
    async fn another_try(&mut self, error: ApiError) -> Result<(), ApiError> {
        if !matches!(error, ApiError::NoLeader | ApiError::LeaderChanged) {
            return Err(error);
        }
        loop {
            // A transfer that comes to nothing changes no status, so time alone is a reason too.
            let wake = self.deadline.min(Instant::now() + RETRY);
            match tokio::time::timeout_at(wake, self.status.changed()).await {
                Ok(Err(_stopped)) => return Err(ApiError::Stopped),
                Err(_elapsed) if Instant::now() >= self.deadline => return Err(error),
                Ok(Ok(())) | Err(_) => {}
            }
            if self.status.borrow_and_update().role.leader.is_some() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_raft::{EntryId, LogIndex, NodeId, Role, RoleChange, Term};

    fn status(leader: Option<NodeId>) -> Status {
        Status {
            id: NodeId(1),
            role: RoleChange { role: Role::Follower, term: Term(1), leader },
            vote: None,
            last: EntryId::default(),
            durable: LogIndex(0),
            commit: LogIndex(0),
            applied: LogIndex(0),
            compacted: EntryId::default(),
        }
    }

    fn patience(limit_ms: u64) -> (watch::Sender<Status>, Patience) {
        let (sender, status) = watch::channel(status(None));
        let deadline = Instant::now() + Duration::from_millis(limit_ms);
        (sender, Patience { status, deadline })
    }

    #[tokio::test]
    async fn what_is_not_for_want_of_a_leader_is_not_tried_again() {
        let (sender, mut patience) = patience(60_000);
        sender.send_replace(status(Some(NodeId(2))));
        for error in [ApiError::TimedOut, ApiError::TooManyRequests, ApiError::Stopped] {
            assert_eq!(patience.another_try(error).await, Err(error));
        }
    }

    #[tokio::test]
    async fn a_leader_that_appears_is_a_reason_to_try_again() {
        let (sender, mut patience) = patience(60_000);
        patience.note_status();
        let elect = async {
            // Another change without a leader is no reason yet.
            sender.send_replace(status(None));
            tokio::task::yield_now().await;
            sender.send_replace(status(Some(NodeId(2))));
        };
        let wait = async {
            patience.another_try(ApiError::NoLeader).await?;
            Ok::<_, ApiError>(patience.status.borrow().role.leader)
        };
        let (leader, ()) = tokio::join!(biased; wait, elect);
        assert_eq!(leader, Ok(Some(NodeId(2))));
    }

    /// A leader that was known before the attempt failed is not news: it may be the one that failed.
    #[tokio::test]
    async fn patience_ends_with_the_error_that_it_began_with() {
        let (sender, mut patience) = patience(1);
        sender.send_replace(status(Some(NodeId(2))));
        patience.note_status();
        let waited = patience.another_try(ApiError::LeaderChanged).await;
        assert_eq!(waited, Err(ApiError::LeaderChanged));
        drop(sender);
        let waited = patience.another_try(ApiError::NoLeader).await;
        assert_eq!(waited, Err(ApiError::Stopped));
    }
}
