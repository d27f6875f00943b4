//! `quorate recover`: after most of a cluster's disks are lost.

use std::path::PathBuf;

use clap::Args;

use super::{EXIT_DONE, EXIT_REFUSED, complain, say};
use crate::member::{Answer, KnownMember, Recovery, RecoveryError};

#[derive(Debug, Args)]
pub(super) struct RecoverArguments {
    /// The data directory of the member that is left, which must be stopped. Of several the one with
    /// the latest entry: the greatest term, then the greatest index.
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: PathBuf,
    /// Do it. Writes that were acknowledged and are not in this member's log are lost for good.
    #[arg(long)]
    force: bool,
}

/// Answers the exit status.
pub(super) fn run(arguments: &RecoverArguments) -> u8 {
    match recover(arguments) {
        Ok(()) => EXIT_DONE,
        Err(error) => {
            complain("recover", error);
            EXIT_REFUSED
        }
    }
}

fn recover(arguments: &RecoverArguments) -> Result<(), RecoveryError> {
    let recovery = Recovery::open(&arguments.data_dir)?;
    let (identity, last) = (recovery.identity(), recovery.last());
    say(format_args!(
        "member {:x} of cluster {:x}; its last entry has term {} and index {}\n",
        identity.member, identity.cluster, last.term, last.index
    ));
    let members = ask(&recovery)?;
    for member in &members {
        let own = member.id.0 == identity.member;
        let fate = match member.answer {
            _ if own => "stays",
            Answer::Up(_) => "is up, and goes",
            Answer::Silence => "takes connections and says nothing, and goes",
            Answer::None => "does not answer, and goes",
        };
        say(format_args!("  {}: {fate}\n", describe(member)));
        if own && !member.votes {
            say("  (a learner may lack more of what was acknowledged than a voter would)\n");
        }
    }
    if !arguments.force {
        // Said now rather than once it is wanted.
        recovery.check(&members)?;
        say(
            "nothing was changed. With --force this member becomes the only one, everything in its \
             log counts as committed, and what others had acknowledged beyond it is lost. The others \
             can never come back into the cluster with the data that they have.\n",
        );
        return Ok(());
    }
    let written = recovery.force(&members)?;
    say(format_args!(
        "done, as entry {} of term {}. Start this member with the flags that it had; the others join \
         again by `quorate member add`, each with an empty data directory and \
         --initial-cluster-state existing.\n",
        written.index, written.term
    ));
    Ok(())
}

fn ask(recovery: &Recovery) -> Result<Vec<KnownMember>, RecoveryError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(recovery.members()))
}

fn describe(member: &KnownMember) -> String {
    let name = if member.name.is_empty() { "-" } else { &member.name };
    let urls: Vec<_> = member.peer_urls.iter().map(ToString::to_string).collect();
    let vote = if member.votes { "voter" } else { "learner" };
    format!("{:x} {name} {} ({vote})", member.id.0, urls.join(","))
}
