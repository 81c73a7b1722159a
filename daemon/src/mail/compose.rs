//! A message: text, HTML and headers, of what is said of one push or several. The same makes the
//! same message.

use std::time::{Duration, SystemTime};

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use sha2::{Digest, Sha256};

use super::account::{Account, MAX_BUILDS, MAX_SUBJECT, Section, cut, one_line};
use super::html;
use super::people::key;
use super::report::{Change, PushReport};

/// The most builds of a digest that are told one by one.
const MAX_DIGEST_BUILDS: usize = 3 * MAX_BUILDS;

/// The most bytes of a message, as it is sent. Mail servers take more; a store takes 4 MiB.
const MAX_RAW: usize = 1 << 20;

/// Bytes for what is said of jobs, the text alone. What is written in HTML and encoded for the
/// way is longer, by how much depends on the text: where it is too long, the next one is tried.
/// With none at all the changesets are named, which always fits.
const BUDGETS: [usize; 3] = [256 << 10, 64 << 10, 0];

/// Where a message points to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The base of web pages, ending in `/`; empty where there are none.
    pub url: String,
}

impl Links {
    /// The page of a build.
    pub(super) fn build(&self, build: u64) -> Option<String> {
        (!self.url.is_empty()).then(|| format!("{}b/{build}", self.url))
    }
}

/// A message that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id, without angle brackets: the same for the same recipient and pushes.
    pub id: String,
    /// The address that it goes to.
    pub to: String,
    /// The address that it comes from.
    pub from: String,
    /// Headers and body, as they are sent: at most 1 MiB, and the headers.
    pub raw: Vec<u8>,
}

/// The message about one push.
///
/// # Errors
///
/// Fails when lettre takes no message of these parts, which would be a bug.
pub fn compose(
    report: &PushReport,
    from: &Mailbox,
    to: &Mailbox,
    links: &Links,
    now_ms: i64,
) -> Result<Message, lettre::error::Error> {
    digest(vec![Account::of(report)], from, to, links, now_ms)
}

/// The message about the pushes of a digest window: at least one.
///
/// # Errors
///
/// As [`compose`].
pub fn digest(
    accounts: Vec<Account>,
    from: &Mailbox,
    to: &Mailbox,
    links: &Links,
    now_ms: i64,
) -> Result<Message, lettre::error::Error> {
    let domain = from.email.domain();
    let repo = accounts.first().map(|account| account.repo.clone()).unwrap_or_default();
    let envelope = Envelope {
        id: message_id(&accounts, to, domain),
        thread: accounts.iter().map(|one| format!("<{}>", thread_id(one, domain))).collect(),
        list: format!("{repo}.hgci.{domain}"),
        from,
        to,
        now_ms,
    };
    let mut letter = Letter::of(accounts, links, repo);
    for budget in BUDGETS {
        cut(&mut letter.sections, budget);
        if letter.text().len() + letter.page().len() <= MAX_RAW {
            let message = envelope.around(&letter)?;
            if message.raw.len() <= MAX_RAW {
                return Ok(message);
            }
        }
    }
    // Sixty changesets without a word of their jobs.
    envelope.around(&letter)
}

/// What is written.
pub(super) struct Letter<'l> {
    pub subject: String,
    pub title: String,
    pub sections: Vec<Section>,
    /// What is not told, if anything.
    pub more: Option<String>,
    pub footer: String,
    pub links: &'l Links,
}

impl Letter<'_> {
    fn of(mut accounts: Vec<Account>, links: &Links, repo: String) -> Letter<'_> {
        let footer = format!("hgci told you because of what was pushed to {repo}.");
        let pushes = accounts.len();
        if pushes == 1
            && let Some(one) = accounts.pop()
        {
            let more = (one.more > 0)
                .then(|| format!("{} more builds of this push are not shown.", one.more));
            let Account { subject, title, sections, .. } = one;
            return Letter { subject, title, sections, more, footer, links };
        }
        // What broke is told first, whichever push did it.
        accounts.sort_by_key(|account| account.change);
        let worst = accounts.first().map_or(Change::Silent, |account| account.change);
        let mut repos: Vec<&str> = accounts.iter().map(|account| account.repo.as_str()).collect();
        repos.sort_unstable();
        repos.dedup();
        let repos = repos.join(", ");
        let title = format!("{}: {pushes} pushes to {}", worst.words(), one_line(&repos, 1000));
        let subject = one_line(&format!("[{repos}] {title}"), MAX_SUBJECT);
        let told: usize = accounts.iter().map(|account| account.sections.len()).sum();
        let more: usize = accounts.iter().map(|account| account.more).sum();
        let more = more + told.saturating_sub(MAX_DIGEST_BUILDS);
        let more = (more > 0).then(|| format!("{more} more builds are not shown."));
        let sections = accounts.into_iter().flat_map(|account| account.sections);
        let sections = sections.take(MAX_DIGEST_BUILDS).collect();
        Letter { subject, title, sections, more, footer, links }
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for section in &self.sections {
            text += &format!(
                "\n{} ({}) {}\n    {}\n",
                section.node, section.branch, section.description, section.author
            );
            for block in &section.blocks {
                let facts = if block.facts.is_empty() {
                    String::new()
                } else {
                    format!(": {}", block.facts)
                };
                text += &format!("\n  {}{facts}\n", block.heading);
                for line in &block.lines {
                    text += &format!("    | {line}\n");
                }
            }
            for line in section.remarks() {
                text += &format!("\n  {line}\n");
            }
            text += "\n";
            for (what, command) in section.commands() {
                text += &format!("  {what}: {command}\n");
            }
            if let Some(url) = self.links.build(section.build) {
                text += &format!("  {url}\n");
            }
        }
        if let Some(more) = &self.more {
            text += &format!("\n{more}\n");
        }
        // The line that mail programs take for the start of a signature.
        text + &format!("\n-- \n{}\n", self.footer)
    }

    fn page(&self) -> String {
        html::page(self)
    }
}

/// Who writes to whom, and about what.
struct Envelope<'e> {
    id: String,
    thread: Vec<String>,
    list: String,
    from: &'e Mailbox,
    to: &'e Mailbox,
    now_ms: i64,
}

impl Envelope<'_> {
    fn around(&self, letter: &Letter<'_>) -> Result<Message, lettre::error::Error> {
        let now = Duration::from_millis(u64::try_from(self.now_ms).unwrap_or_default());
        let mut builder = lettre::Message::builder()
            .from(self.from.clone())
            .to(self.to.clone())
            .date(SystemTime::UNIX_EPOCH + now)
            .subject(letter.subject.clone())
            .message_id(Some(format!("<{}>", self.id)))
            .references(self.thread.join(" "))
            .in_reply_to(self.thread.first().cloned().unwrap_or_default());
        for (name, value) in [
            (HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()),
            (HeaderName::new_from_ascii_str("Precedence"), "bulk".to_owned()),
            (HeaderName::new_from_ascii_str("List-Id"), format!("<{}>", self.list)),
            // Of well-meaning vacation programs, some know this one alone.
            (HeaderName::new_from_ascii_str("X-Auto-Response-Suppress"), "All".to_owned()),
        ] {
            builder = builder.raw_header(HeaderValue::new(name, value));
        }
        let parts = MultiPart::alternative_plain_html(letter.text(), letter.page());
        Ok(Message {
            id: self.id.clone(),
            to: self.to.email.to_string(),
            from: self.from.email.to_string(),
            raw: builder.multipart(parts)?.formatted(),
        })
    }
}

/// The id of the thread of a push. No message has it: all messages about the push refer to it.
fn thread_id(account: &Account, domain: &str) -> String {
    format!("hgci.{}.{}.{}@{domain}", account.repo, account.push, account.received_ms)
}

fn message_id(accounts: &[Account], to: &Mailbox, domain: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(key(to));
    for account in accounts {
        hash.update(format!("\0{}\0{}\0{}", account.repo, account.push, account.received_ms));
    }
    let hash: String = hash.finalize()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("hgci.{hash}@{domain}")
}
