//! The table of calls: the router, and a list of what it serves that can be compared with what is
//! documented.

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};

use super::Failure;
use super::body::MaxBody;
use crate::app::App;

/// A router that remembers its routes.
#[derive(Default)]
pub struct Routes {
    router: Router<Arc<App>>,
    calls: Vec<(&'static str, String)>,
}

impl Routes {
    /// A call without a body.
    pub fn get<H, T>(mut self, path: impl Into<String>, handler: H) -> Routes
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let path = path.into();
        self.router = self.router.route(&path, get(handler));
        self.calls.push(("get", path));
        self
    }

    /// A call with a body of at most `max` bytes.
    pub fn post<H, T>(mut self, path: impl Into<String>, max: usize, handler: H) -> Routes
    where
        H: Handler<T, Arc<App>>,
        T: 'static,
    {
        let path = path.into();
        let limits = (DefaultBodyLimit::max(max), Extension(MaxBody(max)));
        let route: MethodRouter<Arc<App>> = post(handler).layer(limits);
        self.router = self.router.route(&path, route);
        self.calls.push(("post", path));
        self
    }

    /// Every method and path, as they were added.
    pub fn into_calls(self) -> Vec<(&'static str, String)> {
        self.calls
    }

    /// The router. What it does not know is a problem, too.
    pub fn into_router(self, app: Arc<App>) -> Router {
        self.router
            .fallback(async || {
                Failure::unknown("there is no such call; /api/v1/openapi.json lists what there is")
            })
            .method_not_allowed_fallback(async || {
                let error = "this call takes another method; see /api/v1/openapi.json";
                Failure::new(StatusCode::METHOD_NOT_ALLOWED, error)
            })
            .with_state(app)
    }
}
