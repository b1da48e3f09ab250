//! What is wrong with a configuration, and how it is shown: all at once, each with its file, line,
//! column, excerpt and a hint.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::node::Node;

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
}

impl Problem {
    /// An error.
    pub fn error(span: Range<usize>, path: &str, message: String) -> Problem {
        Problem { severity: Severity::Error, span, path: path.to_owned(), message, hint: None }
    }
}

/// Every problem of one file, with the source to show them in.
#[derive(Clone, Debug)]
pub struct Problems {
    /// The name of the file as the user gave it.
    pub file: String,
    source: String,
    list: Vec<Problem>,
}

impl Problems {
    /// No problems yet with this source.
    pub fn new(file: &str, source: &str) -> Problems {
        Problems { file: file.to_owned(), source: source.to_owned(), list: Vec::new() }
    }

    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// Adds an error at a node.
    pub fn error(&mut self, at: &Node, message: String) {
        self.list.push(Problem::error(at.span.clone(), &at.path, message));
    }

    /// Adds an error at a node with a hint.
    pub fn error_hint(&mut self, at: &Node, message: String, hint: &str) {
        let mut problem = Problem::error(at.span.clone(), &at.path, message);
        problem.hint = Some(hint.to_owned());
        self.list.push(problem);
    }

    /// Adds a warning at a node with a hint.
    pub fn warn(&mut self, at: &Node, message: String, hint: &str) {
        let mut problem = Problem::error(at.span.clone(), &at.path, message);
        problem.severity = Severity::Warning;
        problem.hint = Some(hint.to_owned());
        self.list.push(problem);
    }

    /// True if there is nothing to report.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// True if the configuration must be refused.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|p| p.severity == Severity::Error)
    }

    /// How many errors and warnings there are.
    pub fn counts(&self) -> (usize, usize) {
        let errors = self.list.iter().filter(|p| p.severity == Severity::Error).count();
        (errors, self.list.len() - errors)
    }

    /// The problems in the order of the file.
    pub fn sorted(&self) -> Vec<&Problem> {
        let mut list: Vec<&Problem> = self.list.iter().collect();
        list.sort_by_key(|p| (p.span.start, p.span.end));
        list
    }

    /// Line and column of a byte, both from 1, the column in characters.
    pub fn line_column(&self, at: usize) -> (usize, usize) {
        let mut at = at.min(self.source.len());
        while !self.source.is_char_boundary(at) {
            at -= 1;
        }
        let before = &self.source[..at];
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// One problem as text with its excerpt.
    pub fn render(&self, problem: &Problem, colour: bool) -> String {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut title = problem.message.clone();
        if !problem.path.is_empty() {
            title = format!("{}: {title}", problem.path);
        }
        let snippet = Snippet::source(&self.source)
            .path(&self.file)
            .annotation(AnnotationKind::Primary.span(self.first_line(&problem.span)));
        let mut group = level.primary_title(title).element(snippet);
        if let Some(hint) = &problem.hint {
            group = group.element(Level::HELP.message(hint));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// The part of a span that stands on its first line, on character boundaries, so that an
    /// excerpt stays short.
    fn first_line(&self, span: &Range<usize>) -> Range<usize> {
        let clamp = |at: usize| {
            let mut at = at.min(self.source.len());
            while !self.source.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let (start, end) = (clamp(span.start), clamp(span.end.max(span.start)));
        let stop = self.source[start..end].find('\n').map_or(end, |n| start + n);
        start..stop
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.sorted() {
            writeln!(f, "{}\n", self.render(problem, false))?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
