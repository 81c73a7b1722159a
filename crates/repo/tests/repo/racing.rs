//! Reading while somebody pushes and strips.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hgci_core::Node;
use hgci_repo::mark::{Mark, difference, pages};
use hgci_repo::{Error, Repository};

use crate::archive::items;
use crate::hg::Hg;

/// Rounds of two pushes and a strip.
const ROUNDS: usize = 8;

/// Each tree has a file that says which changeset it is, and many more, so that a read takes a while.
fn check_tree(repository: &Repository, node: &Node) -> Result<(), Error> {
    let description = repository.read(|reader| reader.changeset(node))?.description;
    let mut tar = Vec::new();
    repository.archive(node, &mut tar)?;
    let items = items(&tar);
    assert_eq!(items.len(), 62);
    for item in &items[1..] {
        let content = String::from_utf8_lossy(&item.content);
        assert!(content.starts_with(&description), "{content:.40} in {description}");
    }
    Ok(())
}

/// Commits to `c` on top of `parent`, and pushes.
fn push(hg: &mut Hg, parent: &str, name: &str) -> Node {
    hg.run("c", &["update", "-q", "-C", parent]);
    for n in 0..61 {
        let filler = format!("{n} {name}\n").repeat(100 + 40 * n);
        hg.write("c", &format!("f{n}"), format!("{name}\n{filler}"));
    }
    hg.run("c", &["commit", "-q", "-A", "-m", name]);
    let node = hg.node("c", ".");
    hg.run("c", &["push", "-q", "-f", "-r", "."]);
    node
}

#[test]
fn reading_is_right_while_pushes_and_strips_go_on() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    hg.run("", &["clone", "-q", "r", "c"]);
    let mut last = push(&mut hg, "null", "root");
    let repository = hg.repository("r");
    let done = AtomicBool::new(false);
    let mut kept = vec![last];
    let told = thread::scope(|scope| {
        let keeper = scope.spawn(|| keep(&repository, &done));
        let reader = scope.spawn(|| {
            let mut trees = 0;
            while !done.load(Ordering::Relaxed) {
                let tip = repository.read(|reader| {
                    let tip = reader.tip().map(|tip| reader.changeset(&tip)).transpose()?;
                    Ok(tip.map(|tip| (tip.node, tip.description)))
                });
                let Ok(Some((tip, name))) = tip else { continue };
                match check_tree(&repository, &tip) {
                    Ok(()) => trees += 1,
                    // It was stripped, perhaps in the middle of the tree; only these ever are.
                    Err(Error::UnknownChangeset { .. }) => {
                        assert!(name.starts_with("dropped"), "{name} is said to be unknown");
                    }
                    // A strip that takes longer than the reader waits, on a busy machine.
                    Err(error) => assert!(
                        error.may_settle() || name.starts_with("dropped"),
                        "{name}: {error}"
                    ),
                }
            }
            trees
        });
        for round in 0..ROUNDS {
            // The strip takes one out below the other, which is added again.
            let dropped = push(&mut hg, &last.to_string(), &format!("dropped {round}"));
            last = push(&mut hg, &last.to_string(), &format!("kept {round}"));
            kept.push(last);
            hg.run("r", &["strip", "-q", "--no-backup", "-r", &dropped.to_string()]);
            hg.run("c", &["strip", "-q", "--no-backup", "-r", &dropped.to_string()]);
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
        keeper.join().unwrap()
    });
    for node in &kept[1..] {
        assert_eq!(told.get(node), Some(&1), "{node}");
    }
    for node in &kept {
        check_tree(&repository, node).unwrap();
    }
}

/// Looks again and again; returns how often each changeset was new.
fn keep(repository: &Repository, done: &AtomicBool) -> HashMap<Node, usize> {
    let mut told = HashMap::new();
    let (mut mark, mut stored): (Mark, HashMap<_, _>) =
        repository.read(|reader| Ok((Mark::of(reader)?, pages(reader).collect()))).unwrap();
    loop {
        let last = done.load(Ordering::Relaxed);
        let looked = repository.read(|reader| {
            let difference = difference(reader, &mark, |number| stored.get(&number).cloned())?;
            let nodes: Vec<_> = difference.nodes(reader).collect();
            let pages: Vec<_> = difference.pages(reader).collect();
            Ok((nodes, pages, difference.mark(reader)?))
        });
        match looked {
            Ok((nodes, pages, new)) => {
                nodes.into_iter().for_each(|node| *told.entry(node).or_default() += 1);
                stored.extend(pages);
                mark = new;
            }
            Err(error) => assert!(error.may_settle(), "{error}"),
        }
        if last {
            return told;
        }
    }
}

#[test]
fn a_damaged_store_is_an_error_that_names_it() {
    let mut hg = Hg::new();
    let nodes = hg.hard("r", &[]);
    let node = nodes[nodes.len() - 1];
    let repository = hg.repository("r");
    let store = hg.path("r/.hg/store");
    for file in
        ["data/growing.i", "data/growing.d", "00manifest.i", "00changelog.i", "00changelog.d"]
    {
        let path = store.join(file);
        let Ok(whole) = fs::read(&path) else { continue };
        for (at, bits) in [(whole.len() / 2, 0x10), (70, 0x80)] {
            let mut damaged = whole.clone();
            damaged[at] ^= bits;
            fs::write(&path, damaged).unwrap();
            check_damage(&repository, &node);
        }
        for len in [0, whole.len() - 1] {
            fs::write(&path, &whole[..len]).unwrap();
            check_damage(&repository, &node);
        }
        fs::write(&path, whole).unwrap();
    }
    repository.reader().unwrap().archive(&node, &mut std::io::sink()).unwrap();
}

/// Whatever is damaged: a right answer or an error, never a wrong answer.
fn check_damage(repository: &Repository, node: &Node) {
    let mut tar = Vec::new();
    let read = repository.reader().and_then(|reader| {
        let changeset = reader.changeset(node)?;
        assert_eq!(changeset.description, "last");
        let growing = reader.file(node, "growing", 1 << 20)?.unwrap();
        assert!(growing.starts_with(b"line 0 of 11\n"));
        reader.archive(node, &mut tar)
    });
    match read {
        Ok(_) => assert!(items(&tar).len() > 20),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

#[test]
fn the_lock_of_a_process_that_is_gone_does_not_count() {
    let mut hg = Hg::new();
    hg.run("", &["init", "r"]);
    let repository = hg.repository("r");
    assert!(!repository.is_locked());
    let lock = hg.path("r/.hg/store/lock");
    let mut child = Command::new("sleep").arg("100").spawn().unwrap();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let namespace =
        std::os::unix::fs::MetadataExt::ino(&fs::metadata("/proc/self/ns/pid").unwrap());
    let holder = format!("{}/{namespace:x}:{}", host.trim_end(), child.id());
    std::os::unix::fs::symlink(&holder, &lock).unwrap();
    assert!(repository.is_locked());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!repository.is_locked());
    fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink(holder.replace('/', "-elsewhere/"), &lock).unwrap();
    assert!(repository.is_locked());
}
