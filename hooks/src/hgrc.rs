//! Reads one thing from a repository's own hgrc: whether it names `[hgci] socket`.
//!
//! The binary has no Mercurial to ask, and starting `hg config` would cost more than the hook may.
//! This follows `mercurial.config`: sections, items, continuation lines, `%unset`, `%include`.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const MAX_BYTES: u64 = 1 << 20;
const MAX_INCLUDES: usize = 16;

/// The value of `[hgci] socket` in this file and what it includes; `None` where it is not there,
/// or where the file cannot be read: then hg does not see it either.
pub fn socket(path: &Path) -> Option<String> {
    let mut reading = Reading { value: None, includes: 0 };
    reading.file(path);
    reading.value.filter(|value| !value.is_empty())
}

/// The same of the bytes of an hgrc that lies in `folder`.
pub fn socket_in(bytes: &[u8], folder: &Path) -> Option<String> {
    let mut reading = Reading { value: None, includes: 0 };
    reading.text(bytes, folder);
    reading.value.filter(|value| !value.is_empty())
}

struct Reading {
    value: Option<String>,
    includes: usize,
}

impl Reading {
    fn file(&mut self, path: &Path) {
        let mut options = File::options();
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let Ok(file) = options.read(true).custom_flags(nonblock).open(path) else { return };
        let mut bytes = Vec::new();
        if file.take(MAX_BYTES).read_to_end(&mut bytes).is_err() {
            return;
        }
        self.text(&bytes, path.parent().unwrap_or(Path::new("")));
    }

    fn text(&mut self, bytes: &[u8], folder: &Path) {
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut ours = false;
        // The item that an indented line would go on with: whether it is the socket.
        let mut item = None;
        for line in text.lines() {
            let line = line.trim_end();
            if line.starts_with([';', '#']) {
                continue;
            }
            if line.starts_with(char::is_whitespace)
                && let Some(socket) = item
            {
                // A socket's path has one line; more of it is a path that does not exist.
                if let Some(value) = self.value.as_mut().filter(|_| socket) {
                    value.push('\n');
                    value.push_str(line.trim_start());
                }
                continue;
            }
            item = None;
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                ours = name.0 == "hgci";
            } else if let Some(included) = line.strip_prefix("%include ") {
                self.include(included.trim(), folder);
            } else if let Some(name) = line.strip_prefix("%unset ") {
                if ours && name.trim() == "socket" {
                    self.value = None;
                }
            } else if let Some((name, value)) = line.split_once('=') {
                let socket = ours && name.trim_end() == "socket";
                if socket {
                    self.value = Some(value.trim_start().to_owned());
                }
                item = Some(socket);
            }
        }
    }

    fn include(&mut self, name: &str, folder: &Path) {
        if self.includes < MAX_INCLUDES {
            self.includes += 1;
            self.file(&folder.join(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn of(text: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hgrc");
        fs::write(&path, text).unwrap();
        socket(&path)
    }

    #[test]
    fn the_socket_is_found_as_hg_finds_it() {
        assert_eq!(of("[hgci]\nsocket = /run/x\n").as_deref(), Some("/run/x"));
        assert_eq!(of("[hgci]\nsocket=/a\n[ui]\nsocket=/b\n").as_deref(), Some("/a"));
        assert_eq!(of("[hgci]\nsocket=/a\nsocket =  /b\t\n").as_deref(), Some("/b"));
        assert_eq!(of("\u{feff}[hgci]\r\nsocket = /a\r\n").as_deref(), Some("/a"));
        assert_eq!(of("[hgci]\nsocket = /a\nx = 1\n# no\n  more\n").as_deref(), Some("/a"));
        assert_eq!(of("[hgci]\nsocket = /a\n  b\n").as_deref(), Some("/a\nb"));
    }

    #[test]
    fn what_hg_does_not_see_is_not_seen() {
        assert_eq!(of(""), None);
        assert_eq!(of("[ui]\nsocket = /run/x\n"), None);
        assert_eq!(of("[hgci]\n#socket = /run/x\n; socket = /y\n"), None);
        assert_eq!(of("[hgci]\nsocket = /run/x\n%unset socket\n"), None);
        assert_eq!(of("[hgci]\nsocket =\n"), None);
        assert_eq!(of("[hgci]\nsockets = /x\n"), None);
        assert_eq!(socket(Path::new("/nonexistent/hgrc")), None);
    }

    #[test]
    fn included_files_count_and_circles_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        let path = folder.path().join("hgrc");
        fs::write(&path, "%include d/more\n%include hgrc\n").unwrap();
        fs::write(folder.path().join("d/more"), "[hgci]\nsocket = /in/cluded\n").unwrap();
        assert_eq!(socket(&path).as_deref(), Some("/in/cluded"));
    }
}
