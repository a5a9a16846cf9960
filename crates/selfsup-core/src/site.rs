//! Where an objective is built: the variables of the run, the encoder that will learn, and a way to make another like it.

use crate::ema::{Buffers, Ema};
use crate::{Encoder, Error, Result, nn};
use std::fmt;

/// Makes a network like the encoder under another path.
pub type Twin<'a, E> = Box<dyn Fn(nn::Path) -> Result<Box<E>> + 'a>;

/// What an objective is built from. An objective on images is made as `X::new(&site, &config)`, takes of the site what it
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
    /// The path of the objective's variables, from the root of the store.
    place: Vec<String>,
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
        let place = vec![Self::OBJECTIVE.to_owned()];
        Site { store, encoder, twin: Box::new(twin), samples, place }
    }

    /// Where the objective's variables belong.
    pub fn path(&self) -> nn::Path<'a> {
        self.place.iter().fold(self.store.root(), |path, part| path / part)
    }

    /// The name in the store of what stands under [`path`](Site::path) as `below`: of a teacher for
    /// [`Ema::of`](crate::Ema::of), for instance.
    pub fn name(&self, below: &str) -> String {
        format!("{}.{below}", self.place.join("."))
    }

    /// Makes the teacher the moving average of the student: its encoder, which stands below [`path`](Site::path) as
    /// `teacher.encoder`, of the encoder, and each of its heads `teacher.HEAD` of the objective's head of that name.
    ///
    /// # Errors
    /// As [`Ema::of`].
    pub fn tie_teacher(&self, heads: &[&str], policy: Buffers) -> Result<Ema> {
        let mut names = vec![(Self::ENCODER.to_owned(), self.name("teacher.encoder"))];
        names.extend(heads.iter().map(|head| (self.name(head), self.name(&format!("teacher.{head}")))));
        let pairs: Vec<_> = names.iter().map(|(of, to)| (of.as_str(), to.as_str())).collect();
        Ema::of(self.store, &pairs, policy)
    }

    /// The site of one objective among several: the same encoder, and a path of its own below this one's.
    ///
    /// # Errors
    /// [`Error::Config`] when the name cannot be part of a variable's name.
    pub fn part(&self, name: &str) -> Result<Site<'_, E>> {
        if name.is_empty() || name.contains('.') {
            return Err(Error::config("name", format!("{name:?}"), "a name without a dot"));
        }
        let mut place = self.place.clone();
        place.push(name.to_owned());
        let twin = Box::new(|path: nn::Path| (self.twin)(path));
        Ok(Site { store: self.store, encoder: self.encoder, twin, samples: self.samples, place })
    }

    /// This site with the objective's variables where `other` has them: for another view of the same encoder.
    #[must_use]
    pub fn at_the_place_of<F: ?Sized>(self, other: &Site<F>) -> Self {
        Site { place: other.place.clone(), ..self }
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
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Bias, Linear};
    use crate::{Device, Mode, Tensor};

    #[derive(Debug)]
    struct Net(Linear);

    impl Encoder for Net {
        fn dim(&self) -> i64 {
            4
        }
        fn encode(&self, x: &Tensor, _mode: Mode) -> Result<Tensor> {
            Ok(self.0.forward(x))
        }
    }

    fn net(path: nn::Path) -> Net {
        Net(Linear::new(path, 2, 4, Bias::No))
    }

    #[test]
    fn a_part_has_the_encoder_of_the_whole_and_a_path_of_its_own() {
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = net(store.root() / Site::<Net>::ENCODER);
        let site = Site::new(&store, &encoder, 10, |path| Ok(Box::new(net(path))));
        assert_eq!(site.name("queue"), "objective.queue");
        let part = site.part("byol").unwrap();
        let deeper = part.part("inner").unwrap();
        let teacher = (deeper.twin)(deeper.path() / "teacher").unwrap();
        assert_eq!((teacher.dim(), deeper.dim(), deeper.samples), (4, 4, 10));
        assert!(store.variables().contains_key("objective.byol.inner.teacher.weight"));
        assert_eq!(deeper.name("teacher"), "objective.byol.inner.teacher");
        let moved = Site::new(&store, &encoder, 10, |path| Ok(Box::new(net(path)))).at_the_place_of(&part);
        assert_eq!(moved.name("x"), "objective.byol.x");
    }

    #[test]
    fn rejects_a_part_whose_name_has_a_dot() {
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = net(store.root() / "encoder");
        let site = Site::new(&store, &encoder, 10, |path| Ok(Box::new(net(path))));
        let error = site.part("a.b").unwrap_err().to_string();
        assert_eq!(error, "name = \"a.b\": a name without a dot");
    }
}
