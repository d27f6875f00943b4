//! Runs the scripts in `tests/watch_scripts`. Each tells one story of watching, and its first line
//! says which.
//!
//! ```text
//! new [ring=BYTES] [outbox=BYTES] [revisions=N] [bytes=N] [group=N]   another store and hub
//! put KEY=VALUE ...       all in one revision
//! delete KEY [END]
//! compact REVISION
//! tidy                    finishes the compaction, as far as nothing holds it
//! flush
//! stream [tick=MS]
//! watch STREAM KEY [END] [start=N] [id=N] [prev,fragment,notify,no_put,no_delete]
//! cancel STREAM ID
//! progress STREAM
//! close STREAM
//! sent STREAM             everything that was handed out has left the outbox
//! tick MS                 it is so late now
//! pull                    does the next pull
//! begin                   begins the next pull, and leaves it there
//! end                     ends the pull that was begun first
//! sync                    pulls until there is nothing left to pull
//! away                    from now on the store is not told of commands
//! install                 one that knows them takes its place
//! status
//! ```
//!
//! An end of `_` is every key from the first one on. Written anew with `UPDATE_GOLDENFILES=1`, and
//! then read.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use goldenscript::ArgumentConsumer;
use quorate_kv::{
    Command, CompactionRequest, DeleteRangeRequest, History, KeyRange, KeyValue, Kv, KvConfig,
    KvEvent, MemoryHistory, PutRequest, RequestOp, Revision, StreamId, TxnRequest, WatchConfig,
    WatchContent, WatchHub, WatchId, WatchRead, WatchRequest,
};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/watch_scripts");

macro_rules! scripts {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let path = Path::new(SCRIPTS).join(concat!(stringify!($name), ".txt"));
            goldenscript::run(&mut Runner::new(), &path).unwrap();
        })*

        #[test]
        fn every_script_is_run() {
            let mut there = Vec::new();
            for entry in std::fs::read_dir(SCRIPTS).unwrap() {
                there.push(entry.unwrap().file_name().into_string().unwrap());
            }
            there.sort();
            assert_eq!(there, [$(concat!(stringify!($name), ".txt")),*]);
        }
    };
}

scripts! {
    a_compacted_watcher_is_told_and_keeps_its_number
    a_full_outbox_leaves_its_watchers_behind
    a_future_start_sees_nothing_earlier
    a_lagging_watcher_joins_the_tail
    a_pull_that_has_begun_sees_no_compaction
    a_revision_is_never_split
    a_snapshot_does_not_go_back
    a_tombstone_at_the_compact_revision_is_seen
    filters_drop_what_is_not_wanted
    many_watchers_share_a_slice
    numbers_of_watchers
    previous_values
    progress_comes_after_everything_before_it
    progress_notifications
    the_tail_is_not_compacted_away
    what_is_refused
}

struct Runner {
    kv: Kv,
    history: Arc<MemoryHistory>,
    kv_config: KvConfig,
    hub: WatchHub<()>,
    now_ms: u64,
    /// What was handed out and not sent, by stream.
    unsent: BTreeMap<StreamId, usize>,
    begun: VecDeque<WatchRead>,
    log: Vec<Command>,
    is_away: bool,
}

type Outcome = Result<String, Box<dyn Error>>;

impl Runner {
    fn new() -> Runner {
        Runner::with(KvConfig::default(), WatchConfig::default())
    }

    fn with(kv_config: KvConfig, config: WatchConfig) -> Runner {
        let (kv, history) = store(kv_config);
        Runner {
            hub: WatchHub::new(config, kv.revision()),
            kv,
            history,
            kv_config,
            now_ms: 0,
            unsent: BTreeMap::new(),
            begun: VecDeque::new(),
            log: Vec::new(),
            is_away: false,
        }
    }
}

fn store(config: KvConfig) -> (Kv, Arc<MemoryHistory>) {
    let history = Arc::new(MemoryHistory::default());
    (Kv::new(config, Arc::clone(&history) as Arc<dyn History>), history)
}

impl goldenscript::Runner for Runner {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &Self::Command, context: &goldenscript::Context) -> Outcome {
        let mut args = command.consume_args();
        let tag = |name: &str| context.tags.contains(name);
        let outcome = match command.name.as_str() {
            "new" => self.renew(&mut args),
            "put" => {
                let mut success = Vec::new();
                while let Some((key, value)) = args.next_key() {
                    let (key, value) = (key.as_bytes().to_vec(), value.as_bytes().to_vec());
                    let put = PutRequest { key, value, ..PutRequest::default() };
                    success.push(RequestOp::Put(put));
                }
                self.command(&Command::Txn(TxnRequest { success, ..TxnRequest::default() }))
            }
            "delete" => {
                let range = key_range(&mut args)?;
                self.command(&Command::DeleteRange(DeleteRangeRequest { range, previous: false }))
            }
            "compact" => {
                let revision = Revision(args.next_pos().ok_or("no revision")?.parse()?);
                self.command(&Command::Compact(CompactionRequest { revision, physical: false }))
            }
            "tidy" => {
                while self.kv.compact_step()? {}
                self.history.flush(&mut self.kv);
                let records = self.history.records().len();
                Ok(format!("{records} records left\n"))
            }
            "flush" => {
                self.history.flush(&mut self.kv);
                Ok(String::new())
            }
            "watch" => {
                let stream = stream(&mut args)?;
                let request = WatchRequest {
                    range: key_range(&mut args)?,
                    start: Revision(number(&mut args, "start")?),
                    id: WatchId(number(&mut args, "id")?),
                    previous: tag("prev"),
                    fragment: tag("fragment"),
                    progress_notify: tag("notify"),
                    no_put: tag("no_put"),
                    no_delete: tag("no_delete"),
                };
                self.hub.create(stream, request, self.kv.revision());
                Ok(String::new())
            }
            name => self.other(name, &mut args),
        };
        args.reject_next()?;
        Ok(outcome? + &self.responses())
    }
}

impl Runner {
    fn renew(&mut self, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let mut bound = |name: &str, default: usize| -> Result<usize, Box<dyn Error>> {
            Ok(args.take_key(name).map(str::parse).transpose()?.unwrap_or(default))
        };
        let (kv, watch) = (KvConfig::default(), WatchConfig::default());
        let kv = KvConfig {
            ring_bytes_max: bound("ring", kv.ring_bytes_max)?,
            compaction_slice_records: 1,
            ..kv
        };
        let watch = WatchConfig {
            outbox_bytes_max: bound("outbox", watch.outbox_bytes_max)?,
            slice_revisions_max: bound("revisions", watch.slice_revisions_max)?,
            slice_bytes_max: bound("bytes", watch.slice_bytes_max)?,
            group_watchers_max: bound("group", watch.group_watchers_max)?,
            ..watch
        };
        *self = Runner::with(kv, watch);
        Ok(String::new())
    }

    fn other(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome {
        let mut output = String::new();
        match name {
            "stream" => {
                let interval_ms =
                    args.take_key("tick").map(str::parse).transpose()?.unwrap_or(600_000);
                let id = self.hub.open_stream(self.now_ms, interval_ms).ok_or("too many")?;
                writeln!(output, "stream {}", id.0)?;
            }
            "cancel" => {
                let stream = stream(args)?;
                let id = WatchId(args.next_pos().ok_or("no number")?.parse()?);
                self.hub.cancel(stream, id, self.kv.revision());
            }
            "progress" => self.hub.request_progress(stream(args)?, self.kv.revision()),
            "close" => self.hub.close_stream(stream(args)?),
            "sent" => {
                let stream = stream(args)?;
                self.hub.sent(stream, self.unsent.remove(&stream).unwrap_or(0));
            }
            "tick" => {
                self.now_ms = args.next_pos().ok_or("no time")?.parse()?;
                self.hub.tick(self.now_ms);
            }
            "pull" => {
                if !self.begin()? {
                    output += "nothing to pull\n";
                }
                self.end()?;
            }
            "begin" => {
                if !self.begin()? {
                    output += "nothing to pull\n";
                }
            }
            "end" => self.end()?,
            "sync" => {
                while self.begin()? {
                    self.end()?;
                }
            }
            "away" => self.is_away = true,
            "install" => {
                (self.kv, self.history) = store(self.kv_config);
                for command in &self.log {
                    self.kv.apply(command)?;
                    self.history.flush(&mut self.kv);
                }
                while self.kv.compact_step()? {}
                self.begun.iter_mut().for_each(WatchRead::restart);
                self.is_away = false;
                self.hub.announce(self.kv.revision());
            }
            "status" => {
                let (streams, watchers) = (self.hub.stream_count(), self.hub.watcher_count());
                let bytes = self.hub.outbox_bytes();
                writeln!(output, "{streams} streams, {watchers} watchers, {bytes} bytes unsent")?;
            }
            name => return Err(format!("unknown command {name}").into()),
        }
        Ok(output)
    }

    fn command(&mut self, command: &Command) -> Outcome {
        self.log.push(command.clone());
        if !self.is_away {
            self.kv.apply(command)?.result?;
            self.hub.announce(self.kv.revision());
        }
        Ok(String::new())
    }

    fn begin(&mut self) -> Result<bool, Box<dyn Error>> {
        let Some(pull) = self.hub.next_pull() else { return Ok(false) };
        let mut read = WatchRead::new(pull);
        read.step(&mut self.kv);
        self.begun.push_back(read);
        Ok(true)
    }

    fn end(&mut self) -> Result<(), Box<dyn Error>> {
        let Some(mut read) = self.begun.pop_front() else { return Ok(()) };
        while !read.is_done() {
            if read.needs_history() {
                read.read(&*self.history)?;
            } else {
                read.step(&mut self.kv);
            }
        }
        self.hub.pulled(read.into_pulled());
        Ok(())
    }

    fn responses(&mut self) -> String {
        let mut output = String::new();
        for (stream, response) in self.hub.take_responses() {
            *self.unsent.entry(stream).or_default() += response.weight_bytes();
            let _ = write!(output, "-> {}/{} at {}:", stream.0, response.id.0, response.revision);
            match response.content {
                WatchContent::Created => output += " created",
                WatchContent::Refused(refusal) => {
                    let _ = write!(output, " refused, {refusal:?}");
                }
                WatchContent::Cancelled => output += " cancelled",
                WatchContent::Compacted(revision) => {
                    let _ = write!(output, " ended, compacted to {revision}");
                }
                WatchContent::Progress => output += " progress",
                WatchContent::Events { events, with_previous, .. } => {
                    for event in events {
                        output += "\n     ";
                        output += &show_event(&event.event);
                        if let Some(previous) = event.previous.as_ref().filter(|_| with_previous) {
                            output += ", was ";
                            output += &show(previous);
                        }
                    }
                }
            }
            output += "\n";
        }
        output
    }
}

fn stream(args: &mut ArgumentConsumer<'_>) -> Result<StreamId, Box<dyn Error>> {
    Ok(StreamId(args.next_pos().ok_or("no stream")?.parse()?))
}

fn number(args: &mut ArgumentConsumer<'_>, key: &str) -> Result<i64, Box<dyn Error>> {
    Ok(args.take_key(key).map(str::parse).transpose()?.unwrap_or(0))
}

fn key_range(args: &mut ArgumentConsumer<'_>) -> Result<KeyRange, Box<dyn Error>> {
    let key = args.next_pos().ok_or("no key")?.as_bytes().to_vec();
    let range_end = match args.next_pos() {
        None => Vec::new(),
        Some("_") => vec![0],
        Some(end) => end.as_bytes().to_vec(),
    };
    Ok(KeyRange { key, range_end })
}

fn show_event(event: &KvEvent) -> String {
    match event {
        KvEvent::Put(record) => format!("put {}", show(record)),
        KvEvent::Delete { key, mod_revision } => {
            format!("delete {} mod={mod_revision}", text(key))
        }
    }
}

fn show(record: &KeyValue) -> String {
    let KeyValue { key, create_revision, mod_revision, version, value, .. } = record;
    let (key, value) = (text(key), text(value));
    format!("{key}={value} create={create_revision} mod={mod_revision} version={version}")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().to_string()
}
