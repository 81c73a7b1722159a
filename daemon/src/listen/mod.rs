//! The sockets: a Unix socket for this machine and, with `[web]`, a TCP port, both serving the same
//! routes, and closed in order.
//!
//! - `unix`, `tcp`: making them
//! - `groups`: which groups a process of this machine is in
//! - `gate`: how many connections are open
//! - `connection`: one of them, with a limit on everything that a client decides
//! - `stall`: clients that do not read; `leftover`: bodies that nobody reads

mod connection;
mod gate;
mod groups;
mod held;
mod leftover;
mod stall;
pub mod tcp;
pub mod unix;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::app::App;
use crate::complaints::Complaints;
use crate::config::Config;
use crate::limits::{self, Caller, Limits};
use crate::metrics::{Door, Why};
use crate::web::{self, Peer};
use gate::{Gate, Seat};

/// How long calls that are under way may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// How many are told at the same time that there is no seat.
const TURNED_AWAY: usize = 32;

/// The daemon's open sockets.
pub struct Listening {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    socket: PathBuf,
}

impl Listening {
    /// Takes no more calls, waits a little for those under way, removes the socket.
    pub async fn stop(self) {
        let _none_left = self.stop.send(true);
        let _gone = std::fs::remove_file(&self.socket);
        let until = tokio::time::Instant::now() + GRACE;
        for task in self.tasks {
            let abort = task.abort_handle();
            if tokio::time::timeout_at(until, task).await.is_err() {
                abort.abort();
            }
        }
    }
}

/// What the connections of one socket share.
#[derive(Clone)]
struct Serving {
    door: Door,
    app: Arc<App>,
    routes: Router,
    limits: Arc<Limits>,
    gate: Arc<Gate>,
    /// Where those wait that found no seat, for their answer.
    turned_away: Arc<Semaphore>,
    complaints: Arc<Complaints>,
    /// Set when the daemon stops.
    stopped: watch::Receiver<bool>,
}

/// Opens the Unix socket, and serves the API on it and on the port, where there is one.
pub fn start(
    app: Arc<App>,
    config: &Config,
    socket: unix::Bound,
    port: Option<TcpListener>,
) -> Result<Listening, String> {
    let socket = socket.open()?;
    let (stop, stopped) = watch::channel(false);
    let routes = web::routes(app.clone());
    let serving = |door| Serving {
        door,
        app: app.clone(),
        routes: routes.clone(),
        limits: Arc::new(Limits::start()),
        gate: Arc::default(),
        turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
        complaints: Arc::default(),
        stopped: stopped.clone(),
    };
    let mut tasks = Vec::new();
    if let Some(port) = port {
        tasks.push(tokio::spawn(accept(port, of_tcp, serving(Door::Tcp))));
    }
    tasks.push(tokio::spawn(accept(socket, of_unix, serving(Door::Socket))));
    Ok(Listening { stop, tasks, socket: config.socket.clone() })
}

/// Takes connections until the daemon stops, and waits for those that are open.
async fn accept<L: Listener>(mut listener: L, peer: fn(&L::Io, L::Addr) -> Peer, serving: Serving) {
    let mut stopping = serving.stopped.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            (stream, address) = listener.accept() => {
                let peer = peer(&stream, address);
                match serving.seat(&peer) {
                    Some(seat) => {
                        connections.spawn(connection::serve(stream, peer, seat, serving.clone()));
                    }
                    None => serving.turn_away(stream, &peer),
                }
            }
            Some(_ended) = connections.join_next(), if !connections.is_empty() => {}
            _ = stopping.wait_for(|stop| *stop) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

impl Serving {
    fn seat(&self, peer: &Peer) -> Option<Seat> {
        let limit = self.app.current().config.limits.connections;
        self.gate.enter(Caller::of(peer), limits::share(&self.app, peer), limit)
    }

    /// Tells who finds no seat to come again, as far as there is time for that.
    fn turn_away<S>(&self, mut stream: S, peer: &Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.app.metrics.calls(self.door).refused(Why::Full);
        if let Some(unsaid) = self.complaints.next() {
            tracing::warn!(%peer, unsaid, "a connection was refused ([limits] connections)");
        }
        let Ok(permit) = self.turned_away.clone().try_acquire_owned() else { return };
        tokio::spawn(async move {
            let telling = async {
                stream.write_all(&connection::full()).await?;
                stream.shutdown().await?;
                // To be closed with something unread would take the answer back.
                tokio::io::copy(&mut stream.take(64 << 10), &mut tokio::io::sink()).await
            };
            let _too_slow = tokio::time::timeout(Duration::from_secs(1), telling).await;
            drop(permit);
        });
    }
}

fn of_unix(stream: &UnixStream, _: tokio::net::unix::SocketAddr) -> Peer {
    match stream.peer_cred() {
        Ok(peer) => Peer::Local { uid: peer.uid(), gids: groups::of(stream, peer.gid()) },
        Err(_) => Peer::Unknown,
    }
}

fn of_tcp(stream: &TcpStream, address: std::net::SocketAddr) -> Peer {
    // Answers are written whole; waiting for more of them only costs time.
    let _slower = stream.set_nodelay(true);
    Peer::Remote(address.ip().to_canonical())
}
