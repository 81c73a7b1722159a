//! The runner's calls to the daemon, and how long it may go without them: the lease.

use std::io::Read;
use std::time::{Duration, Instant};

use hgci_api::client::{Client, Error, Patience};
use hgci_api::run::{Claim, Ended, Job, Lease, LogOffset, READ_BY_HG, Renew, path};
use hgci_core::AttemptKey;
use hgci_core::result::Verdict;

/// How long a call may take, or a stream may stand still.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a source tree may stand still. One that is read by hg comes when hg has all of it.
const SOURCE_PATIENCE: Duration = Duration::from_secs(120);

/// The first wait after a failed call; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(25);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How long a runner looks for its daemon before it has a lease.
const CLAIM_FOR: Duration = Duration::from_secs(600);

/// A lease is renewed after a third of it, and at least this often: a renewal is also how a
/// silent job's runner learns that it is cancelled.
const RENEW_WITHIN: Duration = Duration::from_secs(30);

/// The attempt is not ours any more.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Lost {
    /// The daemon said so.
    #[error("let go: {0}")]
    LetGo(String),
    /// The daemon could not be reached for as long as the lease was.
    #[error("the lease is over: {0}")]
    Over(String),
}

/// Why a single call has no answer.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The daemon is away or busy: later it may go well.
    Later(String),
    /// The daemon says that the attempt is not ours.
    LetGo(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.status() {
            // Too early, too slow, too many: all of them pass.
            Some(408 | 425 | 429) => Failure::Later(error.to_string()),
            Some(400..=499) => Failure::LetGo(error.to_string()),
            _ => Failure::Later(error.to_string()),
        }
    }
}

/// The calls of one attempt.
#[derive(Debug)]
pub struct Link {
    client: Client,
    attempt: AttemptKey,
    instance: String,
    /// When the lease is over, and when it is to be renewed.
    until: Instant,
    renew_at: Instant,
}

impl Link {
    /// For the attempt, as this instance. `client` has the attempt's token.
    pub fn new(client: Client, attempt: AttemptKey, instance: String) -> Link {
        let now = Instant::now();
        let until = now + CLAIM_FOR;
        Link { client, attempt, instance, until, renew_at: until }
    }

    /// When the lease must be renewed.
    pub fn renew_at(&self) -> Instant {
        self.renew_at
    }

    /// When the lease is over.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Takes the attempt.
    pub fn claim(&mut self) -> Result<Job, Failure> {
        let pid = std::process::id();
        let claim = Claim { v: hgci_api::PROTOCOL, instance: self.instance.clone(), pid };
        let before = Instant::now();
        let job: Job = self.client.post(&path(self.attempt, "claim"), &claim, TOTAL)?;
        self.leased(before, job.lease);
        Ok(job)
    }

    /// The source tree as a tar stream, and why it is the `hg` command that reads it, if it is; the
    /// inner error is why there will never be one.
    pub fn source(&self) -> Result<Result<(impl Read + use<>, Option<String>), String>, Failure> {
        let patience = Patience::Idle(SOURCE_PATIENCE);
        match self.client.download(&path(self.attempt, "source"), patience) {
            Ok(download) => {
                let by_hg = download.header(READ_BY_HG).map(str::to_owned);
                Ok(Ok((download.into_reader(), by_hg)))
            }
            Err(Error::Refused { status: 422, error, .. }) => Ok(Err(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a piece of the log.
    pub fn log(&self, offset: u64, bytes: &[u8]) -> Result<LogOffset, Failure> {
        let path = format!("{}?offset={offset}", path(self.attempt, "log"));
        Ok(self.client.post_bytes(&path, bytes, IDLE)?)
    }

    /// Renews the lease; whether the job is to be cancelled.
    pub fn renew(&mut self) -> Result<bool, Failure> {
        let body = Renew { instance: self.instance.clone() };
        let before = Instant::now();
        let lease: Lease = self.client.post(&path(self.attempt, "renew"), &body, TOTAL)?;
        self.leased(before, lease);
        Ok(lease.cancel)
    }

    /// Ends the attempt.
    pub fn verdict(&self, verdict: &Verdict) -> Result<(), Failure> {
        let body = Ended { instance: self.instance.clone(), verdict: verdict.clone() };
        let _: serde::de::IgnoredAny =
            self.client.post(&path(self.attempt, "verdict"), &body, TOTAL)?;
        Ok(())
    }

    /// Calls until there is an answer, or the lease is over. It is renewed meanwhile.
    pub fn insist<T>(
        &mut self,
        mut call: impl FnMut(&mut Link) -> Result<T, Failure>,
    ) -> Result<T, Lost> {
        let mut waits = Waits::default();
        loop {
            match call(self) {
                Ok(answer) => return Ok(answer),
                Err(Failure::LetGo(why)) => return Err(Lost::LetGo(why)),
                Err(Failure::Later(why)) => {
                    if Instant::now() >= self.renew_at {
                        // Whether the attempt is still ours, the call itself is told.
                        let _ = self.renew();
                    }
                    let wait = waits.next();
                    if Instant::now() + wait >= self.until {
                        return Err(Lost::Over(why));
                    }
                    std::thread::sleep(wait);
                }
            }
        }
    }

    /// The term starts before the call: the daemon's starts later, so ours ends first.
    fn leased(&mut self, before: Instant, lease: Lease) {
        let term = Duration::from_millis(lease.ms);
        self.until = before + term;
        self.renew_at = before + (term / 3).min(RENEW_WITHIN);
    }
}

const TOTAL: Patience = Patience::Total(PATIENCE);
const IDLE: Patience = Patience::Idle(PATIENCE);

/// The waits between tries.
#[derive(Debug)]
pub struct Waits(Duration);

impl Default for Waits {
    fn default() -> Self {
        Waits(FIRST_WAIT)
    }
}

impl Waits {
    /// The next wait, twice as long as the one before.
    pub fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST_WAIT);
        wait
    }
}
