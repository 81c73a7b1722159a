//! Hears of files that hooks put into spools, by inotify.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// Watches over the spool folders of all repositories.
#[derive(Clone)]
pub struct Watch {
    fd: Arc<AsyncFd<OwnedFd>>,
    /// Which repository a watch is for.
    repos: Arc<Mutex<HashMap<i32, String>>>,
}

impl Watch {
    /// A watch over nothing yet. Needs a tokio runtime.
    pub fn new() -> io::Result<Watch> {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // SAFETY: the descriptor is owned, and never replaced while it is registered.
        let fd = unsafe { AsyncFd::register(fd)? };
        Ok(Watch { fd: Arc::new(fd), repos: Arc::default() })
    }

    /// Watches one more folder, on behalf of a repository. Twice is once.
    pub fn add(&self, repo: &str, spool: &Path) -> io::Result<()> {
        // Hooks write under another name and rename: what appears is whole.
        let wanted = WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let id = inotify::add_watch(self.fd.get_ref(), spool, wanted)?;
        self.repos.lock().unwrap_or_else(PoisonError::into_inner).insert(id, repo.to_owned());
        Ok(())
    }

    /// Waits until something has appeared, and names the repositories.
    pub async fn next(&self) -> io::Result<Vec<String>> {
        loop {
            let mut ready = self.fd.readable().await?;
            let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 4096];
            let mut reader = inotify::Reader::new(self.fd.get_ref(), &mut buffer);
            let mut seen = Vec::new();
            loop {
                match reader.next() {
                    Ok(event) => {
                        // A name in progress starts with a dot.
                        let name = event.file_name().map(|name| name.to_bytes().to_vec());
                        let hidden = name.is_some_and(|name| name.starts_with(b"."));
                        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                            // Which ones were lost is not known: look at all.
                            seen.extend(self.repos().values().cloned());
                        } else if let (false, Some(repo)) = (hidden, self.repos().get(&event.wd()))
                        {
                            seen.push(repo.clone());
                        }
                    }
                    Err(rustix::io::Errno::AGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            seen.sort();
            seen.dedup();
            if !seen.is_empty() {
                return Ok(seen);
            }
        }
    }

    fn repos(&self) -> std::sync::MutexGuard<'_, HashMap<i32, String>> {
        self.repos.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_is_renamed_into_a_spool_is_heard_of() {
        let folder = tempfile::tempdir().unwrap();
        let watch = Watch::new().unwrap();
        watch.add("widgets", folder.path()).unwrap();
        watch.add("widgets", folder.path()).unwrap();
        std::fs::write(folder.path().join(".new"), "hint").unwrap();
        std::fs::rename(folder.path().join(".new"), folder.path().join("1.json")).unwrap();
        assert_eq!(watch.next().await.unwrap(), ["widgets"]);
    }
}
