//! Data by name or path, and `selfsup data`.

use crate::nearest::instead;
use anyhow::{Result, bail};
use selfsup::data::ImageSplits;
use selfsup::data::text::Corpus;
use selfsup::fetch;
use std::path::Path;

/// Opens a known set of images, or the user's own.
///
/// # Errors
/// When there is neither such a path nor such a set, or it holds no images.
pub fn open_images(source: &str) -> Result<ImageSplits> {
    check(source)?;
    Ok(selfsup::data::open(source)?)
}

/// Opens a known set of texts, or the user's own.
///
/// # Errors
/// When there is neither such a path nor such a set, or it holds no text.
pub fn open_texts(source: &str) -> Result<Corpus> {
    check(source)?;
    Ok(Corpus::open(source)?)
}

/// Refuses what is neither a path nor the name of a known set, with the nearest name.
fn check(source: &str) -> Result<()> {
    let known = fetch::sets().iter().map(|set| set.name);
    if Path::new(source).exists() || known.clone().any(|name| name == source) {
        return Ok(());
    }
    if source.contains(['/', '\\']) || source.starts_with('.') {
        bail!("{source}: there is no such file or folder");
    }
    bail!("{source} is neither a file or folder nor a known set; {}", instead(source, known));
}

/// `selfsup data NAME`: fetches a known set and prints its folder.
///
/// # Errors
/// When the name is unknown or no source gives the set.
pub fn fetch_set(name: &str) -> Result<()> {
    let known = fetch::sets().iter().map(|set| set.name);
    let Some(set) = fetch::sets().iter().find(|set| set.name == name) else {
        bail!("no known set is named {name}; {}", instead(name, known));
    };
    println!("{}", fetch::fetch(set)?.display());
    Ok(())
}
