//! From the tree to typed text, by serde. The type's own field names are the known keys,
//! so that an unknown one is found, and its nearest neighbour named, without a second list.

use std::cell::RefCell;

use serde::de::{
    DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
    value::StringDeserializer,
};

use super::error::{ConfigError, suggest};
use super::tree::{Node, Value, join};

/// What to do about unknown keys, and what was found.
pub struct Unknown {
    /// Warn instead of refusing.
    pub warn: bool,
    /// One line per unknown key, if they are only warned of.
    pub warnings: RefCell<Vec<String>>,
}

/// A place in the tree while it is read.
#[derive(Clone)]
pub struct At<'a> {
    /// The value here.
    pub node: &'a Node,
    /// Its key's full path.
    pub path: String,
    /// What to do about unknown keys below.
    pub unknown: &'a Unknown,
}

impl At<'_> {
    /// Serde's message with the place where it applies, unless a deeper one is known.
    fn place<T>(&self, result: Result<T, ConfigError>) -> Result<T, ConfigError> {
        result.map_err(|mut error| {
            if error.origin.is_none() {
                error.origin = Some(self.node.origin.clone());
                error.key.clone_from(&self.path);
            }
            error
        })
    }

    fn check_keys(&self, known: &'static [&'static str]) -> Result<(), ConfigError> {
        let Value::Table(table) = &self.node.value else {
            return Ok(());
        };
        for (key, node) in table {
            if known.contains(&key.as_str()) {
                continue;
            }
            let error = ConfigError {
                origin: Some(node.origin.clone()),
                key: join(&self.path, key),
                message: suggest("unknown key", key, known),
            };
            if !self.unknown.warn {
                return Err(error);
            }
            self.unknown.warnings.borrow_mut().push(error.to_string());
        }
        Ok(())
    }
}

struct Fields<'a> {
    entries: std::collections::btree_map::Iter<'a, String, Node>,
    value: Option<(&'a str, &'a Node)>,
    path: &'a str,
    unknown: &'a Unknown,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = ConfigError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ConfigError> {
        let Some((key, node)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some((key, node));
        let key: StringDeserializer<ConfigError> = key.clone().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, ConfigError> {
        let Some((key, node)) = self.value.take() else {
            return Err(ConfigError::at("", "a value without a key"));
        };
        seed.deserialize(At {
            node,
            path: join(self.path, key),
            unknown: self.unknown,
        })
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
    path: &'a str,
    unknown: &'a Unknown,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = ConfigError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ConfigError> {
        let Some((index, node)) = self.items.next() else {
            return Ok(None);
        };
        seed.deserialize(At {
            node,
            path: join(self.path, &format!("[{index}]")),
            unknown: self.unknown,
        })
        .map(Some)
    }
}

impl<'de> Deserializer<'de> for At<'_> {
    type Error = ConfigError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        self.place(match &self.node.value {
            Value::String(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Date => Err(ConfigError::at("", "a date is not expected here")),
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
                path: &self.path,
                unknown: self.unknown,
            }),
            Value::Table(table) => visitor.visit_map(Fields {
                entries: table.iter(),
                value: None,
                path: &self.path,
                unknown: self.unknown,
            }),
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ConfigError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ConfigError> {
        if !matches!(self.node.value, Value::Table(_)) {
            return self.place(Err(ConfigError::at(
                "",
                format!("is {}, expected a section", self.node.value.kind()),
            )));
        }
        self.check_keys(fields)?;
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes
        byte_buf unit unit_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
