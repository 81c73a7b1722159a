//! Whether there is room to go on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hgci_core::engine::Event;
use hgci_core::quantity::format_size;

use crate::app::App;

/// How often the free space is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Keeps the engine from starting anything while there is too little room. `blocked` is what it
/// was made with.
pub async fn watch(app: Arc<App>, mut blocked: Option<String>) {
    if let Some(why) = &blocked {
        tracing::error!("nothing starts: {why}");
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = app.look_at_disk.notified() => {}
        }
        let current = app.current();
        let now = self::blocked(&current.config.state, current.config.limits.free);
        // While it lasts, status has the newest figures.
        if now == blocked || app.scheduler.event(Event::Blocked(now.clone())).await.is_err() {
            continue;
        }
        match (&now, &blocked) {
            (Some(why), None) => tracing::error!("nothing starts: {why}"),
            (None, Some(_)) => tracing::info!("there is room again"),
            _ => {}
        }
        blocked = now;
    }
}

/// Why nothing may start for want of room, or `None` while there is enough.
pub fn blocked(folder: &Path, wanted: u64) -> Option<String> {
    match free(folder) {
        Ok(free) => (free < wanted).then(|| {
            format!(
                "{} has {} free, less than limits.free = \"{}\"",
                folder.display(),
                format_size(free),
                format_size(wanted)
            )
        }),
        Err(error) => Some(format!("cannot tell the free space of {}: {error}", folder.display())),
    }
}

/// Bytes that are free in the file system of a folder.
pub fn free(folder: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_with_too_little_room_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(blocked(folder.path(), 0), None);
        let why = blocked(folder.path(), u64::MAX).unwrap();
        assert!(why.contains(folder.path().to_str().unwrap()), "{why}");
        assert!(blocked(Path::new("/does/not/exist"), 0).is_some());
    }
}
