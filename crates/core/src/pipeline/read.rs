//! From tables to jobs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path};

use super::{
    Job, MAX_ENV, MAX_JOBS, MAX_LISTED, MAX_PATTERN, MAX_PLAN, MAX_STEP, MAX_STEPS, MAX_VARIABLES,
    Pipeline, VERSIONS, check_env_name, check_name, needs,
};
use crate::document::{Document, Key, Mistake, Table, Value, did_you_mean, quoted};
use crate::quantity::format_size;

/// The most cycles that are told, and the most jobs of a cycle that are named.
const MAX_CYCLES: usize = 10;
const MAX_NAMED: usize = 100;

/// For how many wrong names the nearest right one is looked for, which takes 15 µs for each job.
const MAX_COMPARED: usize = 20;

/// Keys of a job that later versions of hgci know.
const LATER: [&str; 4] = ["artifacts", "checkout", "matrix", "when"];

/// Reads a pipeline. `file` is its name in mistakes, which come in the order of the file.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Pipeline, Vec<Mistake>> {
    let document = Document::parse(file, bytes)?;
    let mut root = document.root();
    if !version(&mut root) {
        // Whatever else it says, it says in a language that we do not know.
        return document.finish(Pipeline { env: BTreeMap::new(), jobs: vec![], order: vec![] });
    }
    let (env_here, jobs_here) = (root.take("env"), root.take("job"));
    let env = env_here.as_ref().map(env).unwrap_or_default();
    let jobs = jobs_here.as_ref().and_then(Value::table);
    root.finish();
    let entries = jobs.map(|jobs| jobs.entries()).unwrap_or_default();
    if let Some((key, _)) = entries.get(MAX_JOBS) {
        let message = format!("{} jobs; a pipeline has at most {MAX_JOBS}", entries.len());
        key.mistake(message, None);
        return document.finish(Pipeline { env, jobs: vec![], order: vec![] });
    }
    let (mut jobs, wanted): (Vec<_>, Vec<_>) =
        entries.iter().map(|(key, value)| job(key, value)).unzip();
    resolve(&mut jobs, &wanted);
    let graph: Vec<_> = jobs.iter().map(|job| job.needs.clone()).collect();
    let order = needs::order(&graph, MAX_CYCLES).unwrap_or_else(|cycles| {
        for cycle in cycles {
            tell_cycle(&cycle, &entries, &wanted);
        }
        Vec::new()
    });
    let pipeline = Pipeline { env, jobs, order };
    let size = crate::plan::size(&pipeline);
    if size > MAX_PLAN
        && let Some(here) = env_here.or(jobs_here)
    {
        let limit = format_size(MAX_PLAN as u64);
        let hint = "put what is long into files in the repository".to_owned();
        here.mistake(
            format!("the jobs, each with the pipeline's env, have {size} bytes, more than {limit}"),
            Some(hint),
        );
    }
    document.finish(pipeline)
}

/// Whether the version is one that can be read; a mistake if not.
fn version(root: &mut Table<'_>) -> bool {
    let hint = "begin the file with version = 1";
    let Some(value) = root.need_or("version", Some(hint)) else { return true };
    match value.integer() {
        Some(number) if VERSIONS.contains(&number) => true,
        Some(number) => {
            let known: Vec<_> = VERSIONS.iter().map(i64::to_string).collect();
            value.mistake(
                format!(
                    "{number} is not a version of the pipeline language that hgci {} knows",
                    here()
                ),
                Some(format!("known: {}", known.join(", "))),
            );
            false
        }
        None => true,
    }
}

/// The version of this program.
fn here() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

type Wanted<'d> = Vec<(&'d str, Value<'d>)>;

/// A job, and the names in its `needs`.
fn job<'d>(key: &Key<'d>, value: &Value<'d>) -> (Job, Wanted<'d>) {
    let name = key.text().to_owned();
    if let Err(error) = check_name(&name) {
        key.mistake(format!("{} cannot be the name of a job: {error}", quoted(&name)), None);
    }
    let mut job = Job {
        name,
        run: Vec::new(),
        env: BTreeMap::new(),
        needs: Vec::new(),
        labels: Vec::new(),
        timeout: None,
        reports: Vec::new(),
        allow_failure: false,
    };
    let Some(mut table) = value.table() else { return (job, Vec::new()) };
    job.run = table
        .need_or("run", Some("write run = \"make\" or the like"))
        .map(|value| steps(&value))
        .unwrap_or_default();
    job.env = table.take("env").map(|value| env(&value)).unwrap_or_default();
    let wanted = table.take("needs").and_then(|value| value.strings()).unwrap_or_default();
    job.labels = table.take("labels").map(|value| labels(&value)).unwrap_or_default();
    job.reports = table.take("reports").map(|value| reports(&value)).unwrap_or_default();
    job.allow_failure =
        table.take("allow-failure").and_then(|value| value.boolean()).unwrap_or_default();
    if let Some(value) = table.take("timeout") {
        job.timeout = value.duration();
        if job.timeout.is_some_and(|timeout| timeout.is_zero()) {
            value.mistake("a job cannot end at once; the least is \"1ms\"", None);
        }
    }
    for key in LATER {
        let message = format!("hgci {} does not support {} yet", here(), quoted(key));
        table.refuse(key, &message, Some("remove it, or update hgci here and on the server"));
    }
    table.finish();
    (job, wanted)
}

fn steps(value: &Value<'_>) -> Vec<String> {
    let steps = value.string_or_strings().unwrap_or_default();
    if value.is_empty_array() {
        value.mistake("a job has at least one step", Some("write run = \"true\"".into()));
    }
    if too_many(value, steps.len(), MAX_STEPS, "steps") {
        return Vec::new();
    }
    for (step, value) in &steps {
        if step.trim().is_empty() {
            value.mistake("a step must not be empty", None);
        } else if step.len() > MAX_STEP {
            let hint = "put it into a script in the repository".to_owned();
            value.mistake(too_long("the step", step.len(), MAX_STEP), Some(hint));
        }
        no_nul(step, value);
    }
    steps.into_iter().map(|(step, _)| step.to_owned()).collect()
}

fn env(value: &Value<'_>) -> BTreeMap<String, String> {
    let Some(table) = value.table() else { return BTreeMap::new() };
    if too_many(value, table.len(), MAX_VARIABLES, "variables") {
        return BTreeMap::new();
    }
    let mut env = BTreeMap::new();
    let mut size = 0;
    for (key, value) in table.entries() {
        if let Err(error) = check_env_name(key.text()) {
            key.mistake(format!("{} cannot be set: {error}", quoted(key.text())), None);
        }
        if let Some(text) = value.string() {
            no_nul(text, &value);
            size += key.text().len() + text.len();
            env.insert(key.text().to_owned(), text.to_owned());
        }
    }
    if size > MAX_ENV {
        let hint = "put it into a file in the repository".to_owned();
        let limit = format_size(MAX_ENV as u64);
        value.mistake(
            format!("names and values have {size} bytes together, more than {limit}"),
            Some(hint),
        );
    }
    env
}

fn labels(value: &Value<'_>) -> Vec<String> {
    let labels = value.strings().unwrap_or_default();
    if too_many(value, labels.len(), MAX_LISTED, "labels") {
        return Vec::new();
    }
    let mut seen = BTreeSet::new();
    for (label, value) in &labels {
        if let Err(error) = check_name(label) {
            value.mistake(format!("{} cannot be a label: {error}", quoted(label)), None);
        } else if !seen.insert(*label) {
            value.mistake(format!("{} is listed twice", quoted(label)), None);
        }
    }
    labels.into_iter().map(|(label, _)| label.to_owned()).collect()
}

fn reports(value: &Value<'_>) -> Vec<String> {
    let patterns = value.strings().unwrap_or_default();
    if too_many(value, patterns.len(), MAX_LISTED, "patterns") {
        return Vec::new();
    }
    for (pattern, value) in &patterns {
        let inside = |component| matches!(component, Component::Normal(_) | Component::CurDir);
        let hint = || Some("write it from the root of the source tree".to_owned());
        if pattern.split('/').all(|part| part.is_empty() || part == ".")
            && !pattern.starts_with('/')
        {
            value.mistake("a pattern must not be empty", None);
        } else if pattern.len() > MAX_PATTERN {
            value.mistake(too_long("the pattern", pattern.len(), MAX_PATTERN), None);
        } else if pattern.starts_with('/') {
            value.mistake(format!("{} is not relative", quoted(pattern)), hint());
        } else if !Path::new(pattern).components().all(inside) {
            value.mistake(format!("{} leads out of the source tree", quoted(pattern)), hint());
        }
        no_nul(pattern, value);
    }
    patterns.into_iter().map(|(pattern, _)| pattern.to_owned()).collect()
}

fn too_many(value: &Value<'_>, found: usize, limit: usize, what: &str) -> bool {
    if found > limit {
        value.mistake(format!("{found} {what}; there may be {limit}"), None);
    }
    found > limit
}

fn too_long(what: &str, found: usize, limit: usize) -> String {
    format!("{what} has {found} bytes, more than {}", format_size(limit as u64))
}

/// No argument, variable or path of a process can hold a NUL.
fn no_nul(text: &str, value: &Value<'_>) {
    if text.contains('\0') {
        value.mistake("a NUL character cannot be given to a process", None);
    }
}

/// Turns the names in `needs` into places.
fn resolve(jobs: &mut [Job], wanted: &[Wanted<'_>]) {
    let names: Vec<String> = jobs.iter().map(|job| job.name.clone()).collect();
    let places: HashMap<&str, usize> = names.iter().map(String::as_str).zip(0..).collect();
    let mut compared = 0;
    for (job, wanted) in jobs.iter_mut().zip(wanted) {
        let mut seen = BTreeSet::new();
        for (name, value) in wanted {
            match places.get(name) {
                Some(place) if seen.insert(*place) => job.needs.push(*place),
                Some(_) => value.mistake(format!("{} is listed twice", quoted(name)), None),
                None => {
                    compared += 1;
                    let others = names.iter().filter(|other| **other != job.name);
                    let hint = (compared <= MAX_COMPARED)
                        .then(|| did_you_mean(name, others.map(String::as_str)))
                        .flatten();
                    value.mistake(format!("there is no job {}", quoted(name)), hint);
                }
            }
        }
    }
}

/// Tells a cycle at the place where its first job asks for the next.
fn tell_cycle(cycle: &[usize], entries: &[(Key<'_>, Value<'_>)], wanted: &[Wanted<'_>]) {
    let name = |job: usize| entries[job].0.text();
    let (first, second) = (cycle[0], cycle[1 % cycle.len()]);
    let mut named: Vec<_> = cycle.iter().take(MAX_NAMED).map(|job| quoted(name(*job))).collect();
    if cycle.len() > MAX_NAMED {
        named.push(format!("… {} more …", cycle.len() - MAX_NAMED));
    }
    named.push(quoted(name(first)));
    let message = match cycle.len() {
        1 => "the job needs itself".to_owned(),
        _ => format!("jobs wait for each other for ever: {}", named.join(" needs ")),
    };
    if let Some((_, value)) = wanted[first].iter().find(|(wanted, _)| *wanted == name(second)) {
        value.mistake(message, None);
    }
}
