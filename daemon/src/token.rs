//! The tokens of attempts: an HMAC of the attempt's name under a secret of the state folder, so
//! that none is ever stored and each is good for one attempt alone.

use std::path::Path;

use hgci_core::AttemptKey;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::secret::{SecretError, random_file};

/// What the tokens of a state folder are made from.
#[derive(Clone)]
pub struct Tokens(Hmac<Sha256>);

impl Tokens {
    /// Reads `state/secret`, or makes it at first.
    pub fn open(state: &Path) -> Result<Tokens, SecretError> {
        let mut key = [0; 64];
        // A key that is shorter than SHA-256's block is filled up with zeros, says RFC 2104.
        key[..32].copy_from_slice(&random_file(&state.join("secret"), 32)?);
        Ok(Tokens(Hmac::new(&key.into())))
    }

    /// The token of an attempt: 64 hexadecimal digits.
    pub fn of(&self, attempt: AttemptKey) -> String {
        let mut mac = self.0.clone();
        mac.update(attempt.to_string().as_bytes());
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a token is that of the attempt, in constant time.
    pub fn fits(&self, attempt: AttemptKey, token: &str) -> bool {
        let expected = self.of(attempt);
        let differing = expected
            .bytes()
            .zip(token.bytes())
            .fold(expected.len() ^ token.len(), |sum, (a, b)| sum | usize::from(a ^ b));
        differing == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_attempt_alone_and_outlives_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let attempt = "12.0.1".parse().unwrap();
        let token = Tokens::open(folder.path()).unwrap().of(attempt);
        let again = Tokens::open(folder.path()).unwrap();
        assert!(again.fits(attempt, &token));
        assert!(!again.fits("12.0.2".parse().unwrap(), &token));
        assert!(!again.fits(attempt, &token[..63]));
        assert!(!again.fits(attempt, ""));
    }
}
