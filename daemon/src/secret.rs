//! Random bytes that are made once and kept in a file of the state folder.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The file cannot be read or made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct SecretError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// What a file has, `size` bytes; they are chosen at random where it is not there or cut short.
/// The daemon's account alone may read it.
pub fn random_file(path: &Path, size: usize) -> Result<Vec<u8>, SecretError> {
    let at = |doing| move |source| SecretError { doing, path: path.to_owned(), source };
    match fs::read(path) {
        Ok(bytes) if bytes.len() == size => return Ok(bytes),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("read")(error)),
        _ => {}
    }
    let mut bytes = vec![0; size];
    fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(at("find random bytes for"))?;
    let fresh = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&fresh).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&fresh, path)).map_err(at("write"))?;
    Ok(bytes)
}
