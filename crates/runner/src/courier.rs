//! Bringing the log to the daemon and the daemon's word to the job, while the job runs.
//!
//! A job that is over in a moment needs none of this: what it wrote is sent when it has ended, by
//! the only thread there is. After [`SETTLED`] a second thread takes the link, so that a daemon
//! that is slow or away holds up neither the job's output nor its timeout.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hgci_api::run::MAX_LOG_CHUNK;
use rustix::event::{EventfdFlags, eventfd};

use crate::link::{Failure, Link, Lost, Waits};
use crate::log::Log;

/// A job that runs this long gets a second thread.
pub const SETTLED: Duration = Duration::from_millis(150);

/// While less than a chunk is waiting, it is sent this often.
const PACE: Duration = Duration::from_millis(150);

/// What the daemon wants of the job.
#[derive(Clone, Debug)]
pub enum News {
    /// Stop it, and say so.
    Cancel,
    /// Kill it: the attempt is not ours any more.
    Lost(Lost),
}

/// The log on its way.
#[derive(Debug)]
pub struct Courier {
    shared: Arc<Shared>,
    side: Side,
}

#[derive(Debug)]
enum Side {
    /// This thread has the link.
    Here(Sender),
    /// The second thread has it, and gives it back at its end.
    There(JoinHandle<Option<Sender>>),
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// Readable when there is news.
    bell: OwnedFd,
}

#[derive(Debug)]
struct State {
    log: Log,
    news: Option<News>,
    stop: bool,
}

#[derive(Debug)]
struct Sender {
    link: Link,
    /// What the daemon has.
    sent: u64,
    /// The daemon keeps no more.
    full: bool,
}

impl Courier {
    /// Takes the link and an empty log.
    pub fn new(link: Link, log: Log) -> io::Result<Courier> {
        let state = Mutex::new(State { log, news: None, stop: false });
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared { state, wake: Condvar::new(), bell });
        Ok(Courier { shared, side: Side::Here(Sender { link, sent: 0, full: false }) })
    }

    /// The link, while this thread has it.
    pub fn link(&mut self) -> Option<&mut Link> {
        match &mut self.side {
            Side::Here(sender) => Some(&mut sender.link),
            _ => None,
        }
    }

    /// Readable when [`Courier::news`] has some.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }

    /// What the daemon wants, once.
    pub fn news(&self) -> Option<News> {
        let mut buffer = [0; 8];
        // Nothing to read is fine: it is asked again.
        let _ = rustix::io::read(&self.shared.bell, &mut buffer);
        self.shared.lock().news.take()
    }

    /// Changes the log, and sends what is new when it is time.
    pub fn log<T>(&self, change: impl FnOnce(&mut Log) -> T) -> T {
        let done = change(&mut self.shared.lock().log);
        self.shared.wake.notify_one();
        done
    }

    /// Starts the second thread, once. Where the job has taken all threads that there may be, this
    /// one keeps the link.
    pub fn settle(&mut self) {
        if !self.is_here() {
            return;
        }
        let shared = self.shared.clone();
        // Only who has started is given the link.
        let (give, take) = mpsc::channel::<Sender>();
        let run = move || take.recv().ok().map(|sender| sender.run(&shared));
        let Ok(thread) = thread::Builder::new().name("courier".into()).spawn(run) else { return };
        if let Side::Here(sender) = std::mem::replace(&mut self.side, Side::There(thread)) {
            // It waits for this.
            let _ = give.send(sender);
        }
    }

    /// Whether [`Courier::settle`] is still to come.
    pub fn is_here(&self) -> bool {
        matches!(self.side, Side::Here(_))
    }

    /// Ends the second thread and sends the rest of the log. Gives the link back.
    pub fn finish(self) -> Result<Link, Lost> {
        let mut sender = match self.side {
            Side::Here(sender) => sender,
            Side::There(thread) => {
                self.shared.lock().stop = true;
                self.shared.wake.notify_one();
                thread.join().ok().flatten().ok_or_else(gone)?
            }
        };
        if let Some(News::Lost(lost)) = self.shared.lock().news.take() {
            return Err(lost);
        }
        loop {
            let (offset, part) = {
                let state = self.shared.lock();
                if sender.full || sender.sent >= state.log.length() {
                    return Ok(sender.link);
                }
                (sender.sent, state.log.part(sender.sent, MAX_LOG_CHUNK))
            };
            let bytes = match part.read() {
                Ok(bytes) => bytes,
                // The verdict matters more than a log that cannot be read back.
                Err(_) => return Ok(sender.link),
            };
            let kept = sender.link.insist(|link| {
                if Instant::now() >= link.renew_at() {
                    link.renew()?;
                }
                link.log(offset, &bytes)
            })?;
            if kept.offset == offset && !kept.full {
                thread::sleep(PACE);
            }
            sender.accepted(kept.offset, kept.full);
        }
    }
}

fn gone() -> Lost {
    Lost::Over("the thread that talks to the daemon died".into())
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, news: News) {
        self.lock().news = Some(news);
        // A counter that is full already rings.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

/// What the second thread does next.
enum Task {
    Stop,
    Renew,
    Send(crate::log::Part),
}

impl Sender {
    /// The second thread, until it is asked to stop or the attempt is lost.
    fn run(mut self, shared: &Shared) -> Sender {
        let mut waits = Waits::default();
        let mut not_before = Instant::now();
        let mut why = String::from("the daemon did not answer");
        loop {
            if Instant::now() >= self.link.until() {
                shared.tell(News::Lost(Lost::Over(why)));
                return self;
            }
            let done = match self.next(shared, not_before) {
                Task::Stop => return self,
                Task::Renew => self.link.renew().map(|cancel| {
                    if cancel {
                        shared.tell(News::Cancel);
                    }
                    not_before
                }),
                Task::Send(part) => self.send(part).map(|more| {
                    let pace = if more { Duration::ZERO } else { PACE };
                    Instant::now() + pace
                }),
            };
            match done {
                Ok(next) => {
                    not_before = next;
                    waits = Waits::default();
                }
                Err(Failure::LetGo(why)) => {
                    shared.tell(News::Lost(Lost::LetGo(why)));
                    return self;
                }
                Err(Failure::Later(error)) => {
                    why = error;
                    not_before = Instant::now() + waits.next();
                    if self.pause(shared, not_before) {
                        return self;
                    }
                }
            }
        }
    }

    /// Waits until there is something to do.
    fn next(&self, shared: &Shared, not_before: Instant) -> Task {
        let mut state = shared.lock();
        loop {
            let now = Instant::now();
            let waiting = !self.full && state.log.length() > self.sent;
            if state.stop {
                return Task::Stop;
            }
            if now >= self.link.renew_at() {
                return Task::Renew;
            }
            let much = state.log.length().saturating_sub(self.sent) >= MAX_LOG_CHUNK as u64;
            if waiting && (now >= not_before || much) {
                return Task::Send(state.log.part(self.sent, MAX_LOG_CHUNK));
            }
            let until =
                if waiting { self.link.renew_at().min(not_before) } else { self.link.renew_at() };
            let left = until.saturating_duration_since(now);
            state = match shared.wake.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Sends a part; whether as much is waiting again.
    fn send(&mut self, part: crate::log::Part) -> Result<bool, Failure> {
        let bytes = part.read().map_err(|error| Failure::Later(error.to_string()))?;
        let offset = self.sent;
        let kept = self.link.log(offset, &bytes)?;
        self.accepted(kept.offset, kept.full);
        if kept.offset == offset && !kept.full {
            return Err(Failure::Later("the daemon does not take the log".into()));
        }
        Ok(self.sent > offset && bytes.len() == MAX_LOG_CHUNK)
    }

    /// The daemon's word counts, also where it has less than it had: it may have lost some.
    fn accepted(&mut self, offset: u64, full: bool) {
        self.sent = offset;
        self.full = full;
    }

    /// Waits; whether it was asked to stop meanwhile.
    fn pause(&self, shared: &Shared, until: Instant) -> bool {
        let mut state = shared.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.stop || left.is_zero() {
                return state.stop;
            }
            state = match shared.wake.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}
