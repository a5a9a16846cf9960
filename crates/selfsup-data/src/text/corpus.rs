//! Documents with the classes they belong to.

use super::brown::read_brown;
use rand::RngExt;
use selfsup_core::{Error, Key, Result};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// One text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What to call it: its file's path in the corpus, or its line.
    pub name: String,
    /// The text.
    pub text: String,
    /// Its class.
    pub label: Option<i64>,
}

/// Documents, and the names of their classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    /// The texts.
    pub documents: Vec<Document>,
    /// The names of the classes, in the order of the labels; none when the documents have no labels.
    pub classes: Vec<String>,
}

/// A line of a JSONL file.
#[derive(Deserialize)]
struct Line {
    text: String,
    label: Option<String>,
}

impl Corpus {
    /// A corpus of these documents.
    ///
    /// # Errors
    /// [`Error::Config`] when there is none, or a label is no class.
    pub fn new(documents: Vec<Document>, classes: Vec<String>) -> Result<Self> {
        if documents.is_empty() {
            return Err(Error::config("documents", "[]", "at least one"));
        }
        let stray =
            documents.iter().find(|d| d.label.is_some_and(|l| !(0..classes.len() as i64).contains(&l)));
        match stray {
            Some(d) => {
                let value = format!("{:?}", d.label);
                Err(Error::config(
                    format!("label of {}", d.name),
                    value,
                    format!("a class in 0..{}", classes.len()),
                ))
            }
            None => Ok(Corpus { documents, classes }),
        }
    }

    /// Opens a known set of texts by its name (it is fetched when it is not at hand), or else the path that `source`
    /// is: see [`open_path`](Self::open_path).
    ///
    /// # Errors
    /// When there is neither a path nor a known set of this name, the set cannot be fetched, or a file is bad.
    pub fn open(source: &str) -> Result<Self> {
        let path = Path::new(source);
        if path.exists() {
            return Self::open_path(path);
        }
        let missing = |e| Error::data(path, format!("there is no such file or folder, and {e}"));
        let set = selfsup_fetch::find(source).map_err(missing)?;
        if set.name != "brown" {
            return Err(Error::data(path, format!("{} is no set of texts: {}", set.name, set.about)));
        }
        Self::open_path(&selfsup_fetch::fetch(set).map_err(|e| Error::Other(e.to_string()))?)
    }

    /// Opens a file or folder and finds out what it is:
    ///
    /// - a folder with `.txt` files, one a document; where they lie in subfolders, the first one's name is the class;
    /// - a `.jsonl` file, one object with `text` and perhaps `label` (a string) a line;
    /// - a single `.txt` file;
    /// - the Brown corpus, recognised by its `cats.txt`: words without their tags, genres as classes.
    ///
    /// # Errors
    /// [`Error::Data`] with the file that is not UTF-8 or no JSON, or the folder that holds no text.
    pub fn open_path(path: &Path) -> Result<Self> {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let named = if path.join("cats.txt").is_file() {
            read_brown(path)?
        } else if path.is_dir() {
            read_folder(path)?
        } else if ending == "jsonl" {
            read_jsonl(path)?
        } else if ending == "txt" {
            vec![(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), read(path)?, None)]
        } else if path.exists() {
            return Err(Error::data(
                path,
                "texts come as a folder of .txt files, a .jsonl file or a .txt file",
            ));
        } else {
            return Err(Error::data(path, "there is no such file or folder"));
        };
        if named.iter().all(|(_, text, _)| text.trim().is_empty()) {
            return Err(Error::data(path, "holds no text"));
        }
        let classes: BTreeSet<String> = named.iter().filter_map(|(_, _, class)| class.clone()).collect();
        let classes: Vec<String> = classes.into_iter().collect();
        let documents = named.into_iter().map(|(name, text, class)| {
            let label = class.and_then(|class| classes.binary_search(&class).ok()).map(|at| at as i64);
            Document { name, text, label }
        });
        Corpus::new(documents.collect(), classes.clone())
    }

    /// The class of every document; nothing unless all have one.
    pub fn labels(&self) -> Option<Vec<i64>> {
        self.documents.iter().map(|document| document.label).collect()
    }

    /// Splits the documents at random into those to learn from and a share `held_out` to judge by; each part keeps
    /// the corpus' order.
    ///
    /// # Errors
    /// [`Error::Config`] when a part would be empty.
    pub fn split(&self, held_out: f64, seed: u64) -> Result<(Corpus, Corpus)> {
        let n = self.documents.len();
        let count = (held_out * n as f64).round() as usize;
        if !(held_out > 0.0 && held_out < 1.0) || count == 0 || count == n {
            let expected = format!("a share that leaves documents in both parts, of {n}");
            return Err(Error::config("held_out", held_out, expected));
        }
        let mut order: Vec<usize> = (0..n).collect();
        let mut rng = Key::new(seed).rng();
        for i in (1..n).rev() {
            order.swap(i, rng.random_range(0..=i));
        }
        let chosen: BTreeSet<usize> = order.into_iter().take(count).collect();
        let part = |held: bool| Corpus {
            documents: (0..n)
                .filter(|i| chosen.contains(i) == held)
                .map(|i| self.documents[i].clone())
                .collect(),
            classes: self.classes.clone(),
        };
        Ok((part(false), part(true)))
    }
}

/// A name, a text and perhaps a class.
pub(super) type Named = (String, String, Option<String>);

/// Reads a text file.
pub(super) fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    String::from_utf8(bytes).map_err(|e| {
        Error::data(
            path,
            format!("byte {} is not UTF-8: convert the text first", e.utf8_error().valid_up_to()),
        )
    })
}

fn read_folder(root: &Path) -> Result<Vec<Named>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in WalkDir::new(root).follow_links(true).sort_by_file_name() {
        match entry {
            Ok(entry)
                if entry.path().extension().is_some_and(|e| e == "txt") && entry.file_type().is_file() =>
            {
                files.push(entry.into_path());
            }
            Ok(_) => {}
            Err(e) if e.loop_ancestor().is_some() || e.path().is_some_and(Path::is_symlink) => {}
            Err(e) => return Err(Error::data(e.path().unwrap_or(root), e.to_string())),
        }
    }
    let named = files.iter().map(|path| {
        let inside = path.strip_prefix(root).unwrap_or(path);
        let class = (inside.components().count() > 1)
            .then(|| inside.iter().next().map(|c| c.to_string_lossy().into_owned()))
            .flatten();
        Ok((inside.to_string_lossy().into_owned(), read(path)?, class))
    });
    named.collect()
}

fn read_jsonl(path: &Path) -> Result<Vec<Named>> {
    let text = read(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let named = lines.map(|(at, line)| {
        let line: Line = serde_json::from_str(line).map_err(|e| {
            let problem =
                format!("line {}: {e}; a line is {{\"text\": \"...\", \"label\": \"...\"}}", at + 1);
            Error::data(path, problem)
        })?;
        Ok(((at + 1).to_string(), line.text, line.label))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn reads_folders_and_lines() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("b/deep")).unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("b/deep/1.txt"), "one").unwrap();
        fs::write(folder.path().join("a/2.txt"), "two").unwrap();
        fs::write(folder.path().join("a/readme.md"), "no text").unwrap();
        let corpus = Corpus::open_path(folder.path()).unwrap();
        assert_eq!(corpus.classes, ["a", "b"]);
        assert_eq!(corpus.labels().unwrap(), [0, 1]);
        assert_eq!(corpus.documents[1].text, "one");

        let lines = folder.path().join("x.jsonl");
        fs::write(&lines, "{\"text\": \"hello\", \"label\": \"z\"}\n\n{\"text\": \"there\"}\n").unwrap();
        let corpus = Corpus::open_path(&lines).unwrap();
        assert_eq!((corpus.documents.len(), corpus.labels()), (2, None));
        assert_eq!(corpus.documents[0].label, Some(0));
    }

    #[test]
    fn names_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let message = |path: &Path| Corpus::open_path(path).unwrap_err().to_string();
        assert!(message(folder.path()).ends_with("holds no text"));
        assert!(message(&folder.path().join("x")).ends_with("there is no such file or folder"));
        let path = folder.path().join("x.jsonl");
        fs::write(&path, "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n").unwrap();
        assert!(message(&path).contains("line 2: missing field `text`"), "{}", message(&path));
        let path = folder.path().join("latin.txt");
        fs::write(&path, b"caf\xe9").unwrap();
        assert!(message(&path).contains("latin.txt: byte 3 is not UTF-8"), "{}", message(&path));
    }

    #[test]
    fn splits_by_document_and_seed() {
        let documents = (0..20).map(|i| Document { name: i.to_string(), text: String::new(), label: None });
        let corpus = Corpus::new(documents.collect(), vec![]).unwrap();
        let (train, held) = corpus.split(0.2, 1).unwrap();
        assert_eq!((train.documents.len(), held.documents.len()), (16, 4));
        assert!(held.documents.iter().all(|d| !train.documents.contains(d)));
        assert_eq!(corpus.split(0.2, 1).unwrap(), (train, held));
        assert_ne!(corpus.split(0.2, 1).unwrap(), corpus.split(0.2, 2).unwrap());
        assert!(corpus.split(0.01, 1).is_err() && corpus.split(1.0, 1).is_err());
    }
}
