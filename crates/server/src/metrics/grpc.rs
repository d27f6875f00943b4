//! Of clients' calls, under the names that Go's gRPC middleware gives them. All methods have their
//! lines from the start, so that a call is counted by an index and an atomic.

use std::collections::HashMap;
use std::time::Instant;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tonic::Code;

use super::Labels;
use crate::proto::{Method, methods};

/// Go's names of the codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// The buckets of Go's middleware, in seconds.
const HANDLING_SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// See the module.
#[derive(Debug)]
pub(crate) struct GrpcMetrics {
    methods: HashMap<String, MethodMetrics>,
    received_bytes: Counter,
    sent_bytes: Counter,
}

#[derive(Clone, Debug)]
struct MethodMetrics {
    started: Counter,
    /// By code.
    handled: Vec<Counter>,
    handling: Option<Histogram>,
}

/// A call under way. Dropped without an end it was given up by its client.
#[derive(Debug)]
pub(crate) struct Call {
    method: Option<MethodMetrics>,
    received_bytes: Counter,
    sent_bytes: Counter,
    began: Instant,
}

impl GrpcMetrics {
    pub(super) fn register(registry: &mut Registry, extensive: bool) -> Self {
        let (started, handled) =
            (Family::<Labels, Counter>::default(), Family::<Labels, Counter>::default());
        let handling: Family<Labels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(HANDLING_SECONDS));
        let mut by_path = HashMap::new();
        for Method { path, kind } in methods() {
            let (service, method) =
                path.trim_start_matches('/').split_once('/').unwrap_or_default();
            // In the order of their names, as Go's library writes them: some look for whole lines.
            let labels = [
                ("grpc_method", method.to_owned()),
                ("grpc_service", service.to_owned()),
                ("grpc_type", kind.name().to_owned()),
            ];
            let with_code = |code: &&str| {
                let labels = [&[("grpc_code", (*code).to_owned())], &labels[..]].concat();
                handled.get_or_create_owned(&labels)
            };
            let metrics = MethodMetrics {
                started: started.get_or_create_owned(&labels.to_vec()),
                handled: CODES.iter().map(with_code).collect(),
                handling: extensive.then(|| handling.get_or_create_owned(&labels.to_vec())),
            };
            by_path.insert(path, metrics);
        }
        registry.register("grpc_server_started", "Calls that began", started);
        registry.register("grpc_server_handled", "Calls that ended, by their code", handled);
        if extensive {
            registry.register("grpc_server_handling_seconds", "Seconds that calls took", handling);
        }
        let (received_bytes, sent_bytes) = (Counter::default(), Counter::default());
        let help = "Bytes that clients sent";
        let name = "etcd_network_client_grpc_received_bytes";
        registry.register(name, help, received_bytes.clone());
        let help = "Bytes that clients were sent";
        registry.register("etcd_network_client_grpc_sent_bytes", help, sent_bytes.clone());
        Self { methods: by_path, received_bytes, sent_bytes }
    }

    /// A call of this path begins.
    pub(crate) fn begin(&self, path: &str) -> Call {
        let method = self.methods.get(path).cloned();
        if let Some(method) = &method {
            method.started.inc();
        }
        Call {
            method,
            received_bytes: self.received_bytes.clone(),
            sent_bytes: self.sent_bytes.clone(),
            began: Instant::now(),
        }
    }
}

impl Call {
    /// What counts the bytes that come from the client.
    pub(crate) fn received_bytes(&self) -> Counter {
        self.received_bytes.clone()
    }

    /// So many more bytes went to the client.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent_bytes.inc_by(bytes as u64);
    }

    /// It ended. Only the first end counts.
    pub(crate) fn end(&mut self, code: Code) {
        if let Some(method) = self.method.take() {
            if let Some(count) = method.handled.get(code as usize) {
                count.inc();
            }
            if let Some(handling) = method.handling {
                handling.observe(self.began.elapsed().as_secs_f64());
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}
