//! What every method promises, whoever wrote it: each shipped recipe for images, on a small folder of colour images and
//! with a small encoder, goes on after a stop as if there had been none, and tells what it cannot work with.

use super::{Place, picture};
use image::{Rgb, RgbImage};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use toml::Table;

/// Two steps an epoch, with a checkpoint after each: the third lies in the middle of an epoch.
const SMALL: &[&str] = &[
    "views.schedule=[]",
    "schedule.warmup_epochs=0",
    "train.epochs=2",
    "train.batch_size=64",
    "train.accumulate=1",
    "train.checkpoint_every=1",
    "train.keep=9",
    "train.log_every=1",
];
const STOPPED_AFTER: &str = "step-3";

/// A shipped recipe and what makes it small.
struct Small {
    name: String,
    settings: Vec<String>,
}

impl Small {
    fn arguments<'a>(&'a self, run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut arguments =
            vec!["pretrain", self.name.as_str(), "--data", "colour", "--run", run, "--threads", "1"];
        arguments.extend(self.settings.iter().flat_map(|setting| ["--set", setting.as_str()]));
        arguments.extend(more);
        arguments
    }
}

/// A folder with `colour/{ring,stripes}`, 80 PNG of 28x28 each.
fn place() -> Place {
    let place = Place::empty();
    for class in ["ring", "stripes"] {
        fs::create_dir_all(place.path("colour").join(class)).unwrap();
        for i in 0..80 {
            let [red, green, blue] = [i, i + 1, i + 2].map(|i| picture(class, i));
            let colour = RgbImage::from_fn(28, 28, |x, y| {
                Rgb([&red, &green, &blue].map(|grey| grey.get_pixel(x * 20 / 28, y * 20 / 28).0[0]))
            });
            colour.save(place.path("colour").join(class).join(format!("{i:02}.png"))).unwrap();
        }
    }
    place
}

/// The names of a list, each with the field that is asked for.
fn listed(place: &Place, what: &str, field: &str) -> BTreeMap<String, String> {
    let output = place.program(&["list", what, "--json"]).assert().success().get_output().stdout.clone();
    let entries: Vec<Value> = serde_json::from_slice(&output).unwrap();
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap().to_owned();
    entries.iter().map(|entry| (text(entry, "name"), text(entry, field))).collect()
}

/// The shipped recipes for images.
fn recipes(place: &Place) -> Vec<Small> {
    let needs = listed(place, "methods", "needs");
    let mut small = Vec::new();
    for name in listed(place, "recipes", "about").into_keys() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(format!("{name}.toml"));
        let recipe: Table = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        if needs[recipe["objective"]["kind"].as_str().unwrap()].contains("text") {
            continue;
        }
        let mut settings: Vec<String> = SMALL.iter().map(|&setting| setting.to_owned()).collect();
        match recipe["encoder"]["kind"].as_str() {
            Some("vit") => settings.push("encoder.depth=1".into()),
            Some("pixel-transformer") => {
                settings.extend(["encoder.depth=1", "encoder.feature_block=1"].map(str::to_owned));
            }
            _ => {
                let convnet = ["encoder.kind=convnet", "encoder.widths=[8, 16]", "encoder.strides=[1, 2]"];
                settings.extend(convnet.map(str::to_owned));
            }
        }
        if recipe["objective"].get("loss").is_some_and(|loss| loss.get("sub_batch").is_some()) {
            settings
                .extend(["objective.loss.sub_batch=64", "objective.projector.output=16"].map(str::to_owned));
        }
        let kinds = recipe.get("views").and_then(|views| views.get("kinds"));
        let sizes = kinds.and_then(toml::Value::as_array).into_iter().flatten();
        for (i, kind) in sizes.enumerate() {
            if kind.get("size").and_then(toml::Value::as_integer).is_none_or(|size| size > 64) {
                settings.push(format!("views.kinds.{i}.size=28"));
            }
        }
        small.push(Small { name, settings });
    }
    small
}

/// Runs `check` on every recipe, two at a time, and tells of all that failed.
fn each(place: &Place, check: impl Fn(&Small) -> Result<(), String> + Sync) {
    let open = Mutex::new(recipes(place).into_iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = open.lock().unwrap().next();
                    let Some(recipe) = next else { return };
                    if let Err(failure) = check(&recipe) {
                        failures.lock().unwrap().push(format!("{}: {failure}", recipe.name));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What the program says, if it fails: one line of an error, and no panic.
fn said(place: &Place, arguments: &[&str]) -> Result<Option<String>, String> {
    let output = place.program(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = said.lines().last().unwrap_or_default().to_owned();
    match output.status.code() {
        Some(0) => Ok(None),
        Some(1) if last.starts_with("error: ") && !said.contains("panicked") => Ok(Some(last)),
        _ => Err(said),
    }
}

#[test]
fn every_recipe_goes_on_as_if_never_stopped() {
    let place = place();
    each(&place, |recipe| {
        let (whole, stopped) = (recipe.name.clone(), format!("{}-stopped", recipe.name));
        if let Some(error) = said(&place, &recipe.arguments(&whole, &[]))? {
            return Err(error);
        }
        // A run that was killed after a checkpoint leaves that checkpoint, and lines of the log that came later.
        let (from, to) = (place.path(&whole), place.path(&stopped));
        let kept = ["config.toml", "env.json", "metrics.jsonl"].map(str::to_owned).into_iter();
        let in_checkpoint = fs::read_dir(from.join("checkpoints").join(STOPPED_AFTER)).unwrap();
        let in_checkpoint = in_checkpoint.map(|file| {
            format!("checkpoints/{STOPPED_AFTER}/{}", file.unwrap().file_name().to_string_lossy())
        });
        fs::create_dir_all(to.join("checkpoints").join(STOPPED_AFTER)).unwrap();
        for file in kept.chain(in_checkpoint) {
            fs::copy(from.join(&file), to.join(&file)).unwrap();
        }
        fs::write(to.join("checkpoints/last"), STOPPED_AFTER).unwrap();
        if let Some(error) = said(&place, &recipe.arguments(&stopped, &["--resume"]))? {
            return Err(error);
        }
        for file in ["model.safetensors", "optimizer.safetensors"] {
            if place.last(&stopped, file) != place.last(&whole, file) {
                return Err(format!("{file} differs after a stop"));
            }
        }
        Ok(())
    });
}

#[test]
fn every_recipe_refuses_a_batch_that_is_too_small_or_learns_from_it() {
    let place = place();
    let one = ["--set", "train.batch_size=1", "--set", "data.limit=4", "--set", "train.epochs=1"];
    each(&place, |recipe| match said(&place, &recipe.arguments(&recipe.name, &one))? {
        // What only a batch shows is refused before anything is written.
        Some(error) if error.contains("first batch") && place.path(&recipe.name).exists() => {
            Err(format!("left a folder behind: {error}"))
        }
        _ => Ok(()),
    });
}

#[test]
fn every_recipe_stops_at_numbers_that_are_not_finite() {
    let place = place();
    // So small a deviation makes infinities of the pixels.
    let infinite = ["--set", "views.kinds.0.std=[1e-45]"];
    each(&place, |recipe| match said(&place, &recipe.arguments(&recipe.name, &infinite))? {
        Some(error) if error.contains("finite") => Ok(()),
        Some(error) => Err(error),
        None => Err("learned from infinities".to_owned()),
    });
}

#[test]
fn every_recipe_keeps_the_state_in_which_a_step_went_wrong() {
    let place = place();
    // After one step at such a rate the weights are too large to be squared.
    let far =
        ["--set", "optimizer.lr=1e30", "--set", "schedule.reference_batch=0", "--set", "train.clip=1e30"];
    each(&place, |recipe| match said(&place, &recipe.arguments(&recipe.name, &far))? {
        Some(error) if !error.contains("kept in") => Err(error),
        Some(_) if !place.path(&recipe.name).join("replay").is_dir() => Err("no replay".to_owned()),
        Some(_) => Ok(()),
        None => Err("learned from weights that are not finite".to_owned()),
    });
}

#[test]
fn every_recipe_names_the_views_that_it_lacks() {
    let place = place();
    each(&place, |recipe| {
        match said(&place, &recipe.arguments(&recipe.name, &["--set", "views.kinds=[]"]))? {
            Some(_) if place.path(&recipe.name).exists() => Err("left a folder behind".to_owned()),
            Some(error) if error.contains("views") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}
