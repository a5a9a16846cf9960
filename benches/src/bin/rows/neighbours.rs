//! Search and clustering of feature matrices.

use crate::{Options, Rounds, inputs, timed};
use anyhow::Result;
use selfsup::core::Key;
use selfsup::numerics::{KMeans, KMeansConfig, TopKConfig, top_k};
use serde_json::json;

/// The 200 nearest of 50,000 keys for 10,000 queries by cosine; work is counted in queries.
///
/// # Errors
/// When the inputs are missing.
pub fn knn(options: &Options) -> Result<Rounds> {
    let (queries, keys) =
        (inputs::matrix(&options.data.join("queries.npy"))?, inputs::matrix(&options.data.join("keys.npy"))?);
    let count = options.scaled(queries.size()[0] as usize, 1);
    let queries = queries.narrow(0, 0, count as i64);
    let config = TopKConfig { k: 200, ..TopKConfig::default() };
    Ok(Box::new(move || {
        timed(count as f64, || {
            top_k(&queries, &keys, &config)?;
            Ok(())
        })
    }))
}

/// 20 iterations with 100 centres on 50,000 points; work is counted in points times iterations.
///
/// # Errors
/// When the inputs are missing.
pub fn k_means(options: &Options) -> Result<Rounds> {
    let points = inputs::matrix(&options.data.join("keys.npy"))?;
    let config = KMeansConfig { clusters: 100, iterations: 20, tolerance: 0.0, ..KMeansConfig::default() };
    let mut seed = 0;
    Ok(Box::new(move || {
        seed += 1;
        let mut found = None;
        let n = points.size()[0] as f64;
        let mut round = timed(n, || {
            // As FAISS begins by default: with points drawn at random.
            found =
                Some(KMeans::fit_from(&points, &points.index_select(0, &drawn(n as i64, seed)), &config)?);
            Ok(())
        })?;
        if let Some(found) = found {
            round.work *= found.iterations as f64;
            round.more.insert("mean_squared_distance".to_owned(), json!(found.inertia / n));
        }
        Ok(round)
    }))
}

fn drawn(n: i64, seed: u64) -> selfsup::core::Tensor {
    Key::new(seed).seed_torch();
    selfsup::core::Tensor::randperm(n, (selfsup::core::Kind::Int64, selfsup::core::Device::Cpu))
        .narrow(0, 0, 100)
}
