//! etcd's API in JSON, under `/v3/`: what is asked becomes the same call that a gRPC client would have
//! made, within this process, and its answer becomes JSON again. So every check and every text is the
//! same, and no method is known here but by its name in the table of routes.
//!
//! The conventions are grpc-gateway's: names of fields as in the `.proto` files, 64-bit numbers as
//! strings, bytes in base64, what is unknown is passed over and what is empty left out; streams are
//! one object a line.
//!
//! CAVEATS. No WebSockets. Of metadata, `Authorization`, `Grpc-Timeout` and `Grpc-Metadata-...` are passed
//! on. Of a field that is given twice the last one counts; grpc-gateway refuses it.

mod call;
mod json;
mod routes;
mod stream;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http_body_util::LengthLimitError;
use prost_reflect::MethodDescriptor;
use tonic::{Code, Status};

use crate::api::etcd::CountedServices;
use call::call;
use stream::answer_lines;

/// A body in JSON may be so many times as long as the message that it stands for: bytes are a third
/// longer in base64, and names and numbers are words.
const JSON_TIMES_MAX: usize = 4;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gateway {
    services: CountedServices,
    body_bytes_max: usize,
}

/// The pages under `/v3/`; messages to the services may have so many bytes.
pub(crate) fn pages(services: CountedServices, message_bytes_max: usize) -> Router {
    let body_bytes_max = message_bytes_max.saturating_mul(JSON_TIMES_MAX);
    let gateway = Gateway { services, body_bytes_max };
    Router::new().route("/v3/{*path}", any(handle)).with_state(gateway)
}

async fn handle(
    State(gateway): State<Gateway>,
    Path(path): Path<String>,
    request: Request,
) -> Response {
    gateway.serve(&path, request).await.unwrap_or_else(|status| refusal(&status))
}

impl Gateway {
    async fn serve(self, path: &str, request: Request) -> Result<Response, Status> {
        let route = routes::find(path).ok_or_else(|| Status::not_found("Not Found"))?;
        if request.method() != Method::POST {
            return Err(Status::unimplemented("Method Not Allowed"));
        }
        let unknown = || Status::unimplemented("unknown service or method");
        let method = route.method().ok_or_else(unknown)?;
        if method.is_client_streaming() || method.is_server_streaming() {
            return self.stream(method, request).await;
        }
        let (head, body) = request.into_parts();
        let message = self.one_message(&method, body).await?;
        let body = Body::from(call::frame(&message));
        let mut answers = call(self.services, &method, &head.headers, body).await?;
        let answer = answers.next().await?;
        let answer = answer.ok_or_else(|| Status::internal("there is no answer"))?;
        // The status comes after the answer.
        answers.finish().await?;
        Ok(page(StatusCode::OK, json::from_message(method.output(), answer)?))
    }

    async fn stream(self, method: MethodDescriptor, request: Request) -> Result<Response, Status> {
        let (head, body) = request.into_parts();
        let body = if method.is_client_streaming() {
            stream::messages_of(method.input(), body, self.body_bytes_max)
        } else {
            Body::from(call::frame(&self.one_message(&method, body).await?))
        };
        let called = call(self.services, &method, &head.headers, body).await;
        let first = match called {
            Ok(mut answers) => match answers.next().await {
                Ok(Some(first)) => Ok((answers, first)),
                Ok(None) => return Ok(page(StatusCode::OK, Vec::new())),
                Err(status) => Err(status),
            },
            Err(status) => Err(status),
        };
        match first {
            Ok((answers, first)) => Ok(answer_lines(method.output(), answers, first)),
            // An error before the first answer has a status of HTTP, and the form of a stream.
            Err(status) => Ok(page(http_status(status.code()), json::error_line(&status))),
        }
    }

    /// The only message of the request; empty where there is none.
    async fn one_message(&self, method: &MethodDescriptor, body: Body) -> Result<Bytes, Status> {
        let read = to_bytes(body, self.body_bytes_max).await;
        let bytes = read.map_err(|error| match error.into_inner().is::<LengthLimitError>() {
            true => too_large(self.body_bytes_max),
            false => Status::invalid_argument("unexpected EOF"),
        })?;
        json::to_message(method.input(), &bytes)
    }
}

fn too_large(limit: usize) -> Status {
    Status::resource_exhausted(format!("the request has more than {limit} bytes"))
}

fn refusal(status: &Status) -> Response {
    let mut response = page(http_status(status.code()), json::error(status));
    if status.code() == Code::Unauthenticated
        && let Ok(text) = HeaderValue::from_str(status.message())
    {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, text);
    }
    response
}

fn page(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

/// grpc-gateway's table.
fn http_status(code: Code) -> StatusCode {
    /// A client that has gone away; nginx's number.
    const CLIENT_CLOSED_REQUEST: u16 = 499;
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => {
            StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        }
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
