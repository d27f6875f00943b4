//! A counter that three processes keep together, over TCP, each with a log on its own disk. Run
//! these in three terminals, and type `increment` or `count` in any of them:
//!
//! ```sh
//! a="127.0.0.1:7101 127.0.0.1:7102 127.0.0.1:7103"
//! cargo run -p quorate-replica --example counter -- 1 target/counter-1 $a  # and 2, and 3
//! ```
//!
//! Kill any of them with -9 and start it again: its log, which is never compacted here, holds the
//! whole count. A real host has snapshots, peers that prove who they are, and a thread for the disk.
#![expect(clippy::disallowed_methods, reason = "clocks and threads are the host's, which this is")]

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Read, Write, stdin};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::spawn;
use std::time::{Duration, Instant};

use quorate_disk::RealDisk;
use quorate_raft::{
    Config, Configuration, EntryId, Envelope, Millis, NodeId, Payload, Proposal, ProposalOutcome,
    ReadId, RequestId, SnapshotMeta,
};
use quorate_replica::{Effect, Event, Replica, ReplicaConfig};
use quorate_wal::{Identity, Wal, WalConfig, WalError};

/// Which group this is: a log of another one is refused.
const CLUSTER: u64 = 0xC0;
/// Events that may wait for the member, and messages for each peer; more of these are lost.
const QUEUE_MAX: usize = 1024;
/// Bytes of one message as a line of JSON. Larger ones end the connection.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// One member and everything that it touches.
struct Member {
    id: NodeId,
    boot: u64,
    count: u64,
    replica: Replica,
    wal: Wal,
    outboxes: BTreeMap<NodeId, SyncSender<Envelope>>,
    began: Instant,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [id, directory, addresses @ ..] = arguments.as_slice() else {
        return Err("usage: counter ID DIRECTORY ADDRESS..., where ID counts addresses".into());
    };
    let id = NodeId(id.parse()?);
    let boot = RandomState::new().hash_one(id);
    let peers: BTreeMap<NodeId, &String> = (1..).map(NodeId).zip(addresses).collect();
    let listener = TcpListener::bind(peers.get(&id).ok_or("there is no address for this ID")?)?;

    let (disk, directory) = (Arc::new(RealDisk), Path::new(directory));
    if !Wal::exists(&*disk, directory)? {
        let identity = Identity { cluster: CLUSTER, member: id.0, incarnation: boot };
        let configuration = Configuration::of_voters(peers.keys().copied());
        let first = SnapshotMeta { last: EntryId::default(), configuration };
        Wal::create(disk.clone(), directory, identity, &first, WalConfig::default())?;
    }
    let (wal, recovered) = Wal::open(disk, directory, CLUSTER, id.0, WalConfig::default())?;

    let (sender, inputs) = sync_channel(QUEUE_MAX);
    let others = peers.into_iter().filter(|(peer, _)| *peer != id);
    let outboxes = others.map(|(peer, address)| (peer, connect(address.clone()))).collect();
    listen(listener, sender.clone());
    spawn(move || {
        for (number, line) in (1..).zip(stdin().lines().map_while(Result::ok)) {
            _ = sender.send(typed(&line, number, id, boot));
        }
    });
    let config = ReplicaConfig::new(Config::new(id, boot), boot);
    let replica = Replica::new(config, recovered, Millis(0));
    Member { id, boot, count: 0, replica, wal, outboxes, began: Instant::now() }.run(&inputs)
}

/// What a line asks for. A proposal's identity is never used again, in this life or another.
fn typed(line: &str, number: u64, id: NodeId, boot: u64) -> Event {
    let request = RequestId { member: id, boot, sequence: number };
    match line {
        "increment" => Event::Propose(vec![Proposal { request, data: line.as_bytes().into() }]),
        "count" => Event::Read(ReadId(number)),
        _ => Event::Tick,
    }
}

/// Sends to one peer, on a connection that is made anew whenever the last one broke.
fn connect(address: String) -> SyncSender<Envelope> {
    let (sender, outbox) = sync_channel::<Envelope>(QUEUE_MAX);
    spawn(move || {
        let mut stream: Option<TcpStream> = None;
        for envelope in outbox {
            let mut line = serde_json::to_vec(&envelope).expect("messages have a form in JSON");
            line.push(b'\n');
            stream = stream.or_else(|| TcpStream::connect(&address).ok());
            _ = stream.as_ref().map(|stream| stream.set_nodelay(true));
            let sent = stream.as_mut().is_some_and(|stream| stream.write_all(&line).is_ok());
            stream = stream.filter(|_| sent);
        }
    });
    sender
}

/// Takes messages in, of each connection until something else comes.
fn listen(listener: TcpListener, inputs: SyncSender<Event>) {
    let take_in = move |stream: TcpStream| {
        let inputs = inputs.clone();
        spawn(move || {
            let (mut stream, mut line) = (BufReader::new(stream), String::new());
            while stream.by_ref().take(LINE_BYTES_MAX).read_line(&mut line).is_ok() {
                let Ok(envelope) = serde_json::from_str(&line) else { return };
                _ = inputs.send(Event::Peer(envelope));
                line.clear();
            }
        });
    };
    spawn(move || listener.incoming().flatten().for_each(take_in));
}

impl Member {
    /// Takes in whatever has happened, then does everything that follows from it, for ever.
    fn run(mut self, inputs: &Receiver<Event>) -> Result<(), Box<dyn Error>> {
        loop {
            let deadline = self.replica.next_deadline().unwrap_or(Millis(u64::MAX));
            let wait = Duration::from_millis(deadline.since(self.now()));
            let event = inputs.recv_timeout(wait).unwrap_or(Event::Tick);
            self.replica.handle(self.now(), event);
            // What came together is sent and written together.
            inputs.try_iter().for_each(|event| self.replica.handle(self.now(), event));
            let mut effects = VecDeque::from(self.replica.take_effects());
            while let Some(effect) = effects.pop_front() {
                let report = self.carry_out(effect)?;
                report.into_iter().for_each(|event| self.replica.handle(self.now(), event));
                effects.extend(self.replica.take_effects());
            }
        }
    }

    fn now(&self) -> Millis {
        Millis(self.began.elapsed().as_millis() as u64)
    }

    /// Does what is asked for; answers what there is to report. After an error the process ends,
    /// and nothing is written any more.
    fn carry_out(&mut self, effect: Effect) -> Result<Option<Event>, Box<dyn Error>> {
        Ok(match effect {
            Effect::Send(envelope) => {
                let outbox = self.outboxes.get(&envelope.to);
                outbox.and_then(|outbox| outbox.try_send(envelope).err()).and(None)
            }
            Effect::Persist(persist) => {
                let write = persist.write;
                self.wal.append(&[persist])?;
                Some(Event::Persisted(write))
            }
            Effect::Apply(entries) => {
                let last = entries.last().map(|entry| entry.id.index);
                for entry in entries {
                    let Payload::Command { request, .. } = entry.payload else { continue };
                    self.count += 1;
                    if (request.member, request.boot) == (self.id, self.boot) {
                        say(format_args!("incremented to {}", self.count));
                    }
                }
                last.map(Event::Applied)
            }
            Effect::Load(load) => {
                let entries = match self.wal.read(load.from, load.to, load.bytes_max) {
                    // They were cut off since they were asked for; the core knows.
                    Err(WalError::OutOfRange { .. }) => Vec::new(),
                    read => read?,
                };
                Some(Event::EntriesLoaded { load: load.id, entries })
            }
            Effect::ServeRead(_) => say(format_args!("the count is {}", self.count)),
            Effect::FailRead(_, failure) => say(format_args!("not counted: {failure:?}")),
            Effect::EndProposal(end) => match end.outcome {
                ProposalOutcome::Committed(_) => None,
                outcome => say(format_args!("the increment ended as {outcome:?}")),
            },
            Effect::RoleChanged(now) => say(format_args!("the leader is {:?}", now.leader)),
            Effect::ConfigurationChanged(_) => None,
            Effect::Stop(fault) => return Err(fault.into()),
            other => return Err(format!("nothing is compacted here, and yet: {other:?}").into()),
        })
    }
}

fn say(line: impl Display) -> Option<Event> {
    println!("{line}");
    None
}
