//! Responses as protobuf. An event is encoded once, with what was there before and without, and the
//! bytes are kept beside it for as long as anybody has yet to be sent them; a message is put
//! together of a head of its own and of these pieces. Events have the highest number of all fields
//! of a response, so what comes out is what prost would write.

use std::sync::OnceLock;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use quorate_kv as kv;
use quorate_kv::{KvEvent, WatchContent, WatchEvent, WatchRefusal};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

use crate::api::etcd::error::ApiError;
use crate::proto::etcdserverpb as wire;

/// A response, with the bytes of its events beside them.
pub(super) type WatchResponse = kv::WatchResponse<Encoded>;

/// The bytes of an event as a field of a response, each made when it is first wanted.
#[derive(Debug, Default)]
pub(in crate::api::etcd) struct Encoded {
    plain: OnceLock<Bytes>,
    with_previous: OnceLock<Bytes>,
}

/// What is sent: everything but the events, and the events' bytes.
#[derive(Debug)]
pub(super) struct Message {
    head: wire::WatchResponse,
    events: Vec<Bytes>,
}

/// Numbers of fields.
const RESPONSE_EVENTS: u32 = 11;
const EVENT_TYPE: u32 = 1;
const EVENT_KV: u32 = 2;
const EVENT_PREV_KV: u32 = 3;

/// Of deletions, as an event's type; puts are 0, which is not written.
const DELETE: u64 = 1;

/// The messages that a response is sent in: more than one only where the client allows it and it
/// would be longer than `fragment_bytes_max`.
pub(super) fn messages(
    response: &WatchResponse,
    header: wire::ResponseHeader,
    fragment_bytes_max: usize,
) -> Vec<Message> {
    let mut head =
        wire::WatchResponse { header: Some(header), watch_id: response.id.0, ..Default::default() };
    match &response.content {
        WatchContent::Created => head.created = true,
        WatchContent::Refused(refusal) => {
            (head.created, head.canceled) = (true, true);
            head.cancel_reason = refusal_text(*refusal).to_owned();
        }
        WatchContent::Cancelled => head.canceled = true,
        WatchContent::Compacted(revision) => {
            head.canceled = true;
            head.compact_revision = revision.0;
        }
        WatchContent::Progress => {}
        WatchContent::Events { events, with_previous, fragment } => {
            let events = events.iter().map(|event| event_field(event, *with_previous)).collect();
            let message = Message { head, events };
            return if *fragment { message.fragments(fragment_bytes_max) } else { vec![message] };
        }
    }
    vec![Message { head, events: Vec::new() }]
}

fn refusal_text(refusal: WatchRefusal) -> &'static str {
    match refusal {
        WatchRefusal::NegativeStart => ApiError::Kv(kv::KvError::Compacted).code_and_text().1,
        WatchRefusal::EmptyRange => "mvcc: watcher range is empty",
        WatchRefusal::DuplicateId => "mvcc: duplicate watch ID provided on the WatchStream",
        WatchRefusal::TooMany => "quorate: the stream has as many watchers as it may",
    }
}

impl Message {
    fn encoded_len(&self) -> usize {
        self.head.encoded_len() + self.events.iter().map(Bytes::len).sum::<usize>()
    }

    /// As etcd splits it: each part is shorter than the limit, or has one event.
    fn fragments(self, bytes_max: usize) -> Vec<Message> {
        if self.encoded_len() < bytes_max || self.events.len() < 2 {
            return vec![self];
        }
        let head = wire::WatchResponse { fragment: true, ..self.head };
        let head_bytes = head.encoded_len();
        let mut parts: Vec<Message> = Vec::new();
        let mut part_bytes = 0;
        for event in self.events {
            match parts.last_mut() {
                Some(part) if part_bytes + event.len() < bytes_max => {
                    part_bytes += event.len();
                    part.events.push(event);
                }
                _ => {
                    part_bytes = head_bytes + event.len();
                    parts.push(Message { head: head.clone(), events: vec![event] });
                }
            }
        }
        if let Some(last) = parts.last_mut() {
            last.head.fragment = false;
        }
        parts
    }
}

/// The event as a field of a response, encoded if it was not yet.
fn event_field(event: &WatchEvent<Encoded>, with_previous: bool) -> Bytes {
    let previous = event.previous.as_deref().filter(|_| with_previous);
    let place = if previous.is_some() { &event.form.with_previous } else { &event.form.plain };
    place.get_or_init(|| encode_event(&event.event, previous)).clone()
}

/// The content of a `KeyValue`. That of a deletion has a key and a revision.
struct KeyValue<'a> {
    key: &'a [u8],
    value: &'a [u8],
    /// The fields 2, 3, 4 and 6.
    numbers: [(u32, i64); 4],
}

impl<'a> KeyValue<'a> {
    fn of(record: &'a kv::KeyValue) -> Self {
        KeyValue {
            key: &record.key,
            value: &record.value,
            numbers: [
                (2, record.create_revision.0),
                (3, record.mod_revision.0),
                (4, record.version),
                (6, record.lease.0),
            ],
        }
    }

    fn encoded_len(&self) -> usize {
        let numbers = self.numbers.iter().map(|&(field, number)| number_len(field, number));
        numbers.sum::<usize>() + bytes_len(1, self.key) + bytes_len(5, self.value)
    }

    fn put(&self, field: u32, buffer: &mut BytesMut) {
        encode_key(field, WireType::LengthDelimited, buffer);
        encode_varint(self.encoded_len() as u64, buffer);
        let [create, modified, version, lease] = self.numbers;
        put_bytes(1, self.key, buffer);
        put_number(create, buffer);
        put_number(modified, buffer);
        put_number(version, buffer);
        put_bytes(5, self.value, buffer);
        put_number(lease, buffer);
    }

    /// With its tag and its length, as a field.
    fn field_len(&self, field: u32) -> usize {
        let length = self.encoded_len();
        key_len(field) + encoded_len_varint(length as u64) + length
    }
}

fn encode_event(event: &KvEvent, previous: Option<&kv::KeyValue>) -> Bytes {
    let (kind, key_value) = match event {
        KvEvent::Put(record) => (0, KeyValue::of(record)),
        KvEvent::Delete { key, mod_revision } => {
            let numbers = [(2, 0), (3, mod_revision.0), (4, 0), (6, 0)];
            (DELETE, KeyValue { key, value: &[], numbers })
        }
    };
    let previous = previous.map(KeyValue::of);
    let kind_len = if kind == 0 { 0 } else { key_len(EVENT_TYPE) + encoded_len_varint(kind) };
    let length = kind_len
        + key_value.field_len(EVENT_KV)
        + previous.as_ref().map_or(0, |previous| previous.field_len(EVENT_PREV_KV));
    let field_len = key_len(RESPONSE_EVENTS) + encoded_len_varint(length as u64) + length;
    let mut buffer = BytesMut::with_capacity(field_len);
    encode_key(RESPONSE_EVENTS, WireType::LengthDelimited, &mut buffer);
    encode_varint(length as u64, &mut buffer);
    if kind != 0 {
        encode_key(EVENT_TYPE, WireType::Varint, &mut buffer);
        encode_varint(kind, &mut buffer);
    }
    key_value.put(EVENT_KV, &mut buffer);
    if let Some(previous) = previous {
        previous.put(EVENT_PREV_KV, &mut buffer);
    }
    buffer.freeze()
}

fn bytes_len(field: u32, bytes: &[u8]) -> usize {
    if bytes.is_empty() {
        return 0;
    }
    key_len(field) + encoded_len_varint(bytes.len() as u64) + bytes.len()
}

fn put_bytes(field: u32, bytes: &[u8], buffer: &mut BytesMut) {
    if !bytes.is_empty() {
        encode_key(field, WireType::LengthDelimited, buffer);
        encode_varint(bytes.len() as u64, buffer);
        buffer.put_slice(bytes);
    }
}

fn number_len(field: u32, number: i64) -> usize {
    if number == 0 { 0 } else { key_len(field) + encoded_len_varint(number.cast_unsigned()) }
}

fn put_number((field, number): (u32, i64), buffer: &mut BytesMut) {
    if number != 0 {
        encode_key(field, WireType::Varint, buffer);
        encode_varint(number.cast_unsigned(), buffer);
    }
}

/// Requests as prost reads them, and messages as they were put together.
#[derive(Clone, Copy, Debug)]
pub(super) struct WatchCodec;

impl Codec for WatchCodec {
    type Encode = Message;
    type Decode = wire::WatchRequest;
    type Encoder = MessageEncoder;
    type Decoder = RequestDecoder;

    fn encoder(&mut self) -> MessageEncoder {
        MessageEncoder
    }

    fn decoder(&mut self) -> RequestDecoder {
        RequestDecoder(ProstDecoder::default())
    }
}

#[derive(Debug)]
pub(super) struct MessageEncoder;

impl Encoder for MessageEncoder {
    type Item = Message;
    type Error = Status;

    fn encode(&mut self, message: Message, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.encoded_len());
        message.head.encode_raw(buffer);
        message.events.iter().for_each(|event| buffer.put_slice(event));
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct RequestDecoder(ProstDecoder<wire::WatchRequest>);

impl Decoder for RequestDecoder {
    type Item = wire::WatchRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        self.0.decode(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quorate_kv::{LeaseId, Revision, WatchId};

    use super::*;
    use crate::proto::mvccpb;

    const HEADER: wire::ResponseHeader =
        wire::ResponseHeader { cluster_id: u64::MAX, member_id: 2, revision: 9, raft_term: 4 };

    fn record(key: &str, value: usize, lease: i64) -> kv::KeyValue {
        kv::KeyValue {
            key: key.as_bytes().to_vec(),
            create_revision: Revision(2),
            mod_revision: Revision(300),
            version: 5,
            value: vec![7; value],
            lease: LeaseId(lease),
        }
    }

    fn event(event: KvEvent, previous: Option<kv::KeyValue>) -> Arc<WatchEvent<Encoded>> {
        Arc::new(WatchEvent { event, previous: previous.map(Arc::new), form: Encoded::default() })
    }

    fn response(content: WatchContent<Encoded>) -> WatchResponse {
        WatchResponse { id: WatchId(-1), revision: Revision(9), content }
    }

    fn bytes(message: &Message) -> Vec<u8> {
        let mut bytes = message.head.encode_to_vec();
        message.events.iter().for_each(|event| bytes.extend_from_slice(event));
        assert_eq!(bytes.len(), message.encoded_len());
        bytes
    }

    fn on_the_wire(record: &kv::KeyValue) -> mvccpb::KeyValue {
        mvccpb::KeyValue {
            key: record.key.clone().into(),
            create_revision: record.create_revision.0,
            mod_revision: record.mod_revision.0,
            version: record.version,
            value: record.value.clone().into(),
            lease: record.lease.0,
        }
    }

    /// Each kind of event, and the bytes that prost makes of the whole.
    #[test]
    fn what_is_put_together_is_what_prost_writes() {
        let records = [record("key", 3, 0), record("k", 0, -7), record("key", 100_000, i64::MAX)];
        let mut events: Vec<_> = records
            .iter()
            .map(|put| event(KvEvent::Put(Arc::new(put.clone())), Some(record("old", 200, 1))))
            .collect();
        let deleted = KvEvent::Delete { key: Arc::from(&b"gone"[..]), mod_revision: Revision(8) };
        events.push(event(deleted.clone(), None));
        events.push(event(deleted, Some(record("old", 0, 0))));
        for with_previous in [false, true] {
            let expected = events.iter().map(|event| mvccpb::Event {
                r#type: i32::from(matches!(event.event, KvEvent::Delete { .. })),
                kv: Some(match &event.event {
                    KvEvent::Put(record) => on_the_wire(record),
                    KvEvent::Delete { key, mod_revision } => mvccpb::KeyValue {
                        key: key.to_vec().into(),
                        mod_revision: mod_revision.0,
                        ..Default::default()
                    },
                }),
                prev_kv: event.previous.as_deref().filter(|_| with_previous).map(on_the_wire),
            });
            let expected = wire::WatchResponse {
                header: Some(HEADER),
                watch_id: -1,
                events: expected.collect(),
                ..Default::default()
            };
            let content =
                WatchContent::Events { events: events.clone(), with_previous, fragment: false };
            let messages = messages(&response(content), HEADER, 1);
            assert_eq!(messages.len(), 1, "it was not to be split");
            assert_eq!(bytes(&messages[0]), expected.encode_to_vec());
        }
    }

    #[test]
    fn an_event_is_encoded_once() {
        let event = event(KvEvent::Put(Arc::new(record("key", 10, 0))), None);
        let (first, second) = (event_field(&event, false), event_field(&event, true));
        assert_eq!(first.as_ptr(), second.as_ptr());
    }

    #[test]
    fn a_response_is_split_where_the_client_allows_it() {
        let events: Vec<_> =
            (0..5).map(|_| event(KvEvent::Put(Arc::new(record("key", 100, 0))), None)).collect();
        let whole = |fragment| {
            response(WatchContent::Events {
                events: events.clone(),
                with_previous: false,
                fragment,
            })
        };
        let parts = |limit| messages(&whole(true), HEADER, limit);
        assert_eq!(messages(&whole(false), HEADER, 1).len(), 1);
        assert_eq!(parts(10_000).len(), 1);
        assert!(!parts(10_000)[0].head.fragment);
        for (limit, counts) in [(1, vec![1; 5]), (300, vec![2, 2, 1]), (500, vec![3, 2])] {
            let parts = parts(limit);
            let found: Vec<usize> = parts.iter().map(|part| part.events.len()).collect();
            assert_eq!(found, counts, "with a limit of {limit}");
            let (last, first) = parts.split_last().unwrap();
            assert!(!last.head.fragment);
            assert!(first.iter().all(|part| part.head.fragment));
            assert!(limit == 1 || parts.iter().all(|part| part.encoded_len() < limit));
        }
    }

    #[test]
    fn everything_else_is_said_as_etcd_says_it() {
        let of = |content| messages(&response(content), HEADER, 1).remove(0).head;
        let plain =
            wire::WatchResponse { header: Some(HEADER), watch_id: -1, ..Default::default() };
        assert_eq!(of(WatchContent::Progress), plain);
        let created = wire::WatchResponse { created: true, ..plain.clone() };
        assert_eq!(of(WatchContent::Created), created);
        let canceled = wire::WatchResponse { canceled: true, ..plain };
        assert_eq!(of(WatchContent::Cancelled), canceled);
        let compacted = wire::WatchResponse { compact_revision: 5, ..canceled.clone() };
        assert_eq!(of(WatchContent::Compacted(Revision(5))), compacted);
        let texts = [
            (WatchRefusal::NegativeStart, "etcdserver: mvcc: required revision has been compacted"),
            (WatchRefusal::EmptyRange, "mvcc: watcher range is empty"),
            (WatchRefusal::DuplicateId, "mvcc: duplicate watch ID provided on the WatchStream"),
        ];
        for (refusal, text) in texts {
            let refused = wire::WatchResponse {
                created: true,
                cancel_reason: text.to_owned(),
                ..canceled.clone()
            };
            assert_eq!(of(WatchContent::Refused(refusal)), refused);
        }
    }
}
