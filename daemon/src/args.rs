//! The command line of hgcid.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueHint};

/// The daemon of hgci, continuous integration for Mercurial
///
/// Takes in what is pushed, runs the jobs, keeps the results in the repositories and sends mail.
#[derive(Debug, Parser)]
#[command(name = "hgcid", version, propagate_version = true, disable_help_subcommand = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `hgcid` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    ///
    /// SIGTERM stops it at once: running jobs go on, and are taken up again at the next start.
    /// SIGHUP reads the configuration again.
    ///
    /// Its log goes to stderr: text on a terminal, else a line of JSON each. HGCID_LOG chooses what
    /// is said, as in info,hgcid::intake=debug.
    Serve(Configured),
    /// Say what is wrong with a configuration
    ///
    /// Names every mistake with file, line, column and the mend, then what the machine lacks.
    ///
    /// Exit status: 0 when it can be served, perhaps with warnings; 2 when not.
    Check(Check),
    /// Show queue, pools, leases and outbox of the running daemon
    ///
    /// Says as well why nothing starts, where nothing does.
    ///
    /// Exit status: 0 when it answers, 1 when not.
    Status(Status),
    /// Finish what runs, start nothing more
    ///
    /// Pushes are taken in meanwhile. It ends with --undo, and when the daemon is started again.
    ///
    /// Exit status: 0 when it is so, 1 when not.
    Drain(Drain),
    /// Read the configuration again
    ///
    /// With a mistake in it everything stays as it was. state, socket and [web] cannot change while
    /// the daemon runs.
    ///
    /// Exit status: 0 when it was read, 1 when not.
    Reload(Reached),
    /// Open a store and look at each record: run by the daemon itself
    #[command(hide = true)]
    StoreProbe {
        /// The folder of the database
        dir: PathBuf,
    },
    /// Write the man pages of hgcid into a folder
    #[command(hide = true)]
    Man {
        /// The folder, which is made where it is missing
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
    /// Print a shell's completions for hgcid
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The place of hgcid.toml where none is given.
pub const CONFIG: &str = "/etc/hgci/hgcid.toml";

/// Which configuration.
#[derive(Debug, clap::Args)]
pub struct Configured {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = CONFIG)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub config: PathBuf,
}

/// `hgcid check`.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// Which configuration.
    #[command(flatten)]
    pub configured: Configured,

    /// Print what is taken where a configuration says nothing, and check nothing
    #[arg(long)]
    pub defaults: bool,

    /// Print JSON: {"errors": [{"severity", "file", "line", "column", "message", "hint"}]}
    #[arg(long)]
    pub json: bool,
}

/// How a running daemon is reached.
#[derive(Debug, clap::Args)]
pub struct Reached {
    /// The configuration that it runs with
    #[arg(short, long, value_name = "FILE", default_value = CONFIG)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub config: PathBuf,

    /// Its socket, instead of the one that the configuration names
    #[arg(long, value_name = "PATH", env = "HGCI_SOCKET", value_hint = ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
}

/// `hgcid status`.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// How it is reached.
    #[command(flatten)]
    pub reached: Reached,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `hgcid drain`.
#[derive(Debug, clap::Args)]
pub struct Drain {
    /// How it is reached.
    #[command(flatten)]
    pub reached: Reached,

    /// Start jobs again
    #[arg(long)]
    pub undo: bool,
}
