use super::found::{Found, table};
use super::given::{Given, lie_in};
use crate::elsewhere::ONE_FILE;
use crate::recipe::EvalConfig;
use anyhow::Result;
use selfsup::core::{Device, Kind, Tensor, state};

fn x(n: i64) -> Tensor {
    (Tensor::arange(n * 4, (Kind::Float, Device::Cpu)).pow_tensor_scalar(1.5) * 0.37).sin().view([n, 4])
}

/// 60 samples to train on and 30 to test on; `extra` are arrays beside the features.
fn given(extra: &[(&str, Tensor)]) -> Result<Given> {
    let take = |name: &str| {
        let extra = extra.iter().find(|(other, _)| *other == name);
        Ok(match (extra, name) {
            (Some((_, tensor)), _) => Some(tensor.shallow_clone()),
            (None, "train") => Some(x(90).narrow(0, 0, 60)),
            (None, "test") => Some(x(90).narrow(0, 60, 30)),
            _ => None,
        })
    };
    Given::new(take, |name| format!("{name}.npy"))
}

fn parts(y: &Tensor) -> [(&'static str, Tensor); 2] {
    [("train_targets", y.narrow(0, 0, 60)), ("test_targets", y.narrow(0, 60, 30))]
}

fn value(found: &Found, name: &str) -> f64 {
    let m = found.measures.iter().find(|m| m.name == name).unwrap();
    let interval = m.interval.unwrap();
    assert!(interval.low <= m.value && m.value <= interval.high && m.split == "test", "{m:?}");
    m.value
}

#[test]
fn floats_are_numbers_to_predict() {
    let y = x(90).select(1, 0) * 3.0 - x(90).select(1, 2) + 7.0;
    let config = EvalConfig::default();
    let found = given(&parts(&y)).unwrap().judge(&config).unwrap();
    assert!(found.group == "regression" && value(&found, "r2") > 0.999);
    let two = Tensor::stack(&[&y, &(&y * 0.5)], 1);
    let found = given(&parts(&two)).unwrap().judge(&config).unwrap();
    assert_eq!(found.outcome["rmse"].as_array().unwrap().len(), 2);
    assert!(table(&found.measures).contains("r2"));
}

#[test]
fn whole_numbers_of_zero_and_one_are_labels() {
    let y = x(90).narrow(1, 0, 3).gt(0.1).to_kind(Kind::Int64);
    let found = given(&parts(&y)).unwrap().judge(&EvalConfig::default()).unwrap();
    assert!(found.group == "multi_label" && value(&found, "multi_label_map") > 0.95);
}

#[test]
fn what_is_not_normal_is_told_from_what_is() {
    let test = Tensor::cat(&[x(90).narrow(0, 60, 20) + 4.0, x(90).narrow(0, 80, 10) - 4.0], 0);
    let marks = Tensor::cat(
        &[Tensor::zeros([20], (Kind::Int64, Device::Cpu)), Tensor::ones([10], (Kind::Int64, Device::Cpu))],
        0,
    );
    let train = x(90).narrow(0, 0, 60) + 4.0;
    let of = |more: &[(&str, Tensor)]| {
        let mut arrays: Vec<(&str, Tensor)> =
            more.iter().map(|(name, x)| (*name, x.shallow_clone())).collect();
        for (name, x) in [("train", &train), ("test", &test), ("test_anomalies", &marks)] {
            arrays.push((name, x.shallow_clone()));
        }
        given(&arrays)
    };
    let found = of(&[]).unwrap().judge(&EvalConfig::default()).unwrap();
    assert!(found.group == "anomalies" && value(&found, "ood_auroc_knn") > 0.99);
    assert!(found.measures.iter().all(|m| !m.name.contains("energy")));
    // What is known may be of several classes: then a probe on these has an energy.
    let labels = train.select(1, 0).gt(4.0).to_kind(Kind::Int64);
    let found =
        of(&[("train_labels", labels.shallow_clone())]).unwrap().judge(&EvalConfig::default()).unwrap();
    assert!(value(&found, "ood_auroc_knn") > 0.99 && value(&found, "ood_auroc_mahalanobis") > 0.99);
    assert!(found.measures.iter().any(|m| m.name == "ood_auroc_energy"));
    let refused = |more: &[(&str, Tensor)]| of(more).unwrap_err().to_string();
    let short = refused(&[("train_labels", labels.narrow(0, 0, 9))]);
    assert_eq!(short, "train_labels.npy: 9 rows for the 60 of train.npy");
    let gap = refused(&[("train_labels", labels.shallow_clone() * 2)]);
    assert!(gap.starts_with("train_labels.npy: no sample is of class 1"), "{gap}");
    let both = refused(&[("test_labels", marks.shallow_clone())]);
    assert!(both.starts_with("test_labels.npy: a class for each sample"), "{both}");
}

#[test]
fn says_which_array_does_not_belong_to_the_others() {
    let ones = |shape: &[i64], kind| Tensor::ones(shape, (kind, Device::Cpu));
    let refused = |extra: &[(&str, Tensor)]| given(extra).unwrap_err().to_string();
    let fine = || ("train_targets", ones(&[60, 2], Kind::Float));
    for (extra, message) in [
        (vec![fine()], "test_targets.npy is missing"),
        (
            vec![fine(), ("test_targets", ones(&[29, 2], Kind::Float))],
            "test_targets.npy: 29 rows for the 30 of test.npy",
        ),
        (
            vec![fine(), ("test_targets", ones(&[30, 3], Kind::Float))],
            "test_targets.npy: 3 columns, but train_targets.npy has 2",
        ),
        (
            vec![fine(), ("test_targets", ones(&[30, 2], Kind::Int64))],
            "test_targets.npy: Int64, but train_targets.npy is Float",
        ),
        (
            vec![("train_targets", ones(&[60], Kind::Int64))],
            "train_targets.npy: floats [N] or [N, T] are numbers to predict",
        ),
        (
            vec![
                ("train_targets", ones(&[60, 2], Kind::Int64) * 2),
                ("test_targets", ones(&[30, 2], Kind::Int64)),
            ],
            "train_targets.npy: row 0 holds another label than 0 or 1",
        ),
        (
            vec![fine(), ("test_targets", ones(&[30, 2], Kind::Float) / 0.0)],
            "test_targets.npy: row 0 holds a number that is not finite",
        ),
        (
            vec![fine(), ("train_labels", ones(&[60], Kind::Int64))],
            "train_labels.npy: a class for each sample",
        ),
        (vec![fine(), ("test_anomalies", ones(&[30], Kind::Int64))], "train_targets.npy: targets beside"),
        (vec![("test_anomalies", ones(&[30], Kind::Int64))], "test_anomalies.npy: both normal samples"),
        (vec![("test_anomalies", ones(&[30], Kind::Int64) * 2)], "test_anomalies.npy: row 0 is 2: 0 for"),
    ] {
        let refusal = refused(&extra);
        assert!(refusal.starts_with(message), "{refusal}");
    }
}

#[test]
fn a_folder_is_known_by_its_arrays_in_many_files_or_one() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!lie_in(folder.path()));
    let save = |names: &[&str]| {
        let tensors = names.iter().map(|name| ((*name).to_owned(), x(3))).collect();
        state::save(&folder.path().join(ONE_FILE), &tensors).unwrap();
    };
    save(&["train", "test", "train_labels"]);
    assert!(!lie_in(folder.path()));
    save(&["train", "test", "test_targets"]);
    assert!(lie_in(folder.path()));
    std::fs::remove_file(folder.path().join(ONE_FILE)).unwrap();
    std::fs::write(folder.path().join("train_targets.npy"), "").unwrap();
    assert!(lie_in(folder.path()));
}
