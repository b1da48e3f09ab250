use super::*;
use crate::spool::sample::stored;

/// A receiver that answers by a script of its own, and remembers what it was sent.
struct Script<F> {
    answer: F,
    sent: Mutex<Vec<Vec<u64>>>,
}

impl<F: Fn(&[Stored], usize) -> Answer + Send + Sync> Courier for Script<F> {
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        let mut sent = self.sent.lock().unwrap();
        sent.push(part.iter().map(|one| one.seq).collect());
        let answer = (self.answer)(part, sent.len());
        Box::pin(async move { answer })
    }
}

fn script<F: Fn(&[Stored], usize) -> Answer + Send + Sync>(answer: F) -> Script<F> {
    Script { answer, sent: Mutex::default() }
}

fn batch(count: u64) -> Vec<Stored> {
    (1..=count).map(|seq| stored(seq, "alice")).collect()
}

const WIDE: Limits = Limits { events: 500, bytes: 1 << 20 };

fn refused(divisible: bool) -> Answer {
    Answer::Refused { why: SinkError::Other("no".into()), divisible }
}

fn later() -> Answer {
    Answer::Later { after: None, why: SinkError::Other("busy".into()) }
}

fn which(verdict: &Verdict) -> Option<&[usize]> {
    match verdict {
        Verdict::Delivered => Some(&[]),
        Verdict::Refused { which, .. } => Some(which),
        Verdict::Retry { .. } => None,
    }
}

#[tokio::test]
async fn the_one_event_that_is_the_reason_is_found_and_the_others_are_delivered() {
    let poison = |part: &[Stored], _| if part.iter().any(|one| one.seq == 6) { refused(true) } else { Answer::Taken };
    let receiver = script(poison);
    let verdict = Ledger::default().deliver(&receiver, WIDE, &batch(8)).await;
    assert_eq!(which(&verdict), Some(&[5][..]));
    assert_eq!(receiver.sent.lock().unwrap().len(), 7, "halved, not one by one: {:?}", receiver.sent.lock().unwrap());
}

#[tokio::test]
async fn what_is_refused_as_a_whole_is_not_taken_apart() {
    let receiver = script(|_, _| refused(false));
    let verdict = Ledger::default().deliver(&receiver, WIDE, &batch(3)).await;
    assert_eq!(which(&verdict), Some(&[0, 1, 2][..]));
    assert_eq!(receiver.sent.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_settled_before_a_failure_is_neither_sent_nor_forgotten() {
    let limits = Limits { events: 2, ..WIDE };
    // The first part is refused, the second taken, the third comes too early.
    let receiver = script(|_, turn| match turn {
        1 => refused(false),
        3 => later(),
        _ => Answer::Taken,
    });
    let (ledger, batch) = (Ledger::default(), batch(5));
    assert_eq!(which(&ledger.deliver(&receiver, limits, &batch).await), None);
    assert_eq!(which(&ledger.deliver(&receiver, limits, &batch).await), Some(&[0, 1][..]));
    assert_eq!(*receiver.sent.lock().unwrap(), [vec![1, 2], vec![3, 4], vec![5], vec![5]]);
    assert!(ledger.settled().is_empty(), "nothing is remembered beyond the batch");
    assert_eq!(which(&ledger.deliver(&receiver, limits, &batch).await), Some(&[][..]), "it begins anew");
}

#[tokio::test]
async fn a_ledger_forgets_what_another_batch_does_not_have() {
    let receiver = script(|_, turn| if turn == 2 { later() } else { Answer::Taken });
    let limits = Limits { events: 1, ..WIDE };
    let ledger = Ledger::default();
    assert_eq!(which(&ledger.deliver(&receiver, limits, &batch(3)).await), None);
    assert_eq!(which(&ledger.deliver(&receiver, limits, &batch(2)).await), Some(&[][..]));
    assert_eq!(receiver.sent.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn each_event_has_its_own_fate_and_a_missing_one_is_tried_again() {
    let fates = |fates: Vec<Fate>| Answer::Items(fates);
    let receiver = script(move |_, turn| match turn {
        1 => fates(vec![Fate::Taken, Fate::Refused("mapping".into()), Fate::Later("busy".into())]),
        2 => fates(Vec::new()),
        _ => fates(vec![Fate::Taken]),
    });
    let (ledger, batch) = (Ledger::default(), batch(3));
    assert_eq!(which(&ledger.deliver(&receiver, WIDE, &batch).await), None);
    assert_eq!(which(&ledger.deliver(&receiver, WIDE, &batch).await), None, "an answer without items settles nothing");
    let verdict = ledger.deliver(&receiver, WIDE, &batch).await;
    assert!(matches!(&verdict, Verdict::Refused { which, why } if which == &[1] && why.to_string() == "mapping"));
    assert_eq!(*receiver.sent.lock().unwrap(), [vec![1, 2, 3], vec![3], vec![3]]);
}

#[test]
fn parts_keep_to_both_limits_and_an_event_that_is_too_long_goes_alone() {
    let batch = batch(5);
    let length = batch[0].line.len();
    let sizes = |limits| cut(&batch, limits).iter().map(|part| part.len()).collect::<Vec<_>>();
    assert_eq!(sizes(Limits { events: 2, bytes: 1 << 20 }), [2, 2, 1]);
    assert_eq!(sizes(Limits { events: 500, bytes: length * 3 + 5 }), [3, 2]);
    assert_eq!(sizes(Limits { events: 500, bytes: 1 }), [1; 5]);
    assert_eq!(sizes(Limits { events: 0, bytes: 0 }), [1; 5]);
}

#[test]
fn the_key_of_a_part_is_its_own_and_the_same_each_time() {
    let batch = batch(3);
    assert_eq!(key_of(&batch[..1]), batch[0].event.id.to_string());
    assert_eq!(key_of(&batch), key_of(&batch));
    assert_ne!(key_of(&batch), key_of(&batch[..2]));
}
