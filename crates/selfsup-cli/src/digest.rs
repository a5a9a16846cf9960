//! Checksums of what a run learns from: a run goes on only with the data that it began with.

use crate::images::evenly;
use selfsup::core::{Error, Result};
use selfsup::data::ImageSet;
use selfsup::data::text::Corpus;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// The images whose pixels are read, evenly taken: enough to see that a set was converted, without reading all of it.
const LOOKED_AT: usize = 64;

/// Checksums of a set's names and labels, and of the pixels of some of its images.
///
/// # Errors
/// When one of these images cannot be read.
pub fn of_images(set: &dyn ImageSet) -> Result<Value> {
    let names = (0..set.len()).fold(0, |sum, i| with(sum, set.name(i).as_bytes()));
    let labels =
        set.labels().map(|labels| labels.iter().fold(0, |sum, label| with(sum, &label.to_le_bytes())));
    let mut pixels = 0;
    for i in evenly(set.len(), LOOKED_AT) {
        let image = set.get(i)?;
        pixels = with(with(pixels, &(image.width() as u64).to_le_bytes()), image.pixels());
    }
    Ok(json!({"names": shown(names), "labels": labels.map(shown), "pixels": shown(pixels)}))
}

/// A checksum of a file.
///
/// # Errors
/// When it cannot be read.
pub fn of_file(path: &Path) -> Result<Value> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let (mut sum, mut buffer) = (0, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).map_err(Error::io(path))?;
        if read == 0 {
            return Ok(json!(shown(sum)));
        }
        sum = crc32c::crc32c_append(sum, &buffer[..read]);
    }
}

/// Checksums of a corpus' names and of its texts.
pub fn of_texts(corpus: &Corpus) -> Value {
    let (mut names, mut texts) = (0, 0);
    for document in &corpus.documents {
        names = with(names, document.name.as_bytes());
        texts = with(texts, document.text.as_bytes());
    }
    json!({"names": shown(names), "texts": shown(texts)})
}

/// The checksum of whole numbers, in order.
pub fn of_numbers(numbers: &[i64]) -> String {
    shown(numbers.iter().fold(0, |sum, number| with(sum, &number.to_le_bytes())))
}

/// The checksum of a JSON value, in whichever order its fields stand.
pub fn of_value(value: &Value) -> String {
    let mut value = value.clone();
    value.sort_all_objects();
    shown(with(0, value.to_string().as_bytes()))
}

/// The checksum with more bytes. Their number comes first, so that "ab", "c" differs from "a", "bc".
fn with(sum: u32, bytes: &[u8]) -> u32 {
    let sum = crc32c::crc32c_append(sum, &(bytes.len() as u64).to_le_bytes());
    crc32c::crc32c_append(sum, bytes)
}

fn shown(sum: u32) -> String {
    format!("{sum:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup::data::text::Document;

    #[test]
    fn the_checksum_of_a_file_is_that_of_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        // The check value of CRC-32C (RFC 3720, B.4).
        std::fs::write(&path, "123456789").unwrap();
        assert_eq!(of_file(&path).unwrap(), "e3069283");
        std::fs::write(&path, vec![7; (1 << 20) + 3]).unwrap();
        let long = of_file(&path).unwrap();
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        assert_ne!(of_file(&path).unwrap(), long);
        assert!(of_file(&folder.path().join("y")).is_err());
    }

    #[test]
    fn the_order_of_fields_says_nothing_and_that_of_numbers_does() {
        let (ab, ba) = (json!({"x": {"a": 1, "b": 2}}), json!({"x": {"b": 2, "a": 1}}));
        assert_ne!(ab.to_string(), ba.to_string());
        assert_eq!(of_value(&ab), of_value(&ba));
        assert_ne!(of_value(&ab), of_value(&json!({"x": {"a": 1, "b": 3}})));
        assert_ne!(of_numbers(&[0, 1]), of_numbers(&[1, 0]));
    }

    #[test]
    fn a_word_that_moves_to_the_next_text_is_seen() {
        let corpus = |texts: [&str; 2]| {
            let document =
                |text: &str| Document { name: "same".to_owned(), text: text.to_owned(), label: None };
            Corpus::new(texts.map(document).into(), Vec::new()).unwrap()
        };
        let digest = |texts| of_texts(&corpus(texts));
        assert_eq!(digest(["ab", "c"]), digest(["ab", "c"]));
        assert_ne!(digest(["ab", "c"])["texts"], digest(["a", "bc"])["texts"]);
        assert_eq!(digest(["ab", "c"])["names"], digest(["a", "bc"])["names"]);
    }
}
