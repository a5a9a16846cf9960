//! Weather: snow, frost, fog, brightness.

use super::level::Level;
use super::noise::normal;
use super::plane::Plane;
use super::plasma::plasma;
use rand::RngExt;
use selfsup_core::Rng;

/// How it snows.
#[derive(Clone, Copy)]
struct Snow {
    mean: f64,
    std: f64,
    zoom: f64,
    threshold: f64,
    radius: i64,
    sigma: f64,
    /// The share of the picture that is not whitened.
    kept: f64,
}

/// Flakes that fall in streaks, twice, the second time turned by 180 degrees, over a whitened picture.
pub(super) fn snow(all: &mut [Plane], level: Level, rng: &mut Rng) {
    let snow = |(mean, std, zoom, threshold, radius, sigma, kept)| Snow {
        mean,
        std,
        zoom,
        threshold,
        radius,
        sigma,
        kept,
    };
    let snow = snow(level.pick(
        [
            (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
            (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
        ],
        [
            (0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
            (0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
            (0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
        ],
    ));
    let Some(Plane { height, width, .. }) = all.first() else { return };
    let noise = Plane::new(*height, *width, |_, _| snow.mean + snow.std * normal(rng));
    let angle = rng.random_range(-135.0..-45.0);
    snow_with(all, snow, &noise, angle);
}

fn snow_with(all: &mut [Plane], snow: Snow, noise: &Plane, angle: f64) {
    let mut flakes = noise.zoomed(snow.zoom);
    let bytes = |v: f64| (v.clamp(0.0, 1.0) * 255.0).floor() / 255.0;
    flakes.map(|v| if v < snow.threshold { 0.0 } else { bytes(v) });
    let mut flakes = flakes.moved(snow.radius, snow.sigma, angle);
    flakes.map(|v| (v * 255.0).round() / 255.0);
    // OpenCV's weights.
    let grey: Vec<f64> = match all {
        [r, g, b] => {
            let colours = r.values.iter().zip(&g.values).zip(&b.values);
            colours.map(|((r, g), b)| 0.299 * r + 0.587 * g + 0.114 * b).collect()
        }
        _ => all[0].values.clone(),
    };
    for plane in all {
        let layers = flakes.values.iter().zip(flakes.values.iter().rev());
        for ((v, grey), (first, second)) in plane.values.iter_mut().zip(&grey).zip(layers) {
            *v = snow.kept * *v + (1.0 - snow.kept) * v.max(grey * 1.5 + 0.5) + first + second;
        }
    }
}

/// How the colours of ice differ from grey.
const TINT: [f64; 3] = [-0.07, 0.01, 0.06];

/// Ice crystals over the picture.
///
/// The authors lay crops of five photographs over it, which cannot be handed on with this program. Here the ice is drawn: a
/// ground of rough plasma with bright ridges along the level lines of two more, with the mean colour (0.57, 0.65, 0.70) and
/// about the spread (0.14) of those photographs, and mixed by the authors' constants.
pub(super) fn frost(all: &mut [Plane], level: Level, rng: &mut Rng) {
    let (kept, ice) = level.pick(
        [(1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)],
        [(1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)],
    );
    let Some(Plane { height, width, .. }) = all.first().cloned() else { return };
    let crystals = crystals(height, width, rng);
    let colour = all.len() == 3;
    for (plane, tint) in all.iter_mut().zip(TINT) {
        let tint = if colour { tint } else { 0.0 };
        for (v, crystal) in plane.values.iter_mut().zip(&crystals.values) {
            *v = kept * *v + ice * (crystal + tint).clamp(0.0, 1.0);
        }
    }
}

/// Ice of mean 0.64.
fn crystals(height: usize, width: usize, rng: &mut Rng) -> Plane {
    const MEAN: f64 = 0.64;
    const STD: f64 = 0.14;
    let side = height.max(width).next_power_of_two();
    let mut draw = || rng.random_range(-1.0..1.0);
    let (ground, first, second) =
        (plasma(side, 1.4, &mut draw), plasma(side, 1.9, &mut draw), plasma(side, 1.7, &mut draw));
    let ridge = |v: f64| (1.0 - (2.0 * v - 1.0).abs()).powi(6);
    let mut ice = Plane::new(height, width, |y, x| {
        ground.at(y, x) + 0.6 * ridge(first.at(y, x)) + 0.4 * ridge(second.at(y, x))
    });
    let n = ice.values.len() as f64;
    let mean = ice.values.iter().sum::<f64>() / n;
    let std = (ice.values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    ice.map(|v| MEAN + STD * (v - mean) / std.max(1e-6));
    ice
}

/// A haze of plasma, after which the brightest value is as bright as before.
pub(super) fn fog(all: &mut [Plane], level: Level, rng: &mut Rng) {
    let (thickness, decay) = level.pick(
        [(0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)],
        [(1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4)],
    );
    fog_with(all, thickness, decay, &mut || rng.random_range(-1.0..1.0));
}

fn fog_with(all: &mut [Plane], thickness: f64, decay: f64, draw: &mut dyn FnMut() -> f64) {
    let Some(Plane { height, width, .. }) = all.first() else { return };
    let haze = plasma((*height.max(width)).next_power_of_two(), decay, draw);
    let brightest = all.iter().flat_map(|plane| &plane.values).copied().fold(0.0, f64::max);
    for plane in all {
        let width = plane.width;
        for (i, v) in plane.values.iter_mut().enumerate() {
            *v = (*v + thickness * haze.at(i / width, i % width)) * brightest / (brightest + thickness);
        }
    }
}

/// Brighter by an amount: of the value in HSV for colours.
pub(super) fn brightness(all: &mut [Plane], level: Level) {
    let more = level.pick([0.05, 0.1, 0.15, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4, 0.5]);
    let [r, g, b] = all else {
        for plane in all {
            plane.map(|v| v + more);
        }
        return;
    };
    for ((r, g), b) in r.values.iter_mut().zip(&mut g.values).zip(&mut b.values) {
        let [hue, saturation, value] = to_hsv([*r, *g, *b]);
        [*r, *g, *b] = from_hsv([hue, saturation, (value + more).min(1.0)]);
    }
}

/// scikit-image's `rgb2hsv`, in its order of operations.
fn to_hsv([r, g, b]: [f64; 3]) -> [f64; 3] {
    let value = r.max(g).max(b);
    let range = value - r.min(g).min(b);
    if range == 0.0 {
        return [0.0, 0.0, value];
    }
    let hue = if b == value {
        4.0 + (r - g) / range
    } else if g == value {
        2.0 + (b - r) / range
    } else {
        (g - b) / range
    };
    [(hue / 6.0).rem_euclid(1.0), range / value, value]
}

/// scikit-image's `hsv2rgb`.
fn from_hsv([hue, saturation, value]: [f64; 3]) -> [f64; 3] {
    let sixth = (hue * 6.0).floor();
    let f = hue * 6.0 - sixth;
    let p = value * (1.0 - saturation);
    let q = value * (1.0 - f * saturation);
    let t = value * (1.0 - (1.0 - f) * saturation);
    match sixth as i64 % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corrupt::plane::planes;
    use crate::corrupt::reference::{assert_shows, draws, picture, y};
    use selfsup_core::Key;

    // def fog(x, c): m = x.max(); x = x + c[0] * ic.plasma_fractal(32, c[1])[:24, :32][..., None]; return np.clip(x * m / (m + c[0]), 0, 1)
    // show(fog(y, (.75, 2.5)))
    #[test]
    fn fog_agrees_with_the_authors() {
        let mut found = y();
        fog_with(&mut found, 0.75, 2.5, &mut draws());
        assert_shows(&found, [0.682673, 0.918596, 0.881132, 0.594291, 0.370197, 0.448704], 1248.9995, 7.901);
    }

    // def snow(x, c, noise, angle):
    //     s = clipped_zoom(noise[..., None], c[2]).squeeze(); s[s < c[3]] = 0; s = (np.clip(s, 0, 1) * 255).astype(np.uint8) / 255.
    //     s = (np.round(ic._motion_blur(s, c[4], c[5], angle) * 255) / 255.)[..., None]
    //     grey = (x @ np.array([.299, .587, .114]))[..., None] if x.shape[2] == 3 else x
    //     return np.clip(c[6] * x + (1 - c[6]) * np.maximum(x, grey * 1.5 + .5) + s + np.rot90(s, 2), 0, 1)
    // c = (.15, .3, 1.75, .55, 10, 4, .9); noise = draws(24 * 32).reshape(24, 32)
    // show(snow(y, c, noise, -70.)), show(snow(picture(24, 32, 1) / 255., c, noise, -70.))
    #[test]
    fn snow_agrees_with_the_authors_in_colour_and_in_grey() {
        let snow =
            Snow { mean: 0.15, std: 0.3, zoom: 1.75, threshold: 0.55, radius: 10, sigma: 4.0, kept: 0.9 };
        let mut draw = draws();
        let noise = Plane::new(24, 32, |_, _| draw());
        let mut found = y();
        snow_with(&mut found, snow, &noise, -70.0);
        assert_shows(&found, [0.606485, 1.0, 1.0, 0.97147, 0.603144, 0.438598], 1443.3638, 8.6845);
        let mut found = planes(&picture(24, 32, 1));
        snow_with(&mut found, snow, &noise, -70.0);
        assert_shows(&found, [0.584902, 0.805686, 1.0, 1.0, 1.0, 1.0], 478.278, 12.7946);
    }

    #[test]
    fn frost_has_the_mean_and_spread_of_the_photographs_and_no_two_crops_are_alike() {
        let (first, second) =
            (crystals(32, 24, &mut Key::new(0).rng()), crystals(32, 24, &mut Key::new(1).rng()));
        assert_ne!(first, second);
        let mean = first.values.iter().sum::<f64>() / 768.0;
        let variance = first.values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 768.0;
        assert!((mean - 0.64).abs() < 1e-9 && (variance.sqrt() - 0.14).abs() < 1e-9, "{mean}, {variance}");
    }

    #[test]
    fn colours_go_to_hsv_and_back() {
        for rgb in [
            [0.2, 0.4, 0.9],
            [0.9, 0.1, 0.1],
            [0.3, 0.7, 0.2],
            [0.5, 0.5, 0.5],
            [0.0, 0.0, 0.0],
            [0.8, 0.2, 0.7],
        ] {
            let back = from_hsv(to_hsv(rgb));
            assert!(back.iter().zip(rgb).all(|(b, v)| (b - v).abs() < 1e-12), "{rgb:?} {back:?}");
        }
    }
}
