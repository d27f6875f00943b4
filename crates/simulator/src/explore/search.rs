//! Breadth first through all states: the first violation that is found is one with the fewest
//! steps to it.

use super::describe::described;
use super::graph::{Action, Graph, What, World};
use super::options::{Bounds, Start};
use super::store::{Kept, Store};
use super::symmetry::Symmetry;
use crate::violation::Violation;

/// Steps within which the group is led, where it is to be led from the start.
const LED_STEPS_MAX: usize = 1000;

/// How an exploration went.
#[derive(Debug, Default)]
pub struct Exploration {
    /// Distinct states that were found; all of them were checked.
    pub states: usize,
    /// States of the group but for the messages on their way, of which these are.
    pub situations: usize,
    /// Of the states, how many have had everything tried that may happen in them.
    pub expanded: usize,
    /// Steps that were taken and led to another state, new or not.
    pub steps: u64,
    /// The most steps that the last state which was found lies away from the beginning.
    pub depth: u32,
    /// How many states were found first at each distance from the beginning.
    pub by_depth: Vec<usize>,
    /// Nothing that the bounds allow was left out.
    pub complete: bool,
    /// Distinct states of single members, distinct messages, and distinct steps of single members,
    /// each taken by the real core once.
    pub members: usize,
    /// See `members`.
    pub messages: usize,
    /// See `members`.
    pub member_steps: usize,
    /// What was broken, and the steps that lead to it.
    pub violation: Option<(Violation, Vec<String>)>,
}

struct Search<'a> {
    graph: Graph,
    start: World,
    store: Store,
    symmetry: Symmetry,
    actions: Vec<Action>,
    after: World,
    report: Exploration,
    progress: &'a mut dyn FnMut(&Exploration),
}

/// A step that breaks something: what it breaks, and in which state it is taken.
struct Broken {
    violation: Violation,
    parent: u32,
}

/// Explores everything within these bounds. `progress` is told whenever another distance is begun.
pub fn explore(bounds: Bounds, progress: &mut dyn FnMut(&Exploration)) -> Exploration {
    let (mut graph, mut start) = Graph::new(bounds);
    if graph.bounds.start == Start::Led {
        elect_first(&mut graph, &mut start);
    }
    let mut symmetry = Symmetry::new(&graph.bounds.alike());
    let first = start.clone();
    symmetry.settle(&mut graph, &mut start);
    let mut search = Search {
        graph,
        start: first,
        store: Store::new(),
        symmetry,
        actions: Vec::new(),
        after: World::default(),
        report: Exploration::default(),
        progress,
    };
    search.store.keep(&start, None);
    let broken = search.run();
    search.conclude(broken)
}

/// Has member 1 elected, and everybody know of its first entry. What is left on its way is lost.
fn elect_first(graph: &mut Graph, world: &mut World) {
    let (mut actions, mut after) = (Vec::new(), World::default());
    let mut next = Some(Action { place: 0, what: What::TimeOut });
    let mut steps = 0;
    while !is_led(graph, world) {
        let action = next.filter(|_| steps < LED_STEPS_MAX);
        let action = action.expect("nothing keeps member 1 from being elected");
        let changed = graph.apply(world, action, &mut after);
        assert!(changed.is_ok(), "an election without faults breaks nothing");
        std::mem::swap(world, &mut after);
        steps += 1;
        graph.actions(world, &mut actions);
        next = actions.iter().copied().find(|action| {
            matches!(action.what, What::WriteDone | What::Deliver(_))
                && graph.apply(world, *action, &mut after).is_ok_and(|changed| changed)
        });
    }
    world.messages.clear();
}

/// Whether all voters have the first entry on their disks and know it to be committed.
fn is_led(graph: &Graph, world: &World) -> bool {
    let voters = &world.situation.members[..graph.bounds.voters];
    voters.iter().all(|&number| {
        let facts = graph.facts(number);
        facts.commit == 1 && facts.durable == 1 && !facts.writes
    })
}

impl Search<'_> {
    fn run(&mut self) -> Option<Broken> {
        let mut world = World::default();
        // The first number of the next distance.
        let mut next_level = 1;
        self.report.by_depth.push(1);
        let mut number = 0;
        while (number as usize) < self.store.len() {
            if number == next_level {
                self.begin_level();
                if self.report.depth >= self.graph.bounds.depth_max {
                    return None;
                }
                next_level = u32::try_from(self.store.len()).expect("fewer than 2^32 states");
            }
            if self.store.read(number, &mut world) {
                if let Err(broken) = self.expand(number, &world) {
                    return Some(broken);
                }
                self.report.expanded += 1;
                if self.store.len() >= self.graph.bounds.states_max as usize {
                    return None;
                }
            }
            number += 1;
        }
        self.report.complete = true;
        None
    }

    /// Tries everything that may happen in a state.
    fn expand(&mut self, parent: u32, world: &World) -> Result<(), Broken> {
        let mut actions = std::mem::take(&mut self.actions);
        let mut after = std::mem::take(&mut self.after);
        self.graph.actions(world, &mut actions);
        for &action in &actions {
            let broken = |violation| Broken { violation, parent };
            if !self.graph.apply(world, action, &mut after).map_err(broken)? {
                continue;
            }
            self.report.steps += 1;
            self.symmetry.settle(&mut self.graph, &mut after);
            let kept = self.store.keep(&after, Some(parent));
            if let Kept::Yes { new_situation: true, .. } = kept {
                self.graph.check(&after).map_err(broken)?;
            }
        }
        (self.actions, self.after) = (actions, after);
        Ok(())
    }

    fn begin_level(&mut self) {
        self.tally();
        self.report.depth += 1;
        (self.progress)(&self.report);
    }

    /// Brings the report up to date.
    fn tally(&mut self) {
        let before: usize = self.report.by_depth.iter().sum();
        self.report.states = self.store.len();
        self.report.situations = self.store.situations();
        self.report.by_depth.push(self.store.len() - before);
        (self.report.members, self.report.messages, self.report.member_steps) = self.graph.sizes();
    }

    fn conclude(mut self, broken: Option<Broken>) -> Exploration {
        self.tally();
        if self.report.by_depth.last() == Some(&0) {
            self.report.by_depth.pop();
        } else {
            self.report.depth += 1;
        }
        if let Some(Broken { violation, parent }) = broken {
            // The same, by the names that the members have in the story.
            let (lines, told) = self.story(parent);
            self.report.violation = Some((told.unwrap_or(violation), lines));
        }
        self.report
    }

    /// The steps that lead to the state `last` and, with the step that breaks something, beyond it,
    /// all members keeping their names.
    fn story(&mut self, last: u32) -> (Vec<String>, Option<Violation>) {
        let mut path = vec![last];
        while let Some(parent) = self.store.parent(path[path.len() - 1]) {
            path.push(parent);
        }
        path.pop();
        let Self { graph, symmetry, store, start, .. } = self;
        let (mut world, mut after) = (start.clone(), World::default());
        let (mut wanted, mut settled) = (World::default(), World::default());
        let (mut lines, mut actions) = (Vec::new(), Vec::new());
        for number in path.into_iter().rev() {
            store.read(number, &mut wanted);
            graph.actions(&world, &mut actions);
            let led_there = actions.iter().copied().find(|&action| {
                let changed = graph.apply(&world, action, &mut after);
                settled.clone_from(&after);
                symmetry.settle(graph, &mut settled);
                changed.is_ok_and(|changed| changed) && settled == wanted
            });
            if let Some(action) = led_there {
                lines.push(described(graph, &world, action, Some(&after)));
            }
            std::mem::swap(&mut world, &mut after);
        }
        graph.actions(&world, &mut actions);
        for action in actions {
            let changed = graph.apply(&world, action, &mut after);
            if let Err(violation) = changed.and_then(|_| graph.check(&after)) {
                lines.push(described(graph, &world, action, None));
                return (lines, Some(violation));
            }
        }
        (lines, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explored(bounds: Bounds) -> Exploration {
        let exploration = explore(bounds, &mut |_| {});
        assert_eq!(exploration.violation, None);
        exploration
    }

    #[test]
    fn all_states_of_one_term_are_tried_and_none_is_wrong() {
        let bounds = Bounds { voters: 2, terms: 1, commands: 1, crashes: 0, ..Bounds::default() };
        let slow = explored(bounds.clone());
        let fast = explored(Bounds { slow_disks: false, ..bounds.clone() });
        let broken_off = explored(Bounds { slow_disks: false, depth_max: 5, ..bounds });
        assert!(slow.complete && fast.complete && !broken_off.complete);
        assert!(slow.states > fast.states && fast.states > broken_off.states);
        assert_eq!(broken_off.depth, 5);
    }

    /// Elections, changes of members and crashes are reached: the deepest states have them behind
    /// them.
    #[test]
    fn a_change_of_members_is_made() {
        let change = vec!["+3".parse().unwrap()];
        let bounds = Bounds {
            voters: 2,
            terms: 1,
            commands: 0,
            crashes: 0,
            start: Start::Led,
            slow_disks: false,
            ..Bounds::default()
        };
        let without = explored(bounds.clone());
        let with = explored(Bounds { changes: change, ..bounds });
        assert!(without.complete && with.complete);
        assert!(with.members > without.members);
    }
}
