//! Which signs tell outcomes apart: an ordered list of rules, found by covering one after the other.
//!
//! Must never write a rule that one of the examples contradicts: where two examples with the same signs
//! went differently, there is no list.

use std::collections::BTreeSet;

use super::sign::{Part, Sign, condition};

/// The most examples that are looked at.
const MAX_EXAMPLES: usize = 400;
/// The most rules of a list.
const MAX_RULES: usize = 20;
/// The most signs of an example that are combined in threes.
const MAX_IN_THREES: usize = 24;

/// What was seen, and how it went.
#[derive(Clone, Debug)]
pub struct Example<C> {
    /// How it went.
    pub class: C,
    /// What was seen.
    pub signs: BTreeSet<Sign>,
}

/// Signs that together tell one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling<C> {
    /// All of these.
    pub signs: Vec<Sign>,
    /// How it went then, if no earlier rule decided.
    pub class: C,
}

/// A list that decides every example as it went, and the examples that it cannot decide.
pub fn list<C: Clone + Ord>(examples: &[Example<C>]) -> (Vec<Telling<C>>, Vec<Example<C>>) {
    let mut left: Vec<&Example<C>> = examples.iter().take(MAX_EXAMPLES).collect();
    let mut rules = Vec::new();
    let mut classes: BTreeSet<&C> = left.iter().map(|example| &example.class).collect();
    if let (1, Some(class)) = (classes.len(), classes.pop_first()) {
        let rule = alone(&left).map(|signs| Telling { signs, class: class.clone() });
        let undecided = if rule.is_some() { Vec::new() } else { examples.to_vec() };
        return (rule.into_iter().collect(), undecided);
    }
    while !left.is_empty() && rules.len() < MAX_RULES {
        let classes: BTreeSet<&C> = left.iter().map(|example| &example.class).collect();
        let found = classes.into_iter().filter_map(|class| best(class, &left)).max_by_key(|(score, _)| *score);
        let Some((_, rule)) = found else { break };
        left.retain(|example| !rule.signs.iter().all(|sign| example.signs.contains(sign)));
        rules.push(rule);
    }
    (rules, left.into_iter().cloned().collect())
}

/// Nothing to be told from: what may come that was not seen should not pass easily.
fn alone<C>(examples: &[&Example<C>]) -> Option<Vec<Sign>> {
    let first = examples.first()?;
    let common = || {
        let everywhere = |sign: &&Sign| examples.iter().all(|example| example.signs.contains(sign));
        first.signs.iter().filter(|sign| !sign.is_asked()).filter(everywhere)
    };
    let status = common().find(|sign| matches!(sign, Sign::Status(_)));
    let strongest = common().filter(|sign| !matches!(sign, Sign::Status(_) | Sign::SessionKnown(false)));
    let mut signs: Vec<Sign> =
        strongest.min_by_key(|sign| sign.weakness()).into_iter().chain(status).cloned().collect();
    // What is done inside a session is nothing outside of one, unless the answer itself shows that.
    let known = Sign::SessionKnown(true);
    if common().any(|sign| *sign == known) && !signs.contains(&known) && signs.iter().all(|sign| sign.weakness() > 1) {
        signs.push(known);
    }
    (!signs.is_empty()).then_some(signs)
}

/// The rule that tells most of a class, by the fewest and most telling signs; and its worth.
fn best<'e, C: Clone + Ord>(class: &C, left: &[&'e Example<C>]) -> Option<(i64, Telling<C>)> {
    let (mine, others): (Vec<&'e Example<C>>, Vec<&'e Example<C>>) =
        left.iter().copied().partition(|example| example.class == *class);
    let mut found: Option<(i64, Vec<&'e Sign>)> = None;
    let mut consider = |signs: Vec<&'e Sign>| {
        let fits = |example: &&&Example<C>| signs.iter().all(|sign| example.signs.contains(*sign));
        if others.iter().any(|example| fits(&example)) || condition(signs.iter().copied(), Part::When).is_none() {
            return;
        }
        let covered = mine.iter().filter(fits).count();
        let weakness: u32 = signs.iter().map(|sign| sign.weakness()).sum();
        let worth = (1000 * covered / mine.len().max(1)) as i64 - 60 * i64::from(weakness) - 100 * signs.len() as i64;
        if found.as_ref().is_none_or(|(best, _)| worth > *best) {
            found = Some((worth, signs));
        }
    };
    // Examples with the same signs lead to the same rules.
    let seeds: BTreeSet<&'e BTreeSet<Sign>> = mine.iter().map(|example| &example.signs).collect();
    for seed in seeds.into_iter().take(24) {
        let signs: Vec<&'e Sign> = seed.iter().collect();
        for (i, one) in signs.iter().enumerate() {
            consider(vec![one]);
            for (j, two) in signs.iter().enumerate().skip(i + 1) {
                consider(vec![one, two]);
                for three in signs.iter().take(MAX_IN_THREES).skip(j + 1) {
                    consider(vec![one, two, three]);
                }
            }
        }
    }
    let (worth, signs) = found?;
    Some((worth, Telling { signs: signs.into_iter().cloned().collect(), class: class.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(class: &'static str, signs: &[Sign]) -> Example<&'static str> {
        Example { class, signs: signs.iter().cloned().collect() }
    }

    #[test]
    fn every_example_is_decided_as_it_went_by_the_first_rule_that_holds() {
        let (home, code) = (Sign::Location("/".into()), Sign::Location("/code".into()));
        let session = Sign::Cookie("sid".into());
        let examples = [
            example("in", &[Sign::Status(302), home.clone(), session.clone()]),
            example("code", &[Sign::Status(302), code.clone(), session.clone()]),
            example("wrong", &[Sign::Status(200), Sign::AsksPassword]),
            example("wrong", &[Sign::Status(429)]),
            example("nothing", &[Sign::Status(302), home]),
        ];
        let (rules, left) = list(&examples);
        assert!(left.is_empty(), "{left:?}");
        for example in &examples {
            let first = rules.iter().find(|rule| rule.signs.iter().all(|sign| example.signs.contains(sign)));
            assert_eq!(first.map(|rule| rule.class), Some(example.class), "{rules:?}");
        }
    }

    #[test]
    fn where_signs_do_not_tell_there_is_no_rule() {
        let redirect = [Sign::Status(302), Sign::Location("/".into())];
        let (rules, left) = list(&[example("in", &redirect), example("wrong", &redirect)]);
        assert!(rules.is_empty());
        assert_eq!(left.len(), 2);
    }
}
