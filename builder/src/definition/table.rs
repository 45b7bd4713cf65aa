//! A typed reader over one table: every key is asked for by name and type, what is left is unknown.

use std::cell::RefCell;
use std::ops::Range;

use rootbuild_cache::Limit;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{At, Problems};
use super::model::Located;
use super::suggest::nearest;

/// One table of the definition, being read.
pub(super) struct Fields<'a, 'i> {
    /// How people know it: `[base.centos7]`.
    pub(super) title: String,
    /// Where its name is written.
    pub(super) span: At,
    table: &'a DeTable<'i>,
    problems: &'a Problems,
    /// Which keys were asked for; what isn't here in the end is unknown.
    asked: RefCell<Vec<&'static str>>,
    /// Keys that are needed and not there, each with how it could be written.
    missing: RefCell<Vec<(&'static str, String)>>,
}

impl<'a, 'i> Fields<'a, 'i> {
    pub(super) fn new(title: String, span: At, table: &'a DeTable<'i>, problems: &'a Problems) -> Self {
        Self { title, span, table, problems, asked: RefCell::default(), missing: RefCell::default() }
    }

    fn get(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.asked.borrow_mut().push(key);
        self.table.get(key)
    }

    fn at(&self, range: &Range<usize>) -> At {
        self.problems.at(range)
    }

    /// Whether the key is written, whatever its value is worth.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where the key's value is written; the table's name if it isn't there.
    pub(super) fn place(&self, key: &str) -> At {
        self.table.get(key).map_or(self.span, |value| self.at(&value.span()))
    }

    /// Notes that something is wrong.
    pub(super) fn problem(&self, at: At, message: impl Into<String>, hint: Option<String>) {
        self.problems.add(at, message, hint);
    }

    /// `[base.centos.7]` instead of `[base."centos.7"]`: TOML reads the dot as one table inside
    /// another. Says so, and gives the name that was meant.
    pub(super) fn only_a_table(&self, section: &str, name: &str) -> Option<String> {
        let mut whole = name.to_owned();
        let mut first = None;
        let mut table = self.table;
        while let [(inner, value)] = in_order(table)[..]
            && let DeValue::Table(below) = value.as_ref()
            && !matches!(inner.as_ref().as_ref(), "vars" | "run")
        {
            whole = format!("{whole}.{}", inner.as_ref());
            first.get_or_insert_with(|| self.at(&inner.span()));
            table = below;
        }
        self.problem(
            first?,
            format!("`[{section}.{}]` is a table inside another", whole.escape_debug()),
            Some(format!("put the name in quotes: `[{section}.{whole:?}]`")),
        );
        Some(whole)
    }

    /// Lets keys be there without reading them.
    pub(super) fn allow(&self, keys: &[&'static str]) {
        self.asked.borrow_mut().extend(keys);
    }

    /// Says that a key is needed; `example` is how it could be written.
    fn require(&self, key: &'static str, example: &str) {
        if !self.has(key) {
            self.missing.borrow_mut().push((key, example.to_owned()));
        }
    }

    fn wrong_type(&self, key: &str, expected: &str, value: &Spanned<DeValue<'_>>, hint: Option<String>) {
        let message =
            format!("`{key}` in `{}` must be {expected}, not {}", self.title, type_name(value.as_ref()));
        self.problem(self.at(&value.span()), message, hint);
    }

    pub(super) fn string(&self, key: &'static str) -> Option<Located<String>> {
        let value = self.get(key)?;
        let DeValue::String(text) = value.as_ref() else {
            let hint = match value.as_ref() {
                DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
                    Some(format!("put it in quotes: `{key} = \"{}\"`", scalar(value.as_ref())))
                }
                DeValue::Array(items) if items.len() == 1 => items
                    .iter()
                    .next()
                    .and_then(|item| item.as_ref().as_str())
                    .map(|only| format!("write it without brackets: `{key} = {only:?}`")),
                _ => None,
            };
            self.wrong_type(key, "a string", value, hint);
            return None;
        };
        self.text(key, text, &value.span())
    }

    /// Checks what holds for every string of a definition: there is something in it, and no control characters.
    fn text(&self, key: &str, text: &str, range: &Range<usize>) -> Option<Located<String>> {
        let span = self.at(range);
        if text.is_empty() {
            self.problem(span, format!("`{key}` in `{}` is empty", self.title), None);
            return None;
        }
        if let Some(control) = text.chars().find(|c| c.is_control()) {
            let message = format!(
                "`{key}` in `{}` has a control character in it (U+{:04X})",
                self.title,
                u32::from(control)
            );
            self.problem(span, message, None);
            return None;
        }
        Some(Located { value: text.to_owned(), span })
    }

    pub(super) fn required_string(&self, key: &'static str, example: &str) -> Option<Located<String>> {
        self.require(key, example);
        self.string(key)
    }

    /// A list that must have something in it.
    pub(super) fn required_strings(&self, key: &'static str, example: &str) -> Option<Vec<Located<String>>> {
        self.require(key, example);
        let strings = self.strings(key)?;
        if strings.is_empty() {
            let message = format!("`{key}` in `{}` is empty", self.title);
            self.problem(self.place(key), message, Some(format!("write `{key} = {example}`")));
            return None;
        }
        Some(strings)
    }

    pub(super) fn strings(&self, key: &'static str) -> Option<Vec<Located<String>>> {
        self.strings_in(key, self.get(key)?)
    }

    /// A value below `key` that is a list of strings.
    pub(super) fn strings_in(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Vec<Located<String>>> {
        let DeValue::Array(items) = value.as_ref() else {
            let hint = value.as_ref().as_str().map(|only| format!("write `{key} = [{only:?}]`"));
            self.wrong_type(key, "a list of strings", value, hint);
            return None;
        };
        let mut strings = Vec::with_capacity(items.len());
        let mut sound = true;
        for item in items {
            let string = if let DeValue::String(text) = item.as_ref() {
                self.text(key, text, &item.span())
            } else {
                self.wrong_type(key, "a list of strings", item, None);
                None
            };
            sound &= string.is_some();
            strings.extend(string);
        }
        sound.then_some(strings)
    }

    /// One string, or a list of them.
    pub(super) fn string_or_strings(&self, key: &'static str) -> Option<Vec<Located<String>>> {
        if self.table.get(key).is_some_and(|value| value.as_ref().is_array()) {
            return self.strings(key);
        }
        self.string(key).map(|only| vec![only])
    }

    pub(super) fn bool(&self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        if let DeValue::Boolean(yes) = value.as_ref() {
            return Some(*yes);
        }
        let hint = match value.as_ref().as_str().map(str::to_lowercase).as_deref() {
            Some("true" | "yes" | "on" | "1") => Some(format!("write `{key} = true`, without quotes")),
            Some("false" | "no" | "off" | "0") => Some(format!("write `{key} = false`, without quotes")),
            _ => None,
        };
        self.wrong_type(key, "true or false", value, hint);
        None
    }

    /// A whole number from 0 to `most`.
    pub(super) fn number(&self, key: &'static str, most: u32) -> Option<u32> {
        let value = self.get(key)?;
        let expected = format!("a whole number from 0 to {most}");
        let DeValue::Integer(integer) = value.as_ref() else {
            self.wrong_type(key, &expected, value, None);
            return None;
        };
        let number = u32::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|n| *n <= most);
        if number.is_none() {
            let message = format!("`{key}` in `{}` must be {expected}, not {integer}", self.title);
            self.problem(self.at(&value.span()), message, None);
        }
        number
    }

    /// The value of a limit: a number, or a text with a unit.
    pub(super) fn limit(&self, limit: Limit) -> Option<u64> {
        let key = limit.name();
        let value = self.get(key)?;
        let text = match value.as_ref() {
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                .map_or_else(|_| integer.to_string(), |number| number.to_string()),
            DeValue::String(text) if limit.is_bytes() => text.to_string(),
            _ => {
                self.wrong_type(key, &limit.expected(), value, None);
                return None;
            }
        };
        limit.parse(&text).map_or_else(
            |expected| {
                let message =
                    format!("`{key}` in `{}` must be {expected}, not `{}`", self.title, text.escape_debug());
                self.problem(self.at(&value.span()), message, None);
                None
            },
            Some,
        )
    }

    /// One word out of a few.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<Located<T>> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        if let Some(value) = self.table.get(key)
            && !value.as_ref().is_str()
        {
            self.allow(&[key]);
            self.wrong_type(key, &format!("one of {}", list(&names)), value, None);
            return None;
        }
        let word = self.string(key)?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == word.value) {
            return Some(Located { value: *choice, span: word.span });
        }
        self.problem(
            word.span,
            format!("`{key}` in `{}` can't be `{}`", self.title, word.value),
            Some(did_you_mean(&word, names.into_iter())),
        );
        None
    }

    pub(super) fn table(&self, key: &'static str) -> Option<Located<&'a DeTable<'i>>> {
        let value = self.get(key)?;
        if let DeValue::Table(table) = value.as_ref() {
            return Some(Located { value: table, span: self.at(&value.span()) });
        }
        let hint = Some(format!("write `{key} = {{ name = \"value\" }}`"));
        self.wrong_type(key, "a table", value, hint);
        None
    }

    /// Reports every key that nobody asked for, and every one that is missing. `elsewhere` says of
    /// a key where it would be right.
    pub(super) fn finish(self, elsewhere: impl Fn(&str) -> Option<String>) {
        let asked = self.asked.borrow();
        let missing = self.missing.borrow();
        let mut misspelt = Vec::new();
        for (key, _) in in_order(self.table) {
            let name: &str = key.as_ref();
            if asked.contains(&name) {
                continue;
            }
            // A key that is there already is the less likely meaning.
            let near = nearest(name, missing.iter().map(|(key, _)| *key))
                .or_else(|| nearest(name, asked.iter().copied().filter(|known| !self.has(known))))
                .or_else(|| nearest(name, asked.iter().copied()));
            misspelt.extend(near);
            let hint = elsewhere(name)
                .or_else(|| near.map(|near| format!("did you mean `{near}`?")))
                .unwrap_or_else(|| format!("known keys are {}", list(&asked)));
            let message = format!("unknown key `{}` in `{}`", name.escape_debug(), self.title);
            self.problem(self.at(&key.span()), message, Some(hint));
        }
        // One that was misspelt isn't missing as well.
        for (key, example) in missing.iter().filter(|(key, _)| !misspelt.contains(key)) {
            let message = format!("`{key}` is missing in `{}`", self.title);
            self.problem(self.span, message, Some(format!("add `{key} = {example}`")));
        }
    }
}

/// A table's entries in the order in which they are written.
pub(super) fn in_order<'a, 'i>(
    table: &'a DeTable<'i>,
) -> Vec<(&'a Spanned<std::borrow::Cow<'i, str>>, &'a Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// "did you mean `x`?", or what there is to choose from.
pub(super) fn did_you_mean<'a>(wrong: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    let candidates: Vec<&str> = candidates.collect();
    nearest(wrong, candidates.iter().copied()).map_or_else(
        || match candidates[..] {
            [only] => format!("there is only `{only}`"),
            _ => format!("it is one of {}", list(&candidates)),
        },
        |near| format!("did you mean `{near}`?"),
    )
}

/// Names in backticks, with commas.
pub(super) fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A value's type, with its article.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A value that stands for itself in one word.
fn scalar(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        DeValue::String(_) | DeValue::Array(_) | DeValue::Table(_) => String::new(),
    }
}
