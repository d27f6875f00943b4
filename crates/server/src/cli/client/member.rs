//! `quorate member ...`: who is a member, and changing it.

use clap::{Args, Subcommand};

use super::output::Output;
use super::{ClientOptions, EXIT_HELP, connect};
use crate::client::ClientError;
use crate::proto::etcdserverpb as wire;

/// The commands of `quorate member`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum MemberCommand {
    /// Show the members.
    #[command(after_help = EXIT_HELP)]
    List {
        #[command(flatten)]
        options: ClientOptions,
    },
    /// Add a member, which is then started with the variables that this prints.
    ///
    /// Either gets no vote before it has caught up. A voter then gets it by itself, a learner by
    /// `member promote`.
    #[command(after_help = EXIT_HELP)]
    Add {
        /// What it will be called.
        name: String,
        #[command(flatten)]
        urls: PeerUrls,
        /// Add it as a learner: it receives everything and has no vote.
        #[arg(long)]
        learner: bool,
        #[command(flatten)]
        options: ClientOptions,
    },
    /// Remove a member. It stops; its number is never used again.
    #[command(after_help = EXIT_HELP)]
    Remove {
        #[command(flatten)]
        member: MemberId,
        #[command(flatten)]
        options: ClientOptions,
    },
    /// Have the others find a member at other peer URLs.
    #[command(after_help = EXIT_HELP)]
    Update {
        #[command(flatten)]
        member: MemberId,
        #[command(flatten)]
        urls: PeerUrls,
        #[command(flatten)]
        options: ClientOptions,
    },
    /// Make a voter of a learner that has caught up.
    #[command(after_help = EXIT_HELP)]
    Promote {
        #[command(flatten)]
        member: MemberId,
        #[command(flatten)]
        options: ClientOptions,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PeerUrls {
    /// Where the other members reach it: http://host:port, with commas between several.
    #[arg(long, value_name = "URLS", value_delimiter = ',', required = true)]
    peer_urls: Vec<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct MemberId {
    /// Its number, in hexadecimal as `member list` shows it.
    #[arg(value_parser = hexadecimal)]
    id: u64,
}

fn hexadecimal(text: &str) -> Result<u64, std::num::ParseIntError> {
    u64::from_str_radix(text, 16)
}

pub(super) async fn execute(
    command: MemberCommand,
    before: ClientOptions,
) -> Result<(), ClientError> {
    let (options, request) = command.into_parts();
    let (client, output) = connect(&options.or(before))?;
    match request {
        Request::List => {
            let request = wire::MemberListRequest { linearizable: true };
            output.members(&client.member_list(request).await?)
        }
        Request::Add { name, urls, learner } => {
            let request = wire::MemberAddRequest { peer_urls: urls, is_learner: learner };
            output.member_added(&name, &client.member_add(request).await?)
        }
        Request::Remove { id } => {
            let removed = client.member_remove(wire::MemberRemoveRequest { id }).await?;
            changed(&output, id, "removed from", removed.header)
        }
        Request::Update { id, urls } => {
            let request = wire::MemberUpdateRequest { id, peer_urls: urls };
            changed(&output, id, "updated in", client.member_update(request).await?.header)
        }
        Request::Promote { id } => {
            let promoted = client.member_promote(wire::MemberPromoteRequest { id }).await?;
            changed(&output, id, "promoted in", promoted.header)
        }
    }
}

fn changed(
    output: &Output,
    id: u64,
    what: &str,
    header: Option<wire::ResponseHeader>,
) -> Result<(), ClientError> {
    output.member_changed(id, what, header.unwrap_or_default().cluster_id)
}

/// What is asked for, whatever the options.
enum Request {
    List,
    Add { name: String, urls: Vec<String>, learner: bool },
    Remove { id: u64 },
    Update { id: u64, urls: Vec<String> },
    Promote { id: u64 },
}

impl MemberCommand {
    fn into_parts(self) -> (ClientOptions, Request) {
        match self {
            Self::List { options } => (options, Request::List),
            Self::Add { name, urls, learner, options } => {
                (options, Request::Add { name, urls: urls.peer_urls, learner })
            }
            Self::Remove { member, options } => (options, Request::Remove { id: member.id }),
            Self::Update { member, urls, options } => {
                (options, Request::Update { id: member.id, urls: urls.peer_urls })
            }
            Self::Promote { member, options } => (options, Request::Promote { id: member.id }),
        }
    }
}
