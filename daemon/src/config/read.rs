//! From the tables of a file, and of the defaults beneath it, to a [`Config`].

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use hgci_core::document::{Document, Mistake, Table, Value, quoted};
use hgci_core::push::Lane;
use hgci_core::quantity::format_duration;

use super::words::{self, MAX_SOCKET};
use super::{
    BuildPolicy, Config, DEFAULTS, Isolation, Limits, Places, Pool, Repo, Roles, Secret, Web, mail,
};

/// The most repositories, pools or secrets of a file.
const MAX_ENTRIES: usize = 10_000;

/// The most further attempts of a job: the record of a job has them all.
const MAX_RETRIES: u32 = 100;

/// Kinds of pool that later versions of hgci know.
const LATER: [&str; 5] = ["ssh", "container", "vm", "slurm", "ec2"];

/// A table of the file over the same table of the defaults.
pub(super) struct Layer<'t, 'd> {
    /// The administrator's table; `None` where the file does not have it.
    pub own: Option<&'t mut Table<'d>>,
    /// The table of the defaults; `None` where nothing in it has one.
    pub defaults: Option<&'t mut Table<'d>>,
    /// Where what is found is written down.
    pub places: &'t mut Places,
    /// The path of the table, with a dot behind it.
    pub path: String,
}

impl<'d> Layer<'_, 'd> {
    /// The value of a key: the administrator's, else the default, else none.
    pub fn take(&mut self, key: &'static str) -> Option<Value<'d>> {
        let default = self.defaults.as_mut().and_then(|defaults| defaults.take(key));
        self.own(key).or(default)
    }

    /// The value of a key that has no default.
    pub fn own(&mut self, key: &'static str) -> Option<Value<'d>> {
        let value = self.own.as_mut()?.take(key)?;
        self.note(key, &value);
        Some(value)
    }

    /// The value of a key that must be in the file.
    pub fn need(&mut self, key: &'static str, hint: &str) -> Option<Value<'d>> {
        let value = self.own.as_mut()?.need_or(key, Some(hint))?;
        self.note(key, &value);
        Some(value)
    }

    fn note(&mut self, key: &str, value: &Value<'_>) {
        self.places.of.insert(format!("{}{key}", self.path), value.place());
    }
}

/// Reads a file. `file` is its name in mistakes, which come in the order of the file.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Config, Vec<Mistake>> {
    let defaults = Document::parse("the defaults", DEFAULTS.as_bytes())?;
    let document = Document::parse(file, bytes)?;
    let config = config(file, &document, &defaults);
    defaults.finish(())?;
    document.finish(config)
}

fn config<'d>(file: &str, document: &'d Document<'d>, defaults: &'d Document<'d>) -> Config {
    let (mut own, mut defaults) = (document.root(), defaults.root());
    let mut places = Places { file: file.to_owned(), of: BTreeMap::new() };
    let mut root = Layer {
        own: Some(&mut own),
        defaults: Some(&mut defaults),
        places: &mut places,
        path: String::new(),
    };
    let state = root.take("state").and_then(|value| words::path(&value));
    let socket = root.take("socket").and_then(|value| {
        let path = words::path(&value)?;
        if path.as_os_str().len() > MAX_SOCKET {
            let why = format!("a Unix socket's path has at most {MAX_SOCKET} bytes");
            value.mistake(why, Some("choose a shorter folder".to_owned()));
        }
        Some(path)
    });
    let socket_mode = root.take("socket-mode").and_then(|value| words::mode(&value));
    let socket_group = root.take("socket-group").and_then(|v| words::account(&v, v.string()?));
    let roles = within(&mut root, "roles", true, roles).unwrap_or_default();
    let web = within(&mut root, "web", false, web).flatten();
    let mail = within(&mut root, "mail", false, mail::read).flatten();
    let limits = within(&mut root, "limits", true, limits);
    let repos = each(&mut root, "repo", repo);
    let pools = each(&mut root, "pool", pool);
    let secrets = secrets(&mut root);
    own.finish();
    let config = Config {
        state: state.unwrap_or_default(),
        socket: socket.unwrap_or_default(),
        socket_mode: socket_mode.unwrap_or_default(),
        socket_group,
        roles,
        web,
        mail,
        repos,
        pools,
        // Only where there is a mistake, which is told.
        limits: limits.flatten().unwrap_or(Limits {
            timeout: Duration::ZERO,
            log: 0,
            artifact: 0,
            keep: Duration::ZERO,
            free: 0,
            retries: 0,
            lease: Duration::ZERO,
            requests: 0,
            connections: 0,
        }),
        secrets,
        places,
    };
    same_names(document, &config);
    config
}

/// Reads a table of the file over that of the defaults; where the file has none, only `always`.
fn within<'d, T>(
    root: &mut Layer<'_, 'd>,
    key: &'static str,
    always: bool,
    read: impl FnOnce(&mut Layer<'_, 'd>) -> T,
) -> Option<T> {
    let defaults = root.defaults.as_mut().and_then(|defaults| defaults.take(key));
    let own = match root.own(key) {
        Some(value) => Some(value.table()?),
        None if always => None,
        None => return None,
    };
    let defaults = defaults.and_then(|value| value.table());
    Some(over(own, defaults, root.places, format!("{key}."), read))
}

/// Reads a table of the file over that of the defaults, and tells the keys that are unknown.
fn over<'d, T>(
    mut own: Option<Table<'d>>,
    mut defaults: Option<Table<'d>>,
    places: &mut Places,
    path: String,
    read: impl FnOnce(&mut Layer<'_, 'd>) -> T,
) -> T {
    let value = read(&mut Layer { own: own.as_mut(), defaults: defaults.as_mut(), places, path });
    if let Some(own) = own {
        own.finish();
    }
    value
}

/// Reads an array of tables, each over the one that the defaults have.
fn each<'d, T>(
    root: &mut Layer<'_, 'd>,
    key: &'static str,
    read: impl Fn(&mut Layer<'_, 'd>) -> Option<T>,
) -> Vec<T> {
    let template = root.defaults.as_mut().and_then(|defaults| defaults.take(key));
    let Some(value) = root.own(key) else { return Vec::new() };
    let tables = value.tables().unwrap_or_default();
    if tables.len() > MAX_ENTRIES {
        value.mistake(format!("more than {MAX_ENTRIES} of them"), None);
        return Vec::new();
    }
    let mut all = Vec::new();
    for (n, own) in tables.into_iter().enumerate() {
        let path = format!("{key}.{n}");
        root.places.of.insert(path.clone(), own.place());
        let defaults = template.as_ref().and_then(|value| value.tables()?.into_iter().next());
        all.extend(over(Some(own), defaults, root.places, path + ".", &read));
    }
    all
}

fn roles(layer: &mut Layer<'_, '_>) -> Roles {
    let mut role = |key| layer.take(key).map(|value| words::who(&value)).unwrap_or_default();
    Roles {
        hook: role("hook"),
        reader: role("reader"),
        runner: role("runner"),
        admin: role("admin"),
    }
}

fn web(layer: &mut Layer<'_, '_>) -> Option<Web> {
    let listen = layer.need("listen", "write listen = \"127.0.0.1:8010\"");
    let url = layer.own("url").and_then(|value| {
        let text = value.string()?;
        let sound = (text.starts_with("https://") || text.starts_with("http://"))
            && !text
                .contains(|c: char| c.is_control() || c.is_whitespace() || c == '?' || c == '#');
        if !sound {
            let hint = Some("write \"https://ci.example.org/\"".to_owned());
            value.mistake(format!("{} is not the base of web pages", quoted(text)), hint);
        }
        Some(format!("{}/", text.trim_end_matches('/')))
    });
    let proxies = layer.own("proxies").map(|value| words::addresses(&value)).unwrap_or_default();
    let value = listen?;
    let text = value.string()?;
    match text.parse::<SocketAddr>() {
        Ok(listen) => Some(Web { listen, url: url.unwrap_or_default(), proxies }),
        Err(_) => {
            let hint = Some("write \"127.0.0.1:8010\" or \"[::]:8010\"".to_owned());
            value.mistake(format!("{} is not an address and a port", quoted(text)), hint);
            None
        }
    }
}

fn repo(layer: &mut Layer<'_, '_>) -> Option<Repo> {
    let path = layer.need("path", "write path = \"/srv/hg/widgets\"");
    let name = layer.own("name");
    let build = layer.take("build").and_then(|value| {
        value.one_of(&[
            ("heads", BuildPolicy::Heads),
            ("every", BuildPolicy::Every),
            ("tip", BuildPolicy::Tip),
        ])
    });
    let trusted = layer.own("trusted").map(|value| words::accounts(&value));
    let frontends = layer.take("frontends").map(|value| words::accounts(&value));
    let public = layer.take("public").and_then(|value| value.boolean());
    let (value, named) = (path?, name.clone());
    let path = words::path(&value)?;
    let last = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = path.parent().unwrap_or(&path).to_string_lossy().into_owned();
    if folder.contains('*') {
        value.mistake("only the last part of a path may have *", None);
    }
    let many = last.contains('*');
    if let (true, Some(name)) = (many, &named) {
        let hint = "leave it out: each repository has the name of its folder".to_owned();
        name.mistake("one name for several repositories", Some(hint));
    }
    if named.is_none() && !many && words::check_name(&last).is_err() {
        value.mistake(
            format!("{} cannot be the name of a repository", quoted(&last)),
            Some("add a `name`".to_owned()),
        );
    }
    Some(Repo {
        name: name.and_then(|value| words::name(&value)),
        path,
        build: build?,
        trusted,
        frontends: frontends?,
        public: public?,
    })
}

fn pool(layer: &mut Layer<'_, '_>) -> Option<Pool> {
    let name = layer.need("name", "write name = \"here\"").and_then(|v| words::name(&v));
    let kind = layer.take("kind")?;
    match kind.string()? {
        "local" => {}
        later if LATER.contains(&later) => {
            let message =
                format!("pools of kind {} are not supported by this version", quoted(later));
            kind.mistake(message, Some("use \"local\"".to_owned()));
        }
        _ => _ = kind.one_of(&[("local", ())]),
    }
    let slots = layer.take("slots").and_then(|value| {
        let slots = value.count()?;
        if !(1..=1000).contains(&slots) {
            value.mistake("a pool has 1 to 1000 slots", None);
        }
        Some(slots)
    });
    let labels = layer.take("labels").map(|value| {
        let labels = value.strings().unwrap_or_default();
        for (label, value) in &labels {
            if let Err(why) = words::check_name(label) {
                value.mistake(format!("{} cannot be a label: {why}", quoted(label)), None);
            }
        }
        labels.iter().map(|(label, _)| (*label).to_owned()).collect()
    });
    let network = (layer.own("network"), layer.take("network").and_then(|v| v.boolean()));
    let readonly = (layer.own("readonly"), layer.take("readonly"));
    let folders = readonly.1.and_then(|value| value.array()).unwrap_or_default();
    let folders = folders.iter().filter_map(words::path).collect();
    let isolation = layer.take("isolation").and_then(|value| {
        let hint = "sandbox (bubblewrap), user:NAME, or none: such a job can do all that hgcid can";
        match value.string()? {
            "sandbox" => Some(Isolation::Sandbox { network: network.1?, readonly: folders }),
            "none" => Some(Isolation::None),
            text => match text.strip_prefix("user:") {
                Some(user) => words::account(&value, user).map(Isolation::User),
                None => {
                    value.mistake(format!("unknown isolation {}", quoted(text)), Some(hint.into()));
                    None
                }
            },
        }
    });
    let sandboxed = matches!(isolation, Some(Isolation::Sandbox { .. }) | None);
    for value in [network.0, readonly.0].into_iter().flatten().filter(|_| !sandboxed) {
        value.mistake("only a sandboxed pool has it", Some("remove it".to_owned()));
    }
    let lanes = layer.own("lanes").map(|value| lanes(&value, sandboxed));
    let default = || if sandboxed { vec![Lane::Trusted, Lane::Try] } else { vec![Lane::Trusted] };
    Some(Pool {
        name: name?,
        slots: slots?,
        labels: labels?,
        isolation: isolation?,
        lanes: lanes.unwrap_or_else(default),
    })
}

fn lanes(value: &Value<'_>, sandboxed: bool) -> Vec<Lane> {
    let mut lanes = Vec::new();
    for value in value.array().unwrap_or_default() {
        let Some(lane) = value.one_of(&[("trusted", Lane::Trusted), ("try", Lane::Try)]) else {
            continue;
        };
        if lane == Lane::Try && !sandboxed {
            let hint = "try jobs are anybody's code: give them a pool with isolation = \"sandbox\"";
            value.mistake("a pool without a sandbox cannot take try jobs", Some(hint.to_owned()));
        }
        if !lanes.contains(&lane) {
            lanes.push(lane);
        }
    }
    if lanes.is_empty() {
        value.mistake("a pool without lanes takes no job", None);
    }
    lanes
}

fn limits(layer: &mut Layer<'_, '_>) -> Option<Limits> {
    let mut duration = |key, least: Duration| {
        layer.take(key).and_then(|value| {
            let duration = value.duration()?;
            if duration < least {
                value.mistake(format!("less than {} makes no sense", format_duration(least)), None);
            }
            Some(duration)
        })
    };
    let timeout = duration("timeout", Duration::from_secs(1));
    let keep = duration("keep", Duration::from_secs(60));
    let lease = duration("lease", Duration::from_secs(5));
    let mut size = |key| layer.take(key).and_then(|value| value.size());
    let (log, artifact, free) = (size("log"), size("artifact"), size("free"));
    let retries = layer.take("retries").and_then(|value| {
        let retries = value.count()?;
        if retries > MAX_RETRIES {
            value.mistake(format!("more than {MAX_RETRIES} would help no job"), None);
        }
        Some(retries)
    });
    let requests = layer.take("requests").and_then(|value| {
        let requests = value.count()?;
        if requests == 0 {
            value.mistake("0 would shut everybody out", None);
        }
        Some(requests)
    });
    let connections = layer.take("connections").and_then(|value| {
        let connections = value.count()?;
        if connections < 8 {
            value.mistake("fewer than 8 would shut out hooks and runners", None);
        }
        Some(connections)
    });
    Some(Limits {
        timeout: timeout?,
        log: log?,
        artifact: artifact?,
        keep: keep?,
        free: free?,
        retries: retries?,
        lease: lease?,
        requests: requests?,
        connections: connections?,
    })
}

fn secrets(root: &mut Layer<'_, '_>) -> BTreeMap<String, Secret> {
    let mut secrets = BTreeMap::new();
    let Some(table) = root.own("secret").and_then(|value| value.table()) else { return secrets };
    let entries = table.entries();
    if entries.len() > MAX_ENTRIES {
        table.mistake(format!("more than {MAX_ENTRIES} secrets"), None);
        return secrets;
    }
    for (key, value) in entries {
        let name = key.text();
        let plain = !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let why = match hgci_core::pipeline::check_env_name(name) {
            Err(why) => Some(why.to_string()),
            Ok(()) if !plain => Some("it may have letters, digits and _ alone".to_owned()),
            Ok(()) => None,
        };
        if let Some(why) = why {
            key.mistake(format!("{} cannot be a variable: {why}", quoted(name)), None);
        }
        let Some(own) = value.table() else { continue };
        let path = format!("secret.{name}.");
        let secret = over(Some(own), None, root.places, path, |layer| {
            let file = layer.need("file", "the file that holds the secret");
            let repos = layer.need("repos", "the repositories whose trusted jobs get it");
            let file = file.and_then(|value| words::path(&value));
            let repos = repos?.strings()?.iter().map(|(name, _)| (*name).to_owned()).collect();
            Some(Secret { file: file?, repos })
        });
        secrets.extend(secret.map(|secret| (name.to_owned(), secret)));
    }
    secrets
}

/// Tells names that are given twice.
fn same_names<'d>(document: &'d Document<'d>, config: &Config) {
    let mut root = document.root();
    for (kind, named) in [("repo", config.repos.len()), ("pool", config.pools.len())] {
        let mut seen = HashSet::new();
        let tables =
            if named > 1 { root.take(kind).and_then(|value| value.tables()) } else { None };
        for mut table in tables.unwrap_or_default() {
            let Some(value) = table.take("name") else { continue };
            if let Some(name) = value.string().filter(|name| !seen.insert(*name)) {
                value.mistake(format!("there is another {kind} {}", quoted(name)), None);
            }
        }
    }
}
