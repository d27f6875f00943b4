//! Of probes: how often they were asked, and what they were told.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Labels;

/// See the module.
#[derive(Debug)]
pub(crate) struct HealthMetrics {
    success: Gauge,
    failures: Gauge,
    last: Family<Labels, Gauge>,
    all: Family<Labels, Counter>,
}

/// Which question it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HealthCheck {
    /// Of which probe: `livez` or `readyz`.
    pub(crate) kind: &'static str,
    /// Its name there.
    pub(crate) name: &'static str,
}

/// A question that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HealthChecked {
    /// Which.
    pub(crate) check: HealthCheck,
    /// How.
    pub(crate) passed: bool,
}

impl HealthMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (success, failures) = (Gauge::default(), Gauge::default());
        let (last, all) = (Family::default(), Family::default());
        let help = "How often /health was answered with yes";
        registry.register("etcd_server_health_success", help, success.clone());
        let help = "How often /health was answered with no";
        registry.register("etcd_server_health_failures", help, failures.clone());
        let help = "The last answer to each question of /livez and /readyz";
        registry.register("etcd_server_healthcheck", help, last.clone());
        let help = "How often each question of /livez and /readyz was answered, and how";
        registry.register("etcd_server_healthchecks", help, all.clone());
        Self { success, failures, last, all }
    }

    /// `/health` was asked.
    pub(crate) fn asked(&self, well: bool) {
        let count = if well { &self.success } else { &self.failures };
        count.inc();
    }

    /// One of the other probes' questions was.
    pub(crate) fn checked(&self, HealthChecked { check, passed }: HealthChecked) {
        let labels = vec![("type", check.kind.to_owned()), ("name", check.name.to_owned())];
        self.last.get_or_create(&labels).set(i64::from(passed));
        let status = if passed { "success" } else { "error" };
        let labels = [&labels[..], &[("status", status.to_owned())]].concat();
        self.all.get_or_create(&labels).inc();
    }
}
