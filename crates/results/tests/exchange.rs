//! What is pulled is what there is, once, whoever may see it and whatever happens in between.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashSet;
use std::io::Cursor;

use hgci_core::Node;
use hgci_core::result::{Entry, Origin};
use hgci_results::exchange::{Sending, Staged, Taken, received_from, take_in};
use hgci_results::{Error, Place, Reader, Writer};
use proptest::prelude::*;
use support::{Repository, all, build, entries, job, node, open, origin, reader, stream};

const URL: &str = "https://hg.example.org/widgets";

/// A repository that is pulled from, as far as sending goes.
struct Server {
    logs: Vec<Place>,
    hidden: HashSet<Node>,
    /// Changesets that come with the pull.
    coming: Vec<Node>,
    limit: u64,
}

impl Server {
    fn of(repository: &Repository) -> Server {
        let logs = vec![repository.place.clone()];
        Server { logs, hidden: HashSet::new(), coming: Vec::new(), limit: u64::MAX }
    }

    /// The whole answer, and whether the puller knew it all.
    fn send(&self, cookie: &str) -> (Vec<u8>, bool) {
        // Anything that is another one whenever the set is.
        let view = self.hidden.iter().map(|node| u64::from(node.0[0]) + 1).sum();
        let mut sending =
            Sending::new(&self.logs, cookie.as_bytes(), view, &self.coming, self.limit);
        let mut answer = Vec::new();
        let visible = |nodes: &[Node]| -> Result<Vec<bool>, Error> {
            Ok(nodes.iter().map(|node| !self.hidden.contains(node)).collect())
        };
        while let Some(piece) = sending.next(visible).unwrap() {
            answer.extend(piece);
        }
        (answer, sending.was_nothing_new())
    }
}

/// A clone that pulls from one source.
struct Client {
    repository: Repository,
    place: Place,
}

impl Client {
    fn new() -> Client {
        let repository = Repository::new();
        let place = Place::received(repository.folder.path(), URL);
        Client { repository, place }
    }

    fn cookie(&self) -> String {
        received_from(&self.place)
            .map(|(url, cookie)| {
                assert_eq!(url, URL);
                cookie
            })
            .unwrap_or_default()
    }

    fn pull(&self, server: &Server) -> (Staged, Taken) {
        let (answer, _) = server.send(&self.cookie());
        let staged = Staged::read(&answer[..]).unwrap();
        let taken = take_in(&self.place, URL, Cursor::new(&answer), &staged).unwrap();
        (staged, taken)
    }

    fn entries(&self) -> Vec<Entry> {
        match Reader::open(&self.place).unwrap() {
            Some(reader) => all(&reader),
            None => Vec::new(),
        }
    }
}

#[test]
fn a_pull_brings_all_and_the_next_what_is_new() {
    let (repository, client) = (Repository::new(), Client::new());
    let mut writer = open(&repository);
    let some: Vec<Entry> = (0..1000).map(stream).collect();
    writer.append(&some).unwrap();
    let server = Server::of(&repository);
    let (staged, taken) = client.pull(&server);
    assert_eq!(taken, Taken { written: 1000, dropped: 0 });
    // The origin goes along.
    assert_eq!((staged.records, staged.more), (1001, false));
    assert_eq!(client.entries(), all(&reader(&repository)));

    let (answer, nothing_new) = server.send(&client.cookie());
    assert!(nothing_new && answer.len() < 200);
    assert_eq!(client.pull(&server).1, Taken::default());

    writer.append(&[stream(1000)]).unwrap();
    let (answer, nothing_new) = server.send(&client.cookie());
    assert!(!nothing_new && answer.len() < 600, "the cost is that of what is new");
    assert_eq!(client.pull(&server).1, Taken { written: 1, dropped: 0 });
    let mine = Reader::open(&client.place).unwrap().unwrap();
    let theirs = reader(&repository);
    for n in 0..201 {
        assert_eq!(
            mine.newest(&node(n)).unwrap().entries,
            theirs.newest(&node(n)).unwrap().entries
        );
        assert_eq!(mine.newest(&node(n)).unwrap().origin, origin());
    }
}

#[test]
fn a_compacted_or_new_log_is_fetched_anew_and_nothing_is_there_twice() {
    let (repository, client) = (Repository::new(), Client::new());
    let mut writer = open(&repository);
    writer.append(&(0..100).map(stream).collect::<Vec<_>>()).unwrap();
    let server = Server::of(&repository);
    client.pull(&server);
    let before = client.cookie();
    writer.compact(|_| true).unwrap();
    writer.append(&[stream(100)]).unwrap();
    assert_eq!(client.pull(&server).1, Taken { written: 1, dropped: 100 });
    assert_ne!(client.cookie(), before);
    assert_eq!(client.entries().len(), 102);
    drop(writer);

    // Lost, and rebuilt by a daemon that says the same and more.
    std::fs::remove_dir_all(repository.place.folder()).unwrap();
    let mut writer = open(&repository);
    writer.append(&(50..105).map(stream).collect::<Vec<_>>()).unwrap();
    assert_eq!(client.pull(&server).1, Taken { written: 4, dropped: 51 });
    // An older copy of the log was put back: the same log, but not up to where the puller has it.
    let cookie = client.cookie();
    let log = std::fs::read(repository.place.log()).unwrap();
    writer.append(&[stream(105)]).unwrap();
    client.pull(&server);
    drop(writer);
    std::fs::write(repository.place.log(), log).unwrap();
    let mut writer = open(&repository);
    writer.append(&(110..112).map(stream).collect::<Vec<_>>()).unwrap();
    assert_eq!(client.pull(&server).1.written, 2);
    assert_ne!(client.cookie(), cookie);
}

#[test]
fn what_may_not_be_seen_comes_when_it_may() {
    let (repository, client) = (Repository::new(), Client::new());
    let mut writer = open(&repository);
    let mut server = Server::of(&repository);
    writer.append(&(0..500).map(stream).collect::<Vec<_>>()).unwrap();
    server.hidden = [3, 4, 50, 99].map(node).into();
    let (_, taken) = client.pull(&server);
    assert_eq!(taken.written, 480);
    let (answer, _) = server.send("");
    for n in [3, 4, 50, 99] {
        assert!(!answer.windows(20).any(|window| window == node(n).0), "its name is not told");
        let mine = Reader::open(&client.place).unwrap().unwrap();
        assert!(mine.find(&node(n)).unwrap().records.is_empty());
    }
    // As long as the view is the same, nothing is looked at again.
    assert!(server.send(&client.cookie()).1);
    // One is published while something else is new.
    writer.append(&(500..505).map(stream).collect::<Vec<_>>()).unwrap();
    server.hidden.remove(&node(50));
    assert_eq!(client.pull(&server).1, Taken { written: 10, dropped: 0 });
    server.hidden.clear();
    assert_eq!(client.pull(&server).1, Taken { written: 15, dropped: 0 });
    let mine: HashSet<String> = client.entries().iter().map(|e| format!("{e:?}")).collect();
    let theirs: HashSet<String> =
        all(&reader(&repository)).iter().map(|e| format!("{e:?}")).collect();
    assert_eq!(mine, theirs);
}

#[test]
fn what_became_visible_comes_in_the_end_however_little_a_pull_may_bring() {
    let (repository, client) = (Repository::new(), Client::new());
    open(&repository).append(&(0..60).map(|n| job(n, 0)).collect::<Vec<_>>()).unwrap();
    let mut server = Server::of(&repository);
    server.hidden = (0..60).filter(|n| n % 3 > 0).map(node).collect();
    client.pull(&server);
    assert_eq!(client.entries().len(), 21);
    server.hidden.clear();
    server.limit = 1;
    let mut pulls = 1;
    while client.pull(&server).0.more {
        pulls += 1;
        // What is hidden meanwhile does not get lost either.
        server.hidden = if pulls == 2 { [node(1)].into() } else { HashSet::new() };
        assert!(pulls < 100);
    }
    server.hidden.clear();
    client.pull(&server);
    assert_eq!(client.entries().len(), 61);
    assert!(server.send(&client.cookie()).1);
}

#[test]
fn however_much_is_hidden_a_pull_costs_what_is_new() {
    let (repository, client) = (Repository::new(), Client::new());
    let mut writer = open(&repository);
    for hidden in [400, 4000] {
        writer.append(&(0..hidden * 2).map(|n| job(n, 0)).collect::<Vec<_>>()).unwrap();
        let mut server = Server::of(&repository);
        server.hidden = (0..hidden).map(|n| node(n * 2)).collect();
        client.pull(&server);
        // Another one is hidden, and none is shown.
        server.hidden.insert(node(1_000_001));
        let (answer, _) = server.send(&client.cookie());
        assert!(answer.len() < 8192, "{}", answer.len());
        client.pull(&server);
    }
    let mine = client.entries().len();
    let mut server = Server::of(&repository);
    // What was hidden last is remembered; the rest comes with its changesets.
    let newest = client.pull(&server).1.written;
    assert!((500..4000).contains(&newest), "{newest}");
    server.coming = (0..4000).map(|n| node(n * 2)).collect();
    let (staged, taken) = client.pull(&server);
    assert_eq!((staged.more, newest + taken.written), (false, 4000));
    assert_eq!(client.entries().len(), mine + 4000);
}

#[test]
fn what_was_withheld_and_is_damaged_since_holds_nothing_up() {
    let (repository, client) = (Repository::new(), Client::new());
    let mut writer = open(&repository);
    writer.append(&[job(1, 0), job(2, 0), job(3, 0)]).unwrap();
    let at = writer.end().offset;
    writer.append(&[job(4, 0)]).unwrap();
    drop(writer);
    let mut server = Server::of(&repository);
    server.hidden = [2, 4].map(node).into();
    client.pull(&server);
    let mut bytes = std::fs::read(repository.place.log()).unwrap();
    bytes[at as usize + 30] ^= 4;
    std::fs::write(repository.place.log(), bytes).unwrap();
    server.hidden.clear();
    assert_eq!(client.pull(&server).1.written, 1);
    assert!(server.send(&client.cookie()).1);
}

#[test]
fn records_keep_their_daemon_when_they_come_late() {
    let (repository, client) = (Repository::new(), Client::new());
    let other = Origin { daemon: "f".repeat(32), ..origin() };
    let mut server = Server::of(&repository);
    open(&repository).append(&[build(1, 0), build(2, 0)]).unwrap();
    Writer::open(&repository.place, &other).unwrap().append(&[build(3, 0)]).unwrap();
    open(&repository).append(&[build(4, 0)]).unwrap();
    server.hidden = [node(1), node(3)].into();
    client.pull(&server);
    server.hidden.clear();
    client.pull(&server);
    let mine = Reader::open(&client.place).unwrap().unwrap();
    let daemon = |n| mine.newest(&node(n)).unwrap().origin.daemon;
    assert_eq!(
        [1, 2, 3, 4].map(daemon),
        [origin().daemon, origin().daemon, other.daemon, origin().daemon]
    );
}

#[test]
fn a_limit_cuts_and_the_next_pulls_bring_the_rest() {
    let (repository, client) = (Repository::new(), Client::new());
    open(&repository).append(&(0..20_000).map(stream).collect::<Vec<_>>()).unwrap();
    let mut server = Server::of(&repository);
    server.limit = 300_000;
    let mut pulls = 0;
    while client.pull(&server).0.more {
        pulls += 1;
        assert!(pulls < 50);
    }
    assert!(pulls > 3);
    assert_eq!(client.entries(), all(&reader(&repository)));
}

#[test]
fn a_clone_passes_on_what_it_has_and_circles_come_to_rest() {
    let (repository, first, second) = (Repository::new(), Client::new(), Client::new());
    open(&repository).append(&(0..50).map(stream).collect::<Vec<_>>()).unwrap();
    first.pull(&Server::of(&repository));
    let of = |client: &Client| {
        let mut server = Server::of(&client.repository);
        server.logs.extend(Place::all_received(client.repository.folder.path()));
        server
    };
    assert_eq!(second.pull(&of(&first)).1.written, 50);
    assert_eq!(second.entries(), all(&reader(&repository)));
    // The first one pulls it all back: nothing is new, and it stays so.
    assert_eq!(first.pull(&of(&second)).1, Taken { written: 0, dropped: 50 });
    for _ in 0..3 {
        assert_eq!(second.pull(&of(&first)).1.written, 0);
        assert_eq!(first.pull(&of(&second)).1.written, 0);
    }
    assert!(of(&second).send(&first.cookie()).1);
}

#[test]
fn what_comes_again_changes_nothing_and_what_is_cut_counts_for_nothing() {
    let (repository, client) = (Repository::new(), Client::new());
    open(&repository).append(&(0..40).map(stream).collect::<Vec<_>>()).unwrap();
    let (answer, _) = Server::of(&repository).send("");
    for cut in [0, 1, 5, 100, answer.len() - 1] {
        let error = Staged::read(&answer[..cut]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    }
    let staged = Staged::read(&answer[..]).unwrap();
    for written in [40, 0, 0] {
        let taken = take_in(&client.place, URL, Cursor::new(&answer), &staged).unwrap();
        assert_eq!(taken.written, written);
    }
    assert_eq!(client.entries(), all(&reader(&repository)));
}

#[test]
fn many_that_come_again_are_known() {
    let (repository, client) = (Repository::new(), Client::new());
    let mut writer = open(&repository);
    writer.append(&(0..30_000).map(stream).collect::<Vec<_>>()).unwrap();
    let server = Server::of(&repository);
    assert_eq!(client.pull(&server).1.written, 30_000);
    let forget = || std::fs::remove_file(client.place.folder().join("source")).unwrap();
    forget();
    assert_eq!(client.pull(&server).1, Taken { written: 0, dropped: 30_000 });
    writer.append(&(30_000..36_000).map(stream).collect::<Vec<_>>()).unwrap();
    forget();
    assert_eq!(client.pull(&server).1, Taken { written: 6_000, dropped: 30_000 });
    assert_eq!(client.entries(), all(&reader(&repository)));
    // What was damaged here is not known, and comes again.
    let mut bytes = std::fs::read(client.place.log()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(client.place.log(), bytes).unwrap();
    forget();
    assert_eq!(client.pull(&server).1, Taken { written: 1, dropped: 35_999 });
    // Nor does it depend on the index.
    std::fs::write(client.place.index(), b"no index").unwrap();
    forget();
    assert_eq!(client.pull(&server).1, Taken { written: 0, dropped: 36_000 });
}

#[test]
fn a_damaged_record_is_left_out_and_the_rest_is_sent() {
    let (repository, client) = (Repository::new(), Client::new());
    let mut writer = open(&repository);
    let groups: Vec<u64> = (0..20)
        .map(|n| {
            writer.append(&[job(n, 0)]).unwrap();
            writer.end().offset
        })
        .collect();
    drop(writer);
    let mut bytes = std::fs::read(repository.place.log()).unwrap();
    // In the middle, and the last one.
    for at in [groups[9] + 30, groups[18] + 30] {
        bytes[at as usize] ^= 4;
    }
    std::fs::write(repository.place.log(), bytes).unwrap();
    let server = Server::of(&repository);
    assert_eq!(client.pull(&server).1.written, 18);
    for _ in 0..3 {
        assert_eq!(client.pull(&server).1, Taken::default());
    }
    open(&repository).append(&[job(30, 0)]).unwrap();
    assert_eq!(client.pull(&server).1.written, 1);
    let mine = Reader::open(&client.place).unwrap().unwrap();
    assert_eq!(entries(&mine.find(&node(30)).unwrap().records), [job(30, 0)]);
}

#[test]
fn sources_keep_apart() {
    let (one, other, client) = (Repository::new(), Repository::new(), Client::new());
    open(&one).append(&[build(1, 0)]).unwrap();
    open(&other).append(&[build(1, 0), build(2, 0)]).unwrap();
    client.pull(&Server::of(&one));
    let place = Place::received(client.repository.folder.path(), "/srv/other");
    let (answer, _) = Server::of(&other).send("");
    let staged = Staged::read(&answer[..]).unwrap();
    take_in(&place, "/srv/other", Cursor::new(&answer), &staged).unwrap();
    let places = Place::all_received(client.repository.folder.path());
    let mut sources: Vec<String> =
        places.iter().filter_map(received_from).map(|(url, _)| url).collect();
    sources.sort();
    assert_eq!(sources, ["/srv/other", URL]);
    assert_eq!(client.entries().len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Appends, compactions, changes of view and pulls with any limit in any order: when all can be
    /// seen, the puller has everything, once, and never saw what was hidden from it until then.
    #[test]
    fn in_the_end_the_puller_has_everything_once(
        steps in proptest::collection::vec((0u8..5, 0u64..12, 1u64..400_000), 1..40),
    ) {
        let (repository, client) = (Repository::new(), Client::new());
        let mut writer = open(&repository);
        let mut server = Server::of(&repository);
        let mut next = 0;
        let mut shown: HashSet<Node> = HashSet::new();
        for (what, n, limit) in steps {
            match what {
                0 => {
                    let more: Vec<Entry> = (next..next + n * 100).map(|i| stream(i % 900)).collect();
                    next += n * 100;
                    writer.append(&more).unwrap();
                }
                1 => drop(writer.compact(|_| true).unwrap()),
                2 => drop(server.hidden.insert(node(n * 5))),
                3 => drop(server.hidden.remove(&node(n * 5))),
                _ => {
                    server.limit = limit;
                    client.pull(&server);
                }
            }
            shown.extend((0..180).map(node).filter(|node| !server.hidden.contains(node)));
            if let Some(mine) = Reader::open(&client.place).unwrap() {
                for hidden in server.hidden.iter().filter(|node| !shown.contains(node)) {
                    prop_assert!(mine.find(hidden).unwrap().records.is_empty());
                }
            }
        }
        server.hidden.clear();
        server.limit = u64::MAX;
        client.pull(&server);
        let mut mine: Vec<String> = client.entries().iter().map(|entry| format!("{entry:?}")).collect();
        let mut theirs: Vec<String> = all(&reader(&repository)).iter().map(|entry| format!("{entry:?}")).collect();
        mine.retain(|entry| !entry.starts_with("Origin"));
        theirs.retain(|entry| !entry.starts_with("Origin"));
        mine.sort();
        theirs.sort();
        prop_assert_eq!(mine, theirs);
    }

    #[test]
    fn any_bytes_are_no_stream_or_one(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Staged::read(&bytes[..]);
        let client = Client::new();
        let mut whole = Vec::new();
        // A record of nonsense in a stream that is whole is dropped.
        whole.extend((bytes.len() as u32 + 19).to_le_bytes());
        whole.extend([1, 2, 1]);
        whole.extend([9; 16]);
        whole.extend(&bytes);
        whole.extend([2, 0, 0, 0, 0, 0]);
        let staged = Staged::read(&whole[..]).unwrap();
        let taken = take_in(&client.place, URL, Cursor::new(&whole), &staged).unwrap();
        prop_assert_eq!(taken.written, 0);
    }
}
