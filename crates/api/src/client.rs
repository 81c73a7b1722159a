//! A small blocking client of the daemon, for hook, extension, runner and command line.
//!
//! It speaks HTTP/1.1 over the daemon's Unix socket, or over TCP where the address says so, and
//! keeps its connection between calls. Every call has a limit of time, every answer one of size:
//! what is at the other end may hang, lie or be something else.

use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::config::Config;
use ureq::http::{Method, Request, Response};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::TcpConnector;
use ureq::{Agent, Body, SendBody};

use crate::Problem;
use crate::unix::{NoNames, UnixConnector};

/// The most bytes of a JSON answer, unless [`Client::with_answer_limit`] says otherwise.
pub const MAX_ANSWER: u64 = 16 << 20;

/// The most bytes of an answer that says what went wrong.
const MAX_PROBLEM: u64 = 16 << 10;

/// Why a call has no answer. `place` is the address, for people.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The daemon answered, with a status that is not 2xx.
    #[error("{place}: {error} (status {status})")]
    Refused {
        /// Who said so.
        place: String,
        /// The HTTP status.
        status: u16,
        /// What the daemon says is wrong.
        error: String,
        /// The seconds after which it takes the same call, where it says so.
        retry_after: Option<u32>,
    },
    /// Nobody listens there, or the connection broke before the answer was complete.
    #[error("{place}: not reachable: {source}")]
    Unreachable {
        /// Who was called.
        place: String,
        /// What the system said.
        source: io::Error,
    },
    /// No complete answer in the time that the call had.
    #[error("{place}: no answer in time")]
    TimedOut {
        /// Who was called.
        place: String,
    },
    /// The answer is not what this API answers: not HTTP, not JSON, too large.
    #[error("{place}: not an answer of hgcid: {why}")]
    Garbled {
        /// Who was called.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// What was to be sent could not be read.
    #[error("cannot read what is to be sent: {0}")]
    Source(#[source] io::Error),
}

impl Error {
    /// The status of [`Error::Refused`]; 409 means "let go" to a runner.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// Text that is no address of a daemon.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an address of hgcid: {0:?}; write /PATH/OF/SOCKET or http://HOST:PORT")]
pub struct BadAddress(String);

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// All of it: connecting, sending, waiting, reading the answer.
    Total(Duration),
    /// Each step of it. For bodies of any length: time runs out only when nothing moves.
    Idle(Duration),
}

/// A daemon's address, and the connections to it. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    base: String,
    place: String,
    token: Option<String>,
    answer_limit: u64,
}

/// Without the token, so that no log shows it.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Client {
    /// The daemon behind a Unix socket. Nothing is opened before the first call.
    pub fn unix(socket: impl Into<PathBuf>) -> Client {
        let socket = socket.into();
        let place = socket.display().to_string();
        let agent = Agent::with_parts(config(), UnixConnector::new(socket), NoNames);
        // The name goes into `Host:` and nowhere else.
        Client::new(agent, "http://hgcid".into(), place)
    }

    /// The daemon at `address`: the path of a socket (`/run/hgci/hgcid.sock`, `unix:/run/…`) or
    /// `http://HOST:PORT`.
    pub fn connect(address: &str) -> Result<Client, BadAddress> {
        let path = address.strip_prefix("unix:").unwrap_or(address);
        if path.starts_with('/') {
            return Ok(Client::unix(path));
        }
        let base = address.trim_end_matches('/');
        let host = base.strip_prefix("http://").unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if host.is_empty() || !host.chars().all(plain) {
            return Err(BadAddress(address.chars().take(200).collect()));
        }
        let agent =
            Agent::with_parts(config(), TcpConnector::default(), DefaultResolver::default());
        Ok(Client::new(agent, base.into(), base.into()))
    }

    fn new(agent: Agent, base: String, place: String) -> Client {
        Client { agent, base, place, token: None, answer_limit: MAX_ANSWER }
    }

    /// Sends `Authorization: Bearer TOKEN` with every call. The token is never shown in an error.
    pub fn with_token(mut self, token: &str) -> Client {
        self.token = Some(format!("Bearer {token}"));
        self
    }

    /// Takes no JSON answer above this many bytes.
    pub fn with_answer_limit(mut self, bytes: u64) -> Client {
        self.answer_limit = bytes;
        self
    }

    /// The address, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// `GET`, with the answer read as JSON. `path` starts with `/` and may have a query, its
    /// values encoded by [`crate::query`].
    pub fn get<T: DeserializeOwned>(&self, path: &str, patience: Patience) -> Result<T, Error> {
        let answer = self.call(Method::GET, path, None, SendBody::none(), patience)?;
        self.json(answer)
    }

    /// `POST` of JSON, with the answer read as JSON.
    pub fn post<B, T>(&self, path: &str, body: &B, patience: Patience) -> Result<T, Error>
    where
        B: Serialize + ?Sized,
        T: DeserializeOwned,
    {
        let body = serde_json::to_vec(body).map_err(|e| Error::Source(e.into()))?;
        self.post_as("application/json", path, &body, patience)
    }

    /// `POST` of bytes as they are, with the answer read as JSON.
    pub fn post_bytes<T>(&self, path: &str, body: &[u8], patience: Patience) -> Result<T, Error>
    where
        T: DeserializeOwned,
    {
        self.post_as("application/octet-stream", path, body, patience)
    }

    fn post_as<T>(&self, kind: &str, path: &str, body: &[u8], p: Patience) -> Result<T, Error>
    where
        T: DeserializeOwned,
    {
        let length = body.len();
        let mut reader = body;
        let body = SendBody::from_reader(&mut reader);
        let answer = self.call(Method::POST, path, Some((kind, Some(length))), body, p)?;
        self.json(answer)
    }

    /// `POST` of a stream of unknown length, sent in chunks, with the answer read as JSON.
    pub fn upload<T>(&self, path: &str, body: impl Read, patience: Patience) -> Result<T, Error>
    where
        T: DeserializeOwned,
    {
        // The library has one kind of I/O error for both ends; whose it was matters to callers,
        // since a connection is worth another try and an unreadable file is not.
        let failure = Arc::new(Mutex::new(None));
        let mut source = Watched { inner: body, failure: failure.clone() };
        let body = SendBody::from_reader(&mut source);
        let kind = Some(("application/octet-stream", None));
        let answer = self.call(Method::POST, path, kind, body, patience);
        if let Some(error) = failure.lock().ok().and_then(|mut failure| failure.take()) {
            return Err(Error::Source(error));
        }
        self.json(answer?)
    }

    /// `GET`, with the answer's body as a stream of any length.
    pub fn download(&self, path: &str, patience: Patience) -> Result<Download, Error> {
        let answer = self.call(Method::GET, path, None, SendBody::none(), patience)?;
        Ok(Download { answer })
    }

    /// The body of an answer as JSON, for who wants its headers too.
    pub fn read_json<T: DeserializeOwned>(&self, download: Download) -> Result<T, Error> {
        self.json(download.answer)
    }

    /// `kind`: the body's content type, and its length where that is known.
    fn call(
        &self,
        method: Method,
        path: &str,
        kind: Option<(&str, Option<usize>)>,
        body: SendBody<'_>,
        patience: Patience,
    ) -> Result<Response<Body>, Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some((kind, length)) = kind {
            request = request.header("content-type", kind);
            if let Some(length) = length {
                request = request.header("content-length", length);
            }
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", token);
        }
        let request = request.body(body).map_err(|e| self.garbled(e))?;
        let config = self.agent.configure_request(request);
        let request = match patience {
            Patience::Total(time) => config.timeout_global(Some(time)),
            Patience::Idle(time) => config
                .timeout_connect(Some(time))
                .timeout_recv_response(Some(time))
                .timeout_per_read(Some(time))
                .timeout_per_write(Some(time)),
        }
        .build();
        let answer = self.agent.run(request).map_err(|e| self.failed(e))?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refused(answer)) }
    }

    fn json<T: DeserializeOwned>(&self, mut answer: Response<Body>) -> Result<T, Error> {
        let body = answer.body_mut().with_config().limit(self.answer_limit);
        let bytes = body.read_to_vec().map_err(|e| self.failed(e))?;
        serde_json::from_slice(&bytes).map_err(|e| self.garbled(e))
    }

    /// The daemon's own words, or the start of whatever the body is.
    fn refused(&self, mut answer: Response<Body>) -> Error {
        let status = answer.status();
        let retry_after = answer.headers().get("retry-after");
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let mut bytes = Vec::new();
        // What cannot be read is left out: the status says enough.
        let _ = answer.body_mut().as_reader().take(MAX_PROBLEM).read_to_end(&mut bytes);
        let error = match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => problem.error,
            Err(_) => {
                let text = String::from_utf8_lossy(&bytes);
                let line = text.lines().next().unwrap_or_default().trim();
                let line: String = line.chars().take(200).collect();
                let reason = status.canonical_reason().unwrap_or("refused");
                if line.is_empty() { reason.to_ascii_lowercase() } else { line }
            }
        };
        Error::Refused { place: self.place.clone(), status: status.as_u16(), error, retry_after }
    }

    fn garbled(&self, why: impl fmt::Display) -> Error {
        Error::Garbled { place: self.place.clone(), why: why.to_string() }
    }

    fn failed(&self, error: ureq::Error) -> Error {
        let place = self.place.clone();
        match error {
            ureq::Error::Timeout(_) => Error::TimedOut { place },
            ureq::Error::Io(e) if is_time(&e) => Error::TimedOut { place },
            ureq::Error::Io(source) => Error::Unreachable { place, source },
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
                Error::Unreachable { place, source: io::Error::other(error.to_string()) }
            }
            other => self.garbled(other),
        }
    }
}

fn is_time(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

/// Statuses are ours to read, nothing is followed elsewhere, and no proxy from the environment
/// comes between a hook and its daemon.
fn config() -> Config {
    Config::builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("hgci/", env!("CARGO_PKG_VERSION")))
        .accept("application/json")
        .max_response_header_size(16 << 10)
        .input_buffer_size(64 << 10)
        .output_buffer_size(64 << 10)
        .build()
}

/// A body that comes as a stream. An answer that breaks off is an error of `read`.
#[derive(Debug)]
pub struct Download {
    answer: Response<Body>,
}

impl Download {
    /// A header of the answer, where it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.answer.headers().get(name)?.to_str().ok()
    }

    /// The body.
    pub fn into_reader(self) -> impl Read {
        self.answer.into_body().into_reader()
    }
}

/// A reader that remembers its failure.
struct Watched<R> {
    inner: R,
    failure: Arc<Mutex<Option<io::Error>>>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| {
            let kind = error.kind();
            if let Ok(mut failure) = self.failure.lock() {
                *failure = Some(error);
            }
            kind.into()
        })
    }
}
