//! Who pushed, and which lane the work of a push takes.
//!
//! Believed are the kernel, which vouches for the account behind a socket or owning a spool file,
//! and, for accounts that the repository names as front ends, what they say of their own
//! authentication. A changeset's author is never asked.

use hgci_core::push::{Lane, Phase};

/// Who pushed: the user that a front end has authenticated, else the account itself.
///
/// `url` is `HG_URL`; hgweb writes `remote:http:HOST:USER` with each part percent-encoded. An empty
/// USER is a push that nobody was asked to authenticate for: then it is nobody's.
pub fn pusher(url: &str, account: Option<&str>, frontends: &[String]) -> Option<String> {
    let account = account?;
    let is_frontend = frontends.iter().any(|name| name == account);
    let mut parts = url.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("remote"), Some("http" | "https"), Some(_host), Some(user)) if is_frontend => {
            let user = percent_encoding::percent_decode_str(user).decode_utf8().ok()?;
            let fit = !user.is_empty() && user.len() <= 256 && !user.contains(char::is_control);
            fit.then(|| user.into_owned())
        }
        _ => Some(account.to_owned()),
    }
}

/// The lane of a changeset: trusted where it is public and came from somebody whom the repository
/// trusts. Without a list that is whoever may push, and what reconciling finds.
pub fn lane(phase: Phase, user: Option<&str>, trusted: Option<&[String]>) -> Lane {
    let by_trusted = match (trusted, user) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(trusted), Some(user)) => trusted.iter().any(|name| name == user),
    };
    if phase == Phase::Public && by_trusted { Lane::Trusted } else { Lane::Try }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(url: &str, account: &str) -> Option<String> {
        pusher(url, Some(account), &["www-data".into()])
    }

    #[test]
    fn a_front_end_is_believed_about_its_users() {
        assert_eq!(who("remote:http:10.0.0.1:alice", "www-data").as_deref(), Some("alice"));
        assert_eq!(who("remote:https:10.0.0.1:al%3Aice", "www-data").as_deref(), Some("al:ice"));
        assert_eq!(who("remote:http:%3A%3A1:alice", "www-data").as_deref(), Some("alice"));
    }

    #[test]
    fn nobody_else_is_believed() {
        assert_eq!(who("remote:http:10.0.0.1:alice", "mallory").as_deref(), Some("mallory"));
        assert_eq!(who("remote:ssh:10.0.0.1", "mallory").as_deref(), Some("mallory"));
        assert_eq!(who("file:/home/alice/repo", "mallory").as_deref(), Some("mallory"));
        assert_eq!(pusher("remote:http:h:alice", None, &["www-data".into()]), None);
    }

    #[test]
    fn a_push_over_http_without_a_login_is_nobodys() {
        assert_eq!(who("remote:http:10.0.0.1:", "www-data"), None);
        assert_eq!(who("remote:http:10.0.0.1:a%0Ab", "www-data"), None);
        assert_eq!(who("remote:http:10.0.0.1:%ff", "www-data"), None);
    }

    #[test]
    fn the_trusted_lane_is_for_public_work_of_trusted_people() {
        let alice = ["alice".to_owned()];
        assert_eq!(lane(Phase::Public, Some("alice"), Some(&alice)), Lane::Trusted);
        assert_eq!(lane(Phase::Draft, Some("alice"), Some(&alice)), Lane::Try);
        assert_eq!(lane(Phase::Public, Some("bob"), Some(&alice)), Lane::Try);
        assert_eq!(lane(Phase::Public, None, Some(&alice)), Lane::Try);
        assert_eq!(lane(Phase::Public, None, None), Lane::Trusted);
    }
}
