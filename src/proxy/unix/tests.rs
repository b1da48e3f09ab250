use super::*;

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.sock");
    (folder, path)
}

#[test]
fn the_file_has_its_mode_and_is_removed_at_the_end() {
    let (_folder, path) = place();
    let (listeners, file) = bind(&path, 3).expect("it listens");
    assert_eq!((listeners.len(), file.path()), (3, path.as_path()));
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o660);
    UnixStream::connect(&path).expect("somebody listens");
    drop((file, listeners));
    assert!(!path.exists());
}

#[test]
fn a_socket_that_nobody_listens_on_is_replaced() {
    let (_folder, path) = place();
    drop(UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "a process that is killed leaves it");
    let _bound = bind(&path, 1).expect("replaced");
    UnixStream::connect(&path).expect("somebody listens");
}

#[test]
fn a_socket_in_use_and_a_file_are_left_alone() {
    let (_folder, path) = place();
    let used = UnixListener::bind(&path).expect("a socket");
    assert_eq!(bind(&path, 1).expect_err("in use").kind(), io::ErrorKind::AddrInUse);
    UnixStream::connect(&path).expect("the other one listens still");
    drop(used);
    std::fs::remove_file(&path).expect("removed");
    std::fs::write(&path, "precious").expect("a file");
    assert_eq!(bind(&path, 1).expect_err("a file").kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&path).expect("still there"), "precious");
}

#[test]
fn what_another_has_put_in_its_place_is_not_removed() {
    let (_folder, path) = place();
    let (listeners, file) = bind(&path, 1).expect("it listens");
    std::fs::remove_file(&path).expect("removed by somebody else");
    let _next = bind(&path, 1).expect("it takes over");
    drop((file, listeners));
    UnixStream::connect(&path).expect("the next one listens");
}
