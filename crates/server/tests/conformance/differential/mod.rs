//! quorate against etcd itself: the same calls put to a real etcd, v3.7.1, and to three members of
//! quorate, and every answer compared, field by field, error by error. A client that cannot tell
//! them apart needs no compatibility promised to it.
//!
//! Both stores begin empty and see the same calls in the same order, so revisions must be the same
//! numbers throughout. Each sequence begins with no key there, and may name revisions relative to
//! its own beginning; so it can be repeated at will, which is how one that shows a difference is
//! made short before it is printed.
//!
//! `cargo xtask differential` runs these, and says so loudly where there is no Go to build etcd
//! with.

mod call;
mod command_lines;
mod compare;
mod edges;
mod generate;
mod leases;
mod pair;
mod shrink;
mod watch;
mod watch_edges;

use std::collections::BTreeMap;
use std::time::Instant;

use tonic::Code;

use call::{Answer, Call, Outcome, Step, everything, from_begin, from_now, shown, shown_outcome};
use compare::{Meant, Verdict, verdict_of};
use pair::{Exchange, Pair};

use crate::number;

/// Of so many sequences, one is made before anything was ever compacted.
const ONE_IN_NEVER_COMPACTED: usize = 20;
/// Sequences between two lines of progress.
const PROGRESS: usize = 100;
/// How often a sequence is repeated that a member did not answer, as on a machine that is so busy
/// that a leader is taken for dead.
const REPEATS_MAX: usize = 3;

/// Sequences that may show a difference before the rest is not tried any more.
const DIFFERENT_MAX: usize = 10;

/// What was made, so that a test that compares nothing is noticed.
#[derive(Default)]
struct Tally {
    /// Names of the sequences that showed a difference.
    different: Vec<String>,
    calls: BTreeMap<(&'static str, String), usize>,
    meant: BTreeMap<Meant, usize>,
    /// What watchers were told.
    events: usize,
}

impl Tally {
    fn note(&mut self, exchange: &Exchange, verdict: Verdict) {
        let outcome = match &exchange.etcd {
            Ok(_) => "done".to_owned(),
            // What only this test cannot decode says so at length.
            Err(error) if error.code() == Code::Internal => "cannot be read here".to_owned(),
            Err(error) => format!("{:?}: {}", error.code(), error.message()),
        };
        *self.calls.entry((exchange.call.kind(), outcome)).or_default() += 1;
        if let Ok(Answer::Settled(settled)) = &exchange.etcd {
            let told = settled.told.values().flatten();
            self.events += told.map(|response| response.events.len()).sum::<usize>();
        }
        if let Verdict::Meant(meant) = verdict {
            *self.meant.entry(meant).or_default() += 1;
        }
    }

    fn print(&self) {
        for ((kind, outcome), count) in &self.calls {
            println!("{count:>9}  {kind:<25}  {outcome}");
        }
        println!("{:>9}  events that watchers were told of", self.events);
        for (meant, count) in &self.meant {
            println!("{count:>9}  differ as they are meant to: {meant:?}");
        }
    }
}

/// How a sequence went.
enum Run {
    Same,
    Different(Box<Exchange>),
    /// A member did not answer, so that what was done is not known.
    Unanswered(String),
}

/// Makes a sequence on stores without keys.
async fn run(
    pair: &mut Pair,
    name: &str,
    steps: &[Step],
    compactions: bool,
    tally: &mut Tally,
) -> Run {
    pair.clean(compactions).await;
    let mut steps = steps.iter();
    while let Some(exchange) = pair.next(&mut steps).await {
        let verdict = verdict_of(&exchange);
        tally.note(&exchange, verdict);
        if verdict != Verdict::Different {
            continue;
        }
        if is_unanswered(&exchange.etcd) {
            show(&exchange);
            panic!("{name}: etcd does not answer; does it survive these calls?");
        }
        if is_unanswered(&exchange.quorate) {
            return Run::Unanswered(shown_outcome(&exchange.quorate));
        }
        return Run::Different(Box::new(exchange));
    }
    Run::Same
}

/// Whether nobody knows what became of the call.
fn is_unanswered(outcome: &Outcome) -> bool {
    const CONNECTION_LOST: &str = "transport error";
    outcome.as_ref().is_err_and(|error| match error.code() {
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => true,
        Code::Unknown => error.message() == CONNECTION_LOST,
        _ => false,
    })
}

/// Makes a sequence, and prints the shortest form of it if it shows a difference.
async fn compare(
    pair: &mut Pair,
    name: &str,
    steps: Vec<Step>,
    compactions: bool,
    tally: &mut Tally,
) {
    for _ in 0..REPEATS_MAX {
        match run(pair, name, &steps, compactions, tally).await {
            Run::Same => return,
            Run::Different(exchange) => {
                println!("{name}: quorate does not answer as etcd does");
                show(&exchange);
                print_smallest(pair, name, steps, compactions).await;
                tally.different.push(name.to_owned());
                let count = tally.different.len();
                assert!(count < DIFFERENT_MAX, "{count} sequences show differences already");
                return;
            }
            Run::Unanswered(error) => println!("{name}: no answer ({error}), again"),
        }
    }
    panic!("{name}: no answer, {REPEATS_MAX} times");
}

fn show(exchange: &Exchange) {
    println!("  call    {}", shown(&exchange.call));
    println!("  etcd    {}", shown_outcome(&exchange.etcd));
    println!("  quorate {} (m{})", shown_outcome(&exchange.quorate), exchange.member);
}

/// Finds the shortest sequence that shows a difference, and prints all answers to it.
async fn print_smallest(pair: &mut Pair, name: &str, steps: Vec<Step>, compactions: bool) {
    let mut unused = Tally::default();
    let smallest = shrink::smallest(steps, async |steps: &[Step]| {
        matches!(run(pair, name, steps, compactions, &mut unused).await, Run::Different(_))
    });
    let smallest = smallest.await;
    pair.clean(compactions).await;
    println!("the shortest sequence that shows a difference, from no keys at all:");
    let mut steps = smallest.iter();
    while let Some(exchange) = pair.next(&mut steps).await {
        let verdict = verdict_of(&exchange);
        show(&exchange);
        println!("  verdict {verdict:?}");
    }
}

#[tokio::test]
#[ignore = "needs Go: cargo xtask differential"]
async fn sequences() {
    const MEMBERS: usize = 3;
    let (count, first_seed) = (number("QUORATE_SEQUENCES", 300), number("QUORATE_SEED", 1));
    let mut pair = Pair::start(MEMBERS).await;
    let mut tally = Tally::default();
    let began = Instant::now();
    let never_compacted = count / ONE_IN_NEVER_COMPACTED;
    for index in 0..count {
        if index == never_compacted {
            edge_cases(&mut pair, &mut tally).await;
        }
        let seed = u64::try_from(first_seed + index).expect("a usize fits");
        let compactions = index >= never_compacted;
        let steps = generate::sequence(seed, pair.member_count(), compactions);
        compare(&mut pair, &format!("seed {seed}"), steps, compactions, &mut tally).await;
        if (index + 1) % PROGRESS == 0 {
            println!("{} sequences, {:.0} s", index + 1, began.elapsed().as_secs_f64());
        }
    }
    tally.print();
    assert!(tally.different.is_empty(), "differences in: {}", tally.different.join(", "));
    let last_seed = first_seed + count - 1;
    println!(
        "{count} sequences (seeds {first_seed} to {last_seed}) and {} edge cases: no difference, \
         {:.1} s",
        edges::all().len() + watch_edges::all().len(),
        began.elapsed().as_secs_f64()
    );
}

/// The sequences that are always made. The first is for a store that was never compacted, and
/// ends that.
async fn edge_cases(pair: &mut Pair, tally: &mut Tally) {
    for (index, (story, calls)) in edges::all().into_iter().enumerate() {
        let at_the_end = [everything(0, false), everything(from_begin(1), true)];
        let more = [everything(from_now(-1), false)];
        let calls = calls.into_iter().chain(at_the_end).chain(more);
        compare(pair, story, at_members_in_turn(pair, calls), index > 0, tally).await;
    }
    for (story, calls) in watch_edges::all() {
        compare(pair, story, at_members_in_turn(pair, calls), true, tally).await;
    }
}

fn at_members_in_turn(pair: &Pair, calls: impl IntoIterator<Item = Call>) -> Vec<Step> {
    let members = (0..pair.member_count()).cycle();
    calls.into_iter().zip(members).map(|(call, member)| Step { call, member }).collect()
}
