//! Every preset that is shipped, whole: what holds of one holds of all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use super::*;
use crate::config::settings;
use crate::event::Outcome;
use crate::rules::RuleSet;
use crate::rules::condition::Condition;
use crate::rules::path::PathPattern;

/// Literal paths of several presets.
const SHARED: &[&str] = &[
    "/",
    "/accounts/login/",
    "/accounts/logout/",
    "/admin/users",
    "/api/auth/change-password",
    "/api/auth/reset-password",
    "/api/v1/users",
    "/api/v4/users",
    "/auth/login",
    "/auth/logout",
    "/login",
    "/logout",
    "/register",
    "/reset-password",
    "/user/login",
    "/users",
    "/users.json",
    "/users/register",
];

/// A configuration with these lines in it.
fn config(lines: &str) -> settings::Config {
    let source = format!("version: 1\n{lines}\n");
    let (config, problems) = settings::check("t.yaml", &source);
    assert!(problems.is_empty(), "{problems}");
    config.expect("a configuration")
}

/// The routes of one preset as the configuration asks for it, and every problem of the file.
fn compiled(entry: &str) -> (RuleSet, Problems) {
    let source = format!("presets: [{entry}]");
    let mut problems = Problems::new("t.yaml", &source);
    let root = Node::parse(&source, &mut problems).expect("yaml");
    let node = &root.child("presets").expect("presets").items()[0];
    let mut asked = ask(node, &mut problems).unwrap_or_else(|| panic!("{problems}"));
    let mut session = SessionConfig::default();
    asked.add_session(&mut session);
    let routes = asked.routes(&session, &mut problems);
    (RuleSet::new(routes), asked.problems)
}

/// Every preset, at the root of any host.
fn all() -> &'static [(&'static str, RuleSet, Problems)] {
    static ALL: LazyLock<Vec<(&str, RuleSet, Problems)>> = LazyLock::new(|| {
        let each = PRESETS.iter().map(|preset| (preset.name, compiled(preset.name)));
        each.map(|(name, (rules, problems))| (name, rules, problems)).collect()
    });
    &ALL
}

/// Every difference that the tests of these routes show, in a set of their own.
fn differences(rules: &RuleSet) -> Vec<String> {
    let tests = rules.routes().iter().flat_map(|route| route.cases.iter().map(move |case| (route, case)));
    tests
        .flat_map(|(route, case)| {
            let verdict = case.run(rules, route);
            verdict.differences.into_iter().map(move |what| format!("{}: {}: {what}", route.id, case.name))
        })
        .collect()
}

#[test]
fn every_file_of_the_folder_is_in_the_table_in_order_and_says_its_own_name() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules/presets");
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .expect("the folder")
        .filter_map(|entry| Some(entry.expect("an entry").file_name().to_str()?.strip_suffix(".yaml")?.to_owned()))
        .collect();
    let listed: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    assert_eq!(files.iter().map(String::as_str).collect::<Vec<_>>(), listed);
    for preset in PRESETS {
        let says = format!("\npreset: {}\n", preset.name);
        assert!(format!("\n{}", preset.source).contains(&says), "{}", preset.name);
    }
}

#[test]
fn every_preset_is_read_without_an_error_or_a_warning() {
    let told: Vec<String> = all()
        .iter()
        .filter(|(_, _, problems)| !problems.is_empty())
        .map(|(.., problems)| problems.to_string())
        .collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
    for preset in PRESETS {
        assert!(preset.head().is_some_and(|head| !head.title.is_empty()), "{} has no head", preset.name);
    }
}

#[test]
fn the_tests_of_every_preset_hold() {
    let found: Vec<String> = all().iter().flat_map(|(_, rules, _)| differences(rules)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_tests_of_every_preset_hold_wherever_it_is_mounted() {
    let found: Vec<String> = PRESETS
        .iter()
        .flat_map(|preset| {
            let entry =
                format!("{{ name: {}, base: /a.b/c, host: [one.example.test, \"*.example.org\"] }}", preset.name);
            differences(&compiled(&entry).0)
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_mounted_preset_is_about_nothing_outside_its_base() {
    let mut found = Vec::new();
    for (name, rules, _) in all() {
        let moved = compiled(&format!("{{ name: {name}, base: /moved }}")).0;
        for route in rules.routes() {
            for case in &route.cases {
                if case.run(&moved, route).decided.is_some() {
                    found.push(format!("{}: {}", route.id, case.name));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_preset_shows_a_success_a_failure_and_what_it_must_not_match() {
    let mut lacking = Vec::new();
    for (name, rules, _) in all() {
        let mut shown: BTreeSet<&str> = BTreeSet::new();
        for route in rules.routes() {
            for case in &route.cases {
                if case.expects_nothing() {
                    shown.insert("nothing");
                    continue;
                }
                let Some((decider, rule)) = case.run(rules, route).decided else { continue };
                let decider = rules.routes().iter().find(|r| r.id.as_str() == decider).expect("a route");
                let rule = decider.rules.iter().find(|r| r.name.as_str() == rule);
                match rule.map_or(decider.default, |r| r.outcome) {
                    Outcome::Success => shown.insert("success"),
                    Outcome::Failure => shown.insert("failure"),
                    _ => false,
                };
            }
        }
        if shown.len() < 3 {
            lacking.push(format!("{name} shows only {shown:?}"));
        }
    }
    assert!(lacking.is_empty(), "{}", lacking.join("\n"));
}

#[test]
fn every_route_of_a_preset_names_what_it_is_about_and_every_pattern_is_anchored() {
    let mut found = Vec::new();
    for (_, rules, _) in all() {
        let mut ids = BTreeSet::new();
        for route in rules.routes() {
            if !ids.insert(route.id.as_str()) {
                found.push(format!("{} stands twice", route.id));
            }
            // Without a path, something else that the request says must tell it.
            let told = route.demands.iter().any(|demand| {
                matches!(demand, Condition::Query(..) | Condition::Form(..) | Condition::RequestHeader(..))
            });
            if route.paths.is_empty() && !told {
                found.push(format!("{} is about every request", route.id));
            }
            for path in &route.paths {
                let fine = match path {
                    PathPattern::Exact(path) => path.starts_with('/'),
                    PathPattern::Prefix(prefix) => prefix.len() > 1,
                    PathPattern::Regex { regex, .. } => {
                        regex.as_str().starts_with('^') && !regex.as_str().contains("|^")
                    }
                };
                if !fine {
                    found.push(format!("{}: {path:?}", route.id));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Which presets are about the same request is no mistake (applications do share paths), but it is
/// held here, so that a new one is looked at: with both in a configuration the first listed decides.
#[test]
fn paths_that_several_presets_are_about_are_known() {
    let mut by_path: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, rules, _) in all() {
        for path in rules.routes().iter().flat_map(|route| &route.paths) {
            if let PathPattern::Exact(path) = path {
                by_path.entry(path).or_default().insert(name);
            }
        }
    }
    by_path.retain(|_, presets| presets.len() > 1);
    let shared: Vec<&str> = by_path.into_keys().collect();
    assert_eq!(shared, SHARED);
}

#[test]
fn a_preset_is_named_alone_in_a_list_and_with_more_words() {
    let alone = config("preset: django");
    assert_eq!(alone.presets.len(), 1);
    assert_eq!(alone.rules.routes().len(), alone.presets[0].routes);
    assert!(alone.rules.routes().iter().all(|route| route.id.as_str().starts_with("django.")));
    assert_eq!(alone.session.cookies, ["sessionid"]);
    let both = config("presets: [django-allauth, { name: django, base: /intranet/ }]");
    assert_eq!(both.presets.iter().map(Chosen::base).collect::<Vec<_>>(), ["/", "/intranet"]);
    assert_eq!(both.session.headers.len(), 1);
    let twice = config("presets: [{ name: django, base: /a }, { name: django, base: /b }]");
    assert_eq!(twice.rules.routes().len(), 2 * alone.rules.routes().len());
}

#[test]
fn what_the_configuration_says_of_sessions_is_kept() {
    let told = config("preset: django\nsession: { cookies: [mine], bearer: false, ttl: 1h }");
    assert_eq!(told.session.cookies, ["mine", "sessionid"]);
    assert!(!told.session.bearer);
}

#[test]
fn a_route_of_the_file_takes_the_place_of_one_of_the_preset_and_is_asked_first() {
    let own = "preset: django\nroutes:\n- { id: django.admin-login, match: { method: POST, path: /signin }, emit: user.login.success }\n- { id: mine, match: { method: POST, path: /accounts/logout/ }, emit: user.logout }";
    let (with, without) = (config(own), config("preset: django"));
    assert_eq!(with.rules.routes().len(), without.rules.routes().len() + 1);
    let ids: Vec<&str> = with.rules.routes().iter().map(|route| route.id.as_str()).collect();
    assert_eq!(&ids[..2], ["django.admin-login", "mine"]);
    assert_eq!(ids.iter().filter(|id| **id == "django.admin-login").count(), 1);
}

#[test]
fn routes_can_be_left_out() {
    let all = config("preset: django").rules.routes().len();
    let some = config("preset: { name: django, without: [token-used, django.token] }");
    assert_eq!(some.rules.routes().len(), all - 2);
}

#[test]
fn routes_without_a_path_are_found_by_what_a_get_must_carry_and_only_then() {
    let rules = &all().iter().find(|(name, ..)| *name == "dokuwiki").expect("a preset").1;
    let tokens = &all().iter().find(|(name, ..)| *name == "directus").expect("a preset").1;
    let found = |rules: &RuleSet, target: &'static str, credentials: &'static str| {
        let mut headers = crate::headers::Headers::new();
        if !credentials.is_empty() {
            headers.insert(http::header::AUTHORIZATION, credentials);
        }
        let uri = target.parse().expect("a target");
        rules.candidates(&crate::rules::facts::Facts::of_request(&http::Method::GET, &uri, "", &headers)).is_some()
    };
    assert!(found(rules, "/any.php?do=logout", ""));
    assert!(found(rules, "/any.php?%64o=logout", ""), "a name may be encoded");
    assert!(!found(rules, "/any.php?done=logout", "") && !found(rules, "/any.php", ""));
    assert!(
        found(tokens, "/any", "Bearer a-key") && !found(tokens, "/any", "Bearer a.b.c") && !found(tokens, "/any", "")
    );
    assert!(found(tokens, "/any?access_token=a-key", ""));
}

/// Else every path on the traffic path is looked at by the automaton of all patterns.
#[test]
fn every_pattern_that_a_get_may_fit_says_how_its_paths_begin_or_end() {
    let loose: Vec<&str> = all().iter().flat_map(|(_, rules, _)| rules.loose_patterns_of_get()).collect();
    assert_eq!(loose, Vec::<&str>::new());
}
