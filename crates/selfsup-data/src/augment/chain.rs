//! Transforms one after the other.

use selfsup_core::{Augment, Result, Rng};

/// The transform `.1` after the transform `.0`.
///
/// ```
/// use selfsup_core::{Augment, Key};
/// use selfsup_data::Image;
/// use selfsup_data::augment::{Chain, Padding, RandomCrop, RandomFlip};
///
/// // The weak augmentation of semi-supervised learning on CIFAR.
/// let weak = Chain(
///     RandomCrop { size: [32, 32], padding: 4, fill: Padding::Reflect },
///     RandomFlip { horizontal: 0.5, vertical: 0.0 },
/// );
/// let image = Image::new(vec![128; 32 * 32 * 3], [32, 32, 3])?;
/// let view = weak.apply(image, &mut Key::new(0).rng())?;
/// assert_eq!((view.channels, view.height, view.width), (3, 32, 32));
/// # Ok::<(), selfsup_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Chain<A, B>(pub A, pub B);

impl<In, A: Augment<In>, B: Augment<A::Out>> Augment<In> for Chain<A, B> {
    type Out = B::Out;

    fn apply(&self, item: In, rng: &mut Rng) -> Result<B::Out> {
        self.1.apply(self.0.apply(item, rng)?, rng)
    }
}
