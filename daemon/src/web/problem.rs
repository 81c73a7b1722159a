//! Errors as answers: a status and one JSON sentence.

use std::fmt;

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use hgci_api::Problem;

use crate::intake::{NotDone, NotTaken};
use crate::scheduler::NotRecorded;

/// When a call that cannot be taken now may be repeated, unless it is said better.
const SOON: u32 = 1;

/// An answer that is not the one hoped for.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    error: String,
    /// Seconds after which the same call may be repeated.
    retry: Option<u32>,
}

impl Failure {
    /// With this status.
    pub fn new(status: StatusCode, error: impl ToString) -> Failure {
        Failure { status, error: error.to_string(), retry: None }
    }

    /// The same, with the seconds after which the call may be repeated.
    pub fn after(self, seconds: u32) -> Failure {
        Failure { retry: Some(seconds), ..self }
    }

    /// 400: what came cannot be understood.
    pub fn bad(error: impl ToString) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, error)
    }

    /// 403: the account may not.
    pub fn forbidden(error: impl ToString) -> Failure {
        Failure::new(StatusCode::FORBIDDEN, error)
    }

    /// 404: there is no such thing.
    pub fn unknown(error: impl ToString) -> Failure {
        Failure::new(StatusCode::NOT_FOUND, error)
    }

    /// 409: the attempt is not the caller's any more.
    pub fn let_go() -> Failure {
        Failure::new(StatusCode::CONFLICT, "this attempt is not yours any more; let it go")
    }

    /// 503: not now; the same call may be repeated.
    pub fn later(error: impl ToString) -> Failure {
        Failure { retry: Some(SOON), ..Failure::new(StatusCode::SERVICE_UNAVAILABLE, error) }
    }

    /// 500: ours, and said in the daemon's log as well.
    pub fn ours(error: impl ToString) -> Failure {
        let error = error.to_string();
        tracing::error!(%error, "a request failed");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl From<NotRecorded> for Failure {
    fn from(error: NotRecorded) -> Failure {
        Failure::later(error)
    }
}

impl From<NotTaken> for Failure {
    fn from(error: NotTaken) -> Failure {
        match error {
            NotTaken::NotServed(_) => Failure::unknown(error),
            NotTaken::Malformed(_) => Failure::bad(error),
            NotTaken::NotRecorded(_) => Failure::later(error),
        }
    }
}

impl From<NotDone> for Failure {
    fn from(error: NotDone) -> Failure {
        match error {
            NotDone::NotTaken(error) => error.into(),
            NotDone::Forbidden(_) => Failure::forbidden(error),
            NotDone::Unknown(_) => Failure::unknown(error),
            NotDone::Conflict(_) => Failure::new(StatusCode::CONFLICT, error),
            NotDone::Unfit(_) => Failure::new(StatusCode::UNPROCESSABLE_ENTITY, error),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let retry = self.retry.map(|seconds| [(RETRY_AFTER, seconds.to_string())]);
        (self.status, retry, axum::Json(Problem { error: self.error })).into_response()
    }
}
