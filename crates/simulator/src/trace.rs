//! The story of a run, one line for everything that happened. Keeping it costs more than the run
//! itself, so it is off unless asked for; a run that failed is simply run again with it on, for
//! the same seed tells the same story.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;

use quorate_raft::{AppendResult, Entry, Envelope, Message};

/// What becomes of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceMode {
    /// Nothing; they are not even made.
    Off,
    /// The last so many are kept.
    Tail(usize),
    /// All are kept.
    All,
    /// They are printed as they come, and not kept.
    Print,
}

/// The lines of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    mode: TraceMode,
    lines: VecDeque<String>,
    now_ms: u64,
}

impl Trace {
    /// A trace without lines.
    pub(crate) fn new(mode: TraceMode) -> Self {
        Self { mode, lines: VecDeque::new(), now_ms: 0 }
    }

    /// Lines from now on are of this simulated time.
    pub(crate) fn set_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Adds a line. Its text is not made where nobody wants it.
    pub(crate) fn line(&mut self, text: fmt::Arguments<'_>) {
        match self.mode {
            TraceMode::Off => {}
            // A reader that has gone away, as `head` does, is no reason to stop.
            TraceMode::Print => {
                let _ = writeln!(std::io::stdout(), "t={} {text}", self.now_ms);
            }
            TraceMode::Tail(lines_max) => {
                if self.lines.len() >= lines_max {
                    self.lines.pop_front();
                }
                self.lines.push_back(format!("t={} {text}", self.now_ms));
            }
            TraceMode::All => self.lines.push_back(format!("t={} {text}", self.now_ms)),
        }
    }

    /// The lines that were kept.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

/// A checksum of a trace, to compare runs by (FNV-1a, 64 bits).
pub fn checksum(lines: &[String]) -> u64 {
    let bytes = lines.iter().flat_map(|line| line.bytes().chain([b'\n']));
    fnv(bytes)
}

/// FNV-1a, 64 bits: not for adversaries, but the same on every machine.
pub(crate) fn fnv(bytes: impl IntoIterator<Item = u8>) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.into_iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// A message as a line of the trace shows it.
pub(crate) struct Shown<'a>(pub(crate) &'a Envelope);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "T{} ", self.0.term)?;
        match &self.0.message {
            Message::PreVoteRequest { campaign_term, last } => {
                write!(f, "PreVote for T{campaign_term} last {last}")
            }
            Message::PreVoteResponse { campaign_term, granted } => {
                write!(f, "PreVoteAnswer for T{campaign_term} {}", yes(*granted))
            }
            Message::VoteRequest { last, transfer } => {
                write!(f, "Vote last {last}{}", if *transfer { " (transfer)" } else { "" })
            }
            Message::VoteResponse { granted } => write!(f, "VoteAnswer {}", yes(*granted)),
            Message::AppendRequest { sequence, previous, entries, commit } => {
                write!(f, "Append #{sequence} after {previous} {} commit {commit}", Run(entries))
            }
            Message::AppendResponse { sequence, result } => match result {
                AppendResult::Accepted { matched } => {
                    write!(f, "AppendAnswer #{sequence} matched {matched}")
                }
                AppendResult::Rejected { previous, hint } => {
                    write!(f, "AppendAnswer #{sequence} no {previous}, perhaps {hint}")
                }
            },
            Message::Heartbeat { sequence, commit } => {
                write!(f, "Heartbeat #{sequence} commit {commit}")
            }
            Message::HeartbeatResponse { sequence } => write!(f, "HeartbeatAnswer #{sequence}"),
            Message::InstallSnapshot { snapshot } => write!(f, "Snapshot {}", snapshot.last),
            Message::SnapshotResponse { snapshot, matched } => {
                write!(f, "SnapshotAnswer {snapshot} matched {matched}")
            }
            Message::ReadRequest { read } => write!(f, "Read {:x}", read.0),
            Message::ReadResponse { read, index: Some(index) } => {
                write!(f, "ReadAnswer {:x} at {index}", read.0)
            }
            Message::ReadResponse { read, index: None } => write!(f, "ReadAnswer {:x} no", read.0),
            Message::Forward { proposals } => write!(f, "Forward {} proposals", proposals.len()),
            Message::ForwardChange { change, .. } => write!(f, "ForwardChange {:?}", change.steps),
            Message::ForwardRefused { requests, reason } => {
                write!(f, "ForwardRefused {} proposals: {reason:?}", requests.len())
            }
            Message::TimeoutNow => f.write_str("TimeoutNow"),
        }
    }
}

fn yes(granted: bool) -> &'static str {
    if granted { "yes" } else { "no" }
}

/// Entries, as the identities of the first and the last.
pub(crate) struct Run<'a>(pub(crate) &'a [Entry]);

impl fmt::Display for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("[]"),
            [only] => write!(f, "[{}]", only.id),
            [first, .., last] => write!(f, "[{}..{}]", first.id, last.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_the_last_lines() {
        let mut trace = Trace::new(TraceMode::Tail(2));
        for number in 0..4 {
            trace.set_time(number);
            trace.line(format_args!("line {number}"));
        }
        assert_eq!(trace.into_lines(), ["t=2 line 2", "t=3 line 3"]);
    }

    #[test]
    fn checksums_differ_where_lines_do() {
        let lines = |text: &[&str]| text.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        assert_ne!(checksum(&lines(&["ab", "c"])), checksum(&lines(&["a", "bc"])));
        assert_eq!(checksum(&lines(&["ab", "c"])), checksum(&lines(&["ab", "c"])));
    }
}
