//! What each caller may have: `[limits] requests` and `connections`.
//!
//! Hooks and runners have budgets apart from those of people, so that no flood of readers keeps a
//! push from being acknowledged:
//!
//! - a call with the token of its attempt is never counted: there are as many as slots;
//! - hints have ten times the rate of other calls;
//! - what administrators ask of the daemon is never refused;
//! - everything else has `requests` a minute for each account or address, and at most a part of
//!   the connections at a time.
//!
//! `rates` and `busy` count; who is counted as whom is said here.

mod busy;
mod rates;

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use hgci_core::AttemptKey;
use parking_lot::Mutex;

use crate::app::App;
use crate::web::{Failure, Peer, Role, STATUS};
use busy::Busy;
pub use busy::UnderWay;
use rates::Rates;

/// How many times more hints than other calls an account may send.
const HINTS: u32 = 10;

/// The most bytes of a header that names whom a proxy speaks for, and the most entries of it.
const MAX_FORWARDED: usize = 4096;

/// Who is counted as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// An account of this machine.
    Account(u32),
    /// An address, of IPv6 the network that one customer has.
    Address(IpAddr),
    /// Who has no name.
    Nobody,
}

impl Caller {
    /// The other end of a connection.
    pub fn of(peer: &Peer) -> Caller {
        match peer {
            Peer::Local { uid, .. } => Caller::Account(*uid),
            Peer::Remote(address) => Caller::address(*address),
            Peer::Unknown => Caller::Nobody,
        }
    }

    fn address(address: IpAddr) -> Caller {
        Caller::Address(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => {
                // Whoever has one address of a /64 has all of them.
                Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into()
            }
        })
    }

    /// Who a proxy speaks for: the last address of `X-Forwarded-For` that is no proxy's.
    fn behind(proxy: IpAddr, head: &Parts, proxies: &[IpAddr]) -> Caller {
        let named = head.headers.get_all("x-forwarded-for").iter().rev();
        let entries = named
            .filter_map(|value| value.to_str().ok())
            .filter(|value| value.len() <= MAX_FORWARDED)
            .flat_map(|value| value.rsplit(','))
            .map(|entry| entry.trim().parse::<IpAddr>().ok().map(|address| address.to_canonical()));
        // What is no address was not written by a proxy of ours.
        let mut known = entries.take_while(Option::is_some).flatten();
        let first = known.find(|address| !proxies.contains(address));
        Caller::address(first.unwrap_or(proxy))
    }
}

/// Whose budget a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A hook tells of a push.
    Hook,
    /// A runner, with the token of its attempt.
    Attempt(AttemptKey),
    /// An administrator, or a supervisor on this machine.
    Steward,
    /// Everybody else.
    People,
}

impl Class {
    /// The class of a call. Nothing but the token of an attempt is believed.
    pub fn of(app: &App, peer: &Peer, head: &Parts) -> Class {
        let path = head.uri.path();
        if let Some(rest) = path.strip_prefix("/api/v1/attempts/") {
            return match authorized(app, rest, head) {
                Some(attempt) => Class::Attempt(attempt),
                None => Class::People,
            };
        }
        match peer {
            Peer::Local { .. } if path == hgci_api::hook::HINTS => Class::Hook,
            Peer::Local { .. } if path == "/healthz" => Class::Steward,
            Peer::Local { .. }
                if path.starts_with(STATUS) && app.current().access.allows(peer, Role::Admin) =>
            {
                Class::Steward
            }
            _ => Class::People,
        }
    }
}

/// The attempt whose token a call shows.
fn authorized(app: &App, path: &str, head: &Parts) -> Option<AttemptKey> {
    let attempt: AttemptKey = path.split('/').next()?.parse().ok()?;
    let shown = head.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let token = shown.strip_prefix("Bearer ")?;
    app.tokens.fits(attempt, token).then_some(attempt)
}

/// Why a call was refused before it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too many of this caller's in a minute; the seconds after which to try again.
    Rate(u32),
    /// Too many at the same time.
    Busy,
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Failure {
        match refused {
            Refused::Rate(seconds) => Failure::new(
                StatusCode::TOO_MANY_REQUESTS,
                format!("too many calls ([limits] requests); try again in {seconds} s"),
            )
            .after(seconds),
            Refused::Busy => Failure::later("too many calls are under way ([limits] connections)"),
        }
    }
}

/// What is counted of a socket.
#[derive(Debug)]
pub struct Limits {
    since: Instant,
    people: Mutex<Rates>,
    hooks: Mutex<Rates>,
    busy: Busy,
}

impl Limits {
    /// Nothing counted yet.
    pub fn start() -> Limits {
        Limits {
            since: Instant::now(),
            people: Mutex::default(),
            hooks: Mutex::default(),
            busy: Busy::default(),
        }
    }

    /// Takes a call in. What it returns is to be kept until its answer is sent.
    pub fn admit(
        &self,
        app: &App,
        class: Class,
        peer: &Peer,
        head: &Parts,
    ) -> Result<Option<UnderWay>, Refused> {
        let (rates, factor) = match class {
            Class::Attempt(_) | Class::Steward => return Ok(None),
            Class::Hook => (&self.hooks, HINTS),
            Class::People => (&self.people, 1),
        };
        let current = app.current();
        let limits = &current.config.limits;
        let proxies = current.config.web.as_ref().map_or(&[][..], |web| &web.proxies);
        let caller = match peer {
            Peer::Remote(address) if proxies.contains(address) => {
                Caller::behind(*address, head, proxies)
            }
            _ => Caller::of(peer),
        };
        let now = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let per_minute = limits.requests.saturating_mul(factor);
        rates.lock().take(caller, per_minute, now).map_err(|wait| Refused::Rate(seconds(wait)))?;
        if class == Class::Hook {
            return Ok(None);
        }
        let Shares { people, people_each, .. } = Shares::of(limits.connections, may_have_all(peer));
        self.busy.start(caller, people, people_each).map(Some).ok_or(Refused::Busy)
    }
}

/// How the connections of a socket are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// What one caller may have.
    pub each: u32,
    /// What calls of people may take of all.
    pub people: u32,
    /// What those of one caller may.
    pub people_each: u32,
}

impl Shares {
    /// Divides so many connections: with three quarters of them busy with calls of people, a
    /// quarter is left for hooks, and so is a part of what each caller may have.
    pub fn of(connections: u32, all: bool) -> Shares {
        let people = connections - connections / 4;
        match all {
            true => Shares { each: connections, people, people_each: people },
            false => Shares {
                each: connections / 2,
                people,
                people_each: connections / 2 - connections / 8,
            },
        }
    }
}

/// Whether a caller may have all that there is: the daemon's own account, and root.
fn may_have_all(peer: &Peer) -> bool {
    match peer {
        Peer::Local { uid, .. } => *uid == 0 || *uid == rustix::process::geteuid().as_raw(),
        Peer::Remote(_) | Peer::Unknown => false,
    }
}

/// What one end of a connection may have of so many.
pub fn share(app: &App, peer: &Peer) -> u32 {
    let current = app.current();
    let web = current.config.web.as_ref();
    // A proxy has the connections of all whom it speaks for.
    let proxy = match peer {
        Peer::Remote(address) => web.is_some_and(|web| web.proxies.contains(address)),
        _ => false,
    };
    Shares::of(current.config.limits.connections, proxy || may_have_all(peer)).each
}

/// Whole seconds, at least one.
fn seconds(wait: Duration) -> u32 {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    u32::try_from(whole.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(forwarded: &[&str]) -> Caller {
        let mut request = axum::http::Request::builder();
        for value in forwarded {
            request = request.header("x-forwarded-for", *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let proxies = ["127.0.0.1", "10.0.0.1"].map(|text| text.parse().unwrap());
        Caller::behind(proxies[0], &head, &proxies)
    }

    fn address(text: &str) -> Caller {
        Caller::Address(text.parse().unwrap())
    }

    #[test]
    fn a_proxy_is_believed_about_the_last_who_is_none() {
        assert_eq!(behind(&["192.0.2.7"]), address("192.0.2.7"));
        assert_eq!(behind(&["192.0.2.7, 10.0.0.1"]), address("192.0.2.7"));
        assert_eq!(behind(&["192.0.2.7", "10.0.0.1"]), address("192.0.2.7"));
        // What a client wrote before is anything.
        assert_eq!(behind(&["198.51.100.1, 192.0.2.7"]), address("192.0.2.7"));
        assert_eq!(behind(&["192.0.2.7, rubbish"]), address("127.0.0.1"));
        assert_eq!(behind(&[]), address("127.0.0.1"));
        assert_eq!(behind(&["10.0.0.1"]), address("127.0.0.1"));
    }

    #[test]
    fn addresses_of_one_network_are_one_caller() {
        let caller = |text: &str| Caller::of(&Peer::Remote(text.parse().unwrap()));
        assert_eq!(caller("2001:db8::1"), caller("2001:db8::ffff:1"));
        assert_ne!(caller("2001:db8::1"), caller("2001:db8:0:1::1"));
        assert_ne!(caller("192.0.2.1"), caller("192.0.2.2"));
    }

    #[test]
    fn something_is_left_for_hooks_of_any_number_of_connections() {
        for connections in 8..1000 {
            for all in [true, false] {
                let Shares { each, people, people_each } = Shares::of(connections, all);
                assert!(people < connections && people_each < each && each <= connections);
                assert!(people_each <= people && people_each > 0, "{connections}");
            }
        }
    }
}
