//! Shuffled BatchNorm (He et al. 2020, *Momentum Contrast for Unsupervised Visual Representation Learning*, section 3.3):
//! the parts of a batch that BatchNorm sees apart, queries in their own order and keys in a random one. See
//! [`moco_v2`](crate::contrastive::moco_v2).

use selfsup_core::{Error, Result, Site, Tensor};

/// Checks the number of groups.
///
/// # Errors
/// [`Error::Config`] when there is none.
pub(crate) fn check(groups: i64) -> Result<()> {
    if groups < 1 {
        return Err(Error::config("groups", groups, "at least 1 group"));
    }
    Ok(())
}

/// The groups of a site whose teacher, a twin of encoder and heads, stands already: none without BatchNorm in these.
pub(crate) fn where_there_is_batch_norm<E: ?Sized>(site: &Site<E>, groups: i64) -> Option<i64> {
    let teacher = site.name("teacher.");
    let mut names = site.store.variables().into_keys();
    let normed = names.any(|name| name.starts_with(&teacher) && name.ends_with(".running_mean"));
    normed.then_some(groups)
}

/// Refuses `view` `[N, C, H, W]` when it has too few images for the groups.
///
/// # Errors
/// [`Error::Shape`] when a group would have fewer than two.
pub(crate) fn two_in_each(groups: Option<i64>, view: &Tensor) -> Result<()> {
    match groups {
        Some(groups) if view.size()[0] < 2 * groups => Err(Error::Shape {
            name: "view 0".to_owned(),
            expected: format!("at least {} images, two for BatchNorm in each of {groups} groups", 2 * groups),
            found: format!("{:?}", view.size()),
        }),
        _ => Ok(()),
    }
}

/// What `embed` makes of images `[N, C, H, W]` in the order `shuffled`, Int64 `[N]`: tensors of N rows each, put back into
/// the images' own order.
///
/// # Errors
/// Those of `embed`.
pub(crate) fn shuffled<const K: usize>(
    images: &Tensor,
    shuffled: &Tensor,
    embed: impl FnOnce(&Tensor) -> Result<[Tensor; K]>,
) -> Result<[Tensor; K]> {
    let back = shuffled.argsort(0, false);
    Ok(embed(&images.index_select(0, shuffled))?.map(|x| x.index_select(0, &back)))
}
