//! Hostile input for what hooks and daemon read from a repository that others can write to.
//! See `crates/core/tests/fuzz.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../../crates/core/tests/fuzzing/mod.rs"]
mod fuzzing;

use std::path::Path;

use hgci_hooks::{hgrc, spool};

#[global_allocator]
static ALLOCATOR: fuzzing::Counting = fuzzing::Counting;

const HINT: &[u8] = br#"{"v":1,"repo":"/srv/hg/w","txid":"TXN:7f67d68b","txnname":"push",
"source":"serve","url":"remote:ssh:h","first":"02a6aef7def779ab044636c71c5b511fdc93b22b",
"last":null,"changesets":1,"moved":false,"pushvars":{"A":"b"},"time_ms":17,"wait_ms":0}"#;

/// What is wrong, without the parts that differ from input to input.
fn kind(why: &str) -> String {
    let parts: Vec<_> = why.split('`').step_by(2).collect();
    parts.concat().chars().filter(|c| !c.is_ascii_digit()).take(60).collect()
}

#[test]
fn spool_files_of_any_bytes_are_read_or_refused() {
    let whole = spool::print(&serde_json::from_slice(HINT).unwrap()).unwrap();
    let target = fuzzing::Target {
        name: "spool",
        seeds: &[&whole, b"", b"{}\n", b"{}\ncrc32c 1a2b3c4d\n"],
        words: &[b"\ncrc32c ", b"\n"],
        max_len: 65_600,
        max_memory: 8 << 20,
    };
    target.fuzz(|input| match spool::parse(input) {
        Ok(hint) => {
            // With all its fields it may be too long to be written.
            if let Ok(printed) = spool::print(&hint) {
                assert_eq!(spool::parse(&printed), Ok(hint));
            }
            "fine".to_owned()
        }
        Err(why) => kind(&why),
    });
}

#[test]
fn spool_files_with_a_right_checksum_hold_any_json() {
    let target = fuzzing::Target {
        name: "spool-json",
        seeds: &[HINT, b"{}", b"[[[[", br#"{"pushvars":{"a":{}}}"#, br#"{"time_ms":1e999}"#],
        words: &[b"\"repo\":", b"null", b"{\"", b"[", b"\\ud800", b"-1", b"1e9"],
        max_len: 65_536,
        max_memory: 8 << 20,
    };
    target.fuzz(|input| {
        let mut content = input.to_vec();
        content.extend(format!("\ncrc32c {:08x}\n", crc32c::crc32c(input)).bytes());
        match spool::parse(&content) {
            Ok(hint) => {
                if let Ok(printed) = spool::print(&hint) {
                    assert_eq!(spool::parse(&printed), Ok(hint));
                }
                "fine".to_owned()
            }
            Err(why) => kind(&why),
        }
    });
}

#[test]
fn an_hgrc_of_any_bytes_names_a_socket_or_none() {
    let target = fuzzing::Target {
        name: "hgrc",
        seeds: &[
            b"[extensions]\nhgci =\n[hgci]\nsocket = /run/hgci/hgcid.sock\n",
            b"\xef\xbb\xbf[hgci]\r\nsocket=/a\r\n b\n# c\n%unset socket\n%include /nowhere/at/all\n",
        ],
        words: &[b"[hgci]\n", b"socket", b" = ", b"%unset ", b"%include ", b"\n "],
        max_len: 4096,
        max_memory: 8 << 20,
    };
    target.fuzz(|input| match hgrc::socket_in(input, Path::new("/nowhere")) {
        Some(socket) => {
            assert!(!socket.is_empty());
            "named".to_owned()
        }
        None => "none".to_owned(),
    });
}
