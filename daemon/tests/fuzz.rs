//! Hostile input for the configuration. See `crates/core/tests/fuzz.rs`.

#[path = "../../crates/core/tests/fuzzing/mod.rs"]
mod fuzzing;

use hgci_core::document::MAX_MISTAKES;
use hgcid::config::{DEFAULTS, parse};

#[global_allocator]
static ALLOCATOR: fuzzing::Counting = fuzzing::Counting;

const WHOLE: &str = r#"
state = "/var/lib/hgci"
[web]
listen = "127.0.0.1:8010"
url = "https://ci.example.org/"
[mail]
smtp = "smtp+starttls://user@localhost:587"
password-file = "/etc/hgci/password"
from = "CI <ci@example.org>"
to = ["author", "list@example.org"]
[[repo]]
path = "/srv/hg/*"
build = "every"
trusted = ["alice"]
[[pool]]
name = "here"
isolation = "user:nobody"
lanes = ["trusted"]
[limits]
timeout = "1h30m"
log = "256MiB"
[roles]
reader = ["@hg", "*"]
[secret.KEY]
file = "/etc/hgci/key"
repos = ["widgets"]
"#;

#[test]
fn configurations_of_any_bytes_are_read_or_refused() {
    let target = fuzzing::Target {
        name: "hgcid.toml",
        seeds: &[WHOLE.as_bytes(), DEFAULTS.as_bytes(), b""],
        words: &[
            b"[[pool]]\n",
            b"[[repo]]\n",
            b"isolation = ",
            b"\"sandbox\"",
            b"smtp://[::1]:25",
            b"%40",
            b"\"90d\"",
            b"18446744073709551615",
            b"path = \"/*/*\"",
            b"name = \"..\"",
        ],
        max_len: 64 << 10,
        max_memory: 32 << 20,
    };
    target.fuzz(|input| match parse("f", input) {
        Ok(config) => vec![format!("{} {}", config.repos.len().min(3), config.pools.len().min(3))],
        Err(mistakes) => {
            assert!(!mistakes.is_empty() && mistakes.len() <= MAX_MISTAKES + 1);
            let mut kinds = Vec::new();
            for mistake in mistakes.iter().take(3) {
                let shown = mistake.to_string();
                assert!(!shown.chars().any(char::is_control) && shown.len() < 20_000, "{shown:?}");
                assert!(mistake.line > 0 && mistake.column > 0, "{shown}");
                let parts: Vec<_> = mistake.message.split('`').step_by(2).collect();
                kinds.push(parts.concat().chars().filter(|c| !c.is_numeric()).take(60).collect());
            }
            kinds
        }
    });
}
