//! Random work on a repository: whatever happens, each changeset is new exactly once.

use std::collections::{BTreeMap, HashSet};

use hgci_core::Node;
use hgci_core::push::{Phase, Push};
use hgci_repo::Rev;

use crate::hg::{Hg, Random};
use crate::marks::Keeper;

/// What hg itself says of a repository.
#[derive(Clone, Default)]
struct State {
    phases: BTreeMap<Node, String>,
    bookmarks: BTreeMap<String, Node>,
}

impl State {
    fn of(hg: &mut Hg, repo: &str) -> Self {
        let log = hg.run(repo, &["log", "--hidden", "-r", "all()", "-T", "{node} {phase}\n"]);
        let bookmarks = hg.run(repo, &["bookmarks", "-T", "{node} {bookmark}\n"]);
        let pairs = |text: &str| -> Vec<(Node, String)> {
            let pair = |line: &str| {
                let (node, rest) = line.split_once(' ')?;
                Some((node.parse().ok()?, rest.to_owned()))
            };
            text.lines().filter_map(pair).collect()
        };
        State {
            phases: pairs(&log).into_iter().collect(),
            bookmarks: pairs(&bookmarks).into_iter().map(|(node, name)| (name, node)).collect(),
        }
    }
}

/// Some work in `r`, by itself and by pushes from `c`.
fn work(hg: &mut Hg, random: &mut Random, step: u64) {
    let count = hg.reader("r").len() as u64;
    let rev = random.below(count.max(1)).to_string();
    match random.below(12) {
        0..=2 => {
            hg.status("r", &["update", "-q", "-C", "--hidden", &rev]);
            hg.write("r", &format!("f{step}"), random.below(1 << 40).to_string());
            hg.run("r", &["commit", "-A", "-q", "-m", "c"]);
        }
        3..=4 => {
            hg.run("c", &["pull", "-q", "-f"]);
            hg.status("c", &["update", "-q", "-C", &rev]);
            for n in 0..=random.below(3) {
                hg.write("c", &format!("p{step}.{n}"), random.below(1 << 40).to_string());
                hg.run("c", &["commit", "-A", "-q", "-m", "p"]);
            }
            hg.status("c", &["push", "-q", "-f"]);
        }
        5..=6 => {
            hg.status("r", &["phase", "-d", "-f", "-r", &format!("{rev}:")]);
            hg.status("r", &["strip", "-q", "-r", &rev]);
        }
        // What was stripped comes back.
        7 => drop(hg.status("r", &["pull", "-q", "-f", &hg.path("c").to_string_lossy()])),
        8 => {
            let phase = ["-p", "-d", "-s"][random.below(3) as usize];
            hg.status("r", &["phase", "-f", phase, "-r", &rev]);
        }
        9 => {
            let name = format!("b{}", random.below(4));
            match random.below(3) {
                0 => drop(hg.status("r", &["bookmark", "-d", &name])),
                _ => drop(hg.status("r", &["bookmark", "-f", "-r", &rev, &name])),
            }
        }
        10 => {
            let node = hg.node("r", &rev).to_string();
            hg.status("r", &["debugobsolete", &node]);
        }
        _ => {
            hg.status("r", &["update", "-q", "-C", &rev]);
            hg.status("r", &["commit", "--amend", "-q", "-m", &format!("amended {step}")]);
        }
    }
}

#[test]
fn random_work_is_told_exactly_once() {
    for seed in 1..=4 {
        let mut random = Random::new(seed);
        let mut hg = Hg::new();
        hg.run("", &["init", "r"]);
        // On some, history that fills pages.
        let dag = if seed % 3 == 0 { "+1:a<.+700:b<a+300" } else { "+3" };
        hg.run("r", &["debugbuilddag", dag]);
        hg.run("", &["clone", "-q", "r", "c"]);
        let repository = hg.repository("r");
        let mut keeper = Keeper::adopt(&repository);
        let mut before = State::of(&mut hg, "r");
        for step in 0..16 {
            // Not after each: the keeper may be late.
            for _ in 0..=random.below(3) {
                work(&mut hg, &mut random, step);
            }
            let now = State::of(&mut hg, "r");
            let old_order = before.phases.keys().copied().collect::<HashSet<_>>();
            let (difference, reader) = keeper.look(&repository);

            let order = hg.nodes("r");
            let new: Vec<Node> =
                order.iter().copied().filter(|node| !old_order.contains(node)).collect();
            assert_eq!(difference.nodes(&reader).collect::<Vec<_>>(), new, "seed {seed}");
            assert_eq!(difference.count, new.len() as u64);
            assert_eq!(
                (difference.first, difference.last),
                (new.first().copied(), new.last().copied())
            );

            let mut moved: Vec<(Node, String)> = Vec::new();
            for node in order.iter().filter(|node| old_order.contains(node)) {
                if before.phases[node] != now.phases[node] {
                    moved.push((*node, now.phases[node].clone()));
                }
            }
            assert_eq!(difference.phases_count, moved.len() as u64, "seed {seed}");
            moved.truncate(Push::MAX_LISTED);
            let told = difference.phases.iter().map(|moved| {
                let phase = match moved.to {
                    Phase::Public => "public",
                    Phase::Draft => "draft",
                    Phase::Secret => "secret",
                };
                (moved.node, phase.to_owned())
            });
            assert_eq!(told.collect::<Vec<_>>(), moved, "seed {seed}");

            let secret = |of: &State, node: &Node| of.phases[node] == "secret";
            let revealed = difference.revealed.iter().filter_map(|rev| reader.node(Rev(*rev)));
            let revealed: Vec<Node> = revealed.filter(|node| old_order.contains(node)).collect();
            let was = order.iter().filter(|node| old_order.contains(node)).copied();
            let was = was.filter(|node| secret(&before, node) && !secret(&now, node));
            assert_eq!(revealed, was.collect::<Vec<_>>(), "seed {seed}");
            let served = hg.run("r", &["log", "-r", "all() and not secret()", "-T", "{node}\n"]);
            let served: HashSet<Node> = served.lines().map(|line| line.parse().unwrap()).collect();
            assert_eq!(repository.served(&order).unwrap(), served, "seed {seed}");

            let told = difference.bookmarks.iter();
            let told: HashSet<_> = told.map(|m| (m.name.clone(), m.from, m.to)).collect();
            let names = before.bookmarks.keys().chain(now.bookmarks.keys());
            let moved = names.filter_map(|name| {
                let pair = (before.bookmarks.get(name).copied(), now.bookmarks.get(name).copied());
                (pair.0 != pair.1).then(|| (name.clone(), pair.0, pair.1))
            });
            assert_eq!(told, moved.collect(), "seed {seed}");
            if !before.phases.keys().all(|node| now.phases.contains_key(node)) {
                assert!(difference.stripped, "seed {seed}");
            }

            assert!(keeper.look(&repository).0.is_empty());
            before = now;
        }
    }
}
