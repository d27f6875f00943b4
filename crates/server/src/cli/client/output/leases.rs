//! Leases, as they are printed: in etcdctl's words.

use serde_json::{Map, Value, json};

use super::{Output, insert_bytes};
use crate::client::ClientError;
use crate::proto::etcdserverpb as wire;

impl Output {
    pub(in crate::cli::client) fn lease_granted(
        &self,
        granted: &wire::LeaseGrantResponse,
    ) -> Result<(), ClientError> {
        let wire::LeaseGrantResponse { id, ttl, .. } = granted;
        let text = || format!("lease {id:016x} granted with TTL({ttl}s)\n").into_bytes();
        self.print(text, || json!({ "lease": number(*id), "ttl": ttl }))
    }

    pub(in crate::cli::client) fn lease_revoked(&self, id: i64) -> Result<(), ClientError> {
        let text = || format!("lease {id:016x} revoked\n").into_bytes();
        self.print(text, || json!({ "lease": number(id) }))
    }

    pub(in crate::cli::client) fn lease_renewed(
        &self,
        renewed: &wire::LeaseKeepAliveResponse,
    ) -> Result<(), ClientError> {
        let wire::LeaseKeepAliveResponse { id, ttl, .. } = renewed;
        let text = || format!("lease {id:016x} keepalived with TTL({ttl})\n").into_bytes();
        self.print(text, || json!({ "lease": number(*id), "ttl": ttl }))
    }

    pub(in crate::cli::client) fn lease_time_to_live(
        &self,
        lease: &wire::LeaseTimeToLiveResponse,
        keys: bool,
    ) -> Result<(), ClientError> {
        self.print(|| time_to_live_text(lease, keys), || time_to_live_json(lease, keys))
    }

    pub(in crate::cli::client) fn leases(
        &self,
        response: &wire::LeaseLeasesResponse,
    ) -> Result<(), ClientError> {
        let text = || {
            let numbers = response.leases.iter().map(|lease| format!("{:016x}\n", lease.id));
            let count = format!("found {} leases\n", response.leases.len());
            std::iter::once(count).chain(numbers).collect::<String>().into_bytes()
        };
        let json = || {
            let numbers = response.leases.iter().map(|lease| number(lease.id));
            json!({ "leases": numbers.collect::<Vec<_>>() })
        };
        self.print(text, json)
    }
}

fn time_to_live_text(lease: &wire::LeaseTimeToLiveResponse, keys: bool) -> Vec<u8> {
    let wire::LeaseTimeToLiveResponse { id, ttl, granted_ttl, .. } = lease;
    if *ttl < 0 {
        return format!("lease {id:016x} already expired\n").into_bytes();
    }
    let mut text =
        format!("lease {id:016x} granted with TTL({granted_ttl}s), remaining({ttl}s)").into_bytes();
    if keys {
        text.extend_from_slice(b", attached keys([");
        text.extend_from_slice(&lease.keys.join(&b' '));
        text.extend_from_slice(b"])");
    }
    text.push(b'\n');
    text
}

fn time_to_live_json(lease: &wire::LeaseTimeToLiveResponse, keys: bool) -> Value {
    let wire::LeaseTimeToLiveResponse { id, ttl, granted_ttl, .. } = lease;
    let mut object = json!({ "lease": number(*id), "ttl": ttl, "granted_ttl": granted_ttl });
    if keys {
        let keys = lease.keys.iter().map(|key| {
            let mut object = Map::new();
            insert_bytes(&mut object, "key", key);
            Value::Object(object)
        });
        object["keys"] = keys.collect();
    }
    object
}

/// A lease, as commands take it.
pub(super) fn number(id: i64) -> String {
    format!("{id:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_shown_in_the_words_of_etcdctl() {
        let lease = wire::LeaseTimeToLiveResponse {
            header: None,
            id: 0x1234,
            ttl: 9,
            granted_ttl: 10,
            keys: vec!["a".into(), "b".into()],
        };
        let text = |lease: &wire::LeaseTimeToLiveResponse, keys| {
            String::from_utf8(time_to_live_text(lease, keys)).expect("text")
        };
        let without = "lease 0000000000001234 granted with TTL(10s), remaining(9s)";
        assert_eq!(text(&lease, false), format!("{without}\n"));
        assert_eq!(text(&lease, true), format!("{without}, attached keys([a b])\n"));
        let gone = wire::LeaseTimeToLiveResponse { ttl: -1, granted_ttl: 0, ..lease };
        assert_eq!(text(&gone, true), "lease 0000000000001234 already expired\n");
    }
}
