//! What every method promises, whoever wrote it: each shipped recipe for images, on a small folder of colour images and
//! with a small encoder, goes on after a stop as if there had been none, and tells what it cannot work with.

use super::{Place, picture};
use image::{Rgb, RgbImage};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
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

/// Parts of a method that its recipe leaves aside, as recipes of their own: a name, the recipe, and what is changed.
const ASIDE: [(&str, &str, &[&str]); 3] = [
    // Full after two steps, so that the run is stopped with a queue that takes part.
    (
        "swav-with-a-queue",
        "swav",
        &["objective.frozen_steps=1", "objective.queue_length=128", "objective.queue_from_epoch=0"],
    ),
    ("pirl-with-a-constant", "pirl", &["objective.probability=constant"]),
    ("dclw", "dcl", &["objective.weights.kind=von-mises-fisher"]),
];

/// The methods that cannot learn from a batch of one image, and what they say of it. The others could; the first batch
/// of a run is refused all the same, as one image has no spread by which the features' health is measured.
const MORE_THAN_ONE_IMAGE: [(&str, &str); 20] = [
    ("simclr", "at least 2 samples, so that there are negatives"),
    ("simclr-v2", "at least 2 samples, so that there are negatives"),
    ("dcl", "at least 2 samples, so that there are negatives"),
    ("combined", "at least 2 samples, so that there are negatives"),
    ("supcon", "at least 2 samples in at least 2 views"),
    ("moco-v2", "at least 16 images, two for BatchNorm in each of 8 groups"),
    ("densecl", "at least 16 images, two for BatchNorm in each of 8 groups"),
    ("moco-v3", "at least 2 samples for BatchNorm"),
    ("nnclr", "at least 2 samples for BatchNorm"),
    ("jigsaw", "at least 2 samples for BatchNorm"),
    ("msn", "at least 2 images for BatchNorm"),
    ("byol", "view 0: expected at least 2 samples"),
    ("simsiam", "view 0: expected at least 2 samples"),
    ("vicreg", "view 0: expected at least 2 samples"),
    ("barlow-twins", "view 0: expected at least 2 samples"),
    ("tico", "view 0: expected at least 2 samples"),
    ("lejepa", "view 0: expected at least 2 samples"),
    ("w-mse", "view 0: expected at least 2 samples"),
    ("dinov2", "at least 2 samples, so that each has a neighbour"),
    ("deepcluster-v2", "one head or more, of 2 to 4 prototypes, the number of samples"),
];

/// A shipped recipe and what makes it small.
#[derive(Clone)]
struct Small {
    /// Of its run.
    name: String,
    recipe: String,
    method: String,
    settings: Vec<String>,
    /// Whether the encoder is a convolutional one.
    convolutional: bool,
}

impl Small {
    fn arguments<'a>(&'a self, run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let mut arguments =
            vec!["pretrain", self.recipe.as_str(), "--data", "colour", "--run", run, "--threads", "1"];
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
        let method = recipe["objective"]["kind"].as_str().unwrap().to_owned();
        if needs[&method].contains("text") {
            continue;
        }
        let mut convolutional = false;
        let mut settings: Vec<String> = SMALL.iter().map(|&setting| setting.to_owned()).collect();
        match recipe["encoder"]["kind"].as_str() {
            Some("vit") => settings.push("encoder.depth=1".into()),
            Some("pixel-transformer") => {
                settings.extend(["encoder.depth=1", "encoder.feature_block=1"].map(str::to_owned));
            }
            _ => {
                convolutional = true;
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
        for (aside, _, more) in ASIDE.iter().filter(|(_, recipe, _)| *recipe == name) {
            let settings =
                settings.iter().cloned().chain(more.iter().map(|&setting| setting.to_owned())).collect();
            let (name, recipe, method) = ((*aside).to_owned(), name.clone(), method.clone());
            small.push(Small { name, recipe, method, settings, convolutional });
        }
        small.push(Small { name: name.clone(), recipe: name, method, settings, convolutional });
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
fn every_recipe_refuses_a_batch_of_one_image_in_the_words_of_its_method() {
    let place = place();
    let one = ["--set", "train.batch_size=1", "--set", "data.limit=4", "--set", "train.epochs=1"];
    let met = Mutex::new(BTreeSet::new());
    each(&place, |recipe| {
        let own = MORE_THAN_ONE_IMAGE.iter().find(|(method, _)| *method == recipe.method);
        let expected = own.map_or("the first batch: ", |(method, expected)| {
            met.lock().unwrap().insert(*method);
            expected
        });
        match said(&place, &recipe.arguments(&recipe.name, &one))? {
            None => Err("learned from one image".to_owned()),
            // What only a batch shows is refused before anything is written.
            Some(error) if place.path(&recipe.name).exists() => Err(format!("left a folder behind: {error}")),
            Some(error) if !error.contains(expected) => Err(error),
            // A method that could learn is not the one that refuses.
            Some(error)
                if own.is_none() && MORE_THAN_ONE_IMAGE.iter().any(|(_, own)| error.contains(own)) =>
            {
                Err(error)
            }
            Some(_) => Ok(()),
        }
    });
    assert_eq!(met.into_inner().unwrap().len(), MORE_THAN_ONE_IMAGE.len());
}

#[test]
fn every_convolutional_recipe_learns_with_a_resnet() {
    let place = place();
    each(&place, |recipe| {
        if !recipe.convolutional {
            return Ok(());
        }
        let others = recipe.settings.iter().filter(|setting| !setting.starts_with("encoder.")).cloned();
        let resnet = ["encoder.kind=resnet", "encoder.depth=18"].map(str::to_owned);
        let recipe = Small { settings: others.chain(resnet).collect(), ..recipe.clone() };
        let short = ["--set", "train.epochs=1", "--set", "train.checkpoint_every=0"];
        if let Some(error) = said(&place, &recipe.arguments(&recipe.name, &short))? {
            return Err(error);
        }
        let metrics = fs::read_to_string(place.path(&recipe.name).join("metrics.jsonl")).unwrap();
        let steps: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let losses: Vec<f64> = steps.iter().filter_map(|step| step["loss"].as_f64()).collect();
        fs::remove_dir_all(place.path(&recipe.name)).unwrap();
        if losses.len() == 2 && losses.iter().all(|loss| loss.is_finite()) {
            return Ok(());
        }
        Err(format!("losses of two steps: {losses:?}"))
    });
}

/// The rows of a table of docs/methods.md, cell by cell.
fn documented() -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/methods.md");
    let text = fs::read_to_string(path).unwrap();
    let table = text.lines().skip_while(|line| !line.starts_with("| method |"));
    let rows = table.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn every_method_has_a_family_a_paper_a_recipe_and_a_row_in_the_docs() {
    let place = Place::empty();
    let output = place.program(&["list", "methods", "--json"]).assert().success().get_output().stdout.clone();
    let methods: Vec<Value> = serde_json::from_slice(&output).unwrap();
    let rows = documented();
    assert!(methods.len() >= 30, "{}", methods.len());
    let mut kinds = BTreeMap::<String, Vec<String>>::new();
    for name in listed(&place, "recipes", "about").into_keys().filter(|name| !name.starts_with("finetune")) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(format!("{name}.toml"));
        let recipe: Table = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        kinds.entry(recipe["objective"]["kind"].as_str().unwrap().to_owned()).or_default().push(name);
    }
    for method in &methods {
        let text = |field: &str| method[field].as_str().unwrap_or_default();
        let name = text("name");
        for field in ["name", "title", "family", "about", "paper", "needs"] {
            assert!(!text(field).is_empty(), "{name} has no {field}");
        }
        let year = text("paper").split(", ").last().unwrap().split(' ').next().unwrap();
        assert!(
            year.parse::<u32>().is_ok_and(|year| (1986..2100).contains(&year)),
            "{name}: {}",
            text("paper")
        );
        let recipes = kinds.get(name).unwrap_or_else(|| panic!("{name} has no recipe"));
        for recipe in recipes {
            let row = rows.iter().find(|row| row[5].contains(&format!("`{recipe}`")));
            let row = row.unwrap_or_else(|| panic!("docs/methods.md does not name {recipe}"));
            // A row may name what the method needs besides, as in "masked, text".
            let family = row[1].split(", ").next().unwrap();
            assert_eq!(family, text("family"), "{name}");
            assert!(row[2].contains(year), "{name}: {} where docs/methods.md says {}", text("paper"), row[2]);
        }
    }
    let names: Vec<&str> = methods.iter().map(|method| method["name"].as_str().unwrap()).collect();
    for kind in kinds.keys() {
        assert!(names.contains(&kind.as_str()), "a recipe is of {kind}, which is not listed");
    }
    assert_eq!(rows.len(), methods.len(), "rows of docs/methods.md");
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
