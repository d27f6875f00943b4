//! What the scripts' commands are given beside numbers and texts.

use std::collections::BTreeMap;
use std::str::FromStr;

use quorate_raft::{EntryId, Member, MemberChange, NodeId};

/// `on` or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    On,
    Off,
}

/// Lease reads: `on`, or `promise` where no leader counts on what members promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lease {
    On,
    Promise,
}

/// The members' priorities, in the order of their numbers: `0/2/1`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Priorities(pub(crate) BTreeMap<NodeId, u64>);

/// An entry: `index@term`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id(pub(crate) EntryId);

/// What the host leaves to the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Itself,
    Script,
}

/// What is to become of one member, as the script has it.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) text: String,
    pub(crate) change: MemberChange,
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (what, id) = text.split_once('/').ok_or("what/member")?;
        let id = NodeId(id.parse().map_err(|_| "a member's number")?);
        let member = Member { incarnation: 7, ..Member::default() };
        let change = match what {
            "voter" => MemberChange::AddVoter { id, member: Member::default() },
            "learner" => MemberChange::AddLearner { id, member: Member::default() },
            "promote" => MemberChange::Promote { id },
            "demote" => MemberChange::Demote { id },
            "remove" => MemberChange::Remove { id },
            "record" => MemberChange::Record { id, member },
            _ => return Err("voter, learner, promote, demote, remove or record".to_string()),
        };
        Ok(Self { text: text.to_string(), change })
    }
}

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err("on or off".to_string()),
        }
    }
}

impl FromStr for Lease {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "on" => Ok(Self::On),
            "promise" => Ok(Self::Promise),
            _ => Err("on or promise".to_string()),
        }
    }
}

impl FromStr for Priorities {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let priority = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
        let numbered = (1..).map(NodeId).zip(text.split('/'));
        numbered.map(|(id, text)| Ok((id, priority(text)?))).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Itself),
            "manual" => Ok(Self::Script),
            _ => Err("auto or manual".to_string()),
        }
    }
}

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (index, term) = text.split_once('@').ok_or("index@term")?;
        let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
        Ok(Self(EntryId::new(number(term)?, number(index)?)))
    }
}
