use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};

use super::*;
use crate::spool::sample::stored;

/// A stream that can be made to fail, and counts flushes.
#[derive(Clone, Default)]
struct Stream(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    flushes: usize,
    calls: usize,
    /// For each coming write: how many bytes it takes, or how it fails.
    script: VecDeque<Result<usize, io::ErrorKind>>,
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock().unwrap();
        state.calls += 1;
        let taken = state.script.pop_front().unwrap_or(Ok(bytes.len())).map_err(io::Error::from)?.min(bytes.len());
        state.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().flushes += 1;
        Ok(())
    }
}

fn lines(names: &[&str]) -> Vec<Arc<str>> {
    (1..).zip(names).map(|(seq, name)| stored(seq, name).line).collect()
}

fn text(stream: &Stream) -> String {
    String::from_utf8(stream.0.lock().unwrap().bytes.clone()).unwrap()
}

#[test]
fn json_is_the_stored_line_as_it_is_with_one_write_and_one_flush_a_batch() {
    let stream = Stream::default();
    let mut out = Out::new(Box::new(stream.clone()), Style::Json);
    let batch = lines(&["alice", "bob"]);
    assert!(matches!(out.write(&batch), Verdict::Delivered));
    assert_eq!(text(&stream), format!("{}\n{}\n", batch[0], batch[1]));
    let state = stream.0.lock().unwrap();
    assert_eq!((state.calls, state.flushes), (1, 1));
}

#[test]
fn pretty_has_colours_only_where_they_are_wanted() {
    for (style, coloured) in [(Style::Colour, true), (Style::Plain, false)] {
        let stream = Stream::default();
        Out::new(Box::new(stream.clone()), style).write(&lines(&["alice"]));
        let text = text(&stream);
        assert!(text.contains("user.login.failed") && text.contains("alice") && text.ends_with('\n'), "{text:?}");
        assert_eq!(text.contains('\u{1b}'), coloured, "{text:?}");
    }
}

#[test]
fn a_line_that_was_torn_is_ended_before_the_batch_is_written_again() {
    let stream = Stream::default();
    stream.0.lock().unwrap().script.extend([Ok(10), Err(io::ErrorKind::WouldBlock), Err(io::ErrorKind::WouldBlock)]);
    let mut out = Out::new(Box::new(stream.clone()), Style::Json);
    let batch = lines(&["alice", "bob"]);
    assert!(matches!(out.write(&batch), Verdict::Retry { after: None, .. }));
    assert!(matches!(out.write(&batch), Verdict::Retry { .. }), "nothing written: still torn");
    assert!(matches!(out.write(&batch), Verdict::Delivered));
    let torn = &batch[0][..10];
    assert_eq!(text(&stream), format!("{torn}\n{}\n{}\n", batch[0], batch[1]));
}

#[test]
fn a_reader_that_has_gone_is_told_as_refused_and_never_written_to_again() {
    let stream = Stream::default();
    stream.0.lock().unwrap().script.extend([Err(io::ErrorKind::BrokenPipe)]);
    let mut out = Out::new(Box::new(stream.clone()), Style::Json);
    for batch in [lines(&["alice", "bob"]), lines(&["carol"])] {
        let Verdict::Refused { which, why } = out.write(&batch) else { panic!("refused") };
        assert_eq!(which.len(), batch.len());
        assert!(why.to_string().contains("standard output is closed"));
    }
    assert_eq!(stream.0.lock().unwrap().calls, 1);
}

#[tokio::test]
async fn a_paused_terminal_keeps_nobody_else_waiting() {
    /// Takes a write only when told to.
    struct Paused(Receiver<()>);
    impl Write for Paused {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (resume, paused) = sync_channel(1);
    let out = Out::new(Box::new(Paused(paused)), Style::Json);
    let sink = Stdout { worker: Worker::start("test", out).unwrap() };
    let sending = tokio::spawn(async move { sink.send(&[stored(1, "alice")]).await });
    // This thread is the only one of the runtime: if the write blocked it, this would not be reached.
    tokio::spawn(async {}).await.unwrap();
    assert!(!sending.is_finished());
    resume.send(()).unwrap();
    assert!(matches!(sending.await.unwrap(), Verdict::Delivered));
}

#[test]
fn a_format_is_a_word_of_its_own_or_any_other() {
    use crate::sinks::http::receiver::{problems, spec};
    for (yaml, format, plain) in [
        ("{ type: stdout }", "auto", true),
        ("{ type: stdout, format: pretty }", "pretty", true),
        ("{ type: stdout, format: json }", "json", true),
        ("{ type: stdout, format: cef }", "cef", false),
        ("{ type: stdout, format: { type: ocsf, version: 1.3.0 } }", "ocsf", false),
    ] {
        let shape = spec(yaml).shape;
        assert_eq!((shape.media().format, shape.is_plain()), (format, plain), "{yaml}");
    }
    let told = problems("{ type: stdout, format: prety }");
    assert!(told.contains("did you mean `pretty`?"), "{told}");
}
