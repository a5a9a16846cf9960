//! The Brown corpus (Francis and Kucera, "A standard corpus of present-day edited American English", 1964): 500 files
//! of words with their classes (`The/at jury/nn said/vbd ./.`), and `cats.txt` with the genre of each file.

use super::corpus::{Named, read};
use selfsup_core::{Error, Result};
use std::path::Path;

/// Reads the documents of the genres in `cats.txt`, which lie beside it or in the folder `documents`.
pub(super) fn read_brown(root: &Path) -> Result<Vec<Named>> {
    let list = root.join("cats.txt");
    let folder =
        Some(root.join("documents")).filter(|folder| folder.is_dir()).unwrap_or_else(|| root.to_owned());
    let text = read(&list)?;
    let named = text.lines().filter(|line| !line.trim().is_empty()).map(|line| {
        let Some((name, genre)) = line.split_once(' ') else {
            return Err(Error::data(&list, format!("{line:?} is no file and its genre")));
        };
        Ok((name.to_owned(), without_tags(&read(&folder.join(name))?), Some(genre.trim().to_owned())))
    });
    named.collect()
}

/// The plain text of tagged text: tags cut off, paragraphs kept, no space where print has none.
fn without_tags(tagged: &str) -> String {
    let mut text = String::with_capacity(tagged.len() / 2);
    for line in tagged.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if !text.is_empty() {
            text.push('\n');
        }
        let mut space = false;
        for token in line.split_whitespace() {
            // A word may hold slashes itself; the tag comes after the last one.
            let word = token.rsplit_once('/').map_or(token, |(word, _)| word);
            if space && !matches!(word, "." | "," | ";" | ":" | "?" | "!" | ")" | "]" | "}" | "''") {
                text.push(' ');
            }
            text.push_str(if matches!(word, "``" | "''") { "\"" } else { word });
            space = !matches!(word, "(" | "[" | "{" | "``");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Corpus;
    use std::fs;

    #[test]
    fn cuts_the_tags_off() {
        let tagged =
            "\n\n\t``/`` No/at evidence/nn ''/'' (/( 1/2/cd )/) ,/, he/pps said/vbd ./.\n\n\tSo/rb !/.\n";
        assert_eq!(without_tags(tagged), "\"No evidence\" (1/2), he said.\nSo!");
    }

    #[test]
    fn reads_the_genres() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cats.txt"), "ca01 news\ncb01 editorial\n").unwrap();
        fs::create_dir(folder.path().join("documents")).unwrap();
        fs::write(folder.path().join("documents/ca01"), "The/at jury/nn").unwrap();
        let error = Corpus::open_path(folder.path()).unwrap_err().to_string();
        assert!(error.contains("cb01"), "{error}");
        fs::write(folder.path().join("documents/cb01"), "We/ppss think/vb").unwrap();
        let corpus = Corpus::open_path(folder.path()).unwrap();
        assert_eq!(corpus.classes, ["editorial", "news"]);
        assert_eq!(corpus.labels().unwrap(), [1, 0]);
        assert_eq!(corpus.documents[1].text, "We think");
    }
}
