//! From files to batches: datasets, augmentation, sampling and loading.
//!
//! Data goes one way. A [`Dataset`](selfsup_core::Dataset) reads one sample by its index, from any thread, into native
//! memory. A [`View`](augment::View) makes a network's input of it, with random numbers that are a function of seed,
//! epoch, sample and view. A [`Sampler`] says which samples an epoch visits. A [`Loader`] puts the three together: it
//! makes batches ahead of the training step, and what a batch holds depends neither on the number of threads nor on
//! where a run was interrupted.
//!
//! ```text
//! files -> ImageSet -> View, View -> ImageCollate -> Loader -> ImageViews [N, C, H, W] a view
//! texts -> Corpus -> Tokenizer -> TokenSequences -> TokenCollate -> Loader -> TokenBatch [N, T]
//! ```
//!
//! | to | look at |
//! |---|---|
//! | open a known set, or a folder of one's own | [`open`], [`dataset`] |
//! | read the labels of some samples from a file | [`LabelFile`] |
//! | make views as torchvision does | [`augment`] |
//! | corrupt images, to see what an encoder bears | [`corrupt`] |
//! | choose samples: shuffled, weighted, sharded by rank | [`sampler`] |
//! | make batches ahead of the step | [`Loader`] |
//! | put a few labelled images beside many unlabelled ones | [`LabelledWithUnlabelled`] |
//! | know what is where: masks and boxes | [`annotated`] |
//! | learn from text | [`text`] |
//! | read samples of one's own | implement [`Dataset`](selfsup_core::Dataset) with [`Image`]s as items |
//! | batch samples of one's own | implement [`Collate`] |
//!
//! # Example
//! Two SimCLR views of every image, in batches:
//! ```
//! use selfsup_core::Batches;
//! use selfsup_data::augment::{ViewConfig, two_views};
//! use selfsup_data::sampler::Shuffled;
//! use selfsup_data::{ImageCollate, ImageSet, Loader, LoaderConfig, Pixels, dataset::ArrayImages};
//! use std::sync::Arc;
//!
//! // `selfsup_data::open("fashion-mnist")?.train`, or `open("my/photos")?.train`; here, noise.
//! let pixels = (0..64 * 32 * 32 * 3_u32).map(|i| (i * 37 % 251) as u8).collect();
//! let images = ArrayImages::new(pixels, [32, 32, 3])?;
//!
//! let config = ViewConfig { size: 24, scale: [0.2, 1.0], ..ViewConfig::default() };
//! let views = two_views(&config, images.channels())?;
//! let collate = ImageCollate { dataset: Arc::new(images), views, pixels: Pixels::Float32 };
//! let config = LoaderConfig { batch_size: 16, ..LoaderConfig::default() };
//! let loader = Loader::new(collate, Shuffled { len: 64 }, config, 0)?;
//!
//! for batch in loader.epoch(0, 0)? {
//!     let batch = batch?;
//!     assert_eq!(batch.views[0].size(), [16, 3, 24, 24]);
//!     assert_eq!(batch.views.len(), 2);
//! }
//! # Ok::<(), selfsup_core::Error>(())
//! ```
//!
//! # Speed
//! A view is made in one pass over small buffers that each thread keeps: bytes in, normalised floats out, written
//! straight into the batch's tensor in the order row, column, channel, which libtorch takes as a channels-last view
//! without a copy. The loops are plain arithmetic that the compiler turns into vector instructions.

pub mod annotated;
pub mod augment;
mod collate;
pub mod corrupt;
pub mod dataset;
mod image;
mod label_file;
mod labelled;
mod loader;
mod pixels;
pub mod sampler;
pub mod text;

pub use collate::{Collate, ImageCollate, TokenCollate};
pub use dataset::{ImageSet, ImageSplits, open};
pub use image::Image;
pub use label_file::{ExistingFile, GivenLabels, LabelFile, LabelRow};
pub use labelled::{Cycled, LabelledWithUnlabelled};
pub use loader::{Loader, LoaderConfig};
pub use pixels::{Pixels, Unpack};
pub use sampler::Sampler;
