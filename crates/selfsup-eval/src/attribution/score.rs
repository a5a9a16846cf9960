//! The functions that are explained, and their gradients.

use selfsup_core::{Error, Kind, Result, Tensor, check_kind, check_shape};

/// A function from inputs `[N, ...]` to one score each, `[N]`. The score of an input may not depend on the others of its batch.
pub type ScoreFunction<'a> = dyn Fn(&Tensor) -> Result<Tensor> + 'a;

/// A function from inputs `[N, ...]` to a map of features `[N, C, H, W]`, and the scores `[N]` that are made from the map.
pub type MapFunction<'a> = dyn Fn(&Tensor) -> Result<(Tensor, Tensor)> + 'a;

/// Checks inputs that are to be explained: Float, finite, at least one.
pub(crate) fn check_inputs(name: &str, x: &Tensor) -> Result<i64> {
    check_kind(name, x, Kind::Float)?;
    let n = x.size().first().copied().unwrap_or(0);
    if n == 0 || x.numel() == 0 {
        return Err(Error::config(name, format!("{:?}", x.size()), "at least one input that is not empty"));
    }
    check_finite(name, x)?;
    Ok(n)
}

pub(crate) fn check_finite(name: &str, x: &Tensor) -> Result<()> {
    if bool::try_from(x.isfinite().all())? {
        return Ok(());
    }
    Err(Error::NonFinite { what: name.to_owned(), detail: "at least one of its numbers".to_owned() })
}

/// The scores of inputs, detached, `[N]`.
///
/// # Errors
/// Those of the function, and when the scores are not one finite number an input.
pub(crate) fn scores(function: &ScoreFunction, x: &Tensor) -> Result<Tensor> {
    let found = function(x)?.detach();
    check_shape("scores", &found, [x.size()[0]])?;
    check_finite("scores", &found)?;
    Ok(found)
}

/// The gradient of the scores' sum with respect to `of`, which they were made from: each input's is its own.
///
/// # Errors
/// When the scores are not one finite number an input, or do not depend on `of` by steps that can be differentiated.
pub(crate) fn gradient(scores: &Tensor, of: &Tensor, n: i64) -> Result<Tensor> {
    check_shape("scores", scores, [n])?;
    check_finite("scores", scores)?;
    if !scores.requires_grad() {
        let expected = "a function of the inputs that can be differentiated, outside no_grad";
        return Err(Error::config("scores", "without gradient", expected));
    }
    let gradient = Tensor::f_run_backward(&[scores.sum(None)], &[of], false, false)?.remove(0);
    // libtorch's answer where the scores were made from something else.
    if !gradient.defined() {
        return Err(Error::config("scores", "made from something else", "a function of what is explained"));
    }
    check_finite("the gradient", &gradient)?;
    Ok(gradient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::fixtures::wave;
    use selfsup_core::tch;

    #[test]
    fn rejects_what_cannot_be_explained() {
        let x = wave(&[2, 3], 0.3);
        let message = |error: Error| error.to_string();
        let error = message(check_inputs("x", &(&x / 0.0)).unwrap_err());
        assert_eq!(error, "x is not finite: at least one of its numbers");
        let error = message(check_inputs("x", &x.narrow(0, 0, 0)).unwrap_err());
        assert_eq!(error, "x = [0, 3]: at least one input that is not empty");
        assert!(message(check_inputs("x", &x.to_kind(Kind::Double)).unwrap_err()).contains("kind Float"));
        let error = message(scores(&|x| Ok(x.shallow_clone()), &x).unwrap_err());
        assert_eq!(error, "scores: expected [2], found [2, 3]");
        let error = message(scores(&|x| Ok(x.sum_dim_intlist(1, false, None) / 0.0), &x).unwrap_err());
        assert_eq!(error, "scores is not finite: at least one of its numbers");
        let x = x.set_requires_grad(true);
        let cut = tch::no_grad(|| x.sum_dim_intlist(1, false, None));
        let error = message(gradient(&cut, &x, 2).unwrap_err());
        assert!(error.starts_with("scores = without gradient"), "{error}");
    }
}
