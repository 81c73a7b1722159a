//! Hostile input for the parsers of this crate.
//!
//! ## How to fuzz a parser
//! Every crate that reads what others wrote has a `tests/fuzz.rs`. It includes the harness, which
//! is plain stable Rust and depends on nothing:
//!
//! ```ignore
//! #[path = "../../core/tests/fuzzing/mod.rs"]     // hooks and daemon: "../../crates/core/…"
//! mod fuzzing;
//!
//! #[global_allocator]                             // counts memory
//! static ALLOCATOR: fuzzing::Counting = fuzzing::Counting;
//!
//! #[test]
//! fn spool_files_of_any_bytes_are_read_or_refused() {
//!     let target = fuzzing::Target {
//!         name: "spool",                          // fuzz-corpus/spool/
//!         seeds: &[b"what is right", b"what once was wrong"],
//!         words: &[b"\"repo\":", b"null"],
//!         max_len: 65536,
//!         max_memory: 8 << 20,
//!     };
//!     target.fuzz(|input| match spool::parse(input) {
//!         Ok(hint) => {
//!             assert_eq!(spool::parse(&spool::print(&hint)), Ok(hint));   // a property
//!             "fine".to_owned()
//!         }
//!         Err(error) => fuzzing_kind(&error.to_string()),  // what leads the harness on
//!     });
//! }
//! ```
//!
//! `cargo test` tries 5,000 inputs, the same ones each time. `make fuzz` is
//! `HGCI_FUZZ_SECONDS=60 cargo test --release --test fuzz -- --nocapture --test-threads=1` for the
//! whole workspace: each target for so long, other inputs each time. An input that fails is written to
//! `fuzz-corpus/NAME/` and tried first from then on; once it is understood it becomes a seed.
//! `HGCI_FUZZ_SEED` repeats a run.
//!
//! Time is bounded by the harness too: an input that takes two minutes stops the process.

#![allow(clippy::unwrap_used)]

mod fuzzing;

use std::fmt::Write as _;

use hgci_core::document::{MAX_MISTAKES, Mistake};
use hgci_core::pipeline::{self, Pipeline};
use hgci_core::plan::plan;
use hgci_core::quantity;
use proptest::prelude::*;

#[global_allocator]
static ALLOCATOR: fuzzing::Counting = fuzzing::Counting;

/// A mistake without the parts that differ from input to input: names, numbers and places.
fn kind(mistake: &Mistake) -> String {
    let parts: Vec<_> = mistake.message.split('`').step_by(2).collect();
    let text: String = parts.join("`").chars().filter(|c| !c.is_ascii_digit()).collect();
    format!("{text} {}", mistake.hint.is_some())
}

/// What must be true of the mistakes of any text.
fn check_mistakes(bytes: &[u8], mistakes: &[Mistake]) {
    assert!(!mistakes.is_empty() && mistakes.len() <= MAX_MISTAKES + 1);
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines: Vec<_> = text.split('\n').collect();
    let places: Vec<_> = mistakes.iter().map(|m| (m.line, m.column)).collect();
    // The last may say that there are more.
    assert!(places[..places.len().min(MAX_MISTAKES)].is_sorted(), "{places:?}");
    for mistake in mistakes {
        let line = lines.get(mistake.line as usize - 1).expect("a line of the file");
        let columns = line.chars().count() + 1;
        assert!((1..=columns).contains(&(mistake.column as usize)), "{mistake}");
        let shown = mistake.to_string();
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert!(shown.len() < 20_000, "{shown}");
    }
}

/// A pipeline in the form that is hardest to misread: every string as a basic string in quotes.
fn print(pipeline: &Pipeline) -> String {
    let string = |text: &str| serde_json::to_string(text).unwrap().replace('\x7f', "\\u007f");
    let list = |texts: &[String]| {
        format!("[{}]", texts.iter().map(|text| string(text)).collect::<Vec<_>>().join(", "))
    };
    let mut text = "version = 1\n[env]\n".to_owned();
    for (name, value) in pipeline.env() {
        writeln!(text, "{} = {}", string(name), string(value)).unwrap();
    }
    for job in pipeline.jobs() {
        let needs: Vec<_> = job.needs.iter().map(|n| pipeline.jobs()[*n].name.clone()).collect();
        writeln!(text, "[job.{}]\nrun = {}", string(&job.name), list(&job.run)).unwrap();
        writeln!(text, "needs = {}\nlabels = {}", list(&needs), list(&job.labels)).unwrap();
        writeln!(text, "reports = {}", list(&job.reports)).unwrap();
        writeln!(text, "allow-failure = {}", job.allow_failure).unwrap();
        if let Some(timeout) = job.timeout {
            writeln!(text, "timeout = '{}ms'", timeout.as_millis()).unwrap();
        }
        let env: Vec<_> =
            job.env.iter().map(|(k, v)| format!("{} = {}", string(k), string(v))).collect();
        writeln!(text, "env = {{ {} }}", env.join(", ")).unwrap();
    }
    text
}

/// What must be true of any pipeline that was read.
fn check_pipeline(pipeline: &Pipeline) {
    let plan = plan(pipeline);
    assert_eq!(plan.jobs.len(), pipeline.jobs().len());
    for (place, job) in plan.jobs.iter().enumerate() {
        assert!(!job.run.is_empty());
        assert!(job.needs.iter().all(|need| (*need as usize) < place));
        assert!(plan.jobs.iter().filter(|other| other.name == job.name).count() == 1);
    }
    let printed = print(pipeline);
    assert_eq!(pipeline::parse("f", printed.as_bytes()).as_ref(), Ok(pipeline), "{printed}");
}

#[test]
fn pipelines_of_any_bytes_are_read_or_refused() {
    let seeds: [&[u8]; 6] = [
        b"version = 1\n[job.a]\nrun = 'x'\n",
        b"version = 1\n\n[env]\nLANG = \"C\"\n\n[job.build]\nrun = [\"a\", 'b']\nenv = { A = \"b\" }\nlabels = ['x']\n\
          timeout = '1h30m'\nreports = ['a/*.xml']\nallow-failure = true\n[job.test]\nneeds = ['build']\nrun = '''\nx\n'''\n",
        b"\xef\xbb\xbfversion=1\r\njob.a={run=\"\\u00e9\\x41\", when='all()'}\r\n# \xc3\xa9\r\n",
        b"version = 1\njob = { a.run = 'x', a.needs = ['b'], b = { run = 'y', needs = ['a'] } }\n",
        b"version = 2\n[[job]]\nx = 0x1F\ny = 1979-05-27T07:32:00Z\nz = -1.5e3\nw = [true, inf]\n",
        b"version = 1\n[job]\n'\xe2\x82\xac' = 7\n",
    ];
    let words: [&[u8]; 34] = [
        b"version",
        b"env",
        b"[env]\n",
        b"[job.a]\n",
        b"[job.b]\n",
        b"[[job]]\n",
        b"run",
        b"needs",
        b"labels",
        b"timeout",
        b"reports",
        b"allow-failure",
        b"when",
        b"matrix",
        b"= ",
        b"'x'",
        b"\"\"\"",
        b"'''",
        b"['a', 'b']",
        b"{ a = 1 }",
        b"true",
        b"1979-05-27",
        b"0x1f",
        b"inf",
        b"\\u0000",
        b"\\U0010ffff",
        b"..",
        b"/",
        b"\xef\xbb\xbf",
        b"\r\n",
        b"\n",
        b"'a'",
        b"'b'",
        b"HGCI_X",
    ];
    let target = fuzzing::Target {
        name: "pipeline",
        seeds: &seeds,
        words: &words,
        max_len: 64 << 10,
        max_memory: 32 << 20,
    };
    target.fuzz(|input| match pipeline::parse("f", input) {
        Ok(pipeline) => {
            check_pipeline(&pipeline);
            vec![format!("{} jobs", pipeline.jobs().len().min(5))]
        }
        Err(mistakes) => {
            check_mistakes(input, &mistakes);
            mistakes.iter().take(3).map(kind).collect()
        }
    });
}

#[test]
fn quantities_of_any_text_are_read_or_refused() {
    let target = fuzzing::Target {
        name: "quantity",
        seeds: &[b"1h30m", b"90d", b"300ms", b"512MiB", b"4096"],
        words: &[b"d", b"h", b"m", b"s", b"ms", b"KiB", b"TiB", b"B", b"18446744073709551615"],
        max_len: 1000,
        max_memory: 64 << 10,
    };
    target.fuzz(|input| {
        let text = String::from_utf8_lossy(input);
        let duration = quantity::parse_duration(&text);
        let size = quantity::parse_size(&text);
        if let Ok(duration) = duration {
            // The two largest units are shown.
            let shown = quantity::parse_duration(&quantity::format_duration(duration)).unwrap();
            assert!(shown <= duration && duration <= shown * 2, "{duration:?} {shown:?}");
        }
        if let Ok(size) = size {
            assert!(quantity::format_size(size).len() < 20, "{size}");
        }
        (
            duration.map(|_| ()).map_err(|e| e.to_string()),
            size.map(|_| ()).map_err(|e| e.to_string()),
        )
    });
}

/// Any pipeline: names, texts and needs of jobs that come before or after.
fn any_pipeline() -> impl Strategy<Value = String> {
    let text = || {
        "[ -~\u{e9}\u{20ac}\u{1f600}\t\n]{1,20}".prop_filter("not blank", |t| !t.trim().is_empty())
    };
    let env =
        || proptest::collection::btree_map("[A-BD-Za-z_][A-Za-z0-9_]{0,6}", "\\PC{0,10}", 0..4);
    let job = (
        proptest::collection::vec(text(), 1..4),
        env(),
        proptest::collection::btree_set("[a-z0-9_][a-z0-9._-]{0,5}", 0..3),
        proptest::option::of(1u64..100_000_000),
        proptest::bool::ANY,
        proptest::collection::vec(0usize..20, 0..4),
    );
    let jobs = proptest::collection::btree_map("[A-Za-z0-9_][A-Za-z0-9._-]{0,8}", job, 0..12);
    (env(), jobs, proptest::num::u64::ANY).prop_map(|(env, jobs, seed)| {
        let string = |text: &str| serde_json::to_string(text).unwrap().replace('\x7f', "\\u007f");
        let mut order: Vec<_> = jobs.keys().cloned().collect();
        // In a file order that is not the order of names.
        order.sort_by_key(|name| {
            seed.wrapping_mul(name.len() as u64 + u64::from(name.as_bytes()[0]))
        });
        let place = |name: &String| order.iter().position(|other| other == name).unwrap();
        let rank = |n: usize| (n as u64).wrapping_mul(seed | 1) >> 7;
        let mut file = "version = 1\n".to_owned();
        for (name, value) in &env {
            writeln!(file, "env.{name} = {}", string(value)).unwrap();
        }
        for name in &order {
            let (run, env, labels, timeout, allow, needs) = &jobs[name];
            let own = rank(place(name));
            let needs: std::collections::BTreeSet<_> = needs
                .iter()
                .filter(|need| **need < order.len() && rank(**need) < own)
                .map(|need| format!("{:?}", order[*need]))
                .collect();
            let run: Vec<_> = run.iter().map(|step| string(step)).collect();
            let env: Vec<_> = env.iter().map(|(k, v)| format!("{k} = {}", string(v))).collect();
            let labels: Vec<_> = labels.iter().map(|label| format!("'{label}'")).collect();
            let needs = needs.into_iter().collect::<Vec<_>>().join(", ");
            writeln!(file, "[job.\"{name}\"]\nrun = [{}]\nneeds = [{needs}]", run.join(",\n  "))
                .unwrap();
            writeln!(file, "env = {{ {} }}\nlabels = [{}]", env.join(", "), labels.join(", "))
                .unwrap();
            writeln!(file, "allow-failure = {allow}").unwrap();
            if let Some(timeout) = timeout {
                writeln!(file, "timeout = '{timeout}ms'").unwrap();
            }
        }
        file
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pipeline_that_is_printed_is_read_as_the_same(text in any_pipeline()) {
        match pipeline::parse("f", text.as_bytes()) {
            Ok(pipeline) => check_pipeline(&pipeline),
            Err(mistakes) => prop_assert!(false, "{}\n{:?}", text, mistakes),
        }
    }
}
