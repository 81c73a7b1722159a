//! Bodies: bytes and JSON in, bounded in size and time, and JSON out.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hgci_core::quantity::format_size;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Failure;
use crate::app::App;

/// How long a body may take to come, from first byte to last.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most bytes that a call takes; beside the limit itself, to be named when it is passed.
#[derive(Clone, Copy)]
pub struct MaxBody(pub usize);

/// A body as it came.
pub struct Raw(pub Bytes);

impl FromRequest<Arc<App>> for Raw {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        let most = request.extensions().get::<MaxBody>().copied();
        match tokio::time::timeout(PATIENCE, Bytes::from_request(request, app)).await {
            Ok(Ok(bytes)) => Ok(Raw(bytes)),
            Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                let most = most.map_or_else(String::new, |MaxBody(most)| {
                    format!(" ({})", format_size(most as u64))
                });
                let error = format!("the body is larger than this call takes{most}");
                Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, error))
            }
            Ok(Err(rejection)) => Err(Failure::bad(format!(
                "the body cannot be read: {}",
                rejection.body_text().to_lowercase()
            ))),
            Err(_elapsed) => {
                let error = format!("the body did not come within {} s", PATIENCE.as_secs());
                Err(Failure::new(StatusCode::REQUEST_TIMEOUT, error))
            }
        }
    }
}

/// JSON, as a body and as an answer.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        // Pages of other sites can make a browser send anything but this without asking us first.
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Failure::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "this call takes content-type: application/json",
            ));
        }
        let Raw(bytes) = Raw::from_request(request, app).await?;
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Json).map_err(|error| {
            Failure::bad(format!("the body is not the JSON that this call takes: {error}"))
        })
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}
