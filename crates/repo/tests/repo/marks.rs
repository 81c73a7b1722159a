//! What is new since a mark, by the real hg's doing.

use std::collections::{BTreeSet, HashMap};

use hgci_core::Node;
use hgci_core::push::Phase;
use hgci_repo::mark::{Difference, Mark, difference, pages};
use hgci_repo::{Fate, Reader, Repository};

use crate::hg::Hg;

/// What a daemon keeps of a repository.
#[derive(Default)]
pub struct Keeper {
    pub mark: Mark,
    pages: HashMap<u32, Vec<u8>>,
}

impl Keeper {
    pub fn adopt(repository: &Repository) -> Self {
        let reader = repository.reader().unwrap();
        Keeper { mark: Mark::of(&reader).unwrap(), pages: pages(&reader).collect() }
    }

    pub fn look(&mut self, repository: &Repository) -> (Difference, Reader) {
        let reader = repository.reader().unwrap();
        let pages = |number| self.pages.get(&number).cloned();
        let difference = difference(&reader, &self.mark, pages).unwrap();
        self.mark = difference.mark(&reader).unwrap();
        self.pages.extend(difference.pages(&reader));
        (difference, reader)
    }
}

#[test]
fn nothing_is_new_after_adoption() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    hg.run("r", &["debugbuilddag", "+600*4+3"]);
    let repository = hg.repository("r");
    let mut keeper = Keeper::adopt(&repository);
    let (difference, _) = keeper.look(&repository);
    assert!(difference.is_empty() && !difference.stripped);
}

#[test]
fn each_head_of_a_push_is_told_once() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    hg.run("r", &["debugbuilddag", "+5"]);
    let repository = hg.repository("r");
    let mut keeper = Keeper::adopt(&repository);
    hg.run("", &["clone", "-q", "r", "c"]);
    for (parent, n) in [("2", 0), ("4", 1), ("4", 2), ("6", 3)] {
        hg.run("c", &["update", "-q", parent]);
        hg.write("c", &format!("f{n}"), "x");
        hg.commit("c", "new");
    }
    hg.run("c", &["push", "-q", "-f"]);
    let (difference, reader) = keeper.look(&repository);
    let nodes = hg.nodes("r");
    assert_eq!(difference.count, 4);
    assert_eq!(difference.nodes(&reader).collect::<Vec<_>>(), nodes[5..]);
    assert_eq!((difference.first, difference.last), (Some(nodes[5]), Some(nodes[8])));
    assert_eq!(difference.heads.len(), 3);
    assert!(keeper.look(&repository).0.is_empty());
}

#[test]
fn what_a_strip_adds_again_is_not_new() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    // Two branches, interleaved, over more than one page.
    hg.run("r", &["debugbuilddag", "+1:a<.+600:b<a+600"]);
    let repository = hg.repository("r");
    let mut keeper = Keeper::adopt(&repository);
    hg.run("r", &["--config", "extensions.strip=", "strip", "-q", "-r", "300"]);
    let (difference, _) = keeper.look(&repository);
    assert!(difference.stripped && difference.is_empty(), "{difference:?}");
    // And something new lands together with another strip.
    hg.run("r", &["strip", "-q", "-r", "200"]);
    hg.run("r", &["update", "-q", "tip"]);
    hg.write("r", "new", "x");
    let new = hg.commit("r", "new");
    let (difference, reader) = keeper.look(&repository);
    assert!(difference.stripped);
    assert_eq!(difference.nodes(&reader).collect::<Vec<_>>(), [new]);
    assert!(keeper.look(&repository).0.is_empty());
}

#[test]
fn publishing_bookmarks_and_markers_are_told() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    hg.run("r", &["debugbuilddag", "+5"]);
    hg.run("r", &["bookmark", "-r", "2", "here"]);
    let repository = hg.repository("r");
    let mut keeper = Keeper::adopt(&repository);
    let nodes = hg.nodes("r");
    hg.run("r", &["phase", "-p", "-r", "1"]);
    hg.run("r", &["bookmark", "-r", "3", "here", "-f"]);
    hg.run("r", &["bookmark", "-r", "3", "there"]);
    hg.run("r", &["debugobsolete", &nodes[4].to_string()]);
    let (difference, _) = keeper.look(&repository);
    assert_eq!((difference.count, difference.markers, difference.stripped), (0, 1, false));
    let phases: Vec<_> = difference.phases.iter().map(|moved| (moved.node, moved.to)).collect();
    assert_eq!(phases, [(nodes[0], Phase::Public), (nodes[1], Phase::Public)]);
    let moves: Vec<_> =
        difference.bookmarks.iter().map(|m| (m.name.as_str(), m.from, m.to)).collect();
    assert_eq!(moves, [("here", Some(nodes[2]), Some(nodes[3])), ("there", None, Some(nodes[3]))]);
    assert!(keeper.look(&repository).0.is_empty());
}

#[test]
fn a_mark_survives_being_stored() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    hg.run("r", &["debugbuilddag", "+5"]);
    hg.run("r", &["bookmark", "-r", "2", "here"]);
    let mark = Mark::of(&hg.reader("r")).unwrap();
    let bytes = postcard::to_stdvec(&mark).unwrap();
    assert_eq!(postcard::from_bytes::<Mark>(&bytes).unwrap(), mark);
}

#[test]
fn long_names_of_bookmarks_are_cut_and_still_told_apart() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    hg.run("r", &["debugbuilddag", "+2"]);
    let nodes = hg.nodes("r");
    let names = [format!("{}1", "ä".repeat(30_000)), format!("{}2", "ä".repeat(30_000))];
    let lines = |to: [&Node; 2]| format!("{} {}\n{} {}\n", to[0], names[0], to[1], names[1]);
    hg.write("r", ".hg/bookmarks", lines([&nodes[0], &nodes[0]]));
    let repository = hg.repository("r");
    let mut keeper = Keeper::adopt(&repository);
    assert_eq!(keeper.mark.bookmarks.len(), 2);
    assert!(keeper.mark.bookmarks.keys().all(|name| name.len() <= 200));
    assert!(keeper.look(&repository).0.is_empty());
    hg.write("r", ".hg/bookmarks", lines([&nodes[0], &nodes[1]]));
    let (difference, _) = keeper.look(&repository);
    let [moved] = &difference.bookmarks[..] else { panic!("{difference:?}") };
    assert_eq!((moved.from, moved.to), (Some(nodes[0]), Some(nodes[1])));
    assert!(moved.name.starts_with("ää") && moved.name.len() <= 200);
}

/// What has become of some changesets since a mark.
fn fates(repository: &Repository, mark: &Mark, of: &[Node]) -> Vec<(Node, Fate)> {
    let of: BTreeSet<Node> = of.iter().copied().collect();
    let reader = repository.reader().unwrap();
    reader.fates(&mark.obsstore, &of).unwrap().into_iter().collect()
}

#[test]
fn what_becomes_of_changesets_is_told_by_new_markers_alone() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    hg.run("r", &["debugbuilddag", "+8"]);
    let repository = hg.repository("r");
    let nodes = hg.nodes("r");
    let obsolete = |hg: &mut Hg, precursor: &Node, successors: &[&str]| {
        let precursor = precursor.to_string();
        hg.run("r", &[&["debugobsolete", &precursor], successors].concat());
    };
    obsolete(&mut hg, &nodes[7], &[]);
    let before = Keeper::adopt(&repository).mark;
    assert_eq!(fates(&repository, &before, &nodes), []);
    let name = |n: usize| nodes[n].to_string();
    // Amended twice where nobody saw it, told in the worst order.
    let (one, two) = ("1".repeat(40), "2".repeat(40));
    obsolete(&mut hg, &Node([0x22; 20]), &[&name(4)]);
    obsolete(&mut hg, &Node([0x11; 20]), &[&two]);
    obsolete(&mut hg, &nodes[6], &[&one]);
    // Split, pruned, replaced by what is not there, in a circle, and public.
    obsolete(&mut hg, &nodes[5], &[&name(3), &name(4)]);
    obsolete(&mut hg, &nodes[3], &[]);
    obsolete(&mut hg, &nodes[2], &[&"3".repeat(40)]);
    obsolete(&mut hg, &nodes[1], &[&"4".repeat(40)]);
    obsolete(&mut hg, &Node([0x44; 20]), &["5".repeat(40).as_str(), name(1).as_str()]);
    obsolete(&mut hg, &Node([0x55; 20]), &[&"4".repeat(40)]);
    hg.run("r", &["debugobsolete", &name(0), &name(4)]);
    hg.run("r", &["phase", "-p", "-r", "0"]);
    let mut told: HashMap<Node, Fate> =
        fates(&repository, &before, &nodes[..7]).into_iter().collect();
    let mut is = |n: usize, successors: &[usize], pruned: bool| {
        let mut successors: Vec<Node> = successors.iter().map(|n| nodes[*n]).collect();
        successors.sort_unstable();
        assert_eq!(told.remove(&nodes[n]), Some(Fate { successors, pruned }), "{n}");
    };
    is(6, &[4], false);
    is(5, &[3, 4], false);
    is(3, &[], true);
    is(2, &[], false);
    is(1, &[], true);
    assert_eq!(told.len(), 0, "{told:?}");
    // Secret successors are not named.
    hg.run("r", &["phase", "-f", "-s", "-r", "4"]);
    let secret = fates(&repository, &before, &[nodes[6]]);
    assert_eq!(secret, [(nodes[6], Fate { successors: vec![], pruned: false })]);
}

#[test]
fn as_many_markers_as_before_may_be_others() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    hg.run("r", &["debugbuilddag", "+5"]);
    let repository = hg.repository("r");
    let nodes = hg.nodes("r");
    hg.run("r", &["debugobsolete", &nodes[4].to_string()]);
    let mut keeper = Keeper::adopt(&repository);
    assert!(!keeper.look(&repository).0.remarked);
    hg.run("r", &["debugobsolete", "--delete", "0"]);
    hg.run("r", &["debugobsolete", &nodes[3].to_string()]);
    let before = keeper.mark.clone();
    let (difference, _) = keeper.look(&repository);
    assert_eq!((difference.markers, difference.remarked), (0, true));
    let told = fates(&repository, &before, &nodes);
    assert_eq!(told.iter().map(|(node, _)| *node).collect::<Vec<_>>(), [nodes[3]]);
    assert!(!keeper.look(&repository).0.remarked);
}
