//! A real mail server in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// `HGCI_TEST_PYTHON`, else that of the checkout: a Python with aiosmtpd.
fn python() -> PathBuf {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/venv/bin/python");
    let python = std::env::var_os("HGCI_TEST_PYTHON").map_or(checkout, PathBuf::from);
    assert!(
        python.is_file(),
        "these tests need a Python with aiosmtpd: set HGCI_TEST_PYTHON, or run `make test`"
    );
    python
}

pub struct Server {
    process: Child,
    said: BufReader<ChildStdout>,
    folder: PathBuf,
    pub port: u16,
}

impl Server {
    pub fn start(folder: &Path, words: &[&str]) -> Server {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail/server.py");
        let mut process = Command::new(python())
            .args(["-W", "ignore"])
            .arg(script)
            .arg(folder)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It tells every client that breaks off, which some tests are about.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        let mut server = Server { process, said, folder: folder.to_owned(), port: 0 };
        server.port = server.answer().parse().unwrap();
        server
    }

    /// Answers so to every message; with nothing, takes them.
    pub fn refuse(&mut self, text: &str) {
        assert_eq!(self.ask(&format!("refuse {text}")), "ok");
    }

    /// Drops the connection at messages with that text; with nothing, at none.
    pub fn hang_up(&mut self, text: &str) {
        assert_eq!(self.ask(&format!("hang-up {text}")), "ok");
    }

    /// How often it did so.
    pub fn hung_up(&mut self) -> usize {
        self.ask("hung-up").parse().unwrap()
    }

    /// Never answers to QUIT.
    pub fn mute(&mut self) {
        assert_eq!(self.ask("mute"), "ok");
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.process.stdin.as_mut().unwrap(), "{line}").unwrap();
        self.answer()
    }

    pub fn certificate(&self) -> PathBuf {
        self.folder.join("smtp-cert.pem")
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

/// The messages that a server with that folder has taken.
pub fn arrived(folder: &Path) -> Vec<String> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "eml"))
        .collect();
    files.sort();
    files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
