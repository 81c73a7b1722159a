//! One message to the mail server, each step under a deadline.
//!
//! lettre's own transport has a deadline for TCP alone, and its errors do not tell whether it was
//! the server that wanted none of it or a message.

use std::future::Future;
use std::io::Read as _;
use std::time::Duration;

use lettre::Address;
use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};

use super::compose::Message;
use crate::config::{Mail, Security, open_regular};

/// Connecting, STARTTLS and the login are several answers each.
const SEVERAL: u32 = 2;

/// Servers look through a message before they answer, and who gives up too soon sends it twice:
/// RFC 5321, 4.5.3.2.6.
const FOR_MESSAGE: u32 = 10;

/// How long is waited for the answer to QUIT, which changes nothing.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a message was not sent.
pub(super) enum Refusal {
    /// This message will never be taken.
    Forever(String),
    /// This message may be taken later; others may be taken now.
    Message(String),
    /// The server took us, and broke off at this message: one of both is the cause.
    Broken(String),
    /// The server cannot be reached, or does not want us: no message will be taken now.
    Server(String),
}

/// The mail server, and what it takes to be let in.
pub(super) struct Server {
    host: String,
    port: u16,
    security: Security,
    tls: Option<TlsParameters>,
    credentials: Option<Credentials>,
    timeout: Duration,
}

/// A connection that a message goes over.
pub(super) struct Connection {
    smtp: AsyncSmtpConnection,
    timeout: Duration,
}

impl Server {
    /// Reads what the settings name.
    pub async fn of(mail: &Mail) -> Result<Server, String> {
        let smtp = &mail.smtp;
        let mut tls = None;
        if smtp.security != Security::None {
            let mut parameters = TlsParameters::builder(smtp.host.clone());
            if let Some(file) = &mail.ca_file {
                let pem = read(file).await?;
                let certificate = Certificate::from_pem(&pem)
                    .map_err(|error| format!("{}: {}", file.display(), said(&error)))?;
                parameters = parameters.add_root_certificate(certificate);
            }
            tls = Some(parameters.build().map_err(|error| said(&error))?);
        }
        let mut credentials = None;
        if let Some(user) = &smtp.user {
            let password = match (&smtp.password, &smtp.password_file) {
                (Some(password), _) => password.0.clone(),
                (None, Some(file)) => {
                    let text = String::from_utf8_lossy(&read(file).await?).into_owned();
                    text.lines().next().unwrap_or_default().to_owned()
                }
                (None, None) => String::new(),
            };
            credentials = Some(Credentials::new(user.clone(), password));
        }
        Ok(Server {
            host: smtp.host.clone(),
            port: smtp.port,
            security: smtp.security,
            tls,
            credentials,
            timeout: mail.timeout,
        })
    }

    /// Connects and logs in. What goes wrong here is no message's fault.
    async fn open(&self) -> Result<AsyncSmtpConnection, String> {
        let limit = self.timeout * SEVERAL;
        let hello = ClientId::default();
        let at_once = self.tls.clone().filter(|_| self.security == Security::Tls);
        let address = (self.host.as_str(), self.port);
        // Of several addresses the first may be one that nothing answers.
        let each = Some(self.timeout);
        let opening = AsyncSmtpConnection::connect_tokio1(address, each, &hello, at_once, None);
        let mut smtp = within(limit, "connect", opening).await.map_err(|failure| failure.why)?;
        if let (Some(tls), false) = (&self.tls, smtp.is_encrypted()) {
            let step = smtp.starttls(tls.clone(), &hello);
            within(limit, "STARTTLS", step).await.map_err(|failure| failure.why)?;
        }
        if let Some(credentials) = &self.credentials {
            let step = smtp.auth(DEFAULT_MECHANISMS, credentials);
            within(limit, "log in", step).await.map_err(|failure| failure.why)?;
        }
        Ok(smtp)
    }

    /// Connects, and goes as far as the server wants the text of a message. Until then breaking
    /// off does no harm.
    pub async fn begin(&self, message: &Message) -> Result<Connection, Refusal> {
        let address = |text: &str| {
            text.parse::<Address>().map_err(|error| Refusal::Forever(format!("{text}: {error}")))
        };
        let envelope = Envelope::new(Some(address(&message.from)?), vec![address(&message.to)?])
            .map_err(|error| Refusal::Forever(error.to_string()))?;
        let mut smtp = self.open().await.map_err(Refusal::Server)?;
        let mut parameters = Vec::new();
        if !(message.from.is_ascii() && message.to.is_ascii()) {
            if !smtp.server_info().supports_feature(Extension::SmtpUtfEight) {
                let why = "the address is not ASCII, and the server does not speak SMTPUTF8";
                return Err(Refusal::Forever(why.to_owned()));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        let from = MailFrom::new(envelope.from().cloned(), parameters);
        within(self.timeout, "MAIL", smtp.command(from)).await?;
        for to in envelope.to() {
            within(self.timeout, "RCPT", smtp.command(Rcpt::new(to.clone(), Vec::new()))).await?;
        }
        within(self.timeout, "DATA", smtp.command(Data)).await?;
        Ok(Connection { smtp, timeout: self.timeout })
    }
}

impl Connection {
    /// Sends the text. If it is broken off, the server may have the message or not.
    pub async fn finish(&mut self, message: &Message) -> Result<(), Refusal> {
        let sending = self.smtp.message(&message.raw);
        within(self.timeout.saturating_mul(FOR_MESSAGE), "the message", sending).await?;
        Ok(())
    }

    /// Says goodbye.
    pub async fn close(mut self) {
        let _silent = tokio::time::timeout(FAREWELL, self.smtp.abort()).await;
    }
}

/// A step that failed.
struct Failure {
    /// The code that the server gave, if it gave any.
    code: Option<String>,
    permanent: bool,
    why: String,
}

/// Waits for a step, but not for ever.
async fn within<T>(
    limit: Duration,
    step: &str,
    doing: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, doing).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Failure {
            code: error.status().map(|code| code.to_string()),
            permanent: error.is_permanent(),
            why: format!("{step}: {}", said(&error)),
        }),
        Err(_) => {
            let seconds = limit.as_secs_f64();
            let why = format!("{step}: the mail server did not answer within {seconds:.1} s");
            Err(Failure { code: None, permanent: false, why })
        }
    }
}

/// What it means for a message, once the server has let us in.
impl From<Failure> for Refusal {
    fn from(Failure { code, permanent, why }: Failure) -> Refusal {
        match code.as_deref() {
            // These are about a login that is missing, which an administrator can mend: see
            // RFC 4954.
            Some("502" | "503" | "530" | "534" | "535" | "538") => Refusal::Server(why),
            // 421 announces that the connection is closed.
            None | Some("421") => Refusal::Broken(why),
            Some(_) if permanent => Refusal::Forever(why),
            Some(_) => Refusal::Message(why),
        }
    }
}

/// An error with what caused it.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

async fn read(file: &std::path::Path) -> Result<Vec<u8>, String> {
    let path = file.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        open_regular(&path)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let read = reading.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    read.map_err(|error| format!("read {}: {error}", file.display()))
}
