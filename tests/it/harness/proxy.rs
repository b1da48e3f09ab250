//! authtap in this process, on a thread and a runtime of its own, as `authtap run` starts it.
//! Readiness is what `bind` gives (the ports listen then); events are awaited by the spool's own
//! notification. Must never outlive its test: dropping it stops it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use authtap::app::{self, Overrides};
use authtap::config::settings;
use authtap::spool::Spool;
use serde_json::Value;
use tokio::sync::oneshot;

use super::PATIENCE;

/// A running authtap.
pub struct Proxy {
    /// Where clients come in.
    pub address: SocketAddr,
    /// The admin listener.
    pub admin: SocketAddr,
    /// Where events wait.
    pub spool: Arc<dyn Spool>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _data: tempfile::TempDir,
}

impl Proxy {
    /// Before the application at `upstream`, with these further keys of the file.
    pub fn before(upstream: SocketAddr, yaml: &str) -> Proxy {
        Proxy::of(&format!("upstream: http://{upstream}\n{yaml}"))
    }

    /// With these keys of the file, `upstream` among them.
    pub fn of(yaml: &str) -> Proxy {
        let yaml = format!("version: 1\nworkers: 1\nsinks: []\n{yaml}");
        let (config, problems) = settings::check("test.yaml", &yaml);
        Proxy::start(config.unwrap_or_else(|| panic!("{problems}")), None, true)
    }

    /// The same, listening as `listen` says (YAML in flow form, on port 0).
    pub fn listening(upstream: SocketAddr, listen: &str, yaml: &str) -> Proxy {
        let yaml = format!("version: 1\nlisten: {listen}\nupstream: http://{upstream}\nworkers: 1\nsinks: []\n{yaml}");
        let (config, problems) = settings::check("test.yaml", &yaml);
        Proxy::start(config.unwrap_or_else(|| panic!("{problems}")), None, false)
    }

    /// The same, keeping what it remembers in this folder.
    pub fn keeping(upstream: SocketAddr, yaml: &str, data: &Path) -> Proxy {
        let yaml = format!("version: 1\nupstream: http://{upstream}\nworkers: 1\nsinks: []\n{yaml}");
        let (config, problems) = settings::check("test.yaml", &yaml);
        Proxy::start_with(config.unwrap_or_else(|| panic!("{problems}")), None, true, Some(data.to_owned()))
    }

    /// With a file that is watched.
    pub fn with_file(file: PathBuf) -> Proxy {
        let (config, _) = app::load(&file).unwrap_or_else(|e| panic!("{e}"));
        Proxy::start(config, Some(file), true)
    }

    fn start(config: settings::Config, file: Option<PathBuf>, plain: bool) -> Proxy {
        Proxy::start_with(config, file, plain, None)
    }

    fn start_with(config: settings::Config, file: Option<PathBuf>, plain: bool, data: Option<PathBuf>) -> Proxy {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let folder = tempfile::tempdir().expect("a folder");
        let overrides = Overrides {
            listen: plain.then(|| free.into()),
            admin: Some(Some(free)),
            data: Some(data.unwrap_or_else(|| folder.path().join("data"))),
            ..Overrides::default()
        };
        let (started, bound) = sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
            let _entered = runtime.enter();
            let bound = app::bind(config, file, overrides, false).unwrap_or_else(|e| panic!("{e}"));
            let parts = (bound.addresses[0], bound.admin.expect("admin"), bound.spool.clone());
            started.send(parts).expect("the test waits");
            let running = bound.run(async {
                // A dropped sender is an end too.
                let _ = stopped.await;
            });
            runtime.block_on(running).unwrap_or_else(|e| panic!("{e}"));
        });
        let (address, admin, spool) = bound.recv().expect("authtap starts");
        Proxy { address, admin, spool, stop: Some(stop), thread: Some(thread), _data: folder }
    }

    /// The first events, as soon as there are `count`.
    pub fn await_events(&self, count: u64) -> Vec<Value> {
        self.await_newest(count);
        self.events()
    }

    /// Waits until so many events were appended in all, notices (`authtap.*`) not counted.
    pub fn await_newest(&self, count: u64) {
        let mut appended = self.spool.appended();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let enough = runtime.block_on(async {
            let enough = appended.wait_for(|_| self.lines().len() as u64 >= count);
            tokio::time::timeout(PATIENCE, enough).await.is_ok_and(|r| r.is_ok())
        });
        assert!(enough, "waited for {count} events, there are {}", self.lines().len());
    }

    /// The events so far.
    pub fn events(&self) -> Vec<Value> {
        self.lines().iter().map(|line| serde_json::from_str(line).expect("an event is JSON")).collect()
    }

    /// The events so far as lines, without notices.
    pub fn lines(&self) -> Vec<String> {
        let stored = self.spool.read(0, usize::MAX).events;
        let told = stored.iter().filter(|s| !s.event.event_type.as_str().starts_with("authtap."));
        told.map(|stored| stored.line.to_string()).collect()
    }

    /// Tells it to stop, without waiting.
    pub fn tell_to_stop(&mut self) {
        // Told twice, or gone already: both are fine.
        let _ = self.stop.take().map(|stop| stop.send(()));
    }

    /// Waits for its end.
    pub fn await_end(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("authtap ends in order");
        }
    }

    /// Stops it; all events there were. Nothing can come after them.
    pub fn stop(mut self) -> Vec<Value> {
        self.tell_to_stop();
        self.await_end();
        self.events()
    }

    /// The same as lines.
    pub fn stop_for_lines(mut self) -> Vec<String> {
        self.tell_to_stop();
        self.await_end();
        self.lines()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tell_to_stop();
        if let Some(thread) = self.thread.take() {
            // A panic over there has its message printed; a second one here would hide the first.
            let _ = thread.join();
        }
    }
}
