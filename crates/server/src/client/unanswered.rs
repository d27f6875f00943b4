//! Why an endpoint gave no answer, in words that say what to do about it. What libraries say is "transport
//! error"; what was the matter is at the end of a chain of causes.

use std::error::Error;
use std::io;

use tonic::Status;

use super::connection::describe;
use super::{Endpoint, EndpointError};

const SCHEME_HINT: &str = " (where the member speaks TLS, write https:// before it)";

/// TLS 1.3 tells of a certificate that it misses, or does not take, only after the client has begun; what is
/// seen of that is a connection that ends.
const CERTIFICATE_HINT: &str =
    " (where the member asks for a certificate, name one that it takes with --cert and --key)";

impl EndpointError {
    pub(super) fn of_text(endpoint: Endpoint, text: &str) -> Self {
        Self { endpoint, text: text.to_owned(), is_closed: false }
    }

    /// The connection did not come about.
    pub(super) fn of_connection(endpoint: Endpoint, error: &(dyn Error + 'static)) -> Self {
        Self::of_cause(endpoint, error).with_hint("")
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
        if status.source().is_some() { error.with_hint(CERTIFICATE_HINT) } else { error }
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

    /// With what is usually the matter: a port of TLS ends a connection that speaks plainly.
    fn with_hint(mut self, where_secure: &str) -> Self {
        if !self.is_closed {
            let is_secure = self.endpoint.is_secure();
            self.text.push_str(if is_secure { where_secure } else { SCHEME_HINT });
        }
        self
    }
}
