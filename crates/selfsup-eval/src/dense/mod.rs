//! Measures of what is found where in an image:
//! - `segmentation`: intersection over union of classes
//! - `boxes`: boxes, and how far they overlap
//! - `nms`: of boxes that overlap, the surest
//! - `detection`: average precision of boxes with scores, as COCO counts it

pub mod boxes;
pub mod detection;
pub mod nms;
pub mod segmentation;
