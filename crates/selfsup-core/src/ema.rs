//! A teacher whose weights are the exponential moving average of a student's:
//! `teacher = m * teacher + (1 - m) * student` (Tarvainen and Valpola 2017, *Mean teachers*).
//!
//! Both are built in one [`nn::VarStore`], under paths of their own, so that a checkpoint holds both. [`Ema::new`]
//! turns the second into the teacher: its parameters leave the trainable ones and take the student's values.

use crate::{Error, Result, Tensor, nn};
use std::collections::BTreeMap;

/// What happens to buffers (BatchNorm's statistics) at an update; integer buffers are always copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffers {
    /// Averaged like the parameters: they follow the student's.
    Average,
    /// Copied from the student.
    Copy,
    /// Left alone: the teacher normalises its own batches in training mode and keeps its own statistics (BYOL, MoCo v2 and
    /// v3, DINO).
    Keep,
}

/// The pairs of variables of a student and its teacher.
#[derive(Debug)]
pub struct Ema {
    parameters: Vec<(Tensor, Tensor)>,
    buffers: Vec<(Tensor, Tensor)>,
    policy: Buffers,
}

impl Ema {
    /// Makes the variables under `teacher` the moving average of those under `student`.
    ///
    /// # Errors
    /// When the two paths do not hold variables of the same names and shapes, or share memory.
    pub fn new(store: &nn::VarStore, student: &str, teacher: &str, policy: Buffers) -> Result<Self> {
        Self::of(store, &[(student, teacher)], policy)
    }

    /// The same for a student and a teacher of several parts, encoder and projector for instance: pairs of their paths.
    ///
    /// # Errors
    /// As [`new`](Ema::new), for any of the pairs.
    pub fn of(store: &nn::VarStore, pairs: &[(&str, &str)], policy: Buffers) -> Result<Self> {
        let mut ema = Ema { parameters: Vec::new(), buffers: Vec::new(), policy };
        for (student, teacher) in pairs {
            ema.tie(store, student, teacher)?;
        }
        ema.copy();
        Ok(ema)
    }

    fn tie(&mut self, store: &nn::VarStore, student: &str, teacher: &str) -> Result<()> {
        let under = |prefix: &str| -> BTreeMap<String, Tensor> {
            let prefix = format!("{prefix}.");
            store
                .variables()
                .into_iter()
                .filter_map(|(name, x)| Some((name.strip_prefix(&prefix)?.to_owned(), x)))
                .collect()
        };
        let (students, teachers) = (under(student), under(teacher));
        if students.is_empty() || !students.keys().eq(teachers.keys()) {
            return Err(Error::config(
                "teacher",
                format!("{} variables under {teacher}", teachers.len()),
                format!("a copy of the {} variables under {student}", students.len()),
            ));
        }
        for ((name, s), t) in students.into_iter().zip(teachers.into_values()) {
            if s.size() != t.size() || s.kind() != t.kind() {
                return Err(Error::Shape {
                    name: format!("{teacher}.{name}"),
                    expected: format!("{:?} as the student's", s.size()),
                    found: format!("{:?}", t.size()),
                });
            }
            if s.data_ptr() == t.data_ptr() {
                return Err(Error::config(
                    "teacher",
                    format!("{teacher}.{name}"),
                    "memory apart from the student's",
                ));
            }
            if s.requires_grad() { self.parameters.push((s, t)) } else { self.buffers.push((s, t)) }
        }
        // Also what a student does not learn, where a method froze it, is not learned by its teacher.
        let all = self.parameters.iter().chain(&self.buffers);
        let frozen: Vec<_> = all.map(|(_, t)| t.set_requires_grad(false).data_ptr()).collect();
        if let Ok(mut variables) = store.variables_.lock() {
            variables.trainable_variables.retain(|v| !frozen.contains(&v.tensor.data_ptr()));
        }
        Ok(())
    }

    /// Gives the teacher the student's values, buffers included.
    pub fn copy(&self) {
        tch::no_grad(|| {
            for (s, t) in self.parameters.iter().chain(&self.buffers) {
                t.shallow_clone().copy_(s);
            }
        });
    }

    /// Moves the teacher by `1 - momentum` towards the student.
    pub fn update(&self, momentum: f64) {
        tch::no_grad(|| {
            for (s, t) in &self.parameters {
                let _ = t.shallow_clone().lerp_(s, 1.0 - momentum);
            }
            for (s, t) in &self.buffers {
                match self.policy {
                    Buffers::Keep => {}
                    Buffers::Average if t.is_floating_point() => {
                        let _ = t.shallow_clone().lerp_(s, 1.0 - momentum);
                    }
                    Buffers::Average | Buffers::Copy => t.shallow_clone().copy_(s),
                }
            }
        });
    }
}

/// The momentum of BYOL (Grill et al. 2020, section 3.3): from `base` at the start to 1 at the end, along a cosine.
pub fn cosine_momentum(base: f64, progress: f64) -> f64 {
    1.0 - (1.0 - base) * ((std::f64::consts::PI * progress).cos() + 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Affine, BatchNorm, Bias, Linear};
    use crate::{Device, Kind, Mode};

    fn store() -> (nn::VarStore, Linear, Linear) {
        let store = nn::VarStore::new(Device::Cpu);
        let student = Linear::new(store.root() / "encoder", 3, 2, Bias::Yes);
        let teacher = Linear::new(store.root() / "teacher", 3, 2, Bias::Yes);
        (store, student, teacher)
    }

    #[test]
    fn starts_as_a_copy_that_learns_nothing_by_gradient() {
        let (store, student, teacher) = store();
        Ema::new(&store, "encoder", "teacher", Buffers::Copy).unwrap();
        assert_eq!(student.weight, teacher.weight);
        assert_ne!(student.weight.data_ptr(), teacher.weight.data_ptr());
        assert_eq!(store.trainable_variables().len(), 2);
        let x = Tensor::ones([1, 3], (Kind::Float, Device::Cpu));
        (student.forward(&x) + teacher.forward(&x)).sum(None).backward();
        assert!(student.weight.grad().defined() && !teacher.weight.grad().defined());
    }

    #[test]
    fn moves_as_the_formula_says() {
        let (store, student, teacher) = store();
        let ema = Ema::new(&store, "encoder", "teacher", Buffers::Copy).unwrap();
        let mut expected = teacher.weight.double_value(&[1, 2]);
        for _ in 0..5 {
            tch::no_grad(|| drop(student.weight.shallow_clone().g_add_scalar_(1.0)));
            ema.update(0.9);
            expected = 0.9 * expected + 0.1 * student.weight.double_value(&[1, 2]);
        }
        assert!((teacher.weight.double_value(&[1, 2]) - expected).abs() < 1e-6);
    }

    #[test]
    fn treats_buffers_as_it_is_told() {
        for (policy, expected) in [(Buffers::Keep, 0.0), (Buffers::Average, 0.05), (Buffers::Copy, 0.1)] {
            let store = nn::VarStore::new(Device::Cpu);
            let student = BatchNorm::new(store.root() / "encoder", 1, Affine::Yes);
            let teacher = BatchNorm::new(store.root() / "teacher", 1, Affine::Yes);
            let ema = Ema::new(&store, "encoder", "teacher", policy).unwrap();
            let _ = student.forward(&Tensor::ones([4, 1], (Kind::Float, Device::Cpu)), Mode::Train);
            ema.update(0.5);
            assert!((teacher.running_mean.double_value(&[0]) - expected).abs() < 1e-7, "{policy:?}");
            let counted = i64::from(policy != Buffers::Keep);
            assert_eq!(i64::try_from(&teacher.num_batches_tracked).unwrap(), counted);
        }
    }

    #[test]
    fn rejects_a_teacher_of_another_shape() {
        let store = nn::VarStore::new(Device::Cpu);
        Linear::new(store.root() / "encoder", 3, 2, Bias::Yes);
        Linear::new(store.root() / "teacher", 4, 2, Bias::Yes);
        let error = Ema::new(&store, "encoder", "teacher", Buffers::Copy).unwrap_err().to_string();
        assert_eq!(error, "teacher.weight: expected [2, 3] as the student's, found [2, 4]");
        let error = Ema::new(&store, "encoder", "nobody", Buffers::Copy).unwrap_err().to_string();
        assert!(error.contains("0 variables under nobody"), "{error}");
    }

    #[test]
    fn momentum_follows_byols_cosine() {
        assert_eq!(cosine_momentum(0.99, 0.0), 0.99);
        assert!((cosine_momentum(0.99, 0.5) - 0.995).abs() < 1e-12);
        assert_eq!(cosine_momentum(0.99, 1.0), 1.0);
    }
}
