use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;
use tokio::time::sleep;

use super::*;
use crate::control::client;

const PATIENCE: Duration = Duration::from_secs(20);

fn clear(gpu: &str) -> Request {
    Request::Clear { gpu: gpu.to_owned(), cause: None }
}

/// Answers with what was asked for.
async fn echo(request: Request) -> Answer {
    let Request::Clear { gpu, .. } = request else { return Answer::TakenUp {} };
    Answer::Cleared { gpu, causes: Vec::new(), forgotten: false }
}

/// Runs a test beside a server.
fn beside_server(test: impl AsyncFnOnce(PathBuf)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let served = async {
        let server = directory.path().to_owned();
        tokio::task::spawn_local(async move {
            match serve(Some(&server), &Watches::default(), echo).await {}
        });
        let path = socket_path(directory.path());
        until(|| path.exists()).await;
        test(path).await;
    };
    LocalSet::new().block_on(&runtime, served);
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        sleep(Duration::from_millis(5)).await;
    }
}

async fn answered(path: &Path, gpu: &str) {
    let answer = client::call(path, &clear(gpu), PATIENCE).await.unwrap();
    assert!(matches!(answer, Answer::Cleared { gpu: named, .. } if named == gpu));
}

#[test]
fn a_socket_that_is_removed_is_made_again() {
    beside_server(async |path| {
        answered(&path, "a").await;
        std::fs::remove_file(&path).unwrap();
        until(|| path.exists()).await;
        answered(&path, "b").await;
    });
}

#[test]
fn slow_peers_are_few_and_soon_gone() {
    beside_server(async |path| {
        let mut slow = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(b"{").await.unwrap();
            slow.push(stream);
        }
        let error = client::call(&path, &clear("a"), PATIENCE).await.unwrap_err();
        assert!(error.to_string().contains("closed the connection"), "{error}");
        for mut stream in slow {
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert!(text.contains("no request came within 1 s"), "{text}");
        }
        answered(&path, "a").await;
    });
}

#[test]
fn garbage_is_refused() {
    beside_server(async |path| {
        for garbage in [&b"\xff\xfe\n"[..], b"[]\n", &[b'x'; 8192]] {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            // More than is read may meet a closed connection.
            let _ = stream.write_all(garbage).await;
            let mut text = Vec::new();
            let _ = stream.read_to_end(&mut text).await;
            let text = String::from_utf8(text).unwrap();
            assert!(text.is_empty() || text.contains("this is not a request"), "{text}");
        }
        answered(&path, "a").await;
    });
}
