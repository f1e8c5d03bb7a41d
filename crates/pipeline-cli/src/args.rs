//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{destinations, units};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  a defect of this program: a panic, or a request that the vendor calls malformed
  2  usage or configuration
  3  authentication: credentials refused, or not allowed to read a stream that was asked for by name
  4  incomplete: interrupted, the vendor does not answer, refuses a stream that was asked for by
     name, or withholds single units; the next run goes on where this one stopped
  5  destination, or something else of this machine: the disk of temporary files, a request log or
     standard output that cannot be written
  6  another sync reads the same source into the same destination, or wrote to it meanwhile
  130  interrupted twice
  141  the reader of standard output has gone";

/// Syncs Stripe, Zendesk and Mixpanel into SQLite, Parquet or JSON Lines, exactly once.
#[derive(Debug, Parser)]
#[command(name = "pipeline", version, max_term_width = 110, after_help = EXIT_CODES, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a commented pipeline.toml
    Init(Init),
    /// List the connectors
    Connectors,
    /// Print the JSON Schema of the configuration of a connector or a destination
    Spec(Spec),
    /// Try credentials, endpoints and destination
    Check(Check),
    /// List streams: key, cursor, mode, deletions, columns
    Discover(Discover),
    /// Read what is new into the destination
    #[command(after_help = EXIT_CODES)]
    Sync(Sync),
    /// Show what the destination holds, and how the last runs ended
    Status(Status),
    /// List the last runs and how they ended
    Runs(Runs),
    /// Show or forget stored checkpoints, and what is missing
    State(State),
    /// Remove from the disk what is deleted but still in the destination's files
    Purge(Purge),
    /// Serve simulated vendors on this machine
    Simulate(Simulate),
    /// Sync simulated vendors, with a crash in the middle, and prove the result
    Demo(Demo),
}

/// The configuration file, of every command that reads one.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "pipeline.toml", env = "PIPELINE_CONFIG", global = true)]
    pub(crate) config: PathBuf,
}

/// For whom output is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Human,
    /// For programs
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Connectors to write sources for; all when none are named
    #[arg(long = "connector", value_name = "NAME", value_delimiter = ',')]
    pub(crate) connectors: Vec<String>,
    /// Destination to write
    #[arg(long, value_name = "NAME", default_value = destinations::DEFAULT)]
    pub(crate) destination: String,
    /// File to write
    #[arg(short, long, value_name = "FILE", default_value = "pipeline.toml")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Spec {
    /// Name of the connector or destination
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Sources to check; all when none are named
    pub(crate) sources: Vec<String>,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Read everything that is stored, and compare it with the destination's log
    #[arg(long)]
    pub(crate) deep: bool,
    /// Output for people or for programs
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Discover {
    /// Sources to describe; all when none are named
    pub(crate) sources: Vec<String>,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Print every column with its type
    #[arg(long)]
    pub(crate) columns: bool,
    /// Output for people or for programs
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Sync {
    /// Sources to read; all when none are named
    pub(crate) sources: Vec<String>,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Streams to read, instead of those in the configuration
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) streams: Vec<String>,
    /// Read everything again; the new rows replace the old ones when they are complete
    #[arg(long)]
    pub(crate) full_refresh: bool,
    /// Plan, and neither read nor write
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Stop after this time, such as 90s, 10m or 1h, with everything read so far committed
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) max_duration: Option<Duration>,
    /// Longest time to wait for a rate limit, such as 1h; a longer wait ends the run, which prints when to resume
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "10m")]
    pub(crate) max_wait: Duration,
    /// Output for people, or one JSON event a line
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Write one JSON line per request attempt to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) log_requests: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Output for people or for programs
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Runs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Number of runs to list, the newest first
    #[arg(short, long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
    /// Output for people or for programs
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct State {
    #[command(subcommand)]
    pub(crate) command: Option<StateCommand>,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Print checkpoints as JSON
    Show {
        /// Only this source's, or this endpoint's
        #[arg(value_name = "SOURCE[/ENDPOINT]")]
        what: Option<String>,
    },
    /// List what the vendor withholds of streams that are read, or give it up
    Gaps(Gaps),
    /// Forget checkpoints, so that the next sync reads from the beginning
    Reset {
        /// The source, or one endpoint of it
        #[arg(value_name = "SOURCE[/ENDPOINT]")]
        what: String,
        /// Do it: without this, only say what would be forgotten
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Gaps {
    #[command(subcommand)]
    pub(crate) command: Option<GapsCommand>,
    /// Only this source's, or this endpoint's
    #[arg(value_name = "SOURCE[/ENDPOINT]")]
    pub(crate) what: Option<String>,
    /// Output for people or for programs
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GapsCommand {
    /// Give up what is missing: it does not count as missing any more, and no sync asks for it by itself
    Drop {
        /// The endpoint that it is missing of
        #[arg(value_name = "SOURCE/ENDPOINT")]
        endpoint: String,
        /// Names of what is missing, as they are listed
        #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
        names: Vec<String>,
        /// All that is missing of it
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Purge {
    /// Only this source's tables, or this stream's; all when it is not given
    #[arg(value_name = "SOURCE[/STREAM]")]
    pub(crate) what: Option<String>,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Also remove every version of a record but the newest
    #[arg(long)]
    pub(crate) versions: bool,
    /// Only count what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Output for people or for programs
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// Port on 127.0.0.1; 0 takes any
    #[arg(long, default_value_t = 8401)]
    pub(crate) port: u16,
    /// Charges in the Stripe account
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub(crate) charges: u64,
    /// Tickets in the Zendesk account
    #[arg(long, value_name = "N", default_value_t = 3_000)]
    pub(crate) tickets: u64,
    /// Events a day in the Mixpanel project
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub(crate) events: u64,
    /// Rate limits that are enforced
    #[arg(long, value_enum, default_value_t)]
    pub(crate) limits: Limits,
    /// Time that passes before each answer, such as 150ms
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "0ms")]
    pub(crate) latency: Duration,
    /// Refuse what the vendors refuse to most accounts: products that few have, and lists that nobody can read
    #[arg(long)]
    pub(crate) ordinary: bool,
    /// Chooses the values in the records
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Rate limits of the simulated vendors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Limits {
    /// None
    None,
    /// The published ones, with those of a Stripe sandbox
    #[default]
    Sandbox,
    /// The published ones, with those of a live Stripe account
    Live,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Charges in the simulated Stripe account
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub(crate) charges: u64,
}
