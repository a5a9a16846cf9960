//! Distillation: a student learns a teacher's classes on images without labels.
//!
//! Chen, Kornblith, Swersky, Norouzi and Hinton 2020, *Big Self-Supervised Models are Strong Semi-Supervised Learners*
//! (SimCLRv2), section 2, equations 2 and 3. With `P(y | x; tau)` the softmax of a network's logits over tau,
//!
//! ```text
//! L = -mean over x of sum_y P_teacher(y | x; tau) log P_student(y | x; tau)
//! L_weighted = (1 - alpha) cross-entropy on the labels + alpha L
//! ```
//!
//! The teacher is the fine-tuned network and stays as it is. A student of the same shape is self-training, a smaller one
//! compression.

use selfsup_core::{Error, Kind, Result, Tensor, check_kind, check_shape};
use serde::{Deserialize, Serialize};

/// Settings of [`Distillation`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DistillationConfig {
    /// The temperature tau of both softmaxes. 1 leaves the teacher's probabilities as they are.
    pub temperature: f64,
}

impl Default for DistillationConfig {
    fn default() -> Self {
        DistillationConfig { temperature: 1.0 }
    }
}

/// The distillation loss.
#[derive(Clone, Debug)]
pub struct Distillation {
    temperature: f64,
}

impl Distillation {
    /// Makes the loss.
    ///
    /// # Errors
    /// [`Error::Config`] when the temperature is not a positive number.
    pub fn new(config: &DistillationConfig) -> Result<Self> {
        let temperature = config.temperature;
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(Error::config("temperature", temperature, "a positive number"));
        }
        Ok(Distillation { temperature })
    }

    /// The mean cross-entropy of the student under the teacher's probabilities; no gradient goes to the teacher.
    ///
    /// # Shapes
    /// `student`, `teacher`: logits `[N, C]`. Returns a scalar.
    ///
    /// # Errors
    /// [`Error::Shape`] when the two differ.
    pub fn forward(&self, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
        let [n, classes] = check_shape("student", student, [-1, -1])?;
        check_shape("teacher", teacher, [n, classes])?;
        self.towards(student, &self.targets(teacher))
    }

    /// The teacher's probabilities at the temperature, without gradient: what the student is to say.
    ///
    /// # Shapes
    /// Logits `[N, C]` to the same.
    pub fn targets(&self, teacher: &Tensor) -> Tensor {
        (teacher.detach() / self.temperature).softmax(1, Kind::Float)
    }

    /// The mean over all rows of the student's cross-entropy under [`targets`](Distillation::targets), which may have been
    /// mixed, and whose rows may sum to weights of their samples.
    ///
    /// # Shapes
    /// `student` logits and `targets`: `[N, C]`. Returns a scalar.
    ///
    /// # Errors
    /// [`Error::Shape`] when the two differ.
    pub fn towards(&self, student: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let [n, classes] = check_shape("student", student, [-1, -1])?;
        check_shape("targets", targets, [n, classes])?;
        let log_probabilities = (student / self.temperature).log_softmax(1, Kind::Float); // [N, C]
        Ok(-(targets * log_probabilities).sum_dim_intlist(1, false, None).mean(None))
    }

    /// The weighted combination for a batch that has labels; `alpha` in [0, 1] is the weight of the teacher.
    ///
    /// # Shapes
    /// `student`, `teacher`: logits `[N, C]`; `labels` `[N]` Int64. Returns a scalar.
    ///
    /// # Errors
    /// As [`forward`](Distillation::forward), and [`Error::Config`] when `alpha` is no share or a label is none of
    /// the C classes.
    pub fn with_labels(
        &self,
        student: &Tensor,
        teacher: &Tensor,
        labels: &Tensor,
        alpha: f64,
    ) -> Result<Tensor> {
        if !(0.0..=1.0).contains(&alpha) {
            return Err(Error::config("alpha", alpha, "a share from 0 to 1"));
        }
        let distilled = self.forward(student, teacher)?;
        let [n, classes] = check_shape("student", student, [-1, -1])?;
        check_shape("labels", labels, [n])?;
        check_kind("labels", labels, Kind::Int64)?;
        let (least, most) = (i64::try_from(labels.f_min()?)?, i64::try_from(labels.f_max()?)?);
        if least < 0 || most >= classes {
            let wrong = if least < 0 { least } else { most };
            return Err(Error::config("labels", wrong, format!("classes in 0..{classes}")));
        }
        Ok(student.cross_entropy_for_logits(labels) * (1.0 - alpha) + distilled * alpha)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, TensorExt};

    fn waves(shift: f64, scale: f64) -> Tensor {
        let x = Tensor::arange(12, (Kind::Float, Device::Cpu)) * 0.7 + shift;
        (x.sin().reshape([4, 3]) * scale).set_requires_grad(true)
    }

    fn distillation(temperature: f64) -> Distillation {
        Distillation::new(&DistillationConfig { temperature }).unwrap()
    }

    fn assert_near(x: &Tensor, expected: &[f32]) {
        let difference = (x.reshape([-1]) - Tensor::from_slice(expected)).abs().max().scalar().unwrap();
        assert!(difference < 1e-5, "{difference}");
    }

    #[test]
    fn equals_equation_2_term_by_term() {
        let (student, teacher) = (waves(0.0, 1.0), waves(0.4, 2.0));
        let mut total = 0.0;
        for i in 0..4 {
            let p = |x: &Tensor, y: i64| {
                let e = |k: i64| (x.double_value(&[i, k]) / 0.5).exp();
                e(y) / (0..3).map(e).sum::<f64>()
            };
            total -= (0..3).map(|y| p(&teacher, y) * p(&student, y).ln()).sum::<f64>() / 4.0;
        }
        let found = distillation(0.5).forward(&student, &teacher).unwrap().scalar().unwrap();
        assert!((found - total).abs() < 1e-5);
    }

    #[test]
    fn equals_pytorch_forward_and_backward() {
        // s = (torch.arange(12.) * 0.7).sin().reshape(4, 3).double().requires_grad_(); y = torch.tensor([0, 2, 1, 0])
        // t = (torch.arange(12.) * 0.7 + 0.4).sin().reshape(4, 3).double() * 2
        // l = F.cross_entropy(s / 0.5, F.softmax(t / 0.5, 1)); l.backward(); print(l, s.grad)
        // l = 0.25 * F.cross_entropy(s, y) + 0.75 * l
        let (student, teacher) = (waves(0.0, 1.0), waves(0.4, 2.0));
        let loss = distillation(0.5).forward(&student, &teacher).unwrap();
        assert!((loss.scalar().unwrap() - 0.760_025_98).abs() < 1e-5);
        loss.backward();
        assert_near(
            &student.grad(),
            &[
                0.015_761_49,
                -0.044_296_26,
                0.028_534_77,
                -0.115_568_15,
                0.087_554_06,
                0.028_014_09,
                0.121_668_04,
                0.070_248_11,
                -0.191_916_15,
                0.015_095_85,
                -0.047_175_71,
                0.032_079_86,
            ],
        );
        assert!(!teacher.grad().defined());
        let student = waves(0.0, 1.0);
        let labels = Tensor::from_slice(&[0_i64, 2, 1, 0]);
        let loss = distillation(0.5).with_labels(&student, &teacher, &labels, 0.75).unwrap();
        assert!((loss.scalar().unwrap() - 0.979_011_77).abs() < 1e-5);
        loss.backward();
        assert_near(
            &student.grad(),
            &[
                -0.039_485_21,
                -0.011_903_89,
                0.051_389_10,
                -0.053_548_82,
                0.085_199_15,
                -0.031_650_33,
                0.110_987_72,
                0.007_851_38,
                -0.118_839_11,
                -0.039_893_11,
                -0.013_976_31,
                0.053_869_43,
            ],
        );
    }

    #[test]
    fn a_student_like_its_teacher_has_the_entropy_for_a_loss_and_nothing_to_learn() {
        let (student, teacher) = (waves(0.0, 1.0), waves(0.0, 1.0) + 3.0);
        let loss = distillation(0.7).forward(&student, &teacher).unwrap();
        loss.backward();
        let p = (&student / 0.7).softmax(1, Kind::Float);
        let entropy = -(&p * p.log()).sum_dim_intlist(1, false, None).mean(None);
        assert!((loss - entropy).abs().scalar().unwrap() < 1e-6);
        assert!(student.grad().abs().max().scalar().unwrap() < 1e-7);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (z, loss) = (waves(0.0, 1.0), distillation(1.0));
        let error = loss.forward(&z, &z.narrow(1, 0, 2)).unwrap_err().to_string();
        assert_eq!(error, "teacher: expected [4, 3], found [4, 2]");
        let labels = Tensor::from_slice(&[0_i64, 1, 2]);
        let error = loss.with_labels(&z, &z, &labels, 0.5).unwrap_err().to_string();
        assert_eq!(error, "labels: expected [4], found [3]");
        for (wrong, error) in [(3, "labels = 3: classes in 0..3"), (-1, "labels = -1: classes in 0..3")] {
            let labels = Tensor::from_slice(&[0_i64, wrong, 2, 1]);
            assert_eq!(loss.with_labels(&z, &z, &labels, 0.5).unwrap_err().to_string(), error);
        }
        let error = loss.with_labels(&z, &z, &labels, 1.5).unwrap_err().to_string();
        assert_eq!(error, "alpha = 1.5: a share from 0 to 1");
        let error = Distillation::new(&DistillationConfig { temperature: 0.0 }).unwrap_err().to_string();
        assert_eq!(error, "temperature = 0: a positive number");
    }
}
