//! `quorate watch`: what changes, as it changes.

use std::ffi::OsString;

use clap::Args;

use super::requests::range;
use super::{ClientOptions, connect};
use crate::client::ClientError;
use crate::proto::etcdserverpb as wire;

#[derive(Debug, Args)]
pub(in crate::cli) struct WatchArguments {
    /// The key, or where a range of keys begins.
    key: OsString,
    /// Where the range ends; this key is not part of it.
    #[arg(conflicts_with_all = ["prefix", "from_key"])]
    range_end: Option<OsString>,
    /// All keys that begin with KEY.
    #[arg(long, conflicts_with = "from_key")]
    prefix: bool,
    /// All keys from KEY on.
    #[arg(long)]
    from_key: bool,
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
        let (key, range_end) =
            range(&self.key, self.range_end.as_ref(), self.prefix, self.from_key)?;
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
