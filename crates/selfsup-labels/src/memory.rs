//! What labelers remember, on its way to a checkpoint and back.

use selfsup_core::{Device, Error, Kind, Result, Tensor};

/// An entry of a labeler's state: a copy on the CPU.
pub(crate) fn saved(name: &str, x: &Tensor) -> (String, Tensor) {
    (name.to_owned(), x.detach().to_device(Device::Cpu).copy())
}

/// A copy of the entry `name`, which must be finite and of the shape and kind of `like`.
pub(crate) fn restored(state: &[(String, Tensor)], name: &str, like: &Tensor) -> Result<Tensor> {
    restored_as(state, name, &like.size(), like.kind())
}

/// A copy of the entry `name`, which must be finite, of a shape (-1 for any length) and of a kind.
pub(crate) fn restored_as(
    state: &[(String, Tensor)],
    name: &str,
    shape: &[i64],
    kind: Kind,
) -> Result<Tensor> {
    let expected = || {
        let shape: Vec<String> =
            shape.iter().map(|&n| if n < 0 { "_".to_owned() } else { n.to_string() }).collect();
        format!("[{}] {kind:?}", shape.join(", "))
    };
    let Some((_, found)) = state.iter().find(|(key, _)| key == name) else {
        return Err(Error::config(format!("state.{name}"), "missing", expected()));
    };
    let size = found.size();
    let fits = size.len() == shape.len() && size.iter().zip(shape).all(|(n, of)| *of < 0 || n == of);
    if !fits || found.kind() != kind {
        return Err(Error::Shape {
            name: format!("state.{name}"),
            expected: expected(),
            found: format!("{:?} {:?}", found.size(), found.kind()),
        });
    }
    if !bool::try_from(found.isfinite().all())? {
        return Err(Error::NonFinite {
            what: format!("state.{name}"),
            detail: "the checkpoint is of a run that diverged".to_owned(),
        });
    }
    Ok(found.detach().copy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_went_and_refuses_anything_else() {
        let x = Tensor::from_slice(&[0.1_f32, 0.2]);
        let state = [saved("model", &x)];
        assert_eq!(restored(&state, "model", &x).unwrap(), x);
        let error = |state: &[(String, Tensor)], name| restored(state, name, &x).unwrap_err().to_string();
        assert_eq!(error(&state, "other"), "state.other = missing: [2] Float");
        let long = [saved("model", &Tensor::zeros([3], (Kind::Float, Device::Cpu)))];
        assert_eq!(error(&long, "model"), "state.model: expected [2] Float, found [3] Float");
        let open = |shape: &[i64], kind| restored_as(&state, "model", shape, kind).map_err(|e| e.to_string());
        assert_eq!(open(&[-1], Kind::Float).unwrap(), x);
        assert_eq!(
            open(&[-1, 2], Kind::Float).unwrap_err(),
            "state.model: expected [_, 2] Float, found [2] Float"
        );
        assert_eq!(open(&[-1], Kind::Int64).unwrap_err(), "state.model: expected [_] Int64, found [2] Float");
        let nan = [saved("model", &(&x / 0.0 * 0.0))];
        assert!(error(&nan, "model").starts_with("state.model is not finite"));
    }
}
