//! Charts as SVG text that takes the page's own ink colour, so it reads in light and dark.

use plotters::prelude::*;

/// Set of points of a chart.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Text in the legend.
    pub name: String,
    /// Points, left to right.
    pub points: Vec<(f64, f64)>,
    /// Form of the points.
    pub mark: Mark,
    /// Band around the line: `x`, lowest, highest.
    pub band: Vec<(f64, f64, f64)>,
}

/// Form of points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// A line through all of them.
    #[default]
    Line,
    /// A broken line.
    Dashes,
    /// A dot each.
    Dots,
}

/// A chart with values between `bottom` and `top`.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// Text below the x axis.
    pub x_label: &'static str,
    /// Text beside the y axis.
    pub y_label: &'static str,
    /// Lowest value shown.
    pub bottom: f64,
    /// Highest value shown.
    pub top: f64,
    /// Sets of points, in the order of the legend.
    pub series: Vec<Series>,
    /// Places along the x axis that are marked, e.g. where an alarm was raised.
    pub marks: Vec<f64>,
    /// Size and legend.
    pub style: ChartStyle,
}

/// Size and legend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChartStyle {
    /// Wide, with the legend inside.
    #[default]
    Wide,
    /// Narrow enough to be read on a phone; the page has the legend, see [`Chart::legend`].
    Narrow,
    /// Makes the chart a square whose axes both end at `top`, with its diagonal.
    Square,
}

impl ChartStyle {
    fn size(self) -> (u32, u32) {
        match self {
            Self::Wide => (640, 320),
            Self::Narrow => (400, 250),
            Self::Square => (360, 340),
        }
    }
}

/// Colour of a mark.
const MARK: RGBColor = RGBColor(0xdc, 0x26, 0x26);

/// Stands for the page's ink; replaced by `currentColor`.
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_ATTRIBUTE: &str = "\"#010203\"";

/// Mid tones that read on white and on near-black.
const COLORS: [RGBColor; 7] = [
    RGBColor(0x3b, 0x82, 0xf6),
    RGBColor(0xe0, 0x7b, 0x39),
    RGBColor(0x10, 0xa3, 0x7f),
    RGBColor(0xa8, 0x55, 0xf7),
    RGBColor(0xd9, 0x46, 0x6b),
    RGBColor(0x8a, 0x8f, 0x2a),
    RGBColor(0x64, 0x74, 0x8b),
];

/// The colour of the series at a place, as the page's legend needs it.
fn color(index: usize) -> RGBColor {
    COLORS[index % COLORS.len()]
}

/// Failure of the drawing library.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot draw a chart: {0}")]
pub struct ChartError(String);

impl Chart {
    /// Draws the chart.
    ///
    /// # Errors
    ///
    /// Fails when the drawing library does.
    pub fn to_svg(&self) -> Result<String, ChartError> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| ChartError(error.to_string()))?;
        let (width, height) = self.style.size();
        let sized = format!("width=\"{width}\" height=\"{height}\" ");
        Ok(svg.replace(INK_ATTRIBUTE, "\"currentColor\"").replacen(&sized, "", 1))
    }

    /// Names and colours of the series, for a legend on the page.
    pub fn legend(&self) -> Vec<(String, String)> {
        let entry = |(index, series): (usize, &Series)| {
            let RGBColor(r, g, b) = color(index);
            (series.name.clone(), format!("#{r:02x}{g:02x}{b:02x}"))
        };
        self.series.iter().enumerate().map(entry).collect()
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let points = || self.series.iter().flat_map(|it| it.points.iter());
        let right = match self.style {
            ChartStyle::Square => self.top,
            ChartStyle::Wide | ChartStyle::Narrow => points().map(|it| it.0).fold(1.0, f64::max),
        };
        let area = SVGBackend::with_string(svg, self.style.size()).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .margin_right(18)
            .x_label_area_size(44)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..right, self.bottom..self.top)?;
        let range = self.top - self.bottom;
        let text = ("sans-serif", 14).into_font().color(&INK);
        let x_digits = if self.style == ChartStyle::Square { 2 } else { 0 };
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
            .x_label_formatter(&|it| format!("{it:.x_digits$}"))
            .y_label_formatter(&|it| label(*it, range))
            .draw()?;
        if self.style == ChartStyle::Square {
            let ends = [(0.0, 0.0), (self.top, self.top)];
            chart.draw_series(DashedLineSeries::new(ends, 3, 4, INK.mix(0.4).stroke_width(1)))?;
        }
        for (index, series) in self.series.iter().enumerate().filter(|it| !it.1.band.is_empty()) {
            let lower = series.band.iter().map(|&(x, low, _)| (x, low));
            let upper = series.band.iter().rev().map(|&(x, _, high)| (x, high));
            let outline: Vec<(f64, f64)> = lower.chain(upper).collect();
            let fill = color(index).mix(0.16).filled();
            chart.draw_series(std::iter::once(Polygon::new(outline, fill)))?;
        }
        for (index, series) in self.series.iter().enumerate() {
            let style = color(index).stroke_width(2);
            let points = series.points.iter().copied();
            let drawn = match series.mark {
                Mark::Line => chart.draw_series(LineSeries::new(points, style))?,
                Mark::Dashes => chart.draw_series(DashedLineSeries::new(points, 5, 4, style))?,
                Mark::Dots => {
                    let dot = |it| Circle::new(it, 4, color(index).mix(0.8).filled());
                    chart.draw_series(points.map(dot))?
                }
            };
            drawn
                .label(series.name.clone())
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], style));
        }
        for &mark in self.marks.iter().filter(|it| **it <= right) {
            let line = vec![(mark, self.bottom), (mark, self.top)];
            chart.draw_series(DashedLineSeries::new(line, 3, 3, MARK.stroke_width(1)))?;
        }
        if self.series.len() > 1 && self.style == ChartStyle::Wide {
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
    // Ticks miss 0 by a rounding error, and -0 is no number of an axis.
    let value = if value.abs() <= range * 1e-9 { 0.0 } else { value };
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

    fn series(name: &str, mark: Mark) -> Series {
        let points = vec![(1.0, 0.1), (2.0, 0.4)];
        let band = vec![(1.0, 0.05, 0.15), (2.0, 0.3, 0.5)];
        Series { name: name.to_owned(), points, mark, band }
    }

    #[track_caller]
    fn check(style: ChartStyle, series: Vec<Series>) -> String {
        let labels = Chart { x_label: "step", y_label: "reward", top: 1.0, ..Chart::default() };
        let chart = Chart { series, style, ..labels };
        let svg = chart.to_svg().unwrap();
        let (width, height) = style.size();
        assert!(svg.starts_with(&format!("<svg viewBox=\"0 0 {width} {height}\"")), "{svg}");
        assert!(svg.contains("currentColor") && !svg.contains("#010203"));
        assert!(svg.contains("reward") && svg.ends_with("</svg>\n"), "{svg}");
        assert_eq!(chart.legend().len(), chart.series.len());
        svg
    }

    #[test]
    fn charts_use_the_ink_of_the_page() {
        let both = || vec![series("first", Mark::Line), series("second", Mark::Dashes)];
        let wide = check(ChartStyle::Wide, both());
        assert!(wide.contains("second") && wide.contains("<polygon"));
        let narrow = check(ChartStyle::Narrow, both());
        assert!(!narrow.contains("second"), "the page has the legend");
        let square = check(ChartStyle::Square, vec![series("dots", Mark::Dots)]);
        assert_eq!(square.matches("<circle").count(), 2);
        let mut marked = Chart {
            x_label: "step",
            y_label: "reward",
            top: 1.0,
            marks: vec![1.5],
            series: both(),
            ..Chart::default()
        };
        assert!(marked.to_svg().unwrap().contains("#DC2626"), "a mark is drawn");
        marked.marks = vec![7.0];
        assert!(!marked.to_svg().unwrap().contains("#DC2626"), "a mark beyond the lines is not");
    }

    #[test]
    fn labels_fit_the_range() {
        let check = |value, range, expected: &str| assert_eq!(label(value, range), expected);
        check(-0.0, 1.0, "0.00");
        check(-1e-17, 0.4, "0.00");
        check(1234.5, 3000.0, "1234");
        check(0.0125, 0.05, "0.0125");
        check(2.5e-9, 1e-8, "2.5e-9");
    }

    #[test]
    fn an_empty_chart_is_drawn() {
        check(ChartStyle::Wide, Vec::new());
        check(ChartStyle::Square, Vec::new());
    }
}
