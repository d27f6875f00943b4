//! Which ranges a key is in. There may be tens of thousands of ranges, and the question is asked for
//! every change, so they are not gone over one by one: single keys stand in an ordered map, and real
//! ranges in a tree that is ordered by where they begin and knows of each of its parts how far the
//! ranges in it reach.
//!
//! The tree is a treap: each node has a priority, drawn from a counter and scrambled, and none
//! stands below one of a smaller priority. That keeps it balanced without any bookkeeping.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::request::KeyRange;

/// Items under the ranges that they stand for. An item stands under a range once.
#[derive(Debug)]
pub(crate) struct RangeMap<T> {
    keys: BTreeMap<Box<[u8]>, BTreeSet<T>>,
    ranges: Tree<T>,
    drawn: u64,
    len: usize,
}

type Tree<T> = Option<Box<Node<T>>>;

#[derive(Debug)]
struct Node<T> {
    place: Place,
    /// The furthest end of the ranges here and below.
    reach: End,
    priority: u64,
    items: BTreeSet<T>,
    left: Tree<T>,
    right: Tree<T>,
}

/// A range, ordered by where it begins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    start: Arc<[u8]>,
    end: End,
}

/// Where a range ends. One without an end is the furthest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Before(Arc<[u8]>),
    Never,
}

impl End {
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            End::Before(end) => &**end > key,
            End::Never => true,
        }
    }
}

impl Place {
    /// Nothing for a single key.
    fn of(range: &KeyRange) -> Option<Place> {
        let end = match range.range_end.as_slice() {
            [] => return None,
            [0] => End::Never,
            end => End::Before(Arc::from(end)),
        };
        Some(Place { start: Arc::from(range.key.as_slice()), end })
    }
}

impl<T> Default for RangeMap<T> {
    fn default() -> Self {
        RangeMap { keys: BTreeMap::new(), ranges: None, drawn: 0, len: 0 }
    }
}

impl<T: Ord> RangeMap<T> {
    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds an item, which must not be there, under a range.
    pub(crate) fn insert(&mut self, range: &KeyRange, item: T) {
        let is_new = match Place::of(range) {
            None => match self.keys.get_mut(range.key.as_slice()) {
                Some(items) => items.insert(item),
                None => {
                    let key = range.key.clone().into_boxed_slice();
                    self.keys.insert(key, BTreeSet::from([item])).is_none()
                }
            },
            Some(place) => match find(&mut self.ranges, &place) {
                Some(node) => node.items.insert(item),
                None => {
                    self.drawn += 1;
                    let node = Node {
                        reach: place.end.clone(),
                        place,
                        priority: scramble(self.drawn),
                        items: BTreeSet::from([item]),
                        left: None,
                        right: None,
                    };
                    self.ranges = Some(insert(self.ranges.take(), Box::new(node)));
                    true
                }
            },
        };
        assert!(is_new, "an item stands under a range once");
        self.len += 1;
    }

    /// Removes an item from under a range. Nothing happens where it is not there.
    pub(crate) fn remove(&mut self, range: &KeyRange, item: &T) {
        let removed = match Place::of(range) {
            None => {
                let Some(items) = self.keys.get_mut(range.key.as_slice()) else { return };
                let removed = items.remove(item);
                if items.is_empty() {
                    self.keys.remove(range.key.as_slice());
                }
                removed
            }
            Some(place) => {
                let Some(node) = find(&mut self.ranges, &place) else { return };
                let removed = node.items.remove(item);
                if node.items.is_empty() {
                    self.ranges = remove(self.ranges.take(), &place);
                }
                removed
            }
        };
        self.len -= usize::from(removed);
    }

    /// Shows every item under a range that the key is in.
    pub(crate) fn for_each(&self, key: &[u8], mut show: impl FnMut(&T)) {
        self.keys.get(key).into_iter().flatten().for_each(&mut show);
        visit(self.ranges.as_deref(), key, &mut show);
    }

    /// Whether the key is in any of the ranges.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        let mut found = false;
        self.for_each(key, |_| found = true);
        found
    }
}

/// Numbers in a row, made to look like chance (the finaliser of `SplitMix64`).
fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn find<'a, T>(mut tree: &'a mut Tree<T>, place: &Place) -> Option<&'a mut Node<T>> {
    loop {
        let node = tree.as_deref_mut()?;
        match place.cmp(&node.place) {
            Ordering::Less => tree = &mut node.left,
            Ordering::Equal => return Some(node),
            Ordering::Greater => tree = &mut node.right,
        }
    }
}

fn visit<T>(tree: Option<&Node<T>>, key: &[u8], show: &mut impl FnMut(&T)) {
    let Some(node) = tree else { return };
    if !node.reach.is_after(key) {
        return;
    }
    visit(node.left.as_deref(), key, show);
    if *node.place.start <= *key {
        if node.place.end.is_after(key) {
            node.items.iter().for_each(&mut *show);
        }
        visit(node.right.as_deref(), key, show);
    }
}

impl<T> Node<T> {
    fn reach_anew(mut self: Box<Self>) -> Box<Self> {
        let below = [&self.left, &self.right].into_iter().flatten().map(|node| &node.reach);
        let reach = below.fold(&self.place.end, |furthest, reach| furthest.max(reach)).clone();
        self.reach = reach;
        self
    }
}

fn insert<T>(tree: Tree<T>, mut new: Box<Node<T>>) -> Box<Node<T>> {
    let Some(mut node) = tree else { return new };
    if new.priority > node.priority {
        (new.left, new.right) = split(Some(node), &new.place);
        return new.reach_anew();
    }
    if new.place < node.place {
        node.left = Some(insert(node.left.take(), new));
    } else {
        node.right = Some(insert(node.right.take(), new));
    }
    node.reach_anew()
}

/// The nodes before the place, and those after it.
fn split<T>(tree: Tree<T>, place: &Place) -> (Tree<T>, Tree<T>) {
    let Some(mut node) = tree else { return (None, None) };
    if node.place < *place {
        let (before, after) = split(node.right.take(), place);
        node.right = before;
        (Some(node.reach_anew()), after)
    } else {
        let (before, after) = split(node.left.take(), place);
        node.left = after;
        (before, Some(node.reach_anew()))
    }
}

fn remove<T>(tree: Tree<T>, place: &Place) -> Tree<T> {
    let mut node = tree?;
    match place.cmp(&node.place) {
        Ordering::Less => node.left = remove(node.left.take(), place),
        Ordering::Greater => node.right = remove(node.right.take(), place),
        Ordering::Equal => return merge(node.left.take(), node.right.take()),
    }
    Some(node.reach_anew())
}

/// One tree of two, all of the first being before all of the second.
fn merge<T>(left: Tree<T>, right: Tree<T>) -> Tree<T> {
    match (left, right) {
        (None, other) | (other, None) => other,
        (Some(mut left), Some(right)) if left.priority > right.priority => {
            left.right = merge(left.right.take(), Some(right));
            Some(left.reach_anew())
        }
        (Some(left), Some(mut right)) => {
            right.left = merge(Some(left), right.left.take());
            Some(right.reach_anew())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn range() -> impl Strategy<Value = KeyRange> {
        let key = || vec(0_u8..4, 1..3);
        let end = prop_oneof![Just(Vec::new()), Just(vec![0]), key()];
        (key(), end).prop_map(|(key, range_end)| KeyRange { key, range_end })
    }

    /// How deep the tree is.
    fn depth<T>(tree: Option<&Node<T>>) -> usize {
        tree.map_or(0, |node| 1 + depth(node.left.as_deref()).max(depth(node.right.as_deref())))
    }

    proptest! {
        #[test]
        fn every_item_is_found_whose_range_has_the_key(
            steps in vec((range(), 0_u8..6, any::<bool>()), 1..60),
        ) {
            let mut map = RangeMap::default();
            let mut model: Vec<(KeyRange, u8)> = Vec::new();
            for (range, item, adds) in steps {
                let there = model.iter().position(|known| *known == (range.clone(), item));
                match there {
                    None if adds => {
                        map.insert(&range, item);
                        model.push((range, item));
                    }
                    None => map.remove(&range, &item),
                    Some(place) => {
                        map.remove(&range, &item);
                        model.remove(place);
                    }
                }
                prop_assert_eq!(map.len(), model.len());
                for key in [&[0_u8][..], &[1], &[2], &[3], &[1, 2], &[2, 0], &[3, 3]] {
                    let mut found = Vec::new();
                    map.for_each(key, |item| found.push(*item));
                    let matching = model.iter().filter(|(range, _)| range.contains(key));
                    let mut expected: Vec<u8> = matching.map(|(_, item)| *item).collect();
                    found.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(map.contains(key), !expected.is_empty());
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }

    /// Ranges that come in order are the worst for a tree that does not balance itself.
    #[test]
    fn ten_thousand_ranges_in_order_make_no_deep_tree() {
        let mut map = RangeMap::default();
        for number in 0..10_000_u32 {
            let key = number.to_be_bytes().to_vec();
            map.insert(&KeyRange { range_end: [&key[..], &[0xff]].concat(), key }, ());
        }
        assert!(depth(map.ranges.as_deref()) < 50, "{}", depth(map.ranges.as_deref()));
    }
}
