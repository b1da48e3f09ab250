//! Heads of HTTP/1, of requests and of answers: no panic, the same whatever the pieces, and what is read
//! can be written and read again with the same meaning.
#![no_main]

use authtap::proxy::http1::head::{
    Allowed, AnswerHead, HeadFault, HeadReader, RequestHead, write_answer, write_request,
};
use bytes::BytesMut;
use http::{Method, Version};
use libfuzzer_sys::fuzz_target;

const ALLOWED: Allowed = Allowed { headers: 20, bytes: 1024 };
/// What is written may be longer than what was read.
const MORE: Allowed = Allowed { headers: 20, bytes: 4096 };

type Read<T> = Result<Option<T>, HeadFault>;

/// What one reads out of pieces, and how much is left behind it.
fn read<'b, T>(
    pieces: impl Iterator<Item = &'b [u8]>,
    mut next: impl FnMut(&mut HeadReader, &mut BytesMut) -> Read<T>,
) -> (Read<T>, Vec<u8>) {
    let (mut reader, mut buf, mut found) = (HeadReader::default(), BytesMut::new(), Ok(None));
    for piece in pieces {
        buf.extend_from_slice(piece);
        if matches!(found, Ok(None)) {
            found = next(&mut reader, &mut buf);
        }
    }
    (found, buf.to_vec())
}

fn request(reader: &mut HeadReader, buf: &mut BytesMut) -> Read<RequestHead> {
    reader.request(buf, ALLOWED)
}

fn same_request(a: &RequestHead, b: &RequestHead) {
    assert_eq!(a.parts.method, b.parts.method);
    assert_eq!(a.parts.uri, b.parts.uri);
    assert_eq!(a.parts.version, b.parts.version);
    assert_eq!(a.parts.headers, b.parts.headers);
    assert_eq!((a.framing, a.keep_alive), (b.framing, b.keep_alive));
}

fn same_answer(a: &AnswerHead, b: &AnswerHead) {
    assert_eq!(a.parts.status, b.parts.status);
    assert_eq!(a.parts.headers, b.parts.headers);
    assert_eq!(reason(a), reason(b));
}

/// The words of an answer: its own, or where it has none that can be read the usual ones.
fn reason(head: &AnswerHead) -> Vec<u8> {
    let own = head.parts.reason.map(|reason| head.parts.headers.part(reason).to_vec());
    own.unwrap_or_else(|| head.parts.status.canonical_reason().unwrap_or_default().into())
}

fn same_end(a: &AnswerHead, b: &AnswerHead) -> bool {
    (a.framing, a.keep_alive) == (b.framing, b.keep_alive)
}

/// Pieces may only let a fault be seen later, or not before the end.
fn agree<T>(whole: &(Read<T>, Vec<u8>), pieces: &(Read<T>, Vec<u8>), same: impl Fn(&T, &T)) {
    match (&whole.0, &pieces.0) {
        (Ok(Some(a)), Ok(Some(b))) => {
            same(a, b);
            assert_eq!(whole.1, pieces.1);
        }
        (Ok(None), Ok(None)) | (Err(_), Err(_) | Ok(None)) => {}
        (a, b) => panic!("a head in one piece: {}, in many: {}", shown(a), shown(b)),
    }
}

fn shown<T>(read: &Read<T>) -> String {
    read.as_ref().map(Option::is_some).map_or_else(|fault| format!("{fault:?}"), |some| some.to_string())
}

fuzz_target!(|data: &[u8]| {
    // The first byte says how large the pieces are, and what was asked.
    let Some((size, bytes)) = data.split_first() else { return };
    let step = usize::from(*size) % 37 + 1;

    let whole = read(std::iter::once(bytes), request);
    agree(&whole, &read(bytes.chunks(step), request), same_request);
    if let Ok(Some(head)) = whole.0 {
        let RequestHead { parts, framing, .. } = &head;
        let mut out = Vec::new();
        write_request(&mut out, parts);
        // A target in authority-form is not passed on.
        if parts.uri.path_and_query().is_some() {
            let mut buf = BytesMut::from(&out[..]);
            let again = HeadReader::default().request(&mut buf, MORE).expect("a head").expect("a whole head");
            assert!(buf.is_empty());
            assert_eq!(again.parts.method, parts.method);
            assert_eq!((again.parts.uri.path(), again.parts.uri.query()), (parts.uri.path(), parts.uri.query()));
            assert_eq!(again.parts.headers, parts.headers);
            assert_eq!(again.framing, *framing);
        }
    }

    let asked = if size & 0x80 == 0 { Method::GET } else { Method::HEAD };
    let answer = |reader: &mut HeadReader, buf: &mut BytesMut| reader.answer(buf, &asked, ALLOWED);
    let whole = read(std::iter::once(bytes), answer);
    agree(&whole, &read(bytes.chunks(step), answer), |a, b| {
        same_answer(a, b);
        assert!(same_end(a, b));
    });
    if let Ok(Some(head)) = whole.0 {
        let again = [Version::HTTP_11, Version::HTTP_10].map(|version| {
            let mut out = Vec::new();
            write_answer(&mut out, version, &head.parts);
            out.extend_from_slice(b"\r\n");
            let mut buf = BytesMut::from(&out[..]);
            let again = HeadReader::default().answer(&mut buf, &asked, MORE).expect("a head").expect("a whole head");
            assert!(buf.is_empty());
            same_answer(&head, &again);
            again
        });
        // A connection goes on or not by the version, which is one of the two.
        assert!(again.iter().any(|again| same_end(&head, again)));
    }
});
