//! Who gets mail.

use std::collections::BTreeMap;

use lettre::message::Mailbox;

use super::account::one_line;
use super::report::PushReport;
use crate::config::{Mail, Recipient, When};

/// The most people who are told of one push; a fixed address comes before any author.
const MAX_PEOPLE: usize = 50;

/// The address in an hg author: `Alice <alice@example.org>`, or an address alone.
///
/// Authors are whatever somebody once wrote; `None` where that is no address.
pub fn author(text: &str) -> Option<Mailbox> {
    let text = text.get(..text.len().min(500)).unwrap_or_default();
    let (name, address) = match text.rsplit_once('<') {
        Some((name, rest)) => (name, rest.split('>').next().unwrap_or_default()),
        None => ("", text),
    };
    // Addresses with anything but plain ASCII would need a server that speaks SMTPUTF8.
    let address = address.trim();
    let sound = address.is_ascii() && !address.bytes().any(|b| b.is_ascii_control() || b == b' ');
    let email = if sound { address.parse().ok()? } else { return None };
    let name = one_line(name.trim().trim_matches('"'), 60);
    Some(Mailbox::new((!name.is_empty()).then_some(name), email))
}

/// Who is told of a push, each with what of it concerns them: authors hear of their own
/// changesets, the others of all.
pub fn recipients(mail: &Mail, report: &PushReport) -> Vec<(Mailbox, PushReport)> {
    let Some(report) = report.only(|_| true).filter(|report| wanted(mail.when, report)) else {
        return Vec::new();
    };
    let mut whole: Vec<Mailbox> = Vec::new();
    let mut authors: BTreeMap<String, Mailbox> = BTreeMap::new();
    for to in &mail.to {
        match to {
            Recipient::Fixed(mailbox) => whole.push(mailbox.clone()),
            Recipient::Pusher => whole.extend(pusher(mail, &report)),
            Recipient::Author => {
                for build in &report.builds {
                    match author(&build.author) {
                        Some(mailbox) => _ = authors.entry(key(&mailbox)).or_insert(mailbox),
                        None => tracing::info!(
                            node = %build.node,
                            author = ?build.author.chars().take(100).collect::<String>(),
                            "the author has no mail address"
                        ),
                    }
                }
            }
        }
    }
    let mut people: Vec<(Mailbox, PushReport)> = Vec::new();
    let mut add = |mailbox: Mailbox, report: PushReport| {
        if people.len() < MAX_PEOPLE && !people.iter().any(|(one, _)| key(one) == key(&mailbox)) {
            people.push((mailbox, report));
        }
    };
    for mailbox in whole {
        add(mailbox, report.clone());
    }
    for (address, mailbox) in authors {
        let own = report.only(|b| author(&b.author).is_some_and(|one| key(&one) == address));
        if let Some(own) = own.filter(|own| wanted(mail.when, own)) {
            add(mailbox, own);
        }
    }
    people
}

fn wanted(when: When, report: &PushReport) -> bool {
    let any = |of: fn(super::Change) -> bool| {
        report
            .builds
            .iter()
            .any(|build| of(build.change()) || build.jobs.iter().any(|job| of(job.change())))
    };
    match when {
        When::Always => true,
        When::Change => any(|change| change.is_bad() || change == super::Change::Fixed),
        When::Failure => any(super::Change::is_bad),
    }
}

fn pusher(mail: &Mail, report: &PushReport) -> Option<Mailbox> {
    let user = report.user.as_deref()?;
    let found = mail.address.get(user).cloned().or_else(|| {
        let named = user.contains('@').then(|| user.to_owned());
        let address = named.or_else(|| Some(format!("{user}@{}", mail.domain.as_deref()?)))?;
        author(&address)
    });
    if found.is_none() {
        let user: String = user.chars().take(100).collect();
        tracing::info!(?user, "the pusher has no mail address: see [mail] domain and address");
    }
    found
}

/// What makes two addresses the same person.
pub(super) fn key(mailbox: &Mailbox) -> String {
    mailbox.email.to_string().to_lowercase()
}
