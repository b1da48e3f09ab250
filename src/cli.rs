//! The command line: types only. Every flag has an `AUTHTAP_…` variable and overrides the file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// A reverse-proxy sidecar that turns the logins of an application nobody can change into security events.
#[derive(Debug, Parser)]
#[command(
    name = "authtap",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed at run time, 2 wrong usage or configuration, 3 a check or test found a difference.\nFirst steps: authtap demo"
)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the proxy
    Run(Run),
    /// Thirty-second tour: a small legacy application behind the proxy, with live events
    Demo(Demo),
    /// Check a configuration: every problem at once, with its place and a hint
    Check(Check),
    /// Run the tests written beside the routes, offline
    Test(Test),
    /// Follow the events of a running proxy, or read the data folder when none runs
    Tail(Tail),
    /// Show, for each recorded exchange, which rules were asked and why they did not hold
    Explain(Explain),
    /// Print the events that recorded traffic gives
    Replay(ReplayRecording),
    /// Watch live traffic, or read a recording, and write a draft of routes.yaml with tests
    Learn(Learn),
    /// Which events of the vocabulary this configuration can emit
    Coverage(Coverage),
    /// List the shipped presets, or print the file of one
    Presets(Presets),
    /// Search the history
    Events(Events),
    /// What the event store holds, whether it is whole, and sending a sink again what it had
    Spool(Spool),
    /// Exit with 0 if the authtap on this machine is alive: for a container's health check
    #[command(hide = true)]
    Health(Health),
    /// Print a JSON Schema
    Schema(Schema),
    /// Print shell completions
    Completions {
        /// For which shell
        shell: Shell,
    },
}

/// `authtap run`.
#[derive(Args, Clone, Debug, Default)]
pub struct Run {
    /// Configuration file; without it, ./routes.yaml if there is one
    #[arg(short, long, env = "AUTHTAP_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where clients come in, HOST:PORT or unix:/run/authtap.sock
    #[arg(short, long, env = "AUTHTAP_LISTEN", value_name = "ADDR")]
    pub listen: Option<String>,
    /// The application: http://HOST:PORT, https://HOST:PORT or unix:/run/app.sock
    #[arg(short, long, env = "AUTHTAP_UPSTREAM", value_name = "URL")]
    pub upstream: Option<String>,
    /// Where the admin listener listens, HOST:PORT, or off
    #[arg(long, env = "AUTHTAP_ADMIN", value_name = "ADDR")]
    pub admin: Option<String>,
    /// Folder for what must outlive the process
    #[arg(long, env = "AUTHTAP_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Recognise logins where no route is about them; the default without a configuration file
    #[arg(long, env = "AUTHTAP_AUTO", value_name = "on|off")]
    pub auto: Option<Switch>,
    /// Traffic threads; the default is one a core
    #[arg(long, env = "AUTHTAP_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// `authtap demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// Play a scripted visitor, print the events, and exit 0 only if each came out right
    #[arg(long)]
    pub drive: bool,
    /// Where the demo listens, HOST:PORT; the default is a free port on loopback
    #[arg(short, long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Print events as JSON lines
    #[arg(long)]
    pub json: bool,
}

/// `authtap check`.
#[derive(Args, Debug)]
pub struct Check {
    /// Configuration files; without one that of AUTHTAP_CONFIG, else routes.yaml
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// One more, named as `run` takes it
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Also try the upstream, the sinks and the databases
    #[arg(long)]
    pub connect: bool,
    /// Print problems as JSON lines
    #[arg(long)]
    pub json: bool,
    /// Treat warnings as errors
    #[arg(long)]
    pub strict: bool,
}

/// `authtap test`.
#[derive(Args, Debug)]
pub struct Test {
    /// Configuration files, whose tests are run, and folders of recorded exchanges
    #[arg(env = "AUTHTAP_CONFIG", default_value = "routes.yaml", value_name = "FILE|DIR")]
    pub files: Vec<PathBuf>,
    /// The configuration for folders; without it, the routes.yaml in the folder, else ./routes.yaml
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write what the recordings give as what is expected of them from now on
    #[arg(long)]
    pub bless: bool,
    /// Print results as JSON lines
    #[arg(long)]
    pub json: bool,
}

/// Which events, for whoever lists them.
#[derive(Args, Clone, Debug, Default)]
pub struct Which {
    /// Only these types; `*` stands for any run of characters, commas separate
    #[arg(long = "type", value_name = "GLOB")]
    pub event_type: Option<String>,
    /// Only this actor (id, login or address)
    #[arg(long, value_name = "X")]
    pub actor: Option<String>,
    /// Only clients in this range
    #[arg(long, value_name = "CIDR")]
    pub ip: Option<String>,
    /// Only these outcomes
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Option<String>,
    /// Not before: 10m, 2h, or an RFC 3339 time
    #[arg(long, value_name = "T")]
    pub since: Option<String>,
}

/// `authtap tail`.
#[derive(Args, Debug)]
pub struct Tail {
    /// The admin listener of the running proxy, HOST:PORT or URL
    #[arg(long, env = "AUTHTAP_ADMIN", default_value = crate::config::settings::DEFAULT_ADMIN, value_name = "ADDR")]
    pub admin: String,
    /// Environment variable that holds the admin token
    #[arg(long, default_value = "AUTHTAP_ADMIN_TOKEN", value_name = "NAME")]
    pub token_env: String,
    /// Which events.
    #[command(flatten)]
    pub which: Which,
    /// Stop after so many events
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<u64>,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
    /// Fail at once if no proxy runs and there is no data folder to read, instead of waiting for one
    #[arg(long)]
    pub no_wait: bool,
    /// The data folder to read when no proxy runs; the default is authtap-data
    #[arg(long, env = "AUTHTAP_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// `authtap events`.
#[derive(Args, Clone, Debug, Default)]
pub struct Events {
    /// The data folder; the default is authtap-data
    #[arg(long, env = "AUTHTAP_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Which events.
    #[command(flatten)]
    pub which: Which,
    /// Not after: 10m, 2h, or an RFC 3339 time
    #[arg(long, value_name = "T")]
    pub until: Option<String>,
    /// Only events whose texts have all these words; `*` at the end of a word stands for any ending
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// The newest N events, or the N largest counts
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<u64>,
    /// Count instead of listing
    #[arg(long, value_name = "BY", conflicts_with_all = ["story", "sql"])]
    pub count_by: Option<CountBy>,
    /// Tell one actor's story, with new places and devices marked
    #[arg(long, conflicts_with_all = ["sql", "json", "csv"])]
    pub story: bool,
    /// Ask in SQL (reads only; docs/store.md has the tables)
    #[arg(long, value_name = "SELECT", conflicts_with_all = ["event_type", "actor", "ip", "outcome", "since", "until", "search", "limit"])]
    pub sql: Option<String>,
    /// Print JSON lines
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print comma-separated values
    #[arg(long)]
    pub csv: bool,
}

/// What events are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CountBy {
    /// Type.
    Type,
    /// Who did it.
    Actor,
    /// The client's address.
    Ip,
    /// Where that is said to be.
    Country,
    /// Hour, in UTC.
    Hour,
}

impl CountBy {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            CountBy::Type => "type",
            CountBy::Actor => "actor",
            CountBy::Ip => "ip",
            CountBy::Country => "country",
            CountBy::Hour => "hour",
        }
    }
}

/// `authtap spool`.
#[derive(Args, Debug)]
pub struct Spool {
    /// What to do
    #[command(subcommand)]
    pub command: SpoolCommand,
    /// The data folder; the default is authtap-data
    #[arg(long, env = "AUTHTAP_DATA", value_name = "DIR", global = true)]
    pub data: Option<PathBuf>,
}

/// What to do with the store.
#[derive(Debug, Subcommand)]
pub enum SpoolCommand {
    /// What it holds, and where each sink is
    Info {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read all of it and say what is wrong; exit code 3 if anything is
    Verify,
    /// Send a sink again what it had, in the running proxy or at the next start
    Replay(Replay),
}

/// `authtap spool replay`.
#[derive(Args, Debug)]
pub struct Replay {
    /// The sink, by its name
    #[arg(long, value_name = "NAME")]
    pub sink: String,
    /// From which moment on: 10m, 2h, or an RFC 3339 time
    #[arg(long, value_name = "T")]
    pub from: Option<String>,
    /// What it refused, too
    #[arg(long)]
    pub dead_letters: bool,
    /// The admin listener of the running proxy, HOST:PORT
    #[arg(long, env = "AUTHTAP_ADMIN", default_value = crate::config::settings::DEFAULT_ADMIN, value_name = "ADDR")]
    pub admin: String,
    /// Environment variable that holds the admin token
    #[arg(long, default_value = "AUTHTAP_ADMIN_TOKEN", value_name = "NAME")]
    pub token_env: String,
}

/// `authtap explain`.
#[derive(Args, Debug)]
pub struct Explain {
    /// A HAR file, or a folder of them
    #[arg(value_name = "FILE.har|DIR")]
    pub recording: PathBuf,
    /// Configuration file; without it, capture without routes
    #[arg(short, long, env = "AUTHTAP_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Only exchanges with this path, the whole of it
    #[arg(long, value_name = "PATH")]
    pub only: Option<String>,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
}

/// `authtap replay`.
#[derive(Args, Debug)]
pub struct ReplayRecording {
    /// A HAR file, or a folder of them
    #[arg(value_name = "FILE.har|DIR")]
    pub recording: PathBuf,
    /// Configuration file; without it, capture without routes
    #[arg(short, long, env = "AUTHTAP_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON lines: the default
    #[arg(long, conflicts_with = "pretty")]
    pub json: bool,
    /// Print one readable line an event
    #[arg(long)]
    pub pretty: bool,
}

/// `authtap learn`.
#[derive(Args, Clone, Debug, Default)]
pub struct Learn {
    /// Learn from a HAR file, or a folder of them; without it, from live traffic: the proxy runs until it is told to stop
    #[arg(long, value_name = "FILE.har|DIR", conflicts_with_all = ["record", "for_"])]
    pub from: Option<PathBuf>,
    /// Where the draft goes, or with --verify where it is; a file that is there is not overwritten
    #[arg(short, long, visible_alias = "out", default_value = "routes.yaml", value_name = "FILE")]
    pub output: PathBuf,
    /// Where clients come in, HOST:PORT or unix:/run/authtap.sock; the default is 127.0.0.1:8080
    #[arg(short, long, env = "AUTHTAP_LISTEN", value_name = "ADDR")]
    pub listen: Option<String>,
    /// The application; from a recording only for the draft's `upstream`
    #[arg(short, long, env = "AUTHTAP_UPSTREAM", value_name = "URL")]
    pub upstream: Option<String>,
    /// How live traffic comes in and goes on: `listen`, `upstream`, `client_ip` and the like of this file; its routes and
    /// sinks are left out
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Stop after this time: 10m, 2h
    #[arg(long = "for", id = "for_", value_name = "T")]
    pub for_: Option<String>,
    /// Also write what is seen into this folder as recordings without secrets, to be replayed
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
    /// Write routes of its own even where there is a preset for the application
    #[arg(long)]
    pub no_presets: bool,
    /// Replay the recording (--from, or --record) against the file, and say what it misses of what capture without
    /// routes sees
    #[arg(long)]
    pub verify: bool,
    /// With --verify: print JSON lines
    #[arg(long, requires = "verify")]
    pub json: bool,
}

/// `authtap coverage`.
#[derive(Args, Debug)]
pub struct Coverage {
    /// Configuration file; without it, ./routes.yaml if there is one, else capture without routes
    #[arg(short, long, env = "AUTHTAP_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Also count what the history has
    #[arg(long)]
    pub observed: bool,
    /// Count from here on: 10m, 2h, 7d, or an RFC 3339 time
    #[arg(long, value_name = "T", default_value = "7d", requires = "observed")]
    pub since: String,
    /// Folder of the history; the default is the configuration's
    #[arg(long, env = "AUTHTAP_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
}

/// `authtap presets`.
#[derive(Args, Debug)]
pub struct Presets {
    /// Print the file of this one
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
}

/// `authtap health`.
#[derive(Args, Debug)]
pub struct Health {
    /// The admin listener, HOST:PORT
    #[arg(long, env = "AUTHTAP_ADMIN", default_value = crate::config::settings::DEFAULT_ADMIN, value_name = "ADDR")]
    pub admin: String,
}

/// `authtap schema`.
#[derive(Args, Debug)]
pub struct Schema {
    /// Of what
    pub of: SchemaOf,
}

/// What there is a schema of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// routes.yaml
    Config,
    /// One event
    Event,
    /// The tables of docs/routes-reference.md, in Markdown
    #[value(hide = true)]
    Reference,
}
