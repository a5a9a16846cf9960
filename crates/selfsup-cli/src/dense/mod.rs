//! `selfsup dense`: does the frozen encoder know what is where? A linear head on its feature maps segments images or finds
//! boxes in them, beside the untrained encoder's maps and the colours themselves.
//!
//! | file | holds |
//! |---|---|
//! | `maps.rs` | images to feature maps |
//! | `segmentation.rs` | a folder with index masks, as CamVid is laid out |
//! | `detection.rs` | a folder of Pascal VOC |
//! | `pictures.rs` | images with their masks and boxes |
//! | `page.rs` | dense.json and the page |
//!
//! The heads are probes of `selfsup-eval`: what they reach says what the maps hold, not what a detector would.

mod detection;
mod maps;
mod page;
mod pictures;
mod segmentation;

use crate::evaluate::{TRAINED, last_checkpoint};
use crate::finetune::encoder_of;
use crate::model::ImageModel;
use crate::objective::Modality;
use crate::places;
use crate::recipe::Whose;
use anyhow::{Context, Result, bail, ensure};
use maps::{Eye, Seer};
use page::Found;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What the command is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The run's folder.
    run: PathBuf,
    /// Whose encoder.
    #[arg(long, value_enum, default_value = "trained")]
    weights: Whose,
    /// Segment: a folder with train, test and, where there is one, val, each with images, and their masks in trainannot, testannot
    /// and valannot. classes.txt names the values.
    #[arg(long, value_name = "DIR", required_unless_present = "detection", conflicts_with = "detection")]
    segmentation: Option<PathBuf>,
    /// Find boxes: a folder of Pascal VOC, with JPEGImages, Annotations and ImageSets/Main/{train,val,test}.txt.
    #[arg(long, value_name = "DIR")]
    detection: Option<PathBuf>,
    /// The value of mask pixels that are of no class.
    #[arg(long, value_name = "VALUE", default_value_t = 255, conflicts_with = "detection")]
    void: u8,
    /// What images are resized to before the encoder sees them; the size of the first one when left out.
    #[arg(long, value_name = "HEIGHTxWIDTH")]
    size: Option<Size>,
    /// So many training images alone, evenly taken.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Judge the trained encoder alone.
    #[arg(long)]
    alone: bool,
    /// The folder for dense.json, report.html and plots; RUN/segmentation or RUN/detection when left out.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace what an earlier call has left there.
    #[arg(long)]
    overwrite: bool,
    /// Print dense.json instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: crate::Machine,
}

/// Runs the command.
///
/// # Errors
/// When the run's encoder has no feature map, the folder's files do not fit, maps would not fit in memory, or what is to be written is
/// there already.
pub fn run(arguments: &Arguments) -> Result<()> {
    let device = arguments.machine.choose()?;
    let mut recipe = encoder_of(&arguments.run)?;
    ensure!(
        recipe.objective.modality() == Modality::Images,
        "{}: a run on text has no images to look at",
        arguments.run.display()
    );
    ensure!(arguments.limit != Some(0), "--limit 0: at least 1 image");
    let name = if arguments.segmentation.is_some() { "segmentation" } else { "detection" };
    let out = arguments.out.clone().unwrap_or_else(|| arguments.run.join(name));
    places::check_no_report(&out)?;
    places::free_in(&out, &["dense.json", "report.html", "plots"], arguments.overwrite)?;
    let weights = last_checkpoint(&arguments.run)?.weights;
    recipe.weights = recipe.weights.of(arguments.weights, &weights)?;
    let model = ImageModel::on_images(&recipe, device)?;
    let encoder = model.encoder.as_ref();
    let no_map =
        || format!("encoder.kind = {:?}: it has no map of features to look at", recipe.encoder.name());
    let eye = Eye::new(encoder.as_map().with_context(no_map)?, encoder.as_patches(), &recipe, device)?;
    // The trained encoder comes last: until its weights are loaded, the encoder has those that the seed gave.
    let seers: &[Seer] =
        if arguments.alone { &[Seer::Trained] } else { &[Seer::Untrained, Seer::Colours, Seer::Trained] };
    let load = |seer: &Seer| match seer {
        Seer::Trained => model.load(&weights),
        Seer::Untrained | Seer::Colours => Ok(()),
    };
    let mut found = match (&arguments.segmentation, &arguments.detection) {
        (Some(folder), _) => segmentation::judge(folder, arguments, &recipe, &eye, seers, &load)?,
        (None, Some(folder)) => detection::judge(folder, arguments, &recipe, &eye, seers, &load)?,
        (None, None) => bail!("name a folder with --segmentation or --detection"),
    };
    found.encoders.sort_by_key(|judged| judged.name != TRAINED);
    finish(&found, &recipe, arguments, &out)
}

fn finish(found: &Found, recipe: &crate::recipe::Recipe, arguments: &Arguments, out: &Path) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let text = serde_json::to_string_pretty(&page::json(found, recipe))?;
    selfsup::core::state::write_whole(&out.join("dense.json"), text.as_bytes())?;
    let page = crate::report::write(&page::page(found, recipe, &arguments.run), out)?;
    if arguments.json {
        println!("{text}");
    } else {
        println!("{}", page::table(found));
        eprintln!("{}", page.display());
    }
    Ok(())
}

/// A height and a width in pixels, written `180x240`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size([usize; 2]);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sides = text.split_once('x').and_then(|(h, w)| Some([h.parse().ok()?, w.parse().ok()?]));
        match sides {
            Some([h, w]) if h > 0 && w > 0 => Ok(Size([h, w])),
            _ => Err("a height and a width above 0, as in 180x240".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_height_and_a_width() {
        assert_eq!("180x240".parse(), Ok(Size([180, 240])));
        for wrong in ["180", "0x240", "180x", "axb", "180x240x3"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
