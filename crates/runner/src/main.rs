//! `hgci-runner --socket ADDRESS --attempt KEY --work DIR`, with the attempt's token as the first
//! line of standard input. Started by hgcid, not by people.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use hgci_api::Client;
use hgci_runner::Signals;
use hgci_runner::attempt::{self, AttemptError, Options};
use hgci_runner::warden;
use rustix::rand::{GetRandomFlags, getrandom};

const USAGE: &str = "\
usage: hgci-runner --socket ADDRESS --attempt KEY --work DIR < TOKEN

Runs one attempt of a job for hgcid, which starts it and writes the attempt's token to its
standard input. ADDRESS is the path of hgcid's socket or http://HOST:PORT; DIR is a folder for this
attempt alone, removed at the end.
";

/// The longest token.
const MAX_TOKEN: u64 = 4096;

/// Exit statuses: the verdict is with the daemon, something is wrong here, the command line is
/// wrong, the attempt is not ours any more.
const FAULT: u8 = 1;
const WRONG_USE: u8 = 2;
const LET_GO: u8 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [warden::ARGUMENT] => match warden::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&format!("the warden: {error}"), FAULT),
        },
        ["--version"] => {
            say(concat!("hgci-runner ", env!("CARGO_PKG_VERSION"), "\n"));
            ExitCode::SUCCESS
        }
        ["--help" | "-h"] => {
            say(USAGE);
            ExitCode::SUCCESS
        }
        ref words => match parse(words) {
            Ok(options) => run(options),
            Err(why) => complain(&format!("{why}\n{USAGE}"), WRONG_USE),
        },
    }
}

fn parse(words: &[&str]) -> Result<Options, String> {
    let (mut socket, mut attempt, mut work) = (None, None, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let slot = match *word {
            "--socket" => &mut socket,
            "--attempt" => &mut attempt,
            "--work" => &mut work,
            other => return Err(format!("unknown argument {other:?}")),
        };
        *slot = Some(*words.next().ok_or_else(|| format!("{word} needs a value"))?);
    }
    let socket = socket.ok_or("--socket is missing")?;
    let work = PathBuf::from(work.ok_or("--work is missing")?);
    let attempt = attempt.ok_or("--attempt is missing")?.parse();
    Ok(Options {
        client: Client::connect(socket).map_err(|error| error.to_string())?,
        attempt: attempt.map_err(|error: hgci_core::id::NotAnAttempt| error.to_string())?,
        work: std::path::absolute(&work).map_err(|error| format!("--work: {error}"))?,
    })
}

fn run(mut options: Options) -> ExitCode {
    hgci_runner::keep_to_ourselves();
    // Started by a shell we may lead a group already; then the session stays as it is.
    let _ = rustix::process::setsid();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let signals = match Signals::block(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP]) {
        Ok(signals) => signals,
        Err(error) => return complain(&format!("blocking signals: {error}"), FAULT),
    };
    options.client = match token() {
        Ok(token) => options.client.with_token(&token),
        Err(why) => return complain(&why, WRONG_USE),
    };
    let mut random = [0_u8; 16];
    if let Err(error) = getrandom(&mut random, GetRandomFlags::empty()) {
        return complain(&format!("random bytes: {error}"), FAULT);
    }
    let instance: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    match attempt::run(&options, &instance, &signals) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let status = if matches!(error, AttemptError::Lost(_)) { LET_GO } else { FAULT };
            complain(&format!("attempt {}: {error}", options.attempt), status)
        }
    }
}

/// The first line of standard input. By descriptor, since arguments and environment are seen by
/// others.
fn token() -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    let mut input = std::io::stdin().lock().take(MAX_TOKEN);
    while matches!(input.read(&mut byte), Ok(1)) && byte[0] != b'\n' {
        bytes.push(byte[0]);
    }
    let token = String::from_utf8(bytes).map_err(|_| "the token is not text".to_owned())?;
    let token = token.trim();
    let plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if plain { Ok(token.to_owned()) } else { Err("no token on standard input".into()) }
}

fn complain(what: &str, status: u8) -> ExitCode {
    // Where nobody listens any more, nothing is said.
    let _ = writeln!(std::io::stderr(), "hgci-runner: {what}");
    ExitCode::from(status)
}

fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
