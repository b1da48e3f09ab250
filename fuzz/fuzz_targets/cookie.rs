//! Cookies: never a panic, and a cookie that is set is said to be something other than absent. The
//! first line of the input is the request's cookies, each further one a line of the response.
#![no_main]

use authtap::headers::Headers;
use authtap::body::cookie::{self, CookieChange, SetCookie};
use authtap::event::Timestamp;
use http::{HeaderValue, header};
use libfuzzer_sys::fuzz_target;

const AT: Timestamp = Timestamp::from_millis(1_768_469_537_000);

fuzz_target!(|data: &[u8]| {
    let (mut request, mut response) = (Headers::new(), Headers::new());
    for (n, line) in data.split(|b| *b == b'\n').take(cookie::MAX_SET_COOKIES).enumerate() {
        let Ok(value) = HeaderValue::from_bytes(line) else { continue };
        if n == 0 {
            request.append(header::COOKIE, value);
        } else {
            response.append(header::SET_COOKIE, value);
        }
    }
    let _ = cookie::request_cookies(&request).count();
    for line in response.get_all(header::SET_COOKIE) {
        let Some(set) = SetCookie::parse(line.as_bytes(), AT) else { continue };
        let Ok(name) = std::str::from_utf8(set.name) else { continue };
        assert_ne!(cookie::change(&request, &response, name, AT), CookieChange::Absent);
    }
});
