//! Free text: words that all must be there, in the index and in what is not indexed yet.
//!
//! Whatever a person types is a list of words and never an expression of the index's own language.
//! The invariant: both ways of looking find the same events, letters beyond ASCII with accents
//! excepted, which the index folds.

/// Words of a search. A word like `203.0.113.7` is several tokens that must follow each other.
#[derive(Debug, PartialEq, Eq)]
pub struct Words(Vec<Word>);

#[derive(Debug, PartialEq, Eq)]
struct Word {
    tokens: Vec<String>,
    /// The last token may go on.
    open: bool,
}

impl Words {
    /// Reads words between white space.
    pub fn parse(text: &str) -> Words {
        let words = text.split_whitespace().map(|word| Word { tokens: tokens(word), open: word.ends_with('*') });
        Words(words.filter(|word| !word.tokens.is_empty()).collect())
    }

    /// The question to the index; `None` if there is no word in it.
    pub fn query(&self) -> Option<String> {
        let words: Vec<String> = self
            .0
            .iter()
            .map(|word| format!("\"{}\"{}", word.tokens.join(" "), if word.open { "*" } else { "" }))
            .collect();
        (!words.is_empty()).then(|| words.join(" AND "))
    }

    /// True if all of them are in a text.
    pub fn are_in(&self, text: &str) -> bool {
        let there = tokens(text);
        self.0.iter().all(|word| {
            let Some((last, before)) = word.tokens.split_last() else { return true };
            there.windows(word.tokens.len()).any(|window| {
                let Some((end, begin)) = window.split_last() else { return false };
                begin == before && if word.open { end.starts_with(last) } else { end == last }
            })
        })
    }
}

/// What the index takes for words: runs of letters and digits, in lower case.
fn tokens(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|t| !t.is_empty()).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_phrases_and_never_an_expression() {
        assert_eq!(
            Words::parse("Alice 203.0.113.7 fire*").query().as_deref(),
            Some("\"alice\" AND \"203 0 113 7\" AND \"fire\"*")
        );
        assert_eq!(Words::parse("\" OR x NEAR(").query().as_deref(), Some("\"or\" AND \"x\" AND \"near\""));
        assert_eq!(Words::parse(" -- ").query(), None);
    }

    #[test]
    fn a_text_is_searched_as_the_index_would_be() {
        let text = "alice@example.test\n203.0.113.7\nFirefox";
        for there in ["ALICE", "example.test firefox", "203.0.113.7", "fire*", "203.0.*"] {
            assert!(Words::parse(there).are_in(text), "{there}");
        }
        for absent in ["alic", "bob", "113.0", "fire", "firefox alicia"] {
            assert!(!Words::parse(absent).are_in(text), "{absent}");
        }
    }
}
