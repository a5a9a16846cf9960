//! How much several predictions of a sample agree: of views of it (consistency under augmentation), or of an ensemble of
//! models or heads (Lakshminarayanan et al. 2017; Depeweg et al. 2018 for the parts of the entropy).
//!
//! ```text
//! p_ = mean_k p_k        H[p_] = mean_k H[p_k] + I        I = mean_k KL(p_k || p_)
//! ```
//! `H[p_]` is all uncertainty, `mean H[p_k]` what each member has by itself, and the mutual information `I` what they
//! disagree about; it is the Jensen-Shannon divergence of the members, at most `ln min(K, C)`. All in nats.

use crate::ProbabilityStack;
use selfsup_core::{Kind, Probabilities, Result, Tensor};

/// What several predictions of the same samples have in common.
#[derive(Debug)]
pub struct Agreement {
    /// The mean of the predictions, `[N, C]`.
    pub mean: Probabilities,
    /// Its most probable class, `[N]` Int64.
    pub labels: Tensor,
    /// The share of members for which this class is the most probable, `[N]` Float.
    pub agreement: Tensor,
    /// The entropy of the mean in nats, `[N]` Float: all uncertainty.
    pub entropy: Tensor,
    /// The part of it that is disagreement, in nats, `[N]` Float: mutual information of prediction and member, also the
    /// Jensen-Shannon divergence.
    pub mutual_information: Tensor,
    /// The mean of `KL(p_j || p_k)` over all pairs of different members, in nats, `[N]` Float: infinite where one rules
    /// out a class that another does not; 0 of one member.
    pub mean_kl: Tensor,
}

impl Agreement {
    /// Compares the members of a stack `[K, N, C]`.
    ///
    /// # Errors
    /// None but libtorch's.
    pub fn of(stack: &ProbabilityStack) -> Result<Agreement> {
        let mean = stack.mean()?;
        let labels = mean.tensor().argmax(1, false); // [N]
        let p = stack.tensor().to_kind(Kind::Double); // [K, N, C]
        let k = p.size()[0];
        let agreement = p.argmax(2, false).eq_tensor(&labels).to_kind(Kind::Float);
        let entropy = entropy(&p.mean_dim([0].as_slice(), false, Kind::Double)); // [N]
        let mutual_information =
            (&entropy - self::entropy(&p).mean_dim([0].as_slice(), false, Kind::Double)).clamp_min(0.0);
        let mut mean_kl = entropy.zeros_like();
        for i in 0..k {
            for j in (0..k).filter(|&j| j != i) {
                mean_kl += kl(&p.get(i), &p.get(j));
            }
        }
        mean_kl /= (k * (k - 1)).max(1) as f64;
        Ok(Agreement {
            mean,
            labels,
            agreement: agreement.mean_dim([0].as_slice(), false, Kind::Float),
            entropy: entropy.to_kind(Kind::Float),
            mutual_information: mutual_information.to_kind(Kind::Float),
            mean_kl: mean_kl.clamp_min(0.0).to_kind(Kind::Float),
        })
    }
}

/// Over the last dimension; `0 ln 0 = 0`.
fn entropy(p: &Tensor) -> Tensor {
    -p.special_xlogy(p).sum_dim_intlist([-1].as_slice(), false, Kind::Double)
}

fn kl(p: &Tensor, q: &Tensor) -> Tensor {
    (p.special_xlogy(p) - p.special_xlogy(q)).sum_dim_intlist([-1].as_slice(), false, Kind::Double)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Device;

    fn agreement(members: &[[[f32; 3]; 2]]) -> Agreement {
        let members: Vec<_> =
            members.iter().map(|m| Probabilities::new(&Tensor::from_slice2(m)).unwrap()).collect();
        Agreement::of(&ProbabilityStack::new(&members).unwrap()).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f64> {
        Vec::<f64>::try_from(x).unwrap()
    }

    const MEMBERS: [[[f32; 3]; 2]; 3] = [
        [[0.7, 0.2, 0.1], [0.2, 0.3, 0.5]],
        [[0.6, 0.1, 0.3], [0.5, 0.3, 0.2]],
        [[0.5, 0.25, 0.25], [0.1, 0.3, 0.6]],
    ];

    #[test]
    fn equals_the_definitions_in_a_loop() {
        let found = agreement(&MEMBERS);
        for i in 0..2 {
            let p: Vec<Vec<f64>> =
                MEMBERS.iter().map(|m| m[i].iter().map(|&v| f64::from(v)).collect()).collect();
            let h = |p: &[f64]| -p.iter().map(|p| p * p.ln()).sum::<f64>();
            let kl = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
            let mean: Vec<f64> = (0..3).map(|c| p.iter().map(|p| p[c]).sum::<f64>() / 3.0).collect();
            let information = p.iter().map(|p| kl(p, &mean)).sum::<f64>() / 3.0;
            let pairs = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
            let mean_kl = pairs.iter().map(|&(a, b)| kl(&p[a], &p[b])).sum::<f64>() / 6.0;
            assert!((values(&found.entropy)[i] - h(&mean)).abs() < 1e-6);
            assert!((values(&found.mutual_information)[i] - information).abs() < 1e-6);
            assert!((values(&found.mean_kl)[i] - mean_kl).abs() < 1e-6);
        }
        assert_eq!(Vec::<i64>::try_from(&found.labels).unwrap(), [0, 2]);
        assert!(values(&found.agreement).iter().zip([1.0, 2.0 / 3.0]).all(|(a, e)| (a - e).abs() < 1e-6));
    }

    // p = np.array(MEMBERS); m = p.mean(0)
    // scipy.stats.entropy(m, axis=-1); scipy.stats.entropy(m, axis=-1) - scipy.stats.entropy(p, axis=-1).mean(0)
    // scipy.spatial.distance.jensenshannon(p[0], p[1], axis=-1) ** 2
    #[test]
    fn agrees_with_scipy() {
        let found = agreement(&MEMBERS);
        let near = |x: &Tensor, expected: [f64; 2]| {
            assert!(values(x).iter().zip(expected).all(|(a, e)| (a - e).abs() < 1e-6), "{x:?}");
        };
        near(&found.entropy, SCIPY_ENTROPY);
        near(&found.mutual_information, SCIPY_INFORMATION);
        near(&agreement(&MEMBERS[..2]).mutual_information, SCIPY_JENSEN_SHANNON);
    }

    const SCIPY_ENTROPY: [f64; 2] = [0.9488800384, 1.076034209];
    const SCIPY_INFORMATION: [f64; 2] = [0.03571835561, 0.09028362478];
    const SCIPY_JENSEN_SHANNON: [f64; 2] = [0.03658233698, 0.06641431438];

    #[test]
    fn the_order_of_members_does_not_matter() {
        let (a, b) = (agreement(&MEMBERS), agreement(&[MEMBERS[2], MEMBERS[0], MEMBERS[1]]));
        assert!(values(&a.mean_kl).iter().zip(values(&b.mean_kl)).all(|(a, b)| (a - b).abs() < 1e-6));
        assert_eq!(a.agreement, b.agreement);
    }

    #[test]
    fn opposite_members_disagree_by_the_bound_and_equal_ones_not_at_all() {
        let opposite = agreement(&[[[1.0, 0.0, 0.0]; 2], [[0.0, 1.0, 0.0]; 2]]);
        assert!((values(&opposite.mutual_information)[0] - 2_f64.ln()).abs() < 1e-6);
        assert!(values(&opposite.mean_kl)[0].is_infinite());
        assert_eq!(values(&opposite.agreement)[0], 0.5);
        let equal = agreement(&[MEMBERS[0], MEMBERS[0]]);
        assert_eq!((values(&equal.mutual_information), values(&equal.mean_kl)), (vec![0.0; 2], vec![0.0; 2]));
    }

    #[test]
    fn takes_one_member_no_samples_and_one_class() {
        let one = agreement(&MEMBERS[..1]);
        assert_eq!((values(&one.mutual_information), values(&one.mean_kl)), (vec![0.0; 2], vec![0.0; 2]));
        let of =
            |shape: [i64; 2]| Probabilities::new(&Tensor::ones(shape, (Kind::Float, Device::Cpu))).unwrap();
        let none = ProbabilityStack::new(&[of([0, 3]), of([0, 3])]).unwrap();
        assert_eq!(Agreement::of(&none).unwrap().mean_kl.size(), [0]);
        let single = ProbabilityStack::new(&[of([1, 1]), of([1, 1])]).unwrap();
        assert_eq!(values(&Agreement::of(&single).unwrap().entropy), [0.0]);
    }
}
