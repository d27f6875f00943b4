//! Runs the scripts in `tests/scripts`. Each tells one story, and its first line says which.
//!
//! ```text
//! put KEY [VALUE] [lease=N] [prev,ignore_value,ignore_lease]
//! get KEY [END] [rev=N] [limit=N] [order=ascend|descend] [sort=version|create|mod|value]
//!     [min_mod=N] [max_mod=N] [min_create=N] [max_create=N] [keys_only,count_only]
//! delete KEY [END] [prev]
//! compact REVISION
//! grant LEASE SECONDS
//! revoke LEASE
//! expire TERM LEASE ...   in an entry of term 1, as every command is
//! leases
//! tidy                    finishes the compaction
//! status
//! txn ... end             what stands between is one transaction:
//!   if version|create|mod|value|lease KEY [END] is|not|above|below VALUE
//!   then, else            which branch the operations after it belong to
//!   put, get, delete, txn
//! validate                before `end`: asks what is wrong with the transaction, instead of doing it
//! ```
//!
//! An end of `_` is every key from the first one on. A command that fails is checked to have left
//! no trace. Written anew with `UPDATE_GOLDENFILES=1`, and then read.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use goldenscript::ArgumentConsumer;
use quorate_kv::{
    Command, CompactionRequest, Compare, CompareResult, CompareTarget, DeleteRangeRequest,
    DeleteRangeResponse, History, KeyRange, KeyValue, Kv, KvConfig, KvEvent, KvLimits,
    LeaseExpireRequest, LeaseGrantRequest, LeaseId, MemoryHistory, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, Response, ResponseOp, Revision, SortOrder, SortTarget,
    TxnRequest, TxnResponse,
};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");

macro_rules! scripts {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run_script(concat!(stringify!($name), ".txt"));
        })*

        #[test]
        fn every_script_is_run() {
            let mut there = Vec::new();
            for entry in std::fs::read_dir(SCRIPTS).unwrap() {
                let entry = entry.unwrap();
                let script = std::fs::read_to_string(entry.path()).unwrap();
                // To `!` a panic is as good as an error; to us it is not.
                assert!(!script.contains("Panic:"), "{:?} expects a panic", entry.path());
                there.push(entry.file_name().into_string().unwrap());
            }
            there.sort();
            assert_eq!(there, [$(concat!(stringify!($name), ".txt")),*]);
        }
    };
}

scripts! {
    a_key_deleted_and_put_again_in_one_revision_outlives_compaction
    compaction
    compaction_keeps_a_tombstone_at_its_revision
    delete_range
    errors_leave_no_trace
    lease_expiry_counts_in_its_own_term_only
    lease_keys
    lease_revocation
    put
    range_at_old_revisions
    range_filters
    range_limit_and_sort
    range_of_keys
    revisions
    txn_compares
    txn_comparisons_come_first
    txn_nested
    txn_operations_see_those_before
    txn_refuses_to_change_a_key_twice
    validation
}

/// Runs a script on a new store, and compares what it answers with what is written there.
///
/// Commands within a transaction are indented, which goldenscript has no notion of. So they lose
/// their indentation on the way in, and get the one they must have on the way out.
fn run_script(name: &str) {
    let path = Path::new(SCRIPTS).join(name);
    let script = std::fs::read_to_string(&path).unwrap();
    let flat = map_commands(&script, |command| command.trim_start().to_owned());
    let flat = goldenscript::generate(&mut Runner::new(), &flat).unwrap();
    let mut depth = 0_usize;
    let expected = map_commands(&flat, |command| {
        let column = match command.trim_start_matches('!').split(' ').next() {
            Some("txn") => {
                depth += 1;
                depth - 1
            }
            Some("end") => {
                depth = depth.saturating_sub(1);
                depth
            }
            Some("if" | "then" | "else") => depth.saturating_sub(1),
            _ => depth,
        };
        if command.is_empty() { String::new() } else { "  ".repeat(column) + command }
    });
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        std::fs::write(&path, expected).unwrap();
        return;
    }
    for (index, (found, expected)) in script.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "{name}:{}", index + 1);
    }
    assert_eq!(script.len(), expected.len(), "{name}: its end");
}

/// Changes the lines of a script that are commands: not those from a `---` up to an empty line.
fn map_commands(script: &str, mut change: impl FnMut(&str) -> String) -> String {
    let mut in_output = false;
    let mut changed = String::new();
    for line in script.lines() {
        in_output = line == "---" || (in_output && !line.is_empty());
        changed += &if in_output { line.to_owned() } else { change(line) };
        changed.push('\n');
    }
    changed
}

/// A transaction that is being written down.
#[derive(Default)]
struct Draft {
    txn: TxnRequest,
    in_failure: bool,
}

impl Draft {
    fn push(&mut self, operation: RequestOp) {
        let branch = if self.in_failure { &mut self.txn.failure } else { &mut self.txn.success };
        branch.push(operation);
    }
}

struct Runner {
    kv: Kv,
    /// Where its records are: every command is followed by a flush.
    history: Arc<MemoryHistory>,
    /// The transactions that are open, the innermost last.
    drafts: Vec<Draft>,
    validate_only: bool,
}

type Outcome = Result<String, Box<dyn Error>>;

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &Self::Command, context: &goldenscript::Context) -> Outcome {
        let mut args = command.consume_args();
        let tag = |name: &str| context.tags.contains(name);
        let outcome = match command.name.as_str() {
            "put" => {
                let operation = RequestOp::Put(PutRequest {
                    key: bytes(args.next_pos().ok_or("no key")?),
                    value: bytes(args.next_pos().unwrap_or_default()),
                    lease: LeaseId(number(&mut args, "lease")?),
                    previous: tag("prev"),
                    ignore_value: tag("ignore_value"),
                    ignore_lease: tag("ignore_lease"),
                });
                self.operation(operation)
            }
            "get" => {
                let request = range_request(&mut args, tag("keys_only"), tag("count_only"))?;
                self.operation(RequestOp::Range(request))
            }
            "delete" => {
                let range = key_range(&mut args)?;
                let request = DeleteRangeRequest { range, previous: tag("prev") };
                self.operation(RequestOp::DeleteRange(request))
            }
            "compact" => {
                let revision = Revision(args.next_pos().ok_or("no revision")?.parse()?);
                self.apply(&Command::Compact(CompactionRequest { revision, physical: false }))
            }
            "grant" => {
                let lease = LeaseId(args.next_pos().ok_or("no lease")?.parse()?);
                let ttl_seconds = args.next_pos().ok_or("no seconds")?.parse()?;
                self.apply(&Command::LeaseGrant(LeaseGrantRequest { lease, ttl_seconds }))
            }
            "revoke" => {
                let lease = LeaseId(args.next_pos().ok_or("no lease")?.parse()?);
                self.apply(&Command::LeaseRevoke(lease))
            }
            "expire" => {
                let term = args.next_pos().ok_or("no term")?.parse()?;
                let mut leases = Vec::new();
                while let Some(lease) = args.next_pos() {
                    leases.push(LeaseId(lease.parse()?));
                }
                self.apply(&Command::LeaseExpire(LeaseExpireRequest {
                    term,
                    last_grant: 0,
                    leases,
                }))
            }
            "leases" => Ok(self.leases()),
            "tidy" => self.tidy(),
            "status" => Ok(self.status()),
            name => self.transaction(name, &mut args),
        };
        args.reject_next()?;
        outcome
    }
}

impl Runner {
    fn new() -> Runner {
        let history = Arc::new(MemoryHistory::default());
        let config = KvConfig { compaction_slice_records: 1, ..KvConfig::default() };
        let kv = Kv::new(config, Arc::clone(&history) as Arc<dyn History>);
        Runner { kv, history, drafts: Vec::new(), validate_only: false }
    }

    /// What writes a transaction down.
    fn transaction(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome {
        if name == "txn" {
            self.drafts.push(Draft::default());
            return Ok(String::new());
        }
        let draft = self.drafts.last_mut().ok_or("no transaction is open")?;
        match name {
            "if" => draft.txn.compare.push(compare(args)?),
            "then" => draft.in_failure = false,
            "else" => draft.in_failure = true,
            "validate" => self.validate_only = true,
            "end" => {
                let txn = self.drafts.pop().ok_or("no transaction is open")?.txn;
                return self.operation(RequestOp::Txn(txn));
            }
            name => return Err(format!("unknown command {name}").into()),
        }
        Ok(String::new())
    }

    fn operation(&mut self, operation: RequestOp) -> Outcome {
        if let Some(draft) = self.drafts.last_mut() {
            draft.push(operation);
            return Ok(String::new());
        }
        if std::mem::take(&mut self.validate_only) {
            return validate(operation);
        }
        match operation {
            RequestOp::Range(request) => Ok(show_range(&self.kv.range(&request)?)),
            RequestOp::Put(request) => self.apply(&Command::Put(request)),
            RequestOp::DeleteRange(request) => self.apply(&Command::DeleteRange(request)),
            RequestOp::Txn(request) => self.apply(&Command::Txn(request)),
        }
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        let before = self.logical_state();
        let applied = self.kv.apply_in(1, 0, command)?;
        self.history.flush(&mut self.kv);
        let response = match applied.result {
            Ok(response) => response,
            Err(error) => {
                assert_eq!(before, self.logical_state(), "errors leave no trace");
                return Err(error.into());
            }
        };
        let mut output = match &response {
            Response::Put(response) => show_put(response),
            Response::DeleteRange(response) => show_delete(response),
            Response::Txn(response) => show_txn(response),
            Response::Compact(revision) => format!("compacted, revision {revision}\n"),
            Response::LeaseGrant(response) => format!(
                "granted {} for {}, revision {}\n",
                response.lease.0, response.ttl_seconds, response.revision
            ),
            Response::LeaseRevoke(revision) => format!("revoked, revision {revision}\n"),
            Response::LeaseExpire(response) => {
                format!("expired {}, revision {}\n", response.expired, response.revision)
            }
        };
        for event in &applied.events {
            match event {
                KvEvent::Put(record) => writeln!(output, "-> put {}", show(record))?,
                KvEvent::Delete { key, mod_revision } => {
                    writeln!(output, "-> delete {} mod={mod_revision}", text(key))?;
                }
            }
        }
        Ok(output)
    }

    fn tidy(&mut self) -> Outcome {
        let before_bytes = self.history.size_bytes();
        while self.kv.compact_step()? {}
        self.history.flush(&mut self.kv);
        Ok(format!("{} bytes, were {before_bytes}\n", self.history.size_bytes()))
    }

    /// What a command that fails must not change. The bytes held may fall, since a compaction goes
    /// on with every command.
    fn logical_state(&self) -> (Revision, Revision, usize, u64) {
        let kv = &self.kv;
        (kv.revision(), kv.compact_revision(), kv.key_count(), kv.digest())
    }

    fn leases(&self) -> String {
        let shown = self.kv.leases().map(|(lease, ttl_seconds)| {
            let keys: Vec<String> = self.kv.lease_keys(lease).map(text).collect();
            format!("{} for {ttl_seconds}: {}", lease.0, keys.join(" ")).trim_end().to_owned()
                + "\n"
        });
        let shown: String = shown.collect();
        let kept = self.history.leases().into_iter();
        let kept: Vec<_> = kept.map(|(lease, kept)| (lease, kept.ttl_seconds)).collect();
        assert_eq!(kept, self.kv.leases().collect::<Vec<_>>());
        if shown.is_empty() { "none\n".to_owned() } else { shown }
    }

    fn status(&self) -> String {
        format!(
            "revision {}, compact revision {}, keys {}, bytes {}\n",
            self.kv.revision(),
            self.kv.compact_revision(),
            self.kv.key_count(),
            self.history.size_bytes()
        )
    }
}

fn validate(operation: RequestOp) -> Outcome {
    let RequestOp::Txn(txn) = operation else { return Err("only transactions".into()) };
    let limits = KvLimits { txn_operations_max: 4 };
    Command::Txn(txn).validate(&limits)?;
    Ok("valid\n".to_owned())
}

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().to_string()
}

fn number(args: &mut ArgumentConsumer<'_>, key: &str) -> Result<i64, Box<dyn Error>> {
    Ok(args.take_key(key).map(str::parse).transpose()?.unwrap_or(0))
}

fn key_range(args: &mut ArgumentConsumer<'_>) -> Result<KeyRange, Box<dyn Error>> {
    let key = bytes(args.next_pos().ok_or("no key")?);
    let range_end = match args.next_pos() {
        None => Vec::new(),
        Some("_") => vec![0],
        Some(end) => bytes(end),
    };
    Ok(KeyRange { key, range_end })
}

fn range_request(
    args: &mut ArgumentConsumer<'_>,
    keys_only: bool,
    count_only: bool,
) -> Result<RangeRequest, Box<dyn Error>> {
    Ok(RangeRequest {
        range: key_range(args)?,
        limit: number(args, "limit")?,
        revision: Revision(number(args, "rev")?),
        sort_order: match args.take_key("order") {
            None => SortOrder::None,
            Some("ascend") => SortOrder::Ascend,
            Some("descend") => SortOrder::Descend,
            Some(order) => return Err(format!("unknown order {order}").into()),
        },
        sort_target: match args.take_key("sort") {
            None => SortTarget::Key,
            Some("version") => SortTarget::Version,
            Some("create") => SortTarget::Create,
            Some("mod") => SortTarget::Mod,
            Some("value") => SortTarget::Value,
            Some(target) => return Err(format!("unknown target {target}").into()),
        },
        keys_only,
        count_only,
        min_mod_revision: Revision(number(args, "min_mod")?),
        max_mod_revision: Revision(number(args, "max_mod")?),
        min_create_revision: Revision(number(args, "min_create")?),
        max_create_revision: Revision(number(args, "max_create")?),
    })
}

fn compare(args: &mut ArgumentConsumer<'_>) -> Result<Compare, Box<dyn Error>> {
    let target = args.next_pos().ok_or("no target")?;
    let key = bytes(args.next_pos().ok_or("no key")?);
    let mut range_end = Vec::new();
    let mut word = args.next_pos().ok_or("no comparison")?;
    let result = loop {
        break match word {
            "is" => CompareResult::Equal,
            "not" => CompareResult::NotEqual,
            "above" => CompareResult::Greater,
            "below" => CompareResult::Less,
            end => {
                range_end = if end == "_" { vec![0] } else { bytes(end) };
                word = args.next_pos().ok_or("no comparison")?;
                continue;
            }
        };
    };
    let value = args.next_pos().ok_or("no value")?;
    let target = match target {
        "version" => CompareTarget::Version(value.parse()?),
        "create" => CompareTarget::Create(Revision(value.parse()?)),
        "mod" => CompareTarget::Mod(Revision(value.parse()?)),
        "value" => CompareTarget::Value(bytes(value)),
        "lease" => CompareTarget::Lease(LeaseId(value.parse()?)),
        target => return Err(format!("unknown target {target}").into()),
    };
    Ok(Compare { range: KeyRange { key, range_end }, result, target })
}

fn show(record: &KeyValue) -> String {
    let KeyValue { key, create_revision, mod_revision, version, value, lease } = record;
    let lease = if lease.0 == 0 { String::new() } else { format!(" lease={}", lease.0) };
    let (key, value) = (text(key), text(value));
    format!("{key}={value} create={create_revision} mod={mod_revision} version={version}{lease}")
}

fn show_range(response: &RangeResponse) -> String {
    let RangeResponse { revision, kvs, more, count } = response;
    let more = if *more { ", more" } else { "" };
    let mut output = format!("get: revision {revision}, count {count}{more}\n");
    for record in kvs {
        output += &format!("   {}\n", show(record));
    }
    output
}

fn show_put(response: &PutResponse) -> String {
    let mut output = format!("put: revision {}\n", response.revision);
    if let Some(previous) = &response.previous {
        output += &format!("   was {}\n", show(previous));
    }
    output
}

fn show_delete(response: &DeleteRangeResponse) -> String {
    let DeleteRangeResponse { revision, deleted, previous } = response;
    let mut output = format!("delete: revision {revision}, deleted {deleted}\n");
    for record in previous {
        output += &format!("   was {}\n", show(record));
    }
    output
}

fn show_txn(response: &TxnResponse) -> String {
    let TxnResponse { revision, succeeded, responses } = response;
    let branch = if *succeeded { "then" } else { "else" };
    let mut output = format!("txn: revision {revision}, {branch}\n");
    for response in responses {
        let shown = match response {
            ResponseOp::Range(response) => show_range(response),
            ResponseOp::Put(response) => show_put(response),
            ResponseOp::DeleteRange(response) => show_delete(response),
            ResponseOp::Txn(response) => show_txn(response),
        };
        for line in shown.lines() {
            output += &format!("   {line}\n");
        }
    }
    output
}
