use std::sync::atomic::AtomicU64;

use super::*;
use crate::config::problem::Problems;
use crate::spool::sample::stored;

/// A folder, a clock that is moved by hand, and a file sink's thread without the thread.
struct Bench {
    folder: tempfile::TempDir,
    path: PathBuf,
    passed_ms: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
    log: Log,
    written: Vec<String>,
}

impl Bench {
    fn new(rotate: Option<Rotate>) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let plan = Plan { path: path.clone(), rotate, mode: None, sync: true };
        let (passed_ms, reopen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let clock = passed_ms.clone();
        // One beginning for all, as the file system stamps files by the real clock.
        let began = SystemTime::now();
        let now = Box::new(move || began + Duration::from_millis(clock.load(Relaxed)));
        let log = Log::new(&plan, path.clone(), reopen.clone(), now);
        Bench { folder, path, passed_ms, reopen, log, written: Vec::new() }
    }

    fn pass(&self, time: Duration) {
        self.passed_ms.fetch_add(time.as_millis() as u64, Relaxed);
    }

    /// Writes this many lines of ten bytes each.
    fn write(&mut self, count: usize) {
        self.try_write(count).unwrap();
    }

    fn try_write(&mut self, count: usize) -> Result<(), SinkError> {
        let first = self.written.len();
        let lines: Vec<String> = (first..first + count).map(|n| format!("line {n:04}")).collect();
        let batch: Vec<Arc<str>> = lines.iter().map(|line| line.as_str().into()).collect();
        self.log.write(&batch)?;
        self.written.extend(lines);
        Ok(())
    }

    fn numbered(&self, n: u64) -> PathBuf {
        numbered(&self.path, n)
    }

    /// The lines of these files one after the other, each of which must be whole.
    fn lines(&self, files: &[PathBuf]) -> Vec<String> {
        let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(str::to_owned).collect()
    }
}

fn by_size(size: u64, keep: u64) -> Option<Rotate> {
    Some(Rotate { size: Some(size), age: None, keep })
}

#[test]
fn rotation_by_size_keeps_as_many_as_wanted_and_loses_no_line_of_them() {
    let mut bench = Bench::new(by_size(50, 3));
    for _ in 0..11 {
        bench.write(2);
    }
    // 22 lines of ten bytes: two batches a file.
    let kept = [bench.numbered(3), bench.numbered(2), bench.numbered(1), bench.path.clone()];
    assert_eq!(bench.lines(&kept), bench.written[8..]);
    assert!(kept.iter().all(|file| fs::metadata(file).unwrap().len() <= 50));
    assert_eq!(fs::read_dir(bench.folder.path()).unwrap().count(), 4);
}

#[test]
fn a_batch_larger_than_the_size_stays_whole() {
    let mut bench = Bench::new(by_size(50, 3));
    bench.write(1);
    bench.write(20);
    bench.write(1);
    assert_eq!(bench.lines(&[bench.numbered(1)]).len(), 20);
    assert_eq!(bench.lines(&[bench.numbered(2), bench.numbered(1), bench.path.clone()]), bench.written);
}

#[test]
fn rotation_by_age_counts_from_the_first_line_and_holds_over_a_restart() {
    let hour = Duration::from_secs(3600);
    let rotate = Some(Rotate { size: None, age: Some(hour), keep: 3 });
    let mut bench = Bench::new(rotate);
    bench.write(1);
    bench.pass(hour / 2);
    bench.write(1);
    assert!(!bench.numbered(1).exists());
    // A restart: the age is that of the file, not of the process.
    bench.log.open = None;
    bench.log.opened().unwrap();
    bench.pass(hour / 2 + Duration::from_secs(5));
    bench.write(1);
    assert_eq!(bench.lines(&[bench.numbered(1)]), bench.written[..2]);
    // Long without events: an empty file grows no older.
    fs::write(&bench.path, "").unwrap();
    bench.pass(hour * 5);
    bench.write(1);
    bench.pass(hour / 2);
    bench.write(1);
    assert_eq!(bench.lines(std::slice::from_ref(&bench.path)), bench.written[3..]);
}

#[test]
fn a_shift_that_was_broken_off_goes_on_and_loses_no_file() {
    let bench = Bench::new(None);
    for (n, text) in [(1, "one"), (3, "three"), (4, "four")] {
        fs::write(bench.numbered(n), text).unwrap();
    }
    fs::write(&bench.path, "now").unwrap();
    shift(&bench.path, 4).unwrap();
    let found: Vec<String> = (1..=4).map(|n| fs::read_to_string(bench.numbered(n)).unwrap()).collect();
    assert_eq!(found, ["now", "one", "three", "four"]);
}

#[test]
fn a_rotation_that_fails_delays_no_event_and_is_tried_again_later() {
    let mut bench = Bench::new(by_size(20, 1));
    fs::create_dir(bench.numbered(1)).unwrap();
    for _ in 0..4 {
        bench.write(1);
    }
    assert_eq!(bench.lines(std::slice::from_ref(&bench.path)), bench.written);
    fs::remove_dir(bench.numbered(1)).unwrap();
    bench.write(1);
    assert!(!bench.numbered(1).exists(), "left alone for a while");
    bench.pass(ROTATE_AGAIN);
    bench.write(1);
    assert_eq!(bench.lines(&[bench.numbered(1), bench.path.clone()]), bench.written);
    assert_eq!(bench.lines(std::slice::from_ref(&bench.path)).len(), 1);
}

#[test]
fn a_file_moved_away_is_noticed_within_a_second_and_no_line_is_lost() {
    let mut bench = Bench::new(None);
    bench.write(2);
    let moved = bench.folder.path().join("moved");
    fs::rename(&bench.path, &moved).unwrap();
    bench.pass(LOOK / 2);
    bench.write(1);
    assert!(!bench.path.exists(), "within the second the open file is trusted");
    bench.pass(LOOK / 2);
    bench.write(1);
    assert_eq!(bench.lines(&[moved.clone(), bench.path.clone()]), bench.written);
    assert_eq!(bench.lines(&[moved]).len(), 3);
}

#[test]
fn a_signal_to_reopen_takes_effect_at_once() {
    let mut bench = Bench::new(None);
    bench.write(2);
    let moved = bench.folder.path().join("moved");
    fs::rename(&bench.path, &moved).unwrap();
    bench.reopen.store(true, Relaxed);
    bench.log.reopen_if_asked();
    assert!(bench.path.exists());
    bench.write(1);
    assert_eq!(bench.lines(std::slice::from_ref(&bench.path)), bench.written[2..]);
}

#[test]
fn nothing_is_written_where_nobody_would_find_it() {
    let mut bench = Bench::new(None);
    bench.write(1);
    let folder = bench.folder.path().to_owned();
    fs::remove_dir_all(&folder).unwrap();
    bench.pass(LOOK);
    let error = bench.try_write(1).unwrap_err().to_string();
    assert!(error.contains("cannot open") && error.contains("events.jsonl"), "{error}");
    fs::create_dir(&folder).unwrap();
    bench.write(1);
    assert_eq!(bench.lines(std::slice::from_ref(&bench.path)), bench.written[1..]);
}

#[test]
fn a_file_truncated_by_copytruncate_is_gone_on_with() {
    let mut bench = Bench::new(by_size(45, 2));
    bench.write(4);
    File::options().write(true).open(&bench.path).unwrap().set_len(0).unwrap();
    bench.pass(LOOK);
    bench.write(2);
    assert_eq!(bench.lines(std::slice::from_ref(&bench.path)), bench.written[4..]);
    assert!(!bench.numbered(1).exists(), "its size is counted from the truncation");
}

/// A file on a disk with this much room left.
struct FullDisk {
    file: File,
    room: Arc<AtomicU64>,
    cannot_take_back: bool,
}

impl Write for FullDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.room.load(Relaxed).min(bytes.len() as u64);
        if room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = self.file.write(&bytes[..room as usize])?;
        self.room.fetch_sub(written as u64, Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Out for FullDisk {
    fn take_back(&mut self, count: u64) -> io::Result<()> {
        if self.cannot_take_back {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.room.fetch_add(count, Relaxed);
        Out::take_back(&mut self.file, count)
    }

    fn sync(&mut self) -> io::Result<()> {
        Out::sync(&mut self.file)
    }
}

/// The bench with its file on such a disk.
fn on_full_disk(room: u64, cannot_take_back: bool) -> (Bench, Arc<AtomicU64>) {
    let mut bench = Bench::new(None);
    bench.log.opened().unwrap();
    let room = Arc::new(AtomicU64::new(room));
    let file = File::options().append(true).open(&bench.path).unwrap();
    let disk = FullDisk { file, room: room.clone(), cannot_take_back };
    bench.log.open.as_mut().unwrap().out = Box::new(disk);
    (bench, room)
}

#[test]
fn a_full_disk_leaves_whole_lines_and_the_batch_stands_once_when_there_is_room_again() {
    for room in [20, 25, 30, 35, 49] {
        let (mut bench, left) = on_full_disk(room, false);
        bench.write(2);
        for _ in 0..2 {
            let error = bench.try_write(3).unwrap_err().to_string();
            assert!(error.contains("cannot write to"), "{error}");
            assert_eq!(bench.lines(std::slice::from_ref(&bench.path)), bench.written, "{room}");
        }
        left.store(1000, Relaxed);
        bench.write(3);
        assert_eq!(bench.lines(std::slice::from_ref(&bench.path)), bench.written, "{room}");
        assert_eq!(bench.log.opened().unwrap().len, 50);
    }
}

#[test]
fn a_torn_line_that_cannot_be_taken_back_is_ended() {
    let (mut bench, left) = on_full_disk(25, true);
    bench.write(2);
    assert!(bench.try_write(2).is_err());
    left.store(1000, Relaxed);
    bench.write(2);
    let text = fs::read_to_string(&bench.path).unwrap();
    assert_eq!(text, "line 0000\nline 0001\nline \nline 0002\nline 0003\n");
}

#[test]
fn a_line_torn_by_a_crash_does_not_swallow_the_next() {
    let mut bench = Bench::new(None);
    fs::write(&bench.path, "line 9998\nline 9").unwrap();
    bench.write(1);
    bench.write(1);
    assert_eq!(fs::read_to_string(&bench.path).unwrap(), "line 9998\nline 9\nline 0000\nline 0001\n");
}

#[test]
fn what_another_process_wrote_is_not_taken_back() {
    let bench = Bench::new(None);
    let mut ours = File::options().create(true).append(true).open(&bench.path).unwrap();
    ours.write_all(b"ours\n").unwrap();
    File::options().append(true).open(&bench.path).unwrap().write_all(b"theirs\n").unwrap();
    assert!(ours.take_back(5).is_err());
    assert_eq!(fs::read_to_string(&bench.path).unwrap(), "ours\ntheirs\n");
}

fn plan(yaml: &str) -> (Option<Box<dyn SinkPlan>>, String) {
    let mut problems = Problems::new("routes.yaml", yaml);
    let node = Node::parse(yaml, &mut problems).unwrap();
    let map = node.map(FIELDS, &mut problems).unwrap();
    (check(&map, &mut problems), problems.to_string())
}

fn cx(base: &Path) -> BuildCx {
    BuildCx::new(base.to_owned(), false)
}

#[tokio::test]
async fn a_built_sink_writes_beside_the_configuration_and_reopens_without_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let (plan, problems) = plan("{ path: events.jsonl, mode: 0600, sync: on, rotate: { size: 100MB, age: 1d } }");
    assert_eq!(problems, "");
    let sink = plan.unwrap().build(&cx(folder.path())).unwrap();
    sink.probe().await.unwrap();
    let batch = [stored(1, "alice"), stored(2, "bob")];
    assert!(matches!(sink.send(&batch).await, Verdict::Delivered));
    let path = folder.path().join("events.jsonl");
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n{}\n", batch[0].line, batch[1].line));
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    fs::rename(&path, folder.path().join("moved")).unwrap();
    sink.reopen();
    // The thread does one job after the other, so this answer comes after the reopening.
    sink.probe().await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

#[tokio::test]
async fn a_device_without_room_is_a_reason_to_try_again() {
    let (plan, _) = plan("{ path: /dev/full, sync: on, rotate: { size: 1KiB } }");
    let sink = plan.unwrap().build(&cx(Path::new("."))).unwrap();
    for _ in 0..2 {
        let Verdict::Retry { after: None, why } = sink.send(&[stored(1, "alice")]).await else { panic!("retry") };
        assert!(why.to_string().starts_with("cannot write to /dev/full: "), "{why}");
    }
}

#[test]
fn what_cannot_work_fails_at_the_start_and_names_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("taken")).unwrap();
    for (path, expected) in [("none/events.jsonl", "make it, or change `path`"), ("taken", "it is a folder")] {
        let (plan, _) = plan(&format!("{{ path: {path} }}"));
        let Err(error) = plan.unwrap().build(&cx(folder.path())) else { panic!("{path} cannot work") };
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn the_configuration_is_read_with_its_units_and_slips_are_told() {
    for (yaml, expected) in [
        ("{}", "`path` is missing"),
        ("{ path: \"\" }", "`path` names no file"),
        ("{ path: logs/ }", "`path` names no file"),
        ("{ path: x, rotate: { keep: 3 } }", "`rotate` does not say when"),
        ("{ path: x, rotate: { size: 100 } }", "100 bytes are too small a file"),
        ("{ path: x, rotate: { age: 0 } }", "an age of zero"),
        ("{ path: x, rotate: { size: 1MB, keep: 0 } }", "from 1 to 1000"),
        ("{ path: x, rotate: { sise: 1MB } }", "did you mean `size`?"),
        ("{ path: x, mode: 0999 }", "is no file mode"),
        ("{ path: x, mode: \"+640\" }", "is no file mode"),
        ("{ path: x, mode: 04755 }", "is no file mode"),
        ("{ path: x, mode: 0440 }", "could not be opened again"),
        ("{ path: x, mode: 0644 }", "every account of this machine"),
        ("{ path: x, sync: perhaps }", "expected true or false"),
    ] {
        let (_, problems) = plan(yaml);
        assert!(problems.contains(expected), "{yaml}: {problems}");
    }
    for yaml in ["{ path: x }", "{ path: x, mode: 0o640, rotate: { age: 12h, keep: 30 } }", "{ path: x, mode: 600 }"] {
        let (plan, problems) = plan(yaml);
        assert!(plan.is_some() && problems.is_empty(), "{yaml}: {problems}");
    }
}
