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
