//! The page's sections on what the method itself does with test images: how it solves its own task, what its prototypes
//! stand for, where its encoder looks.

use super::{
    Attention, Number, Prototype, PrototypeSet, Questions, Sample, Task, outcome, page, samples, suite,
};
use anyhow::Result;
use maud::{Markup, html};

/// The task's numbers, some of its questions with their answers, and which answer was taken for which.
///
/// # Errors
/// Figures that cannot be drawn, and pictures without pixels.
pub fn task(task: &Task, most: u32) -> Result<Markup> {
    let questions = task.questions.iter().map(|asked| questions(asked, most)).collect::<Result<Vec<_>>>()?;
    Ok(html! {
        section {
            h2 { "The method's own task" }
            p.note {
                "How well the trained networks solve the task itself on test images, which training never saw"
                @if !task.about.is_empty() { ": " (task.about) }
                ". It is the means and not the end: what the features are worth, the scores tell."
            }
            @if !task.numbers.is_empty() { (numbers(&task.numbers)) }
            @for questions in questions { (questions) }
        }
    })
}

/// Numbers with how to read them.
pub fn numbers(numbers: &[Number]) -> Markup {
    html! {
        div.scroll {
            table.measured {
                thead { tr { th scope="col" { "Number" } th scope="col" { "Value" } th scope="col" { "How to read it" } } }
                tbody {
                    @for number in numbers {
                        tr {
                            th scope="row" { (suite::readable(&number.name)) }
                            td { (format!("{:.3}", number.value)) }
                            td.reading { (number.reading.replace('_', " ")) }
                        }
                    }
                }
            }
        }
    }
}

fn questions(asked: &Questions, most: u32) -> Result<Markup> {
    let mut shown = Vec::new();
    for answer in &asked.shown {
        let (is_right, caption) = answer.caption();
        let picture =
            samples::picture(&answer.image, &format!("Question: {}", caption.replace('\n', ", ")), most)?;
        let class = if is_right { "same" } else { "other" };
        shown.push(html! { figure { (picture) figcaption { span class=(class) { (caption) } } } });
    }
    let confusion = asked.confusion.as_ref().filter(|found| !found.classes.is_empty());
    let confusion = confusion.map(|found| page::confusion(found, "questions")).transpose()?;
    Ok(html! {
        h3 { @if !asked.name.is_empty() { (asked.name) ": " } (asked.question) }
        p.note {
            @if confusion.is_none() {
                "Of " (asked.asked) " questions about the test images " (asked.right) " ("
                (outcome::percent(asked.right as f64 / asked.asked.max(1) as f64)) " %) are answered rightly. "
            }
            @if !shown.is_empty() {
                "Some questions as they were posed: ✓ stands before a right answer, ✗ before a wrong one, with the \
                 true one below."
            }
        }
        @if !shown.is_empty() { div.answers { @for figure in shown { (figure) } } }
        @if let Some(confusion) = confusion { (confusion) }
    })
}

/// The most used prototypes of each set, with their nearest images.
///
/// # Errors
/// Pictures without pixels.
pub fn prototypes(sets: &[PrototypeSet], most: u32) -> Result<Markup> {
    let mut shown = Vec::new();
    for set in sets {
        let rows = set.shown.iter().map(|prototype| row(prototype, set.images, most));
        shown.push((set, rows.collect::<Result<Vec<_>>>()?));
    }
    Ok(html! {
        section {
            h2 { "Prototypes" }
            p.note {
                "A prototype stands for a group of images that the method found without labels. Shown are the most used \
                 ones, each with the test images nearest to it, the nearest first, and how near they are. The images of a \
                 prototype should be alike, and those of different prototypes should differ. Where most prototypes are not used, the \
                 method has collapsed or has more of them than there is to tell apart."
            }
            @for (set, rows) in shown {
                @if !set.name.is_empty() { h3 { (set.name) } }
                p { (usage(set)) }
                div.queries { @for row in rows { (row) } }
            }
        }
    })
}

/// How the images are spread over a set of prototypes.
pub fn usage(set: &PrototypeSet) -> String {
    format!(
        "{} of {} prototypes are nearest to at least one of the {} test images, which are spread as they would be over \
         {:.1} prototypes used alike.",
        set.used, set.prototypes, set.images, set.effective
    )
}

fn row(prototype: &Prototype, images: u64, most: u32) -> Result<Markup> {
    let mut nearest = Vec::new();
    for (sample, score) in &prototype.nearest {
        let alt = sample.class.as_ref().map_or("Test image".into(), |class| format!("Test image: {class}"));
        nearest.push(
            html! { figure { (samples::shown(sample, &alt, most)?) figcaption { (near(sample, *score)) } } },
        );
    }
    Ok(html! {
        div.query {
            p.note { (heading(prototype, images)) }
            div.nearest { @for figure in nearest { (figure) } }
        }
    })
}

/// A prototype in words.
pub fn heading(prototype: &Prototype, images: u64) -> String {
    let share = outcome::percent(prototype.assigned as f64 / images.max(1) as f64);
    format!("Prototype {}: {} images ({share} %)", prototype.number, prototype.assigned)
}

/// A sample near a prototype in words.
pub fn near(sample: &Sample, score: Option<f64>) -> String {
    let words = [sample.class.clone(), score.map(|score| format!("{score:.2}"))];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Where the encoder looks.
///
/// # Errors
/// Pictures without pixels.
pub fn attention(found: &Attention, most: u32) -> Result<Markup> {
    let note = format!(
        "Where {}, of which the features are made, looks in the last block: the brighter a patch, the more it counts. Each \
         map is as bright as its own brightest patch; first the average of all heads, then each head. The numbers say over \
         how many of the {} patches the attention is spread, on average over {} test images: as many as there are if it \
         is the same everywhere, 1 if it lies on a single patch.",
        found.of, found.patches, found.images
    );
    samples::side_by_side("Attention", &note, "the image", &found.rows, most)
}
