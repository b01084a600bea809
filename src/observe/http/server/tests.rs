//! The server as clients see it, with fake views.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use device::testing::node;
use status::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::*;
use crate::observe::event_log::EventLog;
use crate::observe::http::in_flight::MAX_BYTES;
use crate::observe::http::waiters::MAX_WAITERS;
use crate::observe::tests::status_of;
use crate::util::change_signal::ChangeSignal;

#[derive(Default)]
struct FakeViews {
    stuck: Option<String>,
    not_ready: Vec<String>,
    metrics: String,
    /// GPUs beside eight.
    more_gpus: AtomicU32,
    changes: ChangeSignal,
    /// How often somebody read the status.
    reads: AtomicU32,
}

impl FakeViews {
    fn add_gpu(&self) {
        self.more_gpus.fetch_add(1, Relaxed);
        self.changes.notify();
    }
}

impl Views for FakeViews {
    fn status(&self) -> Status {
        self.reads.fetch_add(1, Relaxed);
        self.peek()
    }

    fn peek(&self) -> Status {
        status_of(&node(8 + self.more_gpus.load(Relaxed)), &EventLog::default())
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut changes = self.changes.subscribe();
        Box::pin(async move { drop(changes.changed().await) })
    }

    fn metrics(&self) -> String {
        if self.metrics.is_empty() { "a 1\n".to_owned() } else { self.metrics.clone() }
    }

    fn stuck(&self) -> Pin<Box<dyn Future<Output = Option<String>> + Send + '_>> {
        Box::pin(async { self.stuck.clone() })
    }

    fn not_ready(&self) -> Vec<String> {
        self.not_ready.clone()
    }
}

/// A server on a port of its own, which ends with the test's runtime.
async fn serve_on_port(views: Arc<FakeViews>) -> SocketAddr {
    serve_by(Arc::new(Responder::new(views))).await
}

async fn serve_by(responder: Arc<Responder>) -> SocketAddr {
    listen(responder, false).await
}

async fn listen(responder: Arc<Responder>, may_wait: bool) -> SocketAddr {
    let address = Address::Tcp(([127, 0, 0, 1], 0).into());
    let mut listener = Listener::at(address, &Watches::default()).await;
    let address = listener.address().parse().unwrap();
    tokio::spawn(async move { accept_all(&mut listener, &responder, may_wait).await });
    address
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut io = TcpStream::connect(address).await.unwrap();
    let _ = io.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = io.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn get(address: SocketAddr, path: &str) -> String {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await
}

#[tokio::test]
async fn each_path_has_its_content_type_and_no_answer_is_cached() {
    let address = serve_on_port(Arc::default()).await;
    let table = [
        ("/", "text/html; charset=utf-8", "<!doctype html>"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8", "a 1\n"),
        ("/status", "application/json", "{\"schemaVersion\":1,"),
        ("/healthz", "text/plain; charset=utf-8", "ok\n"),
        ("/readyz", "text/plain; charset=utf-8", "ok\n"),
    ];
    for (path, content_type, begins) in table {
        let answer = get(address, path).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        for header in [
            &format!("content-type: {content_type}"),
            "cache-control: no-store",
            "connection: close",
        ] {
            assert!(head.contains(header), "{header} in {head}");
        }
        assert!(body.starts_with(begins), "{path}: {body}");
        let of_head = exchange(address, &format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let length = format!("content-length: {}", body.len());
        assert!(
            of_head.ends_with("\r\n\r\n") && (path == "/status" || of_head.contains(&length)),
            "{of_head}"
        );
    }
}

#[tokio::test]
async fn refusals_have_their_status_codes() {
    let address = serve_on_port(Arc::default()).await;
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(4_000));
    let large_head = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "a".repeat(40_000));
    let many_headers = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(200));
    let table = [
        ("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", "404"),
        ("DELETE /metrics HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        ("POST /let-go HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "410"),
        ("POST /release HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "410"),
        (&long_path, "414"),
        (&large_head, "431"),
        (&many_headers, "431"),
        ("nonsense\r\n\r\n", "400"),
    ];
    for (request, code) in table {
        let answer = exchange(address, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{code}: {answer}");
    }
    let answer = exchange(address, "DELETE /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.contains("allow: GET, HEAD"), "{answer}");
    let answer = exchange(address, "POST /let-go HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.contains("`gpu-device-plugin release`"), "{answer}");
    // A body is not read, whatever its length.
    let endless = "POST /status HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000000\r\n\r\n";
    let answer = exchange(address, endless).await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[tokio::test]
async fn the_probes_say_why_they_fail() {
    let views = FakeViews {
        stuck: Some("the writer sleeps".to_owned()),
        not_ready: vec!["a: no".to_owned(), "b: no".to_owned()],
        ..FakeViews::default()
    };
    let address = serve_on_port(Arc::new(views)).await;
    let health = get(address, "/healthz").await;
    assert!(
        health.starts_with("HTTP/1.1 503 ") && health.ends_with("\r\n\r\nthe writer sleeps\n"),
        "{health}"
    );
    let ready = get(address, "/readyz").await;
    assert!(
        ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("\r\n\r\na: no\nb: no\n"),
        "{ready}"
    );
}

#[tokio::test]
async fn what_slow_readers_have_not_read_is_bounded_and_the_oldest_are_cut() {
    const LENGTH: usize = 2 << 20;
    let views = FakeViews { metrics: "a".repeat(LENGTH), ..FakeViews::default() };
    let responder = Arc::new(Responder::new(Arc::new(views)));
    let address = serve_by(responder.clone()).await;
    let mut slow = Vec::new();
    for _ in 0..MAX_CONNECTIONS / 2 {
        let mut io = TcpStream::connect(address).await.unwrap();
        io.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        // The answer has begun, and is not read on.
        io.readable().await.unwrap();
        assert!(responder.in_flight().bytes() <= MAX_BYTES);
        slow.push(io);
    }
    assert!(responder.in_flight().bytes() > MAX_BYTES / 2);
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    let whole = get(address, "/metrics").await;
    assert!(whole.len() > LENGTH, "one that reads gets all of it");
    let mut part = Vec::new();
    let _ = slow[0].read_to_end(&mut part).await;
    assert!(part.len() < LENGTH, "the oldest is cut");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_or_reads_nothing_is_cut() {
    let views = FakeViews { metrics: "a".repeat(2 << 20), ..FakeViews::default() };
    let responder = Arc::new(Responder::new(Arc::new(views)));
    for (request, most) in [
        ("", HEAD_DEADLINE),
        ("GET /metrics HTTP/1.1\r\n", HEAD_DEADLINE),
        ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", CONNECTION_DEADLINE),
    ] {
        let (mut client, server) = tokio::io::duplex(4096);
        client.write_all(request.as_bytes()).await.unwrap();
        let began = tokio::time::Instant::now();
        let waiting = Some(watch::Sender::new(false));
        serve_connection(Box::new(server), responder.clone(), waiting).await;
        assert!(began.elapsed() <= most + Duration::from_millis(10), "{request:?}");
        assert_eq!(responder.in_flight().bytes(), 0, "{request:?}");
    }
}

#[tokio::test]
async fn the_status_socket_carries_the_same_and_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("status.sock");
    let served = Served { status_socket: Some(path.clone()), ..Served::default() };
    let serving = tokio::spawn(async move {
        serve(served, &Watches::default(), Arc::new(FakeViews::default())).await
    });
    for _ in 0..2 {
        let mut io = loop {
            match UnixStream::connect(&path).await {
                Ok(io) => break io,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        io.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        std::fs::remove_file(&path).unwrap();
    }
    serving.abort();
}

#[tokio::test]
async fn slow_clients_keep_nobody_out_and_the_oldest_are_closed_first() {
    let address = serve_on_port(Arc::default()).await;
    let mut slow = Vec::new();
    for _ in 0..3 * MAX_CONNECTIONS {
        let mut io = TcpStream::connect(address).await.unwrap();
        io.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n").await.unwrap();
        slow.push(io);
    }
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    // The first was closed, so that it can be read to its end.
    let mut rest = Vec::new();
    let _ = slow[0].read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_taken_address_is_bound_as_soon_as_it_is_free() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let served = Served { address: Some(Address::Tcp(address)), ..Served::default() };
    let serving = tokio::spawn(async move {
        serve(served, &Watches::default(), Arc::new(FakeViews::default())).await
    });
    // It has found the address taken once it sleeps; the clock is the runtime's.
    tokio::task::yield_now().await;
    drop(taken);
    loop {
        if let Ok(mut io) = TcpStream::connect(address).await {
            io.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            io.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            break;
        }
        tokio::task::yield_now().await;
    }
    serving.abort();
}

/// A server like that of the status socket, with its responder and what it shows.
async fn serve_waiting() -> (SocketAddr, Arc<Responder>, Arc<FakeViews>) {
    let views = Arc::<FakeViews>::default();
    let responder = Arc::new(Responder::new(views.clone()));
    (listen(responder.clone(), true).await, responder, views)
}

fn token(answer: &str) -> &str {
    let mut lines = answer.lines().filter_map(|line| line.strip_prefix("status-token: "));
    lines.next().unwrap_or_else(|| panic!("no token in {}", &answer[..200]))
}

async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn the_next_status_is_sent_once_it_differs_and_an_unknown_token_is_answered_at_once() {
    let (address, responder, views) = serve_waiting().await;
    let first = get(address, "/status").await;
    for unknown in ["", "1-2", "nonsense%20", &token(&first).replace('-', "0-")] {
        let answer = get(address, &format!("/status?after={unknown}")).await;
        assert_eq!(token(&answer), token(&first), "{unknown}");
    }
    let path = format!("/status?after={}", token(&first));
    let waiting = tokio::spawn(async move { get(address, &path).await });
    until(|| responder.waiters().count() == 1).await;
    // A signal without a change is none: the answer would have the same token.
    views.changes.notify();
    views.add_gpu();
    let next = waiting.await.unwrap();
    assert!(next.starts_with("HTTP/1.1 200 ") && next.contains("GPU-8"), "{}", &next[..300]);
    assert_ne!(token(&next), token(&first));
    assert_eq!(responder.waiters().count(), 0);
    assert_eq!(views.reads.load(Relaxed), 1, "who waits is no reader");
    let elsewhere = serve_on_port(Arc::default()).await;
    let answer = get(elsewhere, "/status?after=1-2").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("status.sock"), "{answer}");
    assert!(!get(elsewhere, "/status").await.contains("status-token"));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_after_a_minute_with_the_same_token() {
    let (_, responder, _) = serve_waiting().await;
    let ask = async |path: &str| {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let began = tokio::time::Instant::now();
        let waiting = Some(watch::Sender::new(false));
        serve_connection(Box::new(server), responder.clone(), waiting).await;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        (answer, began.elapsed().as_secs())
    };
    let (first, _) = ask("/status").await;
    let (later, seconds) = ask(&format!("/status?after={}", token(&first))).await;
    assert_eq!((token(&later), seconds), (token(&first), 60));
}

#[tokio::test]
async fn those_that_wait_take_no_connection_from_others_and_leave_when_they_hang_up() {
    let (address, responder, views) = serve_waiting().await;
    let path = format!("/status?after={}", token(&get(address, "/status").await));
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut waiting = Vec::new();
    for count in 1..=MAX_WAITERS {
        let mut io = TcpStream::connect(address).await.unwrap();
        io.write_all(request.as_bytes()).await.unwrap();
        until(|| responder.waiters().count() == count).await;
        waiting.push(io);
    }
    let mut slow = Vec::new();
    for _ in 0..2 * MAX_CONNECTIONS {
        let mut io = TcpStream::connect(address).await.unwrap();
        io.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
        slow.push(io);
    }
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    assert_eq!(responder.waiters().count(), MAX_WAITERS);
    // One more, and the oldest has its answer.
    let one_more = tokio::spawn({
        let path = path.clone();
        async move { get(address, &path).await }
    });
    let mut early = String::new();
    waiting.remove(0).read_to_string(&mut early).await.unwrap();
    assert!(path.ends_with(token(&early)), "{path}");
    drop(waiting);
    until(|| responder.waiters().count() == 1).await;
    views.add_gpu();
    assert!(one_more.await.unwrap().starts_with("HTTP/1.1 200 "));
}
