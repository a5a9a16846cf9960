//! Several objectives on one encoder and one batch: L = sum_i w_i L_i (multi-task self-supervision, Doersch and Zisserman
//! 2017, *Multi-task Self-Supervised Visual Learning*, who give every task a head of its own on a shared trunk).
//!
//! All parts take the same batch and can train the same encoder, or the program does not compile. Each has its variables
//! under a path of its own ([`Site::part`](selfsup_core::Site::part)) and its numbers in the log under its name. Each
//! encodes the batch for itself; the authors, too, have a batch for each task.

use selfsup_core::{Error, Judgement, Loss, Objective, Pictures, Result, Step, Tensor, nn};
use std::fmt;

/// One of the objectives of a [`Combined`].
pub struct Part<E: ?Sized, B> {
    /// What it is called in the log.
    pub name: String,
    /// What its loss is multiplied with.
    pub weight: f64,
    /// What it learns by.
    pub objective: Box<dyn Objective<E, Batch = B>>,
}

impl<E: ?Sized, B> fmt::Debug for Part<E, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("name", &self.name).field("weight", &self.weight).finish_non_exhaustive()
    }
}

/// A weighted sum of objectives.
///
/// # Example
/// ```
/// use selfsup_core::layers::{Bias, Linear};
/// use selfsup_core::{Device, Encoder, ImageViews, MlpHeadConfig, Mode, Result, Site, Tensor, nn};
/// use selfsup_objectives::{Combined, Part, SimClr, SimClrConfig};
///
/// #[derive(Debug)]
/// struct Net(Linear);
/// impl Encoder for Net {
///     fn dim(&self) -> i64 {
///         4
///     }
///     fn encode(&self, x: &Tensor, _mode: Mode) -> Result<Tensor> {
///         Ok(self.0.forward(x))
///     }
/// }
///
/// let store = nn::VarStore::new(Device::Cpu);
/// let net = |path: nn::Path| Net(Linear::new(path, 8, 4, Bias::Yes));
/// let encoder = net(store.root() / Site::<Net>::ENCODER);
/// let site = Site::new(&store, &encoder, 1000, |path| Ok(Box::new(net(path))));
/// let part = |name: &str, temperature| -> Result<Part<Net, ImageViews>> {
///     let config = SimClrConfig { temperature, projector: MlpHeadConfig::projector(8, 4) };
///     let objective = Box::new(SimClr::new(&site.part(name)?, &config)?);
///     Ok(Part { name: name.to_owned(), weight: 0.5, objective })
/// };
/// let combined = Combined::new(vec![part("sharp", 0.1)?, part("soft", 1.0)?])?;
/// assert!(store.variables().contains_key("objective.soft.projector.0.weight"));
/// # Ok::<(), selfsup_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Combined<E: ?Sized, B> {
    parts: Vec<Part<E, B>>,
}

impl<E: ?Sized, B> Combined<E, B> {
    /// Joins the parts.
    ///
    /// # Errors
    /// [`Error::Config`] when there is none, a weight is not above 0, or two have the same name.
    pub fn new(parts: Vec<Part<E, B>>) -> Result<Self> {
        if parts.is_empty() {
            return Err(Error::config("parts", "[]", "at least one objective"));
        }
        for (i, part) in parts.iter().enumerate() {
            if !(part.weight > 0.0 && part.weight.is_finite()) {
                return Err(Error::config(format!("parts.{i}.weight"), part.weight, "above 0 and finite"));
            }
            if parts[..i].iter().any(|other| other.name == part.name) {
                return Err(Error::config(
                    format!("parts.{i}.name"),
                    &part.name,
                    "a name that no other part has",
                ));
            }
        }
        Ok(Combined { parts })
    }
}

impl<E: ?Sized, B> Objective<E> for Combined<E, B> {
    type Batch = B;

    fn loss(&mut self, encoder: &E, batch: &B, step: &Step) -> Result<Loss> {
        let (mut terms, mut numbers) = (Vec::new(), Vec::new());
        for Part { name, weight, objective } in &mut self.parts {
            let Loss { total, parts } = objective.loss(encoder, batch, step)?;
            numbers.push((format!("{name}.loss").into(), total.detach()));
            numbers.extend(parts.into_iter().map(|(number, x)| (format!("{name}.{number}").into(), x)));
            terms.push(total * *weight);
        }
        Ok(Loss { total: Tensor::stack(&terms, 0).sum(None), parts: numbers })
    }

    fn after_step(&mut self, store: &nn::VarStore, step: &Step) -> Result<()> {
        self.parts.iter_mut().try_for_each(|part| part.objective.after_step(store, step))
    }

    fn judge(&self, encoder: &E, batch: &B) -> Result<Judgement> {
        let mut all = Judgement::default();
        for Part { name, objective, .. } in &self.parts {
            all.extend(objective.judge(encoder, batch)?.of_part(name));
        }
        Ok(all)
    }

    fn pictures(&self, encoder: &E, batch: &B) -> Result<Option<Pictures>> {
        let mut all = Pictures::default();
        for Part { name, objective, .. } in &self.parts {
            if let Some(pictures) = objective.pictures(encoder, batch)? {
                all.extend(pictures.of_part(name));
            }
        }
        Ok((!all.sets.is_empty()).then_some(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::ema::{Buffers, Ema};
    use selfsup_core::layers::{Bias, Linear};
    use selfsup_core::{
        Device, Encoder, Kind, Mode, Number, PictureScale, PictureSet, Site, TensorExt, check_shape, tch,
    };

    #[derive(Debug)]
    struct Net(Linear);

    impl Encoder for Net {
        fn dim(&self) -> i64 {
            2
        }
        fn encode(&self, x: &Tensor, _mode: Mode) -> Result<Tensor> {
            check_shape("x", x, [-1, 3])?;
            Ok(self.0.forward(x))
        }
    }

    fn net(path: nn::Path) -> Net {
        Net(Linear::new(path, 3, 2, Bias::Yes))
    }

    /// The mean square of a head's output, less that of a teacher.
    struct Distance {
        head: Linear,
        teacher: Box<Net>,
        ema: Ema,
    }

    impl Distance {
        fn new(site: &Site<Net>) -> Result<Self> {
            let teacher = (site.twin)(site.path() / "teacher")?;
            let pairs = [("encoder", site.name("teacher"))];
            let pairs: Vec<_> = pairs.iter().map(|(student, teacher)| (*student, teacher.as_str())).collect();
            Ok(Distance {
                head: Linear::new(site.path() / "head", 2, 2, Bias::Yes),
                ema: Ema::of(site.store, &pairs, Buffers::Copy)?,
                teacher,
            })
        }
    }

    impl Objective<Net> for Distance {
        type Batch = Tensor;
        fn loss(&mut self, encoder: &Net, batch: &Tensor, _step: &Step) -> Result<Loss> {
            let target = tch::no_grad(|| self.teacher.encode(batch, Mode::Train))?;
            let z = self.head.forward(&encoder.encode(batch, Mode::Train)?);
            let loss = (&z - target).square().mean(None);
            Ok(Loss::new(loss).with("size", &z.square().mean(None)))
        }
        fn after_step(&mut self, _store: &nn::VarStore, _step: &Step) -> Result<()> {
            self.ema.update(0.5);
            Ok(())
        }
        fn judge(&self, _encoder: &Net, batch: &Tensor) -> Result<Judgement> {
            let mean = Number { name: "mean".into(), value: batch.mean(None), reading: "The mean." };
            Ok(Judgement { numbers: vec![mean], ..Judgement::of_prototypes(batch) })
        }
    }

    fn setup(weights: &[(&str, f64)]) -> (nn::VarStore, Net, Result<Combined<Net, Tensor>>) {
        tch::manual_seed(3);
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = net(store.root() / "encoder");
        let site = Site::new(&store, &encoder, 6, |path| Ok(Box::new(net(path))));
        let parts = weights.iter().map(|&(name, weight)| {
            let objective = Box::new(Distance::new(&site.part(name).unwrap()).unwrap());
            Part { name: name.to_owned(), weight, objective: objective as _ }
        });
        let combined = Combined::new(parts.collect());
        drop(site);
        (store, encoder, combined)
    }

    fn batch() -> Tensor {
        (Tensor::arange(12, (Kind::Float, Device::Cpu)) * 0.7).sin().reshape([4, 3])
    }

    fn step() -> Step<'static> {
        Step::single(0, 1, 0, 0)
    }

    #[test]
    fn is_the_weighted_sum_of_losses_and_of_gradients() {
        let (store, encoder, combined) = setup(&[("one", 0.3), ("two", 2.0)]);
        let mut combined = combined.unwrap();
        let mut expected = (0.0, Tensor::zeros([2, 3], (Kind::Float, Device::Cpu)));
        for part in &mut combined.parts {
            let loss = part.objective.loss(&encoder, &batch(), &step()).unwrap().total;
            loss.backward();
            let mut gradient = encoder.0.weight.grad();
            expected.0 += part.weight * loss.scalar().unwrap();
            expected.1 += &gradient * part.weight;
            let _ = gradient.zero_();
        }
        for x in store.trainable_variables() {
            let _ = x.grad().zero_();
        }
        let found = combined.loss(&encoder, &batch(), &step()).unwrap();
        found.total.backward();
        assert!((found.total.scalar().unwrap() - expected.0).abs() < 1e-6);
        assert!((encoder.0.weight.grad() - expected.1).abs().max().scalar().unwrap() < 1e-6);
        let names: Vec<&str> = found.parts.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(names, ["one.loss", "one.size", "two.loss", "two.size"]);
        let logged = |i: usize| found.parts[i].1.scalar().unwrap();
        assert!((0.3 * logged(0) + 2.0 * logged(2) - expected.0).abs() < 1e-6);
    }

    #[test]
    fn one_part_of_weight_one_is_that_objective() {
        let (_store, encoder, combined) = setup(&[("one", 1.0)]);
        let mut combined = combined.unwrap();
        let alone = combined.parts[0].objective.loss(&encoder, &batch(), &step()).unwrap().total;
        assert_eq!(combined.loss(&encoder, &batch(), &step()).unwrap().total, alone);
        let judged = combined.judge(&encoder, &batch()).unwrap();
        assert_eq!(judged.numbers[0].name, "one.mean");
    }

    #[test]
    fn what_the_parts_say_stands_under_their_names_in_their_order() {
        let (_store, encoder, combined) = setup(&[("one", 1.0), ("two", 1.0)]);
        let judged = combined.unwrap().judge(&encoder, &batch()).unwrap();
        let numbers: Vec<&str> = judged.numbers.iter().map(|number| number.name.as_ref()).collect();
        let prototypes: Vec<&str> = judged.prototypes.iter().map(|p| p.name.as_ref()).collect();
        assert_eq!(numbers, ["one.mean", "two.mean"]);
        assert_eq!(prototypes, ["one.prototypes", "two.prototypes"]);
        assert_eq!(judged.prototypes[1].scores, batch());
    }

    #[test]
    fn every_part_that_paints_shows_its_pictures_under_its_name() {
        let part = |name: &str, objective| Part::<Net, Tensor> { name: name.into(), weight: 1.0, objective };
        let (store, encoder, inner) = setup(&[("quiet", 1.0)]);
        drop(store);
        assert!(inner.unwrap().pictures(&encoder, &batch()).unwrap().is_none());
        let inner = Combined::new(vec![part("deep", Box::new(Painter(3.0)))]).unwrap();
        let combined = Combined::new(vec![
            part("first", Box::new(Painter(1.0))),
            part("quiet", Box::new(Nothing)),
            part("second", Box::new(Painter(2.0))),
            part("nested", Box::new(inner)),
        ]);
        let Pictures { sets } = combined.unwrap().pictures(&encoder, &batch()).unwrap().unwrap();
        let shown: Vec<(&str, f64)> =
            sets.iter().map(|set| (set.name.as_ref(), set.columns[0].1.double_value(&[0, 0]))).collect();
        assert_eq!(shown, [("first", 1.0), ("second", 2.0), ("nested.deep", 3.0)]);
    }

    /// Paints a number.
    struct Painter(f64);

    impl Objective<Net> for Painter {
        type Batch = Tensor;
        fn loss(&mut self, _encoder: &Net, batch: &Tensor, _step: &Step) -> Result<Loss> {
            Ok(Loss::new(batch.sum(None)))
        }
        fn pictures(&self, _encoder: &Net, batch: &Tensor) -> Result<Option<Pictures>> {
            let columns = vec![("painted", batch.full_like(self.0))];
            Ok(Some(PictureSet { name: "".into(), scale: PictureScale::Pixels, columns }.into()))
        }
    }

    #[test]
    fn every_part_has_its_own_variables_and_moves_its_own_teacher() {
        let (store, encoder, combined) = setup(&[("one", 1.0), ("two", 1.0)]);
        let mut combined = combined.unwrap();
        let v = store.variables();
        for name in ["objective.one.head.weight", "objective.two.head.weight", "objective.two.teacher.bias"] {
            assert!(v.contains_key(name), "{name}");
        }
        let before = encoder.0.weight.copy();
        tch::no_grad(|| drop(encoder.0.weight.shallow_clone().g_add_scalar_(1.0)));
        combined.loss(&encoder, &batch(), &step()).unwrap().total.backward();
        combined.after_step(&store, &step()).unwrap();
        for name in ["objective.one", "objective.two"] {
            let moved = &v[&format!("{name}.teacher.weight")];
            assert!((moved - &before - 0.5).abs().max().scalar().unwrap() < 1e-6, "{name}");
            assert!(!moved.grad().defined() && v[&format!("{name}.head.weight")].grad().defined());
        }
    }

    #[test]
    fn rejects_what_cannot_work() {
        let refused = |weights: &[(&str, f64)]| setup(weights).2.unwrap_err().to_string();
        assert_eq!(refused(&[]), "parts = []: at least one objective");
        assert_eq!(refused(&[("a", 1.0), ("b", 0.0)]), "parts.1.weight = 0: above 0 and finite");
        assert!(refused(&[("a", f64::NAN)]).starts_with("parts.0.weight = NaN"));
        let (_store, encoder, combined) = setup(&[("one", 1.0)]);
        let error = combined.unwrap().loss(&encoder, &batch().transpose(0, 1), &step()).unwrap_err();
        assert_eq!(error.to_string(), "x: expected [_, 3], found [3, 4]");
        let twice = || Part::<Net, Tensor> { name: "same".into(), weight: 1.0, objective: Box::new(Nothing) };
        let error = Combined::new(vec![twice(), twice()]).unwrap_err().to_string();
        assert_eq!(error, "parts.1.name = same: a name that no other part has");
    }

    struct Nothing;

    impl Objective<Net> for Nothing {
        type Batch = Tensor;
        fn loss(&mut self, _encoder: &Net, batch: &Tensor, _step: &Step) -> Result<Loss> {
            Ok(Loss::new(batch.sum(None)))
        }
    }
}
