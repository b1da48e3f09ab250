//! A sink before which every event is given the shape its configuration asks for.
//!
//! The sink behind it sees lines and knows nothing of formats. What cannot be written in the shape
//! is refused by its index, and the rest goes on; the indexes in the answer are those of the whole
//! batch.

use std::sync::Arc;

use super::Shape;
use crate::sinks::{BoxFuture, Sink, SinkError, Verdict};
use crate::spool::Stored;

/// A sink with a shape before it.
pub(crate) struct Shaped {
    inner: Box<dyn Sink>,
    shape: Shape,
}

impl Shaped {
    /// `inner`, given every event in `shape`; `inner` itself if the stored line is that already.
    pub(crate) fn wrap(inner: Box<dyn Sink>, shape: &Shape) -> Box<dyn Sink> {
        if shape.is_plain() { inner } else { Box::new(Shaped { inner, shape: shape.clone() }) }
    }
}

impl Sink for Shaped {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let mut written = Vec::with_capacity(batch.len());
            // Where each event of `written` stands in the batch.
            let mut places = Vec::with_capacity(batch.len());
            let mut failed = Vec::new();
            let mut last = None;
            for (place, one) in batch.iter().enumerate() {
                match self.shape.write(one) {
                    Ok(line) => {
                        let line: Arc<str> = line.into();
                        written.push(Stored { line, ..one.clone() });
                        places.push(place);
                    }
                    Err(why) => {
                        failed.push(place);
                        last = Some(SinkError::Other(format!("format {}: {why}", self.shape.media().format)));
                    }
                }
            }
            let verdict = if written.is_empty() { Verdict::Delivered } else { self.inner.send(&written).await };
            match (verdict, last) {
                (Verdict::Delivered, Some(why)) => Verdict::Refused { which: failed, why },
                (Verdict::Refused { which, why }, _) => {
                    failed.extend(which.iter().filter_map(|index| places.get(*index)));
                    failed.sort_unstable();
                    Verdict::Refused { which: failed, why }
                }
                (verdict, _) => verdict,
            }
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.inner.probe()
    }

    fn reopen(&self) {
        self.inner.reopen();
    }
}
