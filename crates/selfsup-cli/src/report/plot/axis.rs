//! The span of a figure's values along one side, with round values on it.

/// Lines of the grid, about.
const LINES: f64 = 4.0;

/// Whether an axis begins at zero.
#[derive(PartialEq)]
pub enum Zero {
    /// Where the values begin.
    Free,
    /// At zero, where the values come near it.
    IfNear,
}

/// The span of values along one side.
pub struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// The axis on which all the values lie; of no value it is that from 0 to 1.
    pub fn around(values: impl Iterator<Item = f64> + Clone, zero: Zero) -> Self {
        let mut low = values.clone().fold(f64::INFINITY, f64::min);
        let mut high = values.fold(f64::NEG_INFINITY, f64::max);
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if zero == Zero::IfNear && low >= 0.0 && low < 0.4 * high {
            low = 0.0;
        }
        if high - low <= 1e-9 * high.abs().max(low.abs()) {
            let room = if high == 0.0 { 1.0 } else { 0.1 * high.abs() };
            (low, high) = (low - room, high + room);
        }
        if zero == Zero::IfNear {
            let room = 0.05 * (high - low);
            (low, high) = (if low == 0.0 { 0.0 } else { low - room }, high + room);
        }
        let rough = (high - low) / LINES;
        let power = 10.0_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|&step| step >= rough);
        Axis { low, high, step: step.unwrap_or(10.0 * power) }
    }

    /// Where a value lies, from 0 to 1.
    pub fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// The round values on the axis.
    pub fn ticks(&self) -> Vec<f64> {
        let (first, last) = ((self.low / self.step - 1e-6).ceil(), (self.high / self.step + 1e-6).floor());
        (0..=(last - first).clamp(0.0, 20.0) as u32).map(|k| (first + f64::from(k)) * self.step).collect()
    }

    /// A tick in as many digits as tell it from the next.
    pub fn label(&self, tick: f64) -> String {
        let largest = self.high.abs().max(self.low.abs());
        if tick.abs() < 0.5 * self.step {
            return "0".into();
        }
        if largest >= 10_000.0 {
            let (unit, name) = if largest >= 2_000_000.0 { (1e6, "M") } else { (1e3, "k") };
            return format!("{}{name}", (tick / unit * 100.0).round() / 100.0);
        }
        if largest < 0.001 {
            return format!("{}e-{}", short(tick, largest), -exponent(largest));
        }
        let digits = (2 - exponent(self.step)).clamp(0, 6) as usize;
        let text = format!("{tick:.digits$}");
        if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
    }
}

/// The power of ten of a value.
fn exponent(value: f64) -> i32 {
    value.abs().log10().floor() as i32
}

/// The digits of a value in units of the power of ten of another.
fn short(value: f64, unit: f64) -> f64 {
    (value / 10.0_f64.powi(exponent(unit)) * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64]) -> Vec<String> {
        let axis = Axis::around(values.iter().copied(), Zero::IfNear);
        axis.ticks().into_iter().map(|tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_short() {
        assert_eq!(labels(&[0.1, 1.9]), ["0", "0.5", "1", "1.5"]);
        assert_eq!(labels(&[0.0, 0.0006]), ["0", "2e-4", "4e-4", "6e-4"]);
        assert_eq!(labels(&[0.0, 0.06]), ["0", "0.02", "0.04", "0.06"]);
        assert_eq!(labels(&[0.0, 100_000.0]), ["0", "50k", "100k"]);
        assert_eq!(labels(&[5.1, 5.3]), ["5.1", "5.2", "5.3"]);
        assert_eq!(labels(&[5.11, 5.19]), ["5.125", "5.15", "5.175"]);
    }

    #[test]
    fn an_axis_of_one_value_or_of_none_has_a_width() {
        for values in [&[][..], &[0.0], &[3.0], &[-2.0, -2.0], &[1e-30]] {
            let axis = Axis::around(values.iter().copied(), Zero::IfNear);
            assert!(axis.high > axis.low && axis.step > 0.0, "{values:?}");
            assert!((1..20).contains(&axis.ticks().len()), "{values:?}");
        }
    }
}
