//! `selfsup export`: the encoder's weights under the names that torchvision, timm or transformers know.

use crate::evaluate::last_checkpoint;
use crate::finetune::encoder_of;
use crate::recipe::Whose;
use anyhow::{Context, Result, ensure};
use selfsup::core::state::{save, write_whole};
use serde_json::json;
use std::path::Path;

/// Runs the command: writes model.safetensors and config.json to `out`.
///
/// # Errors
/// When the folder holds no run or no checkpoint, or none of a teacher that is asked for, or `out` holds something already.
pub fn run(run: &Path, whose: Whose, out: &Path) -> Result<()> {
    let mut recipe = encoder_of(run)?;
    let weights = last_checkpoint(run)?.weights;
    recipe.weights = recipe.weights.of(whose, &weights)?;
    let encoder = recipe.weights.of_encoder(&weights)?;
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let model = out.join("model.safetensors");
    ensure!(!model.exists(), "{} is there already; name another folder", model.display());
    let plain = recipe.plain_view();
    let config = json!({
        "encoder": recipe.encoder,
        "input": recipe.views.as_ref().map(|_| json!({"size": plain.size, "mean": plain.mean, "std": plain.std})),
        "weights": recipe.weights.whose(),
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
