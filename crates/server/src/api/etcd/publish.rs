//! A member tells the cluster what it is called and where its clients find it, through the log, so
//! that every member can tell its own clients of all the others.

use std::sync::Arc;
use std::time::Duration;

use quorate_raft::NodeId;

use super::ClusterInfo;
use super::error::ApiError;
use super::gate::Gate;
use crate::machine::{Command, KvMachine, MemberAttributes};
use crate::runtime::Handle;

/// Between one try and the next, so that a member which refuses at once is not pressed.
const RETRY_DELAY_MS: u64 = 200;

/// Publishes the attributes, however long it takes to find a leader; gives up only when the member
/// stops. Doing it twice does no harm, so an unknown outcome is simply tried again.
pub async fn publish_member(
    handle: Handle<KvMachine>,
    info: Arc<ClusterInfo>,
    attributes: MemberAttributes,
) {
    let already = {
        let attributes = attributes.clone();
        move |machine: &KvMachine| machine.member(NodeId(attributes.member_id)) == Some(&attributes)
    };
    let gate = Gate::new(handle, info);
    let command = Command::PublishMember(attributes);
    loop {
        // Said already, before a restart: the log need not hear it again.
        if let Ok(true) = gate.read(false, already.clone()).await {
            return;
        }
        match gate.propose(&command).await {
            Ok(_) | Err(ApiError::Stopped | ApiError::RequestTooLarge) => return,
            Err(error) => {
                let (_code, reason) = error.code_and_text();
                tracing::warn!(
                    reason,
                    "could not publish this member's name and URLs; trying again"
                );
                tokio::time::sleep(Duration::from_millis(RETRY_DELAY_MS)).await;
            }
        }
    }
}
