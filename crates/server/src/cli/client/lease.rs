//! `quorate lease ...`: keys that go when nobody says that they are still wanted.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{ClientOptions, EXIT_HELP, connect};
use crate::client::ClientError;
use crate::proto::etcdserverpb as wire;

/// The commands of `quorate lease`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum LeaseCommand {
    /// Make a lease, and print its number.
    #[command(after_help = EXIT_HELP)]
    Grant {
        /// For how many seconds it lasts from one renewal to the next.
        #[arg(value_name = "SECONDS", allow_negative_numbers = true)]
        ttl: i64,
        #[command(flatten)]
        options: ClientOptions,
    },
    /// End a lease, and delete its keys.
    #[command(after_help = EXIT_HELP)]
    Revoke {
        #[command(flatten)]
        lease: LeaseNumber,
        #[command(flatten)]
        options: ClientOptions,
    },
    /// Show how long a lease has left.
    #[command(name = "timetolive", after_help = EXIT_HELP)]
    TimeToLive {
        #[command(flatten)]
        lease: LeaseNumber,
        /// And which keys are attached to it.
        #[arg(long)]
        keys: bool,
        #[command(flatten)]
        options: ClientOptions,
    },
    /// Show all leases.
    #[command(after_help = EXIT_HELP)]
    List {
        #[command(flatten)]
        options: ClientOptions,
    },
    /// Renew a lease, again and again until it is gone.
    #[command(after_help = EXIT_HELP)]
    KeepAlive {
        #[command(flatten)]
        lease: LeaseNumber,
        /// Only once.
        #[arg(long)]
        once: bool,
        #[command(flatten)]
        options: ClientOptions,
    },
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LeaseNumber {
    /// Its number, in hexadecimal as `lease grant` shows it.
    #[arg(value_name = "LEASE", value_parser = super::requests::lease_number)]
    id: i64,
}

pub(super) async fn execute(
    command: LeaseCommand,
    before: ClientOptions,
) -> Result<(), ClientError> {
    match command {
        LeaseCommand::Grant { ttl, options } => {
            let (client, output) = connect(&options.or(before))?;
            let request = wire::LeaseGrantRequest { ttl, id: 0 };
            output.lease_granted(&client.lease_grant(request).await?)
        }
        LeaseCommand::Revoke { lease, options } => {
            let (client, output) = connect(&options.or(before))?;
            client.lease_revoke(lease.id).await?;
            output.lease_revoked(lease.id)
        }
        LeaseCommand::TimeToLive { lease, keys, options } => {
            let (client, output) = connect(&options.or(before))?;
            let request = wire::LeaseTimeToLiveRequest { id: lease.id, keys };
            output.lease_time_to_live(&client.lease_time_to_live(request).await?, keys)
        }
        LeaseCommand::List { options } => {
            let (client, output) = connect(&options.or(before))?;
            output.leases(&client.lease_leases().await?)
        }
        LeaseCommand::KeepAlive { lease, once, options } => {
            keep_alive(lease.id, once, &options.or(before)).await
        }
    }
}

/// Three times within the time that it lasts, as etcd's clients do: one that is lost is no harm.
async fn keep_alive(id: i64, once: bool, options: &ClientOptions) -> Result<(), ClientError> {
    let (client, output) = connect(options)?;
    loop {
        let renewed = client.lease_keep_alive(id).await?;
        if renewed.ttl <= 0 && !once {
            return Err(ClientError::LeaseGone { id });
        }
        output.lease_renewed(&renewed)?;
        if once {
            return if renewed.ttl <= 0 { Err(ClientError::LeaseGone { id }) } else { Ok(()) };
        }
        let ttl_ms = u64::try_from(renewed.ttl).unwrap_or(0).saturating_mul(1000);
        tokio::time::sleep(Duration::from_millis(ttl_ms / 3)).await;
    }
}
