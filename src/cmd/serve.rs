//! `authtap run`: the proxy.

use std::io::IsTerminal;
use std::path::PathBuf;

use super::{FAILED, USAGE, complain, control_runtime, told_to_stop};
use crate::app::{self, Overrides, StartError};
use crate::cli::{Run, Switch};
use crate::config::settings::{self, Config, ListenAt, parse_listen};
use crate::proxy::upstream::Address;
use crate::socket_activation;
use crate::telemetry;

/// The file that is read if none is named and this one is there.
const USUAL_FILE: &str = "routes.yaml";

/// Runs the proxy until it is told to stop.
pub fn run(options: &Run) -> u8 {
    // Before any file is opened, and before there is a second thread.
    let inherited = socket_activation::take();
    telemetry::log::start_log();
    telemetry::quiet_panics();
    let prepared = inherited.map_err(StartError::Activation).and_then(|sockets| Ok((sockets, prepare(options)?)));
    match prepared.and_then(|(inherited, (config, file, overrides))| {
        for socket in &inherited {
            let (name, address) = (&socket.name, socket.address);
            tracing::info!(name, %address, "a socket of the service manager takes the place of `listen`");
        }
        let colour = std::io::stdout().is_terminal();
        let runtime = control_runtime().map_err(StartError::System)?;
        // Bound within the runtime: the admin listener registers with it.
        let _entered = runtime.enter();
        let bound = app::bind_with(config, file, overrides, colour, inherited)?;
        runtime.block_on(bound.run(told_to_stop()))
    }) {
        Ok(()) => super::DONE,
        Err(error) => {
            complain(&error.to_string());
            code_of(&error)
        }
    }
}

/// Wrong configuration is 2, a world that does not play along is 1.
pub(crate) fn code_of(error: &StartError) -> u8 {
    match error {
        StartError::Config(_)
        | StartError::Usage(_)
        | StartError::Read(_)
        | StartError::NoUpstream
        | StartError::Admin(_) => USAGE,
        _ => FAILED,
    }
}

fn prepare(options: &Run) -> Result<(Config, Option<PathBuf>, Overrides), StartError> {
    let overrides = overrides(options).map_err(usage)?;
    let file = options.config.clone().or_else(|| {
        let usual = PathBuf::from(USUAL_FILE);
        usual.exists().then_some(usual)
    });
    match file {
        Some(file) => {
            let (config, problems) = app::load(&file)?;
            if !problems.is_empty() {
                tracing::warn!("{problems}");
            }
            Ok((config, Some(file), overrides))
        }
        None => {
            let mut overrides = overrides;
            if *overrides.auto.get_or_insert(true) {
                tracing::info!("no configuration file: logins are recognised by what they look like");
            } else {
                tracing::warn!("no configuration file and --auto off: traffic goes through, but nothing is recognised");
            }
            match settings::check("defaults", "version: 1\n") {
                (Some(config), _) => Ok((config, None, overrides)),
                (None, problems) => Err(StartError::Config(Box::new(problems))),
            }
        }
    }
}

/// What the flags say over the file.
fn overrides(options: &Run) -> Result<Overrides, String> {
    Ok(Overrides {
        listen: options.listen.as_deref().map(ListenAt::parse).transpose()?,
        upstream: options.upstream.as_deref().map(Address::parse).transpose().map_err(|e| e.to_string())?,
        admin: match options.admin.as_deref() {
            None => None,
            Some("off") => Some(None),
            Some(text) => Some(Some(parse_listen(text)?)),
        },
        workers: options.workers.map(usize::from),
        data: options.data.clone(),
        ephemeral: false,
        auto: options.auto.map(|switch| switch == Switch::On),
        everything: false,
    })
}

fn usage(why: String) -> StartError {
    StartError::Usage(why)
}
