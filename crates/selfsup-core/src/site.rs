//! Where an objective is built: the variables of the run, the encoder that will learn, and a way to make another like it.

use crate::{Encoder, Result, nn};
use std::fmt;

/// Makes a network like the encoder under another path.
pub type Twin<'a, E> = Box<dyn Fn(nn::Path) -> Result<Box<E>> + 'a>;

/// What an objective is built from. Every objective is made as `X::new(&site, &config)`, takes of the site what it
/// needs, and leaves the rest.
///
/// # Example
/// ```
/// use selfsup_core::layers::{Bias, Linear};
/// use selfsup_core::{Device, Encoder, Mode, Result, Site, Tensor, nn};
///
/// #[derive(Debug)]
/// struct Net(Linear);
/// impl Net {
///     fn new(path: nn::Path) -> Self {
///         Net(Linear::new(path, 8, 4, Bias::Yes))
///     }
/// }
/// impl Encoder for Net {
///     fn dim(&self) -> i64 {
///         4
///     }
///     fn encode(&self, x: &Tensor, _mode: Mode) -> Result<Tensor> {
///         Ok(self.0.forward(x))
///     }
/// }
///
/// let store = nn::VarStore::new(Device::Cpu);
/// let encoder = Net::new(store.root() / Site::<Net>::ENCODER);
/// let site = Site::new(&store, &encoder, 1000, |path| Ok(Box::new(Net::new(path))));
/// let teacher = (site.twin)(site.path() / "teacher")?;
/// assert_eq!(teacher.dim(), site.dim());
/// # Ok::<(), selfsup_core::Error>(())
/// ```
pub struct Site<'a, E: ?Sized> {
    /// All variables of the run.
    pub store: &'a nn::VarStore,
    /// What will learn; its variables stand under [`Site::ENCODER`].
    pub encoder: &'a E,
    /// Makes another network like the encoder, for a teacher.
    pub twin: Twin<'a, E>,
    /// The samples that are learned from: a memory bank has a row for each, by the `indices` of a batch.
    pub samples: i64,
}

impl<'a, E: ?Sized> Site<'a, E> {
    /// Under which path the encoder's variables stand.
    pub const ENCODER: &'static str = "encoder";
    /// Under which path the objective's variables stand.
    pub const OBJECTIVE: &'static str = "objective";

    /// A site for an encoder whose variables are in `store` under [`Site::ENCODER`].
    pub fn new(
        store: &'a nn::VarStore,
        encoder: &'a E,
        samples: i64,
        twin: impl Fn(nn::Path) -> Result<Box<E>> + 'a,
    ) -> Self {
        Site { store, encoder, twin: Box::new(twin), samples }
    }

    /// Where the objective's variables belong.
    pub fn path(&self) -> nn::Path<'a> {
        self.store.root() / Self::OBJECTIVE
    }
}

impl<E: Encoder + ?Sized> Site<'_, E> {
    /// The number of the encoder's features.
    pub fn dim(&self) -> i64 {
        self.encoder.dim()
    }
}

impl<E: fmt::Debug + ?Sized> fmt::Debug for Site<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site")
            .field("encoder", &self.encoder)
            .field("samples", &self.samples)
            .finish_non_exhaustive()
    }
}
