//! A folder that looks like a repository, and a daemon's socket in it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use hgci_api::hook::Hint;
use hgci_hooks::Repository;
use hgci_hooks::spool::{Spool, SpoolError, Spooled};

/// A folder with `.hg/store` and whatever a test puts there. It goes away at the end.
pub struct Place {
    _folder: tempfile::TempDir,
    pub root: PathBuf,
}

impl Place {
    /// A repository that nothing is known of.
    pub fn private() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir_all(root.join(".hg/store")).unwrap();
        Place { _folder: folder, root }
    }

    /// A repository whose own hgrc names the socket [`Place::socket`].
    pub fn configured() -> Place {
        let place = Place::private();
        let hgrc = format!("[hgci]\nsocket = {}\n", place.socket().display());
        fs::write(place.hg().join("hgrc"), hgrc).unwrap();
        place
    }

    pub fn hg(&self) -> PathBuf {
        self.root.join(".hg")
    }

    pub fn socket(&self) -> PathBuf {
        self.root.join("s")
    }

    pub fn repository(&self) -> Repository {
        Repository::at(&self.root).unwrap()
    }

    pub fn spooled(&self) -> Vec<Hint> {
        let files = list(&self.hg(), 1000);
        files.iter().map(|file| read(file).unwrap().hint).collect()
    }

    /// Serves [`Place::socket`]: `answer` is called with each request's body and the stream.
    pub fn serve(
        &self,
        answer: impl Fn(&[u8], &mut UnixStream) + Send + 'static,
    ) -> Receiver<Vec<u8>> {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let (tell, seen) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while let Some(body) = request(&mut reader) {
                    answer(&body, &mut stream);
                    let _ = tell.send(body);
                }
            }
        });
        seen
    }

    /// Serves [`Place::socket`] with the same answer always.
    pub fn serve_json(&self, status: &'static str, json: &'static str) -> Receiver<Vec<u8>> {
        self.serve(move |_, stream| respond(stream, status, json.as_bytes()))
    }
}

/// The oldest files of a spool.
pub fn list(hg: &Path, limit: usize) -> Vec<PathBuf> {
    let Some(spool) = Spool::open(hg).unwrap() else { return Vec::new() };
    spool.list(limit).unwrap().iter().map(|name| spool.path_of(name)).collect()
}

/// Reads a file of a spool.
pub fn read(path: &Path) -> Result<Spooled, SpoolError> {
    let hg = path.ancestors().nth(3).unwrap();
    Spool::open(hg)?.unwrap().read(path.file_name().unwrap())
}

pub fn respond(stream: &mut UnixStream, status: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}

fn request(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}
