//! SIGReg, the sketched isotropic Gaussian regularisation of LeJEPA: how far a batch is from a standard Gaussian, looked at
//! along random directions.
//!
//! Balestriero and LeCun 2025, *LeJEPA*, algorithm 1; the statistic is that of Epps and Pulley 1983. For directions a_m
//! drawn anew at every call, uniform on the sphere, and n samples z_i,
//!
//! ```text
//! SIGReg = mean over m of  n * integral from -T to T of | 1/n sum_i exp(i t a_m . z_i) - exp(-t^2 / 2) |^2 exp(-t^2 / 2) dt
//! ```
//!
//! The integral is the trapezoid rule over evenly spaced points. Its integrand is even, so that only the points from 0 on
//! are computed, as in the authors' later code: half of the arithmetic for the same number. Across ranks the inner mean is
//! that of all samples, and all ranks look along the same directions: the sum of what each draws, which is as random.

use crate::views::at_least_two;
use selfsup_core::{Communicator, Device, Error, Kind, Result, Tensor, check_shape, tch};
use serde::{Deserialize, Serialize};

/// Settings of [`SigReg`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SigRegConfig {
    /// The number of directions: 1024 in the paper's experiments, 256 in its listing.
    pub slices: i64,
    /// The points of the integral, from -limit to limit: 17 (algorithm 1 of the paper). Odd, so that 0 is one of them.
    pub points: i64,
    /// Where the integral ends: 5 (algorithm 1 of the paper). The authors' later code has 33 points up to 3.
    pub limit: f64,
}

impl Default for SigRegConfig {
    fn default() -> Self {
        SigRegConfig { slices: 1024, points: 17, limit: 5.0 }
    }
}

/// The sketched isotropic Gaussian regularisation.
#[derive(Clone, Debug)]
pub struct SigReg {
    config: SigRegConfig,
}

impl SigReg {
    /// Makes the regulariser.
    ///
    /// # Errors
    /// [`Error::Config`] with the field that cannot work.
    pub fn new(config: SigRegConfig) -> Result<Self> {
        let SigRegConfig { slices, points, limit } = config;
        if slices < 1 {
            return Err(Error::config("slices", slices, "at least 1"));
        }
        if points < 3 || points % 2 == 0 {
            return Err(Error::config("points", points, "an odd number of at least 3"));
        }
        if !(limit > 0.0 && limit.is_finite()) {
            return Err(Error::config("limit", limit, "a positive number"));
        }
        Ok(SigReg { config })
    }

    /// The mean statistic of batches of embeddings, each held to the Gaussian by itself, along directions that are drawn
    /// from libtorch's generator.
    ///
    /// # Shapes
    /// `z`: `[N, D]`, or `[V, N, D]` for V batches. Returns a scalar from 0 up; about 0.7 for Gaussian samples of any
    /// number.
    ///
    /// # Errors
    /// [`Error::Shape`] when `z` is of another shape or holds fewer than two samples.
    pub fn forward(&self, z: &Tensor, comm: &dyn Communicator) -> Result<Tensor> {
        let dim = *z.size().last().unwrap_or(&0);
        let directions = self.directions(dim, z.device(), comm)?;
        self.statistic(z, &directions, comm)
    }

    /// Directions for embeddings of `dim` features: `[D, slices]`, columns of unit length.
    pub(crate) fn directions(&self, dim: i64, device: Device, comm: &dyn Communicator) -> Result<Tensor> {
        tch::no_grad(|| {
            let drawn = Tensor::randn([dim, self.config.slices], (Kind::Float, device));
            let drawn = comm.all_reduce(&drawn)?;
            Ok(&drawn / drawn.norm_scalaropt_dim(2.0, [0], true))
        })
    }

    /// The mean statistic along given directions `[D, M]`.
    pub(crate) fn statistic(
        &self,
        z: &Tensor,
        directions: &Tensor,
        comm: &dyn Communicator,
    ) -> Result<Tensor> {
        let z = if z.dim() == 2 { z.unsqueeze(0) } else { z.shallow_clone() };
        let [_, n, _] = check_shape("z", &z, [-1, -1, directions.size()[0]])?;
        at_least_two("z", &z, n)?;
        let SigRegConfig { points, limit, .. } = self.config;
        let half = points / 2; // the steps from 0 to the limit
        let t = Tensor::linspace(0.0, limit, half + 1, (Kind::Float, z.device())); // [T]
        let gaussian = (t.square() * -0.5).exp(); // [T], the characteristic function, and the weight of the integral
        let width = limit / half as f64;
        let weights = &gaussian * (2.0 * width);
        for end in [0, half] {
            let _ = weights.narrow(0, end, 1).g_mul_scalar_(0.5);
        }
        let angles = z.to_kind(Kind::Float).matmul(directions).unsqueeze(-1) * t; // [V, N, M, T]
        let ranks = comm.world_size() as f64;
        let mean = |x: Tensor| Ok::<_, Error>(comm.all_reduce(&x.mean_dim(1, false, None))? / ranks);
        let (real, imaginary) = (mean(angles.cos())?, mean(angles.sin())?); // [V, M, T] each
        let distance = (real - gaussian).square() + imaginary.square(); // [V, M, T]
        Ok(distance.matmul(&weights).mean(None) * (n as f64 * ranks))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use selfsup_core::{SingleProcess, TensorExt};

    fn along(z: &Tensor, points: i64, limit: f64) -> Tensor {
        let a = wave(&[3, 4], 2.0).detach();
        let directions = &a / a.norm_scalaropt_dim(2.0, [0], true);
        let sig_reg = SigReg::new(SigRegConfig { slices: 4, points, limit }).unwrap();
        sig_reg.statistic(z, &directions, &SingleProcess).unwrap()
    }

    #[test]
    fn equals_the_papers_integral_point_by_point() {
        let (z, a) = (wave(&[5, 3], 0.0), wave(&[3, 4], 2.0));
        let mut naive = 0.0;
        for m in 0..4 {
            let length = (0..3).map(|j| a.double_value(&[j, m]).powi(2)).sum::<f64>().sqrt();
            let along = |i: i64| {
                (0..3).map(|j| z.double_value(&[i, j]) * a.double_value(&[j, m]) / length).sum::<f64>()
            };
            for k in 0..17 {
                let t = -5.0 + 10.0 * f64::from(k) / 16.0;
                let real = (0..5).map(|i| (t * along(i)).cos()).sum::<f64>() / 5.0;
                let imaginary = (0..5).map(|i| (t * along(i)).sin()).sum::<f64>() / 5.0;
                let gaussian = (-t * t / 2.0).exp();
                let end = if k == 0 || k == 16 { 0.5 } else { 1.0 };
                let integrand = ((real - gaussian).powi(2) + imaginary.powi(2)) * gaussian;
                naive += 5.0 * end * (10.0 / 16.0) * integrand / 4.0;
            }
        }
        assert_close("statistic", &along(&z, 17, 5.0), &[naive], 1e-5);
    }

    #[test]
    fn equals_the_papers_listing_and_the_authors_later_code_forward_and_backward() {
        // def f(n, d, s): i = torch.arange(float(n * d)); return (i * i * 0.37 + s).sin().reshape(n, d)
        // A = f(3, 4, 2.); A = A / A.norm(p=2, dim=0); z = f(5, 3, 0.).requires_grad_()
        // t = torch.linspace(-5, 5, 17); e = torch.exp(-.5 * t**2); ecf = (1j * (z @ A).unsqueeze(2) * t).exp().mean(0)
        // l = (torch.trapz((ecf - e).abs().square() * e, t, dim=1) * 5).mean(); l.backward()
        let z = wave(&[5, 3], 0.0);
        let l = along(&z, 17, 5.0);
        l.backward();
        assert_close("listing", &l, &[0.979_453_03], 1e-5);
        let expected = [
            0.040_681_78,
            -0.547_297_72,
            -0.139_182_15,
            -0.000_348_33,
            -0.145_429_03,
            0.079_995_54,
            -0.158_181_73,
            0.122_649_71,
            0.005_968_46,
            0.266_215_09,
            -0.097_325_35,
            0.065_603_27,
            -0.053_912_65,
            -0.146_778_05,
            0.097_404_68,
        ];
        assert_close("gradient", &z.grad(), &expected, 1e-5);
        // lejepa.univariate.EppsPulley(t_max=3, n_points=17)(z @ A).mean()
        let z = wave(&[5, 3], 0.0);
        let l = along(&z, 33, 3.0);
        l.backward();
        assert_close("later code", &l, &[0.969_177_13], 1e-5);
        let expected = [
            0.035_871_19,
            -0.542_826_95,
            -0.138_842_67,
            0.003_320_15,
            -0.146_899_72,
            0.077_775_69,
            -0.155_919_55,
            0.120_327_06,
            0.009_343_77,
            0.262_964_99,
            -0.099_753_31,
            0.063_806_22,
            -0.051_748_22,
            -0.144_849_94,
            0.097_588_24,
        ];
        assert_close("gradient", &z.grad(), &expected, 1e-5);
    }

    #[test]
    fn a_point_mass_at_zero_costs_its_integral_for_every_sample() {
        // The empirical function is 1 then: n * integral of (1 - e^(-t^2/2))^2 e^(-t^2/2) dt, over all numbers
        // n sqrt(2 pi) (1 - sqrt 2 + 1 / sqrt 3).
        let z = Tensor::zeros([7, 3], (Kind::Float, Device::Cpu));
        let exact = 7.0 * (2.0 * std::f64::consts::PI).sqrt() * (1.0 - 2.0_f64.sqrt() + 1.0 / 3.0_f64.sqrt());
        assert!((along(&z, 101, 8.0).scalar().unwrap() - exact).abs() < 1e-3);
    }

    #[test]
    fn gaussian_samples_cost_what_their_chance_is_and_others_more() {
        // The expectation is the integral of (1 - e^(-t^2)) e^(-t^2/2) dt = sqrt(2 pi) (1 - 1 / sqrt 3), for any n.
        let expected = (2.0 * std::f64::consts::PI).sqrt() * (1.0 - 1.0 / 3.0_f64.sqrt());
        let sig_reg = SigReg::new(SigRegConfig { slices: 128, ..SigRegConfig::default() }).unwrap();
        let of = |z: &Tensor| sig_reg.forward(z, &SingleProcess).unwrap().scalar().unwrap();
        let z = Tensor::randn([100, 64, 8], (Kind::Float, Device::Cpu));
        assert!((of(&z) - expected).abs() < 0.15, "{}", of(&z));
        assert!(of(&(&z * 2.0)) > 2.0 * expected);
        assert!(of(&(&z + 1.0)) > 2.0 * expected);
    }

    #[test]
    fn its_gradient_spreads_a_batch_near_collapse_to_a_gaussian_around_zero() {
        let z = (wave(&[64, 3], 0.0).detach() * 0.3 + 0.5).set_requires_grad(true);
        let sig_reg = SigReg::new(SigRegConfig { slices: 64, ..SigRegConfig::default() }).unwrap();
        let mut last = f64::NAN;
        for _ in 0..300 {
            let mut z = z.shallow_clone();
            z.zero_grad();
            let loss = sig_reg.forward(&z, &SingleProcess).unwrap();
            loss.backward();
            last = loss.scalar().unwrap();
            tch::no_grad(|| drop(z.g_sub_(&z.grad())));
        }
        assert!(last < 0.1, "{last}");
        assert!(z.mean_dim(0, false, None).abs().max().scalar().unwrap() < 0.1);
        assert!((z.std_dim(0, true, false) - 1.0).abs().max().scalar().unwrap() < 0.1);
    }

    #[test]
    fn two_ranks_equal_one_with_the_whole_batch() {
        let directions = wave(&[3, 4], 2.0).detach();
        assert_two_ranks_equal_one(&|z0, z1, comm| {
            let sig_reg = SigReg::new(SigRegConfig { slices: 4, ..SigRegConfig::default() }).unwrap();
            sig_reg.statistic(&Tensor::stack(&[z0, z1], 0), &directions, comm).unwrap()
        });
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let sig_reg = SigReg::new(SigRegConfig::default()).unwrap();
        let error = sig_reg.forward(&wave(&[1, 3], 0.0), &SingleProcess).unwrap_err().to_string();
        assert_eq!(error, "z: expected at least 2 samples, found [1, 1, 3]");
        let error = sig_reg.forward(&wave(&[6], 0.0), &SingleProcess).unwrap_err().to_string();
        assert_eq!(error, "z: expected [_, _, 6], found [6]");
        let refuse = |config| SigReg::new(config).unwrap_err().to_string();
        let config = SigRegConfig::default();
        assert_eq!(refuse(SigRegConfig { slices: 0, ..config.clone() }), "slices = 0: at least 1");
        let error = refuse(SigRegConfig { points: 16, ..config.clone() });
        assert_eq!(error, "points = 16: an odd number of at least 3");
        assert_eq!(refuse(SigRegConfig { limit: -1.0, ..config }), "limit = -1: a positive number");
    }
}
