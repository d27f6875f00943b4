//! JSON to protobuf and back, by what the descriptors say of a message.

use axum::body::Bytes;
use prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Deserializer;
use tonic::Status;

/// The message that the first value of this text stands for; an empty one where there is no value.
///
/// # Errors
/// It is no such message.
pub(super) fn to_message(kind: MessageDescriptor, text: &[u8]) -> Result<Bytes, Status> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Bytes::new());
    }
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let mut value = Deserializer::from_slice(text);
    let message = DynamicMessage::deserialize_with_options(kind, &mut value, &options);
    let message = message.map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(message.encode_to_vec().into())
}

/// What the message is in JSON.
///
/// # Errors
/// It is no such message, which is a defect of this program.
pub(super) fn from_message(kind: MessageDescriptor, bytes: Bytes) -> Result<Vec<u8>, Status> {
    let defect = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
    let message = DynamicMessage::decode(kind, bytes).map_err(|error| defect(&error))?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut text);
    message.serialize_with_options(&mut serializer, &options).map_err(|error| defect(&error))?;
    Ok(text)
}

/// One answer of a stream.
///
/// # Errors
/// As [`from_message`].
pub(super) fn result_line(kind: MessageDescriptor, bytes: Bytes) -> Result<Vec<u8>, Status> {
    let text = from_message(kind, bytes)?;
    Ok([b"{\"result\":", &text[..], b"}\n"].concat())
}

/// What a call was refused with.
pub(super) fn error(status: &Status) -> Vec<u8> {
    error_value(status).to_string().into_bytes()
}

/// What a stream ended with.
pub(super) fn error_line(status: &Status) -> Vec<u8> {
    let line = serde_json::json!({ "error": error_value(status) });
    format!("{line}\n").into_bytes()
}

fn error_value(status: &Status) -> serde_json::Value {
    serde_json::json!({ "code": status.code() as i32, "message": status.message() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{descriptors, etcdserverpb as wire, mvccpb};

    fn kind(name: &str) -> MessageDescriptor {
        descriptors().get_message_by_name(name).unwrap()
    }

    #[test]
    fn requests_are_read_by_either_name_of_a_field() {
        let text = br#"{"key":"YQ==","range_end":"Yg==","sortTarget":"MOD","limit":"3",
            "sort_order":1,"revision":4,"unknown":{"a":[1]},"keys_only":true} {"ignored":1}"#;
        let bytes = to_message(kind("etcdserverpb.RangeRequest"), text).unwrap();
        let request = wire::RangeRequest::decode(bytes).unwrap();
        assert_eq!((&request.key[..], &request.range_end[..]), (&b"a"[..], &b"b"[..]));
        assert_eq!((request.limit, request.revision, request.keys_only), (3, 4, true));
        assert_eq!((request.sort_order, request.sort_target), (1, 3));
        let text = br#"{"ID":"7","TTL":5}"#;
        let bytes = to_message(kind("etcdserverpb.LeaseGrantRequest"), text).unwrap();
        let request = wire::LeaseGrantRequest::decode(bytes).unwrap();
        assert_eq!((request.id, request.ttl), (7, 5));
        assert_eq!(to_message(kind("etcdserverpb.RangeRequest"), b" \n").unwrap(), Bytes::new());
    }

    #[test]
    fn nonsense_is_an_invalid_argument() {
        for text in [&b"{"[..], b"[]", b"{\"key\":5}", b"{\"key\":\"?\"}", b"{\"limit\":\"x\"}"] {
            let error = to_message(kind("etcdserverpb.RangeRequest"), text).unwrap_err();
            assert_eq!(error.code(), tonic::Code::InvalidArgument, "{error}");
        }
    }

    #[test]
    fn answers_have_etcds_names_and_leave_out_what_is_empty() {
        let kv = mvccpb::KeyValue { key: "a".into(), mod_revision: 5, ..Default::default() };
        let header = wire::ResponseHeader { cluster_id: u64::MAX, ..Default::default() };
        let response = wire::RangeResponse {
            header: Some(header),
            kvs: vec![kv],
            count: 1,
            ..Default::default()
        };
        let bytes = Bytes::from(response.encode_to_vec());
        let text = from_message(kind("etcdserverpb.RangeResponse"), bytes).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "{\"header\":{\"cluster_id\":\"18446744073709551615\"},\
             \"kvs\":[{\"key\":\"YQ==\",\"mod_revision\":\"5\"}],\"count\":\"1\"}"
        );
        let event = mvccpb::Event { r#type: 1, ..Default::default() };
        let bytes = Bytes::from(event.encode_to_vec());
        let text = result_line(kind("mvccpb.Event"), bytes).unwrap();
        assert_eq!(text, b"{\"result\":{\"type\":\"DELETE\"}}\n");
    }

    #[test]
    fn errors_have_their_number_and_text() {
        let status = Status::not_found("gone");
        assert_eq!(error(&status), b"{\"code\":5,\"message\":\"gone\"}");
        assert_eq!(error_line(&status), b"{\"error\":{\"code\":5,\"message\":\"gone\"}}\n");
    }
}
