use futures_util::task::noop_waker;
use http::HeaderValue;

use super::*;

/// A stream that takes so many bytes before it is full, and remembers them.
#[derive(Default)]
struct Narrow {
    took: Vec<u8>,
    room: usize,
}

impl AsyncWrite for Narrow {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let n = buf.len().min(self.room);
        if n == 0 {
            return Poll::Pending;
        }
        self.room -= n;
        self.took.extend_from_slice(&buf[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";

struct Case {
    interim: Interim,
    stream: InterimStream<Narrow>,
}

impl Case {
    fn new(room: usize) -> Case {
        let interim = Interim::new();
        let stream = InterimStream::new(Narrow { took: Vec::new(), room }, interim.clone());
        Case { interim, stream }
    }

    fn begin(&self) {
        let begun = self.interim.begin();
        let mut begun = std::pin::pin!(begun);
        assert!(begun.as_mut().poll(&mut Context::from_waker(&noop_waker())).is_ready());
    }

    fn hint(&self) {
        let headers = HeaderMap::from_iter([(header::LINK, HeaderValue::from_static("</a.css>"))]);
        let request = self.interim.state().request;
        self.interim.say(request, StatusCode::EARLY_HINTS, &headers);
    }

    fn write(&mut self, text: &str) -> Option<usize> {
        let polled = Pin::new(&mut self.stream).poll_write(&mut Context::from_waker(&noop_waker()), text.as_bytes());
        match polled {
            Poll::Ready(written) => Some(written.expect("no error")),
            Poll::Pending => None,
        }
    }

    fn flush(&mut self) -> bool {
        Pin::new(&mut self.stream).poll_flush(&mut Context::from_waker(&noop_waker())).is_ready()
    }

    fn took(&self) -> &str {
        std::str::from_utf8(&self.stream.inner.took).expect("text")
    }
}

#[test]
fn a_hint_goes_out_at_once_between_messages_and_before_the_final_answer() {
    let mut case = Case::new(1000);
    case.begin();
    case.hint();
    assert!(case.flush(), "hyper's next turn");
    assert_eq!(case.took(), HINT);
    case.hint();
    // The answer came in the same turn: hyper writes before it flushes.
    case.interim.end();
    assert_eq!(case.write("final"), Some(5));
    assert_eq!(case.took(), format!("{HINT}{HINT}final"));
}

#[test]
fn a_hint_never_gets_into_an_earlier_answer() {
    let mut case = Case::new(3);
    assert_eq!(case.write("first"), Some(3));
    assert_eq!(case.write("st"), None, "the client does not read");
    case.begin();
    case.hint();
    case.stream.inner.room = 1000;
    assert_eq!(case.write("st"), Some(2));
    assert_eq!(case.took(), "first");
    assert!(case.flush());
    assert_eq!(case.took(), format!("first{HINT}"));
}

#[test]
fn a_hint_that_found_no_moment_is_dropped_with_the_final_answer() {
    let mut case = Case::new(3);
    assert_eq!(case.write("first"), Some(3));
    case.begin();
    case.hint();
    case.interim.end();
    case.stream.inner.room = 1000;
    assert_eq!(case.write("stsecond"), Some(8));
    assert!(case.flush());
    assert_eq!(case.took(), "firstsecond", "it would belong to a third request");
    case.hint();
    assert!(case.flush());
    assert_eq!(case.took(), "firstsecond", "nobody waits for it");
}

#[test]
fn a_hint_that_has_begun_ends_before_anything_else() {
    let mut case = Case::new(10);
    case.begin();
    case.hint();
    assert!(!case.flush());
    case.interim.end();
    assert_eq!(case.write("final"), None);
    case.stream.inner.room = 1000;
    assert_eq!(case.write("final"), Some(5));
    assert_eq!(case.took(), format!("{HINT}final"));
}

#[test]
fn their_number_and_size_are_bounded_and_what_describes_a_connection_stays_here() {
    let mut case = Case::new(usize::MAX);
    case.begin();
    for _ in 0..100 {
        case.hint();
    }
    assert!(case.flush());
    assert_eq!(case.took().len(), HINT.len() * MAX_HEADS);

    let mut case = Case::new(usize::MAX);
    case.begin();
    let large = HeaderMap::from_iter([(header::LINK, HeaderValue::try_from("x".repeat(MAX_BYTES)).expect("a value"))]);
    case.interim.say(1, StatusCode::EARLY_HINTS, &large);
    let lines =
        [("connection", "x-a"), ("x-a", "1"), ("content-length", "7"), ("x-b", "2"), ("transfer-encoding", "chunked")];
    let lines = lines.map(|(n, v)| (http::HeaderName::from_static(n), HeaderValue::from_static(v)));
    case.interim.say(1, StatusCode::from_u16(199).expect("a status"), &HeaderMap::from_iter(lines));
    assert!(case.flush());
    assert_eq!(case.took(), "HTTP/1.1 199 \r\nx-b: 2\r\n\r\n");
}

#[test]
fn what_is_said_about_an_earlier_request_is_not_passed_on() {
    let mut case = Case::new(1000);
    case.begin();
    case.interim.end();
    case.begin();
    case.interim.say(1, StatusCode::EARLY_HINTS, &HeaderMap::new());
    assert!(case.flush());
    assert_eq!(case.took(), "");
    case.interim.say(2, StatusCode::EARLY_HINTS, &HeaderMap::new());
    assert!(case.flush());
    assert_eq!(case.took(), "HTTP/1.1 103 Early Hints\r\n\r\n");
}
