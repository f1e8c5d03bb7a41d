//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{destinations, units};

const EXIT_CODES: &str = "\
Exit codes:
  0    everything selected is in the destination
  1    a defect of this program: a panic, or a request that the vendor calls malformed
  2    the command line or the configuration is wrong
  3    the credentials are refused, or lack the permission to read a stream selected by name
  4    incomplete: interrupted, the vendor did not answer or refused a stream selected by name, or
       single units are missing; the next run resumes where this one stopped
  5    the destination failed, or something else on this machine: the disk for temporary files, a
       request log, or standard output
  6    another sync reads the same source into the same destination, or another process updated
       the same checkpoint
  130  interrupted twice
  141  the reader of standard output is gone";

/// Syncs Stripe, Zendesk, and Mixpanel into SQLite, Parquet, or JSON Lines, exactly once.
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
    /// Test credentials, endpoints, and destination
    Check(Check),
    /// List streams with their key, cursor, mode, deletions, and columns
    Discover(Discover),
    /// Read new and changed records into the destination
    #[command(after_help = EXIT_CODES)]
    Sync(Sync),
    /// Run syncs by schedule, with metrics, alerts, and a web page
    Run(Run),
    /// Show what the destination contains and how the last runs ended
    Status(Status),
    /// List the last runs and how they ended
    Runs(Runs),
    /// Show or reset checkpoints, and list missing units
    State(State),
    /// Remove deleted rows from the destination's files on disk
    Purge(Purge),
    /// Serve simulated vendors on this machine
    Simulate(Simulate),
    /// Sync simulated vendors with a crash in the middle, and verify the result
    Demo(Demo),
}

/// The configuration file, for every command that reads one.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// Configuration file
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "pipeline.toml",
        env = "PIPELINE_CONFIG",
        global = true
    )]
    pub(crate) config: PathBuf,
}

/// Format of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text for people
    #[default]
    Human,
    /// JSON for programs
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Connectors to write sources for. Without it, a terminal is asked for one; elsewhere the
    /// first connector gets a source, and the sources of the others are written as comments
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
    /// Sources to check (default: all)
    pub(crate) sources: Vec<String>,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Read all stored data and compare it with the destination's log
    #[arg(long)]
    pub(crate) deep: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Discover {
    /// Sources to describe (default: all)
    pub(crate) sources: Vec<String>,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Print every column with its type
    #[arg(long)]
    pub(crate) columns: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Sync {
    /// Sources to read (default: all)
    pub(crate) sources: Vec<String>,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Streams to read instead of those in the configuration
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) streams: Vec<String>,
    /// Read everything again; the new rows replace the old ones when they are complete
    #[arg(long)]
    pub(crate) full_refresh: bool,
    /// Plan without reading or writing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Stop after this time, such as 90s, 10m, or 1h, and commit everything read so far
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub(crate) max_duration: Option<Duration>,
    /// Longest time to wait for a rate limit, such as 1h. If a longer wait is needed, the run stops
    /// and prints when to resume
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "10m")]
    pub(crate) max_wait: Duration,
    /// Output format; json prints one event per line
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Write one JSON line per request attempt to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) log_requests: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Format of the log on standard output; json prints one entry per line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) log_format: Format,
    /// Least severe entries to log; debug has one for each request
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t)]
    pub(crate) log_level: LogLevel,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// What has failed
    Error,
    /// Also what may fail
    Warn,
    /// Also what runs
    #[default]
    Info,
    /// Also every request and page
    Debug,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Runs {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Number of runs to list, newest first
    #[arg(short, long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
    /// Output format
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
        /// Only this source or endpoint
        #[arg(value_name = "SOURCE[/ENDPOINT]")]
        what: Option<String>,
    },
    /// List units that the vendor withholds, or give them up
    Gaps(Gaps),
    /// Reset checkpoints, so that the next sync reads everything again
    Reset {
        /// Source or endpoint to reset
        #[arg(value_name = "SOURCE[/ENDPOINT]")]
        what: String,
        /// Reset them; without this flag, only list what would be reset
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Gaps {
    #[command(subcommand)]
    pub(crate) command: Option<GapsCommand>,
    /// Only this source or endpoint
    #[arg(value_name = "SOURCE[/ENDPOINT]")]
    pub(crate) what: Option<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum GapsCommand {
    /// Give up missing units: they no longer count as missing, and syncs stop requesting them
    Drop {
        /// Endpoint of the units
        #[arg(value_name = "SOURCE/ENDPOINT")]
        endpoint: String,
        /// Names of the units, as `pipeline state gaps` lists them
        #[arg(
            value_name = "NAME",
            required_unless_present = "all",
            conflicts_with = "all"
        )]
        names: Vec<String>,
        /// Give up all missing units of the endpoint
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Purge {
    /// Only this source or stream (default: all)
    #[arg(value_name = "SOURCE[/STREAM]")]
    pub(crate) what: Option<String>,
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Also remove all versions of a record except the newest
    #[arg(long)]
    pub(crate) versions: bool,
    /// Only count what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Simulate {
    /// Port on 127.0.0.1; 0 picks a free one
    #[arg(long, default_value_t = 8401)]
    pub(crate) port: u16,
    /// Charges in the Stripe account
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub(crate) charges: u64,
    /// Tickets in the Zendesk account
    #[arg(long, value_name = "N", default_value_t = 3_000)]
    pub(crate) tickets: u64,
    /// Events per day in the Mixpanel project
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub(crate) events: u64,
    /// Rate limits to enforce
    #[arg(long, value_enum, default_value_t)]
    pub(crate) limits: Limits,
    /// Delay before each response, such as 150ms
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "0ms")]
    pub(crate) latency: Duration,
    /// Refuse what most accounts cannot read: products that few accounts have, and restricted lists
    #[arg(long)]
    pub(crate) ordinary: bool,
    /// Seed of the values in the records
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Rate limits of the simulated vendors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Limits {
    /// None
    None,
    /// Published limits, with those of a Stripe sandbox
    #[default]
    Sandbox,
    /// Published limits, with those of a live Stripe account
    Live,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Charges in the simulated Stripe account
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub(crate) charges: u64,

    /// Type of the destination; it must not contain the demo's sources yet
    #[arg(long, value_name = "NAME", default_value = destinations::DEFAULT)]
    pub(crate) destination: String,

    /// Setting of the destination, as `url='${DATABASE_URL}'`; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) settings: Vec<String>,
}
