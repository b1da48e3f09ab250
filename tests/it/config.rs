//! The configuration as its users meet it: what is accepted, and the exact words of what is not.
//!
//! `AUTHTAP_BLESS=1` writes the expected texts anew; read the difference before committing it.
#![allow(clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use authtap::cmd::check::verdict;
use authtap::cmd::presets;
use authtap::cmd::test::{outcome, report};
use authtap::config::node::{Node, Value};
use authtap::config::problem::Problems;
use authtap::config::{reference, settings};
use authtap::event;
use proptest::prelude::*;
use serde_json::Value as Json;

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a folder with this extension, in order.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).expect("the folder is there");
    let all = entries.map(|entry| entry.expect("an entry").path());
    let mut all: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    all.sort();
    assert!(!all.is_empty(), "{folder} is empty");
    all
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a name")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Holds a file equal to what it should be, or writes it.
fn hold_equal(path: &Path, wanted: &str) -> Result<(), String> {
    if std::env::var_os("AUTHTAP_BLESS").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        fs::write(path, wanted).expect("the file can be written");
        return Ok(());
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    if found == wanted {
        return Ok(());
    }
    let shown = path.strip_prefix(root()).unwrap_or(path).display();
    Err(format!("{shown} is not what the program says (AUTHTAP_BLESS=1 writes it anew):\n{wanted}"))
}

/// Whether a file has no problem at all, and what `authtap check` says of it.
fn checked(path: &Path) -> (bool, String) {
    let (config, problems) = settings::check(name(path), &read(path));
    (problems.is_empty(), format!("{problems}{}\n", verdict(config.as_ref(), &problems)))
}

/// Every configuration that is meant to be right, in a build with the features it may need: those
/// of examples that say so are looked at elsewhere (`examples::`, and beside their sink).
fn right() -> Vec<PathBuf> {
    let mut all = files("tests/config/good", "yaml");
    all.extend([root().join("routes.yaml"), root().join("src/demo/routes.yaml")]);
    if let Ok(examples) = fs::read_dir(root().join("examples")) {
        let routes = examples.map(|entry| entry.expect("an entry").path().join("routes.yaml"));
        all.extend(routes.filter(|path| path.is_file() && !read(path).contains("\n# needs: --features")));
    }
    all
}

#[test]
fn what_is_right_is_accepted_without_a_word() {
    for path in right() {
        let (fine, report) = checked(&path);
        assert!(fine, "{}: {report}", path.display());
    }
}

#[test]
fn what_is_wrong_with_a_file_is_told_in_these_words() {
    let differences: Vec<String> = files("tests/config/bad", "yaml")
        .iter()
        .filter_map(|path| {
            let (fine, report) = checked(path);
            if fine {
                return Some(format!("{} is accepted without a word", name(path)));
            }
            hold_equal(&path.with_extension("txt"), &report).err()
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let texts = files("tests/config/bad", "txt");
    assert!(texts.iter().all(|text| text.with_extension("yaml").is_file()), "a text without its file");
}

#[test]
fn a_flood_of_problems_is_counted_and_cut() {
    let source = format!("version: 1\nroutes:\n{}", "  - {}\n".repeat(5000));
    let (config, problems) = settings::check("flood.yaml", &source);
    assert!(config.is_none());
    let (errors, _) = problems.counts();
    assert_eq!((errors, problems.sorted().len()), (15_000, 100));
    assert!(problems.to_string().ends_with("and 14900 more like these, not shown\n\n"));
}

#[test]
fn what_an_alias_multiplies_is_bounded_in_number_size_and_depth() {
    let text = "x".repeat(100_000);
    let wide = format!("a: &a {text}\nb: [{}]\n", "*a, ".repeat(1000));
    let mut deep = String::from("a0: &a0 { not: x }\n");
    for i in 1..200 {
        deep.push_str(&format!("a{i}: &a{i} {{ not: *a{} }}\n", i - 1));
    }
    let anchors: String = (0..30).map(|i| format!("&n{i} [")).collect::<String>();
    let anchors = format!("{anchors}{}{}", "x, ".repeat(20_000), "]".repeat(30));
    for (source, why) in [(wide, "repeat"), (deep, "deeply"), (anchors, "values")] {
        let mut problems = Problems::new("t.yaml", &source);
        assert!(Node::parse(&source, &mut problems).is_none());
        assert!(problems.to_string().contains(why), "{why}");
    }
}

#[test]
fn the_example_shows_every_route_tested_and_every_test_holds() {
    let path = root().join("routes.yaml");
    let (config, _) = settings::check("routes.yaml", &read(&path));
    let config = config.expect("checked above");
    for route in config.rules.routes() {
        assert!(!route.cases.is_empty(), "the route `{}` has no test", route.id);
    }
    let report = report("routes.yaml", &config, false);
    assert_eq!(report.failed, 0, "{}", report.text);
    let schema = read(&path).lines().next().and_then(|line| line.split_once("$schema=")).map(|(_, at)| at.to_owned());
    assert!(root().join(schema.expect("editors are told the schema")).is_file());
}

#[test]
fn each_difference_between_a_test_and_its_event_is_named() {
    let mut all = Vec::new();
    for path in files("tests/config/tests", "yaml") {
        let (config, problems) = settings::check(name(&path), &read(&path));
        let report = report(name(&path), &config.unwrap_or_else(|| panic!("{problems}")), false);
        assert!(report.failed > 0 && report.failed < report.ran);
        all.extend(hold_equal(&path.with_extension("txt"), &report.text).err());
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn results_as_json_say_the_same_as_results_in_words() {
    let path = root().join("tests/config/tests/differences.yaml");
    let (config, _) = settings::check("f.yaml", &read(&path));
    let report = report("f.yaml", &config.expect("usable"), true);
    let lines: Vec<Json> =
        report.text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert_eq!(lines.len(), report.ran);
    assert_eq!(lines.iter().filter(|line| line["ok"] == false).count(), report.failed);
    assert_eq!(
        (&lines[0]["route"], &lines[0]["test"], &lines[0]["ok"]),
        (&"login".into(), &"holds".into(), &true.into())
    );
    assert_eq!(lines[0]["decided"], serde_json::json!({"route": "login", "rule": "in"}));
}

#[test]
fn a_difference_exits_3_and_a_file_that_cannot_be_used_2() {
    let done = |files: &[&str]| {
        let files: Vec<PathBuf> = files.iter().map(|file| root().join(file)).collect();
        let done = outcome(&files, false);
        (done.code, done.err)
    };
    let (differences, refused) = ("tests/config/tests/differences.yaml", "tests/config/bad/bad-word.yaml");
    assert_eq!(done(&["routes.yaml"]), (0, String::new()));
    assert_eq!(done(&[differences, "routes.yaml"]), (3, String::new()));
    for files in [[refused, differences], [differences, refused]] {
        let (code, told) = done(&files);
        assert_eq!(code, 2);
        assert!(told.contains("bad-word.yaml:5:22") && told.contains("did you mean `POST`?"), "{told}");
    }
    assert_eq!(done(&["tests/config"]).0, 2);
    assert_eq!(done(&["no-such-file.yaml"]).0, 2);
}

#[test]
fn the_shipped_schemas_are_those_the_program_prints() {
    let shown = |schema: Json| format!("{schema:#}\n");
    hold_equal(&root().join("schema/routes.schema.json"), &shown(settings::json_schema())).expect("up to date");
    hold_equal(&root().join("schema/event.schema.json"), &shown(event::schema::json_schema())).expect("up to date");
}

#[test]
fn the_schema_accepts_what_check_accepts() {
    let schema = jsonschema::validator_for(&settings::json_schema()).expect("a schema");
    for path in right() {
        let errors: Vec<String> =
            schema.iter_errors(&json(&path)).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    }
}

#[test]
fn the_schema_refuses_slips_that_an_editor_can_show() {
    let schema = jsonschema::validator_for(&settings::json_schema()).expect("a schema");
    for slip in [
        "bad-duration-and-size",
        "bad-tests",
        "bad-version",
        "bad-word",
        "empty",
        "empty-value",
        "key-not-built",
        "missing-key",
        "not-a-mapping",
        "routes-as-mapping",
        "unknown-key",
        "unknown-sink",
        "wrong-type",
    ] {
        let path = root().join("tests/config/bad").join(slip).with_extension("yaml");
        assert!(!schema.is_valid(&json(&path)), "{slip} is valid");
    }
}

/// A file as JSON, for the schema.
fn json(path: &Path) -> Json {
    let source = read(path);
    let mut problems = Problems::new(name(path), &source);
    Node::parse(&source, &mut problems).unwrap_or_else(|| panic!("{problems}")).to_json()
}

#[test]
fn the_reference_has_the_tables_of_the_program_and_examples_that_check() {
    const MARK: &str = "<!-- The tables below are made from the program: AUTHTAP_BLESS=1 cargo test --test it -->\n";
    let path = root().join("docs/routes-reference.md");
    let found = read(&path);
    let (by_hand, _) = found.split_once(MARK).expect("the mark between what is written and what is made");
    hold_equal(&path, &format!("{by_hand}{MARK}{}", reference::markdown())).expect("up to date");

    let blocks: Vec<&str> = by_hand.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 5, "{}", blocks.len());
    for block in blocks {
        // A block shows whole routes, or a whole file.
        let source = match block.contains("version: 1") {
            true => block.to_owned(),
            false => format!("version: 1\nsession: {{ cookies: [sessionid] }}\nroutes:\n{block}"),
        };
        let (config, problems) = settings::check("docs/routes-reference.md", &source);
        assert!(problems.is_empty(), "{source}\n{problems}");
        let report = report("docs/routes-reference.md", &config.expect("no problems"), false);
        assert_eq!(report.failed, 0, "{}", report.text);
    }
    let (headings, links) = (reference::markdown(), reference::markdown());
    for link in links.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
        let anchors = headings.lines().filter_map(|line| line.strip_prefix("### "));
        let anchors = anchors.map(|h| h.replace(['`', '.'], "").replace(' ', "-"));
        assert!(anchors.into_iter().any(|anchor| anchor == link), "nothing is at #{link}");
    }
}

#[test]
fn the_table_of_presets_is_that_of_the_program_and_its_example_checks() {
    const MARK: &str = "<!-- The table below is made from the program: AUTHTAP_BLESS=1 cargo test --test it -->\n";
    let path = root().join("docs/presets.md");
    let found = read(&path);
    let (by_hand, _) = found.split_once(MARK).expect("the mark between what is written and what is made");
    hold_equal(&path, &format!("{by_hand}{MARK}{}", presets::markdown())).expect("up to date");
    let block = by_hand.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let (_, problems) = settings::check("docs/presets.md", block);
    assert!(problems.is_empty(), "{problems}");
}

#[test]
fn the_example_of_a_preset_holds_its_own_tests() {
    let document = read(&root().join("docs/writing-a-preset.md"));
    let block = document.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let (_, routes) = block.split_once("\nroutes:").expect("routes");
    let session = block.lines().find(|line| line.starts_with("session:")).expect("a session");
    let (config, problems) = settings::check("example.yaml", &format!("version: 1\n{session}\nroutes:{routes}"));
    assert!(problems.is_empty(), "{problems}");
    let report = report("example.yaml", &config.expect("no problems"), false);
    assert_eq!((report.ran, report.failed), (3, 0), "{}", report.text);
}

/// Every place in a tree lies inside the source, on character boundaries.
fn places_are_real(node: &Node, source: &str) {
    assert!(source.get(node.span.clone()).is_some(), "{:?} of {}", node.span, source.len());
    match &node.value {
        Value::Seq(items) => items.iter().for_each(|item| places_are_real(item, source)),
        Value::Map(entries) => entries.iter().for_each(|(key, item)| {
            assert!(source.get(key.span.clone()).is_some(), "{:?} of {}", key.span, source.len());
            places_are_real(item, source);
        }),
        Value::Null | Value::Scalar { .. } => {}
    }
}

/// Reads, checks and reports whatever it is; the report is bounded and its places are real.
fn survives(source: &str) {
    let mut problems = Problems::new("t.yaml", source);
    if let Some(node) = Node::parse(source, &mut problems) {
        places_are_real(&node, source);
        let _ = node.to_json();
    }
    let (config, problems) = settings::check("t.yaml", source);
    assert_eq!(config.is_none(), problems.has_errors());
    for problem in problems.sorted() {
        assert!(source.get(problem.span.clone()).is_some(), "{problem:?}");
        let (line, column) = problems.line_column(problem.span.start);
        assert!(line >= 1 && column >= 1);
        let shown = problems.render(problem, false);
        assert!(shown.contains(&format!("t.yaml:{line}:{column}")), "{line}:{column} in {shown}");
    }
    if let Some(config) = config {
        let _ = report("t.yaml", &config, false);
    }
}

#[test]
fn a_place_behind_a_carriage_return_is_the_end_of_its_line_in_number_and_in_picture() {
    for source in ["? # a comment\r", "? # a comment\r\n", "? # a comment\r\r\nx: 1\n"] {
        survives(source);
    }
}

/// Pieces that mean something to YAML or to a field.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    ", ",
    "\t",
    "\r",
    "\n",
    "&a ",
    "*a",
    "\"",
    "'",
    "|\n  ",
    ">-\n",
    "!!binary ",
    "---\n",
    "...\n",
    "<<: *a",
    "# ",
    "? ",
    "%YAML 1.2\n",
    "\\",
    "\u{feff}",
    "é",
    "日本",
    "\u{0}",
    "\u{85}",
    "~",
    "null",
    "regex:(",
    "regex:^(?P<a>.*)$",
    "template:/{x}/{x}",
    "glob:/**",
    "prefix:",
    "99999999999999999999",
    "-1",
    "1e400d",
    "0.0.0.0/0",
    "30x",
    "absent",
    "path.x",
    "form.password",
    "response.jwt:/#",
    "unix:",
    "http://",
    "[::]:0",
    "0",
    "",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn arbitrary_yaml_like_text_is_survived(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
        survives(&pieces.concat());
    }

    #[test]
    fn right_files_with_slips_in_them_are_survived(
        which in any::<prop::sample::Index>(),
        slips in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, prop::sample::select(PIECES)), 1..6),
    ) {
        let right = right();
        let mut text: Vec<char> = read(&right[which.index(right.len())]).chars().collect();
        for (at, gone, piece) in slips {
            let at = at.index(text.len() + 1);
            text.splice(at..(at + gone).min(text.len()), piece.chars());
        }
        survives(&text.into_iter().collect::<String>());
    }
}
