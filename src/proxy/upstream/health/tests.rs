//! Checks of applications on Unix sockets: they die by their file and come back by it.

use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering::SeqCst;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::*;
use crate::proxy::balance::Upstreams;

/// An application that answers with the status it is told, and says what it was asked.
fn application(folder: &TempDir, name: &str) -> (Address, Arc<AtomicU16>, mpsc::Receiver<String>) {
    let path = folder.path().join(name);
    let listener = UnixListener::bind(&path).unwrap();
    let (status, (tell, told)) = (Arc::new(AtomicU16::new(204)), mpsc::channel(1000));
    let answered = status.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.is_ok_and(|n| n > 0) {}
            let answer = format!("HTTP/1.1 {} Said\r\nContent-Length: 0\r\n\r\n", answered.load(SeqCst));
            stream.write_all(answer.as_bytes()).await.unwrap();
            if tell.try_send(String::from_utf8(head).unwrap()).is_err() {
                return;
            }
        }
    });
    (Address::Unix(path), status, told)
}

fn upstream(servers: Vec<Address>, unhealthy_after: u32) -> Arc<Upstream> {
    let (interval, timeout) = (Duration::from_millis(100), Duration::from_secs(5));
    let health = Health { path: "/up?deep=1".into(), interval, timeout, healthy_after: 1, unhealthy_after };
    let upstreams = Upstreams { health: Some(health), ..servers.into() };
    Arc::new(Upstream::build(upstreams, None, std::path::Path::new("/")).unwrap())
}

async fn until(all_down: &mut watch::Receiver<bool>, wanted: bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), all_down.wait_for(|down| *down == wanted)).await;
    waited.expect("in time").expect("the checks run");
}

#[tokio::test]
async fn an_address_whose_checks_fail_is_down_until_they_are_good_again() {
    let folder = tempfile::tempdir().unwrap();
    let (address, status, mut told) = application(&folder, "a");
    let upstream = upstream(vec![address], 2);
    let down = Gauge::default();
    let checks = Checks::start(&upstream, &down).unwrap();
    let asked = told.recv().await.unwrap();
    assert!(asked.starts_with("GET /up?deep=1 HTTP/1.1\r\nhost: localhost\r\n"), "{asked}");
    let mut all_down = checks.all_down();
    assert!(!*all_down.borrow());
    status.store(500, SeqCst);
    until(&mut all_down, true).await;
    assert_eq!((down.get(), upstream.balancer.is_in(0, 0)), (1, false));
    status.store(302, SeqCst);
    until(&mut all_down, false).await;
    assert_eq!((down.get(), upstream.balancer.is_in(0, 0)), (0, true));
}

#[tokio::test]
async fn one_address_down_of_two_is_not_all_and_nobody_there_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let (good, status, mut told) = application(&folder, "a");
    let upstream = upstream(vec![good, Address::Unix(folder.path().join("nobody"))], 1);
    let checks = Checks::start(&upstream, &Gauge::default()).unwrap();
    let mut all_down = checks.all_down();
    // Two rounds of the good one: by then the other had its first.
    for _ in 0..2 {
        told.recv().await.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(20), async {
        while upstream.balancer.is_in(1, 0) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the other goes down");
    assert!(!*all_down.borrow_and_update());
    status.store(503, SeqCst);
    until(&mut all_down, true).await;
}

#[tokio::test]
async fn checks_end_with_their_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let (address, _, mut told) = application(&folder, "a");
    let upstream = upstream(vec![address], 1);
    let checks = Checks::start(&upstream, &Gauge::default()).unwrap();
    told.recv().await.unwrap();
    let mut all_down = checks.all_down();
    drop(checks);
    assert!(all_down.changed().await.is_err(), "nobody is left to say anything");
}
