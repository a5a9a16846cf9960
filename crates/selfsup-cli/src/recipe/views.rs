//! The `[views]` of a recipe: what is made of an image, and at which size in which part of a run.

use selfsup::data::augment::ViewConfig;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

/// The views of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ViewsConfig {
    /// The kinds of views, in order. Two views alike are one kind with a count of 2; multi-crop is two kinds.
    pub kinds: Vec<ViewKind>,
    /// Smaller views in the first part of a run, where they teach nearly as much for a fraction of the time.
    pub schedule: Vec<SizePhase>,
}

impl Default for ViewsConfig {
    fn default() -> Self {
        ViewsConfig { kinds: vec![ViewKind::default()], schedule: Vec::new() }
    }
}

/// Views that are drawn alike: a count and the fields of a [`ViewConfig`] in one section.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewKind {
    /// How many of these an image has; 2 where a recipe does not say.
    pub count: usize,
    /// What they are made of.
    pub view: ViewConfig,
}

impl Default for ViewKind {
    fn default() -> Self {
        ViewKind { count: 2, view: ViewConfig::default() }
    }
}

impl Serialize for ViewKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut table = Table::new();
        table.insert("count".to_owned(), Value::try_from(self.count).map_err(S::Error::custom)?);
        table.extend(Table::try_from(&self.view).map_err(S::Error::custom)?);
        table.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ViewKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut table = Table::deserialize(deserializer)?;
        let read = |e: toml::de::Error| D::Error::custom(e.message());
        let count = match table.remove("count") {
            Some(count) => usize::deserialize(count).map_err(read)?,
            None => ViewKind::default().count,
        };
        Ok(ViewKind { count, view: ViewConfig::deserialize(Value::Table(table)).map_err(read)? })
    }
}

/// A part of a run with views of another size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizePhase {
    /// The share of the run's epochs at which it ends.
    pub until: f64,
    /// The sides of the first kind of view in pixels; other kinds change in proportion.
    pub size: usize,
}

impl ViewsConfig {
    /// The stretches of equal size of a run of so many epochs: the epoch before which each ends, and its kinds.
    ///
    /// # Errors
    /// With the field, when shares do not rise within (0, 1] or a size is zero.
    pub fn stretches(&self, epochs: u64) -> Result<Vec<(u64, Vec<ViewKind>)>, selfsup::core::Error> {
        use selfsup::core::Error;
        let Some(first) = self.kinds.first() else {
            return Err(Error::config("views.kinds", "[]", "at least one kind of view"));
        };
        let (mut stretches, mut before) = (Vec::new(), 0.0);
        for (i, phase) in self.schedule.iter().enumerate() {
            if !(phase.until > before && phase.until <= 1.0) {
                let expected = format!("a share of the run above {before} and at most 1");
                return Err(Error::config(format!("views.schedule.{i}.until"), phase.until, expected));
            }
            if phase.size == 0 {
                return Err(Error::config(format!("views.schedule.{i}.size"), 0, "at least 1 pixel"));
            }
            before = phase.until;
            let scaled = |size: usize| {
                ((size * phase.size) as f64 / first.view.size.max(1) as f64).round().max(1.0) as usize
            };
            let mut kinds = self.kinds.clone();
            for kind in &mut kinds {
                kind.view.size = scaled(kind.view.size);
            }
            stretches.push(((phase.until * epochs as f64).round() as u64, kinds));
        }
        stretches.push((epochs, self.kinds.clone()));
        Ok(stretches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(text: &str) -> ViewsConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_kind_is_a_view_and_a_count() {
        let views = views("kinds = [{ count = 3, size = 28 }, { size = 14 }]");
        assert_eq!((views.kinds[0].count, views.kinds[0].view.size), (3, 28));
        assert_eq!((views.kinds[1].count, views.kinds[1].view.size), (2, 14));
        let text = toml::to_string(&views).unwrap();
        assert_eq!(toml::from_str::<ViewsConfig>(&text).unwrap(), views);
    }

    #[test]
    fn shipped_views_that_change_what_is_light_change_colours_too() {
        for (name, text) in crate::recipe::SHIPPED {
            let recipe = crate::recipe::Recipe::parse(text, &[]).unwrap();
            for view in recipe.views.into_iter().flat_map(|views| views.kinds).map(|kind| kind.view) {
                let colours = view.jitter.hue > 0.0 && view.jitter.saturation > 0.0 && view.grayscale > 0.0;
                assert!(
                    view.jitter.p == 0.0 || colours,
                    "{name}: {:?}, grey {}",
                    view.jitter,
                    view.grayscale
                );
            }
        }
    }

    #[test]
    fn sizes_follow_the_schedule() {
        let views = views("kinds = [{ size = 28 }, { size = 14 }]\nschedule = [{ until = 0.6, size = 20 }]");
        let stretches = views.stretches(10).unwrap();
        let sizes = |i: usize| -> Vec<usize> { stretches[i].1.iter().map(|k| k.view.size).collect() };
        assert_eq!((stretches[0].0, sizes(0)), (6, vec![20, 10]));
        assert_eq!((stretches[1].0, sizes(1)), (10, vec![28, 14]));
    }

    #[test]
    fn refuses_shares_that_do_not_rise() {
        let views = views("kinds = [{}]\nschedule = [{ until = 0.6, size = 9 }, { until = 0.5, size = 9 }]");
        let error = views.stretches(10).unwrap_err().to_string();
        assert_eq!(error, "views.schedule.1.until = 0.5: a share of the run above 0.6 and at most 1");
    }
}
