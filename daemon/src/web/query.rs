//! Queries in which keys may come more than once, and what is in the path.

use std::convert::Infallible;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use hgci_api::list::{MAX_PAGE, PAGE};

use super::Failure;

/// The query of a call.
pub struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let text = parts.uri.query().unwrap_or_default();
        Ok(Query(form_urlencoded::parse(text.as_bytes()).into_owned().collect()))
    }
}

impl Query {
    /// Every value of a key.
    pub fn all<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The value of a key, if it is there.
    pub fn any(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// The value of a key that must be there.
    pub fn one(&self, key: &str) -> Result<&str, Failure> {
        self.any(key).ok_or_else(|| Failure::bad(format!("the query has no {key}")))
    }

    /// The number of a key, if it is there.
    pub fn number<N: FromStr>(&self, key: &str) -> Result<Option<N>, Failure> {
        let parse = |text: &str| text.parse().map_err(|_| not_a_number(key));
        self.any(key).map(parse).transpose()
    }

    /// Which part of a list that is counted down: below which number, and how much of it.
    pub fn page_below(&self) -> Result<(u64, usize), Failure> {
        Ok((self.number("after")?.unwrap_or(u64::MAX), self.limit()?))
    }

    /// How much of a list.
    pub fn limit(&self) -> Result<usize, Failure> {
        let limit = self.number("limit")?.unwrap_or(PAGE);
        match (1..=MAX_PAGE).contains(&limit) {
            true => Ok(limit),
            false => Err(Failure::bad(format!("limit is not from 1 to {MAX_PAGE}"))),
        }
    }
}

fn not_a_number(key: &str) -> Failure {
    Failure::bad(format!("{key} is no number that fits"))
}

/// What is in the path, in its order.
pub struct InPath<T>(pub T);

impl<S: Send + Sync> FromRequestParts<S> for InPath<u64> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(id) =
            Path::<String>::from_request_parts(parts, state).await.map_err(unreadable)?;
        Ok(InPath(number(&id)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InPath<(u64, String)> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let both = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((id, name)) = both.map_err(unreadable)?;
        Ok(InPath((number(&id)?, name)))
    }
}

fn number(text: &str) -> Result<u64, Failure> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| digits);
    number.ok_or_else(|| Failure::unknown(format!("{text:?} is no number of anything here")))
}

fn unreadable(error: impl ToString) -> Failure {
    Failure::bad(error)
}
