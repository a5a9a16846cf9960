//! Images in tar archives, as WebDataset lays them out.

use super::decode::{DecodeLimits, decode_bytes, is_grey_bytes};
use super::folder::is_image;
use super::npy::read_at;
use super::{ImageSet, MOST_CLASSES, numbered_classes};
use crate::Image;
use rayon::prelude::*;
use selfsup_core::{Dataset, Error, Result};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use tar::{Archive, EntryType};

/// How many headers are read to find out whether a set is grey.
const PROBES: usize = 64;

/// Shards: tar archives whose members `KEY.jpg` (or png, bmp, webp) and `KEY.cls` are a sample and its class, a whole
/// number. Members of a sample stand side by side, and what else they hold (`KEY.json` ...) is passed over.
///
/// The archives' headers are read once, when the set is opened; 16 bytes a sample are kept. An image is read when a
/// sample is asked for, from its place in its archive, so that the shards may be larger than memory. To read them
/// nearly in the order in which they lie on the disk, shuffle with
/// [`ShuffledShards`](crate::sampler::ShuffledShards).
#[derive(Clone, Debug)]
pub struct TarShards {
    shards: Vec<Shard>,
    /// The first sample of each shard, and the number of all samples.
    starts: Vec<usize>,
    labels: Option<Vec<i64>>,
    classes: Vec<String>,
    channels: usize,
    limits: DecodeLimits,
}

/// An archive and where its images lie.
#[derive(Clone, Debug)]
struct Shard {
    path: PathBuf,
    images: Vec<Member>,
}

/// A member's place in its archive.
#[derive(Clone, Copy, Debug)]
struct Member {
    offset: u64,
    length: u64,
}

impl TarShards {
    /// Reads the headers of these archives.
    ///
    /// # Errors
    /// [`Error::Data`] with the archive and the sample when an archive is truncated or no tar, a sample has no image or
    /// two, a class is no whole number, or some samples have a class and others have none.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let read: Vec<(Shard, Vec<Option<i64>>)> =
            paths.par_iter().map(|path| Shard::read(path)).collect::<Result<_>>()?;
        let (mut shards, mut all, mut starts) = (Vec::new(), Vec::new(), vec![0]);
        for (shard, labels) in read {
            starts.push(starts[starts.len() - 1] + shard.images.len());
            all.extend(labels);
            shards.push(shard);
        }
        let with = all.iter().flatten().count();
        if with != 0 && with != all.len() {
            let at = all.iter().position(Option::is_none).unwrap_or_default();
            let shard = starts.partition_point(|&start| start <= at) - 1;
            let problem = format!(
                "image {} of the archive has no class (.cls), others of the set do: give all one, or none",
                at - starts[shard]
            );
            return Err(Error::data(&shards[shard].path, problem));
        }
        let labels: Option<Vec<i64>> = if all.is_empty() { None } else { all.into_iter().collect() };
        let classes = labels.as_deref().map(numbered_classes).unwrap_or_default();
        let limits = DecodeLimits::default();
        let mut set = TarShards { shards, starts, labels, classes, channels: 3, limits };
        let step = set.len().div_ceil(PROBES).max(1);
        let grey = |i| set.read(i).is_ok_and(|(_, bytes)| is_grey_bytes(&bytes, limits));
        if set.len() > 0 && (0..set.len()).step_by(step).all(grey) {
            set.channels = 1;
        }
        Ok(set)
    }

    /// The same set read with this number of channels.
    #[must_use]
    pub(crate) fn with_channels(mut self, channels: usize) -> Self {
        self.channels = channels;
        self
    }

    /// The shard of a sample and the sample's position in it.
    fn find(&self, index: usize) -> Result<(&Shard, usize)> {
        if index >= self.len() {
            return Err(Error::config("index", index, format!("a sample in 0..{}", self.len())));
        }
        let shard = self.starts.partition_point(|&start| start <= index) - 1;
        Ok((&self.shards[shard], index - self.starts[shard]))
    }

    /// The file of a sample as it lies in its archive, and the archive's path.
    fn read(&self, index: usize) -> Result<(&Path, Vec<u8>)> {
        let (shard, at) = self.find(index)?;
        let file = File::open(&shard.path).map_err(Error::io(&shard.path))?;
        Ok((&shard.path, shard.images[at].read(&file, &shard.path)?))
    }
}

impl Shard {
    /// Reads an archive's headers and its classes.
    fn read(path: &Path) -> Result<(Self, Vec<Option<i64>>)> {
        let bad = |problem: String| Error::data(path, problem);
        let damaged = |e: std::io::Error| bad(format!("no whole tar archive: {e}"));
        let file = File::open(path).map_err(Error::io(path))?;
        let length = file.metadata().map_err(Error::io(path))?.len();
        let mut archive = Archive::new(BufReader::new(&file));
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        let mut sample = Sample::default();
        let mut finish = |sample: Sample| -> Result<()> {
            match sample.image {
                Some(image) => {
                    images.push(image);
                    labels.push(sample.label);
                    Ok(())
                }
                None if sample.label.is_none() => Ok(()),
                None => Err(bad(format!("the sample {:?} has a class and no image", sample.key))),
            }
        };
        for entry in archive.entries_with_seek().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            if entry.header().entry_type() != EntryType::Regular {
                continue;
            }
            let name = entry.path().map_err(damaged)?.to_string_lossy().into_owned();
            let member = Member { offset: entry.raw_file_position(), length: entry.size() };
            if member.offset.saturating_add(member.length) > length {
                return Err(bad(format!("truncated in the member {name:?}")));
            }
            let (key, ending) = split_name(&name);
            if key != sample.key {
                finish(std::mem::replace(&mut sample, Sample { key: key.to_owned(), ..Sample::default() }))?;
            }
            if ending == "cls" {
                let text = member.read(&file, path)?;
                let label = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
                sample.label =
                    Some(label.filter(|label| (0..MOST_CLASSES).contains(label)).ok_or_else(|| {
                        let found = String::from_utf8_lossy(&text[..text.len().min(40)]).into_owned();
                        bad(format!(
                            "{name:?} holds {found:?}: classes are whole numbers from 0 on, without gaps"
                        ))
                    })?);
            } else if is_image(Path::new(&name)) && sample.image.replace(member).is_some() {
                return Err(bad(format!("the sample {key:?} has two images; {name:?} is the second")));
            }
        }
        finish(sample)?;
        Ok((Shard { path: path.to_owned(), images }, labels))
    }
}

/// A sample while its members are read.
#[derive(Default)]
struct Sample {
    key: String,
    image: Option<Member>,
    label: Option<i64>,
}

impl Member {
    fn read(self, file: &File, path: &Path) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.length as usize];
        read_at(file, &mut bytes, self.offset).map_err(Error::io(path))?;
        Ok(bytes)
    }
}

/// A member's key, its path up to the first dot of the file's name, and what stands behind that dot, in lower case.
fn split_name(name: &str) -> (&str, String) {
    let file = name.rfind('/').map_or(0, |at| at + 1);
    match name[file..].find('.') {
        Some(dot) => (&name[..file + dot], name[file + dot + 1..].to_ascii_lowercase()),
        None => (name, String::new()),
    }
}

impl Dataset for TarShards {
    type Item = Image;

    fn len(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }

    fn get(&self, index: usize) -> Result<Image> {
        let (path, bytes) = self.read(index)?;
        let image = decode_bytes(path, &bytes, self.limits)
            .map_err(|e| Error::data(path, format!("image {}: {e}", self.name(index))))?;
        Ok(if self.channels == 1 { image.to_grey() } else { image.to_colour() })
    }
}

impl ImageSet for TarShards {
    fn channels(&self) -> usize {
        self.channels
    }

    fn labels(&self) -> Option<Vec<i64>> {
        self.labels.clone()
    }

    fn classes(&self) -> Vec<String> {
        self.classes.clone()
    }

    /// The archive's name and the sample's position in it: keys are not kept.
    fn name(&self, index: usize) -> String {
        match self.find(index) {
            Ok((shard, at)) => {
                let archive = shard.path.file_name().unwrap_or_default().to_string_lossy();
                format!("{archive}#{at}")
            }
            Err(_) => index.to_string(),
        }
    }

    fn shards(&self) -> Vec<usize> {
        self.shards.iter().map(|shard| shard.images.len()).collect()
    }

    fn stamp(&self) -> Result<Option<u64>> {
        let paths: Vec<PathBuf> = self.shards.iter().map(|shard| shard.path.clone()).collect();
        super::stamp(&paths).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ExtendedColorType, ImageFormat};
    use std::io::Cursor;

    /// A PNG of 2x2 grey pixels of one value.
    fn png(value: u8) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image::write_buffer_with_format(
            &mut bytes,
            &[value; 4],
            2,
            2,
            ExtendedColorType::L8,
            ImageFormat::Png,
        )
        .unwrap();
        bytes.into_inner()
    }

    fn tar(path: &Path, members: &[(&str, &[u8])]) {
        let mut builder = tar::Builder::new(File::create(path).unwrap());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.finish().unwrap();
    }

    fn refused(members: &[(&str, &[u8])]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        tar(&path, members);
        let error = TarShards::open(&[path]).unwrap_err().to_string();
        error.rsplit_once("x.tar: ").unwrap().1.to_owned()
    }

    #[test]
    fn samples_are_members_of_one_key_in_the_order_of_the_archives() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.tar", "b.tar"].map(|name| folder.path().join(name));
        let (one, two, three) = (png(10), png(20), png(30));
        tar(
            &paths[0],
            &[
                ("d/0.png", &one),
                ("d/0.cls", b"1\n"),
                ("d/0.json", b"{}"),
                ("d/1.cls", b"0"),
                ("d/1.PNG", &two),
            ],
        );
        tar(&paths[1], &[("0.meta.txt", b"x"), ("2.png", &three), ("2.cls", b"2")]);
        let set = TarShards::open(&paths).unwrap();
        assert_eq!((set.len(), set.channels(), set.shards()), (3, 1, vec![2, 1]));
        let values: Vec<u8> = (0..3).map(|i| set.get(i).unwrap().pixels()[0]).collect();
        assert_eq!(values, [10, 20, 30]);
        assert_eq!(set.labels(), Some(vec![1, 0, 2]));
        assert_eq!(set.classes(), ["0", "1", "2"]);
        assert_eq!(set.name(2), "b.tar#0");
        assert!(set.get(3).is_err());
    }

    #[test]
    fn refuses_what_is_no_sample() {
        let image = png(1);
        assert_eq!(refused(&[("0.cls", b"1")]), "the sample \"0\" has a class and no image");
        let error = refused(&[("0.png", &image), ("0.jpg", &image)]);
        assert_eq!(error, "the sample \"0\" has two images; \"0.jpg\" is the second");
        let error = refused(&[("0.png", &image), ("0.cls", b"cat")]);
        assert_eq!(error, "\"0.cls\" holds \"cat\": classes are whole numbers from 0 on, without gaps");
        assert!(refused(&[("0.png", &image), ("0.cls", b"4000000000")]).contains("without gaps"));
        let error = refused(&[("0.png", &image), ("0.cls", b"1"), ("1.png", &image)]);
        assert!(error.starts_with("image 1 of the archive has no class"), "{error}");
    }

    #[test]
    fn names_the_archive_that_is_truncated_and_the_image_that_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        let image = png(1);
        tar(&path, &[("0.png", &image), ("1.png", &image[..20])]);
        let error = TarShards::open(std::slice::from_ref(&path)).unwrap().get(1).unwrap_err().to_string();
        assert!(error.contains("x.tar") && error.contains("x.tar#1"), "{error}");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..530]).unwrap();
        let error = TarShards::open(&[path]).unwrap_err().to_string();
        assert!(error.contains("x.tar") && error.contains("truncated in the member \"0.png\""), "{error}");
    }
}
