//! The least of an HTTP/1.1 client: one request a connection, and every byte in the open.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// All header lines, as they came.
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Reads a page.
pub(crate) async fn get(address: &str, path: &str) -> Answer {
    ask(address, "GET", path, &[], "").await
}

/// Makes a request and reads its answer to the end.
pub(crate) async fn ask(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    let asked = timeout(PATIENCE, async {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it takes requests");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("it answers");
        String::from_utf8(answer).expect("it answers in text")
    });
    let text = asked.await.unwrap_or_else(|_| panic!("no answer in time: {method} {path}"));
    let (head, rest) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let (line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status: {line}"));
    let mut answer = Answer { status, headers: headers.to_owned(), body: rest.to_owned() };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = unchunked(&answer.body);
    }
    answer
}

/// An answer that goes on, of one JSON object a line.
pub(crate) struct Objects {
    stream: BufReader<TcpStream>,
}

impl Objects {
    /// Posts a request whose answer is read as it comes.
    pub(crate) async fn post(address: &str, path: &str, body: &str) -> Self {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it takes requests");
        Self { stream: BufReader::new(stream) }
    }

    /// The next object. Between two of them are the lengths of chunks.
    pub(crate) async fn next(&mut self) -> serde_json::Value {
        let reading = async {
            loop {
                let mut line = String::new();
                let bytes = self.stream.read_line(&mut line).await.expect("it answers in text");
                assert!(bytes > 0, "the answer has ended");
                if line.starts_with('{') {
                    return serde_json::from_str(&line).expect("an object a line");
                }
            }
        };
        timeout(PATIENCE, reading).await.expect("the answer goes on")
    }
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).expect("a chunk has a length");
        body.push_str(&after[..length]);
        rest = &after[(length + 2).min(after.len())..];
    }
    body
}
