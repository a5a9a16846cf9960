//! The right name beside a wrong one.

/// The known name that is most like `name`, when one is like it at all.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let likeness = |k: &str| {
        let inside = !lower.is_empty() && (k.contains(&lower) || lower.contains(k));
        strsim::jaro_winkler(&lower, k) + if inside { 0.2 } else { 0.0 }
    };
    let best = known.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) > 0.7).then_some(best)
}

/// The end of a message about an unknown name: the nearest one, then all there are.
pub fn instead<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    let all: Vec<_> = known.clone().into_iter().collect();
    match nearest(name, known) {
        Some(near) => format!("did you mean {near}? There are: {}", all.join(", ")),
        None => format!("there are: {}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_name_that_was_meant() {
        let known = ["fashion-mnist", "mnist-5k", "brown", "emoji"];
        assert_eq!(nearest("fashion_mnist", known), Some("fashion-mnist"));
        assert_eq!(nearest("Fashion", known), Some("fashion-mnist"));
        assert_eq!(nearest("bron", known), Some("brown"));
        assert_eq!(nearest("xq", known), None);
        assert_eq!(
            instead("emojy", known),
            "did you mean emoji? There are: fashion-mnist, mnist-5k, brown, emoji"
        );
    }
}
