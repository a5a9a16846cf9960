//! Noise-contrastive estimation against a memory bank: is this the memory of the same image, or of another one?
//!
//! Misra and van der Maaten 2020, *Self-Supervised Learning of Pretext-Invariant Representations* (PIRL), equations 3 and
//! 4, after Wu, Xiong, Yu and Lin 2018, *Unsupervised Feature Learning via Non-Parametric Instance Discrimination*. For
//! z and memories m of unit length and the drawn images `I'`,
//!
//! ```text
//! L = mean of  -log h(m_I, z) - sum_{I'} log(1 - h(m_I', z))
//! ```
//!
//! The papers and their code differ in h, the probability that a memory belongs to z. [`Probability`] has both.

use selfsup_core::{Error, Kind, Result, Tensor, TensorExt, check_kind, check_shape};
use serde::{Deserialize, Serialize};

/// The probability h that a memory belongs to a vector, with `e_i = exp(z . m_i / tau)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probability {
    /// `e_i` over the sum of the positive's and all negatives' `e` (PIRL, equation 3).
    Share,
    /// `P_i / (P_i + negatives / memories)` with `P_i = e_i / Z`, and for Z the mean `e` of the first batch times the
    /// number of memories (Wu et al., equation 7; PIRL's code).
    Constant,
}

/// The loss.
#[derive(Clone, Debug)]
pub struct MemoryNce {
    temperature: f64,
}

/// What a batch comes to.
#[derive(Debug)]
pub struct MemoryNceOutput {
    /// The mean loss, a scalar with gradient.
    pub loss: Tensor,
    /// The share of vectors to which their own memory is the nearest of all drawn, a scalar without gradient.
    pub accuracy: Tensor,
}

/// Vectors and the memories they are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    /// The vectors, `[N, D]` of any length.
    pub z: &'a Tensor,
    /// The memory of each vector's image, `[N, D]` of unit length.
    pub positives: &'a Tensor,
    /// The drawn memories, the same for all vectors, `[K, D]` of unit length.
    pub negatives: &'a Tensor,
    /// Which of the drawn are of the vector's own image and do not count, `[N, K]` Bool.
    pub own: &'a Tensor,
}

impl MemoryNce {
    /// Makes the loss.
    ///
    /// # Errors
    /// [`Error::Config`] when the temperature is not a positive number.
    pub fn new(temperature: f64) -> Result<Self> {
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(Error::config("temperature", temperature, "a positive number"));
        }
        Ok(MemoryNce { temperature })
    }

    /// The similarities over the temperature, `[N, 1 + K]`, the positive first, minus infinity for what does not count.
    fn logits(&self, compared: Compared) -> Result<Tensor> {
        let Compared { z, positives, negatives, own } = compared;
        let [n, d] = check_shape("z", z, [-1, -1])?;
        check_shape("positives", positives, [n, d])?;
        let [k, _] = check_shape("negatives", negatives, [-1, d])?;
        check_shape("own", own, [n, k])?;
        check_kind("own", own, Kind::Bool)?;
        let z = z.l2_normalize() / self.temperature;
        let positive = (&z * positives).sum_dim_intlist(1, true, None); // [N, 1]
        let negative = z.matmul(&negatives.tr()).masked_fill(own, f64::NEG_INFINITY); // [N, K]
        Ok(Tensor::cat(&[positive, negative], 1))
    }

    /// The loss with [`Probability::Share`].
    ///
    /// # Errors
    /// [`Error::Shape`] when the tensors do not fit each other.
    pub fn share(&self, compared: Compared) -> Result<MemoryNceOutput> {
        let logits = self.logits(compared)?;
        let log_h = logits.log_softmax(1, Kind::Float); // [N, 1 + K]
        let k = logits.size()[1] - 1;
        // Below 1, so that a negative that has everything costs much and not infinitely much; it is the positive's term
        // that moves it then.
        let h = log_h.narrow(1, 1, k).exp().clamp_max(1.0 - 1e-6);
        let losses = log_h.select(1, 0) + (-h).log1p().sum_dim_intlist(1, false, None); // [N]
        Ok(MemoryNceOutput { loss: -losses.mean(None), accuracy: nearest_is_first(&logits) })
    }

    /// The logarithm of Z that the batch suggests when the bank has so many memories, a scalar without gradient.
    ///
    /// # Errors
    /// As [`share`](MemoryNce::share).
    pub fn log_constant(&self, compared: Compared, memories: i64) -> Result<Tensor> {
        let logits = self.logits(compared)?.detach();
        let counted = logits.isfinite().sum(Kind::Float);
        Ok(logits.reshape([-1]).logsumexp(0, false) - counted.log() + (memories as f64).ln())
    }

    /// The loss with [`Probability::Constant`]: `log_constant` is the logarithm of Z, a scalar.
    ///
    /// # Errors
    /// As [`share`](MemoryNce::share).
    pub fn constant(
        &self,
        compared: Compared,
        memories: i64,
        log_constant: &Tensor,
    ) -> Result<MemoryNceOutput> {
        let logits = self.logits(compared)?;
        let k = logits.size()[1] - 1;
        // h is the logistic function of log P - log(K / memories).
        let odds = &logits - log_constant - (k as f64 / memories as f64).ln(); // [N, 1 + K]
        let losses =
            (-odds.select(1, 0)).softplus() + odds.narrow(1, 1, k).softplus().sum_dim_intlist(1, false, None); // [N]
        Ok(MemoryNceOutput { loss: losses.mean(None), accuracy: nearest_is_first(&logits) })
    }
}

fn nearest_is_first(logits: &Tensor) -> Tensor {
    logits.detach().argmax(1, false).eq(0).to_kind(Kind::Float).mean(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrastive::pixels::{assert_near, waves};
    use selfsup_core::Device;

    struct Case {
        z: Tensor,
        positives: Tensor,
        negatives: Tensor,
        own: Tensor,
    }

    impl Case {
        fn new() -> Self {
            Case {
                z: waves(4, 3, 0.0, 0.7).set_requires_grad(true),
                positives: waves(4, 3, 0.4, 0.7).l2_normalize(),
                negatives: waves(5, 3, 1.0, 0.3).l2_normalize(),
                own: Tensor::zeros([4, 5], (Kind::Bool, Device::Cpu)),
            }
        }

        fn compared(&self) -> Compared<'_> {
            Compared { z: &self.z, positives: &self.positives, negatives: &self.negatives, own: &self.own }
        }

        /// `exp(z . m / 0.5)` of vector `i` with its positive and with the negatives that count.
        fn similarities(&self, i: i64) -> (f64, Vec<f64>) {
            let z = self.z.get(i).l2_normalize();
            let e = |m: &Tensor| ((&z * m).sum(None).scalar().unwrap() / 0.5).exp();
            let counts = |k: &i64| self.own.int64_value(&[i, *k]) == 0;
            (e(&self.positives.get(i)), (0..5).filter(counts).map(|k| e(&self.negatives.get(k))).collect())
        }
    }

    #[test]
    fn the_share_equals_equations_3_and_4_term_by_term() {
        let mut case = Case::new();
        case.own = Tensor::eye(5, (Kind::Bool, Device::Cpu)).narrow(0, 0, 4);
        let naive: f64 = (0..4)
            .map(|i| {
                let (positive, negatives) = case.similarities(i);
                let all = positive + negatives.iter().sum::<f64>();
                -(positive / all).ln() - negatives.iter().map(|e| (1.0 - e / all).ln()).sum::<f64>()
            })
            .sum();
        let found = MemoryNce::new(0.5).unwrap().share(case.compared()).unwrap().loss.scalar().unwrap();
        assert!((found - naive / 4.0).abs() < 1e-5, "{found}");
    }

    #[test]
    fn the_constant_equals_its_formula_term_by_term() {
        let mut case = Case::new();
        case.own = Tensor::eye(5, (Kind::Bool, Device::Cpu)).narrow(0, 0, 4);
        let (z, noise) = (37.0, 5.0 / 20.0);
        let naive: f64 = (0..4)
            .map(|i| {
                let (positive, negatives) = case.similarities(i);
                let h = |e: f64| e / z / (e / z + noise);
                -h(positive).ln() - negatives.iter().map(|&e| (1.0 - h(e)).ln()).sum::<f64>()
            })
            .sum();
        let nce = MemoryNce::new(0.5).unwrap();
        let found = nce.constant(case.compared(), 20, &Tensor::from(37_f32.ln())).unwrap().loss;
        assert!((found.scalar().unwrap() - naive / 4.0).abs() < 1e-5);
    }

    #[test]
    fn the_constant_equals_vissl_forward_and_backward() {
        // z = wave(4, 3, 0., 0.7).requires_grad_(); m = F.normalize(torch.cat of wave(4, 3, 0.4, 0.7), wave(5, 3, 1., 0.3))
        // weight = torch.cat([m[:4, None], m[4:].expand(4, 5, 3)], 1)       # as NCEAverage.forward has it after index_select
        // out = torch.exp(torch.bmm(weight, F.normalize(z, dim=1)[:, :, None]) / 0.5)
        // Z = out.mean().item() * 20; loss = NCECriterion(20)((out / Z).reshape(4, 6), None); loss.backward()
        // and, for the share, p = (out / out.sum(1, keepdim=True)).squeeze(2)
        // loss = -(p[:, 0].log() + (1 - p[:, 1:]).log().sum(1)).mean()
        let (nce, case) = (MemoryNce::new(0.5).unwrap(), Case::new());
        let constant = nce.log_constant(case.compared(), 20).unwrap();
        assert!((constant.exp().scalar().unwrap() / 61.398_519 - 1.0).abs() < 1e-5);
        let loss = nce.constant(case.compared(), 20, &constant).unwrap().loss;
        loss.backward();
        assert!((loss.scalar().unwrap() - 1.920_996_88).abs() < 1e-5);
        assert_near(
            &case.z.grad(),
            &[
                0.035_676_23,
                -0.003_010_74,
                0.001_968_21,
                0.035_127_55,
                0.148_737_55,
                0.228_482_26,
                0.064_071_90,
                0.006_965_96,
                -0.099_303_91,
                0.036_661_92,
                -0.003_003_98,
                0.001_373_39,
            ],
        );
        let case = Case::new();
        let loss = nce.share(case.compared()).unwrap().loss;
        loss.backward();
        assert!((loss.scalar().unwrap() - 1.836_739_05).abs() < 1e-5);
        assert_near(
            &case.z.grad(),
            &[
                0.109_341_02,
                0.012_723_68,
                -0.008_317_85,
                0.043_923_58,
                0.178_289_01,
                0.278_348_41,
                0.087_503_60,
                0.012_571_74,
                -0.140_379_92,
                0.106_980_52,
                0.010_826_99,
                -0.009_018_65,
            ],
        );
    }

    #[test]
    fn memories_without_information_have_a_known_loss() {
        let same = Tensor::ones([4, 3], (Kind::Float, Device::Cpu)).l2_normalize();
        let own = Tensor::zeros([4, 4], (Kind::Bool, Device::Cpu));
        let compared = Compared { z: &same, positives: &same, negatives: &same, own: &own };
        let nce = MemoryNce::new(0.07).unwrap();
        // Each of 5 has a share of 1/5.
        let share = nce.share(compared).unwrap().loss.scalar().unwrap();
        assert!((share - 5_f64.ln() + 4.0 * 0.8_f64.ln()).abs() < 1e-4, "{share}");
        // P = 1/memories: the positive is one of 5 candidates, 4 of which are noise.
        let constant = nce.log_constant(compared, 50).unwrap();
        let constant = nce.constant(compared, 50, &constant).unwrap().loss.scalar().unwrap();
        assert!((constant - 5_f64.ln() + 4.0 * 0.8_f64.ln()).abs() < 1e-4, "{constant}");
    }

    #[test]
    fn what_does_not_count_changes_nothing_and_has_no_gradient_that_is_not_finite() {
        let nce = MemoryNce::new(0.5).unwrap();
        let (mut more, fewer) = (Case::new(), Case::new());
        more.negatives = Tensor::cat(&[&fewer.negatives, &waves(1, 3, 9.0, 0.7).l2_normalize()], 0);
        let none = Tensor::zeros([4, 5], (Kind::Bool, Device::Cpu));
        more.own = Tensor::cat(&[&none, &Tensor::ones([4, 1], (Kind::Bool, Device::Cpu))], 1);
        for case in [&more, &fewer] {
            nce.share(case.compared()).unwrap().loss.backward();
        }
        assert!((more.z.grad() - fewer.z.grad()).abs().max().scalar().unwrap() < 1e-6);
        let [a, b] = [&more, &fewer].map(|case| nce.log_constant(case.compared(), 20).unwrap());
        assert!((&a - &b).abs().scalar().unwrap() < 1e-5);
        nce.constant(more.compared(), 20, &a).unwrap().loss.backward();
        assert_eq!(more.z.grad().isfinite().all().scalar().unwrap(), 1.0);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (nce, case) = (MemoryNce::new(0.5).unwrap(), Case::new());
        let short = case.positives.narrow(0, 0, 3);
        let error = nce.share(Compared { positives: &short, ..case.compared() }).unwrap_err().to_string();
        assert_eq!(error, "positives: expected [4, 3], found [3, 3]");
        let own = case.own.narrow(1, 0, 4);
        let error = nce.share(Compared { own: &own, ..case.compared() }).unwrap_err().to_string();
        assert_eq!(error, "own: expected [4, 5], found [4, 4]");
        let error = MemoryNce::new(-1.0).unwrap_err().to_string();
        assert_eq!(error, "temperature = -1: a positive number");
    }
}
