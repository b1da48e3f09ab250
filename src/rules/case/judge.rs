//! Compares what a test expects with what became of its exchange.

use std::fmt;

use serde_json::Value as Json;

use super::{Case, Expect, Verdict, Wanted};
use crate::config::node::clip;
use crate::event::{Event, EventType, Outcome};
use crate::rules::route::Route;

/// Route and rule, outcome, and the event with its further types.
pub(super) type Found = ((String, String), Outcome, Option<(Event, Vec<EventType>)>);

impl Case {
    pub(super) fn judge(&self, found: Option<Found>, route: &Route) -> Verdict {
        let mut differences = Vec::new();
        let decided = found.as_ref().map(|(decided, ..)| decided.clone());
        match (&self.expect, found) {
            (Expect::Nothing, Some((_, _, Some((event, _))))) => {
                differences.push(format!("expected no event, found {}", event.event_type));
            }
            (Expect::Nothing, _) => {}
            (Expect::Event { .. }, None) => {
                differences.push("expected an event, but no route is about this request".into())
            }
            (Expect::Event { .. }, Some((_, outcome, None))) => {
                differences.push(format!("expected an event, but the outcome is `{outcome}` and emits nothing"));
            }
            (Expect::Event { values, also }, Some(((decider, _), _, Some((event, further))))) => {
                if decider != route.id.as_str() {
                    differences.push(format!("expected the route `{}` to decide, but `{decider}` did", route.id));
                }
                differences.extend(compare(values, &event));
                let further: Vec<&str> = further.iter().map(EventType::as_str).collect();
                if let Some(also) = also.as_ref().filter(|also| **also != further) {
                    differences.push(format!("also: expected {}, found {}", list(also), list(&further)));
                }
            }
        }
        Verdict { differences, decided }
    }
}

fn compare(values: &[Wanted], event: &Event) -> Vec<String> {
    let json: Json = serde_json::to_value(event).unwrap_or_default();
    let mut differences = Vec::new();
    for Wanted { name, pointer, text } in values {
        let found = json.pointer(pointer).and_then(Json::as_str);
        if found != text.as_deref() {
            differences.push(format!("{name}: expected {}, found {}", shown(text.as_deref()), shown(found)));
        }
    }
    differences
}

fn shown(value: Option<&str>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |text| format!("`{}`", clip(text)))
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".into();
    }
    items.iter().map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", ")
}
