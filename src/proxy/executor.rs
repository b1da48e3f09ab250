//! Where hyper's own tasks run: the streams of an HTTP/2 connection, and what serves them.
//!
//! They run on the thread of their connection, so that nothing of a request is shared with another.

/// Runs what it is given on the thread it is called on, inside its `LocalSet`.
#[derive(Clone, Copy, Debug)]
pub struct OnThisThread;

impl<F> hyper::rt::Executor<F> for OnThisThread
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}
