//! The fifteen common corruptions, and what else is done to images, by name and severity.

use super::level::{Level, Severity};
use super::plane::{Cut, image as from_planes, planes};
use super::{blur, digital, displace, jpeg, noise, weather};
use crate::Image;
use selfsup_core::{Key, Result};
use serde::{Deserialize, Serialize};

/// One of the fifteen common corruptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Corruption {
    /// Normal noise in every value.
    GaussianNoise,
    /// Few photons, counted.
    ShotNoise,
    /// Values that are black or white.
    ImpulseNoise,
    /// Out of focus.
    DefocusBlur,
    /// Through frosted glass.
    GlassBlur,
    /// Shaken.
    MotionBlur,
    /// Zoomed.
    ZoomBlur,
    /// Falling snow. It is not the authors' to the bit: their flakes are ImageMagick's.
    Snow,
    /// Ice on the lens: drawn, where the authors have photographs, so that its numbers cannot be compared with published ones.
    Frost,
    /// Haze.
    Fog,
    /// More light.
    Brightness,
    /// Less contrast.
    Contrast,
    /// Stretched and shaken like rubber.
    Elastic,
    /// Fewer pixels.
    Pixelate,
    /// Compressed as JPEG.
    Jpeg,
}

/// Corruptions that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Of single values.
    Noise,
    /// Of edges.
    Blur,
    /// Of what is between camera and subject.
    Weather,
    /// Of what is done with the picture.
    Digital,
}

impl Family {
    /// All, in the paper's order.
    pub const ALL: [Family; 4] = [Family::Noise, Family::Blur, Family::Weather, Family::Digital];

    /// As in `noise`.
    pub fn name(self) -> &'static str {
        match self {
            Family::Noise => "noise",
            Family::Blur => "blur",
            Family::Weather => "weather",
            Family::Digital => "digital",
        }
    }
}

impl Corruption {
    /// All, in the paper's order.
    pub const ALL: [Corruption; 15] = [
        Corruption::GaussianNoise,
        Corruption::ShotNoise,
        Corruption::ImpulseNoise,
        Corruption::DefocusBlur,
        Corruption::GlassBlur,
        Corruption::MotionBlur,
        Corruption::ZoomBlur,
        Corruption::Snow,
        Corruption::Frost,
        Corruption::Fog,
        Corruption::Brightness,
        Corruption::Contrast,
        Corruption::Elastic,
        Corruption::Pixelate,
        Corruption::Jpeg,
    ];

    /// As in `gaussian_noise`.
    pub fn name(self) -> &'static str {
        match self {
            Corruption::GaussianNoise => "gaussian_noise",
            Corruption::ShotNoise => "shot_noise",
            Corruption::ImpulseNoise => "impulse_noise",
            Corruption::DefocusBlur => "defocus_blur",
            Corruption::GlassBlur => "glass_blur",
            Corruption::MotionBlur => "motion_blur",
            Corruption::ZoomBlur => "zoom_blur",
            Corruption::Snow => "snow",
            Corruption::Frost => "frost",
            Corruption::Fog => "fog",
            Corruption::Brightness => "brightness",
            Corruption::Contrast => "contrast",
            Corruption::Elastic => "elastic",
            Corruption::Pixelate => "pixelate",
            Corruption::Jpeg => "jpeg",
        }
    }

    /// Which others it is like.
    pub fn family(self) -> Family {
        match self {
            Corruption::GaussianNoise | Corruption::ShotNoise | Corruption::ImpulseNoise => Family::Noise,
            Corruption::DefocusBlur
            | Corruption::GlassBlur
            | Corruption::MotionBlur
            | Corruption::ZoomBlur => Family::Blur,
            Corruption::Snow | Corruption::Frost | Corruption::Fog | Corruption::Brightness => {
                Family::Weather
            }
            Corruption::Contrast | Corruption::Elastic | Corruption::Pixelate | Corruption::Jpeg => {
                Family::Digital
            }
        }
    }

    /// The image, corrupted; what is drawn for it is a function of `key`.
    ///
    /// # Errors
    /// None: every corruption holds for every image.
    pub fn apply(self, image: &Image, severity: Severity, key: Key) -> Result<Image> {
        let level = Level::of(image, severity);
        let mut rng = key.rng();
        match self {
            Corruption::Pixelate => return digital::pixelate(image, level),
            Corruption::Jpeg => {
                return jpeg::jpeg(image, level.pick([80, 65, 58, 50, 40], [25, 18, 15, 10, 7]));
            }
            _ => {}
        }
        let mut all = planes(image);
        match self {
            Corruption::GaussianNoise => noise::gaussian(&mut all, level, &mut rng),
            Corruption::ShotNoise => noise::shot(&mut all, level, &mut rng)?,
            Corruption::ImpulseNoise => noise::impulse(&mut all, level, &mut rng),
            Corruption::DefocusBlur => blur::defocus(&mut all, level),
            Corruption::GlassBlur => blur::glass(&mut all, level, &mut rng)?,
            Corruption::MotionBlur => blur::motion(&mut all, level, &mut rng),
            Corruption::ZoomBlur => blur::zoom(&mut all, level),
            Corruption::Snow => weather::snow(&mut all, level, &mut rng),
            Corruption::Frost => weather::frost(&mut all, level, &mut rng),
            Corruption::Fog => weather::fog(&mut all, level, &mut rng),
            Corruption::Brightness => weather::brightness(&mut all, level),
            Corruption::Contrast => digital::contrast(&mut all, level),
            Corruption::Elastic => digital::elastic(&mut all, level, &mut rng),
            Corruption::Pixelate | Corruption::Jpeg => {}
        }
        from_planes(&all, if self == Corruption::MotionBlur { Cut::Nearest } else { Cut::Down })
    }
}

/// What is done to every image of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Disturbance {
    /// Nothing.
    #[default]
    None,
    /// A common corruption.
    Corruption(Corruption, Severity),
    /// Moved in one of the eight directions by 1/32, 2/32, 4/32, 6/32 or 8/32 of the shorter side, mirrored at the edge.
    Shift(Severity),
    /// A grey square of 1/8, 2/8, 3/8, 4/8 or 5/8 of the shorter side, somewhere inside.
    Occlusion(Severity),
}

impl Disturbance {
    /// The image, disturbed: a function of the image, the seed and the sample's number.
    ///
    /// # Errors
    /// None: every disturbance holds for every image.
    pub fn apply(self, image: &Image, seed: u64, sample: usize) -> Result<Image> {
        let key = |kind: usize, severity: Severity| {
            Key::new(seed).with(sample as u64).with(kind as u64).with(u64::from(severity.number()))
        };
        match self {
            Disturbance::None => Ok(image.clone()),
            Disturbance::Corruption(corruption, severity) => {
                corruption.apply(image, severity, key(corruption as usize, severity))
            }
            Disturbance::Shift(severity) => displace::shift(image, severity, &mut key(100, severity).rng()),
            Disturbance::Occlusion(severity) => {
                displace::occlude(image, severity, &mut key(101, severity).rng())
            }
        }
    }

    /// As in `gaussian_noise`, `shift`, `none`.
    pub fn name(self) -> &'static str {
        match self {
            Disturbance::None => "none",
            Disturbance::Corruption(corruption, _) => corruption.name(),
            Disturbance::Shift(_) => "shift",
            Disturbance::Occlusion(_) => "occlusion",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corrupt::reference::picture;
    use std::collections::BTreeSet;

    // The authors' functions (make_cifar_c.py, make_imagenet_c.py) for any size and for one channel, with scikit-image's
    // channel_axis. def sums(a): b = np.uint8(a).ravel().astype(int); return b.sum(), (b * (np.arange(len(b)) % 97)).sum()
    // [sums(f(picture(32, 32, 3), s)) for s in range(5)], then of picture(28, 28, 1), then ImageNet's of picture(70, 66, 3)
    fn agrees(corruption: Corruption, expected: [[(i64, i64); 5]; 3], off: f64) {
        for (image, expected) in
            [picture(32, 32, 3), picture(28, 28, 1), picture(70, 66, 3)].iter().zip(expected)
        {
            for (severity, (sum, weighted)) in Severity::ALL.into_iter().zip(expected) {
                let found = corruption.apply(image, severity, Key::new(0)).unwrap();
                let bytes = found.pixels().iter().map(|&byte| i64::from(byte));
                let n = found.pixels().len() as f64;
                let found =
                    (bytes.clone().sum::<i64>(), bytes.zip((0..97).cycle()).map(|(b, i)| b * i).sum::<i64>());
                let close = (found.0 - sum).abs() as f64 <= off * n
                    && (found.1 - weighted).abs() as f64 <= 48.0 * off * n;
                assert!(close, "{corruption:?} {severity:?} {image:?}: {found:?}, not {:?}", (sum, weighted));
            }
        }
    }

    #[test]
    fn brightness_agrees_with_the_authors() {
        agrees(Corruption::Brightness, BRIGHTNESS, 0.0);
    }

    #[test]
    fn contrast_agrees_with_the_authors() {
        agrees(Corruption::Contrast, CONTRAST, 0.0);
    }

    #[test]
    fn pixelate_agrees_with_pillow() {
        agrees(Corruption::Pixelate, PIXELATE, 0.0);
    }

    #[test]
    fn jpeg_agrees_with_pillow_up_to_the_rounding_of_the_transform() {
        agrees(Corruption::Jpeg, JPEG, 0.06);
    }

    // The kernel of OpenCV has 32 bits: what lies on a byte's edge falls to either side.
    #[test]
    fn defocus_agrees_with_the_authors() {
        agrees(Corruption::DefocusBlur, DEFOCUS, 0.05);
    }

    #[test]
    fn zoom_blur_agrees_with_the_authors() {
        agrees(Corruption::ZoomBlur, ZOOM, 0.001);
    }

    const BRIGHTNESS: [[(i64, i64); 5]; 3] = [
        [(410555, 19553836), (428075, 20390604), (443826, 21141388), (457967, 21815529), (482418, 22982650)],
        [(108622, 5173679), (117052, 5574135), (124940, 5948410), (132283, 6297084), (145434, 6921172)],
        [
            (1931064, 92615499),
            (2066349, 99106539),
            (2176679, 104404067),
            (2270728, 108918466),
            (2346644, 112563602),
        ],
    ];

    const CONTRAST: [[(i64, i64); 5]; 3] = [
        [(390237, 18588294), (390202, 18590541), (390188, 18591108), (390170, 18590805), (390196, 18595176)],
        [(99660, 4745551), (99634, 4742062), (99621, 4740289), (99667, 4741594), (99685, 4741133)],
        [
            (1760284, 84429808),
            (1760255, 84426659),
            (1760780, 84453364),
            (1760236, 84430293),
            (1760401, 84438686),
        ],
    ];

    const PIXELATE: [[(i64, i64); 5]; 3] = [
        [(391980, 18667923), (392155, 18689311), (392263, 18684423), (392551, 18681960), (392917, 18730653)],
        [(100137, 4701107), (100172, 4795444), (100219, 4872947), (100269, 4786061), (100346, 4643616)],
        [
            (1772975, 84953412),
            (1774100, 85035166),
            (1770488, 84921313),
            (1769262, 84778326),
            (1770319, 84865612),
        ],
    ];

    const JPEG: [[(i64, i64); 5]; 3] = [
        [(391436, 18638959), (392408, 18692005), (391626, 18653141), (391767, 18655949), (391758, 18646132)],
        [(100025, 4766407), (99834, 4757233), (99905, 4750936), (100023, 4765886), (99873, 4748472)],
        [
            (1766224, 84680478),
            (1759557, 84310827),
            (1763142, 84551968),
            (1772655, 85026321),
            (1768434, 84860974),
        ],
    ];

    const DEFOCUS: [[(i64, i64); 5]; 3] = [
        [(390224, 18586856), (390154, 18587292), (390071, 18586378), (390085, 18593144), (390011, 18589155)],
        [(99694, 4745454), (99730, 4741115), (99739, 4735950), (99751, 4733192), (99849, 4726334)],
        [
            (1760067, 84418508),
            (1760384, 84441659),
            (1760366, 84436476),
            (1782526, 85500820),
            (1779733, 85366096),
        ],
    ];

    const ZOOM: [[(i64, i64); 5]; 3] = [
        [(390257, 18599242), (390210, 18598252), (390178, 18593975), (390145, 18598883), (390146, 18605276)],
        [(100018, 4746828), (99815, 4742397), (99590, 4746198), (99481, 4729258), (99518, 4724706)],
        [
            (1760227, 84431967),
            (1760202, 84433488),
            (1760381, 84436731),
            (1760350, 84434135),
            (1760175, 84425602),
        ],
    ];

    #[test]
    fn noise_has_the_stated_moments() {
        let grey = Image::new(vec![102; 64 * 64 * 3], [64, 64, 3]).unwrap(); // 0.4
        let moments = |corruption: Corruption| {
            let found = corruption.apply(&grey, Severity::ALL[4], Key::new(3)).unwrap();
            let n = found.pixels().len() as f64;
            // What is cut from a byte is half a byte on average.
            let values: Vec<f64> = found.pixels().iter().map(|&b| (f64::from(b) + 0.5) / 255.0).collect();
            let mean = values.iter().sum::<f64>() / n;
            (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt(), found)
        };
        let (mean, std, _) = moments(Corruption::GaussianNoise);
        assert!((mean - 0.4).abs() < 0.005 && (std - 0.1).abs() < 0.003, "{mean} {std}");
        let (mean, std, _) = moments(Corruption::ShotNoise);
        assert!((mean - 0.4).abs() < 0.006 && (std - (0.4_f64 / 50.0).sqrt()).abs() < 0.003, "{mean} {std}");
        let (_, _, found) = moments(Corruption::ImpulseNoise);
        let share =
            |byte: u8| found.pixels().iter().map(|&b| f64::from(u8::from(b == byte))).sum::<f64>() / 12288.0;
        assert!((share(0) - 0.035).abs() < 0.009 && (share(255) - 0.035).abs() < 0.009);
        assert!((share(102) - 0.93).abs() < 0.012, "{}", share(102));
    }

    #[test]
    fn what_is_drawn_depends_on_seed_sample_corruption_and_severity_alone() {
        let image = picture(28, 28, 3);
        let drawn = [
            Corruption::GaussianNoise,
            Corruption::ShotNoise,
            Corruption::ImpulseNoise,
            Corruption::GlassBlur,
            Corruption::MotionBlur,
            Corruption::Snow,
            Corruption::Frost,
            Corruption::Fog,
            Corruption::Elastic,
        ];
        let s3 = Severity::ALL[2];
        for corruption in drawn {
            let of = |seed, sample, severity| {
                Disturbance::Corruption(corruption, severity).apply(&image, seed, sample).unwrap()
            };
            let once = of(1, 2, s3);
            assert_eq!(once, of(1, 2, s3), "{corruption:?}");
            for other in [of(2, 2, s3), of(1, 3, s3), of(1, 2, Severity::ALL[4])] {
                assert_ne!(once, other, "{corruption:?}");
            }
        }
    }

    #[test]
    fn every_disturbance_keeps_the_shape_of_any_image_and_changes_it() {
        let all = Severity::ALL.into_iter().flat_map(|severity| {
            let corruptions = Corruption::ALL.into_iter().map(move |c| Disturbance::Corruption(c, severity));
            corruptions.chain([Disturbance::Shift(severity), Disturbance::Occlusion(severity)])
        });
        for disturbance in all {
            for shape in [[28, 28, 1], [32, 32, 3], [1, 1, 1], [3, 2, 3], [9, 70, 3]] {
                let [height, width, channels] = shape;
                let image = picture(height, width, channels);
                let found = disturbance.apply(&image, 0, 7).unwrap();
                assert_eq!([found.height(), found.width(), found.channels()], shape, "{disturbance:?}");
                if height > 20 {
                    assert_ne!(found, image, "{disturbance:?}");
                }
            }
        }
        let image = picture(5, 5, 3);
        assert_eq!(Disturbance::None.apply(&image, 0, 0).unwrap(), image);
    }

    #[test]
    fn higher_severities_are_farther_from_the_image() {
        // A picture without the high frequencies of the others, as photographs are.
        let value = |i: usize| {
            ((((i / 96) as f64 * 0.2).sin() + ((i % 96 / 3) as f64 * 0.17).cos()) * 60.0 + 125.0) as u8
        };
        let image = Image::new((0..96 * 32).map(value).collect(), [32, 32, 3]).unwrap();
        for corruption in Corruption::ALL {
            let far = |severity| {
                let mut sum = 0.0;
                for sample in 0..20 {
                    let found =
                        Disturbance::Corruption(corruption, severity).apply(&image, 0, sample).unwrap();
                    let pairs = found.pixels().iter().zip(image.pixels());
                    sum += pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).sum::<f64>();
                }
                sum
            };
            // For small images the weakest elastic change is the largest affine one.
            let least = if corruption == Corruption::Elastic { 0.3 } else { 1.3 };
            assert!(far(Severity::ALL[4]) > least * far(Severity::ALL[0]), "{corruption:?}");
        }
    }

    #[test]
    fn names_are_the_papers_and_families_hold_all() {
        let names: BTreeSet<&str> = Corruption::ALL.map(Corruption::name).into();
        assert_eq!(names.len(), 15);
        for (family, count) in Family::ALL.into_iter().zip([3, 4, 4, 4]) {
            assert_eq!(Corruption::ALL.iter().filter(|c| c.family() == family).count(), count, "{family:?}");
        }
        let json = serde_json::to_string(&Corruption::ALL[0]).unwrap();
        assert_eq!(json, format!("\"{}\"", Corruption::ALL[0].name()));
    }
}
