//! Several views of one sample.

use super::augmented_view::{AugmentedView, ViewConfig};
use super::view::View;
use selfsup_core::Result;
use std::sync::Arc;

/// Two views drawn alike: SimCLR's, MoCo's, and those of most methods since.
///
/// # Errors
/// [`selfsup_core::Error::Config`] with the field that cannot work.
pub fn two_views(config: &ViewConfig, channels: usize) -> Result<Vec<Arc<dyn View>>> {
    multi_crop(&[(config.clone(), 2)], channels)
}

/// As many views of each kind as it says, in order: SwAV's multi-crop is two large and six small ones, BYOL's pair
/// is one of each of two kinds.
///
/// # Errors
/// [`selfsup_core::Error::Config`] with the field that cannot work.
pub fn multi_crop(kinds: &[(ViewConfig, usize)], channels: usize) -> Result<Vec<Arc<dyn View>>> {
    let mut views: Vec<Arc<dyn View>> = Vec::new();
    for (config, count) in kinds {
        let view: Arc<dyn View> = Arc::new(AugmentedView::new(config.clone(), channels)?);
        views.extend(std::iter::repeat_n(view, *count));
    }
    Ok(views)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multi_crop_has_large_and_small_views_in_order() {
        let large = ViewConfig { size: 32, scale: [0.14, 1.0], ..ViewConfig::default() };
        let small = ViewConfig { size: 16, scale: [0.05, 0.14], ..ViewConfig::default() };
        let views = multi_crop(&[(large.clone(), 2), (small, 4)], 3).unwrap();
        let sides: Vec<usize> = views.iter().map(|view| view.shape()[0]).collect();
        assert_eq!(sides, [32, 32, 16, 16, 16, 16]);
        assert_eq!(two_views(&large, 1).unwrap().len(), 2);
    }
}
