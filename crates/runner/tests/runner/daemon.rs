//! A small daemon for the tests: HTTP/1.1 on a Unix socket, the calls of a runner, and faults.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hgci_api::run::{Claim, Ended, Job, Lease, LogOffset, MAX_LOG_CHUNK, Renew};
use hgci_core::result::Verdict;

/// What the daemon knows and does.
pub struct State {
    pub job: Job,
    pub token: String,
    /// The source stream, chunked as it is.
    pub source: Vec<u8>,
    /// The source stream breaks off after this many bytes, this many times.
    pub break_source: (usize, u32),
    /// Answers one call with this status, this sentence.
    pub refuse_call: Option<(&'static str, u16, &'static str)>,
    pub instance: Option<String>,
    pub log: Vec<u8>,
    /// Counts the log instead of keeping it.
    pub count_log: Option<u64>,
    pub verdict: Option<Verdict>,
    pub renewals: u32,
    pub cancel: bool,
    /// Answers every call but `claim` and `source` with this status.
    pub refuse: Option<u16>,
    /// Takes calls and never answers, but for `claim` and `source`.
    pub mute: bool,
    /// How many calls of each kind came.
    pub calls: HashMap<String, u32>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Open connections, and whether new ones are taken.
    open: Mutex<(bool, Vec<UnixStream>)>,
}

/// A daemon that one runner talks to.
#[derive(Clone)]
pub struct Daemon {
    shared: Arc<Shared>,
    pub socket: PathBuf,
}

impl Daemon {
    pub fn start(socket: &Path, job: Job, source: Vec<u8>) -> Daemon {
        let state = State {
            job,
            token: "the-token".into(),
            source,
            break_source: (0, 0),
            refuse_call: None,
            instance: None,
            log: Vec::new(),
            count_log: None,
            verdict: None,
            renewals: 0,
            cancel: false,
            refuse: None,
            mute: false,
            calls: HashMap::new(),
        };
        let shared = Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            open: Mutex::new((false, Vec::new())),
        };
        let daemon = Daemon { shared: Arc::new(shared), socket: socket.to_owned() };
        daemon.up();
        daemon
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Waits until the state is as wanted; the limit is for broken runners alone.
    pub fn wait_for(&self, what: &str, mut wanted: impl FnMut(&State) -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        let mut state = self.state();
        while !wanted(&state) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "never came: {what}\n{}", String::from_utf8_lossy(&state.log));
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// Nobody listens, all connections are cut, as after `kill -9`.
    pub fn down(&self) {
        let mut open = self.shared.open.lock().unwrap();
        open.0 = false;
        let _ = fs::remove_file(&self.socket);
        // Wakes the thread that accepts.
        for stream in open.1.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Listens again.
    pub fn up(&self) {
        self.shared.open.lock().unwrap().0 = true;
        let listener = UnixListener::bind(&self.socket).unwrap();
        fs::set_permissions(&self.socket, fs::Permissions::from_mode(0o666)).unwrap();
        let shared = self.shared.clone();
        let inode = || fs::metadata(&self.socket).ok();
        let _ = inode();
        std::thread::spawn(move || {
            listener.set_nonblocking(false).unwrap();
            while let Ok((stream, _)) = listener.accept() {
                let mut open = shared.open.lock().unwrap();
                if !open.0 {
                    return;
                }
                open.1.push(stream.try_clone().unwrap());
                let shared = shared.clone();
                std::thread::spawn(move || drop(serve(&shared, stream)));
            }
        });
    }
}

/// One connection. An error ends it.
fn serve(shared: &Shared, stream: UnixStream) -> std::io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 20, stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        let mut token = String::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "authorization" => token = value.trim().into(),
                _ => {}
            }
        }
        assert!(length <= MAX_LOG_CHUNK);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let target = request.split(' ').nth(1).unwrap().to_owned();
        let rest = target.strip_prefix("/api/v1/attempts/12.0.1/").unwrap().to_owned();
        let (call, query) = rest.split_once('?').unwrap_or((&rest, ""));
        let mut state = shared.state.lock().unwrap();
        *state.calls.entry(call.to_owned()).or_default() += 1;
        if state.mute && call != "claim" && call != "source" {
            shared.changed.notify_all();
            drop(state);
            // The answer never comes; the connection stays.
            std::thread::sleep(Duration::from_secs(600));
            return Ok(());
        }
        if let Some((refused, status, why)) = state.refuse_call
            && refused == call
        {
            drop(state);
            let answer = format!("{{\"error\":\"{why}\"}}");
            let length = answer.len();
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{answer}")?;
            continue;
        }
        if call == "source" {
            let source = state.source.clone();
            let mut cut = source.len();
            if state.break_source.1 > 0 {
                state.break_source.1 -= 1;
                cut = state.break_source.0;
            }
            drop(state);
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            for piece in source[..cut].chunks(64 << 10) {
                write!(stream, "{:x}\r\n", piece.len())?;
                stream.write_all(piece)?;
                stream.write_all(b"\r\n")?;
            }
            if cut < source.len() {
                stream.shutdown(Shutdown::Both)?;
                return Ok(());
            }
            stream.write_all(b"0\r\n\r\n")?;
            continue;
        }
        let (status, answer) = answer(&mut state, &token, call, query, &body);
        drop(state);
        shared.changed.notify_all();
        write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())?;
    }
}

fn json(value: &impl serde::Serialize) -> (u16, String) {
    (200, serde_json::to_string(value).unwrap())
}

fn answer(state: &mut State, token: &str, call: &str, query: &str, body: &[u8]) -> (u16, String) {
    let refused = |status| (status, r#"{"error":"refused by the test"}"#.to_owned());
    if token != format!("Bearer {}", state.token) {
        return refused(401);
    }
    let lease = Lease { ms: state.job.lease.ms, cancel: state.cancel };
    if call == "claim" {
        let claim: Claim = serde_json::from_slice(body).unwrap();
        let instance = state.instance.get_or_insert(claim.instance.clone());
        return if *instance == claim.instance { json(&state.job) } else { refused(409) };
    }
    if let Some(status) = state.refuse {
        return refused(status);
    }
    match call {
        "renew" => {
            let renew: Renew = serde_json::from_slice(body).unwrap();
            assert_eq!(Some(&renew.instance), state.instance.as_ref());
            state.renewals += 1;
            json(&lease)
        }
        "log" => {
            let offset: u64 = query.strip_prefix("offset=").unwrap().parse().unwrap();
            let have = state.count_log.unwrap_or(state.log.len() as u64);
            if offset == have {
                match &mut state.count_log {
                    Some(count) => *count += body.len() as u64,
                    None => state.log.extend_from_slice(body),
                }
            }
            let offset = state.count_log.unwrap_or(state.log.len() as u64);
            json(&LogOffset { offset, full: false })
        }
        "verdict" => {
            let ended: Ended = serde_json::from_slice(body).unwrap();
            assert_eq!(Some(&ended.instance), state.instance.as_ref());
            state.verdict.get_or_insert(ended.verdict);
            (200, "{}".into())
        }
        other => panic!("unknown call {other}"),
    }
}
