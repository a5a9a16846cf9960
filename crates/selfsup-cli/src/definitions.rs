//! What each number of report.json is, under the key of the number.

use crate::judge::{Labels, few_labels};
use crate::recipe::EvalConfig;
use selfsup::eval::sanity_definition;
use serde_json::{Value, json};

/// What the numbers are that only a run has.
const OF_A_RUN: [(&str, &str); 8] = [
    (
        "alignment",
        "mean squared distance of the features, at unit length, of two training views of a test image, the lower the nearer (Wang and Isola 2020)",
    ),
    (
        "lidar",
        "effective number of directions in which test images differ more than two training views of one, where the paper has fifty views (LiDAR, Thilak et al. 2023)",
    ),
    ("checkpoint", "the last one, after run.step optimizer steps"),
    ("task", "how well the trained networks solve the method's own task on the test images"),
    (
        "answers",
        "what the trained networks answer to the task's questions about the test images: counts[true class][answered class]",
    ),
    (
        "prototypes",
        "how the test images are spread over the prototypes, each at the one that it is nearest to; effective is the exponential of the entropy of the shares",
    ),
    (
        "attention",
        "over how many patches the attention of the last block is spread, by head: the exponential of its entropy, averaged over test images",
    ),
    (
        "members",
        "with --suite full: clusters of the test images' features (spherical k-means into as many clusters as there are classes, 10 where none are known; the 10 largest of cluster_count), their members nearest to the centre and farthest from it with the cosine similarity to it; and by inversion the training images nearest to the features of test images",
    ),
];

/// The definitions of all numbers of a run.
pub fn of_a_run(eval: &EvalConfig, labels: Option<&Labels>) -> Value {
    let mut all = of_probes(eval, labels);
    for (name, text) in OF_A_RUN {
        all[name] = json!(text);
    }
    all["saliency"] = json!(format!(
        "with --suite full, by method of explanation: {}. completeness_gap: by what share of the gain over the baseline, the average image, the parts of integrated gradients miss it: sum |sum of parts - gain| / sum |gain| over the images",
        sanity_definition()
    ));
    all
}

/// The definitions of health and probes.
pub fn of_probes(eval: &EvalConfig, labels: Option<&Labels>) -> Value {
    let mut all = json!({
        "std": "standard deviation of the test features at unit length, averaged over the features; 1/sqrt(D) when spread evenly",
        "rank_me": "exponential of the entropy of the singular values of the test features (Garrido et al. 2023)",
        "alpha_req": "exponent of the power law along which the variances of the centred test features fall, from the 11th to the 100th principal direction at most; near 1 in good ones (alpha-ReQ, Agrawal et al. 2022); null where there are too few directions",
        "uniformity": "logarithm of the mean Gaussian potential of all pairs of test features at unit length, the lower the more even (Wang and Isola 2020)",
    });
    let Some(labels) = labels else { return all };
    all["linear"] = json!(
        "accuracy on the test split of a logistic regression on frozen, standardised features; its regularisation is chosen on a held-out part of the training split"
    );
    all["knn"] = json!(format!(
        "accuracy of the weighted vote of the {} nearest training samples by cosine similarity, temperature {}",
        eval.knn.k.min(labels.train.size()[0]),
        eval.knn.temperature
    ));
    let (asked, few) = (eval.few_label.labels_per_class, few_labels(&eval.few_label, labels.smallest));
    let cut = if few.labels_per_class < asked {
        format!(" ({asked} were asked for; the smallest class of the training split has no more)")
    } else {
        String::new()
    };
    all[few.name()] = json!(format!(
        "the same with {} labels a class{cut}, mean and standard deviation over {} draws of the labelled samples",
        few.labels_per_class, few.draws
    ));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defines_the_few_label_probe_that_was_run() {
        let labels = |n: i64| {
            let train = (0..2 * n).map(|i| i % 2).collect();
            Labels::new(vec!["a".into(), "b".into()], Some(train), Some(vec![0]))
        };
        let cut = of_probes(&EvalConfig::default(), labels(7).as_ref());
        assert!(cut.get("few10").is_none());
        let text = cut["few7"].as_str().unwrap();
        assert!(
            text.starts_with("the same with 7 labels a class (10 were asked for; the smallest class"),
            "{text}"
        );
        let whole = of_probes(&EvalConfig::default(), labels(20).as_ref());
        assert!(whole["few10"].as_str().unwrap().starts_with("the same with 10 labels a class, mean"));
        assert!(of_probes(&EvalConfig::default(), None).get("linear").is_none());
    }
}
