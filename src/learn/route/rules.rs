//! The rules of a route: the list that tells its outcomes apart, and where the next request has to.

use super::Then;
use crate::learn::observe::Seen;
use crate::learn::place::{Topic, Went};
use crate::learn::rules::{Example, Telling, list};
use crate::learn::sign::Sign;

/// What came of it, without what was asked for.
pub(super) fn answered(example: &Example<Went>) -> Example<Went> {
    let signs = example.signs.iter().filter(|sign| !sign.is_asked()).cloned().collect();
    Example { class: example.class.clone(), signs }
}

pub(super) fn plain(rules: Vec<Telling<Went>>) -> Vec<(Vec<Sign>, Then)> {
    rules.into_iter().map(|rule| (rule.signs, Then::Decides(rule.class))).collect()
}

/// The same without rules for nothing that the default says too, and with an answer's status beside what
/// was only asked for: that it was asked for does not show that it was done.
pub(super) fn shown(mut rules: Vec<(Vec<Sign>, Then)>, all: &[Example<Went>], topic: Topic) -> Vec<(Vec<Sign>, Then)> {
    let nothing = |rule: Option<&(Vec<Sign>, Then)>| matches!(rule, Some((_, Then::Decides(Went::Nothing))));
    while topic.name != "login" && nothing(rules.last()) {
        rules.pop();
    }
    for (signs, then) in &mut rules {
        let Then::Decides(went) = then else { continue };
        if *went != Went::Nothing && signs.iter().all(|sign| sign.is_asked() || matches!(sign, Sign::SessionKnown(_))) {
            let mine = || all.iter().filter(|example| example.class == *went);
            let status = mine().next().and_then(|example| example.signs.iter().find(|s| matches!(s, Sign::Status(_))));
            signs.extend(status.filter(|status| mine().all(|example| example.signs.contains(*status))).cloned());
        }
    }
    rules
}

/// Rules where the page behind a redirect tells what the redirect does not.
pub(super) fn follow(
    examples: &[(&Seen, Example<Went>)],
    all: &[Example<Went>],
    rules: Vec<Telling<Went>>,
) -> Option<Vec<(Vec<Sign>, Then)>> {
    let decided =
        |example: &Example<Went>| rules.iter().any(|rule| rule.signs.iter().all(|sign| example.signs.contains(sign)));
    let open: Vec<(&Seen, &Example<Went>)> =
        examples.iter().map(|(seen, _)| *seen).zip(all).filter(|(_, example)| !decided(example)).collect();
    let next = open
        .iter()
        .filter_map(|(seen, example)| Some(Example { class: example.class.clone(), signs: seen.next.clone()? }));
    let next: Vec<Example<Went>> = next.collect();
    // Nothing may have happened without a page behind it; an event was decided by one.
    let all_told = open.iter().all(|(seen, example)| seen.next.is_some() || example.class == Went::Nothing);
    let (told, left) = list(&next);
    if !all_told || next.is_empty() || !left.is_empty() || told.is_empty() {
        return None;
    }
    let status = open
        .iter()
        .find_map(|(_, example)| example.signs.iter().find(|sign| matches!(sign, Sign::Status(_))).cloned())?;
    let same = open.iter().all(|(_, example)| example.signs.contains(&status));
    let mut made = plain(rules);
    made.push((vec![status], Then::Follows(told)));
    same.then_some(made)
}
