//! The sandbox: the command line of bubblewrap.
//!
//! The job sees the system's programs and libraries and those parts of `/etc` that they need, all
//! read-only; its own tree, home and temporary folder; a `/proc` with its own processes and a
//! bare `/dev`. Nothing else of the host is there to be named: no `/home`, `/root`, `/run`,
//! `/var`, no socket, store, repository or other job. It has no capability, gains no privilege by
//! set-uid programs, and without `network` only a loopback of its own.
//!
//! Started by an ordinary account, bubblewrap makes a user namespace in which the job is that
//! account. Started by root it makes none: the warden alone keeps the right to change its user,
//! and each attempt's steps run as a user id of their own, which owns nothing else on the host.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use hgci_api::run::Sandbox;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::warden;
use crate::warden::Account;

/// Names a bubblewrap other than the one on `PATH`.
pub const BWRAP: &str = "HGCI_BWRAP";

/// Where the job's source tree is, in the sandbox.
pub const TREE: &str = "/job/tree";
/// The job's home, in the sandbox.
pub const HOME: &str = "/job/home";
/// The job's temporary folder, in the sandbox.
pub const TMP: &str = "/tmp";

/// The warden's program, in the sandbox.
const PROGRAM: &str = "/run/hgci-runner";

/// What programs need of `/etc` and what holds no secret. Whatever is not listed is not there. Each
/// folder is a mount, which takes some 50 µs, each file a copy, some 15: only what is missed goes in.
const ETC: &[&str] = &[
    "alternatives",
    "crypto-policies",
    "fonts",
    "group",
    "host.conf",
    "hosts",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "perl",
    "pki/ca-trust",
    "pki/tls/certs",
    "protocols",
    "redhat-release",
    "resolv.conf",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
];

/// Files up to this size are copied.
const MAX_COPY: u64 = 1 << 20;

/// A sandbox cannot be made on this host.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// No bubblewrap.
    #[error(
        "no sandbox: bwrap is not on the runner's PATH; install bubblewrap, or set {BWRAP} to its \
         path, or give the pool another isolation"
    )]
    NoBwrap,
    /// Our own program cannot be found, to be shown in the sandbox.
    #[error("no sandbox: finding the runner's own program: {0}")]
    NoProgram(#[source] io::Error),
    /// The job's own `/etc/passwd` cannot be made.
    #[error("no sandbox: its passwd: {0}")]
    Passwd(#[source] io::Error),
    /// A folder in `readonly` that is not one.
    #[error("no sandbox: the pool's readonly folder {path:?}: {why}")]
    Readonly {
        /// As configured.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

/// How to run the warden in a sandbox.
#[derive(Debug)]
pub struct CommandLine {
    /// The program: bubblewrap.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What some of them name by number: it inherits these.
    pub files: Vec<OwnedFd>,
}

/// The command line that runs the warden in a sandbox. `work` is the attempt's folder with `tree`,
/// `tmp` and `home`. With an account, we are root, and the steps will run as that account.
pub fn command_line(
    sandbox: &Sandbox,
    work: &Path,
    account: Option<&Account>,
) -> Result<CommandLine, SandboxError> {
    let bwrap = find_bwrap().ok_or(SandboxError::NoBwrap)?;
    let own = env::current_exe().map_err(SandboxError::NoProgram)?;
    let mut line = Line::default();
    line.add(["--die-with-parent", "--new-session", "--as-pid-1", "--hostname", "hgci"]);
    line.add(["--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]);
    if !sandbox.network {
        line.add(["--unshare-net"]);
    }
    if account.is_some() {
        // For the warden: to become the job's user, and to signal it.
        line.add(["--cap-drop", "ALL", "--cap-add", "CAP_SETUID"]);
        line.add(["--cap-add", "CAP_SETGID", "--cap-add", "CAP_KILL"]);
    } else {
        line.add(["--unshare-user", "--cap-drop", "ALL"]);
    }
    system(&mut line);
    etc(&mut line, account)?;
    line.add(["--proc", "/proc", "--dev", "/dev"]);
    line.add(["--perms", "1777", "--tmpfs", "/dev/shm"]);
    line.bind("--bind", &work.join("tmp"), Path::new(TMP));
    line.bind("--bind", &work.join("tree"), Path::new(TREE));
    line.bind("--bind", &work.join("home"), Path::new(HOME));
    line.add(["--dir", "/var", "--symlink", "../tmp", "/var/tmp"]);
    for path in &sandbox.readonly {
        check_readonly(path)?;
        line.bind("--ro-bind", Path::new(path), Path::new(path));
    }
    line.bind("--ro-bind", &own, Path::new(PROGRAM));
    // What bubblewrap made around the binds is memory of the host: nothing more goes there.
    line.add(["--remount-ro", "/dev", "--remount-ro", "/"]);
    line.add(["--chdir", "/", "--", PROGRAM, warden::ARGUMENT]);
    Ok(CommandLine { program: bwrap, arguments: line.words, files: line.files })
}

/// The merged `/usr` of today, or the folders of older systems.
fn system(line: &mut Line) {
    line.bind("--ro-bind", Path::new("/usr"), Path::new("/usr"));
    for name in ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"] {
        let path = Path::new(name);
        match fs::read_link(path) {
            Ok(target) => line.words.extend(["--symlink".into(), target.into(), name.into()]),
            Err(_) if path.is_dir() => line.bind("--ro-bind", path, path),
            Err(_) => {}
        }
    }
}

fn etc(line: &mut Line, account: Option<&Account>) -> Result<(), SandboxError> {
    for name in ETC {
        let path = Path::new("/etc").join(name);
        match (account, *name) {
            (Some(account), "passwd") => {
                let text = passwd_with(account.uid, account.gid);
                line.file(in_memory(&text).map_err(SandboxError::Passwd)?, &path);
            }
            _ => match copyable(&path) {
                Some(file) => line.file(file, &path),
                None if path.exists() => line.bind("--ro-bind", &path, &path),
                None => {}
            },
        }
    }
    Ok(())
}

/// A small file that everybody may read: its content goes into the sandbox.
fn copyable(path: &Path) -> Option<File> {
    // Looked at before it is opened, since opening a FIFO would wait.
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let file = File::open(path).ok()?;
    let meta = file.metadata().ok()?;
    let public = meta.permissions().mode() & 0o004 != 0;
    (meta.is_file() && public && meta.len() <= MAX_COPY).then_some(file)
}

fn in_memory(text: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("passwd", MemfdFlags::CLOEXEC)?);
    file.write_all(text)?;
    file.rewind()?;
    Ok(file)
}

/// A folder for reading must not bring back what the sandbox is there to hide.
fn check_readonly(path: &str) -> Result<(), SandboxError> {
    let refuse = |why: &str| SandboxError::Readonly { path: path.into(), why: why.into() };
    let folder = Path::new(path);
    if !folder.is_absolute() || folder.components().any(|part| part.as_os_str() == "..") {
        return Err(refuse("not an absolute path"));
    }
    let whole = ["/", "/run", "/tmp", "/var", "/etc"].map(Path::new);
    let below = ["/proc", "/sys", "/dev", "/job"].iter().any(|kept| folder.starts_with(kept));
    if below || whole.contains(&folder) {
        return Err(refuse("cannot be shown in a sandbox"));
    }
    match fs::metadata(folder) {
        Ok(_) => Ok(()),
        Err(error) => Err(refuse(&error.to_string())),
    }
}

fn find_bwrap() -> Option<PathBuf> {
    if let Some(path) = env::var_os(BWRAP) {
        return Some(path.into());
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("bwrap"))
        .find(|candidate| candidate.is_file())
}

/// A passwd(5) in which the user id of the attempt has a name.
fn passwd_with(uid: u32, gid: u32) -> Vec<u8> {
    let mut text = fs::read("/etc/passwd").unwrap_or_default();
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    text.extend_from_slice(format!("hgci-job:x:{uid}:{gid}:hgci job:{HOME}:/bin/sh\n").as_bytes());
    text
}

#[derive(Default)]
struct Line {
    words: Vec<OsString>,
    files: Vec<OwnedFd>,
    /// Those that were made for what lies below them.
    folders: HashSet<PathBuf>,
}

impl Line {
    fn add<const N: usize>(&mut self, words: [&str; N]) {
        self.words.extend(words.map(OsString::from));
    }

    /// A mount.
    fn bind(&mut self, how: &str, from: &Path, to: &Path) {
        self.make_above(to);
        self.words.extend([how.into(), from.into(), to.into()]);
    }

    /// The content of a file, for everybody to read.
    fn file(&mut self, from: File, to: &Path) {
        self.make_above(to);
        self.add(["--perms", "0644", "--file"]);
        self.words.extend([from.as_raw_fd().to_string().into(), to.into()]);
        self.files.push(from.into());
    }

    /// Folders that everybody in the sandbox may read: as bubblewrap makes them by itself, they are
    /// open to the account alone that it runs as.
    fn make_above(&mut self, path: &Path) {
        let mut above: Vec<_> =
            path.ancestors().skip(1).filter(|path| *path != Path::new("/")).collect();
        above.retain(|path| !self.folders.contains(*path));
        for folder in above.into_iter().rev() {
            self.add(["--perms", "0755", "--dir"]);
            self.words.push(folder.into());
            self.folders.insert(folder.to_owned());
        }
    }
}

/// Where bubblewrap's complaint has a known mend, the mend.
pub fn mend(said: &[u8]) -> &'static str {
    let says = |text: &str| said.windows(text.len()).any(|part| part == text.as_bytes());
    if says("setting up uid map") || says("No permissions to create new namespace") {
        return "; this host forbids user namespaces to ordinary accounts: allow them to bwrap (an \
                AppArmor profile for it, or sysctl kernel.apparmor_restrict_unprivileged_userns=0, \
                kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0), or give the \
                pool isolation = \"user:NAME\" or \"none\"";
    }
    if says("Can't mount proc") || says("Operation not permitted") {
        return "; the runner seems to be in a container that forbids mounts: run the container \
                with its own user namespace or CAP_SYS_ADMIN, or use the container as the pool";
    }
    ""
}
