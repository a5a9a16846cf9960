//! `selfsup label`: labels for a whole set from few, with what each can be trusted for and why.
//!
//! - `arguments`: what the command is told, and what of it cannot work
//! - `command`: from files to files
//! - `samples`: a run's encoder and the set that it looks at
//! - `given`: the labels that a person gave
//! - `predictor`: classifiers of features, fitted here or learned by a fine-tuned run
//! - `folds`: which given labels are held out when
//! - `predict`: classes of all samples from the given labels, and of these from the others
//! - `trust`: calibrated probabilities, weights and reasons
//! - `clusters`: labels without any given
//! - `judged`: how right the labels are, where the truth is known
//! - `show`: the report's data
//! - `review`: the page on which a person corrects labels
//! - `next`: what to label next

mod arguments;
mod clusters;
mod command;
mod folds;
mod given;
mod judged;
mod next;
mod predict;
mod predictor;
mod review;
mod samples;
mod show;
mod trust;

pub use arguments::Arguments;
pub use command::run;
pub use given::of_people;
