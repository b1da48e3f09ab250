//! `authtap tail`: the flags, handed to the client in `crate::tail`; or to the history, if no proxy
//! runs on the data folder.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{DONE, FAILED, USAGE, complain, control_runtime, filter_of, told_to_stop};
use crate::cli::Tail;
use crate::config::settings::{DEFAULT_DATA, parse_listen};
use crate::event::line;
use crate::filter::Filter;
use crate::history::{History, Query};
use crate::spool::store::{self, lock};
use crate::tail::{TailError, TailOptions, tail};

/// How many events are read from the data folder unless a time or a number is named.
const RECENT: u64 = 20;
/// What the variable of `run` says where there is no admin listener: the data folder may be read still.
const OFF: &str = "off";
/// How long an admin listener may take to take a connection.
const ANSWERS: Duration = Duration::from_secs(1);

/// Follows a running proxy's events.
pub fn run(options: &Tail) -> u8 {
    let filter = match filter_of(&options.which, options.limit) {
        Ok(filter) => filter,
        Err(why) => {
            complain(&why);
            return USAGE;
        }
    };
    // Said before anything is read: with a typing error nobody knows what is being looked at.
    if options.admin != OFF
        && let Err(error) = crate::tail::check_address(&options.admin)
    {
        complain(&error.to_string());
        return USAGE;
    }
    if let Some(folder) = unattended(options) {
        return read(&folder, filter, options.json);
    }
    let Ok(runtime) = control_runtime() else { return FAILED };
    let options = TailOptions {
        admin: options.admin.clone(),
        token: std::env::var(&options.token_env).ok().filter(|t| !t.is_empty()),
        filter,
        json: options.json,
        wait: !options.no_wait,
    };
    let (mut out, mut err) = (anstream::stdout(), anstream::stderr());
    // Where signals are listened for.
    let _entered = runtime.enter();
    match runtime.block_on(tail(options, &line::pretty, &mut out, &mut err, told_to_stop())) {
        Ok(_) => DONE,
        Err(error) => {
            complain(&error.to_string());
            match error {
                TailError::Address(_) | TailError::Token => USAGE,
                _ => FAILED,
            }
        }
    }
}

/// The data folder, if it holds events and no proxy runs on it or answers.
fn unattended(options: &Tail) -> Option<PathBuf> {
    let folder = options.data.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_DATA));
    let answers = || {
        let address = parse_listen(&options.admin).ok();
        address.is_some_and(|address| TcpStream::connect_timeout(&address, ANSWERS).is_ok())
    };
    (folder.join(store::FILE).exists() && !lock::is_held(&folder) && !answers()).then_some(folder)
}

/// Reads what is there, and ends.
fn read(folder: &Path, mut filter: Filter, json: bool) -> u8 {
    // What a person sees who begins to follow.
    filter.limit = filter.limit.or(filter.since.is_none().then_some(RECENT));
    complain(&format!("no authtap runs: these are from {}", folder.join(store::FILE).display()));
    let query = Query { filter, ..Query::default() };
    super::events::finish(History::open(folder).and_then(|history| {
        let mut out = std::io::BufWriter::new(anstream::stdout());
        history.each(&query, &mut |row| {
            super::events::show(row, json, false, &mut out)?;
            Ok(true)
        })?;
        Ok(out.flush()?)
    }))
}
