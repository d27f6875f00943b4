//! Watching from the command line: for as long as it takes, on whichever member answers. What was
//! seen is not shown again: where a connection breaks, another member is asked to go on from there.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::connection::{Client, Found, is_no_answer, refused};
use super::{ClientError, EndpointError};
use crate::proto::etcdserverpb as wire;
use crate::proto::etcdserverpb::watch_client::WatchClient;
use crate::proto::etcdserverpb::watch_request::RequestUnion;

/// What a member says of a revision that it has no more.
const COMPACTED_TEXT: &str = "etcdserver: mvcc: required revision has been compacted";
/// The member's metadata for whoever wants to be told when it knows no leader.
const NEEDS_LEADER: &str = "hasleader";

/// How a stream ended.
enum Ended {
    /// The caller has seen enough.
    Enough,
    /// The member has gone, or is of no use now.
    Broken(Status),
}

impl Client {
    /// Shows what is told of a watcher, until `show` has seen enough.
    ///
    /// # Errors
    /// No member answers at the beginning; the watcher is refused, or was ended, since what it wants
    /// was compacted; whatever `show` fails with.
    pub(crate) async fn watch(
        &self,
        mut create: wire::WatchCreateRequest,
        mut show: impl FnMut(&wire::WatchResponse) -> Result<ControlFlow<()>, ClientError>,
    ) -> Result<(), ClientError> {
        let mut has_begun = false;
        loop {
            let (deadline, mut attempts) = (self.deadline(), Vec::new());
            let mut all = self.endpoints.as_slice();
            while let Some(found) = self.find(&mut all, deadline, &mut attempts).await {
                let Found { endpoint, channel } = found;
                match follow(channel, &mut create, &mut has_begun, &mut show).await? {
                    Ended::Enough => return Ok(()),
                    Ended::Broken(status) if is_no_answer(&status) => {
                        attempts.push(EndpointError::of_status(endpoint, &status));
                    }
                    Ended::Broken(status) => return Err(refused(&status)),
                }
            }
            if !has_begun {
                return Err(ClientError::Unavailable { attempts });
            }
            sleep(Duration::from_millis(self.config.watch_retry_ms)).await;
        }
    }
}

/// Follows one member. `create` is kept up to date, so that another one can be asked to go on.
async fn follow(
    channel: Channel,
    create: &mut wire::WatchCreateRequest,
    has_begun: &mut bool,
    show: &mut impl FnMut(&wire::WatchResponse) -> Result<ControlFlow<()>, ClientError>,
) -> Result<Ended, ClientError> {
    // Held open: the member goes on for as long as it may be asked for more.
    let (_requests, mut responses) = match open(channel, create.clone()).await {
        Ok(opened) => opened,
        Err(status) => return Ok(Ended::Broken(status)),
    };
    loop {
        let response = match responses.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return Ok(Ended::Broken(Status::unavailable("the stream has ended"))),
            Err(status) => return Ok(Ended::Broken(status)),
        };
        if response.canceled {
            let text = match response.cancel_reason.as_str() {
                "" if response.compact_revision > 0 => COMPACTED_TEXT,
                "" => "the watch was cancelled",
                reason => reason,
            };
            return Err(ClientError::Refused { text: text.to_owned() });
        }
        *has_begun = true;
        create.start_revision = next_revision(create.start_revision, &response);
        if !response.created && show(&response)?.is_break() {
            return Ok(Ended::Enough);
        }
    }
}

/// Where to go on once a response was seen. Of one that was split, from its beginning until all of
/// it was seen, so that nothing of it is missing.
fn next_revision(next: i64, response: &wire::WatchResponse) -> i64 {
    let header = response.header.map_or(0, |header| header.revision);
    let last = response.events.last().and_then(|event| event.kv.as_ref());
    match last {
        _ if response.fragment => next,
        Some(kv) => next.max(kv.mod_revision + 1),
        // A watcher that begins now begins after what was there when it was made.
        None if response.created && next > 0 => next,
        None => next.max(header + 1),
    }
}

type Opened = (mpsc::Sender<wire::WatchRequest>, Streaming<wire::WatchResponse>);

async fn open(channel: Channel, create: wire::WatchCreateRequest) -> Result<Opened, Status> {
    let (requests, receiver) = mpsc::channel(1);
    let mut request = Request::new(ReceiverStream::new(receiver));
    request.metadata_mut().insert(NEEDS_LEADER, MetadataValue::from_static("true"));
    let create = wire::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    // There is room for one.
    let _ = requests.send(create).await;
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    Ok((requests, client.watch(request).await?.into_inner()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::mvccpb;

    fn response(revision: i64, events: &[i64]) -> wire::WatchResponse {
        let event = |&mod_revision| mvccpb::Event {
            kv: Some(mvccpb::KeyValue { mod_revision, ..Default::default() }),
            ..Default::default()
        };
        wire::WatchResponse {
            header: Some(wire::ResponseHeader { revision, ..Default::default() }),
            events: events.iter().map(event).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_watcher_goes_on_after_what_it_has_seen() {
        let created = wire::WatchResponse { created: true, ..response(7, &[]) };
        assert_eq!(next_revision(0, &created), 8, "from now on");
        assert_eq!(next_revision(3, &created), 3, "from the past");
        assert_eq!(next_revision(20, &created), 20, "from the future");
        assert_eq!(next_revision(3, &response(9, &[4, 6])), 7, "what it has not seen may follow");
        assert_eq!(next_revision(7, &response(9, &[])), 10, "nothing has happened up to there");
        let part = wire::WatchResponse { fragment: true, ..response(9, &[8]) };
        assert_eq!(next_revision(7, &part), 7);
    }
}
