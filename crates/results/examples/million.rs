//! Prints what a log of many results costs: `million [RESULTS] [FOLDER]`.
//!
//! Without a folder the log is made in a temporary one; with one it is kept there, as
//! `FOLDER/hgci/results`, for other measurements.

#[path = "../tests/support/mod.rs"]
mod support;

use std::error::Error;
use std::time::{Duration, Instant};

use hgci_results::{Place, Reader, Writer};
use support::{node, origin, stream};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let results: u64 = args.next().map_or(Ok(1_000_000), |n| n.parse())?;
    let kept = args.next();
    let folder = tempfile::tempdir()?;
    let dot_hg = kept.map_or(folder.path().to_owned(), Into::into);
    std::fs::create_dir_all(dot_hg.join("store"))?;
    let place = Place::new(&dot_hg);

    let mut writer = Writer::open(&place, &origin())?;
    let start = Instant::now();
    let group = 250;
    let mut slowest = Duration::ZERO;
    for first in (0..results).step_by(group) {
        let entries: Vec<_> = (first..results.min(first + group as u64)).map(stream).collect();
        let began = Instant::now();
        writer.append(&entries)?;
        slowest = slowest.max(began.elapsed());
    }
    let took = start.elapsed();
    println!(
        "append: {results} results in groups of {group}: {:.0}/s, slowest group {slowest:?}",
        results as f64 / took.as_secs_f64()
    );
    let start = Instant::now();
    let singles = 500;
    for i in results..results + singles {
        writer.append(&[stream(i)])?;
    }
    println!("append: one by one, durable each: {:?} each", start.elapsed() / singles as u32);
    drop(writer);

    let log = std::fs::metadata(place.log())?.len();
    let index = std::fs::metadata(place.index())?.len();
    let all = results + singles;
    println!(
        "size: log {log}, index {index} bytes: {:.1} bytes a result",
        (log + index) as f64 / all as f64
    );

    let start = Instant::now();
    drop(Writer::open(&place, &origin())?);
    println!("reopen by the writer: {:?}", start.elapsed());

    let nodes = results / 5;
    let mut times: Vec<Duration> = Vec::new();
    for i in 0..1000 {
        let wanted = node(i * 7919 % nodes);
        let start = Instant::now();
        let reader = Reader::open(&place)?.ok_or("no log")?;
        let found = reader.find(&wanted)?;
        times.push(start.elapsed());
        assert_eq!((found.records.len(), found.without_index), (5, None));
    }
    times.sort();
    println!(
        "open and look up 5 results: median {:?}, slowest of 1000 {:?}",
        times[500], times[999]
    );

    let start = Instant::now();
    let reader = Reader::open(&place)?.ok_or("no log")?;
    let count = reader.records().filter(|record| matches!(record, Ok(Ok(_)))).count();
    println!("read and verify all {count}: {:?}", start.elapsed());

    std::fs::rename(place.index(), place.index().with_extension("aside"))?;
    let start = Instant::now();
    let found = Reader::open(&place)?.ok_or("no log")?.find(&node(nodes / 2))?;
    assert_eq!(found.records.len(), 5);
    println!("look up without an index: {:?}", start.elapsed());
    let start = Instant::now();
    drop(Writer::open(&place, &origin())?);
    println!("reopen by the writer, making the index anew: {:?}", start.elapsed());
    Ok(())
}
