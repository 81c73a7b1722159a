//! `.hg_archival.txt` against what hg's templates say.

use hgci_core::Node;

use crate::archive::items;
use crate::hg::{Hg, Random};

/// As in `mercurial/archival.py`.
const TEMPLATE: &str = "node: {node}\nbranch: {branch|utf8}\n\
    {ifeq(latesttagdistance, 0, join(latesttag % \"tag: {tag}\", \"\\n\"), \
    separate(\"\\n\", join(latesttag % \"latesttag: {tag}\", \"\\n\"), \
    \"latesttagdistance: {latesttagdistance}\", \
    \"changessincelatesttag: {changessincelatesttag}\"))}\n%%\n";

/// Compares all visible changesets.
fn compare(hg: &mut Hg, repo: &str) {
    let root = hg.run(repo, &["log", "-r", "first(all())", "-T", "{node}"]);
    let said = hg.run(repo, &["log", "-r", "all()", "-T", TEMPLATE]);
    for theirs in said.split_terminator("%%\n") {
        let node: Node = theirs["node: ".len()..][..40].parse().unwrap();
        assert_eq!(metadata(hg, repo, &node), format!("repo: {root}\n{theirs}"));
    }
}

fn metadata(hg: &Hg, repo: &str, node: &Node) -> String {
    let mut tar = Vec::new();
    hg.reader(repo).archive(node, &mut tar).unwrap();
    let item = items(&tar).swap_remove(0);
    assert_eq!(item.path, b".hg_archival.txt");
    String::from_utf8(item.content).unwrap()
}

#[test]
fn without_tags_the_latest_is_null() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    hg.run("r", &["debugbuilddag", "+3:a+2*a/2+1"]);
    compare(&mut hg, "r");
}

#[test]
fn tags_that_moved_vanished_or_are_local_count_as_hg_counts_them() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    for n in 0..3 {
        hg.write("r", "a", n.to_string());
        hg.commit("r", "c");
    }
    hg.run("r", &["tag", "-r", "0", "one", "uno"]);
    hg.run("r", &["tag", "-r", "1", "two words"]);
    compare(&mut hg, "r");
    hg.run("r", &["tag", "-f", "-r", "2", "one"]);
    hg.run("r", &["tag", "--remove", "two words"]);
    compare(&mut hg, "r");
    hg.run("r", &["tag", "--local", "-f", "-r", "1", "one"]);
    hg.run("r", &["tag", "--local", "-r", "2", "mine"]);
    hg.run("r", &["bookmark", "-r", "3", "uno"]);
    compare(&mut hg, "r");
    hg.write("r", ".hgtags", "no tags\r\nzz x\n0123 short\n\n");
    hg.commit("r", "broken tags");
    compare(&mut hg, "r");
}

#[test]
fn a_hidden_head_does_not_tag() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    hg.write("r", "a", "a");
    let root = hg.commit("r", "a");
    hg.run("r", &["tag", "-r", "0", "hidden"]);
    let tagging = hg.node("r", "tip");
    hg.run("r", &["update", "-q", "0"]);
    hg.write("r", "b", "b");
    hg.commit("r", "b");
    compare(&mut hg, "r");
    hg.run("r", &["debugobsolete", &tagging.to_string()]);
    assert!(!metadata(&hg, "r", &root).contains("hidden"));
    compare(&mut hg, "r");
    // And the root itself.
    hg.run("r", &["update", "-q", "null"]);
    hg.write("r", "c", "c");
    hg.commit("r", "another root");
    for rev in ["2", "0"] {
        let node = hg.node("r", rev).to_string();
        hg.run("r", &["debugobsolete", &node]);
    }
    compare(&mut hg, "r");
}

#[test]
fn random_histories_have_the_latest_tags_that_hg_finds() {
    for seed in 1..=6 {
        let mut random = Random::new(seed);
        let mut hg = Hg::new();
        hg.run("", &["init", "r"]);
        hg.write("r", "f", "f");
        hg.commit("r", "root");
        for step in 0..40 {
            let count = hg.reader("r").len() as u64;
            let rev = random.below(count).to_string();
            let date = format!("{} 0", random.below(1000));
            let tag = format!("t{}", random.below(8));
            // hg refuses some of this, as when the changeset is hidden: then nothing happens.
            match random.below(10) {
                0..=2 => {
                    hg.status("r", &["update", "-q", "-C", &rev]);
                    hg.write("r", &format!("f{step}"), "x");
                    hg.run("r", &["commit", "-A", "-q", "-d", &date, "-m", "c"]);
                }
                3..=5 => {
                    if hg.status("r", &["merge", "-q", "-r", &rev, "--tool", ":union"]).0 == 0 {
                        hg.run("r", &["commit", "-q", "-d", &date, "-m", "m"]);
                    }
                }
                6..=7 => drop(hg.status("r", &["tag", "-f", "-d", &date, "-r", &rev, &tag])),
                8 => match random.below(3) {
                    0 => drop(hg.status("r", &["tag", "--remove", "-d", &date, &tag])),
                    1 => drop(hg.status("r", &["tag", "--local", "-f", "-r", &rev, &tag])),
                    _ => drop(hg.status("r", &["bookmark", "-f", "-r", &rev, &tag])),
                },
                _ => {
                    let node = hg.node("r", &rev).to_string();
                    hg.status("r", &["debugobsolete", &node]);
                }
            }
        }
        compare(&mut hg, "r");
    }
}
