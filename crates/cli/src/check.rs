//! `hgci check`.

use std::io::{self, Write};

use hgci_core::document::Mistake;
use hgci_core::job::Plan;
use hgci_core::pipeline;
use hgci_core::plan::plan;
use serde::Serialize;

use crate::show::Style;
use crate::source::{self, NoSource, Source};
use crate::{Check, FINE, WRONG, show};

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    jobs: Vec<ReportedJob<'a>>,
    errors: &'a [Mistake],
}

#[derive(Serialize)]
struct ReportedJob<'a> {
    name: &'a str,
    /// Whether it would run.
    when: bool,
}

/// Prints what is wrong or what would run, and gives the exit status.
pub(crate) fn check(args: &Check, out: &mut impl Write) -> io::Result<u8> {
    let Source { name, bytes } = match source::read(args) {
        Ok(source) => source,
        Err(NoSource::Link(mistake)) if args.json => {
            json(out, None, &[*mistake])?;
            return Ok(WRONG);
        }
        Err(NoSource::Link(mistake)) => {
            show::mistakes(
                out,
                &mistake.file,
                b"",
                &[*mistake.clone()],
                Style::choose(args.color),
            )?;
            return Ok(WRONG);
        }
        Err(error) if args.json => {
            let file = args.file.as_deref().map_or(pipeline::FILE.into(), |f| f.to_string_lossy());
            let mistake = Mistake {
                file: file.into_owned(),
                line: 1,
                column: 1,
                message: error.to_string(),
                hint: None,
            };
            json(out, None, &[mistake])?;
            return Ok(WRONG);
        }
        Err(error) => {
            writeln!(io::stderr(), "hgci: {error}")?;
            return Ok(WRONG);
        }
    };
    let style = Style::choose(args.color);
    match pipeline::parse(&name, &bytes).map(|pipeline| plan(&pipeline)) {
        Ok(plan) if args.json => json(out, Some(&plan), &[])?,
        Ok(plan) => show::plan(out, &name, &plan, style)?,
        Err(mistakes) => {
            match args.json {
                true => json(out, None, &mistakes)?,
                false => show::mistakes(out, &name, &bytes, &mistakes, style)?,
            }
            return Ok(WRONG);
        }
    }
    Ok(FINE)
}

fn json(out: &mut impl Write, plan: Option<&Plan>, errors: &[Mistake]) -> io::Result<()> {
    let jobs = plan.map(|plan| plan.jobs.as_slice()).unwrap_or_default();
    let jobs = jobs.iter().map(|job| ReportedJob { name: &job.name, when: true }).collect();
    serde_json::to_writer(&mut *out, &Report { jobs, errors })?;
    writeln!(out)
}
