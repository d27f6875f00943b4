//! The Raft algorithm, whole, as a pure state machine.
//!
//! # WHY
//!
//! A few machines are to behave like one that does not fail. If they apply the same commands in the
//! same order, each of them holds the same state; so all that has to be agreed on is the order.
//! Raft (Ongaro and Ousterhout, 2014; Ongaro's dissertation of the same year tells more, and is
//! what "the dissertation" means in this crate) agrees on it by choosing a leader, which alone
//! decides, and by making sure that no later leader can have missed what an earlier one has
//! promised.
//!
//! The rules fit on a page. What makes Raft libraries fail is what surrounds them: an answer that
//! outran the disk it spoke of, a message that came a second time, a timer that nobody could
//! replay. So this crate does nothing but decide. It reads no clock, draws no random number that is
//! not seeded, touches no disk and no socket, starts no thread and logs nothing. A host tells a
//! [`Node`] what happened and is told what to do, in one value, a [`Ready`]. The same inputs give
//! the same outputs, to the byte: what went wrong once can be made to go wrong again.
//!
//! # TERMS AND ROLES
//!
//! Time is divided into [`Term`]s, each of which has one leader at most (section 5.1 of the paper).
//! Every message carries its sender's term. Whoever hears of a later one takes it over and follows;
//! whoever is sent something of an earlier one ignores it, or says which term it is by now. There
//! is one check of terms, before anything looks at what a message says.
//!
//! ```text
//!                   timeout, still no leader, timeout of an election that is open
//!                          +----+     +--------------------------+
//!                          |    v     v                          |
//!  +----------+  timeout  +---------------+  a majority   +-----------+  a majority  +--------+
//!  | Follower | --------> | Pre-candidate | ------------> | Candidate | -----------> | Leader |
//!  +----------+           +---------------+  would vote   +-----------+  has voted   +--------+
//!    ^  ^  ^ |                    |                          ^   |                       |
//!    |  |  | +--------------------|--------------------------+   |                       |
//!    |  |  |                      |       TimeoutNow             |                       |
//!    |  |  +----------------------+                              |                       |
//!    |  |    hears a leader, or of a later term                  |                       |
//!    |  +--------------------------------------------------------+                       |
//!    |       hears a leader, or of a later term                                          |
//!    +-----------------------------------------------------------------------------------+
//!            hears of a later term, hears no majority, or its own disk hangs
//! ```
//!
//! # THE LOG
//!
//! Commands live in a log of entries, each known by its index and the term in which a leader made
//! it ([`EntryId`]). Two logs that hold the same identity hold the same entries up to it (section
//! 5.3): everything here that compares logs compares two numbers. Recent entries are in memory,
//! within a bound; older ones are on the host's disk, and are asked for when a slow follower needs
//! them ([`Load`]). The term of every entry that has not been compacted is always known, and an
//! unknown term is `None`, never 0. The configuration is that of the latest configuration entry,
//! committed or not, so that cutting the log back restores the earlier one by itself.
//!
//! # ELECTIONS
//!
//! A follower that has not heard its leader for an election timeout, drawn anew each time, stands.
//! It first asks whether it could win (the pre-vote), which changes nothing anywhere, so that a
//! member that was cut off for an hour does not come back with a term that unseats everybody. Then
//! it raises its term, votes for itself and asks for votes. A voter gives one vote in a term, to a
//! log at least as up to date as its own (section 5.4.1), and to nobody while it still hears a
//! leader. A leader that hears no majority for an election timeout, or whose own disk does not
//! answer for so long, steps down. These safeguards need each other, and are on together in
//! [`Config::new`]. Where a host tells that the connection to the leader has broken, an election may begin
//! at once: [`Config::fast_failover_ms`]. Who should lead where there is a choice, a host may say
//! ([`Config::priorities`]).
//!
//! # REPLICATION AND COMMITMENT
//!
//! A leader appends what is proposed and sends it to all at once, while its own disk is still
//! writing. It knows each follower in one of three states: *probing* for the place where the logs
//! agree, one request at a time; *replicating*, many requests on their way within a window; waiting
//! for a *snapshot*. A rejection names an entry below which the logs may agree, and moves only what
//! is sent next; nothing but an acceptance moves what is known to match. An entry is committed once
//! a majority has it on disk, the leader's own disk counting like any other, and only if it is of
//! the leader's own term (section 5.4.2, figure 8): the entry without a command that a new leader
//! appends commits what was left behind. Followers commit what the leader says, as far as they are
//! known to match.
//!
//! # DURABILITY BY SHAPE
//!
//! Whatever promises that something is on disk is withheld inside the core until the host has said
//! so: votes, acknowledgements, a leader's own count, and also a candidate's request for votes, or
//! it could win, write, crash before its own vote was safe, and win the same term a second time. No
//! host can send any of them early, since it never sees them early. Writing is asynchronous and in
//! order. Each write has a number; the completion of one that a later one has replaced proves
//! nothing. Term and vote are one record.
//!
//! # SNAPSHOTS
//!
//! A log that only grows fills any disk. Once the state machine has its state on a disk of its own,
//! the log before it can go ([`Node::compact`]); the snapshot that a log begins from is named by its
//! last entry and holds the configuration in force there ([`SnapshotMeta`]). A follower that needs
//! what is gone is sent the state (section 7 of the paper). It travels outside, and is complete and
//! durable at its receiver before the core there hears of it. The write that names it is the commit
//! point; to the rest of the core it is one large entry: committed when it comes, handed out to
//! *install* once that write is durable, applied when the host says so, and nothing is handed out in
//! between ([`Ready::install`]).
//!
//! # PROPOSALS AND READS
//!
//! Every proposal ends in exactly one [`ProposalOutcome`]: committed, superseded, dropped and why,
//! or unknown. A proposal made at a follower is passed on under an identity that travels into the
//! log, and is answered where it was made, whoever leads by then. Nothing is ever resent by itself.
//!
//! A linearizable read costs no entry (dissertation, section 6.4). The leader notes its commit
//! index, and one round of heartbeats, numbered by itself, shows that it still leads; one round
//! confirms all reads that came before it. None is confirmed before the leader has committed an
//! entry of its term. Where clocks can be trusted within a bound that the host names, a leader may
//! go on for a while on the round before, without asking ([`LeaseReads`]; section 6.4.1).
//!
//! # TRANSFER
//!
//! A leader hands over by bringing its target up to date and telling it to stand at once
//! (dissertation, section 3.10). It takes no proposals meanwhile, and goes on leading if nothing
//! has come of it within an election timeout.
//!
//! # MEMBERSHIP
//!
//! A configuration is an entry, in force on a member from the moment it is in its log. One voter more
//! or less changes at once, since the majorities before and after always share a member; anything
//! else goes through a joint configuration, in which both majorities are needed, and which whoever
//! leads then leaves as soon as it is committed (dissertation, sections 4.1 and 4.3). There is one
//! change at a time, none before the leader has committed an entry of its own term, and one may name
//! the version that it is meant to change ([`ConfigurationChange`]). Learners receive the log and
//! count in nothing; they are promoted once they have caught up. A leader that is removed, or
//! demoted, leads to the end of that without counting itself, hands over and falls silent. Numbers
//! of members must never be used again: a new member goes through the log from its beginning, and one
//! under an old number would take itself there for what that one was, and could elect itself.
//!
//! # RECOVERY BY FORCE
//!
//! A group whose majority is lost for good never decides anything again, which is right. An operator
//! who knows that it will not come back can make one member the only one
//! ([`Recovered::force_sole_voter`]), and add others to it; what that costs is told in `forced`.
//!
//! # POLICIES
//!
//! What a deployment may want otherwise is a field of [`Config`]. [`Config::plain`] is the Raft of
//! the paper's figure 2, without the later safeguards and with every message on a heartbeat, for
//! learners and for harnesses that watch it message by message.
//!
//! # THE SMALLEST HOST
//!
//! A group of one, whose disk never fails and whose state machine is a list:
//!
//! ```
//! use quorate_raft::{
//!     Config, Configuration, EntryId, Millis, Node, NodeId, Payload, Proposal, Recovered,
//!     RequestId, SnapshotMeta,
//! };
//!
//! fn serve(node: &mut Node, applied: &mut Vec<String>) {
//!     loop {
//!         let ready = node.take_ready();
//!         if ready.is_empty() {
//!             return;
//!         }
//!         // Send `ready.messages` here; in a group of one there are none.
//!         if let Some(persist) = ready.persist {
//!             // Write it, sync it, and only then:
//!             node.persisted(persist.write);
//!         }
//!         for entry in ready.committed {
//!             if let Payload::Command { data, .. } = &entry.payload {
//!                 applied.push(String::from_utf8_lossy(data).into_owned());
//!             }
//!             node.applied(entry.id.index);
//!         }
//!     }
//! }
//!
//! let id = NodeId(1);
//! let configuration = Configuration::of_voters([id]);
//! let snapshot = SnapshotMeta { last: EntryId::default(), configuration };
//! let recovered = Recovered { snapshot, ..Recovered::default() };
//! let mut node = Node::new(Config::new(id, 42), recovered, Millis(0));
//! let mut applied = Vec::new();
//!
//! // Nobody leads: time passes until this member stands, and wins with its own vote.
//! let due = node.next_deadline().expect("an election is ahead");
//! node.advance(due);
//! serve(&mut node, &mut applied);
//! assert_eq!(node.leader(), Some(id));
//!
//! let request = RequestId { member: id, boot: 1, sequence: 1 };
//! node.propose(Proposal { request, data: (*b"hello").into() });
//! serve(&mut node, &mut applied);
//! assert_eq!(applied, ["hello"]);
//! ```
//!
//! # CAVEATS
//!
//! What is absent, and where it is described:
//!
//! - Snapshots travel outside: the core says who needs one and takes note of one that has arrived.
//!   Chunks, resumption and rates are the host's (dissertation, chapter 5; paper, section 7).
//! - Sessions: a command that was unknown and is proposed again is applied again, unless the state
//!   machine knows better (dissertation, section 6.3); `Sessions` in `quorate-replica` helps it to.
//! - Witnesses, quiescence and heartbeats shared by many groups.
//! - A member whose disk has lost what it acknowledged stops with a [`Fault`], as soon as that
//!   shows. It does not repair itself here.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(feature = "exploration")]
mod canonical;
mod changes;
mod config;
mod configuration;
mod durability;
mod election;
mod fault;
mod follower;
pub mod forced;
mod leader;
mod lease;
mod loads;
mod log;
mod membership;
mod message;
mod node;
mod outcome;
pub mod priority;
mod progress;
mod proposals;
pub mod quarantine;
mod quorum;
mod reads;
mod ready;
mod recovered;
mod replication;
mod rng;
mod terms;
mod types;
mod view;

#[cfg(feature = "exploration")]
#[doc(hidden)]
pub use canonical::CANONICAL_NOW;
pub use config::{Config, ElectionTimeout, Replication};
pub use configuration::{Configuration, Member};
pub use fault::Fault;
pub use lease::{LeaseConflict, LeaseReads};
pub use membership::{ChangeRefusal, ConfigurationChange, MemberChange};
pub use message::{AppendResult, Envelope, Message, Proposal};
pub use node::Node;
pub use outcome::{DropReason, ProposalEnd, ProposalOutcome, ReadEnd, ReadFailure, ReadOutcome};
pub use ready::{
    HandOut, Load, PeerProgress, Persist, ProgressState, Ready, Role, RoleChange, Status, StepDown,
};
pub use recovered::Recovered;
pub use types::{
    Entry, EntryId, GroupId, HardState, LoadId, LogIndex, Millis, NodeId, Payload, ReadId,
    RequestId, SnapshotMeta, Term, WriteId,
};
