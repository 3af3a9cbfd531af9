//! The loss curve as an SVG picture.

use std::ops::Range;
use std::path::Path;

use plotters::prelude::*;

use super::error::TrainError;
use super::metrics::Row;
use crate::data::files::write_file;

/// Points that are drawn of the training loss, at most: more make a large file, not a better picture.
const POINTS: usize = 2000;

const PALE: RGBColor = RGBColor(168, 198, 234);
const BLUE: RGBColor = RGBColor(26, 95, 180);
const ORANGE: RGBColor = RGBColor(214, 93, 14);
const DIM: RGBColor = RGBColor(120, 140, 120);
const GREY: RGBColor = RGBColor(225, 225, 225);

/// Draws training loss (as it is, and smoothed), validation loss and learning rate over steps into
/// `path`.
///
/// # Errors
/// A file that cannot be written.
pub fn write_loss_curve(path: &Path, rows: &[Row], title: &str) -> Result<(), TrainError> {
    let svg = loss_curve(rows, title).map_err(|why| TrainError::Plot { path: path.to_path_buf(), why })?;
    write_file(path, |file| std::io::Write::write_all(file, svg.as_bytes()))
        .map_err(TrainError::io("write", path))
}

fn loss_curve(rows: &[Row], title: &str) -> Result<String, String> {
    let mut train = Vec::new();
    let mut validation = Vec::new();
    let mut rates = Vec::new();
    for row in rows {
        match row {
            Row::Step(row) => {
                train.push((row.step as f64, f64::from(row.loss)));
                rates.push((row.step as f64, f64::from(row.lr)));
            }
            Row::Validation(row) => validation.push((row.step as f64, f64::from(row.validation_loss))),
        }
    }
    let smooth = smoothed(&train);
    let (train, smooth) = (thinned(&train), thinned(&smooth));
    let steps = rows.iter().map(Row::step).max().unwrap_or(1).max(1) as f64;
    let losses = loss_range(&train, &validation);

    let mut svg = String::new();
    draw(&mut svg, title, steps, losses, [&train, &smooth, &validation, &thinned(&rates)])
        .map_err(|error| error.to_string())?;
    Ok(svg)
}

type Line = Vec<(f64, f64)>;

fn draw(
    svg: &mut String,
    title: &str,
    steps: f64,
    losses: Range<f64>,
    [train, smooth, validation, rates]: [&Line; 4],
) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let highest = rates.iter().fold(f64::MIN_POSITIVE, |high, point| high.max(point.1));
    let area = SVGBackend::with_string(svg, (960, 540)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .margin_right(32)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .right_y_label_area_size(72)
        .build_cartesian_2d(0.0..steps, losses)?
        .set_secondary_coord(0.0..steps, 0.0..highest * 1.05);
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc("loss, nats per token")
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_label_formatter(&|loss| format!("{loss:.2}"))
        .bold_line_style(GREY)
        .light_line_style(TRANSPARENT)
        .axis_style(BLACK.mix(0.6))
        .label_style(("sans-serif", 15))
        .draw()?;
    chart
        .configure_secondary_axes()
        .y_desc("learning rate")
        .y_label_formatter(&|rate| format!("{rate:.1e}"))
        .axis_style(BLACK.mix(0.6))
        .label_style(("sans-serif", 15))
        .draw()?;
    if !rates.is_empty() {
        chart
            .draw_secondary_series(LineSeries::new(rates.iter().copied(), DIM.stroke_width(1)))?
            .label("learning rate")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 24, y)], DIM.stroke_width(1)));
    }
    let lines = [
        ("training", train, PALE, 1),
        ("training, smoothed", smooth, BLUE, 2),
        ("validation", validation, ORANGE, 2),
    ];
    for (name, points, color, width) in lines {
        if points.is_empty() {
            continue;
        }
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(width)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], color.stroke_width(2)));
    }
    // Looks are few: each is marked.
    chart.draw_series(validation.iter().map(|&point| Circle::new(point, 3, ORANGE.filled())))?;
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(GREY)
        .label_font(("sans-serif", 15))
        .legend_area_size(32)
        .margin(12)
        .draw()?;
    area.present()
}

/// A running mean whose memory is a fiftieth of the run; less in the beginning, where the loss
/// falls so fast that the mean would lag behind it.
fn smoothed(points: &Line) -> Line {
    let longest = (points.len() as f64 / 50.0).max(2.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let mean = |(i, &(step, loss)): (usize, &(f64, f64))| {
        let keep = 1.0 - 1.0 / (i as f64 / 4.0).clamp(2.0, longest);
        sum = sum * keep + loss;
        weight = weight * keep + 1.0;
        (step, sum / weight)
    };
    points.iter().enumerate().map(mean).collect()
}

/// Every n-th point, and the last.
fn thinned(points: &Line) -> Line {
    let every = points.len().div_ceil(POINTS).max(1);
    let last = points.len().saturating_sub(1);
    let kept = points.iter().enumerate().filter(|(i, _)| i % every == 0 || *i == last);
    kept.map(|(_, &point)| point).collect()
}

/// From a little below the lowest loss to the highest, but for the very first steps of a long run.
fn loss_range(train: &Line, validation: &Line) -> Range<f64> {
    let all = || train.iter().chain(validation).map(|point| point.1);
    let low = all().fold(f64::INFINITY, f64::min);
    let high = all().fold(f64::NEG_INFINITY, f64::max);
    if !low.is_finite() || !high.is_finite() {
        return 0.0..1.0;
    }
    let margin = ((high - low) * 0.04).max(0.01);
    (low - margin).max(0.0)..high + margin
}

#[cfg(test)]
mod tests {
    use super::super::metrics::{StepRow, ValidationRow};
    use super::*;

    fn rows(n: u64) -> Vec<Row> {
        let mut rows = Vec::new();
        for step in 1..=n {
            let noise = ((step * 7919) % 101) as f32 / 500.0;
            let loss = 6.2 * (step as f32).powf(-0.2) + noise;
            let tokens = step * 4096;
            rows.push(Row::Step(StepRow {
                step,
                tokens,
                loss,
                lr: 1e-3,
                grad_norm: 1.0,
                tokens_per_second: 1e5,
                seconds: step as f32,
            }));
            if step % (n / 5) == 0 {
                let validation_loss = loss - noise + 0.15;
                let (bits_per_byte, seconds) = (1.0, step as f32);
                rows.push(Row::Validation(ValidationRow {
                    step,
                    tokens,
                    validation_loss,
                    bits_per_byte,
                    seconds,
                }));
            }
        }
        rows
    }

    #[test]
    fn the_picture_has_lines_axes_and_a_legend() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("loss.svg");
        write_loss_curve(&path, &rows(10_000), "stories <1> & more").unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        for text in [
            "step",
            "loss, nats per token",
            "training, smoothed",
            "validation",
            "learning rate",
            "&lt;1&gt; &amp; more",
        ] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(svg.matches("<circle").count() == 5 && svg.matches("<polyline").count() >= 3);
        assert!(svg.len() < 400_000, "{} bytes", svg.len());
        if let Ok(out) = std::env::var("SMIDGEN_TEST_PLOT") {
            std::fs::write(out, svg).unwrap();
        }
    }

    #[test]
    fn any_number_of_rows_can_be_drawn() {
        for n in [0, 1, 2] {
            loss_curve(&rows(10)[..n], "few").unwrap();
        }
    }

    #[test]
    fn smoothing_is_the_mean_of_what_was_seen() {
        let points: Line = (0..500).map(|i| (f64::from(i), if i % 2 == 0 { 1.0 } else { 3.0 })).collect();
        let smooth = smoothed(&points);
        assert_eq!(smooth[0], (0.0, 1.0));
        assert!(smooth[100..].iter().all(|(_, loss)| (1.8..2.2).contains(loss)));
        assert_eq!(thinned(&points).len(), 500);
        let many: Line = (0..50_001).map(|i| (f64::from(i), 0.0)).collect();
        assert!(thinned(&many).len() <= POINTS + 1);
        assert_eq!(thinned(&many).last(), Some(&(50_000.0, 0.0)));
    }
}
