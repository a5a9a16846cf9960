//! How a set is described: the files it consists of, and where they may come from.

use std::fmt;

use crate::error::{Error, Result};
use crate::sets::SETS;

/// A set of files that is fetched as a whole and lies in one folder of the cache.
#[derive(Debug)]
pub struct Set {
    /// The name by which it is asked for.
    pub name: &'static str,
    /// One line: what it is.
    pub about: &'static str,
    /// Under what terms it may be used.
    pub licence: &'static str,
    /// Its folder, relative to the cache.
    pub folder: &'static str,
    /// The parts it is put together from.
    pub parts: &'static [Part],
}

/// Files that come from one place.
#[derive(Debug)]
pub struct Part {
    /// Where they may come from, in the order of trying.
    pub sources: &'static [Source],
    /// The files.
    pub items: &'static [Item],
}

/// One file or one folder of a set.
///
/// `from` is relative to the root of the source. A `None` in place of a digest means that only the encrypted
/// connection to the official address vouches for the contents; that is for archives whose digest nobody
/// publishes.
#[derive(Debug)]
pub enum Item {
    /// One file. When `from` ends in `.gz` and `to` does not, it is unpacked, and the digest is that of the
    /// unpacked file: the same contents are compressed in several ways by those who pass them on.
    File {
        /// Its path in the source.
        from: &'static str,
        /// Its path in the set.
        to: &'static str,
        /// Its SHA-256 in hexadecimal digits.
        sha256: Option<&'static str>,
    },
    /// All files at any depth below a folder whose names match.
    Folder {
        /// The folder's path in the source; empty for the root.
        from: &'static str,
        /// What their names match; `*` stands for any characters, `?` for one.
        names: &'static str,
        /// The folder's path in the set.
        to: &'static str,
        /// The SHA-256 of the listing `<sha256>  <path below the folder>\n`, sorted by path: in a shell,
        /// `find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum`.
        sha256: Option<&'static str>,
    },
    /// A file with a known text, for which no source is needed.
    Text {
        /// Its path in the set.
        to: &'static str,
        /// What it says.
        text: &'static str,
    },
}

/// Where files may come from.
#[derive(Debug)]
pub enum Source {
    /// Files that are on this machine already, such as those of an installed package.
    Here {
        /// The folder they lie in.
        root: &'static str,
    },
    /// A Debian package, downloaded without being installed.
    Debian {
        /// Its name.
        package: &'static str,
        /// The folder inside it, without a leading slash.
        root: &'static str,
    },
    /// A Python wheel, downloaded without being installed.
    Pip {
        /// Its name.
        package: &'static str,
        /// The exact version.
        version: &'static str,
        /// The platforms whose wheel will do; none for a wheel of pure Python.
        platforms: &'static [&'static str],
        /// The folder inside it.
        root: &'static str,
    },
    /// An npm package.
    Npm {
        /// Its name.
        package: &'static str,
        /// The exact version.
        version: &'static str,
        /// The folder inside it, which begins with `package`.
        root: &'static str,
    },
    /// Single files below an address.
    Web {
        /// To which each file's `from` is appended.
        base: &'static str,
        /// The largest size in bytes that is accepted for one file.
        limit: u64,
    },
    /// A `.zip` or `.tar.gz` at an address.
    WebArchive {
        /// The full address.
        address: &'static str,
        /// The largest size in bytes that is accepted for the archive.
        limit: u64,
        /// The folder inside it.
        root: &'static str,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here { root } => write!(f, "the folder {root}"),
            Self::Debian { package, .. } => write!(f, "the Debian package {package}"),
            Self::Pip { package, version, .. } => write!(f, "pip's {package} {version}"),
            Self::Npm { package, version, .. } => write!(f, "npm's {package} {version}"),
            Self::Web { base, .. } => f.write_str(base),
            Self::WebArchive { address, .. } => f.write_str(address),
        }
    }
}

impl Item {
    /// A [`File`](Item::File) with its digest.
    pub const fn file(from: &'static str, to: &'static str, sha256: &'static str) -> Self {
        Self::File { from, to, sha256: Some(sha256) }
    }

    /// A [`Folder`](Item::Folder) with the digest of its listing.
    pub const fn folder(
        from: &'static str,
        names: &'static str,
        to: &'static str,
        sha256: &'static str,
    ) -> Self {
        Self::Folder { from, names, to, sha256: Some(sha256) }
    }

    /// The path or pattern by which messages name it.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::File { to, .. } | Self::Text { to, .. } => (*to).to_string(),
            Self::Folder { to, names, .. } => below(to, names),
        }
    }

    /// Where a member of a source goes, given its path relative to the source's root; `None` when it is not
    /// of this item.
    pub(crate) fn place(&self, member: &str) -> Option<String> {
        match self {
            Self::File { from, to, .. } => (member == *from).then(|| (*to).to_string()),
            Self::Folder { from, names, to, .. } => {
                let rest = strip_folder(member, from)?;
                matches(names, rest.rsplit('/').next().unwrap_or(rest)).then(|| below(to, rest))
            }
            Self::Text { .. } => None,
        }
    }

    /// The path below this item's own folder of a file of the finished set; `None` when it is not of this
    /// item.
    pub(crate) fn holds<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self {
            Self::File { to, .. } | Self::Text { to, .. } => (path == *to).then_some(path),
            Self::Folder { names, to, .. } => {
                let rest = strip_folder(path, to)?;
                matches(names, rest.rsplit('/').next().unwrap_or(rest)).then_some(rest)
            }
        }
    }
}

/// The known data sets, in the order in which they are listed.
pub fn sets() -> &'static [Set] {
    SETS
}

/// The data set of that name.
///
/// # Errors
/// [`Error::UnknownSet`] names those there are.
pub fn find(name: &str) -> Result<&'static Set> {
    SETS.iter().find(|set| set.name == name).ok_or_else(|| Error::UnknownSet {
        name: name.to_string(),
        known: SETS.iter().map(|set| set.name).collect::<Vec<_>>().join(", "),
    })
}

/// `folder/rest`, or `rest` alone when the folder is empty.
pub(crate) fn below(folder: &str, rest: &str) -> String {
    if folder.is_empty() { rest.to_string() } else { format!("{folder}/{rest}") }
}

/// What remains of `path` below `folder`.
pub(crate) fn strip_folder<'p>(path: &'p str, folder: &str) -> Option<&'p str> {
    if folder.is_empty() { Some(path) } else { path.strip_prefix(folder)?.strip_prefix('/') }
}

/// Whether a file name matches a pattern of literal characters, `*` and `?`.
fn matches(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => name.is_empty(),
        Some('*') => name
            .char_indices()
            .map(|(at, _)| at)
            .chain([name.len()])
            .any(|at| matches(rest.as_str(), &name[at..])),
        Some(first) => {
            let mut name = name.chars();
            name.next().is_some_and(|c| first == '?' || first == c) && matches(rest.as_str(), name.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        assert!(matches("*.png", "a.png") && matches("*", "") && matches("c???", "ca01"));
        assert!(!matches("*.png", "a.jpg") && !matches("c???", "cats.txt") && !matches("a", ""));
    }

    #[test]
    fn a_folder_takes_what_lies_below_it_and_nothing_beside_it() {
        let item = Item::Folder { from: "data/img", names: "*.png", to: "images", sha256: None };
        assert_eq!(item.place("data/img/x/1.png").as_deref(), Some("images/x/1.png"));
        assert_eq!(item.place("data/img2/1.png"), None);
        assert_eq!(item.place("data/img/readme"), None);
        assert_eq!(item.holds("images/x/1.png"), Some("x/1.png"));
    }

    #[test]
    fn names_are_unique_and_every_file_has_a_digest() {
        for (at, set) in sets().iter().enumerate() {
            assert!(sets()[..at].iter().all(|other| other.name != set.name && other.folder != set.folder));
            for part in set.parts {
                assert!(!part.sources.is_empty(), "{} has a part without a source", set.name);
                for item in part.items {
                    let digest = match item {
                        Item::File { sha256, .. } | Item::Folder { sha256, .. } => sha256.unwrap_or(""),
                        Item::Text { .. } => continue,
                    };
                    let hex = digest.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
                    assert!(digest.len() == 64 && hex, "{}: {}", set.name, item.label());
                }
            }
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let message = find("fashion").unwrap_err().to_string();
        assert!(message.contains("\"fashion\"") && message.contains("fashion-mnist, "), "{message}");
    }
}
