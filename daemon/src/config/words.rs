//! Small things with a syntax of their own: names, paths, passwords, roles.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hgci_core::document::{Value, quoted};

use super::Who;

/// The most bytes of a name of a repository or pool.
pub(super) const MAX_NAME: usize = 100;

/// The most bytes in the path of a Unix socket on Linux, without the closing zero.
pub(super) const MAX_SOCKET: usize = 107;

/// A password, which is not shown by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// A name that is safe in URLs, file names and terminals.
pub(super) fn name(value: &Value<'_>) -> Option<String> {
    let text = value.string()?;
    match check_name(text) {
        Ok(()) => Some(text.to_owned()),
        Err(why) => {
            value.mistake(format!("{} cannot be a name: {why}", quoted(text)), None);
            None
        }
    }
}

/// What is wrong with a name.
pub(super) fn check_name(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.len() > MAX_NAME {
        return Err("it has more than 100 bytes");
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b)) {
        return Err("it may have letters, digits and . _ - + alone");
    }
    if text.starts_with(['.', '-']) {
        return Err("it may not start with . or -");
    }
    Ok(())
}

/// The name of an account or group; hg's user names over HTTP can be addresses.
pub(super) fn account(value: &Value<'_>, text: &str) -> Option<String> {
    let sound = !text.is_empty()
        && text.len() <= MAX_NAME
        && !text.chars().any(|c| c.is_control() || c.is_whitespace() || c == ':' || c == '/');
    if !sound {
        value.mistake(format!("{} is not the name of an account", quoted(text)), None);
    }
    sound.then(|| text.to_owned())
}

/// The names of accounts.
pub(super) fn accounts(value: &Value<'_>) -> Vec<String> {
    let entries = value.strings().unwrap_or_default();
    entries.iter().filter_map(|(text, value)| account(value, text)).collect()
}

/// Addresses of machines.
pub(super) fn addresses(value: &Value<'_>) -> Vec<IpAddr> {
    let entries = value.strings().unwrap_or_default();
    let parse = |(text, value): &(&str, Value<'_>)| match text.parse::<IpAddr>() {
        Ok(address) => Some(address.to_canonical()),
        Err(_) => {
            let hint = Some("write \"127.0.0.1\" or \"::1\"".to_owned());
            value.mistake(format!("{} is not an address", quoted(text)), hint);
            None
        }
    };
    entries.iter().filter_map(parse).collect()
}

/// The entries of a role.
pub(super) fn who(value: &Value<'_>) -> Vec<Who> {
    let entries = value.strings().unwrap_or_default();
    entries
        .iter()
        .filter_map(|(text, value)| match text.strip_prefix('@') {
            _ if *text == "*" => Some(Who::Everybody),
            Some(group) => account(value, group).map(Who::Group),
            None => account(value, text).map(Who::Account),
        })
        .collect()
}

/// An absolute path without `..`.
pub(super) fn path(value: &Value<'_>) -> Option<PathBuf> {
    let text = value.string()?;
    let path = Path::new(text);
    if !path.is_absolute() {
        let hint = "hgcid is started from anywhere: begin it with /".to_owned();
        value.mistake(format!("{} is not an absolute path", quoted(text)), Some(hint));
        return None;
    }
    let odd = path.components().any(|part| part == std::path::Component::ParentDir);
    if odd || text.contains('\0') {
        value.mistake(format!("{} is not a plain path", quoted(text)), None);
        return None;
    }
    Some(path.to_owned())
}

/// Permissions of a socket: `"0660"`.
pub(super) fn mode(value: &Value<'_>) -> Option<u32> {
    let text = value.string()?;
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && mode & 0o600 == 0o600 => Some(mode),
        _ => {
            let hint = "write \"0660\" for owner and group, \"0666\" for every account".to_owned();
            value.mistake(format!("{} is not the mode of a socket", quoted(text)), Some(hint));
            None
        }
    }
}

/// Decodes `%41` as it stands in URLs; `None` where that is no text.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |at: usize| (*after.get(at)? as char).to_digit(16);
        bytes.push((digit(0)? * 16 + digit(1)?) as u8);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}
