//! Square tiles of images, cut for the whole batch at once.

use selfsup_core::{Device, Kind, Tensor};

/// Cuts tiles of `side` pixels out of images. `tops` and `lefts` are the first rows and columns, which each channel may
/// have for itself; they lie within the images.
///
/// # Shapes
/// Images `[N, C, H, W]`, `tops` and `lefts` `[N, K, C]` Int64, to `[N, K, C, side, side]`.
pub(crate) fn cut(images: &Tensor, tops: &Tensor, lefts: &Tensor, side: i64) -> Tensor {
    let (size, width) = (tops.size(), images.size()[3]);
    let (n, k, c) = (size[0], size[1], size[2]);
    let span = Tensor::arange(side, (Kind::Int64, images.device()));
    let rows = tops.unsqueeze(-1) + &span; // [N, K, C, side]
    let columns = lefts.unsqueeze(-1) + &span;
    let pixels = rows.unsqueeze(-1) * width + columns.unsqueeze(-2); // [N, K, C, side, side]
    let images = images.flatten(2, 3).unsqueeze(1); // [N, 1, C, H * W]
    images
        .expand([n, k, c, -1], false)
        .gather(3, &pixels.reshape([n, k, c, side * side]), false)
        .reshape([n, k, c, side, side])
}

/// The same place for every channel, or one that differs by up to `jitter` pixels for each.
///
/// # Shapes
/// `[N, K]` to `[N, K, channels]`, within `0..=last`.
pub(crate) fn for_channels(places: &Tensor, channels: i64, jitter: i64, last: i64) -> Tensor {
    let size = places.size();
    let shape = [size[0], size[1], channels];
    let places = places.unsqueeze(2).expand(shape, false);
    if jitter == 0 || channels == 1 {
        return places;
    }
    let moved = whole(-jitter, jitter, &shape, places.device());
    (places + moved).clamp(0, last)
}

/// Whole numbers, each equally likely from `low` to `high`.
pub(crate) fn whole(low: i64, high: i64, shape: &[i64], device: Device) -> Tensor {
    Tensor::randint_low(low, high + 1, shape, (Kind::Int64, device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_what_a_loop_cuts() {
        let images = Tensor::arange(2 * 2 * 5 * 7, (Kind::Float, Device::Cpu)).reshape([2, 2, 5, 7]);
        let tops = Tensor::from_slice(&[0_i64, 1, 2, 3, 3, 2, 1, 0, 0, 1, 2, 3]).reshape([2, 3, 2]);
        let lefts = Tensor::from_slice(&[5_i64, 4, 3, 2, 1, 0, 0, 1, 2, 3, 4, 5]).reshape([2, 3, 2]);
        let tiles = cut(&images, &tops, &lefts, 2);
        assert_eq!(tiles.size(), [2, 3, 2, 2, 2]);
        for place in 0..48_i64 {
            let at = [place / 24, place / 8 % 3, place / 4 % 2, place / 2 % 2, place % 2];
            let (top, left) = (tops.int64_value(&at[..3]), lefts.int64_value(&at[..3]));
            let expected = images.double_value(&[at[0], at[2], top + at[3], left + at[4]]);
            assert_eq!(tiles.double_value(&at), expected, "{at:?}");
        }
    }

    #[test]
    fn channels_move_within_the_image() {
        let places = Tensor::from_slice(&[0_i64, 9, 4, 0]).reshape([2, 2]);
        assert_eq!(for_channels(&places, 1, 2, 9).flatten(0, -1), places.flatten(0, -1));
        let moved = for_channels(&places.repeat([200, 1]), 3, 2, 9);
        let away = &moved - places.repeat([200, 1]).unsqueeze(2);
        assert_eq!((i64::try_from(moved.min()).unwrap(), i64::try_from(moved.max()).unwrap()), (0, 9));
        assert_eq!((i64::try_from(away.min()).unwrap(), i64::try_from(away.max()).unwrap()), (-2, 2));
    }
}
