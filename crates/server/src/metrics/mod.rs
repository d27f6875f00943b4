//! What a member counts, under the names that etcd's dashboards and alerts know. What happens often
//! is counted where it happens, by handles that cost an atomic or a short lock; what can be looked up
//! is looked up when somebody asks.
//!
//! CAVEATS. Counters whose names in etcd do not end in `_total` are told as gauges, because the text
//! format has no other way to keep the name. The time to a peer and back is taken when a connection
//! to it comes about.

mod grpc;
mod health;
mod peers;
mod process;
mod runtime;
mod sampled;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use quorate_raft::{NodeId, Status};

pub(crate) use grpc::{Call, GrpcMetrics};
pub(crate) use health::{HealthCheck, HealthChecked, HealthMetrics};
pub(crate) use peers::PeerMetrics;
pub(crate) use runtime::RuntimeMetrics;
pub(crate) use sampled::Sample;
use sampled::Sampled;

/// One metric's labels; their names are known when the program is built, or few.
type Labels = Vec<(&'static str, String)>;

/// Everything that a member counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    sampled: Sampled,
    process: process::ProcessMetrics,
    /// Of probes.
    pub(crate) health: HealthMetrics,
    /// Of the log, the store and proposals.
    pub(crate) runtime: RuntimeMetrics,
    /// Of connections to and from other members.
    pub(crate) peers: PeerMetrics,
    /// Of clients' calls.
    pub(crate) grpc: GrpcMetrics,
}

/// What does not change while a member runs.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The member.
    pub(crate) member: NodeId,
    /// The version of etcd that it reports.
    pub(crate) version: String,
    /// Bytes that the store may have.
    pub(crate) quota_bytes: i64,
    /// Whether the time that each call takes is told too: `--metrics=extensive`.
    pub(crate) extensive: bool,
}

impl Metrics {
    /// Of this member, with nothing counted yet.
    pub(crate) fn new(facts: &Facts) -> Self {
        let mut registry = Registry::default();
        register_facts(&mut registry, facts);
        Self {
            sampled: Sampled::register(&mut registry),
            process: process::ProcessMetrics::register(&mut registry),
            health: HealthMetrics::register(&mut registry),
            runtime: RuntimeMetrics::register(&mut registry),
            peers: PeerMetrics::register(&mut registry, facts.member),
            grpc: GrpcMetrics::register(&mut registry, facts.extensive),
            registry,
        }
    }

    /// All of it in the text format of OpenMetrics, as of now.
    pub(crate) fn scrape(&self, status: &Status, sample: &Sample) -> String {
        self.sampled.set(status, sample);
        self.process.look_up();
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

fn register_facts(registry: &mut Registry, facts: &Facts) {
    let minor = facts.version.rsplit_once('.').map_or(&*facts.version, |(minor, _patch)| minor);
    let labelled = [
        ("etcd_server_id", "server_id", format!("{:x}", facts.member.0), "Which member this is"),
        ("etcd_server_version", "server_version", facts.version.clone(), "Which version"),
        ("etcd_cluster_version", "cluster_version", minor.to_owned(), "Which version all speak"),
        ("etcd_server_go_version", "server_go_version", "none".to_owned(), "Not a Go program"),
    ];
    for (name, label, value, help) in labelled {
        let one = Gauge::<i64>::default();
        one.set(1);
        registry
            .sub_registry_with_labels([(label.into(), value.into())].into_iter())
            .register(name, help, one);
    }
    let quota = Gauge::<i64>::default();
    quota.set(facts.quota_bytes);
    registry.register(
        "etcd_server_quota_backend_bytes",
        "The default of etcd; it is not enforced",
        quota,
    );
}

/// The same in the older format, which knows no suffix of counters: there their type is told of the
/// name that the sample has.
pub(crate) fn to_plain_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().filter(|line| *line != "# EOF").peekable();
    while let Some(line) = lines.next() {
        // What it is for stands before what it is.
        let counter = counter_of(line).or_else(|| counter_of(lines.peek()?));
        let renamed = counter.and_then(|name| {
            let (kind, rest) = line.split_once(&format!(" {name} "))?;
            ["# HELP", "# TYPE"].contains(&kind).then(|| format!("{kind} {name}_total {rest}"))
        });
        text.push_str(renamed.as_deref().unwrap_or(line));
        text.push('\n');
    }
    text
}

fn counter_of(line: &str) -> Option<&str> {
    line.strip_prefix("# TYPE ")?.strip_suffix(" counter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_tells_the_types_of_the_samples_names() {
        let text = "# HELP a A.\n# TYPE a counter\na_total 1\n# TYPE b gauge\nb 2\n# EOF\n";
        let plain = "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n# TYPE b gauge\nb 2\n";
        assert_eq!(to_plain_text(text), plain);
    }
}
