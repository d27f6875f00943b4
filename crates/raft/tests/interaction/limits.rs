//! The limits that a script can set.

use std::error::Error;

use quorate_raft::NodeId;

use crate::cluster::Cluster;

/// Sets a limit of every member, all of which start anew.
pub(crate) fn set_limit(
    cluster: &mut Cluster,
    name: &str,
    value: u64,
) -> Result<(), Box<dyn Error>> {
    let size = usize::try_from(value)?;
    let ids: Vec<NodeId> = cluster.members.keys().copied().collect();
    for id in ids {
        let config = &mut cluster.member(id).config;
        match name {
            "proposal_timeout_ms" => config.proposal_timeout_ms = value,
            "read_timeout_ms" => config.read_timeout_ms = value,
            "snapshot_timeout_ms" => config.snapshot_timeout_ms = value,
            "snapshot_retry_ms" => config.snapshot_retry_ms = value,
            "command_bytes_max" => config.command_bytes_max = size,
            "proposals_max" => config.proposals_max = size,
            "reads_max" => config.reads_max = size,
            "uncommitted_bytes_max" => config.uncommitted_bytes_max = size,
            "append_bytes_max" => config.append_bytes_max = size,
            "inflight_messages_max" => config.inflight_messages_max = size,
            "inflight_bytes_max" => config.inflight_bytes_max = size,
            "apply_bytes_max" => config.apply_bytes_max = size,
            "memory_bytes_max" => config.memory_bytes_max = size,
            "catch_up_bytes_per_second_max" => config.catch_up_bytes_per_second_max = value,
            "members_max" => config.members_max = size,
            "priority_patience_ms" => config.priority_patience_ms = value,
            "promotion_entries_max" => config.promotion_entries_max = value,
            "memory_unapplied_bytes_max" => config.memory_unapplied_bytes_max = size,
            _ => return Err(format!("no such limit: {name}").into()),
        }
        cluster.crash(id);
        cluster.restart(id);
    }
    cluster.output.clear();
    Ok(())
}
