//! The pipeline language: what is read, what is refused and with which words.

#[path = "fuzzing/memory.rs"]
mod memory;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use hgci_core::document::{MAX_MISTAKES, MAX_SIZE};
use hgci_core::pipeline::{self, MAX_JOBS, Pipeline};
use hgci_core::plan::plan;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// The most memory that a file of 1 MiB may need, whatever is in it.
const MAX_MEMORY: usize = 128 << 20;

fn parse(text: &str) -> Pipeline {
    pipeline::parse(".hgci.toml", text.as_bytes()).unwrap_or_else(|mistakes| {
        panic!("{text}\n{}", mistakes.iter().map(|m| format!("{m}\n")).collect::<String>())
    })
}

/// The mistakes of a pipeline, without the file's name.
fn told(text: &str) -> Vec<String> {
    match pipeline::parse("", text.as_bytes()) {
        Ok(pipeline) => panic!("no mistake in\n{text}\n{pipeline:?}"),
        Err(mistakes) => mistakes.iter().map(|m| m.to_string()[1..].to_owned()).collect(),
    }
}

/// The mistakes of a job that has these lines besides `run`; its first line is line 4.
fn job(lines: &str) -> Vec<String> {
    told(&format!("version = 1\n[job.a]\nrun = 'true'\n{lines}\n"))
}

#[test]
fn a_pipeline_is_planned_as_it_is_written() {
    let pipeline = parse(
        r#"
version = 1

[env]
LANG = "C.UTF-8"
MODE = "fast"

[job.test]
needs   = ["build"]
run     = ["./configure --quiet", "make check"]
env     = { MODE = "full" }
labels  = ["linux", "x86_64"]
timeout = "1h30m"
reports = ["build/junit/*.xml", "**/TEST-*.xml"]

[job.build]
run = "make -j2"

[job.lint]
run = "make lint"
allow-failure = true
"#,
    );
    let plan = plan(&pipeline);
    assert_eq!(
        serde_json::to_value(&plan).unwrap(),
        serde_json::json!({"jobs": [
            {"name": "build", "run": ["make -j2"], "env": {"LANG": "C.UTF-8", "MODE": "fast"},
             "allow_failure": false},
            {"name": "test", "run": ["./configure --quiet", "make check"],
             "env": {"LANG": "C.UTF-8", "MODE": "full"}, "needs": [0],
             "labels": ["linux", "x86_64"], "timeout_ms": 5_400_000,
             "reports": ["build/junit/*.xml", "**/TEST-*.xml"], "allow_failure": false},
            {"name": "lint", "run": ["make lint"], "env": {"LANG": "C.UTF-8", "MODE": "fast"},
             "allow_failure": true},
        ]})
    );
}

#[test]
fn a_plan_has_every_job_after_what_it_needs_and_else_in_the_order_of_the_file() {
    let names = |text: &str| {
        let plan = plan(&parse(text));
        for (place, job) in plan.jobs.iter().enumerate() {
            assert!(job.needs.iter().all(|need| (*need as usize) < place), "{plan:?}");
        }
        plan.jobs.iter().map(|job| job.name.clone()).collect::<Vec<_>>().join(" ")
    };
    let with = |needs: [&str; 4]| {
        let mut text = "version = 1\n".to_owned();
        for (name, needs) in ["z", "m", "b", "a"].iter().zip(needs) {
            writeln!(text, "[job.{name}]\nrun = 'true'\nneeds = [{needs}]").unwrap();
        }
        names(&text)
    };
    assert_eq!(with(["", "", "", ""]), "z m b a");
    assert_eq!(with(["'a'", "", "", ""]), "m b a z");
    assert_eq!(with(["'b'", "'a'", "'a'", ""]), "a m b z");
    assert_eq!(with(["'a', 'b', 'm'", "'b'", "'a'", ""]), "a b m z");
    assert_eq!(names("version = 1\n"), "", "no job is no mistake");
    // Other ways to write the same.
    assert_eq!(names("version = 1\njob = { b = { run = 'x' }, a = { run = 'y' } }\n"), "b a");
    assert_eq!(names("version = 1\njob.b.run = 'x'\njob.a.run = 'y'\n"), "b a");
}

#[test]
fn a_version_that_is_not_known_is_the_only_mistake() {
    assert_eq!(
        told("version = 2\n[stage.x]\nscript = 1\n"),
        [
            "1:11: `version`: 2 is not a version of the pipeline language that hgci 0.1.0 knows (known: 1)"
        ]
    );
    assert_eq!(told(""), ["1:1: `version` is missing (begin the file with version = 1)"]);
    assert_eq!(told("verison = 1"), ["1:1: unknown key `verison` (did you mean `version`?)"]);
    assert_eq!(told("version = '1'"), ["1:11: `version`: expected a whole number, found a string"]);
}

#[test]
fn unknown_keys_name_the_nearest_known_one() {
    assert_eq!(
        told(
            "version = 1\nenvironment.A = 'b'\n[jobs.a]\nrun = 'true'\n[job.a]\nscript = 'true'\nallow_failure = true\n"
        ),
        [
            "2:1: unknown key `environment` (did you mean `env`?)",
            "3:2: unknown key `jobs` (did you mean `job`?)",
            "5:1: `run` in `job.a` is missing (write run = \"make\" or the like)",
            "6:1: unknown key `script` in `job.a` (known here: `allow-failure`, `env`, `labels`, `needs`, `reports`, `run`, `timeout`)",
            "7:1: unknown key `allow_failure` in `job.a` (did you mean `allow-failure`?)",
        ]
    );
}

#[test]
fn keys_of_later_versions_are_refused_by_name() {
    assert_eq!(
        job(
            "when = 'branch(default)'\nmatrix = { a = ['1'] }\nartifacts = { paths = ['x'] }\ncheckout = 'clone'"
        ),
        [
            "4:1: hgci 0.1.0 does not support `when` yet (remove it, or update hgci here and on the server)",
            "5:1: hgci 0.1.0 does not support `matrix` yet (remove it, or update hgci here and on the server)",
            "6:1: hgci 0.1.0 does not support `artifacts` yet (remove it, or update hgci here and on the server)",
            "7:1: hgci 0.1.0 does not support `checkout` yet (remove it, or update hgci here and on the server)",
        ]
    );
}

#[test]
fn every_value_has_its_kind() {
    assert_eq!(
        told(
            "version = 1\nenv = ['A=b']\n[job]\na = 'make'\n[job.b]\nrun = { a = 1 }\nneeds = 'a'\nlabels = [1]\n\
             timeout = 30\nreports = true\nallow-failure = 'no'\nenv = { A = 1, B = 2.5, C = false }\n"
        ),
        [
            "2:7: `env`: expected a table, found an array",
            "4:5: `job.a`: expected a table, found a string",
            "6:7: `job.b.run`: expected a string or an array of strings, found a table",
            "7:9: `job.b.needs`: expected an array of strings, found a string (write [\"a\"])",
            "8:11: `job.b.labels`: expected a string, found an integer (put it in quotes)",
            "9:11: `job.b.timeout`: expected a duration, found an integer (write \"90s\", \"10m\" or \"1h30m\")",
            "10:11: `job.b.reports`: expected an array of strings, found a boolean",
            "11:17: `job.b.allow-failure`: expected `true` or `false`, found a string",
            "12:13: `job.b.env.A`: expected a string, found an integer (put it in quotes)",
            "12:20: `job.b.env.B`: expected a string, found a float (put it in quotes)",
            "12:29: `job.b.env.C`: expected a string, found a boolean (put it in quotes)",
        ]
    );
    assert_eq!(told("version = 1\njob = 1\n"), ["2:7: `job`: expected a table, found an integer"]);
    assert_eq!(
        told("version = 1\n[[job]]\nrun = 'x'\n"),
        ["2:1: `job`: expected a table, found an array"]
    );
}

#[test]
fn values_that_cannot_work_are_refused() {
    assert_eq!(
        job("timeout = '0s'"),
        ["4:11: `job.a.timeout`: a job cannot end at once; the least is \"1ms\""]
    );
    assert_eq!(
        job("timeout = 'soon'"),
        [
            "4:11: `job.a.timeout`: `soon`: not a duration; write \"300ms\", \"90s\", \"10m\", \"1h30m\" or \"90d\""
        ]
    );
    assert_eq!(
        job("reports = ['/tmp/x.xml', 'a/../../x.xml', '', 'ok/./x.xml', './/', \"a\\u0000\"]"),
        [
            "4:12: `job.a.reports`: `/tmp/x.xml` is not relative (write it from the root of the source tree)",
            "4:26: `job.a.reports`: `a/../../x.xml` leads out of the source tree (write it from the root of the source tree)",
            "4:43: `job.a.reports`: a pattern must not be empty",
            "4:61: `job.a.reports`: a pattern must not be empty",
            "4:68: `job.a.reports`: a NUL character cannot be given to a process",
        ]
    );
    assert_eq!(
        job("labels = ['linux', 'linux', 'a b']"),
        [
            "4:20: `job.a.labels`: `linux` is listed twice",
            "4:29: `job.a.labels`: `a b` cannot be a label: a name has letters, digits, `.`, `_` and `-` alone, and begins with none of `.` and `-`",
        ]
    );
    assert_eq!(
        job("env = { CI = 'x', HGCI_NODE = 'y', '1' = 'z', OK = \"a\\u0000\" }"),
        [
            "4:9: `CI` cannot be set: hgci sets `CI`, `HGCI` and `HGCI_*` itself",
            "4:19: `HGCI_NODE` cannot be set: hgci sets `CI`, `HGCI` and `HGCI_*` itself",
            "4:36: `1` cannot be set: the name of a variable has letters, digits and `_` alone, and begins with no digit",
            "4:52: `job.a.env.OK`: a NUL character cannot be given to a process",
        ]
    );
    assert_eq!(
        told(
            "version = 1\n[env]\nHGCI = '1'\n[job.'a/b']\nrun = []\n[job.c]\nrun = ['true', ' ']\n"
        ),
        [
            "3:1: `HGCI` cannot be set: hgci sets `CI`, `HGCI` and `HGCI_*` itself",
            "4:6: `a/b` cannot be the name of a job: a name has letters, digits, `.`, `_` and `-` alone, and begins with none of `.` and `-`",
            "5:7: `job.a/b.run`: a job has at least one step (write run = \"true\")",
            "7:16: `job.c.run`: a step must not be empty",
        ]
    );
}

#[test]
fn a_need_that_is_no_job_names_the_nearest_one() {
    assert_eq!(
        told(
            "version = 1\n[job.build]\nrun = 'x'\n[job.test]\nneeds = ['biuld', 'lint', 'build', 'build']\nrun = 'y'\n"
        ),
        [
            "5:10: `job.test.needs`: there is no job `biuld` (did you mean `build`?)",
            "5:19: `job.test.needs`: there is no job `lint`",
            "5:36: `job.test.needs`: `build` is listed twice",
        ]
    );
}

#[test]
fn a_cycle_is_named_in_full() {
    assert_eq!(
        told(
            "version = 1\n[job.a]\nrun = 'x'\nneeds = ['d', 'b']\n[job.b]\nrun = 'x'\nneeds = ['c']\n\
             [job.c]\nrun = 'x'\nneeds = ['a']\n[job.d]\nrun = 'x'\n[job.e]\nrun = 'x'\nneeds = ['e']\n"
        ),
        [
            "4:15: `job.a.needs`: jobs wait for each other for ever: `a` needs `b` needs `c` needs `a`",
            "15:10: `job.e.needs`: the job needs itself",
        ]
    );
}

#[test]
fn the_limits_are_named() {
    let jobs = |n: usize| {
        (0..n).fold("version = 1\n".to_owned(), |text, n| format!("{text}[job.j{n}]\nrun='x'\n"))
    };
    assert_eq!(plan(&parse(&jobs(MAX_JOBS))).jobs.len(), MAX_JOBS);
    assert_eq!(told(&jobs(MAX_JOBS + 1)), ["2002:6: 1001 jobs; a pipeline has at most 1000"]);
    let name = "x".repeat(101);
    assert_eq!(
        told(&format!("version = 1\n[job.{name}]\nrun = 'x'\n")),
        [format!(
            "2:6: `{}…` cannot be the name of a job: a name has at most 100 characters",
            &name[1..]
        )]
    );
    assert_eq!(
        job(&format!("env = {{ A = '{}' }}", "x".repeat(20_000))),
        [
            "4:7: `job.a.env`: names and values have 20001 bytes together, more than 16KiB (put it into a file in the repository)"
        ]
    );
    assert_eq!(
        told(&format!("version = 1\n[job.a]\nrun = '{}'\n", "x".repeat(102_401))),
        [
            "3:7: `job.a.run`: the step has 102401 bytes, more than 100KiB (put it into a script in the repository)"
        ]
    );
    let copies = |jobs: usize| {
        let jobs = (0..jobs).fold(String::new(), |text, n| format!("{text}[job.j{n}]\nrun='x'\n"));
        format!("version = 1\n[env]\nA = '{}'\n{jobs}", "x".repeat(16_000))
    };
    assert_eq!(plan(&parse(&copies(130))).jobs.len(), 130);
    assert_eq!(
        told(&copies(140)),
        [
            "2:1: `env`: the jobs, each with the pipeline's env, have 2248850 bytes, more than 2MiB (put what is long into files in the repository)"
        ]
    );
    assert_eq!(
        job(&format!("labels = [{}]", "'x',".repeat(101))),
        ["4:10: `job.a.labels`: 101 labels; there may be 100"]
    );
}

#[test]
fn hostile_pipelines_cost_little() {
    let fill = |head: &str, unit: &dyn Fn(usize) -> String, tail: &str| {
        let mut text = head.to_owned();
        for n in 0.. {
            let unit = unit(n);
            if text.len() + unit.len() + tail.len() > MAX_SIZE {
                break;
            }
            text += &unit;
        }
        text + tail
    };
    let thousand = |needs: &dyn Fn(usize) -> String| {
        (0..MAX_JOBS).fold("version=1\n".to_owned(), |text, n| {
            format!("{text}[job.{:0>60}]\nrun='x'\nneeds=[{}]\n", n, needs(n))
        })
    };
    let cases = [
        ("jobs", fill("version=1\n", &|n| format!("[job.{n}]\n"), "")),
        ("unknown keys", fill("version=1\n[job.a]\n", &|n| format!("k{n}=1\n"), "")),
        ("variables", fill("version=1\n[env]\n", &|n| format!("k{n}=1\n"), "")),
        ("needs", fill("version=1\n[job.a]\nrun='x'\nneeds=[", &|n| format!("'{n}',"), "]\n")),
        ("one need", fill("version=1\n[job.a]\nrun='x'\nneeds=[", &|_| "'a',".into(), "]\n")),
        ("steps", fill("version=1\n[job.a]\nrun=[", &|_| "'',".into(), "]\n")),
        (
            "unknown needs of a thousand jobs",
            thousand(&|n| (0..12).map(|m| format!("'{:0>60}',", n * 12 + m + 5000)).collect()),
        ),
        ("one cycle of a thousand jobs", thousand(&|n| format!("'{:0>60}'", (n + 1) % MAX_JOBS))),
        ("five hundred cycles", thousand(&|n| format!("'{:0>60}'", n ^ 1))),
    ];
    for (what, text) in cases {
        let started = Instant::now();
        let (found, memory) = memory::peak(|| told(&text));
        let took = started.elapsed();
        let size: usize = found.iter().map(String::len).sum();
        eprintln!(
            "{what}: {} bytes, {} mistakes of {size} bytes in {took:?}, {} MiB",
            text.len(),
            found.len(),
            memory >> 20
        );
        assert!(memory < MAX_MEMORY, "{what}: {memory}");
        assert!(found.len() <= MAX_MISTAKES + 1 && size < 100_000, "{what}");
        // Orders of magnitude above what it takes; only what is not linear gets near.
        assert!(took < Duration::from_secs(60), "{what}: {took:?}");
    }
    // The largest plan that a file of 1 MiB can ask for, and does not get.
    let env: String = (0..200).map(|n| format!("V{n:03}='{}'\n", "x".repeat(70))).collect();
    let text = (0..MAX_JOBS)
        .fold(format!("version=1\n[env]\n{env}"), |text, n| format!("{text}[job.j{n}]\nrun='x'\n"));
    let started = Instant::now();
    let (found, memory) = memory::peak(|| told(&text));
    eprintln!("the largest plan: refused in {:?}, {} MiB", started.elapsed(), memory >> 20);
    assert!(found.len() == 1 && found[0].contains("more than 2MiB"), "{found:?}");
    assert!(memory < MAX_MEMORY);
}
