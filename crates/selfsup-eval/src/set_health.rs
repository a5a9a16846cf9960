//! The health of the features of a whole set, without labels, and how sure each number is.
//!
//! | number | better | source |
//! |---|---|---|
//! | std, uniformity, RankMe | see [`feature_health`] | Chen and He 2021; Wang and Isola 2020; Garrido et al. 2023 |
//! | alpha-ReQ | near 1 | [`alpha_req`](crate::alpha_req()); Agrawal et al. 2022 |
//! | alignment, of two views of a sample | lower | [`alignment`]; Wang and Isola 2020 |
//! | LiDAR, of views of samples | higher | [`lidar`]; Thilak et al. 2023 |
//!
//! Rows are evenly taken where there are more than are compared. Intervals are those of a jackknife over groups of samples
//! ([`IntervalMethod::GroupJackknife`](crate::IntervalMethod)). RankMe and alpha-ReQ of more than 1,024 features and rows have none, nor
//! LiDAR of more than 1,024 features: a decomposition of that size takes seconds each time.

use crate::group_jackknife::{WIDEST, intervals};
use crate::label_free::every_so_manyth;
use crate::measurement::Origin;
use crate::{
    FeatureHealth, LIDAR_DELTA, Mean, Measurement, PowerLawConfig, alignment, alpha_req, feature_health,
    lidar, uniformity,
};
use selfsup_core::{Error, Result, Tensor, check_shape};
use serde::{Deserialize, Serialize};

/// What the numbers are of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetHealthConfig {
    /// Rows that are compared: every so manyth, this many to twice as many.
    pub max_rows: i64,
    /// The eigenvalues that alpha-ReQ's power law is fitted to.
    pub power_law: PowerLawConfig,
}

impl Default for SetHealthConfig {
    fn default() -> Self {
        SetHealthConfig { max_rows: 2048, power_law: PowerLawConfig::default() }
    }
}

/// The numbers, each with its interval and the samples that it is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetHealth {
    /// How the features spread, with what that says in a word.
    pub spread: FeatureHealth,
    /// [`FeatureHealth::std`]
    pub std: Mean,
    /// [`FeatureHealth::rank_me`]
    pub rank_me: Mean,
    /// [`FeatureHealth::uniformity`]
    pub uniformity: Mean,
    /// The exponent of the power law; none where there are too few eigenvalues.
    pub alpha_req: Option<Mean>,
    /// Of the first two views of a sample; none without views.
    pub alignment: Option<Mean>,
    /// Of the views of a sample; none without views, and where the covariance within samples cannot be inverted.
    pub lidar: Option<Mean>,
}

impl SetHealth {
    /// Measures features, and those of several views of samples where there are any.
    ///
    /// # Shapes
    /// `x` `[N, D]`, N at least 2; `views` `[n, q, D]`, n samples of q views, both at least 2.
    ///
    /// # Errors
    /// When a shape does not fit, a value is not finite, or a number of the configuration cannot work.
    pub fn measure(x: &Tensor, views: Option<&Tensor>, config: &SetHealthConfig) -> Result<SetHealth> {
        check_shape("features", x, [-1, -1])?;
        if config.max_rows < 2 {
            return Err(Error::config("max_rows", config.max_rows, "at least 2"));
        }
        let x = every_so_manyth(x, config.max_rows);
        let spread = feature_health(&x)?;
        let exponent = |x: &Tensor| match alpha_req(x, &config.power_law) {
            Ok(found) => Ok(Some(found.alpha)),
            Err(Error::Config { field, .. }) if field == "eigenvalues above rounding" => Ok(None),
            Err(error) => Err(error),
        };
        let alpha_req = exponent(&x)?;
        let [n, d] = check_shape("features", &x, [-1, -1])?;
        let [std, uniform] = intervals([Some(spread.std), Some(spread.uniformity)], n, |rest| {
            let x = x.index_select(0, rest);
            Ok([Some(crate::health::std(&x)?), Some(uniformity(&x)?)])
        })?;
        let spectral = [Some(spread.rank_me), alpha_req].map(|value| value.filter(|_| n.min(d) <= WIDEST));
        let [rank, alpha] = intervals(spectral, n, |rest| {
            let x = x.index_select(0, rest);
            Ok([Some(crate::rank_me(&x)?), exponent(&x)?])
        })?;
        let mean = |value, interval, n: i64| Mean { value, interval, n: n as usize };
        let (alignment, lidar) = match views {
            None => (None, None),
            Some(views) => {
                let (near, lidar) = of_views(views)?;
                (Some(near), lidar)
            }
        };
        Ok(SetHealth {
            std: mean(spread.std, std, n),
            rank_me: mean(spread.rank_me, rank, n),
            uniformity: mean(spread.uniformity, uniform, n),
            alpha_req: alpha_req.map(|value| mean(value, alpha, n)),
            alignment,
            lidar,
            spread,
        })
    }

    /// The measures for a report, of samples from `split`.
    pub fn measurements(&self, split: &str) -> Vec<Measurement> {
        let origin = Origin { split, seed: None };
        let even_std = self.spread.even_std;
        let mut all = vec![
            origin.mean(
                "std",
                &self.std,
                format!("standard deviation of the features at unit length, averaged over the features; {even_std:.4} when spread evenly"),
            ),
            origin.mean(
                "rank_me",
                &self.rank_me,
                "exponential of the entropy of the singular values of the features (Garrido et al. 2023)",
            ),
            origin.mean(
                "uniformity",
                &self.uniformity,
                "logarithm of the mean Gaussian potential of all pairs of features at unit length, the lower the more even (Wang and Isola 2020)",
            ),
        ];
        let further = [
            (
                "alpha_req",
                &self.alpha_req,
                "exponent of the power law along which the variances of the features fall, near 1 in good ones (alpha-ReQ, Agrawal et al. 2022)",
            ),
            (
                "alignment",
                &self.alignment,
                "mean squared distance of the features, at unit length, of two training views of a sample, the lower the nearer (Wang and Isola 2020)",
            ),
            (
                "lidar",
                &self.lidar,
                "effective number of directions in which samples differ more than views of one (Thilak et al. 2023); two views a sample, where the \
                 paper has fifty",
            ),
        ];
        for (name, found, definition) in further {
            all.extend(found.as_ref().map(|found| origin.mean(name, found, definition)));
        }
        all
    }
}

/// Alignment and LiDAR of views `[n, q, D]`.
fn of_views(views: &Tensor) -> Result<(Mean, Option<Mean>)> {
    let [n, q, d] = check_shape("views", views, [-1, -1, -1])?;
    if q < 2 || n < 2 {
        return Err(Error::config(
            "views",
            format!("{n} samples of {q} views"),
            "at least two samples of two views",
        ));
    }
    let near = |views: &Tensor| alignment(&views.select(1, 0), &views.select(1, 1));
    let rank_of = |views: &Tensor| match lidar(views, LIDAR_DELTA) {
        Ok(found) => Ok(Some(found)),
        // Beside variances that are this large the delta is rounding.
        Err(Error::Config { field, .. }) if field == "delta" => Ok(None),
        Err(error) => Err(error),
    };
    let (value, rank) = (near(views)?, rank_of(views)?);
    let [nearness] = intervals([Some(value)], n, |rest| Ok([Some(near(&views.index_select(0, rest))?)]))?;
    let asked = rank.filter(|_| d <= WIDEST);
    let [interval] = intervals([asked], n, |rest| Ok([rank_of(&views.index_select(0, rest))?]))?;
    let n = n as usize;
    let near = Mean { value, interval: nearness, n };
    Ok((near, rank.map(|value| Mean { value, interval, n })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{clouds, formula};
    use crate::{Interval, LEVEL, rank_me};
    use selfsup_core::{Device, Kind};

    fn measured(x: &Tensor, views: Option<&Tensor>) -> SetHealth {
        SetHealth::measure(x, views, &SetHealthConfig::default()).unwrap()
    }

    #[test]
    fn its_numbers_are_those_of_the_functions_they_come_from() {
        let x = formula(300, 40);
        let views = Tensor::stack(&[&x, &(&x + formula(300, 40).flip([0]) * 0.2)], 1);
        let found = measured(&x, Some(&views));
        assert_eq!(found.spread, feature_health(&x).unwrap());
        assert_eq!(found.alpha_req.unwrap().value, alpha_req(&x, &PowerLawConfig::default()).unwrap().alpha);
        assert_eq!(found.lidar.unwrap().value, lidar(&views, LIDAR_DELTA).unwrap());
        assert_eq!(
            found.alignment.unwrap().value,
            alignment(&views.select(1, 0), &views.select(1, 1)).unwrap()
        );
        let measures = found.measurements("test");
        let names: Vec<&str> = measures.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["std", "rank_me", "uniformity", "alpha_req", "alignment", "lidar"]);
        for m in &measures {
            let Interval { low, high, level, .. } = m.interval.unwrap();
            assert!(low < m.value && m.value < high && level == LEVEL && m.n == 300, "{m:?}");
            assert!(!m.definition.is_empty() && m.split == "test");
        }
    }

    #[test]
    fn fewer_samples_are_less_sure() {
        let width = |n: i64| {
            let found = measured(&formula(n, 12), None);
            [&found.std, &found.rank_me, &found.uniformity].map(|mean| {
                let Interval { low, high, .. } = mean.interval.unwrap();
                high - low
            })
        };
        let (few, many) = (width(60), width(1900));
        assert!(few.iter().zip(many).all(|(few, many)| *few > 2.0 * many), "{few:?} {many:?}");
    }

    #[test]
    fn more_rows_than_are_compared_are_taken_evenly() {
        let x = formula(1000, 4);
        let config = SetHealthConfig { max_rows: 90, ..Default::default() };
        let found = SetHealth::measure(&x, None, &config).unwrap();
        assert_eq!((found.std.n, found.spread), (91, feature_health(&x.slice(0, 0, None, 11)).unwrap()));
        assert!(found.alignment.is_none() && found.lidar.is_none());
        // Four features have four eigenvalues, before the eleventh.
        assert!(found.alpha_req.is_none());
    }

    #[test]
    fn wide_features_have_intervals_of_what_needs_no_decomposition() {
        let x = formula(1040, 1030);
        let found = measured(&x, None);
        assert!(found.std.interval.is_some() && found.uniformity.interval.is_some());
        assert!(found.rank_me.interval.is_none() && found.alpha_req.unwrap().interval.is_none());
        assert_eq!(found.rank_me.value, rank_me(&x).unwrap());
    }

    #[test]
    fn one_point_and_a_few_are_measured_too() {
        let ones = Tensor::ones([60, 3], (Kind::Float, Device::Cpu));
        let found = measured(&ones, None);
        assert!(found.spread.std < 1e-6 && found.alpha_req.is_none());
        let few = measured(&clouds(4, 2, 6.0).x.narrow(0, 0, 4), None);
        assert!(few.std.interval.is_none() && few.std.value > 0.0);
    }

    #[test]
    fn large_features_whose_views_are_alike_have_no_lidar() {
        let x = formula(60, 80) * 1e6;
        let found = measured(&x, Some(&Tensor::stack(&[&x, &x], 1)));
        // Two equal views leave the delta alone, which is enough; three directions of 1e14 drown it.
        assert!(found.lidar.is_some());
        let moved = &x + x.narrow(1, 0, 3).matmul(&Tensor::ones([3, 80], (Kind::Float, Device::Cpu))) * 10.0;
        let found = measured(&x, Some(&Tensor::stack(&[&x, &moved], 1)));
        assert!(found.lidar.is_none() && found.alignment.is_some());
    }

    #[test]
    fn rejects_rows_and_views_that_cannot_work() {
        let x = formula(30, 4);
        let config = SetHealthConfig { max_rows: 1, ..Default::default() };
        let refused = |views: Option<&Tensor>, config: &SetHealthConfig| {
            SetHealth::measure(&x, views, config).unwrap_err().to_string()
        };
        assert_eq!(refused(None, &config), "max_rows = 1: at least 2");
        let expected = "views = 30 samples of 1 views: at least two samples of two views";
        assert_eq!(refused(Some(&x.unsqueeze(1)), &SetHealthConfig::default()), expected);
    }
}
