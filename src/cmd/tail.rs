//! `authtap tail`: the flags, handed to the client in `crate::tail`.

use super::{DONE, FAILED, USAGE, complain, control_runtime, told_to_stop};
use crate::cli::Tail;
use crate::event::line;
use crate::filter::Filter;
use crate::tail::{TailOptions, tail};

/// Follows a running proxy's events.
pub fn run(options: &Tail) -> u8 {
    let filter = match filter(options) {
        Ok(filter) => filter,
        Err(why) => {
            complain(&why);
            return USAGE;
        }
    };
    let Ok(runtime) = control_runtime() else { return FAILED };
    let options = TailOptions {
        admin: options.admin.clone(),
        token: std::env::var(&options.token_env).ok().filter(|t| !t.is_empty()),
        filter,
        json: options.json,
        wait: !options.no_wait,
    };
    let (mut out, mut err) = (anstream::stdout(), anstream::stderr());
    match runtime.block_on(tail(options, &line::pretty, &mut out, &mut err, told_to_stop())) {
        Ok(_) => DONE,
        Err(error) => {
            complain(&error.to_string());
            FAILED
        }
    }
}

fn filter(options: &Tail) -> Result<Filter, String> {
    let limit = options.limit.map(|n| n.to_string());
    let pairs = [
        ("type", options.event_type.as_deref()),
        ("actor", options.actor.as_deref()),
        ("ip", options.ip.as_deref()),
        ("outcome", options.outcome.as_deref()),
        ("since", options.since.as_deref()),
        ("limit", limit.as_deref()),
    ];
    Filter::from_query(pairs.into_iter().filter_map(|(k, v)| v.map(|v| (k, v)))).map_err(|e| e.to_string())
}
