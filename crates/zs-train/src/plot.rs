//! Line charts as SVG text that takes the page's own ink colour, so it reads in light and dark.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// One line of a chart.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// What the legend says.
    pub(crate) name: String,
    /// Points, left to right.
    pub(crate) points: Vec<(f64, f64)>,
    /// Whether the line is dashed.
    pub(crate) dashed: bool,
}

/// A chart with values between `bottom` and `top`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chart {
    pub(crate) x_label: &'static str,
    pub(crate) y_label: &'static str,
    pub(crate) bottom: f64,
    pub(crate) top: f64,
    pub(crate) series: Vec<Series>,
    /// Places along the x axis that are marked, e.g. where an alarm was raised.
    pub(crate) marks: Vec<f64>,
}

const WIDTH: u32 = 640;
const HEIGHT: u32 = 320;

/// What a mark looks like.
const MARK: RGBColor = RGBColor(0xdc, 0x26, 0x26);

/// Stands for the page's ink; replaced by `currentColor`.
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_ATTRIBUTE: &str = "\"#010203\"";

/// Mid tones that read on white and on near-black.
const COLORS: [RGBColor; 4] = [
    RGBColor(0x3b, 0x82, 0xf6),
    RGBColor(0xe0, 0x7b, 0x39),
    RGBColor(0x10, 0xa3, 0x7f),
    RGBColor(0xa8, 0x55, 0xf7),
];

impl Chart {
    /// Draws the chart.
    ///
    /// # Errors
    ///
    /// Fails when the drawing library does.
    pub(crate) fn to_svg(&self) -> Result<String> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| anyhow!("cannot draw a chart: {error}"))?;
        let sized = format!("width=\"{WIDTH}\" height=\"{HEIGHT}\" ");
        Ok(svg.replace(INK_ATTRIBUTE, "\"currentColor\"").replacen(&sized, "", 1))
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let points = || self.series.iter().flat_map(|it| it.points.iter());
        let right = points().map(|it| it.0).fold(1.0, f64::max);
        let area = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(44)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..right, self.bottom..self.top)?;
        let range = self.top - self.bottom;
        let text = ("sans-serif", 14).into_font().color(&INK);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(INK.mix(0.15))
            .light_line_style(INK.mix(0.0))
            .axis_style(INK.mix(0.5))
            .label_style(text.clone())
            .axis_desc_style(text.clone())
            .x_desc(self.x_label)
            .y_desc(self.y_label)
            .x_labels(6)
            .y_labels(5)
            .x_label_formatter(&|it| format!("{it:.0}"))
            .y_label_formatter(&|it| label(*it, range))
            .draw()?;
        for (series, color) in self.series.iter().zip(COLORS.iter().cycle()) {
            let style = color.stroke_width(2);
            let points = series.points.iter().copied();
            let drawn = if series.dashed {
                chart.draw_series(DashedLineSeries::new(points, 5, 4, style))?
            } else {
                chart.draw_series(LineSeries::new(points, style))?
            };
            drawn
                .label(series.name.clone())
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], style));
        }
        for &mark in self.marks.iter().filter(|it| **it <= right) {
            let line = vec![(mark, self.bottom), (mark, self.top)];
            chart.draw_series(DashedLineSeries::new(line, 3, 3, MARK.stroke_width(1)))?;
        }
        if self.series.len() > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::LowerRight)
                .label_font(text)
                .draw()?;
        }
        area.present()?;
        Ok(())
    }
}

/// A number of an axis, with as many digits as tell it from its neighbours.
fn label(value: f64, range: f64) -> String {
    let value = value + 0.0; // -0 is 0
    match range {
        it if it > 20.0 => format!("{value:.0}"),
        it if it > 0.1 => format!("{value:.2}"),
        it if it > 0.001 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_use_the_ink_of_the_page() {
        let chart = Chart {
            x_label: "step",
            y_label: "reward",
            top: 1.0,
            marks: vec![1.5],
            bottom: 0.0,
            series: vec![
                Series { name: "a".into(), points: vec![(1.0, 0.1), (2.0, 0.4)], dashed: false },
                Series { name: "b".into(), points: vec![(1.0, 0.2), (2.0, 0.3)], dashed: true },
            ],
        };
        let svg = chart.to_svg().unwrap();
        assert!(svg.starts_with("<svg viewBox"), "{svg}");
        assert!(svg.contains("currentColor"));
        assert!(!svg.contains("#010203"));
        assert!(svg.contains("reward"));
        assert!(svg.contains("#DC2626"), "a mark is drawn");
        let beyond = Chart { marks: vec![7.0], ..chart };
        assert!(!beyond.to_svg().unwrap().contains("#DC2626"), "a mark beyond the lines is not");
    }

    #[test]
    fn labels_fit_the_range() {
        let check = |value, range, expected: &str| assert_eq!(label(value, range), expected);
        check(-0.0, 1.0, "0.00");
        check(1234.5, 3000.0, "1234");
        check(0.0125, 0.05, "0.0125");
        check(2.5e-9, 1e-8, "2.5e-9");
    }

    #[test]
    fn an_empty_chart_is_drawn() {
        let chart = Chart { x_label: "step", y_label: "p", top: 1.0, ..Chart::default() };
        assert!(chart.to_svg().unwrap().contains("</svg>"));
    }
}
