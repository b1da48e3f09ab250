use proptest::prelude::*;
use serde_json::json;

use super::*;

fn only(text: &str) -> Operation {
    parse(text).expect("a document").operation(None).expect("one operation")
}

fn names(operation: &Operation) -> Vec<(&str, &str)> {
    operation.fields.iter().map(|f| (f.key.as_str(), f.name.as_str())).collect()
}

fn text(text: &str) -> Option<Found> {
    Some(Found::Text(text.into()))
}

#[test]
fn kind_name_and_top_level_fields_are_read() {
    let cases = [
        ("{ me { id } }", "query", None, vec![("me", "me")]),
        (
            "query Q { users_me { id email } roles }",
            "query",
            Some("Q"),
            vec![("users_me", "users_me"), ("roles", "roles")],
        ),
        (
            "mutation login($e: String!, $p: [String!]! = [\"x\"]) @live { auth_login(email: $e) { expires } }",
            "mutation",
            Some("login"),
            vec![("auth_login", "auth_login")],
        ),
        ("subscription { a: news(last: 3) }", "subscription", None, vec![("a", "news")]),
        (
            "# login\n\u{feff}mutation{a:auth_logout,b:auth_logout}",
            "mutation",
            None,
            vec![("a", "auth_logout"), ("b", "auth_logout")],
        ),
    ];
    for (document, kind, name, fields) in cases {
        let operation = only(document);
        assert_eq!((operation.kind.as_str(), operation.name.as_deref()), (kind, name), "{document}");
        assert_eq!(names(&operation), fields, "{document}");
    }
}

#[test]
fn arguments_are_found_in_the_text_in_variables_and_in_defaults() {
    let operation = only(
        r#"mutation ($p: Hash, $d: In = {role: "editor"}, $m: Int) {
            update(data: {password: $p, note: "a \"b\" \u00fc \ud83d\ude00", list: [1, {x: true}], none: null}, extra: $d, mode: session, m: $m)
        }"#,
    );
    let field = &operation.fields[0];
    let variables = json!({"p": "secret", "m": {"deep": [7]}});
    let cases = [
        ("/data/password", text("secret")),
        ("/data/note", text("a \"b\" ü 😀")),
        ("/data/list/0", text("1")),
        ("/data/list/1/x", text("true")),
        ("/data/none", Some(Found::Null)),
        ("/data", Some(Found::Nested)),
        ("/extra/role", text("editor")),
        ("/mode", text("session")),
        ("/m/deep/0", text("7")),
        ("/m/deep", Some(Found::Nested)),
        ("/m/none", None),
        ("/data/absent", None),
        ("/none", None),
        ("", None),
    ];
    for (pointer, expected) in cases {
        assert_eq!(operation.argument(field, pointer, Some(&variables)), expected, "{pointer}");
    }
    assert_eq!(operation.argument(field, "/data/password", None), None, "a variable that was not sent");
}

#[test]
fn a_login_inside_a_fragment_is_a_login() {
    let operation = only(
        "mutation { ...A ... on Mutation { b: auth_login(email: \"b@x\") } ... @include(if: true) { auth_logout } }
         fragment A on Mutation { ...B }
         fragment B on Mutation { auth_login(email: \"a@x\") { token } }",
    );
    let fields = [("auth_login", "auth_login"), ("b", "auth_login"), ("auth_logout", "auth_logout")];
    assert_eq!(names(&operation), fields);
}

#[test]
fn of_several_operations_the_named_one_counts() {
    let document = parse("query a { x } mutation b { y }").expect("a document");
    assert_eq!(document.operation(Some("b")).map(|o| o.kind), Some(OperationKind::Mutation));
    assert!(document.operation(None).is_none() && document.operation(Some("c")).is_none());
}

#[test]
fn block_strings_and_braces_within_texts_are_no_braces() {
    let operation = only("{ a(x: \"\"\"}\\\"\"\" { \"\"\") { b(y: \"}}\") { c } } d }");
    assert_eq!(names(&operation), [("a", "a"), ("d", "d")]);
    assert_eq!(operation.argument(&operation.fields[0], "/x", None), text("}\"\"\" {"));
}

#[test]
fn what_is_no_document_is_none() {
    for document in [
        "",
        "   # nothing",
        "{",
        "{ a ",
        "{ a } }",
        "mutation { a(x: ) }",
        "{ a(x: \"open) }",
        "fragment F on T { a }",
        "type T { a: Int }",
        "{ a(x: \"\\ud83d\") }",
        "select * from users",
        "a simple search phrase",
        "{ .. }",
        "ü",
    ] {
        assert!(parse(document).is_none(), "{document}");
    }
}

#[test]
fn depth_fields_and_fragments_are_bounded() {
    let deep = |n: usize| format!("{{ a(x: {}1{}) }}", "[".repeat(n), "]".repeat(n));
    assert!(parse(&deep(MAX_DEPTH - 2)).is_some() && parse(&deep(MAX_DEPTH + 1)).is_none());
    let inline = |n: usize| format!("{{ {}a{} }}", "...{".repeat(n), "}".repeat(n));
    assert!(parse(&inline(MAX_DEPTH - 2)).is_some() && parse(&inline(100_000)).is_none());

    let many = only(&format!("{{ {} }}", "a ".repeat(MAX_FIELDS + 1)));
    assert_eq!((many.fields.len(), many.cut), (MAX_FIELDS, true));

    // Each fragment holds the next one twice: two to the power of sixteen fields if nobody counted.
    let doubling: String = (0..16).map(|n| format!("fragment F{n} on T {{ ...F{m} ...F{m} }}", m = n + 1)).collect();
    let bomb = only(&format!("{{ ...F0 }} {doubling} fragment F16 on T {{ a }}"));
    assert!(bomb.cut && bomb.fields.len() <= MAX_FIELDS);
    let looped = only("{ ...F } fragment F on T { ...F }");
    assert!(looped.cut && looped.fields.is_empty());
}

proptest! {
    #[test]
    fn any_text_is_a_document_or_not(text in "[\\PC\n]{0,80}", pointer in ".*") {
        if let Some(operation) = parse(&text).and_then(|d| d.operation(None)) {
            for field in &operation.fields {
                let _ = operation.argument(field, &pointer, None);
            }
        }
    }

    #[test]
    fn any_soup_of_tokens_is_a_document_or_not(
        tokens in proptest::collection::vec(
            proptest::sample::select(vec!["{", "}", "(", ")", "a", ":", "$", "...", "on", "\"", "\"\"\"", "@", "[", "]", "mutation", "fragment", "=", "1"]),
            0..40,
        )
    ) {
        let text = tokens.join(" ");
        if let Some(operation) = parse(&text).and_then(|d| d.operation(None)) {
            prop_assert!(operation.fields.len() <= MAX_FIELDS);
        }
    }

    #[test]
    fn a_cut_document_is_no_document(at: proptest::sample::Index) {
        let whole = "mutation login($e: String!) { auth_login(email: $e, password: \"p\") { expires } }";
        prop_assert!(parse(&whole[..at.index(whole.len())]).is_none());
    }

    #[test]
    fn texts_survive_being_written_as_json(value in "\\PC{0,40}") {
        let operation = only(&format!("{{ a(x: {}) }}", json!(value)));
        prop_assert_eq!(operation.argument(&operation.fields[0], "/x", None), Some(Found::Text(value)));
    }
}
