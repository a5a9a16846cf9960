//! Several objectives in one recipe: `[objective] kind = "combined"`, and a `[[objective.parts]]` for each.

use crate::network::{ImageNetwork, NetworkConfig};
use crate::objective::ObjectiveConfig;
use crate::recipe::inside;
use anyhow::Result;
use selfsup::core::{ImageViews, Site};
use selfsup::objectives::{Combined, Part};
use serde::{Deserialize, Serialize};

/// `[objective]` of a combination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CombinedConfig {
    /// The objectives, which all learn from the same views.
    pub parts: Vec<PartConfig>,
}

/// `[[objective.parts]]`: a weight, and the fields of an objective beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartConfig {
    /// What its loss is multiplied with; 1 where a recipe does not say.
    #[serde(default = "one")]
    pub weight: f64,
    /// The objective.
    #[serde(flatten)]
    pub objective: ObjectiveConfig,
}

fn one() -> f64 {
    1.0
}

impl CombinedConfig {
    /// Makes the parts, each at a place of its own below the site's that has the name of its kind. `section` is where the
    /// recipe has this.
    ///
    /// # Errors
    /// With the field that cannot work.
    pub fn on_images(
        &self,
        site: &Site<dyn ImageNetwork>,
        config: &NetworkConfig,
        section: &str,
    ) -> Result<Combined<dyn ImageNetwork, ImageViews>> {
        let mut parts = Vec::new();
        for (i, (part, name)) in self.parts.iter().zip(self.names()).enumerate() {
            let objective = {
                let site = site.part(&name)?;
                part.objective.on_images_in(&site, config, &format!("{section}.parts.{i}"))?
            };
            parts.push(Part { name, weight: part.weight, objective });
        }
        Ok(Combined::new(parts).map_err(|e| inside(e, section))?)
    }

    /// The kinds of the parts, with a number from the second of a kind on.
    fn names(&self) -> Vec<String> {
        let kinds: Vec<_> = self.parts.iter().map(|part| part.objective.method().kind).collect();
        let name = |(i, kind): (usize, &&str)| match kinds[..i].iter().filter(|other| *other == kind).count()
        {
            0 => (*kind).to_owned(),
            before => format!("{kind}-{}", before + 1),
        };
        kinds.iter().enumerate().map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;
    use selfsup::core::{Device, nn};

    const TEXT: &str = r#"
        encoder = { kind = "convnet", widths = [4, 8], strides = [1, 2] }
        [objective]
        kind = "combined"
        [[objective.parts]]
        kind = "simclr"
        temperature = 0.5
        projector = { hidden = [8], output = 4, hidden_norm = "batch-norm", output_norm = "none" }
        [[objective.parts]]
        kind = "rotation"
        weight = 0.5
        [[objective.parts]]
        kind = "rotation"
        head = { hidden = [4] }"#;

    fn recipe(set: &[&str]) -> Result<Recipe> {
        Recipe::parse(TEXT, &set.iter().map(|set| set.parse().unwrap()).collect::<Vec<_>>())
    }

    fn built(recipe: &Recipe) -> Result<Vec<String>> {
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = recipe.encoder.image_encoder(store.root() / "encoder")?;
        let site = recipe.encoder.site(&store, encoder.as_ref(), 10);
        recipe.objective.on_images(&site, &recipe.encoder)?;
        drop(site);
        Ok(store.variables().into_keys().collect())
    }

    #[test]
    fn parts_have_a_weight_and_the_fields_of_their_kind() {
        let recipe = recipe(&["objective.parts.1.weight=0.25"]).unwrap();
        let again = Recipe::parse(&recipe.to_toml().unwrap(), &[]).unwrap();
        assert_eq!(again, recipe);
        let json = recipe.fingerprint(&serde_json::json!({})).unwrap();
        let parts = &json["objective"]["parts"];
        assert_eq!((&parts[0]["temperature"], &parts[1]["weight"]), (&0.5.into(), &0.25.into()));
        let names = built(&recipe).unwrap();
        for name in ["simclr.projector.0.weight", "rotation.head.0.weight", "rotation-2.head.2.bias"] {
            assert!(names.contains(&format!("objective.{name}")), "{name}: {names:?}");
        }
    }

    #[test]
    fn errors_name_the_part() {
        let refused = |set: &[&str]| recipe(set).and_then(|recipe| built(&recipe)).unwrap_err().to_string();
        let message = refused(&["objective.parts.0.temperature=-1"]);
        assert!(message.starts_with("objective.parts.0.temperature = -1"), "{message}");
        let message = refused(&["objective.parts.2.head.hidden=[0]"]);
        assert!(message.starts_with("objective.parts.2.head.head sizes"), "{message}");
        let message = refused(&["objective.parts.1.weight=0"]);
        assert_eq!(message, "objective.parts.1.weight = 0: above 0 and finite");
        assert_eq!(refused(&["objective.parts=[]"]), "objective.parts = []: at least one objective");
        let message = refused(&["objective.parts.1.kind=masked-language-modelling"]);
        assert_eq!(message, "objective.parts.1.kind: one that learns from images");
        let message = refused(&["objective.parts.0.temprature=1"]);
        assert!(message.contains("temprature") && message.contains("temperature"), "{message}");
    }

    #[test]
    fn combinations_nest() {
        let inner = r#"objective.parts=[{ kind = "combined", parts = [{ kind = "rotation" }] }]"#;
        let names = built(&recipe(&[inner]).unwrap()).unwrap();
        assert!(names.contains(&"objective.combined.rotation.head.0.weight".to_owned()), "{names:?}");
    }
}
