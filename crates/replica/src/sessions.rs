//! Client sessions (dissertation, section 6.3): a command that a client sends again is applied once.
//!
//! # Why
//!
//! A proposal that ends as unknown may have been committed or not. A client that asks again under a
//! new identity may have it applied twice; one that does not ask again may have it not applied at
//! all. Neither the core nor the network can tell the two apart, for a leader that crashed took the
//! answer with it; the state machine can, if it remembers what it has applied for whom. So this is a
//! part of the *state*: a state machine keeps one [`Sessions`] beside what else it holds, changes it
//! by entries of the log alone, and puts it into its snapshots ([`Sessions::rows`]).
//!
//! ```text
//!   client                               the log                      every member
//!   open a session  -------------------> entry 17 ------------------> session 17
//!   17, command 1, "x += 1"  ----------> entry 18 ------------------> runs it, keeps the answer
//!     ... no answer; asks again -------> entry 23, the same --------> the answer of entry 18
//!   17, command 2, has all below 2  ---> entry 24 ------------------> runs it, forgets answer 1
//! ```
//!
//! # The rules
//!
//! - A session is opened by an entry, whose index is its name: no two are the same.
//! - A client numbers its commands in each session, and says with each below which number it has all
//!   answers. It may have several on their way, in any order.
//! - What a command may be answered is decided by the sessions of the moment, the same on every
//!   member. A command is run at most once, ever: what cannot be told any more is an error, and is
//!   not run.
//! - There are bounds, so there is forgetting: where too many sessions are open, the one that was not
//!   used for the most entries goes. Its client is told [`SessionError::Expired`], and does not know
//!   what became of its commands on their way: it is for the client to decide what that means, as with
//!   any outcome that is unknown.
//!
//! Time plays no part: members' clocks differ, and their states must not.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use quorate_raft::LogIndex;

/// A session: the index of the entry that opened it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub LogIndex);

/// How much is remembered. A part of the state: the same on all members at the same entry. Another
/// one comes by a command ([`Sessions::set_limits`]), never by another configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Sessions that are open at once.
    pub sessions_max: usize,
    /// Answers that are kept for one session: commands that its client may have on their way.
    pub answers_max: usize,
    /// Bytes of one answer that is kept; of a longer one only that it was given.
    pub answer_bytes_max: usize,
}

/// What a client says of a command beside the command itself. It travels in the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCommand {
    /// The session.
    pub session: SessionId,
    /// The command's number, the same each time it is sent. Counted from 0.
    pub sequence: u64,
    /// The client has the answers of all commands below this number, and will not ask for them again.
    pub answered_below: u64,
}

/// Why a command was not run. Nothing has happened because of this entry, and nothing ever will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionError {
    /// There is no such session, or not any more: what became of its earlier commands is unknown.
    Expired,
    /// The client has said that it has the answer.
    Answered,
    /// The command was run by an earlier entry, and its answer was too long to be kept.
    AnswerNotKept,
    /// The client has too many commands without an answer: it may send this one again once it has
    /// said that it has others' answers.
    TooManyUnanswered,
    /// This entry has opened a session already.
    AlreadyOpened,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the session has expired: what became of its commands is unknown",
            Self::Answered => "the client has said that it has the answer to this command",
            Self::AnswerNotKept => "the command was applied, and its answer was not kept",
            Self::TooManyUnanswered => "too many commands of this session are without an answer",
            Self::AlreadyOpened => "an entry opens one session at most",
        })
    }
}

impl Error for SessionError {}

/// A session as it goes into a snapshot, or onto a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Its name.
    pub id: SessionId,
    /// The last entry that used it.
    pub used: LogIndex,
    /// Its client has the answers of all commands below this number.
    pub answered_below: u64,
    /// The answers that are kept, in the order of their commands' numbers; `None` where one was too
    /// long.
    pub answers: Vec<(u64, Option<Arc<[u8]>>)>,
}

/// What opening a session has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The new session.
    pub session: SessionId,
    /// The one that made room for it.
    pub expired: Option<SessionId>,
}

/// All open sessions, as a state machine keeps them beside what else it holds:
///
/// ```
/// use std::convert::Infallible;
/// use quorate_raft::LogIndex;
/// use quorate_replica::{SessionClient, SessionLimits, Sessions};
///
/// // The machine: a counter, and its sessions.
/// let (mut counter, mut sessions) = (0u64, Sessions::new(SessionLimits::default()));
///
/// // Entry 1 opens a session, and its client hears of it.
/// let opened = sessions.open(LogIndex(1)).unwrap();
/// let mut client = SessionClient::new(opened.session);
///
/// // The client asks once, hears nothing, and asks again: entries 2 and 3 say the same.
/// let command = client.next_command();
/// for index in [2, 3] {
///     let count = || {
///         counter += 1;
///         Ok::<_, Infallible>(counter.to_be_bytes().into())
///     };
///     let Ok(answer) = sessions.apply(LogIndex(index), command, count);
///     assert_eq!(*answer.unwrap(), 1u64.to_be_bytes());
/// }
/// assert_eq!(counter, 1);
/// client.answered(command.sequence);
/// ```
///
/// Invariants:
/// - `by_use` holds exactly the sessions that are open, each with its `used`.
/// - no session keeps an answer below its `answered_below`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    limits: SessionLimits,
    open: BTreeMap<SessionId, Session>,
    by_use: BTreeSet<(LogIndex, SessionId)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    used: LogIndex,
    answered_below: u64,
    answers: BTreeMap<u64, Option<Arc<[u8]>>>,
}

/// 4096 sessions, each with 64 answers of 4 KiB at most: a gibibyte in the very worst case.
impl Default for SessionLimits {
    fn default() -> Self {
        Self { sessions_max: 4096, answers_max: 64, answer_bytes_max: 4096 }
    }
}

impl Sessions {
    /// None open yet.
    pub fn new(limits: SessionLimits) -> Self {
        Self { limits, open: BTreeMap::new(), by_use: BTreeSet::new() }
    }

    /// As a snapshot has them: the limits and rows of the member that it was taken of. Rows beyond the
    /// limits are taken in as they are.
    pub fn from_rows(limits: SessionLimits, rows: impl IntoIterator<Item = SessionRow>) -> Self {
        let mut sessions = Self::new(limits);
        for SessionRow { id, used, answered_below, answers } in rows {
            let answers = answers.into_iter().filter(|(sequence, _)| *sequence >= answered_below);
            let session = Session { used, answered_below, answers: answers.collect() };
            if let Some(before) = sessions.open.insert(id, session) {
                sessions.by_use.remove(&(before.used, id));
            }
            sessions.by_use.insert((used, id));
        }
        sessions
    }

    /// All of them, for a snapshot, in the order in which they were opened.
    pub fn rows(&self) -> impl Iterator<Item = SessionRow> + '_ {
        self.open.iter().map(|(id, session)| session.row(*id))
    }

    /// One of them, for a machine that keeps its rows on a disk: what an entry has changed is the
    /// session that it names, and [`Opened::expired`].
    pub fn row(&self, id: SessionId) -> Option<SessionRow> {
        Some(self.open.get(&id)?.row(id))
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// How much is remembered.
    pub fn limits(&self) -> SessionLimits {
        self.limits
    }

    /// The entry at hand changes how much is remembered. Returns the sessions that expire by it. What
    /// is kept of the others stays.
    pub fn set_limits(&mut self, limits: SessionLimits) -> Vec<SessionId> {
        self.limits = limits;
        let surplus = self.open.len().saturating_sub(limits.sessions_max);
        (0..surplus).filter_map(|_| self.expire_one()).collect()
    }

    /// The entry at `index` opens a session.
    ///
    /// # Errors
    /// It has opened one already, or there may be none.
    pub fn open(&mut self, index: LogIndex) -> Result<Opened, SessionError> {
        let session = SessionId(index);
        if self.open.contains_key(&session) {
            return Err(SessionError::AlreadyOpened);
        }
        if self.limits.sessions_max == 0 {
            return Err(SessionError::Expired);
        }
        let full = self.open.len() >= self.limits.sessions_max;
        let expired = if full { self.expire_one() } else { None };
        let new = Session { used: index, answered_below: 0, answers: BTreeMap::new() };
        self.open.insert(session, new);
        self.by_use.insert((index, session));
        Ok(Opened { session, expired })
    }

    /// A client has done with its session. Returns whether it was open.
    pub fn close(&mut self, session: SessionId) -> bool {
        let Some(closed) = self.open.remove(&session) else { return false };
        self.by_use.remove(&(closed.used, session))
    }

    /// The entry at `index` uses the session and does nothing else: what a client sends now and then
    /// to keep it.
    ///
    /// # Errors
    /// It has expired.
    pub fn keep(&mut self, index: LogIndex, session: SessionId) -> Result<(), SessionError> {
        self.use_at(index, session).map(|_| ())
    }

    /// Applies the command of the entry at `index`: by `run`, which answers it, or where it was run
    /// before by that answer. Entries come in rising order, each once.
    ///
    /// # Errors
    /// The outer error is that of `run`, after which the member must stop, as
    /// [`StateMachine::apply`](crate::StateMachine::apply) says. The inner one is an answer like any
    /// other: the same on every member.
    pub fn apply<E>(
        &mut self,
        index: LogIndex,
        command: SessionCommand,
        run: impl FnOnce() -> Result<Arc<[u8]>, E>,
    ) -> Result<Result<Arc<[u8]>, SessionError>, E> {
        let SessionLimits { answers_max, answer_bytes_max, .. } = self.limits;
        let session = match self.use_at(index, command.session) {
            Ok(session) => session,
            Err(expired) => return Ok(Err(expired)),
        };
        session.forget_below(command.answered_below);
        if command.sequence < session.answered_below {
            return Ok(Err(SessionError::Answered));
        }
        if let Some(answer) = session.answers.get(&command.sequence) {
            return Ok(answer.clone().ok_or(SessionError::AnswerNotKept));
        }
        if session.answers.len() >= answers_max {
            return Ok(Err(SessionError::TooManyUnanswered));
        }
        let answer = run()?;
        let kept = (answer.len() <= answer_bytes_max).then(|| answer.clone());
        session.answers.insert(command.sequence, kept);
        Ok(Ok(answer))
    }

    fn use_at(&mut self, index: LogIndex, id: SessionId) -> Result<&mut Session, SessionError> {
        let session = self.open.get_mut(&id).ok_or(SessionError::Expired)?;
        self.by_use.remove(&(session.used, id));
        session.used = session.used.max(index);
        self.by_use.insert((session.used, id));
        Ok(session)
    }

    /// The one that was not used for the most entries goes.
    fn expire_one(&mut self) -> Option<SessionId> {
        let (_, oldest) = self.by_use.pop_first()?;
        self.open.remove(&oldest);
        Some(oldest)
    }
}

impl Session {
    fn forget_below(&mut self, answered_below: u64) {
        if answered_below > self.answered_below {
            self.answered_below = answered_below;
            self.answers = self.answers.split_off(&answered_below);
        }
    }

    fn row(&self, id: SessionId) -> SessionRow {
        let answers = self.answers.iter().map(|(sequence, answer)| (*sequence, answer.clone()));
        SessionRow {
            id,
            used: self.used,
            answered_below: self.answered_below,
            answers: answers.collect(),
        }
    }
}

/// The client's side of a session: numbers its commands, and knows which of them it has answers to.
#[derive(Clone, Debug)]
pub struct SessionClient {
    session: SessionId,
    next: u64,
    unanswered: BTreeSet<u64>,
}

impl SessionClient {
    /// Of a session that was just opened.
    pub fn new(session: SessionId) -> Self {
        Self { session, next: 0, unanswered: BTreeSet::new() }
    }

    /// What to send with a new command, and again whenever that is sent again.
    pub fn next_command(&mut self) -> SessionCommand {
        let sequence = self.next;
        self.next += 1;
        self.unanswered.insert(sequence);
        let answered_below = self.unanswered.first().copied().unwrap_or(sequence);
        SessionCommand { session: self.session, sequence, answered_below }
    }

    /// The command of this number was answered.
    pub fn answered(&mut self, sequence: u64) {
        self.unanswered.remove(&sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::convert::Infallible;

    use proptest::prelude::*;

    fn bytes(number: u64) -> Arc<[u8]> {
        Arc::from(number.to_be_bytes())
    }

    fn limits(sessions_max: usize, answers_max: usize) -> SessionLimits {
        SessionLimits { sessions_max, answers_max, answer_bytes_max: 8 }
    }

    /// Applies a command, which counts on `runs`; the answer is how often anything was run.
    fn apply(
        sessions: &mut Sessions,
        index: u64,
        command: SessionCommand,
        runs: &mut u64,
    ) -> Result<Arc<[u8]>, SessionError> {
        let run = || {
            *runs += 1;
            Ok::<_, Infallible>(bytes(*runs))
        };
        match sessions.apply(LogIndex(index), command, run) {
            Ok(answer) => answer,
        }
    }

    fn open(sessions: &mut Sessions, index: u64) -> Opened {
        sessions.open(LogIndex(index)).unwrap()
    }

    #[test]
    fn a_command_that_is_sent_again_is_answered_again() {
        let (mut sessions, mut runs) = (Sessions::new(limits(2, 2)), 0);
        let mut client = SessionClient::new(open(&mut sessions, 1).session);
        let (first, second) = (client.next_command(), client.next_command());
        assert_eq!(apply(&mut sessions, 2, second, &mut runs), Ok(bytes(1)));
        assert_eq!(apply(&mut sessions, 3, first, &mut runs), Ok(bytes(2)));
        assert_eq!(apply(&mut sessions, 4, second, &mut runs), Ok(bytes(1)));
        assert_eq!(apply(&mut sessions, 5, first, &mut runs), Ok(bytes(2)));
        // A third one has no place before the client says that it has an answer.
        let third = client.next_command();
        let refused = apply(&mut sessions, 6, third, &mut runs);
        assert_eq!(refused, Err(SessionError::TooManyUnanswered));
        client.answered(0);
        let fourth = client.next_command();
        assert_eq!(fourth.answered_below, 1);
        assert_eq!(apply(&mut sessions, 7, fourth, &mut runs), Ok(bytes(3)));
        assert_eq!(apply(&mut sessions, 8, first, &mut runs), Err(SessionError::Answered));
        assert_eq!(runs, 3);
    }

    #[test]
    fn the_session_that_was_not_used_for_longest_expires() {
        let (mut sessions, mut runs) = (Sessions::new(limits(2, 2)), 0);
        let (one, two) = (open(&mut sessions, 1).session, open(&mut sessions, 2).session);
        sessions.keep(LogIndex(3), one).unwrap();
        let three = open(&mut sessions, 4);
        assert_eq!(three.expired, Some(two));
        let command = SessionClient::new(two).next_command();
        assert_eq!(apply(&mut sessions, 5, command, &mut runs), Err(SessionError::Expired));
        assert!(sessions.close(one) && !sessions.close(one));
        assert_eq!(open(&mut sessions, 6).expired, None);
        assert_eq!(sessions.set_limits(limits(1, 2)), [three.session]);
        assert_eq!((sessions.count(), runs), (1, 0));
    }

    #[test]
    fn an_answer_that_is_too_long_is_not_given_twice() {
        let mut sessions = Sessions::new(limits(1, 1));
        let command = SessionClient::new(open(&mut sessions, 1).session).next_command();
        let long: Arc<[u8]> = Arc::from([0; 9]);
        let run = || Ok::<_, Infallible>(long.clone());
        assert_eq!(sessions.apply(LogIndex(2), command, run), Ok(Ok(long.clone())));
        let again = sessions.apply(LogIndex(3), command, || Ok::<_, Infallible>(bytes(0)));
        assert_eq!(again, Ok(Err(SessionError::AnswerNotKept)));
    }

    /// A machine that cannot go on has applied nothing.
    #[test]
    fn a_machine_that_fails_leaves_no_answer() {
        let mut sessions = Sessions::new(limits(1, 1));
        let command = SessionClient::new(open(&mut sessions, 1).session).next_command();
        assert_eq!(sessions.apply(LogIndex(2), command, || Err("no disk")), Err("no disk"));
        assert_eq!(sessions.rows().next().unwrap().answers, []);
    }

    /// One entry of the log.
    #[derive(Clone, Copy, Debug)]
    enum Entry {
        Open,
        Close(u64),
        Keep(u64),
        /// In which session, which command, and what its client has.
        Command(u64, u64, u64),
        Limits(usize, usize),
    }

    fn entry() -> impl Strategy<Value = Entry> {
        prop_oneof![
            2 => Just(Entry::Open),
            1 => (1u64..30).prop_map(Entry::Close),
            1 => (1u64..30).prop_map(Entry::Keep),
            16 => (1u64..30, 0u64..6, 0u64..6).prop_map(|(session, sequence, below)| {
                Entry::Command(session, sequence, below)
            }),
            1 => (0usize..4, 0usize..4).prop_map(|(sessions, answers)| {
                Entry::Limits(sessions, answers)
            }),
        ]
    }

    /// What a member holds: the sessions, and how often each command was run.
    #[derive(Clone, Debug, PartialEq)]
    struct Machine {
        sessions: Sessions,
        runs: BTreeMap<(u64, u64), u64>,
    }

    impl Machine {
        fn apply(&mut self, index: u64, entry: Entry) -> Option<Result<Arc<[u8]>, SessionError>> {
            let id = |session| SessionId(LogIndex(session));
            match entry {
                Entry::Open => drop(self.sessions.open(LogIndex(index))),
                Entry::Close(session) => drop(self.sessions.close(id(session))),
                Entry::Keep(session) => drop(self.sessions.keep(LogIndex(index), id(session))),
                Entry::Limits(sessions, answers) => {
                    self.sessions.set_limits(limits(sessions, answers));
                }
                Entry::Command(session, sequence, answered_below) => {
                    let session = id(session);
                    let command = SessionCommand { session, sequence, answered_below };
                    let runs = &mut self.runs;
                    let run = || {
                        *runs.entry((session.0.0, sequence)).or_default() += 1;
                        Ok::<_, Infallible>(bytes(index))
                    };
                    let Ok(answer) = self.sessions.apply(LogIndex(index), command, run);
                    return Some(answer);
                }
            }
            None
        }
    }

    proptest! {
        /// Whatever is repeated, reordered, closed or forgotten: no command is run twice; whoever is
        /// answered is answered what the one run has answered; and a member that starts from another's
        /// rows goes on just as that does.
        #[test]
        fn every_command_is_run_once_at_most(
            entries in proptest::collection::vec(entry(), 1..120),
            restored_at in 0usize..120,
        ) {
            let sessions = Sessions::new(limits(3, 3));
            let mut machine = Machine { sessions, runs: BTreeMap::new() };
            let mut answers: BTreeMap<(u64, u64), Arc<[u8]>> = BTreeMap::new();
            for (at, &entry) in entries.iter().enumerate() {
                if at == restored_at {
                    let rows: Vec<_> = machine.sessions.rows().collect();
                    let restored = Sessions::from_rows(machine.sessions.limits(), rows);
                    prop_assert_eq!(&restored, &machine.sessions);
                    machine.sessions = restored;
                }
                let index = at as u64 + 1;
                let answer = machine.apply(index, entry);
                if let (Entry::Command(session, sequence, _), Some(Ok(answer))) = (entry, answer) {
                    let first = answers.entry((session, sequence)).or_insert(answer.clone());
                    prop_assert_eq!(&*first, &answer);
                }
                prop_assert!(machine.runs.values().all(|&runs| runs == 1), "{:?}", machine.runs);
                for row in machine.sessions.rows() {
                    let below = row.answered_below;
                    prop_assert!(row.answers.iter().all(|(sequence, _)| *sequence >= below));
                }
            }
        }
    }
}
