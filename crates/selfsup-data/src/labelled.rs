//! A few labelled images beside many unlabelled ones, batch by batch.
//!
//! ```text
//! labelled loader ─ Cycled ─┐
//!                           ├─ LabelledWithUnlabelled ─▶ LabelledAndUnlabelled
//! unlabelled loader ────────┘
//! ```
//! An epoch is one of the unlabelled images. The labelled ones are gone through again and again meanwhile: a passage of
//! theirs is an epoch of their own loader, with an order and views of its own, and which one a step belongs to follows from
//! its place in the run.

use selfsup_core::{Batches, Device, Error, ImageViews, Kind, LabelledAndUnlabelled, Result, Tensor};

/// Batches that begin anew when they are gone through.
pub struct Cycled<B> {
    batches: B,
}

impl<B: Batches> Cycled<B> {
    /// Goes through `batches` again and again.
    ///
    /// # Errors
    /// [`Error::Config`] when there is none.
    pub fn new(batches: B) -> Result<Self> {
        if batches.batches_per_epoch() == 0 {
            return Err(Error::config("batches", 0, "at least 1 to go through again and again"));
        }
        Ok(Cycled { batches })
    }

    /// The batches from position `start` of the endless row on. An error is final.
    ///
    /// # Errors
    /// When the reading cannot start.
    pub fn from(&self, start: u64) -> Result<impl Iterator<Item = Result<B::Batch>> + '_> {
        let each = self.batches.batches_per_epoch();
        let (mut passage, mut batches) =
            (start / each, Some(self.batches.epoch(start / each, start % each)?));
        Ok(std::iter::from_fn(move || {
            loop {
                match batches.as_mut()?.next() {
                    Some(Ok(batch)) => return Some(Ok(batch)),
                    Some(Err(error)) => {
                        batches = None;
                        return Some(Err(error));
                    }
                    None => {
                        passage += 1;
                        match self.batches.epoch(passage, 0) {
                            Ok(next) => batches = Some(next),
                            Err(error) => {
                                batches = None;
                                return Some(Err(error));
                            }
                        }
                    }
                }
            }
        }))
    }
}

/// Labelled and unlabelled batches side by side.
pub struct LabelledWithUnlabelled<L, U> {
    labelled: Cycled<L>,
    labels: Tensor,
    weights: Tensor,
    unlabelled: Option<U>,
    per_epoch: u64,
}

impl<L: Batches<Batch = ImageViews>, U: Batches<Batch = ImageViews>> LabelledWithUnlabelled<L, U> {
    /// Puts a batch of `labelled` beside each of `unlabelled`. `labels` and `weights` are those of the samples that the
    /// first loader reads, by their positions in its set.
    ///
    /// # Errors
    /// [`Error::Config`] when there are not as many weights as labels, or no labelled batch.
    pub fn new(labelled: L, labels: &[i64], weights: &[f64], unlabelled: U) -> Result<Self> {
        let per_epoch = unlabelled.batches_per_epoch();
        Self::of(labelled, labels, weights, Some(unlabelled), per_epoch)
    }

    /// Labelled batches alone, for a method that needs no others; an epoch has `per_epoch` of them.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn alone(labelled: L, labels: &[i64], weights: &[f64], per_epoch: u64) -> Result<Self> {
        Self::of(labelled, labels, weights, None, per_epoch)
    }

    fn of(
        labelled: L,
        labels: &[i64],
        weights: &[f64],
        unlabelled: Option<U>,
        per_epoch: u64,
    ) -> Result<Self> {
        if labels.len() != weights.len() {
            let expected = format!("{}, one for each label", labels.len());
            return Err(Error::config("weights", weights.len(), expected));
        }
        let labelled = Cycled::new(labelled)?;
        let weights = Tensor::from_slice(weights).to_kind(Kind::Float);
        Ok(LabelledWithUnlabelled {
            labelled,
            labels: Tensor::from_slice(labels),
            weights,
            unlabelled,
            per_epoch,
        })
    }

    /// Gives the labelled images their labels and weights.
    fn join(&self, mut labelled: ImageViews, unlabelled: ImageViews) -> Result<LabelledAndUnlabelled> {
        let of = |values: &Tensor| Ok::<_, Error>(values.f_index_select(0, &labelled.indices)?);
        let (labels, weights) = (of(&self.labels)?, of(&self.weights)?);
        labelled.labels = Some(labels);
        Ok(LabelledAndUnlabelled { labelled, weights, unlabelled })
    }
}

impl<L: Batches<Batch = ImageViews>, U: Batches<Batch = ImageViews>> Batches
    for LabelledWithUnlabelled<L, U>
{
    type Batch = LabelledAndUnlabelled;

    fn batches_per_epoch(&self) -> u64 {
        self.per_epoch
    }

    fn epoch(
        &self,
        epoch: u64,
        skip: u64,
    ) -> Result<Box<dyn Iterator<Item = Result<LabelledAndUnlabelled>> + '_>> {
        let Some(left) = self.per_epoch.checked_sub(skip) else {
            let expected = format!("at most the {} batches of an epoch", self.per_epoch);
            return Err(Error::config("skip", skip, expected));
        };
        let labelled = self.labelled.from(epoch * self.per_epoch + skip)?;
        let unlabelled: Box<dyn Iterator<Item = Result<ImageViews>>> = match &self.unlabelled {
            Some(unlabelled) => unlabelled.epoch(epoch, skip)?,
            None => Box::new(std::iter::repeat_with(|| Ok(nothing()))),
        };
        let pairs = labelled.zip(unlabelled).take(left as usize);
        Ok(Box::new(pairs.map(|(labelled, unlabelled)| self.join(labelled?, unlabelled?))))
    }
}

fn nothing() -> ImageViews {
    ImageViews { views: Vec::new(), indices: Tensor::zeros([0], (Kind::Int64, Device::Cpu)), labels: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::{View, ViewConfig, two_views};
    use crate::collate::ImageCollate;
    use crate::dataset::ArrayImages;
    use crate::loader::{Loader, LoaderConfig};
    use crate::sampler::Shuffled;
    use selfsup_core::tensor::with_slice;
    use std::sync::Arc;

    type Images = Loader<ImageCollate<ArrayImages>>;

    fn loader(len: usize, batch_size: usize, views: usize) -> Images {
        let pixels = (0..len as u32 * 12 * 12).map(|i| (i * 37 % 251) as u8).collect();
        let dataset = Arc::new(ArrayImages::new(pixels, [12, 12, 1]).unwrap());
        let mut all: Vec<Arc<dyn View>> =
            two_views(&ViewConfig { size: 8, ..ViewConfig::default() }, 1).unwrap();
        all.truncate(views);
        let config = LoaderConfig { batch_size, drop_last: true, threads: 1, prefetch: 2 };
        Loader::new(ImageCollate { dataset, views: all }, Shuffled { len }, config, 3).unwrap()
    }

    fn pairs() -> LabelledWithUnlabelled<Images, Images> {
        let labels: Vec<i64> = (0..7).map(|i| i % 3).collect();
        let weights: Vec<f64> = (0..7).map(|i| 1.0 + f64::from(i)).collect();
        LabelledWithUnlabelled::new(loader(7, 3, 1), &labels, &weights, loader(40, 8, 2)).unwrap()
    }

    fn bits(x: &Tensor) -> Vec<u32> {
        with_slice(&x.permute([0, 2, 3, 1]), |x: &[f32]| x.iter().map(|v| v.to_bits()).collect()).unwrap()
    }

    /// All that a batch holds.
    fn held(batch: &LabelledAndUnlabelled) -> (Vec<i64>, Vec<i64>, Vec<u32>, Vec<u32>) {
        let whole = |x: &Tensor| Vec::<i64>::try_from(x).unwrap();
        let views = batch.unlabelled.views.iter().flat_map(bits).collect();
        (
            whole(&batch.labelled.indices),
            whole(&batch.unlabelled.indices),
            bits(&batch.labelled.views[0]),
            views,
        )
    }

    #[test]
    fn labelled_images_come_again_in_another_order_and_in_other_views() {
        let pairs = pairs();
        assert_eq!(pairs.batches_per_epoch(), 5);
        let batches: Vec<_> = (0..2).flat_map(|e| pairs.epoch(e, 0).unwrap().map(Result::unwrap)).collect();
        assert_eq!(batches.len(), 10);
        // Two batches of three are a passage through the seven, of which one is left out each time.
        let of = |at: usize| Vec::<i64>::try_from(&batches[at].labelled.indices).unwrap();
        for passage in 0..5 {
            let mut seen = [of(2 * passage), of(2 * passage + 1)].concat();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), 6, "passage {passage}");
        }
        assert_ne!((of(0), of(1)), (of(2), of(3)));
        // The same image in two passages is seen in two ways.
        let views: Vec<Vec<u32>> = (0..10)
            .flat_map(|at| {
                let rows = of(at).into_iter().enumerate().filter(|(_, sample)| *sample == 0);
                rows.map(|(row, _)| bits(&batches[at].labelled.views[0].narrow(0, row as i64, 1)))
                    .collect::<Vec<_>>()
            })
            .collect();
        assert!(views.len() > 2);
        assert!((1..views.len()).all(|i| views[i] != views[0]));
    }

    #[test]
    fn labels_and_weights_are_those_of_the_samples() {
        for batch in pairs().epoch(3, 1).unwrap().map(Result::unwrap) {
            let samples = Vec::<i64>::try_from(&batch.labelled.indices).unwrap();
            let labels = Vec::<i64>::try_from(batch.labelled.labels.as_ref().unwrap()).unwrap();
            assert_eq!(labels, samples.iter().map(|i| i % 3).collect::<Vec<_>>());
            let weights = Vec::<f64>::try_from(&batch.weights).unwrap();
            assert_eq!(weights, samples.iter().map(|i| 1.0 + *i as f64).collect::<Vec<_>>());
            assert_eq!((batch.unlabelled.views.len(), batch.unlabelled.labels.is_none()), (2, true));
        }
    }

    #[test]
    fn an_epoch_is_taken_up_anywhere() {
        let pairs = pairs();
        for epoch in [0, 4] {
            let whole: Vec<_> = pairs.epoch(epoch, 0).unwrap().map(|b| held(&b.unwrap())).collect();
            for skip in 0..=5 {
                let rest: Vec<_> = pairs.epoch(epoch, skip).unwrap().map(|b| held(&b.unwrap())).collect();
                assert_eq!(rest, whole[skip as usize..], "epoch {epoch} from {skip}");
            }
        }
        assert!(pairs.epoch(0, 6).is_err());
    }

    #[test]
    fn labelled_images_alone_have_as_many_batches_as_asked_for() {
        let labels = [0, 1, 0, 1, 0, 1, 0];
        let alone =
            LabelledWithUnlabelled::<_, Images>::alone(loader(7, 7, 1), &labels, &[1.0; 7], 4).unwrap();
        let batches: Vec<_> = alone.epoch(2, 1).unwrap().map(Result::unwrap).collect();
        assert_eq!(batches.len(), 3);
        assert!(batches.iter().all(|b| b.unlabelled.views.is_empty() && b.unlabelled.indices.size() == [0]));
    }

    #[test]
    fn refuses_weights_that_do_not_fit() {
        let error = LabelledWithUnlabelled::new(loader(7, 3, 1), &[0; 7], &[1.0; 6], loader(40, 8, 2));
        assert_eq!(error.err().unwrap().to_string(), "weights = 6: 7, one for each label");
    }
}
