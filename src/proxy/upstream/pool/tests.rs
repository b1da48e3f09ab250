//! Pools before applications on Unix sockets: an address dies by its file and comes back by it, so
//! that no other program can take it meanwhile.

use std::path::Path;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use http::Method;

use super::*;
use crate::proxy::balance::{FAILURES, FIRST_OUT_MS, Upstreams};
use crate::proxy::upstream::Address;

fn socket(folder: &TempDir, name: &str) -> std::path::PathBuf {
    folder.path().join(name)
}

/// An application whose answers are `answer`; without one it closes as soon as it has a request.
fn application(path: &Path, answer: Option<&'static str>) -> JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            spawn_local(async move {
                let mut head = Vec::new();
                while stream.read_buf(&mut head).await.is_ok_and(|n| n > 0) {
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let Some(answer) = answer else { return };
                    head.clear();
                    let answer = format!("HTTP/1.1 200 OK\r\nServer: {answer}\r\nContent-Length: 0\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    })
}

fn upstream(folder: &TempDir, names: &[&str]) -> Arc<Upstream> {
    let servers: Vec<_> = names.iter().map(|name| Address::Unix(socket(folder, name))).collect();
    Arc::new(Upstream::build(Upstreams::from(servers), None, folder.path()).unwrap())
}

fn pool(upstream: Arc<Upstream>) -> (Rc<Pool>, Arc<Traffic>) {
    let stats = Arc::new(Traffic::default());
    (Pool::new(upstream, 0, Outward::at_most(2), stats.clone()), stats)
}

fn request(method: Method) -> Request<RequestBody> {
    Request::from_parts(crate::proxy::message::Parts { method, ..Default::default() }, RequestBody::empty())
}

/// Who answered; the connection goes back.
async fn ask(pool: &Rc<Pool>, method: Method) -> Result<String, ProxyError> {
    let (mut response, lease) =
        pool.send(&mut request(method), &Passage::closed(None), None, &Timeouts::default()).await?;
    lease.give_back(response.body_mut().connection());
    Ok(response.headers().get("server").unwrap().to_str().unwrap().to_owned())
}

#[tokio::test]
async fn what_seldom_happens_takes_no_room_in_the_way_of_a_request() {
    let folder = tempfile::tempdir().unwrap();
    let (pool, _) = pool(upstream(&folder, &["a"]));
    let timeouts = Timeouts::default();
    let size = size_of_val(&pool.send(&mut request(Method::GET), &Passage::closed(None), None, &timeouts));
    assert!(size <= 4600, "{size} bytes are moved with each request: put what is seldom in a box");
}

fn idle(pool: &Pool) -> Vec<usize> {
    pool.stations.borrow().iter().map(|station| station.idle.len()).collect()
}

#[tokio::test]
async fn requests_take_turns_and_each_address_has_connections_of_its_own() {
    let test = async {
        let folder = tempfile::tempdir().unwrap();
        let _a = application(&socket(&folder, "a"), Some("a"));
        let _b = application(&socket(&folder, "b"), Some("b"));
        let (pool, stats) = pool(upstream(&folder, &["a", "b"]));
        for expected in ["a", "b", "a", "b"] {
            assert_eq!(ask(&pool, Method::GET).await.unwrap(), expected);
        }
        assert_eq!(idle(&pool), [1, 1], "the second round used the connections of the first");
        assert_eq!(stats.ejections.load(Relaxed), 0);
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn an_address_that_takes_no_connection_costs_no_request_and_is_out_until_its_time_is_over() {
    let test = async {
        let folder = tempfile::tempdir().unwrap();
        let _b = application(&socket(&folder, "b"), Some("b"));
        let (pool, stats) = pool(upstream(&folder, &["a", "b"]));
        // Even a POST: nothing of it had been sent.
        for _ in 0..FAILURES * 2 {
            assert_eq!(ask(&pool, Method::POST).await.unwrap(), "b");
        }
        assert_eq!(stats.ejections.load(Relaxed), 1);

        let _a = application(&socket(&folder, "a"), Some("a"));
        for _ in 0..4 {
            assert_eq!(ask(&pool, Method::GET).await.unwrap(), "b", "it is out");
        }
        // The clock stands still only while nothing is waited for on a socket.
        tokio::time::pause();
        tokio::time::advance(Duration::from_millis(FIRST_OUT_MS)).await;
        tokio::time::resume();
        let both = [ask(&pool, Method::GET).await.unwrap(), ask(&pool, Method::GET).await.unwrap()];
        assert!(both.contains(&"a".to_owned()), "{both:?}");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_request_that_was_sent_is_not_sent_to_another_address() {
    let test = async {
        let folder = tempfile::tempdir().unwrap();
        let _a = application(&socket(&folder, "a"), None);
        let _b = application(&socket(&folder, "b"), Some("b"));
        let (pool, _) = pool(upstream(&folder, &["a", "b"]));
        assert!(matches!(ask(&pool, Method::POST).await, Err(ProxyError::Closed(_))));
        assert_eq!(idle(&pool), [0, 0]);
        assert_eq!(ask(&pool, Method::POST).await.unwrap(), "b");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_connection_in_use_at_a_reload_is_not_used_again_for_another_application() {
    let test = async {
        let folder = tempfile::tempdir().unwrap();
        let _a = application(&socket(&folder, "a"), Some("a"));
        let _b = application(&socket(&folder, "b"), Some("b"));
        let (pool, _) = pool(upstream(&folder, &["a"]));
        let (mut answer, kept) =
            pool.send(&mut request(Method::GET), &Passage::closed(None), None, &Timeouts::default()).await.unwrap();
        // The same address once more: its connections go on.
        pool.point_at(&upstream(&folder, &["a"]), 100);
        kept.give_back(answer.body_mut().connection());
        assert_eq!(idle(&pool), [1]);

        let (mut answer, stale) =
            pool.send(&mut request(Method::GET), &Passage::closed(None), None, &Timeouts::default()).await.unwrap();
        pool.point_at(&upstream(&folder, &["b"]), 100);
        stale.give_back(answer.body_mut().connection());
        assert_eq!(idle(&pool), [0]);
        assert_eq!(ask(&pool, Method::GET).await.unwrap(), "b");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn where_no_place_is_left_an_idle_connection_gives_way_and_one_in_use_does_not() {
    let test = async {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a", "b", "c"];
        let _applications = names.map(|name| application(&socket(&folder, name), Some(name)));
        let (pool, stats) = pool(upstream(&folder, &names));
        let leases = async |pool: &Rc<Pool>| {
            pool.send(&mut request(Method::GET), &Passage::closed(None), None, &Timeouts::default()).await
        };
        for expected in names {
            assert_eq!(ask(&pool, Method::GET).await.unwrap(), expected);
        }
        assert_eq!(idle(&pool), [0, 1, 1], "there are two places");
        let (mut answer, a) = leases(&pool).await.unwrap();
        assert_eq!(idle(&pool), [0, 0, 1], "the coldest");
        let (other, b) = leases(&pool).await.unwrap();
        assert_eq!(idle(&pool), [0, 0, 0]);
        assert!(matches!(leases(&pool).await, Err(ProxyError::Overloaded(_))));
        assert_eq!(stats.ejections.load(Relaxed), 0, "no fault of the address");
        a.give_back(answer.body_mut().connection());
        drop((other, b));
        assert_eq!(ask(&pool, Method::GET).await.unwrap(), "a");
    };
    LocalSet::new().run_until(test).await;
}
