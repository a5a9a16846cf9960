use super::*;

/// floor(1000 |sin(0.37 i^1.5)|)
fn wave(i: usize) -> f64 {
    ((i as f64).powf(1.5) * 0.37).sin().abs().mul_add(1000.0, 0.0).floor()
}

/// A box of wave numbers in an image of 300 pixels, with a side of 8 to 158.
fn rectangle(i: usize) -> Rectangle {
    let [x, y, w, h] = [0, 1, 2, 3].map(|k| wave(4 * i + k));
    let (x0, y0) = ((x / 5.0).floor(), (y / 5.0).floor());
    Rectangle { x0, y0, x1: x0 + 8.0 + (w * w / 6667.0).floor(), y1: y0 + 8.0 + (h * h / 6667.0).floor() }
}

/// Twelve images of eight true boxes in three classes, every eleventh a crowd; each is found near its place, and so are
/// others that are not there. Scores have ties.
fn images() -> Vec<ImageBoxes> {
    let image = |n: usize| {
        let truth: Vec<TrueBox> = (0..8)
            .map(|k| 8 * n + k)
            .map(|i| TrueBox {
                rectangle: rectangle(i),
                class: i % 3,
                kind: if i % 11 == 10 { BoxKind::Crowd } else { BoxKind::Counted },
            })
            .collect();
        let near = truth.iter().enumerate().map(|(k, t)| {
            let i = 8 * n + k;
            let move_by = (wave(1000 + i) / 90.0).floor();
            let r = t.rectangle;
            let rectangle = Rectangle { x0: r.x0 + move_by, x1: r.x1 + move_by, ..r };
            FoundBox { rectangle, class: t.class, score: (wave(3000 + i) / 20.0).floor() / 50.0 }
        });
        let else_where = (0..5).map(|k| 5 * n + k).map(|i| FoundBox {
            rectangle: rectangle(500 + i),
            class: i % 3,
            score: (wave(5000 + i) / 20.0).floor() / 70.0,
        });
        ImageBoxes { found: near.chain(else_where).collect(), truth }
    };
    (0..12).map(image).collect()
}

fn values(found: &Detection) -> [f64; 7] {
    let all =
        [found.ap, found.ap50, found.ap75, found.ap_small, found.ap_medium, found.ap_large, found.recall];
    all.map(|v| v.unwrap_or(-1.0))
}

// W = lambda i: np.floor(1000 * np.abs(np.sin(np.float64(i) ** 1.5 * 0.37)))
// def rect(i):                                                                                  # x, y, w, h
//     x, y, w, h = (W(4 * i + k) for k in range(4))
//     return [x // 5, y // 5, 8 + w * w // 6667, 8 + h * h // 6667]
// gt, dt = [], []
// for n in range(12):
//     for i in range(8 * n, 8 * n + 8):
//         x, y, w, h = rect(i)
//         gt.append(dict(id=i + 1, image_id=n, category_id=i % 3, bbox=[x, y, w, h], area=w * h, iscrowd=int(i % 11 == 10)))
//         dt.append(dict(image_id=n, category_id=i % 3, bbox=[x + W(1000 + i) // 90, y, w, h], score=W(3000 + i) // 20 / 50))
//     for i in range(5 * n, 5 * n + 5):
//         dt.append(dict(image_id=n, category_id=i % 3, bbox=rect(500 + i), score=W(5000 + i) // 20 / 70))
// c = COCO(); c.dataset = dict(images=[dict(id=n) for n in range(12)], annotations=gt, categories=[dict(id=k) for k in range(4)])
// c.createIndex(); e = COCOeval(c, c.loadRes(dt), "bbox"); e.evaluate(); e.accumulate(); e.summarize()
// e.stats[[0, 1, 2, 3, 4, 5, 8]]; p = e.eval["precision"][0, :, :, 0, 2]; p.mean(0)               # pycocotools 2.0
#[test]
fn agrees_with_pycocotools() {
    let found = detection(&images(), 4).unwrap();
    let near = values(&found).iter().zip(COCO).all(|(f, e)| (f - e).abs() < 1e-9);
    assert!(near, "{:?}\nexpected {COCO:?}", values(&found));
    let classes: Vec<f64> = found.ap50_of_classes.iter().flatten().copied().collect();
    assert!(classes.len() == 3 && classes.iter().zip(AP50).all(|(f, e)| (f - e).abs() < 1e-9), "{classes:?}");
    assert_eq!(found.ap50_of_classes[3], None);
}

const COCO: [f64; 7] = [
    0.45255480855400654,
    0.7109935975642588,
    0.4516103636544218,
    0.24463827335114463,
    0.4381504524107136,
    0.7152836558165621,
    0.6221072796934866,
];
const AP50: [f64; 3] = [0.7359800686168081, 0.7378698929866364, 0.6591308310893313];

// W and rect as above; box = lambda x, y, w, h: [y, x, y + h - 1, x + w - 1]    # VOC's last pixel belongs to the box
// p = [[] for _ in range(6)]
// for n in range(12):
//     i = range(8 * n, 8 * n + 8); j = range(5 * n, 5 * n + 5)
//     near = [[r[0] + W(1000 + k) // 90] + r[1:] for k in i for r in [rect(k)]]
//     found = near + near[2:3] + [rect(500 + k) for k in j]
//     s = [W(3000 + k) / 1000 + k / 1e6 for k in i]; s += [s[2] / 2] + [W(5000 + k) / 1400 + k / 1e6 for k in j]
//     rows = ([box(*r) for r in found], [k % 3 for k in i] + [i[2] % 3] + [k % 3 for k in j], s,
//             [box(*rect(k)) for k in i], [k % 3 for k in i], [k % 11 == 10 or k % 8 == 2 for k in i])
//     [a.append(np.array(b)) for a, b in zip(p, rows)]
// for a, r in zip(*chainercv.evaluations.calc_detection_voc_prec_rec(*p, iou_thresh=0.5)):        # chainercv 0.13.1
//     a = np.maximum.accumulate(np.nan_to_num(a)[::-1])[::-1]; k = np.searchsorted(r, np.linspace(0, 1, 101))
//     print(np.append(a, 0)[k].mean())
#[test]
fn difficult_boxes_are_ignored_as_chainercv_does() {
    let image = |n: usize| {
        let kind = |i: usize| if i % 11 == 10 || i % 8 == 2 { BoxKind::Ignored } else { BoxKind::Counted };
        let truth: Vec<TrueBox> = (8 * n..8 * n + 8)
            .map(|i| TrueBox { rectangle: rectangle(i), class: i % 3, kind: kind(i) })
            .collect();
        let mut found: Vec<FoundBox> = (8 * n..8 * n + 8)
            .map(|i| {
                let (r, move_by) = (rectangle(i), (wave(1000 + i) / 90.0).floor());
                let rectangle = Rectangle { x0: r.x0 + move_by, x1: r.x1 + move_by, ..r };
                FoundBox { rectangle, class: i % 3, score: wave(3000 + i) / 1000.0 + i as f64 / 1e6 }
            })
            .collect();
        // A second time, a difficult one.
        found.push(FoundBox { score: found[2].score / 2.0, ..found[2] });
        found.extend((5 * n..5 * n + 5).map(|i| FoundBox {
            rectangle: rectangle(500 + i),
            class: i % 3,
            score: wave(5000 + i) / 1400.0 + i as f64 / 1e6,
        }));
        ImageBoxes { truth, found }
    };
    let images: Vec<ImageBoxes> = (0..12).map(image).collect();
    let found = detection(&images, 3).unwrap();
    let classes: Vec<f64> = found.ap50_of_classes.iter().flatten().copied().collect();
    assert!(classes.iter().zip(CHAINERCV).all(|(f, e)| (f - e).abs() < 1e-9), "{classes:?}");
}

const CHAINERCV: [f64; 3] = [0.7687018701870185, 0.7319057899704778, 0.6095570834182771];

#[test]
fn a_part_of_a_difficult_box_is_wrong_and_a_part_of_a_crowd_is_not() {
    // The found box lies in the other and is a fifth of it.
    let big = Rectangle { x0: 100.0, y0: 0.0, x1: 110.0, y1: 50.0 };
    let ap = |kind| {
        let truth = vec![there(0.0), TrueBox { rectangle: big, class: 0, kind }];
        let found = vec![at(100.0, 0.9), at(0.0, 0.5)];
        detection(&[ImageBoxes { truth, found }], 1).unwrap().ap50.unwrap()
    };
    assert!((ap(BoxKind::Crowd) - 1.0).abs() < 1e-9);
    assert!((ap(BoxKind::Ignored) - 0.5).abs() < 1e-9);
}

fn at(x0: f64, score: f64) -> FoundBox {
    FoundBox { rectangle: Rectangle { x0, y0: 0.0, x1: x0 + 10.0, y1: 10.0 }, class: 0, score }
}

fn there(x0: f64) -> TrueBox {
    TrueBox { rectangle: at(x0, 0.0).rectangle, class: 0, kind: BoxKind::Counted }
}

#[test]
fn finding_every_box_is_perfect_and_a_copy_is_wrong() {
    let truth = vec![there(0.0), there(50.0)];
    let exact = vec![at(0.0, 0.9), at(50.0, 0.8)];
    let perfect = detection(&[ImageBoxes { truth: truth.clone(), found: exact.clone() }], 1).unwrap();
    assert!((perfect.ap.unwrap() - 1.0).abs() < 1e-12);
    assert_eq!((perfect.ap_large, perfect.recall), (None, Some(1.0)));
    // The copy comes before the second: precisions 1, 1/2, 2/3.
    let copied = vec![exact[0], at(0.0, 0.85), exact[1]];
    let found = detection(&[ImageBoxes { truth, found: copied }], 1).unwrap();
    let expected = (51.0 + 50.0 * 2.0 / 3.0) / 101.0;
    assert!((found.ap50.unwrap() - expected).abs() < 1e-9, "{found:?}");
}

#[test]
fn nothing_found_is_zero_and_nothing_there_is_no_number() {
    let missed = ImageBoxes { truth: vec![there(0.0)], found: vec![] };
    let found = detection(std::slice::from_ref(&missed), 2).unwrap();
    assert_eq!(
        (found.ap, found.recall, found.ap50_of_classes),
        (Some(0.0), Some(0.0), vec![Some(0.0), None])
    );
    let empty = ImageBoxes { truth: vec![], found: vec![at(0.0, 0.5)] };
    assert_eq!(detection(&[empty], 1).unwrap().ap, None);
    assert_eq!(detection(&[], 1).unwrap().ap, None);
    let numbers = detection(&[missed], 2).unwrap().measurements("test", None, "a head");
    assert_eq!((numbers.len(), numbers[1].name.as_str()), (4, "detection_map50"));
}

#[test]
fn the_order_of_images_does_not_matter_without_ties() {
    let mut images = images();
    for (i, found) in images.iter_mut().flat_map(|image| &mut image.found).enumerate() {
        found.score += 1e-6 * (i as f64).sin();
    }
    let forward = values(&detection(&images, 4).unwrap());
    images.reverse();
    let near =
        forward.iter().zip(values(&detection(&images, 4).unwrap())).all(|(a, b)| (a - b).abs() < 1e-12);
    assert!(near);
}

#[test]
fn rejects_boxes_that_cannot_be() {
    let error = |found: FoundBox, classes| {
        detection(&[ImageBoxes { truth: vec![], found: vec![found] }], classes).unwrap_err().to_string()
    };
    assert_eq!(error(FoundBox { class: 3, ..at(0.0, 0.1) }, 3), "class of image 0 = 3: in 0..3");
    assert_eq!(error(at(0.0, f64::NAN), 1), "a score is not finite: of image 0");
    let turned = Rectangle { x0: 5.0, x1: 1.0, ..at(0.0, 0.1).rectangle };
    assert!(
        error(FoundBox { rectangle: turned, ..at(0.0, 0.1) }, 1)
            .starts_with("a box of image 0 = 5, 0 to 1, 10")
    );
}
