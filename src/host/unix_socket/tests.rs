use super::*;

fn spec(path: &Path) -> SocketSpec {
    SocketSpec { path: path.to_owned(), group: None, guarded: true, name: "socket", without: "-" }
}

async fn bind(path: &Path) -> io::Result<BoundSocket> {
    BoundSocket::bind(&spec(path)).await
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}

fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn it_is_for_us_alone_replaces_a_stale_one_and_goes_with_us() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let socket = bind(&path).await.unwrap();
    assert_eq!(mode(&path), 0o600);
    assert!(socket.is_there());
    assert_eq!(names(directory.path()), ["a.sock"]);
    UnixStream::connect(&path).await.unwrap();
    socket.accept().await.unwrap();
    drop(socket);
    assert!(names(directory.path()).is_empty());
}

#[tokio::test]
async fn one_for_a_group_has_that_group_and_is_open_to_it_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    // Our own group: only root may give a file to another.
    let group = fs::metadata(directory.path()).unwrap().gid();
    let made = BoundSocket::bind(&SocketSpec { group: Some(group), ..spec(&path) }).await;
    let _socket = made.unwrap();
    assert_eq!(mode(&path), 0o660);
    assert_eq!(fs::symlink_metadata(&path).unwrap().gid(), group);
}

#[tokio::test]
async fn a_live_one_of_somebody_else_stays_and_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let theirs = UnixListener::bind(&path).unwrap();
    let before = id(&fs::symlink_metadata(&path).unwrap());
    for guarded in [true, false] {
        let error = BoundSocket::bind(&SocketSpec { guarded, ..spec(&path) }).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
    assert_eq!(id(&fs::symlink_metadata(&path).unwrap()), before);
    assert_eq!(names(directory.path()), ["a.sock"], "nothing of ours is left");
    drop(theirs);
}

#[tokio::test]
async fn one_that_was_replaced_is_not_ours_to_remove() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let first = bind(&path).await.unwrap();
    fs::remove_file(&path).unwrap();
    assert!(!first.is_there());
    let second = bind(&path).await.unwrap();
    assert!(!first.is_there());
    drop(first);
    assert!(second.is_there());
}

#[tokio::test]
async fn no_file_of_others_is_touched_whatever_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let target = directory.path().join("target");
    fs::write(&target, "a file").unwrap();
    fs::write(path.with_extension("next"), "somebody's").unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    assert_eq!(bind(&path).await.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
    fs::remove_file(&path).unwrap();
    let _socket = bind(&path).await.unwrap();
    assert_eq!(names(directory.path()), ["a.next", "a.sock", "target"]);
    assert_eq!(fs::read_to_string(path.with_extension("next")).unwrap(), "somebody's");
}

#[tokio::test]
async fn a_guarded_one_is_refused_where_others_could_replace_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let set_mode = |mode| {
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(0o777);
    let error = bind(&path).await.unwrap_err();
    assert!(error.to_string().contains("others may write"), "{error}");
    assert!(names(directory.path()).is_empty());
    BoundSocket::bind(&SocketSpec { guarded: false, ..spec(&path) }).await.unwrap();
    // As in /tmp, nobody can remove what is another's.
    set_mode(0o1777);
    bind(&path).await.unwrap();
    assert!(bind(&directory.path().join("no/a.sock")).await.is_err());
}

#[tokio::test]
async fn a_served_one_is_made_again_when_it_is_removed_and_waits_for_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.sock");
    let mut served = ServedSocket::new(spec(&path), Watches::default());
    served.ready().await;
    let server = tokio::spawn(async move {
        loop {
            drop(served.accept().await);
        }
    });
    UnixStream::connect(&path).await.unwrap();
    for _ in 0..3 {
        fs::remove_file(&path).unwrap();
        while UnixStream::connect(&path).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    }
    server.abort();
    let _ = server.await;
    assert!(names(directory.path()).is_empty(), "it goes with its server");
}
