//! Watching, so that what watchers are told can be compared although it comes when it comes.
//!
//! What a stream is told is gathered until it is *settled*: until it is certain that everything of
//! up to now has come. Nothing waits for time to pass. Quorate is asked for its progress, and
//! promises that everything came before the answer. etcd answers that only where every watcher of
//! the stream is up to date and none was ended by a compaction; where it does not, a *probe* takes
//! its place, a watcher that starts at the latest revision. Its event comes with the next of etcd's
//! rounds of catching up, so after all that came of earlier rounds and of earlier writes.
//!
//! A client may rely on the events of each watcher, their order, and that a revision comes in one
//! response unless fragments were asked for. It may not rely on how watchers of a stream take
//! turns, nor, where a watcher catches up or several writes come at once, on how revisions are
//! divided among responses. [`Comparison`] says which it was.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::pair::MESSAGE_BYTES_MAX;
use crate::cluster::proto::etcdserverpb as wire;
use crate::cluster::proto::etcdserverpb::watch_client::WatchClient;
use crate::cluster::proto::etcdserverpb::watch_request::RequestUnion;

/// How long something that must come may take before it counts as missing.
const PATIENCE: Duration = Duration::from_secs(8);
/// After which a request for progress is repeated that etcd has dropped.
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// The number of probes, which no sequence uses.
const PROBE: i64 = 1 << 40;
/// Of a response: about no watcher, or about all of the stream's.
const NO_WATCHER: i64 = -1;

/// Something asked of one of the streams of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WatchCall {
    pub(super) stream: usize,
    pub(super) request: WatchRequest,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum WatchRequest {
    Create(wire::WatchCreateRequest),
    Cancel(i64),
    Progress,
    /// A request that says nothing, as one of a later version looks to this one.
    Unknown,
}

/// How exactly the responses since the stream was settled last must be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// All of them: there was one write, and everybody was up to date.
    Responses,
    /// Events and the revisions in the headers they come with: nothing was written, so the revision
    /// at which somebody caught up is the same.
    Headers,
    /// Events.
    Events,
}

/// What streams were told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settled {
    pub(super) comparison: Comparison,
    /// By stream and watcher.
    pub(super) told: BTreeMap<(usize, i64), Vec<wire::WatchResponse>>,
    /// What should never be.
    pub(super) remarks: Vec<String>,
}

/// A watcher that was made.
#[derive(Debug)]
struct Watcher {
    start: i64,
    fragment: bool,
    /// A compaction has ended it. Its number is taken until it is cancelled.
    ended: bool,
    /// The last revision that it was told of.
    last: i64,
    /// More of that revision is to come.
    is_split: bool,
    /// Everything up to here was told, it was said.
    promised: i64,
}

/// A client's end of a stream.
pub(super) struct Stream {
    requests: mpsc::UnboundedSender<wire::WatchRequest>,
    responses: mpsc::UnboundedReceiver<Result<wire::WatchResponse, Status>>,
    reader: AbortHandle,
    watchers: BTreeMap<i64, Watcher>,
    told: BTreeMap<i64, Vec<wire::WatchResponse>>,
    remarks: Vec<String>,
    /// A watcher was made that has to catch up, and the stream was not settled since.
    catching_up: bool,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Stream {
    /// Opens it. What comes is taken at once, so that no server ever has to wait.
    pub(super) fn open(channel: Channel) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let (sender, responses) = mpsc::unbounded_channel();
        let reader = tokio::spawn(async move {
            let mut client = WatchClient::new(channel)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX);
            // etcd says nothing at all before its first response.
            let opened = client.watch(UnboundedReceiverStream::new(receiver)).await;
            let mut stream = match opened {
                Ok(response) => response.into_inner(),
                Err(error) => return drop(sender.send(Err(error))),
            };
            loop {
                let next = stream.message().await;
                let next = next.and_then(|next| next.ok_or_else(|| Status::aborted("it ended")));
                let ended = next.is_err();
                if sender.send(next).is_err() || ended {
                    return;
                }
            }
        });
        Stream {
            requests,
            responses,
            reader: reader.abort_handle(),
            watchers: BTreeMap::new(),
            told: BTreeMap::new(),
            remarks: Vec::new(),
            catching_up: false,
        }
    }

    fn send(&self, request: Option<RequestUnion>) {
        // If the stream has ended, whoever reads from it next is told.
        let _ = self.requests.send(wire::WatchRequest { request_union: request });
    }

    async fn next(&mut self) -> Result<wire::WatchResponse, Status> {
        match timeout(PATIENCE, self.responses.recv()).await {
            Ok(Some(next)) => next,
            Ok(None) => Err(Status::aborted("the stream has ended")),
            Err(_) => Err(Status::deadline_exceeded("nothing came")),
        }
    }

    /// The next response that is the one waited for; what comes before it is gathered.
    async fn wait(
        &mut self,
        mut is: impl FnMut(&wire::WatchResponse) -> bool,
    ) -> Result<wire::WatchResponse, Status> {
        loop {
            let next = self.next().await?;
            if is(&next) {
                return Ok(next);
            }
            self.gather(next);
        }
    }

    fn gather(&mut self, response: wire::WatchResponse) {
        if response.watch_id == PROBE {
            return;
        }
        if is_progress(&response) {
            let revision = revision(&response);
            let live = self.watchers.values_mut().filter(|watcher| !watcher.ended);
            live.for_each(|watcher| watcher.promised = revision);
            return;
        }
        let id = response.watch_id;
        match self.watchers.get_mut(&id) {
            Some(watcher) => {
                let remarks = watcher.remarks(&response);
                self.remarks
                    .extend(remarks.into_iter().map(|text| format!("watcher {id}: {text}")));
            }
            None => self.remarks.push(format!("there is no watcher {id}")),
        }
        self.told.entry(id).or_default().push(response);
    }

    /// Has a watcher made, at a moment when the store's revision is `now`.
    pub(super) async fn create(
        &mut self,
        create: wire::WatchCreateRequest,
        now: i64,
    ) -> Result<wire::WatchResponse, Status> {
        let (start, fragment) = (create.start_revision, create.fragment);
        self.send(Some(RequestUnion::CreateRequest(create)));
        let response = self.wait(|response| response.created).await?;
        if !response.canceled {
            self.catching_up |= start != 0 && start <= now;
            let watcher =
                Watcher { start, fragment, ended: false, last: 0, is_split: false, promised: 0 };
            self.watchers.insert(response.watch_id, watcher);
        }
        Ok(response)
    }

    /// Whether a watcher was made that has to catch up, and the stream was not settled since.
    pub(super) fn is_catching_up(&self) -> bool {
        self.catching_up
    }

    /// Has a watcher cancelled. Only one that is there is answered.
    pub(super) async fn cancel(&mut self, id: i64) -> Result<Option<wire::WatchResponse>, Status> {
        let cancel = RequestUnion::CancelRequest(wire::WatchCancelRequest { watch_id: id });
        self.send(Some(cancel));
        if self.watchers.remove(&id).is_none() {
            return Ok(None);
        }
        Ok(Some(self.wait(|response| response.canceled && response.compact_revision == 0).await?))
    }

    /// Sends what says nothing.
    pub(super) fn say_nothing(&self) {
        self.send(None);
    }

    /// The watchers on account of which etcd tells no progress: those that have ended, and those
    /// that start after `now`.
    pub(super) fn silent(&self, now: i64) -> Vec<i64> {
        let silent = |watcher: &Watcher| watcher.ended || watcher.start > now;
        self.watchers.iter().filter(|(_, of)| silent(of)).map(|(id, _)| *id).collect()
    }

    /// Whether a watcher that is there has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.watchers.values().any(|watcher| watcher.ended)
    }

    fn ask_for_progress(&self) {
        self.send(Some(RequestUnion::ProgressRequest(wire::WatchProgressRequest {})));
    }

    /// A settled stream of etcd's is asked for its progress; the revision, if it answers.
    pub(super) async fn progress_of_etcd(&mut self, now: i64) -> Result<Option<i64>, Status> {
        self.ask_for_progress();
        if !self.watchers.is_empty() && self.silent(now).is_empty() {
            let response = self.wait(is_progress).await?;
            let told = revision(&response);
            self.gather(response);
            return Ok(Some(told));
        }
        let mut told = None;
        self.probe(now, |response| told = Some(revision(response))).await?;
        Ok(told)
    }

    /// The same of quorate, which answers in the order in which it is asked.
    pub(super) async fn progress_of_quorate(&mut self, now: i64) -> Result<Option<i64>, Status> {
        self.ask_for_progress();
        let mut told = None;
        self.probe(now, |response| told = Some(revision(response))).await?;
        Ok(told)
    }

    /// See the module. `progress` is given what is told of progress meanwhile.
    async fn probe(
        &mut self,
        now: i64,
        mut progress: impl FnMut(&wire::WatchResponse),
    ) -> Result<(), Status> {
        let everything = Bytes::from_static(&[0]);
        self.send(Some(RequestUnion::CreateRequest(wire::WatchCreateRequest {
            key: everything.clone(),
            range_end: everything,
            start_revision: now,
            watch_id: PROBE,
            ..Default::default()
        })));
        let mut is_told = |response: &wire::WatchResponse| {
            if is_progress(response) {
                progress(response);
            }
            response.watch_id == PROBE && !response.events.is_empty()
        };
        self.wait(&mut is_told).await?;
        let cancel = RequestUnion::CancelRequest(wire::WatchCancelRequest { watch_id: PROBE });
        self.send(Some(cancel));
        self.wait(|response| response.watch_id == PROBE && response.canceled).await?;
        Ok(())
    }

    /// Waits until everything has come from etcd.
    pub(super) async fn settle_etcd(&mut self, now: i64) -> Result<(), Status> {
        if self.watchers.is_empty() {
            return Ok(());
        }
        // The events of one round come in any order, so it takes another one to know that one is over.
        if std::mem::take(&mut self.catching_up) {
            self.probe(now, |_| {}).await?;
        }
        if !self.silent(now).is_empty() {
            return self.probe(now, |_| {}).await;
        }
        self.ask_for_progress();
        for tries in 0.. {
            match timeout(ASK_AGAIN, self.wait_for_progress(now)).await {
                Ok(told) => {
                    told?;
                    if tries > 0 {
                        // Answers to the other requests must not be taken for later ones.
                        self.probe(now, |_| {}).await?;
                    }
                    break;
                }
                Err(_) => self.ask_for_progress(),
            }
        }
        Ok(())
    }

    async fn wait_for_progress(&mut self, now: i64) -> Result<(), Status> {
        loop {
            let told = self.wait(is_progress).await?;
            let is_now = revision(&told) == now;
            self.gather(told);
            if is_now {
                return Ok(());
            }
        }
    }

    /// Waits until as much has come from quorate as has from etcd, and if it can be known, until
    /// nothing more can come.
    pub(super) async fn settle_quorate(&mut self, etcd: &Stream, now: i64) -> Result<(), Status> {
        self.catching_up = false;
        while self.lacks(etcd) {
            match self.next().await {
                Ok(response) => self.gather(response),
                // What is missing will be seen in the comparison.
                Err(error) if error.code() == tonic::Code::DeadlineExceeded => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let mut live = self.watchers.values().filter(|watcher| !watcher.ended).peekable();
        if live.peek().is_some() && live.all(|watcher| watcher.start <= now) {
            self.ask_for_progress();
            match self.wait_for_progress(now).await {
                Err(error) if error.code() == tonic::Code::DeadlineExceeded => {
                    self.remarks.push(format!("no progress to {now} is told"));
                }
                told => told?,
            }
        }
        Ok(())
    }

    fn lacks(&self, etcd: &Stream) -> bool {
        let count = |of: &Stream, id: &i64| -> usize {
            let told = of.told.get(id).into_iter().flatten();
            told.map(|response| response.events.len() + usize::from(response.canceled)).sum()
        };
        etcd.told.keys().any(|id| count(self, id) < count(etcd, id))
    }

    /// What was gathered since the last call.
    pub(super) fn take_told(&mut self) -> (BTreeMap<i64, Vec<wire::WatchResponse>>, Vec<String>) {
        (std::mem::take(&mut self.told), std::mem::take(&mut self.remarks))
    }
}

impl Watcher {
    /// What no response may say, of this one.
    fn remarks(&mut self, response: &wire::WatchResponse) -> Vec<String> {
        let mut remarks = Vec::new();
        if response.canceled {
            self.ended = true;
            return remarks;
        }
        if response.events.is_empty() {
            remarks.push("nothing is told".to_owned());
        }
        if response.fragment && !self.fragment {
            remarks.push("fragments were not asked for".to_owned());
        }
        for (index, event) in response.events.iter().enumerate() {
            let told = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            let goes_on = index > 0 || self.is_split;
            if told < self.last || (told == self.last && !goes_on) {
                remarks.push(format!("revision {told} comes after {}", self.last));
            }
            if told <= self.promised {
                remarks.push(format!("revision {told} comes after progress to {}", self.promised));
            }
            if told > revision(response) {
                remarks.push(format!("revision {told} is after the header's"));
            }
            self.last = told;
        }
        self.is_split = response.fragment;
        remarks
    }
}

fn revision(response: &wire::WatchResponse) -> i64 {
    response.header.map_or(0, |header| header.revision)
}

fn is_progress(response: &wire::WatchResponse) -> bool {
    let says_more = response.created || response.canceled || !response.events.is_empty();
    response.watch_id == NO_WATCHER && !says_more
}

impl Settled {
    /// In the form in which it is compared: how events are divided among responses is left out where
    /// it may differ, and so are headers.
    pub(super) fn comparable(&self) -> Self {
        let mut comparable = self.clone();
        if self.comparison != Comparison::Responses {
            for told in comparable.told.values_mut() {
                *told = told.drain(..).flat_map(one_event_each).collect();
            }
        }
        let responses = comparable.told.values_mut().flatten();
        for header in responses.filter_map(|response| response.header.as_mut()) {
            let is_compared = self.comparison != Comparison::Events;
            let revision = if is_compared { header.revision } else { header.revision.signum() };
            *header = wire::ResponseHeader {
                cluster_id: header.cluster_id.min(1),
                member_id: header.member_id.min(1),
                revision,
                raft_term: header.raft_term.min(1),
            };
        }
        comparable
    }
}

fn one_event_each(response: wire::WatchResponse) -> Vec<wire::WatchResponse> {
    if response.events.is_empty() {
        return vec![response];
    }
    let events = response.events.clone();
    let with =
        |event| wire::WatchResponse { events: vec![event], fragment: false, ..response.clone() };
    events.into_iter().map(with).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::proto::mvccpb::{Event, KeyValue};

    fn response(header: i64, revisions: &[i64], fragment: bool) -> wire::WatchResponse {
        let event = |&mod_revision: &i64| Event {
            kv: Some(KeyValue { mod_revision, ..Default::default() }),
            ..Default::default()
        };
        let header = wire::ResponseHeader { revision: header, ..Default::default() };
        wire::WatchResponse {
            header: Some(header),
            events: revisions.iter().map(event).collect(),
            fragment,
            ..Default::default()
        }
    }

    fn settled(comparison: Comparison, told: &[wire::WatchResponse]) -> Settled {
        let told = BTreeMap::from([((0, 0), told.to_vec())]);
        Settled { comparison, told, remarks: Vec::new() }
    }

    #[test]
    fn what_may_differ_is_left_out_and_nothing_else() {
        let whole = [response(7, &[5, 6], false)];
        let parts = [response(7, &[5], false), response(7, &[6], false)];
        let earlier = [response(6, &[5, 6], false)];
        let other = [response(7, &[5, 7], false)];
        let same = |comparison, a: &[wire::WatchResponse], b: &[wire::WatchResponse]| {
            settled(comparison, a).comparable() == settled(comparison, b).comparable()
        };
        assert!(!same(Comparison::Responses, &whole, &parts));
        assert!(same(Comparison::Headers, &whole, &parts));
        assert!(!same(Comparison::Headers, &whole, &earlier));
        assert!(same(Comparison::Events, &whole, &earlier));
        assert!(!same(Comparison::Events, &whole, &other));
        assert!(!same(Comparison::Events, &whole, &whole[..0]));
    }

    #[test]
    fn what_no_watcher_may_be_told_is_remarked_on() {
        let remarks = |fragment, responses: &[wire::WatchResponse]| -> Vec<String> {
            let mut watcher =
                Watcher { start: 0, fragment, ended: false, last: 0, is_split: false, promised: 4 };
            responses.iter().flat_map(|response| watcher.remarks(response)).collect()
        };
        let one = |revisions: &[i64]| response(9, revisions, false);
        assert!(remarks(false, &[one(&[5, 5, 6]), one(&[7])]).is_empty());
        assert!(remarks(true, &[response(9, &[5], true), one(&[5, 6])]).is_empty());
        let wrong: [&[wire::WatchResponse]; 6] = [
            &[one(&[5]), one(&[5])],
            &[one(&[6]), one(&[5])],
            &[one(&[10])],
            &[one(&[4])],
            &[one(&[])],
            &[response(9, &[5], true)],
        ];
        for told in wrong {
            assert_eq!(remarks(false, told).len(), 1, "{told:?}");
        }
    }
}
