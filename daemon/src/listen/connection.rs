//! One connection: HTTP/1.1 with a limit on everything that a client decides.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use axum::http::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service as _;

use super::Serving;
use super::gate::Seat;
use super::held::until_sent;
use super::leftover;
use super::stall::Stalling;
use crate::limits::{Class, Refused};
use crate::metrics::{Calls, Why};
use crate::web::{Failure, Peer};

/// How long a request's head may take, from the end of the one before: so idle connections are
/// closed, too. Clients open another.
const HEAD: Duration = Duration::from_secs(30);

/// How long a client may not read its answer.
const STALL: Duration = Duration::from_secs(60);

/// The most bytes of a request's head: 1000 changesets fit into a query.
const MAX_HEAD: usize = 64 << 10;

/// The most bytes that a connection buffers in each direction.
const MAX_BUFFER: usize = 128 << 10;

/// Connections of runners for each slot: one, and some that are being given up after a fault.
const RUNNERS: u32 = 4;

/// Serves a connection until either end closes it, until somebody else needs its seat, or until
/// the daemon stops and what is under way has been answered.
pub(super) async fn serve<S>(stream: S, peer: Peer, seat: Seat, serving: Serving)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let calls = serving.app.metrics.calls(serving.door);
    let _open = Open::new(calls);
    let seat = Arc::new(seat);
    let service = service_fn(|request| answer(request, &peer, &seat, &serving));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_header_size(MAX_HEAD)
            .max_buf_size(MAX_BUFFER)
            .serve_connection(TokioIo::new(Stalling::new(stream, STALL)), service)
    );
    let mut stopped = serving.stopped.clone();
    let mut stopping = false;
    loop {
        tokio::select! {
            outcome = connection.as_mut() => {
                if let Err(error) = outcome {
                    serving.cut(&peer, &error);
                }
                return;
            }
            () = seat.closing() => {
                calls.refused(Why::Idle);
                return;
            }
            _ = stopped.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Answers one request, unless the caller has had its part.
async fn answer(
    request: Request<Incoming>,
    peer: &Peer,
    seat: &Arc<Seat>,
    serving: &Serving,
) -> Result<Response, Infallible> {
    let calls = serving.app.metrics.calls(serving.door);
    let (mut head, body) = request.into_parts();
    let (body, leftover) = leftover::lend(body);
    let mut answer = match admit(&mut head, peer, seat, serving) {
        Ok(until) => {
            let Ok(answer) = serving.routes.clone().call(Request::from_parts(head, body)).await;
            until_sent(answer, until)
        }
        Err(refused) => {
            calls.refused(match refused {
                Refused::Rate(_) => Why::Rate,
                Refused::Busy => Why::Busy,
            });
            Failure::from(refused).into_response()
        }
    };
    // No browser takes an answer for something else than it is said to be.
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    calls.answered(answer.status().as_u16());
    leftover.discard().await;
    Ok(answer)
}

/// What is to be kept until the answer is sent.
fn admit(
    head: &mut Parts,
    peer: &Peer,
    seat: &Arc<Seat>,
    serving: &Serving,
) -> Result<impl Send + Unpin + use<>, Refused> {
    let app = &serving.app;
    let class = Class::of(app, peer, head);
    if let Class::Attempt(attempt) = class {
        let slots: u32 = app.current().config.pools.iter().map(|pool| pool.slots).sum();
        seat.is_runner(slots.saturating_mul(RUNNERS).saturating_add(16));
        head.extensions.insert(attempt);
    }
    head.extensions.insert(peer.clone());
    let using = seat.begin().ok_or(Refused::Busy)?;
    Ok((serving.limits.admit(app, class, peer, head)?, using))
}

/// A connection that is counted as open, and as closed when it is dropped in whichever way.
struct Open<'m>(&'m Calls);

impl Open<'_> {
    fn new(calls: &Calls) -> Open<'_> {
        calls.connections.one();
        Open(calls)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.closed.one();
    }
}

impl Serving {
    /// Says that a connection was cut, and why.
    fn cut(&self, peer: &Peer, error: &hyper::Error) {
        let why = match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        // A client that goes away, or is idle for long, has done nothing wrong.
        if !error.is_parse() {
            tracing::debug!(%peer, %why, "a connection was cut");
            return;
        }
        self.app.metrics.calls(self.door).refused(Why::Malformed);
        if let Some(unsaid) = self.complaints.next() {
            tracing::warn!(%peer, %why, unsaid, "what came is no HTTP, and its connection was cut");
        }
    }
}

/// The answer to who finds no seat, as bytes.
pub(super) fn full() -> Vec<u8> {
    let body = "{\"error\":\"too many connections ([limits] connections)\"}";
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
                retry-after: 1\r\nconnection: close\r\n";
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
