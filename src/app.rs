//! The only wiring: bind, build, run, drain; and the swap at a reload.
//!
//! Everything that can fail at the start fails in [`bind`], before a single request is taken: the
//! ports, the databases, the sinks. The traffic threads, the pipeline's thread and the control
//! runtime (delivery, admin, reload) are made here and meet nowhere else.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::admin::{self, AdminAuth, AdminState, Readiness};
use crate::auto::gate::Gate;
use crate::body::wanted::Wanted;
use crate::capture::CaptureConfig;
use crate::capture::queue::{self, Captured, Queue};
use crate::config;
use crate::config::collide::leads_to;
use crate::config::problem::Problems;
use crate::config::settings::{self, Config, Listen, ListenAt};
use crate::deliver::{Delivery, RunningSinkSpec};
use crate::descriptors;
use crate::enrich::Enrichers;
use crate::event::Outcome;
use crate::event::notice::{STARTED, notice};
use crate::glimpse::{self, Glimpses, Looks};
use crate::pipeline::{Pipeline, PipelineConfig};
use crate::proxy::access_log::AccessLog;
use crate::proxy::balance::Upstreams;
use crate::proxy::connection::Door;
use crate::proxy::handler::Live;
use crate::proxy::limits::Connections;
use crate::proxy::listener::{self, Entrance, Thread};
use crate::proxy::unix::{self, SocketFile};
use crate::proxy::upstream::{Address, Upstream};
use crate::replicas::Shared;
use crate::session::key;
use crate::session::snapshot::Keeper;
use crate::sinks::BuildCx;
use crate::socket_activation::{self, Inherited, State, notify};
use crate::spool::Spool;
use crate::spool::memory::{self, MemorySpool};
use crate::spool::settings::Durability;
use crate::spool::store::EventStore;
use crate::telemetry::Metrics;
use crate::tls::server::ServerTls;
use crate::traces;

mod error;
mod in_force;
pub mod offline;
mod reload;
#[cfg(test)]
mod tests;
mod warm_up;

pub use error::StartError;
use in_force::Started;
use reload::{Core, Seen, config_text, hangups, reload_handle, replay_handle, watch_over};

/// How long the end waits for what is still to be told to other replicas.
const SHARE_END: Duration = Duration::from_secs(2);

/// What the command line says over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Where clients come in.
    pub listen: Option<ListenAt>,
    /// The application.
    pub upstream: Option<Address>,
    /// The admin listener; `Some(None)` is off.
    pub admin: Option<Option<SocketAddr>>,
    /// Traffic threads.
    pub workers: Option<usize>,
    /// Folder for what must outlive the process.
    pub data: Option<PathBuf>,
    /// Nothing outlives the process, and no folder is made.
    pub ephemeral: bool,
    /// Capture without routes.
    pub auto: Option<bool>,
    /// With it: every exchange that may matter is kept, and both its bodies.
    pub everything: bool,
}

/// Reads and checks a configuration file.
pub fn load(file: &Path) -> Result<(Config, Problems), StartError> {
    let source = config::file::read(file)?;
    match settings::check(&file.display().to_string(), &source) {
        (Some(config), problems) => Ok((config, problems)),
        (None, problems) => Err(StartError::Config(Box::new(problems))),
    }
}

/// A program whose ports are bound and whose parts are built, not yet running.
pub struct Bound {
    /// Where clients come in over TCP, with the real ports.
    pub addresses: Vec<SocketAddr>,
    /// Where they come in over Unix sockets; the files are removed when this is dropped,
    /// before `listeners`.
    pub sockets: Vec<SocketFile>,
    /// Where the admin listener listens, with its real port.
    pub admin: Option<SocketAddr>,
    /// Where events wait; `demo` and tests read it.
    pub spool: Arc<dyn Spool>,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    listeners: Vec<Vec<(Entrance, Door)>>,
    admin_listener: Option<(StdListener, AdminAuth)>,
    core: Arc<Core>,
    queue: (Queue, mpsc::Receiver<Box<Captured>>),
    glimpses: (Glimpses, Looks),
    delivery_of: Vec<RunningSinkSpec>,
    key: [u8; 32],
    keeper: Keeper,
    shared: Option<Shared>,
}

/// Binds the ports and builds the parts. `file` is watched and read again at a reload.
pub fn bind(config: Config, file: Option<PathBuf>, overrides: Overrides, colour: bool) -> Result<Bound, StartError> {
    bind_with(config, file, overrides, colour, Vec::new())
}

/// The same with sockets of the service manager, which take the place of `listen`.
///
/// An entry of `listen` with a socket's address says what is spoken there (TLS, the PROXY protocol);
/// if not every socket finds one, as many entries as sockets count in their order; and entries that
/// are all plain HTTP need not agree.
pub fn bind_with(
    config: Config,
    file: Option<PathBuf>,
    overrides: Overrides,
    colour: bool,
    inherited: Vec<Inherited>,
) -> Result<Bound, StartError> {
    let threads = overrides.workers.or(config.workers).unwrap_or_else(default_threads);
    let wanted = overrides.listen.clone().map_or_else(|| config.listen.clone(), |one| vec![Listen::plain(one)]);
    let special = config.listen.iter().any(|l| l.tls.is_some() || l.proxy_protocol.is_some());
    if overrides.listen.is_some() && special {
        tracing::warn!("--listen takes the place of every `listen` of the file: TLS and the PROXY protocol are off");
    }
    let wanted: Vec<(Listen, Option<StdListener>)> = match inherited.is_empty() {
        true => wanted.into_iter().map(|listen| (listen, None)).collect(),
        false => matched(wanted, inherited)?.into_iter().map(|(listen, socket)| (listen, Some(socket))).collect(),
    };
    refuse_circle(&config, &overrides, wanted.iter().map(|(listen, _)| &listen.address))?;
    let mut per_thread: Vec<Vec<(Entrance, Door)>> = (0..threads).map(|_| Vec::new()).collect();
    let (mut addresses, mut sockets) = (Vec::new(), Vec::new());
    let mut listens: Vec<Listen> = Vec::new();
    let data = data_folder(&config, &overrides);
    let mut secured: Vec<Arc<ServerTls>> = Vec::new();
    for (listen, inherited) in wanted {
        listens.push(listen.clone());
        let Listen { address, tls, proxy_protocol } = listen;
        let tls = tls.map(|mut plan| {
            plan.keep_in(&data);
            plan
        });
        let tls = tls.map(|plan| plan.build(&config.base)).transpose()?.map(Arc::new);
        for warning in tls.iter().flat_map(|tls| tls.warnings()) {
            tracing::warn!(%address, "{warning}");
        }
        secured.extend(tls.clone());
        let door = Door { tls, proxy_protocol, challenges: Vec::new() };
        let failed = |source| StartError::Bind { address: address.clone(), source };
        let bound: Vec<Entrance> = match (inherited, &address) {
            (None, ListenAt::Unix(path)) => {
                let (bound, file) = unix::bind(path, threads).map_err(failed)?;
                sockets.push(file);
                bound.into_iter().map(Entrance::Unix).collect()
            }
            (inherited, ListenAt::Tcp(tcp)) => {
                let bound = match inherited {
                    Some(socket) => socket_activation::share(socket, threads),
                    None => listener::bind(*tcp, threads),
                };
                let bound = bound.map_err(failed)?;
                let real = bound.first().and_then(|first| first.local_addr().ok());
                if let (Some(real), Some(listen)) = (real, listens.last_mut()) {
                    listen.address = real.into();
                }
                addresses.extend(real);
                bound.into_iter().map(Entrance::Tcp).collect()
            }
            // `matched` names each by its own address, which is never a path.
            (Some(_), ListenAt::Unix(_)) => continue,
        };
        for (listener, slot) in bound.into_iter().zip(&mut per_thread) {
            slot.push((listener, door.clone()));
        }
    }
    let issuers: Vec<_> = secured.iter().filter_map(|tls| tls.issuer().cloned()).collect();
    for (_, door) in per_thread.iter_mut().flatten().filter(|(_, door)| door.tls.is_none()) {
        door.challenges = issuers.clone();
    }
    let admin_listener = bind_admin(&config, &overrides)?;
    let admin = admin_listener.as_ref().and_then(|(l, _)| l.local_addr().ok());

    let metrics = Arc::new(Metrics::new());
    let spool: Arc<dyn Spool> = match config.spool.durability {
        _ if overrides.ephemeral => Arc::new(MemorySpool::new(memory::DEFAULT_CAPACITY)),
        Durability::Memory => Arc::new(MemorySpool::new(memory::DEFAULT_CAPACITY)),
        _ => Arc::new(EventStore::open(&data_folder(&config, &overrides), config.spool, metrics.clone())?),
    };
    let parts = build(&config, &overrides, colour, None, &metrics)?;
    let plan = config.session.share.as_ref().filter(|_| remembers(&config, &overrides));
    let shared = plan.map(|plan| plan.build(&config.base)).transpose().map_err(StartError::Share)?;
    let (key, keeper) = session_memory(&config, &overrides, shared.as_ref()).map_err(StartError::System)?;
    let seen = Seen::now(file.as_deref(), Some(&config));
    descriptors::raise();
    if config.limits.connections > descriptors::connections() {
        tracing::warn!(
            connections = descriptors::connections(),
            "file descriptors are too few for limits.connections: raise them (LimitNOFILE, ulimit -n) to twice as many and 256"
        );
    }
    let (glimpses, looks, in_use) = Glimpses::new(preset_names(&config));
    let started = Started::new(&config, &overrides, &listens, threads, admin);
    let shown = in_force::text(&config, &overrides, &started);
    let core = Core {
        in_use,
        file,
        overrides,
        live: Arc::new(ArcSwap::from_pointee(parts.live)),
        pipeline: Arc::new(ArcSwap::from_pointee(parts.pipeline)),
        metrics: metrics.clone(),
        spool: spool.clone(),
        colour,
        shown: ArcSwap::from_pointee(shown),
        started,
        started_with: config.start(),
        connections: Connections::new(&config.limits),
        secured,
        delivery: Mutex::new(None),
        readiness: Readiness::new(),
        checks: Mutex::new(None),
        access_logs: Mutex::new(parts.access_log.into_iter().collect()),
        traces: Mutex::new(parts.traces.into_iter().collect()),
        seen: Mutex::new(seen),
    };
    Ok(Bound {
        addresses,
        sockets,
        admin,
        spool,
        metrics,
        listeners: per_thread,
        admin_listener,
        core: Arc::new(core),
        queue: Queue::new(queue::CAPACITY),
        glimpses: (glimpses, looks),
        delivery_of: parts.sinks,
        key,
        keeper,
        shared,
    })
}

/// An upstream that is authtap itself would be asked for ever; the file alone may not show it.
fn refuse_circle<'l>(
    config: &Config,
    overrides: &Overrides,
    mut listens: impl Iterator<Item = &'l ListenAt>,
) -> Result<(), StartError> {
    let of_file = config.upstream.iter().flat_map(|upstreams| &upstreams.servers);
    let servers: Vec<&Address> = match &overrides.upstream {
        Some(one) => vec![one],
        None => of_file.collect(),
    };
    let met = listens.find_map(|listen| Some((listen, servers.iter().find(|server| leads_to(server, listen))?)));
    match met {
        Some((listen, server)) => Err(StartError::Usage(format!(
            "the upstream {server} is authtap itself, which listens on {listen}: name the address of the application, or listen elsewhere"
        ))),
        None => Ok(()),
    }
}

fn preset_names(config: &Config) -> Vec<&'static str> {
    config.presets.iter().map(|preset| preset.name).collect()
}

/// Without routes there is nothing to remember.
fn remembers(config: &Config, overrides: &Overrides) -> bool {
    !config.rules.routes().is_empty() || overrides.auto.unwrap_or(config.auto)
}

/// Under which key sessions are hashed, and where they are kept. Where nothing is remembered, no
/// folder is made.
fn session_memory(config: &Config, overrides: &Overrides, shared: Option<&Shared>) -> io::Result<([u8; 32], Keeper)> {
    let keeps = !overrides.ephemeral && remembers(config, overrides);
    match (shared, keeps) {
        (None, true) => Keeper::open(&data_folder(config, overrides)),
        (None, false) => Ok((key::fresh()?, Keeper::none())),
        (Some(shared), true) => Ok((shared.key, Keeper::of(&data_folder(config, overrides)))),
        (Some(shared), false) => Ok((shared.key, Keeper::none())),
    }
}

/// Where what must outlive the process is kept.
fn data_folder(config: &Config, overrides: &Overrides) -> PathBuf {
    overrides.data.clone().unwrap_or_else(|| config.data.clone())
}

/// What is spoken on each of the sockets handed over.
fn matched(wanted: Vec<Listen>, inherited: Vec<Inherited>) -> Result<Vec<(Listen, StdListener)>, StartError> {
    let at = |address: SocketAddr| wanted.iter().find(move |listen| listen.address == ListenAt::Tcp(address));
    let by_address = inherited.iter().all(|socket| at(socket.address).is_some());
    let plain = wanted.iter().all(|listen| listen.tls.is_none() && listen.proxy_protocol.is_none());
    let count = inherited.len();
    let doors = inherited.iter().enumerate().map(|(i, socket)| {
        let found = match by_address {
            true => at(socket.address),
            false => wanted.get(i).filter(|_| wanted.len() == count),
        };
        match found {
            Some(listen) => Ok(Listen { address: socket.address.into(), ..listen.clone() }),
            None if plain => Ok(Listen::plain(socket.address)),
            // Guessing could speak plain HTTP where TLS is meant.
            None => Err(StartError::Usage(format!(
                "socket `{}` on {} has no entry in `listen`: write one with this address, or as many as there are sockets",
                socket.name, socket.address
            ))),
        }
    });
    let doors = doors.collect::<Result<Vec<_>, _>>()?;
    Ok(doors.into_iter().zip(inherited.into_iter().map(|socket| socket.listener)).collect())
}

fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn bind_admin(config: &Config, overrides: &Overrides) -> Result<Option<(StdListener, AdminAuth)>, StartError> {
    let address = match overrides.admin {
        Some(address) => address,
        None => config.admin.as_ref().map(|a| a.listen),
    };
    let Some(address) = address else { return Ok(None) };
    let variable = config.admin.as_ref().and_then(|a| a.token_env.as_deref()).unwrap_or("AUTHTAP_ADMIN_TOKEN");
    let auth = AdminAuth::for_listener(address, std::env::var(variable).ok().filter(|t| !t.is_empty()))?;
    let failed = |source| StartError::Bind { address: address.into(), source };
    let listener = StdListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Some((listener, auth)))
}

struct Parts {
    live: Live,
    pipeline: PipelineConfig,
    sinks: Vec<RunningSinkSpec>,
    /// The thread of a new access log.
    access_log: Option<JoinHandle<()>>,
    /// The exporter of traces.
    traces: Option<traces::Running>,
}

/// Everything of a configuration that touches the world, for the start and for a reload alike.
/// `before` is what is in force until now, if anything is.
fn build(
    config: &Config,
    overrides: &Overrides,
    colour: bool,
    before: Option<&Live>,
    metrics: &Metrics,
) -> Result<Parts, StartError> {
    // The command line says where the application is; how it is spoken to stays as in the file.
    let upstreams = match (overrides.upstream.clone(), config.upstream.clone()) {
        (Some(one), Some(upstreams)) => Upstreams { servers: vec![one], ..upstreams },
        (Some(one), None) => vec![one].into(),
        (None, Some(upstreams)) => upstreams,
        (None, None) => return Err(StartError::NoUpstream),
    };
    let mut upstream = Upstream::build(upstreams, config.upstream_tls.as_ref(), &config.base)?;
    if let Some(before) = before {
        upstream.inherit(&before.upstream);
    }
    let enrichers: Enrichers = config.enrich.build(&config.base)?;
    let cx = BuildCx::new(config.base.clone(), colour);
    let sinks = config.sinks.iter().map(|spec| {
        let sink = spec.build(&cx).map_err(|source| StartError::Sink { name: spec.name.clone(), source })?;
        Ok::<_, StartError>(RunningSinkSpec {
            name: spec.name.clone(),
            sink: sink.into(),
            filter: spec.filter.clone(),
            batch: spec.batch.given(),
        })
    });
    let sinks = sinks.collect::<Result<_, _>>()?;
    let watch = before.map_or_else(Arc::default, |live| live.capture.watch.clone());
    let auto = overrides.auto.unwrap_or(config.auto);
    // What it knows of pages and clients goes on over a reload.
    let known = before.and_then(|live| live.capture.auto.clone());
    let gate = || if overrides.everything { Arc::new(Gate::of_everything()) } else { Arc::default() };
    let auto = auto.then(|| known.unwrap_or_else(gate));
    // Last, so that no file is made by a configuration that is refused.
    let (access_log, thread) = access_log(config, before.and_then(|live| live.access_log.as_ref()), metrics)?;
    // A new one each time: the one before ends with the last request that has a span of it.
    let traces = config.traces.as_ref().map(|plan| plan.start(&config.base, metrics)).transpose();
    let (tracer, traces) = traces.map_err(|source| StartError::Traces { source })?.unzip();
    Ok(Parts {
        sinks,
        access_log: thread,
        live: Live {
            tracer,
            upstream_host: upstream.host_header(),
            upstream: Arc::new(upstream),
            client_ip: config.client_ip.clone(),
            forwarded: config.forwarded,
            client_tls: config.client_tls.clone(),
            timeouts: config.timeouts,
            limits: config.limits,
            capture: CaptureConfig {
                rules: config.rules.clone(),
                limits: config.capture,
                session_cookies: Wanted::new(config.session.cookies.clone()),
                watch: watch.clone(),
                hint: config.hint.as_ref().map(|hint| hint.header.clone()),
                auto,
                hold: config.spool.durability == Durability::Sync,
            },
            access_log,
        },
        traces,
        pipeline: PipelineConfig {
            enrichers: Arc::new(enrichers),
            session: config.session.clone(),
            watch,
            identity: config.identity.build(&config.base)?,
            hint: config.hint.clone(),
        },
    })
}

/// The access log: the one before if it goes to the same place, else a new one with its thread.
fn access_log(
    config: &Config,
    before: Option<&AccessLog>,
    metrics: &Metrics,
) -> Result<(Option<AccessLog>, Option<JoinHandle<()>>), StartError> {
    let Some(target) = &config.access_log else { return Ok((None, None)) };
    let target = target.within(&config.base);
    if let Some(before) = before.filter(|before| *before.target() == target) {
        return Ok((Some(before.clone()), None));
    }
    match AccessLog::start(&target, metrics.access_log_dropped.clone()) {
        Ok((log, thread)) => Ok((Some(log), Some(thread))),
        Err(source) => Err(StartError::AccessLog { target: target.to_string(), source }),
    }
}

impl Bound {
    /// Runs until `stop` is ready, then drains: readiness turns red, requests in flight end, what
    /// was captured becomes events, and the sinks take what they can before the deadline.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), StartError> {
        let pipeline = Pipeline::new(self.core.pipeline.clone(), self.key, self.spool.clone(), self.metrics.clone());
        let keeper = std::mem::replace(&mut self.keeper, Keeper::none());
        let mut pipeline = pipeline.kept_by(keeper).glimpsed_by(self.glimpses.0.clone());
        let mut sharing = None;
        if let Some(shared) = self.shared.take() {
            let (share, task) = shared.start(self.metrics.clone());
            pipeline = pipeline.shared_through(share);
            sharing = Some(tokio::spawn(task.run()));
        }
        let ran = self.run_into(|queue| pipeline.start(queue), stop).await;
        // The pipeline has ended, and with it what there was to tell.
        if let Some(sharing) = sharing
            && tokio::time::timeout(SHARE_END, sharing).await.is_err()
        {
            tracing::warn!("not every change of a session could be told to the other replicas before the end");
        }
        ran
    }

    /// The same with something else in the pipeline's place: it starts a thread that takes what is
    /// captured, and ends when every sender of the queue is gone.
    pub async fn run_into(
        self,
        taker: impl FnOnce(mpsc::Receiver<Box<Captured>>) -> io::Result<JoinHandle<()>>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), StartError> {
        let readiness = self.core.readiness.clone();
        let starting = readiness.guard("traffic threads");
        let (stopping, stopped) = watch::channel(false);
        let (queue, receiver) = self.queue;

        let (glimpses, looks) = self.glimpses;
        tokio::spawn(glimpse::watch(looks, self.spool.clone()));
        let pipeline = taker(receiver).map_err(StartError::System)?;
        let mut threads = Vec::new();
        for (i, listeners) in self.listeners.into_iter().enumerate() {
            let thread = Thread {
                number: i,
                listeners,
                connections: self.core.connections.clone(),
                live: self.core.live.clone(),
                queue: queue.clone(),
                glimpses: glimpses.clone(),
                stats: self.metrics.add_traffic(),
                stop: stopped.clone(),
            };
            let spawned = std::thread::Builder::new().name(format!("traffic-{i}")).spawn(move || thread.run());
            threads.push(spawned.map_err(StartError::System)?);
        }
        // From here on only the traffic threads can send: their end is the pipeline's.
        drop((queue, glimpses));

        let handle = tokio::runtime::Handle::current();
        let delivery = Delivery::start(&handle, self.spool.clone(), self.metrics.clone(), self.delivery_of);
        *self.core.delivery.lock().unwrap_or_else(PoisonError::into_inner) = Some(delivery);
        self.core.check_health();
        let (ending, ended) = watch::channel(false);
        let admin = self.admin_listener.map(|(listener, auth)| {
            let state = AdminState {
                metrics: self.metrics.clone(),
                spool: self.spool.clone(),
                readiness: readiness.clone(),
                config: config_text(&self.core),
                reload: reload_handle(&self.core),
                replay: replay_handle(&self.core),
                auth,
            };
            tokio::spawn(serve_admin(listener, state, ended))
        });
        let hangups = hangups();
        drop(starting);
        for socket in &self.sockets {
            let path = socket.path().display();
            tracing::info!(address = %format_args!("unix:{path}"), upstream = %self.core.live.load().upstream, "listening");
        }
        for address in &self.addresses {
            tracing::info!(%address, upstream = %self.core.live.load().upstream, "listening");
        }
        if let Some(address) = self.admin {
            tracing::info!(%address, "admin listening");
        }

        let version = env!("CARGO_PKG_VERSION").to_owned();
        let files = self.sockets.iter().map(|socket| format!("unix:{}", socket.path().display()));
        let listening = self.addresses.iter().map(ToString::to_string).chain(files).collect::<Vec<_>>().join(" ");
        self.spool.append(vec![notice(STARTED, Outcome::Success, &[("version", version), ("listen", listening)])]);

        // They end with this function, as nobody has to wait for an order.
        let mut issuers = JoinSet::new();
        for issuer in self.core.secured.iter().filter_map(|tls| tls.issuer()) {
            issuers.spawn(issuer.clone().run());
        }

        // It ends with this function too, if nobody ever comes.
        let mut warming = JoinSet::new();
        warming.spawn(warm_up::warm_up(self.core.clone()));

        notify(State::Ready);
        watch_over(&self.core, &self.spool, hangups, stop).await;

        notify(State::Stopping);
        tracing::info!("stopping: requests in flight may end");
        readiness.drain();
        // Before the listeners: until they end, no other file can be taken for ours.
        drop(self.sockets);
        stopping.send_replace(true);
        let deadline = self.core.live.load().timeouts.drain;
        join(threads, pipeline).await;
        let delivery = self.core.delivery.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(delivery) = delivery {
            let drained = delivery.drain(deadline).await;
            for (sink, left) in drained.left {
                match drained.kept {
                    true => {
                        tracing::info!(%sink, events = left, "the sink did not take these before the end; the next start goes on with them")
                    }
                    false => {
                        tracing::error!(%sink, events = left, "the sink did not take these before the end; they are lost")
                    }
                }
            }
        }
        let spool = self.spool.clone();
        // It waits for the disk, within a bound of its own.
        let _ = tokio::task::spawn_blocking(move || spool.close()).await;
        self.core.end_access_logs(deadline).await;
        self.core.end_traces(deadline).await;
        // Until here it said that we drain, and how that goes.
        ending.send_replace(true);
        if let Some(admin) = admin {
            // It ends by itself once `ended` says so; a panic of it is no reason not to stop.
            let _ = admin.await;
        }
        tracing::info!("stopped");
        Ok(())
    }
}

async fn serve_admin(listener: StdListener, state: AdminState, mut stopped: watch::Receiver<bool>) {
    let served = async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let stop = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        admin::serve(listener, state, stop).await.map_err(io::Error::other)
    };
    if let Err(error) = served.await {
        tracing::error!("the admin listener ended: {error}");
    }
}

async fn join(threads: Vec<JoinHandle<io::Result<()>>>, pipeline: JoinHandle<()>) {
    let joined = tokio::task::spawn_blocking(move || {
        for thread in threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!("a traffic thread failed: {error}"),
                Err(_) => tracing::error!("a traffic thread panicked"),
            }
        }
        if pipeline.join().is_err() {
            tracing::error!("the pipeline panicked");
        }
    });
    let _ = joined.await;
}
