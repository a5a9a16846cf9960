//! Pretext tasks in a recipe: a labeler makes questions of images, and one objective learns to answer them.

use crate::network::ImageNetwork;
use crate::recipe::inside;
use selfsup::core::{
    HeadNorm, ImageViews, Judgement, LabelledTiles, Loss, Objective, PretextLabeler, Result, Site, Step,
};
use selfsup::labels::{
    Jigsaw, JigsawConfig, RelativePosition, RelativePositionConfig, Rotation, RotationConfig,
};
use selfsup::objectives::{PredictLabels, PredictLabelsConfig};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

/// The settings of a labeler.
pub trait LabelerConfig: Default + DeserializeOwned {
    /// What is made from it.
    type Labeler: PretextLabeler;

    /// Makes the labeler.
    ///
    /// # Errors
    /// When a field cannot work.
    fn labeler(&self) -> Result<Self::Labeler>;

    /// The head that the labeler's paper has.
    fn head() -> PredictLabelsConfig;
}

macro_rules! labelers {
    ($($config:ty => $labeler:ty, $hidden:expr, $norm:expr;)*) => {
        $(impl LabelerConfig for $config {
            type Labeler = $labeler;

            fn labeler(&self) -> Result<$labeler> {
                <$labeler>::new(self)
            }

            fn head() -> PredictLabelsConfig {
                PredictLabelsConfig { hidden: $hidden, hidden_norm: $norm }
            }
        })*
    };
}

labelers! {
    RotationConfig => Rotation, vec![], HeadNorm::None;
    JigsawConfig => Jigsaw, vec![4096], HeadNorm::None;
    RelativePositionConfig => RelativePosition, vec![4096, 4096], HeadNorm::BatchNormPlain;
}

/// `[objective]` of a pretext task: how labels are made, and by what they are predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, bound(deserialize = "C: LabelerConfig"))]
pub struct PretextConfig<C> {
    /// The labeler's own settings.
    pub labels: C,
    /// The head that predicts them; what a recipe leaves out is as in the labeler's paper.
    #[serde(deserialize_with = "completed_by_the_papers::<C, _>")]
    pub head: PredictLabelsConfig,
}

/// A head of which a recipe may give some fields only.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PartOfAHead {
    hidden: Option<Vec<i64>>,
    hidden_norm: Option<HeadNorm>,
}

fn completed_by_the_papers<'de, C: LabelerConfig, D: Deserializer<'de>>(
    recipe: D,
) -> Result<PredictLabelsConfig, D::Error> {
    let (given, papers) = (PartOfAHead::deserialize(recipe)?, C::head());
    Ok(PredictLabelsConfig {
        hidden: given.hidden.unwrap_or(papers.hidden),
        hidden_norm: given.hidden_norm.unwrap_or(papers.hidden_norm),
    })
}

impl<C: LabelerConfig> Default for PretextConfig<C> {
    fn default() -> Self {
        PretextConfig { labels: C::default(), head: C::head() }
    }
}

/// A pretext task on images. It looks at the first view of an image; others are for other parts of a combination.
#[derive(Debug)]
pub struct Pretext<L> {
    labeler: L,
    predict: PredictLabels,
}

impl<L: PretextLabeler> Pretext<L> {
    /// Makes the labeler, and the head for the site's encoder.
    ///
    /// # Errors
    /// With the field that cannot work.
    pub fn new<C: LabelerConfig<Labeler = L>>(
        site: &Site<dyn ImageNetwork>,
        config: &PretextConfig<C>,
    ) -> Result<Self> {
        let labeler = config.labels.labeler().map_err(|e| inside(e, "labels"))?;
        let predict =
            PredictLabels::new(site, labeler.space(), &config.head).map_err(|e| inside(e, "head"))?;
        Ok(Pretext { labeler, predict })
    }

    fn tiles(&self, batch: &ImageViews) -> Result<LabelledTiles> {
        self.labeler.label(batch.first("a pretext task")?)
    }
}

impl<L: PretextLabeler> Objective<dyn ImageNetwork> for Pretext<L> {
    type Batch = ImageViews;

    fn loss(
        &mut self,
        encoder: &(dyn ImageNetwork + 'static),
        batch: &ImageViews,
        step: &Step,
    ) -> Result<Loss> {
        self.predict.loss(encoder, &self.tiles(batch)?, step)
    }

    fn judge(&self, encoder: &(dyn ImageNetwork + 'static), batch: &ImageViews) -> Result<Judgement> {
        self.predict.judge(encoder, &self.tiles(batch)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heads_are_the_papers_where_a_recipe_says_nothing() {
        let jigsaw: PretextConfig<JigsawConfig> = toml::from_str("labels.permutations = 10").unwrap();
        assert_eq!((jigsaw.labels.permutations, jigsaw.head.hidden), (10, vec![4096]));
        let rotation: PretextConfig<RotationConfig> = toml::from_str("").unwrap();
        assert_eq!(rotation.head, PredictLabelsConfig::default());
        let error = toml::from_str::<PretextConfig<RotationConfig>>("labels.turns = 4").unwrap_err();
        assert!(error.to_string().contains("turns"), "{error}");
    }

    #[test]
    fn a_field_of_the_head_that_a_recipe_leaves_out_is_the_papers() {
        let jigsaw: PretextConfig<JigsawConfig> =
            toml::from_str("head.hidden_norm = \"batch-norm\"").unwrap();
        let expected = PredictLabelsConfig { hidden: vec![4096], hidden_norm: HeadNorm::BatchNorm };
        assert_eq!(jigsaw.head, expected);
        let position: PretextConfig<RelativePositionConfig> = toml::from_str("head.hidden = [64]").unwrap();
        let expected = PredictLabelsConfig { hidden: vec![64], hidden_norm: HeadNorm::BatchNormPlain };
        assert_eq!(position.head, expected);
        let error = toml::from_str::<PretextConfig<JigsawConfig>>("head.norm = \"none\"").unwrap_err();
        assert!(error.to_string().contains("unknown field `norm`"), "{error}");
    }
}
