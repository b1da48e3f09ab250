//! An application that breaks on purpose, over HTTP/1.1 and HTTP/2. What it does with a request is
//! decided by the request's number alone, so that whoever asks knows what must come of it; what it
//! gets is compared with what was asked. Its port stays its own while it is dead.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;

use super::PATIENCE;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// Answered with its length announced.
    None,
    /// Answered in chunks; over HTTP/2 without a length.
    Unsized,
    /// Answered, and the connection closed without a word of it.
    ClosesAfter,
    /// Answered, with a whole second answer right behind the announced length.
    SaysMore,
    /// 204 with a body all the same.
    BodyOf204,
    /// Reset before an answer.
    Resets,
    /// Refused as not processed (HTTP/2).
    Refuses,
    /// Nothing but an interim answer, then closed.
    InterimOnly,
    /// Closed inside the head.
    HeadCut,
    /// No HTTP.
    Garbage,
    /// Two framings at once.
    TwoFramings,
    /// Two lengths; over HTTP/2 more bytes than announced.
    TwoLengths,
    /// Closed inside a body of known length.
    BodyCut,
    /// Closed inside a body of unknown length.
    ChunkCut,
    /// Never answered.
    Stalls,
    /// Stands still inside the body.
    StallsInside,
    /// Takes the whole connection with it, other streams too (HTTP/2).
    Drops,
    /// The same, announced by GOAWAY (HTTP/2).
    GoesAway,
}

use Fault::{
    BodyCut, BodyOf204, ChunkCut, ClosesAfter, Drops, Garbage, GoesAway, HeadCut, InterimOnly, None, Refuses, Resets,
    SaysMore, Stalls, StallsInside, TwoFramings, TwoLengths, Unsized,
};

/// The faults of HTTP/1.1, each with its part of all requests.
pub const HTTP1: &[(Fault, u32)] = &[
    (None, 300),
    (Unsized, 150),
    (ClosesAfter, 60),
    (SaysMore, 80),
    (BodyOf204, 50),
    (Resets, 60),
    (InterimOnly, 30),
    (HeadCut, 40),
    (Garbage, 40),
    (TwoFramings, 40),
    (TwoLengths, 40),
    (BodyCut, 50),
    (ChunkCut, 50),
    (Stalls, 5),
    (StallsInside, 5),
];

/// Those of HTTP/2 that end one stream and must leave the others alone.
pub const STREAMS: &[(Fault, u32)] = &[
    (None, 400),
    (Unsized, 200),
    (Resets, 80),
    (Refuses, 40),
    (TwoLengths, 80),
    (BodyCut, 80),
    (ChunkCut, 100),
    (Stalls, 10),
    (StallsInside, 10),
];

/// The same and those that end connections.
pub const HTTP2: &[(Fault, u32)] = &[
    (None, 400),
    (Unsized, 200),
    (Resets, 80),
    (Refuses, 40),
    (TwoLengths, 80),
    (BodyCut, 80),
    (ChunkCut, 80),
    (Stalls, 10),
    (StallsInside, 10),
    (Drops, 10),
    (GoesAway, 10),
];

/// What becomes of this request.
pub fn fault_of(faults: &[(Fault, u32)], id: u64) -> Fault {
    let mut at = (mixed(id) >> 32) as u32 % faults.iter().map(|(_, part)| part).sum::<u32>();
    for (fault, part) in faults {
        if at < *part {
            return *fault;
        }
        at -= part;
    }
    None
}

/// The body that belongs to a request: its number again and again, up to 64 KiB.
pub fn body_of(id: u64, of: &str) -> Vec<u8> {
    let length = match mixed(id.wrapping_add(1)) % 16 {
        0 => 0,
        1 => 64 << 10,
        n => 40 * n as usize,
    };
    format!("{of}={id};").bytes().cycle().take(length).collect()
}

fn mixed(id: u64) -> u64 {
    let id = (id ^ (id >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (id ^ (id >> 32)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// The application.
pub struct Faulty {
    /// Where it listens while it lives.
    pub address: SocketAddr,
    /// Keeps the port while nobody listens on it.
    _reserved: TcpSocket,
    http2: bool,
    shared: Arc<Shared>,
    life: Mutex<Option<Runtime>>,
}

struct Shared {
    faults: &'static [(Fault, u32)],
    calm: AtomicBool,
    /// How often each request came.
    came: Mutex<HashMap<u64, u32>>,
    /// Requests that were not as they were sent.
    wrong: Mutex<Vec<String>>,
}

impl Shared {
    /// Notes a request; what is to become of it.
    fn came(&self, method: &str, target: &str, body: &[u8]) -> Option<(u64, Fault)> {
        let Some(id) = target.rsplit('/').next().and_then(|id| id.parse().ok()) else {
            self.wrong.lock().expect("no panic under the lock").push(format!("{method} {target}"));
            return Option::None;
        };
        *self.came.lock().expect("no panic under the lock").entry(id).or_default() += 1;
        if method == "POST" && body != [format!("user=u{id}&").as_bytes(), &body_of(id, "up")].concat() {
            self.wrong.lock().expect("no panic under the lock").push(format!("{method} {target} {}", body.len()));
        }
        Some((id, if self.calm.load(SeqCst) { None } else { fault_of(self.faults, id) }))
    }
}

impl Faulty {
    pub fn http1() -> Faulty {
        Faulty::born(HTTP1, false)
    }

    pub fn http2(faults: &'static [(Fault, u32)]) -> Faulty {
        Faulty::born(faults, true)
    }

    fn born(faults: &'static [(Fault, u32)], http2: bool) -> Faulty {
        let reserved = TcpSocket::new_v4().expect("a socket");
        reserved.set_reuseport(true).expect("an option");
        reserved.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = reserved.local_addr().expect("its address");
        let shared = Shared { faults, calm: AtomicBool::new(false), came: Mutex::default(), wrong: Mutex::default() };
        let faulty =
            Faulty { address, _reserved: reserved, http2, shared: Arc::new(shared), life: Mutex::new(Option::None) };
        faulty.rise();
        faulty
    }

    /// Listens, from the moment that this comes back.
    pub fn rise(&self) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = {
            let _entered = runtime.enter();
            let socket = TcpSocket::new_v4().expect("a socket");
            socket.set_reuseport(true).expect("an option");
            socket.set_reuseaddr(true).expect("an option");
            socket.bind(self.address).expect("its own port");
            socket.listen(1024).expect("a listener")
        };
        let (shared, http2) = (self.shared.clone(), self.http2);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = shared.clone();
                match http2 {
                    true => tokio::spawn(async move { serve_http2(stream, shared).await }),
                    false => tokio::spawn(async move {
                        // How a connection ends is the other side's to say.
                        let _ = serve_http1(stream, &shared).await;
                    }),
                };
            }
        });
        *self.life.lock().expect("no panic under the lock") = Some(runtime);
    }

    /// Ends everything at once, in the middle of answers too; nobody listens when this comes back.
    pub fn die(&self) {
        if let Some(life) = self.life.lock().expect("no panic under the lock").take() {
            life.shutdown_timeout(PATIENCE);
        }
    }

    /// Answers whatever comes from now on.
    pub fn calm_down(&self) {
        self.shared.calm.store(true, SeqCst);
    }

    pub fn is_http2(&self) -> bool {
        self.http2
    }

    /// How often a request came.
    pub fn came(&self, id: u64) -> u32 {
        self.shared.came.lock().expect("no panic under the lock").get(&id).copied().unwrap_or(0)
    }

    /// Requests that did not come as they were sent.
    pub fn wrong(&self) -> Vec<String> {
        self.shared.wrong.lock().expect("no panic under the lock").clone()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.die();
    }
}

async fn serve_http1(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head: Vec<u8> = buffer.drain(..end).collect();
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or_default().to_uppercase(), words.next().unwrap_or_default());
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length = length.and_then(|v| v.trim().parse().ok()).unwrap_or(0);
        while buffer.len() < length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let body: Vec<u8> = buffer.drain(..length).collect();
        let Some((id, fault)) = shared.came(&method, target, &body) else { return Ok(()) };
        let answer = if method == "HEAD" { Vec::new() } else { body_of(id, "down") };
        let sized = |status: &str, body: &[u8], length: usize| {
            let head = format!("HTTP/1.1 {status}\r\nX-Id: {id}\r\nContent-Length: {length}\r\n\r\n");
            [head.as_bytes(), body].concat()
        };
        let chunked = |parts: &[&[u8]]| {
            let mut bytes = format!("HTTP/1.1 200 OK\r\nX-Id: {id}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
            for part in parts.iter().filter(|part| !part.is_empty()) {
                bytes.extend([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
            }
            bytes
        };
        let half = answer.split_at(answer.len() / 2);
        let fine = sized("200 OK", &answer, answer.len());
        match fault {
            Unsized if method != "HEAD" => {
                stream.write_all(&chunked(&[half.0, half.1])).await?;
                stream.write_all(b"0\r\n\r\n").await?;
            }
            ClosesAfter => return stream.write_all(&fine).await,
            SaysMore => {
                stream.write_all(&[fine, sized("200 OK", b"poison", 6)].concat()).await?;
            }
            BodyOf204 => {
                let head = format!("HTTP/1.1 204 No Content\r\nX-Id: {id}\r\n\r\n");
                stream.write_all(&[head.as_bytes(), &sized("200 OK", b"poison", 6)].concat()).await?;
            }
            Resets => return stream.set_zero_linger(),
            InterimOnly => return stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await,
            HeadCut => return stream.write_all(format!("HTTP/1.1 200 OK\r\nX-Id: {id}\r\nConte").as_bytes()).await,
            Garbage => return stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").await,
            TwoFramings => {
                let head =
                    format!("HTTP/1.1 200 OK\r\nX-Id: {id}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n");
                stream.write_all(&[head.as_bytes(), b"\r\n0\r\n\r\n", &fine[..]].concat()).await?;
            }
            TwoLengths => {
                let head = format!("HTTP/1.1 200 OK\r\nX-Id: {id}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n");
                stream.write_all(&[head.as_bytes(), b"poison", &fine[..]].concat()).await?;
            }
            BodyCut if method != "HEAD" => {
                return stream.write_all(&sized("200 OK", half.0, answer.len() + 1)).await;
            }
            ChunkCut if method != "HEAD" => return stream.write_all(&chunked(&[half.0])).await,
            Stalls => return until_it_ends(stream).await,
            StallsInside if method != "HEAD" => {
                stream.write_all(&sized("200 OK", half.0, answer.len() + 1)).await?;
                return until_it_ends(stream).await;
            }
            _ => stream.write_all(&fine).await?,
        }
    }
}

/// Waits for the other side to give up.
async fn until_it_ends(mut stream: TcpStream) -> io::Result<()> {
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

async fn serve_http2(stream: TcpStream, shared: Arc<Shared>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let (drop_it, mut dropped) = tokio::sync::mpsc::channel::<Fault>(1);
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            Some(fault) = dropped.recv() => match fault {
                GoesAway => {
                    connection.abrupt_shutdown(h2::Reason::INTERNAL_ERROR);
                    continue;
                }
                _ => return,
            },
        };
        let Some(Ok((request, respond))) = accepted else { return };
        let (shared, drop_it) = (shared.clone(), drop_it.clone());
        tokio::spawn(async move {
            // A stream that is gone needs no answer.
            let _ = answer_http2(request, respond, &shared, drop_it).await;
        });
    }
}

async fn answer_http2(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    shared: &Shared,
    drop_it: tokio::sync::mpsc::Sender<Fault>,
) -> Result<(), h2::Error> {
    let (parts, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(data) = incoming.data().await {
        let data = data?;
        incoming.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    let Some((id, fault)) = shared.came(parts.method.as_str(), parts.uri.path(), &body) else { return Ok(()) };
    let head = parts.method == "HEAD";
    let answer = if head { Vec::new() } else { body_of(id, "down") };
    let response = |length: Option<usize>| {
        let mut response = Response::builder().header("x-id", id);
        if let Some(length) = length {
            response = response.header("content-length", length);
        }
        response.body(()).expect("an answer")
    };
    let half = Bytes::copy_from_slice(&answer[..answer.len() / 2]);
    match fault {
        Unsized if !head => {
            let mut stream = respond.send_response(response(Option::None), false)?;
            send(&mut stream, answer.into()).await;
            stream.send_data(Bytes::new(), true)
        }
        Resets => {
            respond.send_reset(h2::Reason::INTERNAL_ERROR);
            Ok(())
        }
        Refuses => {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            Ok(())
        }
        TwoLengths if !head => {
            let mut stream = respond.send_response(response(Some(answer.len())), false)?;
            send(&mut stream, answer.into()).await;
            stream.send_data(Bytes::from_static(b"poison"), true)
        }
        BodyCut if !head => {
            let mut stream = respond.send_response(response(Some(answer.len() + 1)), false)?;
            send(&mut stream, half).await;
            stream.send_data(Bytes::new(), true)
        }
        ChunkCut if !head => {
            let mut stream = respond.send_response(response(Option::None), false)?;
            send(&mut stream, half).await;
            stream.send_reset(h2::Reason::INTERNAL_ERROR);
            Ok(())
        }
        Stalls => {
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            Ok(())
        }
        StallsInside if !head => {
            let mut stream = respond.send_response(response(Some(answer.len() + 1)), false)?;
            send(&mut stream, half).await;
            let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
            Ok(())
        }
        Drops | GoesAway => {
            // Told once is enough.
            let _ = drop_it.try_send(fault);
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            Ok(())
        }
        _ => {
            let mut stream = respond.send_response(response(Some(answer.len())), false)?;
            send(&mut stream, answer.into()).await;
            stream.send_data(Bytes::new(), true)
        }
    }
}

/// Sends as fast as the other side takes it; ends early if it takes no more.
async fn send(stream: &mut h2::SendStream<Bytes>, mut data: Bytes) {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
        if stream.send_data(data.split_to(room.min(data.len())), false).is_err() {
            return;
        }
    }
}
