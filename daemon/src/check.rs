//! `hgcid check`.

use std::io::{self, Write};
use std::process::ExitCode;

use hgci_core::document::Mistake;
use serde::Serialize;

use crate::args::Check;
use crate::config::{self, Finding, LoadError, Severity};

/// A finding, as JSON has it.
#[derive(Serialize)]
struct Told<'f> {
    severity: &'static str,
    #[serde(flatten)]
    mistake: &'f Mistake,
}

#[derive(Serialize)]
struct Report<'f> {
    errors: Vec<Told<'f>>,
}

/// Says what is wrong with a configuration: exit status 0 when it can be served, 2 when not.
///
/// # Errors
///
/// Fails when `out` cannot be written.
pub fn run(args: &Check, out: &mut impl Write) -> io::Result<ExitCode> {
    if args.defaults {
        out.write_all(config::DEFAULTS.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let findings = match config::load(&args.configured.config) {
        Ok(config) => {
            // There is one thread yet.
            hgci_repo::prepare();
            config::inspect(&config)
        }
        Err(LoadError::Mistakes(mistakes)) => mistakes
            .into_iter()
            .map(|mistake| Finding { severity: Severity::Error, mistake })
            .collect(),
        Err(error @ LoadError::Unreadable { .. }) if args.json => {
            let file = args.configured.config.display().to_string();
            let (message, hint) = (error.to_string(), None);
            let mistake = Mistake { file, line: 1, column: 1, message, hint };
            vec![Finding { severity: Severity::Error, mistake }]
        }
        Err(error @ LoadError::Unreadable { .. }) => {
            eprintln!("hgcid: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    if args.json {
        let errors = findings.iter().map(|finding| Told {
            severity: match finding.severity {
                Severity::Warning => "warning",
                Severity::Error => "error",
            },
            mistake: &finding.mistake,
        });
        let report = Report { errors: errors.collect() };
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        for finding in &findings {
            writeln!(out, "{finding}")?;
        }
    }
    let bad = findings.iter().any(|finding| finding.severity == Severity::Error);
    if !bad && !args.json {
        let warnings = match findings.len() {
            0 => String::new(),
            1 => ", with 1 warning".to_owned(),
            n => format!(", with {n} warnings"),
        };
        writeln!(out, "{} is fine{warnings}", args.configured.config.display())?;
    }
    Ok(ExitCode::from(if bad { 2 } else { 0 }))
}
