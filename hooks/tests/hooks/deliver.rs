//! `deliver`: to the daemon, else to the spool, never an error, never without end.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use hgci_api::hook::{Hint, Hinted, MAX_HINT};
use hgci_hooks::adoption::{self, Adoption};
use hgci_hooks::{Delivered, Target, deliver, hint};

use crate::place::{Place, respond};

fn hint_for(place: &Place, txid: &str) -> Hint {
    let variables = [
        ("TXNID", txid),
        ("SOURCE", "serve"),
        ("URL", "remote:ssh:::1"),
        ("NODE", "0123456789abcdef0123456789abcdef01234567"),
        ("USERVAR_DEBUG", "1"),
    ];
    hint::from_variables(&place.repository(), variables.into_iter())
}

/// For servers that never answer in time.
fn hasty() -> Target {
    Target { deadline: Duration::from_millis(100), ..Target::default() }
}

/// For servers that do answer: no test fails by the clock.
fn patient() -> Target {
    Target { deadline: Duration::from_secs(60), ..Target::default() }
}

#[test]
fn a_daemon_that_answers_has_the_hint_and_the_spool_has_nothing() {
    let place = Place::configured();
    let seen = place.serve_json("200 OK", r#"{"push": 17, "line": "push 17 recorded"}"#);
    let hint = hint_for(&place, "TXN:1");
    let delivered = deliver(&place.repository(), &hint, &patient());
    let hinted = Hinted { push: Some(17), line: "push 17 recorded".into(), more: vec![] };
    assert_eq!(delivered, Delivered::Daemon(hinted));
    assert_eq!(delivered.lines(), ["push 17 recorded"]);
    let told: Hint = serde_json::from_slice(&seen.recv().unwrap()).unwrap();
    assert_eq!(told, hint);
    assert_eq!(told.repo, place.root.to_str().unwrap());
    assert_eq!(told.first, told.last);
    assert_eq!(told.pushvars["DEBUG"], "1");
    assert!(!place.hg().join("hgci").exists());
}

#[test]
fn a_hint_without_a_difference_prints_nothing() {
    let place = Place::configured();
    let _seen = place.serve_json("200 OK", r#"{"push": null, "line": ""}"#);
    let delivered = deliver(&place.repository(), &hint_for(&place, "TXN:1"), &patient());
    assert_eq!(delivered.lines(), Vec::<String>::new());
    assert!(!delivered.is_trouble());
}

#[test]
fn the_wait_is_passed_on_and_more_lines_are_shown() {
    let place = Place::configured();
    let seen = place.serve(|_, stream| {
        thread::sleep(Duration::from_millis(300));
        let json = br#"{"push": 1, "line": "push 1: 1 build", "more": [".hgci.toml:3:7: what"]}"#;
        respond(stream, "200 OK", json);
    });
    // The deadline alone would be over.
    let target = Target { wait: Duration::from_secs(60), ..hasty() };
    let delivered = deliver(&place.repository(), &hint_for(&place, "TXN:1"), &target);
    assert_eq!(delivered.lines(), ["push 1: 1 build", ".hgci.toml:3:7: what"]);
    let told: Hint = serde_json::from_slice(&seen.recv().unwrap()).unwrap();
    assert_eq!(told.wait_ms, 60_000);
}

#[test]
fn whatever_goes_wrong_the_spool_has_the_hint() {
    type Answer = fn(&[u8], &mut std::os::unix::net::UnixStream);
    let answers: [(&str, Answer); 9] = [
        ("hangs", |_, _| thread::sleep(Duration::from_secs(3600))),
        ("closes", |_, stream| drop(stream.shutdown(std::net::Shutdown::Both))),
        ("says 500", |_, stream| respond(stream, "500 Internal Server Error", b"{}")),
        ("says 503", |_, stream| respond(stream, "503 Nope", br#"{"error": "disk full"}"#)),
        ("says 429", |_, stream| respond(stream, "429 Later", br#"{"error": "too many"}"#)),
        ("says 403", |_, stream| respond(stream, "403 Forbidden", br#"{"error": "who?"}"#)),
        ("is no HTTP server", |_, stream| {
            let _ = stream.write_all(b"220 mail.example.org ESMTP\r\n\r\n");
        }),
        ("says something else", |_, stream| respond(stream, "200 OK", b"[1, 2, 3]")),
        ("says too much", |_, stream| {
            respond(stream, "200 OK", format!("{{\"line\": \"{}", "x".repeat(1 << 24)).as_bytes());
        }),
    ];
    for (what, answer) in answers {
        let place = Place::configured();
        let _seen = place.serve(answer);
        let hint = hint_for(&place, "TXN:7");
        let delivered = deliver(&place.repository(), &hint, &hasty());
        assert!(matches!(delivered, Delivered::Spooled(_)), "{what}: {delivered:?}");
        let line = "daemon not reachable, push recorded; it will be built later";
        assert_eq!(delivered.lines(), [line], "{what}");
        assert_eq!(place.spooled(), [hint], "{what}");
    }
}

#[test]
fn a_daemon_that_is_down_or_gone_leaves_the_hint_to_the_spool() {
    let place = Place::configured();
    let never = hint_for(&place, "TXN:1");
    assert!(matches!(deliver(&place.repository(), &never, &patient()), Delivered::Spooled(_)));
    drop(std::os::unix::net::UnixListener::bind(place.socket()).unwrap());
    let gone = hint_for(&place, "TXN:2");
    assert!(matches!(deliver(&place.repository(), &gone, &patient()), Delivered::Spooled(_)));
    let ids: Vec<_> = place.spooled().into_iter().map(|hint| hint.txid).collect();
    assert_eq!(ids.len(), 2);
    assert!(ids.contains(&"TXN:1".into()) && ids.contains(&"TXN:2".into()));
}

#[test]
fn a_late_answer_means_both_daemon_and_spool_with_one_transaction_id() {
    let place = Place::configured();
    let seen = place.serve(|_, stream| {
        thread::sleep(Duration::from_millis(400));
        respond(stream, "200 OK", br#"{"push": 1, "line": "push 1 recorded"}"#);
    });
    let hint = hint_for(&place, "TXN:5");
    assert!(matches!(deliver(&place.repository(), &hint, &hasty()), Delivered::Spooled(_)));
    let told: Hint = serde_json::from_slice(&seen.recv().unwrap()).unwrap();
    assert_eq!([told], *place.spooled());
}

#[test]
fn a_private_repository_is_left_alone_even_when_told_a_socket() {
    let place = Place::private();
    let seen = place.serve_json("200 OK", r#"{"push": 1, "line": "push 1 recorded"}"#);
    let socket = place.socket().to_str().unwrap().to_owned();
    let target = Target { socket: Some(socket), ..patient() };
    let delivered = deliver(&place.repository(), &hint_for(&place, "TXN:1"), &target);
    assert_eq!(delivered, Delivered::Ignored);
    assert!(delivered.lines().is_empty());
    assert!(seen.try_recv().is_err());
    assert!(!place.hg().join("hgci").exists());
}

#[test]
fn an_adopted_repository_knows_its_daemon() {
    let place = Place::private();
    fs::create_dir(place.hg().join("hgci")).unwrap();
    let socket = place.socket().to_str().unwrap().to_owned();
    let mark = Adoption { socket: socket.clone(), repo: "widgets".into() };
    adoption::write(&place.hg(), &mark).unwrap();
    assert_eq!(place.repository().adoption(), Some(mark));
    let _seen = place.serve_json("200 OK", r#"{"push": 1, "line": "push 1 recorded"}"#);
    let delivered = deliver(&place.repository(), &hint_for(&place, "TXN:1"), &patient());
    assert_eq!(delivered.lines(), ["push 1 recorded"]);
    // What the hook is configured with comes first.
    let target = Target { socket: Some(format!("{socket}.other")), ..patient() };
    let delivered = deliver(&place.repository(), &hint_for(&place, "TXN:2"), &target);
    assert!(matches!(delivered, Delivered::Spooled(_)), "{delivered:?}");
    adoption::remove(&place.hg()).unwrap();
    adoption::remove(&place.hg()).unwrap();
    assert_eq!(place.repository().adoption(), None);
}

#[test]
fn a_repository_that_no_daemon_serves_fills_no_spool() {
    let place = Place::configured();
    let _seen = place.serve_json("404 Not Found", r#"{"error": "no such repository"}"#);
    let delivered = deliver(&place.repository(), &hint_for(&place, "TXN:1"), &patient());
    assert!(matches!(delivered, Delivered::NotServed(_)), "{delivered:?}");
    let line = format!("{}: no such repository (status 404)", place.socket().display());
    assert_eq!(delivered.lines(), [format!("not recorded: {line}")]);
    assert!(place.spooled().is_empty());
    // A daemon that did serve it may be about to do so again.
    fs::create_dir_all(place.hg().join("hgci")).unwrap();
    adoption::write(&place.hg(), &Adoption { socket: "/x".into(), repo: "w".into() }).unwrap();
    let delivered = deliver(&place.repository(), &hint_for(&place, "TXN:2"), &patient());
    assert!(matches!(delivered, Delivered::Spooled(_)), "{delivered:?}");
}

#[test]
fn a_socket_that_is_no_address_is_named_and_the_hint_kept() {
    let place = Place::configured();
    let target = Target { socket: Some("hgcid.sock".into()), ..patient() };
    let delivered = deliver(&place.repository(), &hint_for(&place, "TXN:1"), &target);
    assert!(matches!(delivered, Delivered::Misdirected(_)), "{delivered:?}");
    let line = &delivered.lines()[0];
    assert!(
        line.starts_with("push recorded, but not an address of hgcid: \"hgcid.sock\""),
        "{line}"
    );
    assert_eq!(place.spooled().len(), 1);
}

#[test]
fn without_daemon_and_spool_one_line_says_so() {
    let place = Place::configured();
    // A file where the folder should be: also root cannot write there.
    fs::write(place.hg().join("hgci"), "").unwrap();
    let delivered = deliver(&place.repository(), &hint_for(&place, "TXN:1"), &patient());
    assert!(matches!(delivered, Delivered::Lost(_)), "{delivered:?}");
    let lines = delivered.lines();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("push not recorded: "), "{lines:?}");
    assert!(lines[0].ends_with("the daemon will find it, but not who pushed"), "{lines:?}");
}

#[test]
fn what_the_daemon_says_cannot_harm_a_terminal_or_flood_it() {
    let place = Place::configured();
    let _seen = place.serve(|_, stream| {
        let more = vec!["y"; 1000];
        let line = "a\u{1b}]0;title\u{7}\nb\u{9b}31m";
        let json = serde_json::json!({ "push": 1, "line": line, "more": more });
        respond(stream, "200 OK", json.to_string().as_bytes());
    });
    let delivered = deliver(&place.repository(), &hint_for(&place, "TXN:1"), &patient());
    let lines = delivered.lines();
    assert_eq!(lines[0], "a ]0;title  b 31m");
    assert_eq!(lines.len(), 20);
}

#[test]
fn a_hint_fits_whatever_the_pusher_sends() {
    let place = Place::private();
    let huge = "\u{1}".repeat(1 << 20);
    let names: Vec<String> = (0..5000).map(|n| format!("USERVAR_{n}")).collect();
    let variables = ["TXNID", "TXNNAME", "SOURCE", "URL", "NODE", "NODE_LAST"];
    let variables = variables.into_iter().chain(names.iter().map(String::as_str));
    let hint = hint::from_variables(&place.repository(), variables.map(|name| (name, &huge)));
    assert!(serde_json::to_vec(&hint).unwrap().len() <= MAX_HINT);
    assert_eq!(hint.first, None);
    assert_eq!(hint.repo, place.root.to_str().unwrap());

    let odd = [("URL", b"remote:http:h:\xff\xfe".as_slice()), ("USERVAR_A", b"\x00")];
    let hint = hint::from_variables(&place.repository(), odd.into_iter());
    assert_eq!(hint.url, "remote:http:h:\u{fffd}\u{fffd}");
}

#[test]
fn a_read_only_repository_loses_nothing_but_the_pusher() {
    let place = Place::configured();
    let read_only = fs::Permissions::from_mode(0o555);
    fs::set_permissions(place.hg(), read_only).unwrap();
    let delivered = deliver(&place.repository(), &hint_for(&place, "TXN:1"), &patient());
    fs::set_permissions(place.hg(), fs::Permissions::from_mode(0o755)).unwrap();
    // Root writes all the same.
    assert!(matches!(delivered, Delivered::Lost(_) | Delivered::Spooled(_)), "{delivered:?}");
}
