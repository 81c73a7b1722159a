//! What a repository's hgrc says of hgci: enough to warn, no more. hg itself reads it for real.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The most bytes of an hgrc that are looked at.
const MAX_SIZE: u64 = 1 << 20;

/// What matters in an hgrc.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hgrc {
    /// `[hgci] socket`.
    pub socket: Option<String>,
    /// Whether a hook starts `hgci-hook`.
    pub hook: bool,
    /// Whether it includes files, which are not looked at.
    pub includes: bool,
    /// The account that owns it.
    pub owner: u32,
}

impl Hgrc {
    /// Whether pushes are announced.
    pub fn announces(&self) -> bool {
        self.socket.is_some() || self.hook
    }
}

/// Reads a file; `None` where there is none.
pub(super) fn read(path: &Path) -> std::io::Result<Option<Hgrc>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let owner = file.metadata()?.uid();
    let mut bytes = Vec::new();
    file.take(MAX_SIZE).read_to_end(&mut bytes)?;
    Ok(Some(Hgrc { owner, ..parse(&String::from_utf8_lossy(&bytes)) }))
}

fn parse(text: &str) -> Hgrc {
    let (mut hgrc, mut section) = (Hgrc::default(), "");
    for line in text.lines() {
        if line.starts_with("%include") {
            hgrc.includes = true;
        }
        if line.starts_with([' ', '\t', '#', ';', '%']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            section = name.0.trim();
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim());
        match section {
            "hgci" if key == "socket" && !value.is_empty() => hgrc.socket = Some(value.to_owned()),
            "hooks" if value.contains("hgci-hook") => {
                hgrc.hook |= key.starts_with("txnclose") || key.starts_with("changegroup");
            }
            _ => {}
        }
    }
    hgrc
}

/// The configuration files of the whole machine.
pub(super) fn of_the_machine() -> Vec<PathBuf> {
    let mut files = vec![PathBuf::from("/etc/mercurial/hgrc")];
    if let Ok(entries) = std::fs::read_dir("/etc/mercurial/hgrc.d") {
        let more = entries.filter_map(|entry| Some(entry.ok()?.path()));
        files.extend(more.filter(|path| path.extension().is_some_and(|e| e == "rc")));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_announce_pushes_are_seen() {
        let text = "# [hgci]\n[extensions]\nhgci =\n[hgci]\nsocket = /run/hgci/hgcid.sock\n";
        let hgrc = parse(text);
        assert_eq!(hgrc.socket.as_deref(), Some("/run/hgci/hgcid.sock"));
        assert!(hgrc.announces());
        assert!(parse("[hooks]\ntxnclose.hgci = /usr/bin/hgci-hook --socket /x\n").announces());
        assert!(parse("[hooks]\nchangegroup.hgci = hgci-hook\n").announces());
        assert!(!parse("[hooks]\n# txnclose.hgci = hgci-hook\n[web]\nsocket = /x\n").announces());
        assert!(parse("%include ../more.rc\n").includes);
    }
}
