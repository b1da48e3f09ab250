//! What reading one captured exchange costs: the parsers of `authtap::body` over bodies of the size
//! that logins and their answers have.

use std::hint::black_box;
use std::io::Write;

use authtap::body::{cookie, credentials, encoding, form, json, multipart};
use authtap::event::Timestamp;
use authtap::headers::Headers;
use criterion::{Criterion, Throughput};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderValue, header};

const FORM: &[u8] =
    b"csrfmiddlewaretoken=Zk3v0P9xQ2&user%5Bemail%5D=alice%40example.test&user%5Bpassword%5D=x&remember=on";
const JSON: &[u8] = br#"{"data":{"user":{"id":"usr_1","email":"alice@example.test","roles":["a","b"]},"token":"x"}}"#;
/// The claims are `{"sub":"1234567890","name":"Alice"}`; the signature is three letters.
const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkFsaWNlIn0.c2ln";

fn headers(pairs: &[(header::HeaderName, &'static str)]) -> Headers {
    pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to a vector cannot fail; if it did, the benchmark would measure an empty body.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("extract");

    group.bench_function("form_first", |b| {
        b.iter(|| form::parse(black_box(FORM), false).first("user.email").map(str::len));
    });

    let parts: String = ["csrf", "user[email]", "user[password]"]
        .map(|name| format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\nvalue of it\r\n"))
        .concat();
    let body = format!("{parts}--XX--\r\n");
    group.bench_function("multipart_first", |b| {
        let content_type = "multipart/form-data; boundary=XX";
        b.iter(|| multipart::parse(black_box(body.as_bytes()), content_type).map(|fields| fields.len()));
    });

    group.bench_function("json_pointer", |b| {
        b.iter(|| {
            json::parse(black_box(JSON)).and_then(|v| json::pointer(&v, "/data/user/id").map(|id| id.is_string()))
        });
    });

    let request = headers(&[(header::COOKIE, "theme=dark; lang=en; sessionid=0123456789abcdef0123456789abcdef")]);
    let response = headers(&[
        (header::SET_COOKIE, "csrftoken=x; expires=Thu, 14 Jan 2027 09:32:17 GMT; Max-Age=31449600; Path=/"),
        (header::SET_COOKIE, "sessionid=fedcba9876543210; HttpOnly; Path=/; expires=Thu, 29-Jan-2026 09:32:17 GMT"),
    ]);
    let at = Timestamp::from_millis(1_768_469_537_123);
    group.bench_function("cookie_change", |b| {
        b.iter(|| cookie::change(black_box(&request), black_box(&response), "sessionid", at));
    });

    let basic = headers(&[(header::AUTHORIZATION, "Basic YWxpY2VAZXhhbXBsZS50ZXN0Ong=")]);
    group.bench_function("basic_user", |b| b.iter(|| credentials::basic_user(black_box(&basic))));
    group.bench_function("jwt_claims", |b| b.iter(|| credentials::jwt_claims(black_box(JWT))));

    let page: String = (0..1_500).map(|n| format!("<li class=\"item\">number {}</li>\n", n * 7919 % 1009)).collect();
    let zipped = gzip(page.as_bytes());
    let gzipped = headers(&[(header::CONTENT_ENCODING, "gzip")]);
    group.throughput(Throughput::Bytes(page.len() as u64));
    group.bench_function("gunzip_page", |b| {
        b.iter(|| encoding::decode(black_box(&zipped), &gzipped, 1 << 20).bytes.len());
    });

    group.finish();
    criterion.final_summary();
}
