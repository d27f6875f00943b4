//! Why an endpoint gave no answer, in words that say what to do about it. What libraries say is "transport
//! error"; what was the matter is at the end of a chain of causes.

use std::error::Error;
use std::io;

use tonic::Status;

use super::connection::describe;
use super::{Endpoint, EndpointError};

impl EndpointError {
    pub(super) fn of_text(endpoint: Endpoint, text: &str) -> Self {
        Self { endpoint, text: text.to_owned(), is_closed: false }
    }

    /// The connection did not come about.
    pub(super) fn of_connection(endpoint: Endpoint, error: &(dyn Error + 'static)) -> Self {
        Self::of_cause(endpoint, error).with_hint()
    }

    /// What a member said; or, where none did, what was the matter with the connection.
    pub(super) fn of_status(endpoint: Endpoint, status: &Status) -> Self {
        match status.source() {
            Some(source) => Self::of_cause(endpoint, source),
            None => Self::of_text(endpoint, &describe(status)),
        }
    }

    /// The same of the first request on a connection.
    pub(super) fn of_first_status(endpoint: Endpoint, status: &Status) -> Self {
        let error = Self::of_status(endpoint, status);
        if status.source().is_some() { error.with_hint() } else { error }
    }

    fn of_cause(endpoint: Endpoint, error: &(dyn Error + 'static)) -> Self {
        let (mut cause, mut is_closed) = (error, false);
        loop {
            let io = cause.downcast_ref::<io::Error>();
            is_closed |= io.is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused);
            match cause.source() {
                Some(source) => cause = source,
                None => break,
            }
        }
        Self { endpoint, text: cause.to_string(), is_closed }
    }

    fn with_hint(mut self) -> Self {
        if !self.is_closed {
            self.text.push_str(hint(&self.endpoint, &self.text));
        }
        self
    }
}

/// What is usually the matter. A port of TLS ends a connection that speaks plainly, and TLS 1.3 tells of a
/// certificate that it misses only after the client has begun.
fn hint(endpoint: &Endpoint, text: &str) -> &'static str {
    const ALERTS: [&str; 2] = ["CertificateRequired", "certificate required"];
    if !endpoint.is_secure() {
        return " (where the member speaks TLS, write https:// before it)";
    }
    match ALERTS.iter().any(|alert| text.contains(alert)) {
        true => " (it asks for a certificate: name one with --cert and --key)",
        false => "",
    }
}
