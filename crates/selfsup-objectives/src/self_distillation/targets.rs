//! What a teacher's logits become before a student learns them: sharp, and kept from collapsing onto one output.

use selfsup_core::{Communicator, Error, Result, Tensor, nn, tch};
use selfsup_numerics::{SinkhornConfig, sinkhorn};
use serde::{Deserialize, Serialize};

/// Settings of [`DinoLoss`](super::dino_loss::DinoLoss) and of iBOT's loss of patches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DinoLossConfig {
    /// The temperature of the student. 0.1 (section 3.1 of DINO's paper).
    pub student_temperature: f64,
    /// The temperature of the teacher over the epochs.
    pub teacher_temperature: TeacherTemperature,
    /// What keeps the teacher from giving every image the same output.
    pub centring: Centring,
    /// The momentum of the centre. 0.9 (appendix D); Sinkhorn's algorithm has no use for it.
    pub centre_momentum: f64,
}

impl Default for DinoLossConfig {
    fn default() -> Self {
        DinoLossConfig {
            student_temperature: 0.1,
            teacher_temperature: TeacherTemperature::default(),
            centring: Centring::Mean,
            centre_momentum: 0.9,
        }
    }
}

/// A temperature that rises linearly, epoch by epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TeacherTemperature {
    /// In the first epoch. 0.04 (section 3.1 of DINO's paper).
    pub start: f64,
    /// From the last epoch of the warm-up on. 0.07 (section 3.1).
    pub end: f64,
    /// The epochs of the warm-up. 30 (section 3.1).
    pub warmup_epochs: u64,
}

impl Default for TeacherTemperature {
    fn default() -> Self {
        TeacherTemperature { start: 0.04, end: 0.07, warmup_epochs: 30 }
    }
}

impl TeacherTemperature {
    /// The temperature of an epoch, counted from 0.
    pub fn at(&self, epoch: u64) -> f64 {
        if epoch + 1 >= self.warmup_epochs {
            return if self.warmup_epochs == 1 && epoch == 0 { self.start } else { self.end };
        }
        self.start + (self.end - self.start) * epoch as f64 / (self.warmup_epochs - 1) as f64
    }
}

/// What keeps a teacher from giving every input the same output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Centring {
    /// A moving average of the logits is subtracted from them (DINO, section 3.1).
    Mean,
    /// Every output gets the same share of the batch, by three rounds of Sinkhorn's algorithm (DINOv2, section 4).
    SinkhornKnopp,
}

/// Makes targets of a teacher's logits.
#[derive(Debug)]
pub(crate) struct Targets {
    config: DinoLossConfig,
    /// `[K]`
    centre: Tensor,
}

impl Targets {
    /// Keeps the centre, zeros at first, under `path`.
    pub(crate) fn new(path: &nn::Path, outputs: i64, config: &DinoLossConfig) -> Result<Self> {
        let TeacherTemperature { start, end, .. } = config.teacher_temperature;
        for (name, temperature) in [
            ("student_temperature", config.student_temperature),
            ("teacher_temperature.start", start),
            ("teacher_temperature.end", end),
        ] {
            if !(temperature > 0.0 && temperature.is_finite()) {
                return Err(Error::config(name, temperature, "a positive number"));
            }
        }
        if !(0.0..1.0).contains(&config.centre_momentum) {
            return Err(Error::config("centre_momentum", config.centre_momentum, "at least 0 and below 1"));
        }
        if outputs < 1 {
            return Err(Error::config("outputs", outputs, "at least 1"));
        }
        Ok(Targets { config: config.clone(), centre: path.zeros_no_train("centre", &[outputs]) })
    }

    /// The number of outputs, `K`.
    pub(crate) fn outputs(&self) -> i64 {
        self.centre.size()[0]
    }

    /// What a student's logits `[..., K]` say, as logarithms of probabilities.
    pub(crate) fn log_student(&self, logits: &Tensor) -> Tensor {
        (logits / self.config.student_temperature).log_softmax(-1, logits.kind())
    }

    /// The targets of a teacher's logits, `[R, K]` to the same. Sinkhorn's algorithm balances those of all ranks
    /// in `comm`, of which each may have another number of rows.
    pub(crate) fn of(&self, logits: &Tensor, epoch: u64, comm: &dyn Communicator) -> Result<Tensor> {
        let temperature = self.config.teacher_temperature.at(epoch);
        tch::no_grad(|| match self.config.centring {
            Centring::Mean => Ok(((logits - &self.centre) / temperature).softmax(-1, logits.kind())),
            Centring::SinkhornKnopp => {
                let (all, first) = rows_of_all_ranks(logits, comm)?; // [sum R, K]
                if all.size()[0] == 0 {
                    return Ok(all);
                }
                let config = SinkhornConfig { epsilon: temperature, iterations: 3 };
                Ok(sinkhorn(&all, &config)?.narrow(0, first, logits.size()[0]))
            }
        })
    }

    /// Moves the centre towards the mean of a teacher's logits `[R, K]`, those of all ranks.
    pub(crate) fn update(&self, logits: &Tensor, comm: &dyn Communicator) -> Result<()> {
        if self.config.centring == Centring::SinkhornKnopp || logits.size()[0] == 0 {
            return Ok(());
        }
        tch::no_grad(|| {
            let mean = logits.mean_dim([0_i64].as_slice(), false, None); // [K]
            let mean = comm.all_reduce(&mean)? / comm.world_size() as f64;
            let _ = self.centre.shallow_clone().lerp_(&mean, 1.0 - self.config.centre_momentum);
            Ok(())
        })
    }
}

/// The rows `[R, K]` of all ranks, in rank order, and the place of this rank's first.
fn rows_of_all_ranks(x: &Tensor, comm: &dyn Communicator) -> Result<(Tensor, i64)> {
    if comm.world_size() == 1 {
        return Ok((x.shallow_clone(), 0));
    }
    let count = Tensor::from_slice(&[x.size()[0]]).to_device(x.device());
    let counts = Vec::<i64>::try_from(comm.gather(&count)?)?; // W
    let most = counts.iter().copied().max().unwrap_or(0);
    let padded = x.constant_pad_nd([0, 0, 0, most - x.size()[0]]);
    let all = comm.gather(&padded)?.view([comm.world_size(), most, x.size()[1]]); // [W, most, K]
    let rows: Vec<Tensor> =
        counts.iter().enumerate().map(|(rank, &count)| all.get(rank as i64).narrow(0, 0, count)).collect();
    Ok((Tensor::cat(&rows, 0), counts.iter().take(comm.rank() as usize).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clustering::tiny::{TwoRanks, waves};
    use crate::self_distillation::tiny::assert_near;
    use selfsup_core::{Device, Kind, SingleProcess, TensorExt};
    use std::sync::{Barrier, Mutex};

    fn targets(centring: Centring) -> (nn::VarStore, Targets) {
        let store = nn::VarStore::new(Device::Cpu);
        let config = DinoLossConfig { centring, ..Default::default() };
        let targets = Targets::new(&store.root(), 5, &config).unwrap();
        (store, targets)
    }

    // print(np.linspace(0.04, 0.07, 4))
    #[test]
    fn the_temperature_rises_as_in_the_authors_schedule() {
        let warm = TeacherTemperature { start: 0.04, end: 0.07, warmup_epochs: 4 };
        for (epoch, expected) in [(0, 0.04), (1, 0.05), (2, 0.06), (3, 0.07), (4, 0.07), (100, 0.07)] {
            assert!((warm.at(epoch) - expected).abs() < 1e-12, "{epoch}");
        }
        let none = TeacherTemperature { warmup_epochs: 0, ..warm.clone() };
        assert_eq!(none.at(0), 0.07);
        // np.linspace(0.04, 0.07, 1) is [0.04].
        let one = TeacherTemperature { warmup_epochs: 1, ..warm };
        assert_eq!((one.at(0), one.at(1)), (0.04, 0.07));
    }

    // def sinkhorn_knopp(logits, temperature):  # DINOv2's, on one process
    //     q = torch.exp(logits / temperature).t(); b, k = q.shape[1], q.shape[0]; q /= q.sum()
    //     for _ in range(3):
    //         q /= q.sum(1, keepdim=True); q /= k
    //         q /= q.sum(0, keepdim=True); q /= b
    //     return (q * b).t()
    // print(sinkhorn_knopp(wave([4, 5]) * 0.3, 0.04))
    #[test]
    fn sinkhorn_equals_dinov2s() {
        let (_store, targets) = targets(Centring::SinkhornKnopp);
        let found = targets.of(&(waves(&[4, 5], 0.0) * 0.3), 0, &SingleProcess).unwrap();
        assert_near(
            &found,
            &[
                0.0033543, 0.0487865, 0.4214924, 0.5229983, 0.0033684, 0.4320034, 0.0010081, 0.0002933,
                0.0126805, 0.5540146, 0.3635672, 0.5054246, 0.1240561, 0.0069383, 1.37e-05, 0.0001077,
                5.9e-06, 5.94e-05, 0.0244517, 0.9753753,
            ],
        );
    }

    #[test]
    fn two_ranks_come_to_what_one_process_with_both_batches_comes_to() {
        let logits = waves(&[8, 5], 0.3);
        for centring in [Centring::Mean, Centring::SinkhornKnopp] {
            let (_store, alone) = targets(centring);
            alone.update(&logits, &SingleProcess).unwrap();
            let expected = alone.of(&logits, 0, &SingleProcess).unwrap();
            let [a, b] = TwoRanks::play(|ranks| {
                let (_store, one) = targets(centring);
                let mine = logits.narrow(0, 4 * ranks.rank, 4);
                one.update(&mine, ranks).unwrap();
                one.of(&mine, 0, ranks).unwrap()
            });
            let difference = (Tensor::cat(&[a, b], 0) - expected).abs().max().scalar().unwrap();
            assert!(difference < 1e-5, "{centring:?}: {difference}");
        }
    }

    /// Where two threads that are ranks meet: what one says next may depend on what it has heard.
    struct Table {
        said: Mutex<[Option<Tensor>; 2]>,
        all_spoke: Barrier,
    }

    struct Seat<'a> {
        rank: i64,
        table: &'a Table,
    }

    impl Communicator for Seat<'_> {
        fn rank(&self) -> i64 {
            self.rank
        }

        fn world_size(&self) -> i64 {
            2
        }

        fn gather(&self, x: &Tensor) -> Result<Tensor> {
            self.table.said.lock().unwrap()[self.rank as usize] = Some(x.detach());
            self.table.all_spoke.wait();
            let heard =
                Tensor::cat(&self.table.said.lock().unwrap().each_ref().map(|x| x.as_ref().unwrap()), 0);
            self.table.all_spoke.wait();
            Ok(heard)
        }

        fn all_reduce(&self, x: &Tensor) -> Result<Tensor> {
            Ok(self.gather(&x.unsqueeze(0))?.sum_dim_intlist(0, false, None))
        }
    }

    #[test]
    fn ranks_with_other_numbers_of_rows_are_balanced_together() {
        let logits = waves(&[7, 5], 0.3);
        let (_store, alone) = targets(Centring::SinkhornKnopp);
        let expected = alone.of(&logits, 0, &SingleProcess).unwrap();
        for first in [0, 2, 7] {
            let table = Table { said: Mutex::default(), all_spoke: Barrier::new(2) };
            let parts = std::thread::scope(|scope| {
                let ranks = [logits.narrow(0, 0, first), logits.narrow(0, first, 7 - first)];
                let ranks = [0, 1].into_iter().zip(ranks).map(|(rank, mine)| {
                    let seat = Seat { rank, table: &table };
                    scope.spawn(move || {
                        let (_store, one) = targets(Centring::SinkhornKnopp);
                        one.of(&mine, 0, &seat).unwrap()
                    })
                });
                let ranks: Vec<_> = ranks.collect();
                ranks.into_iter().map(|rank| rank.join().unwrap()).collect::<Vec<_>>()
            });
            let difference = (Tensor::cat(&parts, 0) - &expected).abs().max().scalar().unwrap();
            assert!(difference < 1e-5, "{first} rows on the first rank: {difference}");
        }
        let none = Tensor::zeros([0, 5], (Kind::Float, Device::Cpu));
        assert_eq!(alone.of(&none, 0, &SingleProcess).unwrap().size(), [0, 5]);
    }

    #[test]
    fn rejects_settings_that_cannot_work() {
        let store = nn::VarStore::new(Device::Cpu);
        let refused = |config| Targets::new(&store.root(), 5, &config).unwrap_err().to_string();
        let cold = TeacherTemperature { end: 0.0, ..Default::default() };
        let config = DinoLossConfig { teacher_temperature: cold, ..Default::default() };
        assert_eq!(refused(config), "teacher_temperature.end = 0: a positive number");
        let config = DinoLossConfig { centre_momentum: 1.0, ..Default::default() };
        assert_eq!(refused(config), "centre_momentum = 1: at least 0 and below 1");
    }
}
