//! Reads a table into a type, and tells which field is to blame when that fails.
//!
//! serde loses the path inside a section whose `kind` decides its type: it reads the section whole before it knows.
//! The culprit is then found by leaving fields out, one at a time: the one without which the error is another.

use crate::nearest::nearest;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Reads a `T`. An error is one line: the field's dotted path, its value, and what would be right.
pub fn read<T: DeserializeOwned>(table: &Table) -> Result<T, String> {
    let root = Value::Table(table.clone());
    attempt(&root).map_err(|(path, message)| explain::<T>(&root, path, &message))
}

fn attempt<T: DeserializeOwned>(root: &Value) -> Result<T, (Vec<String>, String)> {
    serde_path_to_error::deserialize(root.clone()).map_err(|e| {
        let path = e.path().to_string();
        let path = path.replace('[', ".").replace(']', "");
        let path = path.split('.').filter(|s| !matches!(*s, "" | "?")).map(str::to_owned).collect();
        (path, e.into_inner().message().to_owned())
    })
}

fn explain<T: DeserializeOwned>(root: &Value, mut path: Vec<String>, message: &str) -> String {
    if let Some((name, known)) = quoted(message, "unknown field") {
        // serde's path may end with the field, with its section, or above it.
        if path.last() == Some(&name) {
            path.pop();
        }
        path.extend(at(root, &path).and_then(|v| find(v, &|key, _| key == name)).unwrap_or_default());
        let near = nearest(&name, known.iter().map(String::as_str));
        let near = near.map(|n| format!("; did you mean {}?", join(&path, n))).unwrap_or_default();
        let here = if known.is_empty() { "no field".to_owned() } else { known.join(", ") };
        return format!("unknown field {}{near} (there are: {here})", join(&path, &name));
    }
    if let Some((name, known)) = quoted(message, "unknown variant") {
        let is_it = |_: &str, value: &Value| value.as_str() == Some(&name);
        if let Some((inside, key)) = at(root, &path).and_then(|v| find_with_key(v, &is_it)) {
            path.extend(inside);
            path.push(key);
        }
        let near = nearest(&name, known.iter().map(String::as_str));
        let near = near.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
        return format!(
            "{} = \"{name}\": unknown name{near} (there are: {})",
            path.join("."),
            known.join(", ")
        );
    }
    if let Some((name, _)) = quoted(message, "missing field") {
        return format!("{} is missing", join(&path, &name));
    }
    while let Some(child) = culprit::<T>(root, &path, message) {
        path.push(child);
    }
    let value = at(root, &path).map(|v| format!(" = {v}").replace('\n', " ")).unwrap_or_default();
    let expected = message.split_once(", expected ").map_or(message, |(_, expected)| expected);
    format!("{}{value}: expected {}", path.join("."), in_words(expected))
}

/// The child of the value at `path` without which the error is another.
fn culprit<T: DeserializeOwned>(root: &Value, path: &[String], message: &str) -> Option<String> {
    let children: Vec<String> = match at(root, path)? {
        Value::Table(inner) => inner.keys().cloned().collect(),
        Value::Array(items) => (0..items.len()).map(|i| i.to_string()).collect(),
        _ => return None,
    };
    children.into_iter().find(|child| {
        let mut without = root.clone();
        let parent = path.iter().try_fold(&mut without, |value, name| match value {
            Value::Array(items) => items.get_mut(name.parse::<usize>().ok()?),
            other => other.get_mut(name),
        });
        match parent {
            Some(Value::Table(inner)) => drop(inner.remove(child)),
            Some(Value::Array(items)) => drop(child.parse().map(|i: usize| items.remove(i))),
            _ => return false,
        }
        match attempt::<T>(&without) {
            Ok(_) => true,
            Err((_, other)) => other != message && !other.starts_with("missing field"),
        }
    })
}

/// The value at a path.
fn at<'a>(root: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(root, |value, name| match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        other => other.get(name),
    })
}

/// The path from `value` to the section in which a field is what is looked for.
fn find(value: &Value, is_it: &dyn Fn(&str, &Value) -> bool) -> Option<Vec<String>> {
    find_with_key(value, is_it).map(|(path, _)| path)
}

/// The path from `value` to the section in which a field is what is looked for, and the field's name.
fn find_with_key(value: &Value, is_it: &dyn Fn(&str, &Value) -> bool) -> Option<(Vec<String>, String)> {
    let children: Vec<(String, &Value)> = match value {
        Value::Table(inner) => inner.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, v)| (i.to_string(), v)).collect(),
        _ => return None,
    };
    if let Some((key, _)) = children.iter().find(|(k, v)| is_it(k, v)) {
        return Some((Vec::new(), key.clone()));
    }
    children.into_iter().find_map(|(name, child)| {
        let (mut path, key) = find_with_key(child, is_it)?;
        path.insert(0, name);
        Some((path, key))
    })
}

/// The name and the known names of serde's "unknown ... `name`, expected one of `a`, `b`".
fn quoted(message: &str, beginning: &str) -> Option<(String, Vec<String>)> {
    let mut names = message.strip_prefix(beginning)?.split('`').skip(1).step_by(2).map(str::to_owned);
    Some((names.next()?, names.collect()))
}

/// serde's names of types as a user of recipes knows them.
fn in_words(expected: &str) -> &str {
    match expected {
        "f32" | "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "a boolean" => "true or false",
        "a string" => "text",
        "a sequence" => "a list",
        other if other.starts_with("struct ") || other == "a map" => "a section",
        other => other,
    }
}

fn join(path: &[String], name: &str) -> String {
    path.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its reading matters")]
    struct Recipe {
        train: Train,
        objective: Option<Objective>,
        #[serde(default)]
        views: Vec<Train>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Train {
        epochs: u64,
        batch_size: usize,
        rate: f64,
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind", rename_all = "kebab-case")]
    #[expect(dead_code, reason = "only its reading matters")]
    enum Objective {
        SimClr(Inner),
        Other(Train),
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        temperature: f64,
        head: Train,
    }

    fn error(text: &str) -> String {
        read::<Recipe>(&toml::from_str(text).unwrap()).unwrap_err()
    }

    #[test]
    fn names_the_field_that_was_meant() {
        assert_eq!(
            error("train.epoch = 3"),
            "unknown field train.epoch; did you mean train.epochs? (there are: epochs, batch_size, rate)"
        );
        let message = error("train = {}\n[[views]]\n[[views]]\nbatchsize = 1");
        assert!(
            message.starts_with("unknown field views.1.batchsize; did you mean views.1.batch_size?"),
            "{message}"
        );
        let message = error("trian = {}");
        assert!(message.starts_with("unknown field trian; did you mean train?"), "{message}");
        assert_eq!(error("views = []"), "train is missing");
    }

    #[test]
    fn finds_the_field_inside_a_section_with_a_kind() {
        let message = error("train = {}\nobjective = { kind = 'sim-clr', temprature = 1 }");
        assert!(
            message.starts_with("unknown field objective.temprature; did you mean objective.temperature?"),
            "{message}"
        );
        let message = error("train = {}\nobjective = { kind = 'sim-clr', temperature = 'hot' }");
        assert_eq!(message, "objective.temperature = \"hot\": expected a number");
        let message =
            error("train = {}\nobjective = { kind = 'sim-clr', head.epochs = -1, temperature = 1 }");
        assert_eq!(message, "objective.head.epochs = -1: expected a whole number of at least 0");
        let message = error("train = {}\nobjective = { kind = 'simclr' }");
        assert_eq!(
            message,
            "objective.kind = \"simclr\": unknown name; did you mean sim-clr? (there are: sim-clr, other)"
        );
        assert_eq!(error("train = {}\nobjective = { temperature = 1 }"), "objective.kind is missing");
    }

    #[test]
    fn names_the_value_and_what_would_be_right() {
        assert_eq!(
            error("train.epochs = 'many'"),
            "train.epochs = \"many\": expected a whole number of at least 0"
        );
        assert_eq!(error("train.rate = true"), "train.rate = true: expected a number");
        assert_eq!(error("train = 3"), "train = 3: expected a section");
    }
}
