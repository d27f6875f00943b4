//! Watchers on real members, and whether each saw what it was to see: every change, once, in order.
//!
//! Nobody has to note what was put. A put makes one revision, so whoever watches everything must see
//! revisions without a gap; it makes one version of its key, so whoever watches one key must see its
//! versions without a gap; and what different watchers saw of a key must be the same.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::cluster::Cluster;
use crate::cluster::proto::etcdserverpb as wire;
use crate::cluster::proto::etcdserverpb::watch_client::WatchClient;
use crate::cluster::proto::etcdserverpb::watch_request::RequestUnion;
use crate::cluster::proto::mvccpb::Event;

/// How long a watcher may take for anything that it is to be told, after the last put.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a client that reads takes before it must be given more room, for a stream and for all.
const WINDOW_BYTES: u32 = 1 << 20;
/// The same of one that does not read: what a member can get rid of, whatever it does.
pub(crate) const STALLED_WINDOW_BYTES: u32 = 64 << 10;
/// Of a response that says how far the stream is.
const NO_WATCHER: i64 = -1;

/// What there is of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeySeen {
    version: i64,
    /// CRC-32C of all values and revisions, in order.
    checksum: u32,
}

/// What a watcher was told.
#[derive(Debug)]
pub(crate) struct Seen {
    /// What it watches; nothing for everything, so that it must see every revision.
    key: Option<Bytes>,
    /// The last revision that it was told of, or that came before it began.
    revision: i64,
    keys: BTreeMap<Bytes, KeySeen>,
    pub(crate) events: u64,
    /// The puts that it saw, by the first bytes of their values, which are distinct.
    values: Option<Vec<u64>>,
}

impl Seen {
    fn note(&mut self, event: &Event) -> Result<()> {
        let kv = event.kv.as_ref().context("an event without a key")?;
        ensure!(event.r#type == 0, "a deletion, and nothing was deleted");
        let next = self.revision + 1;
        let in_order = match &self.key {
            None => kv.mod_revision == next,
            Some(key) => kv.mod_revision >= next && *key == kv.key,
        };
        ensure!(in_order, "revision {} came after {}", kv.mod_revision, self.revision);
        self.revision = kv.mod_revision;
        self.events += 1;
        let seen = self.keys.entry(kv.key.clone()).or_default();
        // One that began later cannot know what came before.
        let known = seen.version > 0 || kv.version == 1;
        ensure!(
            !known || kv.version == seen.version + 1,
            "version {} of {:?} came after {}",
            kv.version,
            kv.key,
            seen.version
        );
        seen.version = kv.version;
        let revision = kv.mod_revision.to_le_bytes();
        seen.checksum = crc32c::crc32c_append(seen.checksum, &revision);
        seen.checksum = crc32c::crc32c_append(seen.checksum, &kv.value);
        if let Some(values) = &mut self.values {
            values.push(first_bytes(&kv.value));
        }
        Ok(())
    }
}

/// What tells values apart.
pub(crate) fn first_bytes(value: &[u8]) -> u64 {
    value.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

/// A connection of its own, which takes so much at a time.
async fn channel(cluster: &Cluster, member: usize, stream_window_bytes: u32) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", cluster.client_address(member)))?
        .initial_stream_window_size(stream_window_bytes)
        // One stream that is not read must not stop the others of its connection.
        .initial_connection_window_size((1 << 31) - 1)
        .tcp_nodelay(true);
    endpoint.connect().await.with_context(|| format!("connecting to m{member}"))
}

/// A client's stream with watchers on it.
pub(crate) struct Stream {
    requests: mpsc::UnboundedSender<wire::WatchRequest>,
    responses: Streaming<wire::WatchResponse>,
    /// By their numbers.
    watchers: Vec<Seen>,
}

impl Stream {
    /// Watchers of these keys, one each; of everything if there are none. They are there when this
    /// comes back.
    async fn open(channel: Channel, keys: &[Vec<u8>]) -> Result<Self> {
        let (requests, receiver) = mpsc::unbounded_channel();
        let everything = vec![0];
        let of = |key: &[u8], range_end: &[u8]| wire::WatchCreateRequest {
            key: key.to_vec().into(),
            range_end: range_end.to_vec().into(),
            ..Default::default()
        };
        let mut creates: Vec<_> = keys.iter().map(|key| of(key, &[])).collect();
        let mut watched: Vec<_> =
            keys.iter().map(|key| Some(Bytes::copy_from_slice(key))).collect();
        if watched.is_empty() {
            creates.push(of(&everything, &everything));
            watched.push(None);
        }
        for create in creates {
            let request_union = Some(RequestUnion::CreateRequest(create));
            requests.send(wire::WatchRequest { request_union })?;
        }
        let mut client = WatchClient::new(channel).max_decoding_message_size(64 << 20);
        let watch = client.watch(UnboundedReceiverStream::new(receiver));
        let mut stream =
            Self { requests, responses: watch.await?.into_inner(), watchers: Vec::new() };
        for key in watched {
            let response = stream.next().await?;
            ensure!(response.created && !response.canceled, "not created: {response:?}");
            let revision = response.header.context("a header")?.revision;
            let (keys, values) = (BTreeMap::new(), None);
            stream.watchers.push(Seen { key, revision, keys, events: 0, values });
        }
        Ok(stream)
    }

    async fn next(&mut self) -> Result<wire::WatchResponse> {
        let next = timeout(PATIENCE, self.responses.message()).await;
        next.context("nothing came")??.context("the stream has ended")
    }

    /// Reads until everything up to the revision that it is given has come, and answers what that was.
    async fn follow(mut self, mut until: watch::Receiver<Option<i64>>) -> Result<Vec<Seen>> {
        let mut last = None;
        loop {
            let response = tokio::select! {
                changed = until.changed(), if last.is_none() => {
                    changed?;
                    last = *until.borrow_and_update();
                    let progress = RequestUnion::ProgressRequest(wire::WatchProgressRequest {});
                    let request_union = Some(progress);
                    self.requests.send(wire::WatchRequest { request_union })?;
                    continue;
                }
                response = self.responses.message() => response?.context("the stream has ended")?,
            };
            if self.note(&response)? && last.is_some() {
                return Ok(self.watchers);
            }
        }
    }

    /// Whether it was one that says how far the stream is.
    fn note(&mut self, response: &wire::WatchResponse) -> Result<bool> {
        ensure!(!response.canceled, "ended by the server: {response:?}");
        if response.watch_id == NO_WATCHER && response.events.is_empty() {
            return Ok(true);
        }
        let index = usize::try_from(response.watch_id)?;
        let watcher = self.watchers.get_mut(index).context("no such watcher")?;
        for event in &response.events {
            watcher.note(event).with_context(|| format!("watcher {index} of its stream"))?;
        }
        Ok(false)
    }

    /// Reads everything up to a revision after all, and answers how many events that were.
    pub(crate) async fn read_on(mut self, revision: i64) -> Result<u64> {
        while self.watchers[0].revision < revision {
            let response = self.next().await?;
            self.note(&response)?;
        }
        Ok(self.watchers[0].events)
    }
}

/// Watchers of everything on a member, each on a stream of its own, that read nothing once they are
/// there.
pub(crate) async fn stalled(cluster: &Cluster, member: usize, count: usize) -> Result<Vec<Stream>> {
    let channel = channel(cluster, member, STALLED_WINDOW_BYTES).await?;
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(Stream::open(channel.clone(), &[]).await?);
    }
    Ok(streams)
}

/// Watchers that read.
pub(crate) struct Watchers {
    readers: JoinSet<Result<Vec<Seen>>>,
    until: watch::Sender<Option<i64>>,
}

/// What all watchers saw, put together.
pub(crate) struct Told {
    pub(crate) watchers: usize,
    pub(crate) events: u64,
    /// The first bytes of all values, in the order of their revisions.
    pub(crate) values: Vec<u64>,
}

impl Watchers {
    /// One watcher of each of these keys, on so many streams, and so many watchers of everything, on a
    /// stream of its own each; on all members in turn. The store must be empty.
    pub(crate) async fn open(
        cluster: &Cluster,
        keys: &[Vec<u8>],
        streams: usize,
        whole: usize,
    ) -> Result<Self> {
        let mut readers = JoinSet::new();
        let (until, receiver) = watch::channel(None);
        let parts = keys.chunks(keys.len().div_ceil(streams).max(1));
        let all = parts.chain(std::iter::repeat_n(&keys[..0], whole));
        let mut first_whole = true;
        for (number, keys) in all.enumerate() {
            let channel = channel(cluster, number % cluster.count(), WINDOW_BYTES).await?;
            let mut stream = Stream::open(channel, keys).await?;
            if keys.is_empty() && std::mem::take(&mut first_whole) {
                stream.watchers[0].values = Some(Vec::new());
            }
            readers.spawn(stream.follow(receiver.clone()));
        }
        Ok(Self { readers, until })
    }

    /// An error if one of them has found something wrong already.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.readers.try_join_next() {
            None => Ok(()),
            Some(ended) => {
                ended??;
                bail!("a watcher has ended by itself")
            }
        }
    }

    /// Waits until all of them were told everything up to this revision, the last one, and compares
    /// what they saw: with each other, and with the versions that the keys have.
    pub(crate) async fn finish(
        mut self,
        revision: i64,
        versions: &BTreeMap<Bytes, i64>,
    ) -> Result<Told> {
        self.until.send(Some(revision))?;
        let mut seen = Vec::new();
        while let Some(ended) =
            timeout(PATIENCE, self.readers.join_next()).await.context("watchers lack something")?
        {
            seen.extend(ended??);
        }
        let reference = seen.iter().position(|seen| seen.values.is_some());
        let reference = &seen[reference.context("nobody watches everything")?];
        ensure!(reference.revision == revision, "told to {}, not {revision}", reference.revision);
        let told: BTreeMap<_, _> =
            reference.keys.iter().map(|(key, seen)| (key.clone(), seen.version)).collect();
        ensure!(told == *versions, "the keys have other versions than were told");
        for watcher in &seen {
            let complete = match &watcher.key {
                None => watcher.revision == revision && watcher.keys == reference.keys,
                Some(key) => watcher.keys.get(key) == reference.keys.get(key),
            };
            ensure!(complete, "what a watcher of {:?} was told is not all", watcher.key);
        }
        let events = seen.iter().map(|seen| seen.events).sum();
        let watchers = seen.len();
        let values = reference.values.clone().unwrap_or_default();
        Ok(Told { watchers, events, values })
    }
}
