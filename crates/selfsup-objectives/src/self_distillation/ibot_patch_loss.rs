//! The loss of iBOT on patches: of a hidden patch, a student is to say what a teacher that sees it says.
//!
//! Zhou, Wei, Wang, Shen, Xie, Yuille and Kong 2022, *iBOT: Image BERT Pre-Training with Online Tokenizer*, equation 2.
//! With m the mask of an image's patches, and otherwise as [`DinoLoss`](super::dino_loss::DinoLoss),
//!
//! ```text
//! L = mean over images of  ( sum_i m_i H(teacher_i, student_i) ) / max(1, sum_i m_i)
//! ```
//!
//! The mean is over all images, those without a hidden patch among them, as in the authors' code. The centre is one of
//! patches alone.

use super::targets::{DinoLossConfig, Targets};
use selfsup_core::{Communicator, Error, Kind, Result, Tensor, check_kind, check_shape, nn};
use std::borrow::Borrow;

/// The loss of iBOT on hidden patches, with its centre.
#[derive(Debug)]
pub struct IbotPatchLoss {
    targets: Targets,
}

impl IbotPatchLoss {
    /// Makes the loss for heads of `outputs` outputs; the centre is a variable under `path`.
    ///
    /// # Errors
    /// [`Error::Config`] when a temperature is not positive or the momentum no share.
    pub fn new<'a>(path: impl Borrow<nn::Path<'a>>, outputs: i64, config: &DinoLossConfig) -> Result<Self> {
        Ok(IbotPatchLoss { targets: Targets::new(path.borrow(), outputs, config)? })
    }

    /// The mean loss of a batch's hidden patches, by the centre as it is; 0 where none is hidden. Sinkhorn's algorithm
    /// balances the patches of all ranks.
    ///
    /// # Shapes
    /// `mask` `[B, T]` Bool, true for the M hidden patches; `student`, `teacher` `[M, K]`, those patches row by row.
    /// Returns a scalar.
    ///
    /// # Errors
    /// [`Error::Shape`] when the logits are of another size, or not as many as the mask hides.
    pub fn forward(
        &self,
        student: &Tensor,
        teacher: &Tensor,
        mask: &Tensor,
        epoch: u64,
        comm: &dyn Communicator,
    ) -> Result<Tensor> {
        let [images, _] = check_shape("mask", mask, [-1, -1])?;
        check_kind("mask", mask, Kind::Bool)?;
        let [hidden, k] = check_shape("teacher", teacher, [-1, self.targets.outputs()])?;
        check_shape("student", student, [hidden, k])?;
        let of_image = mask.sum_dim_intlist(1, true, Kind::Float); // [B, 1]
        let weights = of_image.clamp_min(1.0).reciprocal().expand_as(mask).masked_select(mask); // [M]
        if weights.size() != [hidden] {
            return Err(Error::Shape {
                name: "mask".to_owned(),
                expected: format!("{hidden} hidden patches, a row of logits for each"),
                found: format!("{:?}", weights.size()),
            });
        }
        let log_student = self.targets.log_student(student); // [M, K]
        let targets = self.targets.of(teacher, epoch, comm)?; // [M, K]
        let losses = -(targets * log_student).sum_dim_intlist(1, false, None); // [M]
        Ok((losses * weights).sum(None) / images as f64)
    }

    /// Moves the centre towards the mean of a teacher's logits of patches, after the loss was taken.
    ///
    /// # Shapes
    /// `teacher` `[R, K]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the logits are of another size.
    pub fn update_centre(&self, teacher: &Tensor, comm: &dyn Communicator) -> Result<()> {
        check_shape("teacher", teacher, [-1, self.targets.outputs()])?;
        self.targets.update(teacher, comm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clustering::tiny::waves;
    use crate::self_distillation::targets::{Centring, TeacherTemperature};
    use crate::self_distillation::tiny::assert_near;
    use selfsup_core::{Device, SingleProcess, TensorExt};

    fn loss(centring: Centring) -> (nn::VarStore, IbotPatchLoss) {
        let store = nn::VarStore::new(Device::Cpu);
        let teacher_temperature = TeacherTemperature { warmup_epochs: 0, ..Default::default() };
        let config = DinoLossConfig { teacher_temperature, centring, ..Default::default() };
        let loss = IbotPatchLoss::new(store.root(), 5, &config).unwrap();
        (store, loss)
    }

    fn mask() -> Tensor {
        let mask = [[true, false, true, false], [false; 4], [false, true, false, false]];
        Tensor::from_slice(&mask.concat()).view([3, 4])
    }

    #[test]
    fn equals_a_loop_over_images_and_patches() {
        let (_store, loss) = loss(Centring::Mean);
        let (student, teacher) = (waves(&[3, 5], 0.0), waves(&[3, 5], 1.0));
        let softmax = |x: &Tensor, row: i64, by: f64| {
            let powers: Vec<f64> = (0..5).map(|k| (x.double_value(&[row, k]) / by).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.into_iter().map(|p| p / sum).collect::<Vec<_>>()
        };
        let entropy = |row| {
            let (t, s) = (softmax(&teacher, row, 0.07), softmax(&student, row, 0.1));
            -t.iter().zip(s).map(|(t, s)| t * s.ln()).sum::<f64>()
        };
        let expected = (f64::midpoint(entropy(0), entropy(1)) + entropy(2)) / 3.0;
        let found = loss.forward(&student, &teacher, &mask(), 0, &SingleProcess).unwrap().scalar().unwrap();
        assert!((found - expected).abs() < 1e-4, "{found} where {expected} is right");
    }

    // loss = lightly.loss.IBOTPatchLoss(output_dim=5, teacher_temp=0.07, student_temp=0.1)
    // mask = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]).bool()
    // for step in range(5):
    //     s = wave([3, 5], step).requires_grad_(); t = wave([3, 5], step + 1.)
    //     l = loss(t, s, mask.view(3, 2, 2)); l.backward(); print(l)
    // print(s.grad, loss.center.value)
    #[test]
    fn five_steps_equal_lightlys_in_value_gradient_and_centre() {
        let (store, loss) = loss(Centring::Mean);
        let mut values = Vec::new();
        let mut gradient = Tensor::new();
        for step in 0..5 {
            let student = waves(&[3, 5], f64::from(step)).set_requires_grad(true);
            let teacher = waves(&[3, 5], f64::from(step) + 1.0);
            let value = loss.forward(&student, &teacher, &mask(), 0, &SingleProcess).unwrap();
            value.backward();
            loss.update_centre(&teacher, &SingleProcess).unwrap();
            values.push(value.detach());
            gradient = student.grad();
        }
        assert_near(&Tensor::stack(&values, 0), &[1.9081698, 0.9085527, 4.4238086, 1.7409505, 1.6125451]);
        assert_near(
            &gradient,
            &[
                6.2e-06, 5e-07, -2.7e-06, -0.0461108, 0.0461067, -0.8491085, 0.8387601, 0.0103363, 1.21e-05,
                0.0, 0.0, -1.04e-05, -0.0809465, -3.0994973, 3.1804542,
            ],
        );
        assert_near(
            &store.variables()["centre"],
            &[-0.0192401, -0.0311983, -0.0284834, -0.0123723, 0.0095576],
        );
    }

    #[test]
    fn flat_logits_cost_the_logarithm_of_the_outputs_and_no_hidden_patch_costs_nothing() {
        for centring in [Centring::Mean, Centring::SinkhornKnopp] {
            let (_store, loss) = loss(centring);
            let flat = waves(&[3, 5], 0.0) * 0.0;
            let found = loss.forward(&flat, &flat, &mask(), 0, &SingleProcess).unwrap().scalar().unwrap();
            assert!((found - 5.0_f64.ln() * 2.0 / 3.0).abs() < 1e-6, "two of three images hide patches");
            let none = flat.narrow(0, 0, 0).set_requires_grad(true);
            let found = loss
                .forward(&none, &none, &mask().logical_and(&mask().logical_not()), 0, &SingleProcess)
                .unwrap();
            found.backward();
            assert_eq!(found.scalar().unwrap(), 0.0);
        }
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (_store, loss) = loss(Centring::Mean);
        let refused = |s: &[i64], t: &[i64]| {
            loss.forward(&waves(s, 0.0), &waves(t, 0.0), &mask(), 0, &SingleProcess).unwrap_err().to_string()
        };
        assert_eq!(refused(&[3, 5], &[3, 6]), "teacher: expected [_, 5], found [3, 6]");
        assert_eq!(refused(&[2, 5], &[3, 5]), "student: expected [3, 5], found [2, 5]");
        let error = "mask: expected 4 hidden patches, a row of logits for each, found [3]";
        assert_eq!(refused(&[4, 5], &[4, 5]), error);
    }
}
