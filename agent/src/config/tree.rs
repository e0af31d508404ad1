//! Configuration text as a tree whose every value knows where it was written, and the
//! merging of several such texts. Knows no key by name but `probe`.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where.
    pub origin: Origin,
}

/// TOML's values; of a date only that it is one, because no key takes one.
#[derive(Clone, Debug)]
pub enum Value {
    /// A text.
    String(String),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Yes or no.
    Boolean(bool),
    /// A date or time.
    Date,
    /// A list.
    Array(Vec<Node>),
    /// A section.
    Table(BTreeMap<String, Node>),
}

impl Value {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Boolean(_) => "true or false",
            Self::Date => "a date",
            Self::Array(_) => "a list",
            Self::Table(_) => "a section",
        }
    }
}

struct Lines<'a> {
    source: Arc<str>,
    text: &'a str,
}

impl Lines<'_> {
    fn origin(&self, offset: usize) -> Origin {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        Origin {
            source: Arc::clone(&self.source),
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
        }
    }

    fn table(&self, table: &DeTable<'_>) -> Result<BTreeMap<String, Node>, ConfigError> {
        table
            .iter()
            .map(|(key, value)| {
                // A key's place is better than its value's: a value may begin a line later.
                let origin = self.origin(key.span().start);
                let name = key.get_ref().to_string();
                let value = self.value(value.get_ref()).map_err(|mut error| {
                    error.origin.get_or_insert_with(|| origin.clone());
                    error.key = join(&name, &error.key);
                    error
                })?;
                Ok((name, Node { value, origin }))
            })
            .collect()
    }

    fn value(&self, value: &DeValue<'_>) -> Result<Value, ConfigError> {
        Ok(match value {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Integer(number) => Value::Integer(
                i64::from_str_radix(number.as_str(), number.radix()).map_err(|_| {
                    ConfigError::at("", format!("'{}' does not fit 64 bits", number.as_str()))
                })?,
            ),
            DeValue::Float(number) => {
                Value::Float(number.as_str().parse().map_err(|_| {
                    ConfigError::at("", format!("'{}' is no number", number.as_str()))
                })?)
            }
            DeValue::Boolean(value) => Value::Boolean(*value),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|item| {
                        Ok(Node {
                            value: self.value(item.get_ref())?,
                            origin: self.origin(item.span().start),
                        })
                    })
                    .collect::<Result<_, ConfigError>>()?,
            ),
            DeValue::Table(table) => Value::Table(self.table(table)?),
        })
    }
}

/// `a.b`, or `a[0]`, or just one of them if the other is empty.
pub fn join(parent: &str, child: &str) -> String {
    match (parent.is_empty(), child.is_empty()) {
        (true, _) => child.to_owned(),
        (_, true) => parent.to_owned(),
        _ if child.starts_with('[') => format!("{parent}{child}"),
        _ => format!("{parent}.{child}"),
    }
}

impl Node {
    /// An empty configuration.
    pub fn empty(source: &str) -> Self {
        Self {
            value: Value::Table(BTreeMap::new()),
            origin: Origin {
                source: source.into(),
                line: 0,
            },
        }
    }

    /// Reads one text.
    ///
    /// # Errors
    /// When it is no TOML, with the line of the first thing that is not.
    pub fn parse(source: &str, text: &str) -> Result<Self, ConfigError> {
        let lines = Lines {
            source: source.into(),
            text,
        };
        let document = DeTable::parse(text).map_err(|error| ConfigError {
            origin: Some(lines.origin(error.span().map_or(0, |span| span.start))),
            key: String::new(),
            message: error.message().replace('\n', " "),
        })?;
        Ok(Self {
            value: Value::Table(lines.table(document.get_ref())?),
            origin: Origin {
                source: Arc::clone(&lines.source),
                line: 0,
            },
        })
    }

    /// Lays `over` on top: sections are merged key by key, `[[probe]]` is appended,
    /// everything else is replaced.
    pub fn merge(&mut self, over: Self) {
        self.merge_at(over, true);
    }

    fn merge_at(&mut self, over: Self, top: bool) {
        match (&mut self.value, over.value) {
            (Value::Table(base), Value::Table(over)) => {
                for (key, node) in over {
                    let Some(existing) = base.get_mut(&key) else {
                        base.insert(key, node);
                        continue;
                    };
                    match (&mut existing.value, node.value) {
                        (Value::Array(all), Value::Array(more)) if top && key == "probe" => {
                            all.extend(more);
                        }
                        (_, value) => existing.merge_at(
                            Self {
                                value,
                                origin: node.origin,
                            },
                            false,
                        ),
                    }
                }
            }
            (_, value) => {
                self.value = value;
                self.origin = over.origin;
            }
        }
    }

    /// Applies one `--set section.key=value`; the value is TOML, or else a plain text.
    ///
    /// # Errors
    /// When there is no `=`, or the key goes through something that is no section.
    pub fn set(&mut self, assignment: &str) -> Result<(), ConfigError> {
        let usage = || {
            ConfigError::of(
                "--set",
                format!(
                    "'{assignment}' is no SECTION.KEY=VALUE, for instance limits.packets_per_second=100"
                ),
            )
        };
        let (key, text) = assignment.split_once('=').ok_or_else(usage)?;
        let (key, text) = (key.trim(), text.trim());
        if key.is_empty() || key.split('.').any(str::is_empty) {
            return Err(usage());
        }
        if key == "probe" || key.starts_with("probe.") || key.starts_with("probe[") {
            return Err(ConfigError::of(
                "--set",
                format!("'{key}': [[probe]] cannot be set; write it to a file in conf.d"),
            ));
        }
        let lines = Lines {
            source: "--set".into(),
            text: "",
        };
        let value = DeValue::parse(text)
            .ok()
            .and_then(|value| lines.value(value.get_ref()).ok())
            .unwrap_or_else(|| Value::String(text.to_owned()));
        let origin = Origin {
            source: lines.source,
            line: 0,
        };
        let mut node = Self { value, origin };
        for part in key.rsplit('.') {
            node = Self {
                origin: node.origin.clone(),
                value: Value::Table(BTreeMap::from([(part.to_owned(), node)])),
            };
        }
        self.merge(node);
        Ok(())
    }

    /// The child of a section.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Table(table) => table.get(key),
            _ => None,
        }
    }

    /// Where the value at `path` (`probe[0].interval`) was written, or the nearest
    /// thing around it that was.
    pub fn locate(&self, path: &str) -> Origin {
        let mut here = self;
        for part in path.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
            let next = match &here.value {
                Value::Array(items) => part.parse().ok().and_then(|at: usize| items.get(at)),
                _ => here.get(part),
            };
            match next {
                Some(next) => here = next,
                None => break,
            }
        }
        here.origin.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(node: &Node, path: &str) -> String {
        let mut here = node;
        for part in path.split('.') {
            here = here.get(part).expect(path);
        }
        format!("{:?}", here.value)
    }

    #[test]
    fn every_value_knows_its_line() {
        let tree =
            Node::parse("f", "a = 1\n\n[b]\nc = [\n 1,\n 2]\n[[probe]]\nname='x'\n").unwrap();
        for (path, line) in [
            ("a", 1),
            ("b", 3),
            ("b.c", 4),
            ("b.c[1]", 6),
            ("probe[0].name", 8),
        ] {
            assert_eq!(tree.locate(path).line, line, "{path}");
        }
        assert_eq!(
            tree.locate("probe[0].absent").line,
            tree.locate("probe[0]").line
        );
        assert_eq!(tree.locate("absent").to_string(), "f");
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let error = Node::parse("f.toml", "a = 1\nb = \n")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("f.toml:2: "), "{error}");
        assert!(!error.contains('\n'), "{error}");
        let error = Node::parse("f", "a = 99999999999999999999")
            .unwrap_err()
            .to_string();
        assert_eq!(error, "f:1: a: '99999999999999999999' does not fit 64 bits");
    }

    #[test]
    fn sections_merge_probes_append_the_rest_is_replaced() {
        let mut tree = Node::parse("a", "[x]\nk=1\nl=[1,2]\n[[probe]]\nname='one'").unwrap();
        tree.merge(Node::parse("b", "[x]\nl=[3]\nm=2\n[[probe]]\nname='two'").unwrap());
        assert_eq!(text(&tree, "x.k"), "Integer(1)");
        assert_eq!(text(&tree, "x.m"), "Integer(2)");
        assert_eq!(tree.locate("x.l").to_string(), "b:2");
        assert_eq!(tree.locate("probe[1].name").to_string(), "b:5");
        assert_eq!(tree.locate("probe[0].name").to_string(), "a:5");
    }

    #[test]
    fn assignments() {
        let mut tree = Node::empty("f");
        for assignment in ["a.b=5", "a.c=10ms", "a.d='5'", "e.f.g = true", "a.b=6"] {
            tree.set(assignment).unwrap();
        }
        assert_eq!(text(&tree, "a.b"), "Integer(6)");
        assert_eq!(text(&tree, "a.c"), "String(\"10ms\")");
        assert_eq!(text(&tree, "a.d"), "String(\"5\")");
        assert_eq!(text(&tree, "e.f.g"), "Boolean(true)");
        for bad in ["a.b", "=1", "a..b=1", ".=1"] {
            let error = tree.set(bad).unwrap_err().to_string();
            assert!(error.contains("is no SECTION.KEY=VALUE"), "{error}");
        }
        let error = tree.set("probe.name=x").unwrap_err().to_string();
        assert!(error.contains("[[probe]] cannot be set"), "{error}");
    }
}
