//! A configuration file: never a panic, every place inside the source, every problem can be shown,
//! and what is accepted can run its own tests.
#![no_main]

use authtap::cmd::test::report;
use authtap::config::node::{Node, Value};
use authtap::config::problem::Problems;
use authtap::config::settings;
use libfuzzer_sys::fuzz_target;

fn places_are_real(node: &Node, source: &str) {
    assert!(source.get(node.span.clone()).is_some());
    match &node.value {
        Value::Seq(items) => items.iter().for_each(|item| places_are_real(item, source)),
        Value::Map(entries) => entries.iter().for_each(|(key, item)| {
            assert!(source.get(key.span.clone()).is_some());
            places_are_real(item, source);
        }),
        Value::Null | Value::Scalar { .. } => {}
    }
}

fuzz_target!(|source: &str| {
    let mut problems = Problems::new("fuzz.yaml", source);
    if let Some(node) = Node::parse(source, &mut problems) {
        places_are_real(&node, source);
        let _ = node.to_json();
    }
    let (config, problems) = settings::check("fuzz.yaml", source);
    assert_eq!(config.is_none(), problems.has_errors());
    for problem in problems.sorted() {
        assert!(source.get(problem.span.clone()).is_some());
        let _ = problems.render(problem, false);
    }
    if let Some(config) = config {
        let _ = report("fuzz.yaml", &config, true);
    }
});
