//! What is wrong with a configuration, and how it is shown: all at once, each with its file, line,
//! column, excerpt and a hint.
//!
//! A problem is for the person who wrote the file: it points at the very characters, says what is
//! wrong with them, and names the remedy. It must never show a secret: what may hold one is blotted
//! out of the excerpt. The invariant: whatever the file, the work and the report are bounded; what
//! goes beyond is counted.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use super::node::{Key, Node};

/// The most problems that are kept and shown; nobody reads further, and each costs memory.
pub const MAX_SHOWN: usize = 100;

/// The longest line that is shown, in bytes; of a longer one only the place is named.
const MAX_EXCERPT: usize = 4096;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration works, but hardly as meant.
    Warning,
    /// The configuration is refused.
    Error,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Byte range in the source.
    pub span: Range<usize>,
    /// Where it stands in the tree: `routes[2].rules[0].when`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
    /// True if the place may hold a secret, which the excerpt then does not show.
    pub blotted: bool,
}

impl Problem {
    /// An error.
    pub fn error(span: Range<usize>, path: &str, message: String) -> Problem {
        Problem { severity: Severity::Error, span, path: path.to_owned(), message, hint: None, blotted: false }
    }

    /// The same with a hint.
    pub fn hint(mut self, hint: &str) -> Problem {
        self.hint = Some(hint.to_owned());
        self
    }
}

/// Every problem of one file, with the source to show them in.
#[derive(Clone, Debug)]
pub struct Problems {
    /// The name of the file as the user gave it.
    pub file: String,
    source: String,
    /// Where each line begins.
    lines: Vec<usize>,
    list: Vec<Problem>,
    errors: usize,
    warnings: usize,
}

impl Problems {
    /// No problems yet with this source.
    pub fn new(file: &str, source: &str) -> Problems {
        let lines = std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Problems { file: file.to_owned(), source: source.to_owned(), lines, list: Vec::new(), errors: 0, warnings: 0 }
    }

    /// Adds one. Beyond [`MAX_SHOWN`] it is only counted; an error then takes the place of a warning.
    pub fn push(&mut self, problem: Problem) {
        match problem.severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
        }
        if self.list.len() < MAX_SHOWN {
            self.list.push(problem);
        } else if problem.severity == Severity::Error
            && let Some(warning) = self.list.iter_mut().rev().find(|p| p.severity == Severity::Warning)
        {
            *warning = problem;
        }
    }

    /// Adds an error at a node.
    pub fn error(&mut self, at: &Node, message: String) {
        self.push(Problem::error(at.span.clone(), &at.path, message));
    }

    /// Adds an error at a node with a hint.
    pub fn error_hint(&mut self, at: &Node, message: String, hint: &str) {
        self.push(Problem::error(at.span.clone(), &at.path, message).hint(hint));
    }

    /// Adds an error at a node that may hold a secret, which the excerpt does not show.
    pub fn error_blotted(&mut self, at: &Node, message: String, hint: &str) {
        self.push(Problem { blotted: true, ..Problem::error(at.span.clone(), &at.path, message).hint(hint) });
    }

    /// Adds an error at a key of the mapping `of` with a hint.
    pub fn error_key(&mut self, of: &Node, key: &Key, message: String, hint: &str) {
        self.push(Problem::error(key.span.clone(), &of.path, message).hint(hint));
    }

    /// Adds a warning at a node with a hint.
    pub fn warn(&mut self, at: &Node, message: String, hint: &str) {
        let problem = Problem::error(at.span.clone(), &at.path, message).hint(hint);
        self.push(Problem { severity: Severity::Warning, ..problem });
    }

    /// True if there is nothing to report.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// True if the configuration must be refused.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// How many errors and warnings there are, shown or not.
    pub fn counts(&self) -> (usize, usize) {
        (self.errors, self.warnings)
    }

    /// How many there are beyond those that are kept.
    pub fn not_shown(&self) -> usize {
        self.errors.saturating_add(self.warnings).saturating_sub(self.list.len())
    }

    /// The problems in the order of the file.
    pub fn sorted(&self) -> Vec<&Problem> {
        let mut list: Vec<&Problem> = self.list.iter().collect();
        list.sort_by_key(|p| (p.span.start, p.span.end));
        list
    }

    /// Line and column of a byte, both from 1, the column in characters.
    pub fn line_column(&self, at: usize) -> (usize, usize) {
        let (number, start) = self.line(at);
        // What ends the line is no part of it: a place behind it is that of its end.
        let end = self.boundary(at).min(start + self.text_of(start).len());
        let before = self.source.get(start..end).unwrap_or_default();
        (number, before.chars().count() + 1)
    }

    /// The line that begins there, without what ends it.
    fn text_of(&self, start: usize) -> &str {
        let rest = self.source.get(start..).unwrap_or_default();
        rest.split('\n').next().unwrap_or_default().trim_end_matches('\r')
    }

    /// The number (from 1) and the first byte of the line that a byte stands on.
    fn line(&self, at: usize) -> (usize, usize) {
        let number = self.lines.partition_point(|start| *start <= at.min(self.source.len())).max(1);
        (number, self.lines.get(number - 1).copied().unwrap_or_default())
    }

    /// The nearest character boundary at or before a byte.
    fn boundary(&self, at: usize) -> usize {
        let at = at.min(self.source.len());
        (0..=at).rev().find(|at| self.source.is_char_boundary(*at)).unwrap_or_default()
    }

    /// One problem as text with its excerpt: the first line it stands on.
    pub fn render(&self, problem: &Problem, colour: bool) -> String {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut title = problem.message.clone();
        if !problem.path.is_empty() {
            title = format!("{}: {title}", problem.path);
        }
        let (number, start) = self.line(problem.span.start);
        let line = self.text_of(start);
        let within = |at: usize| self.boundary(at).saturating_sub(start).min(line.len());
        let (from, to) = (within(problem.span.start), within(problem.span.end.max(problem.span.start)));
        let title = level.primary_title(title);
        // What another problem of the same line must not show, this one must not either.
        let line_span = start..start.saturating_add(line.len());
        let secret_beside = self.list.iter().any(|other| {
            other.blotted
                && other.span != problem.span
                && other.span.start <= line_span.end
                && other.span.end >= line_span.start
        });
        let mut group = if line.len() > MAX_EXCERPT || secret_beside {
            let (line, column) = self.line_column(problem.span.start);
            title.element(Origin::path(&self.file).line(line).char_column(column))
        } else {
            let (shown, to) = if problem.blotted { blot(line, from..to) } else { (line.to_owned(), to) };
            let snippet = Snippet::source(shown).line_start(number).path(&self.file);
            title.element(snippet.annotation(AnnotationKind::Primary.span(from..to)))
        };
        if let Some(hint) = &problem.hint {
            group = group.element(Level::HELP.message(hint));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

/// The line with a star for each character of the range, and where the range then ends.
fn blot(line: &str, range: Range<usize>) -> (String, usize) {
    let (before, after) = (line.get(..range.start).unwrap_or_default(), line.get(range.end..).unwrap_or_default());
    let stars = "*".repeat(line.get(range.clone()).map_or(0, |text| text.chars().count()));
    (format!("{before}{stars}{after}"), range.start + stars.len())
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.sorted() {
            writeln!(f, "{}\n", self.render(problem, false))?;
        }
        if self.not_shown() > 0 {
            writeln!(f, "and {} more like these, not shown\n", self.not_shown())?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_in_the_excerpt_of_another_problem_of_its_line() {
        let source = "{ token_env: hunter2!, colour: mauve }";
        let mut problems = Problems::new("t.yaml", source);
        let node = Node::parse(source, &mut problems).expect("YAML");
        let (token, colour) = (node.child("token_env").expect("there"), node.child("colour").expect("there"));
        problems.error_blotted(token, "this is no name".into(), "name a variable");
        problems.error_hint(colour, "no colour".into(), "take it out");
        let told = problems.to_string();
        assert!(!told.contains("hunter2"), "{told}");
        assert!(told.contains("no colour") && told.contains("t.yaml:1:"), "{told}");
    }
}
