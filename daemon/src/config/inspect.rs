//! What the machine says to a configuration: what is missing, unreadable, in use, or silently
//! ignored by hg.

use std::collections::HashMap;
use std::fmt;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hgci_core::document::Mistake;
use hgci_core::engine;
use hgci_core::push::Lane;
use nix::unistd::{Group, Uid, User};
use rustix::fs::{Access, access};

use super::hgrc::{self, Hgrc};
use super::shown::source_of;
use super::{Config, Isolation, Pool, Served, Who, open_regular, serve, tips};
use crate::listen::tcp::refusal;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works, but perhaps not as meant.
    Warning,
    /// It does not work.
    Error,
}

/// What the machine says to one place of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where and what, and the mend.
    pub mistake: Mistake,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake { file, line, column, message, hint } = &self.mistake;
        let severity = match self.severity {
            Severity::Warning => "warning: ",
            Severity::Error => "",
        };
        write!(f, "{file}:{line}:{column}: {severity}{message}")?;
        match hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Looks at the machine, without changing anything. What is found comes in the order of the file.
pub fn inspect(config: &Config) -> Vec<Finding> {
    let mut machine = Machine { config, findings: Vec::new() };
    let running = crate::store::holder(&config.state).is_some();
    machine.folders();
    machine.roles();
    machine.web(running);
    machine.mail();
    machine.repos();
    machine.pools();
    machine.secrets();
    machine.findings.sort_by_key(|f| (f.mistake.line, f.mistake.column));
    machine.findings
}

struct Machine<'c> {
    config: &'c Config,
    findings: Vec<Finding>,
}

impl Machine<'_> {
    fn say(&mut self, severity: Severity, key: &str, message: String, hint: Option<&str>) {
        let mistake = self.config.places.mistake(key, message, hint);
        self.findings.push(Finding { severity, mistake });
    }

    fn error(&mut self, key: &str, message: String, hint: &str) {
        self.say(Severity::Error, key, message, Some(hint));
    }

    fn warn(&mut self, key: &str, message: String, hint: &str) {
        self.say(Severity::Warning, key, message, Some(hint));
    }

    fn folders(&mut self) {
        let config = self.config;
        for (key, folder) in
            [("state", Some(config.state.as_path())), ("socket", config.socket.parent())]
        {
            let Some(folder) = folder else { continue };
            // What is missing will be made in the nearest folder that is there.
            let Some(there) = folder.ancestors().find(|folder| folder.exists()) else { continue };
            if !there.is_dir() {
                let message = format!("{} is not a folder", there.display());
                self.error(key, message, "move it away, or name another folder");
            } else if let Err(error) = access(there, Access::WRITE_OK | Access::EXEC_OK) {
                let message = format!("write into {}: {error}", there.display());
                self.error(key, message, "run hgcid as the account that owns it, or chown it");
            }
        }
        if let Some(group) = &config.socket_group
            && !matches!(Group::from_name(group), Ok(Some(_)))
        {
            let message = format!("this machine has no group {group}");
            self.error("socket-group", message, "make it with groupadd, or name another");
        }
    }

    fn roles(&mut self) {
        let roles = &self.config.roles;
        for (key, who) in [
            ("roles.hook", &roles.hook),
            ("roles.reader", &roles.reader),
            ("roles.runner", &roles.runner),
            ("roles.admin", &roles.admin),
        ] {
            for who in who {
                let unknown = match who {
                    Who::Everybody => None,
                    Who::Account(name) if !matches!(User::from_name(name), Ok(Some(_))) => {
                        Some(format!("this machine has no account {name}"))
                    }
                    Who::Group(name) if !matches!(Group::from_name(name), Ok(Some(_))) => {
                        Some(format!("this machine has no group {name}"))
                    }
                    Who::Account(_) | Who::Group(_) => None,
                };
                if let Some(message) = unknown {
                    self.error(key, message, "make it, or take it out: hgcid will not start");
                }
            }
        }
    }

    fn web(&mut self, running: bool) {
        let Some(web) = &self.config.web else { return };
        let here = ["http://localhost", "http://127.", "http://[::1]"];
        if web.listen.ip().is_loopback()
            && web.proxies.is_empty()
            && !web.url.is_empty()
            && !here.iter().any(|start| web.url.starts_with(start))
        {
            let message = "who comes through a web server in front is counted as one".to_owned();
            self.warn("web.listen", message, "name its address: proxies = [\"127.0.0.1\"]");
        }
        if running {
            // The daemon that is running may well be the one that has the port.
            return;
        }
        if let Err(error) = std::net::TcpListener::bind(web.listen) {
            let (message, hint) = refusal(web.listen, &error);
            self.error("web.listen", message, hint);
        }
    }

    fn mail(&mut self) {
        let Some(mail) = &self.config.mail else { return };
        if let Some(file) = &mail.smtp.password_file {
            self.secret_file("mail.password-file", file);
        }
        if let Some(file) = &mail.ca_file
            && let Err(error) = open_regular(file)
        {
            let message = format!("read {}: {error}", file.display());
            self.error("mail.ca-file", message, "it must have certificates as PEM");
        }
        if mail.smtp.password.is_some()
            && let Ok(metadata) = std::fs::metadata(&self.config.places.file)
            && metadata.mode() & 0o004 != 0
        {
            let message = "every account can read the password in this file".to_owned();
            self.error("mail.smtp", message, "chmod o-r the file, or use `password-file`");
        }
        let login = mail.smtp.user.is_some();
        let password = mail.smtp.password.is_some() || mail.smtp.password_file.is_some();
        if login && !password {
            let message = "a user without a password".to_owned();
            self.error("mail.smtp", message, "add `password-file`");
        }
        if login
            && mail.smtp.security == super::Security::None
            && !matches!(mail.smtp.host.as_str(), "localhost" | "127.0.0.1" | "::1")
        {
            let message = "the password goes over the network in clear".to_owned();
            self.warn("mail.smtp", message, "use smtps:// or smtp+starttls://");
        }
    }

    fn repos(&mut self) {
        let (served, unserved) = serve(self.config);
        for repo in unserved {
            let key = format!("repo.{}.path", repo.entry);
            let message = format!("{} is not served: {}", repo.path.display(), repo.why);
            self.warn(&key, message, "rename it, or give it a [[repo]] of its own with a `name`");
        }
        if served.is_empty() {
            let message = "no repository is served".to_owned();
            self.warn("repo", message, "add a [[repo]] with its `path`");
        }
        let machine: Vec<Hgrc> = hgrc::of_the_machine()
            .iter()
            .filter_map(|path| hgrc::read(path).ok().flatten())
            .collect();
        let mut folders: HashMap<PathBuf, String> = HashMap::new();
        let pools = self.config.pools.iter().map(Pool::rule).collect();
        let rules = engine::Config { pools, ..engine::Config::default() };
        for repo in &served {
            let key = format!("repo.{}.path", repo.entry);
            let Some(real) = self.repo(&key, repo) else { continue };
            if let Some(other) = folders.insert(real.clone(), repo.name.clone()) {
                let message = format!("{} is repository {other} too", repo.path.display());
                self.error(&key, message, "serve it once");
            }
            self.hooks(&key, &real, &machine);
            for (message, hint) in tips::look(&real, &rules) {
                self.warn(&key, format!("{}: {message}", repo.path.display()), hint);
            }
        }
        for (entry, repo) in self.config.repos.iter().enumerate() {
            for name in &repo.frontends {
                if !matches!(User::from_name(name), Ok(Some(_))) {
                    let message = format!("this machine has no account {name}");
                    let key = format!("repo.{entry}.frontends");
                    self.warn(&key, message, "the entry has no effect");
                }
            }
        }
    }

    /// The real root folder of a repository, or of what it is a share of.
    fn repo(&mut self, key: &str, repo: &Served) -> Option<PathBuf> {
        let hg = repo.path.join(".hg");
        let readable = std::fs::read_dir(&hg).and_then(|_| std::fs::read_dir(hg.join("store")));
        let shared = hg.join("sharedpath");
        let failed = match readable {
            Ok(_) => None,
            Err(error) if error.kind() == ErrorKind::NotFound && shared.exists() => None,
            Err(error) => Some(error),
        };
        if let Some(error) = failed {
            let (message, hint) = match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => (
                    format!("{} is not a Mercurial repository", repo.path.display()),
                    "make it with hg init, or mend the path",
                ),
                _ => (
                    format!("read {}: {error}", hg.display()),
                    "let the account of hgcid read it, for example through a group",
                ),
            };
            self.error(key, message, hint);
            return None;
        }
        let real = source_of(&repo.path).unwrap_or_else(|| repo.path.clone());
        let real = real.canonicalize().ok()?;
        if real.to_str().is_none() {
            let message = format!("the path of {} is not UTF-8", real.display());
            self.error(key, message, "move the repository");
            return None;
        }
        let ours = real.join(".hg/hgci");
        let writable = if ours.exists() { ours } else { real.join(".hg") };
        if let Err(error) = access(&writable, Access::WRITE_OK | Access::EXEC_OK) {
            let message = format!("write into {}: {error}", writable.display());
            self.error(key, message, "results are kept there: let the account of hgcid write it");
        }
        Some(real)
    }

    /// Whether pushes to a repository will be announced to this daemon.
    fn hooks(&mut self, key: &str, root: &Path, machine: &[Hgrc]) {
        let path = root.join(".hg/hgrc");
        let own = match hgrc::read(&path) {
            Ok(own) => own.unwrap_or_default(),
            Err(error) => {
                let message = format!("read {}: {error}", path.display());
                self.warn(key, message, "whether its hooks are set is not known");
                return;
            }
        };
        let all = || machine.iter().chain([&own]);
        if !all().any(Hgrc::announces) {
            if !all().any(|hgrc| hgrc.includes) {
                let message = format!("{} sets no hook: its pushes are found late", path.display());
                self.warn(
                    key,
                    message,
                    "see hgrc.example: [hgci] socket, or [hooks] txnclose.hgci",
                );
            }
            return;
        }
        let socket = self.config.socket.to_string_lossy();
        if let Some(other) = all().filter_map(|hgrc| hgrc.socket.as_deref()).next_back()
            && other != socket
        {
            let message = format!("{}: [hgci] socket is {other}", path.display());
            self.warn(key, message, "it is not the `socket` of this file");
        }
        // hg reads a repository's hgrc for its owner alone, and for who trusts that owner.
        let store: Option<Metadata> = std::fs::metadata(root.join(".hg/store")).ok();
        let Some(store) = store.filter(|_| own.announces()) else { return };
        if machine.iter().any(Hgrc::announces) {
            return;
        }
        let name = |uid: u32| match User::from_uid(Uid::from_raw(uid)) {
            Ok(Some(user)) => user.name,
            _ => uid.to_string(),
        };
        if store.uid() != own.owner || store.mode() & 0o020 != 0 {
            let owner = name(own.owner);
            let message = format!(
                "{} belongs to {owner}: hg ignores its hooks when another account pushes over ssh",
                path.display()
            );
            let hint =
                "put them into /etc/mercurial/hgrc.d/hgci.rc, or name the owner in [trusted]";
            self.warn(key, message, hint);
        }
    }

    fn pools(&mut self) {
        let pools = &self.config.pools;
        if pools.is_empty() {
            let message = "there is no pool: no job will run".to_owned();
            self.warn("pool", message, "add a [[pool]]");
        }
        if !pools.is_empty() && !pools.iter().any(|pool| pool.lanes.contains(&Lane::Try)) {
            let message = "no pool takes try jobs: drafts are not built".to_owned();
            self.warn("pool.0", message, "give a pool isolation = \"sandbox\"");
        }
        let mut sandbox = None;
        for (n, pool) in pools.iter().enumerate() {
            let key = format!("pool.{n}.isolation");
            match &pool.isolation {
                Isolation::Sandbox { readonly, .. } => {
                    if let Err(why) = sandbox.get_or_insert_with(try_sandbox) {
                        let hint = "install bubblewrap, or see the manual, \"Isolation\"";
                        self.error(&key, why.clone(), hint);
                    }
                    for folder in readonly.iter().filter(|folder| !folder.is_dir()) {
                        let message = format!("{} is not a folder", folder.display());
                        self.error(&format!("pool.{n}.readonly"), message, "make it, or remove it");
                    }
                }
                Isolation::User(name) => match User::from_name(name) {
                    Ok(Some(user)) if user.uid.is_root() => {
                        let message = "jobs would run as root".to_owned();
                        self.error(&key, message, "make an account for jobs");
                    }
                    Ok(Some(user)) if user.uid == Uid::effective() => {
                        let message = format!("{name} is the account of hgcid");
                        self.error(
                            &key,
                            message,
                            "such a job can do all that hgcid can: use another",
                        );
                    }
                    Ok(Some(_)) if !Uid::effective().is_root() => {
                        let message =
                            format!("hgcid cannot become {name}: it does not run as root");
                        self.error(&key, message, "run it as root, or use the sandbox");
                    }
                    Ok(Some(_)) => {}
                    _ => {
                        let message = format!("this machine has no account {name}");
                        self.error(&key, message, "make it with useradd, or name another");
                    }
                },
                Isolation::None => {}
            }
        }
    }

    fn secrets(&mut self) {
        let (served, _) = serve(self.config);
        for (name, secret) in &self.config.secrets {
            self.secret_file(&format!("secret.{name}.file"), &secret.file);
            for repo in &secret.repos {
                if !served.iter().any(|served| served.name == *repo) {
                    let key = format!("secret.{name}.repos");
                    let message = format!("there is no repository {repo}");
                    self.warn(&key, message, "the entry has no effect");
                }
            }
        }
    }

    /// A file that nobody else may read.
    fn secret_file(&mut self, key: &str, file: &Path) {
        match open_regular(file).and_then(|file| file.metadata()) {
            Err(error) => {
                let message = format!("read {}: {error}", file.display());
                let hint = match error.kind() {
                    ErrorKind::InvalidInput => "name a file",
                    _ => "let the account of hgcid read it",
                };
                self.error(key, message, hint);
            }
            Ok(metadata) if metadata.mode() & 0o004 != 0 => {
                let message = format!("every account can read {}", file.display());
                self.error(key, message, "chmod o-r it");
            }
            Ok(_) => {}
        }
    }
}

/// Whether bubblewrap is there and can make a sandbox.
fn try_sandbox() -> Result<(), String> {
    let bwrap = std::env::var_os("HGCI_BWRAP").unwrap_or_else(|| "bwrap".into());
    let tried = Command::new(&bwrap)
        .args(["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "true"])
        .stdin(Stdio::null())
        .output();
    let bwrap = bwrap.display();
    match tried {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(format!("{bwrap} is not installed"))
        }
        Err(error) => Err(format!("run {bwrap}: {error}")),
        Ok(output) if !output.status.success() => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said: String = said.trim().chars().filter(|c| !c.is_control()).take(200).collect();
            Err(format!("{bwrap} cannot make a sandbox here: {said}"))
        }
        Ok(_) => Ok(()),
    }
}
