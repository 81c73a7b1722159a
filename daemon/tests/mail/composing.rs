//! What is said, and to whom.

use hgcid::mail::{Account, Links, Message, author, compose, digest, recipients};
use lettre::message::Mailbox;

use super::*;

fn to(report: &PushReport, address: &str) -> Message {
    let from: Mailbox = "CI <ci@ci.example.org>".parse().unwrap();
    let links = Links { url: "https://ci.example.org/".to_owned() };
    compose(report, &from, &address.parse().unwrap(), &links, 1_795_203_100_000).unwrap()
}

/// The headers of a message, unfolded.
fn headers(message: &Message) -> Vec<String> {
    let text = String::from_utf8(message.raw.clone()).unwrap();
    let head = text.split("\r\n\r\n").next().unwrap().to_owned();
    head.replace("\r\n ", " ").split("\r\n").map(str::to_owned).collect()
}

fn header(message: &Message, name: &str) -> String {
    let prefix = format!("{name}: ");
    let found = headers(message).into_iter().find(|line| line.starts_with(&prefix));
    found.unwrap_or_else(|| panic!("no {name}"))[prefix.len()..].to_owned()
}

fn addresses(mail: &Mail, report: &PushReport) -> Vec<String> {
    recipients(mail, report).into_iter().map(|(to, _)| to.email.to_string()).collect()
}

#[test]
fn what_changed_comes_first_then_the_rest_with_how_to_see_and_repeat() {
    let message = to(&broken(9), "alice@example.org");
    let raw = String::from_utf8(message.raw.clone()).unwrap();
    let text = raw.split("-- \r\n").next().unwrap().replace("\r\n", "\n");
    let expected = "broken: push 9 to widgets by alice\n\
        \n090909090909 (default) fix the frobnicator\n    Alice <alice@example.org>\n\
        \n  broken test:3.9: exit 2, 3s210ms, tests: 40 passed, 2 failed, 1 skipped\n    \
        | FAILED tests/test_a.py\n    | make: *** [check] Error 2\n\
        \n  still failing lint: exit 2, 3s210ms\n\
        \n  fixed docs: 3s210ms\n\
        \n  passed: build\n\
        \n  not run: deploy\n\
        \n  to see: hg ci-status -r 090909090909\n  \
        log of test:3.9: hg ci-log -r 090909090909 'test:3.9'\n  \
        test:3.9 here: hg update -r 090909090909 && sh -e -c 'make it'\\''s'\n  \
        log of lint: hg ci-log -r 090909090909 'lint'\n  \
        https://ci.example.org/b/9\n";
    assert!(text.contains(expected), "{text}");
    assert_eq!(
        header(&message, "Subject"),
        "[widgets] broken: test:3.9 (090909090909 fix the frobnicator)"
    );
    assert_eq!(header(&message, "Auto-Submitted"), "auto-generated");
    assert_eq!(header(&message, "Precedence"), "bulk");
    assert_eq!(header(&message, "List-Id"), "<widgets.hgci.ci.example.org>");
    assert!(header(&message, "Date").starts_with("Fri, 20 Nov 2026 19:31:40"));
    assert!(raw.contains("text/html") && raw.contains("<pre"));
}

#[test]
fn a_message_has_the_same_id_whenever_it_is_made_and_a_push_is_one_thread() {
    let ids = |message: &Message| (header(message, "Message-ID"), header(message, "References"));
    let (first, thread) = ids(&to(&broken(9), "alice@example.org"));
    assert_eq!(
        ids(&to(&broken(9), "Alice A <ALICE@example.org>")),
        (first.clone(), thread.clone())
    );
    let (other, same_thread) = ids(&to(&broken(9), "bob@example.org"));
    assert_ne!(first, other);
    assert_eq!(thread, same_thread);
    let (next, other_thread) = ids(&to(&broken(10), "alice@example.org"));
    assert_ne!(first, next);
    assert_ne!(thread, other_thread);
    assert_ne!(first, thread, "a message that refers to itself");
}

#[test]
fn nobody_is_told_of_cancelled_superseded_or_skipped_work() {
    let mail = mail("smtp = \"smtp://localhost\"");
    for state in [JobState::Cancelled, JobState::Superseded, JobState::Skipped] {
        let report = push(1, vec![build(1, "a@example.org", vec![job("a", state, None)])]);
        assert_eq!(recipients(&mail, &report).len(), 0, "{state}");
    }
    // What failed beside it is told all the same.
    let mut report = broken(1);
    report.builds.push(build(2, "b@example.org", vec![job("a", JobState::Superseded, None)]));
    assert_eq!(addresses(&mail, &report), ["alice@example.org"]);
}

#[test]
fn authors_hear_of_their_own_changesets_and_others_of_all_once_each() {
    let mail = mail(
        "smtp = \"smtp://localhost\"\nto = [\"author\", \"pusher\", \"Alice <Alice@example.org>\", \
         \"list@example.org\"]\ndomain = \"example.org\"",
    );
    let mut report = broken(1);
    report.builds.push(build(2, "bob@example.org", vec![job("a", JobState::Passed, None)]));
    report.builds.push(build(3, "nobody", vec![job("a", JobState::Passed, None)]));
    report.user = Some("carol".to_owned());
    let people = recipients(&mail, &report);
    let builds: Vec<(String, usize)> =
        people.iter().map(|(to, report)| (to.email.to_string(), report.builds.len())).collect();
    assert_eq!(
        builds,
        [
            ("carol@example.org".to_owned(), 3),
            ("Alice@example.org".to_owned(), 3),
            ("list@example.org".to_owned(), 3),
            ("bob@example.org".to_owned(), 1),
        ]
    );
}

#[test]
fn quiet_settings_are_quiet() {
    let mail = |when: &str| mail(&format!("smtp = \"smtp://localhost\"\nwhen = \"{when}\""));
    let author = "a@example.org";
    let of = |state, before| push(1, vec![build(1, author, vec![job("a", state, before)])]);
    use JobState::*;
    for (report, told) in [
        (of(Passed, None), [1, 0, 0]),
        (of(Passed, Some(Failed)), [1, 1, 0]),
        (of(Failed, Some(Failed)), [1, 1, 1]),
        (of(TimedOut, None), [1, 1, 1]),
    ] {
        let now = ["always", "change", "failure"].map(|w| recipients(&mail(w), &report).len());
        assert_eq!(now, told, "{report:?}");
    }
}

#[test]
fn a_malformed_pipeline_is_told_with_its_mistakes() {
    let mut report = broken(3);
    report.builds[0].jobs.clear();
    report.builds[0].state = BuildState::Failed;
    report.builds[0].message = Some(".hgci.toml:3:7: unknown key `rum`".to_owned());
    let message = to(&report, "alice@example.org");
    let raw = String::from_utf8(message.raw.clone()).unwrap();
    assert!(raw.contains("the pipeline is malformed"), "{raw}");
    assert!(raw.contains("| .hgci.toml:3:7: unknown key `rum`"), "{raw}");
    assert!(header(&message, "Subject").starts_with("[widgets] failed ("));
}

#[test]
fn nothing_that_somebody_wrote_becomes_a_header_or_markup() {
    let mut report = broken(4);
    let build = &mut report.builds[0];
    build.description = "x\r\nBcc: evil@example.org\r\n\r\n<script>alert(1)</script>".to_owned();
    build.author = "Eve\r\nBcc: evil@example.org <eve@example.org>".to_owned();
    build.branch = "b\u{202e}ranch\n".to_owned();
    build.jobs[1].lines = vec!["<img src=x onerror=alert(1)>".to_owned()];
    build.jobs[1].name = "j\r\nX-Evil: 1".to_owned();
    report.user = Some("mallory\nX-Evil: 1".to_owned());
    report.repo = "widgets".to_owned();
    let mail = mail("smtp = \"smtp://localhost\"");
    let (who, report) = recipients(&mail, &report).remove(0);
    assert_eq!(who.email.to_string(), "eve@example.org");
    let message = to(&report, &who.to_string());
    for line in headers(&message) {
        assert!(!line.starts_with("Bcc") && !line.starts_with("X-Evil"), "{line}");
    }
    let raw = String::from_utf8(message.raw).unwrap();
    let html = raw.split("text/html").nth(1).unwrap();
    assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
    for line in raw.lines() {
        assert!(!line.starts_with("X-Evil") && !line.starts_with("Bcc"), "{raw}");
    }
}

#[test]
fn names_in_any_script_arrive_and_what_is_no_address_is_left_out() {
    let mut report = broken(5);
    report.builds[0].description = "répare le frobnicateur 日本語".to_owned();
    let message = to(&report, "Zoë Ünïcode <zoe@example.org>");
    assert!(message.raw.is_ascii());
    assert!(header(&message, "To").contains("=?utf-8?b?"), "{}", header(&message, "To"));
    let address = |text: &str| author(text).map(|mailbox| mailbox.email.to_string());
    assert_eq!(address("Alice <alice@example.org>").as_deref(), Some("alice@example.org"));
    assert_eq!(address("alice@example.org").as_deref(), Some("alice@example.org"));
    assert_eq!(address("A <B> <c@example.org>").as_deref(), Some("c@example.org"));
    let long = format!("{}@example.org", "x".repeat(10_000));
    for text in
        ["", "alice", "<>", "a@b@c", "a b@example.org", "a@exa\nmple.org", "zoë@example.org", &long]
    {
        assert_eq!(address(text), None, "{text:?}");
    }
}

#[test]
fn a_huge_push_makes_a_message_that_people_can_read() {
    for line in ["x", "'", "…", "\u{1f980}"] {
        let message = to(&huge(6, line), "alice@example.org");
        assert!(message.raw.len() < 1 << 20, "{line}: {}", message.raw.len());
        if line == "x" {
            let text = String::from_utf8(message.raw).unwrap();
            assert!(text.contains("40 more builds of this push are not shown."));
            assert!(text.contains("290 more jobs changed and are not shown."));
            assert!(text.contains("jobs are left out: the message would be too long."));
            assert!(text.contains(&"x".repeat(60)), "lines as far as there is room");
        }
    }
}

#[test]
fn a_digest_of_huge_pushes_is_one_message_that_people_can_read() {
    let from: Mailbox = "ci@ci.example.org".parse().unwrap();
    let to: Mailbox = "list@example.org".parse().unwrap();
    for line in ["x", "'", "…"] {
        let one = Account::of(&huge(1, line));
        let all = (1..=500).map(|_| one.clone()).collect();
        let message = digest(all, &from, &to, &Links::default(), 0).unwrap();
        assert!(message.raw.len() < (1 << 20) + 4096, "{line}: {}", message.raw.len());
        let text = String::from_utf8(message.raw).unwrap();
        if line == "x" {
            // Of each push 20 builds might be told, of all of them 60 are.
            assert!(text.contains(&format!("{} more builds are not shown.", 500 * 60 - 60)));
        }
    }
}

#[test]
fn a_digest_begins_with_what_broke() {
    let from: Mailbox = "ci@ci.example.org".parse().unwrap();
    let to: Mailbox = "list@example.org".parse().unwrap();
    let fine = push(1, vec![build(1, "a@b.c", vec![job("a", JobState::Passed, None)])]);
    let accounts = vec![Account::of(&fine), Account::of(&broken(2))];
    let message = digest(accounts, &from, &to, &Links::default(), 0).unwrap();
    let raw = String::from_utf8(message.raw.clone()).unwrap();
    let at = |text: &str| raw.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(at("020202020202") < at("010101010101"));
    assert_eq!(header(&message, "Subject"), "[widgets] broken: 2 pushes to widgets");
    assert_eq!(header(&message, "References").split(' ').count(), 2);
    // A window with one push is as if there had been none.
    let alone = digest(vec![Account::of(&fine)], &from, &to, &Links::default(), 0).unwrap();
    let told = compose(&fine, &from, &to, &Links::default(), 0).unwrap();
    assert_eq!(alone.id, told.id);
    assert_eq!(header(&alone, "Subject"), header(&told, "Subject"));
}
