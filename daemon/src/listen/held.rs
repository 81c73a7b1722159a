//! An answer's body that holds on to something until it is sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

/// Answers up to this size are as good as sent once they are known.
const SMALL: u64 = 64 << 10;

struct Held<T> {
    body: Body,
    _until_sent: T,
}

/// Keeps something until the answer is sent, or its connection is closed.
pub(super) fn until_sent<T: Send + Unpin + 'static>(answer: Response, what: T) -> Response {
    match answer.body().size_hint().exact() {
        Some(size) if size <= SMALL => answer,
        _ => answer.map(|body| Body::new(Held { body, _until_sent: what })),
    }
}

impl<T: Unpin> HttpBody for Held<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
