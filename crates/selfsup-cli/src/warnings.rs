//! What of report.json should make its reader doubt it, in words: for the terminal and for the page.

use selfsup::eval::Verdict;
use serde::Deserialize;
use serde_json::Value;

/// One line for each reason.
pub fn of(report: &Value) -> Vec<String> {
    let mut said = Vec::new();
    let encoders = |key: &str| report[key].as_object().into_iter().flatten();
    let probes = encoders("linear_probe").chain(encoders("outcome"));
    for (encoder, probe) in probes.filter(|(_, probe)| probe["converged"] == false) {
        let within = probe["iterations"].as_u64().map(|n| format!(" in {n} iterations")).unwrap_or_default();
        said.push(format!(
            "the linear probe on the features of {encoder} did not converge{within}: its score may be another when it does; raise \
             eval.linear.logistic.max_iterations"
        ));
    }
    for (encoder, health) in encoders("health").filter(|(encoder, _)| *encoder == crate::evaluate::TRAINED) {
        match Verdict::deserialize(&health["verdict"]) {
            Ok(Verdict::Healthy) | Err(_) => {}
            Ok(ill) => said.push(format!("{encoder}: {ill}")),
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_did_not_converge_and_what_collapsed_is_told() {
        let probe = |converged: bool| json!({"converged": converged, "iterations": 1000});
        let report = json!({
            "linear_probe": {"trained": probe(true), "untrained": null, "pixels": probe(false)},
            "health": {"trained": {"verdict": "collapse"}, "pixels": {"verdict": "collapse"}},
        });
        let said = of(&report);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("the linear probe on the features of pixels did not converge in 1000"));
        assert_eq!(said[1], "trained: collapse: all inputs have nearly the same features");
        let fine =
            json!({"linear_probe": {"trained": probe(true)}, "health": {"trained": {"verdict": "healthy"}}});
        assert!(of(&fine).is_empty() && of(&json!({})).is_empty());
    }
}
