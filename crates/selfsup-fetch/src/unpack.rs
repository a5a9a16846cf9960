//! Takes the wanted members out of an archive that is not trusted.
//!
//! Only regular files are written, each to a place that the set names, so nothing in an archive can choose a
//! path of its own. Still an archive that tries to is refused as a whole: it is not what it is meant to be.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use flate2::read::MultiGzDecoder;

use crate::cache::make_folder;
use crate::digest::{Files, Hasher};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::set::{Item, below, strip_folder};

/// How much an archive may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes in all, whatever the archive's own size.
    pub(crate) bytes: u64,
    /// Unpacked bytes for each packed one; real data stays below 30.
    pub(crate) ratio: u64,
    /// Unpacked bytes up to which the ratio is not looked at.
    pub(crate) small: u64,
    /// Members, wanted or not.
    pub(crate) members: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 16 << 30, ratio: 200, small: 64 << 20, members: 1_000_000 }
    }
}

impl Limits {
    /// The number of bytes that an archive of that size may become.
    fn bytes_for(self, packed: u64) -> u64 {
        self.bytes.min(self.small.max(packed.saturating_mul(self.ratio)))
    }
}

/// One unpacking: what is wanted, where it goes, and what has come of it so far.
struct Unpacking<'a> {
    archive: &'a Path,
    root: &'a str,
    items: &'a [Item],
    into: &'a Path,
    /// Bytes that may still be written, of `allowed`.
    left: u64,
    allowed: u64,
    members_left: usize,
    files: Files,
    progress: Progress,
}

/// Unpacks the members of `archive` that `items` name below `root` into the folder `into`, and returns their
/// digests.
///
/// The kind of archive follows from its name: `.whl` and `.zip`, `.tgz` and `.tar.gz`, `.deb`; any other is a
/// single file.
pub(crate) fn unpack(
    archive: &Path,
    root: &str,
    items: &[Item],
    into: &Path,
    limits: Limits,
) -> Result<Files> {
    let name = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let packed = archive.metadata().map_err(Error::io("read", archive))?.len();
    let allowed = limits.bytes_for(packed);
    let mut unpacking = Unpacking {
        archive,
        root,
        items,
        into,
        left: allowed,
        allowed,
        members_left: limits.members,
        files: Files::new(),
        progress: Progress::new(format!("unpacking {name}"), 0, None),
    };
    let ends_with = |ending: &str| name.to_ascii_lowercase().ends_with(ending);
    if ends_with(".whl") || ends_with(".zip") {
        unpacking.zip()?;
    } else if ends_with(".tgz") || ends_with(".tar.gz") {
        let file = File::open(archive).map_err(Error::io("open", archive))?;
        unpacking.tar(MultiGzDecoder::new(BufReader::new(file)))?;
    } else if ends_with(".deb") {
        unpacking.deb()?;
    } else {
        return Err(unpacking.refuse("its name tells no kind of archive that is known here"));
    }
    unpacking.progress.finish();
    Ok(unpacking.files)
}

/// Copies the members that `items` name below `root` of a folder on this machine.
pub(crate) fn copy_folder(root: &Path, items: &[Item], into: &Path, limits: Limits) -> Result<Files> {
    let mut unpacking = Unpacking {
        archive: root,
        root: "",
        items,
        into,
        left: limits.bytes,
        allowed: limits.bytes,
        members_left: limits.members,
        files: Files::new(),
        progress: Progress::new(format!("copying {}", root.display()), 0, None),
    };
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.map_err(|error| Error::io("read", root)(error.into()))?;
        let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let Some(path) = path.to_str().filter(|_| entry.file_type().is_file()) else { continue };
        if let Some((to, from_gzip)) = unpacking.wanted(&path.replace('\\', "/"))? {
            let file = File::open(entry.path()).map_err(Error::io("open", entry.path()))?;
            unpacking.write(&to, from_gzip, None, file)?;
        }
    }
    unpacking.progress.finish();
    Ok(unpacking.files)
}

impl Unpacking<'_> {
    fn refuse(&self, reason: impl std::fmt::Display) -> Error {
        Error::refused(self.archive.display(), reason)
    }

    fn zip(&mut self) -> Result<()> {
        let file = File::open(self.archive).map_err(Error::io("open", self.archive))?;
        let mut zip = zip::ZipArchive::new(BufReader::new(file)).map_err(|error| self.refuse(error))?;
        let mut wanted = Vec::new();
        let mut total = 0u64;
        for index in 0..zip.len() {
            let member = zip.by_index_raw(index).map_err(|error| self.refuse(error))?;
            let name = member.name().map_err(|error| self.refuse(error))?.into_owned();
            let Some((to, from_gzip)) = self.wanted(&name)? else { continue };
            if member.is_dir() {
                continue;
            }
            if !member.is_file() || member.is_symlink() {
                return Err(self.refuse(format!("{name} is a link")));
            }
            total = total.saturating_add(member.size());
            wanted.push((index, to, from_gzip));
        }
        if total > self.left {
            return Err(self.too_large());
        }
        self.progress.expect(total);
        for (index, to, from_gzip) in wanted {
            let member = zip.by_index(index).map_err(|error| self.refuse(error))?;
            let size = member.size();
            self.write(&to, from_gzip, Some(size), member)?;
        }
        Ok(())
    }

    fn deb(&mut self) -> Result<()> {
        // The data of a package is compressed in one of several ways; dpkg-deb, which is wherever apt-get is,
        // knows them all.
        let mut child = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(self.archive)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|_| Error::MissingProgram {
                program: "dpkg-deb".into(),
                advice: "it unpacks Debian packages and comes with Debian",
            })?;
        let result = match child.stdout.take() {
            Some(stream) => self.tar(BufReader::new(stream)),
            None => Ok(()),
        };
        // The stream is closed here, so a child that still writes ends with an error rather than waiting.
        let output = child.wait_with_output().map_err(Error::io("unpack", self.archive))?;
        result?;
        if output.status.success() {
            return Ok(());
        }
        Err(self.refuse(String::from_utf8_lossy(&output.stderr).trim()))
    }

    fn tar(&mut self, stream: impl Read) -> Result<()> {
        // Bytes of unwanted members pass through the decompressor too: they count before they are skipped.
        let stream = stream.take(self.left.saturating_add(1 << 20));
        let mut tar = tar::Archive::new(stream);
        let entries = tar.entries().map_err(|error| self.refuse(error))?;
        for entry in entries {
            let entry =
                entry.map_err(|error| self.refuse(format!("{error} (truncated, or larger than allowed)")))?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some((to, from_gzip)) = self.wanted(&name)? else { continue };
            match entry.header().entry_type() {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    let size = entry.size();
                    self.write(&to, from_gzip, Some(size), entry)?;
                }
                tar::EntryType::Directory => {}
                _ => return Err(self.refuse(format!("{name} is a link or a special file"))),
            }
        }
        Ok(())
    }

    /// Where a member goes and whether it is unpacked from gzip on its way; `None` for one that is not
    /// wanted.
    fn wanted(&mut self, member: &str) -> Result<Option<(String, bool)>> {
        self.members_left =
            self.members_left.checked_sub(1).ok_or_else(|| self.refuse("it has too many members"))?;
        let path =
            plain_path(member).ok_or_else(|| self.refuse(format!("{member:?} leads out of the folder")))?;
        let Some(path) = strip_folder(&path, self.root) else { return Ok(None) };
        Ok(self.items.iter().find_map(|item| {
            let to = item.place(path)?;
            let from_gzip = matches!(item, Item::File { .. }) && is_gzip(path) && !is_gzip(&to);
            Some((to, from_gzip))
        }))
    }

    /// Writes one member of the stated size.
    fn write(&mut self, to: &str, from_gzip: bool, size: Option<u64>, member: impl Read) -> Result<()> {
        if size.is_some_and(|size| size > self.left) {
            return Err(self.too_large());
        }
        let path = self.into.join(to);
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let mut file = match File::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(self.refuse(format!("it holds {to} twice")));
            }
            other => other.map_err(Error::io("create", &path))?,
        };
        let mut reader: Box<dyn Read + '_> =
            if from_gzip { Box::new(MultiGzDecoder::new(member)) } else { Box::new(member) };
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.refuse(format!("{to}: {error}"))),
            };
            self.left = self.left.checked_sub(count as u64).ok_or_else(|| self.too_large())?;
            file.write_all(&buffer[..count]).map_err(Error::io("write", &path))?;
            hasher.update(&buffer[..count]);
            self.progress.add(count as u64);
        }
        let digest = hasher.finish();
        if let Some(size) = size.filter(|size| !from_gzip && *size != digest.size) {
            return Err(self.refuse(format!("{to} says {size} bytes and has {}", digest.size)));
        }
        self.files.insert(to.to_string(), digest);
        Ok(())
    }

    fn too_large(&self) -> Error {
        self.refuse(format!("it holds more than {} bytes, which no real data of its size does", self.allowed))
    }
}

/// A relative path without `.`; `None` for one that leads elsewhere.
fn plain_path(raw: &str) -> Option<String> {
    if raw.starts_with('/') || raw.contains(['\\', '\0', ':']) {
        return None;
    }
    let mut path = String::new();
    for name in raw.split('/') {
        match name {
            "" | "." => {}
            ".." => return None,
            name => path = below(&path, name),
        }
    }
    Some(path)
}

fn is_gzip(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|ending| ending == "gz")
}

/// Moves the files of one finished unpacking into the folder of the whole set.
pub(crate) fn merge(from: &Path, files: &Files, into: &Path) -> Result<()> {
    for path in files.keys() {
        let target = into.join(path);
        if let Some(folder) = target.parent() {
            make_folder(folder)?;
        }
        fs::rename(from.join(path), &target).map_err(Error::io("move into place", &target))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Cursor;
    use std::path::PathBuf;
    use tempfile::TempDir;
    use zip::write::SimpleFileOptions;

    const EVERYTHING: &[Item] = &[Item::Folder { from: "", names: "*", to: "", sha256: None }];

    /// A folder with an archive and the folder `out` beside it.
    fn place(name: &str, bytes: &[u8]) -> (TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join(name);
        fs::write(&archive, bytes).unwrap();
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        (folder, archive, out)
    }

    fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    /// A tar.gz whose names are written as they are, which the tar crate's own builder would refuse.
    fn tgz(members: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, kind, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            if *kind == tar::EntryType::Symlink {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn refusal(name: &str, bytes: &[u8], limits: Limits) -> String {
        let (folder, archive, out) = place(name, bytes);
        let error = unpack(&archive, "", EVERYTHING, &out, limits).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "something was written beside the folder: {names:?}");
        error.to_string()
    }

    #[test]
    fn takes_the_named_members_and_digests_what_it_wrote() {
        let items = &[
            Item::Folder { from: "img", names: "*.png", to: "images", sha256: None },
            Item::File { from: "names.csv.gz", to: "names.csv", sha256: None },
        ];
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(b"a,b").unwrap();
        let gzip = gzip.finish().unwrap();
        let members: &[(&str, &[u8])] = &[
            ("p/img/1.png", b"one"),
            ("p/img/x/2.png", b"two"),
            ("p/code.py", b"no"),
            ("p/names.csv.gz", &gzip),
        ];
        let regular: Vec<_> =
            members.iter().map(|(name, bytes)| (*name, tar::EntryType::Regular, *bytes)).collect();
        for (name, bytes) in [("a.whl", zip(members)), ("a.tgz", tgz(&regular))] {
            let (_folder, archive, out) = place(name, &bytes);
            let files = unpack(&archive, "p", items, &out, Limits::default()).unwrap();
            assert_eq!(files.keys().collect::<Vec<_>>(), ["images/1.png", "images/x/2.png", "names.csv"]);
            assert_eq!(fs::read(out.join("names.csv")).unwrap(), b"a,b");
            assert_eq!(files["images/1.png"].sha256, crate::digest::sha256(b"one"));
        }
    }

    #[test]
    fn a_path_that_leads_out_of_the_folder_is_refused() {
        for name in ["../out.txt", "a/../../out.txt", "/tmp/out.txt", "C:\\out.txt"] {
            assert!(
                refusal("a.zip", &zip(&[(name, b"x")]), Limits::default()).contains("leads out"),
                "{name}"
            );
            let tar = tgz(&[(name, tar::EntryType::Regular, b"x")]);
            assert!(refusal("a.tgz", &tar, Limits::default()).contains("leads out"), "{name}");
        }
    }

    #[test]
    fn links_are_refused() {
        let tar = tgz(&[("passwords", tar::EntryType::Symlink, b"")]);
        assert!(refusal("a.tar.gz", &tar, Limits::default()).contains("link"));
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        writer.add_symlink("passwords", "/etc/passwd", SimpleFileOptions::default()).unwrap();
        let bytes = writer.finish().unwrap().into_inner();
        assert!(refusal("a.zip", &bytes, Limits::default()).contains("link"));
    }

    #[test]
    fn bombs_are_refused() {
        let zeros = vec![0; 4 << 20];
        let limits = Limits { small: 1 << 20, ratio: 20, ..Limits::default() };
        assert!(refusal("a.zip", &zip(&[("zeros", &zeros)]), limits).contains("more than 1048576 bytes"));
        let tar = tgz(&[("zeros", tar::EntryType::Regular, &zeros)]);
        assert!(refusal("a.tgz", &tar, limits).contains("more than"));
        let many: Vec<_> = (0..20).map(|n| format!("file-{n}")).collect();
        let members: Vec<_> = many.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
        let limits = Limits { members: 10, ..Limits::default() };
        assert!(refusal("a.zip", &zip(&members), limits).contains("too many members"));
    }

    #[test]
    fn a_gzip_inside_an_archive_counts_in_its_unpacked_size() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&vec![0; 4 << 20]).unwrap();
        let bytes = zip(&[("zeros.csv.gz", &gzip.finish().unwrap())]);
        let (_folder, archive, out) = place("a.zip", &bytes);
        let items = &[Item::File { from: "zeros.csv.gz", to: "zeros.csv", sha256: None }];
        let limits = Limits { small: 1 << 20, ..Limits::default() };
        let error = unpack(&archive, "", items, &out, limits).unwrap_err();
        assert!(error.to_string().contains("more than"), "{error}");
    }

    #[test]
    fn a_truncated_archive_and_a_member_that_stands_twice_are_refused() {
        let bytes = zip(&[("a", b"12345")]);
        refusal("a.zip", &bytes[..bytes.len() / 2], Limits::default());
        let tar = tgz(&[("a", tar::EntryType::Regular, &[7; 5000])]);
        refusal("a.tgz", &tar[..tar.len() / 2], Limits::default());
        let twice = tgz(&[("a", tar::EntryType::Regular, b"x"), ("./a", tar::EntryType::Regular, b"y")]);
        assert!(refusal("a.tgz", &twice, Limits::default()).contains("twice"));
    }
}
