//! Batches made ahead of the training step, on threads of their own.
//!
//! A thread a running epoch walks through the sampler's indices and has each batch made on the loader's own pool of
//! threads; finished batches wait in a queue of fixed length, so that memory is bounded. What a batch holds depends
//! on the seed, the epoch and its position alone: not on the threads, nor on where a run was taken up.

use crate::collate::Collate;
use crate::sampler::Sampler;
use rayon::{ThreadPool, ThreadPoolBuilder};
use selfsup_core::{Batches, Error, Key, Result};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// How batches are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoaderConfig {
    /// The samples of a batch.
    pub batch_size: usize,
    /// Whether a last batch with fewer samples is left out.
    pub drop_last: bool,
    /// The threads that make batches; 0 chooses half of the machine's, at least 1.
    ///
    /// The training step wants all cores, and augmenting small images takes a few percent of one: more threads would
    /// only take turns with the step's. Decoding large photographs on a machine with an accelerator is worth all of
    /// them.
    pub threads: usize,
    /// The finished batches that may wait; one more is in the making.
    pub prefetch: usize,
}

impl Default for LoaderConfig {
    /// Batches of 256, the last one dropped, two of them waiting.
    fn default() -> Self {
        LoaderConfig { batch_size: 256, drop_last: true, threads: 0, prefetch: 2 }
    }
}

/// Makes batches of a sampler's samples, ahead of who takes them.
pub struct Loader<C> {
    collate: Arc<C>,
    sampler: Arc<dyn Sampler>,
    config: LoaderConfig,
    seed: u64,
    pool: Arc<ThreadPool>,
}

impl<C> Loader<C> {
    /// A loader whose batches `collate` makes of the samples that `sampler` chooses.
    ///
    /// # Errors
    /// [`Error::Config`] when a size is zero or an epoch would have no batch; [`Error::Other`] when the threads
    /// cannot be started.
    pub fn new(collate: C, sampler: impl Sampler + 'static, config: LoaderConfig, seed: u64) -> Result<Self> {
        if config.batch_size == 0 {
            return Err(Error::config("batch_size", 0, "at least 1"));
        }
        if config.prefetch == 0 {
            return Err(Error::config("prefetch", 0, "at least 1"));
        }
        if sampler.is_empty() || (config.drop_last && sampler.len() < config.batch_size) {
            let samples = sampler.len();
            let expected =
                format!("at most the {samples} samples of an epoch: a batch that is not full is left out");
            return Err(Error::config("batch_size", config.batch_size, expected));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if config.threads == 0 { (cores / 2).max(1) } else { config.threads };
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("loader-{i}"))
            .build()
            .map_err(|e| Error::Other(format!("cannot start {threads} loader threads: {e}")))?;
        let (collate, sampler, pool) = (Arc::new(collate), Arc::new(sampler), Arc::new(pool));
        Ok(Loader { collate, sampler, config, seed, pool })
    }
}

impl<C: Collate + 'static> Batches for Loader<C> {
    type Batch = C::Batch;

    fn batches_per_epoch(&self) -> u64 {
        let (samples, size) = (self.sampler.len(), self.config.batch_size);
        (if self.config.drop_last { samples / size } else { samples.div_ceil(size) }) as u64
    }

    fn epoch(&self, epoch: u64, skip: u64) -> Result<Box<dyn Iterator<Item = Result<C::Batch>> + '_>> {
        let batches = self.batches_per_epoch();
        let Some(left) = batches.checked_sub(skip) else {
            return Err(Error::config("skip", skip, format!("at most the {batches} batches of an epoch")));
        };
        let (sender, receiver) = sync_channel(self.config.prefetch);
        let producer = Producer {
            collate: Arc::clone(&self.collate),
            pool: Arc::clone(&self.pool),
            indices: self.sampler.indices(self.seed, epoch),
            key: Key::new(self.seed).with(epoch),
            batch_size: self.config.batch_size,
            batches: skip as usize..batches as usize,
        };
        let thread = std::thread::Builder::new()
            .name("loader".to_owned())
            .spawn(move || producer.run(&sender))
            .map_err(|e| Error::Other(format!("cannot start the loader's thread: {e}")))?;
        Ok(Box::new(Epoch { receiver: Some(receiver), thread: Some(thread), left }))
    }
}

/// What the thread of a running epoch owns.
struct Producer<C> {
    collate: Arc<C>,
    pool: Arc<ThreadPool>,
    indices: Vec<usize>,
    key: Key,
    batch_size: usize,
    batches: std::ops::Range<usize>,
}

impl<C: Collate> Producer<C> {
    /// Makes batch after batch until all are made, one fails, or nobody takes them any more.
    fn run(self, sender: &SyncSender<Result<C::Batch>>) {
        for chunk in self.indices.chunks(self.batch_size).take(self.batches.end).skip(self.batches.start) {
            let make = || self.pool.install(|| self.collate.collate(chunk, self.key));
            let batch =
                catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|cause| Err(panicked(cause.as_ref())));
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                return;
            }
        }
    }
}

fn panicked(cause: &(dyn Any + Send)) -> Error {
    let text = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
    Error::Other(format!("a loader thread panicked: {}", text.unwrap_or("without a message")))
}

/// The batches of a running epoch. Dropping it ends the thread that makes them.
struct Epoch<B> {
    receiver: Option<Receiver<Result<B>>>,
    thread: Option<JoinHandle<()>>,
    left: u64,
}

impl<B> Iterator for Epoch<B> {
    type Item = Result<B>;

    fn next(&mut self) -> Option<Result<B>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let received = self.receiver.as_ref()?.recv();
        let batch = received.unwrap_or_else(|_| Err(Error::Other("the loader's thread died".to_owned())));
        if batch.is_err() {
            self.left = 0;
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left as usize))
    }
}

impl<B> Drop for Epoch<B> {
    fn drop(&mut self) {
        // Without a receiver the thread's next batch finds nobody, and it ends.
        drop(self.receiver.take());
        if let Some(thread) = self.thread.take() {
            // It catches its panics; there is nothing to tell.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pixels;
    use crate::augment::{ViewConfig, two_views};
    use crate::collate::ImageCollate;
    use crate::dataset::ArrayImages;
    use crate::sampler::{Sequential, Shuffled};
    use selfsup_core::ImageViews;
    use selfsup_core::tensor::with_slice;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn loader(threads: usize) -> Loader<ImageCollate<ArrayImages>> {
        let pixels = (0..40 * 12 * 12 * 3_u32).map(|i| (i * 37 % 251) as u8).collect();
        let dataset = Arc::new(ArrayImages::new(pixels, [12, 12, 3]).unwrap());
        let views = two_views(&ViewConfig { size: 8, ..ViewConfig::default() }, 3).unwrap();
        let config = LoaderConfig { batch_size: 16, drop_last: false, threads, prefetch: 2 };
        Loader::new(ImageCollate { dataset, views, pixels: Pixels::Float32 }, Shuffled { len: 40 }, config, 3)
            .unwrap()
    }

    fn values(batch: &ImageViews) -> Vec<u32> {
        let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        batch.views.iter().flat_map(|view| with_slice(&view.permute([0, 2, 3, 1]), bits).unwrap()).collect()
    }

    fn epoch(loader: &Loader<ImageCollate<ArrayImages>>, epoch: u64, skip: u64) -> Vec<(Vec<i64>, Vec<u32>)> {
        let batches = loader.epoch(epoch, skip).unwrap().map(Result::unwrap);
        batches.map(|b| (Vec::<i64>::try_from(&b.indices).unwrap(), values(&b))).collect()
    }

    #[test]
    fn batches_do_not_depend_on_the_threads_nor_on_where_an_epoch_is_taken_up() {
        let (one, four) = (loader(1), loader(4));
        assert_eq!(one.batches_per_epoch(), 3);
        let whole = epoch(&one, 5, 0);
        assert_eq!(whole.iter().map(|(indices, _)| indices.len()).collect::<Vec<_>>(), [16, 16, 8]);
        assert_eq!(whole, epoch(&four, 5, 0));
        assert_eq!(whole[2..], epoch(&four, 5, 2));
        assert!(epoch(&four, 5, 3).is_empty());
        assert_ne!(whole, epoch(&one, 6, 0));
        assert!(one.epoch(5, 4).is_err());
    }

    #[test]
    fn views_are_channels_last_and_differ() {
        let loader = loader(2);
        let batch = loader.epoch(0, 0).unwrap().next().unwrap().unwrap();
        assert_eq!(batch.views[0].size(), [16, 3, 8, 8]);
        assert_eq!(batch.views[1].stride(), [192, 1, 24, 3]);
        assert_ne!(batch.views[0], batch.views[1]);
    }

    /// Counts the batches it made and fails at one of them.
    struct Failing {
        made: Arc<AtomicUsize>,
        at: usize,
        how: fn() -> Result<usize>,
    }

    impl Collate for Failing {
        type Batch = usize;

        fn collate(&self, indices: &[usize], _epoch: Key) -> Result<usize> {
            self.made.fetch_add(1, Ordering::SeqCst);
            if indices[0] == self.at { (self.how)() } else { Ok(indices[0]) }
        }
    }

    fn failing(at: usize, how: fn() -> Result<usize>) -> (Loader<Failing>, Arc<AtomicUsize>) {
        let made = Arc::new(AtomicUsize::new(0));
        let collate = Failing { made: Arc::clone(&made), at, how };
        let config = LoaderConfig { batch_size: 1, drop_last: true, threads: 1, prefetch: 3 };
        (Loader::new(collate, Sequential { len: 100 }, config, 0).unwrap(), made)
    }

    #[test]
    fn a_panic_or_an_error_ends_the_epoch_with_its_cause() {
        let (loader, _) = failing(2, || panic!("sample 2 is cursed"));
        let results: Vec<_> = loader.epoch(0, 0).unwrap().collect();
        assert_eq!(results.len(), 3);
        let error = results[2].as_ref().unwrap_err().to_string();
        assert_eq!(error, "a loader thread panicked: sample 2 is cursed");
        let (loader, _) = failing(0, || Err(Error::Other("gone".to_owned())));
        let mut epoch = loader.epoch(0, 0).unwrap();
        assert_eq!(epoch.next().unwrap().unwrap_err().to_string(), "gone");
        assert!(epoch.next().is_none());
    }

    #[test]
    fn makes_no_more_batches_than_may_wait_and_stops_when_dropped() {
        let (loader, made) = failing(usize::MAX, || Ok(0));
        let mut epoch = loader.epoch(0, 0).unwrap();
        assert_eq!(epoch.next().unwrap().unwrap(), 0);
        drop(epoch);
        // One was taken, three wait, one more is in the making, and one may have been sent as the queue was dropped.
        assert!(made.load(Ordering::SeqCst) <= 6, "{made:?}");
    }

    #[test]
    fn refuses_sizes_that_make_no_batch() {
        let make = |config| {
            let collate = Failing { made: Arc::default(), at: 0, how: || Ok(0) };
            Loader::new(collate, Sequential { len: 10 }, config, 0).err().map(|e| e.to_string())
        };
        let config = LoaderConfig { batch_size: 16, ..LoaderConfig::default() };
        let error = make(config).unwrap();
        assert_eq!(
            error,
            "batch_size = 16: at most the 10 samples of an epoch: a batch that is not full is left out"
        );
        assert!(make(LoaderConfig { drop_last: false, ..config }).is_none());
        assert!(make(LoaderConfig { batch_size: 0, ..config }).is_some());
        assert!(make(LoaderConfig { prefetch: 0, batch_size: 2, ..config }).is_some());
    }
}
