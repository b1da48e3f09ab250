use super::*;
use crate::sinks::http::receiver::{Receiver, built, problems, says};
use crate::spool::sample::stored;

#[tokio::test]
async fn an_item_has_the_event_as_its_message_and_what_the_index_goes_by() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key"), "k-1").unwrap();
    let receiver = Receiver::start(|_, _| says(202, "{}")).await;
    let yaml = format!(
        "{{ type: datadog, url: {}, token_file: key, service: shop, host: h, tags: ['env:prod', 'team:x'] }}",
        receiver.url()
    );
    let one = stored(1, "alice");
    assert!(matches!(built(&yaml, folder.path()).unwrap().send(std::slice::from_ref(&one)).await, Verdict::Delivered));
    let got = &receiver.got()[0];
    assert_eq!((got.target.as_str(), got.header("dd-api-key")), ("/api/v2/logs", Some("k-1")));
    let expected = serde_json::json!([{
        "ddsource": "authtap", "service": "shop", "hostname": "h", "ddtags": "env:prod,team:x",
        "status": "warn", "message": &*one.line,
    }]);
    assert_eq!(got.json(), expected);
}

#[test]
fn without_a_url_it_is_the_intake_of_the_first_site() {
    assert_eq!(problems("{ type: datadog, token_env: DD_API_KEY }"), "");
    let told = problems("{ type: datadog, token_env: A, tags: ['a,b'] }");
    assert!(told.contains("this is no tag"), "{told}");
}
