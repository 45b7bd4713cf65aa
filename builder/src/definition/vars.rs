//! Extra vars: TOML to JSON.

use serde_json::{Map, Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Problems;
use super::table::{in_order, type_name};

/// Variables that decide where tasks run: set by an extra var they would leave the root.
const RESERVED: &[&str] = &["ansible_connection"];

/// A root's `vars` as JSON, in the order in which they are written.
pub(super) fn to_json(title: &str, table: &DeTable<'_>, problems: &Problems) -> Map<String, Value> {
    for (key, _) in in_order(table) {
        let name: &str = key.as_ref();
        if RESERVED.contains(&name) {
            problems.add(
                problems.at(&key.span()),
                format!("`vars` in `{title}` can't set `{name}`"),
                Some("rootbuild connects to its roots itself; remove the variable".to_owned()),
            );
        } else if !is_variable_name(name) {
            problems.add(
                problems.at(&key.span()),
                format!("`{}` in `vars` of `{title}` can't be a variable's name", name.escape_debug()),
                Some(
                    "Ansible's variables are letters, digits and `_`, and don't begin with a digit"
                        .to_owned(),
                ),
            );
        }
    }
    object(title, "vars", table, problems)
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn object(title: &str, path: &str, table: &DeTable<'_>, problems: &Problems) -> Map<String, Value> {
    in_order(table)
        .into_iter()
        .map(|(key, value)| {
            let name: &str = key.as_ref();
            (name.to_owned(), json(title, &format!("{path}.{}", name.escape_debug()), value, problems))
        })
        .collect()
}

/// One value; `null` where it can't be told in JSON, which is then noted.
fn json(title: &str, path: &str, value: &Spanned<DeValue<'_>>, problems: &Problems) -> Value {
    let refuse = |why: String, hint: &str| {
        problems.add(
            problems.at(&value.span()),
            format!("`{path}` in `{title}` {why}"),
            Some(hint.to_owned()),
        );
        Value::Null
    };
    match value.as_ref() {
        DeValue::String(text) => Value::String(text.clone().into_owned()),
        DeValue::Boolean(yes) => Value::Bool(*yes),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map(Number::from)
            .or_else(|_| u64::from_str_radix(integer.as_str(), integer.radix()).map(Number::from))
            .map_or_else(
                |_| refuse("is an integer of more than 64 bits".to_owned(), "put it in quotes"),
                Value::Number,
            ),
        DeValue::Float(float) => float.as_str().parse().ok().and_then(Number::from_f64).map_or_else(
            || refuse(format!("is `{float}`, which JSON can't say"), "put it in quotes"),
            Value::Number,
        ),
        DeValue::Datetime(datetime) => refuse(
            format!("is {}, which Ansible's extra vars can't hold", type_name(value.as_ref())),
            &format!("put it in quotes: `\"{datetime}\"`"),
        ),
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .enumerate()
                .map(|(index, item)| json(title, &format!("{path}[{index}]"), item, problems))
                .collect(),
        ),
        DeValue::Table(table) => Value::Object(object(title, path, table, problems)),
    }
}
