//! Plasma by the diamond-square algorithm (Fournier, Fussell and Carpenter 1982), for fog and frost.

use super::plane::Plane;

/// A torus of `side` pixels, a power of two, with values from 0 to 1. Every halving of the distance divides the roughness by
/// `decay`; `draw` gives numbers from -1 to 1.
pub(super) fn plasma(side: usize, decay: f64, draw: &mut dyn FnMut() -> f64) -> Plane {
    let mut map = Plane::new(side, side, |_, _| 0.0);
    let mut wobble = 100.0_f64;
    let mut step = side;
    while step >= 2 {
        let half = step / 2;
        // The mean of four around a place, `r` away in the directions of `around`, and a draw. The authors multiply
        // the wobble by draws up to itself.
        let mut set = |map: &mut Plane, (first_y, first_x): (usize, usize), around: [(usize, usize); 4]| {
            for y in (first_y..side).step_by(step) {
                for x in (first_x..side).step_by(step) {
                    let sum: f64 =
                        around.iter().map(|(dy, dx)| map.at((y + dy) % side, (x + dx) % side)).sum();
                    map.values[y * side + x] = sum / 4.0 + wobble * wobble * draw();
                }
            }
        };
        let back = side - half;
        set(&mut map, (half, half), [(back, back), (back, half), (half, back), (half, half)]);
        let cross = [(back, 0), (half, 0), (0, back), (0, half)];
        set(&mut map, (0, half), cross);
        set(&mut map, (half, 0), cross);
        step = half;
        wobble /= decay;
    }
    let (least, most) =
        map.values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    // Of one pixel there is nothing to spread.
    let range = if most > least { most - least } else { 1.0 };
    map.map(|v| (v - least) / range);
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corrupt::reference::{assert_shows, draws};

    // np.random.uniform = lambda low, high, size: high * draws(np.prod(size), so many as were drawn).reshape(size)
    // show(ic.plasma_fractal(32, 2.0)[..., None])
    #[test]
    fn agrees_with_the_authors() {
        let found = plasma(32, 2.0, &mut draws());
        assert_shows(&[found], [0.923624, 0.882749, 0.86807, 0.855226, 0.855447, 0.850137], 650.9556, 1.1278);
    }

    #[test]
    fn one_pixel_is_dark_and_a_map_has_the_whole_range() {
        assert_eq!(plasma(1, 3.0, &mut draws()).values, [0.0]);
        let map = plasma(16, 3.0, &mut draws());
        assert!(map.values.contains(&0.0) && map.values.contains(&1.0));
    }
}
