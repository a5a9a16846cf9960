//! `--set a.b=value`: one field of a recipe, by its dotted path.

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

/// A field and the value it is to have.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    path: Vec<String>,
    value: Value,
}

impl std::str::FromStr for Assignment {
    type Err = anyhow::Error;

    /// Reads `a.b=value`: a TOML value, or text that needs no quotes.
    fn from_str(text: &str) -> Result<Self> {
        let Some((path, value)) = text.split_once('=') else {
            bail!("--set {text}: write a field and its value, as in train.epochs=30");
        };
        let path: Vec<_> = path.trim().split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            bail!("--set {text}: the field's path has an empty part; write it as in train.epochs=30");
        }
        let value = value.trim();
        let parsed = toml::from_str::<Table>(&format!("value = {value}")).ok();
        let value = match parsed.and_then(|mut table| (table.len() == 1).then(|| table.remove("value"))?) {
            Some(value) => value,
            None => Value::String(value.to_owned()),
        };
        Ok(Assignment { path, value })
    }
}

impl std::fmt::Display for Assignment {
    /// As it is read.
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}={}", self.field(), self.value)
    }
}

impl Assignment {
    /// The field, dotted.
    pub fn field(&self) -> String {
        self.path.join(".")
    }

    /// The section that the field is of, or that is set as a whole.
    pub fn section(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }

    /// Whether it names the kind of a section, and so decides which other fields the section has.
    pub fn is_kind(&self) -> bool {
        self.path.last().is_some_and(|name| name == "kind")
    }

    /// Changes the field in `table`. A new kind empties its section: the fields of another kind mean nothing to it.
    ///
    /// # Errors
    /// When the path leads through a plain value or past the end of a list. A field that does not exist is made here
    /// and refused when the table is read.
    pub fn apply(&self, table: &mut Table) -> Result<()> {
        let whole = self.field();
        let (last, sections) = self.path.split_last().context("a path has at least one part")?;
        let mut root = Value::Table(std::mem::take(table));
        let mut here = &mut root;
        for (i, name) in sections.iter().enumerate() {
            let so_far = self.path[..i].join(".");
            here = match here {
                Value::Table(inner) => {
                    inner.entry(name.clone()).or_insert_with(|| Value::Table(Table::new()))
                }
                Value::Array(items) => item(items, name, &so_far, &whole)?,
                other => bail!("{whole}: {so_far} is {other}, not a section"),
            };
        }
        let so_far = sections.join(".");
        match here {
            Value::Table(inner) => {
                if let Some(Value::Array(items)) = inner.get(last)
                    && !self.value.is_array()
                {
                    bail!("{whole} is a list of {}: give a list, {last}=[...]", items.len());
                }
                if self.is_kind() && inner.get(last) != Some(&self.value) {
                    inner.clear();
                }
                inner.insert(last.clone(), self.value.clone());
            }
            Value::Array(items) => *item(items, last, &so_far, &whole)? = self.value.clone(),
            other => bail!("{whole}: {so_far} is {other}, not a section"),
        }
        if let Value::Table(changed) = root {
            *table = changed;
        }
        Ok(())
    }
}

/// The item of a list that a part of a path names.
fn item<'a>(items: &'a mut [Value], name: &str, list: &str, whole: &str) -> Result<&'a mut Value> {
    let count = items.len();
    let item = name.parse::<usize>().ok().and_then(|i| items.get_mut(i));
    item.with_context(|| {
        format!("{whole}: {list} is a list of {count}; name one of them by its number, from 0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(start: &str, text: &str) -> Result<Table> {
        let mut table: Table = toml::from_str(start)?;
        text.parse::<Assignment>()?.apply(&mut table)?;
        Ok(table)
    }

    #[test]
    fn takes_toml_values_and_bare_text() {
        for (text, expected) in [
            ("a.b=3", "a.b = 3"),
            ("a.b = 0.5", "a.b = 0.5"),
            ("a.b=true", "a.b = true"),
            ("a.b=[1, 2]", "a.b = [1, 2]"),
            ("a.b=some/path", "a.b = 'some/path'"),
            ("a.b='3'", "a.b = '3'"),
            ("a.b=x = 1", "a.b = 'x = 1'"),
            ("a.b=", "a.b = ''"),
        ] {
            assert_eq!(assigned("", text).unwrap(), toml::from_str(expected).unwrap(), "{text}");
        }
    }

    #[test]
    fn reaches_into_lists() {
        let table = assigned("views = [{ size = 1 }, { size = 2 }]", "views.1.size=9").unwrap();
        assert_eq!(table, toml::from_str("views = [{ size = 1 }, { size = 9 }]").unwrap());
        let table = assigned("a.sizes = [1, 2]", "a.sizes.0=7").unwrap();
        assert_eq!(table, toml::from_str("a.sizes = [7, 2]").unwrap());
        let error = assigned("views = [{ size = 1 }]", "views.3.size=9").unwrap_err().to_string();
        assert_eq!(error, "views.3.size: views is a list of 1; name one of them by its number, from 0");
    }

    #[test]
    fn a_new_kind_starts_its_section_anew() {
        let table = assigned("encoder = { kind = 'a', x = 1 }", "encoder.kind=b").unwrap();
        assert_eq!(table, toml::from_str("encoder.kind = 'b'").unwrap());
        let table = assigned("encoder = { kind = 'a', x = 1 }", "encoder.kind=a").unwrap();
        assert_eq!(table, toml::from_str("encoder = { kind = 'a', x = 1 }").unwrap());
    }

    #[test]
    fn says_how_to_write_it() {
        let error = assigned("", "train.epochs").unwrap_err().to_string();
        assert_eq!(error, "--set train.epochs: write a field and its value, as in train.epochs=30");
        assert!(assigned("", "a..b=1").unwrap_err().to_string().contains("empty part"));
        let error = assigned("a = 1", "a.b=1").unwrap_err().to_string();
        assert_eq!(error, "a.b: a is 1, not a section");
    }
}
