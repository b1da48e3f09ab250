//! A thread for a sink whose work may block.
//!
//! The invariant: a job that was taken is done, whether or not anybody still waits for it.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::{mpsc, oneshot};

use super::SinkError;

/// Batches that may wait for a [`Worker`] beyond the one it writes.
const WORKER_QUEUE: usize = 2;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// A thread of its own for one sink's blocking work, with the state `S` that the work needs.
///
/// Not the runtime's pool of blocking threads: a write that hangs for good (a paused terminal, a
/// dead network file system) would keep the runtime, and with it the process, from ending. This
/// thread is left behind when the process ends, and ends by itself when its handle is dropped.
pub(crate) struct Worker<S> {
    jobs: mpsc::Sender<Job<S>>,
}

impl<S: Send + 'static> Worker<S> {
    /// Starts the thread; fails if the operating system gives none.
    pub(crate) fn start(name: &str, mut state: S) -> Result<Worker<S>, SinkError> {
        let (jobs, mut queue) = mpsc::channel::<Job<S>>(WORKER_QUEUE);
        let body = move || {
            while let Some(job) = queue.blocking_recv() {
                // Whoever waits for the job sees its answer gone, and says so.
                let _ = catch_unwind(AssertUnwindSafe(|| job(&mut state)));
            }
        };
        match std::thread::Builder::new().name(name.to_owned()).spawn(body) {
            Ok(_) => Ok(Worker { jobs }),
            Err(source) => Err(SinkError::Io { what: format!("cannot start the thread `{name}`"), source }),
        }
    }

    /// Does a job on the thread and waits for its answer. If the waiting is given up the job is
    /// done all the same. Fails if the job panicked.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> R + Send + 'static,
    ) -> Result<R, SinkError> {
        let (answer, wait) = oneshot::channel();
        let job: Job<S> = Box::new(move |state| {
            let _ = answer.send(job(state));
        });
        let gone = || SinkError::Other("the sink's writer panicked".into());
        self.jobs.send(job).await.map_err(|_| gone())?;
        wait.await.map_err(|_| gone())
    }

    /// Does a job on the thread some time, without waiting; false if too many are waiting.
    pub(crate) fn nudge(&self, job: impl FnOnce(&mut S) + Send + 'static) -> bool {
        self.jobs.try_send(Box::new(job)).is_ok()
    }
}

/// Writes all of `bytes`, and says how many of them went out even if it fails.
pub(crate) fn write_counted(to: &mut dyn Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..)
        && !rest.is_empty()
    {
        match to.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(n) => written = written.saturating_add(n).min(bytes.len()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}
