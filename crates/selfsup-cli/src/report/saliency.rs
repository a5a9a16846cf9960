//! The page's sections on what the encoder looks at: maps with their sanity check, clusters, and features turned back to images.

use super::{Cluster, MapCheck, MapRow, Query, Saliency, Sample, View, ViewRow, outcome, samples};
use anyhow::Result;
use image::RgbImage;
use maud::{Markup, html};

/// What stands below the maps of random weights.
const RANDOM: &str = "random weights";

/// Test images with the maps of the trained encoder and of random weights, and what the sanity check says.
///
/// # Errors
/// Pictures without pixels.
pub fn saliency(found: &Saliency, most: u32) -> Result<Markup> {
    let rows = found.rows.iter().enumerate().map(|(i, row)| maps(i, row, &found.columns, most));
    let rows = rows.collect::<Result<Vec<_>>>()?;
    // As many images beside each other as there is room for their maps.
    let columns = 1 + found.columns.len();
    let outer = format!(
        "grid-template-columns:repeat(auto-fill,minmax(min(100%,{}rem),1fr))",
        28 * columns.min(8) / 5
    );
    Ok(html! {
        section {
            h2 { "What the encoder looks at" }
            p.note {
                "What is explained needs no labels: how far an image's features lie from those of images on average, in their own \
                 direction. The brighter a place, the more it counts, each map by its own brightest place. Below each map is that of the \
                 same network with random weights, which has learned nothing: a map that looks the same there says \
                 nothing of the training (the sanity check of Adebayo et al. 2018)."
                @if found.patch_colours {
                    " In the last column patches have one colour where their features are alike: the first three principal components of \
                     the patches of all images shown, with what the first component takes for background in black."
                }
            }
            div.rows style=(outer) { @for row in rows { (row) } }
            (checks(found))
        }
    })
}

fn maps(index: usize, row: &MapRow, columns: &[String], most: u32) -> Result<Markup> {
    let number = index + 1;
    let cell = |image: &RgbImage, alt: String, caption: &str| -> Result<Markup> {
        Ok(html! { figure { (samples::picture(image, &alt, most)?) figcaption { (caption) } } })
    };
    let of = |pictures: &[RgbImage], whose: &str, caption: &dyn Fn(&str) -> String| -> Result<Vec<Markup>> {
        let each = columns.iter().zip(pictures);
        each.map(|(name, image)| cell(image, format!("Image {number}: {name}, {whose}"), &caption(name)))
            .collect()
    };
    let trained = of(&row.trained, "trained", &|name| name.to_owned())?;
    let random = of(&row.random, RANDOM, &|_| RANDOM.to_owned())?;
    let style = format!("grid-template-columns:repeat({},minmax(0,7.5rem))", 1 + columns.len());
    Ok(html! {
        div.views.maps style=(style) {
            figure.stored {
                (samples::picture(&row.image, &format!("Image {number}"), most)?)
                figcaption { "the image" }
            }
            @for figure in trained { (figure) }
            @for figure in random { (figure) }
        }
    })
}

/// How alike the maps are, in numbers and in words.
fn checks(found: &Saliency) -> Markup {
    html! {
        p.note {
            "How alike the maps of the trained encoder and of random weights are, on average over " (found.images) " test images, with \
             the 95 % interval: 1 is the same map, 0 one that has nothing to do with the other."
        }
        div.scroll {
            table.checks {
                thead {
                    tr {
                        th scope="col" { "Maps" }
                        th scope="col" { "Rank correlation" }
                        th scope="col" { "SSIM" }
                    }
                }
                tbody {
                    @for check in &found.checks {
                        tr {
                            th scope="row" { (check.name) }
                            td { (value(check.rank_correlation)) }
                            td { (value(check.ssim)) }
                        }
                    }
                }
            }
        }
        ul.meanings {
            @for check in &found.checks { li.note { (words(check)) } }
            @if let Some(gap) = found.completeness_gap {
                li.note {
                    "The parts of integrated gradients miss what the score gains over the average image by " (share(gap)) " % of it; they \
                     add up to it but for the error of the sum over steps."
                }
            }
        }
    }
}

fn share(gap: f64) -> String {
    if gap < 0.001 { "less than 0.1".to_owned() } else { outcome::percent(gap) }
}

fn words(check: &MapCheck) -> Markup {
    html! { b { (outcome::capital(&check.name)) } ": " (check.reading) ". " (check.words) }
}

fn value(value: Option<(f64, Option<[f64; 2]>)>) -> Markup {
    html! {
        @match value {
            Some((value, interval)) => {
                (format!("{value:.2}"))
                @if let Some([low, high]) = interval { br; span.note { (format!("[{low:.2}, {high:.2}]")) } }
            }
            None => "–",
        }
    }
}

/// The rows of the section as images with captions, for a file of their own.
pub fn rows(found: &Saliency) -> Vec<ViewRow> {
    let views = |pictures: &[RgbImage], whose: &str| -> Vec<View> {
        let each = found.columns.iter().zip(pictures);
        each.map(|(name, image)| View { image: image.clone(), caption: format!("{name}\n{whose}") }).collect()
    };
    let row = |row: &MapRow| ViewRow {
        image: row.image.clone(),
        views: [views(&row.trained, "trained"), views(&row.random, RANDOM)].concat(),
    };
    found.rows.iter().map(row).collect()
}

/// What the clusters hold.
///
/// # Errors
/// Pictures without pixels.
pub fn clusters(found: &[Cluster], most: u32) -> Result<Markup> {
    let shown = found.iter().enumerate().map(|(i, cluster)| {
        Ok(html! {
            div.cluster {
                p.note { (heading(i, cluster)) }
                (row("typical", &cluster.typical, most)?)
                @if !cluster.atypical.is_empty() { (row("atypical", &cluster.atypical, most)?) }
            }
        })
    });
    let shown = shown.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        section {
            h2 { "Typical and atypical images" }
            p.note {
                "The test images in clusters that k-means found in the features without labels, as many as there are classes, or ten \
                 where no classes are known; the largest first"
                @if found.first().is_some_and(|first| first.clusters > found.len()) {
                    ", " (found.len()) " of " (found[0].clusters)
                }
                ". Typical images are \
                 nearest to the middle of their cluster and say what it stands for; atypical ones are farthest from it: rare \
                 images, wrong labels, or the border of another cluster. The numbers are cosine similarities to the middle."
            }
            div.queries { @for cluster in shown { (cluster) } }
        }
    })
}

fn row(name: &str, members: &[(Sample, f64)], most: u32) -> Result<Markup> {
    let mut shown = Vec::new();
    for (sample, near) in members {
        let alt = sample
            .class
            .as_ref()
            .map_or_else(|| format!("{name} image"), |class| format!("{name} image: {class}"));
        shown.push(html! {
            figure { (samples::shown(sample, &outcome::capital(&alt), most)?) figcaption { (caption(sample, *near)) } }
        });
    }
    Ok(html! {
        h4 { (outcome::capital(name)) }
        div.nearest { @for figure in shown { (figure) } }
    })
}

/// A cluster in words.
pub fn heading(index: usize, cluster: &Cluster) -> String {
    let share = outcome::percent(cluster.size as f64 / cluster.images.max(1) as f64);
    format!(
        "Cluster {}: {} images ({share} %), {:.2} to the middle on average",
        index + 1,
        cluster.size,
        cluster.cohesion
    )
}

/// A member in words.
pub fn caption(sample: &Sample, near: f64) -> String {
    let words = [sample.class.clone(), Some(format!("{near:.2}"))];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Test images, and the training images that their features would be taken for.
///
/// # Errors
/// Pictures without pixels.
pub fn inversion(queries: &[Query], most: u32) -> Result<Markup> {
    let note = "A feature cannot be turned back into its image, but the training images whose features are nearest to it show what it \
                holds: what they share with the test image is what the encoder kept, and in what they differ from it and each other \
                is what it let go.";
    samples::queries("Features turned back to images", note, queries, most)
}

#[cfg(test)]
mod tests {
    use super::super::Shown;
    use super::*;

    fn picture() -> RgbImage {
        RgbImage::new(4, 4)
    }

    fn member() -> (Sample, f64) {
        (Sample { shown: Shown::Image(picture()), class: Some("cat".into()) }, 0.75)
    }

    #[test]
    fn every_map_stands_above_that_of_random_weights_and_its_check_in_words() {
        let check = MapCheck {
            name: "occlusion".into(),
            reading: "what is hidden".into(),
            rank_correlation: Some((0.5, Some([0.25, 0.75]))),
            ssim: None,
            words: "They stay.".into(),
        };
        let maps = || vec![picture(), picture()];
        let found = Saliency {
            columns: vec!["occlusion".into(), "Grad-CAM".into()],
            rows: vec![MapRow { image: picture(), trained: maps(), random: maps() }],
            checks: vec![check],
            completeness_gap: Some(0.002),
            images: 32,
            ..Saliency::default()
        };
        let page = saliency(&found, 160).unwrap().into_string();
        for part in [
            "alt=\"Image 1: occlusion, trained\"",
            "alt=\"Image 1: Grad-CAM, random weights\"",
            "0.50<br><span class=\"note\">[0.25, 0.75]",
            "<td>–</td>",
            "<b>Occlusion</b>: what is hidden. They stay.",
            "miss what the score gains over the average image by 0.2 % of it",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("principal components"));
        let row = &rows(&found)[0];
        assert_eq!((row.views.len(), row.views[3].caption.as_str()), (4, "Grad-CAM\nrandom weights"));
    }

    #[test]
    fn a_cluster_without_atypical_members_shows_typical_ones_alone() {
        let cluster = Cluster {
            images: 4,
            clusters: 3,
            size: 1,
            cohesion: 0.75,
            typical: vec![member()],
            atypical: vec![],
        };
        let page = clusters(&[cluster], 160).unwrap().into_string();
        assert!(page.contains("the largest first, 1 of 3. Typical"), "{page}");
        assert!(page.contains("Cluster 1: 1 images (25.0 %), 0.75 to the middle on average"), "{page}");
        assert!(page.contains("<h4>Typical</h4>") && !page.contains("<h4>Atypical</h4>"));
        assert!(page.contains("<figcaption>cat 0.75</figcaption>"));
    }
}
