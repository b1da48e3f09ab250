//! What a running program follows: SIGHUP, its configuration file, its databases and certificates.
//!
//! A new configuration is read and built as a whole before any of it is put in force; a bad one
//! changes nothing and says why.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::in_force::{self, Started};
use super::{Overrides, build, load, preset_names};
use crate::admin::{self, Readiness};
use crate::config::settings::{Config, Start};
use crate::deliver::Delivery;
use crate::event::Outcome;
use crate::event::notice::{DROPPED, RELOADED, notice};
use crate::glimpse::InUse;
use crate::pipeline::PipelineConfig;
use crate::proxy::handler::Live;
use crate::proxy::limits::Connections;
use crate::proxy::upstream::health::Checks;
use crate::socket_activation::{State, notify};
use crate::spool::Spool;
use crate::telemetry::Metrics;
use crate::tls::server::ServerTls;
use crate::traces;

/// How often losses are looked at, to be said in the stream itself.
const LOSSES_EVERY: Duration = Duration::from_secs(10);
/// How often the configuration file and the databases are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a reload swaps.
pub(super) struct Core {
    pub(super) file: Option<PathBuf>,
    pub(super) overrides: Overrides,
    pub(super) live: Arc<ArcSwap<Live>>,
    pub(super) pipeline: Arc<ArcSwap<PipelineConfig>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) spool: Arc<dyn Spool>,
    pub(super) colour: bool,
    pub(super) shown: ArcSwap<String>,
    pub(super) started_with: Start,
    pub(super) started: Started,
    pub(super) connections: Arc<Connections>,
    pub(super) secured: Vec<Arc<ServerTls>>,
    pub(super) delivery: Mutex<Option<Delivery>>,
    pub(super) readiness: Arc<Readiness>,
    /// The health checks of the application in force.
    pub(super) checks: Mutex<Option<Checks>>,
    /// The threads of the access log: of the one in force, and of those before it that still write.
    pub(super) access_logs: Mutex<Vec<JoinHandle<()>>>,
    /// The exporters of traces: the one in force, and those before it that still export.
    pub(super) traces: Mutex<Vec<traces::Running>>,
    pub(super) seen: Mutex<Seen>,
    pub(super) in_use: InUse,
}

/// The files that a configuration was read from, as they were then.
#[derive(Clone)]
pub(super) struct Seen {
    content: Option<blake3::Hash>,
    /// True from when the file is found missing until it is there again.
    missing: bool,
    /// Certificates and keys towards the application.
    beside: Vec<PathBuf>,
    beside_content: Vec<Option<blake3::Hash>>,
}

impl Seen {
    /// As they are now.
    pub(super) fn now(file: Option<&Path>, config: Option<&Config>) -> Seen {
        let tls = config.and_then(|config| Some((config.upstream_tls.as_ref()?, &config.base)));
        let beside: Vec<_> = tls.map(|(plan, base)| plan.files(base)).unwrap_or_default();
        let beside_content = beside.iter().map(|file| content_hash(file)).collect();
        Seen { content: file.and_then(content_hash), missing: false, beside, beside_content }
    }

    /// What changed, if anything did; a file that is missing is said once.
    fn look(&mut self, file: &Path) -> Option<&'static str> {
        let Some(now) = content_hash(file) else {
            if !std::mem::replace(&mut self.missing, true) {
                tracing::warn!(file = %file.display(), "the configuration file is gone or unreadable; the one in force stays");
            }
            return None;
        };
        self.missing = false;
        if self.content != Some(now) {
            return Some("the configuration file changed");
        }
        let beside = self.beside.iter().map(|file| content_hash(file));
        // Between two versions of a file there may be none for a moment.
        let changed = beside.zip(&self.beside_content).any(|(now, before)| now.is_some() && now != *before);
        changed.then_some("a file of upstream_tls changed")
    }
}

/// Waits for the end; meanwhile follows SIGHUP, the configuration file and the databases.
pub(super) async fn watch_over(
    core: &Arc<Core>,
    spool: &Arc<dyn Spool>,
    mut hangup: mpsc::Receiver<()>,
    stop: impl Future<Output = ()>,
) {
    let mut stop = std::pin::pin!(stop);
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = tokio::time::interval(LOSSES_EVERY);
    count.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut lost_before = Vec::new();
    loop {
        tokio::select! {
            () = &mut stop => return,
            Some(()) = hangup.recv() => {
                tracing::info!("SIGHUP: reading the configuration again, opening files anew");
                if let Some(delivery) = &*core.delivery.lock().unwrap_or_else(PoisonError::into_inner) {
                    delivery.reopen();
                }
                if let Some(log) = &core.live.load().access_log {
                    log.reopen();
                }
                let _ = reload(core.clone()).await;
            }
            _ = count.tick() => {
                let lost = core.metrics.losses();
                if lost != lost_before && lost.iter().any(|(_, n)| *n > 0) {
                    let fields: Vec<_> = lost.iter().map(|(reason, n)| (*reason, n.to_string())).collect();
                    spool.append(vec![notice(DROPPED, Outcome::Failure, &fields)]);
                }
                lost_before = lost;
            }
            _ = look.tick() => {
                let looked = core.clone();
                let changed = tokio::task::spawn_blocking(move || {
                    refresh_databases(&looked);
                    let file = looked.file.as_deref()?;
                    looked.seen.lock().unwrap_or_else(PoisonError::into_inner).look(file)
                });
                if let Ok(Some(what)) = changed.await {
                    tracing::info!("{what}");
                    let _ = reload(core.clone()).await;
                }
            }
        }
    }
}

fn refresh_databases(core: &Core) {
    for refreshed in core.secured.iter().flat_map(|tls| tls.refresh()) {
        match refreshed.result {
            Ok(()) => tracing::info!(what = refreshed.what, file = %refreshed.file.display(), "new certificate in use"),
            Err(error) => tracing::error!("the old {} stays in use: {error}", refreshed.what),
        }
    }
    for refreshed in core.pipeline.load().enrichers.refresh() {
        match refreshed.result {
            Ok(()) => tracing::info!(what = refreshed.what, file = %refreshed.file.display(), "new database in use"),
            Err(error) => tracing::error!("the old {} database stays in use: {error}", refreshed.what),
        }
    }
}

/// SIGHUPs from now on; a channel that never yields where they cannot be had. To be called before
/// anybody is told that the program runs: until then a SIGHUP ends it.
pub(super) fn hangups() -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel(1);
    let hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
    tokio::spawn(async move {
        let Ok(mut hangup) = hangup else {
            // Keep the sender, so that the receiver waits for ever instead of ending.
            return std::future::pending().await;
        };
        while hangup.recv().await.is_some() {
            if sender.send(()).await.is_err() {
                return;
            }
        }
    });
    receiver
}

fn content_hash(file: &Path) -> Option<blake3::Hash> {
    std::fs::read(file).ok().map(|content| blake3::hash(&content))
}

impl Core {
    /// Checks the health of the application in force, in place of the one before. While every
    /// address is down, the process is not ready: whoever sends traffic here may have another place.
    pub(super) fn check_health(&self) {
        let mut checks = Checks::start(&self.live.load().upstream, &self.metrics.upstream_down);
        if let Some(checks) = &mut checks {
            let (mut all_down, readiness) = (checks.all_down(), self.readiness.clone());
            checks.meanwhile(async move {
                loop {
                    let down = *all_down.borrow_and_update();
                    let _guard =
                        down.then(|| readiness.guard("the application: every address fails its health checks"));
                    if all_down.changed().await.is_err() {
                        return;
                    }
                }
            });
        }
        *self.checks.lock().unwrap_or_else(PoisonError::into_inner) = checks;
    }

    /// Remembers the thread of a new access log; those that have ended are forgotten.
    pub(super) fn keep_access_log(&self, thread: Option<JoinHandle<()>>) {
        let mut threads = self.access_logs.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        threads.extend(thread);
    }

    /// Waits until the access log is written, for at most `within`: a disk that hangs must not
    /// keep the program from ending. Call it when no traffic is left.
    pub(super) async fn end_access_logs(&self, within: Duration) {
        let threads = std::mem::take(&mut *self.access_logs.lock().unwrap_or_else(PoisonError::into_inner));
        if threads.is_empty() {
            return;
        }
        let log = self.live.load().access_log.clone();
        let (done, ended) = tokio::sync::oneshot::channel();
        // A thread of its own: the runtime would wait for a blocking task of its own for ever.
        let spawned = std::thread::Builder::new().name("access-log-end".into()).spawn(move || {
            if let Some(log) = log {
                log.end();
            }
            let panicked = threads.into_iter().filter_map(|thread| thread.join().err()).count();
            // Nobody waits any more: it took too long.
            let _ = done.send(panicked);
        });
        match (spawned, tokio::time::timeout(within, ended).await) {
            (Ok(_), Ok(Ok(0))) => {}
            (Ok(_), Ok(Ok(_))) => tracing::error!("the access log's thread panicked"),
            _ => tracing::error!("the access log was not written to its end; what is missing is lost"),
        }
    }

    /// Remembers a new exporter of traces; those that have ended are forgotten.
    fn keep_traces(&self, exporter: Option<traces::Running>) {
        let mut exporters = self.traces.lock().unwrap_or_else(PoisonError::into_inner);
        exporters.retain_mut(|exporter| !exporter.has_ended());
        exporters.extend(exporter);
    }

    /// Lets the exporters of traces take what they have to the collector, for at most `within`. Call
    /// it when no traffic is left.
    pub(super) async fn end_traces(&self, within: Duration) {
        let exporters = std::mem::take(&mut *self.traces.lock().unwrap_or_else(PoisonError::into_inner));
        let all: Vec<_> = exporters.into_iter().map(traces::Running::end).collect();
        let ended = async {
            for one in all {
                one.await;
            }
        };
        if tokio::time::timeout(within, ended).await.is_err() {
            tracing::error!("the collector of traces did not take the last spans in time; they are lost");
        }
    }

    /// Reads the file again and puts it in force, or keeps everything as it is and says why.
    fn reload(&self) -> Result<String, String> {
        let Some(file) = &self.file else {
            return Err("there is no configuration file to read again: authtap was started without one".into());
        };
        let content = content_hash(file);
        let loaded = load(file);
        // Looked at before they are used: what changes meanwhile is seen at the next look.
        let beside = loaded.as_ref().ok().map(|(config, _)| Seen::now(Some(file), Some(config)));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Seen { content, ..beside.unwrap_or_else(|| seen.clone()) };
        drop(seen);
        let result = loaded.and_then(|(config, problems)| {
            let before = self.live.load_full();
            let parts = build(&config, &self.overrides, self.colour, Some(&before), &self.metrics)?;
            if config.needs_restart_over(&self.started_with) {
                tracing::warn!(
                    "listen, workers, admin, data or session.share changed in the file: that takes a restart"
                );
            }
            self.connections.follow(&config.limits);
            self.keep_access_log(parts.access_log);
            self.keep_traces(parts.traces);
            self.live.store(Arc::new(parts.live));
            self.check_health();
            self.pipeline.store(Arc::new(parts.pipeline));
            if let Some(delivery) = &mut *self.delivery.lock().unwrap_or_else(PoisonError::into_inner) {
                delivery.replace(parts.sinks);
            }
            self.in_use.follow(preset_names(&config));
            self.shown.store(Arc::new(in_force::text(&config, &self.overrides, &self.started)));
            Ok((config.rules.routes().len(), config.sinks.len(), problems))
        });
        self.metrics.reload(result.is_ok());
        let outcome = if result.is_ok() { Outcome::Success } else { Outcome::Failure };
        self.spool.append(vec![notice(RELOADED, outcome, &[("file", file.display().to_string())])]);
        match result {
            Ok((routes, sinks, problems)) => {
                let warnings = problems.counts().1;
                tracing::info!(routes, sinks, warnings, "new configuration in force");
                Ok(format!("new configuration in force: {routes} routes, {sinks} sinks, {warnings} warnings\n"))
            }
            Err(error) => {
                tracing::error!("the new configuration is refused, the old one stays in force:\n{error}");
                Err(error.to_string())
            }
        }
    }
}

/// Reloads off the control runtime's thread, since files are read.
async fn reload(core: Arc<Core>) -> Result<String, String> {
    let handle = tokio::runtime::Handle::current();
    notify(State::Reloading);
    let reloaded = tokio::task::spawn_blocking(move || {
        // Delivery starts tasks for new sinks.
        let _entered = handle.enter();
        core.reload()
    });
    let result = reloaded.await;
    // Whatever came of it: the service manager waits for the end, not for success.
    notify(State::Ready);
    result.unwrap_or_else(|_| Err("reloading panicked; the old configuration stays in force".into()))
}

pub(super) fn reload_handle(core: &Arc<Core>) -> admin::Reload {
    let core = core.clone();
    Arc::new(move || {
        let core = core.clone();
        Box::pin(reload(core)) as Pin<Box<dyn Future<Output = Result<String, String>> + Send>>
    })
}

/// What `POST /replay` does.
pub(super) fn replay_handle(core: &Arc<Core>) -> admin::Replay {
    let core = core.clone();
    Arc::new(move |sink, from, dead_letters| {
        if !core.spool.outlives_the_process() {
            return Err("events are not kept on disk at present, so there is nothing to send again\n".into());
        }
        let position = from.map(|from| core.spool.position_at(from));
        let delivery = core.delivery.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(delivery) = &*delivery else { return Err("authtap is about to end\n".into()) };
        match delivery.replay(sink, position, dead_letters) {
            true => Ok(format!("sink {sink} is sent again what was asked for\n")),
            false => Err(format!("there is no such sink; there are: {}\n", delivery.names().join(", "))),
        }
    })
}

pub(super) fn config_text(core: &Arc<Core>) -> admin::ConfigText {
    let core = core.clone();
    Arc::new(move || core.shown.load().as_ref().clone())
}
