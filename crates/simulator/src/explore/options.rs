//! What is explored: how large the group is, and how often what may happen.

use std::str::FromStr;

use quorate_raft::{ConfigurationChange, MemberChange, NodeId};
use thiserror::Error;

/// Members that a group can have here, those that join included.
pub const MEMBERS_MAX: usize = 5;

/// Where the exploration begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nobody leads, all logs are empty.
    Empty,
    /// Member 1 has been elected in term 1; its first entry is committed, and everybody knows it.
    Led,
}

/// A wish to change the members, made once at most: `+4`, `-1`, or several at once, `-1,+4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    text: String,
    pub(crate) change: ConfigurationChange,
}

/// Why something cannot be explored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BoundsError {
    /// A change is not written as one is.
    #[error("a change of members is written as +4, -1 or -1,+4, not as `{0}`")]
    Change(String),
    /// There is no such beginning.
    #[error("an exploration starts empty or led, not `{0}`")]
    Start(String),
    /// The group has nobody, or too many.
    #[error("a group has 1 to {MEMBERS_MAX} members, those that join included")]
    Members,
    /// More is asked for than fits the way in which it is stored.
    #[error("too much is asked for: at most 7 terms, 15 commands and 8 changes")]
    TooMuch,
}

/// The bounds of an exploration. Whatever the network may do is not among them: it loses, repeats,
/// delays and reorders without bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Voters at the beginning, numbered from 1.
    pub voters: usize,
    /// The highest term that anybody may stand in.
    pub terms: u64,
    /// Commands that leaders may be asked to replicate, in all.
    pub commands: u8,
    /// How often each member may crash.
    pub crashes: u8,
    /// Only this member may crash, by its number.
    pub crash_only: Option<u64>,
    /// Changes of members, each to be made once at most, in any order.
    pub changes: Vec<Change>,
    /// How often leadership may be handed over on request, in all.
    pub transfers: u8,
    /// A write takes a while, in which everything else may happen; otherwise it is done at once.
    pub slow_disks: bool,
    /// An append carries one entry at most; otherwise all that there are.
    pub single_entries: bool,
    /// Pre-vote, check-quorum and stickiness, and the passing of election timeouts.
    pub safeguards: bool,
    /// Where it begins.
    pub start: Start,
    /// Distinct states at which it is broken off.
    pub states_max: u32,
    /// Steps from the beginning at which it is broken off.
    pub depth_max: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            voters: 3,
            terms: 2,
            commands: 3,
            crashes: 1,
            crash_only: None,
            changes: Vec::new(),
            transfers: 0,
            slow_disks: true,
            single_entries: false,
            safeguards: false,
            start: Start::Empty,
            states_max: u32::MAX - 1,
            depth_max: u32::MAX,
        }
    }
}

impl Bounds {
    /// Everybody who can ever be a member.
    pub(crate) fn members(&self) -> usize {
        let steps = self.changes.iter().flat_map(|change| &change.change.steps);
        let named = steps.map(|step| usize::try_from(step.member().0).unwrap_or(usize::MAX));
        named.max().unwrap_or(0).max(self.voters)
    }

    /// How often this member may crash.
    pub(crate) fn crashes_of(&self, id: NodeId) -> u8 {
        if self.crash_only.is_none_or(|only| only == id.0) { self.crashes } else { 0 }
    }

    /// The places of voters that neither a change nor a bound names: nothing tells these apart but what happens.
    pub(crate) fn alike(&self) -> Vec<usize> {
        let steps = self.changes.iter().flat_map(|change| &change.change.steps);
        let named: Vec<NodeId> = steps.map(|step| step.member()).collect();
        let is_named = |id: u64| named.contains(&NodeId(id)) || self.crash_only == Some(id);
        (0..self.voters).filter(|place| !is_named(*place as u64 + 1)).collect()
    }

    /// Whether all of it can be stored.
    ///
    /// # Errors
    ///
    /// If not.
    pub fn check(&self) -> Result<(), BoundsError> {
        if self.voters == 0 || self.members() > MEMBERS_MAX {
            return Err(BoundsError::Members);
        }
        if self.terms > 7 || self.commands > 15 || self.changes.len() > 8 {
            return Err(BoundsError::TooMuch);
        }
        Ok(())
    }
}

impl FromStr for Start {
    type Err = BoundsError;

    fn from_str(text: &str) -> Result<Self, BoundsError> {
        match text {
            "empty" => Ok(Self::Empty),
            "led" => Ok(Self::Led),
            _ => Err(BoundsError::Start(text.to_owned())),
        }
    }
}

impl FromStr for Change {
    type Err = BoundsError;

    fn from_str(text: &str) -> Result<Self, BoundsError> {
        let wrong = || BoundsError::Change(text.to_owned());
        let step = |step: &str| {
            let (sign, number) = step.split_at_checked(1)?;
            let id = NodeId(number.parse().ok().filter(|number| *number > 0)?);
            match sign {
                "+" => Some(MemberChange::AddVoter { id, member: Default::default() }),
                "-" => Some(MemberChange::Remove { id }),
                _ => None,
            }
        };
        let steps = text.split(',').map(step).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
        let change = ConfigurationChange { steps, ..ConfigurationChange::default() };
        Ok(Self { text: text.to_owned(), change })
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read() {
        let change: Change = "-1,+4".parse().unwrap();
        let members: Vec<u64> = change.change.steps.iter().map(|step| step.member().0).collect();
        assert_eq!(members, [1, 4]);
        for wrong in ["", "4", "+", "+0", "*3", "+1,", "+99999999999999999999"] {
            assert!(wrong.parse::<Change>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let six = Bounds { changes: vec!["+6".parse().unwrap()], ..Bounds::default() };
        assert!(matches!(six.check(), Err(BoundsError::Members)));
        let long = Bounds { terms: 8, ..Bounds::default() };
        assert!(matches!(long.check(), Err(BoundsError::TooMuch)));
        assert!(Bounds::default().check().is_ok());
    }
}
