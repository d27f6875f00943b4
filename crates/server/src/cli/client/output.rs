//! How answers are printed: for people, or as one JSON object for scripts.

mod held;
mod leases;
mod members;
mod watched;

use std::io::{self, Write};
use std::ops::ControlFlow;

use serde_json::{Map, Value, json};

use super::OutputFormat;
use super::requests::Shape;
use crate::client::{ClientError, Endpoint, EndpointError};
use crate::proto::etcdserverpb as wire;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::mvccpb::KeyValue;
use leases::number;
use watched::{watched_json, watched_text};

/// Prints to standard output.
pub(super) struct Output {
    format: OutputFormat,
}

type Statuses = [(Endpoint, Result<wire::StatusResponse, EndpointError>)];

impl Output {
    pub(super) fn new(format: OutputFormat) -> Self {
        Self { format }
    }

    pub(super) fn range(
        &self,
        response: &wire::RangeResponse,
        shape: Shape,
    ) -> Result<(), ClientError> {
        self.print(|| range_text(response, shape), || range_json(response))
    }

    pub(super) fn put(&self, response: &wire::PutResponse) -> Result<(), ClientError> {
        self.print(|| put_text(response), || put_json(response))
    }

    pub(super) fn deleted(&self, response: &wire::DeleteRangeResponse) -> Result<(), ClientError> {
        self.print(|| deleted_text(response), || deleted_json(response))
    }

    pub(super) fn transaction(&self, response: &wire::TxnResponse) -> Result<(), ClientError> {
        self.print(|| transaction_text(response), || transaction_json(response))
    }

    pub(super) fn statuses(&self, statuses: &Statuses) -> Result<(), ClientError> {
        self.print(|| statuses_text(statuses), || json!({ "members": statuses_json(statuses) }))
    }

    /// Answers whether anybody still reads it.
    pub(super) fn watched(
        &self,
        response: &wire::WatchResponse,
    ) -> Result<ControlFlow<()>, ClientError> {
        self.write(|| watched_text(response), || watched_json(response))
    }

    fn print(
        &self,
        text: impl FnOnce() -> Vec<u8>,
        json: impl FnOnce() -> Value,
    ) -> Result<(), ClientError> {
        self.write(text, json).map(|_| ())
    }

    fn write(
        &self,
        text: impl FnOnce() -> Vec<u8>,
        json: impl FnOnce() -> Value,
    ) -> Result<ControlFlow<()>, ClientError> {
        let bytes = match self.format {
            OutputFormat::Text => text(),
            OutputFormat::Json => format!("{}\n", json()).into_bytes(),
        };
        let mut out = io::stdout().lock();
        match out.write_all(&bytes).and_then(|()| out.flush()) {
            Ok(()) => Ok(ControlFlow::Continue(())),
            // Whoever read it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            Err(error) => Err(ClientError::Io { what: "cannot write standard output", error }),
        }
    }
}

fn line(parts: &[&[u8]]) -> Vec<u8> {
    let mut line = parts.join(&b'\t');
    line.push(b'\n');
    line
}

fn key_value_line(key_value: &KeyValue) -> Vec<u8> {
    line(&[&key_value.key, &key_value.value])
}

fn range_text(response: &wire::RangeResponse, shape: Shape) -> Vec<u8> {
    let each = |print: fn(&KeyValue) -> Vec<u8>| response.kvs.iter().flat_map(print).collect();
    match shape {
        Shape::Count => format!("{}\n", response.count).into_bytes(),
        Shape::Keys => each(|key_value| line(&[&key_value.key])),
        Shape::Value => each(|key_value| line(&[&key_value.value])),
        Shape::KeyValues => each(key_value_line),
    }
}

fn put_text(response: &wire::PutResponse) -> Vec<u8> {
    let mut text = b"OK\n".to_vec();
    text.extend(response.prev_kv.iter().flat_map(key_value_line));
    text
}

fn deleted_text(response: &wire::DeleteRangeResponse) -> Vec<u8> {
    let mut text = format!("{}\n", response.deleted).into_bytes();
    text.extend(response.prev_kvs.iter().flat_map(key_value_line));
    text
}

/// SUCCESS or FAILURE, as etcdctl says it: which of the two branches was taken.
fn transaction_text(response: &wire::TxnResponse) -> Vec<u8> {
    let mut text = if response.succeeded { b"SUCCESS\n".to_vec() } else { b"FAILURE\n".to_vec() };
    for response in response.responses.iter().filter_map(|op| op.response.as_ref()) {
        text.push(b'\n');
        text.extend(match response {
            Response::ResponseRange(range) => range_text(range, Shape::KeyValues),
            Response::ResponsePut(put) => put_text(put),
            Response::ResponseDeleteRange(deleted) => deleted_text(deleted),
            Response::ResponseTxn(txn) => transaction_text(txn),
        });
    }
    text
}

fn statuses_text(statuses: &Statuses) -> Vec<u8> {
    const HEADS: [&str; 8] =
        ["ENDPOINT", "MEMBER", "ETCD API", "LEADER", "TERM", "INDEX", "DB SIZE", "ERROR"];
    let mut rows = vec![HEADS.map(str::to_owned)];
    for (endpoint, status) in statuses {
        rows.push(match status {
            Ok(status) => status_row(endpoint, status),
            Err(error) => {
                let mut row: [String; 8] = std::array::from_fn(|_| "-".to_owned());
                row[0] = endpoint.to_string();
                row[7].clone_from(&error.text);
                row
            }
        });
    }
    table(&rows)
}

/// Rows with their columns below one another.
fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<u8> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..COLUMNS).filter_map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text.into_bytes()
}

fn status_row(endpoint: &Endpoint, status: &wire::StatusResponse) -> [String; 8] {
    let member = status.header.map_or(0, |header| header.member_id);
    let leader = match status.leader {
        0 => "none".to_owned(),
        leader if leader == member => "itself".to_owned(),
        leader => format!("{leader:x}"),
    };
    [
        endpoint.to_string(),
        format!("{member:x}"),
        status.version.clone(),
        leader,
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        bytes_text(status.db_size),
        status.errors.join(", "),
    ]
}

/// "1.5 MiB": three digits are enough for people.
fn bytes_text(bytes: i64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut unit = "B";
    for larger in UNITS {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{amount:.1} {unit}") }
}

/// Bytes that are text go under the name; others, in hexadecimal, under the name with `_hex`.
fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            object.insert(format!("{name}_hex"), hex.into())
        }
    };
}

fn key_value_json(key_value: &KeyValue) -> Value {
    let mut object = Map::new();
    insert_bytes(&mut object, "key", &key_value.key);
    insert_bytes(&mut object, "value", &key_value.value);
    object.insert("create_revision".to_owned(), key_value.create_revision.into());
    object.insert("mod_revision".to_owned(), key_value.mod_revision.into());
    object.insert("version".to_owned(), key_value.version.into());
    // As the commands about leases take it; as a number it would lose digits in many a reader of JSON.
    let lease = match key_value.lease {
        0 => Value::Null,
        lease => number(lease).into(),
    };
    object.insert("lease".to_owned(), lease);
    Value::Object(object)
}

fn key_values_json(key_values: &[KeyValue]) -> Vec<Value> {
    key_values.iter().map(key_value_json).collect()
}

fn revision(header: Option<wire::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

fn range_json(response: &wire::RangeResponse) -> Value {
    json!({
        "revision": revision(response.header),
        "count": response.count,
        "more": response.more,
        "kvs": key_values_json(&response.kvs),
    })
}

fn put_json(response: &wire::PutResponse) -> Value {
    json!({
        "revision": revision(response.header),
        "prev_kv": response.prev_kv.as_ref().map(key_value_json),
    })
}

fn deleted_json(response: &wire::DeleteRangeResponse) -> Value {
    json!({
        "revision": revision(response.header),
        "deleted": response.deleted,
        "prev_kvs": key_values_json(&response.prev_kvs),
    })
}

fn transaction_json(response: &wire::TxnResponse) -> Value {
    let responses = response.responses.iter().filter_map(|op| op.response.as_ref());
    let responses = responses.map(|response| match response {
        Response::ResponseRange(range) => json!({ "get": range_json(range) }),
        Response::ResponsePut(put) => json!({ "put": put_json(put) }),
        Response::ResponseDeleteRange(deleted) => json!({ "del": deleted_json(deleted) }),
        Response::ResponseTxn(txn) => json!({ "txn": transaction_json(txn) }),
    });
    json!({
        "revision": revision(response.header),
        "succeeded": response.succeeded,
        "responses": responses.collect::<Vec<_>>(),
    })
}

/// Ids as etcd's tools print them: a JSON number would lose their last digits in many readers.
fn statuses_json(statuses: &Statuses) -> Vec<Value> {
    let each =
        |(endpoint, status): &(Endpoint, Result<wire::StatusResponse, EndpointError>)| match status
        {
            Err(error) => json!({ "endpoint": endpoint.as_str(), "error": error.text }),
            Ok(status) => {
                let header = status.header.unwrap_or_default();
                json!({
                    "endpoint": endpoint.as_str(),
                    "cluster": format!("{:x}", header.cluster_id),
                    "member": format!("{:x}", header.member_id),
                    "version": status.version,
                    "leader": (status.leader != 0).then(|| format!("{:x}", status.leader)),
                    "term": status.raft_term,
                    "index": status.raft_index,
                    "applied_index": status.raft_applied_index,
                    "revision": header.revision,
                    "db_size_bytes": status.db_size,
                    "errors": status.errors,
                })
            }
        };
    statuses.iter().map(each).collect()
}

#[cfg(test)]
mod tests;
