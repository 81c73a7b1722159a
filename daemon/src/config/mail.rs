//! `[mail]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hgci_core::document::{Key, Value, quoted};
use lettre::message::Mailbox;

use super::read::Layer;
use super::words::{self, Password, percent_decoded};

/// `[mail]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mail {
    /// The server that takes our mail.
    pub smtp: Smtp,
    /// Certificates to trust beside the system's, as PEM.
    pub ca_file: Option<PathBuf>,
    /// Who it comes from.
    pub from: Mailbox,
    /// How long results are collected; zero: one message a push.
    pub digest: Duration,
    /// Who gets it.
    pub to: Vec<Recipient>,
    /// When anybody gets it.
    pub when: When,
    /// What is behind the @ of a pusher.
    pub domain: Option<String>,
    /// Addresses of pushers.
    pub address: BTreeMap<String, Mailbox>,
    /// For each answer of the server.
    pub timeout: Duration,
    /// What could not be sent for so long is dropped.
    pub give_up: Duration,
}

/// The server that takes our mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp {
    /// How the connection is kept private.
    pub security: Security,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who we are there.
    pub user: Option<String>,
    /// How we show it, where it stands in the URL.
    pub password: Option<Password>,
    /// The file that has the password on its first line.
    pub password_file: Option<PathBuf>,
}

/// How the connection to the mail server is kept private.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// `smtp://`: not at all.
    None,
    /// `smtp+starttls://`: it must be, before anything is said.
    StartTls,
    /// `smtps://`: from the start.
    Tls,
}

/// Who gets mail.
#[derive(Clone, Debug, PartialEq)]
pub enum Recipient {
    /// The authors of what was built.
    Author,
    /// Who pushed it.
    Pusher,
    /// A list or a person.
    Fixed(Mailbox),
}

/// When mail is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// For each push.
    Always,
    /// Where something broke, is still failing, or was fixed.
    Change,
    /// Where something broke or is still failing.
    Failure,
}

/// Reads the table.
pub(super) fn read(layer: &mut Layer<'_, '_>) -> Option<Mail> {
    let smtp = layer.need("smtp", "write smtp = \"smtp://localhost:25\"");
    let from = layer.need("from", "write from = \"CI <ci@example.org>\"");
    let password_file = layer.own("password-file").and_then(|value| words::path(&value));
    let ca_file = layer.own("ca-file").and_then(|value| words::path(&value));
    let digest = layer.take("digest").and_then(|value| value.duration());
    let to = layer.take("to").map(|value| {
        let entries = value.strings().unwrap_or_default();
        let recipient = |(text, value): &(&str, Value<'_>)| match *text {
            "author" => Some(Recipient::Author),
            "pusher" => Some(Recipient::Pusher),
            _ => mailbox(value).map(Recipient::Fixed),
        };
        entries.iter().filter_map(recipient).collect()
    });
    let when = layer.take("when").and_then(|value| {
        value.one_of(&[
            ("always", When::Always),
            ("change", When::Change),
            ("failure", When::Failure),
        ])
    });
    let domain = layer.own("domain").and_then(|value| {
        let text = value.string()?;
        if format!("someone@{text}").parse::<Mailbox>().is_err() {
            value.mistake(format!("{} is not the domain of addresses", quoted(text)), None);
        }
        Some(text.to_owned())
    });
    // Every key of it is the user's, so that none is unknown.
    let address = layer.own("address").and_then(|value| value.table()).map(|table| {
        let address =
            |(key, value): &(Key<'_>, Value<'_>)| Some((key.text().to_owned(), mailbox(value)?));
        table.entries().iter().filter_map(address).collect()
    });
    let timeout = layer.take("timeout").and_then(|value| value.duration());
    let give_up = layer.take("give-up").and_then(|value| value.duration());
    let from = from.and_then(|value| mailbox(&value));
    let mut smtp = smtp.and_then(|value| server(&value))?;
    if password_file.is_some() && smtp.password.is_some() {
        let value = layer.own("password-file");
        value?.mistake("the password is in `smtp` too", Some("remove one".to_owned()));
        return None;
    }
    smtp.password_file = password_file;
    Some(Mail {
        smtp,
        ca_file,
        from: from?,
        digest: digest?,
        to: to?,
        when: when?,
        domain,
        address: address.unwrap_or_default(),
        timeout: timeout?,
        give_up: give_up?,
    })
}

/// An address, with or without a name.
fn mailbox(value: &Value<'_>) -> Option<Mailbox> {
    let text = value.string()?;
    match text.parse() {
        Ok(mailbox) => Some(mailbox),
        Err(_) => {
            let hint = "write \"ci@example.org\" or \"CI <ci@example.org>\"".to_owned();
            value.mistake(format!("{} is not a mail address", quoted(text)), Some(hint));
            None
        }
    }
}

/// `SCHEME://[USER[:PASSWORD]@]HOST[:PORT]`.
fn server(value: &Value<'_>) -> Option<Smtp> {
    let text = value.string()?;
    let smtp = parse_server(text);
    if smtp.is_none() {
        // Not repeated: it may have a password in it.
        let hint = "write \"smtp://HOST:25\", \"smtps://USER:PASSWORD@HOST\" or \
                    \"smtp+starttls://USER@HOST:587\"";
        value.mistake("not the URL of a mail server", Some(hint.to_owned()));
    }
    smtp
}

fn parse_server(text: &str) -> Option<Smtp> {
    let (scheme, rest) = text.split_once("://")?;
    let (security, port) = match scheme {
        "smtp" => (Security::None, 25),
        "smtp+starttls" => (Security::StartTls, 587),
        "smtps" => (Security::Tls, 465),
        _ => return None,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(l, p)| (Some(l), p));
    let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
        Some(("", _)) => return None,
        Some((user, "")) => (Some(percent_decoded(user)?), None),
        Some((user, word)) => {
            (Some(percent_decoded(user)?), Some(Password(percent_decoded(word)?)))
        }
        None => (None, None),
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if after.is_empty() { port } else { after.strip_prefix(':')?.parse().ok()? })
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (place, port),
        },
    };
    let sound = |c: char| c.is_ascii_alphanumeric() || ".-:_".contains(c);
    if host.is_empty() || !host.chars().all(sound) || port == 0 {
        return None;
    }
    let host = host.to_owned();
    Some(Smtp { security, host, port, user, password, password_file: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_as_the_manual_writes_them() {
        let read = |text| {
            let smtp = parse_server(text)?;
            let password = smtp.password.map(|password| password.0);
            Some((smtp.security, smtp.host, smtp.port, smtp.user, password))
        };
        let own = |text: &str| text.to_owned();
        assert_eq!(
            read("smtp://localhost:2525"),
            Some((Security::None, own("localhost"), 2525, None, None))
        );
        assert_eq!(
            read("smtps://ci%40example.org:p%3Aw:d@mail.example.org/"),
            Some((
                Security::Tls,
                own("mail.example.org"),
                465,
                Some(own("ci@example.org")),
                Some(own("p:w:d"))
            ))
        );
        assert_eq!(
            read("smtp+starttls://ci@[::1]"),
            Some((Security::StartTls, own("::1"), 587, Some(own("ci")), None))
        );
        for text in [
            "localhost",
            "smtp://",
            "smtp://:25",
            "http://host",
            "smtp://host:x",
            "smtp://host:0",
            "smtp://@host",
            "smtp://ho st",
            "smtp://host/path",
            "smtp://[::1",
            "smtp://%ff@host",
            "smtp://host:99999",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
