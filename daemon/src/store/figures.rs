//! Figures of the store beside those of bare sled: `cargo run --release --example store-figures
//! HGCID [DIR]`, where HGCID is a built `hgcid` and DIR a folder on the disk to measure.

use std::path::PathBuf;
use std::time::Instant;

use hgcid::store::{Batch, Options, Scan, Store, StoreError, Tree};

const RECORD: usize = 300;
const TURNS: u64 = 2000;
const PENDING: u64 = 100_000;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(probe) = args.next() else { return Err("usage: store-figures HGCID [DIR]".into()) };
    let under = args.next().unwrap_or_else(|| PathBuf::from("."));
    let dir = tempfile::tempdir_in(under)?;
    let value: Vec<u8> = (0..RECORD).map(|i| (i * 7 % 256) as u8).collect();

    // What the disk itself can do: one synced write of a block that is there already.
    let floor = dir.path().join("floor");
    let file = std::fs::File::create(&floor)?;
    std::os::unix::fs::FileExt::write_all_at(&file, &[1; 8192], 0)?;
    file.sync_all()?;
    let start = Instant::now();
    for n in 0..500u64 {
        std::os::unix::fs::FileExt::write_all_at(&file, &n.to_le_bytes(), 0)?;
        rustix::fs::fdatasync(&file)?;
    }
    println!("fdatasync of one block: {:.0} us", start.elapsed().as_micros() as f64 / 500.0);

    for size in [1, 10, 100] {
        let turns = TURNS / size.min(10);
        let db = sled::Config::new()
            .path(dir.path().join(format!("bare-{size}")))
            .cache_capacity(Options::CACHE)
            .flush_every_ms(None)
            .open()?;
        let start = Instant::now();
        for turn in 0..turns {
            let mut batch = sled::Batch::default();
            for n in 0..size {
                batch.insert(&(turn * size + n).to_be_bytes(), value.as_slice());
            }
            db.apply_batch(batch)?;
            db.flush()?;
        }
        say("bare sled, flushed, not synced", size, turns, start);
        drop(db);

        let state = dir.path().join(format!("store-{size}"));
        let (store, _) = Store::open(&state, Options::new(&probe))?;
        let start = Instant::now();
        fill(&store, turns, size, &value)?;
        say("store, durable", size, turns, start);
        drop(store);
        let bytes = std::fs::metadata(state.join("store/db"))?.len() as f64;
        println!("    {:.0} bytes on disk per record", bytes / (turns * size) as f64);
    }

    let state = dir.path().join("pending");
    let (store, _) = Store::open(&state, Options::new(&probe))?;
    fill(&store, PENDING / 1000, 1000, &value)?;
    drop(store);
    for round in 0..3 {
        let start = Instant::now();
        let (store, report) = Store::open(&state, Options::new(&probe))?;
        let opened = start.elapsed();
        let mut records = 0;
        store.visit(Tree::Jobs, Scan::default(), |_| {
            records += 1;
            true
        })?;
        let (opened, all) = (opened.as_millis(), start.elapsed().as_millis());
        println!("{records} pending: open {opened} ms, read {all} ms, memory {}", memory());
        if report.lost_something() || records != PENDING {
            return Err(format!("round {round}: {report:?}").into());
        }
    }
    Ok(())
}

fn fill(store: &Store, turns: u64, size: u64, value: &[u8]) -> Result<(), StoreError> {
    for turn in 0..turns {
        let mut batch = Batch::new();
        for n in 0..size {
            batch.put(Tree::Jobs, (turn * size + n).to_be_bytes(), value);
        }
        store.commit(&batch)?;
    }
    Ok(())
}

fn say(what: &str, size: u64, turns: u64, start: Instant) {
    let micros = start.elapsed().as_micros() as f64;
    let (batch, record) = (micros / turns as f64, micros / (turns * size) as f64);
    println!("{what}: batches of {size}: {batch:.0} us each, {record:.1} us a record");
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.unwrap_or_default().split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
}
