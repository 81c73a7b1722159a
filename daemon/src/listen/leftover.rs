//! What is left of a request's body when it was answered without being read.
//!
//! A client that is still sending when its connection is closed never sees the answer: it is told
//! of a broken pipe instead of what it did wrong. So a little more is taken in.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};
use parking_lot::Mutex;

/// The most bytes that are taken in after the answer is known: what every other call may send.
const MOST: usize = 64 << 10;

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The end of a body that stays here while its request is handled elsewhere.
pub(super) struct Leftover(Option<Arc<Mutex<Incoming>>>);

/// The body as the handler reads it.
struct Lent(Arc<Mutex<Incoming>>);

/// Lends a body out.
pub(super) fn lend(body: Incoming) -> (Body, Leftover) {
    if body.is_end_stream() {
        return (Body::empty(), Leftover(None));
    }
    let body = Arc::new(Mutex::new(body));
    (Body::new(Lent(body.clone())), Leftover(Some(body)))
}

impl Leftover {
    /// Takes in what nobody has read, within limits.
    pub(super) async fn discard(self) {
        let Some(body) = self.0 else { return };
        let mut rest = Lent(body);
        let mut taken = 0;
        let discarding = async {
            while taken < MOST && !rest.is_end_stream() {
                let frame = std::future::poll_fn(|cx| Pin::new(&mut rest).poll_frame(cx)).await;
                let Some(Ok(frame)) = frame else { return };
                taken += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        let _too_slow = tokio::time::timeout(PATIENCE, discarding).await;
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut *self.0.lock()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().size_hint()
    }
}
