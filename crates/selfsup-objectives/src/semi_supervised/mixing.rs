//! Pairs of images made into one, with targets made into one alike.
//!
//! ```text
//! lambda ~ Beta(alpha, alpha)        x'_i = lambda x_i + (1 - lambda) x_p(i)        t'_i = lambda t_i + (1 - lambda) t_p(i)
//! ```
//! is mixup (Zhang et al. 2018). CutMix (Yun et al. 2019) puts a rectangle of the second image into the first, whose area is
//! the share `1 - lambda` before it is cut at the edges and decides lambda after. One lambda, one rectangle and one order `p`
//! are drawn for a batch, as in both authors' code. MixMatch takes the larger of lambda and `1 - lambda`, so that a mixed
//! sample is nearer to its first image ([`Nearer::First`]).

use rand::RngExt;
use rand_distr::{Beta, Distribution};
use selfsup_core::{Error, Result, Rng, Tensor, check_shape};
use serde::{Deserialize, Serialize};

/// How images are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixingKind {
    /// Not at all.
    #[default]
    None,
    /// As a weighted mean.
    Mixup,
    /// By a rectangle of one in the other.
    Cutmix,
}

/// Whether a mixed sample is meant to be nearer to its first image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nearer {
    /// Never the second.
    First,
    /// As it comes.
    Any,
}

/// How batches are mixed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mixing {
    /// How images are put together.
    pub kind: MixingKind,
    /// alpha of the Beta distribution: below 1 most pairs are nearly one of the two. mixup on CIFAR: 1; CutMix: 1;
    /// MixMatch: 0.75.
    pub alpha: f64,
}

impl Default for Mixing {
    fn default() -> Self {
        Mixing { kind: MixingKind::None, alpha: 1.0 }
    }
}

/// How one batch is mixed.
#[derive(Clone, Debug)]
pub struct Mix {
    /// p: the second image of every pair.
    pub partners: Vec<i64>,
    /// lambda: how much of a sample is its first image.
    pub share: f64,
    /// The rectangle of the second image, `[top, left, height, width]`; none where the images are averaged.
    pub patch: Option<[i64; 4]>,
}

impl Mixing {
    /// Whether the values make sense.
    ///
    /// # Errors
    /// [`Error::Config`] when alpha is not above 0.
    pub fn check(&self) -> Result<()> {
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return Err(Error::config("mixing.alpha", self.alpha, "above 0 and finite"));
        }
        Ok(())
    }

    /// Draws how `n` images of `height` and `width` pixels are mixed; nothing where they are not. The share of the first image is
    /// 0 to 1, and at least 0.5 with [`Nearer::First`] (before a rectangle is cut at the edges, which only raises it); every
    /// image, 0 to `n - 1`, is a partner once.
    ///
    /// # Errors
    /// [`Error::Config`] when alpha is not above 0.
    pub fn draw(
        &self,
        n: i64,
        [height, width]: [i64; 2],
        nearer: Nearer,
        rng: &mut Rng,
    ) -> Result<Option<Mix>> {
        self.check()?;
        if self.kind == MixingKind::None {
            return Ok(None);
        }
        let beta = Beta::new(self.alpha, self.alpha)
            .map_err(|e| Error::config("mixing.alpha", self.alpha, e.to_string()))?;
        let mut share: f64 = beta.sample(rng);
        if nearer == Nearer::First {
            share = share.max(1.0 - share);
        }
        let mut partners: Vec<i64> = (0..n).collect();
        for i in (1..partners.len()).rev() {
            partners.swap(i, rng.random_range(0..=i));
        }
        let mut patch = None;
        if self.kind == MixingKind::Cutmix {
            let side = (1.0 - share).sqrt();
            let mut span = |length: i64| {
                let (half, middle) = ((length as f64 * side) as i64 / 2, rng.random_range(0..length.max(1)));
                let start = (middle - half).max(0);
                (start, (middle + half).min(length) - start)
            };
            let ((top, rows), (left, columns)) = (span(height), span(width));
            share = 1.0 - (rows * columns) as f64 / (height * width).max(1) as f64;
            patch = Some([top, left, rows, columns]);
        }
        Ok(Some(Mix { partners, share, patch }))
    }
}

impl Mix {
    /// The mixed images.
    ///
    /// # Shapes
    /// `[N, C, H, W]` to the same, with a partner for each of the N.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are other than N partners.
    pub fn images(&self, images: &Tensor) -> Result<Tensor> {
        check_shape("images", images, [self.partners.len() as i64, -1, -1, -1])?;
        let partners = self.partners(images);
        let Some([top, left, height, width]) = self.patch else {
            return Ok(images * self.share + partners * (1.0 - self.share));
        };
        let inside = |x: &Tensor| x.narrow(2, top, height).narrow(3, left, width);
        let mixed = images.copy();
        inside(&mixed).copy_(&inside(&partners));
        Ok(mixed)
    }

    /// The targets of the mixed images: distributions, or weights.
    ///
    /// # Shapes
    /// `[N, ...]` to the same.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are other than N partners.
    pub fn targets(&self, targets: &Tensor) -> Result<Tensor> {
        if targets.size().first() != Some(&(self.partners.len() as i64)) {
            return Err(Error::Shape {
                name: "targets".to_owned(),
                expected: format!("[{}, ...]", self.partners.len()),
                found: format!("{:?}", targets.size()),
            });
        }
        Ok(targets * self.share + self.partners(targets) * (1.0 - self.share))
    }

    fn partners(&self, x: &Tensor) -> Tensor {
        x.index_select(0, &Tensor::from_slice(&self.partners).to_device(x.device()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, Key, Kind};

    fn mixing(kind: MixingKind, alpha: f64) -> Mixing {
        Mixing { kind, alpha }
    }

    fn draw(mixing: Mixing, nearer: Nearer, seed: u64) -> Mix {
        mixing.draw(6, [8, 10], nearer, &mut Key::new(seed).rng()).unwrap().unwrap()
    }

    fn images() -> Tensor {
        (Tensor::arange(6 * 2 * 80, (Kind::Float, Device::Cpu)) * 0.3).sin().reshape([6, 2, 8, 10])
    }

    #[test]
    fn mixup_is_the_weighted_mean_of_a_pair() {
        let mix = draw(mixing(MixingKind::Mixup, 0.75), Nearer::Any, 3);
        let (x, t) = (images(), Tensor::eye(6, (Kind::Float, Device::Cpu)));
        let (mixed, targets) = (mix.images(&x).unwrap(), mix.targets(&t).unwrap());
        for i in 0..6 {
            let partner = mix.partners[i as usize];
            for at in [[i, 0, 0, 0], [i, 1, 7, 9], [i, 1, 3, 4]] {
                let first = x.double_value(&at);
                let second = x.double_value(&[partner, at[1], at[2], at[3]]);
                let expected = mix.share * first + (1.0 - mix.share) * second;
                assert!((mixed.double_value(&at) - expected).abs() < 1e-6);
            }
            for class in 0..6 {
                let share = |of: i64, part: f64| if class == of { part } else { 0.0 };
                let expected = share(i, mix.share) + share(partner, 1.0 - mix.share);
                assert!((targets.double_value(&[i, class]) - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn cutmix_has_a_rectangle_of_the_second_and_its_area_is_the_share() {
        let x = images();
        let mut areas = std::collections::BTreeSet::new();
        for seed in 0..40 {
            let mix = draw(mixing(MixingKind::Cutmix, 1.0), Nearer::Any, seed);
            let [top, left, height, width] = mix.patch.unwrap();
            assert!(top >= 0 && left >= 0 && top + height <= 8 && left + width <= 10);
            assert!((mix.share - (1.0 - (height * width) as f64 / 80.0)).abs() < 1e-12);
            areas.insert(height * width);
            let mixed = mix.images(&x).unwrap();
            for i in 0..6 {
                for (y, z) in (0..8).flat_map(|y| (0..10).map(move |z| (y, z))) {
                    let inside = (top..top + height).contains(&y) && (left..left + width).contains(&z);
                    let from = if inside { mix.partners[i as usize] } else { i };
                    assert_eq!(mixed.double_value(&[i, 1, y, z]), x.double_value(&[from, 1, y, z]));
                }
            }
        }
        assert!(areas.len() > 8, "{areas:?}");
        assert_eq!(x, images());
    }

    #[test]
    fn shares_follow_the_beta_distribution() {
        // Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
        for alpha in [0.2, 0.75, 1.0, 4.0] {
            let n = 20_000_u64;
            let shares: Vec<f64> =
                (0..n).map(|i| draw(mixing(MixingKind::Mixup, alpha), Nearer::Any, i).share).collect();
            let mean = shares.iter().sum::<f64>() / n as f64;
            let variance = shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / n as f64;
            let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((mean - 0.5).abs() < 5.0 * (expected / n as f64).sqrt(), "{alpha}: {mean}");
            assert!((variance / expected - 1.0).abs() < 0.05, "{alpha}: {variance}");
        }
        assert!((0..200).all(|i| draw(mixing(MixingKind::Mixup, 0.75), Nearer::First, i).share >= 0.5));
    }

    #[test]
    fn every_image_is_a_partner_once_and_the_same_draw_comes_again() {
        let mix = draw(mixing(MixingKind::Mixup, 1.0), Nearer::Any, 9);
        let mut partners = mix.partners.clone();
        partners.sort_unstable();
        assert_eq!(partners, [0, 1, 2, 3, 4, 5]);
        let again = draw(mixing(MixingKind::Mixup, 1.0), Nearer::Any, 9);
        assert_eq!((mix.partners, mix.share.to_bits()), (again.partners, again.share.to_bits()));
        let none = Mixing::default().draw(6, [8, 10], Nearer::Any, &mut Key::new(0).rng()).unwrap();
        assert!(none.is_none());
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let error = mixing(MixingKind::Mixup, 0.0).check().unwrap_err().to_string();
        assert_eq!(error, "mixing.alpha = 0: above 0 and finite");
        let mix = draw(mixing(MixingKind::Mixup, 1.0), Nearer::Any, 0);
        let error = mix.images(&images().narrow(0, 0, 5)).unwrap_err().to_string();
        assert_eq!(error, "images: expected [6, _, _, _], found [5, 2, 8, 10]");
        assert!(mix.targets(&Tensor::zeros([5], (Kind::Float, Device::Cpu))).is_err());
    }
}
