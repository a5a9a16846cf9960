//! Non-maximum suppression: of boxes that overlap by more than a threshold, the surest one stays.
//!
//! By falling score a box is kept unless it overlaps one that was kept. Values are `torchvision.ops.nms`'.

use super::boxes::Rectangle;
use selfsup_core::{Error, Result};

/// The positions of the boxes that are kept, by falling score; among equal ones the first stands first.
///
/// # Errors
/// When there are not as many scores as boxes, a box has its corners in another order, a score is not finite, or `overlap` is
/// not in `0..=1`.
pub fn nms(boxes: &[Rectangle], scores: &[f64], overlap: f64) -> Result<Vec<usize>> {
    if boxes.len() != scores.len() {
        return Err(Error::config("scores", scores.len(), format!("{}, one for each box", boxes.len())));
    }
    if !(0.0..=1.0).contains(&overlap) {
        return Err(Error::config("overlap", overlap, "from 0 to 1"));
    }
    for (i, (rectangle, score)) in boxes.iter().zip(scores).enumerate() {
        rectangle.check(&format!("box {i}"))?;
        if !score.is_finite() {
            return Err(Error::NonFinite { what: "a score".to_owned(), detail: format!("of box {i}") });
        }
    }
    let mut order: Vec<usize> = (0..boxes.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let mut kept: Vec<usize> = Vec::new();
    for i in order {
        if kept.iter().all(|&other| boxes[other].iou(&boxes[i]) <= overlap) {
            kept.push(i);
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxes() -> (Vec<Rectangle>, Vec<f64>) {
        let one = |i: u32| {
            let (x, y) = (f64::from(i * 7 % 50), f64::from(i * 11 % 40));
            Rectangle {
                x0: x,
                y0: y,
                x1: x + 10.0 + f64::from(i * 3 % 17),
                y1: y + 8.0 + f64::from(i * 5 % 13),
            }
        };
        let score = |i: u32| (f64::from(i + 1).powf(1.5) * 0.37).sin();
        ((0..24).map(one).collect(), (0..24).map(score).collect())
    }

    // i = torch.arange(24, dtype=torch.float64); x, y, w, h = i * 7 % 50, i * 11 % 40, 10 + i * 3 % 17, 8 + i * 5 % 13
    // b, s = torch.stack([x, y, x + w, y + h], 1), ((i + 1) ** 1.5 * 0.37).sin()
    // [torchvision.ops.nms(b, s, t).tolist() for t in [0.1, 0.3]]
    #[test]
    fn keeps_what_torchvision_keeps() {
        let (boxes, scores) = boxes();
        for (overlap, expected) in [(0.1, TENTH), (0.3, THIRD)] {
            assert_eq!(nms(&boxes, &scores, overlap).unwrap(), expected, "{overlap}");
        }
    }

    #[test]
    fn nothing_is_left_that_overlaps_and_nothing_alone_is_lost() {
        let (boxes, scores) = boxes();
        let kept = nms(&boxes, &scores, 0.2).unwrap();
        for (a, &i) in kept.iter().enumerate() {
            assert!(kept[a + 1..].iter().all(|&j| boxes[i].iou(&boxes[j]) <= 0.2));
        }
        for i in (0..24).filter(|i| !kept.contains(i)) {
            let better = |&k: &usize| scores[k] >= scores[i] && boxes[k].iou(&boxes[i]) > 0.2;
            assert!(kept.iter().any(better), "{i}");
        }
        assert!(nms(&[], &[], 0.5).unwrap().is_empty());
    }

    #[test]
    fn rejects_what_is_no_box_or_score() {
        let (boxes, scores) = boxes();
        let error = |b: &[Rectangle], s: &[f64], o| nms(b, s, o).unwrap_err().to_string();
        assert_eq!(error(&boxes, &scores[1..], 0.5), "scores = 23: 24, one for each box");
        assert_eq!(error(&boxes, &scores, 1.5), "overlap = 1.5: from 0 to 1");
        assert_eq!(error(&boxes[..1], &[f64::NAN], 0.5), "a score is not finite: of box 0");
        let turned = Rectangle { x0: 2.0, y0: 0.0, x1: 1.0, y1: 1.0 };
        assert!(error(&[turned], &[0.0], 0.5).starts_with("box 0 = 2, 0 to 1, 1"));
    }

    const TENTH: &[usize] = &[19, 2, 7, 1, 6, 0, 18];
    const THIRD: &[usize] = &[19, 2, 7, 1, 10, 16, 6, 13, 21, 0, 11, 22, 18, 5];
}
