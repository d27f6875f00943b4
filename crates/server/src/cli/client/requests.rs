//! What the flags of the client's commands ask for, as etcd's requests.

use std::ffi::OsString;

use clap::{Args, Parser, ValueEnum};
use thiserror::Error;

use crate::client::{ClientError, SyntaxError, parse_comparison, sections, words};
use crate::proto::etcdserverpb as wire;
use wire::range_request::{SortOrder, SortTarget};
use wire::request_op::Request;

/// A range end of one zero byte is no end.
const NO_END: &[u8] = b"\0";

/// What of the keys found is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The value of one key alone.
    Value,
    /// Keys and values.
    KeyValues,
    /// Keys.
    Keys,
    /// How many.
    Count,
}

/// Which keys.
#[derive(Debug, Args)]
pub(super) struct KeysArguments {
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
}

#[derive(Debug, Args)]
pub(in crate::cli) struct GetArguments {
    #[command(flatten)]
    keys: KeysArguments,
    /// As of this revision.
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    rev: i64,
    /// At most so many keys; 0 is no limit.
    #[arg(long, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    limit: i64,
    /// By what to sort.
    #[arg(long, value_enum, ignore_case = true)]
    sort_by: Option<SortBy>,
    /// In which order to sort.
    #[arg(long, value_enum, ignore_case = true)]
    order: Option<Order>,
    /// Print only how many keys there are.
    #[arg(long, conflicts_with = "keys_only")]
    count_only: bool,
    /// Print only the keys.
    #[arg(long)]
    keys_only: bool,
    /// Linearizable, or as the member asked has it, however old.
    #[arg(long, value_enum, default_value_t = Consistency::L)]
    consistency: Consistency,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SortBy {
    Key,
    Version,
    Create,
    Modify,
    Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Order {
    Ascend,
    Descend,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Consistency {
    /// Linearizable: every acknowledged write is seen.
    L,
    /// Serializable: answered at once from the member's own state.
    S,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PutArguments {
    /// The key.
    key: OsString,
    /// The value; without it, or with -, standard input to its end.
    value: Option<OsString>,
    /// Print what was there before.
    #[arg(long)]
    prev_kv: bool,
    /// Keep the value that is there.
    #[arg(long, conflicts_with = "value")]
    ignore_value: bool,
    /// Attach the key to this lease, in hexadecimal as `lease grant` shows it.
    #[arg(long, value_parser = lease_number, conflicts_with = "ignore_lease")]
    lease: Option<i64>,
    /// Keep the lease that is there.
    #[arg(long)]
    ignore_lease: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DelArguments {
    #[command(flatten)]
    keys: KeysArguments,
    /// Print what was there before.
    #[arg(long)]
    prev_kv: bool,
}

/// An operation within a transaction: the commands with their flags, without the client's own.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true, disable_help_subcommand = true)]
enum Operation {
    Get(GetArguments),
    Put(PutArguments),
    Del(DelArguments),
}

impl GetArguments {
    pub(super) fn to_request(&self) -> Result<wire::RangeRequest, ClientError> {
        let (key, range_end) = self.keys.range()?;
        let sort_target = match self.sort_by {
            None | Some(SortBy::Key) => SortTarget::Key,
            Some(SortBy::Version) => SortTarget::Version,
            Some(SortBy::Create) => SortTarget::Create,
            Some(SortBy::Modify) => SortTarget::Mod,
            Some(SortBy::Value) => SortTarget::Value,
        };
        let sort_order = match self.order {
            None => SortOrder::None,
            Some(Order::Ascend) => SortOrder::Ascend,
            Some(Order::Descend) => SortOrder::Descend,
        };
        Ok(wire::RangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            limit: self.limit,
            revision: self.rev,
            sort_order: sort_order.into(),
            sort_target: sort_target.into(),
            serializable: self.consistency == Consistency::S,
            keys_only: self.keys_only,
            count_only: self.count_only,
            ..Default::default()
        })
    }

    pub(super) fn shape(&self) -> Shape {
        match self {
            Self { count_only: true, .. } => Shape::Count,
            Self { keys_only: true, .. } => Shape::Keys,
            arguments if arguments.is_single() => Shape::Value,
            _ => Shape::KeyValues,
        }
    }

    /// Whether one key was asked for by name.
    pub(super) fn is_single(&self) -> bool {
        self.keys.is_single()
    }

    pub(super) fn key_text(&self) -> String {
        self.keys.key.to_string_lossy().into_owned()
    }
}

impl PutArguments {
    /// The value of the command line; `None` where standard input holds it.
    pub(super) fn value(&self) -> Option<Vec<u8>> {
        match &self.value {
            None if self.ignore_value => Some(Vec::new()),
            None => None,
            Some(value) if value == "-" => None,
            Some(value) => Some(value.as_encoded_bytes().to_vec()),
        }
    }

    pub(super) fn to_request(&self, value: Vec<u8>) -> Result<wire::PutRequest, ClientError> {
        Ok(wire::PutRequest {
            key: present(&self.key)?.into(),
            value: value.into(),
            prev_kv: self.prev_kv,
            ignore_value: self.ignore_value,
            lease: self.lease.unwrap_or(0),
            ignore_lease: self.ignore_lease,
        })
    }
}

impl DelArguments {
    pub(super) fn to_request(&self) -> Result<wire::DeleteRangeRequest, ClientError> {
        let (key, range_end) = self.keys.range()?;
        let (key, range_end) = (key.into(), range_end.into());
        Ok(wire::DeleteRangeRequest { key, range_end, prev_kv: self.prev_kv })
    }
}

/// Not the number of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("write the lease in hexadecimal, as `lease grant` prints it")]
pub(super) struct LeaseNumberError;

/// The number of a lease, as it is printed.
pub(super) fn lease_number(text: &str) -> Result<i64, LeaseNumberError> {
    i64::from_str_radix(text, 16).map_err(|_| LeaseNumberError)
}

fn present(key: &OsString) -> Result<Vec<u8>, ClientError> {
    match key.as_encoded_bytes() {
        [] => Err(ClientError::Usage { problem: "the key is empty" }),
        key => Ok(key.to_vec()),
    }
}

impl KeysArguments {
    /// The first key and the end of the range, as etcd writes them. An empty key with `--prefix` or
    /// `--from-key` is every key.
    pub(super) fn range(&self) -> Result<(Vec<u8>, Vec<u8>), ClientError> {
        let Self { key, range_end, prefix, from_key } = self;
        let every_key = (*prefix || *from_key) && key.is_empty();
        let key = if every_key { NO_END.to_vec() } else { present(key)? };
        let end = match range_end {
            Some(end) => end.as_encoded_bytes().to_vec(),
            None if every_key || *from_key => NO_END.to_vec(),
            None if *prefix => after_prefix(&key),
            None => Vec::new(),
        };
        Ok((key, end))
    }

    /// Whether one key is asked for by name.
    fn is_single(&self) -> bool {
        !self.prefix && !self.from_key && self.range_end.is_none()
    }
}

/// The first key after all that begin with the prefix.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    NO_END.to_vec()
}

/// The transaction of this text.
pub(super) fn transaction(text: &str) -> Result<wire::TxnRequest, ClientError> {
    let [comparisons, success, failure] = sections(text);
    let compare =
        comparisons.into_iter().map(parse_comparison).collect::<Result<Vec<_>, SyntaxError>>()?;
    let operations = |lines: Vec<&str>| {
        lines.into_iter().map(operation).collect::<Result<Vec<_>, ClientError>>()
    };
    Ok(wire::TxnRequest { compare, success: operations(success)?, failure: operations(failure)? })
}

fn operation(line: &str) -> Result<wire::RequestOp, ClientError> {
    let wrong = |problem: String| SyntaxError::Operation { line: line.to_owned(), problem };
    let mut arguments = Vec::new();
    for word in words(line)? {
        // The flags' parser knows the operating system's text alone.
        let word = String::from_utf8(word).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        arguments.push(OsString::from(word));
    }
    let operation = Operation::try_parse_from(arguments).map_err(|error| {
        // The rest of clap's text explains the command line, which this is not.
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        wrong(first.trim_start_matches("error: ").to_owned())
    })?;
    let request = match operation {
        Operation::Get(get) => Request::RequestRange(get.to_request()?),
        Operation::Put(put) => {
            let value = put.value().ok_or_else(|| wrong("it has no value".to_owned()))?;
            Request::RequestPut(put.to_request(value)?)
        }
        Operation::Del(del) => Request::RequestDeleteRange(del.to_request()?),
    };
    Ok(wire::RequestOp { request: Some(request) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(line: &str) -> Request {
        operation(line).unwrap().request.unwrap()
    }

    fn range_of(line: &str) -> (Vec<u8>, Vec<u8>) {
        match op(line) {
            Request::RequestRange(range) => (range.key.to_vec(), range.range_end.to_vec()),
            Request::RequestDeleteRange(range) => (range.key.to_vec(), range.range_end.to_vec()),
            other => panic!("unexpected {other:?}"),
        }
    }

    #[test]
    fn ranges_are_written_as_etcd_writes_them() {
        let check = |line, key: &[u8], end: &[u8]| {
            assert_eq!(range_of(line), (key.to_vec(), end.to_vec()), "{line}");
        };
        check("get a", b"a", b"");
        check("get a c", b"a", b"c");
        check("get a --prefix", b"a", b"b");
        check("get --prefix \"\"", b"\0", b"\0");
        check("get --from-key \"\"", b"\0", b"\0");
        check("get --from-key a", b"a", b"\0");
        check("del a --prefix", b"a", b"b");
        check("del a", b"a", b"");
        assert_eq!(after_prefix(b"a\xff\xff"), b"b");
        assert_eq!(after_prefix(b"\xff"), b"\0");
    }

    #[test]
    fn every_flag_of_get_reaches_the_request() {
        let line = "get a --rev 3 --limit 2 --sort-by=MODIFY --order=DESCEND --keys-only \
                    --consistency s";
        let expected = wire::RangeRequest {
            key: "a".into(),
            limit: 2,
            revision: 3,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Mod.into(),
            serializable: true,
            keys_only: true,
            ..Default::default()
        };
        assert_eq!(op(line), Request::RequestRange(expected));
        let Request::RequestRange(count) = op("get a --count-only") else { panic!("no range") };
        assert!(count.count_only && !count.serializable);
    }

    #[test]
    fn every_flag_of_put_and_del_reaches_the_request() {
        let put = wire::PutRequest {
            key: "a".into(),
            value: "b c".into(),
            prev_kv: true,
            ..Default::default()
        };
        assert_eq!(op("put a \"b c\" --prev-kv"), Request::RequestPut(put));
        let kept = wire::PutRequest { key: "a".into(), ignore_value: true, ..Default::default() };
        assert_eq!(op("put a --ignore-value"), Request::RequestPut(kept));
        let Request::RequestDeleteRange(del) = op("del a --prev-kv") else { panic!("no delete") };
        assert!(del.prev_kv);
    }

    #[test]
    fn a_transaction_is_read_whole() {
        let text = "mod(\"key1\") > \"0\"\n\nput key1 \"over wrote\"\nget key1\n\ndel key1\n";
        let request = transaction(text).unwrap();
        assert_eq!(request.compare.len(), 1);
        assert_eq!(
            request.success,
            [operation("put key1 'over wrote'").unwrap(), operation("get key1").unwrap(),]
        );
        assert_eq!(request.failure, [operation("del key1").unwrap()]);
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_line() {
        let problem = |line| {
            let error = operation(line).unwrap_err();
            assert_eq!(error.exit_status(), 2, "{error}");
            error.to_string()
        };
        assert_eq!(problem("put a"), "\"put a\" is no operation of a transaction: it has no value");
        assert!(problem("move a b").contains("move"));
        assert!(problem("get a --size").contains("--size"));
        assert!(problem("get a b --prefix").contains("cannot be used with"));
        assert!(problem("put a v --ignore-value").contains("cannot be used with"));
        assert_eq!(problem("put \"\" v"), "the key is empty");
        assert!(problem("put \"\\xff\" v").contains("not UTF-8"));
        assert!(transaction("size(\"a\") > \"0\"\n").is_err());
    }
}
