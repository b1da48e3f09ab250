//! `authtap demo`: the built-in legacy application behind the proxy, with live events.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use super::{DIFFERENT, DONE, FAILED, USAGE, complain, control_runtime, print, told_to_stop};
use crate::app::{self, Bound, Overrides, StartError};
use crate::cli::Demo;
use crate::config::settings::{self, parse_listen};
use crate::demo::{self, tour};
use crate::event::line;
use crate::proxy::upstream::Address;
use crate::spool::{Spool, Stored};

/// Runs the tour, by hand or by script.
pub fn run(options: &Demo) -> u8 {
    let Ok(runtime) = control_runtime() else { return FAILED };
    let listen = match options.listen.as_deref().map(parse_listen).transpose() {
        Ok(listen) => listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))),
        Err(why) => {
            complain(&why);
            return USAGE;
        }
    };
    let result = runtime.block_on(async {
        let bound = start(listen).await?;
        if options.drive { drive(bound, options.json).await } else { show(bound, options.json).await }
    });
    match result {
        Ok(code) => code,
        Err(StartError::Bind { address, source }) if source.kind() == std::io::ErrorKind::AddrInUse => {
            complain(&format!(
                "cannot listen on {address}: {source}; another program has the port: leave --listen out for a free one, or name another"
            ));
            FAILED
        }
        Err(error) => {
            complain(&error.to_string());
            FAILED
        }
    }
}

/// The application on a port of its own, and the proxy before it.
async fn start(listen: SocketAddr) -> Result<Bound, StartError> {
    let legacy = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.map_err(StartError::System)?;
    let upstream = legacy.local_addr().map_err(StartError::System)?;
    tokio::spawn(demo::app::serve(legacy));
    let (config, problems) = settings::check(
        "demo/routes.yaml",
        &format!("{}\nclient_ip: {{ trusted_proxies: [127.0.0.0/8] }}\nsinks: []\ndurability: memory\n", demo::ROUTES),
    );
    let Some(config) = config else { return Err(StartError::Config(Box::new(problems))) };
    let overrides = Overrides {
        listen: Some(listen.into()),
        upstream: Some(Address::Tcp(upstream.ip().to_string(), upstream.port())),
        admin: Some(None),
        workers: Some(1),
        data: None,
        ephemeral: true,
        auto: Some(false),
        everything: false,
    };
    app::bind(config, None, overrides, false)
}

/// For a person: the address, and events as they come.
async fn show(bound: Bound, json: bool) -> Result<u8, StartError> {
    let address = bound.addresses.first().copied();
    if let Some(address) = address {
        let colour = std::io::stdout().is_terminal();
        let (bold, reset) = if colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        print(&format!(
            "A small legacy application runs behind authtap. Open {bold}http://{address}/{reset} and click around:\n\
             sign in (the login page lists the users), sign in wrongly, sign out, reset a password, change a role.\n\
             Each security event appears below as it happens. Ctrl-C ends the demo.\n\n"
        ));
    }
    let printer = tokio::spawn(print_events(bound.spool.clone(), json));
    bound.run(told_to_stop()).await?;
    printer.abort();
    Ok(DONE)
}

async fn print_events(spool: Arc<dyn Spool>, json: bool) {
    let mut appended = spool.appended();
    let mut after = 0;
    loop {
        let batch = spool.read(after, 100);
        if batch.events.is_empty() && appended.changed().await.is_err() {
            return;
        }
        for stored in batch.events {
            after = stored.seq;
            if !is_notice(&stored) {
                print(&shown(&stored.line, json));
            }
        }
    }
}

/// The demo is about the application: what authtap says of itself is left out.
fn is_notice(stored: &Stored) -> bool {
    stored.event.event_type.as_str().starts_with("authtap.")
}

fn shown(event: &str, json: bool) -> String {
    match serde_json::from_str(event) {
        Ok(value) if !json => format!("{}\n", line::pretty(&value)),
        _ => format!("{event}\n"),
    }
}

/// For a test and for the impatient: a scripted visitor, and a verdict.
async fn drive(bound: Bound, json: bool) -> Result<u8, StartError> {
    let Some(proxy) = bound.addresses.first().copied() else { return Ok(FAILED) };
    let spool = bound.spool.clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(bound.run(async {
        // A dropped sender is an end too.
        let _ = stopped.await;
    }));
    let played = tour::play(proxy, |step| {
        if !json {
            // Progress goes to standard error, so that standard output holds events only.
            let _ = writeln!(anstream::stderr(), "· {step}");
        }
    })
    .await;
    // The drain ends with everything captured appended.
    let _ = stop.send(());
    running.await.map_err(|e| StartError::System(std::io::Error::other(e)))??;
    let expected = match played {
        Ok(expected) => expected,
        Err(error) => {
            complain(&format!("the visitor could not finish: {error}"));
            return Ok(FAILED);
        }
    };
    let mut stored = spool.read(0, usize::MAX).events;
    stored.retain(|one| !is_notice(one));
    for one in &stored {
        print(&shown(&one.line, json));
    }
    let events: Vec<serde_json::Value> = stored.iter().filter_map(|s| serde_json::from_str(&s.line).ok()).collect();
    let differences = tour::judge(&expected, &events);
    for difference in &differences {
        complain(difference);
    }
    if differences.is_empty() {
        let _ = writeln!(anstream::stderr(), "\n{} of {} events came out right", expected.len(), expected.len());
        return Ok(DONE);
    }
    complain(&format!("{} differences", differences.len()));
    Ok(DIFFERENT)
}
