//! What changes, printed as etcdctl prints it.

use serde_json::{Value, json};

use super::{key_value_json, revision};
use crate::proto::etcdserverpb as wire;
use crate::proto::mvccpb::event::EventType;
use crate::proto::mvccpb::{Event, KeyValue};

/// Of each change what it was, then keys and values, each on a line of its own; of a response
/// without any, the revision.
pub(super) fn watched_text(response: &wire::WatchResponse) -> Vec<u8> {
    if response.events.is_empty() {
        return format!("progress notify: {}\n", revision(response.header)).into_bytes();
    }
    let mut text = Vec::new();
    for event in &response.events {
        text.extend_from_slice(kind(event).as_bytes());
        text.push(b'\n');
        for KeyValue { key, value, .. } in event.prev_kv.iter().chain(&event.kv) {
            for part in [key, value] {
                text.extend_from_slice(part);
                text.push(b'\n');
            }
        }
    }
    text
}

pub(super) fn watched_json(response: &wire::WatchResponse) -> Value {
    let events = response.events.iter().map(|event| {
        json!({
            "type": kind(event),
            "kv": event.kv.as_ref().map(key_value_json),
            "prev_kv": event.prev_kv.as_ref().map(key_value_json),
        })
    });
    json!({ "revision": revision(response.header), "events": events.collect::<Vec<_>>() })
}

fn kind(event: &Event) -> &'static str {
    match event.r#type() {
        EventType::Put => "PUT",
        EventType::Delete => "DELETE",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response() -> wire::WatchResponse {
        let kv = |key: &'static str, value: &'static str| KeyValue {
            key: key.into(),
            value: value.into(),
            ..Default::default()
        };
        let put =
            Event { kv: Some(kv("a", "2")), prev_kv: Some(kv("a", "1")), ..Default::default() };
        let deleted = Event { r#type: 1, kv: Some(kv("b", "")), ..Default::default() };
        let header = wire::ResponseHeader { revision: 9, ..Default::default() };
        wire::WatchResponse {
            header: Some(header),
            events: vec![put, deleted],
            ..Default::default()
        }
    }

    #[test]
    fn changes_are_printed_as_etcdctl_prints_them() {
        let text = String::from_utf8(watched_text(&response())).unwrap();
        assert_eq!(text, "PUT\na\n1\na\n2\nDELETE\nb\n\n");
        let progress = wire::WatchResponse { events: Vec::new(), ..response() };
        assert_eq!(watched_text(&progress), b"progress notify: 9\n");
    }

    #[test]
    fn scripts_get_an_object_for_each_response() {
        let json = watched_json(&response());
        assert_eq!(json["revision"], 9);
        assert_eq!(json["events"][0]["type"], "PUT");
        assert_eq!(json["events"][0]["prev_kv"]["value"], "1");
        assert_eq!(json["events"][1]["kv"]["key"], "b");
        assert_eq!(json["events"][1]["prev_kv"], Value::Null);
    }
}
