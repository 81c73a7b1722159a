//! Who is calling, and what that account may do and see.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::Failure;
use crate::accounts;
use crate::app::App;
use crate::config::{Config, Who};
use crate::intake::Served;

/// The other end of a connection, as the kernel vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process of this machine, by `SO_PEERCRED`.
    Local {
        /// Its effective user id.
        uid: u32,
        /// Its effective group id, and those of the other groups that it is in.
        gids: Arc<[u32]>,
    },
    /// Somebody on the network, by address.
    Remote(IpAddr),
    /// The kernel would not say.
    Unknown,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Local { uid, .. } => write!(f, "uid {uid}"),
            Peer::Remote(address) => address.fmt(f),
            Peer::Unknown => f.write_str("unknown"),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Peer>().cloned().unwrap_or(Peer::Unknown))
    }
}

/// Which repositories a caller may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// All.
    All,
    /// Those with `public = true`: whoever comes over the network.
    Public,
}

impl Sight {
    /// Whether a repository is in sight.
    pub fn sees(&self, served: &Served) -> bool {
        match self {
            Sight::All => true,
            Sight::Public => served.public,
        }
    }

    /// A repository by its name or path. One that is not in sight is as one that is not there.
    pub fn served(&self, app: &App, name_or_path: &str) -> Result<Arc<Served>, Failure> {
        let found = app.intake.served(name_or_path).map_err(Failure::unknown)?;
        match self.sees(&found) {
            true => Ok(found),
            false => Err(Failure::unknown(crate::intake::NotTaken::not_served(name_or_path))),
        }
    }
}

impl FromRequestParts<Arc<App>> for Sight {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let Ok(peer) = Peer::from_request_parts(parts, app).await;
        match peer {
            Peer::Remote(_) => Ok(Sight::Public),
            _ if app.current().access.allows(&peer, Role::Reader) => Ok(Sight::All),
            _ => Err(Failure::forbidden("this account may not read ([roles] reader)")),
        }
    }
}

/// What an account may do on the socket. A runner needs no role: its token is its right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Tell of pushes.
    Hook,
    /// See states and logs.
    Reader,
    /// Everything: drain, reload, cancel.
    Admin,
}

/// Accounts by role.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// May tell of pushes; `None`: whoever can connect.
    pub hook: Option<Accounts>,
    /// May read; `None`: whoever can connect.
    pub reader: Option<Accounts>,
    /// May do everything, besides root and the daemon's own account.
    pub admin: Accounts,
}

/// Some accounts of this machine.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// By user id.
    pub uids: BTreeSet<u32>,
    /// By a group that they are in.
    pub gids: BTreeSet<u32>,
}

impl Accounts {
    fn has(&self, uid: u32, gids: &[u32]) -> bool {
        self.uids.contains(&uid) || gids.iter().any(|gid| self.gids.contains(gid))
    }
}

impl Access {
    /// Who may do what, with accounts and groups by number.
    pub fn of(config: &Config) -> Result<Access, String> {
        let roles = &config.roles;
        Ok(Access {
            hook: named(&roles.hook)?,
            reader: named(&roles.reader)?,
            admin: named(&roles.admin)?.unwrap_or_default(),
        })
    }

    /// Whether the peer has the role. Nobody on the network has one.
    pub fn allows(&self, peer: &Peer, role: Role) -> bool {
        let Peer::Local { uid, gids } = peer else { return false };
        let uid = *uid;
        let own = rustix::process::geteuid().as_raw();
        if uid == 0 || uid == own || self.admin.has(uid, gids) {
            return true;
        }
        let named = match role {
            Role::Hook => &self.hook,
            Role::Reader => &self.reader,
            Role::Admin => return false,
        };
        named.as_ref().is_none_or(|accounts| accounts.has(uid, gids))
    }
}

/// `None` where everybody is among them.
fn named(who: &[Who]) -> Result<Option<Accounts>, String> {
    let mut named = Accounts::default();
    for who in who {
        match who {
            Who::Everybody => return Ok(None),
            Who::Account(name) => {
                let (uid, _) = accounts::user(name)
                    .ok_or_else(|| format!("[roles]: there is no account {name}"))?;
                named.uids.insert(uid);
            }
            Who::Group(name) => {
                let gid = accounts::group(name)
                    .ok_or_else(|| format!("[roles]: there is no group {name}"))?;
                named.gids.insert(gid);
            }
        }
    }
    Ok(Some(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(uid: u32, gids: &[u32]) -> Peer {
        Peer::Local { uid, gids: gids.into() }
    }

    #[test]
    fn without_a_list_whoever_can_connect_may_push_and_read_but_not_rule() {
        let access = Access::default();
        let somebody = account(64_000, &[64_000]);
        assert!(access.allows(&somebody, Role::Hook));
        assert!(access.allows(&somebody, Role::Reader));
        assert!(!access.allows(&somebody, Role::Admin));
        assert!(access.allows(&account(0, &[0]), Role::Admin));
    }

    #[test]
    fn a_list_shuts_out_everybody_else() {
        let hgs = Accounts { uids: [64_001].into(), gids: [64_002].into() };
        let access = Access { hook: Some(hgs), ..Access::default() };
        assert!(!access.allows(&account(64_000, &[64_000, 64_003]), Role::Hook));
        assert!(access.allows(&account(64_001, &[64_000]), Role::Hook));
        assert!(access.allows(&account(64_000, &[64_002]), Role::Hook));
        assert!(access.allows(&account(64_000, &[64_000, 64_002]), Role::Hook));
    }

    #[test]
    fn the_network_and_the_nameless_have_no_role() {
        let neighbour = Peer::Remote(std::net::Ipv4Addr::LOCALHOST.into());
        for peer in [neighbour, Peer::Unknown] {
            for role in [Role::Hook, Role::Reader, Role::Admin] {
                assert!(!Access::default().allows(&peer, role), "{peer:?} {role:?}");
            }
        }
    }
}
