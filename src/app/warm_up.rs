//! Makes ready what the first event would wait for, once the first request was answered.
//!
//! Not at the start, nor when a balancer tries the port: the regexes of user agents take a fifth of a
//! second and 17 to 35 MB, and for some seconds up to 48 until the allocator gives back what compiling
//! took; a program that nobody uses shall not pay that. It works on a thread of its own that ends, and must
//! never be waited for: an event that comes meanwhile waits for the rest of it, as it would have
//! waited for all of it. The invariant: traffic and readiness know nothing of it.

use std::sync::Arc;
use std::time::Duration;

use super::reload::Core;
use crate::telemetry::Metrics;

/// How often it is looked at whether somebody has asked; ends with the first who has.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits for the first request, then makes ready. Where no event can come of traffic it does nothing.
pub(super) async fn warm_up(core: Arc<Core>) {
    first_request(&core.metrics).await;
    let live = core.live.load_full();
    if live.capture.rules.routes().is_empty() && live.capture.auto.is_none() && live.capture.hint.is_none() {
        return;
    }
    let enrichers = core.pipeline.load().enrichers.clone();
    let work = move || {
        enrichers.warm_up();
        tracing::debug!("what the first event needs is ready");
    };
    // Without it the first event makes ready what it needs.
    if let Err(error) = std::thread::Builder::new().name("warm-up".into()).spawn(work) {
        tracing::debug!("no thread to make ready what the first event needs: {error}");
    }
}

/// Ready when a request has been answered.
async fn first_request(metrics: &Metrics) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while metrics.requests_answered() == 0 {
        look.tick().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_made_ready_until_somebody_asks() {
        let metrics = Metrics::new();
        let traffic = [metrics.add_traffic(), metrics.add_traffic()];
        // A balancer that only tries the port.
        traffic[1].accepted.fetch_add(1, Relaxed);
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, first_request(&metrics)).await.is_err());
        traffic[0].request(200, Duration::ZERO);
        assert!(tokio::time::timeout(LOOK_EVERY * 2, first_request(&metrics)).await.is_ok());
    }
}
