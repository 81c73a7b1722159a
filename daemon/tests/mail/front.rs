//! A port in front of the mail server, where it may be silent.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of a connection. One that was made in silence stays in silence.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It is taken, and no more.
    Silent,
    /// It is greeted, and no more.
    Greeting,
    /// The server has it.
    Through,
}

pub struct Front {
    pub port: u16,
    mood: watch::Sender<Mood>,
    taken: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Front {
    pub async fn of(server: u16, mood: Mood) -> Front {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mood, moods) = watch::channel(mood);
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mood = *moods.borrow();
                match mood {
                    Mood::Silent => held.push(client),
                    Mood::Greeting => {
                        let _ = client.write_all(b"220 front ESMTP\r\n").await;
                        held.push(client);
                    }
                    Mood::Through => drop(tokio::spawn(pass(client, server))),
                }
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Front { port, mood, taken, task }
    }

    /// From now on.
    pub fn be(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// How many connections there have been.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut client: TcpStream, server: u16) {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

/// A port that nobody listens on, and that nobody else is given while this is held. A server may
/// take it all the same.
pub struct Held(TcpSocket);

impl Held {
    pub fn new() -> Held {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Held(socket)
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}
