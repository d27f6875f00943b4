//! The states that were found. Nothing is forgotten and nothing is hashed away: each is kept whole,
//! packed, since there are tens of millions of them.
//!
//! Of two states that differ in nothing but the messages on their way, one of which has all that the
//! other has, only that one is kept: no message has to arrive, so all that can happen in the other
//! can happen there, with the same members, and again with all the messages. So the states of one
//! situation are those sets of messages of which none contains another.

use super::fingerprint::{Index, Pieces};
use super::graph::{Situation, World};

/// Bytes of one piece of what is packed.
const PIECE_BYTES: usize = 1 << 20;
/// No state.
const NONE: u32 = u32::MAX;
/// Of a state that another one was found to contain.
const SUPERSEDED: u32 = u32::MAX - 1;

/// One state.
#[derive(Clone, Copy, Debug)]
struct State {
    situation: u32,
    /// From which it was found.
    parent: u32,
    /// The next of the same situation.
    next: u32,
    /// Where its messages are packed.
    packed: u32,
    /// Bit n is set if a message of a number n modulo 64 is among them.
    signature: u64,
}

/// States by number, in the order in which they were found.
#[derive(Debug)]
pub(crate) struct Store {
    situations: Index<Situation>,
    /// By situation, its first state.
    heads: Pieces<u32>,
    states: Pieces<State>,
    bytes: Vec<Vec<u8>>,
    scratch: Vec<u8>,
}

/// What became of a state that was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// There is one already that contains it.
    No,
    /// It has this number.
    Yes {
        number: u32,
        /// There was no state of this situation before.
        new_situation: bool,
    },
}

fn signature(messages: &[u32]) -> u64 {
    messages.iter().fold(0, |bits, message| bits | 1 << (message % 64))
}

/// Packs rising numbers: their distances, seven bits a byte, the lowest first.
fn pack(messages: &[u32], bytes: &mut Vec<u8>) {
    bytes.clear();
    put(bytes, u32::try_from(messages.len()).expect("messages are few"));
    let mut before = 0;
    for &message in messages {
        put(bytes, message - before);
        before = message;
    }
}

fn put(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7f) as u8);
}

/// Reads what was packed.
struct Packed<'a> {
    bytes: &'a [u8],
    left: u32,
    before: u32,
}

impl<'a> Packed<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let mut packed = Self { bytes, left: 0, before: 0 };
        packed.left = packed.number();
        packed
    }

    fn number(&mut self) -> u32 {
        let mut number = 0;
        let mut shift = 0;
        loop {
            let byte = self.bytes[0];
            self.bytes = &self.bytes[1..];
            number |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return number;
            }
            shift += 7;
        }
    }
}

impl Iterator for Packed<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        self.before += self.number();
        Some(self.before)
    }
}

/// Whether all of `few` are among `many`; both rise.
fn is_among(few: impl Iterator<Item = u32>, mut many: impl Iterator<Item = u32>) -> bool {
    for wanted in few {
        if !many.by_ref().take_while(|&other| other <= wanted).any(|other| other == wanted) {
            return false;
        }
    }
    true
}

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            situations: Index::new(),
            heads: Pieces::new(),
            states: Pieces::new(),
            bytes: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// How many states were kept, those among them that others have come to contain.
    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    /// How many situations there are.
    pub(crate) fn situations(&self) -> usize {
        self.situations.len()
    }

    /// From which state this one was found; `None` for the first.
    pub(crate) fn parent(&self, number: u32) -> Option<u32> {
        let parent = self.states.at(number).parent;
        (parent != NONE).then_some(parent)
    }

    /// The state of this number. False where another one has come to contain it.
    pub(crate) fn read(&self, number: u32, world: &mut World) -> bool {
        let state = self.states.at(number);
        world.situation = self.situations.key(state.situation);
        world.messages.clear();
        world.messages.extend(self.messages(state));
        state.next != SUPERSEDED
    }

    fn messages(&self, state: State) -> Packed<'_> {
        let at = state.packed as usize;
        Packed::new(&self.bytes[at / PIECE_BYTES][at % PIECE_BYTES..])
    }

    /// Keeps a state, unless there is one that contains it.
    pub(crate) fn keep(&mut self, world: &World, parent: Option<u32>) -> Kept {
        let (situation, new_situation) = self.situations.insert(world.situation);
        if new_situation {
            self.heads.push(NONE);
        }
        let signature = signature(&world.messages);
        if !self.make_way(situation, signature, &world.messages) {
            return Kept::No;
        }
        let packed = self.pack(&world.messages);
        let number = u32::try_from(self.states.len()).expect("fewer than 2^32 states");
        assert!(number < SUPERSEDED, "fewer states than there are numbers");
        let next = self.heads.at(situation);
        let parent = parent.unwrap_or(NONE);
        self.states.push(State { situation, parent, next, packed, signature });
        self.heads.set(situation, number);
        Kept::Yes { number, new_situation }
    }

    /// Takes out the states of a situation that are contained in this one. False where it is itself
    /// contained in one.
    fn make_way(&mut self, situation: u32, signature: u64, messages: &[u32]) -> bool {
        let mut before = NONE;
        let mut number = self.heads.at(situation);
        while number != NONE {
            let state = self.states.at(number);
            let these = || messages.iter().copied();
            if signature & !state.signature == 0 && is_among(these(), self.messages(state)) {
                return false;
            }
            if state.signature & !signature == 0 && is_among(self.messages(state), these()) {
                self.states.set(number, State { next: SUPERSEDED, ..state });
                if before == NONE {
                    self.heads.set(situation, state.next);
                } else {
                    let earlier = self.states.at(before);
                    self.states.set(before, State { next: state.next, ..earlier });
                }
            } else {
                before = number;
            }
            number = state.next;
        }
        true
    }

    fn pack(&mut self, messages: &[u32]) -> u32 {
        pack(messages, &mut self.scratch);
        let room = |piece: &Vec<u8>| piece.len() + self.scratch.len() <= PIECE_BYTES;
        if !self.bytes.last().is_some_and(room) {
            self.bytes.push(Vec::with_capacity(PIECE_BYTES));
        }
        let piece = self.bytes.len() - 1;
        let at = piece * PIECE_BYTES + self.bytes[piece].len();
        self.bytes[piece].extend_from_slice(&self.scratch);
        u32::try_from(at).expect("less than 4 GiB of messages")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(member: u32, messages: &[u32]) -> World {
        let situation = Situation { members: [member, 0, 0, 0, 0], ..Situation::default() };
        World { situation, messages: messages.to_vec() }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let mut store = Store::new();
        let worlds: Vec<World> = (0..60_000_u32)
            .map(|number| {
                let messages: Vec<u32> = (0..number % 40).map(|message| message * 5000).collect();
                world(number, &messages)
            })
            .collect();
        for (number, world) in (0_u32..).zip(&worlds) {
            let kept = store.keep(world, number.checked_sub(1));
            assert_eq!(kept, Kept::Yes { number, new_situation: true });
        }
        let mut read = World::default();
        for (number, world) in (0_u32..).zip(&worlds) {
            assert!(store.read(number, &mut read));
            assert_eq!(&read, world);
            assert_eq!(store.parent(number), number.checked_sub(1));
        }
    }

    #[test]
    fn of_two_states_that_contain_each_other_one_is_kept() {
        let mut store = Store::new();
        let mut keep = |messages: &[u32]| store.keep(&world(7, messages), None) != Kept::No;
        assert!(keep(&[3, 70]));
        assert!(!keep(&[3]) && !keep(&[70]) && !keep(&[]) && !keep(&[3, 70]));
        assert!(keep(&[3, 6]));
        // Equal signatures are not enough.
        assert!(keep(&[6, 67]));
        assert!(keep(&[3, 6, 70, 200]));
        assert!(!keep(&[6, 200]));
        let mut read = World::default();
        let alive: Vec<bool> = (0..4).map(|number| store.read(number, &mut read)).collect();
        assert_eq!(alive, [false, false, true, true]);
    }
}
