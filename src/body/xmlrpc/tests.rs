use proptest::prelude::*;
use serde_json::json;

use super::*;

fn value(text: &str) -> String {
    format!("<param><value><string>{text}</string></value></param>")
}

fn call(method: &str, params: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<methodCall><methodName>{method}</methodName><params>{params}</params></methodCall>"
    )
}

fn one(body: &str) -> Call {
    let mut read = calls(body.as_bytes(), false).expect("a call");
    assert_eq!((read.calls.len(), read.multicall, read.cut), (1, false, false));
    read.calls.remove(0)
}

#[test]
fn method_and_parameters_are_read_by_position() {
    let found = one(&call("wp.getUsersBlogs", &(value("alice") + &value("p&amp;&#119;&lt;"))));
    assert_eq!(found.method, "wp.getUsersBlogs");
    assert_eq!(found.params, [json!("alice"), json!("p&w<")]);
}

#[test]
fn every_type_and_spelling_has_its_value() {
    let params = "<param><value>bare</value></param><param><value><i4> 7</i4></value></param>\
        <param><value><struct><member><name>user</name><value><string>bob</string></value></member></struct></value></param>\
        <param><value><array><data><value><boolean>1</boolean></value><value/></data></array></value></param>\
        <param><value><nil/></value></param><param><value><string/></value></param><param><value><![CDATA[<x>]]></value></param>";
    let found = one(&call("<!-- who --> <![CDATA[demo]]>.a ", params));
    assert_eq!(found.method, "demo.a");
    let expected =
        [json!("bare"), json!(" 7"), json!({"user": "bob"}), json!(["1", ""]), json!(null), json!(""), json!("<x>")];
    assert_eq!(found.params, expected);
}

fn multicall(users: usize) -> String {
    let one = |n: usize| {
        format!(
            "<value><struct><member><name>methodName</name><value><string>wp.getUsersBlogs</string></value></member>\
             <member><name>params</name><value><array><data><value><string>u{n}</string></value>\
             <value><string>guess</string></value></data></array></value></member></struct></value>"
        )
    };
    let all: String = (0..users).map(one).collect();
    call("system.multicall", &format!("<param><value><array><data>{all}</data></array></value></param>"))
}

#[test]
fn each_call_of_a_multicall_is_a_call_and_they_are_bounded() {
    let read = calls(multicall(3).as_bytes(), false).expect("calls");
    assert!(read.multicall && !read.cut);
    let users: Vec<_> = read.calls.iter().map(|c| (c.method.as_str(), c.params[0].clone())).collect();
    assert_eq!(users, [0, 1, 2].map(|n| ("wp.getUsersBlogs", json!(format!("u{n}")))));

    let read = calls(multicall(MAX_CALLS + 1).as_bytes(), false).expect("calls");
    assert_eq!((read.calls.len(), read.cut), (MAX_CALLS, true));
}

#[test]
fn of_a_cut_multicall_the_complete_calls_are_known() {
    let whole = multicall(10);
    let read = calls(&whole.as_bytes()[..whole.len() / 2], true).expect("calls");
    assert!(read.cut && (3..=5).contains(&read.calls.len()), "{}", read.calls.len());
    assert!(read.calls.iter().all(|c| c.params.len() == 2));
}

#[test]
fn faults_and_values_are_told_apart() {
    let fault = |code: u16| {
        format!(
            "<value><struct><member><name>faultCode</name><value><int>{code}</int></value></member>\
             <member><name>faultString</name><value><string>Incorrect</string></value></member></struct></value>"
        )
    };
    let failed = format!("<?xml version=\"1.0\"?><methodResponse><fault>{}</fault></methodResponse>", fault(403));
    let expected = json!({"faultCode": "403", "faultString": "Incorrect"});
    assert_eq!(answers(failed.as_bytes(), false, false), Some(vec![Answer::Fault(expected.clone())]));

    let good = format!("<methodResponse><params>{}</params></methodResponse>", value("hello"));
    assert_eq!(answers(good.as_bytes(), false, false), Some(vec![Answer::Value(json!("hello"))]));

    let both = format!(
        "<methodResponse><params><param><value><array><data>{}<value><array><data><value>ok</value></data></array></value>\
         </data></array></value></param></params></methodResponse>",
        fault(403)
    );
    let expected = vec![Answer::Fault(expected), Answer::Value(json!("ok"))];
    assert_eq!(answers(both.as_bytes(), false, true), Some(expected));
}

#[test]
fn declarations_are_not_read_and_nothing_is_expanded() {
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><methodCall>\
                <methodName>&b;</methodName></methodCall>";
    assert_eq!(calls(bomb.as_bytes(), false), None);
    assert_eq!(one(&format!("<!DOCTYPE methodCall>{}", call("&b;", ""))).method, "&b;");
}

#[test]
fn what_is_no_call_is_none() {
    for body in [
        "",
        "hello",
        "<html><body>hello</body></html>",
        "<methodResponse><params/></methodResponse>",
        "<methodCall></methodCall>",
        "<methodCall><methodName>a</methodName>",
        "</methodCall>",
    ] {
        assert_eq!(calls(body.as_bytes(), false), None, "{body}");
    }
    let deep = format!("<methodCall><methodName>a</methodName><params>{}", "<value><array><data>".repeat(100_000));
    assert_eq!(calls(deep.as_bytes(), true), None);
}

proptest! {
    #[test]
    fn any_bytes_are_a_call_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut: bool) {
        let _ = (calls(&bytes, cut), answers(&bytes, cut, true));
    }

    #[test]
    fn any_soup_of_tags_is_a_call_or_not(
        tags in proptest::collection::vec(
            proptest::sample::select(vec![
                "<value>", "</value>", "<array>", "</array>", "<data>", "</data>", "<struct>", "</struct>", "<member>",
                "</member>", "<name>", "</name>", "params", "methodName", "<nil/>", "<fault>", "</fault>", "x", "&amp;",
            ]),
            0..40,
        ),
        cut: bool,
    ) {
        for root in ["methodCall", "methodResponse"] {
            let body = format!("<{root}><methodName>system.multicall</methodName>{}", tags.concat());
            let _ = (calls(body.as_bytes(), cut), answers(body.as_bytes(), cut, cut));
        }
    }

    #[test]
    fn a_prefix_never_yields_what_the_whole_does_not(at: proptest::sample::Index, users in 1_usize..4) {
        let whole = multicall(users);
        let all = calls(whole.as_bytes(), false).expect("calls");
        if let Some(read) = calls(&whole.as_bytes()[..at.index(whole.len())], true) {
            prop_assert!(read.cut && all.calls.starts_with(&read.calls));
        }
        let single = call("a.b", &(value("alice") + &value("x")));
        let whole = one(&single);
        if let Some(read) = calls(&single.as_bytes()[..at.index(single.len())], true) {
            let found = &read.calls[0];
            prop_assert!(found.method == whole.method && whole.params.starts_with(&found.params));
        }
    }
}
