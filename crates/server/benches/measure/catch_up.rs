//! A member that was away for a million puts, and one that lost its disk, catch up while the others
//! take puts at a fixed rate. What is asked: how long it takes, and whether the clients notice.
//!
//! ```text
//!   | settling | baseline |  kill  | puts at full speed | one away |  start ...... caught up ... |
//!   |<--- fixed rate ---->|  wipe  | (only for `away`)  |<------------- fixed rate ------------>|
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::arguments::Arguments;
use crate::bars::Bars;
use crate::cluster::Cluster;
use crate::compare;
use crate::content::{Content, KeyShape};
use crate::latency::{Summary, by_second};
use crate::ledger::Ledger;
use crate::load::{self, Client, FixedRate, Width, full_speed, put};
use crate::machine::{self, Busy};
use crate::table::{Table, median_and_worst};

const MEMBERS: usize = 3;
const VALUE_BYTES: usize = 256;
/// At the fixed rate, before anything is measured.
const SETTLING: Duration = Duration::from_secs(5);
/// At the fixed rate with one member away, before it is started.
const ONE_AWAY: Duration = Duration::from_secs(10);
/// Puts are measured this long from the start of the member, even if it has caught up before.
const AFTERMATH: Duration = Duration::from_secs(30);
/// How often the members are asked how far they are.
const POLL: Duration = Duration::from_millis(20);
/// Entries by which a member that has caught up may be behind, for it is asked after the others.
const BEHIND_MAX: u64 = 5;
/// What the 99th percentile may be of the baseline's.
const P99_GROWTH_MAX: f64 = 2.0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scenario {
    Away,
    Wiped,
}

/// What was asked for.
struct Plan {
    puts: u64,
    rate: u64,
    rounds: u64,
    baseline: Duration,
    patience: Duration,
    scenarios: Vec<Scenario>,
    wiped_flags: Vec<String>,
    server_flags: Vec<String>,
    width: Width,
}

/// A cluster, and what was put into it.
struct Round<'a> {
    plan: &'a Plan,
    cluster: Cluster,
    ledger: Arc<Ledger>,
    content: Content,
}

/// What one catching up came to.
struct Outcome {
    scenario: Scenario,
    /// Entries between the leader and the member when it was started.
    behind: u64,
    baseline: Summary,
    /// The two halves of it: what two measurements of the same differ by.
    halves: [Summary; 2],
    one_away: Summary,
    /// From the start of the member until it had caught up.
    during: Summary,
    /// From the start of the member, for [`AFTERMATH`].
    aftermath: Summary,
    caught_up: Duration,
    /// Terms that began while it caught up: elections.
    terms: u64,
}

impl Plan {
    fn from_arguments(arguments: &mut Arguments) -> Result<Self> {
        let scenarios = match arguments.text("scenario", "both").as_str() {
            "away" => vec![Scenario::Away],
            "wiped" => vec![Scenario::Wiped],
            "both" => vec![Scenario::Away, Scenario::Wiped],
            other => bail!("--scenario is away, wiped or both, not `{other}`"),
        };
        let plan = Self {
            puts: arguments.number("puts", 1_000_000)?,
            rate: arguments.number("rate", 500)?,
            rounds: arguments.number("rounds", 3)?,
            baseline: Duration::from_secs(arguments.number("baseline-s", 30)?),
            patience: Duration::from_secs(arguments.number("patience-s", 900)?),
            scenarios,
            wiped_flags: arguments.words("wiped-flags", "--initial-cluster-state existing"),
            server_flags: arguments.words("server-flags", ""),
            width: Width::from_arguments(arguments)?,
        };
        arguments.finish()?;
        Ok(plan)
    }
}

pub(crate) async fn run(arguments: &mut Arguments) -> Result<Bars> {
    let plan = Plan::from_arguments(arguments)?;
    machine::print_surroundings(&std::env::temp_dir())?;
    println!("load average before: {}", machine::load_average()?);
    let mut outcomes = Vec::new();
    let mut ended = Ok(());
    for number in 1..=plan.rounds {
        println!("round {number}");
        ended = Round::start(&plan).await.run(&mut outcomes).await;
        if ended.is_err() {
            break;
        }
    }
    // A failure in a late round does not take the figures of the earlier ones with it.
    print(&outcomes);
    ended.map(|()| bars(&outcomes))
}

impl<'a> Round<'a> {
    async fn start(plan: &'a Plan) -> Self {
        let mut cluster = Cluster::prepare(MEMBERS, &[]);
        (0..MEMBERS).for_each(|member| cluster.start_member_with(member, &plan.server_flags));
        cluster.leader().await;
        let content = Content { shape: KeyShape::Numbered, key_bytes: 0, value_bytes: VALUE_BYTES };
        Self { plan, cluster, ledger: Arc::default(), content }
    }

    /// Each scenario in turn, then a look at what all members hold.
    async fn run(mut self, outcomes: &mut Vec<Outcome>) -> Result<()> {
        for &scenario in &self.plan.scenarios {
            // What the member that was away had to catch up with is what the other one has lost.
            if scenario == Scenario::Wiped && self.plan.scenarios.len() == 1 {
                let clients = self.plan.width.connect(&self.cluster, &[0, 1, 2]).await?;
                self.puts_at_full_speed(&clients).await?;
            }
            outcomes.push(self.catch_up(scenario).await?);
        }
        let Self { cluster, content, ledger, .. } = &self;
        let (keys, acknowledged) = compare::all_hold_the_same(cluster, content, ledger).await?;
        println!(
            "  all members hold the same {keys} keys, among them all {acknowledged} acknowledged"
        );
        Ok(())
    }

    async fn catch_up(&mut self, scenario: Scenario) -> Result<Outcome> {
        let leader = self.cluster.leader().await;
        let member = (leader + 1) % MEMBERS;
        let others: Vec<usize> = (0..MEMBERS).filter(|&other| other != member).collect();
        let everyone = self.processes(&[0, 1, 2]);
        let busy = Busy::watch(&everyone)?;
        let (baseline, halves) = self.baseline(&others).await?;
        busy.print("baseline", &everyone)?;

        let applied = self.applied(member).await?;
        self.cluster.kill(member);
        if scenario == Scenario::Away {
            let clients = self.plan.width.connect(&self.cluster, &others).await?;
            let busy = Busy::watch(&self.processes(&others))?;
            self.puts_at_full_speed(&clients).await?;
            busy.print("one away, full speed", &self.processes(&others))?;
        } else {
            std::fs::remove_dir_all(self.cluster.data_directory(member))?;
        }
        let held = if scenario == Scenario::Wiped { 0 } else { applied };

        let rate = self.fixed_rate(&others).await?;
        let away = Instant::now();
        sleep_until((away + ONE_AWAY).into()).await;
        let busy = Busy::watch(&self.processes(&others))?;
        let (term, behind) = {
            let status = self.cluster.status(leader).await?;
            (status.raft_term, status.raft_applied_index.saturating_sub(held))
        };
        let logged: Vec<usize> = (0..MEMBERS).map(|other| self.cluster.log(other).len()).collect();
        let started = Instant::now();
        let mut flags = self.plan.server_flags.clone();
        if scenario == Scenario::Wiped {
            flags.extend_from_slice(&self.plan.wiped_flags);
        }
        self.cluster.start_member_with(member, &flags);
        let caught_up = self.until_caught_up(member, &others, started).await?;
        let terms = self.cluster.status(leader).await?.raft_term - term;
        if terms > 0 {
            println!("  an election took place; what the members logged meanwhile:");
            for (member, &length) in logged.iter().enumerate() {
                print!(
                    "m{member}:\n{}",
                    self.cluster.log(member).get(length..).unwrap_or_default()
                );
            }
        }
        busy.print("catching up", &self.processes(&[0, 1, 2]))?;
        sleep_until((started + AFTERMATH).into()).await;
        let samples = rate.stop().await?;
        let told_to = started + caught_up.max(AFTERMATH);
        println!("  p99/max of each second: {}", by_second(&samples, started, told_to));
        Ok(Outcome {
            scenario,
            behind,
            baseline,
            halves,
            one_away: Summary::of(&samples, away, started),
            during: Summary::of(&samples, started, started + caught_up),
            aftermath: Summary::of(&samples, started, started + AFTERMATH),
            caught_up,
            terms,
        })
    }

    /// The fixed rate alone, with all members there: the whole and its halves.
    async fn baseline(&self, members: &[usize]) -> Result<(Summary, [Summary; 2])> {
        let rate = self.fixed_rate(members).await?;
        let began = Instant::now() + SETTLING;
        let (middle, end) = (began + self.plan.baseline / 2, began + self.plan.baseline);
        sleep_until(end.into()).await;
        let samples = rate.stop().await?;
        let halves = [Summary::of(&samples, began, middle), Summary::of(&samples, middle, end)];
        Ok((Summary::of(&samples, began, end), halves))
    }

    async fn fixed_rate(&self, members: &[usize]) -> Result<FixedRate> {
        let mut clients = Vec::new();
        for &member in members {
            clients.push(load::connect(&self.cluster, member).await?);
        }
        Ok(FixedRate::start(clients, self.plan.rate, self.content, Arc::clone(&self.ledger)))
    }

    async fn puts_at_full_speed(&self, clients: &[Client]) -> Result<()> {
        let numbers = self.ledger.take(self.plan.puts);
        let (content, ledger) = (self.content, Arc::clone(&self.ledger));
        let send = move |mut client: Client, number| {
            let (put, ledger) = (put(&content, number), Arc::clone(&ledger));
            async move {
                client.put(put).await?;
                ledger.note(number);
                Ok(())
            }
        };
        let done = full_speed(clients, self.plan.width, numbers, send).await?;
        println!("  puts at full speed: {done}");
        Ok(())
    }

    /// Waits until the member has applied what one of the others had applied a moment before;
    /// answers how long after its start that was.
    async fn until_caught_up(
        &mut self,
        member: usize,
        others: &[usize],
        started: Instant,
    ) -> Result<Duration> {
        let mut pace = interval(POLL);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            ensure!(started.elapsed() < self.plan.patience, "m{member} does not catch up");
            ensure!(
                self.cluster.process(member).is_running(),
                "m{member} ended:\n{}",
                self.cluster.log(member)
            );
            let mut target = 0;
            for &other in others {
                target = target.max(self.applied(other).await?);
            }
            // A member that has just started may not answer yet.
            let applied = self.applied(member).await.unwrap_or(0);
            if applied + BEHIND_MAX >= target {
                return Ok(started.elapsed());
            }
        }
    }

    async fn applied(&self, member: usize) -> Result<u64> {
        let status = self.cluster.status(member).await;
        Ok(status.with_context(|| format!("the status of m{member}"))?.raft_applied_index)
    }

    fn processes(&mut self, members: &[usize]) -> Vec<u32> {
        members.iter().map(|&member| self.cluster.process(member).id()).collect()
    }
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Wiped => "wiped",
        }
    }
}

impl Outcome {
    fn p99_growth(&self) -> f64 {
        self.during.p99_ms / self.baseline.p99_ms
    }
}

fn print(outcomes: &[Outcome]) {
    println!("\nputs at the fixed rate, from when they were due: p50 / p99 / max");
    let mut table = Table::new(&[
        "member",
        "entries behind",
        "caught up",
        "elections",
        "baseline",
        "p99 of its halves",
        "one away",
        "catching up",
        "first 30 s",
        "p99 / baseline",
    ]);
    for outcome in outcomes {
        let [first, second] = &outcome.halves;
        table.row(vec![
            outcome.scenario.name().to_owned(),
            outcome.behind.to_string(),
            format!("{:.2} s", outcome.caught_up.as_secs_f64()),
            outcome.terms.to_string(),
            outcome.baseline.to_string(),
            format!("{:.1}, {:.1} ms", first.p99_ms, second.p99_ms),
            outcome.one_away.to_string(),
            outcome.during.to_string(),
            outcome.aftermath.to_string(),
            format!("{:.2}", outcome.p99_growth()),
        ]);
    }
    table.print();
    for scenario in [Scenario::Away, Scenario::Wiped] {
        let these = || outcomes.iter().filter(|outcome| outcome.scenario == scenario);
        if these().next().is_none() {
            continue;
        }
        let of = |figure: fn(&Outcome) -> f64| median_and_worst(these().map(figure).collect());
        let (time, time_worst) = of(|outcome| outcome.caught_up.as_secs_f64());
        let (growth, growth_worst) = of(Outcome::p99_growth);
        println!(
            "{}: caught up in {time:.2} s, worst {time_worst:.2} s; p99 / baseline {growth:.2}, \
             worst {growth_worst:.2}",
            scenario.name()
        );
    }
}

/// The worst round counts.
fn bars(outcomes: &[Outcome]) -> Bars {
    let mut bars = Bars::default();
    for (number, outcome) in outcomes.iter().enumerate() {
        let what = format!("{}, row {}: p99 / baseline", outcome.scenario.name(), number + 1);
        bars.at_most(what, outcome.p99_growth(), P99_GROWTH_MAX);
    }
    bars
}
