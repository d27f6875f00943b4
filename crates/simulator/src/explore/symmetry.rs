//! Members that nothing tells apart may change their names: what can happen after that is the same,
//! with other names. So of all states that come of each other in this way one is enough.

use super::graph::{Graph, Situation, World};
use super::options::MEMBERS_MAX;

/// Not worked out yet.
const UNKNOWN: u32 = u32::MAX;

/// New places for all members, and what they make of everything that has a number.
#[derive(Debug)]
struct Renaming {
    places: [usize; MEMBERS_MAX],
    members: Vec<u32>,
    messages: Vec<u32>,
    histories: Vec<u32>,
}

/// All ways of giving members other names that make no difference.
#[derive(Debug)]
pub(crate) struct Symmetry {
    renamings: Vec<Renaming>,
    /// Reused.
    messages: Vec<u32>,
    best: Vec<u32>,
}

/// All orders of these.
fn orders(of: &[usize]) -> Vec<Vec<usize>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (position, &first) in of.iter().enumerate() {
        let others: Vec<usize> = [&of[..position], &of[position + 1..]].concat();
        all.extend(orders(&others).into_iter().map(|rest| [&[first], &rest[..]].concat()));
    }
    all
}

/// Looks a number up that was renamed before, or renames it.
fn looked_up(known: &mut Vec<u32>, number: u32, rename: impl FnOnce() -> u32) -> u32 {
    let at = number as usize;
    if known.len() <= at {
        known.resize(at + 1, UNKNOWN);
    }
    if known[at] == UNKNOWN {
        known[at] = rename();
    }
    known[at]
}

impl Renaming {
    fn situation(&mut self, graph: &mut Graph, situation: &Situation) -> Situation {
        let mut renamed = *situation;
        for (place, &member) in situation.members[..graph.group].iter().enumerate() {
            let places = &self.places;
            renamed.members[self.places[place]] =
                looked_up(&mut self.members, member, || graph.renamed_member(member, places));
        }
        let (places, history) = (&self.places, situation.history);
        renamed.history =
            looked_up(&mut self.histories, history, || graph.renamed_history(history, places));
        renamed
    }

    fn messages(&mut self, graph: &mut Graph, messages: &[u32], renamed: &mut Vec<u32>) {
        renamed.clear();
        for &message in messages {
            let places = &self.places;
            renamed.push(looked_up(&mut self.messages, message, || {
                graph.network.renamed(message, places)
            }));
        }
        renamed.sort_unstable();
    }
}

/// What is compared to find the one state that stands for all.
fn rank(situation: &Situation) -> ([u32; MEMBERS_MAX], u32) {
    (situation.members, situation.history)
}

impl Symmetry {
    /// Members at these places are alike.
    pub(crate) fn new(alike: &[usize]) -> Self {
        let renaming = |order: Vec<usize>| {
            let mut places = std::array::from_fn(|place| place);
            for (&place, &new) in alike.iter().zip(&order) {
                places[place] = new;
            }
            Renaming { places, members: Vec::new(), messages: Vec::new(), histories: Vec::new() }
        };
        let renamings = orders(alike).into_iter().map(renaming).collect();
        Self { renamings, messages: Vec::new(), best: Vec::new() }
    }

    /// Makes the state the one that stands for all that differ from it in names alone.
    pub(crate) fn settle(&mut self, graph: &mut Graph, world: &mut World) {
        let Self { renamings, messages, best } = self;
        // The first renaming changes nothing.
        let mut least = world.situation;
        best.clone_from(&world.messages);
        for renaming in &mut renamings[1..] {
            let situation = renaming.situation(graph, &world.situation);
            if rank(&situation) > rank(&least) {
                continue;
            }
            renaming.messages(graph, &world.messages, messages);
            if rank(&situation) < rank(&least) || *messages < *best {
                least = situation;
                std::mem::swap(best, messages);
            }
        }
        world.situation = least;
        std::mem::swap(&mut world.messages, best);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use crate::explore::graph::{Action, What};
    use crate::explore::options::Bounds;

    #[test]
    fn every_order_once_and_the_given_one_first() {
        let all = orders(&[0, 1, 3]);
        assert_eq!(all.len(), 6);
        assert_eq!(all[0], [0, 1, 3]);
        assert!(all.contains(&vec![3, 0, 1]));
    }

    /// What a member does must not depend on what it is called: every step of a long walk, taken
    /// under other names, leads to the same state under other names.
    #[test]
    fn the_core_does_the_same_under_other_names() {
        let bounds = Bounds { terms: 7, commands: 9, crashes: 9, ..Bounds::default() };
        let mut symmetry = Symmetry::new(&bounds.alike());
        assert_eq!(symmetry.renamings.len(), 6);
        let (mut graph, start) = Graph::new(bounds);
        let mut rng = Rng::new(7);
        let (mut actions, mut after, mut mirrored) =
            (Vec::new(), World::default(), World::default());
        for walk in 0..36 {
            let renaming = &mut symmetry.renamings[walk % 6];
            let mut world = start.clone();
            for _ in 0..60 {
                graph.actions(&world, &mut actions);
                let action = actions[usize::try_from(rng.below(actions.len() as u64)).unwrap()];
                let mirror = renaming.world(&mut graph, &world);
                let mut same = Action { place: renaming.places[action.place], ..action };
                if let What::Deliver(message) = action.what {
                    same.what = What::Deliver(graph.network.renamed(message, &renaming.places));
                }
                let changed = graph.apply(&world, action, &mut after).unwrap();
                assert_eq!(graph.apply(&mirror, same, &mut mirrored), Ok(changed));
                if changed {
                    assert_eq!(renaming.world(&mut graph, &after), mirrored, "{action:?}");
                    std::mem::swap(&mut world, &mut after);
                }
            }
        }
    }

    impl Renaming {
        fn world(&mut self, graph: &mut Graph, world: &World) -> World {
            let situation = self.situation(graph, &world.situation);
            let mut messages = Vec::new();
            self.messages(graph, &world.messages, &mut messages);
            World { situation, messages }
        }
    }
}
