//! FreeMatch's self-adaptive thresholds (Wang et al. 2023, section 4.1): one for all classes that follows the model's
//! confidence, scaled down for classes that the model predicts less.
//!
//! ```text
//! tau   <- m tau   + (1 - m) mean_i max_c p_ic          global, from 1 / C
//! p~(c) <- m p~(c) + (1 - m) mean_i p_ic                local, from 1 / C
//! h~(c) <- m h~(c) + (1 - m) share of c among the predicted classes
//! T(c) = p~(c) / max_c p~(c) tau        label_i = argmax_c p_ic        weight_i = 1(max_c p_ic >= T(label_i))
//! ```
//! As in the authors' code (USB) a batch is judged by the thresholds after it. The method's second half, a loss that keeps
//! the predicted classes diverse, is [`fairness`](FreeMatch::fairness).

use super::confidence::{check_classes, check_momentum, most_probable, with_classes};
use super::fairness::self_adaptive_fairness;
use crate::memory::{restored, saved};
use selfsup_core::{Device, Error, Kind, Probabilities, PseudoLabeler, PseudoLabels, Reason, Result, Tensor};
use serde::{Deserialize, Serialize};

/// Settings of [`FreeMatch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FreeMatchConfig {
    /// The share of the past in the running means. The paper: 0.999.
    pub momentum: f64,
    /// The quantile of the batch's confidences that the global threshold follows, in `[0, 1]`; their mean where it is not
    /// set, as in the paper. USB's alternative: 0.8.
    pub quantile: Option<f64>,
    /// The global threshold is held at this value at most. The default, 1, is no bound; USB's alternative: 0.95.
    pub max_threshold: f64,
}

impl Default for FreeMatchConfig {
    fn default() -> Self {
        FreeMatchConfig { momentum: 0.999, quantile: None, max_threshold: 1.0 }
    }
}

/// Labels what a classifier is sure of, measured by how sure it is at this point of its training.
#[derive(Debug)]
pub struct FreeMatch {
    config: FreeMatchConfig,
    /// tau, `[]` Float.
    global: Tensor,
    /// p~, `[C]` Float.
    model: Tensor,
    /// h~, `[C]` Float.
    histogram: Tensor,
}

impl FreeMatch {
    /// For this many classes.
    ///
    /// # Errors
    /// When there is no class, or a setting is out of its range.
    pub fn new(classes: i64, config: FreeMatchConfig) -> Result<FreeMatch> {
        check_classes(classes)?;
        check_momentum(config.momentum)?;
        for (name, value) in
            [("quantile", config.quantile.unwrap_or(0.0)), ("max_threshold", config.max_threshold)]
        {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::config(name, value, "0 to 1"));
            }
        }
        let uniform = Tensor::ones([classes], (Kind::Float, Device::Cpu)) / classes as f64;
        let global = uniform.mean(Kind::Float);
        Ok(FreeMatch { config, global, histogram: uniform.copy(), model: uniform })
    }

    /// The threshold of every class, `[C]` Float, that the last batch was judged by.
    pub fn thresholds(&self) -> Tensor {
        &self.global * (&self.model / self.model.max())
    }

    /// The self-adaptive fairness of strongly augmented views ([`self_adaptive_fairness`]), with the model's running
    /// distribution and class shares after `found` was made.
    ///
    /// # Shapes
    /// `strong` `[N, C]` logits, with gradient, of the samples of `found`; the loss is `[]`.
    ///
    /// # Errors
    /// When the logits do not fit or are not finite.
    pub fn fairness(&self, strong: &Tensor, found: &PseudoLabels) -> Result<Tensor> {
        let device = strong.device();
        let (model, histogram) = (self.model.to_device(device), self.histogram.to_device(device));
        self_adaptive_fairness(strong, &found.weights, &model, &histogram)
    }

    fn update(&mut self, p: &Tensor, confidence: &Tensor, labels: &Tensor) {
        let towards = |old: &Tensor, new: Tensor| {
            old.to_device(p.device()) * self.config.momentum + new * (1.0 - self.config.momentum)
        };
        let level = match self.config.quantile {
            Some(q) => confidence.quantile_scalar(q, None, false, "linear"),
            None => confidence.mean(Kind::Float),
        };
        let shares = labels.bincount(None::<Tensor>, self.model.size()[0]).to_kind(Kind::Float)
            / labels.size()[0] as f64;
        let global = towards(&self.global, level).clamp_max(self.config.max_threshold);
        let model = towards(&self.model, p.mean_dim([0].as_slice(), false, Kind::Float));
        let histogram = towards(&self.histogram, shares);
        (self.global, self.model, self.histogram) = (global, model, histogram);
    }
}

impl PseudoLabeler for FreeMatch {
    type Scores = Probabilities;

    /// Labels a batch of class probabilities `[N, C]`; one without samples changes nothing.
    ///
    /// # Errors
    /// When the number of classes does not fit.
    fn label(&mut self, scores: &Probabilities) -> Result<PseudoLabels> {
        let p = with_classes(scores, self.model.size()[0])?;
        let (confidence, labels) = most_probable(p);
        if p.size()[0] > 0 {
            self.update(p, &confidence, &labels);
        }
        let thresholds = self.thresholds().to_device(p.device()).index_select(0, &labels); // [N]
        let weights = confidence.ge_tensor(&thresholds).to_kind(Kind::Float);
        Ok(PseudoLabels::new(labels, weights, Reason::Confident, Reason::Unsure))
    }

    /// `global` `[]`, `model` and `histogram` `[C]`, all Float.
    fn state(&self) -> Vec<(String, Tensor)> {
        vec![saved("global", &self.global), saved("model", &self.model), saved("histogram", &self.histogram)]
    }

    fn restore(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let global = restored(state, "global", &self.global)?;
        let model = restored(state, "model", &self.model)?;
        let histogram = restored(state, "histogram", &self.histogram)?;
        (self.global, self.model, self.histogram) = (global, model, histogram);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::course::{STEPS, assert_near, bits, logits, probabilities};
    use super::*;

    fn labeler(quantile: Option<f64>, max_threshold: f64) -> FreeMatch {
        FreeMatch::new(4, FreeMatchConfig { momentum: 0.9, quantile, max_threshold }).unwrap()
    }

    // pm = torch.ones(4) / 4; h = torch.ones(4) / 4; tp = pm.mean(); m = 0.9
    // for t in range(20):                                   # logits(t): see course.rs
    //     p = logits(t).softmax(1); conf, lab = p.max(1)
    //     tp = tp * m + (1 - m) * (torch.quantile(conf, 0.8) if by_quantile else conf.mean())
    //     if by_quantile: tp = torch.clip(tp, 0.0, 0.6)
    //     pm = pm * m + (1 - m) * p.mean(0)
    //     hist = torch.bincount(lab, minlength=4).float(); h = h * m + (1 - m) * (hist / hist.sum())
    //     thresholds = tp * (pm / pm.max()); mask = conf.ge(thresholds[lab])
    //     s = (logits(t + 100) * 0.05)[mask]; ps = s.softmax(1)                            # fairness
    //     hs = torch.bincount(ps.argmax(1), minlength=4).float(); hs = hs / hs.sum()
    //     a = pm / h; a = a / a.sum()
    //     inv = 1 / hs; inv[inv == float("inf")] = 0
    //     b = ps.mean(0) * inv; b = b / b.sum(); fairness = (a * torch.log(b + 1e-12)).sum()
    #[rustfmt::skip]
    const MASKS: [u8; 20] = [
        255, 255, 255, 191, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 191, 26, 248, 254, 255, 255,
    ];
    #[rustfmt::skip]
    const GLOBAL: [f64; 20] = [
        0.2755477, 0.306076, 0.3339086, 0.3414825, 0.3605875, 0.3928372, 0.4281578, 0.4546832, 0.4741824, 0.5035796,
        0.5411646, 0.5757298, 0.6044042, 0.6319662, 0.643768, 0.6313742, 0.6288838, 0.639632, 0.6552328, 0.684219,
    ];
    #[rustfmt::skip]
    const THRESHOLDS: [[f64; 4]; 20] = [
        [0.2755477, 0.2654433, 0.255066, 0.2588402],
        [0.3026518, 0.306076, 0.2681761, 0.2698908],
        [0.3339086, 0.2972539, 0.2660211, 0.2851985],
        [0.3414825, 0.2967289, 0.2654323, 0.2776085],
        [0.3605875, 0.2961408, 0.2651034, 0.2799602],
        [0.3928372, 0.312563, 0.2866153, 0.2968611],
        [0.4281578, 0.3514206, 0.359548, 0.358783],
        [0.4546832, 0.3933819, 0.4310056, 0.3836564],
        [0.4741824, 0.4180493, 0.4214506, 0.3878351],
        [0.5035796, 0.4953601, 0.4473451, 0.417994],
        [0.5411646, 0.5326302, 0.4418341, 0.4182133],
        [0.5757298, 0.5648828, 0.4797924, 0.403104],
        [0.6044042, 0.5330117, 0.4315361, 0.4501141],
        [0.6319662, 0.5333725, 0.4523039, 0.4909104],
        [0.643768, 0.5231876, 0.4383006, 0.5155396],
        [0.6313742, 0.4911083, 0.417858, 0.4938562],
        [0.6288838, 0.4568257, 0.3861369, 0.4673194],
        [0.639632, 0.4413128, 0.3717576, 0.4911527],
        [0.6552328, 0.4547488, 0.3640392, 0.4965287],
        [0.684219, 0.4847104, 0.4367085, 0.5830069],
    ];
    #[rustfmt::skip]
    const FAIRNESS: [f64; 20] = [
        -13.94724, -13.82828, -7.301684, -14.6746, -8.014931, -8.469086, -1.448184, -1.396663, -1.483477, -1.402462,
        -20.72054, -7.831492, -1.418337, -1.429916, -8.062151, -7.879741, -1.398247, -1.431468, -1.385701, -1.412938,
    ];
    #[rustfmt::skip]
    const MASKS_BY_QUANTILE: [u8; 20] = [
        255, 255, 255, 175, 255, 255, 255, 250, 223, 255, 255, 255, 255, 255, 191, 26, 248, 254, 255, 255,
    ];
    #[rustfmt::skip]
    const THRESHOLDS_BY_QUANTILE: [[f64; 4]; 20] = [
        [0.2842276, 0.273805, 0.2631007, 0.2669938],
        [0.317565, 0.3211578, 0.2813904, 0.2831896],
        [0.3502753, 0.3118241, 0.2790603, 0.2991777],
        [0.358643, 0.3116405, 0.2787711, 0.2915592],
        [0.3884061, 0.3189875, 0.2855556, 0.3015586],
        [0.4299254, 0.3420725, 0.313675, 0.3248881],
        [0.4746849, 0.3896088, 0.3986195, 0.3977713],
        [0.5171504, 0.4474271, 0.4902197, 0.4363654],
        [0.5464469, 0.4817592, 0.4856789, 0.4469404],
        [0.5797593, 0.5702963, 0.5150178, 0.4812267],
        [0.6, 0.5905378, 0.4898703, 0.4636814],
        [0.6, 0.5886958, 0.5000184, 0.4200971],
        [0.6, 0.5291278, 0.4283916, 0.4468343],
        [0.6, 0.5063933, 0.4294254, 0.4660791],
        [0.6, 0.4876176, 0.4085018, 0.4804896],
        [0.5999263, 0.4666468, 0.397045, 0.4692578],
        [0.6, 0.4358443, 0.3684022, 0.445856],
        [0.6, 0.4139689, 0.3487233, 0.4607206],
        [0.6, 0.4164158, 0.3333526, 0.4546739],
        [0.6, 0.4250485, 0.382955, 0.5112458],
    ];

    #[test]
    fn goes_the_way_of_the_authors_code() {
        let mut labeler = labeler(None, 1.0);
        for t in 0..STEPS {
            let found = labeler.label(&probabilities(t)).unwrap();
            let at = t as usize;
            assert_near(&labeler.global, &GLOBAL[at..=at], 1e-6);
            assert_near(&labeler.thresholds(), &THRESHOLDS[at], 1e-6);
            assert_eq!(bits(&found.weights), MASKS[at], "step {t}");
            let fairness = labeler.fairness(&(logits(t + 100) * 0.05), &found).unwrap();
            assert_near(&fairness, &FAIRNESS[at..=at], 1e-4);
        }
        assert_near(&labeler.model, &[0.31262216, 0.22146595, 0.1995337, 0.26637796], 1e-6);
        assert_near(&labeler.histogram, &[0.35566282, 0.19777268, 0.18559444, 0.26096988], 1e-6);
    }

    #[test]
    fn goes_the_way_of_the_authors_code_by_quantile_and_with_a_bound() {
        let mut labeler = labeler(Some(0.8), 0.6);
        for t in 0..STEPS {
            let found = labeler.label(&probabilities(t)).unwrap();
            assert_near(&labeler.thresholds(), &THRESHOLDS_BY_QUANTILE[t as usize], 1e-6);
            assert_eq!(bits(&found.weights), MASKS_BY_QUANTILE[t as usize], "step {t}");
        }
    }

    #[test]
    fn goes_on_from_a_checkpoint_as_if_never_stopped() {
        let (mut whole, mut first) = (labeler(None, 1.0), labeler(None, 1.0));
        for t in 0..10 {
            whole.label(&probabilities(t)).unwrap();
            first.label(&probabilities(t)).unwrap();
        }
        let mut second = labeler(None, 1.0);
        second.restore(&first.state()).unwrap();
        for t in 10..STEPS {
            let (a, b) = (whole.label(&probabilities(t)).unwrap(), second.label(&probabilities(t)).unwrap());
            assert_eq!((a.labels, a.weights, a.reasons), (b.labels, b.weights, b.reasons));
            assert_eq!(whole.state(), second.state());
        }
    }

    #[test]
    fn an_empty_batch_changes_nothing() {
        let mut labeler = labeler(Some(0.8), 1.0);
        let before = labeler.state();
        let none = Tensor::zeros([0, 4], (Kind::Float, Device::Cpu));
        let found = labeler.label(&Probabilities::new(&none).unwrap()).unwrap();
        assert_eq!(found.labels.size(), [0]);
        assert_eq!(labeler.state(), before);
    }

    #[test]
    fn one_class_is_always_sure() {
        let mut labeler = FreeMatch::new(1, FreeMatchConfig::default()).unwrap();
        let p = Probabilities::new(&Tensor::ones([3, 1], (Kind::Float, Device::Cpu))).unwrap();
        assert_eq!(bits(&labeler.label(&p).unwrap().weights), 0b111);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let error = |config| FreeMatch::new(4, config).unwrap_err().to_string();
        let config = FreeMatchConfig { momentum: 1.0, ..Default::default() };
        assert_eq!(error(config), "momentum = 1: 0 to below 1");
        let config = FreeMatchConfig { quantile: Some(1.5), ..Default::default() };
        assert_eq!(error(config), "quantile = 1.5: 0 to 1");
        let config = FreeMatchConfig { max_threshold: -0.5, ..Default::default() };
        assert_eq!(error(config), "max_threshold = -0.5: 0 to 1");
        let mut three = FreeMatch::new(3, FreeMatchConfig::default()).unwrap();
        let error = three.label(&probabilities(0)).unwrap_err().to_string();
        assert_eq!(error, "probabilities: expected [_, 3], found [8, 4]");
        let error = three.restore(&labeler(None, 1.0).state()).unwrap_err().to_string();
        assert_eq!(error, "state.model: expected [3] Float, found [4] Float");
    }
}
