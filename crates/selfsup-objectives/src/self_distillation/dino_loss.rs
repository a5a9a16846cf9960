//! The loss of DINO: a student's views are to say what a teacher says of other views of the same image.
//!
//! Caron et al. 2021, *Emerging Properties in Self-Supervised Vision Transformers*, equation 3 and algorithm 1. With the
//! teacher's logits t of the global views, the student's logits s of all views, and the centre c,
//!
//! ```text
//! L = mean over g, v != g of  - sum_k softmax((t_g - c) / tau_t)_k log softmax(s_v / tau_s)_k
//! c <- m c + (1 - m) mean of t
//! ```
//!
//! With [`Centring::SinkhornKnopp`](super::targets::Centring) the targets are balanced over the batch instead (DINOv2).

use super::targets::{DinoLossConfig, Targets};
use selfsup_core::{Communicator, Error, Result, Tensor, check_shape, nn};
use std::borrow::Borrow;

/// The loss of DINO, with its centre.
#[derive(Debug)]
pub struct DinoLoss {
    targets: Targets,
}

impl DinoLoss {
    /// Makes the loss for heads of `outputs` outputs; the centre is a variable under `path`.
    ///
    /// # Errors
    /// [`Error::Config`] when a temperature is not positive or the momentum no share.
    pub fn new<'a>(path: impl Borrow<nn::Path<'a>>, outputs: i64, config: &DinoLossConfig) -> Result<Self> {
        Ok(DinoLoss { targets: Targets::new(path.borrow(), outputs, config)? })
    }

    /// The mean loss of all pairs of a teacher's view and another view of the student, by the centre as it is.
    ///
    /// # Shapes
    /// `student` `[V, N, K]`, `teacher` `[G, N, K]`: the first G of the V views in the same order. Returns a scalar.
    ///
    /// # Errors
    /// [`Error::Shape`] when the logits are of another size, or there is no pair.
    pub fn forward(
        &self,
        student: &Tensor,
        teacher: &Tensor,
        epoch: u64,
        comm: &dyn Communicator,
    ) -> Result<Tensor> {
        let [g, n, k] = check_shape("teacher", teacher, [-1, -1, self.targets.outputs()])?;
        let [v, _, _] = check_shape("student", student, [-1, n, k])?;
        if v < g || v * g < 2 {
            return Err(Error::Shape {
                name: "student".to_owned(),
                expected: format!("at least {} views", g.max(2)),
                found: format!("{v} views"),
            });
        }
        let targets = self.targets.of(&teacher.reshape([g * n, k]), epoch, comm)?.view([g, n, k]);
        let log_student = self.targets.log_student(student); // [V, N, K]
        // A teacher's view is compared with all views but itself.
        let others = log_student.sum_dim_intlist(0, true, None) - log_student.narrow(0, 0, g); // [G, N, K]
        let pairs = g * (v - 1);
        Ok(-(targets * others).sum(None) / (pairs * n) as f64)
    }

    /// Moves the centre towards the mean of the teacher's logits of this batch, after the loss was taken.
    ///
    /// # Shapes
    /// `teacher` `[G, N, K]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the logits are of another size.
    pub fn update_centre(&self, teacher: &Tensor, comm: &dyn Communicator) -> Result<()> {
        check_shape("teacher", teacher, [-1, -1, self.targets.outputs()])?;
        self.targets.update(&teacher.flatten(0, 1), comm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clustering::tiny::waves;
    use crate::self_distillation::targets::{Centring, TeacherTemperature};
    use crate::self_distillation::tiny::assert_near;
    use selfsup_core::{Device, Kind, SingleProcess, TensorExt};

    fn loss(config: &DinoLossConfig) -> (nn::VarStore, DinoLoss) {
        let store = nn::VarStore::new(Device::Cpu);
        let loss = DinoLoss::new(store.root(), 5, config).unwrap();
        (store, loss)
    }

    #[test]
    fn equals_a_loop_over_pairs_of_views() {
        let (_store, loss) = loss(&DinoLossConfig::default());
        let (student, teacher) = (waves(&[4, 3, 5], 0.0), waves(&[2, 3, 5], 1.0));
        let softmax = |x: Vec<f64>| {
            let sum: f64 = x.iter().map(|x| x.exp()).sum();
            x.into_iter().map(|x| x.exp() / sum).collect::<Vec<_>>()
        };
        let row = |x: &Tensor, view, n, by: f64| -> Vec<f64> {
            (0..5).map(|k| x.double_value(&[view, n, k]) / by).collect()
        };
        let (mut sum, mut terms) = (0.0, 0);
        for g in 0..2 {
            for v in (0..4).filter(|&v| v != g) {
                terms += 1;
                for n in 0..3 {
                    let (t, s) = (softmax(row(&teacher, g, n, 0.04)), softmax(row(&student, v, n, 0.1)));
                    sum -= t.iter().zip(s).map(|(t, s)| t * s.ln()).sum::<f64>() / 3.0;
                }
            }
        }
        let found = loss.forward(&student, &teacher, 0, &SingleProcess).unwrap().scalar().unwrap();
        assert!((found - sum / f64::from(terms)).abs() < 1e-4, "{found}");
    }

    // loss = lightly.loss.DINOLoss(output_dim=5, warmup_teacher_temp=0.04, teacher_temp=0.07, warmup_teacher_temp_epochs=4)
    // for step in range(5):
    //     s = wave([4, 3, 5], step).requires_grad_(); t = wave([2, 3, 5], step + 1.)
    //     l = loss(list(t), list(s), epoch=step); l.backward(); print(l)
    // print(s.grad, loss.center)
    #[test]
    fn five_steps_equal_lightlys_in_value_gradient_and_centre() {
        let teacher_temperature = TeacherTemperature { warmup_epochs: 4, ..Default::default() };
        let (store, loss) = loss(&DinoLossConfig { teacher_temperature, ..Default::default() });
        let mut values = Vec::new();
        let mut gradient = Tensor::new();
        for step in 0..5_u32 {
            let shift = f64::from(step);
            let student = waves(&[4, 3, 5], shift).set_requires_grad(true);
            let teacher = waves(&[2, 3, 5], shift + 1.0);
            let value = loss.forward(&student, &teacher, u64::from(step), &SingleProcess).unwrap();
            value.backward();
            loss.update_centre(&teacher, &SingleProcess).unwrap();
            values.push(value.detach());
            gradient = student.grad();
        }
        assert_near(&Tensor::stack(&values, 0), &[8.461833, 6.773716, 7.4883618, 8.1891785, 7.732604]);
        assert_near(
            &gradient,
            &[
                -0.5554802, -4.03e-05, 1.7e-06, 0.0006414, 0.5548775, 0.2722824, 0.2680906, -0.5139748,
                -0.0263919, -6.3e-06, -2.51e-05, -0.0, 8.3e-06, 0.0070423, -0.0070254, 0.5493532, 0.0061952,
                5.7e-06, -0.0109158, -0.5446383, -0.5553784, -0.000172, 0.0042844, 0.3035541, 0.247712,
                0.554926, 0.000623, -0.0105393, -0.5180664, -0.0269433, -0.5554702, 0.0097763, 0.6350622,
                0.4509169, -0.5402853, -0.2746074, -0.0110171, -0.517299, -0.0245892, 0.8275127, 0.0112473,
                0.6650373, 0.4204913, -0.5143374, -0.5824383, -0.5554811, -4.03e-05, 1.5e-06, -0.0094702,
                0.5649902, 0.1468053, 0.3937528, -0.5141593, -0.0263924, -6.3e-06, -2.51e-05, -1.4e-06,
                -0.0105114, -0.4958348, 0.5063727,
            ],
        );
        assert_near(
            &store.variables()["centre"],
            &[0.0062083, -0.0050257, -0.0138961, -0.0162309, -0.0109321],
        );
    }

    #[test]
    fn views_that_agree_and_a_flat_teacher_cost_what_the_entropy_says() {
        let (_store, loss) = loss(&DinoLossConfig::default());
        let flat = Tensor::zeros([3, 2, 5], (Kind::Float, Device::Cpu));
        let found = loss.forward(&flat, &flat.narrow(0, 0, 2), 0, &SingleProcess).unwrap();
        assert!((found.scalar().unwrap() - 5.0_f64.ln()).abs() < 1e-6);
        // A constant added to all logits of a row changes nothing.
        let (student, teacher) = (waves(&[3, 2, 5], 0.0), waves(&[2, 2, 5], 1.0));
        let before = loss.forward(&student, &teacher, 0, &SingleProcess).unwrap();
        let after = loss.forward(&(student + 2.0), &(teacher - 3.0), 0, &SingleProcess).unwrap();
        assert!((before - after).abs().scalar().unwrap() < 1e-4);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (_store, loss) = loss(&DinoLossConfig { centring: Centring::Mean, ..Default::default() });
        let refused = |s: &[i64], t: &[i64]| {
            let (s, t) = (waves(s, 0.0), waves(t, 0.0));
            loss.forward(&s, &t, 0, &SingleProcess).unwrap_err().to_string()
        };
        assert_eq!(refused(&[4, 3, 5], &[2, 3, 6]), "teacher: expected [_, _, 5], found [2, 3, 6]");
        assert_eq!(refused(&[4, 2, 5], &[2, 3, 5]), "student: expected [_, 3, 5], found [4, 2, 5]");
        assert_eq!(refused(&[1, 3, 5], &[1, 3, 5]), "student: expected at least 2 views, found 1 views");
    }
}
