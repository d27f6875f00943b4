//! What the configuration says of a member beside its number: its name, as far as it is known, and
//! where its peers find it. Raft carries these bytes and never looks at them; they are in the log and
//! in the store of every member, so their form is part of the data directory's.
//!
//! ```text
//!   name=url,url,...        the name is empty where the member has not said it yet
//! ```

use std::sync::Arc;

use quorate_raft::Member;

use crate::config::Url;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Description {
    /// What the flags of the cluster's first members call it; empty for one that was added.
    pub(crate) name: String,
    /// Where the other members reach it, sorted.
    pub(crate) peer_urls: Vec<Url>,
    /// Of a learner: it was added to be a voter, and becomes one once it has caught up. Until then it
    /// counts in no majority, so that adding it costs nothing where it never starts.
    pub(crate) becomes_voter: bool,
}

/// Ends the description of a learner that becomes a voter. No URL holds a space.
const BECOMES_VOTER: &str = " voter";

impl Description {
    /// The bytes that the configuration carries.
    pub(crate) fn encode(&self) -> Arc<[u8]> {
        let urls: Vec<_> = self.peer_urls.iter().map(Url::to_string).collect();
        let end = if self.becomes_voter { BECOMES_VOTER } else { "" };
        format!("{}={}{end}", self.name, urls.join(",")).into_bytes().into()
    }

    /// What these bytes say, or nothing where they are none of ours: they come from peers.
    pub(crate) fn of(member: &Member) -> Self {
        let read = || {
            let text = std::str::from_utf8(&member.context).ok()?;
            // A name may hold anything but a comma, and a URL no `=`.
            let (name, urls) = text.rsplit_once('=')?;
            let (urls, becomes_voter) = match urls.strip_suffix(BECOMES_VOTER) {
                Some(urls) => (urls, true),
                None => (urls, false),
            };
            let peer_urls = Url::parse_list(urls).ok()?;
            Some(Self { name: name.to_owned(), peer_urls, becomes_voter })
        };
        read().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(context: &[u8]) -> Member {
        Member { incarnation: 0, context: context.into() }
    }

    #[test]
    fn descriptions_come_back_and_have_these_bytes() {
        let urls = |ports: &[u16]| ports.iter().map(|&port| Url::new("h", port)).collect();
        let table: [(&str, &[u16], bool, &[u8]); 4] = [
            ("a", &[1], false, b"a=http://h:1"),
            ("", &[1, 2], false, b"=http://h:1,http://h:2"),
            ("", &[1], true, b"=http://h:1 voter"),
            ("x=y", &[1], false, b"x=y=http://h:1"),
        ];
        for (name, ports, becomes_voter, bytes) in table {
            let (name, peer_urls) = (name.to_owned(), urls(ports));
            let description = Description { name, peer_urls, becomes_voter };
            assert_eq!(&description.encode()[..], bytes);
            assert_eq!(Description::of(&member(bytes)), description);
        }
    }

    #[test]
    fn what_is_none_of_ours_says_nothing() {
        for bytes in [&b""[..], b"a", b"a=", b"a=b", b"\xFF=http://h:1", b"a=http://h:1,x"] {
            assert_eq!(Description::of(&member(bytes)), Description::default());
        }
    }
}
