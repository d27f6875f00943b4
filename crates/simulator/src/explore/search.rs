//! Breadth first through all states: the first violation that is found is one with the fewest
//! steps to it.

use super::describe::described;
use super::graph::{Action, Graph, What, World};
use super::options::{Bounds, Start};
use super::store::{Kept, Store};
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
    actions: Vec<Action>,
    after: World,
    report: Exploration,
    progress: &'a mut dyn FnMut(&Exploration),
}

/// A step that breaks something: what it breaks, in which state it is taken, and the step.
struct Broken {
    violation: Violation,
    parent: u32,
    action: Action,
}

/// Explores everything within these bounds. `progress` is told whenever another distance is begun.
pub fn explore(bounds: Bounds, progress: &mut dyn FnMut(&Exploration)) -> Exploration {
    let (mut graph, mut start) = Graph::new(bounds);
    if graph.bounds.start == Start::Led {
        elect_first(&mut graph, &mut start);
    }
    let mut search = Search {
        graph,
        start: start.clone(),
        store: Store::new(),
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
    let voters = graph.bounds.voters;
    let (mut actions, mut after) = (Vec::new(), World::default());
    let stand = Action { place: 0, what: What::TimeOut };
    let mut next = Some(stand);
    for _ in 0..LED_STEPS_MAX {
        let Some(action) = next.take() else { break };
        let changed = graph.apply(world, action, &mut after);
        if changed.is_ok_and(|changed| changed) {
            std::mem::swap(world, &mut after);
        }
        let settled = world.situation.members[..voters].iter().all(|&number| {
            let facts = graph.facts(number);
            facts.commit == 1 && facts.durable == 1 && !facts.writes
        });
        if settled {
            break;
        }
        graph.actions(world, &mut actions);
        next = actions.iter().copied().find(|action| {
            matches!(action.what, What::WriteDone | What::Deliver(_))
                && graph.apply(world, *action, &mut after).is_ok_and(|changed| changed)
        });
    }
    world.messages.clear();
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
            let broken = |violation| Broken { violation, parent, action };
            if !self.graph.apply(world, action, &mut after).map_err(broken)? {
                continue;
            }
            self.report.steps += 1;
            let kept = self.store.keep(&after, Some(parent));
            if let Kept::Yes { new_situation: true, .. } = kept {
                self.graph.check(&after, action.place).map_err(broken)?;
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
        if let Some(Broken { violation, parent, action }) = broken {
            let lines = self.story(parent, action);
            self.report.violation = Some((violation, lines));
        }
        self.report
    }

    /// The steps that lead to the state `last`, and the one that is taken there.
    fn story(&mut self, last: u32, action: Action) -> Vec<String> {
        let mut path = vec![last];
        while let Some(parent) = self.store.parent(path[path.len() - 1]) {
            path.push(parent);
        }
        path.pop();
        let (mut world, mut after, mut wanted) =
            (self.start.clone(), World::default(), World::default());
        let (mut lines, mut actions) = (Vec::new(), Vec::new());
        for number in path.into_iter().rev() {
            self.store.read(number, &mut wanted);
            self.graph.actions(&world, &mut actions);
            let led_there = actions.iter().copied().find(|&action| {
                let changed = self.graph.apply(&world, action, &mut after);
                changed.is_ok_and(|changed| changed) && after == wanted
            });
            if let Some(action) = led_there {
                lines.push(described(&self.graph, &world, action, Some(&after)));
            }
            std::mem::swap(&mut world, &mut after);
        }
        lines.push(described(&self.graph, &world, action, None));
        lines
    }
}
