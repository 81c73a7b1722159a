//! The real hg, as a command server, so that a command costs milliseconds.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use hgci_core::Node;
use hgci_repo::{Reader, Repository};
use tempfile::TempDir;

/// `HGCI_TEST_HG`, else the one on PATH, else that of the checkout.
pub fn command() -> PathBuf {
    if let Some(hg) = env::var_os("HGCI_TEST_HG") {
        return hg.into();
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/venv/bin");
    env::split_paths(&path)
        .chain([checkout])
        .map(|folder| folder.join("hg"))
        .find(|hg| hg.is_file())
        .expect("these tests need Mercurial: set HGCI_TEST_HG, or run `make test`")
}

/// hg with a configuration of its own.
pub fn bare(home: &Path) -> Command {
    let mut command = Command::new(command());
    command.env("HGRCPATH", home.join("hgrc")).env("HGPLAIN", "1").env("HOME", home);
    command.env("TZ", "UTC").env_remove("HGENCODING").current_dir(home);
    command
}

/// A folder for repositories, and an hg that works in it.
pub struct Hg {
    // Ends before its folder goes.
    server: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    home: TempDir,
}

impl Hg {
    pub fn new() -> Self {
        Self::with_config("")
    }

    /// `config` is more of an hgrc.
    pub fn with_config(config: &str) -> Self {
        let home = TempDir::new().unwrap();
        let hgrc = format!(
            "[ui]\nusername = Test <test@example.org>\n[extensions]\nstrip =\nshare =\nrebase =\n\
             [experimental]\nevolution = all\n\
             [storage]\nfileindex.slow-path = allow\ndirstate-v2.slow-path = allow\nrevlog.persistent-nodemap.slow-path = allow\n{config}\n"
        );
        fs::write(home.path().join("hgrc"), hgrc).unwrap();
        let mut server = bare(home.path())
            .args(["serve", "--cmdserver", "pipe", "--config", "ui.interactive=no"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("hg starts");
        let (stdin, stdout) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
        let mut hg = Hg { server, stdin, stdout, home };
        let (channel, hello) = hg.receive();
        assert_eq!(channel, b'o', "{}", String::from_utf8_lossy(&hello));
        hg
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn repository(&self, name: &str) -> Repository {
        Repository::open(&self.path(name)).unwrap().with_hg(command())
    }

    pub fn reader(&self, name: &str) -> Reader {
        self.repository(name).reader().unwrap()
    }

    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 5];
        self.stdout.read_exact(&mut head).expect("the command server answers");
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        if head[0].is_ascii_uppercase() {
            return (head[0], Vec::new());
        }
        let mut data = vec![0; len as usize];
        self.stdout.read_exact(&mut data).expect("the command server answers");
        (head[0], data)
    }

    /// Runs a command with `-R repo`. Returns its status and all that it said.
    pub fn status(&mut self, repo: &str, args: &[&str]) -> (i32, String) {
        let mut all = Vec::new();
        if !repo.is_empty() {
            all.extend(["--cwd".to_owned(), self.path(repo).to_str().unwrap().to_owned()]);
        }
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        let text = all.join("\0");
        self.stdin.write_all(b"runcommand\n").unwrap();
        self.stdin.write_all(&(text.len() as u32).to_be_bytes()).unwrap();
        self.stdin.write_all(text.as_bytes()).unwrap();
        self.stdin.flush().unwrap();
        let mut said = Vec::new();
        loop {
            match self.receive() {
                (b'r', data) => {
                    let status = i32::from_be_bytes(data.try_into().unwrap());
                    return (status, String::from_utf8_lossy(&said).into_owned());
                }
                (b'o' | b'e', data) => said.extend(data),
                (b'I' | b'L', _) => self.stdin.write_all(&0_u32.to_be_bytes()).unwrap(),
                (channel, _) => panic!("channel {channel}"),
            }
        }
    }

    /// Runs a command that succeeds.
    pub fn run(&mut self, repo: &str, args: &[&str]) -> String {
        let (status, said) = self.status(repo, args);
        assert_eq!(status, 0, "hg {args:?} in {repo}: {said}");
        said
    }

    /// Writes a file in a working copy.
    pub fn write(&self, repo: &str, file: &str, content: impl AsRef<[u8]>) {
        let path = self.path(repo).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Commits everything and returns the node.
    pub fn commit(&mut self, repo: &str, message: &str) -> Node {
        self.run(repo, &["commit", "-A", "-q", "-m", message]);
        self.node(repo, ".")
    }

    pub fn node(&mut self, repo: &str, rev: &str) -> Node {
        self.run(repo, &["log", "--hidden", "-r", rev, "-T", "{node}"]).parse().expect("a node")
    }

    /// All nodes in order.
    pub fn nodes(&mut self, repo: &str) -> Vec<Node> {
        let text = self.run(repo, &["log", "--hidden", "-r", "all()", "-T", "{node}\n"]);
        text.lines().map(|line| line.parse().unwrap()).collect()
    }
}

impl Drop for Hg {
    fn drop(&mut self) {
        // The only process that this started; it may be gone already.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Numbers that are the same for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}
