//! The colours of the figures: what a light page shows, and what a dark one shows in its place.
//!
//! The classes' ten colours are those of Petroff, "Accessible Color Sequences for Data Visualization", 2021, which
//! readers with any colour vision tell apart; on dark the darkest of them are lighter.

use plotters::style::RGBColor;
use std::fmt::Write;

/// A colour in its two forms. No two tones have the same light form, which the style rules know them by.
#[derive(Clone, Copy, Debug)]
pub struct Tone {
    /// On white.
    pub light: RGBColor,
    /// On near black.
    pub dark: RGBColor,
}

const fn tone(light: [u8; 3], dark: [u8; 3]) -> Tone {
    Tone { light: RGBColor(light[0], light[1], light[2]), dark: RGBColor(dark[0], dark[1], dark[2]) }
}

/// Words and numbers.
pub const INK: Tone = tone([0x1d, 0x23, 0x2b], [0xe7, 0xea, 0xee]);
/// Words that stand back.
pub const MUTED: Tone = tone([0x5c, 0x66, 0x73], [0x9c, 0xa7, 0xb4]);
/// Lines of a grid.
pub const GRID: Tone = tone([0xe3, 0xe6, 0xea], [0x2c, 0x33, 0x3c]);
/// What the report is about: the trained encoder, a curve.
pub const ACCENT: Tone = tone([0x1f, 0x5f, 0xbf], [0x6c, 0xa8, 0xf5]);
/// What it is compared with.
pub const BASELINE: Tone = tone([0xb4, 0xbd, 0xc9], [0x56, 0x62, 0x71]);
/// The cells of a matrix, more or less opaque; white is legible on it.
pub const HEAT: Tone = tone([0x1e, 0x5e, 0xb8], [0x2f, 0x7a, 0xd6]);

/// The classes, in turn.
pub const CLASSES: [Tone; 10] = [
    tone([0x3f, 0x90, 0xda], [0x4f, 0xa0, 0xea]),
    tone([0xff, 0xa9, 0x0e], [0xff, 0xb0, 0x2e]),
    tone([0xbd, 0x1f, 0x01], [0xe2, 0x4a, 0x2c]),
    tone([0x94, 0xa4, 0xa2], [0xa6, 0xb6, 0xb4]),
    tone([0x83, 0x2d, 0xb6], [0xb0, 0x68, 0xdc]),
    tone([0xa9, 0x6b, 0x59], [0xbb, 0x7c, 0x69]),
    tone([0xe7, 0x63, 0x00], [0xf2, 0x75, 0x14]),
    tone([0xb9, 0xac, 0x70], [0xc8, 0xbb, 0x7e]),
    tone([0x71, 0x75, 0x81], [0x84, 0x89, 0x96]),
    tone([0x92, 0xda, 0xdd], [0x92, 0xda, 0xdd]),
];

/// The style rules that give the figures the colours of a dark page.
pub fn dark_rules() -> String {
    let mut rules = String::new();
    for tone in [INK, MUTED, GRID, ACCENT, BASELINE, HEAT].into_iter().chain(CLASSES) {
        let (light, dark) = (hex(tone.light), hex(tone.dark));
        for property in ["fill", "stroke"] {
            let _ = writeln!(rules, "svg [{property}=\"{light}\"] {{ {property}: {dark} }}");
        }
    }
    rules
}

/// A colour as the figures' SVG names it, as in `#1D232B`.
pub fn hex(colour: RGBColor) -> String {
    format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_tone_is_known_by_its_light_form() {
        let tones = [INK, MUTED, GRID, ACCENT, BASELINE, HEAT].into_iter().chain(CLASSES);
        let names: HashSet<String> = tones.map(|tone| hex(tone.light)).collect();
        assert_eq!(names.len(), 16);
    }
}
