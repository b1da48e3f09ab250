//! Listening and serving: one thread of traffic.
//!
//! Every traffic thread runs a single-threaded runtime with a listener of its own on the shared
//! port (`SO_REUSEPORT`) and its own connections to the application, so that nothing on a
//! request's way is shared or locked.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::SockRef;
use socket2::{Domain, Protocol, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, watch};

use super::aside::Aside;
use super::clock;
use super::connection::{Arrival, Door};
use super::handler::{Live, Place, Shared};
use super::in_force::InForce;
use super::limits::Connections;
use super::socket::Socket;
use super::stream::Watched;
use super::upstream::Pool;
use crate::capture::queue::{Outlet, Queue};
use crate::glimpse::Glimpses;
use crate::telemetry::Traffic;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

/// A socket on which connections come in, listening and not blocking.
#[derive(Debug)]
pub enum Entrance {
    /// An address and port.
    Tcp(StdListener),
    /// A Unix socket. Its connections have no address: see [`super::client_ip::ClientIp::trusts`].
    Unix(StdUnixListener),
}

/// Binds one address once a thread. The first bind is made alone, so that a port that is in use is
/// an error even where the other one shares ports too.
pub fn bind(address: SocketAddr, threads: usize) -> io::Result<Vec<StdListener>> {
    let alone = socket(address, false)?;
    let address = alone.local_addr()?.as_socket().unwrap_or(address);
    if threads == 1 {
        alone.listen(BACKLOG)?;
        return Ok(vec![alone.into()]);
    }
    drop(alone);
    (0..threads)
        .map(|_| {
            let socket = socket(address, true)?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    // What is accepted inherits it on Linux; before listening, or who connects at once does not.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What one traffic thread is given.
pub struct Thread {
    /// Its number among the traffic threads.
    pub number: usize,
    /// Its listeners, one an address.
    pub listeners: Vec<(Entrance, Door)>,
    /// The open connections of all threads.
    pub connections: Arc<Connections>,
    /// The configuration in force.
    pub live: Arc<ArcSwap<Live>>,
    /// The way to the pipeline.
    pub queue: Queue,
    /// A look at some answers.
    pub glimpses: Glimpses,
    /// Its counters.
    pub stats: Arc<Traffic>,
    /// Turns true when it is time to stop.
    pub stop: watch::Receiver<bool>,
}

impl Thread {
    /// Serves until told to stop and the connections have ended or the deadline has passed.
    pub fn run(self) -> io::Result<()> {
        let mut runtime = Builder::new_current_thread();
        let runtime = clock::read_at_each_turn(runtime.enable_all()).build_local(LocalOptions::default())?;
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> io::Result<()> {
        let live = InForce::new(self.live);
        let upstream = live.get().upstream.clone();
        let pool = Pool::new(upstream, self.number, self.connections.outward.clone(), self.stats.clone());
        let outlet = Rc::new(Outlet::new(self.queue, self.stats.clone()));
        let (glimpses, stats) = (self.glimpses, self.stats);
        let shared = Rc::new(Shared { live, pool, outlet, glimpses, stats });
        let open = Rc::new(Open::default());
        let mut accepting = Vec::new();
        for (listener, door) in self.listeners {
            let acceptor = Acceptor {
                listener: Listener::new(listener)?,
                door,
                connections: self.connections.clone(),
                shared: shared.clone(),
                open: open.clone(),
                stop: self.stop.clone(),
            };
            accepting.push(tokio::task::spawn_local(acceptor.run()));
        }
        let sweeper = tokio::task::spawn_local(sweep(shared.clone()));
        for accepting in accepting {
            // A panic of the accept loop itself: nothing is served any more on that listener.
            accepting.await.map_err(io::Error::other)?;
        }
        let deadline = shared.live.get().timeouts.drain;
        let _ = tokio::time::timeout(deadline, open.none()).await;
        sweeper.abort();
        Ok(())
    }
}

async fn sweep(shared: Rc<Shared>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        shared.pool.sweep(shared.live.get().timeouts.upstream_idle);
    }
}

/// How many connections are open on this thread.
#[derive(Default)]
struct Open {
    count: Cell<usize>,
    ended: Notify,
}

impl Open {
    async fn none(&self) {
        while self.count.get() > 0 {
            self.ended.notified().await;
        }
    }
}

/// Counts one connection on its thread while it lives: in the metrics, and for the drain, which
/// waits for all of them.
pub struct Opened {
    open: Rc<Open>,
    stats: Arc<Traffic>,
}

impl Opened {
    fn new(open: &Rc<Open>, stats: &Arc<Traffic>) -> Opened {
        open.count.set(open.count.get() + 1);
        stats.open.fetch_add(1, Relaxed);
        stats.accepted.fetch_add(1, Relaxed);
        Opened { open: open.clone(), stats: stats.clone() }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.open.count.set(self.open.count.get() - 1);
        self.stats.open.fetch_sub(1, Relaxed);
        self.open.ended.notify_one();
    }
}

enum Listener {
    Tcp {
        listener: TcpListener,
        /// Its connections have `TCP_NODELAY` from it.
        hands_down: bool,
    },
    Unix(UnixListener),
}

impl Listener {
    fn new(entrance: Entrance) -> io::Result<Listener> {
        Ok(match entrance {
            Entrance::Tcp(listener) => {
                // A socket of the service manager listened before anybody could set it.
                let hands_down = cfg!(target_os = "linux") && SockRef::from(&listener).tcp_nodelay().unwrap_or(false);
                Listener::Tcp { listener: TcpListener::from_std(listener)?, hands_down }
            }
            Entrance::Unix(listener) => Listener::Unix(UnixListener::from_std(listener)?),
        })
    }

    /// The next connection and who it is from; `None` over a Unix socket.
    async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Listener::Tcp { listener, hands_down } => {
                let (stream, peer) = listener.accept().await?;
                if !hands_down {
                    let _ = stream.set_nodelay(true);
                }
                Ok((Socket::Tcp(stream), Some(peer)))
            }
            Listener::Unix(listener) => Ok((Socket::Unix(listener.accept().await?.0), None)),
        }
    }
}

struct Acceptor {
    listener: Listener,
    door: Door,
    connections: Arc<Connections>,
    shared: Rc<Shared>,
    open: Rc<Open>,
    stop: watch::Receiver<bool>,
}

impl Acceptor {
    async fn run(mut self) {
        loop {
            let accepted = tokio::select! {
                biased;
                // An error means that whoever could tell us to stop is gone: stop.
                _ = self.stop.wait_for(|stop| *stop) => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.spawn(stream, peer),
                Err(error) => {
                    // Out of descriptors, mostly: wait for some to be given back.
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn spawn(&self, stream: Socket, peer: Option<SocketAddr>) {
        // Behind a PROXY header the peer is a load balancer: the client is counted once it is known.
        let permit = match peer {
            Some(peer) if self.door.proxy_protocol.is_none() => self.connections.try_enter(peer.ip().to_canonical()),
            _ => self.connections.try_enter_unnamed(),
        };
        let Ok(permit) = permit else {
            self.shared.stats.connections_refused.fetch_add(1, Relaxed);
            return;
        };
        let place = Place { permit, opened: Opened::new(&self.open, &self.shared.stats) };
        let (door, shared, stop) = (self.door.clone(), self.shared.clone(), self.stop.clone());
        // In a box: a task is moved several times while it begins and ends.
        tokio::task::spawn_local(Box::pin(async move {
            let watched = Watched::new(stream);
            let arrival = Arrival { door, shared, place, stop };
            // Where they are made: a `select!` that makes them moves them first.
            let serving = std::pin::pin!(arrival.serve(watched.clone(), peer));
            let reset = std::pin::pin!(Aside::new(watched.reset()));
            let served = tokio::select! {
                biased;
                served = serving => served,
                () = reset => Err(io::ErrorKind::ConnectionReset.into()),
            };
            if let Err(error) = served {
                tracing::debug!("connection ended: {error}");
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn accepted_without_delay(listener: StdListener) -> bool {
        // A port is open before a traffic thread has begun.
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = Listener::new(Entrance::Tcp(listener)).unwrap();
        let (Socket::Tcp(stream), _) = listener.accept().await.unwrap() else { panic!("not of TCP") };
        stream.nodelay().unwrap()
    }

    /// The ends of its answers came 40 ms late: a piece below a segment waited for the client's delayed ACK.
    #[tokio::test]
    async fn who_connects_before_anybody_accepts_gets_answers_without_delay_too() {
        let own = bind((std::net::Ipv4Addr::LOCALHOST, 0).into(), 1).unwrap();
        assert!(accepted_without_delay(own.into_iter().next().unwrap()).await);
        let of_a_service_manager = StdListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(accepted_without_delay(of_a_service_manager).await);
    }
}
