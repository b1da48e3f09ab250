//! Bodies of any size go through in little memory, with capture on. Measured on the real program
//! as a process of its own, so that nothing else counts.

use std::io::Write;

use crate::harness::binary::Running;
use crate::harness::{Client, Origin};

const GIB: usize = 1 << 30;
/// A debug build, its allocator, two kept prefixes and the buffers of both sides; the body itself
/// is sixteen times that.
const MOST_KIB: u64 = 64 << 10;

/// A mebibyte without a short period, so that a lost or doubled piece shows.
fn pattern() -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut block = Vec::with_capacity(1 << 20);
    while block.len() < 1 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend_from_slice(&state.to_le_bytes());
    }
    block
}

/// Reads `total` bytes and compares each with the repeated pattern.
fn check(pattern: &[u8], total: usize, mut some: impl FnMut(&mut [u8]) -> usize) -> Result<(), String> {
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    while at < total {
        let want = buffer.len().min(total - at);
        let n = some(&mut buffer[..want]);
        if n == 0 {
            return Err(format!("the body ended after {at} of {total} bytes"));
        }
        let mut seen = &buffer[..n];
        while !seen.is_empty() {
            let from = at % pattern.len();
            let (now, rest) = seen.split_at(seen.len().min(pattern.len() - from));
            if *now != pattern[from..from + now.len()] {
                return Err(format!("the body differs within the {} bytes from {at}", now.len()));
            }
            at += now.len();
            seen = rest;
        }
    }
    Ok(())
}

#[test]
fn a_gibibyte_each_way_goes_through_unchanged_in_bounded_memory() {
    let origin = Origin::raw(|conn| {
        let pattern = pattern();
        while let Some(head) = conn.head() {
            if head.start().starts_with("GET") {
                conn.send(
                    format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {GIB}\r\n\r\n").as_bytes(),
                );
                for _ in 0..GIB / pattern.len() {
                    if !conn.send(&pattern) {
                        return;
                    }
                }
            } else {
                let verdict = match check(&pattern, GIB, |into| conn.some(into)) {
                    Ok(()) => "every byte is here".to_owned(),
                    Err(why) => why,
                };
                conn.send(&crate::harness::answer("200 OK", &[], verdict));
            }
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("routes.yaml");
    let routes = r#"
version: 1
workers: 1
sinks: []
routes:
  - id: everything
    match: { path: /big }
    rules: [ { when: { form: { a: b } }, outcome: success }, { when: { body: { contains: welcome } }, outcome: success } ]
    emit: data.exported
"#;
    std::fs::write(&file, routes).expect("a file");
    let upstream = format!("http://{}", origin.address);
    let (running, address, _) = Running::start(folder.path(), &["--config", "routes.yaml", "--upstream", &upstream]);
    let pattern = pattern();
    let before = running.resident_kib();
    let mut most = before;

    let mut client = Client::connect(address);
    client.send("GET /big HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.head().status(), 200);
    let mut reads = 0_u32;
    let down = check(&pattern, GIB, |into| {
        reads += 1;
        if reads.is_multiple_of(512) {
            most = most.max(running.resident_kib());
        }
        client.some(into)
    });
    assert_eq!(down, Ok(()));

    client.send(format!(
        "POST /big HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {GIB}\r\n\r\n"
    ));
    let mut writer = client.writer();
    for block in 0..GIB / pattern.len() {
        writer.write_all(&pattern).expect("the proxy takes it");
        if block % 64 == 0 {
            most = most.max(running.resident_kib());
        }
    }
    // The application reads and compares to the end before it answers.
    assert_eq!(client.answer("POST").text(), "every byte is here");

    most = most.max(running.resident_kib());
    assert!(most - before < MOST_KIB, "resident memory grew by {} KiB, from {before} KiB", most - before);
}
