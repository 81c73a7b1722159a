//! The daemon's name in results logs: random, chosen when its state folder is made.

use std::path::Path;

use crate::secret::{SecretError, random_file};

/// Reads `state/name`, or makes it at first: 32 hexadecimal digits.
pub fn open(state: &Path) -> Result<String, SecretError> {
    let bytes = random_file(&state.join("name"), 16)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
