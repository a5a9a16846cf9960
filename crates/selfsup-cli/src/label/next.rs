//! What to label next.

use super::arguments::{Arguments, Strategy};
use super::given::Given;
use anyhow::{Result, ensure};
use selfsup::core::state::write_whole;
use selfsup::core::{FeatureRows, Probabilities, Tensor};
use selfsup::labels::{
    ClusterUncertainty, ClusterUncertaintyConfig, CoreSet, Pool, PredictedPool, Selector, TypiClust,
    TypiClustConfig, Uncertainty, WeightedRanks, WeightedRanksConfig,
};
use std::path::Path;

/// A sample that should be labelled.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// The sample.
    pub index: usize,
    /// Why it is proposed.
    pub reason: String,
}

/// What a model says, for those strategies that ask one.
pub struct Opinion {
    /// The names of the classes.
    pub classes: Vec<String>,
    /// The probabilities of the classes, `[N, C]`.
    pub probabilities: Tensor,
}

/// The way to choose, from what there is to choose by.
///
/// # Errors
/// When it asks a model, and there is none: no labels of two classes, and no fine-tuned run.
pub fn strategy(arguments: &Arguments, model: bool) -> Result<Strategy> {
    let chosen =
        arguments.strategy.unwrap_or(if model { Strategy::ClusterUncertainty } else { Strategy::Typiclust });
    ensure!(
        model || !chosen.asks_a_model(),
        "--strategy: asks a model, which needs labels of two classes; give them, name a run of selfsup finetune, or choose typiclust or \
         core-set"
    );
    Ok(chosen)
}

/// Chooses `n` samples with features `x` `[N, D]`, none that a person has seen and none twice.
///
/// # Errors
/// When there are fewer samples that nobody has seen.
pub fn propose(
    n: usize,
    strategy: Strategy,
    x: &Tensor,
    given: Option<&Given>,
    opinion: Option<&Opinion>,
    seed: u64,
) -> Result<Vec<Proposal>> {
    let mut seen: Vec<i64> =
        given.map(Given::seen).unwrap_or_default().into_iter().map(|i| i as i64).collect();
    seen.sort_unstable();
    let pool = Pool::new(&FeatureRows::new(x)?, &seen)?;
    ensure!(n <= pool.remaining(), "--next {n}: at most {}, the samples without a label", pool.remaining());
    let typiclust = TypiClustConfig { seed, ..Default::default() };
    let chosen = match (strategy, opinion) {
        (Strategy::CoreSet, _) => CoreSet {}.select_next(n, &pool)?,
        (Strategy::Typiclust, _) | (_, None) => TypiClust::new(typiclust)?.select_next(n, &pool)?,
        (_, Some(opinion)) => {
            let pool = PredictedPool::new(pool, Probabilities::new(&opinion.probabilities)?)?;
            match strategy {
                Strategy::Margin => Uncertainty::Margin.select_next(n, &pool)?,
                Strategy::Entropy => Uncertainty::Entropy.select_next(n, &pool)?,
                Strategy::LeastConfident => Uncertainty::LeastConfident.select_next(n, &pool)?,
                Strategy::WeightedRanks => {
                    WeightedRanks::new(WeightedRanksConfig::default())?.select_next(n, &pool)?
                }
                _ => {
                    let config = ClusterUncertaintyConfig { clusters: typiclust, ..Default::default() };
                    ClusterUncertainty::new(config)?.select_next(n, &pool)?
                }
            }
        }
    };
    let why = match strategy {
        Strategy::Typiclust => "typical of a part of the data that has few labels",
        Strategy::CoreSet => "far from all labelled samples",
        Strategy::ClusterUncertainty => "the least sure of its part of the data",
        Strategy::WeightedRanks => "unsure, and typical of many",
        Strategy::Margin | Strategy::Entropy | Strategy::LeastConfident => "the model is unsure",
    };
    chosen
        .into_iter()
        .map(|index| {
            let between =
                opinion.filter(|_| strategy.asks_a_model()).map(|o| likeliest(o, index)).transpose()?;
            let reason = between.map_or_else(|| why.to_owned(), |between| format!("{why}: {between}"));
            Ok(Proposal { index: index as usize, reason })
        })
        .collect()
}

/// The two most probable classes of a sample, as in `cat 0.52, dog 0.41`.
fn likeliest(opinion: &Opinion, index: i64) -> Result<String> {
    let p = Vec::<f64>::try_from(opinion.probabilities.get(index).to_kind(selfsup::core::Kind::Double))?;
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    let shown = order.iter().take(2).map(|&class| format!("{} {:.2}", opinion.classes[class], p[class]));
    Ok(shown.collect::<Vec<_>>().join(", "))
}

/// Writes the proposals as `file,rank,reason`, the first the most wanted.
///
/// # Errors
/// When the file cannot be written.
pub fn write(proposals: &[Proposal], name: impl Fn(usize) -> String, path: &Path) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["file", "rank", "reason"])?;
    for (rank, proposal) in (1..).zip(proposals) {
        writer.write_record([&name(proposal.index), &format!("{rank}"), &proposal.reason])?;
    }
    Ok(write_whole(path, &writer.into_inner()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const ALL: [Strategy; 7] = [
        Strategy::Typiclust,
        Strategy::CoreSet,
        Strategy::ClusterUncertainty,
        Strategy::WeightedRanks,
        Strategy::Margin,
        Strategy::Entropy,
        Strategy::LeastConfident,
    ];

    fn features() -> Tensor {
        let rows: Vec<[f32; 2]> = (0..40).map(|i| [(i % 7) as f32, (i % 11) as f32 * 0.3]).collect();
        Tensor::from_slice2(&rows)
    }

    fn opinion() -> Opinion {
        let rows: Vec<[f32; 2]> = (0..40).map(|i| [i as f32 / 40.0, 1.0 - i as f32 / 40.0]).collect();
        Opinion {
            classes: ["cat", "dog"].map(str::to_owned).to_vec(),
            probabilities: Tensor::from_slice2(&rows),
        }
    }

    fn given() -> Given {
        let classes = ["cat", "dog"].map(str::to_owned).to_vec();
        Given {
            classes,
            indices: vec![0, 9, 20],
            labels: vec![0, 1, 0],
            rejected: vec![(7, 0)],
            ..Given::default()
        }
    }

    #[test]
    fn no_strategy_proposes_a_sample_twice_or_one_that_was_seen() {
        for strategy in ALL {
            let found = propose(36, strategy, &features(), Some(&given()), Some(&opinion()), 0).unwrap();
            let indices: HashSet<usize> = found.iter().map(|proposal| proposal.index).collect();
            assert_eq!(indices.len(), 36, "{strategy:?}");
            assert!([0, 7, 9, 20].iter().all(|seen| !indices.contains(seen)), "{strategy:?}");
            let error = propose(37, strategy, &features(), Some(&given()), Some(&opinion()), 0).unwrap_err();
            assert_eq!(error.to_string(), "--next 37: at most 36, the samples without a label");
        }
    }

    #[test]
    fn says_between_what_the_model_hesitates() {
        let found = propose(1, Strategy::Margin, &features(), None, Some(&opinion()), 0).unwrap();
        assert_eq!(found[0].index, 20);
        assert_eq!(found[0].reason, "the model is unsure: cat 0.50, dog 0.50");
        let found = propose(1, Strategy::Typiclust, &features(), None, None, 0).unwrap();
        assert_eq!(found[0].reason, "typical of a part of the data that has few labels");
    }
}
