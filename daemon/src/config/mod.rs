//! `hgcid.toml`: what the administrator says.
//!
//! [`parse`] is pure: it tells every mistake of the file with line and column, or gives a
//! [`Config`] in which every default is filled in from `defaults.toml`. [`inspect`] then looks at
//! the machine: what is missing, unreadable, in use, or silently ignored by hg.
//!
//! - `read`: tables to [`Config`], `mail` and `words`: the parts with a syntax of their own
//! - `repos`: which repositories a path with `*` stands for
//! - `regular`: how files that it names are opened
//! - `shown`: what sandboxes must not show; [`load`] refuses it, since it takes the machine to see
//! - `inspect`, `hgrc`, `tips`: the machine

mod hgrc;
mod inspect;
mod mail;
mod read;
mod regular;
mod repos;
mod shown;
mod tips;
mod words;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hgci_core::document::{Mistake, Place};
use hgci_core::push::Lane;

pub use inspect::{Finding, Severity, inspect};
pub use mail::{Mail, Recipient, Security, Smtp, When};
pub use read::parse;
pub use regular::open_regular;
pub use repos::{Names, Served, Unserved, serve};
pub use words::Password;

/// What is taken where a file says nothing, as a file.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// What the administrator says, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The folder of store, logs and artifacts; absolute.
    pub state: PathBuf,
    /// The Unix socket; absolute.
    pub socket: PathBuf,
    /// Permissions of the socket.
    pub socket_mode: u32,
    /// The group of the socket; `None`: the daemon's own.
    pub socket_group: Option<String>,
    /// Who may do what on the socket.
    pub roles: Roles,
    /// TCP, if any.
    pub web: Option<Web>,
    /// Mail, if any.
    pub mail: Option<Mail>,
    /// The repositories, as written: see [`serve`] for what they stand for.
    pub repos: Vec<Repo>,
    /// The pools.
    pub pools: Vec<Pool>,
    /// What jobs and people may use.
    pub limits: Limits,
    /// Secrets, by the name of the variable.
    pub secrets: BTreeMap<String, Secret>,
    /// Where in the file things are, for [`inspect`].
    pub places: Places,
}

/// Where in the file things are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Places {
    /// The file's name.
    pub file: String,
    /// By the path of the key: `state`, `repo.0.path`. What is not there was not written.
    pub of: BTreeMap<String, Place>,
}

impl Places {
    /// A mistake at a key. One that was not written is told at its table, else at the start of the
    /// file.
    fn mistake(&self, key: &str, message: String, hint: Option<&str>) -> Mistake {
        let table = key.rsplit_once('.').map_or("", |(table, _)| table);
        let place = self.of.get(key).or_else(|| self.of.get(table)).copied().unwrap_or_default();
        Mistake {
            file: self.file.clone(),
            line: place.line.max(1),
            column: place.column.max(1),
            message,
            hint: hint.map(str::to_owned),
        }
    }
}

/// Who may do what on the socket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Roles {
    /// Say that something was pushed.
    pub hook: Vec<Who>,
    /// See states and logs.
    pub reader: Vec<Who>,
    /// Run jobs without being started by the daemon.
    pub runner: Vec<Who>,
    /// Everything. root and the daemon's own account always may.
    pub admin: Vec<Who>,
}

/// An entry of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// `*`: whoever may connect.
    Everybody,
    /// An account.
    Account(String),
    /// `@NAME`: a group.
    Group(String),
}

/// `[web]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// The base of links, ending in `/`; empty where none is given.
    pub url: String,
    /// Addresses that are believed about whom they speak for.
    pub proxies: Vec<IpAddr>,
}

/// `[[repo]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repo {
    /// The name; `None`: that of the folder.
    pub name: Option<String>,
    /// The root folder; its last part may have `*`.
    pub path: PathBuf,
    /// Which changesets of a push are built.
    pub build: BuildPolicy,
    /// Who is trusted; `None`: whoever may push, and what reconciling finds.
    pub trusted: Option<Vec<String>>,
    /// Accounts whose REMOTE_USER is believed.
    pub frontends: Vec<String>,
    /// Whether it is readable on TCP without a token.
    pub public: bool,
}

/// Which changesets of a push are built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BuildPolicy {
    /// Those without children in the push.
    #[default]
    Heads,
    /// All.
    Every,
    /// The last one alone.
    Tip,
}

/// `[[pool]]`, of kind local.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// How many jobs at a time.
    pub slots: u32,
    /// What it has.
    pub labels: Vec<String>,
    /// How jobs are kept apart from the machine.
    pub isolation: Isolation,
    /// Whose jobs it takes.
    pub lanes: Vec<Lane>,
}

impl Pool {
    /// What the engine is to know of it.
    pub fn rule(&self) -> hgci_core::engine::Pool {
        hgci_core::engine::Pool {
            name: self.name.clone(),
            slots: self.slots,
            labels: self.labels.clone(),
            lanes: self.lanes.clone(),
        }
    }
}

/// How the jobs of a pool are kept apart from the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// bubblewrap.
    Sandbox {
        /// Whether a job sees the network of the machine.
        network: bool,
        /// Folders beside the system's that it may read.
        readonly: Vec<PathBuf>,
    },
    /// Another account.
    User(String),
    /// The account of the daemon: such a job can do all that hgcid can.
    None,
}

/// `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of a job that names none, and the most that one may name.
    pub timeout: Duration,
    /// Bytes of an attempt's log.
    pub log: u64,
    /// Bytes of an artifact.
    pub artifact: u64,
    /// How long logs and artifacts are kept.
    pub keep: Duration,
    /// Bytes of free disk below which nothing starts.
    pub free: u64,
    /// Further attempts after an infrastructure fault.
    pub retries: u32,
    /// How long an attempt may be silent.
    pub lease: Duration,
    /// Requests a minute for each account.
    pub requests: u32,
    /// Connections at a time, on each listener.
    pub connections: u32,
}

/// `[secret.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The file that holds it.
    pub file: PathBuf,
    /// The names of the repositories whose trusted jobs get it.
    pub repos: Vec<String>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file has mistakes.
    #[error("{}", lines(.0))]
    Mistakes(Vec<Mistake>),
}

fn lines(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads a file. What would show jobs what is hidden from them is a mistake too.
pub fn load(path: &Path) -> Result<Config, LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), source };
    // What has one byte more than a document may have is refused as too large.
    let limit = hgci_core::document::MAX_SIZE as u64 + 1;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, limit), &mut bytes)
        .map_err(unreadable)?;
    let config = parse(&path.display().to_string(), &bytes).map_err(LoadError::Mistakes)?;
    match shown::shown(&config) {
        mistakes if mistakes.is_empty() => Ok(config),
        mistakes => Err(LoadError::Mistakes(mistakes)),
    }
}
