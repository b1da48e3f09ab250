//! Who may import whom. Reads the source and fails on an arrow that points the wrong way, so that
//! the map in ARCHITECTURE.md stays true. Tests within the source are free.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Modules that import nothing of ours above them: only these of their own kind.
const LEAVES: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("telemetry", &[]),
    ("headers", &[]),
    ("exchange", &["event", "headers"]),
    ("config::problem", &[]),
    ("config::node", &["config::problem", "config::parse", "config::shape"]),
    ("config::shape", &["config::problem", "config::node"]),
    ("body", &["event", "exchange", "headers"]),
    ("filter", &["event", "config::problem", "config::node", "config::shape"]),
];

/// What a part never imports, and what alone of it it may.
const NEVER: &[(&str, &[&str], &[&str])] = &[
    ("proxy", &["sinks", "spool", "deliver", "pipeline", "admin", "enrich", "session", "rules", "body"], &[]),
    ("capture", &["proxy", "sinks", "spool", "deliver", "pipeline", "admin", "enrich", "session", "flow"], &[]),
    (
        "rules",
        &["proxy", "capture", "sinks", "spool", "deliver", "pipeline", "admin", "enrich", "flow"],
        &["proxy::request_id"],
    ),
    ("flow", &["proxy", "capture", "sinks", "spool", "deliver", "pipeline", "admin", "enrich", "exchange"], &[]),
    (
        "session",
        &["flow", "proxy", "capture", "rules", "sinks", "spool", "deliver", "pipeline", "admin", "enrich"],
        &[],
    ),
    ("replicas", &["flow", "proxy", "capture", "rules", "spool", "deliver", "pipeline", "admin", "enrich"], &[]),
    ("enrich", &["proxy", "capture", "rules", "sinks", "spool", "deliver", "pipeline", "admin", "session"], &[]),
    ("sinks", &["capture", "rules", "exchange", "proxy", "deliver", "pipeline", "admin", "enrich", "session"], &[]),
    ("spool", &["rules", "capture", "proxy", "sinks", "deliver", "pipeline", "admin", "enrich", "exchange"], &[]),
    ("deliver", &["rules", "capture", "proxy", "pipeline", "admin", "enrich", "exchange", "session"], &[]),
    ("pipeline", &["proxy", "sinks", "deliver", "admin"], &[]),
    ("admin", &["proxy", "capture", "rules", "sinks", "deliver", "pipeline", "enrich", "exchange", "session"], &[]),
    ("traces", &["capture", "rules", "spool", "pipeline", "admin", "enrich", "session", "app"], &[]),
    ("demo", &["proxy", "capture", "rules", "sinks", "deliver", "pipeline", "admin", "enrich", "session"], &[]),
];

/// The only ones who wire: nobody but they and `main` may import them.
const WIRING: &[(&str, &[&str])] =
    &[("app", &["cmd", "learn"]), ("cmd", &[]), ("cli", &["cmd"]), ("config::settings", &["app", "cmd", "cli"])];

/// `importer file -> imported paths`, both as `a::b`.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    assert!(files.len() > 40, "the source is here: {}", files.len());
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let relative = file.strip_prefix(&src).expect("within src").with_extension("");
        let parts: Vec<String> = relative.iter().map(|p| p.to_string_lossy().into_owned()).collect();
        let module = parts.join("::").trim_end_matches("::mod").to_owned();
        if module == "lib" || module == "main" || is_test(&file, &src) {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a source file");
        found.entry(module).or_default().extend(crate_paths(&text));
    }
    found
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// A file of tests, or one whose parent declares it for tests only.
fn is_test(file: &Path, src: &Path) -> bool {
    let name = file.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    if name == "tests" {
        return true;
    }
    let folder = file.parent().unwrap_or(src);
    let beside = folder.with_extension("rs");
    let parent = if folder == src { src.join("lib.rs") } else { folder.join("mod.rs") };
    let declared = [parent, beside].iter().filter_map(|p| std::fs::read_to_string(p).ok()).any(|text| {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.windows(2).any(|w| w[0] == "#[cfg(test)]" && w[1].trim_end_matches(';').ends_with(&format!("mod {name}")))
    });
    declared && name != "mod"
}

/// Every `crate::…` path outside comments and inline tests, at most two segments each.
fn crate_paths(text: &str) -> BTreeSet<String> {
    let code: Vec<&str> = text
        .lines()
        .take_while(|line| !line.starts_with("mod tests {"))
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let code = code.join("\n");
    let mut found = BTreeSet::new();
    for (at, matched) in code.match_indices("crate::") {
        let rest = &code[at + matched.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let inner = &group[..closing(group)];
            found.extend(split_group(inner));
        } else {
            found.insert(two_segments(rest));
            // `crate::config::{node, problem}` names each of them.
            if let Some((first, group)) = rest.split_once("::{")
                && first.chars().all(is_name)
            {
                let inner = split_group(&group[..closing(group)]);
                found.extend(inner.iter().map(|i| format!("{first}::{}", i.split("::").next().unwrap_or_default())));
            }
        }
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Where the group that was opened before `text` ends.
fn closing(text: &str) -> usize {
    let mut depth = 1;
    for (i, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    text.len()
}

/// The members of a group, each with at most two segments.
fn split_group(inner: &str) -> Vec<String> {
    let mut depth = 0;
    let members = inner.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    members.map(|m| two_segments(m.trim())).filter(|m| !m.is_empty()).collect()
}

fn two_segments(path: &str) -> String {
    let mut segments = Vec::new();
    let mut rest = path;
    while segments.len() < 2 {
        let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        segments.push(&rest[..end]);
        match rest[end..].strip_prefix("::") {
            Some(next) => rest = next,
            None => break,
        }
    }
    segments.join("::")
}

/// True if `path` is `module` or lies within it.
fn within(path: &str, module: &str) -> bool {
    path == module || path.strip_prefix(module).is_some_and(|rest| rest.starts_with("::"))
}

/// The arrows that point the wrong way, in words.
fn forbidden(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (importer, paths) in imports {
        for path in paths {
            let mut say = |why: &str| wrong.push(format!("{importer} imports {path}: {why}"));
            for (leaf, below) in LEAVES {
                if within(importer, leaf) && !within(path, leaf) && !below.iter().any(|b| within(path, b)) {
                    say("a leaf imports nothing above it");
                }
            }
            for (part, never, but) in NEVER {
                let excepted = but.iter().any(|b| within(path, b));
                if within(importer, part) && !excepted && never.iter().any(|n| within(path, n)) {
                    say("these parts do not know each other");
                }
            }
            for (wired, by) in WIRING {
                let own = within(importer, wired) || (*wired == "config::settings" && within(importer, "config"));
                if within(path, wired) && !own && !by.iter().any(|b| within(importer, b)) {
                    say("only app and cmd wire");
                }
            }
        }
    }
    wrong
}

#[test]
fn every_import_points_the_right_way() {
    let wrong = forbidden(&imports());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn arrows_that_point_the_wrong_way_are_seen() {
    let source = "use crate::sinks::{self, Sink};\nuse crate::{event::Event, spool};\n// use crate::admin;\n\
                  fn f() { crate::app::bind(); }\nuse crate::config::{node::Node, settings};\n\
                  #[cfg(test)]\nmod tests {\nuse crate::deliver;\n}\n";
    let paths = crate_paths(source);
    let seen: Vec<&str> = paths.iter().map(String::as_str).collect();
    assert_eq!(
        seen,
        [
            "app::bind",
            "config",
            "config::node",
            "config::settings",
            "event::Event",
            "sinks",
            "sinks::Sink",
            "sinks::self",
            "spool"
        ]
    );
    let wrong = forbidden(&BTreeMap::from([("proxy::handler".to_owned(), paths)]));
    for what in ["imports sinks:", "imports spool:", "imports app::bind:", "imports config::settings:"] {
        assert!(wrong.iter().any(|w| w.contains(what)), "{what} is not refused: {wrong:?}");
    }
    assert!(!wrong.iter().any(|w| w.contains("event::Event") || w.contains("config::node")), "{wrong:?}");
    let leaf = BTreeMap::from([("event::text".to_owned(), BTreeSet::from(["config::node".to_owned()]))]);
    assert_eq!(forbidden(&leaf).len(), 1);
}
