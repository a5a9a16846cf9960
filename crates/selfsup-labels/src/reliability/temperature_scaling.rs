//! Temperature scaling (Guo et al. 2017, section 4.2): one number that makes a classifier's confidences true, fitted to
//! held-out labels.
//!
//! ```text
//! p_i = softmax(z_i / T)        T = argmin -mean_i log p_i,y_i
//! ```
//! In `b = 1 / T` the loss is convex, with slope `mean_i (E_p z_i - z_i,y_i)` and curvature `mean_i Var_p z_i`: Newton's
//! method, held inside a bracket, goes to its minimum in 64 bits. The labels that are predicted do not change.

use crate::rows::{at_least_one, class_indices};
use selfsup_core::{Error, Kind, Logits, Probabilities, Result, Tensor, TensorExt, check_shape};
use serde::{Deserialize, Serialize};

/// A fitted temperature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemperatureScaling {
    /// T: above 1 the classifier was too sure, below 1 not sure enough.
    pub temperature: f64,
    /// The mean negative log-likelihood of the held-out labels before, in nats.
    pub nll_before: f64,
    /// The same after.
    pub nll_after: f64,
}

/// What temperature is best for some samples.
#[derive(Clone, Debug, PartialEq)]
pub enum BestTemperature {
    /// This one.
    Fitted(TemperatureScaling),
    /// 0: no class has a higher logit than the label's, so that the surer the better. How sure to be, the samples do not say.
    Separable,
    /// Infinite: the logits say no more about the labels than chance.
    Chance,
}

/// Newton steps; the bracket halves at least, so that 64 bits are used up by then.
const STEPS: usize = 200;

impl TemperatureScaling {
    /// Fits the temperature to held-out samples, to convergence.
    ///
    /// # Shapes
    /// `logits` `[N, C]`, `labels` `[N]` Int64.
    ///
    /// # Errors
    /// When the two do not fit, there are no samples, or no temperature is best: no class has a higher logit than the label's
    /// (0 would be), or the logits say no more about the labels than chance (infinity would be).
    pub fn fit(logits: &Logits, labels: &Tensor) -> Result<TemperatureScaling> {
        match BestTemperature::find(logits, labels)? {
            BestTemperature::Fitted(scaling) => Ok(scaling),
            BestTemperature::Separable => {
                let expected = "a held-out sample that is predicted wrongly: the best temperature would be 0";
                Err(Error::config("labels", "all predicted", expected))
            }
            BestTemperature::Chance => {
                let expected =
                    "above the mean logit of their samples: the best temperature would be infinite";
                Err(Error::config("logits of the labels", "no better than chance", expected))
            }
        }
    }

    /// Calibrated probabilities of other samples, `[N, C]`.
    ///
    /// # Errors
    /// When the temperature, read from elsewhere, is not above 0.
    pub fn apply(&self, logits: &Logits) -> Result<Probabilities> {
        logits.softmax(self.temperature)
    }
}

impl BestTemperature {
    /// Finds what temperature is best for held-out samples, to convergence.
    ///
    /// # Shapes
    /// `logits` `[N, C]`, `labels` `[N]` Int64.
    ///
    /// # Errors
    /// When the two do not fit, or there are no samples.
    pub fn find(logits: &Logits, labels: &Tensor) -> Result<BestTemperature> {
        let [n, classes] = check_shape("logits", logits.tensor(), [-1, -1])?;
        class_indices("labels", labels, n, classes)?;
        at_least_one("logits", n)?;
        let z = logits.tensor().to_kind(Kind::Double);
        let z = &z - z.amax([1].as_slice(), true); // [N, C], 0 at most
        let own = z.gather(1, &labels.to_device(z.device()).unsqueeze(1), false).squeeze_dim(1); // [N]
        let at = |b: f64| Point::at(&z, &own, b);

        if own.min().scalar()? >= 0.0 {
            return Ok(BestTemperature::Separable);
        }
        let (mut low, mut high) = (0.0, 1.0);
        if at(low)?.slope >= 0.0 {
            return Ok(BestTemperature::Chance);
        }
        while at(high)?.slope < 0.0 {
            (low, high) = (high, 2.0 * high);
            if !high.is_finite() {
                return Err(Error::config("logits", "almost constant", "larger differences between classes"));
            }
        }
        let mut b = 1.0_f64.clamp(low, high);
        for _ in 0..STEPS {
            let point = at(b)?;
            *(if point.slope < 0.0 { &mut low } else { &mut high }) = b;
            let newton = b - point.slope / point.curvature;
            let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
            let step = (next - b).abs();
            b = next;
            if step <= 1e-15 * b {
                break;
            }
        }
        let (nll_before, nll_after) = (at(1.0)?.value, at(b)?.value);
        Ok(BestTemperature::Fitted(TemperatureScaling { temperature: 1.0 / b, nll_before, nll_after }))
    }
}

/// The loss with its derivatives by `b`.
struct Point {
    value: f64,
    slope: f64,
    curvature: f64,
}

impl Point {
    fn at(z: &Tensor, own: &Tensor, b: f64) -> Result<Point> {
        let sum = |x: Tensor| x.sum_dim_intlist([1].as_slice(), false, Kind::Double); // [N, C] to [N]
        let scaled = z * b;
        let p = scaled.softmax(1, Kind::Double);
        let mean = sum(&p * z);
        let variance = sum(&p * (z - mean.unsqueeze(1)).square());
        Ok(Point {
            value: (scaled.logsumexp([1].as_slice(), false) - own * b).mean(Kind::Double).scalar()?,
            slope: (mean - own).mean(Kind::Double).scalar()?,
            curvature: variance.mean(Kind::Double).scalar()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Device;

    /// 40 samples of 3 classes whose labels follow the logits with noise, too sure by the factor `scale`.
    fn held_out(scale: f64) -> (Logits, Tensor) {
        let i = Tensor::arange(240, (Kind::Double, Device::Cpu));
        let wave = (i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([80, 3]);
        let logits = wave.narrow(0, 0, 40).to_kind(Kind::Float);
        let labels = (wave.narrow(0, 0, 40) + wave.narrow(0, 40, 40) * 0.8).argmax(1, false);
        (Logits::new(&(logits * scale)).unwrap(), labels)
    }

    // i = np.arange(240); w = np.sin(i ** 1.5 * 0.37).reshape(80, 3)
    // z = w[:40].astype(np.float32); y = (w[:40] + 0.8 * w[40:]).argmax(1)
    // for scale in [1, 5]:
    //     s = (z * np.float32(scale)).astype(np.float64)
    //     nll = lambda b: (scipy.special.logsumexp(b * s, axis=1) - b * s[np.arange(40), y]).mean()
    //     b = scipy.optimize.minimize_scalar(nll, bracket=(0.1, 1), tol=1e-14).x; 1 / b, nll(1), nll(b)
    #[test]
    fn agrees_with_scipy() {
        for (scale, temperature, before, after) in SCIPY {
            let (logits, labels) = held_out(scale);
            let found = TemperatureScaling::fit(&logits, &labels).unwrap();
            // Scipy compares values, which tell a minimum to half of their digits.
            assert!((found.temperature / temperature - 1.0).abs() < 1e-6, "{found:?}");
            assert!((found.nll_before - before).abs() < 1e-9 && (found.nll_after - after).abs() < 1e-9);
        }
    }

    const SCIPY: [(f64, f64, f64, f64); 2] = [
        (1.0, 0.34601232629318, 0.71403844492116, 0.55200820644572),
        (5.0, 1.7300616336431, 0.62066411075138, 0.55200820572014),
    ];

    #[test]
    fn the_slope_of_the_loss_is_zero_at_the_end() {
        let (logits, labels) = held_out(3.0);
        let b = 1.0 / TemperatureScaling::fit(&logits, &labels).unwrap().temperature;
        let z = logits.tensor().to_kind(Kind::Double);
        let own = z.gather(1, &labels.unsqueeze(1), false).squeeze_dim(1);
        assert!(Point::at(&z, &own, b).unwrap().slope.abs() < 1e-13);
    }

    #[test]
    fn a_power_of_two_in_the_logits_is_one_in_the_temperature_exactly() {
        let fit = |scale| {
            let (logits, labels) = held_out(scale);
            TemperatureScaling::fit(&logits, &labels).unwrap().temperature
        };
        assert!((fit(64.0) / fit(1.0) / 64.0 - 1.0).abs() < 1e-12);
        assert!((fit(1.0 / 1024.0) / fit(1.0) * 1024.0 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn two_classes_have_a_closed_form() {
        // Three of four samples right at a margin of 2: sigmoid(2 b) = 3/4.
        let logits = Logits::new(&Tensor::from_slice2(&[[2.0_f32, 0.0]; 4])).unwrap();
        let found = TemperatureScaling::fit(&logits, &Tensor::from_slice(&[0_i64, 0, 1, 0])).unwrap();
        assert!((found.temperature - 2.0 / 3_f64.ln()).abs() < 1e-12);
        let p = found.apply(&logits).unwrap();
        assert!((p.tensor().double_value(&[0, 0]) - 0.75).abs() < 1e-6);
    }

    #[test]
    fn a_label_that_ties_with_another_class_is_no_error_of_the_logits() {
        let find = |rows: &[[f32; 2]], labels: &[i64]| {
            BestTemperature::find(
                &Logits::new(&Tensor::from_slice2(rows)).unwrap(),
                &Tensor::from_slice(labels),
            )
        };
        // The last sample is told nothing of, and the sharper the others, the better.
        let tied = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]];
        assert_eq!(find(&tied, &[0, 0, 1, 1]).unwrap(), BestTemperature::Separable);
        assert_eq!(find(&tied, &[1, 1, 0, 1]).unwrap(), BestTemperature::Chance);
        assert!(matches!(find(&tied, &[0, 1, 1, 1]).unwrap(), BestTemperature::Fitted(_)));
        assert!(find(&tied, &[0, 0, 1]).is_err());
    }

    #[test]
    fn says_why_no_temperature_is_best() {
        let logits = Logits::new(&Tensor::from_slice2(&[[2.0_f32, 0.0], [0.0, 1.0]])).unwrap();
        let error = |labels: [i64; 2]| {
            TemperatureScaling::fit(&logits, &Tensor::from_slice(&labels)).unwrap_err().to_string()
        };
        assert!(error([0, 1]).starts_with("labels = all predicted"));
        assert!(error([1, 0]).starts_with("logits of the labels = no better than chance"));
        assert_eq!(error([0, 2]), "labels = 2: a class in 0..2");
        let one = Logits::new(&Tensor::from_slice2(&[[2.0_f32]])).unwrap();
        let error = TemperatureScaling::fit(&one, &Tensor::from_slice(&[0_i64])).unwrap_err().to_string();
        assert!(error.starts_with("labels = all predicted"));
        let none = Logits::new(&Tensor::zeros([0, 2], (Kind::Float, Device::Cpu))).unwrap();
        let labels = Tensor::zeros([0], (Kind::Int64, Device::Cpu));
        let error = TemperatureScaling::fit(&none, &labels).unwrap_err().to_string();
        assert_eq!(error, "logits = no samples: at least one");
    }
}
