//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum, ValueHint};

/// Continuous integration for Mercurial: what a person runs away from the server
///
/// hgci is continuous integration that lives inside Mercurial. This command looks at pipelines;
/// for states and logs of builds see `hg help hgci`.
#[derive(Debug, Parser)]
#[command(name = "hgci", version, propagate_version = true, disable_help_subcommand = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `hgci` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what is wrong with a pipeline, or which jobs would run
    ///
    /// Names every mistake of the pipeline with its file, line and column, or prints the jobs that
    /// would run.
    ///
    /// Exit status: 0 when nothing is wrong, 2 when something is, or when there is no pipeline.
    Check(Check),
    /// Write the man pages of hgci into a folder
    #[command(hide = true)]
    Man {
        /// The folder, which is made where it is missing
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
    /// Print a shell's completions for hgci
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// `hgci check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The pipeline; - for standard input [default: .hgci.toml here or at the repository's root]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,

    /// Check the pipeline as it is in this changeset, with the hg command (or $HG)
    #[arg(short, long, value_name = "REV", conflicts_with = "file")]
    pub rev: Option<String>,

    /// The repository, instead of the one around the current folder
    #[arg(short = 'R', long, value_name = "PATH", value_hint = ValueHint::DirPath)]
    #[arg(conflicts_with = "file")]
    pub repository: Option<PathBuf>,

    /// Print JSON: {"jobs": [{"name", "when"}], "errors": [{"file", "line", "column", "message", "hint"}]}
    #[arg(long)]
    pub json: bool,

    /// When to use colours
    ///
    /// `auto`: on a terminal, unless NO_COLOR is set or TERM is `dumb`.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// In files and pipes too.
    Always,
    /// Not at all.
    Never,
}
