//! `selfsup export`: the encoder's weights under the names that torchvision, timm or transformers know.

use crate::evaluate::last_checkpoint;
use crate::pretrain::recipe_of;
use anyhow::{Context, Result, ensure};
use selfsup::core::Tensor;
use selfsup::core::state::{read, save, write_whole};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// Runs the command: writes model.safetensors and config.json to `out`.
///
/// # Errors
/// When the folder holds no run or no checkpoint, or `out` holds something already.
pub fn run(run: &Path, out: &Path) -> Result<()> {
    let recipe = recipe_of(run)?;
    let weights = last_checkpoint(run)?.weights;
    let strip = |(name, x): (String, Tensor)| Some((name.strip_prefix("encoder.")?.to_owned(), x));
    let encoder: BTreeMap<_, _> = read(&weights)?.into_iter().filter_map(strip).collect();
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let model = out.join("model.safetensors");
    ensure!(!model.exists(), "{} is there already; name another folder", model.display());
    let plain = recipe.plain_view();
    let config = json!({
        "encoder": recipe.encoder,
        "input": recipe.views.as_ref().map(|_| json!({"size": plain.size, "mean": plain.mean, "std": plain.std})),
        "checkpoint": weights.parent().and_then(Path::file_name).map(|name| name.to_string_lossy()),
    });
    write_whole(&out.join("config.json"), serde_json::to_string_pretty(&config)?.as_bytes())?;
    let tokenizer = run.join("tokenizer.json");
    if tokenizer.is_file() {
        write_whole(&out.join("tokenizer.json"), &std::fs::read(&tokenizer)?)?;
    }
    save(&model, &encoder)?;
    println!("{}", model.display());
    Ok(())
}
