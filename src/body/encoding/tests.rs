use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const PAGE: &[u8] = b"hello hello hello authtap, this is a login page: <input type=\"password\">";
/// `PAGE` by `zstd -19` (one compressed block, with a checksum).
const PAGE_ZSTD: &[u8] = &[
    0x28, 0xb5, 0x2f, 0xfd, 0x24, 0x48, 0xe5, 0x01, 0x00, 0xc2, 0x03, 0x0d, 0x12, 0xa0, 0xbb, 0x01, 0x44, 0x12, 0xc3,
    0x5e, 0xbf, 0xf7, 0x4a, 0x55, 0xa2, 0x1d, 0x0c, 0x3e, 0x55, 0xac, 0x06, 0x05, 0x18, 0xb6, 0x1c, 0x33, 0x2e, 0x20,
    0xb9, 0xaf, 0xdf, 0x6d, 0x95, 0x8e, 0x8b, 0x3c, 0xb8, 0x57, 0x7a, 0x56, 0x3a, 0x9e, 0xf5, 0xac, 0xa8, 0x1f, 0x16,
    0x1b, 0x75, 0xc3, 0xaf, 0x94, 0x12, 0x05, 0x01, 0x00, 0xe1, 0x4a, 0x11, 0xae, 0xf7, 0xcd, 0x2c,
];
/// `PAGE` by brotli at quality 11.
const PAGE_BROTLI: &[u8] = &[
    0x1b, 0x47, 0x00, 0xe8, 0x1d, 0x09, 0x36, 0x4e, 0xf4, 0x39, 0xdf, 0x89, 0x95, 0x61, 0x68, 0x74, 0xe5, 0x53, 0x97,
    0x3a, 0x70, 0x74, 0x1e, 0x70, 0xd1, 0xcf, 0x71, 0xed, 0x69, 0xb0, 0x01, 0x87, 0xa1, 0x2e, 0xf2, 0xb4, 0x0c, 0xd3,
    0x5c, 0x43, 0x7a, 0xeb, 0x7a, 0x65, 0x11, 0x02, 0xf1, 0xaa, 0x8c, 0xb5, 0x20, 0x08,
];
/// A Zstandard frame header: a window of 8 MiB, no size, no checksum.
const ZSTD_HEADER: [u8; 6] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3];

fn codings(values: &[&str]) -> Headers {
    let values = values.iter().map(|v| (header::CONTENT_ENCODING, HeaderValue::from_str(v).unwrap()));
    values.collect()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlibbed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A Zstandard block of `kind` (0 raw, 1 repeated byte) whose size field is `size`.
fn zstd_block(last: bool, kind: u32, size: u32, content: &[u8]) -> Vec<u8> {
    let head = u32::from(last) | kind << 1 | size << 3;
    [&head.to_le_bytes()[..3], content].concat()
}

#[track_caller]
fn assert_whole(bytes: &[u8], headers: &Headers, expected: &[u8]) {
    let decoded = decode(bytes, headers, 1 << 20);
    assert_eq!((&*decoded.bytes, decoded.cut, decoded.failed), (expected, false, None));
}

#[test]
fn every_coding_is_taken_off() {
    assert_whole(PAGE, &Headers::new(), PAGE);
    assert_whole(PAGE, &codings(&["identity"]), PAGE);
    for name in ["gzip", "GZip", "x-gzip", " gzip , identity"] {
        assert_whole(&gzipped(PAGE), &codings(&[name]), PAGE);
    }
    assert_whole(&zlibbed(PAGE), &codings(&["deflate"]), PAGE);
    assert_whole(&deflated(PAGE), &codings(&["deflate"]), PAGE);
    assert_whole(PAGE_BROTLI, &codings(&["br"]), PAGE);
    assert_whole(PAGE_ZSTD, &codings(&["zstd"]), PAGE);
}

#[test]
fn raw_deflate_is_read_even_if_it_begins_like_zlib() {
    let stored = [0x78, 0x01, 0x00, 0xfe, 0xff, b'a', 0x03, 0x00];
    assert!(looks_like_zlib(&stored));
    assert_whole(&stored, &codings(&["deflate"]), b"a");
}

#[test]
fn stacked_codings_come_off_in_reverse_over_several_lines() {
    assert_whole(&gzipped(&zlibbed(PAGE)), &codings(&["deflate, gzip"]), PAGE);
    assert_whole(&gzipped(PAGE_BROTLI), &codings(&["br", "gzip"]), PAGE);
    assert_whole(&gzipped(&gzipped(PAGE_ZSTD)), &codings(&["zstd", "gzip,gzip"]), PAGE);
}

#[test]
fn what_is_unknown_or_stacked_too_high_fails_with_nothing() {
    for values in [&["compress"][..], &["gzip, dcb"], &["gzip,gzip", "gzip,gzip"]] {
        let decoded = decode(PAGE, &codings(values), 100);
        assert!(decoded.failed.is_some() && decoded.cut && decoded.bytes.is_empty(), "{values:?}: {decoded:?}");
    }
}

#[test]
fn an_empty_body_is_whole_whatever_its_coding() {
    for name in ["gzip", "deflate", "br", "zstd", "compress"] {
        assert_whole(b"", &codings(&[name]), b"");
    }
}

#[test]
fn what_is_not_what_it_says_fails() {
    for name in ["gzip", "deflate", "br", "zstd"] {
        let decoded = decode(b"<html><body>not compressed at all</body></html>", &codings(&[name]), 1000);
        assert!(decoded.failed.is_some() && decoded.cut, "{name}: {decoded:?}");
    }
}

#[test]
fn a_gzip_bomb_ends_at_the_cap() {
    let bomb = gzipped(&vec![0; 64 << 20]);
    assert!(bomb.len() < 70_000);
    for (bytes, values) in [(&bomb, &["gzip"][..]), (&gzipped(&bomb), &["gzip", "gzip"])] {
        let decoded = decode(bytes, &codings(values), 100_000);
        assert_eq!((decoded.bytes.len(), decoded.cut, decoded.failed), (100_000, true, None));
        assert!(matches!(decoded.bytes, Cow::Owned(bytes) if bytes.capacity() <= 1 << 18));
    }
}

#[test]
fn a_zstd_bomb_of_repeated_bytes_ends_at_the_cap() {
    let block = zstd_block(false, 1, 128 << 10, b"A");
    let bomb = [&ZSTD_HEADER[..], &block.repeat(16_000)].concat();
    let decoded = decode(&bomb, &codings(&["zstd"]), 100_000).bytes;
    assert_eq!(&*decoded, vec![b'A'; 100_000]);
}

#[test]
fn a_zstd_window_that_no_browser_would_take_is_refused() {
    let mut frame = ZSTD_HEADER.to_vec();
    frame[5] += 1;
    frame.extend(zstd_block(true, 0, 2, b"hi"));
    let decoded = decode(&frame, &codings(&["zstd"]), 100);
    assert_eq!(decoded.failed, Some("the zstd window is larger than 8 MiB"));
    frame[5] -= 1;
    assert_whole(&frame, &codings(&["zstd"]), b"hi");
}

#[test]
fn a_cut_zstd_body_gives_the_blocks_that_were_whole_though_its_window_is_larger() {
    let frame = [&ZSTD_HEADER[..], &zstd_block(false, 0, 3, b"abc"), &zstd_block(false, 1, 4, b"d")].concat();
    let decoded = decode(&frame, &codings(&["zstd"]), 100);
    assert_eq!((&*decoded.bytes, decoded.cut, decoded.failed), (&b"abcdddd"[..], true, None));
}

#[test]
fn gzip_members_and_zstd_frames_are_read_one_after_the_other_up_to_a_bound() {
    let two = [gzipped(b"one "), gzipped(b"two")].concat();
    assert_whole(&two, &codings(&["gzip"]), b"one two");
    assert_whole(&[two, b"\0\0padding".to_vec()].concat(), &codings(&["gzip"]), b"one two");
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9];
    let frames = [PAGE_ZSTD, &skippable, PAGE_ZSTD].concat();
    assert_whole(&frames, &codings(&["zstd"]), &PAGE.repeat(2));
    for (name, member) in [("gzip", gzipped(b"x")), ("zstd", PAGE_ZSTD.to_vec())] {
        let many = decode(&member.repeat(MAX_MEMBERS + 1), &codings(&[name]), 1 << 20).cut;
        assert!(many, "{name}");
        let just = decode(&member.repeat(MAX_MEMBERS), &codings(&[name]), 1 << 20).cut;
        assert!(!just, "{name}");
    }
}

#[test]
fn the_cap_is_exact_and_holds_for_plain_bodies_too() {
    for (bytes, name) in [
        (PAGE.to_vec(), "identity"),
        (gzipped(PAGE), "gzip"),
        (zlibbed(PAGE), "deflate"),
        (PAGE_BROTLI.to_vec(), "br"),
        (PAGE_ZSTD.to_vec(), "zstd"),
    ] {
        let at = decode(&bytes, &codings(&[name]), PAGE.len());
        assert_eq!((&*at.bytes, at.cut, at.failed), (PAGE, false, None), "{name}");
        let below = decode(&bytes, &codings(&[name]), PAGE.len() - 1);
        assert_eq!((&*below.bytes, below.cut, below.failed), (&PAGE[..PAGE.len() - 1], true, None), "{name}");
        let none = decode(&bytes, &codings(&[name]), 0);
        assert_eq!((none.bytes.len(), none.cut), (0, true), "{name}");
    }
}

#[test]
fn a_prefix_of_any_coding_gives_a_prefix_and_says_so() {
    let long: Vec<u8> = (0..40_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_string().into_bytes()).collect();
    for (bytes, name, whole) in [
        (gzipped(&long), "gzip", &long[..]),
        (zlibbed(&long), "deflate", &long),
        (deflated(&long), "deflate", &long),
        (PAGE_BROTLI.to_vec(), "br", PAGE),
        (PAGE_ZSTD.to_vec(), "zstd", PAGE),
    ] {
        let step = bytes.len() / 50 + 1;
        for end in (1..bytes.len()).step_by(step) {
            let decoded = decode(&bytes[..end], &codings(&[name]), 1 << 20);
            assert!(decoded.cut && whole.starts_with(&decoded.bytes), "{name} {end}: {decoded:?}");
            assert_eq!(decoded.failed, None, "{name} {end}");
        }
        if whole.len() > 1000 {
            let half = decode(&bytes[..bytes.len() / 2], &codings(&[name]), 1 << 20);
            assert!(half.bytes.len() > whole.len() / 3, "{name}: {half:?}");
        }
    }
}

#[test]
fn text_follows_the_declared_character_set() {
    let cases: [(&[u8], &str, &str); 9] = [
        ("ü€".as_bytes(), "text/html", "ü€"),
        ("ü€".as_bytes(), "text/html; charset=utf-8", "ü€"),
        (b"J\xf6rg \x80", "text/html; charset=ISO-8859-1", "Jörg €"),
        (b"J\xf6rg \x80", "text/html; charset=\"Windows-1252\"", "Jörg €"),
        (b"\x81\x9f\xa0", "text/html; charset=cp1252", "\u{81}Ÿ\u{a0}"),
        (b"J\xf6rg", "text/html", "J\u{fffd}rg"),
        (b"J\xf6rg", "text/html; charset=koi8-r", "J\u{fffd}rg"),
        (b"\xef\xbb\xbf\xc3\xbc", "text/html; charset=latin1", "ü"),
        (b"plain", "text/html; charset=latin1", "plain"),
    ];
    for (bytes, content_type, expected) in cases {
        assert_eq!(text(bytes, content_type), expected, "{content_type}");
    }
    assert!(matches!(text(b"plain", "text/html; charset=latin1"), Cow::Borrowed(_)));
}

#[test]
fn debug_shows_no_contents() {
    assert!(!format!("{:?}", decode(b"hunter2", &Headers::new(), 100)).contains("hunter"));
}

fn any_coding() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just("gzip"), Just("deflate"), Just("br"), Just("zstd"), Just("identity"), Just("x")];
    proptest::collection::vec(name, 0..5).prop_map(|names| names.join(","))
}

proptest! {
    #[test]
    fn any_bytes_in_any_coding_stay_under_the_cap(
        bytes in proptest::collection::vec(any::<u8>(), 0..600), names in any_coding(), cap in 0_usize..5000,
    ) {
        let decoded = decode(&bytes, &codings(&[&names]), cap);
        prop_assert!(decoded.bytes.len() <= cap);
        prop_assert!(decoded.failed.is_none() || decoded.cut);
    }

    #[test]
    fn damaged_bodies_stay_under_the_cap(
        which in 0_usize..5, hits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (mut bytes, name) = match which {
            0 => (gzipped(PAGE), "gzip"),
            1 => (zlibbed(PAGE), "deflate"),
            2 => (deflated(PAGE), "deflate"),
            3 => (PAGE_BROTLI.to_vec(), "br"),
            _ => (PAGE_ZSTD.to_vec(), "zstd"),
        };
        for (at, byte) in hits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert!(decode(&bytes, &codings(&[name]), 2000).bytes.len() <= 2000);
    }

    #[test]
    fn what_was_encoded_is_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        for (encoded, name) in [(gzipped(&bytes), "gzip"), (zlibbed(&bytes), "deflate"), (deflated(&bytes), "deflate")] {
            let decoded = decode(&encoded, &codings(&[name]), 3000);
            prop_assert_eq!((&*decoded.bytes, decoded.cut, decoded.failed), (&bytes[..], false, None));
        }
    }

    #[test]
    fn any_bytes_are_some_text(bytes in proptest::collection::vec(any::<u8>(), 0..300), content_type in ".*") {
        let _ = text(&bytes, &content_type);
        prop_assert_eq!(western(&bytes).chars().count(), bytes.len());
    }
}
