//! A place in a JSON file that knows its own name, so that every error can say where.

use std::path::Path;

use serde_json::Value;

use crate::tokenizer::TokenizerFileError;

/// A value in a JSON file, or its absence, with the way there.
#[derive(Clone)]
pub(super) struct Field<'j> {
    value: Option<&'j Value>,
    name: String,
    path: &'j Path,
}

impl<'j> Field<'j> {
    pub(super) fn root(value: &'j Value, path: &'j Path) -> Self {
        Self { value: Some(value), name: String::new(), path }
    }

    /// The member `key`; absent if this is no object or has no such member. Null is absent.
    pub(super) fn get(&self, key: &str) -> Self {
        let value = self.value.and_then(|value| value.get(key)).filter(|value| !value.is_null());
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        Self { value, name, path: self.path }
    }

    /// The element at `index`.
    fn at(&self, index: usize, value: &'j Value) -> Self {
        Self { value: Some(value), name: format!("{}[{index}]", self.name), path: self.path }
    }

    pub(super) fn exists(&self) -> bool {
        self.value.is_some()
    }

    pub(super) fn value(&self) -> Option<&'j Value> {
        self.value
    }

    pub(super) fn str(&self) -> Result<&'j str, TokenizerFileError> {
        self.value.and_then(Value::as_str).ok_or_else(|| self.wrong("a string"))
    }

    /// A token's text: a string, or an object with it in `content`.
    pub(super) fn token_text(&self) -> Result<&'j str, TokenizerFileError> {
        let content = self.get("content");
        if content.exists() { content.str() } else { self.str() }
    }

    pub(super) fn bool_or(&self, default: bool) -> Result<bool, TokenizerFileError> {
        match self.value {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.wrong("true or false")),
        }
    }

    pub(super) fn u32(&self) -> Result<u32, TokenizerFileError> {
        self.value
            .and_then(Value::as_u64)
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| self.wrong("an id"))
    }

    pub(super) fn list(&self) -> Result<Vec<Field<'j>>, TokenizerFileError> {
        let list = self.value.and_then(Value::as_array).ok_or_else(|| self.wrong("a list"))?;
        Ok(list.iter().enumerate().map(|(index, value)| self.at(index, value)).collect())
    }

    pub(super) fn object(&self) -> Result<&'j serde_json::Map<String, Value>, TokenizerFileError> {
        self.value.and_then(Value::as_object).ok_or_else(|| self.wrong("an object"))
    }

    /// What the member `type` says; empty if there is none.
    pub(super) fn type_name(&self) -> &'j str {
        self.value.and_then(|value| value.get("type")).and_then(Value::as_str).unwrap_or("")
    }

    /// Refuses this field's content by name.
    pub(super) fn unsupported(&self, what: impl Into<String>) -> TokenizerFileError {
        TokenizerFileError::unsupported(self.path, &self.name[..], what)
    }

    /// Refuses this field's content, a component with a `type`, by that type or in full.
    pub(super) fn unsupported_component(&self) -> TokenizerFileError {
        match (self.type_name(), self.value) {
            ("", Some(value)) => self.unsupported(shortened(&value.to_string())),
            ("", None) => self.unsupported("leaving this out"),
            (name, _) => self.unsupported(name),
        }
    }

    pub(super) fn error(&self, reason: impl Into<String>) -> TokenizerFileError {
        TokenizerFileError::field(self.path, &self.name[..], reason)
    }

    fn wrong(&self, wanted: &str) -> TokenizerFileError {
        match self.value {
            None => self.error(format!("is missing where {wanted} belongs")),
            Some(value) => self.error(format!("is {} where {wanted} belongs", shortened(&value.to_string()))),
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
