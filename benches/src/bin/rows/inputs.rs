//! The inputs that both sides read, made once from known data sets and fixed keys.

use anyhow::{Context, Result};
use image::codecs::jpeg::JpegEncoder;
use image::imageops::{FilterType, crop_imm, resize};
use image::{RgbImage, imageops};
use npyz::WriterBuilder as _;
use rand::RngExt as _;
use rand_distr::{Distribution as _, StandardNormal};
use selfsup::core::{Key, Rng, Tensor};
use std::fs;
use std::io::BufWriter;
use std::path::Path;

/// Photographs of 500x375 pixels.
const PHOTOS: u64 = 64;
/// Images of 32x32 pixels.
const IMAGES: u64 = 2048;

/// Makes what is missing in `folder`: `images32.npy`, `photos/`, `queries.npy`, `keys.npy`, `features.npy` and
/// `fashion-mnist/`.
///
/// # Errors
/// When a set cannot be fetched or a file cannot be written.
pub fn prepare(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let fashion_mnist = folder.join("fashion-mnist");
    if !fashion_mnist.exists() {
        let set = selfsup::fetch::fetch(selfsup::fetch::find("fashion-mnist")?)?;
        fs::create_dir(&fashion_mnist)?;
        for entry in fs::read_dir(set)? {
            let path = entry?.path();
            fs::copy(&path, fashion_mnist.join(path.file_name().unwrap_or_default()))?;
        }
    }
    let photos = folder.join("photos");
    if !photos.join(photo_name(PHOTOS - 1)).exists() {
        fs::create_dir_all(&photos)?;
        let originals = originals()?;
        for i in 0..PHOTOS {
            let mut rng = Key::new(1).with(i).rng();
            let picture = part(&originals[i as usize % originals.len()], [500, 375], 0.6, &mut rng);
            let file = BufWriter::new(fs::File::create(photos.join(photo_name(i)))?);
            JpegEncoder::new_with_quality(file, 90).encode_image(&picture)?;
        }
    }
    if !folder.join("images32.npy").exists() {
        let originals = originals()?;
        let pixels = (0..IMAGES).flat_map(|i| {
            let mut rng = Key::new(2).with(i).rng();
            part(&originals[i as usize % originals.len()], [32, 32], 0.1, &mut rng).into_raw()
        });
        write_npy(&folder.join("images32.npy"), &[IMAGES, 32, 32, 3], pixels)?;
    }
    for (name, rows, key) in [("queries.npy", 10_000, 3), ("keys.npy", 50_000, 4)] {
        if !folder.join(name).exists() {
            write_npy(&folder.join(name), &[rows, 128], clusters(rows, key).into_iter())?;
        }
    }
    if !folder.join("features.npy").exists() {
        let features = Vec::<f32>::try_from(random_features(&fashion_mnist)?.reshape([-1]))?;
        write_npy(&folder.join("features.npy"), &[60_000, 512], features.into_iter())?;
    }
    Ok(())
}

/// `[60000, 512]`: what a layer of random weights and a ReLU make of the training images.
fn random_features(fashion_mnist: &Path) -> Result<Tensor> {
    let set = selfsup::data::dataset::open_path(fashion_mnist)?.train;
    let x = crate::probe::pixels(set.as_ref(), set.len())?.x;
    let inputs = x.size()[1];
    let mut rng = Key::new(6).rng();
    let weights: Vec<f32> = (0..512 * inputs).map(|_| StandardNormal.sample(&mut rng)).collect();
    Ok(x.matmul(&Tensor::from_slice(&weights).view([inputs, 512])).relu())
}

fn photo_name(i: u64) -> String {
    format!("{i:02}.jpg")
}

fn originals() -> Result<Vec<RgbImage>> {
    let set = selfsup::data::open("photographs")?.train;
    (0..set.len())
        .map(|i| {
            let image = set.get(i)?.to_colour();
            let (width, height) = (image.width() as u32, image.height() as u32);
            RgbImage::from_raw(width, height, image.pixels().to_vec()).context("a photograph without pixels")
        })
        .collect()
}

/// A random part of a photograph, at least `least` of its width, mirrored at random, at the size `[width, height]`.
fn part(original: &RgbImage, [width, height]: [u32; 2], least: f64, rng: &mut Rng) -> RgbImage {
    let fits = (f64::from(original.width()) / f64::from(width))
        .min(f64::from(original.height()) / f64::from(height));
    let share = fits * rng.random_range(least..1.0);
    let (w, h) = ((f64::from(width) * share) as u32, (f64::from(height) * share) as u32);
    let (x, y) = (rng.random_range(0..=original.width() - w), rng.random_range(0..=original.height() - h));
    let part = resize(&*crop_imm(original, x, y, w, h), width, height, FilterType::Triangle);
    if rng.random() { imageops::flip_horizontal(&part) } else { part }
}

/// Rows around 100 centres, as features lie.
fn clusters(rows: u64, key: u64) -> Vec<f32> {
    let normal = |rng: &mut Rng| -> f32 { StandardNormal.sample(rng) };
    let mut rng = Key::new(5).rng();
    let centres: Vec<f32> = (0..100 * 128).map(|_| normal(&mut rng)).collect();
    let mut rng = Key::new(key).rng();
    (0..rows)
        .flat_map(|_| {
            let centre = rng.random_range(0..100) * 128;
            let noise: Vec<f32> = (0..128).map(|_| normal(&mut rng)).collect();
            (0..128).map(|d| centres[centre + d] + noise[d]).collect::<Vec<_>>()
        })
        .collect()
}

/// Writes an array in NumPy's format.
pub fn write_npy<T: npyz::AutoSerialize>(
    path: &Path,
    shape: &[u64],
    values: impl Iterator<Item = T>,
) -> Result<()> {
    let file = BufWriter::new(fs::File::create(path).with_context(|| path.display().to_string())?);
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(shape).writer(file).begin_nd()?;
    writer.extend(values)?;
    Ok(writer.finish()?)
}

/// Reads a matrix of floats.
pub fn matrix(path: &Path) -> Result<Tensor> {
    let bytes = fs::read(path).with_context(|| format!("{}: run with --prepare first", path.display()))?;
    let array = npyz::NpyFile::new(&bytes[..])?;
    let shape: Vec<i64> = array.shape().iter().map(|&side| side as i64).collect();
    Ok(Tensor::from_slice(&array.into_vec::<f32>()?).view(&shape[..]))
}

/// Writes `count` colour images with sides of `side` pixels as PNG into tar shards of 1,000 in a new folder; `pixel` gives
/// the values, one after the other.
///
/// # Errors
/// When a file cannot be written.
pub fn write_shards(folder: &Path, count: u64, side: u32, pixel: impl Fn(u64) -> u8) -> Result<()> {
    let beside = folder.with_extension("writing");
    fs::create_dir_all(&beside)?;
    let values = u64::from(side * side * 3);
    for (shard, start) in (0..count).step_by(1000).enumerate() {
        let file = fs::File::create(beside.join(format!("shard-{shard:04}.tar")))?;
        let mut archive = tar::Builder::new(BufWriter::new(file));
        for i in start..(start + 1000).min(count) {
            let pixels = (i * values..(i + 1) * values).map(&pixel).collect();
            let image = RgbImage::from_raw(side, side, pixels).context("as many values as an image has")?;
            let mut bytes = std::io::Cursor::new(Vec::new());
            image.write_to(&mut bytes, image::ImageFormat::Png)?;
            let bytes = bytes.into_inner();
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, format!("{i:08}.png"), bytes.as_slice())?;
        }
        archive.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    }
    Ok(fs::rename(beside, folder)?)
}
