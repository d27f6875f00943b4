//! The states that were seen and not yet looked at any further, packed: there are tens of millions
//! of them at a time.

use std::collections::VecDeque;

use super::graph::World;

/// Bytes of one piece of the queue. A piece is given back as soon as it was read.
const PIECE_BYTES: usize = 1 << 20;

/// States, first in, first out.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pieces: VecDeque<Vec<u8>>,
    /// How far the first piece was read.
    read: usize,
}

/// Packs a state: the same bytes for the same state, and only for it.
pub(crate) fn pack(world: &World, group: usize, bytes: &mut Vec<u8>) {
    bytes.clear();
    for &member in &world.members[..group] {
        put(bytes, member);
    }
    bytes.extend([world.commands << 4 | world.transfers, world.changes]);
    put(bytes, world.history);
    put(bytes, u32::try_from(world.messages.len()).expect("messages are few"));
    let mut before = 0;
    for &message in &world.messages {
        put(bytes, message - before);
        before = message;
    }
}

/// Seven bits a byte, the lowest first.
fn put(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7f) as u8);
}

fn take(bytes: &[u8], read: &mut usize) -> u32 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[*read];
        *read += 1;
        number |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

impl Queue {
    /// Adds a packed state.
    pub(crate) fn push(&mut self, packed: &[u8]) {
        let room = |piece: &Vec<u8>| piece.len() + packed.len() <= PIECE_BYTES;
        if !self.pieces.back().is_some_and(room) {
            self.pieces.push_back(Vec::with_capacity(PIECE_BYTES));
        }
        if let Some(last) = self.pieces.back_mut() {
            last.extend_from_slice(packed);
        }
    }

    /// Takes the oldest state out; false where there is none.
    pub(crate) fn pop(&mut self, world: &mut World, group: usize) -> bool {
        while self.pieces.front().is_some_and(|piece| self.read == piece.len()) {
            self.pieces.pop_front();
            self.read = 0;
        }
        let Some(piece) = self.pieces.front() else { return false };
        let read = &mut self.read;
        for member in &mut world.members[..group] {
            *member = take(piece, read);
        }
        (world.commands, world.transfers) = (piece[*read] >> 4, piece[*read] & 0xf);
        world.changes = piece[*read + 1];
        *read += 2;
        world.history = take(piece, read);
        let count = take(piece, read);
        world.messages.clear();
        let mut before = 0;
        for _ in 0..count {
            before += take(piece, read);
            world.messages.push(before);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order() {
        let worlds = (0..60_000_u32).map(|number| World {
            members: [number, number * 3, 7, 0, 0],
            commands: 3,
            changes: 0b1010_0001,
            transfers: 2,
            history: number / 2,
            messages: (0..number % 40).map(|message| message * 5000).collect(),
        });
        let (mut queue, mut bytes) = (Queue::default(), Vec::new());
        for world in worlds.clone() {
            pack(&world, 3, &mut bytes);
            queue.push(&bytes);
        }
        let mut read = World::default();
        for world in worlds {
            assert!(queue.pop(&mut read, 3));
            assert_eq!(read, world);
        }
        assert!(!queue.pop(&mut read, 3));
    }
}
