//! Temperature scaling on labels of which some are wrong: a mixture of the classifier and of chance.
//!
//! ```text
//! q_i = softmax(z_i / T)        p_i = (1 - e) q_i + e / C
//! T, e = argmax sum_i log p_i,y_i + (log e + log(1 - e)) / 2
//! P(y_i right) = q_i,y (1 - e + e / C) / p_i,y
//! ```
//! A share `e` of the labels is drawn at random (symmetric noise, Natarajan et al. 2013), so that no sample is predicted
//! with more than `1 - e + e / C`. A temperature alone (Guo et al. 2017) has to flatten all confidences to account for
//! that, also those in the middle, which are true or too low already. Here `p` is true by the given labels, `q` by the
//! right ones, and the last line is the quality of a label as a probability, in the order of `q_i,y`.
//!
//! Fitted in 64 bits by Newton's method in `1 / T` and `e`; where that would go up, by a step of expectation maximisation
//! (Dempster, Laird and Rubin 1977): how probable it is that each label was drawn, then their share. The last term of the
//! sum is half a label that is wrong for sure and half a right one: of a clean set `e` is small, but not 0.

use crate::rows::{at_least_one, class_indices};
use selfsup_core::{Device, Error, Kind, Logits, Probabilities, Result, Tensor, TensorExt, check_shape};
use serde::{Deserialize, Serialize};

/// A fitted temperature with the share of labels that were drawn at random.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoisyScaling {
    /// T: above 1 the classifier was too sure, below 1 not sure enough.
    pub temperature: f64,
    /// e: the share of labels that say nothing; of them one in C is right by chance.
    pub noise: f64,
    /// The mean negative log-likelihood of the held-out labels before, in nats.
    pub nll_before: f64,
    /// The same after.
    pub nll_after: f64,
}

/// Steps, at most.
const STEPS: usize = 500;
/// What a step has to change of either number, at least.
const TOLERANCE: f64 = 1e-9;
/// The least and the most of `1 / T`, where labels have no or no finite best one.
const BOUNDS: (f64, f64) = (1e-3, 1e3);

impl NoisyScaling {
    /// Fits to held-out samples.
    ///
    /// # Shapes
    /// `logits` `[N, C]`, `labels` `[N]` Int64.
    ///
    /// # Errors
    /// When the two do not fit, there are no samples or fewer than two classes.
    pub fn fit(logits: &Logits, labels: &Tensor) -> Result<NoisyScaling> {
        let [n, classes] = check_shape("logits", logits.tensor(), [-1, -1])?;
        class_indices("labels", labels, n, classes)?;
        at_least_one("logits", n)?;
        if classes < 2 {
            return Err(Error::config("classes", classes, "at least 2"));
        }
        let z = logits.tensor().to_device(Device::Cpu).to_kind(Kind::Double);
        let z = &z - z.amax([1].as_slice(), true); // [N, C], 0 at most
        let own = z.gather(1, &labels.to_device(Device::Cpu).unsqueeze(1), false).squeeze_dim(1); // [N]
        let at = |b, e| Point::at(&z, &own, b, e);
        let mut now = at(1.0, 0.05)?;
        let nll_before = now.plain;
        for _ in 0..STEPS {
            let newton = now.newton().map(|(b, e)| at(b, e)).transpose()?;
            let next = match newton.filter(|next| next.value <= now.value) {
                Some(next) => next,
                None => at(now.expected.0, now.expected.1)?,
            };
            let change = (next.b / now.b - 1.0).abs().max((next.e / now.e - 1.0).abs());
            now = next;
            if change < TOLERANCE {
                break;
            }
        }
        let Point { b, e, nll, .. } = now;
        Ok(NoisyScaling { temperature: 1.0 / b, noise: e, nll_before, nll_after: nll })
    }

    /// Calibrated probabilities of what other samples are labelled, `[N, C]`.
    ///
    /// # Errors
    /// When the temperature or the noise, read from elsewhere, is out of range.
    pub fn apply(&self, logits: &Logits) -> Result<Probabilities> {
        let q = self.clean(logits)?;
        let classes = q.tensor().size()[1] as f64;
        Probabilities::new(&(q.tensor() * (1.0 - self.noise) + self.noise / classes))
    }

    /// Calibrated probabilities of what other samples are, `[N, C]`.
    ///
    /// # Errors
    /// As [`apply`](NoisyScaling::apply).
    pub fn clean(&self, logits: &Logits) -> Result<Probabilities> {
        if !(0.0..1.0).contains(&self.noise) {
            return Err(Error::config("noise", self.noise, "at least 0, below 1"));
        }
        logits.softmax(self.temperature)
    }

    /// The probability that each label is right, given the sample and the label.
    ///
    /// # Errors
    /// As [`apply`](NoisyScaling::apply), or when the labels do not fit the logits.
    pub fn quality(&self, logits: &Logits, labels: &Tensor) -> Result<Vec<f64>> {
        self.clean(logits)?;
        let [n, classes] = check_shape("logits", logits.tensor(), [-1, -1])?;
        class_indices("labels", labels, n, classes)?;
        let z = logits.tensor().to_device(Device::Cpu).to_kind(Kind::Double) / self.temperature;
        let labels = labels.to_device(Device::Cpu).unsqueeze(1);
        let q = z.log_softmax(1, Kind::Double).gather(1, &labels, false).squeeze_dim(1).exp(); // [N]
        let chance = self.noise / classes as f64;
        let any = &q * (1.0 - self.noise) + chance;
        Ok(Vec::try_from(
            (q * (1.0 - self.noise + chance) / any.clamp_min(f64::MIN_POSITIVE)).clamp_max(1.0),
        )?)
    }
}

/// Where a fit is.
struct Point {
    /// `1 / T`
    b: f64,
    e: f64,
    /// The mean negative log-likelihood of the labels.
    nll: f64,
    /// The same without noise.
    plain: f64,
    /// What is minimised, with its slopes and curvatures `[bb, be, ee]`.
    value: f64,
    slope: [f64; 2],
    curvature: [f64; 3],
    /// Where a step of expectation maximisation leads, which never goes up.
    expected: (f64, f64),
}

impl Point {
    fn at(z: &Tensor, own: &Tensor, b: f64, e: f64) -> Result<Point> {
        let (n, classes) = (z.size()[0] as f64, z.size()[1] as f64);
        let over_classes = |x: Tensor| x.sum_dim_intlist([1].as_slice(), false, Kind::Double); // [N, C] to [N]
        let sum = |x: &Tensor| -> Result<f64> { x.sum(Kind::Double).scalar() };
        let scaled = z * b;
        let softmax = scaled.softmax(1, Kind::Double);
        let mean = over_classes(&softmax * z);
        let variance = over_classes(&softmax * (z - mean.unsqueeze(1)).square());
        let d = own - mean; // the slope of log q
        let log_q = own * b - scaled.logsumexp([1].as_slice(), false);
        let q = log_q.exp();
        let p = &q * (1.0 - e) + e / classes;
        // How probable it is that a label comes from the classifier.
        let kept = &q * (1.0 - e) / &p;
        let by_e = (&q * -1.0 + 1.0 / classes) / &p;

        let (all_kept, slope_b) = (sum(&kept)?, -sum(&(&kept * &d))?);
        let curved = sum(&(&kept * variance))?;
        let likelihood = sum(&p.log())?;
        // Newton's step on the labels that are kept, not more than half or double at once: far from the minimum the
        // curvature says little.
        let toward =
            if curved > 0.0 { b - slope_b / curved } else { b * if slope_b < 0.0 { 2.0 } else { 0.5 } };
        let expected =
            (toward.clamp(0.5 * b, 2.0 * b).clamp(BOUNDS.0, BOUNDS.1), (n - all_kept + 0.5) / (n + 1.0));
        Ok(Point {
            b,
            e,
            nll: -likelihood / n,
            plain: -sum(&log_q)? / n,
            value: -likelihood - 0.5 * (e.ln() + (-e).ln_1p()),
            slope: [slope_b, -sum(&by_e)? - 0.5 * (1.0 / e - 1.0 / (1.0 - e))],
            curvature: [
                curved - sum(&(&kept * (&kept * -1.0 + 1.0) * d.square()))?,
                sum(&(&q / &p * &d + &kept * &d * &by_e))?,
                sum(&by_e.square())? + 0.5 * (e.powi(-2) + (1.0 - e).powi(-2)),
            ],
            expected,
        })
    }

    /// Where Newton's method leads, if it goes down and not out of bounds.
    fn newton(&self) -> Option<(f64, f64)> {
        let ([bb, be, ee], [slope_b, slope_e]) = (self.curvature, self.slope);
        let determinant = bb * ee - be * be;
        if !(bb > 0.0 && determinant > 0.0) {
            return None;
        }
        let b = self.b - (ee * slope_b - be * slope_e) / determinant;
        let e = self.e - (bb * slope_e - be * slope_b) / determinant;
        (b > BOUNDS.0 && b < BOUNDS.1 && e > 0.0 && e < 1.0).then_some((b, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CalibrationConfig, LabelledProbabilities, PlantedNoise, TemperatureScaling, calibration};
    use selfsup_core::Key;

    /// 400 samples of 4 classes whose labels follow the logits with noise, and then one in seven is another.
    fn held_out() -> (Logits, Tensor) {
        let i = Tensor::arange(3200, (Kind::Double, Device::Cpu));
        let wave = (i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([800, 4]);
        let (z, noise) = (wave.narrow(0, 0, 400), wave.narrow(0, 400, 400));
        let labels = (&z + noise * 0.5).argmax(1, false);
        let i = Tensor::arange(400, (Kind::Int64, Device::Cpu));
        let wrong = i.remainder(7).eq(3).to_kind(Kind::Int64);
        let labels = (labels + wrong * (i.remainder(3) + 1)).remainder(4);
        (Logits::new(&(z * 2.0).to_kind(Kind::Float)).unwrap(), labels)
    }

    // i = np.arange(3200); w = np.sin(i ** 1.5 * 0.37).reshape(800, 4)
    // y = (w[:400] + 0.5 * w[400:]).argmax(1); i = np.arange(400); y = (y + (i % 7 == 3) * (i % 3 + 1)) % 4
    // z = (w[:400] * 2).astype(np.float32).astype(np.float64)
    // def f(v):
    //     b, e = np.exp(v[0]), scipy.special.expit(v[1])
    //     q = scipy.special.softmax(b * z, axis=1)[i, y]; return (1 - e) * q + e / 4, e
    // def loss(v): p, e = f(v); return -np.log(p).sum() - 0.5 * np.log(e) - 0.5 * np.log(1 - e)
    // v = scipy.optimize.minimize(loss, [0, -3], method="Nelder-Mead", options=dict(xatol=1e-12, fatol=1e-13, maxiter=10000)).x
    // np.exp(-v[0]), scipy.special.expit(v[1]), -np.log(scipy.special.softmax(z, axis=1)[i, y]).mean(), -np.log(f(v)[0]).mean()
    #[test]
    fn agrees_with_scipy() {
        let (logits, labels) = held_out();
        let found = NoisyScaling::fit(&logits, &labels).unwrap();
        let values = [found.temperature, found.noise, found.nll_before, found.nll_after];
        // Scipy compares values, which tell a minimum to half of their digits.
        assert!(values.iter().zip(SCIPY).all(|(f, e)| (f / e - 1.0).abs() < 1e-5), "{values:?}");
    }

    const SCIPY: [f64; 4] = [0.6947492929829655, 0.1528170613062975, 1.0045793125645341, 0.9888729441396313];

    #[test]
    fn nothing_beside_the_fit_is_better() {
        let (logits, labels) = held_out();
        let found = NoisyScaling::fit(&logits, &labels).unwrap();
        let z = logits.tensor().to_kind(Kind::Double);
        let own = z.gather(1, &labels.unsqueeze(1), false).squeeze_dim(1);
        let (b, e) = (1.0 / found.temperature, found.noise);
        let best = Point::at(&z, &own, b, e).unwrap();
        assert!(best.slope.iter().all(|slope| slope.abs() < 1e-6), "{:?}", best.slope);
        for (db, de) in [(1e-3, 0.0), (-1e-3, 0.0), (0.0, 1e-3), (0.0, -1e-3), (1e-3, 1e-3), (-1e-3, 1e-3)] {
            let aside = Point::at(&z, &own, b + db, e + de).unwrap();
            assert!(aside.value > best.value);
            // Its slopes are what the value changes by.
            let ahead = aside.slope[0] * db + aside.slope[1] * de;
            assert!((aside.value - best.value - 0.5 * ahead).abs() < 0.02 * ahead.abs(), "{db} {de}");
        }
    }

    #[test]
    fn true_confidences_stay_and_the_noise_that_was_planted_is_found() {
        // Each of 200 groups of 50 samples has a confidence, and this share of its labels right.
        let (mut rows, mut truth) = (Vec::new(), Vec::new());
        for group in 0..200 {
            let sure = 0.35 + 0.6 * f64::from(group) / 200.0;
            for i in 0..50 {
                rows.push([sure, (1.0 - sure) / 2.0, (1.0 - sure) / 2.0].map(|p| p.ln() as f32));
                let rank = (f64::from(i) + 0.5) / 50.0;
                truth.push(if rank < sure { 0_i64 } else { 1 + i64::from(i % 2) });
            }
        }
        let logits = Logits::new(&Tensor::from_slice2(&rows)).unwrap();
        let noisy = PlantedNoise::plant(&Tensor::from_slice(&truth), 3, 0.2, Key::new(0)).unwrap();
        let found = NoisyScaling::fit(&logits, &noisy.labels).unwrap();
        // A share of 0.2 that is all wrong is one of 0.3 drawn of three classes.
        assert!((found.noise - 0.3).abs() < 0.03 && (found.temperature - 1.0).abs() < 0.1, "{found:?}");
        let ece = |p: Probabilities, labels: &Tensor| {
            let scores = LabelledProbabilities::new(labels, p).unwrap();
            calibration(&scores, &CalibrationConfig::default()).unwrap().ece
        };
        let plain = TemperatureScaling::fit(&logits, &noisy.labels).unwrap().apply(&logits).unwrap();
        assert!(ece(found.apply(&logits).unwrap(), &noisy.labels) < 0.02);
        assert!(ece(found.clean(&logits).unwrap(), &Tensor::from_slice(&truth)) < 0.03);
        assert!(ece(found.apply(&logits).unwrap(), &noisy.labels) < ece(plain, &noisy.labels));
    }

    #[test]
    fn the_quality_is_bayes_rule_in_a_loop_and_in_the_order_of_the_label_s_probability() {
        let (logits, labels) = held_out();
        let found = NoisyScaling { temperature: 0.7, noise: 0.2, nll_before: 0.0, nll_after: 0.0 };
        let quality = found.quality(&logits, &labels).unwrap();
        let q = Vec::<Vec<f64>>::try_from(found.clean(&logits).unwrap().tensor()).unwrap();
        let p = Vec::<Vec<f64>>::try_from(found.apply(&logits).unwrap().tensor()).unwrap();
        let labels = Vec::<i64>::try_from(labels).unwrap();
        for (i, &y) in labels.iter().enumerate() {
            let y = y as usize;
            assert!((p[i][y] - (0.8 * q[i][y] + 0.05)).abs() < 1e-6);
            // Drawn or not, and right.
            assert!((quality[i] - q[i][y] * (0.8 + 0.05) / p[i][y]).abs() < 1e-5, "{i}");
        }
        let mut order: Vec<usize> = (0..400).collect();
        order.sort_by(|&a, &b| q[a][labels[a] as usize].total_cmp(&q[b][labels[b] as usize]));
        assert!(order.is_sorted_by(|&a, &b| quality[a] <= quality[b] + 1e-6));
    }

    #[test]
    fn labels_without_an_error_or_without_a_pattern_have_a_finite_answer() {
        let logits = Logits::new(&Tensor::from_slice2(&[[2.0_f32, 0.0], [0.0, 1.0], [1.0, 0.0]])).unwrap();
        let fit = |labels: [i64; 3]| NoisyScaling::fit(&logits, &Tensor::from_slice(&labels)).unwrap();
        let right = fit([0, 1, 0]);
        assert!(
            right.noise < 0.3 && right.temperature < 0.5 && right.nll_after < right.nll_before,
            "{right:?}"
        );
        let wrong = fit([1, 0, 1]);
        assert!(wrong.noise.is_finite() && wrong.nll_after < wrong.nll_before, "{wrong:?}");
        let quality = wrong.quality(&logits, &Tensor::from_slice(&[1_i64, 0, 1])).unwrap();
        assert!(quality.iter().all(|q| (0.0..1.0).contains(q)), "{quality:?}");
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (logits, labels) = held_out();
        let error = NoisyScaling::fit(&logits, &(labels.shallow_clone() + 1)).unwrap_err().to_string();
        assert_eq!(error, "labels = 4: a class in 0..4");
        let one = Logits::new(&Tensor::from_slice2(&[[2.0_f32]])).unwrap();
        let error = NoisyScaling::fit(&one, &Tensor::from_slice(&[0_i64])).unwrap_err().to_string();
        assert_eq!(error, "classes = 1: at least 2");
        let bad = NoisyScaling { temperature: 1.0, noise: 1.0, nll_before: 0.0, nll_after: 0.0 };
        assert_eq!(bad.apply(&logits).unwrap_err().to_string(), "noise = 1: at least 0, below 1");
        assert!(bad.quality(&logits, &labels).is_err());
    }
}
