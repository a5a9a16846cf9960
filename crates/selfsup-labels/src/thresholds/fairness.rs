//! FreeMatch's self-adaptive fairness (Wang et al. 2023, section 4.2): a loss that keeps predictions diverse without
//! assuming that all classes are equally frequent.
//!
//! ```text
//! p_ = mean of the predictions on strong views that are kept        h_ = shares of the classes among them
//! L = -H(SumNorm(p~ / h~), SumNorm(p_ / h_)) = sum_c SumNorm(p~ / h~)_c log SumNorm(p_ / h_)_c
//! ```
//! `p~` and `h~` are the running mean and class shares of the weak views. A class without predictions has no term in its
//! normalised ratio, as in the authors' code (USB). USB weighs the loss by 0.01.

use selfsup_core::{Error, Kind, Result, Tensor, check_shape};

/// The fairness term, `[]`, with gradient to the logits whose weight is above 0; the shares `h_` carry none. Without such
/// logits it is 0.
///
/// # Shapes
/// `strong` logits `[N, C]`, `weights` `[N]`, `model` and `histogram` `[C]`, on one device.
///
/// # Errors
/// When the shapes do not fit, or a logit is not finite.
pub fn self_adaptive_fairness(
    strong: &Tensor,
    weights: &Tensor,
    model: &Tensor,
    histogram: &Tensor,
) -> Result<Tensor> {
    let [n, classes] = check_shape("strong", strong, [-1, -1])?;
    check_shape("weights", weights, [n])?;
    check_shape("model", model, [classes])?;
    check_shape("histogram", histogram, [classes])?;
    if !bool::try_from(strong.isfinite().all())? {
        return Err(Error::NonFinite {
            what: "strong".to_owned(),
            detail: "the logits of strongly augmented views".to_owned(),
        });
    }
    let kept = weights.gt(0.0).nonzero().squeeze_dim(1); // [K]
    if kept.size()[0] == 0 {
        return Ok(Tensor::zeros([], (Kind::Float, strong.device())));
    }
    let p = strong.index_select(0, &kept).softmax(1, Kind::Float); // [K, C]
    let counts = p.argmax(1, false).bincount(None::<Tensor>, classes).to_kind(Kind::Float);
    let shares = counts / kept.size()[0] as f64; // [C]
    let target = sum_norm(model.detach(), &histogram.detach());
    let predicted = sum_norm(p.mean_dim([0].as_slice(), false, Kind::Float), &shares);
    Ok((target * (predicted + 1e-12).log()).sum(Kind::Float))
}

/// `p / h`, 0 where `h` is 0, scaled to sum 1.
fn sum_norm(p: Tensor, h: &Tensor) -> Tensor {
    let inverse = h.reciprocal().masked_fill(&h.eq(0.0), 0.0);
    let ratio = p * inverse;
    let sum = ratio.sum(Kind::Float);
    ratio / sum
}

#[cfg(test)]
mod tests {
    use super::super::course::{assert_near, logits};
    use super::*;
    use selfsup_core::{Device, TensorExt};

    fn vector(values: &[f32]) -> Tensor {
        Tensor::from_slice(values)
    }

    // The values of its 20 steps stand in freematch.rs; this is the gradient at the last one:
    // s = (logits(119) * 0.05).requires_grad_(); ps = s.softmax(1); ...; fairness.backward(); s.grad[0], s.grad.norm()
    #[test]
    fn has_the_gradient_of_the_authors_code() {
        let strong = (logits(119) * 0.05).set_requires_grad(true);
        let model = vector(&[0.31262216, 0.22146595, 0.1995337, 0.26637796]);
        let histogram = vector(&[0.35566282, 0.19777268, 0.18559444, 0.26096988]);
        let all = Tensor::ones([8], (Kind::Float, Device::Cpu));
        let loss = self_adaptive_fairness(&strong, &all, &model, &histogram).unwrap();
        assert_near(&loss, &[-1.412938], 1e-5);
        loss.backward();
        let row = strong.grad().get(0);
        assert_near(&row, &[7.782178e-5, 0.007596669, -0.0006699513, -0.007004539], 1e-6);
        assert_near(&strong.grad().norm(), &[0.0512387789785862], 1e-5);
    }

    #[test]
    fn equals_a_loop_over_classes() {
        let strong = logits(3);
        let keep = [true, false, true, true, false, true, true, false];
        let (model, histogram) = ([0.4_f32, 0.3, 0.2, 0.1], [0.5_f32, 0.25, 0.25, 0.0]);
        let p = strong.softmax(1, Kind::Double);
        let (mut mean, mut shares) = ([0.0; 4], [0.0; 4]);
        for i in (0..8).filter(|&i| keep[i as usize]) {
            let row = Vec::<f64>::try_from(p.get(i)).unwrap();
            let best = (0..4).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
            shares[best] += 1.0 / 5.0;
            (0..4).for_each(|c| mean[c] += row[c] / 5.0);
        }
        let ratio = |p: f64, h: f64| if h == 0.0 { 0.0 } else { p / h };
        let target: Vec<f64> = (0..4).map(|c| ratio(f64::from(model[c]), f64::from(histogram[c]))).collect();
        let predicted: Vec<f64> = (0..4).map(|c| ratio(mean[c], shares[c])).collect();
        let expected: f64 = (0..4)
            .map(|c| {
                let q = predicted[c] / predicted.iter().sum::<f64>();
                target[c] / target.iter().sum::<f64>() * (q + 1e-12).ln()
            })
            .sum();
        let weights = Tensor::from_slice(&keep).to_kind(Kind::Float);
        let loss = self_adaptive_fairness(&strong, &weights, &vector(&model), &vector(&histogram)).unwrap();
        assert!((loss.scalar().unwrap() - expected).abs() < 1e-4, "{loss:?} instead of {expected}");
    }

    #[test]
    fn is_zero_where_nothing_is_kept_and_gives_no_gradient_to_what_is_not() {
        let strong = logits(3).set_requires_grad(true);
        let uniform = vector(&[0.25; 4]);
        let none = Tensor::zeros([8], (Kind::Float, Device::Cpu));
        let loss = self_adaptive_fairness(&strong, &none, &uniform, &uniform).unwrap();
        assert_eq!(loss.scalar().unwrap(), 0.0);
        let half = vector(&[1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        self_adaptive_fairness(&strong, &half, &uniform, &uniform).unwrap().backward();
        let gradient = strong.grad();
        assert_eq!(gradient.narrow(0, 4, 4).abs().max().scalar().unwrap(), 0.0);
        assert!(gradient.narrow(0, 0, 4).abs().min().scalar().unwrap() > 0.0);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let uniform = vector(&[0.25; 4]);
        let error = |strong: &Tensor, weights: i64| {
            let weights = Tensor::ones([weights], (Kind::Float, Device::Cpu));
            self_adaptive_fairness(strong, &weights, &uniform, &uniform).unwrap_err().to_string()
        };
        assert_eq!(error(&logits(0), 7), "weights: expected [8], found [7]");
        assert_eq!(error(&logits(0).narrow(1, 0, 3), 8), "model: expected [3], found [4]");
        assert!(error(&(logits(0) / 0.0), 8).starts_with("strong is not finite"));
    }
}
