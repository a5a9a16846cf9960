use super::*;
use crate::TrueBox;
use crate::fixtures::formula;
use selfsup_core::Device;

const CELLS: i64 = 16;
const PIXELS: f64 = 4.0;

/// Images of 64 x 64 pixels as maps of mean colours in 16 x 16 cells, with two squares of 10 to 14 pixels each: red or green.
fn squares(from: u64, n: usize) -> BoxedMaps {
    let (mut maps, mut boxes) = (Vec::new(), Vec::new());
    for image in 0..n as u64 {
        let mut rng = Key::new(7).with(from + image).rng();
        let map = Tensor::zeros([2, CELLS, CELLS], (Kind::Float, Device::Cpu));
        let mut of_image = Vec::new();
        for half in 0..2 {
            let side = f64::from(rng.random_range(10..=14));
            let x0 = f64::from(rng.random_range(0..=50_u32));
            let y0 = f64::from(32 * half + rng.random_range(0..=16_u32));
            let class = rng.random_range(0..2_usize);
            let (x1, y1) = ((x0 + side).min(64.0), (y0 + side).min(64.0));
            of_image.push(TrueBox { rectangle: Rectangle { x0, y0, x1, y1 }, class, kind: BoxKind::Counted });
            for row in 0..CELLS {
                for column in 0..CELLS {
                    let covered = |cell: i64, from: f64, to: f64| {
                        let start = cell as f64 * PIXELS;
                        ((start + PIXELS).min(to) - start.max(from)).max(0.0) / PIXELS
                    };
                    let value = covered(row, y0, y1) * covered(column, x0, x1);
                    let _ = map.get(class as i64).get(row).get(column).f_add_scalar_(value).unwrap();
                }
            }
        }
        maps.push(map);
        boxes.push(of_image);
    }
    BoxedMaps::new(&Tensor::stack(&maps, 0), boxes, vec![[64.0; 2]; n], 2).unwrap()
}

fn probe(config: DetectionProbeConfig) -> DetectionProbe {
    DetectionProbe::new(config).unwrap()
}

fn quick() -> DetectionProbeConfig {
    DetectionProbeConfig { resamples: 20, ..Default::default() }
}

#[test]
fn coloured_squares_are_found() {
    let (train, validation, test) = (squares(0, 60), squares(100, 20), squares(200, 20));
    let mut done = Vec::new();
    let found = probe(quick()).run(&train, Some(&validation), &test, &mut |n| done.push(n)).unwrap();
    assert!(found.map50.value > 0.95, "{:?}", found.detection);
    assert!(found.detection.ap.unwrap() > 0.5, "{:?}", found.detection);
    assert_eq!(done, (1..=20).collect::<Vec<_>>());
    let interval = found.map50.interval.unwrap();
    assert!(interval.low <= found.map50.value && found.map50.value <= interval.high);
    assert!(found.found.iter().flatten().all(|b| b.rectangle.x1 <= 64.0 && b.rectangle.x0 >= 0.0));
    let measures = found.measurements("test");
    let map50 = measures.iter().find(|m| m.name == "detection_map50").unwrap();
    assert_eq!(map50.interval, found.map50.interval);
    for (m, mean) in measures.iter().zip([&found.map, &found.map50, &found.map75, &found.recall100]) {
        let interval = m.interval.unwrap();
        assert!(m.value == mean.value && interval.low <= m.value && m.value <= interval.high, "{m:?}");
    }
    assert!(map50.definition.ends_with("a probe, not a detector"), "{}", map50.definition);
    let without = probe(quick()).run(&train, None, &test, &mut |_| ()).unwrap();
    assert!(without.map50.value > 0.9, "{:?}", without.detection);
}

#[test]
fn a_level_without_held_out_boxes_takes_the_strengths_of_the_nearest_that_has_some() {
    // A box over the whole image besides, which the validation images lack.
    let with_large = |mut set: BoxedMaps| {
        let rectangle = Rectangle { x0: 0.0, y0: 0.0, x1: 64.0, y1: 64.0 };
        for of_image in &mut set.boxes {
            of_image.push(TrueBox { rectangle, class: 0, kind: BoxKind::Counted });
        }
        set
    };
    let (train, validation, test) =
        (with_large(squares(0, 30)), squares(100, 10), with_large(squares(200, 5)));
    let found = probe(quick()).run(&train, Some(&validation), &test, &mut |_| ()).unwrap();
    let levels: Vec<(i64, i64)> = found.levels.iter().map(|level| (level.cells, level.chosen_on)).collect();
    assert_eq!(levels, [(1, 1), (8, 1)]);
    let [small, large] = [&found.levels[0], &found.levels[1]];
    assert_eq!((small.c, small.centre_c, small.alpha), (large.c, large.centre_c, large.alpha));
    assert!(found.levels.iter().all(|level| level.converged), "{found:?}");
    let both = probe(quick()).run(&train, Some(&with_large(validation)), &test, &mut |_| ()).unwrap();
    assert_eq!(both.levels.iter().map(|level| level.chosen_on).collect::<Vec<_>>(), [1, 8]);
    let none = BoxedMaps { boxes: vec![vec![]; 10], ..squares(100, 10) };
    let error = probe(quick()).run(&train, Some(&none), &test, &mut |_| ()).unwrap_err().to_string();
    assert!(error.starts_with("held-out boxes = none: at least one"), "{error}");
}

#[test]
fn features_without_information_are_at_chance() {
    let blind = |set: BoxedMaps, from: i64| {
        let (n, all) = (set.len(), formula(120, 512));
        BoxedMaps { maps: all.narrow(0, from, n).reshape([n, 2, CELLS, CELLS]), ..set }
    };
    let (train, test) = (blind(squares(0, 60), 0), blind(squares(200, 20), 80));
    let found = probe(quick()).run(&train, None, &test, &mut |_| ()).unwrap();
    assert!(found.map50.value < 0.1, "{:?}", found.detection);
}

#[test]
fn wide_maps_are_projected_and_lose_nothing_that_matters() {
    let mix = formula(80, 2).transpose(0, 1); // [2, 80]
    let widen = |set: BoxedMaps| {
        let maps = Tensor::einsum("nchw,cd->ndhw", &[&set.maps, &mix], None::<i64>);
        BoxedMaps { maps, ..set }
    };
    let (train, test) = (widen(squares(0, 60)), widen(squares(200, 20)));
    let config = DetectionProbeConfig { components: 4, ..quick() };
    let found = probe(config).run(&train, None, &test, &mut |_| ()).unwrap();
    assert!(found.map50.value > 0.9, "{:?}", found.detection);
}

fn one(rectangle: [f64; 4], kind: BoxKind) -> BoxedMaps {
    let [x0, y0, x1, y1] = rectangle;
    let rectangle = Rectangle { x0, y0, x1, y1 };
    let maps = formula(8, 24).reshape([1, 3, 8, 8]);
    BoxedMaps::new(&maps, vec![vec![TrueBox { rectangle, class: 0, kind }]], vec![[32.0, 64.0]], 1).unwrap()
}

fn pyramid(set: &BoxedMaps) -> Pyramid {
    let projection = Projection::of(&set.maps, 64, Key::new(0)).unwrap();
    Pyramid { projection, levels: levels(8, 8, 5) }
}

#[test]
fn a_box_belongs_to_the_places_near_its_middle_at_the_level_of_its_size() {
    // Cells of 4 x 8 pixels: the box is 2 cells wide and 3 high.
    let set = one([16.0, 8.0, 32.0, 20.0], BoxKind::Counted);
    let pyramid = pyramid(&set);
    assert_eq!(pyramid.levels, 3);
    let targets = pyramid.targets(&set, 0, 0);
    assert_eq!((targets.boxes, pyramid.targets(&set, 0, 1).boxes), (1, 0));
    let places: Vec<(usize, Target)> = targets
        .of_places
        .iter()
        .enumerate()
        .filter_map(|(i, known)| if let Known::Box(target) = known { Some((i, *target)) } else { None })
        .collect();
    let positions: Vec<usize> = places.iter().map(|(i, _)| *i).collect();
    assert_eq!(positions, [18, 19, 26, 27, 34, 35]);
    assert_eq!(places[0].1.distances, [0.5, 0.5, 1.5, 2.5]);
    assert!((places[0].1.centre() - (0.5 / 1.5 * 0.5 / 2.5_f64).sqrt()).abs() < 1e-12);
    // Sides of 2 to 4 cells at a level; longer ones go up.
    let levels: Vec<usize> = [0.3, 2.0, 3.9, 4.0, 7.9, 8.0, 99.0].map(|side| pyramid.level_of(side)).to_vec();
    assert_eq!(levels, [0, 0, 0, 1, 1, 2, 2]);
}

#[test]
fn a_box_between_places_has_one_and_a_crowd_none() {
    let between = one([7.5, 3.8, 8.2, 4.1], BoxKind::Counted);
    let known = pyramid(&between).targets(&between, 0, 0).of_places;
    let boxes: Vec<usize> = (0..64).filter(|&i| known[i] != Known::Background).collect();
    assert_eq!(boxes, [0]);
    assert!(matches!(known[0], Known::Box(target) if target.distances[0] < 0.0 && target.centre() == 0.0));
    let crowd = one([16.0, 8.0, 32.0, 20.0], BoxKind::Crowd);
    let known = pyramid(&crowd).targets(&crowd, 0, 0);
    assert_eq!(known.boxes, 0);
    assert_eq!(known.of_places.iter().filter(|known| **known == Known::Neither).count(), 6);
}

#[test]
fn a_place_sees_its_neighbours_and_the_mean_outside() {
    let set = one([0.0, 0.0, 32.0, 16.0], BoxKind::Counted);
    let pyramid = pyramid(&set);
    let level = pyramid.neighbourhoods(&set, 0, 0).unwrap();
    assert_eq!(level.size(), [64, 27]);
    let map = pyramid.projection.apply(&set.maps).get(0);
    // Channel 1, one row up and one column to the right of row 3, column 4.
    let seen = level.double_value(&[3 * 8 + 4, 9 + 2]);
    assert!((seen - map.double_value(&[1, 2, 5])).abs() < 1e-6);
    assert_eq!(level.double_value(&[0, 0]), 0.0);
    let coarse = pyramid.neighbourhoods(&set, 0, 2).unwrap();
    assert_eq!(coarse.size(), [4, 27]);
    let mean = map.get(2).narrow(0, 0, 4).narrow(1, 4, 4).mean(Kind::Double);
    assert!((coarse.double_value(&[1, 18 + 4]) - f64::try_from(mean).unwrap()).abs() < 1e-6);
}

#[test]
fn rejects_what_it_cannot_fit() {
    let maps = formula(2, 12).reshape([2, 3, 2, 2]);
    let set = |boxes: Vec<Vec<TrueBox>>| BoxedMaps::new(&maps, boxes, vec![[8.0, 8.0]; 2], 2);
    let at = |x1: f64, class| TrueBox {
        rectangle: Rectangle { x0: 1.0, y0: 1.0, x1, y1: 4.0 },
        class,
        kind: BoxKind::Counted,
    };
    let error = set(vec![vec![]]).unwrap_err().to_string();
    assert_eq!(error, "boxes = 1: 2, one for each map");
    let error = set(vec![vec![], vec![at(9.0, 0)]]).unwrap_err().to_string();
    assert_eq!(error, "a box of image 1 = 1, 1 to 9, 4: a box with an area, inside 8 x 8");
    let error = set(vec![vec![at(1.0, 0)], vec![]]).unwrap_err().to_string();
    assert_eq!(error, "a box of image 0 = 1, 1 to 1, 4: a box with an area, inside 8 x 8");
    let error = set(vec![vec![at(4.0, 2)], vec![]]).unwrap_err().to_string();
    assert_eq!(error, "class of image 0 = 2: in 0..2");
    for side in [f64::NAN, -1.0, 0.0, f64::INFINITY] {
        let sizes = vec![[8.0, 8.0], [8.0, side]];
        let error = BoxedMaps::new(&maps, vec![vec![], vec![]], sizes, 2).unwrap_err().to_string();
        assert_eq!(error, format!("size of image 1 = 8 x {side}: a height and a width above 0"));
    }
    let empty = set(vec![vec![], vec![]]).unwrap();
    let full = set(vec![vec![at(4.0, 1)], vec![at(5.0, 0)]]).unwrap();
    let error = probe(quick()).run(&empty, None, &full, &mut |_| ()).unwrap_err().to_string();
    assert_eq!(error, "train boxes = none that counts: at least one");
    let error = probe(quick()).run(&full, None, &empty, &mut |_| ()).unwrap_err().to_string();
    assert_eq!(error, "test boxes = none that counts: at least one");
    let refused = |config| DetectionProbe::new(config).unwrap_err().to_string();
    assert_eq!(refused(DetectionProbeConfig { overlap: 2.0, ..quick() }), "overlap = 2: from 0 to 1");
    assert_eq!(refused(DetectionProbeConfig { levels: 0, ..quick() }), "levels = 0: at least 1");
    assert_eq!(
        refused(DetectionProbeConfig { alphas: vec![0.0], ..quick() }),
        "alphas = [0.0]: numbers above 0"
    );
}
