//! The page on which a person accepts, corrects or rejects labels: one file that asks for no other, for mouse, keyboard and
//! thumb. What was decided stays in the browser until it is downloaded as `corrected.csv`, a label file.

use super::samples::Samples;
use super::trust::Labels;
use crate::report::pictures::{self, Sharpness};
use anyhow::{Context, Result};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::json;
use std::collections::HashSet;

const STYLE: &str = include_str!("review.css");
const SCRIPT: &str = include_str!("review.js");

/// The longer side of a picture.
const SIDE: u32 = 128;

/// Up to so many classes have a button each.
const BUTTONS: usize = 12;

/// The classes that have a key.
const KEYS: usize = 9;

/// A sample on the page.
#[derive(Clone, Debug, PartialEq)]
pub struct Doubt {
    /// The sample.
    pub index: usize,
    /// The label that can be accepted; none where there is no proposal.
    pub label: Option<String>,
    /// What is said of it.
    pub remark: String,
}

/// What may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classes<'a> {
    /// These alone: the data's own.
    Fixed(&'a [String]),
    /// These, and any other that a person writes.
    Open(&'a [String]),
}

impl Classes<'_> {
    fn names(&self) -> &[String] {
        match self {
            Classes::Fixed(names) | Classes::Open(names) => names,
        }
    }
}

/// The `most` most doubtful labels of samples that nobody has seen, the most doubtful first.
pub fn doubts(labels: &Labels, seen: &HashSet<usize>, most: usize) -> Vec<Doubt> {
    let mut order: Vec<usize> = (0..labels.labels.len()).filter(|i| !seen.contains(i)).collect();
    let doubt = |i: usize| labels.probability[i].unwrap_or(labels.weights[i]);
    order.sort_by(|&a, &b| doubt(a).total_cmp(&doubt(b)));
    order.truncate(most);
    let of = |index: usize| {
        let how_sure = labels.probability[index].map(|p| format!("{:.0} %: ", 100.0 * p)).unwrap_or_default();
        let remark = format!("{how_sure}{}", labels.reasons[index]);
        Doubt { index, label: Some(labels.class(index).to_owned()), remark }
    };
    order.into_iter().map(of).collect()
}

/// The page.
///
/// # Errors
/// When a picture cannot be read.
pub fn page(title: &str, doubts: &[Doubt], classes: Classes, samples: &Samples) -> Result<String> {
    let mut cards = Vec::new();
    for doubt in doubts {
        let name = samples.name_of(doubt.index);
        let picture = samples.picture(doubt.index).with_context(|| name.clone())?;
        let (address, sharpness) = pictures::small(&picture, SIDE)?;
        cards.push(card(cards.len(), &name, doubt, &address, sharpness, classes));
    }
    let files = doubts.iter().map(|doubt| json!([samples.name_of(doubt.index), doubt.label]));
    let data = json!({
        "title": title,
        "samples": files.collect::<Vec<_>>(),
        "classes": classes.names(),
        "open": matches!(classes, Classes::Open(_)),
    });
    // A name may hold what ends a script.
    let data = data.to_string().replace('<', "\\u003c");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Review: " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Labels of " (title) }
                    p {
                        (doubts.len()) " samples, the most doubtful first. Accept the label, choose another class, or reject \
                         it where none is right; leave out what you do not know."
                    }
                    details {
                        summary { "Keys" }
                        p {
                            kbd { "a" } " accept, " kbd { "x" } " reject, " kbd { "u" } " take back, "
                            @if classes.names().len() <= BUTTONS { kbd { "1" } " … " kbd { "9" } " the class, " }
                            kbd { "j" } " and " kbd { "k" } " next and previous."
                        }
                    }
                }
                noscript { p { "This page needs JavaScript, to write down what you decide." } }
                main id="cards" { @for card in cards { (card) } }
                @if classes.names().len() > BUTTONS || matches!(classes, Classes::Open(_)) {
                    datalist id="classes" { @for name in classes.names() { option value=(name) {} } }
                }
                footer {
                    output id="count" for="cards" role="status" { "0 of " (doubts.len()) " decided" }
                    button id="download" type="button" disabled { "Download corrected.csv" }
                }
                script id="data" type="application/json" { (PreEscaped(data)) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Ok(page.into_string())
}

fn card(
    number: usize,
    name: &str,
    doubt: &Doubt,
    address: &str,
    sharpness: Sharpness,
    classes: Classes,
) -> Markup {
    let heading = format!("file-{number}");
    html! {
        article tabindex="0" data-number=(number) aria-labelledby=(heading) {
            img.crisp[sharpness == Sharpness::Crisp] src=(address) alt=(name) loading="lazy";
            div {
                h2 id=(heading) { (name) }
                p.remark {
                    @if let Some(label) = &doubt.label { strong { (label) } " · " }
                    (doubt.remark)
                }
                div.choices role="group" aria-label="Decision" {
                    @if doubt.label.is_some() {
                        button type="button" data-do="accept" aria-pressed="false" { "Accept" }
                    }
                    @if classes.names().len() <= BUTTONS {
                        @for (key, class) in (1..).zip(classes.names()) {
                            @if doubt.label.as_ref() != Some(class) {
                                button type="button" data-do="choose" data-class=(class) aria-pressed="false" {
                                    @if key <= KEYS { small aria-hidden="true" { (key) " " } }
                                    (class)
                                }
                            }
                        }
                    }
                    @if doubt.label.is_some() {
                        button.no type="button" data-do="reject" aria-pressed="false" { "Reject" }
                    }
                    @if classes.names().len() > BUTTONS || matches!(classes, Classes::Open(_)) {
                        input type="text" list="classes" placeholder="another class" aria-label="Another class" autocomplete="off";
                    }
                }
                p.decision aria-live="polite" {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_probable_come_first_and_what_was_seen_not_at_all() {
        let labels = Labels {
            classes: ["a", "b"].map(str::to_owned).to_vec(),
            labels: vec![0, 1, 0, 1],
            probability: vec![Some(0.9), Some(0.4), Some(1.0), Some(0.6)],
            weights: vec![0.9, 0.0, 1.0, 0.6],
            reasons: vec!["sure", "unsure", "given", "sure"],
            probabilities: None,
            how: String::new(),
            held_out: None,
        };
        let found = doubts(&labels, &HashSet::from([2]), 2);
        assert_eq!(found.iter().map(|d| d.index).collect::<Vec<_>>(), [1, 3]);
        assert_eq!((found[0].label.as_deref(), found[0].remark.as_str()), (Some("b"), "40 %: unsure"));
        let clusters = Labels { probability: vec![None; 4], ..labels };
        let order: Vec<usize> = doubts(&clusters, &HashSet::new(), 9).iter().map(|d| d.index).collect();
        assert_eq!(order, [1, 3, 0, 2]);
        assert_eq!(doubts(&clusters, &HashSet::new(), 1)[0].remark, "unsure");
    }
}
