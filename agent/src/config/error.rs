//! What is wrong with a configuration, in one line: where, which key, what, way out.

use std::fmt;
use std::sync::Arc;

/// Where a value was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// A file's path, or `--set`.
    pub source: Arc<str>,
    /// Line in that file from 1; 0 where there are no lines.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            f.write_str(&self.source)
        } else {
            write!(f, "{}:{}", self.source, self.line)
        }
    }
}

/// One thing that is wrong. `Display` is one line: `FILE:LINE: KEY: MESSAGE`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// Where, if it is known.
    pub origin: Option<Origin>,
    /// The key's full path, `probe[0].interval`; empty for a whole file.
    pub key: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl ConfigError {
    /// An error of the value at `key`; the loader finds out where that was written.
    pub fn at(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            origin: None,
            key: key.into(),
            message: message.into(),
        }
    }

    /// An error of a whole source, for instance a file that cannot be read.
    pub fn of(source: &str, message: impl Into<String>) -> Self {
        Self {
            origin: Some(Origin {
                source: source.into(),
                line: 0,
            }),
            key: String::new(),
            message: message.into(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

impl serde::de::Error for ConfigError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::at("", message.to_string())
    }
}

/// The known word nearest to a mistyped one, if any is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// `message` with "did you mean" where a known word is near, else with all known words.
pub fn suggest(message: &str, word: &str, known: &[&str]) -> String {
    nearest(word, known.iter().copied()).map_or_else(
        || format!("{message}; known are: {}", known.join(", ")),
        |near| format!("{message}; did you mean '{near}'?"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_names_place_key_and_way_out() {
        let mut error = ConfigError::at("agent.listen", "'x' is no address");
        assert_eq!(error.to_string(), "agent.listen: 'x' is no address");
        error.origin = Some(Origin {
            source: "/etc/a.toml".into(),
            line: 7,
        });
        assert_eq!(
            error.to_string(),
            "/etc/a.toml:7: agent.listen: 'x' is no address"
        );
    }

    #[test]
    fn suggestions_are_near_or_complete() {
        let known = ["interval", "targets", "wait"];
        assert_eq!(
            suggest("unknown key", "intervall", &known),
            "unknown key; did you mean 'interval'?"
        );
        assert_eq!(
            suggest("unknown key", "xyzzy", &known),
            "unknown key; known are: interval, targets, wait"
        );
    }
}
