//! `quorate watch`: what changes, as it changes.

use clap::Args;

use super::requests::KeysArguments;
use super::{ClientOptions, connect};
use crate::client::ClientError;
use crate::proto::etcdserverpb as wire;

#[derive(Debug, Args)]
pub(in crate::cli) struct WatchArguments {
    #[command(flatten)]
    keys: KeysArguments,
    /// From this revision on, rather than from now.
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    rev: i64,
    /// Print what was there before, too.
    #[arg(long)]
    prev_kv: bool,
    /// Print the store's revision now and then, where nothing has changed.
    #[arg(long)]
    progress_notify: bool,
}

impl WatchArguments {
    fn to_request(&self) -> Result<wire::WatchCreateRequest, ClientError> {
        let (key, range_end) = self.keys.range()?;
        Ok(wire::WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision: self.rev,
            prev_kv: self.prev_kv,
            progress_notify: self.progress_notify,
            ..Default::default()
        })
    }
}

/// Prints what changes until nobody reads it any more.
pub(super) async fn execute(
    arguments: &WatchArguments,
    options: &ClientOptions,
) -> Result<(), ClientError> {
    let (client, output) = connect(options)?;
    client.watch(arguments.to_request()?, |response| output.watched(response)).await
}
