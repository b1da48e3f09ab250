//! Formats: whatever a client sent, a record stays one line, JSON stays JSON, and the first words of
//! the line format stay those of authtap. The input is the login and the user agent, a line each.
#![no_main]

use std::sync::{Arc, OnceLock};

use authtap::config::settings;
use authtap::event::notice::{STARTED, notice};
use authtap::event::{Outcome, Text};
use authtap::format::Shape;
use authtap::spool::Stored;
use libfuzzer_sys::fuzz_target;

const CONFIG: &str = "
version: 1
upstream: http://127.0.0.1:1
sinks:
  - { type: file, path: a, format: native, names: auth }
  - { type: file, path: b, format: ocsf }
  - { type: file, path: c, format: ecs }
  - { type: file, path: d, format: cloudevents }
  - { type: file, path: e, format: cef }
  - { type: file, path: f, format: leef }
  - { type: file, path: g, format: litesoc }
  - { type: file, path: h, format: line }
  - { type: file, path: i, format: { type: template, template: '{{ event.actor.login|tojson }}' } }
";

fn shapes() -> &'static Vec<Shape> {
    static SHAPES: OnceLock<Vec<Shape>> = OnceLock::new();
    SHAPES.get_or_init(|| {
        let config = settings::check("routes.yaml", CONFIG).0.expect("a configuration");
        config.sinks.into_iter().map(|sink| sink.shape).collect()
    })
}

fuzz_target!(|data: &[u8]| {
    let mut lines = data.splitn(2, |b| *b == b'\n');
    let mut event = notice(STARTED, Outcome::Success, &[]);
    event.actor.login = lines.next().and_then(Text::other_bytes);
    event.metadata.user_agent = lines.next().and_then(Text::user_agent);
    let stored = Stored { seq: 1, line: event.to_line().into(), event: Arc::new(event) };
    for shape in shapes() {
        let text = shape.write(&stored).expect("a record");
        assert!(!text.contains(['\n', '\r']));
        if shape.media().list.is_some() {
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
        if shape.media().format == "line" {
            let head = format!("{} authtap authtap.started ip=- outcome=success", stored.event.timestamp);
            assert!(text.starts_with(&head));
        }
    }
});
