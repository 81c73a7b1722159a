//! Appends entries to the results log of a repository, for tests that need a log but no daemon:
//! `append DOT_HG < ENTRIES`, a JSON object of [`Entry`] a line. An `Origin` says whose the entries
//! after it are.

use std::error::Error;
use std::io::BufRead;

use hgci_core::result::{Entry, Origin};
use hgci_results::{Place, Writer};

fn main() -> Result<(), Box<dyn Error>> {
    let dot_hg = std::env::args().nth(1).ok_or("usage: append DOT_HG < ENTRIES")?;
    let place = Place::new(dot_hg);
    let mut origin = Origin::default();
    let mut entries = Vec::new();
    for line in std::io::stdin().lock().lines() {
        match serde_json::from_str(&line?)? {
            Entry::Origin(next) => {
                if !entries.is_empty() {
                    Writer::open(&place, &origin)?.append(&std::mem::take(&mut entries))?;
                }
                origin = next;
            }
            entry => entries.push(entry),
        }
    }
    let mut writer = Writer::open(&place, &origin)?;
    for note in writer.notes() {
        eprintln!("{note}");
    }
    writer.append(&entries)?;
    Ok(())
}
