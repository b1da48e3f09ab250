//! `GET /events`: events as they happen, as server-sent events (WHATWG HTML, section 9.2).
//!
//! A viewer is a further reader of the spool with a position of its own. It must never delay the
//! spool or another viewer: there is no queue for it, and what the spool gave up before the viewer
//! came is told to it as a number. Invariant: `id` is the viewer's position, so that whoever comes
//! back with `Last-Event-ID` misses nothing that is still held and sees nothing twice.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use super::server::Shared;
use crate::filter::Filter;
use crate::spool::Spool;

/// The most viewers at a time; more are answered 503.
pub const MAX_VIEWERS: usize = 64;
/// A viewer to whom nothing was sent for so long is sent a comment, so that both ends notice a dead
/// connection.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// Events read from the spool at a time.
const BATCH: usize = 64;
/// What is sent in one piece is not added to beyond this, in bytes.
const CHUNK_BYTES: usize = 32 * 1024;

/// Answers `GET /events`.
pub(super) async fn events(
    State(shared): State<Arc<Shared>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let filter = match Filter::parse(query.as_deref().unwrap_or_default()) {
        Ok(filter) => filter,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let last = match last_event_id(&headers) {
        Ok(last) => last,
        Err(()) => return refuse(StatusCode::BAD_REQUEST, "`Last-Event-ID` is not the id of an event; leave it out"),
    };
    let Ok(permit) = shared.viewers.clone().try_acquire_owned() else {
        let why = format!("{MAX_VIEWERS} viewers are watching already; close one, or try again later");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &why);
    };
    let viewer = Viewer::new(shared.state.spool.clone(), filter, last, shared.closing.clone(), permit);
    let pieces = stream::unfold(viewer, |mut viewer| async move {
        let piece = viewer.next().await?;
        Some((Ok::<_, Infallible>(piece), viewer))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // nginx holds answers back unless told otherwise.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": why }))).into_response()
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ()> {
    let Some(value) = headers.get("last-event-id").filter(|v| !v.is_empty()) else { return Ok(None) };
    value.to_str().ok().and_then(|text| text.parse().ok()).map(Some).ok_or(())
}

/// One reader of the spool.
struct Viewer {
    spool: Arc<dyn Spool>,
    filter: Filter,
    /// Everything up to here was shown, filtered out or given up.
    position: u64,
    /// The position the client was last told.
    told: u64,
    /// How many more events are wanted; `None` for all.
    wanted: Option<u64>,
    greeted: bool,
    beat: Instant,
    appended: watch::Receiver<u64>,
    closing: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Viewer {
    fn new(
        spool: Arc<dyn Spool>,
        filter: Filter,
        last: Option<u64>,
        closing: watch::Receiver<bool>,
        permit: OwnedSemaphorePermit,
    ) -> Viewer {
        let mut filter = filter.from_now();
        let newest = spool.newest();
        let position = match last {
            // A position says better than a time where to go on.
            Some(last) if last <= newest => {
                filter.since = None;
                last
            }
            // From before the spool began anew: all that it holds is new to this viewer.
            Some(_) => {
                filter.since = None;
                spool.before_oldest()
            }
            None if filter.since.is_some() => spool.before_oldest(),
            None => newest,
        };
        let appended = spool.appended();
        let wanted = filter.limit;
        let beat = Instant::now() + HEARTBEAT;
        Viewer {
            spool,
            filter,
            position,
            told: position,
            wanted,
            greeted: false,
            beat,
            appended,
            closing,
            _permit: permit,
        }
    }

    /// The next piece of the answer; `None` at its end. Called only when the client has taken the
    /// piece before, so the memory of a viewer is one piece.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.greeted {
            self.greeted = true;
            // The position before the first event: whoever is cut off before that can go on too.
            return Some(format!("retry: 1000\nid: {}\n\n", self.position).into());
        }
        loop {
            if self.wanted == Some(0) || *self.closing.borrow() {
                return None;
            }
            // Seen before reading: what is appended from here on wakes the wait below.
            self.appended.borrow_and_update();
            let before = self.position;
            let piece = self.read();
            if !piece.is_empty() {
                self.beat = Instant::now() + HEARTBEAT;
                return Some(piece.into());
            }
            if Instant::now() >= self.beat {
                self.beat = Instant::now() + HEARTBEAT;
                return Some(self.heartbeat().into());
            }
            if self.position != before {
                // Much history and no match: let others have their turn.
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                changed = self.appended.changed() => changed.ok()?,
                () = sleep_until(self.beat) => {}
                _ = self.closing.wait_for(|closing| *closing) => return None,
            }
        }
    }

    /// What matches of the next few events.
    fn read(&mut self) -> String {
        let mut piece = String::new();
        let batch = self.spool.read(self.position, BATCH);
        if batch.skipped > 0 {
            let next = batch.events.first().map(|first| first.seq.saturating_sub(1));
            self.position = next.unwrap_or(self.position.saturating_add(batch.skipped));
            self.told = self.position;
            // Writing to a String cannot fail.
            let _ =
                write!(piece, "id: {}\nevent: skipped\ndata: {{\"skipped\": {}}}\n\n", self.position, batch.skipped);
        }
        for stored in batch.events {
            if piece.len() >= CHUNK_BYTES || self.wanted == Some(0) {
                break;
            }
            self.position = stored.seq;
            if self.filter.matches(&stored.event) {
                self.told = self.position;
                self.wanted = self.wanted.map(|n| n.saturating_sub(1));
                let _ = write!(piece, "id: {}\nevent: event\ndata: {}\n\n", stored.seq, stored.line);
            }
        }
        piece
    }

    /// A comment, with the position if events went by that the filter held back.
    fn heartbeat(&mut self) -> String {
        if self.told == self.position {
            return ": heartbeat\n\n".to_owned();
        }
        self.told = self.position;
        format!(": heartbeat\nid: {}\n\n", self.position)
    }
}
